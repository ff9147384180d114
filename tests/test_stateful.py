"""Anything in any order: whatever happens, the user is told of every end, at least once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.builders import DELIVERED, FAILED, HOUR, MINUTE, REFUSED, UNKNOWN
from tests.fakes import START
from tests.world import SameThread, World
from watcher.errors import StoreError
from watcher.model import DeliveryState, Status
from watcher.notify import Sent
from watcher.simulator import Fate, Fault, faults
from watcher.store.ledger import Ledger

Result = TypeVar("Result")
TERMINAL = {str(status) for status in Status if status.terminal}

FATES: list[Callable[[], Fate]] = [
    lambda: Fate.completed(after=300.0),
    lambda: Fate.partial(after=1_200.0),
    lambda: Fate.late_output(after=200.0),
    Fate.failed,
    Fate.token_limit_exceeded,
    lambda: Fate.cancelled_with_results(at=60.0),
    lambda: Fate.revived(at=300.0, again=900.0),
    Fate.unknown_word,
    Fate.vanishing,
    Fate.late_to_appear,
]
FAULTS: list[Fault] = [
    faults.status(500),
    faults.rate_limited(90.0),
    faults.unauthorized(),
    faults.not_found(),
    faults.reset(),
    faults.html(),
]
CHANNELS = ("team", "ops")


class Watching(RuleBasedStateMachine):
    """Users, providers, channels and crashes take turns; in the end all trouble is over."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.database = SameThread()
        # The lives of these batches must be told to their end.
        self.watched: set[str] = set()

    def wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(work)

    @initialize()
    def begin(self) -> None:
        self.world = World(self.database, channels=CHANNELS, polling={"eagerness": 0.3})
        self.wait(self.world.start())

    @rule(fate=st.sampled_from(FATES), age=st.sampled_from([0, 0, 5 * MINUTE, HOUR]))
    def a_batch_is_registered(self, fate: Callable[[], Fate], age: int) -> None:
        id = self.world.openai.add(fate(), created_at=self.world.clock.now() - age)
        self.wait(self.world.register(id))
        self.watched.add(id)

    @rule(data=st.data())
    @precondition(lambda self: self.watched)
    def a_batch_is_said_more_of(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.watched)))
        self.wait(self.world.register(id, name=data.draw(st.sampled_from(["a", "b"]))))

    @rule(data=st.data())
    @precondition(lambda self: self.watched)
    def a_batch_is_removed(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.watched)))
        self.watched.discard(id)
        removed = self.wait(self.world.batch(id))
        self.wait(self.world.books(lambda ledger: ledger.remove([removed], self.world.clock.now())))

    @rule(minutes=st.integers(1, 25))
    def time_passes(self, minutes: int) -> None:
        self.wait(self.world.run(minutes * MINUTE))

    @rule(minutes=st.integers(1, 300))
    def nothing_runs_for_a_while(self, minutes: int) -> None:
        self.world.clock.advance(minutes * MINUTE)
        self.wait(self.world.restart(spread=True))

    @rule()
    def the_process_is_killed(self) -> None:
        self.wait(self.world.restart(spread=True))

    @rule(fault=st.sampled_from(FAULTS), minutes=st.integers(1, 40))
    def the_provider_is_in_trouble(self, fault: Fault, minutes: int) -> None:
        now = self.world.clock.now()
        self.world.simulation.faults.add(fault, during=(now, now + minutes * MINUTE))

    @rule(
        name=st.sampled_from(CHANNELS),
        answer=st.sampled_from([DELIVERED, FAILED, REFUSED, UNKNOWN]),
    )
    def a_channel_changes(self, name: str, answer: Sent) -> None:
        self.world.channels[name].otherwise = answer

    @rule(name=st.sampled_from(CHANNELS))
    def it_dies_between_sending_and_writing_it_down(self, name: str) -> None:
        async def refuse(work: Callable[[Ledger], Any]) -> Any:
            raise StoreError("killed")

        self.world.app.couriers[name]._write = refuse  # type: ignore[method-assign]
        with suppress(StoreError):
            self.wait(self.world.run(10 * MINUTE))
        self.wait(self.world.restart(spread=True))

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.wait(self._until_all_is_well())
            self.wait(self._all_was_told())
            self.wait(self.world.app.close())
        self.database.close()
        self.loop.close()

    async def _until_all_is_well(self) -> None:
        self.world.simulation.faults.clear()
        for channel in self.world.channels.values():
            channel.otherwise = DELIVERED
        # Longer than any pause between two tries, and than any life.
        await self.world.run(3 * HOUR)

    async def _all_was_told(self) -> None:
        world = self.world
        events = await world.events()
        told = {name: channel.ids() for name, channel in world.channels.items()}
        seqs = [one.seq for one in events]

        assert len({one.id for one in events}) == len(events)
        assert seqs == list(range(1, len(events) + 1))
        for event in events:
            deliveries = await world.deliveries(event)
            elsewhere = {event.channel}
            assert {one.channel for one in deliveries} == set(CHANNELS) - elsewhere
            for one in deliveries:
                assert one.state is DeliveryState.DELIVERED
                # Whatever came twice came with the same id: nothing else was told.
                assert event.id in told[one.channel]
        for ids in told.values():
            assert set(ids) <= {one.id for one in events}
        for id in self.watched:
            words = [word for word in await world.words(id) if word in TERMINAL]
            truth = [word for _, word in world.openai.truth(id) if word in TERMINAL]

            assert words[-1] == truth[-1]
        assert world.clock.now() > START


Watching.TestCase.settings = settings(
    max_examples=40, stateful_step_count=20, deadline=None, derandomize=True
)
TestWatching = Watching.TestCase
