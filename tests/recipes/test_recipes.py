"""The papers' recipes: each plans as it stands, and its twin on tiny models runs end to end."""

import os
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from manifests.dag import ManifestFile, parse_manifest, read_manifest
from manifests.shard import record_from_members
from manifests.tar import read_samples
from pipeline.cluster import RayOptions, run_on_ray
from pipeline.ledger import Layout
from pipeline.local import run_local
from pipeline.models import wanted
from pipeline.plan import bind
from pipeline.progress import LineProgress
from pipeline.run import Executor, execute, prepare
from pipeline.sources import open_source
from pipeline.verify import verify
from tests.recipes import tiny_models
from tests.recipes.twins import MANIFESTS, RECIPES, text

MEMBERS: dict[str, set[str]] = {
    "unimo_g": {"subject0.jpg", "subject0.mask.png"},
    "lambda_eclipse": {
        "subject0.jpg",
        "canny.png",
        "caption_bigg_states.safetensors",
        "caption_bigg_pooled.safetensors",
        "image_bigg_vector.safetensors",
        "subject0_bigg_vector.safetensors",
        "canny_bigg_vector.safetensors",
    },
    "mumu_real": {"subject0.jpg", "canny.png", "depth.png", "sketch.png"},
    "mumu_synthetic": {"subject0.jpg", "canny.png", "depth.png", "sketch.png"},
    "emma_objects": {"region0.jpg", "caption_t5_states.safetensors", "region0_clip_tokens.safetensors"},
    "emma_portraits": {
        "face0.jpg",
        "caption_t5_states.safetensors",
        "face0_adaface_vector.safetensors",
        "face0_clip_tokens.safetensors",
    },
    "emma_regions": {"region0.jpg", "region1.jpg", "region0_clip_vector.safetensors"},
}
"""What the samples of each recipe must have, besides picture and JSON."""

SLOW_ON_RAY = ("emma_regions", "lambda_eclipse")
ON_RAY = [pytest.param(name, marks=pytest.mark.slow if name in SLOW_ON_RAY else pytest.mark.fire) for name in RECIPES]
"""Each of its workers is a process that imports all it needs anew: a minute a recipe."""

WEIGHTS = ("sac+logos+ava1-l14-linearMSE.pth", "table5_pidinet.pth", "adaface_ir50_ms1mv2.safetensors")
GIVEN = frozenset({"url", "alt_text", "original", "sha256", "group", "synthesis", "annotations", "aesthetic"})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tiny")
    tiny_models.build(root)
    return root


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_finds_every_parameter_and_field_it_names(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    recipe = read_manifest(MANIFESTS / f"{name}.yaml")
    for weights in WEIGHTS:  # which people download by hand
        (tmp_path / "weights").mkdir(exist_ok=True)
        (tmp_path / "weights" / weights).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert bind(recipe, GIVEN).name == name


@pytest.mark.parametrize("name", RECIPES)
def test_a_threshold_without_its_source_stands_in_no_recipe(name: str) -> None:
    lines = (MANIFESTS / f"{name}.yaml").read_text().splitlines()
    section = ""
    for line in lines:
        section = line if line.startswith("  - id:") else section
        key = line.strip().partition(":")[0]
        if key.startswith(("min_", "max_")) and key not in ("max_new_tokens", "max_images", "max_length"):
            assert "#" in line or "#" in section, f"{name}: {line.strip()} has no source beside it or its node"


PICKLES_ALONE = frozenset({("openai/clip-vit-base-patch32", "main"), ("openai/clip-vit-base-patch32", None)})
"""Models at revisions without safetensors on the hub."""


@pytest.mark.parametrize("name", RECIPES)
def test_every_model_of_a_recipe_has_weights_that_are_no_pickles(name: str) -> None:
    named = {(want.ref.name, want.ref.revision) for want in wanted(read_manifest(MANIFESTS / f"{name}.yaml"))}
    assert named.isdisjoint(PICKLES_ALONE)


@pytest.mark.parametrize("name", RECIPES)
def test_one_gpu_holds_a_worker_of_every_node(name: str) -> None:
    nodes = read_manifest(MANIFESTS / f"{name}.yaml").manifest.nodes
    assert 0 < sum(node.num_gpus for node in nodes) <= 1


@pytest.mark.parametrize("name", RECIPES)
def test_a_twin_is_what_its_recipe_makes_it(name: str) -> None:
    assert (MANIFESTS / f"{name}_tiny.yaml").read_text() == text(name), "run python -m tests.recipes.twins and commit"


def in_folder(name: str, tiny: Path) -> ManifestFile:
    return parse_manifest(text(name).replace(str(tiny_models.FOLDER), str(tiny)), name)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' schedulers, 0.42
@pytest.mark.parametrize("name", RECIPES)
def test_a_twin_runs_end_to_end(name: str, tiny: Path, tmp_path: Path) -> None:
    check_run(name, tiny, tmp_path, run_local)


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("name", ON_RAY)
def test_a_twin_runs_end_to_end_on_ray(name: str, tiny: Path, tmp_path: Path) -> None:
    check_run(name, tiny, tmp_path, partial(run_on_ray, options=RayOptions(workers=1)))


def check_run(name: str, tiny: Path, out: Path, executor: Executor) -> None:
    """See that a twin's run loses no row, and that its samples have what they must."""
    prepared = prepare(in_folder(name, tiny))
    rows = sum(part.rows for part in open_source(prepared.file.manifest.source).parts)
    with open(os.devnull, "w") as nowhere:
        outcome = execute(prepared, out, executor, LineProgress(nowhere))
    layout = Layout(out)
    units = list(layout.unit_records())
    lost = Counter((part.node, part.reason) for unit in units for part in unit.rejections for _ in range(part.count))
    assert outcome.left == 0 and verify(layout)[0] == []
    assert sum(unit.kept for unit in units) + lost.total() == rows
    names: set[str] = set()
    for unit in layout.committed():
        with layout.tar(unit).open("rb") as tar:
            for _, members in read_samples(tar):
                names |= set(members)
                assert record_from_members(members).prompt
    assert MEMBERS[name] <= names, f"lost: {dict(lost)}"
    assert not [reason for reason in lost if reason[1] in ("stage_error", "worker_crash", "missing_field")], lost
