"""Against transformers' own forward pass, with each kind of language model, from a folder as it is published."""

import numpy as np
import pytest
import torch

from tests.stages.models.tiny_captioner import SIDE, save
from tests.training.encoders.test_mllm import conditions, picture
from training.encoders.blip2 import Blip2
from training.torchvision_compat import ensure_torchvision
from training.weights import Weights

ensure_torchvision()

from transformers import Blip2ForConditionalGeneration, BlipImageProcessorPil  # noqa: E402


@pytest.fixture(scope="module", params=["blip2_opt", "blip2_t5"])
def folder(request, tmp_path_factory):
    return save(request.param, tmp_path_factory.mktemp(request.param))


def given(*row):
    found = conditions(row)
    pictures = tuple(picture(part, SIDE) for part in row if not isinstance(part, str))
    return type(found)(prompts=found.prompts, references=(pictures,), features={})


def test_states_are_those_of_the_whole_model_with_its_own_processor(folder):
    reader = Blip2(source=Weights(name=str(folder))).build().requires_grad_(False)
    prompt = given("the dog ", 1, " on the beach with ", 2)
    written = reader.layout.write(prompt.prompts[0].interleaved)
    processor = BlipImageProcessorPil.from_pretrained(folder)
    pixels = processor([np.asarray(each) for each in prompt.references[0]], return_tensors="pt")["pixel_values"]
    network = Blip2ForConditionalGeneration.from_pretrained(folder).eval()
    ids = torch.tensor([written.ids])
    options = {} if network.config.use_decoder_only_language_model else {"decoder_input_ids": torch.zeros(1, 1).long()}
    with torch.no_grad():
        outputs = network(
            pixels, ids, attention_mask=torch.ones_like(ids), output_hidden_states=True, **options
        ).language_model_outputs
    theirs = outputs.encoder_last_hidden_state if options else outputs.hidden_states[-1]
    torch.testing.assert_close(reader(prompt).tokens, theirs, atol=5e-5, rtol=5e-5)


def test_an_empty_prompt_has_a_state(folder):
    reader = Blip2(source=Weights(name=str(folder))).build().requires_grad_(False)
    assert reader(given()).tokens.shape == (1, 1, 32)


def test_its_blocks_are_the_layers_of_its_language_model(folder):
    reader = Blip2(source=Weights(name=str(folder))).build()
    assert len(reader.network.blocks()) == 2


def test_without_weights_it_is_of_the_same_sizes(folder):
    config = Blip2(source=Weights(name=str(folder)))
    shapes = {name: p.shape for name, p in config.build().named_parameters()}
    with torch.device("meta"):
        assert {name: p.shape for name, p in config.build(load=False).named_parameters()} == shapes
