"""A fleet looked at by pages of its account's list, whatever that list is like."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from tests.builders import HOUR, MINUTE, SECOND
from tests.fakes import START
from tests.world import SameThread, World
from watcher.model import EventType, Status
from watcher.poller import quantiles
from watcher.simulator import Fate, Wire, faults
from watcher.simulator.answer import Kind
from watcher.simulator.listing import GROQ, MORPH, TOGETHER, Envelope, ListForm, Order, Paging

FLEET = 16
# Seldom looked at: it is the same with fewer turns.
PACE = {"eagerness": 0.6}
LISTS = {
    "as it should be": ListForm(),
    "lagging": ListForm(lag=20.0),
    "contradicting itself": ListForm(lag=5.0, jitter=40.0),
    "in one piece": GROQ,
    "a bare array": TOGETHER,
    "by offsets": MORPH,
    "always its first page": ListForm(paging=Paging.IGNORED),
    "without a word of more": ListForm(envelope=Envelope.IDS),
    "oldest first": ListForm(order=Order.OLDEST),
    "in no order": ListForm(order=Order.NONE),
    "refused": ListForm(refusal=403),
    "not there": ListForm(refusal=404),
    "not made": ListForm(refusal=501),
}
# How much more often a list is asked that is of no use, until it is left alone.
FRUITLESS = 20


def fleet(world: World, wire: Wire = Wire.OPENAI, size: int = FLEET) -> list[str]:
    """Batches made within ten minutes that end within half an hour."""
    provider = world.simulation.providers[wire]
    return [
        provider.add(
            Fate.completed(after=700.0 + 61.0 * number),
            created_at=START - 10 * MINUTE + number * 15 * SECOND,
        )
        for number in range(size)
    ]


async def stories(world: World, ids: list[str]) -> list[list[str]]:
    return [await world.words(id) for id in ids]


ONE_BY_ONE: dict[Wire, int] = {}


async def by_single_looks(wire: Wire = Wire.OPENAI) -> int:
    """How many requests the same takes one by one; found out once."""
    if wire in ONE_BY_ONE:
        return ONE_BY_ONE[wire]
    world = World(SameThread(), wire, polling=PACE, requests_per_minute=100_000)
    world.lists = False
    await world.start()
    await world.register(*fleet(world, wire), account=wire.value)
    await world.run(30 * MINUTE)
    ONE_BY_ONE[wire] = world.simulation.requests.total
    return ONE_BY_ONE[wire]


@pytest.mark.parametrize("form", LISTS.values(), ids=LISTS)
async def test_whatever_the_list_is_like_each_is_told_once_and_as_it_was(
    database: SameThread, form: ListForm
) -> None:
    world = World(database, polling=PACE, requests_per_minute=100_000)
    world.openai.list_form = form
    await world.start()
    ids = fleet(world)
    await world.register(*ids)
    await world.run(30 * MINUTE)
    events = await world.events()

    for id, story in zip(ids, await stories(world, ids), strict=True):
        # What was seen of its way is in order, and only what it went through.
        truth = iter(word for _, word in world.openai.truth(id))
        assert all(word in truth for word in story), story
        assert story[-1] == "completed"
    assert {one.account for one in events if one.batch is None} == set()
    assert {one.outcome for one in [await world.batch(id) for id in ids]} == {"ok"}
    ends = [one.lag or 0 for one in events if one.type is EventType.COMPLETED]
    assert max(ends) < 6 * MINUTE


@pytest.mark.parametrize(
    ("form", "share"),
    [
        (LISTS["as it should be"], 0.35),
        (LISTS["in one piece"], 0.35),
        (LISTS["a bare array"], 0.35),
        (LISTS["by offsets"], 0.4),
        (LISTS["contradicting itself"], 1.0),
        (LISTS["refused"], 1.1),
    ],
)
async def test_a_list_saves_requests_and_one_of_no_use_costs_few(
    database: SameThread, form: ListForm, share: float
) -> None:
    alone = await by_single_looks()
    world = World(database, polling=PACE, requests_per_minute=100_000)
    world.openai.list_form = form
    await world.start()
    await world.register(*fleet(world))
    await world.run(30 * MINUTE)

    assert alone > 14 * FLEET
    assert world.openai.requests.total < share * alone


@pytest.mark.parametrize("wire", [Wire.COHERE, Wire.CEREBRAS])
async def test_other_providers_lists_serve_as_well(database: SameThread, wire: Wire) -> None:
    alone = await by_single_looks(wire)
    world = World(database, wire, polling=PACE, requests_per_minute=100_000)
    await world.start()
    ids = fleet(world, wire)
    await world.register(*ids, account=wire.value)
    await world.run(30 * MINUTE)
    ends = [one for one in await world.events() if one.type is EventType.COMPLETED]

    assert len(ends) == FLEET
    assert world.simulation.requests.total < 0.4 * alone


async def test_what_the_list_hides_is_looked_at_singly_and_as_punctually(
    database: SameThread,
) -> None:
    world = World(database, polling=PACE, requests_per_minute=100_000)
    await world.start()
    ids = fleet(world)
    for id in ids[::4]:
        world.openai.hide(id)
    await world.register(*ids)
    await world.run(30 * MINUTE)
    asked = world.openai.requests.by_id
    ends = {
        one.batch.id: one.lag or 0
        for one in await world.events()
        if one.batch is not None and one.type is EventType.COMPLETED
    }

    assert set(ends) == set(ids)
    assert min(asked[id] for id in ids[::4]) > max(asked[id] for id in set(ids) - set(ids[::4]))
    assert max(ends.values()) < 2 * MINUTE


async def test_strangers_batches_between_ours_do_not_matter(database: SameThread) -> None:
    world = World(database, polling=PACE, requests_per_minute=100_000)
    await world.start()
    ids = fleet(world)
    for number in range(60):
        world.openai.add(Fate.stuck(), created_at=START - 10 * MINUTE + number * 9 * SECOND)
    await world.register(*ids)
    await world.run(30 * MINUTE)
    types = Counter(one.type for one in await world.events())

    assert types[EventType.COMPLETED] == FLEET
    assert world.openai.requests.total < 0.5 * await by_single_looks()


# Batches never seen


@pytest.mark.parametrize("wire", [Wire.OPENAI, Wire.COHERE])
async def test_old_batches_registered_together_are_found_by_reading_on(
    database: SameThread, wire: Wire
) -> None:
    world = World(database, wire, polling=PACE, requests_per_minute=100_000)
    await world.start()
    provider = world.simulation.providers[wire]
    ids = [
        provider.add(Fate.stuck(), created_at=START - 5 * HOUR + number * 20 * SECOND)
        for number in range(450)
    ]
    await world.register(*ids, account=wire.value)
    await world.run(20 * SECOND)
    seen = [await world.batch(id, wire.value) for id in ids]

    assert {one.status for one in seen} <= {Status.IN_PROGRESS, Status.QUEUED}
    assert world.simulation.requests.total < 60


async def test_batches_far_below_the_top_are_found_while_there_are_enough_of_them(
    database: SameThread,
) -> None:
    world = World(database, polling=PACE, requests_per_minute=100_000)
    await world.start()
    ids = [
        world.openai.add(Fate.stuck(), created_at=START - 20 * HOUR + number * 20 * SECOND)
        for number in range(300)
    ]
    for number in range(1_000):
        world.openai.add(Fate.stuck(), created_at=START - 10 * HOUR + number * SECOND)
    await world.register(*ids)
    await world.run(20 * SECOND)

    assert {(await world.batch(id)).status for id in ids} == {Status.IN_PROGRESS}
    assert world.openai.requests.total < 100


# Failures


async def test_a_list_that_fails_is_left_alone_and_taken_up_again(database: SameThread) -> None:
    world = World(database, polling=PACE, requests_per_minute=100_000)
    await world.start()
    ids = [world.openai.add(Fate.stuck(), created_at=START - HOUR) for _ in range(20)]
    await world.register(*ids)
    world.simulation.faults.add(
        faults.status(500), kind=Kind.LIST, during=(START, START + 10 * MINUTE)
    )
    await world.run(10 * MINUTE)
    failed = world.openai.requests.by_status[500]
    retrieved = world.openai.requests.by_kind[Kind.RETRIEVE]
    await world.run(30 * MINUTE)
    later = world.openai.requests.by_kind[Kind.RETRIEVE] - retrieved

    assert 2 <= failed <= 9
    assert retrieved > 3 * len(ids)
    assert later < retrieved
    assert await world.types("account:openai") == []


async def test_a_429_to_a_page_rests_the_whole_account(database: SameThread) -> None:
    world = World(database, polling=PACE, requests_per_minute=100_000)
    await world.start()
    await world.register(*(world.openai.add(Fate.stuck()) for _ in range(20)))
    world.simulation.faults.add(faults.rate_limited(600.0), kind=Kind.LIST, times=1)
    await world.run(MINUTE)
    asked = world.openai.requests.total
    during = await world.run(8 * MINUTE)

    assert asked <= 2
    assert during == 0


async def test_pages_tell_that_an_account_is_well_only_by_batches_of_ours(
    database: SameThread,
) -> None:
    world = World(database, polling=PACE, requests_per_minute=100_000)
    await world.start()
    ids = [world.openai.add(Fate.stuck(), created_at=START - HOUR) for _ in range(10)]
    await world.register(*ids)
    await world.run(MINUTE)
    for id in ids:
        world.openai.hide(id)
    world.openai.add(Fate.stuck())
    world.simulation.faults.add(faults.status(404), kind=Kind.RETRIEVE)
    await world.run(3 * HOUR)

    assert await world.types("account:openai") == [EventType.ACCOUNT_UNREACHABLE]
    assert {(await world.batch(id)).status for id in ids} == {Status.IN_PROGRESS}


async def test_after_a_reload_with_another_address_the_list_is_tried_anew(
    database: SameThread,
) -> None:
    world = World(database, polling=PACE, requests_per_minute=100_000)
    world.openai.list_form = ListForm(refusal=404)
    await world.start()
    await world.register(*(world.openai.add(Fate.stuck()) for _ in range(20)))
    await world.run(MINUTE)
    world.openai.list_form = ListForm()
    looking = world.poller.looking
    provider = replace(looking.provider, name="openai", web="https://example.invalid/")  # type: ignore[type-var]
    world.poller.adopt_settings(replace(looking, provider=provider))
    before = world.openai.requests.by_kind[Kind.LIST]
    await world.run(MINUTE)

    assert world.openai.requests.by_kind[Kind.LIST] > before


# Discovery


async def test_a_busy_account_still_discovers(database: SameThread) -> None:
    world = World(database, requests_per_minute=6, discover=True)
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


async def test_what_discovery_reads_is_a_look_at_every_batch_on_the_page(
    database: SameThread,
) -> None:
    world = World(database, discover=True)
    await world.start()
    await world.app.discover()
    await world.run(SECOND)
    ids = [world.openai.add(Fate.stuck(), created_at=START + 5 * SECOND) for _ in range(5)]
    await world.app.discover()
    seen = [await world.batch(id) for id in ids]

    assert {one.status for one in seen} == {Status.VALIDATING}
    assert {one.looks for one in seen} == {1}
    assert world.openai.requests.by_kind[Kind.RETRIEVE] == 0


async def test_a_hidden_batch_is_looked_at_singly_however_many_were_hidden_before(
    database: SameThread,
) -> None:
    world = World(database, polling=PACE, requests_per_minute=100_000)
    await world.start()
    ids = fleet(world)
    for id in ids[::4]:
        world.openai.hide(id)
    await world.register(*ids)
    world.poller._lists.unlisted.update(f"batch_{number}" for number in range(10_000))
    await world.run(4 * MINUTE)

    assert world.openai.requests.total < 60
    assert min(world.openai.requests.by_id[id] for id in ids[::4]) > 3


# An allowance that is too small


async def test_where_requests_do_not_suffice_all_wait_longer_and_none_is_late(
    database: SameThread,
) -> None:
    world = World(database, requests_per_minute=30)
    world.lists = False
    await world.start()
    ids = [world.openai.add(Fate.stuck(), created_at=START - 2 * HOUR) for _ in range(80)]
    await world.register(*ids)
    await world.run(20 * MINUTE)
    world.openai.requests.clear()
    slowed = world.poller.slowed
    await world.run(10 * MINUTE)
    looks = [world.openai.requests.by_id[id] for id in ids]

    assert slowed > 1.5
    assert max(looks) - min(looks) <= 1
    late = quantiles(world.poller.lateness.counts(world.clock.now()))["p99"]
    assert late is not None
    assert late < 20
