"""Registers by itself what an account lists, from the moment that was first asked for.

That moment is kept in the store, so that what was made while no daemon ran is found too. What
is older is not watched, and what was removed stays removed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from watcher.clock import Clock
from watcher.errors import ProviderError
from watcher.log import Log
from watcher.model import Observation, Request
from watcher.providers import Provider
from watcher.providers.pages import read_page
from watcher.store.batches import Registering
from watcher.store.database import Database
from watcher.store.ledger import Ledger

Result = TypeVar("Result")
REGISTERED_BY = "discovery"
# A list may show a batch later than it was made, and another clock made its time.
MARGIN = 10 * 60_000
MOST_PAGES = 50

# Sends one request of the account beside its looks; None while the account's limits forbid it.
Ask = Callable[[Request], Awaitable[object | None]]


@dataclass(frozen=True, slots=True)
class Marks:
    """Since when batches are wanted, and up to when the list has been read; milliseconds."""

    since: int
    read_until: int


def _by_providers_clock(marks: Marks, page: list[Observation], now: int) -> Marks:
    """The marks as they would be had our clock been right when they were set.

    A clock that was behind at the first call would want all there ever was, and one that was
    ahead nothing for years: the newest batch of the list tells which of them it is.
    """
    newest = max((one.created_at or 0 for one in page), default=0)
    begun_now = marks.read_until == now
    if begun_now and newest > now + MARGIN:
        return Marks(newest + 1, now)
    if marks.since > now and newest <= now:
        return Marks(now // 1000 * 1000, now)
    return marks


class Discovery:
    """Reads one account's list for batches nobody has registered."""

    def __init__(
        self, account: str, provider: Provider, ask: Ask, database: Database, clock: Clock, log: Log
    ) -> None:
        self._account = account
        self._provider = provider
        self._ask = ask
        self._database = database
        self._clock = clock
        self._log = log

    async def once(self) -> int:
        """Read the list once, newest first; returns how many batches were registered."""
        began = self._clock.now()
        marks = await self._marks(began)
        found, cursor = 0, None
        cursors: set[str] = set()
        for _ in range(MOST_PAGES):
            try:
                body = await self._ask(self._provider.page(cursor))
                if body is None:
                    return found
                page, cursor = await read_page(self._provider, body)
            except ProviderError as error:
                self._log.debug("list not read", account=self._account, error=str(error))
                return found
            marks = _by_providers_clock(marks, page, began)
            found += await self._register(page, marks.since)
            # Not every list is said to be in order: only a page of old ones alone ends it.
            old = [(one.created_at or 0) < marks.read_until - MARGIN for one in page]
            if cursor is None or cursor in cursors or all(old):
                break
            cursors.add(cursor)
        await self._keep(Marks(marks.since, began))
        return found

    async def _marks(self, now: int) -> Marks:
        """What was kept; the first call begins now."""

        def work(ledger: Ledger) -> Marks:
            kept = ledger.process.get(self._name)
            if kept:
                return Marks(int(kept["since"]), int(kept["read_until"]))
            # Providers give whole seconds.
            begin = Marks(now // 1000 * 1000, now)
            ledger.process.put(self._name, {"since": begin.since, "read_until": begin.read_until})
            return begin

        return await self._write(work)

    async def _keep(self, marks: Marks) -> None:
        document = {"since": marks.since, "read_until": marks.read_until}
        await self._write(lambda ledger: ledger.process.put(self._name, document))

    @property
    def _name(self) -> str:
        return f"discovery:{self._account}"

    async def _register(self, page: list[Observation], since: int) -> int:
        ids = [
            one.id
            for one in page
            if one.id is not None
            and (one.created_at or 0) >= since
            and self._provider.accepts(one.id)
        ]
        if not ids:
            return 0
        now = self._clock.now()

        def work(ledger: Ledger) -> list[str]:
            unknown = ledger.batches.unknown(self._account, ids)
            for id_ in unknown:
                wanted = Registering(
                    self._account, id_, self._provider.name, registered_by=REGISTERED_BY
                )
                ledger.batches.register(wanted, now)
            return unknown

        registered = await self._write(work)
        if registered:
            self._log.info("discovered", account=self._account, batches=registered[:20])
        return len(registered)

    async def _write(self, work: Callable[[Ledger], Result]) -> Result:
        return await self._database.transaction(lambda transaction: work(Ledger(transaction)))
