"""Runs into a store of Google's kind: the bytes of a local one, each unit committed on condition of generation 0."""

import dataclasses
import os
import subprocess
from pathlib import Path

import pytest

import manifests.store
from manifests import dag
from manifests.files import create, write_atomically
from manifests.store import StorePath
from pipeline.actor import FatalError
from pipeline.ledger import Layout
from pipeline.run import Outcome
from pipeline.sources import open_source
from pipeline.sources.base import Unit
from pipeline.verify import verify
from tests.pipeline.processes import call, command
from tests.pipeline.stores.conftest import EMULATED
from tests.pipeline.stores.gcs_server import Bucket
from tests.pipeline.stores.server import Fault, Kind, Proxy
from tests.pipeline.stores.shelf import MANIFEST, Prepare, fill, run, sums


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second try of ours: gcsfs's own are enough to wait for."""
    monkeypatch.setattr(manifests.store, "_PATIENCE_S", 0.0)


def test_a_run_writes_the_bytes_of_a_local_one_and_its_records_on_condition(
    prepared: Prepare, gcs_place: StorePath, bucket: Bucket, tmp_path: Path
) -> None:
    assert run(prepared(20, 5), gcs_place) == Outcome(units=4, left=0)
    run(prepared(20, 5), tmp_path)
    assert sums(gcs_place) == sums(tmp_path)
    assert verify(Layout(gcs_place)) == ([], 4, 4)
    assert run(prepared(20, 5), gcs_place) == Outcome(units=4, left=0)
    written = {name: found for name, found in bucket.conditions.items() if gcs_place.name in name}
    conditional = [name for name in written if any(part in name for part in ("/shards/", "/rejects/", "/units/"))]
    assert len(conditional) == 4 * 3 + len(list((gcs_place / "rejects").iterdir()))
    assert {written[name] for name in conditional} == {"0"}


@pytest.mark.parametrize("kind", ["503", "drop", "lose"])
def test_no_fault_that_passes_changes_a_byte(
    prepared: Prepare, gcs_place: StorePath, gcs_proxy: Proxy, tmp_path: Path, kind: Kind
) -> None:
    gcs_proxy.faults = [Fault(kind, count=5, every=9)]
    assert run(prepared(16), gcs_place).left == 0
    assert gcs_proxy.faults[0].count < 5
    run(prepared(16), tmp_path)
    assert sums(gcs_place) == sums(tmp_path) and verify(Layout(gcs_place)) == ([], 2, 2)


