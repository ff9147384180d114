"""Registering and reading batches: the small interface behind the commands and `register`.

Local: it opens the state itself. It needs no key, no network and no event loop.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from watcher.clock import Clock, SystemClock
from watcher.config import Settings, public_names
from watcher.directory import Directory, board_of_names, check_forms
from watcher.errors import NoSuchBatch, StoreError, UsageError
from watcher.model import Account, Batch, Channel
from watcher.routing import Switchboard
from watcher.store import place
from watcher.store.batches import Registering
from watcher.store.codec import UNREADABLE
from watcher.store.ledger import Ledger
from watcher.store.lock import StateLock
from watcher.store.schema import open_state
from watcher.store.sqlite import SqliteDatabase
from watcher.text import clean_line
from watcher.version import __version__

Result = TypeVar("Result")
# A daemon says every five seconds that it lives.
BEAT_IS_FRESH = 30_000
# The most of a name, a tag or a group, in characters.
LABEL_LENGTH = 200
# The most of a user's name: it comes from the environment, where anything may stand.
USER_LENGTH = 100


@dataclass(frozen=True, slots=True)
class DaemonView:
    """What the daemon of a state last said of itself, and whether it lives."""

    alive: bool
    # It holds the lock, and has written nothing for too long: its disk may be full, or it hangs.
    silent: bool = False
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

    def check(self) -> None:
        """Raise UsageError for what is no printable text of a sensible length."""
        given = (("name", self.name), ("group", self.group), *(("tag", t) for t in self.tags or ()))
        for what, text in given:
            if text is not None and (wrong := fault(what, text)):
                raise UsageError(wrong)


def fault(what: str, text: str) -> str | None:
    """Why a text can be no name, tag or group; None if it can."""
    if not text.strip() or not text.isprintable():
        return f"{what} {clean_line(text, 60)!r}: give printable text"
    if len(text) > LABEL_LENGTH:
        return f"the {what} has more than {LABEL_LENGTH} characters"
    return None


class LocalClient:
    """The state on this machine."""

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self._database: SqliteDatabase | None = None

    @contextmanager
    def opened(self, *, create: bool) -> Iterator[LocalClient]:
        """Open the state for a while; without `create` one that is not there reads as empty."""
        if create or state_exists(self.settings.state):
            self._database = open_state(
                self.settings.state, program=__version__, change=False, must_exist=not create
            )
        else:
            place.refuse_leftovers(place.true_path(self.settings.state))
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
        if any(type(beat.get(name)) is not int for name in ("at", "since", "pid")):
            # Damaged, or there was none.
            beat = {}
        fresh = abs(self.clock.now() - beat.get("at", 0)) < BEAT_IS_FRESH
        held = not StateLock(self.settings.state).free
        runs = held and "at" in beat and "stopped_at" not in beat
        return DaemonView(alive=runs and fresh, silent=runs and not fresh, beat=beat)

    def directory(self) -> Directory:
        """Names of accounts and channels: the living daemon's, else our own, else its last."""
        own = public_names(self.settings)
        published = self._published()
        if published and (self.daemon().alive or not own["accounts"]):
            return Directory.of_names(published)
        return Directory.of_names(own)

    def board(self) -> Switchboard:
        """Who is told what: as the living daemon has it, else as our own configuration does."""
        published = self._published()
        if published and (self.daemon().alive or not self.settings.channels):
            return board_of_names(published)
        return self.settings.switchboard()

    def instance(self) -> str:
        """Whose name events carry: the daemon's of this state, else ours."""
        return str(self._published().get("instance") or self.settings.instance)

    def _published(self) -> dict[str, Any]:
        """The names that a daemon left in the state; none where they cannot be read."""
        names = self.read(lambda ledger: ledger.process.get("names")) if self.exists else {}
        try:
            Directory.of_names(names)
            board_of_names(names)
        except UNREADABLE:
            return {}
        return names

    def resolve_all(
        self, texts: Sequence[str], account: str | None = None
    ) -> list[tuple[str, str]]:
        """The accounts and ids that are meant, of the living daemon's accounts or else our own.

        Raises UsageError naming what to choose from.
        """
        known: dict[str, list[str]] = {}
        check_forms(texts)
        if self.exists and account is None:
            known = self.read(lambda ledger: ledger.batches.accounts_of(texts))
        directory = self.directory()
        try:
            return [directory.resolve(text, known.get(text, ()), account) for text in texts]
        except UsageError:
            own = Directory.of_names(public_names(self.settings))
            if not set(own.accounts) - set(directory.accounts):
                raise
            return [own.resolve(text, known.get(text, ()), account) for text in texts]

    def find(self, text: str) -> Batch:
        """A registered batch by key or id. Raises NoSuchBatch, or UsageError for several."""
        return self.find_all([text])[0]

    def find_all(self, texts: Sequence[str]) -> list[Batch]:
        """Registered batches by key or id, each once; raises as `find` does."""
        found = {}
        if self.exists:
            try:
                candidates = self.read(lambda ledger: _candidates(ledger, texts))
            except UNREADABLE as error:
                raise self._unreadable() from error
        else:
            candidates = [[] for _ in texts]
        for text, batches in zip(texts, candidates, strict=True):
            if not batches:
                raise NoSuchBatch(
                    f"no batch {clean_line(text, 80)} is registered: watcher add it first"
                )
            # What was removed elsewhere is not meant while the id is watched here.
            meant = [one for one in batches if one.removed_at is None] or batches
            if len(meant) > 1:
                keys = ", ".join(clean_line(one.key, 80) for one in meant)
                raise UsageError(f"several accounts have this id, say which is meant: {keys}")
            found[meant[0].key] = meant[0]
        return list(found.values())

    def registering(
        self, texts: Iterable[tuple[str, str | None]], wish: Wish, *, registered_by: str
    ) -> list[Registering]:
        """All that is to be registered, checked: nothing is written. Pairs of id and account."""
        directory, pairs = self.directory(), list(texts)
        wish.check()
        directory.check_channels(wish.channels or ())
        known: dict[str, list[str]] = {}
        check_forms(text for text, _ in pairs)
        if self.exists and len(directory.accounts) > 1:
            bare = [text for text, account in pairs if not account]
            known = self.read(lambda ledger: ledger.batches.accounts_of(bare))
        wanted: dict[tuple[str, str], Registering] = {}
        for text, account in pairs:
            name, id_ = directory.resolve(text, () if account else known.get(text, ()), account)
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

    def register(self, wanted: Sequence[Registering]) -> list[Batch]:
        """Register all in one transaction, durable when it returns."""
        now = self.clock.now()
        try:
            return self.write(lambda ledger: ledger.batches.register_all(wanted, now))
        except UNREADABLE as error:
            raise self._unreadable() from error

    def remove(self, batches: Sequence[Batch]) -> list[Batch]:
        """Stop watching these."""
        now = self.clock.now()
        return self.write(lambda ledger: ledger.remove(batches, now))

    def _unreadable(self) -> StoreError:
        why = "cannot be read: it was written by a later version or damaged"
        return StoreError(f"a batch in {self.settings.state} {why}")

    def subjects(self) -> tuple[list[Account], list[Channel]]:
        """What is remembered of every account and channel."""
        if not self.exists:
            return [], []
        return self.read(lambda ledger: (ledger.subjects.accounts(), ledger.subjects.channels()))


def _candidates(ledger: Ledger, texts: Sequence[str]) -> list[list[Batch]]:
    """For each text the batch of which it is the key, else those of which it is the id."""
    may_be = [text for text in texts if text.isprintable()]
    parts = [text.partition("/") for text in may_be]
    by_key = {
        batch.key: batch
        for batch in ledger.batches.of_keys([(head, rest) for head, slash, rest in parts if slash])
    }
    by_id = ledger.batches.by_id([text for text in may_be if text not in by_key])
    return [[by_key[text]] if text in by_key else by_id.get(text, []) for text in texts]


def state_exists(path: str) -> bool:
    """Whether there is a file. Raises StoreError where its directory is closed to us."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StoreError(
            f"cannot open the state {path}: {(error.strerror or 'not readable').lower()}; "
            "check its permissions or name another with --state"
        ) from error
    return True


def user_name() -> str | None:
    """Who runs this process, for `registered_by`: one printable line."""
    try:
        return clean_line(getpass.getuser(), USER_LENGTH) or None
    except (OSError, KeyError, ImportError):
        return None
