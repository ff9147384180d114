"""Which batches of an account are looked at now, and which of the others have to wait."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from watcher.cadence import Place

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
        # Pages that are read, and the ids each is to show.
        self._pages: dict[int, tuple[str, ...]] = {}
        self._paged: set[str] = set()

    def __len__(self) -> int:
        """How many requests are under way."""
        return len(self._under_way) + len(self._pages)

    def holds(self, id_: str) -> bool:
        """Whether a look at this batch is under way."""
        return id_ in self._under_way or id_ in self._paged

    def begin_page(self, ids: tuple[str, ...]) -> int:
        """A page is read that is to show these; returns what ends it."""
        number = max(self._pages, default=0) + 1
        self._pages[number] = ids
        self._paged.update(ids)
        return number

    def end_page(self, number: int) -> None:
        """The page has been read, or could not be."""
        del self._pages[number]
        self._paged = {id_ for ids in self._pages.values() for id_ in ids}

    def begin(self, id_: str) -> None:
        """A look at this batch is under way."""
        self._under_way.add(id_)

    def end(self, id_: str, seconds: float) -> None:
        """The look is over, after so long."""
        self._under_way.discard(id_)
        self._slow.discard(id_)
        if seconds >= SLOW and len(self._slow) < MOST_SLOW:
            self._slow.add(id_)

    def gate(self, limit: int) -> Gate:
        """What may be started, of `limit` looks at a time."""
        left = max(1, limit // 2) - len(self._slow & self._under_way)
        all_slow = frozenset() if left > 0 else self._slow
        return Gate(
            frozenset(self._under_way | self._paged | all_slow), frozenset(self._slow), left
        )


@dataclass(frozen=True, slots=True)
class Gate:
    """Which looks may be started, as it stood at one moment: it may be taken to another thread."""

    # The ids that no look may be started at.
    closed: frozenset[str]
    _slow: frozenset[str]
    _left_to_slow: int

    def admit(self, places: Iterable[Place]) -> list[Place]:
        """Those that looks may be started at."""
        left, admitted = self._left_to_slow, []
        for place in places:
            slow = place.id in self._slow
            if not slow or left > 0:
                admitted.append(place)
            left -= slow
        return admitted
