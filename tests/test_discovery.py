"""Batches that appear in an account's list are registered by themselves, and no others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.fakes import FakeClock
from tests.world import SameThread, World
from watcher import discovery
from watcher.discovery import Discovery
from watcher.errors import Refused, Unavailable
from watcher.log import get
from watcher.model import Observation, Request
from watcher.providers import ProviderOptions, build
from watcher.simulator import (
    GROQ,
    KEY,
    TOGETHER,
    Envelope,
    Fate,
    ListForm,
    Order,
    Paging,
    SimulatedProvider,
    Simulation,
    Wire,
    faults,
)
from watcher.store.batches import Registering
from watcher.store.database import Transaction
from watcher.store.ledger import Ledger
from watcher.store.schema import open_state
from watcher.store.sqlite import MEMORY, SqliteDatabase

ADDRESS = "http://127.0.0.1:1"
YEAR = 365 * 86_400_000


class Stage:
    """One account at a simulated provider, and the discovery that reads its list."""

    def __init__(
        self, provider: str, seed: int = 0, database: SqliteDatabase | None = None
    ) -> None:
        self.clock = FakeClock()
        self.simulation = Simulation(self.clock.true, seed=seed)
        self.provider = provider
        self.reader = build(
            provider, ProviderOptions(base_url=Simulation.base_url(provider, ADDRESS))
        )
        self.database = database or open_state(MEMORY, program="test", change=True)
        self.requests = 0
        self.allowed = True
        # How many requests one call may make.
        self.allowance = 1_000
        self.wanted: dict[str, str] = {}
        self.seen: list[Observation] = []
        self.discovery = self.new()

    def new(self) -> Discovery:
        """A discovery as after a restart."""
        left = self.allowance

        async def ask(request: Request) -> object | None:
            nonlocal left
            left -= 1
            return await self.ask(request) if left >= 0 else None

        async def seen(page: list[Observation]) -> None:
            self.seen += page

        return Discovery(
            self.provider,
            self.reader,
            ask,
            self.database,
            self.clock,
            get("test"),
            wanted=self.wanted,
            seen=seen,
        )

    async def calls(self, count: int, every: int = 60_000) -> int:
        """So many calls, each of a process of its own; returns how many batches were registered."""
        found = 0
        for _ in range(count):
            found += await self.new().once()
            self.clock.advance(every)
        return found

    @property
    def there(self) -> SimulatedProvider:
        """The provider's side."""
        return {wire.value: one for wire, one in self.simulation.providers.items()}[self.provider]

    async def ask(self, request: Request) -> object | None:
        if not self.allowed:
            return None
        self.requests += 1
        signed = self.reader.authorize(request, KEY, self.clock.now())
        answer = self.simulation.respond(
            signed.method, signed.url.removeprefix(ADDRESS), signed.headers
        )
        if answer.status in {400, 404}:
            raise Refused(status_code=answer.status)
        if answer.status != 200:
            raise Unavailable(status_code=answer.status)
        body: object = json.loads(answer.body)
        return body

    def create(self, after: int = 1_000, **said: Any) -> str:
        """A batch made at the provider now, a second after the last."""
        self.clock.advance(after)
        return self.there.add(Fate.completed(), created_at=self.clock.true(), **said)

    async def marks(self) -> dict[str, Any]:
        """What is kept of the reading."""
        name = f"discovery:{self.provider}"
        return await self.database.query(lambda work: Ledger(work).process.get(name))

    async def keep(self, document: dict[str, Any]) -> None:
        """Keep this in its place."""
        name = f"discovery:{self.provider}"
        await self.database.transaction(lambda work: Ledger(work).process.put(name, document))

    async def watched(self) -> set[str]:
        batches = await self.database.query(
            lambda work: Ledger(work).batches.watched(open_only=True)
        )
        return {batch.id for batch in batches}


