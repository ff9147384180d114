"""Registering and reading batches: the small interface behind the commands and `register`.

Local: it opens the state itself. It needs no key, no network and no event loop.
"""

from __future__ import annotations

import getpass
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from watcher.clock import Clock, SystemClock
from watcher.config import Settings, load, public_names
from watcher.directory import Directory
from watcher.errors import NoSuchBatch, WatcherError
from watcher.model import Account, Batch, Channel, Outcome, Severity
from watcher.routing import Route, Switchboard
from watcher.store.batches import Registering
from watcher.store.ledger import Ledger
from watcher.store.lock import StateLock
from watcher.store.schema import open_state
from watcher.store.sqlite import SqliteDatabase
from watcher.text import clean_line
from watcher.version import __version__

Result = TypeVar("Result")
# A daemon says every five seconds that it lives.
BEAT_IS_FRESH = 30_000


@dataclass(frozen=True, slots=True)
class DaemonView:
    """What the daemon of a state last said of itself, and whether it lives."""

    alive: bool
    beat: dict[str, Any] = field(default_factory=dict)

    @property
    def pid(self) -> int | None:
        """Its process id."""
        return self.beat.get("pid")


@dataclass(frozen=True, slots=True)
class Wish:
    """What `add` was asked for; None leaves what was said before."""

    name: str | None = None
    tags: tuple[str, ...] | None = None
    group: str | None = None
    channels: tuple[str, ...] | None = None
    quiet_if_ended: bool | None = None


class LocalClient:
    """The state on this machine."""

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self._database: SqliteDatabase | None = None

    @contextmanager
    def opened(self, *, create: bool) -> Iterator[LocalClient]:
        """Open the state for a while; without `create` one that is not there reads as empty."""
        if create or Path(self.settings.state).exists():
            self._database = open_state(self.settings.state, program=__version__, change=False)
        try:
            yield self
        finally:
            if self._database is not None:
                self._database.close()
                self._database = None

    @property
    def exists(self) -> bool:
        """Whether there is a state."""
        return self._database is not None

    @property
    def database(self) -> SqliteDatabase:
        """The state's database, while it is open."""
        if self._database is None:
            message = f"there is no state at {self.settings.state} yet: register a batch first"
            raise NoSuchBatch(message)
        return self._database

    def read(self, work: Callable[[Ledger], Result]) -> Result:
        """Run a function of the ledger that only reads."""
        return self.database.read(lambda transaction: work(Ledger(transaction)))

    def write(self, work: Callable[[Ledger], Result]) -> Result:
        """Run a function of the ledger as one durable transaction."""
        return self.database.transact(lambda transaction: work(Ledger(transaction)))

    def daemon(self) -> DaemonView:
        """The daemon of this state: alive when it holds the lock and has beaten lately."""
        if not self.exists:
            return DaemonView(alive=False)
        beat = self.read(lambda ledger: ledger.process.get("daemon"))
        fresh = abs(self.clock.now() - int(beat.get("at", 0))) < BEAT_IS_FRESH
        held = not StateLock(self.settings.state).free
        return DaemonView(alive=held and fresh and "stopped_at" not in beat, beat=beat)

    def directory(self) -> Directory:
        """Names of accounts and channels: the living daemon's, else our own, else its last."""
        own = public_names(self.settings)
        published = self.read(lambda ledger: ledger.process.get("names")) if self.exists else {}
        if published and (self.daemon().alive or not own["accounts"]):
            return Directory.of_names(published)
        return Directory.of_names(own)

    def board(self) -> Switchboard:
        """Who is told what: as the living daemon has it, else as our own configuration does."""
        published = self.read(lambda ledger: ledger.process.get("names")) if self.exists else {}
        if published and (self.daemon().alive or not self.settings.channels):
            return _board_of(published)
        return self.settings.switchboard()

    def instance(self) -> str:
        """Whose name events carry: the daemon's of this state, else ours."""
        names = self.read(lambda ledger: ledger.process.get("names")) if self.exists else {}
        return str(names.get("instance") or self.settings.instance)

    def resolve(self, text: str, account: str | None = None) -> tuple[str, str]:
        """The account and id that are meant. Raises UsageError naming what to choose from."""
        known: list[str] = []
        if self.exists:
            known = [one.account for one in self.read(lambda ledger: ledger.batches.of_id(text))]
        return self.directory().resolve(text, known, account)

    def find(self, text: str) -> Batch:
        """A registered batch by key or id. Raises NoSuchBatch, or UsageError for several."""
        batch = self._find(text)
        if batch is None:
            raise NoSuchBatch(
                f"no batch {clean_line(text, 80)} is registered: watcher add it first"
            )
        return batch

    def _find(self, text: str) -> Batch | None:
        if not self.exists:
            return None
        head, slash, rest = text.partition("/")
        if slash and (batch := self.read(lambda ledger: ledger.batches.get(head, rest))):
            return batch
        found = self.read(lambda ledger: ledger.batches.of_id(text))
        if len(found) == 1:
            return found[0]
        if not found:
            return None
        account, id_ = self.directory().resolve(text, [one.account for one in found])
        return self.read(lambda ledger: ledger.batches.get(account, id_))

    def registering(
        self, texts: Iterable[tuple[str, str | None]], wish: Wish, *, registered_by: str
    ) -> list[Registering]:
        """All that is to be registered, checked: nothing is written. Pairs of id and account."""
        directory = self.directory()
        directory.check_channels(wish.channels or ())
        wanted: dict[tuple[str, str], Registering] = {}
        for text, account in texts:
            known: list[str] = []
            if self.exists and account is None and len(directory.accounts) > 1:
                known = self._accounts_with(text)
            name, id_ = directory.resolve(text, known, account)
            wanted[name, id_] = Registering(
                name,
                id_,
                directory.accounts.get(name, ""),
                name=wish.name,
                tags=wish.tags,
                group=wish.group,
                channels=wish.channels,
                registered_by=registered_by,
                quiet_if_ended=wish.quiet_if_ended,
            )
        return list(wanted.values())

    def _accounts_with(self, text: str) -> list[str]:
        return [one.account for one in self.read(lambda ledger: ledger.batches.of_id(text))]

    def register(self, wanted: Sequence[Registering]) -> list[Batch]:
        """Register all in one transaction, durable when it returns."""
        now = self.clock.now()

        def work(ledger: Ledger) -> list[Batch]:
            registered = (ledger.batches.register(one, now) for one in wanted)
            return [batch for batch in registered if batch is not None]

        return self.write(work)

    def remove(self, batches: Sequence[Batch]) -> list[Batch]:
        """Stop watching these."""
        now = self.clock.now()
        return self.write(lambda ledger: ledger.remove(batches, now))

    def subjects(self) -> tuple[list[Account], list[Channel]]:
        """What is remembered of every account and channel."""
        if not self.exists:
            return [], []
        return self.read(lambda ledger: (ledger.subjects.accounts(), ledger.subjects.channels()))


