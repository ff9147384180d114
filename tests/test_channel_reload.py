"""Channels that are given another address, or leave, while messages wait for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from tests.builders import (
    DELIVERED,
    FAILED,
    HOUR,
    MINUTE,
    REFUSED,
    SECOND,
    ScriptedChannel,
    event,
    tell,
)
from tests.channels.day import NEW, Day, sizes
from tests.channels.servers import Service
from tests.cli.bench import World, world
from tests.test_daemon import Bench, hup
from tests.world import SameThread
from watcher.app import App
from watcher.daemon import process
from watcher.model import DeliveryState, Message, TryOutcome
from watcher.notify import Sent
from watcher.store.ledger import Ledger

BACKLOG = 50


@pytest.fixture
def openai() -> Iterator[World]:
    with world() as one:
        yield one


@pytest.fixture
def bench(tmp_path: Path, openai: World) -> Bench:
    return Bench(tmp_path, openai)


@pytest.fixture
def day() -> Iterator[Day]:
    database = SameThread()
    yield Day(database)
    database.close()


def told(service: Service) -> list[str]:
    """The ids of the events that came, in their order."""
    words = " ".join(one.body["message"] for one in list(service.received)).split()
    return [word for word in words if "@" in word]


def lead(file: Path, address: str) -> None:
    """Replace the file that holds the channel's URL, as an administrator would."""
    new = file.with_suffix(".new")
    new.write_text(f"json://{address}/hook")
    new.chmod(0o600)
    new.replace(file)


async def wait_for_a_backlog(app: App) -> None:
    """Until all of it waits for an address that takes nothing; then the channel rests an hour."""

    def work(ledger: Ledger) -> bool:
        channel = ledger.subjects.channel("team")
        full = ledger.outbox.pending("team") == BACKLOG and channel.next_try_at is not None
        if full:
            rest = app.clock.now() + HOUR
            ledger.subjects.put_channel(replace(channel, next_try_at=rest, message_size=1))
        return full

    with anyio.fail_after(10):
        while not await app.write(work):  # noqa: ASYNC110 - a row has no event to wait for
            await anyio.sleep(0.02)


@pytest.mark.parametrize("signal", [True, False], ids=["signal", "noticed"])
def test_a_changed_url_takes_the_backlog_to_the_new_address_at_once(
    bench: Bench,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    signal: bool,
) -> None:
    if not signal:
        # Files are looked at once a minute.
        monkeypatch.setattr(process, "TIDY_EVERY", 0.05)
    file = bench.config.with_name("url")
    lead(file, "127.0.0.1:9")
    bench.write(f'[channels.team]\nurl_file = "{file}"\ndigest_wait = "10ms"\n')

    async def story(app: App) -> None:
        for number in range(BACKLOG):
            await app.write(tell(event(number=number), "team", now=app.clock.now()))
        app.wake_all()
        await wait_for_a_backlog(app)
        lead(file, service.address)
        if signal:
            hup()
        await bench.until(lambda: len(told(service)) >= BACKLOG)
        pending = await app.write(lambda ledger: ledger.outbox.pending("team"))

        assert pending in {0, BACKLOG}

    bench.run(story)

    assert len(set(told(service))) == len(told(service)) == BACKLOG
    # One message of all: neither the hour's rest nor the size that the old one had taken stays.
    assert len(service.received) == 1


# From one address to another


async def in_trouble(day: Day, trouble: Sent) -> list[str]:
    """A backlog of fifty for an address that does not take it, and a channel that rests."""
    await day.start()
    day.team.otherwise = trouble
    ids = await day.happen(50)
    await day.run(6 * HOUR)
    return ids


@pytest.mark.parametrize("trouble", [FAILED, REFUSED])
async def test_a_changed_address_gets_the_backlog_at_once(day: Day, trouble: Sent) -> None:
    ids = await in_trouble(day, trouble)
    tries = len(day.team.messages)
    old = day.team
    day.addresses["team"], day.channels["team"] = NEW, ScriptedChannel()
    await day.reload()
    await day.run(0)
    at_once = sizes(day.team, day.team.taken)
    await day.run(5 * MINUTE)

    assert at_once == [19]
    assert sizes(day.team, day.team.taken) == [19, 19, 12]
    assert day.team.ids() == ids
    assert len(old.messages) == tries


async def test_a_reload_that_changes_no_address_ends_no_rest(day: Day) -> None:
    await in_trouble(day, FAILED)
    tries, rest = len(day.team.messages), (await day.state()).next_try_at
    await day.reload()
    await day.run(SECOND)

    assert rest is not None
    assert (await day.state()).next_try_at == rest
    assert len(day.team.messages) == tries


async def test_a_process_that_begins_tries_again_within_a_minute(day: Day) -> None:
    ids = await in_trouble(day, FAILED)
    day.team.otherwise = DELIVERED
    await day.restart()
    await day.run(MINUTE)

    assert day.team.ids() == ids[:19]


class Slow(ScriptedChannel):
    """Answers when it is let go."""

    def __init__(self) -> None:
        super().__init__(otherwise=FAILED)
        self.go = anyio.Event()

    async def send(self, message: Message) -> Sent:
        await self.go.wait()
        return await super().send(message)


async def test_what_the_old_address_fails_at_after_a_change_is_not_the_new_ones_fault(
    day: Day,
) -> None:
    await day.start()
    old = day.channels["team"] = Slow()
    await day.reload()
    ids = await day.happen(3)
    day.clock.advance(5 * SECOND)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(day.turn)
        with anyio.fail_after(5):
            while not day.courier.sending:
                await anyio.lowlevel.checkpoint()
        day.addresses["team"], day.channels["team"] = NEW, ScriptedChannel()
        await day.reload()
        old.go.set()
    await day.run(0)

    assert len(old.messages) == 1
    assert day.team.ids() == ids
    assert [one.outcome for one in (await day.delivery(ids[0])).tries] == [
        TryOutcome.FAILED,
        TryOutcome.DELIVERED,
    ]


# Channels that leave


async def test_what_waits_for_a_renamed_channel_is_dropped_in_the_end_with_a_reason(
    day: Day,
) -> None:
    ids = await in_trouble(day, FAILED)
    day.channels["crew"] = day.channels.pop("team")
    await day.reload()
    for _ in range(73):
        await day.app.tidy()
        await day.run(HOUR)
    await day.app.tidy()
    dropped = await day.books(
        lambda ledger: ledger.outbox.newest(
            state=DeliveryState.DROPPED, channel="team", limit=len(ids) + 1
        )
    )

    assert [one.event_id for one in dropped] == ids
    assert {one.reason for one in dropped} == {"its channel was removed from the configuration"}


async def test_a_channel_that_returns_is_not_held_to_its_old_rest(day: Day) -> None:
    ids = await in_trouble(day, FAILED)
    team = day.channels.pop("team")
    await day.reload()
    team.otherwise = DELIVERED
    day.channels["team"] = team
    await day.reload()
    await day.run(5 * MINUTE)

    assert day.team.ids() == ids
