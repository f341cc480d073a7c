from dataclasses import replace

import numpy as np
import pytest

from stages.masks import decode_mask
from stages.pixels import read_picture, write_jpeg
from tests.training.stream.make import draw_record, draws, example_of, members_of, smooth, with_features
from training.stream.buckets import Buckets
from training.stream.collate import Place, batch_crc, collate
from training.stream.example import SampleError, parse_example
from training.stream.geometry import frame_mask, frame_pixels
from training.stream.prepare import Prepared, prepare
from training.stream.prompts.emma import Emma
from training.stream.prompts.mumu import Augment, Mumu
from training.stream.prompts.unimo_g import UnimoG
from training.stream.recipe import STREAM_RECIPES, StreamRecipe

RECORD = with_features(draw_record(width=150, height=100))
EXAMPLE = example_of(RECORD)
SIZE = (64, 64)
ALL = StreamRecipe(
    builder=UnimoG(replace_rate=1, text_only_rate=0, drop_rate=0, side=32),
    buckets=Buckets(ratios=(1.0,), base=64),
    masks=True,
    controls=("canny", "depth", "sketch"),
    flip_rate=0.5,
)


def crc(prepared: Prepared) -> int:
    return batch_crc(collate([prepared], Place(epoch=0, step=0, ratio=1.0, size=SIZE)))


@pytest.mark.parametrize("name", STREAM_RECIPES)
def test_what_is_prepared_depends_on_the_sample_and_its_draws_and_on_nothing_before(name):
    recipe = STREAM_RECIPES[name](64 if name != "lambda_eclipse" else 70)
    size = recipe.buckets.sizes[0]
    place = Place(epoch=0, step=0, ratio=1.0, size=size)

    def crcs(keys: list[str]) -> dict[str, int]:
        return {key: batch_crc(collate([prepare(EXAMPLE, recipe, size, draws(key))], place)) for key in keys}

    keys = [str(number) for number in range(6)]
    assert crcs(keys) == crcs(keys[::-1])


def test_target_controls_and_masks_undergo_one_geometry():
    for number in range(10):
        found = prepare(EXAMPLE, ALL, SIZE, draws(str(number)))
        assert np.array_equal(found.image, frame_pixels(read_picture(RECORD.image), found.framing))
        for kind, control in zip(("canny", "depth"), RECORD.controls, strict=True):
            assert np.array_equal(found.controls[kind], frame_pixels(read_picture(control.picture), found.framing))
        for reference, mask in zip(found.prompt.references, found.masks, strict=True):
            whole = decode_mask(RECORD.subjects[reference.subject].mask)
            assert np.array_equal(mask, frame_mask(whole, found.framing))
            ys, xs = np.nonzero(mask)
            box = reference.box
            assert xs.min() + 1 >= box[0] and xs.max() <= box[2] and ys.min() + 1 >= box[1] and ys.max() <= box[3]
    assert {prepare(EXAMPLE, ALL, SIZE, draws(str(n))).framing.is_flipped for n in range(10)} == {True, False}


def test_only_what_the_recipe_wants_is_decoded():
    found = prepare(EXAMPLE, replace(ALL, masks=False, controls=()), SIZE, draws())
    assert set(found.masks) == {None}
    assert found.controls == {} and found.features == {}


def test_what_learns_from_features_alone_needs_no_pixels():
    recipe = STREAM_RECIPES["lambda_eclipse"](70)
    found, whole = (prepare(EXAMPLE, replace(recipe, pixels=p), (70, 70), draws()) for p in (False, True))
    assert (found.image.shape, whole.image.shape) == ((0, 0, 3), (70, 70, 3))
    assert (found.prompt, found.framing) == (whole.prompt, whole.framing)
    assert all(np.array_equal(found.features[name], whole.features[name]) for name in whole.features)


def test_style_is_the_target_also_where_that_is_not_wanted_itself():
    recipe = STREAM_RECIPES["emma_style"](64)
    found, whole = (prepare(EXAMPLE, replace(recipe, pixels=p), SIZE, draws()) for p in (False, True))
    for one, other in zip(found.references, whole.references, strict=True):
        assert one is not None and np.array_equal(one, other)


