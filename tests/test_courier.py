"""Telling: windows, order, refusals, giving up, and what is written down of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import anyio
import pytest

from tests.builders import (
    DAY,
    DELIVERED,
    FAILED,
    HOUR,
    MINUTE,
    REFUSED,
    SECOND,
    UNKNOWN,
    ScriptedChannel,
    batch,
    ended,
    event,
    tell,
)
from tests.fakes import START, FakeClock
from watcher.courier import ALONE_LIMIT, ChannelCourier, Telling, Voice, sweep_absent
from watcher.errors import StoreError
from watcher.log import get
from watcher.message import Style
from watcher.meter import Meter
from watcher.model import (
    Batch,
    Channel,
    Delivery,
    DeliveryState,
    Event,
    EventType,
    Message,
    Outcome,
    Severity,
    Status,
    TryOutcome,
)
from watcher.notify import Sent
from watcher.routing import Switchboard
from watcher.store.ledger import Ledger
from watcher.store.outbox import Outbox
from watcher.store.sqlite import SqliteDatabase

Result = TypeVar("Result")
# A lease that outlasts every test.
FAR = START + 10_000 * DAY


class Desk:
    """One channel with its courier, a state and a clock."""

    def __init__(self, database: SqliteDatabase, clock: FakeClock, **settings: Any) -> None:
        self.database, self.clock = database, clock
        self.channel = ScriptedChannel()
        self.woken = 0
        self.leased = False
        self.courier = ChannelCourier(
            Telling("team", self.channel, **settings),
            database,
            clock,
            board=lambda: Switchboard(("team", "ops")),
            told=self._wake,
            uptime=lambda: round(clock.monotonic() * 1_000),
            voice=Voice("box1"),
            holder="this process",
            log=get("test"),
            meter=Meter(),
        )
        self._numbers = itertools.count(1)

    def _wake(self) -> None:
        self.woken += 1

    async def books(self, work: Callable[[Ledger], Result]) -> Result:
        return await self.database.transaction(lambda transaction: work(Ledger(transaction)))

    async def happen(self, *events: Event, channel: str = "team") -> list[str]:
        """These events are written down for the channel now; returns their ids."""
        for one in events:
            await self.books(tell(one, channel, now=self.clock.now()))
        return [one.id for one in events]

    async def happen_many(self, count: int) -> list[str]:
        return await self.happen(*(event(number=next(self._numbers)) for _ in range(count)))

    async def turn(self, *, flush: bool = False) -> int:
        """One step of the loop, with the lease that its process holds."""
        if not self.leased:
            names = ["channel:team"]
            await self.books(lambda ledger: ledger.process.lease(names, "this process", START, FAR))
            self.leased = True
        return await self.courier.once(self.clock.now(), flush=flush)

    async def run(self, milliseconds: int) -> None:
        """Turn the loop for so long, along the times it names itself."""
        end = self.clock.now() + milliseconds
        while True:
            while await self.turn():
                pass
            left = end - self.clock.now()
            if left <= 0:
                return
            due = self.courier._next_at
            self.clock.advance(min(left, max(1, left if due is None else due - end + left)))

    async def delivery(self, id: str, channel: str = "team") -> Delivery:
        def work(ledger: Ledger) -> Delivery:
            found = ledger.events.with_id(id)
            if found is None:
                raise LookupError(id)
            of_event = ledger.outbox.of_event(found[0].seq)
            return next(one for one in of_event if one.channel == channel)

        return await self.books(work)

    async def state(self) -> Channel:
        return await self.books(lambda ledger: ledger.subjects.channel("team"))

    async def events(self, of: str) -> list[EventType]:
        found = await self.books(lambda ledger: ledger.events.of_subject(of))
        return [one.type for one, _ in found]

    @property
    def digests(self) -> list[list[str]]:
        """For each message the ids of the events it named."""
        return [self.channel.ids([message]) for message in self.channel.messages]


@pytest.fixture
def desk(database: SqliteDatabase) -> Desk:
    return Desk(database, FakeClock())


def failure(number: int = 99) -> Event:
    about = ended(Status.FAILED, Outcome.EMPTY, id=f"batch_{number}")
    return event(EventType.FAILED, about=about, severity=Severity.FAILURE)


# Windows


async def test_the_events_of_one_window_travel_as_one_message(desk: Desk) -> None:
    ids = await desk.happen_many(2)
    early = await desk.turn()
    desk.clock.advance(4 * SECOND)
    ids += await desk.happen_many(1)
    desk.clock.advance(SECOND - 1)
    still = await desk.turn()
    desk.clock.advance(1)
    sent = await desk.turn()

    assert (early, still, sent) == (0, 0, 3)
    assert desk.digests == [ids]


async def test_after_a_message_the_next_waits_the_interval_and_takes_all_with_it(
    desk: Desk,
) -> None:
    await desk.happen_many(1)
    await desk.run(6 * SECOND)
    ids = await desk.happen_many(1)
    await desk.run(30 * SECOND)
    ids += await desk.happen_many(1)
    await desk.run(23 * SECOND)
    before = len(desk.digests)
    await desk.run(7 * SECOND)

    assert before == 1
    assert desk.digests[1:] == [ids]


async def test_a_failure_does_not_wait_the_interval_and_takes_the_waiting_with_it(
    desk: Desk,
) -> None:
    await desk.happen_many(1)
    await desk.run(6 * SECOND)
    ids = await desk.happen_many(1)
    ids += await desk.happen(failure())
    await desk.run(5 * SECOND)

    assert desk.digests[1:] == [ids]


async def test_a_window_longer_than_any_retry_is_kept(database: SqliteDatabase) -> None:
    desk = Desk(database, FakeClock(), digest_wait=3 * HOUR)
    await desk.happen_many(2)
    await desk.run(3 * HOUR - 1)
    early = len(desk.digests)
    await desk.run(1)

    assert (early, len(desk.digests)) == (0, 1)


async def test_nothing_waits_for_a_window_when_flushed(desk: Desk) -> None:
    ids = await desk.happen_many(3)

    assert await desk.turn(flush=True) == 3
    assert desk.digests == [ids]


async def test_a_clock_that_was_set_back_holds_no_message_up(desk: Desk) -> None:
    await desk.happen_many(1)
    desk.clock.jump(-DAY)

    assert await desk.turn() == 1


async def test_without_the_lease_nothing_is_sent(desk: Desk) -> None:
    await desk.happen_many(1)

    assert await desk.courier.once(desk.clock.advance(MINUTE)) == 0
    assert desk.courier.next_wait() <= 1.0
    assert desk.digests == []


# What shares a message


@pytest.mark.parametrize("kind", [EventType.ACCOUNT_UNREACHABLE, EventType.ACCOUNT_RECOVERED])
async def test_trouble_and_recovery_never_share_a_message_with_batches_and_go_first(
    desk: Desk, kind: EventType
) -> None:
    batches = await desk.happen_many(2)
    trouble = await desk.happen(event(kind, 1), event(EventType.CHANNEL_FAILING, channel="ops"))
    while await desk.turn(flush=True):
        pass

    assert desk.digests == [trouble, batches]


async def test_a_message_settles_only_what_it_names(desk: Desk) -> None:
    desk.channel.style = Style(lines_max=4)
    ids = await desk.happen_many(10)
    await desk.turn(flush=True)
    states = [(await desk.delivery(id)).state for id in ids]

    # The fourth line says how many more there are.
    assert desk.digests == [ids[:3]]
    assert states == [DeliveryState.DELIVERED] * 3 + [DeliveryState.PENDING] * 7


async def test_a_digest_names_at_most_twenty(desk: Desk) -> None:
    ids = await desk.happen_many(58)
    while await desk.turn(flush=True):
        pass

    # The twentieth line says how many more there are, while there are more.
    assert desk.digests == [ids[:19], ids[19:38], ids[38:]]


async def test_two_hundred_waiting_are_still_told_one_by_one(desk: Desk) -> None:
    await desk.happen_many(200)

    assert await desk.turn(flush=True) == 19
    assert len(desk.digests[0]) == 19


async def test_above_two_hundred_one_summary_settles_all(desk: Desk) -> None:
    await desk.happen_many(201)
    count = await desk.turn(flush=True)
    pending = await desk.books(lambda ledger: ledger.outbox.pending("team"))

    assert (count, pending) == (201, 0)
    assert len(desk.channel.messages) == 1
    assert "watcher events --since" in desk.channel.messages[0].body


async def test_a_summary_of_batches_does_not_swallow_the_trouble(desk: Desk) -> None:
    await desk.happen_many(201)
    trouble = await desk.happen(event(EventType.ACCOUNT_UNREACHABLE))
    while await desk.turn(flush=True):
        pass

    assert desk.digests[0] == trouble
    assert len(desk.digests) == 2


# Failures and refusals


async def test_a_channel_that_fails_rests_longer_and_longer(desk: Desk) -> None:
    desk.channel.otherwise = FAILED
    ids = await desk.happen_many(1)
    await desk.run(6 * HOUR)
    tries = (await desk.delivery(ids[0])).tries
    pauses = [(later.at - one.at) / SECOND for one, later in itertools.pairwise(tries)]

    assert pauses[:3] == [pytest.approx(one, rel=0.21) for one in (5, 20, 80)]
    assert max(pauses) <= 3_600
    assert pauses[-1] > 2_800
    assert {one.outcome for one in tries} == {TryOutcome.FAILED}
    assert tries[0].error == "no connection"


async def test_a_service_that_asks_for_a_pause_gets_it(desk: Desk) -> None:
    desk.channel.script = [replace(FAILED, pause=MINUTE)]
    ids = await desk.happen_many(1)
    await desk.run(HOUR)
    tries = (await desk.delivery(ids[0])).tries

    assert [one.outcome for one in tries] == [TryOutcome.FAILED, TryOutcome.DELIVERED]
    assert MINUTE <= tries[1].at - tries[0].at <= MINUTE + SECOND


async def test_what_is_pending_goes_out_as_soon_as_the_channel_is_back(desk: Desk) -> None:
    desk.channel.script = [FAILED] * 3
    ids = await desk.happen_many(5)
    await desk.run(10 * MINUTE)

    assert desk.channel.ids() == ids
    assert (await desk.state()).failures == 0


async def test_a_refused_digest_is_halved_and_grows_again(desk: Desk) -> None:
    desk.channel.judge = lambda message: REFUSED if len(desk.channel.ids([message])) > 5 else None
    await desk.happen_many(20)
    await desk.run(HOUR)
    sizes = [len(one) for one in desk.digests]

    assert sizes == [20, 10, 5, 15, 7, 3, 12, 6, 3, 9, 4, 5]
    assert (await desk.state()).message_size is None


async def test_a_digest_that_merely_fails_is_not_halved(desk: Desk) -> None:
    desk.channel.script = [FAILED, UNKNOWN]
    await desk.happen_many(8)
    await desk.run(HOUR)

    assert [len(one) for one in desk.digests] == [8, 8, 8]


def poison(id: str) -> Callable[[Message], Sent | None]:
    """A service that refuses every message that names this event."""
    return lambda message: REFUSED if id in message.body.split() else None


async def test_an_event_refused_three_times_alone_lets_its_successors_pass(desk: Desk) -> None:
    ids = await desk.happen_many(6)
    desk.channel.judge = poison(ids[0])
    await desk.run(8 * HOUR)
    refused = await desk.delivery(ids[0])
    alone = [one for one in desk.digests if one == ids[:1]]

    assert desk.channel.ids() == ids[1:]
    assert len(alone) >= ALONE_LIMIT
    assert refused.state is DeliveryState.PENDING


async def test_what_stands_aside_is_tried_again_although_others_come(desk: Desk) -> None:
    ids = await desk.happen_many(1)
    desk.channel.judge = poison(ids[0])
    await desk.run(HOUR)
    before = len((await desk.delivery(ids[0])).tries)
    for _ in range(60):
        await desk.happen_many(1)
        await desk.run(4 * MINUTE)

    assert len((await desk.delivery(ids[0])).tries) > before
    assert len(desk.channel.ids()) == 60


async def test_a_channel_that_is_down_turns_no_order_round(desk: Desk) -> None:
    first = batch(Status.IN_PROGRESS, revision=1)
    desk.channel.script = [FAILED] * 6
    ids = await desk.happen(event(EventType.IN_PROGRESS, about=first))
    await desk.run(20 * MINUTE)
    ids += await desk.happen(event(EventType.COMPLETED, about=ended(revision=2)))
    await desk.run(5 * HOUR)

    assert desk.channel.ids() == ids


# The unknown, the interrupted, our own fault


async def test_an_unknown_outcome_is_tried_again_with_the_same_id(desk: Desk) -> None:
    desk.channel.script = [UNKNOWN]
    ids = await desk.happen_many(1)
    await desk.run(HOUR)
    found = await desk.delivery(ids[0])

    assert [one.outcome for one in found.tries] == [TryOutcome.UNKNOWN, TryOutcome.DELIVERED]
    assert desk.digests == [ids, ids]


class Hanging(ScriptedChannel):
    """Never answers."""

    async def send(self, message: Message) -> Sent:
        self.messages.append(message)
        await anyio.sleep_forever()
        return DELIVERED


async def test_an_interrupted_send_is_written_down_and_sent_again(desk: Desk) -> None:
    ids = await desk.happen_many(1)
    hanging = Hanging()
    desk.courier.telling = replace(desk.courier.telling, notifier=hanging)
    for _ in range(4):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: desk.turn(flush=True))
            while not desk.courier.sending:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
    interrupted = await desk.delivery(ids[0])
    state = await desk.state()
    desk.courier.telling = replace(desk.courier.telling, notifier=desk.channel)
    await desk.turn(flush=True)

    assert [one.outcome for one in interrupted.tries] == [TryOutcome.UNKNOWN] * 4
    assert interrupted.state is DeliveryState.PENDING
    # Neither the channel nor the event is to blame for our stopping.
    assert (state.failures, state.next_try_at) == (0, None)
    assert interrupted.next_try_at == START
    assert desk.digests == [ids]


async def test_a_message_that_breaks_us_delays_its_channel_and_breaks_nothing_else(
    desk: Desk,
) -> None:
    def break_it(message: Message) -> Sent | None:
        raise ZeroDivisionError("on purpose")

    desk.channel.judge = break_it
    ids = await desk.happen_many(1)
    await desk.turn(flush=True)
    found = await desk.delivery(ids[0])

    assert [one.outcome for one in found.tries] == [TryOutcome.FAILED]
    assert found.tries[0].error == "our own fault: see the log"


async def test_an_event_that_cannot_be_rendered_lets_its_successors_pass(desk: Desk) -> None:
    def page(batch: Batch) -> str | None:
        if batch.id == "batch_broken":
            raise ValueError("a provider's page that cannot be told")
        return None

    desk.courier.voice = replace(desk.courier.voice, pages=page)
    ids = await desk.happen(event(EventType.COMPLETED, about=ended(id="batch_broken")))
    await desk.run(3 * HOUR)
    ids += await desk.happen_many(2)
    await desk.run(3 * HOUR)

    assert desk.channel.ids() == ids[1:]
    assert (await desk.delivery(ids[0])).tries[0].outcome is TryOutcome.FAILED


async def test_what_left_the_house_is_not_sent_again_while_the_state_takes_nothing(
    desk: Desk,
) -> None:
    ids = await desk.happen_many(1)
    full = True
    write = desk.courier._write

    async def refuse(work: Callable[[Ledger], Any]) -> Any:
        if full:
            raise StoreError("no space left")
        return await write(work)

    desk.courier._write = refuse  # type: ignore[method-assign]
    for _ in range(5):
        with pytest.raises(StoreError):
            await desk.turn(flush=True)
    full = False
    again = await desk.turn(flush=True)

    assert again == 0
    assert desk.digests == [ids]
    assert (await desk.delivery(ids[0])).state is DeliveryState.DELIVERED


# Giving up


@pytest.mark.parametrize(
    ("give_up_after", "dead_within"), [(72 * HOUR, 73 * HOUR), (MINUTE, 5 * HOUR)]
)
async def test_a_delivery_is_dead_after_its_time_and_ten_tries_the_last_after_it(
    database: SqliteDatabase, give_up_after: int, dead_within: int
) -> None:
    desk = Desk(database, FakeClock(), give_up_after=give_up_after)
    desk.channel.otherwise = FAILED
    ids = await desk.happen_many(1)
    while (found := await desk.delivery(ids[0])).state is DeliveryState.PENDING:
        assert desk.clock.now() < START + dead_within
        await desk.run(30 * MINUTE)
    tried_for = found.tries[-1].at - found.tries[0].at
    before_last = found.tries[-2].at - found.tries[0].at

    assert found.state is DeliveryState.DEAD
    assert len(found.tries) >= 10
    assert tried_for >= give_up_after
    assert len(found.tries) == 10 or before_last < give_up_after
    assert found.reason == f"given up after {len(found.tries)} tries: no connection"
    assert await desk.books(lambda ledger: ledger.outbox.dead()) == 1


async def test_time_in_which_no_daemon_runs_is_not_counted(desk: Desk) -> None:
    desk.channel.otherwise = FAILED
    ids = await desk.happen_many(1)
    for _ in range(30):
        await desk.run(2 * HOUR)
        desk.clock.jump(10 * DAY)
    found = await desk.delivery(ids[0])

    assert len(found.tries) > 30
    assert found.state is DeliveryState.PENDING


async def test_a_dead_delivery_goes_out_when_asked_for_again(desk: Desk) -> None:
    desk.channel.otherwise = FAILED
    ids = await desk.happen_many(1)
    await desk.run(80 * HOUR)
    dead = await desk.delivery(ids[0])
    now = desk.clock.now()
    await desk.books(lambda ledger: ledger.outbox.redeliver(dead.seq, "team", "asked for", now))
    desk.channel.otherwise = DELIVERED
    await desk.run(2 * HOUR)

    assert dead.state is DeliveryState.DEAD
    assert (await desk.delivery(ids[0])).state is DeliveryState.DELIVERED


async def test_asked_for_again_it_is_given_all_its_time_again(desk: Desk) -> None:
    desk.channel.otherwise = FAILED
    ids = await desk.happen_many(1)
    await desk.run(80 * HOUR)
    dead, now = await desk.delivery(ids[0]), desk.clock.now()
    await desk.books(lambda ledger: ledger.outbox.redeliver(dead.seq, "team", "asked for", now))
    await desk.run(60 * HOUR)

    assert (await desk.delivery(ids[0])).state is DeliveryState.PENDING


# Trouble of the channel itself


async def test_a_failing_channel_is_told_elsewhere_once_and_its_recovery_too(desk: Desk) -> None:
    desk.channel.otherwise = FAILED
    await desk.happen_many(1)
    await desk.run(15 * MINUTE - SECOND)
    early = await desk.events("channel:team")
    await desk.run(15 * SECOND)
    in_time = await desk.events("channel:team")
    await desk.run(10 * HOUR)
    desk.channel.otherwise = DELIVERED
    await desk.run(3 * HOUR)
    failing = await desk.delivery("channel:team@1", "ops")
    recovered = await desk.delivery("channel:team@2", "ops")

    assert early == []
    assert in_time == [EventType.CHANNEL_FAILING]
    assert await desk.events("channel:team") == [
        EventType.CHANNEL_FAILING,
        EventType.CHANNEL_RECOVERED,
    ]
    assert failing.state is recovered.state is DeliveryState.PENDING
    assert desk.woken == 2
    # Nothing of it went through the channel itself.
    assert not any(id.startswith("channel:") for one in desk.digests for id in one)


# Channels that are gone


async def sweep(desk: Desk, *present: str, uptime: int) -> dict[str, int]:
    return await desk.books(
        lambda ledger: sweep_absent(
            ledger, present, desk.clock.now(), uptime, give_up_after=72 * HOUR
        )
    )


async def test_what_waits_for_a_removed_channel_is_dropped_after_its_time(desk: Desk) -> None:
    ids = await desk.happen_many(2)
    dropped = [await sweep(desk, "ops", uptime=uptime) for uptime in (0, 72 * HOUR - 1, 72 * HOUR)]
    found = await desk.delivery(ids[0])

    assert dropped == [{}, {}, {"team": 2}]
    assert found.state is DeliveryState.DROPPED
    assert found.reason == "its channel was removed from the configuration"


async def test_a_channel_that_returns_gets_what_waited(desk: Desk) -> None:
    ids = await desk.happen_many(2)
    await sweep(desk, "ops", uptime=0)
    await sweep(desk, "ops", "team", uptime=71 * HOUR)
    again = await sweep(desk, "ops", uptime=73 * HOUR)
    await desk.run(MINUTE)

    assert again == {}
    assert desk.channel.ids() == ids


async def test_a_poisonous_event_is_found_within_minutes(desk: Desk) -> None:
    ids = await desk.happen_many(12)
    desk.channel.judge = poison(ids[0])
    await desk.run(15 * MINUTE)

    assert set(desk.channel.ids()) >= set(ids[1:])


async def test_a_channel_that_rests_reads_no_backlog(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.happen_many(3)
    desk.channel.judge = lambda _: FAILED
    await desk.run(6 * SECOND)

    def refuse(self: Outbox, channel: str, limit: int, *, refusals: int) -> Any:
        raise AssertionError("a channel that rests needs nothing read")

    monkeypatch.setattr(Outbox, "waiting", refuse)

    assert await desk.turn() == 0
    assert desk.courier.next_wait() > 0
