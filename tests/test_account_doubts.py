"""An account in doubt: whose 404s they are, and what two pollers of one account may do."""

from __future__ import annotations

import json
from dataclasses import replace

import anyio

from tests.builders import DAY, HOUR, MINUTE, SECOND
from tests.fakes import START
from tests.world import World
from watcher.lifecycle import OTHERS_LISTED
from watcher.model import EventType
from watcher.simulator import Fate, Fault, Kind, faults
from watcher.simulator.answer import Answer
from watcher.store.sqlite import SqliteDatabase


def strangers(honest: Answer, _call: object) -> Answer:
    """The list, of a project that is not the batches' own."""
    page = json.loads(honest.body)
    for number, one in enumerate(page["data"]):
        one["id"] = f"batch_of_others_{number}"
    return replace(honest, body=json.dumps(page).encode())


async def test_a_list_of_others_batches_vouches_for_no_404(database: SqliteDatabase) -> None:
    world = World(database)
    await world.start()
    ids = [world.openai.add(Fate.completed(after=9_000.0 * number)) for number in (1, 2, 3)]
    await world.register(*ids)
    await world.run(10 * MINUTE)
    rules = [
        world.simulation.faults.add(faults.not_found(), kind=Kind.RETRIEVE),
        world.simulation.faults.add(Fault("others", strangers), kind=Kind.LIST),
    ]
    await world.run(3 * HOUR)
    troubles = [one for one in await world.events() if one.batch is None]
    for rule in rules:
        world.simulation.faults.remove(rule)
    await world.run(8 * HOUR)
    words = {id: await world.words(id) for id in ids}

    assert [one.type for one in troubles] == [EventType.ACCOUNT_UNREACHABLE]
    assert troubles[0].reason == OTHERS_LISTED
    assert {"lost"} & set().union(*words.values()) == set()
    assert {told[-1] for told in words.values()} == {"completed"}


async def test_what_is_deleted_after_a_look_that_failed_is_left_in_peace(
    database: SqliteDatabase,
) -> None:
    world = World(database)
    await world.start()
    await world.register(world.openai.add(Fate.completed(after=600.0)))
    end = START + 600 * SECOND
    world.simulation.faults.add(faults.status(500), during=(end + 50_000, end + 80_000))
    world.simulation.faults.add(faults.not_found(), during=(end + 80_000, end + DAY))
    await world.run(20 * MINUTE)
    before = world.openai.requests.total
    await world.run(6 * HOUR)

    assert world.openai.requests.total - before <= 3


async def test_a_poller_learns_what_another_has_told_before_it_was_replaced(
    database: SqliteDatabase,
) -> None:
    world = World(database)
    await world.start()
    id = world.openai.add(Fate.completed(after=9_000.0))
    await world.register(id)
    rule = world.simulation.faults.add(faults.status(500))
    await world.run(40 * MINUTE)
    old = world.poller
    world.simulation.faults.remove(rule)
    # A reload gives the account to a new one while a probe of the old one is under way.
    new = world.app._poller(world.app.plan_now.looking["openai"])
    await new.begin(spread=False)
    async with anyio.create_task_group() as tasks:
        world.clock.advance(61 * SECOND)
        await old.once(world.clock.now(), tasks)
    world.app.pollers["openai"] = new
    await world.run(4 * HOUR)
    told = [(one.id, one.type) for one in await world.events() if one.batch is None]

    assert (await world.batch(id)).ended
    assert told == [
        ("account:openai@1", EventType.ACCOUNT_UNREACHABLE),
        ("account:openai@2", EventType.ACCOUNT_RECOVERED),
    ]


async def test_a_probe_that_takes_the_only_slot_is_waited_for(database: SqliteDatabase) -> None:
    world = World(database, max_concurrency=1)
    await world.start()
    await world.register(world.openai.add(Fate.completed(after=9_000.0)))
    await world.run(MINUTE)
    world.clock.advance(10 * MINUTE)
    before = await world.poller.next_wait()
    world.poller._probing = True

    assert before == 0.0
    assert await world.poller.next_wait() > 1.0
