"""Batches that appear in an account's list are registered by themselves, and no others."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.fakes import FakeClock
from tests.world import World
from watcher.discovery import Discovery
from watcher.errors import Unavailable
from watcher.log import get
from watcher.model import Request
from watcher.providers import ProviderOptions, build
from watcher.simulator import KEY, Fate, SimulatedProvider, Simulation, Wire, faults
from watcher.store.batches import Registering
from watcher.store.database import Transaction
from watcher.store.ledger import Ledger
from watcher.store.schema import open_state
from watcher.store.sqlite import MEMORY, SqliteDatabase

ADDRESS = "http://127.0.0.1:1"


class Stage:
    """One account at a simulated provider, and the discovery that reads its list."""

    def __init__(self, provider: str) -> None:
        self.clock = FakeClock()
        self.simulation = Simulation(self.clock.now)
        self.provider = provider
        self.reader = build(
            provider, ProviderOptions(base_url=Simulation.base_url(provider, ADDRESS))
        )
        self.database = open_state(MEMORY, program="test", change=True)
        self.requests = 0
        self.allowed = True
        self.discovery = self.new()

    def new(self) -> Discovery:
        """A discovery as after a restart."""
        return Discovery(
            self.provider, self.reader, self.ask, self.database, self.clock, get("test")
        )

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
        if answer.status != 200:
            raise Unavailable(status_code=answer.status)
        body: object = json.loads(answer.body)
        return body

    def create(self) -> str:
        """A batch made at the provider now, a second after the last."""
        self.clock.advance(1_000)
        return self.there.add(Fate.completed(), created_at=self.clock.now())

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
