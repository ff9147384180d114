"""Channels in trouble for a day, and messages nobody takes: what is told in the end, in which
order, in how many messages and after how many tries."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest

from tests.builders import (
    DELIVERED,
    FAILED,
    HOUR,
    MINUTE,
    REFUSED,
    SECOND,
    UNKNOWN,
    ScriptedChannel,
)
from tests.channels.day import Day, of_channels, poison, sizes
from tests.world import SameThread, World
from watcher.courier import ALONE_LIMIT, TRIES_BEFORE_DEAD
from watcher.daemon import loops
from watcher.errors import StoreError
from watcher.model import DeliveryState, Message, TryOutcome
from watcher.notify import Sent

LIMITED = Sent(TryOutcome.FAILED, "error=429", pause=MINUTE)


@pytest.fixture
def day() -> Iterator[Day]:
    database = SameThread()
    yield Day(database)
    database.close()


# A day of trouble


@pytest.mark.parametrize("trouble", [FAILED, UNKNOWN, LIMITED], ids=lambda one: one.error[:9])
async def test_what_happened_in_a_day_of_trouble_is_told_in_digests_in_order(
    day: Day, trouble: Sent
) -> None:
    await day.start()
    day.team.otherwise = trouble
    ids = await day.pass_a_day(150)
    tries = len(day.team.messages)
    day.team.otherwise = DELIVERED
    took = await day.run_until_told()
    await day.run(HOUR)

    assert tries <= 30
    assert day.team.ids() == ids
    # A line of each but the last says how many more there are.
    assert sizes(day.team, day.team.taken) == [19] * 7 + [17]
    assert took <= HOUR + 10 * MINUTE
    assert of_channels(day.channels["ops"]) == ["channel:team@1", "channel:team@2"]
    assert of_channels(day.team) == []


async def test_of_six_hundred_events_in_a_day_of_trouble_one_summary_is_told(day: Day) -> None:
    await day.start()
    day.team.otherwise = FAILED
    await day.pass_a_day(600)
    tries = len(day.team.messages)
    day.team.otherwise = DELIVERED
    took = await day.run_until_told()

    assert tries <= 30
    assert [one.title for one in day.team.taken] == ["600 events: 300 ok, 300 in progress"]
    assert took <= HOUR


async def test_a_service_that_refused_everything_for_a_day_gets_digests_and_no_flood(
    day: Day,
) -> None:
    await day.start()
    day.team.otherwise = REFUSED
    ids = await day.pass_a_day(150)
    tries = len(day.team.messages)
    day.team.otherwise = DELIVERED
    took = await day.run_until_told()
    await day.run(HOUR)
    told = day.team.ids()

    assert tries <= 60
    assert len(day.team.taken) <= 9
    assert took <= HOUR + 12 * MINUTE
    # The first that is taken is one that had not been refused thrice; then the oldest go first.
    assert told[1:] == [id for id in ids if id != told[0]]
    assert of_channels(day.channels["ops"]) == ["channel:team@1", "channel:team@2"]


async def test_nothing_is_dead_before_its_time_and_its_tries(day: Day) -> None:
    await day.start()
    day.team.otherwise = REFUSED
    ids = await day.happen(4)
    await day.run(80 * HOUR)
    found = [await day.delivery(id) for id in ids]
    dead = [one for one in found if one.state is DeliveryState.DEAD]

    assert dead
    for one in dead:
        assert len(one.tries) >= TRIES_BEFORE_DEAD
        assert one.tries[-1].at - one.tries[0].at >= 72 * HOUR
        assert one.reason == f"given up after {len(one.tries)} tries: error=400"


# Poison


async def test_five_that_are_refused_hold_two_hundred_up_for_minutes_only(day: Day) -> None:
    await day.start()
    ids = await day.happen(200)
    bad = [ids[number] for number in (0, 31, 77, 78, 199)]
    day.team.judge = poison(*bad)
    await day.run(45 * MINUTE)
    tries = len(day.team.messages)

    assert day.team.ids() == [id for id in ids if id not in bad]
    assert tries <= 100
    assert {(await day.delivery(id)).state for id in bad} == {DeliveryState.PENDING}


async def test_five_in_a_row_that_are_refused_are_found_within_minutes(day: Day) -> None:
    await day.start()
    ids = await day.happen(40)
    day.team.judge = poison(*ids[10:15])
    await day.run(25 * MINUTE)

    assert day.team.ids() == ids[:10] + ids[15:]
    assert len(day.team.messages) <= 40


@pytest.mark.parametrize("count", [10, 40])
async def test_many_in_a_row_that_are_refused_hold_up_no_other_for_long(
    day: Day, count: int
) -> None:
    await day.start()
    day.team.judge = poison(*await day.happen(count))
    for _ in range(3):
        told = await day.happen(2)
        # What rests after that many refusals rests for an hour at most.
        await day.run(75 * MINUTE)

        assert set(told) <= set(day.team.ids())


async def test_what_is_refused_is_dead_in_the_end_with_its_reason(day: Day) -> None:
    await day.start()
    ids = await day.happen(3)
    day.team.judge = poison(ids[1])
    for _ in range(40):
        await day.happen(1)
        await day.run(2 * HOUR)
    found = await day.delivery(ids[1])

    assert found.state is DeliveryState.DEAD
    assert found.reason == f"given up after {len(found.tries)} tries: error=400"
    assert len(day.team.ids()) == 42
    # It said nothing of a channel that took everything else.
    assert of_channels(day.channels["ops"]) == []


async def test_one_that_stands_aside_makes_no_quiet_channel_rest(day: Day) -> None:
    await day.start()
    bad = await day.happen(1)
    day.team.judge = poison(*bad)
    waits: list[int] = []
    for hours in (1, 5, 24):
        await day.run(hours * HOUR)
        await day.happen(1)
        began = day.clock.now()
        await day.run(2 * HOUR, until=lambda: len(day.team.taken) > len(waits))
        waits.append(day.clock.now() - began)

    assert max(waits) <= 15 * SECOND
    assert len((await day.delivery(bad[0])).tries) > ALONE_LIMIT


async def test_a_quiet_channel_with_one_that_stands_aside_is_told_of_once(day: Day) -> None:
    await day.start()
    day.team.judge = poison(*await day.happen(1))
    for _ in range(8):
        await day.run(4 * HOUR)
        await day.happen(1)
    await day.run(HOUR)

    assert of_channels(day.channels["ops"]) == ["channel:team@1", "channel:team@2"]


# Asked for again


async def test_asked_for_again_it_is_tried_ten_times_again(day: Day) -> None:
    day.give_up_after = MINUTE
    await day.start()
    day.team.otherwise = FAILED
    (id,) = await day.happen(1)
    await day.run(12 * HOUR)
    first, now = await day.delivery(id), day.clock.now()
    await day.books(lambda ledger: ledger.outbox.redeliver(first.seq, "team", "again", now))
    await day.books(lambda ledger: ledger.end_rest("team", now, by=now))
    day.app.wake_all()
    await day.run(HOUR)
    between = await day.delivery(id)
    await day.run(20 * HOUR)
    second = await day.delivery(id)

    assert (first.state, len(first.tries)) == (DeliveryState.DEAD, TRIES_BEFORE_DEAD)
    assert between.state is DeliveryState.PENDING
    assert (second.state, len(second.tries)) == (DeliveryState.DEAD, 2 * TRIES_BEFORE_DEAD)
    assert second.reason == "given up after 10 tries: no connection"


# Past the outbox


class Hanging(ScriptedChannel):
    """Never answers."""

    async def send(self, message: Message) -> Sent:
        self.messages.append(message)
        await anyio.sleep_forever()
        return FAILED


class Broken(ScriptedChannel):
    """Breaks on everything."""

    async def send(self, message: Message) -> Sent:
        raise ZeroDivisionError("on purpose")


async def trouble_for(world: World, milliseconds: int) -> None:
    """A state that fails at every turn for so long."""
    house = loops.Loops(world.app)
    async with anyio.create_task_group() as house._tasks:
        for _ in range(milliseconds // (5 * SECOND)):
            with house.guarded("leases"):
                raise StoreError("no space left")
            world.clock.advance(5 * SECOND)
            await anyio.lowlevel.checkpoint()


async def test_that_the_state_is_in_trouble_is_told_after_a_minute_and_once_an_hour(
    day: Day,
) -> None:
    await day.start()
    await trouble_for(day, MINUTE)
    early = len(day.team.messages)
    await trouble_for(day, 3 * HOUR)

    assert early == 0
    assert len(day.team.messages) == len(day.channels["ops"].messages) == 3
    assert "no space left" in day.team.messages[0].body


async def test_a_channel_that_hangs_or_breaks_keeps_the_states_trouble_from_no_other(
    day: Day, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loops, "LAST_WORD_WITHIN", 0.05)
    day.channels = {"hangs": Hanging(), "breaks": Broken(), "team": ScriptedChannel()}
    day.channels["fails"] = ScriptedChannel(otherwise=FAILED)
    await day.start()
    with anyio.fail_after(5):
        await trouble_for(day, 2 * MINUTE)
    said = [str(record.msg) for record in caplog.records]
    failures = [one for one in said if "operators not told" in one]

    assert len(day.team.messages) == 1
    assert len(failures) == 3
    assert [name for name in day.channels if f"'{name}'" in str(failures)] == [
        "hangs",
        "breaks",
        "fails",
    ]
