"""One look at all that is due: claims, asks the provider, lets the lifecycle judge, records.

A look under way is a task; a waiting batch is a row. An error of one batch is that batch's, a 429
is the account's, a refusal is the account's only when its own probe is refused too.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import anyio
from anyio.abc import TaskGroup

from watcher import cadence, lifecycle, routing
from watcher.clock import Clock
from watcher.errors import (
    ConfigError,
    Garbled,
    Missing,
    ProviderError,
    RateLimited,
    Refused,
    StoreError,
    Unauthorized,
    Unavailable,
)
from watcher.lifecycle import LIST, Step
from watcher.log import Log
from watcher.meter import Meter
from watcher.model import Account, Batch, Event, EventType, Observation, Request
from watcher.providers import Provider
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
# Seconds between two looks at a credential's file.
SECRET_READ_EVERY = 60
# Seconds until the next try without a lease: another process may hold it, or the clock jumped.
LEASE_WAIT = 1.0
# A pass claims no more than this, so that a claim stays short.
CLAIM_LIMIT = 500


class Wire(Protocol):
    """What sends a provider's request and returns the parsed JSON, or raises ProviderError."""

    async def send(self, request: Request) -> object: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Looking:
    """An account as the poller needs it; `credential` reads the secret, or raises ConfigError."""

    name: str
    provider: Provider
    wire: Wire
    credential: Callable[[], Awaitable[str]]
    pace: cadence.Pace = field(default_factory=cadence.Pace)
    max_concurrency: int = 8
    # None: no limit but that of concurrency.
    requests_per_minute: int | None = 300
    lost_after: int = 60 * 60 * SECOND
    unreachable_after: int = 15 * 60 * SECOND


