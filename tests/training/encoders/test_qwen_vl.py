"""Against transformers' own processor and forward pass, from a folder as it is published."""

import numpy as np
import pytest
import torch

from training.encoders.qwen_vl import QwenVl, QwenVlSizes
from training.torchvision_compat import ensure_torchvision
from training.weights import Weights

ensure_torchvision()

from transformers import (  # noqa: E402
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from tests.training.encoders.test_mllm import conditions, picture  # noqa: E402

SIZES = QwenVlSizes(width=32, layers=2, heads=2, vision_width=32, vision_layers=2, patch=4)


def qwen2_5_vl(config):
    return Qwen2_5_VLForConditionalGeneration(config), Qwen2VLImageProcessorPil(patch_size=4)


def qwen3_vl(config):
    """Its ids and language model's sizes; a vision tower of its own."""
    own = Qwen3VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "num_heads": 2,
            "intermediate_size": 48,
            "out_hidden_size": 32,
            "patch_size": 4,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        text_config={**config.text_config.to_dict(), "model_type": "qwen3_vl_text", "head_dim": 16},
        image_token_id=config.image_token_id,
        video_token_id=config.video_token_id,
        vision_start_token_id=config.vision_start_token_id,
        vision_end_token_id=config.vision_end_token_id,
    )
    processor = Qwen2VLImageProcessorPil(patch_size=4, image_mean=[0.5] * 3, image_std=[0.25] * 3)
    return Qwen3VLForConditionalGeneration(own), processor


@pytest.fixture(scope="module", params=[qwen2_5_vl, qwen3_vl])
def published(request, tmp_path_factory):
    """A folder, its network with a head, and its image processor."""
    folder = tmp_path_factory.mktemp(request.param.__name__)
    torch.manual_seed(0)
    fresh = QwenVl(source=SIZES, side=16).build()
    network, processor = request.param(fresh.network.model.config)
    for part in (network, processor, fresh.layout.tokenizer):
        part.save_pretrained(folder)
    return folder, network.eval(), processor


def test_states_are_those_of_the_whole_model_with_its_own_processor(published):
    folder, network, processor = published
    reader = QwenVl(source=Weights(name=str(folder)), side=16).build()
    given = conditions(("a ", 1, " and ", 2, " b"))
    pixels = processor([np.asarray(each) for each in given.references[0]], do_resize=False, return_tensors="pt")
    written = reader.layout.write(given.prompts[0].interleaved)
    ids = torch.tensor([written.ids])
    with torch.no_grad():
        theirs = network.model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(torch.tensor([written.entity]) > 0).int(),
            **pixels,
        ).last_hidden_state
        ours = reader.requires_grad_(False)(given).tokens
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)  # pixels are normalised in another order


def test_without_weights_it_is_of_the_same_sizes(published):
    folder, *_ = published
    config = QwenVl(source=Weights(name=str(folder)), side=16)
    shapes = {name: p.shape for name, p in config.build().named_parameters()}
    with torch.device("meta"):
        assert {name: p.shape for name, p in config.build(load=False).named_parameters()} == shapes


@pytest.mark.parametrize(("side", "tokens"), [(16, 4), (24, 9)])
def test_each_picture_takes_as_many_tokens_as_its_side_says(side, tokens):
    reader = QwenVl(source=SIZES, side=side).build()
    assert reader.layout.tokens_per_image == tokens
    given = conditions(("a ", 1))
    given = type(given)(prompts=given.prompts, references=((picture(1, side),),), features={})
    assert int((reader(given).entity == 1).sum()) == tokens


def test_a_side_that_does_not_fit_is_told():
    with pytest.raises(ValueError, match="side must be a multiple of 8, which is a token of this model, got 20"):
        QwenVl(source=SIZES, side=20).build()


def test_another_model_is_told(tmp_path):
    from transformers import LlamaConfig

    LlamaConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a llama model, expected qwen2_5_vl or qwen3_vl"):
        QwenVl(source=Weights(name=str(tmp_path))).build()


def test_missing_weights_are_told_with_the_remedy(tmp_path):
    with pytest.raises(OSError, match=r"must hold config\.json"):
        QwenVl(source=Weights(name=str(tmp_path))).build()
