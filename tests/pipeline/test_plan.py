"""The second validation: what manifests mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from manifests.dag import ManifestError, parse_manifest, read_manifest
from manifests.record import ModelUse, Picture, Subject
from pipeline.plan import Plan, bind, describe
from stages import STAGES
from stages.base import Context, Params, Stage
from tests.pipeline.toys import manifest

HEAD = "name: t\nsource: {kind: parquet, paths: [x]}\nnodes:\n"
GIVES = frozenset({"alt_text", "url"})


def plan(nodes: str, gives: frozenset[str] = GIVES) -> Plan:
    return bind(parse_manifest(HEAD + nodes, "m.yaml"), gives)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectsIn:
    image: Picture
    subjects: tuple[Subject, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectsOut:
    subjects: tuple[Subject, ...]


class NeedsMasks(Stage[SubjectsIn, SubjectsOut]):
    """Reads a part of each subject."""

    In, Out, Params = SubjectsIn, SubjectsOut, Params
    reads_of_subjects = frozenset({"mask"})

    @classmethod
    def load(cls, params: Params, context: Context) -> "NeedsMasks":
        return cls()

    def process(self, batch: Sequence[SubjectsIn]) -> list[Any]:
        return []


class NoModel(NeedsMasks):
    """Names a model that is not there."""

    @classmethod
    def models(cls, params: Params) -> tuple[ModelUse, ...]:
        raise ValueError("no model 'tiny' in /models; run: pip install tiny")


@pytest.mark.usefixtures("toys")
class TestMistakes:
    def test_an_unknown_stage(self) -> None:
        with pytest.raises(ManifestError, match=r"m.yaml:4: node 'a', stage: no stage 'grond'; there are .*paint"):
            plan("- {id: a, stage: grond}")

    def test_an_unknown_or_wrong_parameter(self) -> None:
        with pytest.raises(ManifestError) as caught:
            plan("- id: a\n  stage: paint\n  params:\n    dorps: [1]\n    fails: x")
        lines = str(caught.value).splitlines()
        assert "m.yaml:7: node 'a', params.dorps: no such setting; did you mean 'drops'?" in lines
        assert any(line.startswith("m.yaml:8: node 'a', params.fails: ") and line.endswith('got "x"') for line in lines)

    def test_a_field_that_nothing_upstream_writes(self) -> None:
        with pytest.raises(ManifestError) as caught:
            plan("- {id: name, stage: name}\n- {id: paint, stage: paint, needs: [name]}", frozenset({"url"}))
        assert "node 'name': (name) reads 'alt_text', which nothing upstream writes (url are there)" in str(
            caught.value
        )

    def test_a_field_written_in_another_branch_is_not_upstream(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(STAGES, "crops", NeedsMasks)  # type: ignore[misc]
        with pytest.raises(ManifestError, match=r"node 'z': \(crops\) reads 'image', which .* put a .*paint.* node"):
            plan("- {id: paint, stage: paint}\n- {id: z, stage: crops}\n- {id: n, stage: name}")

    def test_a_part_of_subjects_that_nothing_upstream_writes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(STAGES, "crops", NeedsMasks)  # type: ignore[misc]
        with pytest.raises(ManifestError, match=r"reads 'subjects.mask'"):
            plan("- {id: p, stage: paint}\n- {id: n, stage: name}\n- {id: z, stage: crops, needs: [p]}")

    def test_branches_that_write_the_same_field(self) -> None:
        with pytest.raises(ManifestError, match=r"node 'n2': and node 'n1' both write caption and neither needs"):
            plan("- {id: p, stage: paint}\n- {id: n1, stage: name}\n- {id: n2, stage: name}")

    def test_a_shard_without_a_caption(self) -> None:
        with pytest.raises(ManifestError, match=r"node 'p': is the last, and a shard needs 'caption'.*put a .*name"):
            plan("- {id: p, stage: paint}")

    def test_a_missing_model(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(STAGES, "model", NoModel)  # type: ignore[misc]
        with pytest.raises(ManifestError, match=r"m.yaml:4: node 'm', params: no model 'tiny' in /models; run: pip"):
            plan("- {id: m, stage: model}")


@pytest.mark.usefixtures("toys")
def test_one_branch_may_overwrite_what_it_needs() -> None:
    bound = plan("- {id: p, stage: paint}\n- {id: n1, stage: name, needs: [p]}\n- {id: n2, stage: name, needs: [n1]}")
    assert [step.node.id for step in bound.steps] == ["p", "n1", "n2"]


@pytest.mark.usefixtures("toys")
def test_cpu_neighbours_share_a_worker_and_gpu_steps_do_not() -> None:
    nodes = """
