import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.record import Annotation, Box, DroppedSubject, Mask, Picture, Span, Subject
from stages.annotated import Candidate, assign, box_on, meanings_of, overlap_of_spans
from stages.base import Context, Drop
from stages.coco_names import COCO_WORDS, categories_by_word
from stages.ground import Ground, GroundOut, GroundParams
from stages.grounded import GroundIn
from stages.masks import decode_mask, encode_mask

WIDTH, HEIGHT = 200, 100
IMAGE = Picture(format="jpg", width=WIDTH, height=HEIGHT, data=b"")


def subject(caption: str, phrase: str, head: str | None = None, is_plural: bool = False, after: int = 0) -> Subject:
    start = caption.index(phrase, after)
    span = Span(start=start, end=start + len(phrase))
    noun = phrase.split()[-1]
    return Subject(
        phrase=phrase,
        span=span,
        head=head or noun.lower(),
        head_span=Span(start=span.end - len(noun), end=span.end),
        is_plural=is_plural,
    )


def at(x0: float, y0: float, x1: float, y1: float, name: str = "", **fields: object) -> Annotation:
    return replace(Annotation(phrase=name, x0=x0, y0=y0, x1=x1, y1=y1), **fields)


def named(name: str, width: float = 0.5, left: float = 0.0, **fields: object) -> Annotation:
    return at(left, 0.0, left + width, 0.5, name, **fields)


def spanned(caption: str, words: str, left: float, **fields: object) -> Annotation:
    start = caption.index(words)
    return at(left, 0.0, left + 0.1, 1.0, words, span=Span(start=start, end=start + len(words)), **fields)


def ground(
    caption: str,
    subjects: list[Subject],
    annotations: list[Annotation],
    params: GroundParams | None = None,
    image: Picture = IMAGE,
    original: tuple[int, int] = (2 * HEIGHT, 2 * WIDTH),
) -> GroundOut | Drop:
    record = GroundIn(
        caption=caption,
        subjects=tuple(subjects),
        dropped_subjects=(DroppedSubject(phrase="it", stage="phrases", reason="not_a_noun"),),
        annotations=tuple(annotations),
        image=image,
        original_width=original[1],
        original_height=original[0],
    )
    (result,) = Ground.load(params or GroundParams(), Context()).process([record])
    assert isinstance(result, GroundOut | Drop)
    return result


def lefts(result: GroundOut | Drop) -> dict[str, float]:
    assert isinstance(result, GroundOut)
    return {s.phrase: s.box.x0 / WIDTH for s in result.subjects if s.box}


def reasons(result: GroundOut | Drop) -> dict[str, str]:
    assert isinstance(result, GroundOut)
    return {dropped.phrase: dropped.reason for dropped in result.dropped_subjects if dropped.stage == "ground"}


