from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.web.retry import seconds_until


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        ("9" * 30, 999_999_999),
        ("Fri, 25 Jun 2010 15:00:00 GMT", 0),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("Mon, 01 Jan 2020 00:00:00 +99999999999999999999", None),
        ("Mon, 99999999999999999999 Jan 2020 00:00:00 GMT", None),
    ],
)
def test_a_pause_is_in_seconds_or_none_that_can_be_read(text: str, seconds: float | None) -> None:
    assert seconds_until(text) == seconds


def test_a_date_is_as_far_as_it_is() -> None:
    date = datetime.now(UTC) + timedelta(seconds=90)
    assert seconds_until(format_datetime(date, usegmt=True)) == pytest.approx(89, abs=2)


@given(st.text())
def test_any_text_is_a_pause_or_none(text: str) -> None:
    seconds = seconds_until(text)
    assert seconds is None or seconds >= 0
