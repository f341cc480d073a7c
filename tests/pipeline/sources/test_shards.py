"""A finished run as the source of another."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from manifests.dag import ShardsSource, parse_manifest
from manifests.record import Box, Face, Record
from manifests.shard import record_from_members
from manifests.tar import read_samples
from pipeline.ledger import Layout
from pipeline.local import run_local
from pipeline.pairing.neighbours import Limits
from pipeline.pairing.pairs import PairOptions, mine
from pipeline.progress import LineProgress
from pipeline.report.page import write_report
from pipeline.run import execute, prepare
from pipeline.sources import open_source
from pipeline.sources.base import Source, SourceError, cut_units
from pipeline.verify import verify
from stages.features import content_hash
from tests.pipeline.album import MODEL, Shown, picture, record, run_album, who_feature
from tests.pipeline.conftest import toys as toys
from tests.stages.models.tiny_encoders import dino_folder

pytestmark = pytest.mark.usefixtures("toys")

ALBUM = [record(n, Shown(n % 6), Shown(8 + n, "dog")) for n in range(12)]
"""Six women in two pictures each, each time with another dog."""


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    return run_album(tmp_path / "album", ALBUM, monkeypatch)


def with_pairs(layout: Layout) -> str:
    options = PairOptions(feature="subject*_who_vector", limits=Limits(low=0.6, high=0.999))
    mine(layout, options, layout.root / "pairs.parquet", Console(quiet=True))
    return str(layout.root / "pairs.parquet")


def opened(layout: Layout, **settings: str) -> Source:
    return open_source(ShardsSource.model_validate({"kind": "shards", "path": str(layout.root), **settings}))


def read(source: Source, unit_rows: int = 5) -> list[Record]:
    units = cut_units([part.rows for part in source.parts], unit_rows)
    rows = [row for unit in units for row in source.read(unit)]
    assert all(row.verdict is None for row in rows)
    return [row.record for row in rows]


def stored(layout: Layout) -> list[Record]:
    records = []
    for unit in layout.committed():
        with layout.tar(unit).open("rb") as file:
            records += [record_from_members(members) for _, members in read_samples(file)]
    return records


def test_records_come_back_as_they_were_kept(album: Layout) -> None:
    source = opened(album)
    records = read(source)
    assert records == stored(album) == read(source, 1000) == read(pickle.loads(pickle.dumps(source)))
    assert [part.rows for part in source.parts] == [8, 4]
    assert {"image", "caption", "subjects", "subjects.crop", "subjects.box", "prompt", "sha256"} <= source.gives
    assert not {"original", "subjects.mask", "regions", "key"} & source.gives


def portrait(number: int, who: int) -> Record:
    """A record in which nobody looked for subjects, with one face."""
    crop = picture(number + 500)
    return replace(
        record(number),
        subjects=None,
        prompt=None,
        group="album" if number % 2 else "other",
        faces=(Face(box=Box(x0=9, y0=2, x1=13, y1=6), score=1, crop=crop),),
        features=(who_feature("face0", Shown(who), number, crop),),
    )


def test_faces_of_records_without_subjects_are_linked_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = run_album(tmp_path / "portraits", [portrait(n, n % 3) for n in range(6)], monkeypatch)
    options = PairOptions(feature="face*_who_vector", limits=Limits(low=0.6, high=0.999))
    mine(layout, options, layout.root / "pairs.parquet", Console(quiet=True))
    plain = {record.key: record for record in stored(layout)}
    for linked in read(opened(layout, pairs=str(layout.root / "pairs.parquet"))):
        partner = plain[f"k{(linked.row + 3) % 6:03}"]
        assert linked.faces and partner.faces
        assert (linked.faces[0].crop, linked.faces[0].crop_key) == (partner.faces[0].crop, partner.key)
        assert linked.features == partner.features and linked.subjects is None


def test_a_linked_subject_gets_its_partner_s_crops_and_features(album: Layout) -> None:
    plain = {record.key: record for record in stored(album)}
    for linked in read(opened(album, pairs=with_pairs(album))):
        mine, partner = plain[linked.key], plain[f"k{(linked.row + 6) % 12:03}"]
        assert linked.subjects and mine.subjects and partner.subjects
        woman, dog = linked.subjects
        assert (woman.crop, woman.head_crop) == (partner.subjects[0].crop, partner.subjects[0].head_crop)
        assert (woman.crop_key, woman.box, woman.span) == (partner.key, mine.subjects[0].box, mine.subjects[0].span)
        assert dog == mine.subjects[1] and linked.prompt == mine.prompt
        features = {feature.name: feature for feature in linked.features}
        assert features.keys() == {feature.name for feature in mine.features}
        assert woman.crop and features["subject0_who_vector"].content == content_hash(woman.crop)
        assert woman.head_crop and features["head0_who_vector"].content == content_hash(woman.head_crop)
        assert dog.crop and features["subject1_who_vector"].content == content_hash(dog.crop)


def test_subjects_without_partner_are_dropped_as_told(album: Layout) -> None:
    source = opened(album, pairs=with_pairs(album), unpaired="drop")
    assert "prompt" not in source.gives
    for linked in read(source):
        assert linked.subjects and [subject.phrase for subject in linked.subjects] == ["woman"]
        assert [(lost.phrase, lost.stage, lost.reason) for lost in linked.dropped_subjects] == [
            ("dog", "source", "unpaired")
        ]
        assert linked.prompt is None
        assert {"subject0_who_vector", "caption_who_vector"} <= {feature.name for feature in linked.features}
        assert "subject1_who_vector" not in {feature.name for feature in linked.features}


def test_features_follow_subjects_to_their_new_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turned = [record(n, Shown(8 + n, "dog"), Shown(0)) for n in range(2)]
    layout = run_album(tmp_path / "out", turned, monkeypatch)
    for linked in read(opened(layout, pairs=with_pairs(layout), unpaired="drop")):
        assert linked.subjects and linked.subjects[0].crop
        features = {feature.name: feature for feature in linked.features}
        assert features.keys() == {"subject0_who_vector", "head0_who_vector", "caption_who_vector"}
        assert features["subject0_who_vector"].content == content_hash(linked.subjects[0].crop)


def test_a_run_goes_on_from_another_with_new_prompts(album: Layout, tmp_path: Path) -> None:
    network = dino_folder(tmp_path / "dino")
    file = parse_manifest(
        f"""
