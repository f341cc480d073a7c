from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tests.training.stream.make import draw_record, draws, example_of, with_features
from training.stream.buckets import Buckets
from training.stream.collate import Batch, Packed, Place, batch_crc, collate
from training.stream.prepare import Prepared, prepare
from training.stream.prompts.unimo_g import UnimoG
from training.stream.recipe import STREAM_RECIPES, StreamRecipe

SIZE = (64, 64)
PLACE = Place(epoch=0, step=3, ratio=1.0, size=SIZE)
RECIPE = StreamRecipe(
    builder=UnimoG(side=None, drop_rate=0), buckets=Buckets(ratios=(1.0,), base=64), masks=True, controls=("canny",)
)
EXAMPLES = [example_of(with_features(draw_record(f"sample{n}", 90 + n, 80, n % 6))) for n in range(6)]


def prepared(recipe: StreamRecipe = RECIPE, size: tuple[int, int] = SIZE) -> list[Prepared]:
    return [prepare(example, recipe, size, draws(example.key)) for example in EXAMPLES]


SAMPLES = prepared()


@given(st.lists(st.sampled_from(SAMPLES), min_size=1, max_size=8))
def test_every_picture_and_mask_is_found_again_with_its_sample_and_reference(samples):
    batch = collate(samples, PLACE)
    assert np.array_equal(batch.images, np.stack([sample.image for sample in samples]))
    assert batch.keys == tuple(sample.key for sample in samples)
    assert batch.framings == tuple(sample.framing for sample in samples)
    for pack, rows in (
        (batch.references, [sample.references for sample in samples]),
        (batch.masks, [sample.masks for sample in samples]),
        (batch.controls["canny"], [(sample.controls["canny"],) for sample in samples]),
    ):
        assert len(pack) == sum(part is not None for row in rows for part in row)
        for view, row, place in zip(pack.views(), pack.sample, pack.reference, strict=True):
            assert np.shares_memory(view, pack.buffer)
            assert np.array_equal(view, rows[row][place])


def test_pictures_of_one_shape_are_one_array_and_others_say_why_not():
    recipe = replace(RECIPE, builder=UnimoG(side=16, drop_rate=0, text_only_rate=0))
    pack = collate(prepared(recipe), PLACE).references
    assert pack.stacked.shape == (len(pack), 16, 16, 3)
    assert np.shares_memory(pack.stacked, pack.buffer)
    assert np.array_equal(pack.stacked, np.stack(pack.views()))
    with pytest.raises(ValueError, match="one shape"):
        _ = collate(SAMPLES, PLACE).references.stacked


def test_a_batch_without_references_has_empty_packs():
    batch = collate(prepared(STREAM_RECIPES["plain"](64)), PLACE)
    assert len(batch.references) == len(batch.masks) == 0
    assert batch.references.views() == ()
    assert len(batch) == len(EXAMPLES)


def test_targets_decoded_into_the_batchs_memory_are_not_copied():
    images = np.zeros((len(EXAMPLES), 64, 64, 3), np.uint8)
    samples = [
        prepare(example, RECIPE, SIZE, draws(example.key), row) for example, row in zip(EXAMPLES, images, strict=True)
    ]
    batch = collate(samples, PLACE, images)
    assert batch.images is images
    assert batch_crc(batch) == batch_crc(collate(SAMPLES, PLACE))


def test_all_memory_comes_from_the_allocator():
    given_out = []

    def allocate(shape, dtype):
        given_out.append(np.zeros(shape, dtype))
        return given_out[-1]

    batch = collate(
        prepared(STREAM_RECIPES["lambda_eclipse"](70), (70, 70)), replace(PLACE, size=(70, 70)), None, allocate
    )
    stacked = [value for value in batch.features.values() if isinstance(value, np.ndarray)]
    for array in (batch.images, batch.references.buffer, batch.masks.buffer, *stacked):
        assert any(array is part for part in given_out)


def test_features_are_stacked_where_all_samples_have_them_in_one_shape():
    batch = collate(prepared(STREAM_RECIPES["lambda_eclipse"](70), (70, 70)), replace(PLACE, size=(70, 70)))
    assert isinstance(batch.features["caption_bigg_states"], np.ndarray)
    assert batch.features["caption_bigg_states"].shape == (6, 7, 4)
    some = batch.features["subject0_bigg_vector"]
    assert isinstance(some, Packed)
    assert some.sample.tolist() == [1, 2, 3, 4, 5]
    assert some.shapes == ((4,),) * 5


def test_equal_batches_have_equal_crcs_and_any_difference_shows():
    batch = collate(SAMPLES, PLACE)
    assert batch_crc(batch) == batch_crc(collate(prepared(), PLACE))
    crcs = {batch_crc(batch), batch_crc(collate(SAMPLES[::-1], PLACE)), batch_crc(collate(SAMPLES[:-1], PLACE))}
    crcs |= {batch_crc(other) for other in _changed(batch)}
    assert len(crcs) == 13


def _changed(batch: Batch) -> list[Batch]:
    """The batch with one value changed, in each of its parts."""
    prompt = structs.replace(batch.prompts[0], caption="another")
    found = [replace(batch, place=replace(batch.place, step=4)), replace(batch, prompts=(prompt, *batch.prompts[1:]))]
    framing = structs.replace(batch.framings[0], left=batch.framings[0].left + 1)
    found.append(replace(batch, framings=(framing, *batch.framings[1:])))
    images = batch.images.copy()
    images[2, 3, 4, 1] ^= 1
    found.append(replace(batch, images=images))
    for name in ("references", "masks"):
        pack = getattr(batch, name)
        buffer = pack.buffer.copy()
        buffer[5] ^= True
        found.append(replace(batch, **{name: replace(pack, buffer=buffer)}))
    turned = replace(batch.references, shapes=tuple((w, h, 3) for h, w, _ in batch.references.shapes))
    others = replace(batch.masks, reference=batch.masks.reference[::-1].copy())
    found += [replace(batch, references=turned), replace(batch, masks=others)]
    found += [replace(batch, controls={"depth": batch.controls["canny"]})]
    return [*found, replace(batch, features={"image_a_vector": batch.images[:, 0, :, 0]})]
