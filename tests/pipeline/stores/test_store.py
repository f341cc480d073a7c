"""Paths in an object store: whole objects or none, faults that pass are passed over, others are said."""

import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3fs import S3FileSystem

import manifests.store
from manifests.files import AnyPath, atomic_file, create, local_copy, open_path, read_files, write_atomically
from manifests.store import StorePath
from tests.pipeline.stores.server import Fault, Kind, Proxy

DATA = bytes(range(256)) * 64


@pytest.fixture(params=["disk", "memory", "s3", "gcs"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> AnyPath:
    if request.param in ("s3", "gcs"):
        place: StorePath = request.getfixturevalue("place" if request.param == "s3" else "gcs_place")
        return place
    return open_path(str(tmp_path) if request.param == "disk" else f"memory://{tmp_path.name}")


def names(folder: AnyPath, pattern: str = "*") -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


def test_what_is_written_is_read_and_listed_everywhere_alike(folder: AnyPath) -> None:
    assert not (folder / "a").exists() and names(folder) == []
    for name in ("a.txt", "b.txt", "c.bin"):
        write_atomically(folder / "deep" / name, name.encode() + DATA)
    deep = folder / "deep"
    assert folder.is_dir() and [path.name for path in folder.iterdir()] == ["deep"]
    assert names(deep, "*.txt") == ["a.txt", "b.txt"]
    path = deep / "b.txt"
    assert (path.stem, path.name, path.parent, path.with_name("a.txt")) == ("b", "b.txt", deep, deep / "a.txt")
    assert path.exists() and path.stat().st_size == len(DATA) + 5
    assert path.read_bytes() == b"b.txt" + DATA and (deep / "a.txt").read_bytes()[:5].decode() == "a.txt"
    assert [data[:5] for data in read_files(sorted(deep.glob("*.txt")))] == [b"a.txt", b"b.txt"]
    path.unlink()
    path.unlink(missing_ok=True)
    assert names(deep) == ["a.txt", "c.bin"]
    with pytest.raises(FileNotFoundError):
        path.read_bytes()
    with pytest.raises(FileNotFoundError):
        path.open("rb")


def test_an_open_file_is_read_from_any_place(folder: AnyPath) -> None:
    write_atomically(folder / "x", DATA)
    with (folder / "x").open("rb") as file:
        assert file.read(3) == DATA[:3]
        file.seek(-10, 2)
        assert file.read() == DATA[-10:]
        file.seek(5000)
        assert file.read(100) == DATA[5000:5100]
    with local_copy(folder / "x") as copy:
        assert copy.read() == DATA and copy.seek(0) == 0 and copy.read(5) == DATA[:5]


def test_of_two_who_create_a_file_one_succeeds(folder: AnyPath) -> None:
    create(folder / "x", b"first")
    with pytest.raises(FileExistsError):
        create(folder / "x", b"second")
    assert (folder / "x").read_bytes() == b"first" and names(folder) == ["x"]


def test_a_file_is_not_replaced_against_a_veto(folder: AnyPath) -> None:
    def veto() -> None:
        raise InterruptedError("keep it")

    write_atomically(folder / "x", b"first", veto)
    with pytest.raises(InterruptedError, match="keep it"):
        write_atomically(folder / "x", b"second", veto)
    assert (folder / "x").read_bytes() == b"first"
    write_atomically(folder / "x", b"third", lambda: None)
    assert (folder / "x").read_bytes() == b"third" and names(folder) == ["x"]


def test_nothing_is_there_of_a_file_whose_writer_failed(folder: AnyPath) -> None:
    write_atomically(folder / "other", b"")
    with pytest.raises(InterruptedError), atomic_file(folder / "x") as file:
        file.write(DATA)
        raise InterruptedError
    assert names(folder) == ["other"]


@pytest.mark.parametrize("text", ["s3://shelf/a/b", "memory://a/b"])
def test_a_path_outlives_pickling_and_order_is_that_of_names(text: str) -> None:
    path = open_path(text)
    assert pickle.loads(pickle.dumps(path)) == path and str(path) == text
    assert sorted([StorePath("s3://a/c"), StorePath("s3://a/b")])[0].name == "b"


def test_plain_paths_and_file_urls_are_local(tmp_path: Path) -> None:
    assert open_path(str(tmp_path)) == tmp_path == open_path(f"file://{tmp_path}")
    for wrong in ("nonsense://x/y", "s3://"):
        with pytest.raises(ValueError, match=wrong):
            open_path(wrong)


@pytest.mark.parametrize("kind", ["500", "503", "drop", "lose", "slow"])
def test_faults_that_pass_are_passed_over(place: StorePath, proxy: Proxy, kind: Kind) -> None:
    proxy.faults = [Fault(kind, count=50, every=3)]
    write_atomically(place / "x", DATA)
    write_atomically(place / "y", DATA)
    assert names(place) == ["x", "y"]
    assert (place / "x").read_bytes() == DATA and (place / "x").stat().st_size == len(DATA)
    with local_copy(place / "y") as copy:
        assert copy.read() == DATA
    assert list(read_files([place / "x", place / "y"])) == [DATA, DATA]
    (place / "x").unlink()
    assert not (place / "x").exists()
    assert proxy.faults[0].count < 50


def test_a_store_that_stays_away_is_told_after_a_while(
    place: StorePath, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests.store, "_PATIENCE_S", 0.0)
    proxy.faults = [Fault("503", count=10**6)]
    with pytest.raises(OSError, match=r"s3://shelf/.*/x: .*tried again.*check the network and the store's state"):
        write_atomically(place / "x", b"")


def test_a_call_ends_in_its_time_amid_the_clients_own_retries(
    place: StorePath, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests.store, "_PATIENCE_S", 1.0)
    monkeypatch.setattr(S3FileSystem, "retries", 10**6)
    proxy.faults = [Fault("503", count=10**6)]
    calls = (
        lambda: (place / "x").write_bytes(DATA),
        lambda: list(read_files([place / "x"])),
        (place / "x").read_bytes,
    )
    for call in calls:  # without a deadline none ends
        with pytest.raises(OSError, match=r"s3://shelf/.*/x: FSTimeoutError.*tried again for 1 s"):
            call()


def test_a_store_that_does_not_answer_is_not_waited_for(
    place: StorePath, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests.store, "_PATIENCE_S", 1.0)
    released = threading.Event()
    proxy.before = lambda method, path: released.wait() and None
    try:
        with pytest.raises(OSError, match="FSTimeoutError"):
            (place / "x").read_bytes()
    finally:
        released.set()


def test_a_refusal_is_told_at_once_with_the_url_and_the_remedy(place: StorePath, proxy: Proxy) -> None:
    proxy.faults = [Fault("403", count=10**6)]
    for call in (lambda: write_atomically(place / "x", b""), (place / "x").read_bytes, lambda: list(place.iterdir())):
        with pytest.raises(PermissionError, match=r"s3://shelf/.*: the store refuses: .*check the credentials"):
            call()
    assert len(proxy.requests) < 10


def test_a_bucket_that_is_not_there_is_told(place: StorePath) -> None:
    lost = StorePath("s3://nowhere-at-all/run")
    for call in (lambda: write_atomically(lost / "x", b""), lambda: list(lost.iterdir()), (lost / "x").read_bytes):
        with pytest.raises(OSError, match=r"s3://nowhere-at-all/run.*: the store has no such bucket; create it"):
            call()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[bytes]:
    """Bytes that are uploaded in three parts."""
    monkeypatch.setattr(manifests.store, "_PART", 5 << 20)
    return iter([bytes(11 << 20)])


def is_part(method: str, path: str) -> bool:
    return method == "PUT" and "partNumber=2" in path


def uploads(proxy: Proxy) -> str:
    """What the server says of uploads that were begun and not ended."""
    from s3fs import S3FileSystem

    return str(S3FileSystem(use_listings_cache=False).list_multipart_uploads("shelf"))


def test_a_large_file_is_uploaded_in_parts_and_faults_pass(
    place: StorePath, proxy: Proxy, small_parts: Iterator[bytes]
) -> None:
    proxy.faults = [Fault("500", is_part), Fault("drop", is_part)]
    write_atomically(place / "x", next(small_parts), lambda: None)
    assert (place / "x").stat().st_size == 11 << 20 and len(proxy.asked("PUT", "partNumber=")) > 3
    assert uploads(proxy) == "[]"


def test_no_part_is_left_over_of_an_upload_that_failed(
    place: StorePath, proxy: Proxy, small_parts: Iterator[bytes]
) -> None:
    proxy.faults = [Fault("403", is_part, count=10**6)]
    with pytest.raises(PermissionError):
        write_atomically(place / "x", next(small_parts))
    assert uploads(proxy) == "[]" and names(place) == []


def test_parts_that_a_killed_process_left_are_swept_below_the_folder_only(place: StorePath, proxy: Proxy) -> None:
    from s3fs import S3FileSystem

    fs = S3FileSystem(use_listings_cache=False)
    for key in ("shards/1.tar", "/../other"):
        path = f"{place}{key}".replace("/../", "_") if ".." in key else f"{place}/{key}"
        fs.call_s3("create_multipart_upload", Bucket="shelf", Key=fs.split_path(path)[1])
    place.abort_uploads()
    assert "1.tar" not in uploads(proxy) and "_other" in uploads(proxy)
    fs.clear_multipart_uploads("shelf")