class Allowance:
    """An account's requests per minute, as a bucket that refills steadily.

    It holds as many as may be in flight at once: a burst after a quiet time stays that small. A
    full bucket and a minute's refilling together are never more than the minute allows.
    """

    def __init__(self, per_minute: int | None, burst: int, clock: Clock) -> None:
        if per_minute is None:
            self._burst, self._per_second = max(1, burst), math.inf
        else:
            self._burst = max(1, min(burst, per_minute // 2))
            self._per_second = (per_minute - self._burst + 1) / 60
        self._clock = clock
        self._left = float(self._burst)
        self._since = clock.monotonic()

    def available(self) -> int:
        """How many requests may go out now."""
        moment = self._clock.monotonic()
        refilled = self._left + (moment - self._since) * self._per_second
        if self._per_second == math.inf:
            refilled = float(self._burst)
        self._left, self._since = min(float(self._burst), refilled), moment
        return int(self._left)

    def take(self) -> None:
        """One request goes out; a retry beyond the allowance is owed."""
        self._left -= 1

    def wait(self) -> float:
        """Seconds until the next request may go out."""
        self.available()
        return max(0.0, (1 - self._left) / self._per_second)


class AccountPoller:
    """Looks at the batches of one account, and knows how the account itself is."""

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
        self._database = database
        self._clock = clock
        self._board = board
        self._told = told
        self._holder = holder
        self._log = log
        self._meter = meter
        self._allowance = Allowance(looking.requests_per_minute, looking.max_concurrency, clock)
        self._under_way: set[str] = set()
        self._probing = False
        self.account = Account(looking.name, looking.provider.name)
        # What the store holds of it, but for when it last answered; None: not known.
        self._kept: Account | None = None
        self._secret: str | None = None
        self._secret_read_at: float | None = None
        self._probed_by_list = False
        # Whether the account's list is refused as no list would be: it has none.
        self._listless = False
        # Whether the last write failed: what is seen could not be kept.
        self._unwritable = False
        # Whether the lease was held at the last claim.
        self._leased = True
        # Why the account is not looked at, when its credential cannot be read.
        self.disabled: str | None = None
        # Set whenever a look has ended or something was registered: there may be work.
        self.wake = Wake()
        # Whether this process has made a request, and whether any was answered, well or not.
        self.asked = False
        self.reached = False

    def adopt_settings(self, looking: Looking) -> None:
        """Take a reload's settings; looks under way end with the old ones."""
        if (looking.requests_per_minute, looking.max_concurrency) != (
            self.looking.requests_per_minute,
            self.looking.max_concurrency,
        ):
            self._allowance = Allowance(
                looking.requests_per_minute, looking.max_concurrency, self._clock
            )
        self.looking = looking
        self._secret_read_at = None

    @property
    def busy(self) -> bool:
        """Whether looks are under way."""
        return bool(self._under_way) or self._probing

    async def begin(self, *, spread: bool) -> None:
        """Read what is remembered of the account; spread what has long been due."""
        name, provider = self.looking.name, self.looking.provider.name
        self.account = replace(
            await self._write(lambda ledger: ledger.subjects.account(name, provider)),
            provider=provider,
        )
        if self.account.trouble is None:
            # Silence is only counted while somebody listens.
            self.account = replace(self.account, silent_since=None, missing_since=None)
        if spread:
            await self.spread_overdue()

    async def spread_overdue(self) -> None:
        """Give all that is overdue times within the next `min_interval`, by its key.

        Nothing of this comes too early: each was due long ago.
        """
        now, interval = self._clock.now(), self.looking.pace.min_interval

        def work(ledger: Ledger) -> None:
            ids = ledger.batches.overdue(self.looking.name, now - interval)
            if len(ids) > self.looking.max_concurrency:
                due = [
                    (id_, now + round(interval * cadence.jitter(self.looking.name, id_, now)))
                    for id_ in ids
                ]
                ledger.batches.spread(self.looking.name, due)

        await self._write(work)

    async def once(self, now: int, tasks: TaskGroup) -> int:
        """Start a look, in `tasks`, at whatever is due and allowed; returns how many it started."""
        await self._read_credential(now)
        if self.disabled is not None or self._paused(now):
            return 0
        free = min(
            self.looking.max_concurrency - len(self._under_way) - self._probing,
            self._allowance.available(),
        )
        if free <= 0:
            return 0
        if self._unwritable:
            # What cannot be recorded is due still, and would be asked for again and again.
            await self._keep_account(None, now)
        started = await self._start_probe(now, tasks)
        if self.account.suspected:
            return started
        claimed = await self._claim(now, min(free - started, CLAIM_LIMIT))
        for batch in claimed:
            self._start(batch, tasks)
        return started + len(claimed)

    async def _read_credential(self, now: int) -> None:
        """Read the secret when a minute has passed: a key file may have been replaced."""
        moment = self._clock.monotonic()
        if self._secret_read_at is not None and moment - self._secret_read_at < SECRET_READ_EVERY:
            return
        self._secret_read_at = moment
        try:
            secret = await self.looking.credential()
        except ConfigError as error:
            if self.disabled != str(error):
                self._log.error("account disabled", account=self.looking.name, error=str(error))
            self.disabled = str(error)
            return
        if self._secret is not None and secret != self._secret and self.account.suspected:
            self.account = replace(self.account, probe_due_at=now)
        self._secret, self.disabled = secret, None

    def _paused(self, now: int) -> bool:
        until = self.account.paused_until
        if until is None or until <= now:
            return False
        if until <= now + cadence.LONGEST_PAUSE + SECOND:
            return True
        # Set by a clock that has jumped back since.
        self.account = replace(self.account, paused_until=None)
        return False

    async def _claim(self, now: int, limit: int, due_by: int | None = None) -> list[Batch]:
        if limit <= 0:
            return []
        name, under_way = self.looking.name, frozenset(self._under_way)
        horizon = now + max(cadence.LONGEST_WAIT, 2 * self.looking.pace.max_interval)
        due_by = now if due_by is None else due_by

        def work(ledger: Ledger) -> list[Batch] | None:
            if not ledger.process.holds(f"account:{name}", self._holder, now):
                return None
            return ledger.batches.claim(name, due_by, limit, horizon, under_way)

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
        return claimed or []

    def _start(self, batch: Batch, tasks: TaskGroup) -> None:
        self._allowance.take()
        self._under_way.add(batch.id)
        tasks.start_soon(self._look, batch)

    async def _start_probe(self, now: int, tasks: TaskGroup) -> int:
        """Ask for the account's own word when its time has come."""
        if self.account.suspected and not self.busy:
            self.account = lifecycle.suspect(self.account, now)
        account, due = self.account, self.account.probe_due_at
        if due is None or self._probing or now < due <= now + lifecycle.PROBE_INTERVAL:
            return 0
        self.account = replace(account, probe_due_at=None, probed_at=now)
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

    async def once_through(self) -> None:
        """Look once at all that is due now, within the account's limits; returns when done."""
        now = self._clock.now()
        async with anyio.create_task_group() as tasks:
            while True:
                started = await self.once(now, tasks)
                if not started and not self.busy and self._allowance.available():
                    return
                if not started and (self.disabled is not None or self._paused(now)):
                    return
                await self.wake.wait(min(1.0, max(0.001, self._allowance.wait())))

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
        if not account.suspected and len(self._under_way) < self.looking.max_concurrency:
            name, under_way = self.looking.name, frozenset(self._under_way)
            next_due = await self._read(lambda ledger: ledger.batches.next_due(name, under_way))
            if next_due is not None:
                due.append(next_due)
        if not due:
            return 60.0
        return min(60.0, max(0.0, (min(due) - now) / SECOND, self._allowance.wait()))

    # One look

    async def _look(self, batch: Batch) -> None:
        """Look at one batch, whatever comes of it."""
        try:
            await self._look_and_record(batch)
        except StoreError as error:
            # Nothing was acknowledged: the batch is due still.
            self._unwritable = True
            self._log.error("look not recorded", batch=batch.key, error=str(error))
        except Exception:  # noqa: BLE001  the guard around one batch
            self._log.exception("look failed", batch=batch.key)
            self._meter.add("looks", account=batch.account, result="crashed")
            await self._put_off(batch)
        finally:
            self._under_way.discard(batch.id)
            self.wake.set()

    async def _put_off(self, batch: Batch) -> None:
        until = self._clock.now() + PUT_OFF
        try:
            await self._write(lambda ledger: ledger.batches.put_off(batch, until))
        except StoreError as error:
            self._unwritable = True
            self._log.error("batch not put off", batch=batch.key, error=str(error))

    async def _look_and_record(self, batch: Batch) -> None:
        log, account_told = self._log, None
        try:
            observation = await self._observe(batch)
        except RateLimited as error:
            await self._limited(error)
            return
        except ProviderError as error:
            now = self._clock.now()
            log.debug("look failed", batch=batch.key, error=str(error))
            self._meter.add("looks", account=batch.account, result=type(error).__name__.lower())
            account_step, step = self._judge_failure(batch, error, now)
        else:
            now = self._clock.now()
            self._meter.add("looks", account=batch.account, result="seen")
            account_step = lifecycle.answered(self.account, now)
            step = lifecycle.advance(batch, observation, now)
            log.debug("looked", batch=batch.key, status=observation.status)
        before, self.account = self.account, account_step.account
        if step.probe:
            self.account = lifecycle.suspect(self.account, now)
        if account_step.event is not None:
            account_told = self._address(account_step.event)
        try:
            await self._record(batch, step, account_told, now)
        except Exception:
            self._take_back(account_step, before)
            raise
        if before.suspected and not self.account.suspected:
            await self.spread_overdue()

    async def _observe(self, batch: Batch) -> Observation:
        provider = self.looking.provider
        body = await self._send(provider.retrieve(batch.id))
        observation = provider.read(body)
        if observation.id is not None and observation.id != batch.id:
            message = f"the answer is about another batch: {observation.id}"
            raise Garbled(message)
        return observation

    async def _send(self, request: Request) -> object:
        provider = self.looking.provider
        signed = provider.authorize(request, self._secret or "", self._clock.now())
        self.asked = True
        try:
            body = await self.looking.wire.send(signed)
        except ProviderError as error:
            self.reached = self.reached or error.status_code is not None
            if isinstance(error, Unauthorized):
                # The secret may have been replaced.
                self._secret_read_at = None
            raise
        self.reached = True
        return body

    def _judge_failure(
        self, batch: Batch, error: Exception, now: int
    ) -> tuple[lifecycle.AccountStep, Step]:
        """What a look that failed means for the account and for the batch."""
        text, account = str(error), self.account
        if isinstance(error, Missing):
            step = lifecycle.missed(
                batch,
                text,
                now,
                lost_after=self.looking.lost_after,
                account_good_at=account.good_at,
            )
            return lifecycle.AccountStep(lifecycle.heard(account)), step
        step = lifecycle.unanswered(batch, text, now)
        if isinstance(error, Unavailable):
            return lifecycle.silent(
                account, text, now, unreachable_after=self.looking.unreachable_after
            ), step
        if isinstance(error, Unauthorized):
            if account.suspected or self._listless:
                return lifecycle.refused(account, batch.id, text, now), step
            return lifecycle.AccountStep(lifecycle.suspect(lifecycle.heard(account), now)), step
        return lifecycle.AccountStep(lifecycle.heard(account)), step

    async def _record(self, before: Batch, step: Step, account_told: Told | None, now: int) -> None:
        after = replace(
            step.batch, next_look_at=cadence.next_look(step.batch, now, self.looking.pace)
        )
        told = None if step.event is None else self._address(step.event)
        known = self.account.words
        account = self._news(step.event)
        news = [word for word in self.account.words if word not in known]
        told_account = self.account
        if told is not None:
            told = replace(told, event=replace(told.event, batch=after))

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
                # What was to be kept was not, and nobody has been told of a new word.
                self._kept = None
                words = tuple(word for word in self.account.words if word not in news)
                self.account = replace(self.account, words=words)
        if not recorded:
            self._log.debug("batch changed during its look", batch=before.key)
            told = None
        for one in (told, account_told):
            if one is not None:
                self._log_event(one)
        if told is not None or account_told is not None:
            self._told()

    def _news(self, event: Event | None) -> Account | None:
        """The account if it is to be kept; it knows an unknown word that has just been told."""
        if event is not None and event.type is EventType.UNKNOWN and event.batch is not None:
            word = event.batch.raw_status or ""
            if word not in self.account.words:
                self.account = replace(self.account, words=(*self.account.words, word)[-100:])
        # When it last answered is not worth a write per look.
        if self._kept == replace(self.account, good_at=None):
            return None
        self._kept = replace(self.account, good_at=None)
        return self.account

    def _take_back(self, step: lifecycle.AccountStep, before: Account) -> None:
        """Forget an event of the account that could not be recorded, so that it is made again."""
        if step.event is not None and self.account.revision == step.account.revision:
            self.account = replace(
                self.account,
                revision=before.revision,
                trouble=before.trouble,
                trouble_since=before.trouble_since,
                trouble_reason=before.trouble_reason,
            )

    def _address(self, event: Event) -> Told:
        """The event with everyone who wants it."""
        news = True
        if event.type is EventType.UNKNOWN and event.batch is not None:
            news = (event.batch.raw_status or "") not in self.account.words
        return Told(event, routing.audience(event, self._board(), news=news))

    def _log_event(self, told: Told) -> None:
        event = told.event
        values: dict[str, Any] = {"id": event.id, "severity": event.severity}
        if event.batch is not None:
            values |= {"batch": event.batch.key, "outcome": event.batch.outcome}
        if event.reason is not None:
            values["reason"] = event.reason
        values["channels"] = [choice.channel for choice in told.choices if choice.taken]
        self._log.info(str(event.type), **values)
        self._meter.add("events", type=str(event.type))

    # The account itself

    async def _limited(self, error: RateLimited) -> None:
        now, account = self._clock.now(), self.account
        number = lifecycle.limited_next(account, now)
        pause = cadence.account_pause(account.name, number, error.retry_after)
        self.account = lifecycle.limited(account, now, pause, str(error))
        self._meter.add("looks", account=account.name, result="limited")
        self._log.warning("account paused", account=account.name, seconds=pause / SECOND)
        await self._keep_account(None, now)

    async def _probe(self) -> None:
        """Ask the account for its list, to see whether it is the account or one batch."""
        try:
            await self._probe_and_record()
        except StoreError as error:
            self._unwritable = True
            self._log.error("probe not recorded", account=self.looking.name, error=str(error))
        except Exception:  # noqa: BLE001  the guard around one probe
            self._log.exception("probe failed", account=self.looking.name)
        finally:
            self._probing = False
            self.wake.set()

    async def _probe_and_record(self) -> None:
        looking = self.looking
        try:
            body = await self._send(looking.provider.page(None, 1))
            looking.provider.read_page(body)
        except RateLimited as error:
            await self._limited(error)
            return
        except ProviderError as error:
            now, text = self._clock.now(), str(error)
            self._log.debug("probe failed", account=looking.name, error=text)
            if isinstance(error, Unauthorized):
                step = lifecycle.refused(self.account, LIST, text, now)
            elif isinstance(error, Unavailable):
                step = lifecycle.silent(
                    self.account, text, now, unreachable_after=looking.unreachable_after
                )
            elif isinstance(error, Missing):
                step = lifecycle.all_missing(
                    self.account, now, unreachable_after=looking.unreachable_after
                )
            elif isinstance(error, Refused) and (error.status_code or 0) >= 400:
                step = lifecycle.AccountStep(lifecycle.listless(self.account, now))
            else:
                step = lifecycle.AccountStep(lifecycle.heard(self.account))
            self._listless = isinstance(error, Refused | Missing)
        else:
            now = self._clock.now()
            step = lifecycle.answered(self.account, now)
            self._listless = False
        before, self.account = self.account, step.account
        try:
            await self._keep_account(None if step.event is None else self._address(step.event), now)
        except Exception:
            self._take_back(step, before)
            raise
        if before.suspected and not self.account.suspected:
            await self.spread_overdue()

    async def _keep_account(self, told: Told | None, now: int) -> None:
        account, self._kept = self.account, None
        await self._write(lambda ledger: ledger.record_account(account, told, now))
        self._unwritable, self._kept = False, replace(account, good_at=None)
        if told is not None:
            self._log_event(told)
            self._told()

    async def _write(self, work: Callable[[Ledger], Result]) -> Result:
        return await self._database.transaction(lambda transaction: work(Ledger(transaction)))

    async def _read(self, work: Callable[[Ledger], Result]) -> Result:
        return await self._database.query(lambda transaction: work(Ledger(transaction)))
