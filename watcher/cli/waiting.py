"""What `wait` does between its arguments and its exit code: watching, judging, showing.

With a live daemon it reads the daemon's state; without one it looks for itself, in memory, with
the daemon's own pollers, and leaves nothing behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from watcher.cli.output import note
from watcher.cli.progress import Progress
from watcher.errors import ConfigError, UsageError
from watcher.lifecycle import NEVER_FOUND, NEVER_FOUND_LOOKS
from watcher.model import Account, Batch, Event, Outcome, Status
from watcher.text import clean_line

if TYPE_CHECKING:
    from watcher.app import App
    from watcher.client import LocalClient
    from watcher.config import ChannelSettings, Settings
    from watcher.directory import Directory
    from watcher.store.ledger import Ledger

OK, CREDENTIAL, NO_SUCH_BATCH, UNREACHABLE, FAILED, TIMEOUT, PARTIAL = 0, 3, 4, 5, 6, 7, 8
FIRST_ANSWER_WITHIN = 60.0
READ_EVERY = 0.25
# What a message may take at the end before it is given up.
NOTIFY_WITHIN = 60.0
NOTIFY_CHANNEL = "notify"


@dataclass(frozen=True, slots=True)
class End:
    """How the waiting ended; `verdict` is None when the batches' own ends decide."""

    batches: Sequence[Batch]
    verdict: int | None = None
    notes: tuple[str, ...] = ()

    def code(self, *, allow_partial: bool) -> int:
        """The exit code."""
        if self.verdict is not None:
            return self.verdict
        ended = [batch for batch in self.batches if batch.ended]
        if any(has_failed(batch) for batch in ended):
            return FAILED
        if any(batch.outcome is Outcome.PARTIAL for batch in ended) and not allow_partial:
            return PARTIAL
        return OK


def has_failed(batch: Batch) -> bool:
    """Whether it ended without the results that were hoped for."""
    if batch.status in {Status.FAILED, Status.CANCELLED, Status.LOST}:
        return True
    if batch.status is Status.EXPIRED:
        return batch.outcome is not Outcome.PARTIAL and batch.outcome is not Outcome.OK
    return batch.outcome is Outcome.EMPTY


