"""Plain counters; whoever serves metrics reads them."""

from __future__ import annotations

from collections import Counter


class Meter:
    """Counts by name and labels, from one thread."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()

    def add(self, name: str, amount: int = 1, **labels: str) -> None:
        """Add to one counter; labels are few and never an id."""
        self.counts[name, tuple(sorted(labels.items()))] += amount

    def total(self, name: str) -> int:
        """The sum over all labels of one name."""
        return sum(count for (key, _), count in self.counts.items() if key == name)
