"""A watcher one of whose channels is in trouble for days, which pass in moments."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

from pydantic import SecretStr

from tests.builders import (
    DAY,
    HOUR,
    MINUTE,
    REFUSED,
    SECOND,
    ScriptedChannel,
    batch,
    ended,
    event,
    tell,
)
from tests.world import SameThread, World
from watcher.app import Plan
from watcher.model import Channel, Delivery, EventType, Message, Status
from watcher.notify import Sent
from watcher.store.ledger import Ledger

OLD, NEW = SecretStr("json://old.invalid"), SecretStr("json://new.invalid")


class Day(World):
    """A watcher whose `team` is in trouble while `ops` is well; digests as they are by default."""

    def __init__(self, database: SameThread, *, give_up_after: int = 72 * HOUR) -> None:
        self.give_up_after = give_up_after
        self.addresses = {"team": OLD}
        super().__init__(database, channels=("team", "ops"))
        self._numbers = itertools.count()

    def _plan(self) -> Plan:
        plan = super()._plan()
        telling = {
            name: replace(
                one,
                digest_wait=5 * SECOND,
                digest_interval=MINUTE,
                give_up_after=self.give_up_after,
                address=self.addresses.get(name),
            )
            for name, one in plan.telling.items()
        }
        return replace(plan, telling=telling)

    @property
    def team(self) -> ScriptedChannel:
        return self.channels["team"]

    async def run(self, milliseconds: int, *, until: Callable[[], bool] | None = None) -> int:
        """Let so much time pass from one message's time to the next: there are no looks."""
        end = self.clock.now() + milliseconds
        while True:
            await self.turn()
            left = end - self.clock.now()
            if left <= 0 or (until is not None and until()):
                return 0
            couriers = list(self.app.couriers.values())
            if not any(courier.wake._event.is_set() for courier in couriers):
                due = [one._next_at for one in couriers if one._next_at is not None]
                wait = min(due, default=end) - self.clock.now()
                self.clock.advance(min(left, max(1, wait)))

    async def happen(self, count: int) -> list[str]:
        """So many events, in turn the beginning and the end of a batch; returns their ids."""
        ids = []
        for number in itertools.islice(self._numbers, count):
            id = f"batch_{number // 2}"
            if number % 2:
                one = event(EventType.COMPLETED, about=ended(id=id, revision=2))
            else:
                about = batch(Status.IN_PROGRESS, id=id)
                one = event(EventType.IN_PROGRESS, about=about)
            await self.books(tell(one, "team", now=self.clock.now()))
            ids.append(one.id)
        self.app.wake_all()
        return ids

    async def pass_a_day(self, count: int, *, bunches: int = 6) -> list[str]:
        """A day in which so many events happen; returns their ids."""
        ids = []
        for _ in range(bunches):
            ids += await self.happen(count // bunches)
            await self.run(DAY // bunches)
        return ids

    async def run_until_told(self) -> int:
        """Let time pass until nothing waits for the team; returns milliseconds."""
        began = self.clock.now()
        while await self.pending():
            assert self.clock.now() < began + DAY, "the backlog never goes"
            await self.run(5 * SECOND)
        return self.clock.now() - began

    async def pending(self) -> int:
        return await self.books(lambda ledger: ledger.outbox.pending("team"))

    async def state(self) -> Channel:
        return await self.books(lambda ledger: ledger.subjects.channel("team"))

    async def delivery(self, id: str) -> Delivery:
        def work(ledger: Ledger) -> Delivery:
            found = ledger.events.with_id(id)
            assert found is not None
            of_event = ledger.outbox.of_event(found[0].seq)
            return next(one for one in of_event if one.channel == "team")

        return await self.books(work)

    async def reload(self) -> None:
        """Take other settings, and hold the leases for as long as the process lives."""
        await self.app.reload(self._plan())
        await self.hold_leases()


def sizes(channel: ScriptedChannel, messages: Sequence[Message]) -> list[int]:
    """How many events each message named; a summary names none."""
    return [len(channel.ids([one])) for one in messages]


def poison(*ids: str) -> Callable[[Message], Sent | None]:
    """A service that refuses every message that names one of these events."""
    return lambda message: REFUSED if set(ids) & set(message.body.split()) else None


def of_channels(channel: ScriptedChannel) -> list[str]:
    return [id for id in channel.ids() if id.startswith("channel:")]
