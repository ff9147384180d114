"""What of an account's batches may be looked at now, and by which requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from watcher import cadence
from watcher.cadence import Page, Single
from watcher.log import Log
from watcher.meter import Meter
from watcher.model import Batch
from watcher.poller.lists import Lists
from watcher.poller.recording import PUT_OFF
from watcher.poller.slots import Slots
from watcher.poller.standing import Standing, Write
from watcher.store.agenda import Horizon
from watcher.store.ledger import Ledger

SECOND = 1_000
# A batch that serves as a probe need not be due: anything due within this will do.
ANY_TIME = 60 * 60 * SECOND
# Among so many the one that serves as a probe is chosen.
CANDIDATES = 50
# A pass claims no more than this, so that a claim stays short.
CLAIM_LIMIT = 500


@dataclass(slots=True)
class Claims:
    """Claims what is due while this process holds the account's lease."""

    standing: Standing
    slots: Slots
    lists: Lists
    read: Write
    write: Write
    holder: str
    log: Log
    meter: Meter
    # Whether the lease was held at the last claim.
    leased: bool = True

    async def requests(self, now: int, most: int) -> Sequence[Batch | Page]:
        """The requests that serve best what is due, at most so many."""
        if most <= 0:
            return []
        name, lists, gate = self._name, self.lists, self.slots.gate(self._limit)
        listing, unfinished = lists.listing, lists.unfinished
        lists.unfinished = None
        room = 1 if listing is None else listing.room
        limit, horizon, hidden = min(CLAIM_LIMIT, most * room), self._horizon(now), self._hidden()
        first = [] if unfinished is None else [unfinished]
        singly = frozenset(lists.singly)
        served = gate.closed.union(*(page.ids for page in first))

        def work(ledger: Ledger) -> tuple[list[Single | Page], list[Batch]] | None:
            if not self._holds(ledger, now):
                return None
            agenda = ledger.agenda
            due = gate.admit(agenda.due(name, now, limit, horizon, served, unseen_since=hidden))
            looks: list[Single | Page] = [*first]
            astray = lists.astray(due, now)
            walk = None if listing is None or first else lists.walk_for(astray)
            if walk is not None:
                looks.append(walk)
                due = [one for one in due if one.id not in walk.ids]
            looks += cadence.plan(
                due,
                agenda.around(name),
                listing,
                now,
                most=most - len(looks),
                singly=singly.union(astray),
                served=served,
            )
            ids = [look.id for look in looks if isinstance(look, Single)]
            return looks, ledger.batches.of_ids(name, ids)

        planned = await self.read(work)
        self.leased = planned is not None
        if planned is None:
            return []
        looks, batches = planned
        await self._put_off_unreadable(looks, batches, now)
        return [*(look for look in looks if isinstance(look, Page)), *batches]

    async def _put_off_unreadable(
        self, looks: Sequence[Single | Page], batches: Sequence[Batch], now: int
    ) -> None:
        """Leave alone for a while what cannot be read: a later version's rows, or damaged ones."""
        asked = {look.id for look in looks if isinstance(look, Single)}
        ids = sorted(asked - {one.id for one in batches})
        if not ids:
            return
        name, due = self._name, [(id_, now + PUT_OFF) for id_ in ids]
        await self.write(lambda ledger: ledger.agenda.spread(name, due))
        self.meter.add("looks", len(ids), account=name, result="crashed")
        self.log.error("batches cannot be read", account=name, ids=ids[:20], count=len(ids))

    async def candidates(self, now: int) -> list[Batch]:
        """Batches one of which may serve as the account's probe."""
        name, gate = self._name, self.slots.gate(self._limit)

        def work(ledger: Ledger) -> list[Batch]:
            if not self._holds(ledger, now):
                return []
            by = now + ANY_TIME
            due = ledger.agenda.due(name, by, CANDIDATES, self._horizon(now), gate.closed)
            return ledger.batches.of_ids(name, [one.id for one in gate.admit(due)])

        return await self.read(work)

    async def next_due(self) -> int | None:
        """When the next look is due of those that could be started."""
        name, closed, hidden = self._name, self.slots.gate(self._limit).closed, self._hidden()
        return await self.read(
            lambda ledger: ledger.agenda.next_due(name, closed, unseen_since=hidden)
        )

    async def spread_overdue(self, now: int, before: int, interval: int) -> None:
        """Give all that was due before a moment times within the next `interval`, by its key."""
        name, horizon = self._name, self._horizon(now)
        ids = await self.read(lambda ledger: ledger.agenda.overdue(name, before, horizon))
        if len(ids) > self._limit:
            due = [(id_, now + round(interval * cadence.jitter(name, id_, now))) for id_ in ids]
            await self.write(lambda ledger: ledger.agenda.spread(name, due))

    @property
    def _name(self) -> str:
        return self.standing.looking.name

    @property
    def _limit(self) -> int:
        return self.standing.looking.max_concurrency

    def _holds(self, ledger: Ledger, now: int) -> bool:
        return ledger.process.holds(f"account:{self._name}", self.holder, now)

    def _hidden(self) -> int:
        """Up to when the batches never seen were registered that a walk is under way for."""
        return self.lists.topped_at if self.lists.walking else -1

    def _horizon(self, now: int) -> Horizon:
        """Further ahead than this no batch is due: the clock was set back."""
        longest = self.standing.looking.pace.max_interval
        return Horizon(
            any=now + max(cadence.LONGEST_WAIT, 2 * longest),
            open=now + max(longest, PUT_OFF) * 5 // 4,
        )
