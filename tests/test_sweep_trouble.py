"""What once went wrong with looks by pages: starved, slowed, misplaced, or never made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import anyio
import pytest

from tests.builders import HOUR, MINUTE, SECOND
from tests.fakes import START
from tests.world import SameThread, World
from watcher import cadence
from watcher.model import Batch, EventType, Status
from watcher.routing import Switchboard
from watcher.simulator import Fate
from watcher.simulator.fate import Step
from watcher.store.database import Transaction
from watcher.store.schema import step_up
from watcher.store.sqlite import MEMORY, SqliteDatabase


async def passing(world: World) -> None:
    """Let time pass while something waits for it in earnest."""
    while True:
        await anyio.sleep(0.001)
        world.clock.advance(100)


def strangers(world: World, count: int, *, since: int) -> None:
    for number in range(count):
        world.openai.add(Fate.stuck(), created_at=since + number)


# One request at a time


async def test_looks_go_on_where_discovery_had_to_wait_and_one_may_be_made_at_a_time(
    database: SameThread,
) -> None:
    world = World(database, discover=True, max_concurrency=1)
    await world.start()
    await world.app.discover()
    ids = [world.openai.add(Fate.stuck(), created_at=START - HOUR + n) for n in range(10)]
    await world.register(*ids)
    strangers(world, 250, since=START + SECOND)
    waited = False
    for _ in range(3):
        await world.app.discover()
        waited = waited or world.poller._asked_in_vain
        await world.run(MINUTE)
    looks = [(await world.batch(id)).looks for id in ids]

    assert waited
    assert min(looks) >= 2


async def test_a_busy_account_that_may_ask_one_at_a_time_still_discovers(
    database: SameThread,
) -> None:
    world = World(database, discover=True, max_concurrency=1, requests_per_minute=6)
    world.lists = False
    await world.start()
    await world.app.discover()
    ids = [world.openai.add(Fate.stuck(), created_at=START - HOUR) for _ in range(60)]
    await world.register(*ids)
    new = world.openai.add(Fate.stuck(), created_at=START + MINUTE)
    for _ in range(4):
        await world.run(MINUTE)
        await world.app.discover()

    assert (await world.batch(new)).registration.registered_by == "discovery"


@pytest.mark.parametrize("at_a_time", [1, 2])
async def test_once_looks_at_all_though_discovery_had_to_wait(
    database: SameThread, at_a_time: int
) -> None:
    world = World(database, discover=True, max_concurrency=at_a_time)
    await world.start()
    await world.app.discover()
    world.clock.advance(5 * SECOND)
    ids = [world.openai.add(Fate.completed(after=60), created_at=START - HOUR) for _ in range(3)]
    strangers(world, 450, since=world.clock.now() - 10)
    await world.register(*ids)
    world.clock.advance(5 * SECOND)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(passing, world)
            reached = await world.app.once()
            tasks.cancel_scope.cancel()

    assert reached
    assert {(await world.batch(id)).status for id in ids} == {Status.COMPLETED}


# What is no place in the list


async def test_mistyped_ids_that_become_lost_do_not_end_the_use_of_ids_as_cursors(
    database: SameThread,
) -> None:
    world = World(database, polling={"eagerness": 0.6}, requests_per_minute=300)
    await world.start()
    ids = [world.openai.add(Fate.stuck(), created_at=START - HOUR + n * SECOND) for n in range(150)]
    await world.register(*ids)
    await world.run(2 * MINUTE)
    bogus = [f"batch_bogus{number}" for number in range(20)]
    await world.register(*bogus)
    strangers(world, 150, since=world.clock.now() + 1)
    await world.run(15 * MINUTE)
    lost = {(await world.batch(id)).status for id in bogus}
    kept = []
    for _ in range(15):
        await world.run(MINUTE)
        kept.append(world.poller._lists.cursor_is_id)

    assert lost == {Status.LOST}
    assert all(kept)


async def test_a_batch_registered_by_a_clock_that_was_set_back_since_is_looked_at(
    database: SameThread,
) -> None:
    world = World(database, requests_per_minute=300)
    await world.start()
    ids = [world.openai.add(Fate.stuck(), created_at=START - 10 * HOUR + n) for n in range(2)]
    strangers(world, 150, since=START - HOUR)
    await world.register(*ids)
    world.clock.jump(-HOUR)
    await world.run(2 * MINUTE)

    assert min([(await world.batch(id)).looks for id in ids]) >= 1


# What is written together


async def test_a_batch_whose_next_look_cannot_be_told_takes_no_news_from_anothers(
    database: SameThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(database)
    world.lists = False
    await world.start()
    world.poller.standing._board = lambda: Switchboard(("team",), ())
    odd = replace(Fate.stuck(), steps=(Step(0, "frobbing"),))
    told = world.openai.add(odd, created_at=START - HOUR)
    poisoned = world.openai.add(Fate.stuck(), created_at=START - HOUR + SECOND)
    await world.register(told, poisoned)
    next_look = cadence.next_look

    def raising(batch: Batch, *given: Any, **more: Any) -> int | None:
        if batch.id == poisoned:
            raise ValueError("poison")
        return next_look(batch, *given, **more)

    monkeypatch.setattr(cadence, "next_look", raising)
    await world.run(SECOND)
    events = await world.events(told)

    assert (await world.batch(poisoned)).looks == 0
    assert [one.type for one in events] == [EventType.UNKNOWN]
    assert [one.channel for one in await world.deliveries(events[0])] == ["team"]


# The pace


async def test_an_hour_in_which_nobody_looked_slows_nothing(database: SameThread) -> None:
    world = World(database, requests_per_minute=60)
    world.lists = False
    await world.start()
    ids = [world.openai.add(Fate.stuck(), created_at=START - HOUR) for _ in range(20)]
    await world.register(*ids)
    await world.run(5 * MINUTE)
    before = world.poller.slowed
    world.clock.advance(HOUR)
    await world.restart(spread=True)
    asked, paces = world.openai.requests.total, []
    for _ in range(5):
        await world.run(MINUTE)
        paces.append(world.poller.slowed)

    assert before == 1.0
    assert world.openai.requests.total >= asked + len(ids)
    assert paces == [1.0] * 5


@pytest.mark.parametrize(("ago", "slowed"), [(4 * MINUTE, 4.0), (6 * MINUTE, 1.0), (-MINUTE, 1.0)])
async def test_the_pace_of_the_process_before_is_taken_over_if_it_was_there_a_moment_ago(
    database: SameThread, ago: int, slowed: float
) -> None:
    world = World(database, requests_per_minute=60)
    await world.start()
    beat = {"at": world.clock.now() - ago, "slowed": {"openai": 4.0}}
    await world.books(lambda ledger: ledger.process.put("daemon", beat))
    fresh = world.poller.slowed
    await world.restart()

    assert fresh == 1.0
    assert world.poller.slowed == pytest.approx(slowed, abs=0.01)


# An older state

REGISTERED, CREATED = START, START - HOUR


@pytest.fixture
def older() -> Iterator[SqliteDatabase]:
    """A state of the first schema: a batch that was seen, one not yet, and damaged ones."""
    states = {
        "seen": ("in_progress", json.dumps({"created_at": CREATED})),
        "undated": ("in_progress", json.dumps({"created_at": None})),
        "unseen": (None, json.dumps({"created_at": None})),
        "garbled": ("in_progress", "{"),
        "no object": ("in_progress", "[]"),
    }

    def fill(work: Transaction) -> None:
        for id, (status, state) in states.items():
            work.execute(
                "INSERT INTO batches (account, id, provider, revision, edition, status, "
                "registered_at, registration, state) "
                "VALUES ('openai', $1, 'openai', 1, 1, $2, $3, '{}', $4)",
                (id, status, REGISTERED, state),
            )

    database = SqliteDatabase(MEMORY)
    database.transact(step_up(since=0, to=1, program="1.0"))
    database.transact(fill)
    yield database
    database.close()


def test_what_an_older_state_has_seen_takes_its_place_by_when_it_was_made(
    older: SqliteDatabase,
) -> None:
    older.transact(step_up(since=1, to=2, program="1.1"))
    rows = older.read(lambda work: work.execute("SELECT id, listed_at FROM batches"))

    assert {str(id): at for id, at in rows} == {
        "seen": CREATED,
        "undated": REGISTERED,
        "unseen": REGISTERED,
        "garbled": REGISTERED,
        "no object": REGISTERED,
    }
