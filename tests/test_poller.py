"""Looking: days at simulated providers, in moments; what is told against what was true."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest

from tests.builders import DAY, HOUR, MINUTE, SECOND
from tests.fakes import START, FakeClock
from tests.world import World
from watcher.errors import StoreError
from watcher.lifecycle import NEVER_FOUND, Step
from watcher.model import Batch, EventType, Outcome, Status
from watcher.poller import PUT_OFF, Allowance
from watcher.simulator import KEY, NAMED, Fate, Fault, Kind, Wire, faults, garbage
from watcher.store.ledger import Ledger
from watcher.store.sqlite import SqliteDatabase

TERMINAL = {str(status) for status in Status if status.terminal}


# Every fate of the simulator

FATES = [
    (wire, name)
    for wire in Wire
    for name in NAMED
    if not (wire is Wire.COHERE and name.startswith("expired"))
]
# What a fate comes to beyond its terminal statuses: the last outcome that is told.
OUTCOMES = {
    "completed": Outcome.OK,
    "partial": Outcome.PARTIAL,
    "all_failed": Outcome.EMPTY,
    "empty": Outcome.EMPTY,
    "late_output": Outcome.OK,
    "failed": Outcome.EMPTY,
    "token_limit_exceeded": Outcome.EMPTY,
    "expired": Outcome.EMPTY,
    "expired_with_results": Outcome.PARTIAL,
    "cancelled": Outcome.EMPTY,
    "cancelled_with_results": Outcome.PARTIAL,
    "revived": Outcome.OK,
    "unknown_word": Outcome.OK,
    "late_to_appear": Outcome.OK,
    "vanishing": Outcome.OK,
}


@pytest.mark.parametrize(("wire", "name"), FATES)
async def test_every_fate_is_told_as_it_was(
    database: SqliteDatabase, wire: Wire, name: str
) -> None:
    world = World(database, wire, polling={"eagerness": 0.5})
    await world.start()
    provider = world.simulation.providers[wire]
    # Of those that take a day only the end is watched.
    age = 23 * HOUR if name.startswith("expired") else 0
    id = provider.add(NAMED[name](), created_at=START - age)
    await world.register(id, account=wire.value)
    await world.run(75 * MINUTE)
    events = await world.events(f"{wire.value}/{id}")
    told = [str(one.batch.status) for one in events if one.batch is not None]
    truth = [status for _, status in provider.truth(id)]
    ends = [word for word in truth if word in TERMINAL]
    if name == "vanished":
        # It is gone before it ends, whatever its provider knows.
        ends = ["lost"]

    assert [word for word in told if word in TERMINAL] == ends
    assert [one.id for one in events] == [
        f"{wire.value}/{id}@{number + 1}" for number in range(len(events))
    ]
    # Between two looks a status may come and go, but none is made up or turned round.
    known = iter([*truth, "lost"] if name == "vanished" else [*truth])
    words = {"unknown": "marinating"}
    assert all(words.get(word, word) in known for word in told)
    assert events[0].previous_status is None
    if name in OUTCOMES and events[-1].batch is not None:
        assert events[-1].batch.outcome is OUTCOMES[name]


async def test_ends_are_seen_soon_and_with_the_providers_own_time(world: World) -> None:
    await world.start()
    ids = [world.openai.add(Fate.completed(after=61.0 * minutes)) for minutes in range(2, 20, 2)]
    await world.register(*ids)
    await world.run(25 * MINUTE)
    ends = [one for one in await world.events() if one.type is EventType.COMPLETED]
    lags = [one.lag / SECOND for one in ends if one.lag is not None]
    truth = {world.openai.truth(id)[-1][0] for id in ids}

    assert len(ends) == len(lags) == len(ids)
    assert {one.occurred_at for one in ends} == truth
    assert sum(lags) / len(lags) < 30
    assert max(lags) < 45


async def test_a_batch_costs_few_looks_and_none_after_its_last(world: World) -> None:
    await world.start()
    await world.register(world.openai.add(Fate.completed(after=3_600.0)))
    looks = await world.run(HOUR)
    after = await world.run(DAY)

    # The rule has some ninety looks for an hour.
    assert 80 < looks < 140
    assert after <= 4


async def test_what_ended_while_nobody_looked_is_told_with_its_true_time(world: World) -> None:
    await world.start()
    id = world.openai.add(Fate.completed(after=600.0))
    await world.register(id)
    await world.run(MINUTE)
    world.clock.advance(DAY)
    await world.restart(spread=True)
    await world.run(MINUTE)
    end = (await world.events(id))[-1]

    assert end.type is EventType.COMPLETED
    assert end.occurred_at == START + 600 * SECOND
    assert end.lag is not None
    assert end.lag > 23 * HOUR


async def test_a_batch_nobody_knows_is_never_found(world: World) -> None:
    await world.start()
    world.openai.add(Fate.completed())
    await world.register("batch_typo")
    await world.run(10 * MINUTE)
    only = (await world.events("batch_typo"))[0]

    assert (only.type, only.previous_status, only.reason) == (EventType.LOST, None, NEVER_FOUND)
    assert only.detected_at - START < 4 * MINUTE
    assert await world.types("account:openai") == []


async def test_a_lost_batch_that_reappears_within_a_day_is_told(world: World) -> None:
    await world.start()
    id = world.openai.add(Fate.stuck().hidden(600.0, 15 * 3_600.0))
    await world.register(id)
    await world.run(16 * HOUR)

    assert (await world.words(id))[-2:] == ["lost", "reopened"]


# Every fault alone, and then it is over

FAULTS: list[Fault] = [
    faults.status(500),
    faults.status(503),
    faults.status(400),
    faults.status(418),
    faults.rate_limited(30.0, "seconds"),
    faults.rate_limited(30.0, "date"),
    faults.rate_limited(30.0, "milliseconds"),
    faults.rate_limited(30.0, None),
    faults.unauthorized(),
    faults.forbidden(),
    faults.not_found(),
    faults.redirect(),
    faults.html(),
    faults.html(502),
    faults.silent(),
    faults.drip(),
    faults.reset(),
    faults.truncated(),
    faults.empty(),
    faults.wrong_content_type(),
    faults.large_header(),
    faults.gzip_bomb(),
    garbage.another_batch(),
    garbage.not_a_number(),
    garbage.nested(),
    garbage.invalid_utf8(),
    garbage.wrong_root(),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
async def test_every_fault_alone_is_lived_through(database: SqliteDatabase, fault: Fault) -> None:
    world = World(database, polling={"eagerness": 0.5})
    await world.start()
    ids = [world.openai.add(Fate.completed(after=600.0)) for _ in range(2)]
    await world.register(*ids)
    world.simulation.faults.add(fault, during=(START + 4 * MINUTE, START + 8 * MINUTE))
    await world.run(17 * MINUTE)
    stories = [await world.words(id) for id in ids]
    recovered = await world.types("account:openai")

    assert [story[-1] for story in stories] == ["completed"] * 2
    assert all(len(set(story)) == len(story) for story in stories)
    assert recovered in ([], [EventType.ACCOUNT_UNAUTHORIZED, EventType.ACCOUNT_RECOVERED])
    assert not world.poller.account.suspected
    for id in ids:
        found = await world.batch(id)
        assert (found.failures, found.last_error) == (0, None)


async def test_a_tenth_of_all_answers_may_fail_in_any_way(world: World) -> None:
    await world.start()
    ids = [world.openai.add(Fate.partial(after=60.0 * minutes)) for minutes in range(5, 14)]
    await world.register(*ids)
    for fault in FAULTS[:2] + FAULTS[8:22]:
        world.simulation.faults.add(fault, share=0.01)
    await world.run(20 * MINUTE)
    ends = Counter(one.type for one in await world.events())

    assert ends[EventType.COMPLETED] == len(ids)
    assert ends[EventType.LOST] == 0
    assert [one for one in ends if one.startswith("account.")] == []


# The account's trouble


async def test_a_429_rests_the_whole_account_and_a_restart_remembers(world: World) -> None:
    world.lists = False
    await world.start()
    ids = [world.openai.add(Fate.stuck()) for _ in range(20)]
    await world.register(*ids)
    await world.run(MINUTE)
    world.simulation.faults.add(faults.rate_limited(600.0), times=1)
    await world.run(20 * SECOND)
    asked = world.openai.requests.by_status[429]
    paused_at = world.openai.requests.entries[-1].call.at
    await world.restart(spread=True)
    during = await world.run(paused_at + 600 * SECOND - world.clock.now() - 1)
    after = await world.run(20 * SECOND)

    assert asked == 1
    assert during == 0
    assert after >= len(ids)
    assert await world.types("account:openai") == []


async def test_requests_in_flight_at_a_429_do_not_lengthen_the_pause(world: World) -> None:
    world.lists = False
    await world.start()
    await world.register(*(world.openai.add(Fate.stuck()) for _ in range(8)))
    world.simulation.faults.add(faults.rate_limited(form=None), times=8)
    await world.turn()
    until = world.poller.account.paused_until

    assert world.openai.requests.by_status[429] == 8
    assert until is not None
    assert until - START < 20 * SECOND


async def test_a_rejected_credential_is_told_once_and_probed_once_a_minute(world: World) -> None:
    await world.start()
    ids = [world.openai.add(Fate.completed(after=600.0)) for _ in range(10)]
    await world.register(*ids)
    await world.run(MINUTE)
    world.openai.revoke()
    revoked_at = world.clock.now()
    await world.run(5 * MINUTE)
    trouble = await world.events("account:openai")
    world.openai.requests.clear()
    await world.run(HOUR)
    probes = world.openai.requests.total
    world.openai.restore()
    await world.run(3 * MINUTE)

    assert [one.type for one in trouble] == [EventType.ACCOUNT_UNAUTHORIZED]
    assert 2 * MINUTE <= trouble[0].detected_at - revoked_at <= 4 * MINUTE
    assert 58 <= probes <= 62
    assert await world.types("account:openai") == [
        EventType.ACCOUNT_UNAUTHORIZED,
        EventType.ACCOUNT_RECOVERED,
    ]
    assert {(await world.words(id))[-1] for id in ids} == {"completed"}


async def test_one_batchs_refusal_is_that_batchs(world: World) -> None:
    await world.start()
    theirs, ours = world.openai.add(Fate.stuck()), world.openai.add(Fate.completed(after=1_800.0))
    await world.register(theirs, ours)
    world.simulation.faults.add(faults.forbidden(), id=theirs)
    await world.run(HOUR)

    assert await world.types("account:openai") == []
    assert (await world.words(ours))[-1] == "completed"
    assert (await world.batch(theirs)).failures > 5


async def test_a_key_that_may_retrieve_but_not_list_is_no_trouble(world: World) -> None:
    await world.start()
    theirs, ours = world.openai.add(Fate.stuck()), world.openai.add(Fate.completed(after=1_800.0))
    await world.register(theirs, ours)
    await world.run(MINUTE)
    world.simulation.faults.add(faults.forbidden(), id=theirs)
    world.simulation.faults.add(faults.forbidden(), kind=Kind.LIST)
    await world.run(45 * MINUTE)

    assert await world.types("account:openai") == []
    assert (await world.words(ours))[-1] == "completed"


async def test_without_a_list_three_refused_batches_are_the_accounts_trouble(
    world: World,
) -> None:
    await world.start()
    await world.register(*(world.openai.add(Fate.stuck()) for _ in range(4)))
    world.simulation.faults.add(faults.status(405), kind=Kind.LIST)
    await world.run(MINUTE)
    world.openai.revoke()
    await world.run(20 * MINUTE)
    during = await world.types("account:openai")
    world.openai.restore()
    await world.run(5 * MINUTE)

    assert during == [EventType.ACCOUNT_UNAUTHORIZED]
    assert await world.types("account:openai") == [*during, EventType.ACCOUNT_RECOVERED]


@pytest.mark.parametrize("fault", [faults.silent(), faults.status(502), faults.reset()])
async def test_an_account_without_any_answer_is_unreachable_after_its_time(
    world: World, fault: Fault
) -> None:
    await world.start()
    id = world.openai.add(Fate.completed(after=3_000.0))
    await world.register(id)
    await world.run(MINUTE)
    rule = world.simulation.faults.add(fault)
    since = world.clock.now()
    await world.run(HOUR)
    trouble = await world.events("account:openai")
    world.simulation.faults.remove(rule)
    await world.run(5 * MINUTE)

    assert [one.type for one in trouble] == [EventType.ACCOUNT_UNREACHABLE]
    assert 15 * MINUTE <= trouble[0].detected_at - since <= 22 * MINUTE
    assert (await world.types("account:openai"))[1:] == [EventType.ACCOUNT_RECOVERED]
    assert (await world.words(id))[-1] == "completed"


async def test_while_every_look_turns_404_nothing_is_lost(world: World) -> None:
    await world.start()
    ids = [world.openai.add(Fate.completed(after=600.0)) for _ in range(5)]
    await world.register(*ids)
    await world.run(MINUTE)
    rule = world.simulation.faults.add(faults.not_found())
    await world.run(4 * HOUR)
    during = await world.types("account:openai")
    stories = [await world.words(id) for id in ids]
    world.simulation.faults.remove(rule)
    await world.run(10 * MINUTE)

    assert during == [EventType.ACCOUNT_UNREACHABLE]
    assert not any("lost" in story for story in stories)
    assert {(await world.words(id))[-1] for id in ids} == {"completed"}
    assert (await world.types("account:openai"))[1:] == [EventType.ACCOUNT_RECOVERED]


async def test_a_vanished_batch_of_an_account_without_a_list_is_lost_all_the_same(
    world: World,
) -> None:
    await world.start()
    id = world.openai.add(Fate.vanished(since=60.0))
    await world.register(id)
    world.simulation.faults.add(faults.status(405), kind=Kind.LIST)
    await world.run(3 * HOUR)

    assert (await world.words(id))[-1] == "lost"


async def test_one_accounts_trouble_does_not_touch_another(database: SqliteDatabase) -> None:
    world = World(database, Wire.OPENAI, Wire.COHERE)
    await world.start()
    for wire in (Wire.OPENAI, Wire.COHERE):
        id = world.simulation.providers[wire].add(Fate.completed(after=600.0), id=f"id-{wire}")
        await world.register(id, account=wire.value)
    world.simulation.faults.add(faults.unauthorized(), wire=Wire.OPENAI)
    await world.run(12 * MINUTE)
    end = (await world.events("cohere/id-cohere"))[-1]

    assert end.type is EventType.COMPLETED
    assert end.detected_at - START < 11 * MINUTE
    assert await world.types("account:cohere") == []
    assert await world.types("account:openai") == [EventType.ACCOUNT_UNAUTHORIZED]


async def test_a_key_that_was_replaced_is_tried_within_a_minute(world: World) -> None:
    await world.start()
    id = world.openai.add(Fate.completed(after=3_600.0))
    await world.register(id)
    world.secrets["openai"] = "an-old-key"
    world.openai.keys = {"a-new-key"}
    await world.run(30 * MINUTE)
    during = await world.types("account:openai")
    world.secrets["openai"] = "a-new-key"
    await world.run(MINUTE + SECOND)
    after = await world.types("account:openai")
    await world.run(HOUR)

    assert during == [EventType.ACCOUNT_UNAUTHORIZED]
    assert after == [*during, EventType.ACCOUNT_RECOVERED]
    assert (await world.words(id))[-1] == "completed"


async def test_a_missing_key_rests_its_account_until_it_is_there(world: World) -> None:
    world.secrets["openai"] = None
    await world.start()
    id = world.openai.add(Fate.completed(after=60.0))
    await world.register(id)
    await world.run(10 * MINUTE)
    disabled, asked = world.poller.disabled, world.openai.requests.total
    world.secrets["openai"] = KEY
    await world.run(2 * MINUTE)

    assert disabled == "account openai: its key file is missing"
    assert asked == 0
    assert world.poller.disabled is None
    assert await world.words(id) == ["completed"]


# Words nobody knows


async def test_an_unknown_word_is_told_once_per_account_and_word(world: World) -> None:
    await world.start()
    first, second = (world.openai.add(Fate.unknown_word("marinating")) for _ in range(2))
    third = world.openai.add(Fate.unknown_word("resting"))
    await world.register(first, second, third)
    await world.run(2 * MINUTE)
    await world.restart()
    fourth = world.openai.add(Fate.unknown_word("resting"))
    await world.register(fourth)
    await world.run(2 * MINUTE)
    unknown = [one for one in await world.events() if one.type is EventType.UNKNOWN]
    words = world.poller.account.words

    assert sorted(one.batch.raw_status or "" for one in unknown if one.batch) == [
        *["marinating"] * 2,
        *["resting"] * 2,
    ]
    assert sorted(words) == ["marinating", "resting"]


# Poison, and changes meanwhile


def break_for(world: World, id: str) -> Callable[[], None]:
    """From now on a look at this batch raises what no provider error is; returns what ends it."""
    looking = world.poller.looking
    provider = looking.provider

    class Poisoned:
        def __getattr__(self, name: str) -> Any:
            return getattr(provider, name)

        def retrieve(self, asked: str) -> Any:
            if asked == id:
                raise ZeroDivisionError("on purpose")
            return provider.retrieve(asked)

    world.poller.standing.looking = replace(looking, provider=Poisoned())

    def end() -> None:
        world.poller.standing.looking = looking

    return end


async def test_a_poisonous_batch_is_put_off_and_stops_nobody(world: World) -> None:
    world.lists = False
    await world.start()
    bad, good = (world.openai.add(Fate.completed(after=600.0)) for _ in range(2))
    await world.register(bad, good)
    end = break_for(world, bad)
    await world.turn()
    put_off = await world.batch(bad)
    await world.run(16 * MINUTE)
    crashed = world.app.meter.counts["looks", (("account", "openai"), ("result", "crashed"))]
    end()
    await world.run(10 * MINUTE)

    assert put_off.next_look_at == START + PUT_OFF
    assert crashed == 4
    assert (await world.words(good))[-1] == "completed"
    assert await world.words(bad) == ["completed"]


async def test_a_poisonous_entry_of_a_page_is_put_off_and_stops_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.start()
    bad, *good = (world.openai.add(Fate.completed(after=600.0)) for _ in range(5))
    await world.register(bad, *good)
    room = sys.modules["watcher.lifecycle.listed"]
    advance: Callable[..., Step] = room.advance

    def broken(batch: Batch, *given: Any) -> Step:
        if batch.id == bad:
            raise ZeroDivisionError("on purpose")
        return advance(batch, *given)

    monkeypatch.setattr(room, "advance", broken)
    await world.turn()
    put_off = await world.batch(bad)
    await world.run(12 * MINUTE)

    assert put_off.next_look_at == START + PUT_OFF
    assert [(await world.words(id))[-1] for id in good] == ["completed"] * 4
    assert world.openai.requests.by_kind[Kind.LIST] > 10


async def test_a_row_that_cannot_be_read_is_put_off_and_stops_nobody(world: World) -> None:
    await world.start()
    bad, good = (world.openai.add(Fate.completed(after=600.0)) for _ in range(2))
    await world.register(bad, good)
    spoil = "UPDATE batches SET state = 'not json' WHERE id = $1"
    await world.database.transaction(lambda work: work.execute(spoil, (bad,)))
    await world.run(15 * MINUTE)
    rows = await world.database.query(
        lambda work: work.execute("SELECT due_at FROM batches WHERE id = $1", (bad,))
    )

    assert (await world.words(good))[-1] == "completed"
    assert rows[0][0] > world.clock.now()


async def meanwhile(world: World, id: str, work: Callable[[Ledger], Any]) -> None:
    """Let a look begin, and this happen before it ends."""
    async with anyio.create_task_group() as tasks:
        await world.poller.once(world.clock.now(), tasks)
        assert world.poller.busy
        await world.books(work)


async def test_a_registration_that_changes_during_a_look_is_not_overwritten(world: World) -> None:
    await world.start()
    id = world.openai.add(Fate.unknown_word(at=0.0))
    await world.register(id, tags=("old",))
    hold = world.simulation.faults.add(faults.late(0.05))

    await meanwhile(
        world,
        id,
        lambda ledger: ledger.batches.register(
            replace(registering_of(id), tags=("new",)), world.clock.now()
        ),
    )
    before, told = await world.batch(id), await world.events(id)
    words = world.poller.account.words
    world.simulation.faults.remove(hold)
    await world.turn()
    after = await world.batch(id)

    assert (before.status, told, words) == (None, [], ())
    assert after.registration.tags == ("new",)
    assert await world.words(id) == ["unknown"]
    # The word is told still, although the first look at it was not recorded.
    assert world.poller.account.words == ("marinating",)


def registering_of(id: str) -> Any:
    from tests.builders import registering

    return registering(id)


async def test_a_batch_removed_during_a_look_stays_removed(world: World) -> None:
    await world.start()
    id = world.openai.add(Fate.completed(after=0.0))
    await world.register(id)
    world.simulation.faults.add(faults.late(0.05), times=1)
    before = await world.batch(id)
    await meanwhile(world, id, lambda ledger: ledger.remove([before], world.clock.now()))
    looks = await world.run(HOUR)

    assert looks == 0
    assert await world.events(id) == []


# A state that takes nothing


async def test_while_the_state_takes_nothing_nobody_is_asked_and_nothing_is_lost(
    world: World,
) -> None:
    world.lists = False
    await world.start()
    ids = [world.openai.add(Fate.completed(after=600.0)) for _ in range(3)]
    await world.register(*ids)
    await world.run(MINUTE)
    write, full = world.poller._write, True

    async def refuse(work: Callable[[Ledger], Any]) -> Any:
        if full:
            raise StoreError("no space left")
        return await write(work)

    world.poller._write = refuse  # type: ignore[method-assign]
    world.openai.requests.clear()
    world.clock.advance(10 * MINUTE)
    async with anyio.create_task_group() as tasks:
        await world.poller.once(world.clock.now(), tasks)
    asked = world.openai.requests.total
    for _ in range(20):
        with pytest.raises(StoreError):
            await world.poller.once(world.clock.advance(SECOND), tasks)
    asked_meanwhile = world.openai.requests.total - asked
    full = False
    await world.run(MINUTE)

    assert (asked, asked_meanwhile) == (3, 0)
    assert [(await world.words(id))[-1] for id in ids] == ["completed"] * 3


async def test_trouble_that_could_not_be_recorded_is_told_when_it_can(world: World) -> None:
    await world.start()
    await world.register(world.openai.add(Fate.stuck()))
    await world.run(MINUTE)
    write, full = world.poller._write, True

    async def refuse(work: Callable[[Ledger], Any]) -> Any:
        if full and world.poller.account.trouble is not None:
            raise StoreError("no space left")
        return await write(work)

    world.poller._write = refuse  # type: ignore[method-assign]
    world.openai.revoke()
    for _ in range(6):
        try:
            await world.run(MINUTE)
        except* StoreError:
            world.clock.advance(MINUTE)
    during = await world.types("account:openai")
    full = False
    await world.run(5 * MINUTE)
    events = await world.events("account:openai")

    assert during == []
    assert [(one.id, one.type) for one in events] == [
        ("account:openai@1", EventType.ACCOUNT_UNAUTHORIZED)
    ]


# Limits


class Flight:
    """Counts what a world's accounts have in flight."""

    def __init__(self, world: World) -> None:
        self.most = self.now = 0
        wire = world.poller.looking.wire
        self._send = wire.send
        wire.send = self.send  # type: ignore[method-assign]

    async def send(self, request: Any) -> object:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            # Long enough for all others to begin.
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            return await self._send(request)
        finally:
            self.now -= 1


