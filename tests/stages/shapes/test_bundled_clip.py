"""The bundled CLIP of the shapes world through the embed stage, and the manifest that uses it."""

from dataclasses import astuple
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks.shapes import run
from stages.base import Context, ModelRef
from stages.data.shapes_training.clip import Batches
from stages.data.shapes_training.clip_figures import Clip, figures
from stages.data.shapes_training.clip_network import LENGTH, WIDTH, make_tokenizer
from stages.data.shapes_training.clip_scenes import NONE
from stages.embed import Embed, EmbedIn, EmbedOut
from stages.embed_params import EmbedParams
from stages.models.clip_hf import load_tokenizer
from stages.pixels import write_jpeg
from stages.shapes.arranged import ArrangedSettings, make_arranged, tell
from stages.shapes.draw import draw

MANIFEST = Path("manifests/shapes_references.yaml")
FIRST_SEED = 700_000


def test_vectors_tell_what_the_card_says() -> None:
    """Floors are a little below the card, as 300 scenes teach and vary more than 2000."""
    found = figures(Clip("shapes_clip"), 300)
    assert min(found.text_of_scene, found.scene_of_text) >= 0.9
    assert found.phrase_of_crop >= 0.9
    assert found.hue_error <= 4
    assert min(found.textures, found.nouns, found.places) >= 0.95
    assert found.placed_hue_error <= 8


def test_every_word_of_a_caption_is_a_token_and_the_longest_caption_fits() -> None:
    tokenizer = load_tokenizer(ModelRef(name="shapes_clip"))
    captions = [tell(make_arranged(seed, ArrangedSettings()), "everything")[0] for seed in range(500)]
    for text in captions:
        words = text.replace(",", " ,").split()
        assert tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)[1:-1] == [f"{word}</w>" for word in words]
    assert max(len(tokenizer(text).input_ids) for text in captions) <= LENGTH == tokenizer.model_max_length


def test_a_batch_of_a_step_is_always_the_same_and_knows_which_texts_are() -> None:
    tokenizer = make_tokenizer()
    first, again = (Batches(tokenizer, 9, 12)[4] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(astuple(first), astuple(again), strict=True) if not a.isnan().any())
    assert torch.allclose(first.alike.sum(dim=1), torch.ones(len(first.pixels)))
    same = (first.tokens[:, None] == first.tokens).all(dim=-1)
    assert torch.equal(first.alike > 0, same)
    assert torch.equal(first.nouns.eq(0) & first.textures.ne(NONE), torch.zeros_like(first.nouns, dtype=torch.bool))


def test_a_caption_that_is_too_long_is_dropped_and_not_cut() -> None:
    stage = Embed.load(EmbedParams(kind="clip_text", model="shapes_clip"), Context())
    picture = write_jpeg(draw(make_arranged(0, ArrangedSettings()).scene).pixels, 95)
    captions = ["a circle on the left", " ".join(["circle"] * (LENGTH - 2)), " ".join(["circle"] * (LENGTH - 1))]
    given = [
        EmbedIn(caption=text, image=picture, subjects=None, faces=None, regions=None, controls=(), features=())
        for text in captions
    ]
    short, full, long = stage.process(given)
    assert isinstance(short, EmbedOut) and isinstance(full, EmbedOut)
    assert [feature.shape for feature in short.features] == [(7, WIDTH), (WIDTH,)]
    assert full.features[0].shape == (LENGTH, WIDTH)
    assert getattr(long, "reason", None) == "caption_too_long_for_encoder"


@pytest.mark.parametrize("hold_out", ["train", "held_out"])
def test_the_manifest_keeps_every_scene_with_all_that_trainers_read(hold_out: str, tmp_path: Path) -> None:
    plain = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    plain["source"] |= {"scenes": 20, "seed": FIRST_SEED, "hold_out": hold_out}
    kept = run(yaml.safe_dump(plain), tmp_path)
    assert sorted(kept) == list(range(FIRST_SEED, FIRST_SEED + 20))
    for seed, record in kept.items():
        settings = ArrangedSettings(hold_out="train" if hold_out == "train" else "held_out")
        text, named = tell(make_arranged(seed, settings), "shape")
        assert record.caption == text and record.subjects and record.prompt
        assert [(s.phrase, s.span) for s in record.subjects] == [(m.phrase, m.span) for m in named]
        assert all(subject.mask and subject.crop for subject in record.subjects)
        assert [image.phrase for image in record.prompt.images] == [mention.phrase for mention in named]
        assert {feature.name for feature in record.features} == {
            "caption_clip_states", "caption_clip_pooled", "image_clip_vector", "canny_clip_vector",
            *(f"subject{number}_clip_vector" for number in range(len(named))),
        }  # fmt: skip
