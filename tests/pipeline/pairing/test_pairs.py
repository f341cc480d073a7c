"""Mining pairs from a run's shards."""

import dataclasses
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer.testing import CliRunner

from manifests.record import ModelUse, Record
from pipeline.__main__ import app
from pipeline.ledger import Layout
from pipeline.pairing.neighbours import Limits
from pipeline.pairing.pairs import PAIR_SCHEMA, Mined, PairOptions, Within, mine
from pipeline.pairing.vectors import PairError
from tests.pipeline.album import Shown, record, run_album, who_feature

pytestmark = pytest.mark.usefixtures("toys")

ALBUM = [record(n, Shown(who=n % 6)) for n in range(12)]
"""Six people in two pictures each: numbers n and n + 6."""


def mined(layout: Layout, feature: str = "subject*_who_vector", **options: Any) -> tuple[Mined, list[dict[str, Any]]]:
    limits = options.pop("limits", Limits(low=0.5, high=0.999))
    found = mine(
        layout,
        PairOptions(feature=feature, limits=limits, **options),
        layout.root / "pairs.parquet",
        Console(quiet=True),
    )
    table = pq.read_table(layout.root / "pairs.parquet")
    assert table.schema.remove_metadata() == PAIR_SCHEMA
    return found, table.to_pylist()


def linked(rows: list[dict[str, Any]]) -> dict[tuple[str, int], tuple[str, int]]:
    return {(row["key"], row["subject"]): (row["partner_key"], row["partner_subject"]) for row in rows}


def test_pictures_of_one_person_are_linked_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = run_album(tmp_path / "out", ALBUM, monkeypatch)
    found, rows = mined(layout)
    assert found == Mined(items=12, left_out=0, linked=12)
    assert linked(rows) == {(f"k{n:03}", 0): (f"k{(n + 6) % 12:03}", 0) for n in range(12)}
    assert [row["unit"] for row in rows] == [0] * 8 + [1] * 4
    assert all(0.5 < row["similarity"] < 1 for row in rows)
    metadata = pq.read_schema(layout.root / "pairs.parquet").metadata
    assert (metadata[b"model"], metadata[b"revision"], metadata[b"min_similarity"]) == (b"who", b"1", b"0.5")
    assert metadata[b"fingerprint"].decode() == layout.unit_record("000000").fingerprint


def test_the_table_does_not_hang_on_the_order_of_records_or_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = []
    for number, records in enumerate([ALBUM, random.Random(1).sample(ALBUM, 12)]):
        _, rows = mined(run_album(tmp_path / str(number), records, monkeypatch))
        tables.append([{name: row[name] for name in row if "unit" not in name} for row in rows])
    assert tables[0] == tables[1]
    layout = Layout(tmp_path / "0")
    before = (layout.root / "pairs.parquet").read_bytes()
    mined(layout)
    assert (layout.root / "pairs.parquet").read_bytes() == before


def test_duplicates_are_refused_by_file_and_by_vector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same_file = [record(0, Shown(0), sha256="f" * 64), record(1, Shown(0), sha256="f" * 64)]
    assert mined(run_album(tmp_path / "a", same_file, monkeypatch))[0].linked == 0
    (feature,) = [part for part in record(0, Shown(0)).features if part.name == "subject0_who_vector"]
    copy = dataclasses.replace(record(1, Shown(0)), features=(feature,))
    assert mined(run_album(tmp_path / "b", [record(0, Shown(0)), copy], monkeypatch))[0].linked == 0
    third = [record(0, Shown(0)), copy, record(2, Shown(0))]
    assert mined(run_album(tmp_path / "c", third, monkeypatch))[0].linked == 2


def test_subjects_of_one_picture_are_not_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = run_album(tmp_path / "out", [record(0, Shown(0), Shown(0)), record(1, Shown(5))], monkeypatch)
    assert mined(layout)[0] == Mined(items=3, left_out=0, linked=0)


def test_links_stay_within_groups_and_head_nouns_as_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people = [
        record(0, Shown(0, "woman"), group="a"),
        record(1, Shown(0, "dog"), group="a"),
        record(2, Shown(0, "woman"), group="b"),
        record(3, Shown(0, "dog"), group=None),
    ]
    layout = run_album(tmp_path / "out", people, monkeypatch)
    assert linked(mined(layout, within=[Within.GROUP])[1]) == {("k000", 0): ("k001", 0), ("k001", 0): ("k000", 0)}
    by_head = linked(mined(layout, within=[Within.HEAD])[1])
    assert by_head[("k000", 0)] == ("k002", 0) and by_head[("k001", 0)] == ("k003", 0)
    assert mined(layout, within=[Within.GROUP, Within.HEAD])[0].linked == 0


def test_a_face_is_its_subject_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_face(number: int, who: int) -> Record:
        made = record(number, Shown(9), Shown(9, "dog"))
        assert made.faces and made.faces[0].crop
        return dataclasses.replace(made, features=(who_feature("face0", Shown(who), number, made.faces[0].crop),))

    outside = dataclasses.replace(with_face(2, 0), subjects=())
    layout = run_album(tmp_path / "out", [with_face(0, 0), with_face(1, 0), outside], monkeypatch)
    found, rows = mined(layout, "face*_who_vector")
    assert found.left_out == 1 and linked(rows) == {("k000", 1): ("k001", 1), ("k001", 1): ("k000", 1)}


def test_features_of_two_models_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Shown(0, model=ModelUse(name="who", revision="2"))
    layout = run_album(tmp_path / "out", [record(0, Shown(0)), record(9, other)], monkeypatch)
    with pytest.raises(PairError, match="several models, who at 1, who at 2; name one of them"):
        mined(layout)


@pytest.mark.parametrize(
    ("feature", "options", "says"),
    [
        ("*_who_vector", {}, r"several kinds, head\*_who_vector, subject\*_who_vector"),
        ("subject*_dino_vector", {}, r"no vectors subject\*_dino_vector of subjects, heads or faces; put an embed"),
        ("caption*", {}, "no vectors caption"),
        ("subject*_who_vector", {"within": [Within.GROUP]}, "no record has a group"),
        ("subject*_who_vector", {"limits": (0.9, 0.9)}, "are none; lower --min-similarity"),
    ],
)
def test_what_cannot_be_linked_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, feature: str, options: dict[str, Any], says: str
) -> None:
    layout = run_album(tmp_path / "out", ALBUM, monkeypatch)
    with pytest.raises(PairError, match=says):
        if "limits" in options:
            options = {"limits": Limits(low=options["limits"][0], high=options["limits"][1])}
        mined(layout, feature, **options)
    assert not (layout.root / "pairs.parquet").exists()


def test_the_command_says_what_it_linked_and_what_it_could_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = run_album(tmp_path / "out", ALBUM, monkeypatch)
    words = ["pairs", str(layout.root), "--min-similarity", "0.5", "--max-similarity", "0.999", "--feature"]
    done = CliRunner().invoke(app, [*words, "subject*_who_vector", "--within", "head"])
    assert done.exit_code == 0, done.output
    assert "12 of 12 subjects linked, 0 vectors left out:" in done.output
    assert pq.read_schema(layout.root / "pairs.parquet").metadata[b"within"] == b"head"
    refused = CliRunner().invoke(app, [*words, "subject*_dino_vector"])
    assert refused.exit_code == 2 and "put an embed node in the run" in refused.output.replace("\n", " ")
