"""The looks at one account's batches: when one may start, what it brings, how it is recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

from watcher import cadence, lifecycle, routing
from watcher.clock import Clock
from watcher.errors import Garbled, Missing, ProviderError, RateLimited, StoreError
from watcher.lifecycle import Step
from watcher.log import Log
from watcher.meter import Meter
from watcher.model import Account, Batch, Observation, Request
from watcher.poller.allowance import Allowance
from watcher.poller.looking import Looking
from watcher.poller.slots import Slots
from watcher.poller.standing import SECRET_READ_EVERY, Standing
from watcher.store.database import Database
from watcher.store.ledger import Ledger, Told
from watcher.wake import Wake

Result = TypeVar("Result")
SECOND = 1_000
# A poisonous row is put off this long, so that it cannot become a crash loop.
PUT_OFF = 5 * 60 * SECOND
# A batch that serves as a probe need not be due: anything due within this will do.
ANY_TIME = 60 * 60 * SECOND
# Among so many the one that serves as a probe is chosen.
CANDIDATES = 50
# Seconds until the next try without a lease: another process may hold it, or the clock jumped.
LEASE_WAIT = 1.0
# A pass claims no more than this, so that a claim stays short.
CLAIM_LIMIT = 500


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
        self.looking = looking
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
        self._probing = False
        self._probed_by_list = False
        # Whether the lease was held at the last claim.
        self._leased = True
        # Set whenever a look has ended or something was registered: there may be work.
        self.wake = Wake()

    @property
    def account(self) -> Account:
        """What is known of the account."""
        return self.standing.account

    @property
    def disabled(self) -> str | None:
        """Why the account is not looked at, when its credential cannot be read."""
        return self.standing.disabled

    @property
    def busy(self) -> bool:
        """Whether looks are under way."""
        return bool(self._slots) or self._probing

    def adopt_settings(self, looking: Looking) -> None:
        """Take a reload's settings; looks under way end with the old ones."""
        limits = (looking.requests_per_minute, looking.max_concurrency)
        if limits != (self.looking.requests_per_minute, self.looking.max_concurrency):
            self._allowance = Allowance(*limits, self._clock)
        self.looking = looking
        self.standing.adopt_settings(looking)

    async def begin(self, *, spread: bool) -> None:
        """Read what is remembered of the account; spread what has long been due."""
        await self.standing.begin()
        if spread:
            await self.spread_overdue()

    async def spread_overdue(self) -> None:
        """Give all that is overdue times within the next `min_interval`, by its key.

        Nothing of this comes too early: each was due long ago.
        """
        now, name, interval = self._clock.now(), self.looking.name, self.looking.pace.min_interval
        horizon, nearer = self._horizons(now)
        ids = await self._read(
            lambda of: of.batches.overdue(name, now - interval, horizon, open_horizon=nearer)
        )
        if len(ids) > self.looking.max_concurrency:
            due = [(id_, now + round(interval * cadence.jitter(name, id_, now))) for id_ in ids]
            await self._write(lambda ledger: ledger.batches.spread(name, due))

    # When a look may start

    async def once(self, now: int, tasks: TaskGroup) -> int:
        """Start a look, in `tasks`, at whatever is due and allowed; returns how many it started."""
        standing = self.standing
        if standing.notice_jump():
            await self.spread_overdue()
        await standing.catch_up()
        await standing.read_credential(now)
        if standing.disabled is not None or standing.paused(now):
            return 0
        free = min(
            self.looking.max_concurrency - len(self._slots) - self._probing,
            self._allowance.available(),
        )
        if free <= 0:
            return 0
        if standing.unwritable:
            # What cannot be recorded is due still, and would be asked for again and again.
            await standing.keep(None, now)
        started = await self._start_probe(now, tasks)
        if standing.account.suspected:
            return started
        claimed = await self._claim(now, min(free - started, CLAIM_LIMIT))
        for batch in claimed:
            self._start(batch, tasks)
        return started + len(claimed)

    async def once_through(self) -> None:
        """Look once at all that is due now, within the account's limits; returns when done."""
        now = self._clock.now()
        async with anyio.create_task_group() as tasks:
            while True:
                started = await self.once(now, tasks)
                if not started and not self.busy and self._allowance.available():
                    return
                if not started and (self.disabled is not None or self.standing.paused(now)):
                    return
                await self.wake.wait(min(1.0, max(0.001, self._allowance.wait())))

    async def ask(self, request: Request) -> object | None:
        """Send one request beside the looks; None while the account's limits forbid it.

        Raises ProviderError.
        """
        now, standing = self._clock.now(), self.standing
        await standing.read_credential(now)
        held = standing.disabled is not None or standing.paused(now) or standing.account.suspected
        if held or not self._allowance.available():
            return None
        self._allowance.take()
        try:
            return await standing.send(request)
        except RateLimited as error:
            await standing.limited(error)
            return None

    async def next_wait(self) -> float:
        """Seconds until there may be something to do, at most a minute."""
        now, account = self._clock.now(), self.account
        if self.disabled is not None:
            return float(SECRET_READ_EVERY)
        if not self._leased:
            return LEASE_WAIT
        if account.paused_until is not None and account.paused_until > now:
            return min(60.0, (account.paused_until - now) / SECOND)
        due = [] if account.probe_due_at is None else [account.probe_due_at]
        most = self.looking.max_concurrency
        if not account.suspected and len(self._slots) + self._probing < most:
            name, closed = self.looking.name, self._slots.closed_to(most)
            next_due = await self._read(lambda ledger: ledger.batches.next_due(name, closed))
            if next_due is not None:
                due.append(next_due)
        if not due:
            return 60.0
        return min(60.0, max(0.0, (min(due) - now) / SECOND, self._allowance.wait()))

    async def _claim(self, now: int, limit: int, due_by: int | None = None) -> list[Batch]:
        if limit <= 0:
            return []
        name, most = self.looking.name, self.looking.max_concurrency
        closed = self._slots.closed_to(most)
        horizon, open_horizon = self._horizons(now)
        due_by = now if due_by is None else due_by

        def work(ledger: Ledger) -> list[Batch] | None:
            if not ledger.process.holds(f"account:{name}", self._holder, now):
                return None
            return ledger.batches.claim(
                name, due_by, limit, horizon, closed, open_horizon=max(open_horizon, due_by)
            )

        try:
            claimed = await self._read(work)
        except StoreError:
            raise
        except Exception:  # noqa: BLE001  the guard around rows that cannot be read
            self._log.exception("batches cannot be read", account=name)
            until = now + PUT_OFF
            ids = await self._write(lambda ledger: ledger.batches.put_off_unreadable(name, until))
            self._meter.add("looks", len(ids), account=name, result="crashed")
            self._log.error("batches put off", account=name, ids=ids[:20], count=len(ids))
            claimed = await self._read(work) if ids else []
        self._leased = claimed is not None
        return self._slots.admit(claimed or [], most)

    def _horizons(self, now: int) -> tuple[int, int]:
        """Further ahead than this no batch is due, and no open one: the clock was set back."""
        longest = self.looking.pace.max_interval
        return now + max(cadence.LONGEST_WAIT, 2 * longest), now + max(longest, PUT_OFF) * 5 // 4

    def _start(self, batch: Batch, tasks: TaskGroup) -> None:
        self._allowance.take()
        self._slots.begin(batch.id)
        tasks.start_soon(self._look, batch)

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
        batches = await self._claim(now, CANDIDATES, due_by=now + ANY_TIME) if by_batch else []
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
            await self._look_and_record(batch)
        except StoreError as error:
            # Nothing was acknowledged: the batch is due still.
            self.standing.unwritable = True
            self._log.error("look not recorded", batch=batch.key, error=str(error))
        except Exception:  # noqa: BLE001  the guard around one batch
            self._log.exception("look failed", batch=batch.key)
            self._meter.add("looks", account=batch.account, result="crashed")
            await self._put_off(batch)
        finally:
            self._slots.end(batch.id, self._clock.monotonic() - began)
            self.wake.set()

    async def _put_off(self, batch: Batch) -> None:
        until = self._clock.now() + PUT_OFF
        try:
            await self._write(lambda ledger: ledger.batches.put_off(batch, until))
        except StoreError as error:
            self.standing.unwritable = True
            self._log.error("batch not put off", batch=batch.key, error=str(error))

    async def _look_and_record(self, batch: Batch) -> None:
        log, standing = self._log, self.standing
        try:
            observation = await self._observe(batch)
        except RateLimited as error:
            await standing.limited(error)
            return
        except ProviderError as error:
            now, batch = self._judged_now(batch)
            log.debug("look failed", batch=batch.key, error=str(error))
            self._meter.add("looks", account=batch.account, result=type(error).__name__.lower())
            account_step = standing.judge(error, batch.id, now)
            step = self._judge(batch, error, now)
        else:
            now, batch = self._judged_now(batch)
            log.debug("looked", batch=batch.key, status=observation.status)
            self._meter.add("looks", account=batch.account, result="seen")
            account_step = lifecycle.answered(standing.account, now)
            step = lifecycle.advance(batch, observation, now)
        before, standing.account = standing.account, account_step.account
        if step.probe:
            standing.doubt(now)
        told = None if account_step.event is None else standing.address(account_step.event)
        try:
            await self._record(batch, step, told, now)
        except Exception:
            standing.take_back(account_step, before)
            raise
        if before.suspected and not standing.account.suspected:
            await self.spread_overdue()

    def _judged_now(self, batch: Batch) -> tuple[int, Batch]:
        """What the time is, and the batch with its own times as this clock has them."""
        self.standing.notice_jump()
        now = self._clock.now()
        return now, lifecycle.batch_by_clock(batch, now, self.standing.steady_since)

    async def _observe(self, batch: Batch) -> Observation:
        provider = self.looking.provider
        body = await self.standing.send(provider.retrieve(batch.id))
        observation = provider.read(body)
        if observation.id is not None and observation.id != batch.id:
            message = f"the answer is about another batch: {observation.id}"
            raise Garbled(message)
        return observation

    def _judge(self, batch: Batch, error: ProviderError, now: int) -> Step:
        """What a look that failed means for the batch."""
        if not isinstance(error, Missing):
            return lifecycle.unanswered(batch, str(error), now)
        return lifecycle.missed(
            batch,
            str(error),
            now,
            lost_after=self.looking.lost_after,
            account_good_at=self.account.good_at,
        )

    async def _record(self, before: Batch, step: Step, account_told: Told | None, now: int) -> None:
        standing = self.standing
        due = cadence.next_look(step.batch, now, self.looking.pace)
        if standing.account.suspected and step.batch.failures:
            # The look was the account's probe: when the trouble is over the batch is due as before.
            due = before.next_look_at
        after = replace(step.batch, next_look_at=due)
        told = None if step.event is None else standing.address(replace(step.event, batch=after))
        known = standing.account.words
        account = standing.news(step.event)
        told_account = standing.account

        def work(ledger: Ledger) -> bool:
            recorded = ledger.record(before, after, told, account, now)
            if account_told is not None:
                ledger.record_account(told_account, account_told, now)
            return recorded

        recorded = False
        try:
            recorded = await self._write(work)
        finally:
            if not recorded:
                standing.forget_news(known)
        if not recorded:
            self._log.debug("batch changed during its look", batch=before.key)
            told = None
        standing.tell(told, account_told)

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
