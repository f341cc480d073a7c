"""Against transformers' own processor and model without its perceiver, from a folder as it is published."""

import numpy as np
import pytest
import torch
from PIL import Image

from manifests.prompt import ImageSegment, InterleavedPrompt, TextSegment
from tests.training.encoders.test_mllm import IDEFICS2, SIDE, conditions, picture
from training.encoders.idefics2 import IDEFICS2_8B, Idefics2
from training.torchvision_compat import ensure_torchvision
from training.weights import Weights

ensure_torchvision()

from transformers import (  # noqa: E402
    Idefics2ForConditionalGeneration,
    Idefics2ImageProcessorPil,
    Idefics2Model,
    Idefics2Processor,
    LlamaTokenizer,
)

WORDS = ("▁man", "▁his", "▁dog", "▁a", "▁and", "man", "▁canny")


def tokenizer() -> LlamaTokenizer:
    """Of the published one's kind: SentencePiece's words and bytes, in small."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *map(chr, range(33, 127)), "▁"]
    merges = []
    for word in WORDS:
        for length in range(2, len(word) + 1):
            merges.append((word[: length - 1], word[length - 1]))
            pieces.append(word[:length])
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    made = LlamaTokenizer(vocab=vocabulary, merges=list(dict.fromkeys(merges)), pad_token="<unk>", add_bos_token=True)
    made.update_post_processor()
    made.add_special_tokens({"additional_special_tokens": ["<fake_token_around_image>", "<image>"]})
    return made


@pytest.fixture(scope="module")
def processor() -> Idefics2Processor:
    pictures = Idefics2ImageProcessorPil(
        do_image_splitting=False,
        size={"shortest_edge": SIDE, "longest_edge": SIDE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return Idefics2Processor(pictures, tokenizer(), image_seq_len=4)


@pytest.fixture(scope="module")
def published(processor, tmp_path_factory):
    """A folder, and its network with perceiver and head."""
    folder = tmp_path_factory.mktemp("idefics2")
    torch.manual_seed(0)
    config = IDEFICS2.build().network.model.config
    config.text_config.vocab_size = len(processor.tokenizer)
    config.image_token_id = processor.image_token_id
    network = Idefics2ForConditionalGeneration(config).eval()
    for part in (network, processor.image_processor, processor.tokenizer):
        part.save_pretrained(folder)
    return folder, network


def without_perceiver(network: Idefics2ForConditionalGeneration) -> Idefics2Model:
    class Projected(torch.nn.Module):
        def __init__(self, project):
            super().__init__()
            self.project = project

        def forward(self, states, attention_mask):
            return self.project(states)

    model = network.model
    model.connector = Projected(model.connector.modality_projection)
    return model


def test_states_are_those_of_transformers_model_without_its_perceiver(published, processor):
    folder, network = published
    reader = Idefics2(source=Weights(name=str(folder)), side=SIDE).build()
    given = conditions(("a ", 1, "man and his ", 2, "dog"))
    pictures = [Image.fromarray(np.asarray(each)) for each in given.references[0]]
    inputs = processor(text="a <image>man and his <image>dog", images=[pictures], return_tensors="pt")
    with torch.no_grad():
        theirs = without_perceiver(network)(**inputs).last_hidden_state
        ours = reader.requires_grad_(False)(given).tokens
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)  # pixels are normalised in another order


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a man and his dog",
        "a <image>man and his <image>dog in an <image>animated style",
        "<image>canny a <image>man",
        "<image><image>man, <image><image><image>",
        "a<image> man<image>and<image>.<image>",
        "<image>, a man of 5 < 6, <image> <image>ünder",
    ],
)
def test_tokens_are_those_of_transformers_processor(published, processor, text):
    folder, _ = published
    layout = Idefics2(source=Weights(name=str(folder)), side=SIDE).build().layout
    segments, marker = [], "<image>"
    for number, part in enumerate(text.split(marker)):
        segments += [ImageSegment(f"subject{number}", "", "before")] if number else []
        segments += [TextSegment(part)] if part else []
    written = layout.write(InterleavedPrompt(tuple(segments)))
    assert list(written.ids) == processor(text=text)["input_ids"][0]
    assert [e > 0 for e in written.entity] == [token == processor.image_token_id for token in written.ids]


def test_text_is_never_read_as_a_picture(published, processor):
    layout = Idefics2(source=Weights(name=str(published[0])), side=SIDE).build().layout
    written = layout.write(InterleavedPrompt((TextSegment("a <image> and <fake_token_around_image>"),)))
    assert not {processor.image_token_id, layout.closing[0]} & set(written.ids)


def test_black_and_blank_pictures_are_pictures(published):
    reader = Idefics2(source=Weights(name=str(published[0])), side=SIDE).build().requires_grad_(False)
    given = conditions(("a ", 1, " b"))
    black = torch.zeros(SIDE, SIDE, 3, dtype=torch.uint8)
    encoded = reader(type(given)(prompts=given.prompts, references=((black,),), features={}))
    assert encoded.tokens.isfinite().all() and int((encoded.entity == 1).sum()) == 4
    ids = torch.tensor([reader.layout.image])
    blank = torch.zeros(1, 3, SIDE, SIDE)
    assert reader.network(ids, torch.ones_like(ids) > 0, blank).isfinite().all()


def test_a_model_is_written_and_read_again_without_its_perceiver(published, tmp_path):
    folder, _ = published
    model = Idefics2(source=Weights(name=str(folder)), side=SIDE).build().network.model
    assert not [name for name, _ in model.named_parameters() if "perceiver" in name]
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert {name: p.tolist() for name, p in again.state_dict().items()} == {
        name: p.tolist() for name, p in model.state_dict().items()
    }


def test_without_weights_it_is_of_the_same_sizes(published):
    config = Idefics2(source=Weights(name=str(published[0])), side=SIDE)
    shapes = {name: p.shape for name, p in config.build().named_parameters()}
    with torch.device("meta"):
        assert {name: p.shape for name, p in config.build(load=False).named_parameters()} == shapes


def test_the_published_sizes_have_the_published_numbers_of_parameters():
    with torch.device("meta"):
        model = Idefics2(source=IDEFICS2_8B).build(load=False).network.model
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    words = 32_003 - model.config.text_config.vocab_size  # the published vocabulary is larger
    assert counts["vision_model"] == 417_792_240
    assert counts["connector"] == 91_750_400
    assert counts["text_model"] + words * 4096 == 7_110_672_384


@pytest.mark.parametrize(("side", "tokens"), [(252, 324), (504, 1296), (448, 1024), (980, 4900)])
def test_each_picture_takes_as_many_tokens_as_it_has_patches(side, tokens):
    with torch.device("meta"):
        reader = Idefics2(source=IDEFICS2_8B, side=side).build(load=False)
    assert reader.layout.tokens_per_image == tokens
    assert len(reader.layout.image) == tokens + 2


@pytest.mark.parametrize("side", [0, 12, 24])
def test_a_side_that_does_not_fit_is_told(side):
    with pytest.raises(ValueError, match=f"side must be a multiple of 8, which is a token .* up to 16, got {side}"):
        Idefics2(source=IDEFICS2.source, side=side).build()


def test_another_model_is_told(tmp_path):
    from transformers import LlamaConfig

    LlamaConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a llama model, expected idefics2"):
        Idefics2(source=Weights(name=str(tmp_path))).build()


def test_each_picture_is_read_by_itself(published):
    """Patches know their places: a picture and its mirror image are not read alike."""
    reader = Idefics2(source=Weights(name=str(published[0])), side=SIDE).build().requires_grad_(False)
    given = conditions(("a ", 1, " b"), ("a ", 2, " b"))
    one = picture(1)
    flipped = type(given)(prompts=given.prompts, references=((one,), (one.flip(1),)), features={})
    first, second = reader(flipped).tokens
    assert not torch.allclose(first, second, atol=1e-4)
