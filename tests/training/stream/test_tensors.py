import subprocess
import sys

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from tests.training.stream.make import draw_record, draws, example_of, with_features
from training.stream.buckets import Buckets
from training.stream.collate import Batch, Place, collate
from training.stream.prepare import Prepared, prepare
from training.stream.prompts.unimo_g import UnimoG
from training.stream.recipe import StreamRecipe
from training.stream.tensors import allocate_pinned, to_tensors

FEATURES = ("caption_bigg_states", "image_bigg_vector")


PLACE = Place(epoch=0, step=0, ratio=1.0, size=(64, 64))


def batch() -> Batch:
    return collate(samples(), PLACE)


def samples() -> list[Prepared]:
    recipe = StreamRecipe(
        builder=UnimoG(drop_rate=0, text_only_rate=0, side=None),
        buckets=Buckets(ratios=(1.0,), base=64),
        masks=True,
        controls=("depth",),
        features=FEATURES,
    )
    examples = [example_of(with_features(draw_record(f"sample{n}", subjects=3))) for n in range(3)]
    return [prepare(example, recipe, (64, 64), draws(example.key)) for example in examples]


def test_tensors_hold_what_the_batch_holds():
    arrays = batch()
    tensors = to_tensors(arrays)
    assert np.array_equal(tensors.images.numpy(), arrays.images)
    for found, pack in (
        (tensors.references, arrays.references),
        (tensors.masks, arrays.masks),
        (tensors.controls["depth"], arrays.controls["depth"]),
    ):
        assert len(found) == len(pack) > 0
        assert all(np.array_equal(one.numpy(), other) for one, other in zip(found, pack.views(), strict=True))
    assert {part.dtype for part in tensors.masks} == {torch.bool}
    for name in FEATURES:
        assert np.array_equal(tensors.features[name].numpy(), arrays.features[name])


def test_on_the_cpu_nothing_is_copied():
    arrays = batch()
    assert np.shares_memory(to_tensors(arrays).images.numpy(), arrays.images)


def test_features_of_several_shapes_travel_as_one_array():
    whole, *_ = some = samples()
    value = whole.features["caption_bigg_states"]
    ragged = ({"it": value}, {}, {"it": value[:2]})
    apart = [replace(sample, features=features) for sample, features in zip(some, ragged, strict=True)]
    found = to_tensors(collate(apart, PLACE)).features["it"]
    assert found[1] is None
    assert found[0].untyped_storage().data_ptr() == found[2].untyped_storage().data_ptr()
    assert np.array_equal(found[0].numpy(), value)
    assert np.array_equal(found[2].numpy(), value[:2])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU to pin memory for")
def test_pinned_memory_is_what_a_batch_can_be_made_in():
    memory = allocate_pinned((2, 3, 4), np.float32)
    assert memory.shape == (2, 3, 4) and memory.dtype == np.float32
    memory[...] = 7
    assert torch.from_numpy(memory).is_pinned()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_pinned_memory_is_refused():
    with pytest.raises(RuntimeError, match="pin"):
        allocate_pinned((2, 3), np.uint8)


def test_torch_is_imported_only_when_tensors_are_made():
    code = "import sys, training.stream.tensors, training.stream.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
