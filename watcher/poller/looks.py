"""The looks at one account's batches: when one may start, what it brings, how it is recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

from watcher import lifecycle, routing
from watcher.cadence import Page
from watcher.clock import Clock
from watcher.errors import RateLimited, StoreError
from watcher.log import Log
from watcher.meter import Meter
from watcher.model import Account, Batch, Observation, Request
from watcher.poller.allowance import Allowance, Load
from watcher.poller.claims import Claims
from watcher.poller.lateness import Lateness
from watcher.poller.lists import Lists
from watcher.poller.looking import Looking
from watcher.poller.recording import PUT_OFF, Look, Recorder
from watcher.poller.retrieving import Retriever
from watcher.poller.slots import Slots
from watcher.poller.standing import SECRET_READ_EVERY, Standing
from watcher.poller.sweeping import Sweeper
from watcher.store.database import Database
from watcher.store.ledger import Ledger
from watcher.wake import Wake

Result = TypeVar("Result")
SECOND = 1_000
# Seconds until the next try without a lease: another process may hold it, or the clock jumped.
LEASE_WAIT = 1.0
# A process takes over the pace of the one before if that was there so many milliseconds ago; not
# any pace: what stands in the state may be damaged.
PACE_KEPT = 5 * 60 * SECOND
MOST_SLOWED = 1_000.0


class AccountPoller:
    """Looks at the batches of one account, within its limits."""

    def __init__(
        self,
        looking: Looking,
        database: Database,
        clock: Clock,
        *,
        board: Callable[[], routing.Switchboard],
        told: Callable[[], None],
        holder: str,
        log: Log,
        meter: Meter,
    ) -> None:
        self.standing = Standing(
            looking, clock, self._write_late, board=board, told=told, log=log, meter=meter
        )
        self._database = database
        self._clock = clock
        self._holder = holder
        self._log = log
        self._meter = meter
        self._allowance = Allowance(looking.requests_per_minute, looking.max_concurrency, clock)
        self._slots = Slots()
        self.lateness = Lateness()
        provider = looking.provider
        self._lists = Lists(provider.page_size, clock, cursor_is_id=provider.cursor_is_id)
        self._load = Load(self._allowance.per_second, clock)
        self._recorder = Recorder(self.standing, self._write_late, self._load, log=log, meter=meter)
        self._claims = Claims(
            self.standing,
            self._slots,
            self._lists,
            self._read,
            self._write_late,
            holder,
            log,
            meter,
        )
        self._sweeper = Sweeper(
            self.standing,
            self._lists,
            self._slots,
            self._recorder,
            self.lateness,
            clock,
            self._read,
            self._write_late,
            log,
            meter,
        )
        self._retriever = Retriever(
            self.standing, self._lists, self._recorder, self.lateness, clock, log, meter
        )
        self._probing = False
        self._probed_by_list = False
        # Whether a request beside the looks, or of a sweep, had to wait for them.
        self._asked_in_vain = False
        # Set whenever a look has ended or something was registered: there may be work.
        self.wake = Wake()

    @property
    def looking(self) -> Looking:
        """The account as its settings are now."""
        return self.standing.looking

    @property
    def account(self) -> Account:
        """What is known of the account."""
        return self.standing.account

    @property
    def disabled(self) -> str | None:
        """Why the account is not looked at, when its credential cannot be read."""
        return self.standing.disabled

    @property
    def slowed(self) -> float:
        """How many times longer than wished its batches wait, for want of requests a minute."""
        return self._load.stretch

    @property
    def _set_aside(self) -> int:
        """Requests left over for what had to wait beside the looks, if ever there are two."""
        return int(self._asked_in_vain and self._allowance.burst > 1)

    @property
    def busy(self) -> bool:
        """Whether looks are under way."""
        return bool(self._slots) or self._probing

    def adopt_settings(self, looking: Looking) -> None:
        """Take a reload's settings; looks under way end with the old ones."""
        limits = (looking.requests_per_minute, looking.max_concurrency)
        if limits != (self.looking.requests_per_minute, self.looking.max_concurrency):
            self._allowance = Allowance(*limits, self._clock)
            self._load.limit(self._allowance.per_second)
        if looking.provider != self.looking.provider:
            provider = looking.provider
            self._lists.begin_anew(provider.page_size, cursor_is_id=provider.cursor_is_id)
        self.standing.adopt_settings(looking)

    async def begin(self, *, spread: bool) -> None:
        """Read what is remembered of the account; spread what has long been due."""
        await self.standing.begin()
        beat = await self._read(lambda ledger: ledger.process.get("daemon"))
        slowed = beat.get("slowed", {}).get(self.looking.name)
        at, now = beat.get("at"), self._clock.now()
        if isinstance(slowed, int | float) and type(at) is int and 0 <= now - at < PACE_KEPT:
            self._load.assume(min(max(1.0, slowed), MOST_SLOWED))
        if spread:
            await self.spread_overdue()

    async def spread_overdue(self) -> None:
        """Give all that is overdue times within the next `min_interval`, by its key.

        Nothing of this comes too early: each was due long ago.
        """
        now, interval = self._clock.now(), self.looking.pace.min_interval
        self._load.begin_anew()
        await self._claims.spread_overdue(now, now - interval, interval)

    # When a look may start

    async def once(self, now: int, tasks: TaskGroup) -> int:
        """Start a look, in `tasks`, at whatever is due and allowed; returns how many it started."""
        standing = self.standing
        if standing.notice_jump():
            await self.spread_overdue()
        await standing.catch_up()
        await standing.read_credential(now)
        if self._held(now):
            self._load.begin_anew()
        if standing.disabled is not None or standing.paused(now):
            return 0
        free = min(
            self.looking.max_concurrency - len(self._slots) - self._probing,
            self._allowance.available() - self._set_aside,
        )
        if free <= 0:
            return 0
        if standing.unwritable:
            # What cannot be recorded is due still, and would be asked for again and again.
            await standing.keep(None, now)
        started = await self._start_probe(now, tasks)
        if standing.account.suspected:
            return started
        looks = await self._claims.requests(now, free - started)
        for look in looks:
            if isinstance(look, Page):
                self._start_page(look, tasks)
            else:
                self._start(look, tasks)
        return started + len(looks)

    async def once_through(self) -> None:
        """Look once at all that is due now, within the account's limits; returns when done."""
        now = self._clock.now()
        async with anyio.create_task_group() as tasks:
            while True:
                # What is let go of while a claim is made is not in it.
                busy = self.busy
                started = await self.once(now, tasks)
                spare = self._allowance.available() - self._set_aside
                if not started and not (busy or self.busy) and spare > 0:
                    return
                if not started and (self.disabled is not None or self.standing.paused(now)):
                    return
                wait = self._allowance.wait(1 + self._set_aside)
                await self.wake.wait(min(1.0, max(0.001, wait)))

    async def ask(self, request: Request) -> object | None:
        """Send one request beside the looks; None while the account's limits forbid it.

        Raises ProviderError.
        """
        now, standing = self._clock.now(), self.standing
        await standing.read_credential(now)
        if self._held(now) or not self._allowance.available():
            # The looks leave one over for the next time.
            self._asked_in_vain = True
            return None
        self._asked_in_vain = False
        self._allowance.take()
        try:
            return await standing.send(request)
        except RateLimited as error:
            await standing.limited(error)
            return None

    async def seen(self, entries: Sequence[Observation]) -> None:
        """Take a page that was read beside the looks for looks at its batches.

        Raises StoreError.
        """
        looks = await self._sweeper.take(entries, set(), sent_at=self._clock.now())
        await self._settle(looks)
        self.wake.set()

    def _held(self, now: int) -> bool:
        """Whether nothing but a probe may go out."""
        standing = self.standing
        held = standing.disabled is not None or standing.paused(now)
        return held or standing.account.suspected

    async def next_wait(self) -> float:
        """Seconds until there may be something to do, at most a minute."""
        now, account = self._clock.now(), self.account
        if self.disabled is not None:
            return float(SECRET_READ_EVERY)
        if not self._claims.leased:
            return LEASE_WAIT
        if account.paused_until is not None and account.paused_until > now:
            return min(60.0, (account.paused_until - now) / SECOND)
        due = [] if account.probe_due_at is None else [account.probe_due_at]
        most = self.looking.max_concurrency
        if not account.suspected and len(self._slots) + self._probing < most:
            next_due = await self._claims.next_due()
            if next_due is not None:
                due.append(next_due)
        if not due:
            return 60.0
        wait = self._allowance.wait(1 + self._set_aside)
        return min(60.0, max(0.0, (min(due) - now) / SECOND, wait))

    def _start(self, batch: Batch, tasks: TaskGroup) -> None:
        self._allowance.take()
        self._slots.begin(batch.id)
        tasks.start_soon(self._look, batch)

    def _start_page(self, page: Page, tasks: TaskGroup) -> None:
        self._allowance.take()
        # A walk is for what is hidden while it lasts.
        number = self._slots.begin_page(() if page.walks else page.ids)
        self._lists.walking = self._lists.walking or page.walks
        tasks.start_soon(self._sweep, page, number)

    async def _start_probe(self, now: int, tasks: TaskGroup) -> int:
        """Ask for the account's own word when its time has come."""
        standing = self.standing
        if standing.account.suspected and not self.busy:
            standing.account = lifecycle.suspect(standing.account, now)
        account, due = standing.account, standing.account.probe_due_at
        if due is None or self._probing or now < due <= now + lifecycle.PROBE_INTERVAL:
            return 0
        standing.account = replace(account, probe_due_at=None, probed_at=now)
        # Every second probe of an account in doubt is a batch: a key may be allowed to retrieve
        # and not to list, and a list may be allowed where a batch is another project's.
        by_batch = account.suspected and self._probed_by_list
        batches = await self._claims.candidates(now) if by_batch else []
        self._probed_by_list = not batches
        if batches:
            # One that is refused by itself says nothing of the account.
            self._start(min(batches, key=lambda batch: batch.failures), tasks)
        else:
            self._probing = True
            self._allowance.take()
            tasks.start_soon(self._probe)
        return 1

    # One look

    async def _look(self, batch: Batch) -> None:
        """Look at one batch, whatever comes of it."""
        began = self._clock.monotonic()
        try:
            if await self._retriever.look(batch):
                await self.spread_overdue()
        except StoreError as error:
            # Nothing was acknowledged: the batch is due still.
            self._unwritable(error)
        except Exception as error:  # noqa: BLE001  the guard around one batch
            await self._put_off(batch, error)
        finally:
            self._slots.end(batch.id, self._clock.monotonic() - began)
            self.wake.set()

    async def _sweep(self, page: Page, number: int) -> None:
        """Read a page of the list, or several, whatever comes of it."""
        try:
            await self._settle(await self._sweeper.sweep(page, self._one_more))
        except StoreError as error:
            self._unwritable(error)
        except Exception:  # noqa: BLE001  the guard around one page
            self._lists.failed()
            self._log.exception("page failed", account=self.looking.name)
        finally:
            self._slots.end_page(number)
            self.wake.set()

    async def _settle(self, unwritten: Sequence[Look]) -> None:
        """Put off what failed by a fault of ours. Raises StoreError if the state failed."""
        for look in unwritten:
            if isinstance(look.failure, StoreError):
                raise look.failure
            if look.failure is not None:
                await self._put_off(look.before, look.failure)

    def _one_more(self) -> bool:
        """Whether a sweep may go on with one more request; it counts as made."""
        if self._held(self._clock.now()):
            return False
        # The looks leave one over for the next time: a sweep must not starve beside them.
        self._asked_in_vain = not self._allowance.available()
        if not self._asked_in_vain:
            self._allowance.take()
        return not self._asked_in_vain

    def _unwritable(self, error: StoreError) -> None:
        if not self.standing.unwritable:
            self._log.error("look not recorded", account=self.looking.name, error=str(error))
        self.standing.unwritable = True

    async def _put_off(self, batch: Batch, failure: Exception) -> None:
        """Leave a batch alone that a look has failed at by a fault of ours."""
        self._log.error("look failed", batch=batch.key, exc_info=failure)
        self._meter.add("looks", account=batch.account, result="crashed")
        until = self._clock.now() + PUT_OFF
        try:
            await self._write(lambda ledger: ledger.agenda.put_off(batch, until))
        except StoreError as error:
            self._unwritable(error)

    async def _probe(self) -> None:
        """Ask the account itself, whatever comes of it."""
        try:
            if await self.standing.probe():
                await self.spread_overdue()
        except StoreError as error:
            self.standing.unwritable = True
            self._log.error("probe not recorded", account=self.looking.name, error=str(error))
        except Exception:  # noqa: BLE001  the guard around one probe
            self._log.exception("probe failed", account=self.looking.name)
        finally:
            self._probing = False
            self.wake.set()

    async def _write(self, work: Callable[[Ledger], Result]) -> Result:
        return await self._database.transaction(lambda transaction: work(Ledger(transaction)))

    async def _write_late(self, work: Callable[[Ledger], Result]) -> Result:
        return await self._write(work)

    async def _read(self, work: Callable[[Ledger], Result]) -> Result:
        return await self._database.query(lambda transaction: work(Ledger(transaction)))
