from collections import Counter

import pytest
from msgspec import structs

from tests.training.stream.make import CAPTION, draw_record, draws, example_of
from training.stream.geometry import frame
from training.stream.prompts.mumu import Augment, Mumu

EXAMPLE = example_of(draw_record())
TWO = example_of(draw_record(subjects=2))
WHOLE = frame((96, 64), (96, 64), draws(), "centre")
COUNT = 6000
KEEP = Mumu(drop_rate=0, images_drop_rate=0)


def built(builder: Mumu, example=EXAMPLE, count: int = COUNT):
    return [builder.build(example, WHOLE, draws(str(n))) for n in range(count)]


def test_images_stand_before_their_words_which_stay():
    prompt = Mumu(drop_rate=0, images_drop_rate=0, control_rate=0).build(TWO, WHOLE, draws())
    assert prompt.interleaved.render().startswith("a <subject0> man with a <subject1> red hat walks")
    assert prompt.text == CAPTION


def test_at_most_three_crops_enter_and_people_before_the_rest():
    found = built(Mumu(drop_rate=0, images_drop_rate=0, control_rate=0))
    assert {len(prompt.references) for prompt in found} == {3}
    shown = Counter(reference.name for prompt in found for reference in prompt.references)
    assert shown["subject0"] == COUNT
    assert all(shown[f"subject{n}"] / COUNT == pytest.approx(0.5, abs=0.03) for n in range(1, 5))


def test_seven_tenths_of_people_are_shown_by_their_heads():
    people = [prompt.references[-3] for prompt in built(KEEP)]
    assert {(person.role, person.member) for person in people} == {
        ("subject", "subject0.jpg"),
        ("head", "subject0.head.jpg"),
    }
    assert sum(person.role == "head" for person in people) / COUNT == pytest.approx(0.7, abs=0.025)


def test_three_tenths_begin_with_a_control_image_and_its_word():
    found = built(KEEP)
    controls = [prompt for prompt in found if prompt.references[0].role == "control"]
    assert len(controls) / COUNT == pytest.approx(0.3, abs=0.025)
    kinds = Counter(prompt.references[0].name for prompt in controls)
    assert kinds["canny"] / len(controls) == pytest.approx(0.5, abs=0.05)
    assert set(kinds) == {"canny", "depth"}
    for prompt in controls:
        assert prompt.text == f"{prompt.references[0].name} {CAPTION}"
        assert prompt.caption == CAPTION


def test_a_fifth_of_the_crops_is_augmented_and_no_control():
    references = [reference for prompt in built(KEEP) for reference in prompt.references]
    crops = [reference.augmentation for reference in references if reference.role != "control"]
    augmented = [how for how in crops if how]
    assert len(augmented) / len(crops) == pytest.approx(0.2, abs=0.015)
    assert all(reference.augmentation is None for reference in references if reference.role == "control")
    for how in augmented:
        left, top, right, bottom = how.crop
        assert 0 <= left < right <= 1 + 1e-9 and 0 <= top < bottom <= 1 + 1e-9
        assert right - left + 1e-9 >= 0.8 and bottom - top + 1e-9 >= 0.8
        assert 0.05 <= how.noise < 0.1


def test_every_image_has_the_side_that_fixes_its_tokens():
    sides = {reference.side for prompt in built(KEEP, count=100) for reference in prompt.references}
    assert sides == {252}
    assert (252 // 14) ** 2 == 324


def test_a_tenth_is_empty_and_a_twentieth_loses_its_images():
    found = built(Mumu())
    assert sum(prompt.is_text_dropped for prompt in found) / COUNT == pytest.approx(0.1, abs=0.015)
    alone = [prompt for prompt in found if prompt.are_images_dropped and not prompt.is_text_dropped]
    assert len(alone) / COUNT == pytest.approx(0.05, abs=0.012)
    assert {prompt.text for prompt in alone} == {CAPTION}


def test_another_rate_of_one_draw_leaves_the_others_as_they_were():
    one, other = built(KEEP, count=200), built(Mumu(drop_rate=0, images_drop_rate=0, control_rate=0), count=200)
    for left, right in zip(one, other, strict=True):
        assert left.references[-3:] == right.references
    calm = built(Mumu(drop_rate=0, images_drop_rate=0, augment=Augment(rate=0)), count=200)
    assert [p.interleaved for p in calm] == [p.interleaved for p in one]


def with_head_at(*corners: float):
    """The example with a person over all of its height, whose head is there."""
    person, *rest = EXAMPLE.subjects
    return structs.replace(
        EXAMPLE, subjects=(structs.replace(person, box=(0.0, 0.0, 90.0, 64.0), head_box=corners), *rest)
    )


def test_a_head_that_the_target_cuts_off_stays_away_and_the_person_comes_whole():
    middle = frame((96, 64), (64, 64), draws(), "centre")  # of the columns 16 to 80
    heads = Mumu(drop_rate=0, images_drop_rate=0, control_rate=0, head_rate=1)
    for corners, role in (((2.0, 2.0, 14.0, 12.0), "subject"), ((40.0, 2.0, 52.0, 12.0), "head")):
        (person, *_) = heads.build(with_head_at(*corners), middle, draws()).references
        assert (person.subject, person.role) == (0, role)


def test_a_head_is_where_its_own_box_is_and_no_mask_is_of_it():
    flipped = frame((96, 64), (96, 64), draws(), "centre", flip_rate=1)
    heads = Mumu(drop_rate=0, images_drop_rate=0, control_rate=0, head_rate=1)
    (person, *others) = heads.build(with_head_at(40.0, 2.0, 52.0, 12.0), flipped, draws()).references
    assert (person.role, person.box, person.mask) == ("head", (44.0, 2.0, 56.0, 12.0), None)
    assert all(other.mask for other in others)
