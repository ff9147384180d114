"""One process's share of the work.

`plan` and the first half of `reload` do all that can fail; then it swaps, and cannot.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from watcher.app.plan import Plan, close_plan, looking_of, plan_of, register_configured
from watcher.app.uptime import Uptime
from watcher.clock import Clock, Jumps
from watcher.config import Settings, fingerprint, public_names
from watcher.courier import ChannelCourier, Telling, Voice, sweep_absent
from watcher.discovery import Discovery
from watcher.errors import StoreError
from watcher.log import Log
from watcher.meter import Meter
from watcher.model import Batch
from watcher.poller import AccountPoller, Looking, quantiles
from watcher.redaction import Redactor
from watcher.store.database import Database
from watcher.store.ledger import Ledger

Result = TypeVar("Result")
LEASE = 15_000
SECOND = 1_000
PRUNE_AT_ONCE = 200
# Seconds for which the clock must have gone steadily before anything is pruned by it: a machine
# may begin with a wrong one, and what a clock ten years ahead lets go of is gone.
STEADY_BEFORE_PRUNING = 3_600.0
# A rest that an earlier process began ends this soon, in milliseconds.
FRESH_TRY_WITHIN = 60 * SECOND
# What a channel that is no longer configured had, if none is configured to say otherwise.
GIVE_UP_AFTER = 72 * 3_600 * SECOND
YEAR = 365 * 86_400 * SECOND


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
    _jumps: Jumps = field(init=False)

    def __post_init__(self) -> None:
        self._jumps = Jumps(self.clock)

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
        return plan_of(settings, self.redactor, self.clock, self.log, self.transport)

    def looking(self, settings: Settings, name: str) -> Looking:
        """An account as the poller needs it, with a wire of its own."""
        return looking_of(settings, name, self.redactor, self.clock, self.transport)

    def _built(self, plan: Plan) -> tuple[dict[str, AccountPoller], dict[str, ChannelCourier]]:
        """The pollers and couriers that a plan needs and that are not there yet."""
        voice = self._voice(plan)
        pollers = {
            name: self._poller(looking)
            for name, looking in plan.looking.items()
            if not self._goes_on(name, looking)
        }
        couriers = {
            name: self._courier(telling, voice)
            for name, telling in plan.telling.items()
            if name not in self.couriers
        }
        return pollers, couriers

    def _goes_on(self, name: str, looking: Looking) -> bool:
        known = self.pollers.get(name)
        return known is not None and known.looking.provider.name == looking.provider.name

    def _swap(
        self,
        plan: Plan,
        pollers: dict[str, AccountPoller],
        couriers: dict[str, ChannelCourier],
    ) -> None:
        """Take a plan into use. Nothing in here can fail."""
        self.plan_in_use = plan
        voice = self._voice(plan)
        self.pollers |= pollers
        self.couriers |= couriers
        for gone in set(self.pollers) - set(plan.looking):
            del self.pollers[gone]
        for gone in set(self.couriers) - set(plan.telling):
            del self.couriers[gone]
        for name, poller in self.pollers.items():
            poller.adopt_settings(plan.looking[name])
        for name, courier in self.couriers.items():
            courier.adopt_settings(plan.telling[name], voice)

    def _voice(self, plan: Plan) -> Voice:
        settings = plan.settings

        def page(batch: Batch) -> str | None:
            looking = plan.looking.get(batch.account)
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
            courier.expect()

    def wake_all(self) -> None:
        """Something may have been written by another process."""
        for courier in self.couriers.values():
            courier.wake.set()
        for poller in self.pollers.values():
            poller.wake.set()

    async def write(self, work: Callable[[Ledger], Result]) -> Result:
        """Run a function of the ledger as one transaction."""
        return await self.database.transaction(lambda transaction: work(Ledger(transaction)))

    async def begin(
        self, plan: Plan, *, spread: bool, void_leases: bool = False, end_rests: bool = False
    ) -> None:
        """Take the first plan into use: names published, leases taken, batches registered.

        `end_rests`: channels that rest after failures are tried within a minute.
        """

        def rests(ledger: Ledger) -> None:
            if end_rests:
                # Where the process before sent to is not known. Not at once: one that is started
                # again and again is to knock no more often at a channel that is down.
                by = self.clock.now() + FRESH_TRY_WITHIN
                for name in plan.telling:
                    ledger.end_rest(name, self.clock.now(), by=by)

        await self._take(plan, rests, spread=spread, void_leases=void_leases)

    async def reload(self, plan: Plan) -> tuple[list[AccountPoller], list[ChannelCourier]]:
        """Swap to a plan; returns what is new. After a StoreError all is as it was.

        A channel that leads elsewhere than before is tried at once; the others rest on.
        """

        def rests(ledger: Ledger) -> None:
            for name, telling in plan.telling.items():
                known = self.couriers.get(name)
                if known is None or known.telling.address != telling.address:
                    ledger.end_rest(name, self.clock.now(), by=self.clock.now())

        new = await self._take(plan, rests, spread=False, void_leases=False)
        self.wake_all()
        return new

    async def _take(
        self, plan: Plan, rests: Callable[[Ledger], None], *, spread: bool, void_leases: bool
    ) -> tuple[list[AccountPoller], list[ChannelCourier]]:
        """All that can fail, then the swap."""
        pollers, couriers = self._built(plan)
        now = self.clock.now()

        def work(ledger: Ledger) -> None:
            if void_leases:
                ledger.process.void_leases()
            self.uptime.keep(ledger)
            self._publish(ledger, plan)
            self._take_leases(ledger, plan, now)
            rests(ledger)
            register_configured(ledger, plan, now)

        await self.write(work)
        for poller in pollers.values():
            await poller.begin(spread=spread)
        self._swap(plan, pollers, couriers)
        return list(pollers.values()), list(couriers.values())

    def _publish(self, ledger: Ledger, plan: Plan) -> None:
        """Write the names, so that a command without keys resolves them as we do."""
        names = {
            **public_names(plan.settings),
            "instance": plan.settings.instance,
            "fingerprint": fingerprint(plan.settings),
        }
        ledger.process.put("names", names)

    def _take_leases(self, ledger: Ledger, plan: Plan, now: int) -> None:
        names = [f"account:{name}" for name in plan.looking]
        names += [f"channel:{name}" for name in plan.telling]
        ledger.process.lease(names, self.holder, now, now + LEASE)

    def keep_alive(self, ledger: Ledger, now: int) -> None:
        """Renew the leases and count the uptime; inside a transaction."""
        self._take_leases(ledger, self.plan_now, now)
        self.uptime.keep(ledger)

    def notice_jump(self) -> bool:
        """Whether the wall clock has jumped since this was last asked: it was set, or we slept."""
        jump = self._jumps.since_last()
        if jump:
            self.log.warning("the clock jumped", seconds=round(jump / SECOND))
        return bool(jump)

    def lateness(self) -> dict[str, float | int | None]:
        """How late the looks of the last minutes were, over all accounts."""
        now, counts = self.clock.now(), Counter[int]()
        for poller in self.pollers.values():
            counts += poller.lateness.counts(now)
        return quantiles(counts)

    async def tidy(self) -> None:
        """Drop what waits for channels long gone, and let go of what ended long ago."""
        now, plan, uptime = self.clock.now(), self.plan_now, self.uptime()
        settings = plan.settings
        steady = self._jumps.steady_for() >= STEADY_BEFORE_PRUNING
        patience = max(
            (channel.give_up_after for channel in settings.channels.values()),
            default=GIVE_UP_AFTER,
        )

        def work(ledger: Ledger) -> dict[str, int]:
            if steady:
                keep = settings.retention.keep
                ledger.prune(now, keep=keep, stub_keep=YEAR, limit=PRUNE_AT_ONCE)
            return sweep_absent(
                ledger, list(settings.channels), now, uptime, give_up_after=patience
            )

        for channel, count in (await self.write(work)).items():
            self.log.error("deliveries dropped: the channel is gone", channel=channel, count=count)

    async def discover(self) -> None:
        """Register what the accounts list that ask for it."""
        # A reload may come while a list is read.
        for name, poller in list(self.pollers.items()):
            account = self.plan_now.settings.accounts.get(name)
            if account is not None and poller.looking.discover:
                discovery = Discovery(
                    name,
                    poller.looking.provider,
                    poller.ask,
                    self.database,
                    self.clock,
                    self.log,
                    wanted=account.discover_metadata,
                    seen=poller.seen,
                )
                if await discovery.once():
                    poller.wake.set()

    async def once(self) -> bool:
        """Look at what is due, send what is pending; whether any account could be reached."""
        try:
            await self.discover()
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
        return any(poller.standing.reached for poller in self.pollers.values())

    async def _send_all(self, courier: ChannelCourier) -> None:
        while await courier.once(self.clock.now(), flush=True):
            pass

    async def close(self) -> None:
        """Let go of connections and threads; the database stays open."""
        if self.plan_in_use is not None:
            await close_plan(self.plan_in_use)
