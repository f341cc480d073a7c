"""WebDataset tars."""

import io
import json
import pickle
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from webdataset.tariterators import group_by_keys, tar_file_iterator

from manifests.dag import WebDatasetSource
from manifests.record import Picture, Record
from manifests.shard import record_sample
from manifests.tar import write_tar
from pipeline.sources import tars
from pipeline.sources.base import SourceError, Unit, cut_units
from pipeline.sources.tars import Tars
from tests.pipeline.sources.reading import read_all, reasons, records

IMG2DATASET = {
    **{"caption": "a dog here", "url": "http://a/0.jpg", "key": "000000000", "status": "success", "exif": "{}"},
    **{"width": 256, "height": 128, "original_width": 512, "original_height": 256, "sha256": "of the original"},
    **{"id": 2**63 - 1, "clip_similarity_vitb32": 0.25, "aesthetic_score_laion_v2": float("nan"), "NSFW": "UNLIKELY"},
    **{"noun_chunks": [[2.0, 5.0, 0.1, 0.2, 0.5, 0.6, 0.9]], "ref_exps": []},
}


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def tar_bytes(members: Sequence[tuple[str, bytes]], form: int = tarfile.USTAR_FORMAT) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=form) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def opened(*members: tuple[str, bytes]) -> Tars:
    if members:
        Path("a.tar").write_bytes(tar_bytes(members))
    return Tars(WebDatasetSource(kind="webdataset", paths=["*.tar"]))


def captions(source: Tars) -> list[str | None]:
    return [row.record.alt_text for row in read_all(source)]


def test_a_sample_of_img2dataset_is_read() -> None:
    plain = json.dumps(IMG2DATASET).encode()
    source = opened(("000000000.jpg", b"picture"), ("000000000.json", plain), ("000000000.txt", b"a dog here"))
    (record,) = records(read_all(source))
    assert (record.source_id, record.url, record.alt_text) == (str(2**63 - 1), "http://a/0.jpg", "a dog here")
    assert (record.stated_width, record.stated_height) == (512, 256)
    assert (record.similarity, record.aesthetic, record.nsfw) == (0.25, None, None)
    assert [annotation.phrase for annotation in record.annotations] == ["dog"]
    assert record.original == b"picture"
    assert record.sha256 != IMG2DATASET["sha256"]
    assert source.gives >= {"source_id", "original", "sha256", "alt_text", "url", "stated_width", "annotations"}


def test_pictures_with_text_alone_are_samples_and_give_no_more() -> None:
    source = opened(("x/a.jpg", b"A"), ("x/a.txt", b"words\n"), ("x/b.PNG", b"B"), ("c.webp", b"C"), ("c.txt", b" "))
    rows = records(read_all(source))
    assert [(r.source_id, r.original, r.alt_text) for r in rows] == [
        ("x/a", b"A", "words"),
        ("x/b", b"B", None),
        ("c", b"C", None),
    ]
    assert source.gives == {"source_id", "original", "sha256", "alt_text"}


def test_the_caption_may_stand_in_the_json_alone() -> None:
    assert captions(opened(("a.jpg", b"A"), ("a.json", b'{"caption": "words"}'))) == ["words"]


