"""Registering and reading batches: the small interface behind the commands and `register`.

Local: it opens the state itself. It needs no key, no network and no event loop.
"""

from __future__ import annotations

import getpass
import logging
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from watcher.clock import Clock, SystemClock
from watcher.config import Settings, load, public_names
from watcher.directory import Directory, board_of_names, may_name_a_channel
from watcher.errors import NoSuchBatch, StoreError, UsageError
from watcher.model import Account, Batch, Channel
from watcher.providers.addresses import fits_one_segment
from watcher.routing import Switchboard
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
# The most of a name, a tag or a group, in characters.
LABEL_LENGTH = 200
# The most of a user's name: it comes from the environment, where anything may stand.
USER_LENGTH = 100


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

    def check(self) -> None:
        """Raise UsageError for what is no printable text of a sensible length."""
        given = (("name", self.name), ("group", self.group), *(("tag", t) for t in self.tags or ()))
        for what, text in given:
            if text is not None and (fault := _fault(what, text)):
                raise UsageError(fault)


def _fault(what: str, text: str) -> str | None:
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
            return board_of_names(published)
        return self.settings.switchboard()

    def instance(self) -> str:
        """Whose name events carry: the daemon's of this state, else ours."""
        names = self.read(lambda ledger: ledger.process.get("names")) if self.exists else {}
        return str(names.get("instance") or self.settings.instance)

    def resolve_all(
        self, texts: Sequence[str], account: str | None = None
    ) -> list[tuple[str, str]]:
        """The accounts and ids that are meant, of the living daemon's accounts or else our own.

        Raises UsageError naming what to choose from.
        """
        known: list[list[str]] = [[] for _ in texts]
        if self.exists and account is None:
            known = self.read(
                lambda ledger: [
                    [one.account for one in ledger.batches.of_id(text)] for text in texts
                ]
            )
        pairs = list(zip(texts, known, strict=True))
        directory = self.directory()
        try:
            return [directory.resolve(text, names, account) for text, names in pairs]
        except UsageError:
            own = Directory.of_names(public_names(self.settings))
            if not set(own.accounts) - set(directory.accounts):
                raise
            return [own.resolve(text, names, account) for text, names in pairs]

    def find(self, text: str) -> Batch:
        """A registered batch by key or id. Raises NoSuchBatch, or UsageError for several."""
        return self.find_all([text])[0]

    def find_all(self, texts: Sequence[str]) -> list[Batch]:
        """Registered batches by key or id, each once; raises as `find` does."""
        found = {}
        if self.exists:
            candidates = self.read(lambda ledger: [_candidates(ledger, text) for text in texts])
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
        known: list[list[str]] = [[] for _ in pairs]
        if self.exists and len(directory.accounts) > 1:
            known = self.read(
                lambda ledger: [
                    [] if account else [one.account for one in ledger.batches.of_id(text)]
                    for text, account in pairs
                ]
            )
        wanted: dict[tuple[str, str], Registering] = {}
        for (text, account), accounts in zip(pairs, known, strict=True):
            name, id_ = directory.resolve(text, accounts, account)
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


def _candidates(ledger: Ledger, text: str) -> list[Batch]:
    head, slash, rest = text.partition("/")
    if slash and (batch := ledger.batches.get(head, rest)):
        return [batch]
    return ledger.batches.of_id(text)


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

    Takes an id, any object with an `.id`, or one whose `.batch` has it, as Cohere's create call
    returns it; or a dict of that form, as JSON gives it. Durable when it returns. It never raises
    in a submit script: it logs the id and the `watcher add` line that mends it, and returns None;
    `strict=True` raises.
    """
    try:
        id_ = _id_of(batch_or_id)
    except Exception as error:
        if strict:
            raise
        logging.getLogger("watcher").error("a batch was not registered: %s", error)
        return None
    wish = Wish()
    try:
        wish = Wish(name=name, tags=_texts(tags), group=group, channels=_texts(channels))
        client = LocalClient(load())
        with client.opened(create=True):
            wanted = client.registering(
                [(id_, account)], wish, registered_by=user_name() or "python"
            )
            return client.register(wanted)[0].key
    except Exception as error:
        if strict:
            raise
        logging.getLogger("watcher").error(
            "batch %s was not registered: %s. %s",
            clean_line(id_, 480),
            error,
            _remedy(id_, account, wish, error),
        )
        return None


def _id_of(batch_or_id: object) -> str:
    if isinstance(batch_or_id, str):
        return batch_or_id
    for holder in (batch_or_id, _part(batch_or_id, "batch")):
        id_ = _part(holder, "id")
        if isinstance(id_, str):
            return id_
    kind = type(batch_or_id).__name__
    raise UsageError(f"register() takes an id or an object with an .id, not {kind}")


def _part(holder: object, name: str) -> object:
    """What an object, or a parsed JSON document, has under a name."""
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)


def _texts(given: Sequence[str] | None) -> tuple[str, ...] | None:
    # One text is a sequence of its letters, and nobody means that.
    return None if given is None else (given,) if isinstance(given, str) else tuple(given)


def _remedy(id_: str, account: str | None, wish: Wish, error: Exception) -> str:
    """What to do about a registration that failed; never a line that would fail the same way."""
    if not isinstance(error, UsageError):
        return f"Once that is put right: {_add_line(id_, account, _sound(wish, None))}"
    try:
        client = LocalClient(load())
        with client.opened(create=False):
            directory = client.directory()
            accounts = directory.accounts
            known, sound = account if account in accounts else None, _sound(wish, directory)
            head, slash, rest = id_.partition("/")
            if not fits_one_segment(rest if slash and head in accounts else id_):
                return "Correct the id, and register it again."
            try:
                client.registering([(id_, known)], sound, registered_by="")
            except UsageError:
                if len(accounts) > 1 and known is None:
                    choices = " or ".join(_add_line(id_, name, sound) for name in accounts)
                    return f"To mend it, whichever is meant: {choices}"
                return f"Once that is put right: {_add_line(id_, known, sound)}"
            return f"To mend it: {_add_line(id_, known, sound)}"
    except Exception:  # noqa: BLE001  a submit script is never ended by what was to help it
        return "See `watcher check`."


def _sound(wish: Wish, directory: Directory | None) -> Wish:
    """What of a wish can be granted; without a directory what could be."""

    def fitting(what: str, texts: Iterable[str | None]) -> tuple[str, ...]:
        return tuple(text for text in texts if text is not None and not _fault(what, text))

    known = None if directory is None else directory.channels
    channels = [name for name in wish.channels or () if known is None or name in known]
    return Wish(
        name=next(iter(fitting("name", [wish.name])), None),
        tags=fitting("tag", wish.tags or ()) or None,
        group=next(iter(fitting("group", [wish.group])), None),
        channels=tuple(filter(may_name_a_channel, channels)) or None,
    )


def _add_line(id_: str, account: str | None, wish: Wish) -> str:
    words = ["watcher", "add"]
    for option, values in (
        ("--account", (account,)),
        ("--name", (wish.name,)),
        ("--tag", wish.tags or ()),
        ("--group", (wish.group,)),
        ("--channel", wish.channels or ()),
    ):
        for value in values:
            words += [] if value is None else [option, clean_line(value, LABEL_LENGTH)]
    return shlex.join([*words, clean_line(id_, 480)])
