import pytest

from pipeline.report import figures


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0843, "84 ms"),
        (0.9996, "1.0 s"),
        (9.97, "10 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3600 * 5 + 12 * 60 + 59, "5 h 12 min"),
        (86400 * 3 + 3600 * 4, "3 d 4 h"),
    ],
)
def test_a_duration_is_told_in_the_units_that_matter(seconds: float, text: str) -> None:
    assert figures.duration(seconds).replace("\xa0", " ") == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (2_400_000_000_000, "2.4 TB")],
)
def test_a_size_is_told_in_powers_of_1000(count: int, text: str) -> None:
    assert figures.size(count).replace("\xa0", " ") == text


def test_a_share_of_nothing_is_a_dash() -> None:
    assert figures.share(0, 0) == "–"
    assert figures.share(1, 8).replace("\xa0", " ") == "12.5 %"


def test_a_moment_is_told_in_utc() -> None:
    assert figures.moment("2025-03-01T09:00:00+02:00").replace("\xa0", " ") == "2025-03-01 07:00 UTC"