def _board_of(names: dict[str, Any]) -> Switchboard:
    """The switchboard a daemon wrote to the state."""
    routes = []
    for route in names.get("routes", ()):
        conditions = {
            key: tuple(route.get(key, ()))
            for key in ("channels", "events", "accounts", "tags", "groups")
        }
        severity = route.get("severity")
        routes.append(
            Route(
                name=str(route["name"]),
                severity=None if severity is None else Severity(severity),
                outcomes=tuple(Outcome(outcome) for outcome in route.get("outcomes", ())),
                metadata=dict(route.get("metadata", {})),
                **conditions,
            )
        )
    operators = names.get("operators")
    return Switchboard(
        tuple(names.get("channels", ())),
        tuple(routes),
        None if operators is None else tuple(operators),
    )


def user_name() -> str | None:
    """Who runs this process, for `registered_by`."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return None


def register(
    batch_or_id: object,
    *,
    account: str | None = None,
    name: str | None = None,
    tags: Sequence[str] | None = None,
    group: str | None = None,
    channels: Sequence[str] | None = None,
    strict: bool = False,
) -> str | None:
    """Register a batch from the script that submitted it; returns its key.

    Takes an id, or any object with an `.id`. Durable when it returns. It never raises in a submit
    script: it logs the id and the `watcher add` line that mends it, and returns None;
    `strict=True` raises.
    """
    id_ = getattr(batch_or_id, "id", batch_or_id)
    try:
        if not isinstance(id_, str):
            message = f"register() takes an id or an object with an .id, not {type(id_).__name__}"
            raise WatcherError(message)
        wish = Wish(
            name=name,
            tags=None if tags is None else tuple(tags),
            group=group,
            channels=None if channels is None else tuple(channels),
        )
        client = LocalClient(load())
        with client.opened(create=True):
            wanted = client.registering(
                [(id_, account)], wish, registered_by=user_name() or "python"
            )
            return client.register(wanted)[0].key
    except Exception as error:
        if strict:
            raise
        _say_how_to_mend(id_, account, error)
        return None


def _say_how_to_mend(id_: object, account: str | None, error: Exception) -> None:
    shown = clean_line(str(id_), 480)
    option = f" --account {account}" if account else ""
    logging.getLogger("watcher").error(
        "batch %s was not registered: %s. To mend it: watcher add%s %s",
        shown,
        error,
        option,
        shown,
    )
