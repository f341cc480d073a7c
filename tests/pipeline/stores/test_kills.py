"""A driver killed in the middle of its talk with the store: readers see whole units, the next run ends the work."""

import io
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from s3fs import S3FileSystem

from manifests.files import AnyPath, write_atomically
from manifests.store import StorePath
from pipeline.ledger import Layout
from pipeline.verify import verify
from stages.pixels import write_jpeg
from tests.pipeline.processes import command
from tests.pipeline.stores.server import Fault, Proxy
from tests.pipeline.stores.shelf import MANIFEST, fill, sums

pytestmark = pytest.mark.fire

POINTS = [
    "run.json",
    "lease/0",
    "shards/000000.tar",
    "shards/000002.tar",
    "shards/000002.parquet",
    "rejects/000002.parquet",
    "units/000002.json",
    "report/index.html",
]

SMALL_PARTS = "import manifests.store; manifests.store._PART = 5 << 20; from pipeline.__main__ import app; app()"


class Victim:
    """A driver that is killed as soon as it has sent a certain request."""

    def __init__(self, arguments: Sequence[str], method: str, part: str, skip: int = 0) -> None:
        self._arguments, self._method, self._part, self._left = arguments, method, part, skip
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Drive until killed."""
        self._process = subprocess.Popen(self._arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert self._process.wait() == -9

    def sends(self, method: str, path: str) -> bool:
        """Whether this is the request; then who sent it is no more."""
        if method != self._method or self._part not in path:
            return False
        self._left -= 1
        if self._left >= 0 or self._process is None:
            return False
        self._process.kill()
        return True


@pytest.fixture(scope="module")
def stored(_proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest whose source lies in the store, for all tests here."""
    source = StorePath("s3://shelf/kills/source")
    fill(source)
    path = tmp_path_factory.mktemp("manifest") / "stored.yaml"
    path.write_text(MANIFEST.format(folder=source))
    return path


@pytest.fixture(scope="module")
def undisturbed(stored: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a run on a disk writes that nobody disturbs."""
    out = tmp_path_factory.mktemp("undisturbed")
    finish(command("run", stored, "--out", out, "--local"))
    return sums(out)


def finish(arguments: Sequence[str]) -> None:
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def uploads() -> object:
    return S3FileSystem(use_listings_cache=False).list_multipart_uploads("shelf")


def expect_whole_units(out: AnyPath) -> None:
    """A reader who starts from the records meets nothing that is not whole."""
    if (out / "run.json").exists():
        mistakes, _, _ = verify(Layout(out))
        assert all("belongs to no unit that is done" in mistake for mistake in mistakes), mistakes


@pytest.mark.parametrize("arrives", ["lose", "drop"], ids=["after", "before"])
def test_killed_at_one_request_after_another_a_run_writes_the_bytes_of_an_undisturbed_one(
    stored: Path, undisturbed: dict[str, str], place: StorePath, proxy: Proxy, arrives: Literal["lose", "drop"]
) -> None:
    """The request on which the driver dies comes through, or does not; each driver goes on where the last one died."""
    out = place / "out"
    arguments = command("run", stored, "--out", out, "--local")
    for point in POINTS:
        victim = Victim(arguments, "PUT", f"/out/{point}")
        proxy.faults = [Fault(arrives, victim.sends)]
        victim.run()
        expect_whole_units(out)
    finish(arguments)
    assert sums(out) == undisturbed and verify(Layout(out)) == ([], 6, 6)


@pytest.mark.ray
def test_killed_thrice_on_ray_in_a_failing_store_a_run_writes_the_bytes_of_an_undisturbed_one(
    stored: Path, undisturbed: dict[str, str], place: StorePath, proxy: Proxy
) -> None:
    out = place / "out"
    arguments = command("run", stored, "--out", out, "--workers", 2)
    storm = [Fault("503", count=10**6, every=10), Fault("drop", count=10**6, every=15), Fault("lose", count=9, every=9)]
    for part, skip in (("/out/lease/", 0), ("/out/units/", 1), ("/out/shards/", 4)):
        victim = Victim(arguments, "PUT", part, skip)
        proxy.faults = [Fault("lose", victim.sends), *storm]
        victim.run()
        expect_whole_units(out)
    finish(arguments)
    assert sums(out) == undisturbed and verify(Layout(out)) == ([], 6, 6)


def test_parts_of_an_upload_that_was_cut_off_by_a_kill_are_gone_after_the_next_run(
    place: StorePath, proxy: Proxy, tmp_path: Path
) -> None:
    rng, sink = np.random.default_rng(0), io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for sample in range(24):
            for name, data in (
                ("jpg", write_jpeg(rng.integers(0, 256, (768, 1024, 3), np.uint8)).data),
                ("txt", b"noise"),
            ):
                info = tarfile.TarInfo(f"{sample:03}.{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    write_atomically(place / "source" / "tars" / "0.tar", sink.getvalue())
    text = MANIFEST.replace("unit_rows: 4", "unit_rows: 24").format(folder=place / "source")
    (tmp_path / "large.yaml").write_text(text)
    out, tail = place / "out", ["run", str(tmp_path / "large.yaml"), "--local", "--out"]
    arguments = [sys.executable, "-c", SMALL_PARTS, *tail, str(out)]
    victim = Victim(arguments, "PUT", "partNumber=2")
    proxy.faults = [Fault("drop", victim.sends)]
    victim.run()
    assert "000000.tar" in str(uploads())
    assert not Layout(out).tar("000000").exists()
    finish(arguments)
    assert uploads() == [] and verify(Layout(out)) == ([], 1, 1)
    finish([*command(*tail), str(tmp_path / "local")])
    assert sums(out) == sums(tmp_path / "local")


def test_a_second_driver_is_refused_while_the_first_goes_on_and_not_after_it_was_killed(
    stored: Path, undisturbed: dict[str, str], place: StorePath, proxy: Proxy
) -> None:
    out = place / "out"
    arguments = command("run", stored, "--out", out, "--local")
    refused: list[subprocess.CompletedProcess[str]] = []

    def try_another(method: str, path: str) -> None:
        if method == "PUT" and "/out/units/000001.json" in path and not refused:
            refused.append(subprocess.run(arguments, capture_output=True, text=True))

    proxy.before = try_another
    finish(arguments)
    assert refused[0].returncode == 2 and "Traceback" not in refused[0].stderr
    assert "another run is writing here" in refused[0].stderr and "last heartbeat" in refused[0].stderr
    assert sums(out) == undisturbed
