"""Telling when much waits: programs are told everything by id, and nobody reads it twice."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

from tests.builders import (
    DELIVERED,
    FAILED,
    HOUR,
    MINUTE,
    REFUSED,
    SECOND,
    event,
)
from tests.fakes import START, FakeClock
from tests.test_courier import FAR, Desk, failure
from watcher.app import App
from watcher.courier import TRIES_BEFORE_DEAD
from watcher.daemon.loops import Loops
from watcher.log import get
from watcher.message import Style
from watcher.model import DeliveryState, EventType, Message
from watcher.notify import Sent
from watcher.store.ledger import Ledger
from watcher.store.outbox import Outbox
from watcher.store.sqlite import SqliteDatabase
from watcher.wake import Wake

# A program takes ten lines, of which the last says how many are to come.
HELD = 9


@pytest.fixture
def desk(database: SqliteDatabase) -> Desk:
    desk = Desk(database, FakeClock())
    desk.channel.style = Style(lines_max=HELD + 1, by_program=True)
    return desk


def sizes(desk: Desk) -> list[int]:
    return [len(one) for one in desk.digests]


def damage(*seqs: int) -> Callable[[Ledger], Any]:
    def work(ledger: Ledger) -> None:
        for seq in seqs:
            ledger.events._work.execute("UPDATE events SET document = '{}' WHERE seq = $1", (seq,))

    return work


# One message after another


async def test_a_program_is_told_a_backlog_by_id_in_full_messages_without_a_pause(
    desk: Desk,
) -> None:
    ids = await desk.happen_many(250)
    await desk.run(5 * SECOND)

    assert desk.channel.ids() == ids
    assert sizes(desk) == [HELD] * 27 + [7]


async def test_each_full_message_says_how_many_are_still_to_come(desk: Desk) -> None:
    await desk.happen_many(250)
    await desk.turn(flush=True)
    await desk.turn(flush=True)
    last_lines = [one.body.splitlines()[-1] for one in desk.channel.messages]

    assert last_lines == ["241 more to come", "232 more to come"]


async def test_between_bursts_the_interval_holds_for_a_program_too(desk: Desk) -> None:
    await desk.happen_many(3)
    await desk.run(6 * SECOND)
    await desk.happen_many(3)
    await desk.run(30 * SECOND)
    before = sizes(desk)
    await desk.run(30 * SECOND)

    assert before == [3]
    assert sizes(desk) == [3, 3]


async def test_what_comes_within_the_interval_of_a_backlog_waits_seconds_only(
    desk: Desk,
) -> None:
    await desk.happen_many(30)
    await desk.run(55 * SECOND)
    await desk.happen_many(2)
    await desk.run(5 * SECOND)
    within = sizes(desk)
    await desk.run(10 * SECOND)
    await desk.happen_many(2)
    await desk.run(45 * SECOND)
    later = sizes(desk)
    await desk.run(5 * SECOND)

    assert within == [HELD, HELD, HELD, 3, 2]
    assert later == within
    assert sizes(desk) == [*within, 2]


async def test_in_a_burst_that_goes_on_no_small_messages_follow_each_other(
    database: SqliteDatabase,
) -> None:
    desk = Desk(database, FakeClock(), digest_wait=0)
    desk.channel.style = Style(lines_max=HELD + 1, by_program=True)
    ids = await desk.happen_many(30)
    await desk.run(0)
    for _ in range(10):
        ids += await desk.happen_many(1)
        await desk.run(SECOND)

    assert desk.channel.ids() == ids
    assert sizes(desk) == [HELD, HELD, HELD, 3, 5, 5]


async def test_a_backlog_does_not_wait_for_the_interval_after_a_lone_message(desk: Desk) -> None:
    ids = await desk.happen_many(1)
    await desk.run(6 * SECOND)
    ids += await desk.happen_many(30)
    await desk.run(5 * SECOND)

    assert desk.channel.ids() == ids


async def test_people_wait_the_interval_however_much_waits(desk: Desk) -> None:
    desk.channel.style = Style(lines_max=HELD + 1)
    await desk.happen_many(30)
    await desk.run(30 * SECOND)
    before = sizes(desk)
    await desk.run(MINUTE)

    assert before == [HELD]
    assert sizes(desk) == [HELD, HELD]


async def test_a_program_that_fails_in_the_midst_of_a_backlog_rests_and_is_told_the_rest_in_order(
    desk: Desk,
) -> None:
    desk.channel.script = [DELIVERED, FAILED, FAILED, FAILED]
    ids = await desk.happen_many(60)
    await desk.run(10 * SECOND)
    resting = sizes(desk)
    await desk.run(3 * MINUTE)

    assert resting == [HELD, HELD]
    assert desk.channel.ids() == ids


async def test_what_a_program_refuses_in_a_backlog_is_found_by_halving(desk: Desk) -> None:
    ids = await desk.happen_many(40)

    def poison(message: Message) -> Sent | None:
        return REFUSED if ids[20] in message.body.split() else None

    desk.channel.judge = poison
    await desk.run(5 * MINUTE)

    assert set(desk.channel.ids()) == set(ids) - {ids[20]}
    assert (await desk.delivery(ids[20])).state is DeliveryState.PENDING


# What does not wait behind it


async def test_trouble_goes_before_a_backlog_however_long(desk: Desk) -> None:
    await desk.happen_many(100)
    trouble = event(EventType.ACCOUNT_UNREACHABLE)

    def record(ledger: Ledger) -> None:
        ledger.subjects.put_account(ledger.subjects.account("openai", "openai"))

    await desk.books(record)
    await desk.happen(trouble)
    await desk.turn(flush=True)

    assert desk.digests == [[trouble.id]]


async def test_many_that_stand_aside_hold_up_no_backlog_and_are_tried_after_it(
    desk: Desk,
) -> None:
    refused = await desk.happen_many(40)

    def stand_aside(ledger: Ledger) -> None:
        ledger.outbox._work.execute("UPDATE deliveries SET alone = 3, attempts = 3")

    await desk.books(stand_aside)
    ids = await desk.happen_many(30)
    for _ in range(4):
        await desk.turn(flush=True)
    first = desk.channel.ids()
    for _ in refused:
        await desk.turn(flush=True)

    assert first == ids
    assert desk.channel.ids() == ids + refused


async def test_many_that_cannot_be_read_hold_up_no_backlog(desk: Desk) -> None:
    ids = await desk.happen_many(60)
    await desk.books(damage(*range(1, 41)))
    await desk.run(5 * SECOND)

    assert desk.channel.ids() == ids[40:]
    assert await desk.books(lambda ledger: ledger.outbox.pending("team")) == 40


async def test_what_cannot_be_read_is_no_part_of_a_summary(desk: Desk) -> None:
    desk.channel.style = Style()
    await desk.happen_many(300)
    await desk.books(damage(7))
    await desk.turn(flush=True)

    assert desk.channel.messages[0].title.startswith("299 batches")
    assert await desk.books(lambda ledger: ledger.outbox.pending("team")) == 1


async def test_a_backlog_given_up_is_dead_one_by_one_with_its_reason(
    database: SqliteDatabase,
) -> None:
    desk = Desk(database, FakeClock(), give_up_after=MINUTE)
    desk.channel.otherwise = FAILED
    ids = await desk.happen_many(15)
    await desk.run(12 * HOUR)
    found = [await desk.delivery(id) for id in ids]

    assert {one.state for one in found} == {DeliveryState.DEAD}
    assert {one.reason for one in found} == {
        f"given up after {len(one.tries)} tries: no connection" for one in found
    }
    assert min(len(one.tries) for one in found) == TRIES_BEFORE_DEAD


async def test_nothing_is_written_down_of_a_message_that_was_stopped_before_it_was_sent(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await desk.happen_many(1)
    begun = anyio.Event()

    async def render(*_: Any) -> Any:
        begun.set()
        await anyio.sleep_forever()

    with monkeypatch.context() as patch:
        patch.setattr(desk.courier, "_render", render)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: desk.turn(flush=True))
            await begun.wait()
            tasks.cancel_scope.cancel()

    assert (await desk.delivery(ids[0])).tries == ()
    assert await desk.turn(flush=True) == 1


# When what waits is read


class Reads:
    """How often it was read what a channel has waiting."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        waiting = Outbox.waiting

        def counted(outbox: Outbox, channel: str, limit: int, *, refusals: int) -> Any:
            self.count += 1
            return waiting(outbox, channel, limit, refusals=refusals)

        monkeypatch.setattr(Outbox, "waiting", counted)


