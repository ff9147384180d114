"""Looks at many batches at once, by pages of their account's list."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import anyio.lowlevel

from watcher import lifecycle
from watcher.cadence import Page
from watcher.clock import Clock
from watcher.errors import (
    Garbled,
    Missing,
    ProviderError,
    RateLimited,
    Refused,
    Unauthorized,
    Unavailable,
)
from watcher.lifecycle import LIST, Step
from watcher.log import Log
from watcher.meter import Meter
from watcher.model import Batch, Observation
from watcher.poller.lateness import Lateness
from watcher.poller.lists import Lists
from watcher.poller.recording import Look, Recorder
from watcher.poller.slots import Slots
from watcher.poller.standing import Standing, Write
from watcher.providers.pages import read_page

# So many batches are judged and written in one go: in between the loop serves others.
AT_ONCE = 100

# Whether one more request may go out now; it is counted as gone.
Allowed = Callable[[], bool]


@dataclass(slots=True)
class _Shown:
    """What the pages of a sweep have shown."""

    looks: int = 0
    # Of those, how many had never been seen.
    unseen: int = 0
    # When the first and the last entry with a time were made.
    newest: int | None = None
    oldest: int | None = None


@dataclass(slots=True)
class Sweeper:
    """Reads pages of one account's list and takes their entries for looks."""

    standing: Standing
    lists: Lists
    slots: Slots
    recorder: Recorder
    lateness: Lateness
    clock: Clock
    read: Write
    write: Write
    log: Log
    meter: Meter

    async def sweep(self, page: Page, allowed: Allowed) -> list[Look]:
        """Read the page, and those after it that belong to the sweep, as far as is `allowed`.

        What is left then is kept in `lists`. Returns the looks that could not be written.
        """
        try:
            return await self._read_on(page, allowed)
        finally:
            if page.walks:
                self.lists.walking = False

    async def _read_on(self, page: Page, allowed: Allowed) -> list[Look]:
        cursor, wanted, unwritten = page.after, set(page.ids), list[Look]()
        had: set[str | None] = set()
        shown, following = _Shown(), cursor
        while cursor not in had and (page.walks or len(had) < page.count):
            if had and not page.walks and not allowed():
                left = page.count - len(had)
                self.lists.unfinished = replace(page, after=cursor, ids=tuple(wanted), count=left)
                return unwritten
            sent_at = self.clock.now()
            entries, following = await self._ask(page, cursor)
            if entries is None:
                return unwritten
            seen_before = shown.unseen
            unwritten += await self.take(entries, wanted, sent_at=sent_at, shown=shown)
            if cursor is None:
                self.lists.topped(sent_at, following)
            had.add(cursor)
            found = shown.unseen - seen_before
            goes_on = not page.walks or self.lists.walked(found, following)
            if following is None or not goes_on:
                break
            cursor = following
            if page.walks and not allowed():
                return unwritten
        if had and not page.walks:
            await self._miss(page, wanted, shown, to_the_end=following is None)
        return unwritten

    async def _ask(
        self, sweep: Page, cursor: str | None
    ) -> tuple[list[Observation] | None, str | None]:
        """One page and the cursor of the next; None for a page that could not be had."""
        standing, provider = self.standing, self.standing.looking.provider
        try:
            body = await standing.send(provider.page(cursor, sweep.size or provider.page_size))
            page = await read_page(provider, body, cursor)
        except RateLimited as error:
            await standing.limited(error)
        except (Refused, Missing) as error:
            if cursor is not None and cursor == sweep.after and sweep.count == 1:
                # No page has named this cursor: the batch is not on the list, or no id is one.
                self.log.debug("list not read", account=standing.looking.name, error=str(error))
                self.lists.missed([cursor])
                self.lists.placed(well=False)
            else:
                await self._failed(error)
        except ProviderError as error:
            await self._failed(error)
        else:
            self.meter.add("pages", account=standing.looking.name, result="seen")
            return page
        return None, None

    async def _failed(self, error: ProviderError) -> None:
        """The list is left alone for a while: single looks go on, and tell of the account."""
        may_pass = isinstance(error, Unavailable | Garbled)
        standing, rest = self.standing, self.lists.failed(may_pass=may_pass)
        standing.notice_jump()
        now, name = self.clock.now(), standing.looking.name
        self.log.debug("list not read", account=name, error=str(error), rests=rest)
        self.meter.add("pages", account=name, result=type(error).__name__.lower())
        if isinstance(error, Unauthorized):
            # A key may be allowed to retrieve and not to list.
            return
        if not isinstance(error, Unavailable):
            standing.account = lifecycle.heard(standing.account)
            return
        before, step = standing.account, standing.judge(error, LIST, now)
        standing.account = step.account
        if step.event is not None:
            try:
                await standing.keep(standing.address(step.event), now)
            except Exception:
                standing.take_back(step, before)
                raise

    async def take(
        self,
        entries: Sequence[Observation],
        wanted: set[str],
        *,
        sent_at: int,
        shown: _Shown | None = None,
    ) -> list[Look]:
        """Take the entries of a page for looks; returns those that could not be written.

        `wanted` loses what was shown.
        """
        shown, name, now = shown or _Shown(), self.standing.looking.name, self.clock.now()
        said = {one.id: one for one in entries if one.id is not None}
        known = await self.read(lambda ledger: ledger.batches.of_ids(name, list(said)))
        batches = [one for one in known if self._is_free(one, wanted)]
        batches.sort(key=lambda one: one.next_look_at or 0)
        _widen(shown, entries)
        self.standing.notice_jump()
        unwritten: list[Look] = []
        taken = 0
        for start in range(0, len(batches), AT_ONCE):
            some = batches[start : start + AT_ONCE]
            for batch in some:
                if batch.next_look_at is not None and batch.next_look_at <= sent_at:
                    self.lateness.note(batch.next_look_at, sent_at)
            looks = await self._judge(some, said, now, 1 / len(batches))
            for look in looks[bool(not start) :]:
                # The request was made for what has been due longest.
                look.noted = False
            await self.recorder.record_all([look for look in looks if look.failure is None])
            unwritten += [look for look in looks if look.failure is not None]
            taken += len(looks)
            shown.unseen += sum(look.before.status is None for look in looks)
            self.lists.unlisted.difference_update(look.before.id for look in looks)
            await anyio.lowlevel.checkpoint()
        shown.looks += taken
        self.meter.add("looks", taken, account=name, result="listed")
        self.lists.showed(len(entries), len(known), taken)
        wanted.difference_update(said)
        return unwritten

    def _is_free(self, batch: Batch, wanted: Collection[str]) -> bool:
        watched = batch.removed_at is None and batch.next_look_at is not None
        return watched and (batch.id in wanted or not self.slots.holds(batch.id))

    async def _judge(
        self, batches: Sequence[Batch], said: dict[str, Observation], now: int, price: float
    ) -> list[Look]:
        """What the entries mean; what only a look at the batch can tell is left to one."""
        standing = self.standing
        looks, due = [], []
        for before in batches:
            try:
                batch = lifecycle.batch_by_clock(before, now, standing.steady_since)
                step = lifecycle.listed(batch, said[batch.id], now)
            except Exception as error:  # noqa: BLE001  the guard around one batch
                looks.append(Look(before, Step(before), now, failure=error))
                continue
            if step is not None:
                looks.append(Look(batch, step, now, price))
                continue
            self.lists.doubted.add(batch.id)
            if said[batch.id].status.terminal and not batch.ended:
                earliest = (batch.last_look_at or 0) + standing.looking.pace.min_interval
                due.append((batch.id, max(now, earliest)))
        first = next((look for look in looks if look.failure is None), None)
        if first is not None:
            first.account_before = standing.account
            first.account_step = lifecycle.answered(standing.account, now)
            standing.account = first.account_step.account
        else:
            # Strangers' batches do not vouch for ours.
            standing.account = lifecycle.heard(standing.account)
        if due:
            name = standing.looking.name
            await self.write(lambda ledger: ledger.agenda.spread(name, due))
        return looks

    async def _miss(
        self, page: Page, wanted: Collection[str], shown: _Shown, *, to_the_end: bool
    ) -> None:
        """What was not where it should be is looked at singly."""
        if page.after is not None and page.count == 1:
            self.lists.placed(well=len(wanted) < len(page.ids))
        if not wanted:
            return
        newest = None if page.after is None else shown.newest
        oldest = None if to_the_end else shown.oldest
        name, ids = self.standing.looking.name, list(wanted)
        batches = await self.read(lambda ledger: ledger.batches.of_ids(name, ids))

        def should_stand_there(batch: Batch) -> bool:
            if batch.id == page.target:
                return True
            made = batch.created_at or 0
            return (newest is None or made < newest) and (oldest is None or made > oldest)

        # What was never seen may stand anywhere.
        seen = [one for one in batches if one.status is not None]
        self.lists.missed([one.id for one in seen if should_stand_there(one)])
        if seen and not shown.looks:
            self.lists.failed()


def _widen(shown: _Shown, entries: Sequence[Observation]) -> None:
    times = [one.created_at for one in entries if one.created_at is not None]
    if times:
        shown.newest = max(times) if shown.newest is None else max(shown.newest, *times)
        shown.oldest = min(times) if shown.oldest is None else min(shown.oldest, *times)
