"""What is known of an account's list from moment to moment: whether, how and where it serves."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from watcher.cadence import Listing, Page, Place
from watcher.clock import Clock

# A list that failed is left alone for so many seconds, twice as long each further time: first for
# a moment if that may pass, longer if it was refused or of no use.
SHORT_REST = 5.0
FIRST_REST = 60.0
LONGEST_REST = 3_600.0
# How much the newest page says of how many of a page's entries are ours.
NEWEST_COUNTS = 0.3
# So many of the batches never seen are worth reading on for.
WALK_FINDS = 3
# A walk for so many times as many batches reads on for another page that shows none of them.
SOUGHT_PER_PAGE = 10
# No more than this are remembered.
MOST_UNLISTED = 10_000
# After so many pages in a row that showed nothing of what should follow their cursor, the list
# takes no id for one: Morph wants a number, others ignore it.
ASTRAY = 3


class Lists:
    """The list of one account; nothing in here outlives the process or needs to."""

    def __init__(self, page_size: int, clock: Clock, *, cursor_is_id: bool) -> None:
        self._clock = clock
        self.begin_anew(page_size, cursor_is_id=cursor_is_id)

    def begin_anew(self, page_size: int, *, cursor_is_id: bool) -> None:
        """Nothing is known of it but what its provider's documentation says."""
        self._page_size = page_size
        self.cursor_is_id = self._documented = cursor_is_id
        self._cursor_again_at = 0.0
        # Ids that it did not show where they should be, and those it says other things of.
        self.unlisted: set[str] = set()
        self.doubted: set[str] = set()
        # Up to when every batch registered would have stood on the newest page, were it that new.
        self.topped_at = -1
        # Whether a walk for batches never seen is under way.
        self.walking = False
        # What is left of a sweep that the account's limits have cut short.
        self.unfinished: Page | None = None
        # Where such a walk would go on, None for nowhere, and for how many pages without a find.
        self._walk_after: str | None = None
        self._walk_patience = 0
        self._known_share = 1.0
        self._misplaced = 0
        self._failures = 0
        self._rests_until = 0.0
        self._unlisted_until = 0.0

    @property
    def listing(self) -> Listing | None:
        """The list as the plan of looks takes it; None while it is of no use."""
        moment = self._clock.monotonic()
        if moment < self._rests_until:
            return None
        if moment >= self._cursor_again_at:
            # What the list did then may have been a passing fault.
            self.cursor_is_id = self._documented
        return Listing(self._page_size, self.cursor_is_id, self._known_share)

    @property
    def singly(self) -> Collection[str]:
        """The ids that no page serves."""
        return self.unlisted | self.doubted if self.doubted else self.unlisted

    def failed(self, *, may_pass: bool = False) -> float:
        """It could not be read, or was of no use: left alone for so many seconds."""
        first = SHORT_REST if may_pass else FIRST_REST
        rest = min(LONGEST_REST, first * 2.0 ** min(self._failures, 10))
        self._failures += 1
        self.unfinished = None
        self._rests_until = self._clock.monotonic() + rest
        return rest

    def placed(self, *, well: bool) -> None:
        """A page that was to begin after an id showed some of what it should, or nothing of it."""
        self._misplaced = 0 if well else self._misplaced + 1
        if self._misplaced >= ASTRAY:
            self.cursor_is_id, self._misplaced = False, 0
            self._cursor_again_at = self._clock.monotonic() + LONGEST_REST
            self.unlisted.clear()

    def astray(self, due: Collection[Place], now: int) -> list[str]:
        """Of what is due, what was never seen and is not at the top of the list.

        Nor does what was registered by a clock that has been set back since say where it is.
        """
        at_the_top = range(self.topped_at + 1, now + 1)
        return [one.id for one in due if not one.seen and one.listed_at not in at_the_top]

    def walk_for(self, astray: Sequence[str]) -> Page | None:
        """A walk through the list for such batches, if one may begin."""
        if self.walking or self._walk_after is None or len(astray) < WALK_FINDS:
            return None
        self._walk_patience = max(self._walk_patience, len(astray) // SOUGHT_PER_PAGE)
        return Page(self._walk_after, astray[0], tuple(astray), walks=True)

    def showed(self, entries: int, known: int, found: int) -> None:
        """A page had so many entries, of which so many are ours, and so many were looked at."""
        if entries:
            share = known / entries
            self._known_share += NEWEST_COUNTS * (share - self._known_share)
        if found:
            self._failures = 0

    def missed(self, ids: Collection[str]) -> None:
        """These should have been on a page and were not."""
        moment = self._clock.monotonic()
        if len(self.unlisted) >= MOST_UNLISTED or moment >= self._unlisted_until:
            # Many have ended since, or may be listed by now; the others are found out again.
            self.unlisted.clear()
            self._unlisted_until = moment + LONGEST_REST
        self.unlisted.update(ids)

    def topped(self, sent_at: int, cursor: str | None) -> None:
        """The newest page was read: what was registered before and is not on it stands below."""
        self.topped_at = sent_at
        if self._walk_after is None:
            self._walk_after, self._walk_patience = cursor, 0

    def walked(self, found: int, cursor: str | None) -> bool:
        """A page of a walk showed so many batches never seen before; whether to read on."""
        self._walk_patience -= 0 if found >= WALK_FINDS else 1
        self._walk_after = cursor if self._walk_patience >= 0 else None
        return self._walk_after is not None
