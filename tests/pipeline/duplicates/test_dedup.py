"""Keep-lists: found across units, and kept to by the run that names them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import pipeline.duplicates.repeats
import pipeline.run
import pipeline.sources.keep_list
from manifests.dag import ParquetSource, parse_manifest
from pipeline.__main__ import app
from pipeline.duplicates.dedup import By, DedupError, dedup_run, dedup_source
from pipeline.duplicates.repeats import find_repeats
from pipeline.ledger import Layout, ResumeError
from pipeline.local import run_local
from pipeline.progress import LineProgress
from pipeline.run import execute, prepare
from pipeline.sources import open_source
from pipeline.sources.base import SourceError, Unit
from pipeline.sources.keep_list import KEEP_SCHEMA, KeepList, write_keep_list
from stages.pixels import write_jpeg
from tests.stages.test_phash import scene

Texts = list[str | None]


def nobody(done: int, rows: int) -> None:
    """Progress that no one reads."""


def repeats(texts: Texts, folder: Path) -> list[tuple[str, str]]:
    named = ((str(number), text) for number, text in enumerate(texts))
    tables = find_repeats(named, len(texts), folder)
    return [(row["key"], row["kept"]) for table in tables for row in table.to_pylist()]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.none() | st.sampled_from("abcdefg"), max_size=60), st.integers(1, 20))
def test_every_text_but_its_first_is_found_in_order(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, texts: Texts, at_once: int
) -> None:
    monkeypatch.setattr(pipeline.duplicates.repeats, "_AT_ONCE", at_once)
    monkeypatch.setattr(pipeline.duplicates.repeats, "_FILES", 5)
    firsts: dict[str, str] = {}
    expected = []
    for number, text in enumerate(texts):
        if text is not None and firsts.setdefault(text, str(number)) != str(number):
            expected.append((str(number), firsts[text]))
    assert repeats(texts, tmp_path_factory.mktemp("dealt") / "files") == expected


MANIFEST = """
name: web
source: {{kind: parquet, paths: ["{folder}/*.parquet"], unit_rows: 3{keep}}}
nodes:
- {{id: fetch, stage: fetch}}
- {{id: decode, stage: decode, needs: [fetch]}}
- {{id: caption, stage: caption, needs: [decode]}}
"""
URLS = [["http://a/1", "http://a/2", None, " http://a/1 "], ["http://a/3", "http://a/2", "http://a/3", "http://b/1"]]


@pytest.fixture
def web(tmp_path: Path) -> Path:
    for number, urls in enumerate(URLS):
        pq.write_table(pa.table({"URL": urls, "TEXT": [f"t{number}"] * 4}), tmp_path / f"{number}.parquet")
    return tmp_path


def verdicts(web: Path, keep: str) -> Iterator[tuple[str, str | None, str]]:
    source = open_source(ParquetSource(kind="parquet", paths=[f"{web}/*.parquet"], keep=(keep,)))
    for part in range(2):
        for row in source.read(Unit(part, part, 0, 4)):
            yield row.record.key, row.verdict and row.verdict.reason, row.verdict.message if row.verdict else ""


def test_repeated_urls_are_dropped_across_files_before_the_download_and_name_the_first(web: Path) -> None:
    keep = web / "lists" / "keep.parquet"
    found = dedup_source(parse_manifest(MANIFEST.format(folder=web, keep=""), "web.yaml"), keep, nobody)
    assert (found.rows, found.duplicates) == (8, 3)
    told = list(verdicts(web, str(keep)))
    keys = [key for key, _, _ in told]
    assert [reason for _, reason, _ in told] == [
        *(None, None, "no_url", "duplicate_url"),
        *(None, "duplicate_url", "duplicate_url", None),
    ]
    assert [told[n][2] for n in (3, 5, 6)] == [f"repeats {keys[n]}" for n in (0, 1, 4)]
    assert [path.name for path in keep.parent.iterdir()] == ["keep.parquet"]


def test_the_stage_may_stand_before_the_download(web: Path) -> None:
    nodes = "nodes:\n- {{id: urls, stage: dedup}}\n- {{id: fetch, stage: fetch, needs: [urls]}}"
    text = MANIFEST.replace("nodes:\n- {{id: fetch, stage: fetch}}", nodes).format(folder=web, keep="")
    plan = prepare(parse_manifest(text, "web.yaml")).plan
    assert [step.node.id for step in plan.steps][:2] == ["urls", "fetch"]
    assert not plan.steps[0].reads


def test_a_list_is_looked_up_by_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.sources.keep_list, "_GROUP_ROWS", 10)
    keys = [f"k_{number:03d}" for number in range(0, 200, 2)]
    table = pa.table([keys, ["k"] * 100, ["duplicate_url"] * 100], schema=KEEP_SCHEMA)
    assert write_keep_list(tmp_path / "keep.parquet", [table.slice(0, 55), table.slice(55)]) == 100
    keep = KeepList.open(str(tmp_path / "keep.parquet"))
    for start in range(0, 220, 7):
        asked = [f"k_{number:03d}" for number in range(start, start + 7)]
        assert set(keep.among(asked)) == set(asked) & set(keys)
    assert keep.among([]) == {}


def test_the_list_is_part_of_the_fingerprint_and_must_not_change(web: Path) -> None:
    keep = web / "lists" / "keep.parquet"
    named = f', keep: ["{keep}"]'
    file, without = (parse_manifest(MANIFEST.format(folder=web, keep=text), "web.yaml") for text in (named, ""))
    dedup_source(without, keep, nobody)
    before = prepare(file)
    assert "keep-list 0" in {setting.name for setting in before.info.fingerprint}
    assert "keep" not in dict((s.name, s.value) for s in prepare(without).info.fingerprint)["source settings"]
    write_keep_list(keep, [KEEP_SCHEMA.empty_table()])
    with pytest.raises(SourceError, match=r"keep.parquet: has changed since the run was planned"):
        before.source.read(before.units[0])
    assert prepare(file).info.fingerprint != before.info.fingerprint


def test_what_is_no_keep_list_is_told(web: Path) -> None:
    for name, says in (("none.parquet", "no keep-list"), ("0.parquet", "has columns URL .*, a keep-list has key")):
        with pytest.raises(SourceError, match=f"{name}: {says}.*python -m pipeline dedup"):
            list(verdicts(web, str(web / name)))


def test_a_list_of_other_types_is_told(tmp_path: Path) -> None:
    path = tmp_path / "keep.parquet"
    pq.write_table(pa.table({"key": [1], "kept": ["a"], "reason": ["duplicate_url"]}), path)
    with pytest.raises(SourceError, match=r"has columns key \(int64\), .*, a keep-list has key \(string\)"):
        KeepList.open(str(path))


def test_a_list_that_another_program_wrote_anew_is_read(tmp_path: Path) -> None:
    """Without statistics and with a version that is none."""
    path = tmp_path / "keep.parquet"
    table = pa.table({"key": ["b", "a"], "kept": ["x", "y"], "reason": ["duplicate_url"] * 2})
    pq.write_table(table.replace_schema_metadata({"schema_version": "?"}), path, write_statistics=False)
    assert KeepList.open(str(path)).among(["a", "c"]) == {"a": ("duplicate_url", "y")}


FOLDER = """
name: pictures
source: {{kind: folder, path: {folder}, unit_rows: 2{keep}}}
nodes:
- {{id: decode, stage: decode, params: {{min_side: 32}}}}
- {{id: caption, stage: caption, needs: [decode]}}
"""


def run_folder(root: Path, out: str, keep: str = "") -> Layout:
    file = parse_manifest(FOLDER.format(folder=root / "pictures", keep=keep), "folder.yaml")
    with open("/dev/null", "w") as nowhere:
        execute(prepare(file), root / out, run_local, LineProgress(nowhere))
    return Layout(root / out)


@pytest.mark.parametrize(
    ("by", "expected"),
    [(By.SHA256, {"4": "0"}), (By.PHASH, {"2": "0", "4": "0", "6": "3"})],
)
def test_a_run_goes_again_without_the_duplicates_that_its_shards_show(
    tmp_path: Path, by: By, expected: dict[str, str]
) -> None:
    first, other = write_jpeg(scene(1), 95).data, write_jpeg(scene(5), 95).data
    again, other_again = write_jpeg(scene(1), 60).data, write_jpeg(scene(5), 70).data
    files = [first, write_jpeg(scene(2)).data, again, other, first, write_jpeg(scene(3)).data, other_again]
    (tmp_path / "pictures").mkdir()
    for number, data in enumerate(files):
        (tmp_path / "pictures" / f"{number}.jpg").write_bytes(data)
        (tmp_path / "pictures" / f"{number}.txt").write_text(f"picture {number}")
    layout = run_folder(tmp_path, "out")
    found = dedup_run(layout, by, 4, tmp_path / "keep.parquet", nobody)
    assert (found.rows, found.duplicates) == (7, len(expected))
    listed = {
        str(int(row["key"][-9:])): str(int(row["kept"][-9:]))
        for row in pq.read_table(tmp_path / "keep.parquet").to_pylist()
    }
    assert listed == expected
    anew = run_folder(tmp_path, "anew", f", keep: [{tmp_path / 'keep.parquet'}]")
    records = list(anew.unit_records())
    assert sum(record.kept for record in records) == 7 - len(expected)
    assert {reject.node for record in records for reject in record.rejections} == {"source"}
    with pytest.raises(ResumeError, match="keep-list 0: was absent"):
        run_folder(tmp_path, "out", f", keep: [{tmp_path / 'keep.parquet'}]")


def test_a_source_without_urls_is_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "0.jpg").write_bytes(write_jpeg(np.zeros((64, 64, 3), np.uint8)).data)
    (tmp_path / "pictures" / "0.txt").write_text("black")
    with pytest.raises(DedupError, match="gives no URLs; run it, then give the run's folder and --by sha256"):
        dedup_source(
            parse_manifest(FOLDER.format(folder=tmp_path / "pictures", keep=""), "f.yaml"), tmp_path / "k", nobody
        )


def test_the_command_says_what_it_found_or_what_it_needs(web: Path, tmp_path: Path) -> None:
    (web / "web.yaml").write_text(MANIFEST.format(folder=web, keep=""))
    keep = str(tmp_path / "lists" / "keep.parquet")
    done = CliRunner().invoke(app, ["dedup", str(web / "web.yaml"), "--out", keep])
    assert done.exit_code == 0 and f"3 of 8 rows repeat another: {keep}" in done.output
    wrong = CliRunner().invoke(app, ["dedup", str(web / "web.yaml"), "--by", "phash", "--out", keep])
    assert wrong.exit_code == 2 and "--by phash needs the pictures: run" in wrong.output
    idle = CliRunner().invoke(app, ["dedup", str(web / "web.yaml"), "--max-distance", "3", "--out", keep])
    assert idle.exit_code == 2 and "--max-distance goes with --by phash" in idle.output
    nothing = CliRunner().invoke(app, ["dedup", str(web), "--by", "phash", "--out", keep])
    assert nothing.exit_code == 2 and "holds no run" in nothing.output