def test_of_two_who_commit_a_unit_at_the_same_moment_one_is_refused_and_says_so(
    prepared: Prepare, gcs_place: StorePath, gcs_proxy: Proxy, bucket: Bucket
) -> None:
    run(prepared(8), gcs_place / "whole")
    (record,) = Layout(gcs_place / "whole").unit_records()
    other = dataclasses.replace(record, tar_sha256="0" * 64).to_json().encode()
    ours = Layout(gcs_place / "run").unit("000000")

    def overtake(method: str, path: str) -> None:
        """When the record is about to be written: tar, index and rejects are there."""
        if method == "POST" and any("/run/rejects/" in name for name in bucket.objects) and not ours_is_there():
            gcs_proxy.before = lambda method, path: None
            create(ours, other)

    def ours_is_there() -> bool:
        return any(name.endswith("/run/units/000000.json") for name in bucket.objects)

    gcs_proxy.before = overtake
    with pytest.raises(FatalError, match="another worker has committed this unit meanwhile"):
        run(prepared(8), gcs_place / "run")
    assert ours.read_bytes() == other


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Bytes that go up in three parts."""
    monkeypatch.setattr(manifests.store, "_PART", 4 << 20)
    return bytes(11 << 20)


PARTS_WARN = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
"""gcsfs gives aiohttp each part as bytes."""


@PARTS_WARN
def test_a_large_file_goes_up_in_parts(gcs_place: StorePath, gcs_proxy: Proxy, bucket: Bucket, large: bytes) -> None:
    write_atomically(gcs_place / "x", large, lambda: None)
    assert (gcs_place / "x").stat().st_size == len(large)
    assert len(gcs_proxy.asked("POST", "upload_id=")) == 3 and not bucket.uploads


@PARTS_WARN
def test_nothing_is_left_over_of_an_upload_that_failed(
    gcs_place: StorePath, gcs_proxy: Proxy, bucket: Bucket, large: bytes
) -> None:
    parts: list[str] = []

    def is_second_part(method: str, path: str) -> bool:
        if method == "POST" and "upload_id=" in path:
            parts.append(path)
        return len(parts) == 2

    gcs_proxy.faults = [Fault("403", is_second_part)]
    with pytest.raises(PermissionError, match=r"gs://shelf/.*/x: the store refuses"):
        write_atomically(gcs_place / "x", large)
    assert len(parts) == 2 and gcs_proxy.asked("DELETE", "upload_id=")
    assert not bucket.uploads and not list(gcs_place.iterdir())


def test_the_rows_of_a_source_there_are_those_of_a_local_one(gcs_place: StorePath, tmp_path: Path) -> None:
    for folder in (gcs_place, tmp_path):
        fill(folder)
    for config in (
        lambda folder: dag.ParquetSource(kind="parquet", paths=(f"{folder}/rows/*.parquet",)),
        lambda folder: dag.WebDatasetSource(kind="webdataset", paths=(f"{folder}/tars/*.tar",)),
    ):
        there, here = (open_source(config(folder)) for folder in (gcs_place, tmp_path))
        assert [(part.rows, part.digest) for part in there.parts] == [(part.rows, part.digest) for part in here.parts]
        found, wanted = (source.read(Unit(0, 0, 0, here.parts[0].rows)) for source in (there, here))
        assert [(row.record.alt_text, row.record.original) for row in found] == [
            (row.record.alt_text, row.record.original) for row in wanted
        ]


@pytest.mark.parametrize("kind", ["403", "401"])
def test_a_refusal_is_told_with_the_url_and_the_remedy(
    gcs_place: StorePath, gcs_proxy: Proxy, impatient: None, kind: Kind
) -> None:
    gcs_proxy.faults = [Fault(kind, count=10**6)]
    for ask in (lambda: write_atomically(gcs_place / "x", b""), (gcs_place / "x").read_bytes):
        with pytest.raises(PermissionError, match=r"gs://shelf/.*: the store refuses: .*check the credentials"):
            ask()


def test_a_bucket_that_is_not_there_is_told(gcs_proxy: Proxy) -> None:
    lost = StorePath("gs://nowhere-at-all/run")
    with pytest.raises(OSError, match=r"gs://nowhere-at-all/run/x: the store has no such bucket; create it"):
        write_atomically(lost / "x", b"")
    assert list(lost.iterdir()) == []


def test_a_users_mistake_is_one_message_without_a_stack(gcs_place: StorePath, gcs_proxy: Proxy, tmp_path: Path) -> None:
    fill(gcs_place / "source")
    path = tmp_path / "stored.yaml"
    path.write_text(MANIFEST.format(folder=gcs_place / "source"))
    done = call("run", path, "--out", "gs://nowhere-at-all/run", "--local")
    assert done.returncode == 2 and "the store has no such bucket; create" in " ".join(done.stderr.split())
    gcs_proxy.faults = [Fault("403", count=10**6)]
    refused = call("run", path, "--out", gcs_place / "run", "--local")
    assert refused.returncode == 2 and "the store refuses" in refused.stderr
    assert "Traceback" not in done.stderr + refused.stderr


@pytest.mark.fire
def test_killed_at_one_request_after_another_a_run_writes_the_bytes_of_an_undisturbed_one(
    gcs_place: StorePath, gcs_proxy: Proxy, tmp_path: Path
) -> None:
    fill(gcs_place / "source")
    path = tmp_path / "stored.yaml"
    path.write_text(MANIFEST.format(folder=gcs_place / "source"))
    arguments = command("run", path, "--out", gcs_place / "out", "--local")
    env = {**os.environ, **EMULATED}
    ends: list[int] = []
    for number in range(5, 60, 9):
        victim = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
        begun = {"left": number}

        def strike(
            method: str, path: str, victim: subprocess.Popen[bytes] = victim, begun: dict[str, int] = begun
        ) -> None:
            begun["left"] -= method == "POST"
            if begun["left"] == 0:
                victim.kill()

        gcs_proxy.after = strike
        ends.append(victim.wait())
        gcs_proxy.calm()
        mistakes = verify(Layout(gcs_place / "out"))[0] if (gcs_place / "out" / "run.json").exists() else []
        assert all("belongs to no unit that is done" in mistake for mistake in mistakes), mistakes
    assert ends.count(-9) > 1 and set(ends) <= {-9, 0}
    assert call("run", path, "--out", gcs_place / "out", "--local").returncode == 0
    assert call("run", path, "--out", tmp_path / "local", "--local").returncode == 0
    assert sums(gcs_place / "out") == sums(tmp_path / "local") and verify(Layout(gcs_place / "out")) == ([], 6, 6)
