"""Builds all of it from settings; shared by the command line, the daemon and tests.

`plan` does all that can fail; `adopt` then swaps, and cannot.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from watcher.cadence import Pace
from watcher.clock import Clock
from watcher.config import Settings, fingerprint, public_names
from watcher.courier import ChannelCourier, Telling, Voice, sweep_absent
from watcher.directory import Directory
from watcher.errors import ConfigError, StoreError, UsageError
from watcher.log import Log
from watcher.meter import Meter
from watcher.model import Batch
from watcher.notify import AppriseNotifier
from watcher.poller import AccountPoller, Looking
from watcher.providers import build
from watcher.providers.wire import Wire
from watcher.redaction import Redactor
from watcher.routing import Switchboard
from watcher.store.batches import Registering
from watcher.store.database import Database
from watcher.store.ledger import Ledger
from watcher.version import __version__

Result = TypeVar("Result")
LEASE = 15_000
SECOND = 1_000
PRUNE_AT_ONCE = 200
# What a channel that is no longer configured had, if none is configured to say otherwise.
GIVE_UP_AFTER = 72 * 3_600 * SECOND
YEAR = 365 * 86_400 * SECOND


class Uptime:
    """How long daemons of this state have run, in all: what `give_up_after` counts by."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept = 0
        self._since = clock.monotonic()

    def __call__(self) -> int:
        """Milliseconds."""
        return self._kept + self._elapsed()

    def _elapsed(self) -> int:
        return round((self._clock.monotonic() - self._since) * SECOND)

    def keep(self, ledger: Ledger) -> None:
        """Write down what has passed since the last time; inside a transaction."""
        elapsed = self._elapsed()
        self._kept = ledger.process.count_uptime(elapsed)
        self._since += elapsed / SECOND


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything built from settings, ready to be taken into use."""

    settings: Settings
    board: Switchboard
    looking: dict[str, Looking]
    telling: dict[str, Telling]
    # Channels that cannot be used, and why.
    disabled: dict[str, str]
    registering: tuple[Registering, ...] = ()


@dataclass(slots=True)
class App:
    """One process's share of the work: a poller per account, a courier per channel."""

    database: Database
    clock: Clock
    log: Log
    redactor: Redactor
    # A stand-in for the network, in tests.
    transport: Any = None
    meter: Meter = field(default_factory=Meter)
    # Who holds this process's leases.
    holder: str = field(
        default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    )
    pollers: dict[str, AccountPoller] = field(default_factory=dict)
    couriers: dict[str, ChannelCourier] = field(default_factory=dict)
    plan_in_use: Plan | None = None
    _uptime: Uptime | None = None

    @property
    def plan_now(self) -> Plan:
        """The plan in use; an app without one was never begun."""
        if self.plan_in_use is None:
            message = "the app was not begun"
            raise RuntimeError(message)
        return self.plan_in_use

    @property
    def uptime(self) -> Uptime:
        """The state's uptime clock."""
        if self._uptime is None:
            self._uptime = Uptime(self.clock)
        return self._uptime

    def plan(self, settings: Settings) -> Plan:
        """Build everything; raises ConfigError before anything has changed. Reads files."""
        looking = {name: self.looking(settings, name) for name in settings.accounts}
        telling: dict[str, Telling] = {}
        disabled: dict[str, str] = {}
        for name in settings.channels:
            try:
                telling[name] = self._telling(settings, name)
            except ConfigError as error:
                disabled[name] = str(error)
        registering = configured_batches(settings)
        return Plan(settings, settings.switchboard(), looking, telling, disabled, registering)

    def looking(self, settings: Settings, name: str) -> Looking:
        """An account as the poller needs it, with a wire of its own."""
        account, polling = settings.accounts[name], settings.polling_of(name)
        options = account.options()
        for value in options.headers.values():
            self.redactor.add(value)
        wire = Wire(
            timeout=polling.timeout / SECOND,
            max_connections=account.max_concurrency + 1,
            redactor=self.redactor,
            transport=self.transport,
            user_agent=f"batch-watcher/{__version__}",
            clock=self.clock,
        )

        def read() -> str:
            secret = account.credential().get_secret_value()
            self.redactor.add(secret)
            return secret

        async def credential() -> str:
            return await anyio.to_thread.run_sync(read)

        return Looking(
            name=name,
            provider=build(account.provider, options),
            wire=wire,
            credential=credential,
            pace=Pace(polling.min_interval, polling.max_interval, polling.eagerness),
            max_concurrency=account.max_concurrency,
            requests_per_minute=account.requests_per_minute,
            lost_after=polling.lost_after,
            unreachable_after=polling.unreachable_after,
        )

    def _telling(self, settings: Settings, name: str) -> Telling:
        channel = settings.channels[name]
        notifier = open_notifier(settings, name, self.redactor, self.clock, self.log)
        return Telling(
            name,
            notifier,
            digest_wait=channel.digest_wait,
            digest_interval=channel.digest_interval,
            give_up_after=channel.give_up_after,
        )

    def adopt(self, plan: Plan) -> tuple[list[AccountPoller], list[ChannelCourier]]:
        """Take a plan into use; returns the pollers and couriers that are new and not begun."""
        self.plan_in_use = plan
        voice = self._voice(plan.settings)
        new_pollers, new_couriers = [], []
        for name, looking in plan.looking.items():
            known = self.pollers.get(name)
            if known is not None and known.looking.provider.name == looking.provider.name:
                known.adopt_settings(looking)
            else:
                self.pollers[name] = self._poller(looking)
                new_pollers.append(self.pollers[name])
        for name, telling in plan.telling.items():
            if name in self.couriers:
                self.couriers[name].adopt_settings(telling, voice)
            else:
                self.couriers[name] = self._courier(telling, voice)
                new_couriers.append(self.couriers[name])
        for gone in set(self.pollers) - set(plan.looking):
            del self.pollers[gone]
        for gone in set(self.couriers) - set(plan.telling):
            del self.couriers[gone]
        return new_pollers, new_couriers

    def _voice(self, settings: Settings) -> Voice:
        def page(batch: Batch) -> str | None:
            looking = self.plan_now.looking.get(batch.account)
            return None if looking is None else looking.provider.page_url(batch.id)

        return Voice(settings.instance, settings.zone, page)

    def _poller(self, looking: Looking) -> AccountPoller:
        return AccountPoller(
            looking,
            self.database,
            self.clock,
            board=lambda: self.plan_now.board,
            told=self.wake_couriers,
            holder=self.holder,
            log=self.log,
            meter=self.meter,
        )

    def _courier(self, telling: Telling, voice: Voice) -> ChannelCourier:
        return ChannelCourier(
            telling,
            self.database,
            self.clock,
            board=lambda: self.plan_now.board,
            told=self.wake_couriers,
            uptime=self.uptime,
            voice=voice,
            holder=self.holder,
            log=self.log,
            meter=self.meter,
        )

    def wake_couriers(self) -> None:
        """There may be something to tell."""
        for courier in self.couriers.values():
            courier.wake.set()

    def wake_all(self) -> None:
        """Something may have been written by another process."""
        self.wake_couriers()
        for poller in self.pollers.values():
            poller.wake.set()

    async def write(self, work: Callable[[Ledger], Result]) -> Result:
        """Run a function of the ledger as one transaction."""
        return await self.database.transaction(lambda transaction: work(Ledger(transaction)))

    async def begin(self, plan: Plan, *, spread: bool, void_leases: bool = False) -> None:
        """Take the first plan into use: names published, leases taken, batches registered."""
        pollers, _ = self.adopt(plan)
        now = self.clock.now()

        def work(ledger: Ledger) -> None:
            if void_leases:
                ledger.process.void_leases()
            self.uptime.keep(ledger)
            self._publish(ledger, plan)
            self._take_leases(ledger, now)
            register_configured(ledger, plan, now)

        await self.write(work)
        for poller in pollers:
            await poller.begin(spread=spread)

    async def reload(self, plan: Plan) -> tuple[list[AccountPoller], list[ChannelCourier]]:
        """Swap to a plan; returns what is new, begun and leased."""
        pollers, couriers = self.adopt(plan)
        now = self.clock.now()

        def work(ledger: Ledger) -> None:
            self._publish(ledger, plan)
            self._take_leases(ledger, now)
            register_configured(ledger, plan, now)

        await self.write(work)
        for poller in pollers:
            await poller.begin(spread=False)
        self.wake_all()
        return pollers, couriers

    def _publish(self, ledger: Ledger, plan: Plan) -> None:
        """Write the names, so that a command without keys resolves them as we do."""
        names = {
            **public_names(plan.settings),
            "instance": plan.settings.instance,
            "fingerprint": fingerprint(plan.settings),
        }
        ledger.process.put("names", names)

    def _take_leases(self, ledger: Ledger, now: int) -> None:
        names = [f"account:{name}" for name in self.pollers]
        names += [f"channel:{name}" for name in self.couriers]
        ledger.process.lease(names, self.holder, now, now + LEASE)

    def keep_alive(self, ledger: Ledger, now: int) -> None:
        """Renew the leases and count the uptime; inside a transaction."""
        self._take_leases(ledger, now)
        self.uptime.keep(ledger)

    async def tidy(self) -> None:
        """Drop what waits for channels long gone, and let go of what ended long ago."""
        now, plan, uptime = self.clock.now(), self.plan_now, self.uptime()
        settings = plan.settings
        patience = max(
            (channel.give_up_after for channel in settings.channels.values()),
            default=GIVE_UP_AFTER,
        )

        def work(ledger: Ledger) -> dict[str, int]:
            ledger.prune(now, keep=settings.retention.keep, stub_keep=YEAR, limit=PRUNE_AT_ONCE)
            return sweep_absent(
                ledger, list(settings.channels), now, uptime, give_up_after=patience
            )

        for channel, count in (await self.write(work)).items():
            self.log.error("deliveries dropped: the channel is gone", channel=channel, count=count)

    async def once(self) -> bool:
        """Look at what is due, send what is pending; whether any account could be reached."""
        try:
            async with anyio.create_task_group() as tasks:
                for poller in self.pollers.values():
                    tasks.start_soon(poller.once_through)
            async with anyio.create_task_group() as tasks:
                for courier in self.couriers.values():
                    tasks.start_soon(self._send_all, courier)
        except ExceptionGroup as group:
            error: Exception = group
            while isinstance(error, ExceptionGroup):
                error = error.exceptions[0]
            # The state is shared: the first that met its trouble speaks for all.
            raise error if isinstance(error, StoreError) else group from None
        return any(poller.reached for poller in self.pollers.values())

    async def _send_all(self, courier: ChannelCourier) -> None:
        while await courier.once(self.clock.now(), flush=True):
            pass

    async def close(self) -> None:
        """Let go of connections and threads; the database stays open."""
        if self.plan_in_use is not None:
            await close_plan(self.plan_in_use)