def test_our_own_shards_are_read_as_plain_pictures_with_text() -> None:
    picture = Picture(format="jpg", width=8, height=8, data=b"target")
    record = Record(
        key="k_0", source="s", row=0, url="http://a", alt_text="alt", image=picture, caption="made", aesthetic=6.5
    )
    members = record_sample(record, lambda mask: b"", [1.0]).members
    with open("a.tar", "wb") as file:
        write_tar(file, [("k_0", [("subject0.jpg", b"crop"), ("canny.png", b"edges"), *members])])
    (found,) = records(read_all(opened()))
    assert (found.original, found.alt_text, found.url, found.source_id) == (b"target", "made", "http://a", "k_0")
    assert (found.aesthetic, found.annotations) == (6.5, ())


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["jpg", "txt", "json", "seg.png"])), max_size=12),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_samples_are_those_of_the_webdataset_library(names: list[tuple[str, str]], stride: int, unit_rows: int) -> None:
    runs: list[dict[str, str]] = []
    members = []
    for key, suffix in names:
        if not runs or runs[-1]["key"] != key:
            runs.append({"key": key})
        if suffix not in runs[-1]:  # the library refuses what stands twice
            runs[-1][suffix] = suffix
            members.append((f"{key}.{suffix}", b"{}"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tars, "_STRIDE", stride)
        Path("a.tar").write_bytes(tar_bytes(members))
        Path("b.tar").write_bytes(tar_bytes([("z.jpg", b"Z")]))
        source = Tars(WebDatasetSource(kind="webdataset", paths=["a.tar", "b.tar"]))
        rows = read_all(source, unit_rows)
    files = tar_file_iterator(io.BytesIO(Path("a.tar").read_bytes()))
    theirs = [sample["__key__"] for sample in group_by_keys({**file, "__url__": ""} for file in files)]
    assert [row.record.source_id for row in rows] == [*theirs, "z"]
    expected = [None if "jpg" in run else "no_image" for run in runs]
    assert reasons(rows) == [*expected, None]


def test_a_member_that_stands_twice_begins_the_next_sample() -> None:
    source = opened(("a.jpg", b"1"), ("a.txt", b"one"), ("a.jpg", b"2"), ("a.txt", b"two"))
    assert captions(source) == ["one", "two"]


def test_a_sample_without_image_fails_and_the_others_do_not() -> None:
    source = opened(("a.txt", b"x"), ("b.jpg", b""), ("b.txt", b"x"), ("c.jpg", b"C"))
    assert reasons(read_all(source)) == ["no_image", "no_image", None]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000, b'{"n": ' + b"1" * 5000 + b"}"])
def test_a_sample_with_broken_json_fails(data: bytes) -> None:
    assert reasons(read_all(opened(("a.jpg", b"A"), ("a.json", data), ("b.jpg", b"B")))) == ["bad_json", None]


@pytest.mark.parametrize("members", [("a.txt", b"\xff"), ("a.json", b'{"caption": "\\ud800"}')])
def test_a_caption_that_is_no_unicode_fails_its_sample(members: tuple[str, bytes]) -> None:
    assert reasons(read_all(opened(("a.jpg", b"A"), members))) == ["bad_text"]


def test_odd_values_in_json_are_not_said() -> None:
    odd = {"caption": 5, "url": ["x"], "width": "wide", "similarity": {}, "noun_chunks": "x", "id": None}
    (record,) = records(read_all(opened(("a.jpg", b"A"), ("a.json", json.dumps(odd).encode()))))
    assert (record.source_id, record.url, record.alt_text, record.stated_width) == ("a", None, None, None)


NO_FILES = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
NO_NAMES = ["/a.jpg", "../a.jpg", "x/../../a.jpg", ".a.jpg", "x/.a.jpg", "a", "__meta__/a.jpg"]


def test_members_that_are_no_plain_files_or_climb_are_ignored() -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for number, kind in enumerate(
            [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
        ):
            info = tarfile.TarInfo(f"link{number}.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        for name in (
            "/abs.jpg",
            "../up.jpg",
            "x/../../up.jpg",
            ".hidden.jpg",
            "x/.hidden.jpg",
            "noext",
            "__meta__/a.jpg",
        ):
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
        info = tarfile.TarInfo("good.jpg")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"G"))
    Path("a.tar").write_bytes(sink.getvalue())
    assert [record.source_id for record in records(read_all(opened()))] == ["good"]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_odd_names_are_read(form: int) -> None:
    long = "folder/" * 30 + "x" * 120
    Path("a.tar").write_bytes(tar_bytes([(f"{long}.jpg", b"A"), (f"{long}.txt", b"one"), ("k\udcff.jpg", b"B")], form))
    one, two = records(read_all(opened(), unit_rows=1))
    assert (one.source_id, one.alt_text) == (long, "one")
    assert (two.source_id, two.original) == ("k?", b"B")


SAMPLES = [(f"{n}.{suffix}", f"{n} {suffix}".encode() * 100) for n in range(4) for suffix in ("jpg", "txt")]
MEMBER_BYTES = 512 + 512


@pytest.mark.parametrize(("members", "samples"), [(0.75, 1), (2.75, 2), (4.25, 2), (4.75, 3), (5.25, 3), (7.75, 4)])
def test_a_tar_that_was_cut_off_keeps_the_whole_samples_and_fails_the_torn_one(members: float, samples: int) -> None:
    data = tar_bytes(SAMPLES)
    Path("a.tar").write_bytes(data[: int(members * MEMBER_BYTES)])
    rows = read_all(opened())
    assert reasons(rows) == [None] * (samples - 1) + ["truncated"]
    assert [row.record.alt_text for row in rows[:-1]] == [f"{n} txt" * 100 for n in range(samples - 1)]