class TestBySpan:
    caption = "a big dog in a red car"

    def test_a_subject_gets_the_box_whose_words_cover_its_head(self) -> None:
        subjects = [subject(self.caption, "big dog"), subject(self.caption, "red car")]
        annotations = [spanned(self.caption, "a red car", 0.5), spanned(self.caption, "a big dog", 0.25)]
        assert lefts(ground(self.caption, subjects, annotations)) == {"big dog": 0.25, "red car": 0.5}

    def test_words_that_cover_the_head_alone_are_enough_and_others_are_not(self) -> None:
        subjects = [subject(self.caption, "big dog"), subject(self.caption, "red car")]
        annotations = [spanned(self.caption, "dog", 0.25), spanned(self.caption, "red", 0.5)]
        result = ground(self.caption, subjects, annotations)
        assert lefts(result) == {"big dog": 0.25}
        assert reasons(result) == {"red car": "not_grounded"}

    def test_its_own_words_win_over_a_longer_expression_and_then_the_score(self) -> None:
        annotations = [
            spanned(self.caption, self.caption, 0.0, score=0.9),
            spanned(self.caption, "a big dog", 0.25, score=0.6),
            spanned(self.caption, "a big dog", 0.5, score=0.8),
        ]
        assert lefts(ground(self.caption, [subject(self.caption, "big dog")], annotations)) == {"big dog": 0.5}

    def test_an_expression_over_several_subjects_is_about_the_first(self) -> None:
        subjects = [subject(self.caption, "big dog"), subject(self.caption, "red car")]
        result = ground(self.caption, subjects, [spanned(self.caption, self.caption, 0.5)])
        assert lefts(result) == {"big dog": 0.5}
        assert reasons(result) == {"red car": "not_grounded"}

    def test_the_name_of_an_annotation_with_a_span_does_not_count(self) -> None:
        annotations = [spanned(self.caption, "a red car", 0.5, phrase="dog")]
        assert ground(self.caption, [subject(self.caption, "big dog")], annotations) == Drop(
            "no_subject_grounded", "big dog: not_grounded"
        )

    def test_a_plural_subject_gets_all_the_boxes_of_its_words_and_no_longer_expression(self) -> None:
        caption = "two dogs by a man"
        annotations = [
            spanned(caption, "two dogs", 0.25, score=0.9),
            spanned(caption, "two dogs", 0.5, score=0.8),
            spanned(caption, caption, 0.9, score=0.9),
        ]
        result = ground(caption, [subject(caption, "dogs", "dog", is_plural=True)], annotations)
        assert isinstance(result, GroundOut)
        (dogs,) = result.subjects
        assert dogs.box == Box(x0=0.25 * WIDTH, y0=0, x1=0.6 * WIDTH, y1=HEIGHT)
        assert dogs.score == 0.8

    @given(st.integers(0, 20), st.integers(1, 20), st.integers(0, 20), st.integers(1, 20))
    @settings(deadline=None)
    def test_the_overlap_of_spans_is_symmetric_and_one_only_for_the_same(self, a: int, n: int, b: int, m: int) -> None:
        one, other = Span(start=a, end=a + n), Span(start=b, end=b + m)
        overlap = overlap_of_spans(one, other)
        assert overlap == overlap_of_spans(other, one)
        assert 0 <= overlap <= 1
        assert (overlap == 1) == (one == other)