@pytest.mark.parametrize("limit", [1, 3, 8])
async def test_no_more_requests_are_in_flight_than_allowed(
    database: SqliteDatabase, limit: int
) -> None:
    world = World(database, max_concurrency=limit, requests_per_minute=100_000)
    world.lists = False
    await world.start()
    flight = Flight(world)
    await world.register(*(world.openai.add(Fate.stuck()) for _ in range(30)))
    async with anyio.create_task_group() as tasks:
        for _ in range(200):
            await world.poller.once(world.clock.advance(50), tasks)
            await anyio.lowlevel.checkpoint()

    assert flight.most == limit


@pytest.mark.parametrize("limit", [1, 2, 7, 60, 100])
async def test_no_more_requests_go_out_in_any_minute_than_allowed(
    database: SqliteDatabase, limit: int
) -> None:
    world = World(database, requests_per_minute=limit)
    world.lists = False
    await world.start()
    await world.register(*(world.openai.add(Fate.stuck()) for _ in range(limit + 20)))
    await world.run(2 * MINUTE)
    times = sorted(entry.call.at for entry in world.openai.requests.entries)
    most = max(
        sum(1 for at in times if since <= at < since + MINUTE) for since in dict.fromkeys(times)
    )

    assert most <= limit
    assert len(times) >= limit * 2 * 0.8


