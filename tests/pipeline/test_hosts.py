"""Failed records by host: the worst are kept, however many hosts there are."""

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
from hypothesis import given

from manifests.dag import parse_manifest
from manifests.record import Record, Row, Verdict
from manifests.unit_record import HostErrors, StepCount, UnitRecord
from pipeline.hosts import host_errors, worst
from pipeline.metrics import families
from pipeline.plan import Step, bind
from pipeline.totals import Totals
from tests.pipeline.test_progress import unit

counts = st.dictionaries(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["dns", "tls"])), st.integers(1, 9))

MANIFEST = """
name: web
source: {kind: parquet, paths: [none.parquet]}
nodes:
- {id: fetch, stage: fetch}
- {id: decode, stage: decode, needs: [fetch]}
"""


def steps() -> tuple[Step, ...]:
    return bind(parse_manifest(MANIFEST, "web"), frozenset({"url", "alt_text", "caption"})).steps


def failed(url: str | None, reason: str = "dns", kind: Any = "failed") -> Row:
    record = Record(key="k", source="s", row=0, url=url)
    return Row(record=record, verdict=Verdict(kind=kind, node="fetch", reason=reason))


@given(counts, st.integers(1, 5))
def test_no_host_that_is_left_out_is_worse_than_one_that_is_told(errors: dict[tuple[str, str], int], most: int) -> None:
    sums: Counter[str] = Counter()
    for (host, _), count in errors.items():
        sums[host] += count
    told = worst(Counter(errors), most)
    hosts = {error.host for error in told}
    assert len(hosts) == min(most, len(sums))
    assert all(sums[host] >= sums[other] for host in hosts for other in sums.keys() - hosts)
    assert {(e.host, e.reason): e.count for e in told} == {k: v for k, v in errors.items() if k[0] in hosts}


def test_failures_count_for_the_host_of_their_url() -> None:
    fetch, decode = steps()
    rows = [
        failed("http://a.example/1"),
        failed("http://A.example:80/2"),
        failed("https://a.example/3", "tls"),
        failed("http://bücher.example/"),
        failed("http://a.example/4", "robots_txt", "dropped"),
        *map(failed, (None, "", "no url", "http://[", f"http://{'a' * 300}/")),
        Row(record=Record(key="k", source="s", row=0, url="http://fine.example/")),
    ]
    assert host_errors(fetch, rows) == {
        ("a.example:80", "dns"): 2,
        ("a.example:443", "tls"): 1,
        ("xn--bcher-kva.example:80", "dns"): 1,
    }
    assert not host_errors(decode, rows)


def with_hosts(number: int, *hosts: HostErrors) -> UnitRecord:
    record = unit(number)
    return replace(record, steps=(replace(record.steps[0], hosts=hosts), *record.steps[1:]))


def test_of_ever_new_hosts_the_driver_remembers_so_many_and_the_worst() -> None:
    def records() -> Any:
        for number in range(1200):
            new = [HostErrors(host=f"h{number}-{place}:80", reason="dns", count=1) for place in range(9)]
            yield with_hosts(number, HostErrors(host="bad:80", reason="timeout", count=5), *new)

    totals = Totals.of(records())
    (paint, _) = totals.steps.values()
    assert len(paint.hosts) <= 4096
    assert paint.hosts["bad:80", "timeout"] == 6000
    assert worst(paint.hosts, 1) == (HostErrors(host="bad:80", reason="timeout", count=6000),)


def test_only_the_worst_have_series(prepared: Any) -> None:
    hosts = [HostErrors(host=f"h{place:02}:80", reason="dns", count=place + 1) for place in range(30)]
    exported = families(prepared(20).info, Totals.of([with_hosts(0, *hosts)]))
    (family,) = [f for f in exported if f.name == "inlay_host_failed_records"]
    assert {s.labels["host"]: s.value for s in family.samples} == {f"h{n:02}:80": n + 1 for n in range(10, 30)}


def test_records_of_an_older_inlay_are_read() -> None:
    plain = unit(0).to_json()
    record = UnitRecord.from_json(plain, "new")
    old = StepCount(node="paint", records_in=10, records_out=7, seconds=0.5)
    assert record.steps[0] == old
    stripped = json.loads(plain)
    stripped["steps"] = [
        {k: v for k, v in step.items() if k not in ("batches", "records", "hosts")} for step in stripped["steps"]
    ]
    assert UnitRecord.from_json(json.dumps(stripped), "old") == record