def test_a_tar_without_end_mark_may_lack_the_last_member() -> None:
    Path("a.tar").write_bytes(tar_bytes(SAMPLES)[: 7 * MEMBER_BYTES])
    assert reasons(read_all(opened())) == [None, None, None, "truncated"]


def test_a_damaged_header_ends_a_tar_as_a_cut_does() -> None:
    data = bytearray(tar_bytes(SAMPLES))
    data[4 * MEMBER_BYTES + 10] ^= 1
    Path("a.tar").write_bytes(data)
    assert reasons(read_all(opened())) == [None, "truncated"]


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_damage_anywhere_is_refused_or_kept_to_samples(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    damaged = bytearray(tar_bytes([("é" * 40 + "/" + "x" * 90 + ".jpg", b"A" * 600), *SAMPLES], form))
    header = data.draw(st.integers(0, len(damaged) // 512 - 1)) * 512
    for offset in data.draw(st.lists(st.integers(0, 511), max_size=6)):
        damaged[header + offset] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):  # a checksum that hides the damage
        block = damaged[header : header + 512]
        damaged[header + 148 : header + 156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 256)
    Path("a.tar").write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    try:
        source = opened()
    except SourceError as error:
        assert "a.tar" in str(error)
        return
    read_all(source)


@pytest.mark.parametrize("data", [b"", b"no tar at all", b"\x1f\x8b" + b"x" * 2000])
def test_what_is_no_tar_is_refused_by_name(data: bytes) -> None:
    Path("a.tar").write_bytes(data)
    with pytest.raises(SourceError, match=r"a\.tar: no plain tar"):
        opened()


def test_no_samples_at_all_are_refused_but_an_empty_tar_among_others_is_fine() -> None:
    Path("a.tar").write_bytes(tar_bytes([]))
    with pytest.raises(SourceError, match=r"no samples in 1 tars"):
        opened()
    Path("b.tar").write_bytes(tar_bytes([("b.jpg", b"B")]))
    assert [part.rows for part in opened().parts] == [0, 1]


def test_a_tar_changed_after_planning_is_an_error_when_read() -> None:
    source = opened(("a.jpg", b"A"))
    Path("a.tar").write_bytes(tar_bytes([("a.jpg", b"A" * 20_000)]))
    with pytest.raises(SourceError, match="has changed"):
        source.read(Unit(0, 0, 0, 1))


def test_the_fingerprint_follows_the_headers_and_not_the_place_or_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = opened(("a.jpg", b"A"), ("b.jpg", b"B"))
    (tmp_path / "elsewhere").mkdir()
    shutil.copyfile("a.tar", "elsewhere/a.tar")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert opened().fingerprint == source.fingerprint
    assert opened(("a.jpg", b"A"), ("b.jpg", b"BB")).fingerprint != source.fingerprint


def test_copies_of_a_tar_keep_their_keys_apart() -> None:
    opened(("a.jpg", b"A"))
    shutil.copyfile("a.tar", "b.tar")
    assert len(read_all(opened())) == 2


def test_planning_skips_the_data_and_what_goes_to_workers_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.tar").write_bytes(tar_bytes([(f"{n}.jpg", b"x" * 20_000) for n in range(500)]))
    read = count_bytes(monkeypatch)
    source = opened()
    assert read() < 500 * 2048
    assert len(pickle.dumps(source)) < 2000
    unit = cut_units([500], 10)[37]
    read()
    assert [row.record.source_id for row in source.read(unit)] == [str(n) for n in range(370, 380)]
    assert read() < 10 * 20_000 + 80 * 2048


def count_bytes(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Bytes read through ``File.open`` since the last call."""
    counts = [0]

    class Counting:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def __enter__(self) -> "Counting":
            return self

        def __exit__(self, *error: object) -> None:
            self.file.close()

        def read(self, size: int = -1) -> bytes:
            data: bytes = self.file.read(size)
            counts[0] += len(data)
            return data

    opener = tars.File.open
    monkeypatch.setattr(tars.File, "open", lambda file: Counting(opener(file)))

    def total() -> int:
        counted, counts[0] = counts[0], 0
        return counted

    return total
