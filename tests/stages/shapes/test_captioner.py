"""Training the bundled captioner: weights to begin with, scenes to learn from."""

from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from stages.data.shapes_training import captioner, scene_cache
from stages.data.shapes_training.captioner_network import CELLS, SIDE, adopt, make_model, make_tokenizer, stretch
from stages.data.shapes_training.scene_cache import FIRST_SEED, Recipe, build, open_cache
from stages.models.canvas import Canvas
from stages.shapes.scene import SceneSettings, make_scene
from stages.shapes.words import PLAIN

# After captioner_network, which mends torchvision.
from transformers import Florence2Config, Florence2ForConditionalGeneration  # isort: skip

PUBLISHED = Path("stages/data/shapes_captioner")
ROWS = "model.multi_modal_projector.image_position_embed.row_embeddings.weight"
COLUMNS = "model.multi_modal_projector.image_position_embed.column_embeddings.weight"


def test_the_captioner_is_small_enough_to_ship() -> None:
    assert sum(path.stat().st_size for path in PUBLISHED.iterdir()) < 5_000_000


@given(st.integers(1, 20), st.integers(1, 20))
def test_a_stretched_table_says_of_a_place_what_was_said_there(before: int, after: int) -> None:
    """A table that says how far along the side a cell's middle is, says so still, but beyond the outermost middles."""
    middles = (torch.arange(before) + 0.5) / before
    stretched = stretch(torch.stack([middles, -middles], dim=1), after)
    expected = ((torch.arange(after) + 0.5) / after).clamp(0.5 / before, 1 - 0.5 / before)
    torch.testing.assert_close(stretched, torch.stack([expected, -expected], dim=1))


def test_weights_are_those_that_were_published_for_smaller_pictures(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    small = _published(tmp_path, {"max_position_embeddings": CELLS - 2, "window_size": CELLS - 2})
    model = make_model(tokenizer)
    adopt(model, tmp_path)
    before, after = small.state_dict(), model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name not in (ROWS, COLUMNS))
    assert torch.equal(after[ROWS], stretch(before[ROWS], CELLS))
    assert torch.equal(after[COLUMNS], stretch(before[COLUMNS], CELLS))
    seen = model.model.vision_tower(torch.zeros(1, 3, SIDE, SIDE)).last_hidden_state
    assert model.model.multi_modal_projector(seen).shape[1] == CELLS**2 + 1


def test_another_architectures_weights_are_refused(tmp_path: Path) -> None:
    _published(tmp_path, {"depths": [1, 1]})
    with pytest.raises(RuntimeError, match="Missing key"):
        adopt(make_model(make_tokenizer()), tmp_path)


def _published(folder: Path, changes: dict[str, object]) -> Florence2ForConditionalGeneration:
    torch.manual_seed(1)
    config = make_model(make_tokenizer()).config.to_dict()
    config["vision_config"] |= changes
    model = Florence2ForConditionalGeneration(Florence2Config(**config))
    model.save_pretrained(folder)
    return model


def test_scenes_with_too_few_textured_things_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(Canvas(32, is_padded=False), SceneSettings(), least_textured=2)
    textured = [sum(thing.texture != PLAIN for thing in scene.things) for scene, _ in islice(recipe.scenes(7), 20)]
    assert min(textured) == 2
    monkeypatch.setattr(scene_cache, "SHARD", 3)
    build(tmp_path / "a", range(2), recipe)
    build(tmp_path / "b", range(1, 3), recipe)
    cache = open_cache(tmp_path / "a", tmp_path / "b")
    assert ((cache.things[..., 2] > 0).sum(axis=1) >= 2).all()
    captions = [first for first, _ in cache.captions]
    assert captions[3:6] == captions[6:9]
    assert len(set(captions)) == 9


def test_scenes_to_learn_from_have_seeds_that_no_benchmark_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(scene_cache, "make_scene", lambda seed, asked: drawn.append(seed) or make_scene(seed, asked))
    monkeypatch.setattr(scene_cache, "SHARD", 2)
    build(tmp_path, range(3), Recipe(Canvas(32, is_padded=False), SceneSettings(), least_textured=1))
    assert min(drawn) == FIRST_SEED == 1_000_000


@pytest.mark.slow
def test_a_training_goes_on_from_what_was_published_and_from_where_it_was_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its learning rate is 0: what comes out is what went in."""
    monkeypatch.setattr(scene_cache, "SHARD", 4)
    asked = ["captioner", "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"), "--shards", "1"]
    asked += ["--textured", "1", "--size", "2", "--lr", "0", "--from", str(PUBLISHED)]
    monkeypatch.setattr("sys.argv", [*asked, "--steps", "1"])
    captioner.main()
    monkeypatch.setattr("sys.argv", [*asked, "--steps", "2", "--resume"])
    captioner.main()
    assert torch.load(tmp_path / "out" / "run.pt", weights_only=True)["step"] == 2
    before, after = (load_file(folder / "model.safetensors") for folder in (PUBLISHED, tmp_path / "out"))
    for name in before.keys() - {ROWS, COLUMNS}:
        torch.testing.assert_close(after[name], before[name], rtol=1e-3, atol=1e-6)
    assert len(after[ROWS]) == CELLS