@dataclass(frozen=True, slots=True)
class View:
    """What is known at one moment of all that is waited for."""

    batches: Sequence[Batch]
    accounts: Mapping[str, Account]
    # Accounts that cannot be used, and why.
    disabled: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Waiting:
    """One call of `wait`."""

    settings: Settings
    directory: Directory
    keys: Sequence[tuple[str, str]]
    any_: bool = False
    fail_fast: bool = False
    seconds: float | None = None
    notify: str | None = None
    debug: bool = False
    progress: Progress = field(default_factory=Progress)
    _began: float = field(default_factory=time.monotonic)

    def judge(self, view: View, elapsed: float) -> End | None:
        """Whether the waiting is over, and how; None to go on."""
        batches = view.batches
        ended = [batch for batch in batches if batch.ended]
        if self.fail_fast and any(has_failed(batch) for batch in ended):
            return End(batches)
        if len(ended) == len(batches) or (self.any_ and ended):
            unfound = [batch.key for batch in ended if batch.reason == NEVER_FOUND]
            if unfound:
                return End(
                    batches, NO_SUCH_BATCH, tuple(f"{key}: {NEVER_FOUND}" for key in unfound)
                )
            return End(batches)
        for batch in batches:
            end = self._hopeless(view, batch, elapsed)
            if end is not None:
                return end
        if self.seconds is not None and elapsed >= self.seconds:
            left = len(batches) - len(ended)
            return End(batches, TIMEOUT, (f"timed out: {left} of {len(batches)} not ended",))
        return None

    def _hopeless(self, view: View, batch: Batch, elapsed: float) -> End | None:
        """Whether one batch can never be seen: wrong key, wrong id, no network."""
        if reason := view.disabled.get(batch.account):
            raise ConfigError(reason)
        account = view.accounts.get(batch.account)
        if account is not None and (account.refused or account.trouble == "unauthorized"):
            why = account.trouble_reason or batch.last_error or "refused"
            text = f"account {batch.account}: credential rejected: {why}"
            return End(view.batches, CREDENTIAL, (text,))
        if batch.status is None and batch.missing_looks >= NEVER_FOUND_LOOKS:
            return End(view.batches, NO_SUCH_BATCH, (f"{batch.key}: {NEVER_FOUND}",))
        silent = account is not None and account.silent_since is not None
        if batch.status is None and silent and elapsed >= FIRST_ANSWER_WITHIN:
            text = f"account {batch.account}: no answer within 60 s: {batch.last_error}"
            return End(view.batches, UNREACHABLE, (text,))
        return None

    def _watch(self, look: Callable[[], View]) -> Callable[[], End | None]:
        """A function that looks once, shows what it sees, and judges."""

        def step() -> End | None:
            view = look()
            self.progress.show(view.batches)
            return self.judge(view, time.monotonic() - self._began)

        return step

    # With a daemon

    def by_daemon(self) -> End:
        """Register what is new with the daemon's state, and read what it sees."""
        from watcher.client import LocalClient

        client = LocalClient(self.settings)
        with client.opened(create=True):
            url = self._register(client)
            step = self._watch(lambda: self._daemons_view(client))
            while (end := step()) is None:
                time.sleep(READ_EVERY)
                if not client.daemon().alive:
                    note("the daemon is gone; going on without it")
                    return self.alone()
            if url is not None:
                import anyio

                end = replace(end, notes=(*end.notes, *anyio.run(self._tell_ends, client, url)))
            return end

    def _register(self, client: LocalClient) -> str | None:
        """Register ids the state does not watch; returns a URL that is to be told at the end."""
        from watcher.client import Wish, user_name

        notify, url = self.notify, None
        if notify is not None and "://" in notify:
            notify, url = None, notify
        if notify is not None:
            client.directory().check_channels([notify])
        for account, id_ in self.keys:
            known = _known(client, account, id_)
            watched = known is not None and known.removed_at is None
            channels = None
            if notify is not None:
                before = known.registration.channels if known is not None and watched else ()
                channels = tuple(dict.fromkeys([*before, notify]))
            if not watched or channels is not None:
                by = user_name() or "command line"
                wish = Wish(channels=channels)
                client.register(client.registering([(id_, account)], wish, registered_by=by))
        return url

    def _daemons_view(self, client: LocalClient) -> View:
        def work(ledger: Ledger) -> list[Batch | None]:
            return [ledger.batches.get(account, id_) for account, id_ in self.keys]

        batches = [batch for batch in client.read(work) if batch is not None]
        accounts = {one.name: one for one in client.subjects()[0]}
        return View(batches, accounts, client.daemon().beat.get("disabled_accounts", {}))

    async def _tell_ends(self, client: LocalClient, url: str) -> list[str]:
        """Tell a URL of our own what became of the batches; returns what went wrong."""

        def work(ledger: Ledger) -> list[Event]:
            events = []
            for account, id_ in self.keys:
                last = ledger.events.of_subject(f"{account}/{id_}")[-1:]
                events += [event for event, _ in last if event.batch and event.batch.ended]
            return events

        events = client.read(work)
        if not events:
            return []
        return await _send_once(self._own_channel(url), self.settings, events)

    def _own_channel(self, url: str) -> ChannelSettings:
        from pydantic import SecretStr

        from watcher.config import ChannelSettings

        return ChannelSettings(url=SecretStr(url), digest_wait=1_000)

    # Without one

    def alone(self) -> End:
        """Look for ourselves, in memory."""
        import anyio

        return anyio.run(self._alone)

    async def _alone(self) -> End:
        import anyio
        import anyio.to_thread

        from watcher.app import App
        from watcher.clock import SystemClock
        from watcher.daemon import Loops
        from watcher.log import configure, get
        from watcher.redaction import Redactor
        from watcher.store.schema import open_state
        from watcher.store.sqlite import MEMORY
        from watcher.version import __version__

        settings, redactor = self._settings_of_our_own(), Redactor()
        if self.debug:
            configure(debug=True, json=None, redactor=redactor)
        database = open_state(MEMORY, program=__version__, change=True)
        app = App(database, SystemClock(), get("wait"), redactor)
        plan = await anyio.to_thread.run_sync(app.plan, settings)
        for name, reason in plan.disabled.items():
            raise ConfigError(reason if name != NOTIFY_CHANNEL else f"--notify: {reason}")
        try:
            await app.begin(plan, spread=False)
            await app.write(self._register_in_memory)
            view = View([], {})

            async def look() -> View:
                batches = await app.write(
                    lambda ledger: [ledger.batches.get(name, id_) for name, id_ in self.keys]
                )
                return View(
                    [batch for batch in batches if batch is not None],
                    {name: poller.account for name, poller in app.pollers.items()},
                    {
                        name: poller.disabled
                        for name, poller in app.pollers.items()
                        if poller.disabled is not None
                    },
                )

            step = self._watch(lambda: view)
            loops = Loops(app)
            async with anyio.create_task_group() as tasks:
                loops.start(tasks)
                tasks.start_soon(loops.every, 5.0, "leases", lambda: _renew(app))
                view = await look()
                while (end := step()) is None:
                    await anyio.sleep(READ_EVERY)
                    view = await look()
                loops.stop()
                # A request under way is of no use to anybody any more.
                tasks.cancel_scope.cancel()
            return replace(end, notes=(*end.notes, *await self._flush(app)))
        finally:
            with anyio.CancelScope(shield=True):
                await app.close()
            database.close()

    def _settings_of_our_own(self) -> Settings:
        """Only the accounts that are asked, and only the channel that was named."""
        settings = self.settings
        wanted = {account for account, _ in self.keys}
        missing = wanted - set(settings.accounts)
        if missing:
            name = min(missing)
            message = (
                f"no daemon runs, and account {name} is not configured here: its key is needed"
            )
            raise ConfigError(message)
        channels: dict[str, ChannelSettings] = {}
        if self.notify is not None and "://" in self.notify:
            channels[NOTIFY_CHANNEL] = self._own_channel(self.notify)
        elif self.notify is not None:
            if self.notify not in settings.channels:
                there = ", ".join(settings.channels) or "none"
                shown = clean_line(self.notify, 60)
                raise UsageError(f"--notify: no channel is called {shown!r}: there is {there}")
            channels[self.notify] = settings.channels[self.notify]
        accounts = {name: one for name, one in settings.accounts.items() if name in wanted}
        changes = {"accounts": accounts, "channels": channels, "routes": (), "batches": ()}
        return settings.model_copy(update={**changes, "operators": None})

    def _register_in_memory(self, ledger: Ledger) -> None:
        from watcher.store.batches import Registering

        now = time.time_ns() // 1_000_000
        for account, id_ in self.keys:
            provider = self.settings.accounts[account].provider
            ledger.batches.register(Registering(account, id_, provider), now)

    async def _flush(self, app: App) -> list[str]:
        """Send what is still to be told; returns what could not be."""
        import anyio

        for courier in app.couriers.values():
            with anyio.move_on_after(NOTIFY_WITHIN):
                while await courier.once(app.clock.now(), flush=True):
                    pass
        left = await app.write(lambda ledger: ledger.outbox.pending_by_channel())
        channels = await app.write(lambda ledger: ledger.subjects.channels())
        errors = {channel.name: channel.last_error for channel in channels}
        return [f"not told: {errors.get(name) or 'no answer in time'}" for name in left]


def _known(client: LocalClient, account: str, id_: str) -> Batch | None:
    return client.read(lambda ledger: ledger.batches.get(account, id_))


async def _renew(app: App) -> None:
    now = app.clock.now()
    await app.write(lambda ledger: app.keep_alive(ledger, now))


async def _send_once(
    channel: ChannelSettings, settings: Settings, events: Sequence[Event]
) -> list[str]:
    import anyio

    from watcher.app import open_notifier
    from watcher.clock import SystemClock
    from watcher.message import render
    from watcher.model import TryOutcome
    from watcher.redaction import Redactor

    own = settings.model_copy(update={"channels": {NOTIFY_CHANNEL: channel}})
    notifier = open_notifier(own, NOTIFY_CHANNEL, Redactor(), SystemClock())
    try:
        rendered = render(
            events,
            notifier.style,
            instance=settings.instance,
            zone=settings.zone,
            waiting=len(events),
        )
        with anyio.move_on_after(NOTIFY_WITHIN):
            sent = await notifier.send(rendered.message)
            return [] if sent.outcome is TryOutcome.DELIVERED else [f"not told: {sent.error}"]
        return ["not told: no answer in time"]
    finally:
        notifier.close()
