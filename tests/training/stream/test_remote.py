"""From a server that fails, with and without the disk cache, come the batches of the local folder."""

import io
import tarfile
from dataclasses import replace
from itertools import chain, cycle, islice
from pathlib import Path

import pytest

from tests.training.stream.make import draw_record
from tests.training.stream.runs import write_run, write_unit
from tests.training.stream.server import QUICK, FileServer, serving
from tests.training.stream.test_corruption import bytes_changed, flip
from training.stream import source as source_module
from training.stream.collate import Batch, batch_crc
from training.stream.options import StreamOptions
from training.stream.prompts.plain import Plain
from training.stream.recipe import STREAM_RECIPES, Buckets, StreamRecipe
from training.stream.snapshot import DatasetError
from training.stream.source import Source
from training.stream.storage import open_storage
from training.stream.stream import PromptStream

FAULTS = (503, "none", "none", "cut", "none", 429)
STEPS = 12


def first_batches(url: str, cache: Path, recipe: str = "mumu", cache_bytes: int = 0) -> list[Batch]:
    options = StreamOptions(cache=cache, cache_bytes=cache_bytes, connections=4)
    with PromptStream(url, recipe=STREAM_RECIPES[recipe](64), batch_size=8, options=options) as stream:
        return list(islice(stream, STEPS))


def serve(server: FileServer, root: Path, is_faulty: bool) -> None:
    server.files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    server.faults.extend(islice(cycle(FAULTS), 2000) if is_faulty else ())


@pytest.mark.parametrize("cache_bytes", [0, 3 * 2**20, 2**30])
@pytest.mark.parametrize("is_faulty", [False, True])
def test_batches_are_those_of_the_local_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_bytes: int, is_faulty: bool
) -> None:
    monkeypatch.setattr(source_module, "open_storage", lambda url: open_storage(url, QUICK))
    root = write_run(tmp_path / "run", units=3, rows=20)
    expected = [batch_crc(batch) for batch in first_batches(str(root), tmp_path / "local")]
    with serving() as server:
        serve(server, root, is_faulty)
        found = [batch_crc(batch) for batch in first_batches(server.url, tmp_path / "remote", cache_bytes=cache_bytes)]
        assert found == expected
        assert not is_faulty or len(server.faults) < 2000
        if cache_bytes == 2**30:  # all is here: without the tars' bytes, the same once more
            server.ranges.clear()
            again = first_batches(server.url, tmp_path / "remote", cache_bytes=cache_bytes)
            assert [batch_crc(batch) for batch in again] == expected
            assert not server.ranges


@pytest.mark.parametrize("readers", [0, 1])
def test_what_the_local_disk_damaged_is_read_once_more_from_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readers: int
) -> None:
    monkeypatch.setattr(source_module, "open_storage", lambda url: open_storage(url, QUICK))
    root = write_run(tmp_path / "run", units=3, rows=20)
    with serving() as server:
        serve(server, root, is_faulty=False)
        expected = [batch_crc(b) for b in first_batches(server.url, tmp_path / "cache", cache_bytes=2**30)]
        chunks = [path for path in (tmp_path / "cache" / "chunks").iterdir() if not path.name.startswith(".")]
        for chunk in chunks:
            data = bytearray(chunk.read_bytes())
            for place in range(0, len(data), 1000):
                data[place] ^= 1
            chunk.write_bytes(data)
        options = StreamOptions(cache=tmp_path / "cache", cache_bytes=2**30, connections=4, readers=readers)
        with PromptStream(server.url, recipe=STREAM_RECIPES["mumu"](64), batch_size=8, options=options) as stream:
            assert [batch_crc(batch) for batch in islice(stream, STEPS)] == expected
            assert not stream.damage() and not stream.damaged
        server.ranges.clear()
        assert [batch_crc(b) for b in first_batches(server.url, tmp_path / "cache", cache_bytes=2**30)] == expected
        first_batches(server.url, tmp_path / "cache", cache_bytes=2**30)
        assert len(server.ranges) <= len(chunks)


def test_what_the_server_has_damaged_is_quarantined_with_a_cache_too(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run", units=1, rows=20)
    bytes_changed("jpg", flip)(root)
    with serving() as server:
        serve(server, root, is_faulty=False)
        options = StreamOptions(cache=tmp_path / "cache", cache_bytes=2**30)
        with PromptStream(server.url, recipe=STREAM_RECIPES["plain"](64), batch_size=4, options=options) as stream:
            assert len(list(islice(stream, STEPS))) == STEPS
            assert stream.damage() == {"crc_mismatch": 1}


@pytest.mark.parametrize("name", ["run", "plain"])
def test_a_unit_that_was_changed_on_a_server_is_seen(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    if name == "run":
        write_run(root, units=2, rows=5)
    else:
        root.mkdir()
        write_plain(root / "000001.tar", 0)
    with serving() as server:
        serve(server, root, is_faulty=False)
        source = Source(server.url, tmp_path / "cache")
        before = source.freeze(source.refresh(), Buckets())
        source.freeze(source.refresh(), Buckets()).check_growth(before)
        if name == "run":
            write_unit(root, 1, [draw_record(f"other_{n}") for n in range(5)])
        else:
            write_plain(root / "000001.tar", 8)
        serve(server, root, is_faulty=False)
        with pytest.raises(DatasetError, match="unit 000001 changed while"):
            source.freeze(source.refresh(), Buckets()).check_growth(before)


def write_plain(path: Path, first: int) -> None:
    """A tar whose keys begin at 000000, as many tools write them."""
    with tarfile.open(path, "w") as tar:
        for row in range(8):
            picture = draw_record(f"{first + row}", 96, 96).image
            assert picture is not None
            for suffix, data in (("jpg", picture.data), ("txt", f"picture {first + row}".encode())):
                info = tarfile.TarInfo(f"{row:06d}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def test_plain_tars_with_the_same_keys_train_each_sample_once_an_epoch(tmp_path: Path) -> None:
    root = tmp_path / "plain"
    root.mkdir()
    for number in range(3):
        write_plain(root / f"{number:05d}.tar", number * 8)
    recipe: StreamRecipe = replace(STREAM_RECIPES["plain"](64), builder=Plain(), buckets=Buckets(base=64))
    options = StreamOptions(cache=tmp_path / "cache")
    with PromptStream(str(root), recipe=recipe, batch_size=8, options=options) as stream:
        batches = list(islice(stream, 3))
        assert not stream.damage()
    keys = list(chain.from_iterable(batch.keys for batch in batches))
    assert sorted(keys) == [f"{tar:05d}/{row:06d}" for tar in range(3) for row in range(8)]
    texts = {key: str(prompt) for batch in batches for key, prompt in zip(batch.keys, batch.prompts, strict=True)}
    for key, text in texts.items():
        tar, _, row = key.partition("/")
        assert f"picture {int(tar) * 8 + int(row)}" in text
