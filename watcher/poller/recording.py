"""Writes down what looks brought: all that came in together in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import anyio
import anyio.lowlevel

from watcher import cadence
from watcher.errors import StoreError
from watcher.lifecycle import AccountStep, Step
from watcher.log import Log
from watcher.meter import Meter
from watcher.model import Account, Batch
from watcher.poller.allowance import Load
from watcher.poller.standing import Standing, Write
from watcher.store.ledger import Ledger, Told

SECOND = 1_000
# A poisonous row is put off this long, so that it cannot become a crash loop.
PUT_OFF = 5 * 60 * SECOND


@dataclass(slots=True)
class Look:
    """One batch before and after a look, and what the look means for its account."""

    before: Batch
    step: Step
    now: int
    # What it cost in requests: a share of one where a page showed others too.
    price: float = 1.0
    # Whether a request was made for its sake; False where it was seen beside another.
    noted: bool = True
    account_before: Account | None = None
    account_step: AccountStep | None = None
    failure: Exception | None = None
    done: anyio.Event = field(default_factory=anyio.Event)
    # Set when it is written: what is to be told of it.
    told: Told | None = None
    account_told: Told | None = None


class Recorder:
    """Records the looks of one account."""

    def __init__(
        self, standing: Standing, write: Write, load: Load, *, log: Log, meter: Meter
    ) -> None:
        self._standing = standing
        self._write = write
        self._load = load
        self._log = log
        self._meter = meter
        self._waiting: list[Look] = []
        self._writing = False

    async def record(self, look: Look) -> None:
        """Record one look with whatever else has come in; returns when it is durable.

        Raises what kept it from being written.
        """
        self._waiting.append(look)
        if self._writing:
            await look.done.wait()
        else:
            # The first of those that come in together writes for all of them.
            self._writing = True
            try:
                await anyio.lowlevel.checkpoint()
                while self._waiting:
                    waiting, self._waiting = self._waiting, []
                    await self.record_all(waiting)
            finally:
                self._writing = False
                self._let_go()
        if look.failure is not None:
            raise look.failure

    def _let_go(self) -> None:
        """Nobody writes any more: what still waits was not recorded, and is due still."""
        waiting, self._waiting = self._waiting, []
        for look in waiting:
            look.failure = StoreError("the watcher is stopping")
            look.done.set()

    async def record_all(self, looks: Sequence[Look]) -> None:
        """Record these in one transaction, or, where one of them cannot be written, one by one."""
        try:
            await self._record_together(looks)
        except StoreError as error:
            for look in looks:
                look.failure = error
        except anyio.get_cancelled_exc_class():
            for look in looks:
                look.failure = StoreError("the watcher is stopping")
            raise
        except Exception as error:  # noqa: BLE001  the guard around what cannot be written
            if len(looks) == 1:
                looks[0].failure = error
            else:
                for look in looks:
                    await self.record_all([look])
        finally:
            for look in looks:
                look.done.set()

    async def _record_together(self, looks: Sequence[Look]) -> None:
        if not looks:
            return
        standing = self._standing
        known = standing.account.words
        recorded: Sequence[bool] = ()
        try:
            rows = [self._row(look) for look in looks]
            recorded = await self._write(partial(_written, looks, rows, standing.account))
        except BaseException:
            for look in looks:
                if look.account_step is not None and look.account_before is not None:
                    standing.take_back(look.account_step, look.account_before)
                    # A later look says it again, under an id that is free by then.
                    look.account_step, look.account_told = None, None
            raise
        finally:
            if not recorded or not all(recorded):
                standing.forget_news(known)
        for look, written in zip(looks, recorded, strict=True):
            if not written:
                self._log.debug("batch changed during its look", batch=look.before.key)
                look.told = None
        standing.tell(*(told for look in looks for told in (look.told, look.account_told)))
        await self._hurry_siblings(looks)

    async def _hurry_siblings(self, looks: Sequence[Look]) -> None:
        """Look soon at what was made beside a batch that waited long and has ended."""
        ended = [
            look
            for look in looks
            if look.told is not None
            and look.step.batch.ended
            and not look.before.ended
            and cadence.waited_long(look.step.batch, look.now)
        ]
        if not ended:
            return
        name, pace = self._standing.looking.name, self._standing.looking.pace

        def work(ledger: Ledger) -> None:
            for look in ended:
                batch, now = look.step.batch, look.now
                ids = ledger.agenda.beside(batch, cadence.COHORT_SPAN, cadence.LARGEST_COHORT + 1)
                beside = [
                    one
                    for one in ledger.batches.of_ids(name, ids)
                    if cadence.siblings(batch, one, now)
                ]
                due = (
                    (one.id, cadence.sibling_look(batch, one, now, pace, cohort=len(beside)))
                    for one in beside
                )
                ledger.agenda.spread(name, [(id_, at) for id_, at in due if at is not None])

        try:
            await self._write(work)
        except StoreError as error:
            # They are due anyway, only later.
            self._log.debug("siblings not hurried", account=name, error=str(error))

    def _row(self, look: Look) -> tuple[Batch, Account | None]:
        """The batch as it is to be written, and the account where it is to be kept with it."""
        standing, step = self._standing, look.step
        due = self._due(look)
        if standing.account.suspected and step.batch.failures:
            # The look was the account's probe: when the trouble is over the batch is due as before.
            due = look.before.next_look_at
        after = replace(step.batch, next_look_at=due)
        if step.event is not None:
            look.told = standing.address(replace(step.event, batch=after))
        if look.account_step is not None and look.account_step.event is not None:
            look.account_told = standing.address(look.account_step.event)
        return after, standing.news(step.event)

    def _due(self, look: Look) -> int | None:
        """When the next look is due; it says, too, how much is asked of the account."""
        batch, now, pace = look.step.batch, look.now, self._standing.looking.pace
        wished = cadence.next_look(batch, now, pace, price=look.price)
        looked_at = look.before.last_look_at
        if wished is None or batch.ended or looked_at is None:
            return wished
        if look.noted:
            self._load.note(now - looked_at, wished - now)
        stretch = self._load.stretch
        if stretch <= 1:
            return wished
        return cadence.next_look(batch, now, pace, price=look.price, stretch=stretch)


def _written(
    looks: Sequence[Look],
    rows: Sequence[tuple[Batch, Account | None]],
    account_now: Account,
    ledger: Ledger,
) -> list[bool]:
    """Write looks down; which of them were."""
    recorded = []
    for look, (after, account) in zip(looks, rows, strict=True):
        recorded.append(ledger.record(look.before, after, look.told, account, look.now))
        if look.account_told is not None:
            ledger.record_account(account_now, look.account_told, look.now)
    return recorded