class TestByName:
    def test_the_head_or_the_last_words_of_the_phrase_are_the_name(self) -> None:
        caption = "an old teddy bear on a wooden bench"
        subjects = [subject(caption, "old teddy bear"), subject(caption, "wooden bench")]
        annotations = [named("bear", left=0.1), named("teddy bear", left=0.2), named("Bench", left=0.3)]
        assert lefts(ground(caption, subjects, annotations)) == {"old teddy bear": 0.2, "wooden bench": 0.3}

    @pytest.mark.parametrize(
        ("phrase", "head", "name"),
        [
            ("woman", "woman", "person"),
            ("young skiers", "skier", "person"),
            ("plane", "plane", "airplane"),
            ("hot dogs", "dog", "hot dog"),
            ("red pick-up", "pick-up", "pick-up"),
            ("skis", "ski", "skis"),
            ("pies", "py", "pies"),
            ("Sofa", "sofa", "couch"),
            ("puppy", "puppy", "dog"),
            ("bear", "bear", "teddy bear"),
            ("big bike", "bike", "motorcycle"),
            ("wooden table", "table", "dining table"),
        ],
    )
    def test_words_and_categories_find_each_other(self, phrase: str, head: str, name: str) -> None:
        assert name in meanings_of(subject(phrase, phrase, head), phrase)

    @pytest.mark.parametrize(
        ("phrase", "name"),
        [("hot dog", "dog"), ("teddy bear", "bear"), ("dog house", "dog"), ("sports car", "sports ball")],
    )
    def test_words_that_mean_something_else_together_do_not(self, phrase: str, name: str) -> None:
        assert name not in meanings_of(subject(phrase, phrase), phrase)

    def test_of_several_boxes_a_singular_subject_gets_the_largest(self) -> None:
        annotations = [named("dog", 0.2, 0.1), named("dog", 0.3, 0.3), named("dog", 0.1, 0.9)]
        assert lefts(ground("a dog", [subject("a dog", "dog")], annotations)) == {"dog": 0.3}

    def test_subjects_that_may_have_the_same_boxes_get_different_ones_the_first_the_largest(self) -> None:
        caption = "a man and a woman and a girl"
        subjects = [subject(caption, "man"), subject(caption, "woman"), subject(caption, "girl")]
        annotations = [named("person", 0.2, 0.1), named("person", 0.3, 0.3)]
        result = ground(caption, subjects, annotations)
        assert lefts(result) == {"man": 0.3, "woman": 0.1}
        assert reasons(result) == {"girl": "not_grounded"}

    def test_a_word_of_two_meanings_leaves_a_box_to_the_subject_it_names(self) -> None:
        caption = "a bike and a motorcycle"
        subjects = [subject(caption, "bike"), subject(caption, "motorcycle")]
        assert lefts(ground(caption, subjects, [named("motorcycle")])) == {"motorcycle": 0.0}
        annotations = [named("motorcycle", 0.5, 0.4), named("bicycle", 0.2, 0.1)]
        assert lefts(ground(caption, subjects, annotations)) == {"bike": 0.1, "motorcycle": 0.4}

    def test_plural_subjects_get_what_singular_ones_leave(self) -> None:
        caption = "people watch a surfer"
        subjects = [subject(caption, "people", is_plural=True), subject(caption, "surfer")]
        annotations = [named("person", 0.1, 0.1), named("person", 0.5, 0.5), named("person", 0.1, 0.3)]
        result = ground(caption, subjects, annotations)
        assert isinstance(result, GroundOut)
        people, surfer = result.subjects
        assert people.box == Box(x0=0.1 * WIDTH, y0=0, x1=0.4 * WIDTH, y1=0.5 * HEIGHT)
        assert surfer.box == Box(x0=0.5 * WIDTH, y0=0, x1=WIDTH, y1=0.5 * HEIGHT)

    def test_a_crowd_is_nobodys_box(self) -> None:
        result = ground("a man", [subject("a man", "man")], [named("person", is_crowd=True)])
        assert result == Drop("no_subject_grounded", "man: not_grounded")


class TestCocoNames:
    def test_there_are_eighty_categories_and_no_word_twice_in_one(self) -> None:
        assert len(COCO_WORDS) == 80
        for category, words in COCO_WORDS.items():
            assert len({category, *words}) == 1 + len(words)

    def test_words_are_written_as_they_are_looked_up(self) -> None:
        words = [word for category, others in COCO_WORDS.items() for word in (category, *others)]
        assert all(word == " ".join(word.lower().split()) for word in words)

    def test_a_category_means_itself_first(self) -> None:
        meanings = categories_by_word(COCO_WORDS)
        assert all(meanings[category][0] == category for category in COCO_WORDS)
        assert meanings["bear"] == ("bear", "teddy bear")
        assert meanings["bike"] == ("bicycle", "motorcycle")


class TestBoxes:
    def test_fractions_become_pixels_of_the_image_and_end_at_its_edges(self) -> None:
        assert box_on(IMAGE, at(0.25, 0.5, 0.5, 1.0)) == Box(x0=50, y0=50, x1=100, y1=100)
        assert box_on(IMAGE, at(-0.5, 0.9, 0.5, 1.5)) == Box(x0=0, y0=90, x1=100, y1=100)

    @given(*[st.floats()] * 4)
    @settings(deadline=None)
    def test_any_numbers_give_a_box_inside_the_image_or_none(self, x0: float, y0: float, x1: float, y1: float) -> None:
        box = box_on(IMAGE, at(x0, y0, x1, y1))
        assert box is None or (0 <= box.x0 < box.x1 <= WIDTH and 0 <= box.y0 < box.y1 <= HEIGHT)

    @pytest.mark.parametrize(
        "annotation",
        [
            at(0.5, 0.5, 0.5, 0.9, "dog"),
            at(0.9, 0.5, 0.5, 0.9, "dog"),
            at(1.0, 0.0, 1.5, 0.5, "dog"),
            at(math.nan, 0.0, 0.5, 0.5, "dog"),
            at(0.0, 0.0, math.inf, 0.5, "dog"),
        ],
    )
    def test_a_subject_with_none_but_bad_boxes_is_dropped_for_them(self, annotation: Annotation) -> None:
        caption = "a dog and a cat"
        result = ground(caption, [subject(caption, "dog"), subject(caption, "cat")], [annotation, named("cat")])
        assert reasons(result) == {"dog": "bad_box"}


