"""T5 as a reader: the engine's own states, of a fixed number of tokens."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.base import Context
from stages.embed import Embed, EmbedIn
from stages.embed_params import EmbedParams
from tests.stages.models.tiny_encoders import t5_folder
from tests.training.batches import batch
from tests.training.stream.make import draw_record
from training.encoders import t5 as module
from training.encoders.t5 import T5, T5Sizes, T5Text, empty_states
from training.encoders.t5_features import T5Features
from training.families.base import Conditions
from training.families.emma import EmmaConfig
from training.fit.activations import activations_of
from training.fit.parallel import Layout
from training.recipe_emma import ella_tiny
from training.stream.prompts.base import Prompt, weave
from training.weights import Weights

FRESH = T5(source=T5Sizes(width=16, layers=1, heads=2), length=12)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INLAY_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> T5:
    return T5(source=Weights(name=str(t5_folder(tmp_path_factory.mktemp("t5")))), length=10)


@pytest.fixture(scope="module")
def reader() -> T5Text:
    torch.manual_seed(0)
    return FRESH.build()


def prompts(*texts: str) -> tuple[Prompt, ...]:
    return tuple(Prompt(interleaved=weave(text, (), "side"), caption=text or "dropped") for text in texts)


def features(reader: T5Text, *texts: str, empty: torch.Tensor | None = None, **kept: object) -> T5Features:
    conditions = Conditions(prompts=prompts(*texts), references=((),) * len(texts), features=kept)
    return T5Features(conditions, "caption_t5_states", 12, 16, empty, lambda: reader)


def test_states_are_of_so_many_tokens_whatever_the_text(reader: T5Text) -> None:
    found = reader.read(["a dog", "", "a cat on the beach"])
    assert found.states.shape == (3, 12, 16) and found.states.dtype == torch.float32
    assert found.is_cut.tolist() == [False, False, True]
    assert not any(parameter.requires_grad for parameter in reader.parameters())


def test_a_text_that_just_fits_is_not_cut_and_ends_as_all_do(reader: T5Text) -> None:
    fitting, cut = reader._ids("12345678901"), reader._ids("123456789012")
    assert (len(fitting[0]), fitting[1], len(cut[0]), cut[1]) == (12, False, 12, True)
    assert fitting[0][-1] == cut[0][-1] == reader.tokenizer.eos_token_id


def test_texts_do_not_touch_each_other(reader: T5Text) -> None:
    together, alone = reader.read(["a dog", "a cat"]), reader.read(["a cat"])
    torch.testing.assert_close(together.states[1:], alone.states)


def test_they_are_those_that_the_engine_keeps_with_padding(published: T5) -> None:
    assert isinstance(published.source, Weights)
    params = EmbedParams(kind="t5", model=published.source.name, max_length=10, padding=True, dtype="float32")
    record = draw_record()
    given = EmbedIn(
        caption="a red dog runs", image=record.image, subjects=(), faces=(), regions=(), controls=(), features=()
    )
    (out,) = Embed.load(params, Context(device="cpu", seed=0)).process([given])
    kept = np.frombuffer(out.features[0].data[-10 * 16 * 4 :], np.float32).reshape(10, 16)
    live = published.build().read(["a red dog runs"]).states[0]
    torch.testing.assert_close(live, torch.from_numpy(kept.copy()), atol=1e-5, rtol=1e-4)


def test_t5_is_loaded_once_on_a_machine_for_the_empty_text(published: T5, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = published.build().read([""]).states[0]
    assert torch.equal(empty_states(published), expected)
    monkeypatch.setattr(module, "_pretrained", None)
    assert torch.equal(empty_states(published), expected)
    assert published.width() == 16 and FRESH.width() == 16


def test_what_is_kept_is_not_asked_for(reader: T5Text, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    read = reader.read
    monkeypatch.setattr(reader, "read", lambda texts: asked.extend(texts) or read(texts))
    kept, empty = torch.randn(12, 16).half(), torch.ones(12, 16)
    states = features(reader, "a", "a dog", "", "b", "b", empty=empty, caption_t5_states=(kept, None, kept, None, None))
    found = states.states(torch.device("cpu"))
    assert asked == ["a dog", "b"]
    assert torch.equal(found.states[0], kept.float()) and torch.equal(found.states[2], empty)
    assert torch.equal(found.states[3], found.states[4])
    assert found.is_cut.tolist() == [False] * 5


def test_without_known_states_of_the_empty_text_it_is_asked_for(reader: T5Text) -> None:
    found = features(reader, "", "a").states(torch.device("cpu"))
    torch.testing.assert_close(found.states[0], reader.read([""]).states[0])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (7, 16),
            r"has 7 tokens, the connector reads 12, those that fill up too: set padding: true and max_length: 12",
        ),
        ((12, 8), "has 8 channels, the connector takes 16"),
    ],
)
def test_features_that_do_not_fit_are_told_with_the_remedy(reader: T5Text, shape, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        features(reader, "a", caption_t5_states=torch.zeros(1, *shape)).states(torch.device("cpu"))


def test_a_step_is_gone_through_in_shapes_though_t5_reads_live(published: T5) -> None:
    recipe = ella_tiny()
    assert isinstance(recipe.family, EmmaConfig)
    family = replace(recipe.family, text=published, ella=replace(recipe.family.ella, text_dim=16))
    layout = Layout(mode="single", device=torch.device("cpu"), size=1)
    assert activations_of(replace(recipe, family=family), batch([0, 0]).batch, layout).bytes > 0


def test_weights_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        T5(source=Weights(name=str(tmp_path / "nowhere"))).build()
