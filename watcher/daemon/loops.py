"""The loops: step functions called again and again until they are told to stop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import TaskGroup

from watcher.app import App
from watcher.courier import ChannelCourier
from watcher.errors import StateDamaged, StateLost, StoreError
from watcher.message import notice
from watcher.model import Message, Severity, TryOutcome
from watcher.notify import Notifier
from watcher.poller import AccountPoller
from watcher.wake import Wake

# The command line's writes are noticed within a second.
NOTICE_EVERY = 0.5
TIDY_EVERY = 60.0
LEASE_EVERY = 5.0
DISCOVER_EVERY = 60.0
# After an error that no loop foresees: long enough that it cannot become a storm.
UNFORESEEN_WAIT = 30.0
# A loop that has not turned for this long is stuck: it wakes by itself once a minute.
STUCK_AFTER = 180.0
# A state that fails for this long is told to the operators directly, at most once an hour.
STORE_TROUBLE_TOLD_AFTER = 60.0
STORE_TROUBLE_TOLD_EVERY = 3600.0
# What is told past the outbox may hold up the end of the process for so long.
LAST_WORD_WITHIN = 20.0


@dataclass(slots=True)
class Loops:
    """The loops of an app: one per account, one per channel, and a few that keep house."""

    app: App
    stopping: bool = False
    turned: dict[str, float] = field(default_factory=dict)
    _store_failing_since: float | None = None
    _store_trouble_told_at: float | None = None
    # Why the process must end: the state's file is no longer ours, or no longer sound.
    lost: StateLost | StateDamaged | None = None
    _tasks: TaskGroup | None = None
    _stopped: anyio.Event = field(default_factory=anyio.Event)
    # What wakes each loop that runs, those a reload has taken away included.
    _wakes: set[Wake] = field(default_factory=set)

    def start(self, tasks: TaskGroup) -> None:
        """Start a loop for every poller and courier of the app, and the house-keeping."""
        self._tasks = tasks
        self.start_new(tasks, list(self.app.pollers.values()), list(self.app.couriers.values()))
        tasks.start_soon(self.every, NOTICE_EVERY, "notice", self._notice)
        tasks.start_soon(self.every, TIDY_EVERY, "tidy", self.app.tidy)
        tasks.start_soon(self.every, LEASE_EVERY, "leases", self.renew)
        tasks.start_soon(self.every, DISCOVER_EVERY, "discovery", self.app.discover)

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
        self.wake_all()

    async def stopped(self) -> None:
        """Wait until the loops are to stop, whatever the reason."""
        await self._stopped.wait()

    def wake_all(self) -> None:
        """Let every loop see what has changed."""
        for wake in self._wakes:
            wake.set()

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
        self._wakes.add(poller.wake)
        # Looks under way are let finish when the loop ends.
        async with anyio.create_task_group() as looks:
            while self._goes_on(f"account:{name}", self.app.pollers.get(name) is poller):
                wait = UNFORESEEN_WAIT
                with self.guarded(f"account:{name}"):
                    wait = 1.0
                    await poller.once(self.app.clock.now(), looks)
                    wait = await poller.next_wait()
                if not self.stopping:
                    await poller.wake.wait(max(wait, 0.002))
        self._wakes.discard(poller.wake)
        self._forget(f"account:{name}", still_there=name in self.app.pollers)

    async def _tell(self, courier: ChannelCourier) -> None:
        name = courier.telling.name
        self._wakes.add(courier.wake)
        while self._goes_on(f"channel:{name}", self.app.couriers.get(name) is courier):
            wait = 1.0
            with self.guarded(f"channel:{name}"):
                told = await courier.once(self.app.clock.now())
                wait = 0.0 if told else courier.next_wait()
            while not self.stopping and not await courier.wake.wait(max(wait, 0.002)):
                # Nudged: what was to be done soon is still to be.
                wait = min(wait, courier.next_wait())
        self._wakes.discard(courier.wake)
        self._forget(f"channel:{name}", still_there=name in self.app.couriers)

    def _forget(self, name: str, *, still_there: bool) -> None:
        # Another loop may have taken the name over.
        if not still_there:
            self.turned.pop(name, None)

    def _goes_on(self, name: str, wanted: bool) -> bool:  # noqa: FBT001
        self.turned[name] = self.app.clock.monotonic()
        return wanted and not self.stopping

    async def every(self, seconds: float, name: str, work: Callable[[], Awaitable[Any]]) -> None:
        """Do something again and again until the loops stop."""
        while not self.stopping:
            self.turned[name] = self.app.clock.monotonic()
            with self.guarded(name):
                await work()
            with anyio.move_on_after(seconds):
                await self._stopped.wait()

    async def renew(self) -> None:
        """Keep the leases: without them nothing is claimed."""
        app, now = self.app, self.app.clock.now()
        await app.write(lambda ledger: app.keep_alive(ledger, now))
        # Only a write shows that the state takes what is written.
        self._store_failing_since = None

    async def _notice(self) -> None:
        if self.app.notice_jump():
            # Leases may have run out by the new time, and waits end at other moments.
            try:
                await self.renew()
            finally:
                self.app.wake_all()
        if await self.app.database.changed_elsewhere():
            self.app.wake_all()

    @contextmanager
    def guarded(self, name: str) -> Iterator[None]:
        """The guard around one turn of a loop: one that ends would be missed by nobody."""
        try:
            yield
        except (StateLost, StateDamaged) as error:
            self._end_with(error)
        except StoreError as error:
            self._store_trouble(error)
        except Exception:
            self.app.log.exception("loop failed", loop=name)

    def _end_with(self, error: StateLost | StateDamaged) -> None:
        """Waiting cannot help: the operators are told past the outbox, and the process ends."""
        if self.lost is not None:
            return
        self.lost = error
        self.app.log.critical("state lost", error=str(error))
        remedy = "until this is put right and the watcher is started again"
        self._tell_operators(f"Nothing is watched or told {remedy}: {error}")
        self.stop()

    def _store_trouble(self, error: StoreError) -> None:
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
        self._tell_operators(f"Nothing is recorded or told meanwhile, and nothing is lost: {error}")

    def _tell_operators(self, text: str) -> None:
        """Send a line through the channels of trouble, past the outbox."""
        app = self.app
        heading = f"WATCHER on {app.plan_now.settings.instance}: state trouble"
        for name in app.plan_now.board.told_of_trouble:
            courier = app.couriers.get(name)
            if courier is not None and self._tasks is not None:
                # A task each: a channel that hangs must not hold up the others, nor a loop.
                notifier = courier.telling.notifier
                message = notice(heading, text, Severity.FAILURE, notifier.style)
                self._tasks.start_soon(self._send, name, notifier, message)

    async def _send(self, name: str, notifier: Notifier, message: Message) -> None:
        """Send in bounded time: the process may be waiting for this to end. Never raises."""
        error: str | None = f"no answer within {LAST_WORD_WITHIN:g} s"
        try:
            with anyio.move_on_after(LAST_WORD_WITHIN):
                sent = await notifier.send(message)
                error = None if sent.outcome is TryOutcome.DELIVERED else sent.error
        except Exception:
            self.app.log.exception("operators not told", channel=name)
            return
        if error is not None:
            self.app.log.error("operators not told", channel=name, error=error)
