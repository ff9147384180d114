"""How late looks are: the time from when each was due to when its request went out."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping

MINUTE = 60_000
# Looks of so many minutes count.
MINUTES = 5
# Each step of the histogram is longer than the last by a tenth.
STEP = math.log(1.1)


class Lateness:
    """The lateness of the looks of the last minutes, to about a tenth."""

    def __init__(self) -> None:
        self._minutes: deque[tuple[int, Counter[int]]] = deque(maxlen=MINUTES)

    def note(self, due_at: int, now: int) -> None:
        """A look that was due went out; milliseconds."""
        minute = now // MINUTE
        if not self._minutes or self._minutes[-1][0] != minute:
            self._minutes.append((minute, Counter()))
        self._minutes[-1][1][round(math.log(max(1, now - due_at)) / STEP)] += 1

    def counts(self, now: int) -> Counter[int]:
        """How many looks there were at each step of the histogram."""
        total: Counter[int] = Counter()
        for minute, steps in self._minutes:
            if now // MINUTE - minute < MINUTES:
                total += steps
        return total


def quantiles(counts: Mapping[int, int]) -> dict[str, float | int | None]:
    """The median and the 99th percentile in seconds, and of how many looks."""
    total = sum(counts.values())
    return {"p50": _quantile(counts, 0.5), "p99": _quantile(counts, 0.99), "looks": total}


def _quantile(counts: Mapping[int, int], share: float) -> float | None:
    left = math.ceil(sum(counts.values()) * share)
    for step in sorted(counts):
        left -= counts[step]
        if left <= 0:
            return round(math.exp(step * STEP) / 1_000, 3)
    return None
