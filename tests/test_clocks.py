"""The wall clock jumps, is wrong at boot, or stands still in a machine that sleeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import (
    DAY,
    DELIVERED,
    FAILED,
    HOUR,
    MINUTE,
    SECOND,
    account,
    batch,
    event,
    registration,
    tell,
)
from tests.fakes import START, FakeClock
from tests.living import RENEWAL, Living
from watcher import cadence
from watcher.cadence.looks import by_age
from watcher.cli.show import _looks
from watcher.client import LocalClient
from watcher.clock import LEAST_JUMP, Jumps
from watcher.config import Settings
from watcher.lifecycle import account_after_jump
from watcher.model import DeliveryState, EventType, Status
from watcher.simulator import Fate, faults
from watcher.store.sqlite import SqliteDatabase

YEAR = 365 * DAY
AGE = 20 * HOUR


@pytest.fixture
def world(database: SqliteDatabase) -> Living:
    return Living(database)


def planned(young: int, old: int) -> float:
    """The most looks the rule has for one batch between two ages: each wait a tenth shorter."""
    ages = range(young // SECOND, old // SECOND)
    return sum(1 / max(5.0, 0.9 * by_age(age)) for age in ages) + 1


# Noticing


@given(steps=st.lists(st.tuples(st.integers(0, HOUR), st.integers(1 - LEAST_JUMP, LEAST_JUMP - 1))))
def test_a_clock_that_is_slewed_has_not_jumped(steps: list[tuple[int, int]]) -> None:
    clock = FakeClock()
    jumps = Jumps(clock)
    noticed = []
    for passed, slewed in steps:
        clock.advance(passed)
        clock.jump(slewed)
        noticed.append(jumps.since_last())

    assert not any(noticed)
    assert jumps.steady_for() == pytest.approx(clock.monotonic())


@pytest.mark.parametrize("jump", [-YEAR, -HOUR, -LEAST_JUMP, LEAST_JUMP, HOUR, 10 * YEAR])
def test_a_jump_is_noticed_once_whatever_passed_meanwhile(jump: int) -> None:
    clock = FakeClock()
    jumps = Jumps(clock)
    clock.advance(DAY)
    clock.jump(jump)
    clock.advance(MINUTE)
    noticed = [jumps.since_last(), jumps.since_last()]
    clock.advance(MINUTE)

    assert noticed == [jump, 0]
    assert jumps.steady_for() == 60


# A fleet


@pytest.mark.parametrize(
    ("fleet", "happens"),
    [
        pytest.param(200, lambda clock: clock.jump(HOUR), id="an hour forward"),
        pytest.param(100, lambda clock: clock.jump(-HOUR), id="an hour back"),
        pytest.param(100, lambda clock: clock.suspend(8 * HOUR), id="asleep for a night"),
        pytest.param(100, lambda clock: clock.advance(8 * HOUR), id="asleep, and counted"),
    ],
)
async def test_no_storm_of_looks_follows_a_jump(
    database: SqliteDatabase, fleet: int, happens: Callable[[FakeClock], int]
) -> None:
    # An allowance that hides nothing.
    world = Living(database, requests_per_minute=60_000)
    world.lists = False
    ids = [
        world.openai.add(Fate.stuck(), created_at=START - AGE - number * SECOND)
        for number in range(fleet)
    ]
    await world.start()
    await world.register(*ids)
    await world.run(MINUTE)
    happens(world.clock)
    world.openai.requests.clear()
    began = world.clock.true()
    looks = await world.run(15 * SECOND)
    leased = await world.leased()
    seconds = Counter((one.call.at - began) // SECOND for one in world.openai.requests.entries)
    looks += await world.run(10 * MINUTE - 15 * SECOND)
    young = max(0, world.clock.now() - 10 * MINUTE - (START - AGE))

    assert leased
    assert looks <= fleet * (1 + planned(young, young + 10 * MINUTE))
    # Once each, and not all at once.
    assert max(seconds.values()) <= fleet / 2
    assert set(world.openai.requests.by_id) == set(ids)
    assert set(await world.types()) == {EventType.IN_PROGRESS}


@pytest.mark.parametrize("years", [-56, 73], ids=["1970", "2099"])
async def test_a_clock_that_is_wrong_at_boot_and_set_right_costs_little(
    database: SqliteDatabase, years: int
) -> None:
    world = Living(database, requests_per_minute=60_000)
    world.clock.jump(years * YEAR)
    await booted(world, 3)
    wrong = await world.run(10 * MINUTE)
    world.clock.jump(-years * YEAR)
    right = await world.run(10 * MINUTE)
    leased = await world.leased()
    await world.run(HOUR)
    late = await world.run(HOUR)
    events = await world.events()
    stories = [await world.words(id) for id in world.openai.ids]

    assert leased
    # As for batches that have just been made, or for very old ones.
    assert wrong <= 6 * (1 + planned(0, 10 * MINUTE))
    assert right <= 6 * (2 + planned(MINUTE, 11 * MINUTE))
    # The half of them that ended is left in peace; the others are looked at as they should be.
    assert late <= 3 * planned(HOUR, 2 * HOUR)
    assert {story[-1] for story in stories} == {"in_progress", "completed"}
    assert all(story.count("completed") <= 1 for story in stories)
    assert all((one.lag or 0) >= 0 for one in events)
    assert sorted(world.channels["team"].ids()) == sorted(one.id for one in events)


async def booted(world: Living, half: int) -> None:
    """Begin with batches half of which end in minutes, before the clock is set right or after."""
    for number in range(half):
        world.openai.add(Fate.completed(after=30.0 + 150 * number), created_at=START - MINUTE)
        world.openai.add(Fate.stuck(), created_at=START - MINUTE)
    await world.start()
    await world.register(*world.openai.ids)


async def test_a_batch_that_ended_is_left_in_peace_by_a_clock_set_back(world: Living) -> None:
    await world.start()
    ids = [world.openai.add(Fate.completed(after=60.0)) for _ in range(20)]
    await world.register(*ids)
    await world.run(3 * MINUTE)
    world.clock.jump(-3 * YEAR)
    looks = await world.run(3 * HOUR)

    # Those after the end, once more.
    assert looks <= 20 * (1 + len(cadence.LOOKS_AFTER_THE_END))
    assert await world.run(3 * HOUR) == 0


@given(looks=st.integers(0, 500), seconds=st.integers(0, 86_400))
def test_what_was_looked_at_often_is_not_young_to_a_clock_set_back(
    looks: int, seconds: int
) -> None:
    pace = cadence.Pace()
    often = batch(Status.IN_PROGRESS, created_at=START, looks=looks)
    as_old = replace(often, created_at=START - looks * pace.min_interval)
    back = cadence.next_look(often, START - seconds * SECOND, pace)
    straight = cadence.next_look(as_old, START, pace)

    assert back is not None
    assert straight is not None
    assert back - (START - seconds * SECOND) == straight - START


# Doubts


async def test_a_jump_alone_makes_nothing_lost(world: Living) -> None:
    await world.start()
    gone, well = world.openai.add(Fate.vanished(since=300.0)), world.openai.add(Fate.stuck())
    await world.register(gone, well)
    await world.run(20 * MINUTE)
    doubted = (await world.batch(gone)).missing_looks
    world.clock.jump(HOUR)
    await world.run(50 * MINUTE)
    early = await world.words(gone)
    await world.run(20 * MINUTE)

    assert doubted >= 5
    assert "lost" not in early
    assert (await world.words(gone))[-1] == "lost"


async def test_what_was_never_found_is_not_lost_by_a_jump(world: Living) -> None:
    await world.start()
    late = world.openai.add(Fate.late_to_appear(100.0))
    await world.register(late, world.openai.add(Fate.stuck()))
    await world.run(15 * SECOND)
    world.clock.jump(HOUR)
    await world.run(5 * MINUTE)

    assert "lost" not in await world.words(late)


async def test_a_clock_set_back_postpones_no_loss_for_long(world: Living) -> None:
    await world.start()
    gone = world.openai.add(Fate.vanished(since=300.0))
    await world.register(gone, world.openai.add(Fate.stuck()))
    await world.run(20 * MINUTE)
    world.clock.jump(-10 * YEAR)
    await world.run(HOUR + 10 * MINUTE)

    assert (await world.words(gone))[-1] == "lost"


async def test_an_answer_from_before_a_clock_was_set_back_vouches_for_nothing(
    world: Living,
) -> None:
    await world.start()
    ids = [world.openai.add(Fate.stuck()) for _ in range(3)]
    await world.register(*ids)
    await world.run(10 * MINUTE)
    world.clock.jump(-30 * MINUTE)
    world.simulation.faults.add(faults.not_found())
    await world.run(3 * HOUR)

    # A proxy that answers 404 to everything is the account's trouble.
    assert await world.types("account:openai") == [EventType.ACCOUNT_UNREACHABLE]
    assert {word for id in ids for word in await world.words(id)} == {"validating", "in_progress"}


async def test_completed_without_its_file_is_told_in_a_minute_of_any_clock(world: Living) -> None:
    await world.start()
    id = world.openai.add(Fate.late_output(late=2 * 3_600.0, after=60.0))
    await world.register(id)
    await world.run(70 * SECOND)
    world.clock.jump(-DAY)
    await world.run(2 * MINUTE)

    assert (await world.words(id))[-1] == "completed"


@pytest.mark.parametrize("jump", [HOUR, -HOUR, -10 * YEAR])
async def test_silence_counts_only_while_it_lasts(world: Living, jump: int) -> None:
    await world.start()
    await world.register(*(world.openai.add(Fate.stuck()) for _ in range(5)))
    await world.run(MINUTE)
    world.simulation.faults.add(faults.reset())
    await world.run(5 * MINUTE)
    world.clock.jump(jump)
    await world.run(8 * MINUTE)
    early = await world.types("account:openai")
    await world.run(12 * MINUTE)
    told = await world.types("account:openai")
    world.simulation.faults.clear()
    await world.run(5 * MINUTE)
    *_, recovered = await world.events("account:openai")

    assert early == []
    assert told == [EventType.ACCOUNT_UNREACHABLE]
    assert recovered.type is EventType.ACCOUNT_RECOVERED
    assert recovered.reason is not None
    assert 0 <= int(recovered.reason.split()[2]) <= 12


async def test_trouble_that_a_clock_ahead_began_is_over_in_no_time(world: Living) -> None:
    await world.start()
    ahead = account(
        trouble="unreachable",
        trouble_since=START + YEAR,
        silent_since=START + YEAR,
        good_at=START + YEAR,
        probed_at=START + YEAR,
        probe_due_at=START + YEAR,
    )
    await world.books(lambda ledger: ledger.subjects.put_account(ahead))
    await world.restart()
    begun = world.poller.account
    await world.register(world.openai.add(Fate.stuck()))
    await world.run(2 * MINUTE)
    (recovered,) = await world.events("account:openai")

    assert (begun.trouble_since, begun.good_at, begun.probed_at) == (START, None, None)
    assert recovered.type is EventType.ACCOUNT_RECOVERED
    assert recovered.reason == "unreachable for 0 minutes; it answers again"


def test_times_move_with_their_clock_but_what_began_before_a_sleep_began_then() -> None:
    troubled = account(trouble="unreachable", trouble_since=START, silent_since=START)
    known = replace(troubled, good_at=START, paused_until=START + MINUTE)
    back = account_after_jump(known, -HOUR)
    slept = account_after_jump(known, 8 * HOUR)

    assert (back.good_at, back.silent_since) == (START - HOUR, START - HOUR)
    assert (back.trouble_since, back.paused_until) == (START - HOUR, START - HOUR + MINUTE)
    assert (slept.good_at, slept.silent_since) == (START + 8 * HOUR, START + 8 * HOUR)
    assert (slept.trouble_since, slept.paused_until) == (START, START + MINUTE)


# Pauses


@pytest.mark.parametrize("jump", [-30 * MINUTE, -2 * HOUR, -YEAR])
async def test_a_pause_lasts_as_long_as_asked_for_by_a_clock_set_back(
    world: Living, jump: int
) -> None:
    await world.start()
    await world.register(world.openai.add(Fate.stuck()))
    world.simulation.faults.add(faults.rate_limited(600.0), times=1)
    await world.run(MINUTE)
    world.clock.jump(jump)
    lasted = await world.told_within(20 * MINUTE, lambda: world.openai.requests.total)

    assert 8 * MINUTE <= lasted <= 10 * MINUTE


@pytest.mark.parametrize("jump", [-30 * MINUTE, -HOUR, -YEAR])
async def test_a_pause_ends_after_an_hour_though_the_clock_was_set_back_in_between(
    world: Living, jump: int
) -> None:
    await world.start()
    await world.register(world.openai.add(Fate.stuck()))
    world.simulation.faults.add(faults.rate_limited(600.0), times=1)
    await world.run(MINUTE)
    world.clock.jump(jump)
    await world.restart()
    lasted = await world.told_within(2 * HOUR, lambda: world.openai.requests.total)

    assert lasted <= cadence.LONGEST_PAUSE


# Channels


@pytest.mark.parametrize("jump", [HOUR, -40 * MINUTE, -2 * HOUR, -10 * YEAR])
async def test_a_channel_rests_no_longer_for_a_clock_that_was_set(world: Living, jump: int) -> None:
    channel = world.channels["team"]
    await world.start()
    channel.script = [FAILED] * 4
    await world.books(tell(event(), "team"))
    await world.run(3 * MINUTE)
    world.clock.jump(jump)
    # Five minutes, a fifth more at most.
    lasted = await world.told_within(10 * MINUTE, lambda: len(channel.messages))

    assert len(channel.answers) - 1 >= 3
    assert lasted <= 6 * MINUTE


@pytest.mark.parametrize("jump", [-20 * MINUTE, -DAY, -10 * YEAR])
async def test_a_digest_waits_its_own_time_by_a_clock_that_was_set_back(
    world: Living, jump: int
) -> None:
    channel = world.channels["team"]
    await world.start()
    world.courier.telling = replace(
        world.courier.telling, digest_wait=5 * SECOND, digest_interval=30 * MINUTE
    )
    await world.books(tell(event(), "team", now=world.clock.now()))
    await world.run(MINUTE)
    world.clock.jump(jump)
    await world.books(tell(event(number=2), "team", now=world.clock.now()))
    world.app.wake_all()
    lasted = await world.told_within(HOUR, lambda: len(channel.messages))

    assert 28 * MINUTE <= lasted <= 30 * MINUTE


async def test_a_clock_set_while_a_message_hangs_holds_nothing_up(world: Living) -> None:
    channel = world.channels["team"]
    await world.start()

    def set_back(_message: object) -> None:
        world.clock.jump(-30 * MINUTE)
        channel.judge = None

    channel.judge = set_back
    channel.script = [FAILED]
    await world.books(tell(event(), "team"))
    await world.turn()
    lasted = await world.told_within(HOUR, lambda: len(channel.messages))

    assert lasted <= 10 * SECOND


@pytest.mark.parametrize("jump", [HOUR, 10 * DAY, -HOUR, -10 * YEAR])
async def test_no_jump_gives_up_a_delivery_nor_makes_a_channel_fail(
    database: SqliteDatabase, jump: int
) -> None:
    world = Living(database, channels=("team", "ops"))
    channel = world.channels["team"]
    await world.start()
    channel.otherwise = FAILED
    await world.books(tell(event(), "team"))
    await world.run(5 * MINUTE)
    world.clock.jump(jump)
    await world.run(8 * MINUTE)
    early = await world.types("channel:team")
    await world.run(5 * MINUTE)
    told = await world.types("channel:team")
    for _ in range(8):
        world.clock.jump(jump)
        await world.run(2 * MINUTE)
        world.clock.jump(-jump)
        await world.run(2 * MINUTE)
    (first, *_) = await world.events("channel:team")
    pending = await world.books(lambda ledger: ledger.outbox.of_event(1))
    channel.otherwise = DELIVERED
    await world.run(65 * MINUTE)
    delivered = await world.books(lambda ledger: ledger.outbox.of_event(1))

    assert early == []
    assert told == [EventType.CHANNEL_FAILING]
    assert first.type is EventType.CHANNEL_FAILING
    assert [one.state for one in pending] == [DeliveryState.PENDING]
    assert [one.state for one in delivered] == [DeliveryState.DELIVERED]


# Discovery


@pytest.mark.parametrize("years", [-56, 73], ids=["1970", "2099"])
async def test_what_is_discovered_from_now_on_is_so_by_a_clock_that_is_wrong(
    database: SqliteDatabase, years: int
) -> None:
    world = Living(database, discover=True)
    for number in range(3):
        world.openai.add(Fate.completed(after=60.0), created_at=START - HOUR - number * DAY)
    world.clock.jump(years * YEAR)
    await world.start()
    await world.app.discover()
    world.clock.jump(-years * YEAR)
    await world.run(MINUTE)
    await world.app.discover()
    await world.run(MINUTE)
    new = world.openai.add(Fate.stuck())
    await world.run(MINUTE)
    await world.app.discover()
    watched = await world.books(lambda ledger: ledger.batches.watched(open_only=False))

    assert [one.id for one in watched] == [new]


# What is kept


@pytest.mark.parametrize("when", ["at boot", "later"])
async def test_a_clock_ten_years_ahead_for_an_hour_prunes_nothing(world: Living, when: str) -> None:
    await world.start()
    id = world.openai.add(Fate.completed(after=60.0))
    await world.register(id)
    await world.run(2 * HOUR)
    world.clock.jump(10 * YEAR)
    if when == "at boot":
        await world.restart()
    for _ in range(6):
        await world.app.tidy()
        await world.run(10 * MINUTE - RENEWAL)
    await world.app.tidy()
    world.clock.jump(-10 * YEAR)
    kept = await world.words(id)
    await world.run(2 * HOUR)
    await world.app.tidy()

    assert kept[-1] == "completed"
    assert await world.words(id) == kept


async def test_an_end_from_before_the_registration_is_not_old(world: Living) -> None:
    await world.start()
    ids = [world.openai.add(Fate.completed(after=60.0)) for _ in range(2)]
    await world.register(*ids)
    world.clock.jump(-56 * YEAR)
    await world.run(2 * HOUR)
    world.clock.jump(56 * YEAR)
    await world.run(2 * HOUR)
    await world.app.tidy()

    assert {(await world.words(id))[-1] for id in ids} == {"completed"}


# What is shown


def test_what_happened_in_the_future_is_shown_as_happening_now() -> None:
    clock = FakeClock()
    client = LocalClient(Settings(), clock=clock)
    ahead = batch(
        Status.IN_PROGRESS,
        registration=registration(registered_at=START + DAY),
        looks=3,
        last_look_at=START + DAY,
        next_look_at=START + DAY,
    )

    assert _looks(ahead, client) == "3, last 0ms ago, next in 1d"


async def test_a_jump_that_tidying_meets_first_wakes_the_loops_all_the_same(world: Living) -> None:
    await world.start()
    world.clock.jump(HOUR)
    await world.app.tidy()
    await world.loops._notice()

    assert await world.leased()
