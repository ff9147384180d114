"""Words and figures for people and machines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.text import iso

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST, LAST = -62_135_596_800_000, 253_402_300_799_999


@given(st.integers(FIRST, LAST))
def test_a_moment_is_written_as_it_is_read(at: int) -> None:
    text = iso(at)
    assert text is not None
    read = datetime.fromisoformat(text)

    assert (read - EPOCH) // timedelta(milliseconds=1) == at
    assert text.endswith("Z")
    assert ("." in text) == (at % 1_000 != 0)


@pytest.mark.parametrize("at", [FIRST - 1, LAST + 1])
def test_what_no_calendar_has_is_no_moment(at: int) -> None:
    with pytest.raises((ValueError, OverflowError)):
        iso(at)
