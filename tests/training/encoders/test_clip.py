"""CLIP live against the engine's ``embed``: the same network must say the same."""

import numpy as np
import pytest
import torch

from stages.embed_params import EmbedParams
from stages.models.encoders import load_encoder
from training.encoders.clip import Clip, load_clip, load_clip_tokenizer
from training.modules.overwrite import tokenise
from training.weights import Weights

BUNDLED = Weights(name="stages/data/shapes_clip")
TEXTS = ["a circle on the left", "two hearts"]


@pytest.fixture(scope="module")
def clip() -> Clip:
    return load_clip(BUNDLED)


def test_states_and_pooled_text_are_those_of_the_engine(clip: Clip) -> None:
    texts = tokenise(load_clip_tokenizer(BUNDLED), TEXTS, clip.length)
    found = clip.read(texts)
    kept = load_encoder(EmbedParams(kind="clip_text", model="shapes_clip"), "cpu")(TEXTS)
    for number, (text, row) in enumerate(zip(texts, kept, strict=True)):
        assert row is not None
        np.testing.assert_allclose(found.pooled[number].numpy(), row["pooled"], atol=1e-5)
        np.testing.assert_allclose(
            found.states[number][: len(text.ids)].numpy(), row["states"][: len(text.ids)], atol=1e-5
        )


def test_vectors_of_squares_are_those_of_the_engine(clip: Clip) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    params = EmbedParams(kind="clip_image", model="shapes_clip", of=("image",), fit="own")
    encoder = load_encoder(params, "cpu")
    squares = encoder.encode([torch.from_numpy(each).permute(2, 0, 1).contiguous() for each in pictures])
    found = clip.see([torch.from_numpy(each) for each in pictures])
    for ours, theirs in zip(found, squares, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs["vector"], atol=1e-5)


def test_no_picture_is_one_vector_whatever_is_seen(clip: Clip) -> None:
    nothing = clip.see_nothing()
    assert nothing.shape == (128,) and torch.equal(nothing, clip.see_nothing())


def test_a_folder_without_a_tokenizer_says_so(tmp_path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(OSError, match="tokenizer"):
        load_clip_tokenizer(Weights(name=str(tmp_path)))
