"""Lengths of time as people write them. Pure."""

from __future__ import annotations

import re

UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
# No wait is meant to outlast this, and a sum of such times still fits 63 bits.
LONGEST = 36_500 * UNITS["d"]
# Nine digits: int() of a text of a million digits takes seconds.
_SHAPE = re.compile(
    r"(?:(?P<d>\d{1,9})d)?\s*(?:(?P<h>\d{1,9})h)?\s*(?:(?P<m>\d{1,9})m(?!s))?\s*"
    r"(?:(?P<s>\d{1,9})s)?\s*(?:(?P<ms>\d{1,9})ms)?",
    re.ASCII,
)
_BARE = re.compile(r"\d{1,9}", re.ASCII)
REMEDY = 'write numbers with units (d h m s ms, the largest first), as in "30s" or "1h30m"'


def parse_duration(text: str) -> int:
    """Milliseconds of a length of time such as `500ms`, `30s`, `1h30m`, `1h 30m`, `90d`.

    Raises ValueError, which says what to write instead and never repeats the text: a bare
    number, a fraction, a sign, an unknown or repeated unit, or more than a hundred years.
    """
    text = text.strip()
    if _BARE.fullmatch(text):
        raise ValueError(f'a bare number has no unit: write "{text}s" for seconds')
    found = _SHAPE.fullmatch(text)
    if not text or found is None:
        raise ValueError(f"not a length of time: {REMEDY}")
    total = sum(int(count) * UNITS[unit] for unit, count in found.groupdict().items() if count)
    if total > LONGEST:
        raise ValueError("longer than a hundred years: write a shorter time")
    return total
