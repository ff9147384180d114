"""Which batches of an account are looked at now, and which of the others have to wait."""

from __future__ import annotations

from collections.abc import Iterable

from watcher.model import Batch

# A look that takes so many seconds is slow.
SLOW = 5.0
# More slow batches than this are the account's trouble, not theirs.
MOST_SLOW = 500


class Slots:
    """The looks under way. Batches whose last look was slow share half of the slots.

    So those whose answers hang, however many, do not delay the looks at the others.
    """

    def __init__(self) -> None:
        self._under_way: set[str] = set()
        self._slow: set[str] = set()

    def __len__(self) -> int:
        return len(self._under_way)

    def begin(self, id_: str) -> None:
        """A look at this batch is under way."""
        self._under_way.add(id_)

    def end(self, id_: str, seconds: float) -> None:
        """The look is over, after so long."""
        self._under_way.discard(id_)
        self._slow.discard(id_)
        if seconds >= SLOW and len(self._slow) < MOST_SLOW:
            self._slow.add(id_)

    def closed_to(self, limit: int) -> frozenset[str]:
        """The ids that no look may be started at, of `limit` looks at a time."""
        all_slow = frozenset() if self._left_to_slow(limit) > 0 else self._slow
        return frozenset(self._under_way | all_slow)

    def admit(self, batches: Iterable[Batch], limit: int) -> list[Batch]:
        """Those of the batches that looks may be started at, of `limit` looks at a time."""
        left, admitted = self._left_to_slow(limit), []
        for batch in batches:
            slow = batch.id in self._slow
            if not slow or left > 0:
                admitted.append(batch)
            left -= slow
        return admitted

    def _left_to_slow(self, limit: int) -> int:
        return max(1, limit // 2) - len(self._slow & self._under_way)