async def live(desk: Desk, milliseconds: int, *, events_a_second: int) -> None:
    """Turn the loop as the daemon does while so many events a second are written down."""
    pause = 1_000 // events_a_second
    waited = 0.0
    for _ in range(0, milliseconds, pause):
        await desk.happen_many(1)
        desk.courier.expect()
        worked = await desk.courier.wake.wait(0)
        waited = desk.courier.next_wait() if not worked else waited
        if waited <= 0:
            while await desk.turn():
                pass
            waited = desk.courier.next_wait()
        desk.clock.advance(pause)
        waited -= pause / SECOND


@pytest.mark.parametrize("wait", [5 * SECOND, 0])
async def test_a_burst_of_events_is_not_read_once_for_each(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch, wait: int
) -> None:
    desk = Desk(database, FakeClock(), digest_wait=wait)
    await desk.turn()
    reads = Reads(monkeypatch)
    await live(desk, 12 * SECOND, events_a_second=20)

    assert len(desk.digests) == 1
    assert reads.count <= (12 * 2 + 2 if wait == 0 else 4)


async def test_an_event_that_is_expected_goes_when_its_window_is_over(desk: Desk) -> None:
    await desk.turn()
    idle = desk.courier.next_wait()
    await desk.happen_many(1)
    desk.courier.expect()
    nudged = not await desk.courier.wake.wait(0)
    wait = desk.courier.next_wait()
    desk.clock.advance(round(wait * SECOND))

    assert (idle, nudged, wait) == (60.0, True, 5.0)
    assert await desk.turn() == 1


