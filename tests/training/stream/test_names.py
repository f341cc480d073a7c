import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.stream.names import read_names, write_names

NAMES = st.lists(
    st.one_of(
        st.integers(0, 2000).map(lambda number: f"{number:06d}"),
        st.integers(0, 200).map(lambda number: f"part-{number}"),
        st.from_regex(r"[a-z0-9_]{1,6}", fullmatch=True),
    ),
    unique=True,
)


@given(NAMES)
def test_names_come_back(names: list[str]) -> None:
    assert read_names(write_names(sorted(names))) == sorted(names)


def test_a_run_is_short() -> None:
    names = [f"{number:06d}" for number in range(100_000) if number != 77]
    assert write_names(names) == "000000..000076,000078..099999"


def test_names_that_would_be_misread_are_refused() -> None:
    with pytest.raises(ValueError, match="'a,b'"):
        write_names(["a,b"])
