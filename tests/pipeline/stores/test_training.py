"""A trainer reads a run in an object store as if it lay on its disk."""

from pathlib import Path

import pytest

from manifests.files import write_atomically
from manifests.store import StorePath
from tests.pipeline.stores.server import Fault, Kind, Proxy
from tests.training.stream.runs import write_run
from tests.training.stream.server import QUICK
from tests.training.stream.test_remote import first_batches
from training.stream import source
from training.stream.collate import batch_crc
from training.stream.storage import open_storage


@pytest.mark.parametrize("kind", ["500", "503", "drop", "lose"])
def test_batches_of_a_run_in_a_failing_store_are_those_of_the_local_folder(
    place: StorePath, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    root = write_run(tmp_path / "run", units=3, rows=20)
    for path in root.rglob("*.*"):
        write_atomically(place / path.parent.name / path.name, path.read_bytes())
    monkeypatch.setattr(source, "open_storage", lambda url: open_storage(url, QUICK))
    expected = [batch_crc(batch) for batch in first_batches(str(root), tmp_path / "local")]
    proxy.faults = [Fault(kind, count=1000, every=4)]
    found = [batch_crc(batch) for batch in first_batches(str(place), tmp_path / "remote")]
    assert found == expected and proxy.faults[0].count < 990
