"""Building, swapping, tidying: what the parts do as one process over one state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest
from pydantic import SecretStr

from tests.builders import DAY, HOUR, MINUTE, SECOND, batch, event, tell
from tests.fakes import START, FakeClock
from tests.world import World
from watcher.app import App, Uptime
from watcher.config import AccountSettings, BatchSettings, ChannelSettings, Settings
from watcher.courier import Telling
from watcher.errors import ConfigError, StoreError
from watcher.log import get
from watcher.model import DeliveryState, EventType
from watcher.redaction import Redactor
from watcher.simulator import Fate, Wire, faults
from watcher.store.ledger import Ledger
from watcher.store.sqlite import SqliteDatabase

KEY = "a-secret-nobody-may-see"


def account(provider: str = "openai", **said: Any) -> AccountSettings:
    return AccountSettings(provider=provider, api_key=SecretStr(KEY), **said)


def settings(**said: Any) -> Settings:
    return Settings(**{"instance": "box1", "accounts": {"openai": account()}, **said})


def app(database: SqliteDatabase, clock: FakeClock | None = None) -> App:
    return App(database, clock or FakeClock(), get("test"), Redactor())


# Building


async def test_a_channel_that_cannot_be_used_is_disabled_and_nothing_else(
    database: SqliteDatabase,
) -> None:
    channels = {
        "bad": ChannelSettings(url=SecretStr("nonsense://host")),
        "good": ChannelSettings(url=SecretStr("json://127.0.0.1:9")),
    }
    one = app(database)
    plan = await anyio.to_thread.run_sync(one.plan, settings(channels=channels))
    await one.begin(plan, spread=False)
    await one.close()

    assert list(plan.telling) == ["good"]
    assert list(plan.disabled) == ["bad"]
    assert list(one.couriers) == ["good"]
    assert plan.board.channels == ("bad", "good")


async def test_the_names_a_process_publishes_hold_no_secret(database: SqliteDatabase) -> None:
    one = app(database)
    await one.begin(one.plan(settings()), spread=False)
    await one.close()
    names = await one.write(lambda ledger: ledger.process.get("names"))

    assert names["instance"] == "box1"
    assert "openai" in str(names)
    assert KEY not in str(names)


def test_an_id_whose_account_is_not_plain_stops_the_plan(database: SqliteDatabase) -> None:
    two = {"one": account(), "two": account()}
    wanted = settings(accounts=two, batches=(BatchSettings(id="batch_1"),))

    with pytest.raises(ConfigError, match=r"batches\[1\]: .*could belong to several accounts"):
        app(database).plan(wanted)


async def test_configured_batches_are_registered_once_and_stay_removed(
    database: SqliteDatabase,
) -> None:
    wanted = settings(batches=(BatchSettings(id="batch_1", account="openai", name="evals"),))
    first = app(database)
    await first.begin(first.plan(wanted), spread=False)
    registered = await first.write(lambda ledger: ledger.batches.get("openai", "batch_1"))
    await first.write(lambda ledger: ledger.remove([registered or batch()], START))
    await first.close()
    second = app(database)
    await second.begin(second.plan(wanted), spread=False)
    watched = await second.write(lambda ledger: ledger.batches.watched(open_only=False))
    await second.close()

    assert registered is not None
    assert (registered.name, registered.registration.registered_by) == ("evals", "configuration")
    assert watched == []


async def test_an_account_adopts_the_batches_of_its_former_name(world: World) -> None:
    await world.start()
    await world.register("batch_1")
    renamed = app(world.database)
    wanted = settings(accounts={"main": account(formerly=("openai",))})
    await renamed.begin(renamed.plan(wanted), spread=False)
    await renamed.close()
    in_use = await renamed.write(lambda ledger: ledger.batches.accounts_in_use())

    assert in_use == {"main": 1}


# Leases and uptime


async def test_a_second_process_takes_over_only_what_was_let_go(database: SqliteDatabase) -> None:
    first, second = app(database), app(database)
    await first.begin(first.plan(settings()), spread=False)
    await second.begin(second.plan(settings()), spread=False)

    def holders(ledger: Ledger) -> list[bool]:
        name = "account:openai"
        return [ledger.process.holds(name, one.holder, START) for one in (first, second)]

    both = await first.write(holders)
    await second.begin(second.plan(settings()), spread=False, void_leases=True)
    after = await first.write(holders)
    await first.close()
    await second.close()

    assert both == [True, False]
    assert after == [False, True]


def test_uptime_goes_on_where_the_last_process_left_it(database: SqliteDatabase) -> None:
    clock = FakeClock()
    sums = []
    for _ in range(3):
        uptime = Uptime(clock)
        database.transact(lambda work, uptime=uptime: uptime.keep(Ledger(work)))  # type: ignore[misc]
        clock.advance(HOUR)
        clock.jump(DAY)
        database.transact(lambda work, uptime=uptime: uptime.keep(Ledger(work)))  # type: ignore[misc]
        clock.advance(MINUTE)
        sums.append(uptime())

    # The minute nobody kept is lost with its process, and no jump counts.
    assert sums == [HOUR + MINUTE, 2 * HOUR + MINUTE, 3 * HOUR + MINUTE]


# Reloading


async def test_a_reload_keeps_who_stays_and_returns_who_is_new(database: SqliteDatabase) -> None:
    one = app(database)
    plan = one.plan(settings(accounts={"stays": account(), "goes": account()}))
    await one.begin(plan, spread=False)
    stays = one.pollers["stays"]
    stays.standing.account = replace(stays.account, limited=3)
    accounts = {"stays": account(max_concurrency=2), "comes": account("cohere")}
    pollers, couriers = await one.reload(one.plan(settings(accounts=accounts)))
    await one.close()

    assert [poller.looking.name for poller in pollers] == ["comes"]
    assert couriers == []
    assert set(one.pollers) == {"stays", "comes"}
    assert one.pollers["stays"] is stays
    assert (stays.looking.max_concurrency, stays.account.limited) == (2, 3)


async def test_an_account_that_changes_its_provider_is_a_new_one(database: SqliteDatabase) -> None:
    one = app(database)
    await one.begin(one.plan(settings(accounts={"main": account()})), spread=False)
    before = one.pollers["main"]
    pollers, _ = await one.reload(one.plan(settings(accounts={"main": account("cohere")})))
    await one.close()

    assert pollers == [one.pollers["main"]]
    assert one.pollers["main"] is not before


async def test_a_plan_that_fails_changes_nothing(database: SqliteDatabase) -> None:
    one = app(database)
    await one.begin(one.plan(settings()), spread=False)
    before = one.plan_now
    two = {"one": account(), "two": account()}
    bad = settings(accounts=two, batches=(BatchSettings(id="batch_1"),))
    with pytest.raises(ConfigError):
        one.plan(bad)
    await one.close()

    assert one.plan_now is before
    assert list(one.pollers) == ["openai"]


async def test_channels_added_later_get_no_earlier_events(world: World) -> None:
    await world.start()
    id = world.openai.add(Fate.completed(after=60.0))
    await world.register(id)
    await world.run(10 * MINUTE)
    late = replace(world.app.plan_now.board, channels=("team", "late"))
    plan = replace(world.app.plan_now, board=late)
    plan.telling["late"] = Telling("late", world.channels["team"])
    await world.app.reload(plan)
    pending = await world.books(lambda ledger: ledger.outbox.pending_by_channel())

    assert list(world.app.couriers) == ["team", "late"]
    assert pending == {}


# Once


async def test_once_looks_tells_at_once_and_says_that_somebody_answered(world: World) -> None:
    await world.start()
    id = world.openai.add(Fate.completed(after=0.0))
    await world.register(id)
    world.courier.telling = replace(world.courier.telling, digest_wait=HOUR)
    with anyio.fail_after(10):
        reached = await world.app.once()

    assert reached
    assert world.channels["team"].ids() == [f"openai/{id}@1"]


async def test_once_says_when_nobody_could_be_reached(world: World) -> None:
    await world.start()
    await world.register(world.openai.add(Fate.stuck()))
    world.simulation.faults.add(faults.reset())

    assert not await world.app.once()


async def test_once_tells_the_states_trouble_as_it_is(world: World) -> None:
    await world.start()
    await world.register(world.openai.add(Fate.stuck()))

    async def refuse(work: Callable[[Ledger], Any]) -> Any:
        raise StoreError("no space left")

    world.poller._claims.read = refuse

    with pytest.raises(StoreError, match="no space left"):
        await world.app.once()


# Time


async def test_a_pause_until_a_date_counts_by_the_clock_that_was_handed_in(world: World) -> None:
    await world.start()
    await world.register(world.openai.add(Fate.stuck()))
    world.simulation.faults.add(faults.rate_limited(600.0, "date"), times=1)
    await world.turn()
    until = world.poller.account.paused_until

    assert until is not None
    assert 599 * SECOND <= until - START <= 602 * SECOND


# Tidying


async def test_tidying_prunes_what_is_told_and_drops_what_no_channel_waits_for(
    world: World,
) -> None:
    await world.start()
    id = world.openai.add(Fate.completed(after=60.0))
    await world.register(id)
    await world.run(HOUR)
    seq = await world.books(tell(event(EventType.ACCOUNT_UNREACHABLE), "gone"))
    await world.app.tidy()
    early = await world.books(lambda ledger: ledger.outbox.of_event(seq))
    world.clock.advance(91 * DAY)
    await world.app.tidy()
    late = await world.books(lambda ledger: ledger.outbox.of_event(seq))
    await world.app.tidy()

    assert [one.state for one in early] == [DeliveryState.PENDING]
    assert [one.state for one in late] == [DeliveryState.DROPPED]
    assert await world.events() == []
    with pytest.raises(LookupError):
        await world.batch(id)


async def test_two_accounts_and_two_channels_are_one_process(database: SqliteDatabase) -> None:
    world = World(database, Wire.OPENAI, Wire.CEREBRAS, channels=("team", "ops"))
    await world.start()
    for wire in (Wire.OPENAI, Wire.CEREBRAS):
        id = world.simulation.providers[wire].add(Fate.completed(after=60.0))
        await world.register(id, account=wire.value)
    await world.run(5 * MINUTE)
    ids = sorted(one.id for one in await world.events())

    assert sorted(world.channels["team"].ids()) == ids
    assert sorted(world.channels["ops"].ids()) == ids
    assert {id.split("/")[0] for id in ids} == {"openai", "cerebras"}
