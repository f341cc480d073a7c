"""Hosts that fail often are named, in bounded space, and never blamed for more than they did."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from manifests.record import Record, Row, Verdict
from pipeline.hosts import failed_hosts, heaviest

names = st.lists(st.sampled_from("abcdefgh"), max_size=60)


def failed(url: str | None, kind: str = "failed") -> Row:
    verdict = Verdict(kind=kind, node="fetch", reason="timeout")  # type: ignore[arg-type]
    return Row(record=Record(key="k", source="s", row=0, url=url), verdict=verdict)


@given(names, names, st.integers(1, 5))
def test_merged_summaries_undercount_by_no_more_than_the_bound(left: list[str], right: list[str], most: int) -> None:
    summary = heaviest(heaviest(Counter(left), most) + heaviest(Counter(right), most), most)
    truth = Counter(left) + Counter(right)
    assert len(summary) <= most
    for name in truth:
        assert truth[name] - truth.total() / (most + 1) <= summary[name] <= truth[name]


def test_one_bad_host_stands_out_of_a_thousand_others() -> None:
    rows = [failed(f"http://host{i}.example/x.jpg") for i in range(1000)] + [failed("https://Bad.example:8080/y")] * 300
    (worst,) = failed_hosts(rows)
    assert worst.host == "bad.example" and 299 <= worst.rows <= 300


def test_few_hosts_are_counted_exactly_the_worst_first() -> None:
    rows = [failed("http://a/"), failed("http://b/"), failed("http://b/2")]
    assert [(host.host, host.rows) for host in failed_hosts(rows)] == [("b", 2), ("a", 1)]


def test_drops_missing_and_malformed_urls_have_no_host() -> None:
    good = Row(record=Record(key="k", source="s", row=0, url="http://kept/"))
    assert (
        failed_hosts([good, failed("http://d/", "dropped"), failed(None), failed("http://[::"), failed("nothing")])
        == ()
    )