@pytest.fixture(params=["openai", "cerebras", "cohere"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    stage = Stage(request.param)
    yield stage
    stage.database.close()


ONLY_OPENAI = pytest.mark.parametrize("stage", ["openai"], indirect=True)


async def test_what_is_made_from_the_first_call_on_is_watched_and_what_is_older_is_not(
    stage: Stage,
) -> None:
    stage.create()
    stage.clock.advance(5_000)
    await stage.discovery.once()
    new = {stage.create(), stage.create()}

    found = await stage.discovery.once()

    assert (found, await stage.watched()) == (2, new)


async def test_what_is_made_while_nobody_looks_is_found_after_a_restart(stage: Stage) -> None:
    await stage.discovery.once()
    new = stage.create()
    stage.clock.advance(3 * 86_400_000)

    await stage.new().once()

    assert await stage.watched() == {new}


async def test_what_was_removed_stays_removed(stage: Stage) -> None:
    await stage.discovery.once()
    new = stage.create()
    await stage.discovery.once()

    def remove(work: Transaction) -> None:
        ledger = Ledger(work)
        batch = ledger.batches.get(stage.provider, new)
        assert batch is not None
        ledger.remove([batch], stage.clock.now())

    await stage.database.transaction(remove)
    await stage.discovery.once()

    assert await stage.watched() == set()


async def test_a_registration_of_the_users_is_left_as_it_is(stage: Stage) -> None:
    await stage.discovery.once()
    new = stage.create()
    wanted = Registering(stage.provider, new, stage.provider, name="mine", registered_by="ana")
    await stage.database.transaction(lambda work: Ledger(work).batches.register(wanted, 1))

    await stage.discovery.once()

    batch = await stage.database.query(lambda work: Ledger(work).batches.get(stage.provider, new))
    assert batch is not None
    assert (batch.name, batch.registration.registered_by) == ("mine", "ana")


@ONLY_OPENAI
async def test_more_than_a_page_is_read_to_its_end_once_and_not_again(stage: Stage) -> None:
    await stage.discovery.once()
    new = {stage.create() for _ in range(250)}
    await stage.discovery.once()
    stage.clock.advance(3_600_000)
    await stage.discovery.once()
    before, watched = stage.requests, await stage.watched()
    await stage.discovery.once()

    assert watched == new
    assert stage.requests - before == 1


@ONLY_OPENAI
async def test_an_account_that_may_not_be_asked_now_is_asked_later(stage: Stage) -> None:
    await stage.discovery.once()
    stage.allowed = False
    new = stage.create()
    await stage.discovery.once()
    stage.clock.advance(3_600_000)
    stage.allowed = True
    await stage.discovery.once()

    assert await stage.watched() == {new}


@ONLY_OPENAI
async def test_a_provider_that_does_not_answer_loses_nothing(stage: Stage) -> None:
    await stage.discovery.once()
    stage.there.revoke()
    new = stage.create()
    await stage.discovery.once()
    stage.clock.advance(86_400_000)
    stage.there.restore()
    await stage.discovery.once()

    assert await stage.watched() == {new}


# What is wanted.


async def test_only_batches_with_the_metadata_asked_for_are_watched(stage: Stage) -> None:
    stage.wanted = {"team": "nlp-*"}
    await stage.calls(1)
    fits = stage.create(metadata={"team": ["ops", "nlp-1"]})
    stage.create(metadata={"team": "ops"})
    stage.create()
    await stage.calls(1)
    none = stage.provider == "cohere"

    assert await stage.watched() == (set() if none else {fits})


async def test_all_that_a_page_says_is_handed_on_once_what_is_new_on_it_is_registered(
    stage: Stage,
) -> None:
    old = stage.create()
    await stage.calls(1)
    first, stage.seen = stage.seen, []
    new = stage.create()
    registered: list[bool] = []

    async def seen(page: list[Observation]) -> None:
        registered.append(new in await stage.watched())
        stage.seen += page

    reading = stage.new()
    reading._seen = seen
    await reading.once()

    assert [one.id for one in first] == [old]
    assert [one.id for one in stage.seen] == [new, old]
    assert registered == [True]


@ONLY_OPENAI
async def test_what_was_made_in_the_second_of_the_first_call_is_told_apart_by_what_was_there(
    stage: Stage,
) -> None:
    stage.clock.advance(200)
    for _ in range(150):
        stage.create(after=0)
    await stage.calls(1, every=0)
    new = stage.create(after=300)
    await stage.calls(1)

    assert await stage.watched() == {new}


@ONLY_OPENAI
async def test_what_was_made_while_the_first_call_could_not_read_is_found(stage: Stage) -> None:
    stage.create()
    stage.clock.advance(5_000)
    stage.there.revoke()
    await stage.calls(2)
    new = stage.create()
    stage.there.restore()
    await stage.calls(1)

    assert await stage.watched() == {new}


@ONLY_OPENAI
@pytest.mark.parametrize("ahead", [-3_600_000, -30_000, 30_000, 3_600_000])
async def test_a_clock_that_differs_from_the_providers_loses_and_invents_nothing(
    stage: Stage, ahead: int
) -> None:
    for _ in range(3):
        stage.create()
    stage.clock.jump(ahead)
    await stage.calls(3, every=1_000)
    new = {stage.create() for _ in range(250)}
    await stage.calls(3)
    stage.clock.advance(86_400_000)
    new |= {stage.create() for _ in range(3)}
    await stage.calls(2)

    assert await stage.watched() == new


@ONLY_OPENAI
async def test_a_clock_a_little_ahead_misses_nothing_of_an_account_that_was_empty(
    stage: Stage,
) -> None:
    stage.clock.jump(300_000)
    await stage.calls(1)
    new = stage.create()
    await stage.calls(1)

    assert await stage.watched() == {new}


@ONLY_OPENAI
@pytest.mark.parametrize(
    ("wrong_by", "mended"),
    [(-56 * YEAR, True), (-56 * YEAR, False), (-3_600_000, False), (73 * YEAR, True)],
)
async def test_a_wrong_clock_at_a_first_call_that_could_not_read_tells_no_backlog(
    stage: Stage, wrong_by: int, mended: bool
) -> None:
    for _ in range(3):
        stage.create()
    stage.clock.advance(60_000)
    stage.there.revoke()
    stage.clock.jump(wrong_by)
    await stage.calls(1)
    stage.clock.jump(-wrong_by if mended else 0)
    stage.there.restore()
    await stage.calls(1)
    new = stage.create()
    await stage.calls(1)

    assert await stage.watched() == {new}


@ONLY_OPENAI
async def test_a_clock_that_was_years_ahead_for_a_while_hides_nothing_later(stage: Stage) -> None:
    stage.create()
    await stage.calls(1)
    stage.clock.jump(10 * YEAR)
    await stage.calls(2)
    stage.clock.jump(-10 * YEAR)
    new = {stage.create() for _ in range(250)}
    await stage.calls(1)

    assert await stage.watched() == new


@ONLY_OPENAI
async def test_a_batch_is_not_discovered_again_once_it_is_forgotten(stage: Stage) -> None:
    await stage.calls(1)
    stage.create()
    await stage.calls(2)
    stage.clock.advance(86_400_000)
    new = stage.create()
    await stage.calls(1)
    await stage.database.transaction(lambda work: work.execute("DELETE FROM batches"))
    await stage.calls(2)

    assert await stage.watched() == {new}


# Where a reading goes on.


async def test_a_long_list_is_read_in_as_many_calls_as_it_takes_and_no_page_twice(
    stage: Stage,
) -> None:
    await stage.calls(1)
    pages = 7
    page = stage.reader.page_size
    # A thousand of Cohere's pages would take long.
    stage.reader = replace(stage.reader, page_size=100)  # type: ignore[type-var]
    new = {stage.create() for _ in range(pages * 100)}
    stage.allowance, stage.requests = 2, 0
    found = await stage.calls(pages // 2)
    early, requests = await stage.watched(), stage.requests
    later = stage.create()
    found += await stage.calls(2)

    assert page in {100, 1_000}
    assert (len(early), requests) == (600, 6)
    assert await stage.watched() == new | {later}
    assert found == pages * 100 + 1
    # One page was left, one more was new since, and one of the last call ends it.
    assert stage.requests <= 10


@ONLY_OPENAI
async def test_more_pages_than_one_call_reads_are_read_by_the_next(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "MOST_PAGES", 3)
    await stage.calls(1)
    new = {stage.create() for _ in range(450)}
    first = await stage.calls(1)
    second = await stage.calls(1)

    assert (first, second) == (300, 150)
    assert await stage.watched() == new


@ONLY_OPENAI
async def test_a_place_that_is_gone_is_given_up_and_nothing_is_missed(stage: Stage) -> None:
    await stage.calls(1)
    new = [stage.create() for _ in range(350)]
    stage.allowance = 2
    await stage.calls(1)
    cursor = (await stage.marks())["reading"]["cursor"]
    stage.there.hide(cursor)
    await stage.calls(1)
    given_up = (await stage.marks())["reading"]
    stage.allowance = 1_000
    await stage.calls(1)

    assert cursor == new[150]
    assert given_up is None
    assert await stage.watched() == set(new)


@ONLY_OPENAI
@pytest.mark.parametrize(("failures", "goes_on"), [(4, True), (5, False)])
async def test_a_place_that_cannot_be_read_is_tried_a_few_times(
    stage: Stage, failures: int, goes_on: bool
) -> None:
    await stage.calls(1)
    new = {stage.create() for _ in range(350)}
    stage.allowance = 2
    await stage.calls(1)
    stage.simulation.faults.add(faults.status(500), times=failures)
    await stage.calls(failures)
    stage.allowance, stage.requests = 1_000, 0
    await stage.calls(1)

    assert await stage.watched() == new
    assert stage.requests == (2 if goes_on else 4)


@ONLY_OPENAI
async def test_what_an_earlier_version_kept_is_understood(stage: Stage) -> None:
    stage.create()
    stage.clock.advance(5_000)
    began = stage.clock.now()
    await stage.keep({"since": began, "read_until": began})
    stage.clock.advance(86_400_000)
    new = {stage.create() for _ in range(120)}
    await stage.calls(1)

    assert await stage.watched() == new


@ONLY_OPENAI
@pytest.mark.parametrize(
    "damage", [{"since": "x"}, {"reading": {"began": 1, "what": 2}}, {"reading": 7}, {"before": 3}]
)
async def test_damaged_marks_begin_anew_and_tell_no_backlog(
    stage: Stage, damage: dict[str, Any]
) -> None:
    stage.create()
    await stage.keep({"since": 0, "read_until": 0, **damage})
    await stage.calls(1)
    new = stage.create()
    await stage.calls(1)

    assert await stage.watched() == {new}


# Lists as they really are.


@ONLY_OPENAI
@pytest.mark.parametrize(
    "form",
    [
        ListForm(order=Order.OLDEST),
        ListForm(order=Order.NONE),
        ListForm(envelope=Envelope.IDS),
        GROQ,
        TOGETHER,
    ],
    ids=["oldest first", "no order", "no has_more", "unpaged", "array"],
)
async def test_a_list_of_any_form_shows_what_is_new(stage: Stage, form: ListForm) -> None:
    stage.there.list_form = form
    for _ in range(250):
        stage.create(after=60_000)
    await stage.calls(1)
    stage.clock.advance(86_400_000)
    new = {stage.create() for _ in range(120)}
    await stage.calls(2)

    assert await stage.watched() == new


@ONLY_OPENAI
async def test_a_list_in_no_order_is_read_by_a_few_pages_at_a_time(stage: Stage) -> None:
    stage.there.list_form = ListForm(order=Order.OLDEST)
    for _ in range(1_150):
        stage.create(after=1_000)
    stage.requests = 0
    await stage.calls(2)
    first = stage.requests
    new = stage.create()
    await stage.calls(2)

    # The first reading takes two calls, and so does the next.
    assert (first, stage.requests) == (12, 24)
    assert await stage.watched() == {new}


@ONLY_OPENAI
async def test_a_list_that_overlooks_its_cursor_is_not_read_for_ever(stage: Stage) -> None:
    stage.there.list_form = ListForm(paging=Paging.IGNORED)
    await stage.calls(1)
    new = [stage.create() for _ in range(30)]
    stage.requests = 0
    await stage.calls(1)

    assert stage.requests == 2
    assert await stage.watched() == set(new[-20:])


@ONLY_OPENAI
async def test_what_is_shown_ten_minutes_late_is_found_below_what_is_newer(stage: Stage) -> None:
    stage.create()
    await stage.calls(1)
    late = stage.create()
    stage.there.hide(late)
    new = {late}
    for _ in range(9):
        new |= {stage.create(after=0) for _ in range(30)}
        await stage.calls(1)
    hidden = await stage.watched()
    stage.there.show(late)
    await stage.calls(1)

    assert hidden == new - {late}
    assert await stage.watched() == new


DEEDS = some.one_of(
    some.tuples(some.just("make"), some.integers(1, 120), some.sampled_from([0, 1_000])),
    some.tuples(some.just("call"), some.integers(1, 3), some.integers(0, 120_000)),
    some.tuples(some.just("wait"), some.integers(1, 7_200_000), some.just(0)),
)


@given(
    deeds=some.lists(DEEDS, max_size=12),
    lag=some.floats(0, 300),
    jitter=some.floats(0, 290),
    ahead=some.integers(-3_600_000, 3_600_000),
    seed=some.integers(0, 9),
)
@settings(max_examples=25, deadline=None)
async def test_whatever_lags_and_however_calls_are_cut_all_is_found_and_no_backlog(
    deeds: list[tuple[str, int, int]], lag: float, jitter: float, ahead: int, seed: int
) -> None:
    stage = Stage("openai", seed, SameThread())
    for _ in range(3):
        stage.create()
    stage.clock.advance(600_000)
    stage.there.list_form = ListForm(lag=lag, jitter=jitter)
    stage.clock.jump(ahead)
    await stage.calls(1)
    new = set()
    for deed, amount, step in deeds:
        if deed == "make":
            new |= {stage.create(after=step) for _ in range(amount)}
        elif deed == "call":
            stage.allowance = amount
            await stage.calls(1, every=step)
        else:
            stage.clock.advance(amount)
    stage.clock.advance(600_000)
    stage.allowance = 1_000
    await stage.calls(2)
    watched = await stage.watched()
    stage.database.close()

    assert watched == new


@pytest.fixture
def database() -> Iterator[SqliteDatabase]:
    database = open_state(MEMORY, program="test", change=True)
    yield database
    database.close()


async def test_an_account_that_asks_for_it_discovers_and_watches(database: SqliteDatabase) -> None:
    world = World(database, discover=True)
    await world.start()
    await world.app.discover()
    world.clock.advance(2_000)
    new = world.openai.add(Fate.completed(after=60), created_at=world.clock.now())
    await world.app.discover()
    await world.run(3_600_000)

    assert (await world.words(new))[-1] == "completed"


async def test_what_began_and_ended_while_nobody_looked_is_told_once(
    database: SqliteDatabase,
) -> None:
    world = World(database, discover=True)
    await world.start()
    await world.app.discover()
    world.clock.advance(2_000)
    new = world.openai.add(Fate.completed(after=60), created_at=world.clock.now())
    world.clock.advance(3_600_000)
    await world.restart()
    for _ in range(3):
        await world.app.discover()
        await world.run(3_600_000)

    assert await world.words(new) == ["completed"]
    assert len(world.channels["team"].messages) == 1


async def test_an_account_watches_only_what_has_the_metadata_it_asks_for(
    database: SqliteDatabase,
) -> None:
    world = World(database, discover=True, discover_metadata={"team": "nlp-*"})
    await world.start()
    await world.app.discover()
    world.clock.advance(2_000)
    now = world.clock.now()
    new = world.openai.add(Fate.stuck(), created_at=now, metadata={"team": "nlp-1"})
    world.openai.add(Fate.stuck(), created_at=now, metadata={"team": "ops"})
    await world.app.discover()
    watched = await world.books(lambda ledger: ledger.batches.watched(open_only=False))

    assert [one.id for one in watched] == [new]


async def test_an_account_that_does_not_ask_for_it_is_left_alone(database: SqliteDatabase) -> None:
    world = World(database)
    await world.start()
    await world.app.discover()

    assert world.simulation.requests.total == 0


async def test_an_account_at_rest_is_not_asked_for_its_list(database: SqliteDatabase) -> None:
    world = World(database, discover=True)
    await world.start()
    world.simulation.faults.add(faults.rate_limited(after=600), times=1)
    await world.app.discover()
    asked = world.simulation.requests.total
    await world.app.discover()

    assert (asked, world.simulation.requests.total) == (1, 1)


async def test_a_reload_while_a_list_is_read_disturbs_nothing(database: SqliteDatabase) -> None:
    world = World(database, Wire.OPENAI, Wire.COHERE, discover=True)
    await world.start()
    asked: list[str] = []

    async def ask(request: Request) -> object | None:
        asked.append(request.url)
        world.app.pollers.pop("cohere", None)
        return None

    world.poller.ask = ask  # type: ignore[method-assign]
    await world.app.discover()

    assert len(asked) == 1
    assert set(world.app.pollers) == {"openai"}


@ONLY_OPENAI
async def test_a_first_reading_that_is_given_up_leaves_the_backlog_alone(stage: Stage) -> None:
    stage.there.list_form = ListForm(order=Order.OLDEST)
    old = {stage.create() for _ in range(450)}
    stage.clock.advance(60_000)
    stage.allowance = 2
    await stage.calls(1)
    cursor = (await stage.marks())["reading"]["cursor"]
    stage.there.hide(cursor)
    await stage.calls(1)
    given_up = (await stage.marks())["reading"]
    stage.allowance = 1_000
    await stage.calls(2)
    new = stage.create()
    await stage.calls(2)

    assert cursor in old
    assert given_up is None
    assert await stage.watched() == {new}


@ONLY_OPENAI
@pytest.mark.parametrize(
    "damage",
    [
        {"began": "x"},
        {"began": 1},
        {"began": 1, "first": False, "cursor": 7, "newest": 0, "failures": 0},
        {"began": 1, "first": False, "cursor": None, "newest": "x", "failures": 0},
        {"began": 1, "first": False, "cursor": "batch_1", "newest": 0, "failures": None},
    ],
    ids=["began", "cut short", "cursor", "newest", "failures"],
)
async def test_a_reading_kept_damaged_begins_anew_and_tells_no_backlog(
    stage: Stage, damage: dict[str, Any]
) -> None:
    await stage.calls(1)
    stage.create()
    await stage.keep({**await stage.marks(), "reading": damage})
    await stage.calls(1)
    new = stage.create()
    await stage.calls(1)

    assert await stage.watched() == {new}