def test_the_target_is_written_where_it_is_wanted():
    batch = np.zeros((3, 64, 64, 3), np.uint8)
    found = prepare(EXAMPLE, ALL, SIZE, draws(), batch[1])
    assert np.shares_memory(found.image, batch)
    assert np.array_equal(batch[1], prepare(EXAMPLE, ALL, SIZE, draws()).image)
    assert not batch[[0, 2]].any()


@pytest.mark.parametrize("flip_rate", [0.0, 1.0])
def test_a_target_of_its_buckets_size_comes_out_as_stored(flip_rate):
    record = draw_record(width=64, height=64)
    recipe, out = replace(ALL, flip_rate=flip_rate), np.zeros((64, 64, 3), np.uint8)
    prepare(example_of(record), recipe, SIZE, draws(), out)
    stored = read_picture(record.image)
    assert np.array_equal(out, stored[:, ::-1] if flip_rate else stored)


def test_a_much_larger_target_is_decoded_smaller_and_looks_the_same():
    record = draw_record(width=640, height=640)
    found = prepare(example_of(record), ALL, SIZE, draws())
    exact = frame_pixels(read_picture(record.image), found.framing)
    assert np.abs(found.image.astype(int) - exact).mean() < 3


def test_references_are_squares_of_their_side_padded_with_their_colour():
    found = prepare(EXAMPLE, ALL, SIZE, draws())
    for reference, pixels in zip(found.prompt.references, found.references, strict=True):
        crop = RECORD.subjects[reference.subject].crop
        assert pixels.shape == (32, 32, 3)
        if abs(crop.width - crop.height) > 4:
            assert (pixels[0, 0] == 255).all() and (pixels[-1, -1] == 255).all()


def test_without_a_side_references_are_as_they_are_stored():
    recipe = replace(ALL, builder=replace(ALL.builder, side=None))
    found = prepare(EXAMPLE, recipe, SIZE, draws())
    for reference, pixels in zip(found.prompt.references, found.references, strict=True):
        assert np.array_equal(pixels, read_picture(RECORD.subjects[reference.subject].crop))


def test_a_control_in_the_prompt_is_framed_as_the_target():
    builder = Mumu(control_rate=1, drop_rate=0, images_drop_rate=0, side=64)
    found = prepare(EXAMPLE, replace(ALL, builder=builder), SIZE, draws())
    assert found.prompt.references[0].role == "control"
    assert np.array_equal(found.references[0], found.controls[found.prompt.references[0].name])


@pytest.mark.parametrize("side", [None, 40])
@pytest.mark.parametrize(
    ("role", "builder"),
    [
        ("subject", UnimoG(replace_rate=1, text_only_rate=0, drop_rate=0)),
        ("head", Mumu(head_rate=1, control_rate=0, drop_rate=0, images_drop_rate=0, augment=Augment(rate=0))),
        ("face", Emma(condition="face", image_drop_rate=0, both_drop_rate=0)),
        ("region", Emma(condition="region", image_drop_rate=0, both_drop_rate=0)),
    ],
)
def test_references_are_mirrored_where_the_target_is(role, builder, side):
    recipe = replace(ALL, builder=replace(builder, side=side, min_visible=0.0))
    flipped, plain = (prepare(EXAMPLE, replace(recipe, flip_rate=rate), SIZE, draws()) for rate in (1.0, 0.0))
    assert np.array_equal(flipped.image, plain.image[:, ::-1])
    assert role in [reference.role for reference in plain.prompt.references]
    for one, other in zip(flipped.references, plain.references, strict=True):
        off, before = (np.abs(one.astype(int) - like).mean() for like in (other[:, ::-1], other))
        assert off == 0 if side is None else off < before / 2  # a square's padding may be a pixel wider on one side
        assert before > 5


def test_a_reference_that_is_flipped_by_itself_is_mirrored_once_more_where_the_target_is():
    augment = Augment(rate=1, min_crop=1, flip_rate=1, grey_rate=0, min_noise=0, max_noise=0)
    base = Mumu(control_rate=0, drop_rate=0, images_drop_rate=0, side=None, augment=augment)
    twice = prepare(EXAMPLE, replace(ALL, builder=base, flip_rate=1.0), SIZE, draws())
    never = prepare(EXAMPLE, replace(ALL, builder=replace(base, augment=Augment(rate=0)), flip_rate=0), SIZE, draws())
    assert twice.references
    for one, other in zip(twice.references, never.references, strict=True):
        assert np.array_equal(one, other)


