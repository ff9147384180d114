"""Anything in any order: whatever happens, each channel is told all it was to be told.

`STATEFUL_EXAMPLES=2000 pytest --timeout=0 tests/test_stateful.py` tries as many, and new ones
each time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.builders import DELIVERED, FAILED, HOUR, MINUTE, REFUSED, UNKNOWN, ScriptedChannel
from tests.stateful.changing import NAMES, ROUTES, Brittle, Changing, Setup
from tests.stateful.offers import Offers
from watcher.errors import StoreError
from watcher.model import Status
from watcher.notify import Sent
from watcher.simulator import KEY, Fate, Fault, faults
from watcher.store.ledger import Ledger

Result = TypeVar("Result")
EXAMPLES = int(os.environ.get("STATEFUL_EXAMPLES", "0"))
TERMINAL = {str(status) for status in Status if status.terminal}
# Any key of this kind is accepted by no provider yet.
KEYS = st.sampled_from(["new-key", "newer-key", KEY])

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
    faults.truncated(),
]
SAID = st.sampled_from([{}, {"channels": ("mail",)}, {"group": "evals"}, {"tags": ("nightly",)}])
ANSWERS = [DELIVERED, FAILED, FAILED, REFUSED, UNKNOWN]
RULES: dict[str, Any] = {
    "routes": st.sampled_from(ROUTES),
    "operators": st.sampled_from([("ops",), None]),
}


def step(**drawn: Any) -> Callable[[Callable[..., None]], Any]:
    """A rule after which some time passes, or none."""

    def rule_of(act: Callable[..., None]) -> Any:
        def act_and_wait(self: Watching, minutes: int, **values: Any) -> None:
            act(self, **values)
            self.wait(self.world.run(minutes * MINUTE))
            self.wait(self.world.app.tidy())
            self.note()

        act_and_wait.__name__ = act.__name__
        chosen: Any = rule(minutes=st.sampled_from([0, 1, 4, 15]), **drawn)
        return chosen(act_and_wait)

    return rule_of


class Watching(RuleBasedStateMachine):
    """Users, providers, channels and crashes take turns; in the end all trouble is over."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.database = Brittle()
        self.offers = Offers()
        # The lives of these batches, by account and id, must be told to their end.
        self.watched: set[tuple[str, str]] = set()
        self.removed: set[tuple[str, str]] = set()
        self.revisions: dict[tuple[str, str], int] = {}

    def wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(work)

    def note(self) -> None:
        """What was recorded in this step was recorded under the configuration there was."""
        self.wait(self.offers.observe(self.world, self.world.setup))

    @initialize(fates=st.lists(st.sampled_from(FATES), min_size=2, max_size=6), said=SAID, **RULES)
    def begin(
        self, fates: list[Callable[[], Fate]], said: dict[str, Any], routes: Any, operators: Any
    ) -> None:
        self.world = Changing(self.database, Setup(routes=routes, operators=operators))
        self.wait(self.world.start())
        for number, fate in enumerate(fates):
            self._register(fate, ("openai", "cohere")[number % 2], 0, said)

    # Users

    @step(
        fates=st.lists(st.sampled_from(FATES), min_size=1, max_size=4),
        account=st.sampled_from(["openai", "openai", "cohere"]),
        age=st.sampled_from([0, 0, 5 * MINUTE, HOUR]),
        said=SAID,
    )
    def batches_are_registered(
        self, fates: list[Callable[[], Fate]], account: str, age: int, said: dict[str, Any]
    ) -> None:
        for fate in fates:
            self._register(fate, account, age, said)

    def _register(
        self, fate: Callable[[], Fate], account: str, age: int, said: dict[str, Any]
    ) -> None:
        provider = self.world.simulation.providers[account]  # type: ignore[index]
        created_at = self.world.clock.true() - age
        try:
            id = provider.add(fate(), created_at=created_at)
        except ValueError:
            # A life that this provider has no words for.
            id = provider.add(Fate.completed(after=300.0), created_at=created_at)
        self.wait(self.world.register(id, account=account, **said))
        self.watched.add((account, id))

    @precondition(lambda self: self.watched)
    @step(data=st.data())
    def a_batch_is_said_more_of(self, data: st.DataObject) -> None:
        account, id = data.draw(st.sampled_from(sorted(self.watched)))
        name, channels = data.draw(st.sampled_from([("a", ()), ("b", ("ops",))]))
        self.wait(self.world.register(id, account=account, name=name, channels=channels))

    @precondition(lambda self: self.watched)
    @step(data=st.data())
    def a_batch_is_removed(self, data: st.DataObject) -> None:
        account, id = data.draw(st.sampled_from(sorted(self.watched)))
        removed, now = self.wait(self.world.batch(id, account)), self.world.clock.now()
        self.wait(self.world.books(lambda ledger: ledger.remove([removed], now)))
        self.watched.discard((account, id))
        self.removed.add((account, id))
        self.revisions[account, id] = removed.revision

    @precondition(lambda self: self.removed)
    @step(data=st.data())
    def a_removed_batch_is_registered_again(self, data: st.DataObject) -> None:
        account, id = data.draw(st.sampled_from(sorted(self.removed)))
        self.wait(self.world.register(id, account=account))
        again = self.wait(self.world.batch(id, account))
        self.removed.discard((account, id))
        self.watched.add((account, id))

        assert again.revision == self.revisions[account, id]
        assert again.status is None

    @step()
    def what_was_given_up_is_asked_for_again(self) -> None:
        self.wait(self._redeliver())

    async def _redeliver(self) -> None:
        given_up, now = await self.offers.given_up(self.world), self.world.clock.now()

        def work(ledger: Ledger) -> None:
            for seq, channel in given_up:
                ledger.outbox.redeliver(seq, channel, "asked for", now)

        await self.world.books(work)

    # Time

    @step(hours=st.sampled_from([1, 2, 7]))
    def hours_pass(self, hours: int) -> None:
        self.wait(self.world.run(hours * HOUR))

    @step(pause=st.sampled_from([0, 0, 5, 120, 300]))
    def the_process_is_killed_and_begins_again(self, pause: int) -> None:
        self.world.clock.advance(pause * MINUTE)
        self.wait(self.world.restart(spread=True))

    @step(by=st.sampled_from([-90, -20, 20, 90]))
    def the_clock_is_set(self, by: int) -> None:
        self.world.clock.jump(by * MINUTE)

    # Providers

    @step(
        fault=st.sampled_from(FAULTS),
        lasting=st.integers(1, 40),
        wire=st.sampled_from([None, "openai"]),
        share=st.sampled_from([1.0, 0.4]),
    )
    def a_provider_is_in_trouble(
        self, fault: Fault, lasting: int, wire: str | None, share: float
    ) -> None:
        now = self.world.clock.true()
        during = (now, now + lasting * MINUTE)
        self.world.simulation.faults.add(fault, during=during, wire=wire, share=share)

    @step(account=st.sampled_from(["openai", "cohere"]))
    def a_key_is_revoked(self, account: str) -> None:
        self.world.simulation.providers[account].revoke()  # type: ignore[index]

    @step(account=st.sampled_from(["openai", "cohere"]), key=KEYS)
    def a_key_is_replaced(self, account: str, key: str) -> None:
        self.world.simulation.providers[account].keys.add(key)  # type: ignore[index]
        self.world.secrets[account] = key

    # Channels and configuration

    @step(name=st.sampled_from(NAMES), answer=st.sampled_from(ANSWERS))
    def a_channel_changes(self, name: str, answer: Sent) -> None:
        self.world.places[name][-1].otherwise = answer
        if answer is REFUSED:
            self.offers.refused.add(name)

    @step(name=st.sampled_from(NAMES))
    def a_channel_comes_or_goes(self, name: str) -> None:
        there = set(self.world.setup.channels) ^ {name} or {name}
        channels = tuple(one for one in NAMES if one in there)
        self.wait(self.world.reload(replace(self.world.setup, channels=channels)))

    @step(name=st.sampled_from(NAMES))
    def a_channel_leads_elsewhere(self, name: str) -> None:
        self.world.places[name].append(ScriptedChannel())
        self.wait(self.world.reload(self.world.setup))

    @step(eagerness=st.sampled_from([0.1, 0.2, 0.5]), **RULES)
    def the_rest_is_configured_otherwise(
        self, routes: Any, operators: Any, eagerness: float
    ) -> None:
        setup = replace(self.world.setup, routes=routes, operators=operators, eagerness=eagerness)
        self.wait(self.world.reload(setup))

    # Crashes

    @step(writes=st.integers(0, 40))
    def it_dies_at_a_write(self, writes: int) -> None:
        """Between a claim and its record, or a record and its message, or that and its mark."""
        self.wait(self.world.die(10 * MINUTE, after_writes=writes))
        self._is_born_again()

    @step(data=st.data())
    def it_dies_between_sending_and_writing_it_down(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.world.setup.channels))
        self._breaks(name, "_write_down")

    @step(data=st.data())
    def it_dies_between_recording_and_sending(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.world.setup.channels))
        self._breaks(name, "_tell")

    def _breaks(self, name: str, at: str) -> None:
        async def refuse(*_arguments: Any) -> Any:
            raise StoreError("killed")

        setattr(self.world.app.couriers[name], at, refuse)
        self.wait(self.world.die(10 * MINUTE, after_writes=10_000))
        self._is_born_again()

    def _is_born_again(self) -> None:
        self.note()
        self.wait(self.offers.died(self.world))
        self.wait(self.world.restart(spread=True))

    # The end

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                self.wait(self._until_all_is_well())
                self.note()
                self.wait(self.offers.settle(self.world))
                self._every_end_was_told()
                self.wait(self.world.app.close())
        finally:
            self.database.close()
            self.loop.close()

    async def _until_all_is_well(self) -> None:
        world = self.world
        # What was recorded before the channels return is to be told to those that were there.
        await self.offers.observe(world, world.setup)
        world.simulation.faults.clear()
        for provider in world.simulation.providers.values():
            provider.restore()
            provider.keys.add(KEY)
        world.secrets.clear()
        for places in world.places.values():
            places[-1].otherwise = DELIVERED
        await world.reload(replace(world.setup, channels=NAMES))
        # Longer than any pause between two tries, and than any life.
        await world.run(90 * MINUTE)
        await self._redeliver()
        world.app.wake_all()
        await world.run(10 * MINUTE)

    def _every_end_was_told(self) -> None:
        for account, id in self.watched:
            provider = self.world.simulation.providers[account]  # type: ignore[index]
            about = [
                event.type.removeprefix("batch.")
                for event in self.offers.events
                if event.batch is not None and event.batch.key == f"{account}/{id}"
            ]
            words = [word for word in about if word in TERMINAL]
            truth = [word for _, word in provider.truth(id) if word in TERMINAL]

            assert words[-1] == truth[-1]


Watching.TestCase.settings = settings(
    max_examples=EXAMPLES or 25,
    stateful_step_count=50 if EXAMPLES else 18,
    deadline=None,
    derandomize=not EXAMPLES,
    print_blob=bool(EXAMPLES),
)
TestWatching = Watching.TestCase
