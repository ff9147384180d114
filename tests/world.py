"""A whole watcher under a fake clock: simulated providers, scripted channels, days in moments."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar

import anyio
from pydantic import SecretStr

from tests.builders import DAY, SECOND, ScriptedChannel, create_tables, registering
from tests.fakes import START, FakeClock
from watcher.app import App, Plan
from watcher.config import AccountSettings, PollingSettings, Settings
from watcher.courier import ChannelCourier, Telling
from watcher.errors import ConfigError
from watcher.log import get
from watcher.model import Batch, Delivery, Event, EventType
from watcher.poller import AccountPoller, Looking
from watcher.providers import Provider
from watcher.redaction import Redactor
from watcher.routing import Route, Switchboard
from watcher.simulator import KEY, SimulatedProvider, Simulation, Wire
from watcher.simulator.transport import SimulatedTransport
from watcher.store.database import Transaction
from watcher.store.ledger import Ledger
from watcher.store.sqlite import MEMORY, SqliteDatabase, _Job

Result = TypeVar("Result")
ADDRESS = "http://127.0.0.1:9"
# Longer than any test lets pass.
FAR = START + 10_000 * DAY
# What a route must say to get everything.
ALL_EVENTS = ("batch.*", "account.*", "channel.*")


class SameThread(SqliteDatabase):
    """The real driver without its thread: a day holds thousands of hops to it and back."""

    def __init__(self, path: str = MEMORY) -> None:
        self.path = path
        self._examine = self._vfs = self._damage = None
        self._closed = False
        self._data_version = 0
        self._connection = self._connect()
        self.transact(create_tables)

    def _submit(self, work: Callable[[Transaction], Result], *, writes: bool) -> Future[Result]:
        job = _Job(work, writes, Future())
        self._run_group([job])
        return job.future

    async def transaction(self, work: Callable[[Transaction], Result]) -> Result:
        return self.transact(work)

    async def query(self, work: Callable[[Transaction], Result]) -> Result:
        return self.read(work)

    def close(self) -> None:
        self._connection.close()


class World:
    """One process after another over one state; `restart` is a crash and a new process.

    `channels` get every event. Accounts are called by their wires and have real HTTP clients
    over the simulation's transport.
    """

    def __init__(
        self,
        database: SqliteDatabase,
        *wires: Wire,
        channels: tuple[str, ...] = ("team",),
        polling: Mapping[str, Any] | None = None,
        **account: Any,
    ) -> None:
        self.database = database
        self.clock = FakeClock()
        self.simulation = Simulation(self.clock.true)
        self.secrets: dict[str, str | None] = {}
        self.channels = {name: ScriptedChannel() for name in channels}
        self.restarts = 0
        # False: the list is of no use, so that every look is a request of its own.
        self.lists = True
        self._settings = Settings(
            instance="box1",
            polling=PollingSettings(**(polling or {})),
            accounts={
                wire.value: AccountSettings(
                    provider=wire.value,
                    api_key=SecretStr(KEY),
                    base_url=self.simulation.base_url(wire, ADDRESS),
                    **account,
                )
                for wire in wires or (Wire.OPENAI,)
            },
        )
        self.app = self._new_app()

    def _new_app(self) -> App:
        return App(
            self.database,
            self.clock,
            get("test"),
            Redactor(),
            transport=SimulatedTransport(self.simulation),
            holder=f"process {self.restarts}",
        )

    def _plan(self) -> Plan:
        plan = self.app.plan(self._settings)
        names = tuple(self.channels)
        return replace(
            plan,
            board=Switchboard(names, (Route(names, events=ALL_EVENTS),)),
            looking={
                name: replace(
                    looking, credential=self._credential(name), provider=self._listing(looking)
                )
                for name, looking in plan.looking.items()
            },
            telling={
                name: Telling(name, channel, digest_wait=0, digest_interval=0)
                for name, channel in self.channels.items()
            },
        )

    def _listing(self, looking: Looking) -> Provider:
        provider = looking.provider
        return provider if self.lists else replace(provider, page_size=1)  # type: ignore[type-var]

    def _credential(self, name: str) -> Callable[[], Awaitable[str]]:
        async def credential() -> str:
            secret = self.secrets.get(name, KEY)
            if secret is None:
                raise ConfigError(f"account {name}: its key file is missing")
            return secret

        return credential

    # Its parts

    @property
    def openai(self) -> SimulatedProvider:
        return self.simulation.openai

    @property
    def poller(self) -> AccountPoller:
        """The first account's."""
        return next(iter(self.app.pollers.values()))

    @property
    def courier(self) -> ChannelCourier:
        """The first channel's."""
        return next(iter(self.app.couriers.values()))

    # What happens

    async def start(self, *, spread: bool = False) -> None:
        """A process begins, and holds its leases for as long as it lives."""
        await self.app.begin(self._plan(), spread=spread, void_leases=True, end_rests=True)
        self.app.wake_all()
        await self.hold_leases()

    async def hold_leases(self, until: int = FAR) -> None:
        """Keep the leases of this process for as long as it lives, or until then."""
        names, holder = self.lease_names(), self.app.holder
        await self.books(lambda ledger: ledger.process.lease(names, holder, 0, until))

    def lease_names(self) -> list[str]:
        accounts = [f"account:{name}" for name in self.app.pollers]
        return accounts + [f"channel:{name}" for name in self.app.couriers]

    async def restart(self, *, spread: bool = False) -> None:
        """The process is killed, and another begins on its state."""
        await self.app.close()
        self.restarts += 1
        self.app = self._new_app()
        await self.start(spread=spread)

    async def books(self, work: Callable[[Ledger], Result]) -> Result:
        return await self.database.transaction(lambda transaction: work(Ledger(transaction)))

    async def register(self, *ids: str, account: str = "openai", **said: Any) -> None:
        now = self.clock.now()

        def work(ledger: Ledger) -> None:
            for id in ids:
                ledger.batches.register(registering(id, account, **said), now)

        await self.books(work)

    async def turn(self) -> int:
        """What is due and allowed now, looks and messages; returns how many looks began."""
        looks = 0
        async with anyio.create_task_group() as tasks:
            for poller in self.app.pollers.values():
                looks += await poller.once(self.clock.now(), tasks)
        for courier in self.app.couriers.values():
            if self._has_work(courier):
                await courier.wake.wait(0)
                while await courier.once(self.clock.now()):
                    pass
        return looks

    def _has_work(self, courier: ChannelCourier) -> bool:
        """Whether its loop would wake up now: an idle turn costs as much as another."""
        due = courier._next_at
        return courier.wake._event.is_set() or (due is not None and due <= self.clock.now())

    async def run(self, milliseconds: int, *, until: Callable[[], bool] | None = None) -> int:
        """Let so much time pass along the times the loops name; returns how many looks began."""
        end, looks = self.clock.now() + milliseconds, 0
        while True:
            looks += await self.turn()
            left = end - self.clock.now()
            if left <= 0 or (until is not None and until()):
                return looks
            waits = [await self._wait(poller) for poller in self.app.pollers.values()]
            couriers = self.app.couriers.values()
            waits += [courier.next_wait() for courier in couriers if courier._next_at is not None]
            self.clock.advance(min(left, max(1, math.ceil(min(waits, default=FAR) * SECOND))))

    async def _wait(self, poller: AccountPoller) -> float:
        """Seconds until it has work: a loop with nothing to do wakes once a minute all the same."""
        wait = await poller.next_wait()
        if wait < 60 or poller.disabled or poller.account.suspected or not poller._claims.leased:
            return wait
        name, now = poller.looking.name, self.clock.now()
        due = await self.books(lambda ledger: ledger.agenda.next_due(name, frozenset()))
        return FAR if due is None else max(wait, (due - now) / SECOND)

    # What came of it

    async def batch(self, id: str, account: str = "openai") -> Batch:
        found = await self.books(lambda ledger: ledger.batches.get(account, id))
        if found is None:
            raise LookupError(id)
        return found

    async def events(self, subject: str | None = None) -> list[Event]:
        """All events, or those of one batch by its id at the first account, or of `kind:name`."""
        found = await self.books(lambda ledger: ledger.events.after(0, 10_000))
        if subject is None:
            return found
        key = subject if ":" in subject or "/" in subject else f"openai/{subject}"
        return [one for one in found if one.id.rpartition("@")[0] == key]

    async def types(self, subject: str | None = None) -> list[EventType]:
        return [one.type for one in await self.events(subject)]

    async def words(self, id: str) -> list[str]:
        """The story of a batch as it was told: `completed`, without `batch.`."""
        return [one.type.removeprefix("batch.") for one in await self.events(id)]

    async def deliveries(self, event: Event) -> list[Delivery]:
        return await self.books(lambda ledger: ledger.outbox.of_event(event.seq))
