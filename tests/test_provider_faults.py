"""Providers that fail: each fault over a real connection, days of all of them, poison, outages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import weeks
from tests.builders import DAY, HOUR, MINUTE, SECOND, batch, counts, done, seen
from tests.fakes import START
from tests.poison import poisons, punctuality
from tests.weeks import all_events
from tests.world import World
from watcher import lifecycle
from watcher.app import App, Plan
from watcher.cadence import Pace, next_look
from watcher.config import AccountSettings
from watcher.errors import Garbled
from watcher.lifecycle import LISTED, NONE_LISTED
from watcher.log import get
from watcher.model import Event, EventType, Outcome, Status
from watcher.providers import ProviderOptions, build
from watcher.redaction import Redactor
from watcher.simulator import Fate, Fault, Kind, Wire, faults, garbage, serve
from watcher.store.sqlite import SqliteDatabase

TERMINAL = weeks.TERMINAL


# Every fault once, over a real connection

# By its name in the catalogue: how a look at it is counted, and words of its error.
MEANT: dict[str, tuple[str, str]] = {
    "429": ("limited", ""),
    "429-date": ("limited", ""),
    "429-milliseconds": ("limited", ""),
    "429-silent": ("limited", ""),
    "500": ("unavailable", "500"),
    "503": ("unavailable", "503"),
    "401": ("unauthorized", "401"),
    "403": ("unauthorized", "403"),
    "404": ("missing", "404"),
    "redirect": ("refused", "points to elsewhere.invalid"),
    "html": ("garbled", "not JSON"),
    "html-502": ("unavailable", "502"),
    "silent": ("unavailable", "no answer"),
    "late": ("unavailable", "no answer"),
    "drip": ("unavailable", "within 1.5 s"),
    "reset": ("unavailable", "broke"),
    "truncated": ("unavailable", "broke off"),
    "empty": ("garbled", "empty"),
    "wrong-content-type": ("seen", ""),
    "large": ("garbled", "larger than"),
    "gzip-bomb": ("garbled", "larger than"),
    "large-header": ("garbled", "not HTTP"),
    "another-batch": ("garbled", "another batch"),
    "not-a-number": ("garbled", "not JSON"),
    "huge-integers": ("seen", ""),
    "endless-integers": ("garbled", "not JSON"),
    "nested": ("garbled", "the answer "),
    "invalid-utf8": ("garbled", "not JSON"),
    "lone-surrogates": ("seen", ""),
    "duplicate-keys": ("seen", ""),
    "wrong-root": ("garbled", "the answer is not"),
    "wrong-type": ("garbled", "not a batch"),
}


class Connected(World):
    """A world whose accounts speak real HTTP to wherever `address` is."""

    address = ""

    def _new_app(self) -> App:
        accounts = {
            name: account.model_copy(
                update={"base_url": self.simulation.base_url(name, self.address)}
            )
            for name, account in self._settings.accounts.items()
        }
        self._settings = self._settings.model_copy(update={"accounts": accounts})
        return App(self.database, self.clock, get("test"), Redactor(), holder="connected")


def results(world: World, account: str) -> Counter[str]:
    """How an account's looks were counted."""
    found: Counter[str] = Counter()
    for (what, labels), number in world.app.meter.counts.items():
        said = dict(labels)
        if what == "looks" and said["account"] == account:
            found[said["result"]] += number
    return found