class TestScores:
    @pytest.mark.parametrize(
        ("score", "kept"), [(None, 1.0), (0.5, 0.5), (1.0000001, 1.0), (0.49, None), (-1.0, None), (math.nan, None)]
    )
    def test_low_scores_and_what_is_no_number_drop_the_subject(self, score: float | None, kept: float | None) -> None:
        caption = "a dog and a cat"
        subjects = [subject(caption, "cat"), subject(caption, "dog")]
        result = ground(caption, subjects, [named("dog", score=score), named("cat")], GroundParams(min_score=0.5))
        assert isinstance(result, GroundOut)
        assert [s.score for s in result.subjects] == [1.0] + [kept] * (kept is not None)
        assert reasons(result) == ({"dog": "low_score"} if kept is None else {})

    def test_a_box_that_scores_too_little_does_not_stand_in_the_way_of_a_good_one(self) -> None:
        annotations = [named("dog", 0.9, 0.0, score=math.nan), named("dog", 0.1, 0.5, score=0.3)]
        assert lefts(ground("a dog", [subject("a dog", "dog")], annotations)) == {"dog": 0.5}


class TestMasks:
    mask = encode_mask(np.indices((2 * HEIGHT, 2 * WIDTH))[1] < WIDTH)

    def of_dogs(self, *masks: Mask | None, is_plural: bool = False) -> Mask | None:
        annotations = [named("dog", 0.5 - 0.1 * i, mask=mask) for i, mask in enumerate(masks)]
        result = ground("dogs", [subject("dogs", "dogs", "dog", is_plural=is_plural)], annotations)
        assert isinstance(result, GroundOut)
        return result.subjects[0].mask

    def test_a_mask_comes_along_at_the_size_of_the_image(self) -> None:
        mask = self.of_dogs(self.mask)
        assert mask and (mask.height, mask.width) == (HEIGHT, WIDTH)
        assert np.array_equal(decode_mask(mask), np.indices((HEIGHT, WIDTH))[1] < WIDTH // 2)

    def test_masks_of_a_plural_subject_are_joined_if_each_has_one(self) -> None:
        lower = encode_mask(np.indices((2 * HEIGHT, 2 * WIDTH))[0] >= HEIGHT)
        joined = self.of_dogs(self.mask, lower, is_plural=True)
        rows, columns = np.indices((HEIGHT, WIDTH))
        assert joined and np.array_equal(decode_mask(joined), (columns < WIDTH // 2) | (rows >= HEIGHT // 2))
        assert self.of_dogs(self.mask, None, is_plural=True) is None

    def test_a_mask_of_another_size_than_the_original_is_left_out(self) -> None:
        assert self.of_dogs(encode_mask(np.ones((2 * WIDTH, 2 * HEIGHT), np.bool_))) is None
        assert self.of_dogs(None) is None


def test_subjects_dropped_before_stay_listed_first() -> None:
    caption = "a dog and a cat"
    result = ground(caption, [subject(caption, "dog"), subject(caption, "cat")], [named("cat")])
    assert isinstance(result, GroundOut)
    assert [(d.phrase, d.stage) for d in result.dropped_subjects] == [("it", "phrases"), ("dog", "ground")]


def test_a_record_without_any_box_is_dropped_with_what_each_subject_lacked() -> None:
    caption = "a dog and a cat"
    subjects = [subject(caption, "dog"), subject(caption, "cat")]
    params = GroundParams(min_score=0.5)
    result = ground(caption, subjects, [named("dog", score=0.1), named("horse")], params)
    assert result == Drop("no_subject_grounded", "dog: low_score, cat: not_grounded")


CAPTION = "a man and two women with a bike, a motorcycle and cars"
SUBJECTS = st.permutations(
    [
        subject(CAPTION, "man"),
        subject(CAPTION, "women", "woman", is_plural=True),
        subject(CAPTION, "bike"),
        subject(CAPTION, "motorcycle"),
        subject(CAPTION, "cars", "car", is_plural=True),
    ]
)
ANNOTATIONS = st.lists(
    st.builds(
        Annotation,
        phrase=st.sampled_from(["person", "bicycle", "motorcycle", "car", "dog"]),
        span=st.none()
        | st.builds(lambda start, size: Span(start=start, end=start + size), st.integers(0, 50), st.integers(1, 30)),
        x0=st.just(0.0),
        y0=st.just(0.0),
        x1=st.sampled_from([0.1, 0.2, 0.5]),
        y1=st.just(0.5),
        score=st.none() | st.sampled_from([0.1, 0.9]),
        is_crowd=st.booleans(),
    ),
    max_size=8,
)


@given(SUBJECTS, ANNOTATIONS)
@settings(deadline=None, max_examples=200)
def test_no_box_has_two_owners_and_none_stays_free_that_a_subject_without_one_could_have(
    subjects: list[Subject], annotations: list[Annotation]
) -> None:
    boxes = [(annotation, box_on(IMAGE, annotation)) for annotation in annotations]
    candidates = [Candidate(annotation, box) for annotation, box in boxes if box]
    given_out = assign(subjects, candidates, CAPTION)
    owned = [id(candidate) for candidates_of_one in given_out for candidate in candidates_of_one]
    assert len(owned) == len(set(owned))
    for subject_, mine in zip(subjects, given_out, strict=True):
        assert subject_.is_plural or len(mine) <= 1
        free = [one for one in candidates if id(one) not in owned and not one.annotation.span]
        assert mine or not any(assign([subject_], free, CAPTION))


@given(ANNOTATIONS, st.integers(1, 4000), st.integers(1, 4000))
@settings(deadline=None, max_examples=50)
def test_boxes_lie_at_the_same_fractions_of_an_image_of_any_size(
    annotations: list[Annotation], width: int, height: int
) -> None:
    subjects = [subject(CAPTION, "man"), subject(CAPTION, "bike")]
    small = ground(CAPTION, subjects, annotations)
    large = ground(CAPTION, subjects, annotations, image=replace(IMAGE, width=width, height=height))
    assert isinstance(small, GroundOut) == isinstance(large, GroundOut)
    if isinstance(small, GroundOut) and isinstance(large, GroundOut):
        for a, b in zip(small.subjects, large.subjects, strict=True):
            assert a.box and b.box
            assert a.box.x1 / WIDTH == pytest.approx(b.box.x1 / width)
            assert a.box.y1 / HEIGHT == pytest.approx(b.box.y1 / height)


def test_batching_changes_nothing() -> None:
    stage = Ground.load(GroundParams(), Context())
    caption = "a dog and a cat"
    records = [
        GroundIn(
            caption=caption,
            subjects=(subject(caption, "dog"), subject(caption, "cat")),
            dropped_subjects=(),
            annotations=annotations,
            image=IMAGE,
            original_width=WIDTH,
            original_height=HEIGHT,
        )
        for annotations in [(named("dog"),), (), (named("cat"), named("dog", 0.2))]
    ]
    assert stage.process(records) == [result for record in records for result in stage.process([record])]