- {id: a, stage: paint}
- {id: b, stage: paint, needs: [a], workers: [2, 8]}
- {id: c, stage: name, needs: [b], num_gpus: 0.5}
- {id: d, stage: name, needs: [c], num_gpus: 0.5}
- {id: e, stage: name, needs: [d], resources: {download: 1}}
- {id: f, stage: name, needs: [e]}
"""
    groups = plan(nodes).groups
    assert [group.name for group in groups] == ["a+b", "c", "d", "e", "f"]
    assert [group.num_gpus for group in groups] == [0, 0.5, 0.5, 0, 0]
    assert groups[0].worker_range == (2, 64) and groups[3].resources == {"download": 1}


@pytest.mark.usefixtures("toys")
def test_what_cannot_change_a_shard_is_not_in_the_fingerprint() -> None:
    from pipeline.plan import fingerprint
    from tests.pipeline.toys import Numbers

    def settings(**values: Any) -> dict[str, str]:
        file = manifest(**values)
        parts = fingerprint(file, bind(file, GIVES), Numbers(8), None)
        return {part.name: part.value for part in parts}

    assert settings(batch_size=3) == settings(batch_size=5)
    assert settings(extra="max_consecutive_failures: 9") == settings()
    assert settings(params="{drops: []}") != settings()


@pytest.mark.usefixtures("toys")
def test_the_plan_is_told_worker_by_worker() -> None:
    lines = list(describe(bind(manifest(), GIVES)))
    assert lines[0] == "worker: 1 CPUs, 0 GPUs; 1 to 64 of them"
    assert lines[4:] == ["  name (name version 1), batches of 16", "    reads   alt_text", "    writes  caption"]


@pytest.mark.parametrize("name", ["coco", "demo", "shapes", "shapes_references"])
def test_every_manifest_that_needs_no_download_plans(name: str) -> None:
    gives = frozenset({"url", "alt_text", "annotations", "original", "sha256"})
    file = read_manifest(Path(f"manifests/{name}.yaml"))
    source = file.manifest.source.kind
    bind(file, gives - ({"original", "sha256"} if source == "parquet" else set()))


FETCHED = "- {id: get, stage: fetch}\n- {id: open, stage: decode, needs: [get]}\n"
CAPTIONED = FETCHED + "- {id: say, stage: caption, needs: [open]}\n- {id: name, stage: phrases, needs: [say]}\n"


class TestFieldsThatNoRecordHas:
    """A run that would lose all its records, after it has downloaded them, is refused before it begins."""

    @pytest.mark.parametrize(
        ("nodes", "gives", "says"),
        [
            (FETCHED + "- {id: say, stage: caption, needs: [open]}", {"url"}, "'say': (caption) .* 'alt_text'.* recap"),
            (FETCHED, {"alt_text"}, "'get': (fetch) .* on 'url'.* leave the node out"),
            (CAPTIONED + "- {id: g, stage: ground, needs: [name]}", GIVES, "'g': (ground) .* 'annotations'.* {backend"),
            (
                "- {id: f, stage: filter, params: {min_side: 9}}\n" + FETCHED,
                GIVES | {"stated_width"},
                "'f': (filter) .*on 'stated_height', which the source does not give .*url are.*: NAME}, or leave min_",
            ),
            (
                FETCHED + "- {id: f, stage: faces, needs: [open], params: {backend: keypoints, require_face: true}}",
                GIVES,
                "annot",
            ),
        ],
    )
    def test_are_named_with_what_to_do(self, nodes: str, gives: set[str], says: str) -> None:
        caption = "" if "caption" in nodes else "- {id: last, stage: caption, needs: [open]}\n"
        with pytest.raises(ManifestError, match=says.replace("(", r"\(").replace(")", r"\)").replace("{", r"\{")):
            plan(nodes.rstrip("\n") + "\n" + caption, frozenset(gives))

    @pytest.mark.parametrize(
        "nodes",
        [
            CAPTIONED + "- {id: g, stage: ground, needs: [name], params: {require: false}}",
            "- {id: f, stage: filter, params: {min_aesthetic: 5, missing: keep}}\n" + CAPTIONED,
        ],
    )
    def test_do_no_harm_where_records_may_lack_them(self, nodes: str) -> None:
        assert plan(nodes).steps

    def test_may_be_in_shards_that_were_not_looked_at(self) -> None:
        text = "name: t\nsource: {kind: shards, path: x}\nnodes:\n- {id: say, stage: caption}"
        assert bind(parse_manifest(text, "m.yaml"), frozenset({"image"})).steps