def test_style_is_the_framed_target_itself():
    builder = Emma(condition="style", side=64, image_drop_rate=0, text_drop_rate=0, both_drop_rate=0)
    found = prepare(EXAMPLE, replace(ALL, builder=builder), SIZE, draws())
    assert np.array_equal(found.references[0], found.image)


def test_noise_is_on_the_picture_and_not_on_its_padding():
    augment = Augment(rate=1, min_crop=1, flip_rate=0, grey_rate=0, min_noise=0.2, max_noise=0.3)
    base = Mumu(control_rate=0, head_rate=0, drop_rate=0, images_drop_rate=0, side=64, augment=augment)
    noisy = prepare(EXAMPLE, replace(ALL, builder=base), SIZE, draws())
    clean = prepare(EXAMPLE, replace(ALL, builder=replace(base, augment=Augment(rate=0))), SIZE, draws())
    for one, other in zip(noisy.references, clean.references, strict=True):
        padding = (other == 0).all(axis=2)
        edge = padding.all(axis=1)[:, None] | padding.all(axis=0)[None]
        assert (one[edge] == 0).all()
        assert np.abs(one[~edge].astype(int) - other[~edge]).mean() > 20


def test_features_come_from_the_prompt_and_the_recipe():
    recipe = replace(STREAM_RECIPES["lambda_eclipse"](70), features=("subject0_bigg_vector",))
    found = prepare(EXAMPLE, recipe, (70, 70), draws())
    assert set(found.references) == {None}
    wanted = {"subject0_bigg_vector", "caption_bigg_states", "image_bigg_vector", "subject2_bigg_vector"}
    assert wanted <= set(found.features)
    assert "subject0" not in {reference.name for reference in found.prompt.references}  # the crop does not show it


@pytest.mark.parametrize("member", ["jpg", "subject2.jpg", "subject3.mask.png", "depth.png"])
@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"no picture"])
def test_damage_to_anything_that_is_wanted_is_the_samples_error_and_names_it(member, damage):
    members = members_of(RECORD)
    members[member] = damage(members[member])
    example = parse_example("sample", members, 150, 100)
    with pytest.raises(SampleError, match=rf"sample\.{member}") as error:
        prepare(example, ALL, SIZE, draws())
    assert error.value.reason == "bad_image"


def test_too_many_pixels_are_refused_in_every_member():
    large = write_jpeg(smooth(np.random.default_rng(0), 400, 400))
    subjects = [replace(subject, crop=large) if n == 2 else subject for n, subject in enumerate(RECORD.subjects)]
    record = replace(RECORD, subjects=tuple(subjects))
    with pytest.raises(SampleError, match=r"sample\.subject2\.jpg") as error:
        prepare(example_of(record), replace(ALL, max_pixels=399 * 400), SIZE, draws())
    assert error.value.reason == "bomb"


def test_any_picture_with_text_trains_as_text_to_image():
    picture = members_of(RECORD)["jpg"]
    example = parse_example("plain", {"jpg": picture, "txt": b"a drawing"}, 150, 100)
    found = prepare(example, STREAM_RECIPES["mumu"](64), SIZE, draws("plain"))
    assert found.prompt.caption == "a drawing" and found.references == ()


def test_epochs_differ():
    assert crc(prepare(EXAMPLE, ALL, SIZE, draws(epoch=0))) != crc(prepare(EXAMPLE, ALL, SIZE, draws(epoch=1)))


@pytest.mark.parametrize(("width", "height"), [(2, 6000), (6000, 2), (1, 64 * 130)])
def test_a_line_of_pixels_is_refused_before_it_is_blown_up(width, height):
    line = replace(RECORD, image=write_jpeg(smooth(np.random.default_rng(0), width, height)), subjects=(), regions=())
    thin = example_of(replace(line, faces=(), controls=(), features=()))
    for size in Buckets(base=512).sizes:
        with pytest.raises(
            SampleError, match=rf"{width} x {height} pixels would have to be resized to \d+ x \d+"
        ) as error:
            prepare(thin, ALL, size, draws())
        assert error.value.reason == "bomb"


def test_a_long_picture_fills_its_bucket():
    long = replace(RECORD, image=write_jpeg(smooth(np.random.default_rng(0), 20, 600)), subjects=(), regions=())
    example = example_of(replace(long, faces=(), controls=(), features=()))
    assert prepare(example, ALL, SIZE, draws()).image.shape == (64, 64, 3)
