"""Registers by itself what an account lists, from the moment that was first asked for.

What the list shows then is not watched; what is made later is, though no daemon ran at the time.
Where the reading stands is kept in the store. What was removed stays removed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

from watcher.clock import Clock
from watcher.errors import Missing, ProviderError, Refused
from watcher.log import Log
from watcher.model import Observation, Request
from watcher.providers import Provider
from watcher.providers.pages import read_page
from watcher.routing import unmet_metadata
from watcher.store.batches import Registering
from watcher.store.database import Database
from watcher.store.ledger import Ledger

Result = TypeVar("Result")
REGISTERED_BY = "discovery"
# A list may show a batch so much later than it was made, and still it is found.
MARGIN = 10 * 60_000
# Batches made together may be listed in any order among themselves.
DISORDER = 60_000
# One call reads no more; the next goes on where it stopped.
MOST_PAGES = 50
# A list in no order is read to its end again and again, and so by a few pages at a time.
MOST_PAGES_OUT_OF_ORDER = 10
# A page that so often could not be had may never be: the list is begun anew.
MOST_FAILURES = 5
# The first of 2020: nobody sold batches before, and a clock that says so is wrong.
PLAUSIBLE = 1_577_836_800_000

# Sends one request of the account beside its looks; None while the account's limits forbid it.
Ask = Callable[[Request], Awaitable[object | None]]
# Is told what a page says of batches, once those that were new on it are registered.
Seen = Callable[[list[Observation]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Reading:
    """A way through the list from its first page on, which may take several calls."""

    # By our clock.
    began: int
    # Whether nothing it meets is new: it shows what was there before.
    first: bool = False
    cursor: str | None = None
    # When the newest batch on its first page was made.
    newest: int = 0
    failures: int = 0

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Reading:
        """What was kept. KeyError, TypeError or ValueError if damaged."""
        cursor = document["cursor"]
        if cursor is not None and not isinstance(cursor, str):
            raise TypeError("the cursor is no text")
        return cls(
            int(document["began"]),
            bool(document["first"]),
            cursor,
            int(document["newest"]),
            int(document["failures"]),
        )


@dataclass(frozen=True, slots=True)
class Marks:
    """Since when batches are wanted, and how far the list has been read; milliseconds.

    `since` and `theirs` are times by the provider's clock, which need not agree with ours: so
    they come from the batches listed, and ours only says how much time has passed.
    """

    since: int
    # When the last reading that came to its end began by our clock, and by theirs at the least.
    read_until: int
    theirs: int
    # Made at `since`, and there before anybody asked.
    before: frozenset[str] = field(default_factory=frozenset)
    # Whether nothing has been read yet, so that `since` is by our clock.
    unread: bool = False
    reading: Reading | None = None

    def document(self) -> dict[str, Any]:
        """As it is kept in the store."""
        return {**asdict(self), "before": sorted(self.before)}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Marks:
        """What was kept, by an earlier version too. KeyError, TypeError or ValueError if damaged.

        Earlier versions knew `since`, by our clock, and `read_until`.
        """
        reading, read_until = document.get("reading"), int(document["read_until"])
        return cls(
            int(document["since"]),
            read_until,
            int(document.get("theirs", read_until)),
            frozenset(map(str, document.get("before", ()))),
            bool(document.get("unread")),
            None if reading is None else Reading.of(reading),
        )


def _created(page: list[Observation]) -> list[int]:
    return [one.created_at for one in page if one.created_at is not None]


def _newest_first(page: list[Observation]) -> bool:
    """Whether a page begins with its newest, as far as can be said."""
    created = _created(page)
    lowest = created[0] if created else 0
    for at in created:
        if at > lowest + DISORDER:
            return False
        lowest = min(lowest, at)
    return not created or created[0] >= created[-1]


def _set_by_a_wrong_clock(marks: Marks, newest: int, now: int) -> bool:
    """Whether `since` cannot be right: our clock was behind when it was set, or ahead."""
    behind = marks.unread and (marks.since < PLAUSIBLE or newest > now + MARGIN)
    ahead = newest < marks.since and marks.since > now + MARGIN
    return behind or ahead


def _met(marks: Marks, reading: Reading, page: list[Observation], now: int) -> Marks:
    """The marks once a page was met, before it is known what follows."""
    newest = max(_created(page), default=0)
    if reading.cursor is None:
        first = reading.first or (newest > 0 and _set_by_a_wrong_clock(marks, newest, now))
        if first:
            # Where nothing is listed yet, all that ever will be is new; but some lists lag.
            since = 0 if newest else marks.since - MARGIN
            marks = replace(marks, since=since, before=frozenset())
        reading = replace(reading, first=first, newest=newest)
    if reading.first and newest >= marks.since:
        there = frozenset(str(one.id) for one in page if one.created_at == newest)
        known = marks.before if newest == marks.since else frozenset()
        marks = replace(marks, since=newest, before=known | there)
    return replace(marks, unread=False, reading=reading)


def _after(marks: Marks, reading: Reading, page: list[Observation], following: str | None) -> Marks:
    """The marks once a page was taken in: where to go on, or that all has been read."""
    if following is not None and not _reaches_what_was_read(marks, reading, page):
        return replace(marks, reading=replace(reading, cursor=following, failures=0))
    if reading.first:
        return replace(marks, read_until=reading.began, theirs=marks.since, reading=None)
    passed = max(0, reading.began - marks.read_until)
    theirs = max(reading.newest, min(marks.theirs + passed, reading.began))
    # What the list could have shown is settled.
    since = max(marks.since, reading.newest - MARGIN)
    before = marks.before if since == marks.since else frozenset()
    return Marks(since, reading.began, theirs, before)


def _reaches_what_was_read(marks: Marks, reading: Reading, page: list[Observation]) -> bool:
    """Whether nothing new can follow a page: it is in order, and ends with what was read."""
    created = _created(page)
    if not created:
        # What does not say when it was made cannot be told from what was there before.
        return bool(page)
    # A time of theirs that lies ahead may come from a clock that was put back since.
    trusted = not reading.first and marks.theirs <= reading.began
    settled = max(marks.since, marks.theirs - MARGIN) if trusted else marks.since
    return created[-1] < settled - DISORDER and _newest_first(page)


class Discovery:
    """Reads one account's list for batches nobody has registered.

    `wanted` are patterns that a batch's metadata must fit, as in a route; none: every batch.
    """

    def __init__(
        self,
        account: str,
        provider: Provider,
        ask: Ask,
        database: Database,
        clock: Clock,
        log: Log,
        *,
        wanted: Mapping[str, str] | None = None,
        seen: Seen | None = None,
    ) -> None:
        self._account = account
        self._provider = provider
        self._ask = ask
        self._database = database
        self._clock = clock
        self._log = log
        self._wanted = wanted or {}
        self._seen = seen

    async def once(self) -> int:
        """Read the list, from where the last call stopped; returns how many were registered."""
        now, found = self._clock.now(), 0
        marks, begun = await self._marks(now)
        reading = marks.reading or Reading(now, first=begun)
        cursors: set[str | None] = set()
        while len(cursors) < MOST_PAGES:
            answer = await self._page(marks, reading)
            if answer is None:
                break
            page, following = answer
            cursors.add(reading.cursor)
            # One that overlooks its cursor would show the same page for ever.
            following = None if following in cursors else following
            met = _met(marks, reading, page, now)
            marks = _after(met, met.reading or reading, page, following)
            found += await self._take(self._new(met, page), marks)
            if self._seen is not None:
                await self._seen(page)
            long = len(cursors) >= MOST_PAGES_OUT_OF_ORDER and not _newest_first(page)
            if marks.reading is None or long:
                break
            reading = marks.reading
        return found

    async def _page(
        self, marks: Marks, reading: Reading
    ) -> tuple[list[Observation], str | None] | None:
        """The page where the reading stands; None if it cannot be had now."""
        try:
            body = await self._ask(self._provider.page(reading.cursor))
            if body is None:
                return None
            return await read_page(self._provider, body, reading.cursor)
        except ProviderError as error:
            self._log.debug("list not read", account=self._account, error=str(error))
            if reading.cursor is not None:
                # The place may be gone: to ask for it for ever would be to find nothing more.
                failures = reading.failures + 1
                gone = isinstance(error, Missing | Refused) or failures >= MOST_FAILURES
                left = None if gone else replace(reading, failures=failures)
                began = reading.began // 1000 * 1000
                if gone and reading.first and began > marks.since:
                    # Not all that was there before has been met: only our clock can say what was.
                    marks = replace(marks, since=began, before=frozenset(), unread=True)
                await self._take([], replace(marks, reading=left))
            return None

    def _new(self, marks: Marks, page: list[Observation]) -> list[str]:
        """The ids on a page that are to be watched, known ones included."""
        return [
            one.id
            for one in page
            if one.id is not None
            and (one.created_at or 0) >= marks.since
            and one.id not in marks.before
            and self._provider.accepts(one.id)
            and unmet_metadata(self._wanted, one.metadata) is None
        ]

    async def _marks(self, now: int) -> tuple[Marks, bool]:
        """What was kept, and whether nothing was: the first call begins now."""

        def work(ledger: Ledger) -> tuple[Marks, bool]:
            try:
                return Marks.of(ledger.process.get(self._name)), False
            except (KeyError, TypeError, ValueError, AttributeError):
                # Providers give whole seconds.
                marks = Marks(now // 1000 * 1000, now, now, unread=True)
                ledger.process.put(self._name, marks.document())
                return marks, True

        marks, begun = await self._write(work)
        if begun:
            self._log.info("discovery begins", account=self._account)
        return marks, begun

    async def _take(self, ids: list[str], marks: Marks) -> int:
        """Register what is unknown and keep the marks, in one transaction; returns how many."""
        now = self._clock.now()

        def work(ledger: Ledger) -> list[str]:
            unknown = ledger.batches.unknown(self._account, ids)
            provider = self._provider.name
            wanted = [
                Registering(self._account, id_, provider, registered_by=REGISTERED_BY)
                for id_ in unknown
            ]
            ledger.batches.register_all(wanted, now)
            ledger.process.put(self._name, marks.document())
            return unknown

        registered = await self._write(work)
        if registered:
            self._log.info("discovered", account=self._account, batches=registered[:20])
        return len(registered)

    async def _write(self, work: Callable[[Ledger], Result]) -> Result:
        return await self._database.transaction(lambda transaction: work(Ledger(transaction)))

    @property
    def _name(self) -> str:
        return f"discovery:{self._account}"