async def test_every_fault_over_a_real_connection_is_told_from_the_others_and_outlived(
    database: SqliteDatabase,
) -> None:
    world = Connected(
        database,
        *Wire,
        polling={"timeout": "1500ms"},
        max_concurrency=100,
        requests_per_minute=100_000,
    )
    world.lists = False
    # Those that take time take longer than anybody waits; the bomb is as large as it needs be.
    longer = {"late": faults.late(30.0), "drip": faults.drip(30.0)}
    longer["gzip-bomb"] = faults.gzip_bomb(8 * faults.MEGABYTE)
    ids: dict[tuple[Wire, str], str] = {}
    for wire, provider in world.simulation.providers.items():
        for name, build_fault in garbage.CATALOGUE.items():
            id = ids[wire, name] = provider.add(Fate.completed(after=60.0))
            fault = longer.get(name) or build_fault()
            world.simulation.faults.add(fault, wire=wire, id=id, kind=Kind.RETRIEVE)
    async with serve(world.simulation) as world.address:
        world.app = world._new_app()
        await world.start()
        for (wire, _), id in ids.items():
            await world.register(id, account=wire.value)
        await world.turn()
        counted = {wire: results(world, wire.value) for wire in Wire}
        errors = {key: (await world.batch(id, key[0].value)).last_error for key, id in ids.items()}
        told = Counter([one.type for one in await world.events()])
        world.simulation.faults.clear()
        world.clock.advance(HOUR)
        for _ in range(3):
            await world.turn()
            world.clock.advance(2 * MINUTE)
        events = await world.events()
        await world.app.close()

    assert set(MEANT) == set(garbage.CATALOGUE)
    for wire in Wire:
        assert counted[wire] == Counter(kind for kind, _ in MEANT.values())
    for (wire, name), error in errors.items():
        kind, words = MEANT[name]
        assert words in (error or ""), (wire, name)
        assert (error is None) == (kind in {"seen", "limited"}), (wire, name)
    # Four of the faults leave an answer that can be read, and it is read as it was meant.
    assert told == {EventType.VALIDATING: 8, EventType.QUEUED: 4}
    for (wire, name), id in ids.items():
        story = [one for one in events if one.id.startswith(f"{wire}/{id}@")]
        assert story[-1].type is EventType.COMPLETED, (wire, name)
        assert len(story) <= 2
    assert not [one for one in events if one.batch is None]


# All of them at once, for days


async def test_while_a_third_of_all_requests_fails_in_every_way_all_is_told_as_it_was() -> None:
    duration, quiet = 4 * HOUR, 2 * HOUR
    lives = weeks.lives(24, duration, quiet=quiet)
    clean = await weeks.live(lives, duration, eagerness=0.2)
    faulty = await weeks.live(lives, duration, eagerness=0.2, share=0.3)

    assert clean.wrong == []
    assert faulty.wrong == []
    assert weeks.compare(clean, faulty) == []
    assert sum(faulty.injected.values()) > 80
    assert len(faulty.injected) > 20
    # Each failure costs at most one request more than there are without any.
    assert faulty.asked <= clean.asked + sum(faulty.injected.values())
    assert faulty.busiest <= clean.busiest + 3


# Poison


async def test_garbled_answers_of_some_batches_delay_no_other() -> None:
    ends = [300.0 + 17.0 * number for number in range(40)]
    bad = dict(zip(range(0, 40, 2), poisons(20), strict=True))
    limits: dict[str, Any] = {
        "eagerness": 0.1,
        "requests_per_minute": 1_000_000,
        "max_concurrency": 100,
    }
    clean = await punctuality(ends, {}, 25 * MINUTE, **limits)
    poisoned = await punctuality(ends, bad, 25 * MINUTE, **limits)
    others = {id: clean.delays[id] for id in poisoned.delays}

    assert len({fault.name for fault in bad.values()}) == 20
    assert (clean.unseen, poisoned.unseen) == ([], [])
    assert len(poisoned.delays) == 20
    # A millisecond more or less may let an end be seen by the look before or after.
    same = [id for id in others if poisoned.delays[id] == pytest.approx(others[id], abs=5)]
    assert len(same) >= 18


async def test_answers_that_hang_take_no_more_than_half_of_the_slots() -> None:
    ends = [600.0 + 40.0 * number for number in range(30)]
    bad = dict(zip(range(0, 30, 2), poisons(15), strict=True))
    limits: dict[str, Any] = {"eagerness": 0.3, "max_concurrency": 2}
    clean = await punctuality(ends, {}, 35 * MINUTE, **limits)
    poisoned = await punctuality(ends, bad, 35 * MINUTE, hanging=True, **limits)
    others = [clean.delays[id] for id in poisoned.delays]

    assert poisoned.unseen == []
    # Other looks in between are other jitter, a tenth either way.
    assert max(poisoned.delays.values()) <= max(others) * 1.2


# A revoked key


class WithKeyFile(World):
    """A world whose first account reads its key from a real file."""

    key_file: Path

    def _plan(self) -> Plan:
        account = self._settings.accounts["openai"]
        filed = AccountSettings(
            provider="openai", api_key_file=str(self.key_file), base_url=account.base_url
        )
        self._settings = self._settings.model_copy(update={"accounts": {"openai": filed}})
        return super()._plan()

    def _credential(self, name: str) -> Callable[[], Awaitable[str]]:
        plan = self.app.plan(self._settings)
        return plan.looking[name].credential


