import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.stream.order import OrderParams, Segment
from training.stream.snapshot import Fingerprint
from training.stream.state import Era, Quarantined, State, StateError

WHOLE = st.integers(0, 10**9)
FINGERPRINTS = st.builds(
    Fingerprint, units=st.just("000000..000009"), samples=WHOLE, stripes=st.lists(st.text("0f", max_size=4)).map(tuple)
)
ERAS = st.builds(
    Era,
    epoch=WHOLE,
    step=WHOLE,
    epochs=WHOLE,
    carry=st.lists(WHOLE).map(tuple),
    turns=st.lists(WHOLE).map(tuple),
    repeats=st.lists(st.fractions(1, 9).map(str)).map(tuple),
    sources=st.lists(FINGERPRINTS, max_size=2).map(tuple),
)
STATES = st.builds(
    State,
    settings=st.just({"seed": 1, "recipe": {"builder.fill": [255, 255, 255]}}),
    step=WHOLE,
    eras=st.lists(ERAS, min_size=1, max_size=3).map(tuple),
    damaged=WHOLE,
    quarantine=st.lists(
        st.builds(
            Quarantined,
            source=WHOLE,
            path=st.text(),
            offset=WHOLE,
            key=st.text(),
            reason=st.just("bomb"),
            message=st.text(),
        ),
        max_size=3,
    ).map(tuple),
)


@given(STATES)
def test_a_state_comes_back_through_json(state: State) -> None:
    assert State.from_plain(json.loads(json.dumps(state.to_plain()))) == state


def test_each_changed_setting_is_named_with_both_values() -> None:
    state = State(settings={"seed": 1, "recipe": {"side": 252, "gone": 1}}, step=0, eras=(), damaged=0, quarantine=())
    state.check({"seed": 1, "recipe": {"side": 252, "gone": 1}})
    with pytest.raises(StateError) as error:
        state.check({"seed": 2, "recipe": {"side": 504, "new": True}})
    for line in (
        "seed: was 1, is 2",
        "recipe.side: was 252, is 504",
        "recipe.gone: was 1, is absent",
        "recipe.new: was",
    ):
        assert line in str(error.value)


def test_states_of_other_versions_and_no_states_are_refused() -> None:
    with pytest.raises(StateError, match="version 1 here, got 2"):
        State.from_plain({"version": 2})
    with pytest.raises(StateError, match="damaged"):
        State.from_plain({"version": 1, "step": 3})


@pytest.mark.parametrize("wrong", [{"step": -1}, {"step": "3"}, {"step": None}, {"eras": []}])
@given(STATES)
def test_a_state_that_is_nowhere_is_refused(wrong: dict[str, object], state: State) -> None:
    with pytest.raises(StateError, match="damaged: step"):
        State.from_plain(state.to_plain() | wrong)


def test_a_segment_comes_back_from_its_era() -> None:
    order = OrderParams(seed=3, batch_size=4)
    first = Segment(
        params=order, epoch=0, step=0, counts=((9, 5),), repeats=(Fraction(1), Fraction(2, 3)), turns=(0, 0), carry=(0,)
    )
    second = first.next(2, ((12, 5),), first.repeats)
    assert Era.of(second, 1, ()).segment(order, ((12, 5),), first) == second