def test_an_allowance_without_a_limit_is_never_short() -> None:
    allowance = Allowance(None, 4, FakeClock())
    for _ in range(100):
        allowance.take()

    assert allowance.available() == 4
    assert allowance.wait() == 0


def test_an_allowance_says_when_the_next_request_may_go() -> None:
    clock = FakeClock()
    allowance = Allowance(61, 2, clock)
    allowance.take()
    allowance.take()
    waits = [allowance.wait()]
    clock.advance(400)
    waits.append(allowance.wait())
    clock.advance(600)

    assert waits == [pytest.approx(1.0), pytest.approx(0.6)]
    assert allowance.available() == 1


async def test_a_fleet_that_was_overdue_is_spread_over_the_shortest_wait(world: World) -> None:
    await world.start()
    await world.register(*(world.openai.add(Fate.stuck()) for _ in range(100)))
    await world.run(MINUTE)
    world.clock.advance(DAY)
    await world.restart(spread=True)
    dues = await world.database.query(lambda work: work.execute("SELECT due_at FROM batches"))
    waits = [due - world.clock.now() for (due,) in dues]

    assert min(waits) >= 0
    assert max(waits) <= 5 * SECOND
    assert len(set(waits)) > 80


# Restarts and clocks


async def test_a_crash_in_the_middle_loses_nothing_and_uses_no_id_twice(world: World) -> None:
    await world.start()
    ids = [world.openai.add(Fate.completed(after=60.0 * minutes)) for minutes in range(1, 12)]
    await world.register(*ids)
    for _ in range(7):
        await world.run(2 * MINUTE)
        await world.restart(spread=True)
    events = [one.id for one in await world.events()]

    assert {(await world.words(id))[-1] for id in ids} == {"completed"}
    assert len(set(events)) == len(events)
    assert sorted(world.channels["team"].ids()) == sorted(events)


