"""Lengths of time as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.config import (
    parse_duration,
)
from watcher.text import span


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500ms", 500),
        ("30s", 30_000),
        ("5m", 300_000),
        ("1h30m", 5_400_000),
        ("1h 30m", 5_400_000),
        ("90d", 7_776_000_000),
        ("1d2h3m4s5ms", 93_784_005),
        (" 0s ", 0),
        ("5m500ms", 300_500),
    ],
)
def test_a_length_of_time_is_read(text: str, expected: int) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "5",
        "1.5h",
        "-5s",
        "+5s",
        "5S",
        "5 s",
        "5min",
        "30m1h",
        "1m1m",
        "s",
        "1h30",
        "infinity",
        "5s\n5",
        "\u0665s",
        "9" * 30,
        "9" * 9 + "d",
    ],
)
def test_what_is_no_length_of_time_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        parse_duration(text)


@given(st.integers(min_value=1, max_value=10**12))
def test_a_length_of_time_as_people_are_shown_it_is_read_back(milliseconds: int) -> None:
    shown = span(milliseconds)

    assert span(parse_duration(shown)) == shown


def read(text: str) -> int | str:
    try:
        return parse_duration(text)
    except ValueError as error:
        return str(error)


@given(st.text(alphabet=st.sampled_from("0159 dhmsx.-") | st.characters(), max_size=30))
def test_any_text_is_a_length_of_time_or_told_what_to_write(text: str) -> None:
    result = read(text)

    assert "write" in result if isinstance(result, str) else 0 <= result < 2**63