name: paired
source: {{kind: shards, path: {album.root}, pairs: {with_pairs(album)}, unpaired: drop, unit_rows: 5}}
nodes:
- {{id: interleave, stage: interleave, params: {{insertion: before}}}}
- {{id: embed, stage: embed, needs: [interleave], params: {{kind: dino, model: {network}, of: [subjects]}}}}
""",
        "paired.yaml",
    )
    out = Layout(tmp_path / "paired")
    with (tmp_path / "log").open("w") as log:
        assert execute(prepare(file), out.root, run_local, LineProgress(log)).left == 0
    assert verify(out) == ([], 3, 3)
    assert "unpaired" in write_report(out.root, 12).read_text()
    records = stored(out)
    assert [record.key for record in records] == [record.key for record in ALBUM]
    for made in records:
        assert made.prompt and made.prompt.render() == "number <subject0> woman with dog and hat"
        assert made.subjects and made.subjects[0].crop_key != made.key
        assert [step.node for step in made.steps] == ["name", "interleave", "embed"]
        features = {feature.name: feature for feature in made.features}
        assert features["subject0_who_vector"].model == MODEL
        assert made.subjects[0].crop
        assert features["subject0_dino_vector"].content == content_hash(made.subjects[0].crop)


def test_an_unfinished_run_is_no_source(album: Layout) -> None:
    album.unit("000001").unlink()
    with pytest.raises(SourceError, match=r"album: 1 of 2 units are done; finish the run first"):
        opened(album)
    with pytest.raises(SourceError, match="holds no run"):
        opened(Layout(album.root / "none"))


def test_pairs_of_another_run_or_none_are_refused(
    album: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = run_album(tmp_path / "other", ALBUM[:3] + ALBUM[6:], monkeypatch)
    with pytest.raises(SourceError, match="these pairs were mined from another run"):
        opened(album, pairs=with_pairs(other))
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(SourceError, match=r"x\.parquet: no table of pairs"):
        opened(album, pairs=str(tmp_path / "x.parquet"))


def test_what_changes_after_planning_is_an_error(album: Layout) -> None:
    source = opened(album, pairs=with_pairs(album))
    units = cut_units([part.rows for part in source.parts], 100)
    tar = album.tar("000000")
    whole = tar.read_bytes()
    tar.write_bytes(whole.replace(b"JFIF", b"JFIX", 1))
    with pytest.raises(SourceError, match=r"is not what the index says"):
        source.read(units[0])
    tar.write_bytes(whole + b"x")
    with pytest.raises(SourceError, match="has changed since the run was planned"):
        source.read(units[0])
    tar.write_bytes(whole)
    (album.root / "pairs.parquet").write_bytes(b"x")
    with pytest.raises(SourceError, match="has changed since"):
        source.read(units[0])


def test_the_fingerprint_follows_the_shards_and_the_pairs(album: Layout) -> None:
    plain = opened(album).fingerprint
    pairs = with_pairs(album)
    assert (
        len({plain, opened(album, pairs=pairs).fingerprint, opened(album, pairs=pairs, unpaired="drop").fingerprint})
        == 3
    )
    assert opened(album).fingerprint == plain
