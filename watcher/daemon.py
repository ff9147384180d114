"""Loops, signals, reload: the process that watches until it is stopped.

The first SIGTERM or SIGINT lets each step in hand finish within a grace; the second ends at once.
SIGHUP builds everything anew from the configuration and swaps only if all of it could be built.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup, TaskStatus

from watcher.app import App, Plan, close_plan
from watcher.config import Settings, fingerprint
from watcher.courier import ChannelCourier
from watcher.errors import ConfigError, Garbled, StoreError, WatcherError
from watcher.model import Message, Request, Severity
from watcher.poller import AccountPoller
from watcher.providers.wire import Wire
from watcher.store.ledger import Ledger
from watcher.version import __version__

GRACE = 20.0
LEASE_EVERY = 5.0
# The command line's writes are noticed within a second.
NOTICE_EVERY = 0.5
TIDY_EVERY = 60.0
HEARTBEAT_DUE_EVERY = 0.5
HEARTBEAT_TIMEOUT = 5.0
# After a failure: whoever waits for it allows for little more than its interval.
HEARTBEAT_AGAIN = 30.0
# Longer than a send may take, its late answer included.
REPLACED_KEPT = 15 * 60.0
# A loop that has not turned for this long is stuck: it wakes by itself once a minute.
STUCK_AFTER = 180.0
# A state that fails for this long is told to the operators directly, at most once an hour.
STORE_TROUBLE_TOLD_AFTER = 60.0
STORE_TROUBLE_TOLD_EVERY = 3600.0
SIGHUP = getattr(signal, "SIGHUP", None)


@dataclass(slots=True)
class Loops:
    """The loops of an app: one per account, one per channel, and a few that keep house."""

    app: App
    stopping: bool = False
    turned: dict[str, float] = field(default_factory=dict)
    _store_failing_since: float | None = None
    _store_trouble_told_at: float | None = None
    _stopped: anyio.Event = field(default_factory=anyio.Event)

    def start(self, tasks: TaskGroup) -> None:
        """Start a loop for every poller and courier of the app, and the house-keeping."""
        self.start_new(tasks, list(self.app.pollers.values()), list(self.app.couriers.values()))
        tasks.start_soon(self.every, NOTICE_EVERY, "notice", self._notice)
        tasks.start_soon(self.every, TIDY_EVERY, "tidy", self.app.tidy)
        tasks.start_soon(self.every, LEASE_EVERY, "leases", self._renew)

    def start_new(
        self, tasks: TaskGroup, pollers: list[AccountPoller], couriers: list[ChannelCourier]
    ) -> None:
        """Start loops for what a reload has added."""
        for poller in pollers:
            tasks.start_soon(self._poll, poller)
        for courier in couriers:
            tasks.start_soon(self._tell, courier)

    def stop(self) -> None:
        """Let every loop end after the step in hand."""
        self.stopping = True
        self._stopped.set()
        self.app.wake_all()

    def stuck(self) -> list[str]:
        """The loops that have not turned for long, without those waiting for a channel."""
        moment = self.app.clock.monotonic()
        sending = {f"channel:{name}" for name, one in self.app.couriers.items() if one.sending}
        return sorted(
            name
            for name, at in self.turned.items()
            if moment - at > STUCK_AFTER and name not in sending
        )

    @property
    def well(self) -> bool:
        """Whether every loop turns and the state takes what they write."""
        return self._store_failing_since is None and not self.stuck()

    async def _poll(self, poller: AccountPoller) -> None:
        name = poller.looking.name
        # Looks under way are let finish when the loop ends.
        async with anyio.create_task_group() as looks:
            while self._goes_on(f"account:{name}", self.app.pollers.get(name) is poller):
                wait = 1.0
                try:
                    await poller.once(self.app.clock.now(), looks)
                    wait = await poller.next_wait()
                    self._store_is_well()
                except StoreError as error:
                    await self._store_trouble(error)
                if not self.stopping:
                    await poller.wake.wait(max(wait, 0.002))
        self.turned.pop(f"account:{name}", None)

    async def _tell(self, courier: ChannelCourier) -> None:
        name = courier.telling.name
        while self._goes_on(f"channel:{name}", self.app.couriers.get(name) is courier):
            wait = 1.0
            try:
                told = await courier.once(self.app.clock.now())
                wait = 0.0 if told else courier.next_wait()
                self._store_is_well()
            except StoreError as error:
                await self._store_trouble(error)
            if not self.stopping:
                await courier.wake.wait(max(wait, 0.002))
        self.turned.pop(f"channel:{name}", None)

    def _goes_on(self, name: str, wanted: bool) -> bool:  # noqa: FBT001
        self.turned[name] = self.app.clock.monotonic()
        return wanted and not self.stopping

    async def every(self, seconds: float, name: str, work: Callable[[], Awaitable[Any]]) -> None:
        """Do something again and again until the loops stop."""
        while not self.stopping:
            self.turned[name] = self.app.clock.monotonic()
            try:
                await work()
            except StoreError as error:
                await self._store_trouble(error)
            with anyio.move_on_after(seconds):
                await self._stopped.wait()

    async def _renew(self) -> None:
        """Keep the leases: without them nothing is claimed."""
        app, now = self.app, self.app.clock.now()
        await app.write(lambda ledger: app.keep_alive(ledger, now))

    async def _notice(self) -> None:
        if await self.app.database.changed_elsewhere():
            self.app.wake_all()

    def _store_is_well(self) -> None:
        self._store_failing_since = None

    async def _store_trouble(self, error: StoreError) -> None:
        """The loops wait; after a minute the operators are told past the outbox."""
        app, moment = self.app, self.app.clock.monotonic()
        if self._store_failing_since is None:
            self._store_failing_since = moment
            app.log.error("state trouble", error=str(error))
        if moment - self._store_failing_since < STORE_TROUBLE_TOLD_AFTER:
            return
        told = self._store_trouble_told_at
        if told is not None and moment - told < STORE_TROUBLE_TOLD_EVERY:
            return
        self._store_trouble_told_at = moment
        app.log.error("state trouble goes on", error=str(error))
        instance = app.plan_now.settings.instance
        message = Message(
            f"WATCHER on {instance}: state trouble",
            f"Nothing is recorded or told meanwhile, and nothing is lost: {error}",
            Severity.FAILURE,
        )
        for name in app.plan_now.board.told_of_trouble:
            courier = app.couriers.get(name)
            if courier is not None and not courier.sending:
                await courier.telling.notifier.send(message)


@dataclass(slots=True)
class Heartbeat:
    """Fetches the configured address while all turns, so that its absence is noticed elsewhere."""

    app: App
    _wire: Wire = field(init=False)
    _due_at: float = 0.0
    _failing: bool = False

    def __post_init__(self) -> None:
        self._wire = Wire(
            timeout=HEARTBEAT_TIMEOUT,
            max_connections=1,
            redactor=self.app.redactor,
            user_agent=f"batch-watcher/{__version__}",
        )

    async def once(self) -> None:
        """Fetch it if it is time."""
        heartbeat, moment = self.app.plan_now.settings.heartbeat, self.app.clock.monotonic()
        if not heartbeat.wanted or moment < self._due_at:
            return
        every = heartbeat.every / 1_000
        self._due_at = moment + every
        try:
            url = (await anyio.to_thread.run_sync(heartbeat.url_secret)).get_secret_value()
            self.app.redactor.add(url)
            with suppress(Garbled):
                # What it says is of no interest, JSON or not.
                await self._wire.send(Request("GET", url))
        except WatcherError as error:
            self._due_at = moment + min(every, HEARTBEAT_AGAIN)
            if not self._failing:
                self.app.log.warning("heartbeat not fetched", error=str(error))
            self._failing = True
            return
        if self._failing:
            self.app.log.info("heartbeat fetched again")
        self._failing = False

    async def close(self) -> None:
        """Let go of its connection."""
        await self._wire.close()


@dataclass(slots=True)
class Daemon:
    """`watcher run`: holds the state's lock, runs the loops, answers signals."""

    app: App
    # Reads the configuration anew; may raise ConfigError.
    load: Callable[[], Settings]
    grace: float = GRACE
    _loops: Loops = field(init=False)
    _tasks: TaskGroup = field(init=False)
    _heartbeat: Heartbeat = field(init=False)
    _since: int = field(init=False, default=0)
    # Plans that a reload has replaced and whose last requests may still be under way.
    _replaced: list[tuple[float, Plan]] = field(init=False, default_factory=list)

    async def run(self, plan: Plan) -> None:
        """Watch until the first signal; returns when every step in hand has ended."""
        app = self.app
        self._since = app.clock.now()
        self._loops = Loops(app)
        self._heartbeat = Heartbeat(app)
        await app.begin(plan, spread=True, void_leases=True)
        await self._beat()
        self._say(plan)
        try:
            async with anyio.create_task_group() as outer:
                if sys.platform != "win32":
                    await outer.start(self._answer_signals, outer)
                async with anyio.create_task_group() as self._tasks:
                    self._loops.start(self._tasks)
                    self._tasks.start_soon(self._loops.every, LEASE_EVERY, "beat", self._beat)
                    self._tasks.start_soon(
                        self._loops.every, TIDY_EVERY, "secrets", self._notice_secrets
                    )
                    self._tasks.start_soon(
                        self._loops.every, HEARTBEAT_DUE_EVERY, "heartbeat", self._send_heartbeat
                    )
                outer.cancel_scope.cancel()
        finally:
            with anyio.move_on_after(self.grace, shield=True):
                await self._end()

    def _say(self, plan: Plan) -> None:
        self.app.log.info(
            "watching",
            accounts=list(plan.looking),
            channels=list(plan.telling),
            routes=len(plan.board.routes),
            state=plan.settings.state,
            configuration=str(plan.settings.file or "none"),
        )
        for warning in plan.settings.warnings:
            self.app.log.warning(warning)
        for name, reason in plan.disabled.items():
            self.app.log.error("channel disabled", channel=name, reason=reason)

    async def _answer_signals(
        self, outer: TaskGroup, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        numbers = [signal.SIGTERM, signal.SIGINT, *([SIGHUP] if SIGHUP else [])]
        with anyio.open_signal_receiver(*numbers) as signals:
            task_status.started()
            async for number in signals:
                if number == SIGHUP:
                    await self._reload("SIGHUP")
                elif self._loops.stopping:
                    self.app.log.warning("stopping at once")
                    outer.cancel_scope.cancel()
                    return
                else:
                    self.app.log.info("stopping", signal=number.name, grace_seconds=self.grace)
                    self._loops.stop()
                    outer.start_soon(self._end_of_grace, outer)

    async def _end_of_grace(self, outer: TaskGroup) -> None:
        await anyio.sleep(self.grace)
        self.app.log.warning("grace is over: leaving steps unfinished")
        outer.cancel_scope.cancel()

    async def _reload(self, why: str) -> None:
        """Do all that can fail, then swap; on an error everything stays as it was."""
        app, old = self.app, self.app.plan_now
        try:
            settings = await anyio.to_thread.run_sync(self.load)
            if settings.state != old.settings.state:
                app.log.warning("a changed state needs a restart", state=old.settings.state)
                settings = settings.model_copy(update={"state": old.settings.state})
            plan = await anyio.to_thread.run_sync(app.plan, settings)
            await anyio.to_thread.run_sync(_check_urls, plan)
            # A state that cannot be written now would leave us between the two.
            await self._beat()
        except WatcherError as error:
            app.log.error("not reloaded: the old settings stay", why=why, error=str(error))
            return
        try:
            pollers, couriers = await app.reload(plan)
            # From here on nothing can fail but the state.
            self._loops.start_new(self._tasks, pollers, couriers)
            self._replaced.append((app.clock.monotonic(), old))
            app.log.info("reloaded", why=why)
            self._say(plan)
            await self._beat()
        except StoreError as error:
            app.log.error("reloaded, but the state is in trouble", error=str(error))

    async def _send_heartbeat(self) -> None:
        if self._loops.well:
            await self._heartbeat.once()

    async def _notice_secrets(self) -> None:
        """Reload when a channel's URL file is another; let go of plans no longer in use."""
        moment = self.app.clock.monotonic()
        while self._replaced and moment - self._replaced[0][0] > REPLACED_KEPT:
            await close_plan(self._replaced.pop(0)[1])
        channels = self.app.plan_now.settings.channels.values()

        def changed() -> bool:
            return any(channel.url_changed() for channel in channels)

        if await anyio.to_thread.run_sync(changed):
            await self._reload("a channel's URL file has changed")

    async def _beat(self) -> None:
        """Say that the loops turn."""
        app, now = self.app, self.app.clock.now()
        plan = app.plan_now
        beat = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "version": __version__,
            "since": self._since,
            "at": now,
            "instance": plan.settings.instance,
            "configuration": None if plan.settings.file is None else str(plan.settings.file),
            "fingerprint": fingerprint(plan.settings),
            "stuck": self._loops.stuck(),
            "disabled_accounts": {
                name: poller.disabled for name, poller in app.pollers.items() if poller.disabled
            },
            "disabled_channels": plan.disabled,
        }

        await app.write(lambda ledger: ledger.process.put("daemon", beat))

    async def _end(self) -> None:
        app, now = self.app, self.app.clock.now()

        def work(ledger: Ledger) -> None:
            app.uptime.keep(ledger)
            ledger.process.release(app.holder)
            ledger.process.put("daemon", {**ledger.process.get("daemon"), "stopped_at": now})

        try:
            await app.write(work)
        except StoreError as error:
            app.log.error("end not recorded", error=str(error))
        for _, plan in self._replaced:
            await close_plan(plan)
        await self._heartbeat.close()
        await app.close()
        app.log.info("stopped")


def _check_urls(plan: Plan) -> None:
    """Raise ConfigError for a channel whose URL is there and wrong.

    One that is missing disables its channel and nothing else.
    """
    for name, reason in plan.disabled.items():
        try:
            plan.settings.channels[name].url_secret()
        except ConfigError:
            continue
        raise ConfigError(reason)