async def test_a_clock_set_back_a_day_delays_nothing(world: World) -> None:
    await world.start()
    id = world.openai.add(Fate.completed(after=3_600.0))
    await world.register(id)
    await world.run(10 * MINUTE)
    world.clock.jump(-DAY)
    before = world.openai.requests.total
    await world.books(
        lambda ledger: ledger.process.lease(
            ["account:openai"], world.app.holder, START - DAY, START + DAY
        )
    )
    await world.run(MINUTE)

    assert world.openai.requests.total > before


async def test_without_its_lease_a_process_looks_at_nothing(world: World) -> None:
    await world.start()
    await world.register(world.openai.add(Fate.completed()))
    await world.books(lambda ledger: ledger.process.void_leases())
    looks = await world.run(MINUTE)

    assert looks == 0
    assert world.openai.requests.total == 0


# Once


async def test_looking_once_through_looks_at_all_that_is_due_and_returns(
    database: SqliteDatabase,
) -> None:
    world = World(database, max_concurrency=2, requests_per_minute=1_000_000)
    world.lists = False
    await world.start()
    await world.register(*(world.openai.add(Fate.stuck()) for _ in range(30)))
    world.poller.adopt_settings(replace(world.poller.looking, requests_per_minute=None))
    with anyio.fail_after(10):
        await world.poller.once_through()

    assert len(world.openai.requests.by_id) == 30
    assert (world.poller.standing.asked, world.poller.standing.reached) == (True, True)


@pytest.mark.parametrize(
    ("fault", "reached"),
    [(faults.reset(), False), (faults.status(500), True), (faults.unauthorized(), True)],
)
async def test_looking_once_through_says_whether_anybody_answered(
    world: World, fault: Fault, *, reached: bool
) -> None:
    await world.start()
    await world.register(world.openai.add(Fate.stuck()))
    world.simulation.faults.add(fault)
    with anyio.fail_after(10):
        await world.poller.once_through()

    assert (world.poller.standing.asked, world.poller.standing.reached) == (True, reached)