async def test_a_failure_that_is_expected_does_not_wait_for_the_interval(desk: Desk) -> None:
    await desk.happen_many(1)
    await desk.run(5 * SECOND)
    await desk.happen_many(1)
    await desk.turn()
    waiting = desk.courier.next_wait()
    ids = await desk.happen(failure())
    desk.courier.expect()
    wait = desk.courier.next_wait()
    desk.clock.advance(round(wait * SECOND))
    await desk.turn()

    assert waiting > 50
    assert wait == 5.0
    assert ids[0] in desk.digests[-1]


async def test_what_is_written_down_while_a_message_is_sent_is_not_forgotten(desk: Desk) -> None:
    def meanwhile(_: Message) -> Sent | None:
        desk.courier.expect()
        return None

    desk.channel.judge = meanwhile
    await desk.happen_many(1)
    await desk.turn(flush=True)
    late = await desk.happen(failure())

    assert desk.courier.next_wait() == 5.0
    desk.clock.advance(5 * SECOND)
    assert await desk.turn() == 1
    assert desk.digests[-1] == late


async def test_a_clock_set_back_does_not_put_off_what_is_expected(database: SqliteDatabase) -> None:
    desk = Desk(database, FakeClock(), digest_wait=0)
    await desk.happen_many(1)
    await desk.turn()
    await desk.happen_many(1)
    await desk.turn()
    desk.clock.jump(-HOUR)
    desk.courier.expect()

    assert desk.courier.next_wait() <= 0.5


@pytest.mark.parametrize(
    ("signals", "over"),
    [
        ([Wake.nudge], False),
        ([Wake.set], True),
        ([Wake.nudge, Wake.set], True),
        ([Wake.set, Wake.nudge], True),
        ([], True),
    ],
)
async def test_a_loop_is_told_whether_there_is_work_or_only_another_wait(
    signals: list[Callable[[Wake], None]], over: bool
) -> None:
    wake = Wake()
    for signal in signals:
        signal(wake)

    assert await wake.wait(0) is over
    # It is as new: what was said is forgotten.
    assert await wake.wait(0) is True
    wake.nudge()
    assert await wake.wait(0) is False


async def test_a_backlog_goes_straight_on_though_something_is_recorded_during_each_message(
    desk: Desk,
) -> None:
    ids = await desk.happen_many(6 * HELD)
    desk.clock.advance(5 * SECOND)
    names = ["channel:team"]
    await desk.books(lambda ledger: ledger.process.lease(names, "this process", START, FAR))
    app = SimpleNamespace(couriers={"team": desk.courier}, clock=desk.clock, log=get("test"))
    loops = Loops(cast("App", app))

    def meanwhile(_: Message) -> Sent | None:
        desk.courier.expect()
        if len(desk.channel.ids()) >= len(ids) - HELD:
            loops.stop()
        return None

    desk.channel.judge = meanwhile
    with anyio.move_on_after(3):
        await loops._tell(desk.courier)

    assert sizes(desk) == [HELD] * 6
    assert desk.channel.ids() == ids