async def close_plan(plan: Plan) -> None:
    """Close the connections and notifiers of a plan that is no longer in use."""
    for looking in plan.looking.values():
        await close_looking(looking)
    for telling in plan.telling.values():
        telling.notifier.close()


async def close_looking(looking: Looking) -> None:
    """Let go of an account's connections."""
    await looking.wire.close()


def open_notifier(
    settings: Settings, name: str, redactor: Redactor, clock: Clock, log: Log | None = None
) -> AppriseNotifier:
    """A configured channel's way out. Raises ConfigError that never shows the URL."""
    channel = settings.channels[name]
    return AppriseNotifier(
        name,
        channel.url_secret(),
        redactor=redactor,
        clock=clock,
        emoji=channel.emoji if isinstance(channel.emoji, bool) else "auto",
        details=channel.details,
        log=log,
    )


def register_configured(ledger: Ledger, plan: Plan, now: int) -> None:
    """Register `[[batches]]` as `watcher add` would, and adopt the batches of former names."""
    for name, account in plan.settings.accounts.items():
        for former in account.formerly:
            ledger.batches.adopt(name, former)
    for wanted in plan.registering:
        ledger.batches.register(wanted, now)


def configured_batches(settings: Settings) -> tuple[Registering, ...]:
    """What `[[batches]]` registers. Raises ConfigError for an id whose account is not plain."""
    directory = Directory.of_names(public_names(settings))
    wanted = []
    for number, batch in enumerate(settings.batches, 1):
        try:
            account, id_ = directory.resolve(batch.id, account=batch.account)
        except UsageError as error:
            message = f"{settings.file}: batches[{number}]: {error}"
            raise ConfigError(message) from error
        wanted.append(
            Registering(
                account,
                id_,
                settings.accounts[account].provider,
                name=batch.name,
                tags=batch.tags or None,
                group=batch.group,
                channels=batch.channels or None,
                registered_by="configuration",
                quiet_if_ended=batch.quiet_if_ended or None,
                revive=False,
            )
        )
    return tuple(wanted)