async def test_a_revoked_key_costs_one_message_and_a_request_a_minute_until_it_is_replaced(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    world = WithKeyFile(database)
    world.key_file = tmp_path / "key"
    world.key_file.write_text("old-key\n")
    world.key_file.chmod(0o600)
    world.openai.keys = {"old-key"}
    await world.start()
    ids = [world.openai.add(Fate.completed(after=600.0 * number)) for number in range(1, 12)]
    await world.register(*ids)
    await world.run(2 * MINUTE)
    world.openai.keys = {"new-key"}
    await world.run(5 * MINUTE)
    trouble = await world.events("account:openai")
    world.openai.requests.clear()
    await world.run(3 * HOUR)
    minutes = Counter(one.call.at // MINUTE for one in world.openai.requests.entries)
    during = await world.events()
    world.key_file.write_text("new-key\n")
    replaced_at = world.clock.now()
    await world.run(3 * MINUTE)
    after = (await world.events())[len(during) :]
    ends = {one.batch.id: one for one in after if one.batch is not None and one.batch.ended}
    messages = [one.title for one in world.channels["team"].taken if "ACCOUNT" in one.title]

    assert [one.type for one in trouble] == [EventType.ACCOUNT_UNAUTHORIZED]
    assert max(minutes.values()) == 1
    assert len(minutes) >= 175
    assert during[-1].id == trouble[0].id
    assert [one.type for one in after if one.batch is None] == [EventType.ACCOUNT_RECOVERED]
    assert max(one.detected_at for one in after) - replaced_at <= 2 * MINUTE
    assert set(ends) == set(ids)
    for id, end in ends.items():
        # OpenAI's times are whole seconds.
        assert end.occurred_at == world.openai.truth(id)[-1][0] // SECOND * SECOND
        assert end.lag == end.detected_at - end.occurred_at
    assert messages == ["ACCOUNT openai: credential rejected", "ACCOUNT openai: well again"]


# An outage


async def test_six_hours_without_an_answer_are_one_message_and_no_storm(
    database: SqliteDatabase,
) -> None:
    world = World(database, requests_per_minute=60, max_concurrency=4)
    await world.start()
    ids = [world.openai.add(Fate.completed(after=3_600.0 + 60 * number)) for number in range(10)]
    await world.register(*ids)
    await world.run(20 * MINUTE)
    back = world.clock.now() + 6 * HOUR
    for number, fault in enumerate([faults.reset(), faults.silent(), faults.html(503)]):
        began = back - (6 - 2 * number) * HOUR
        world.simulation.faults.add(fault, during=(began, began + 2 * HOUR))
    await world.run(6 * HOUR - 1)
    times = [one.call.at - (back - 6 * HOUR) for one in world.openai.requests.entries]
    hours = [sum(hour * HOUR <= at < (hour + 1) * HOUR for at in times) for hour in range(6)]
    await world.run(5 * MINUTE)
    asked = [one.call.at - back for one in world.openai.requests.entries if one.call.at >= back]
    events = await all_events(world)
    after = [one for one in events if one.detected_at >= back]

    assert [one.type for one in events if one.batch is None] == [
        EventType.ACCOUNT_UNREACHABLE,
        EventType.ACCOUNT_RECOVERED,
    ]
    # A quarter of an hour of looks that back off, then a probe a minute.
    assert hours[0] <= len(ids) * 8 + 60
    assert max(hours[1:]) <= 60
    # Its first minute back: the probe, then no more than its limits allow.
    assert _most_in_a_minute(asked) <= 60
    assert {one.batch.id for one in after if one.batch and one.batch.ended} == set(ids)
    assert max(one.detected_at for one in after if one.batch) - back <= 3 * MINUTE


def _most_in_a_minute(times: list[int]) -> int:
    return max(sum(since <= at < since + MINUTE for at in times) for since in times)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (faults.html(), "no answer can be used: the answer is not JSON"),
        (faults.redirect(), "no answer can be used: 302 Found: points to elsewhere.invalid"),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
async def test_a_box_that_answers_everything_in_the_providers_place_is_told_once(
    world: World, fault: Fault, reason: str
) -> None:
    await world.start()
    ids = [world.openai.add(Fate.completed(after=1_200.0 * number)) for number in (1, 2, 3)]
    await world.register(*ids)
    await world.run(10 * MINUTE)
    since = world.clock.now()
    rule = world.simulation.faults.add(fault)
    await world.run(90 * MINUTE)
    during = [one for one in await world.events() if one.batch is None]
    world.simulation.faults.remove(rule)
    await world.run(5 * MINUTE)

    assert [one.type for one in during] == [EventType.ACCOUNT_UNREACHABLE]
    assert (during[0].reason or "").startswith(reason)
    assert 15 * MINUTE <= during[0].detected_at - since <= 20 * MINUTE
    assert (await world.types("account:openai"))[1:] == [EventType.ACCOUNT_RECOVERED]
    assert {(await world.words(id))[-1] for id in ids} == {"completed"}


async def test_garbage_for_the_only_batch_is_not_the_accounts_trouble(world: World) -> None:
    await world.start()
    id = world.openai.add(Fate.completed(after=600.0))
    await world.register(id)
    world.simulation.faults.add(faults.html(), kind=Kind.RETRIEVE, during=(START, START + HOUR))
    await world.run(HOUR)
    asked = Counter(world.openai.requests.by_kind)
    await world.run(10 * MINUTE)

    assert [one.type for one in await world.events()] == [EventType.COMPLETED]
    # At most one probe for each look that failed.
    assert 0 < asked[Kind.LIST] <= asked[Kind.RETRIEVE]


# A proxy that answers 404


def lost(events: list[Event]) -> list[str]:
    return [one.id for one in events if one.type is EventType.LOST]


def trouble(events: list[Event]) -> list[tuple[EventType, str | None]]:
    return [(one.type, one.reason) for one in events if one.batch is None]


def empty_page(wire: Wire) -> Fault:
    """A list without a batch, whatever there is."""
    body = b'{"batches": []}' if wire is Wire.COHERE else b'{"data": [], "has_more": false}'
    return Fault("empty page", lambda honest, _call: replace(honest, body=body))


@pytest.mark.parametrize(
    ("wire", "listing"),
    [*((wire, "empty") for wire in Wire), (Wire.OPENAI, "missing"), (Wire.CEREBRAS, "whole")],
)
async def test_a_proxy_that_answers_404_loses_nothing(
    database: SqliteDatabase, wire: Wire, listing: str
) -> None:
    world = World(database, wire, polling={"eagerness": 0.3})
    provider = world.simulation.providers[wire]
    await world.start()
    ids = [provider.add(Fate.completed(after=1_800.0 * number)) for number in range(1, 4)]
    await world.register(*ids, account=wire.value)
    await world.run(10 * MINUTE)
    rules = [world.simulation.faults.add(faults.not_found(), kind=Kind.RETRIEVE)]
    if listing != "whole":
        instead = faults.not_found() if listing == "missing" else empty_page(wire)
        rules.append(world.simulation.faults.add(instead, kind=Kind.LIST))
    await world.run(HOUR)
    after_an_hour = await world.events()
    await world.run(HOUR)
    during = await world.events()
    for rule in rules:
        world.simulation.faults.remove(rule)
    await world.run(10 * MINUTE)
    events = await world.events()
    reasons = {"missing": [lifecycle.ALL_MISSING], "empty": [NONE_LISTED], "whole": []}
    told = [(EventType.ACCOUNT_UNREACHABLE, reason) for reason in reasons[listing]]

    assert lost(events) == []
    assert trouble(after_an_hour) == []
    # A whole list shows all that the looks would.
    assert trouble(during) == told
    assert [kind for kind, _ in trouble(events)[len(told) :]] == [
        EventType.ACCOUNT_RECOVERED for _ in told
    ]
    for id in ids:
        assert (await world.events(f"{wire}/{id}"))[-1].type is EventType.COMPLETED


async def test_a_batch_that_is_listed_and_answered_404_is_not_lost(world: World) -> None:
    await world.start()
    id = world.openai.add(Fate.stuck())
    await world.register(id)
    await world.run(MINUTE)
    world.simulation.faults.add(faults.not_found(), kind=Kind.RETRIEVE)
    await world.run(3 * HOUR)

    assert trouble(await world.events()) == [(EventType.ACCOUNT_UNREACHABLE, LISTED)]
    assert lost(await world.events()) == []


async def test_a_good_answer_as_a_proxy_begins_to_answer_404_loses_nothing(world: World) -> None:
    await world.start()
    first, second = (world.openai.add(Fate.completed(after=9_000.0)) for _ in range(2))
    await world.register(first, second)
    await world.run(10 * MINUTE)
    # One server after the other gets the new rules.
    world.simulation.faults.add(faults.not_found(), id=first, during=(0, START + 100 * MINUTE))
    later = (START + 12 * MINUTE, START + 100 * MINUTE)
    world.simulation.faults.add(faults.not_found(), during=later)
    await world.run(3 * HOUR)
    events = await world.events()

    assert lost(events) == []
    assert {(await world.words(id))[-1] for id in (first, second)} == {"completed"}


async def test_a_third_of_404s_loses_nothing_and_what_is_gone_is_lost(world: World) -> None:
    await world.start()
    here = [world.openai.add(Fate.completed(after=9_000.0)) for _ in range(3)]
    gone = world.openai.add(Fate.vanished(since=600.0))
    await world.register(*here, gone)
    world.simulation.faults.add(faults.not_found(), share=0.33)
    await world.run(3 * HOUR)
    events = await world.events()
    end = next(one for one in events if one.type is EventType.LOST)

    assert lost(events) == [end.id]
    assert end.batch is not None
    assert end.batch.id == gone
    assert HOUR + 10 * MINUTE <= end.detected_at - START <= HOUR + 30 * MINUTE
    assert trouble(events) == []


def test_a_batch_never_seen_backs_off_while_nobody_vouches_for_the_404() -> None:
    unseen = batch(missing_looks=20, failures=20)

    assert (next_look(unseen, START, Pace()) or 0) - START >= 4 * MINUTE


# What an end brought


@pytest.mark.parametrize(
    ("status", "known", "outcome"),
    [
        (Status.COMPLETED, counts(9, 4, 0), None),
        (Status.COMPLETED, counts(9, 8, 1), Outcome.PARTIAL),
        (Status.COMPLETED, counts(9, 0, 0), None),
        (Status.EXPIRED, counts(9, 0, 0), None),
        (Status.CANCELLED, counts(9, 4, 0), Outcome.PARTIAL),
        (Status.FAILED, counts(9, 0, 0), Outcome.EMPTY),
    ],
)
def test_counts_of_the_way_are_not_the_outcome_of_the_end(
    status: Status, known: object, outcome: Outcome | None
) -> None:
    before = batch(Status.IN_PROGRESS, counts=known)
    step = lifecycle.advance(before, seen(status), START + HOUR)

    assert step.batch.status is status
    assert step.batch.outcome is outcome


def test_an_end_keeps_its_counts_when_a_later_answer_has_none() -> None:
    ended = lifecycle.advance(batch(Status.IN_PROGRESS), done(9, 9), START).batch
    step = lifecycle.advance(ended, seen(Status.COMPLETED), START + MINUTE)

    assert step.event is None
    assert step.batch.counts == counts(9, 9, 0)


async def test_a_look_after_the_end_that_fails_is_made_up_for(world: World) -> None:
    await world.start()
    id = world.openai.add(Fate.revived(at=600.0, again=1_800.0))
    await world.register(id)
    last = START + 600 * SECOND + 30 * MINUTE
    trouble = (last - 20 * SECOND, last + 4 * MINUTE)
    world.simulation.faults.add(faults.status(500), during=trouble)
    await world.run(2 * HOUR)
    after = world.openai.requests.total
    await world.run(DAY)

    assert [one.batch.outcome for one in await world.events(id) if one.batch][-1] is Outcome.OK
    assert world.openai.requests.total == after


@pytest.mark.parametrize("status", [["BATCH_STATUS_COMPLETED"], 7, True, {}])
def test_a_status_that_is_no_word_is_garbled(status: object) -> None:
    cohere = build("cohere", ProviderOptions())

    with pytest.raises(Garbled, match="its status is no word"):
        cohere.read({"batch": {"id": "a", "status": status}})
