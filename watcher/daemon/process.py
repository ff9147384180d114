"""The process: the state's lock held, the loops run, signals answered, settings swapped."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup, TaskStatus

from watcher.app import App, Plan, close_plan
from watcher.config import Settings, fingerprint
from watcher.daemon.heartbeat import Heartbeat
from watcher.daemon.loops import TIDY_EVERY, Loops
from watcher.errors import ConfigError, StoreBusy, StoreError, WatcherError
from watcher.store.ledger import Ledger
from watcher.version import __version__

GRACE = 20.0
BEAT_EVERY = 5.0
HEARTBEAT_DUE_EVERY = 0.5
# Longer than a send may take, its late answer included.
REPLACED_KEPT = 15 * 60.0
SIGHUP = getattr(signal, "SIGHUP", None)


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
    # A signal and a changed file may ask at the same moment.
    _reloading: anyio.Lock = field(init=False, default_factory=anyio.Lock)
    # Plans that a reload has replaced and whose last requests may still be under way.
    _replaced: list[tuple[float, Plan]] = field(init=False, default_factory=list)

    async def run(self, plan: Plan) -> None:
        """Watch until the first signal; returns when every step in hand has ended."""
        app = self.app
        self._since = app.clock.now()
        self._loops = Loops(app)
        self._heartbeat = Heartbeat(app)
        await self._begin(plan)
        try:
            async with anyio.create_task_group() as outer:
                if sys.platform != "win32":
                    await outer.start(self._answer_signals, outer)
                outer.start_soon(self._end_of_grace, outer)
                # Whoever waits for this line may send a signal upon it.
                self._say(plan)
                async with anyio.create_task_group() as self._tasks:
                    self._loops.start(self._tasks)
                    self._tasks.start_soon(self._loops.every, BEAT_EVERY, "beat", self._beat)
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
        if self._loops.lost is not None:
            raise self._loops.lost

    async def _begin(self, plan: Plan) -> None:
        """Take the plan into use; a state that another process holds is waited for."""
        waiting = False
        while True:
            try:
                await self.app.begin(plan, spread=True, void_leases=True, end_rests=True)
                await self._beat()
            except StoreBusy as error:
                # Each try has waited for long already.
                if not waiting:
                    self.app.log.warning("waiting for the state", error=str(error))
                waiting = True
            else:
                return

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

    async def _end_of_grace(self, outer: TaskGroup) -> None:
        await self._loops.stopped()
        await anyio.sleep(self.grace)
        self.app.log.warning("grace is over: leaving steps unfinished")
        outer.cancel_scope.cancel()

    async def _reload(self, why: str) -> None:
        """Do all that can fail, then swap; on an error everything stays as it was."""
        async with self._reloading:
            await self._reload_now(why)

    async def _reload_now(self, why: str) -> None:
        app, old = self.app, self.app.plan_now
        try:
            settings = await anyio.to_thread.run_sync(self.load)
            if settings.state != old.settings.state:
                app.log.warning("a changed state needs a restart", state=old.settings.state)
                settings = settings.model_copy(update={"state": old.settings.state})
            plan = await anyio.to_thread.run_sync(app.plan, settings)
            await anyio.to_thread.run_sync(check_urls, plan)
            pollers, couriers = await app.reload(plan)
        except WatcherError as error:
            app.log.error("not reloaded: the old settings stay", why=why, error=str(error))
            return
        except Exception:
            app.log.exception("not reloaded: the old settings stay", why=why)
            return
        # From here on nothing can fail.
        self._loops.start_new(self._tasks, pollers, couriers)
        self._loops.wake_all()
        self._replaced.append((app.clock.monotonic(), old))
        app.log.info("reloaded", why=why)
        self._say(plan)
        # What the daemon says of itself is to be true at once, not at the next beat.
        with self._loops.guarded("beat"):
            await self._beat()

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
            "lateness": app.lateness(),
            "slowed": {name: round(poller.slowed, 2) for name, poller in app.pollers.items()},
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


def check_urls(plan: Plan) -> None:
    """Raise ConfigError for a channel whose URL is there and wrong; names channel and file.

    One that is missing disables its channel and nothing else.
    """
    for name, reason in plan.disabled.items():
        try:
            plan.settings.channels[name].url_secret()
        except ConfigError:
            continue
        named = reason if f'"{name}"' in reason else f'channel "{name}": {reason}'
        file = plan.settings.file
        raise ConfigError(f"{file}: {named}" if file else named)
