"""The schema, as steps from nothing to the newest; only `run` takes them on an existing state.

The SQL is what SQLite and Postgres share. Times are milliseconds, UTC.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from watcher.errors import StoreError, WrongSchema
from watcher.store import place
from watcher.store.database import Transaction
from watcher.store.sqlite import MEMORY, SqliteDatabase, contents_after, explained

STEP_1 = """
CREATE TABLE counters (name TEXT PRIMARY KEY, value BIGINT NOT NULL);
CREATE TABLE batches (
  account TEXT NOT NULL,
  id TEXT NOT NULL,
  provider TEXT NOT NULL,
  revision BIGINT NOT NULL,
  edition BIGINT NOT NULL,
  due_at BIGINT,
  status TEXT,
  end_seen_at BIGINT,
  removed_at BIGINT,
  pruned_at BIGINT,
  group_name TEXT,
  registered_at BIGINT NOT NULL,
  registration TEXT NOT NULL,
  state TEXT NOT NULL,
  PRIMARY KEY (account, id)
);
CREATE INDEX batches_due ON batches (account, due_at)
  WHERE due_at IS NOT NULL AND removed_at IS NULL;
CREATE INDEX batches_id ON batches (id);
CREATE INDEX batches_open ON batches (registered_at)
  WHERE end_seen_at IS NULL AND removed_at IS NULL AND pruned_at IS NULL;
CREATE INDEX batches_end ON batches (end_seen_at) WHERE end_seen_at IS NOT NULL;
CREATE TABLE accounts (name TEXT PRIMARY KEY, revision BIGINT NOT NULL, state TEXT NOT NULL);
CREATE TABLE channels (name TEXT PRIMARY KEY, revision BIGINT NOT NULL, state TEXT NOT NULL);
CREATE TABLE events (
  seq BIGINT PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  subject TEXT NOT NULL,
  type TEXT NOT NULL,
  severity TEXT NOT NULL,
  detected_at BIGINT NOT NULL,
  document TEXT NOT NULL,
  choices TEXT NOT NULL
);
CREATE INDEX events_subject ON events (subject, seq);
CREATE INDEX events_detected ON events (detected_at);
CREATE TABLE deliveries (
  seq BIGINT NOT NULL REFERENCES events (seq),
  channel TEXT NOT NULL,
  state TEXT NOT NULL,
  reason TEXT,
  due_at BIGINT NOT NULL,
  attempts BIGINT NOT NULL,
  alone BIGINT NOT NULL,
  first_try_uptime BIGINT,
  settled_at BIGINT,
  PRIMARY KEY (seq, channel)
);
CREATE INDEX deliveries_pending ON deliveries (channel, seq) WHERE state = 'pending';
CREATE INDEX deliveries_dead ON deliveries (seq) WHERE state = 'dead';
CREATE TABLE tries (
  seq BIGINT NOT NULL,
  channel TEXT NOT NULL,
  attempt BIGINT NOT NULL,
  at BIGINT NOT NULL,
  outcome TEXT NOT NULL,
  error TEXT,
  PRIMARY KEY (seq, channel, attempt)
);
CREATE TABLE leases (name TEXT PRIMARY KEY, holder TEXT NOT NULL, until BIGINT NOT NULL);
"""

# Where a batch stands in its account's list: by when the provider made it, or, until that is
# known, by when it was registered. What is due is found apart from what was never seen: a hundred
# thousand of those, registered at once, must not stand in the way of the others.
STEP_2 = """
ALTER TABLE batches ADD COLUMN listed_at BIGINT;
ALTER TABLE batches ADD COLUMN looked_at BIGINT;
UPDATE batches SET listed_at = registered_at;
DROP INDEX batches_due;
CREATE INDEX batches_due_seen ON batches (account, due_at)
  WHERE due_at IS NOT NULL AND removed_at IS NULL AND status IS NOT NULL;
CREATE INDEX batches_due_unseen ON batches (account, due_at)
  WHERE due_at IS NOT NULL AND removed_at IS NULL AND status IS NULL;
CREATE INDEX batches_unseen ON batches (account, registered_at)
  WHERE due_at IS NOT NULL AND removed_at IS NULL AND status IS NULL;
CREATE INDEX batches_listed ON batches (account, listed_at, id)
  WHERE pruned_at IS NULL AND status IS NOT NULL;
"""


def _place(transaction: Transaction) -> None:
    """Give what was seen before its place, by the time that stands in its state."""
    rows = transaction.execute("SELECT account, id, state FROM batches WHERE status IS NOT NULL")
    places = []
    for account, id_, state in rows:
        with suppress(ValueError, AttributeError):
            # What cannot be read is for whoever reads the whole row to tell.
            at = json.loads(str(state)).get("created_at")
            if isinstance(at, int):
                places.append((at, account, id_))
    transaction.execute_many(
        "UPDATE batches SET listed_at = $1 WHERE account = $2 AND id = $3", places
    )


STEPS = (STEP_1, STEP_2)
# What SQL cannot do, after the step of this number.
FOLLOWED_BY = {2: _place}
NEWEST = len(STEPS)
META = "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)"


def version_in_use(transaction: Transaction) -> int:
    """The version of the schema that a database has, 0 if none was taken up."""
    rows = transaction.execute("SELECT value FROM meta WHERE name = 'schema'")
    return int(rows[0][0]) if rows else 0


def step_up(*, since: int, to: int, program: str) -> Callable[[Transaction], None]:
    """The transaction that takes a state from one version to another."""

    def work(transaction: Transaction) -> None:
        transaction.execute(META)
        version = version_in_use(transaction)
        if version == to:
            # Another process was quicker.
            return
        if version != since:
            message = "the state's schema was changed by another process meanwhile; try again"
            raise StoreError(message)
        for number, step in enumerate(STEPS[since:to], since + 1):
            for statement in step.split(";\n"):
                if statement.strip():
                    transaction.execute(statement)
            if number in FOLLOWED_BY:
                FOLLOWED_BY[number](transaction)
        for name, value in (("schema", str(to)), ("written_by", program)):
            transaction.execute(
                "INSERT INTO meta (name, value) VALUES ($1, $2) "
                "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (name, value),
            )

    return work


def open_state(
    path: str,
    *,
    program: str,
    change: bool,
    must_exist: bool = False,
    vfs: str | None = None,
) -> SqliteDatabase:
    """Open a state whose schema is ours; one that is not there is made whole by who comes first.

    `change`: only the daemon may take an older one up, and keeps a copy beside it first; it also
    looks the file through for damage. Raises WrongSchema naming both versions, and StoreError for
    whatever else lies at the path: nothing that exists is ever begun anew.
    """
    if path == MEMORY:
        database = SqliteDatabase(path)
        database.transact(step_up(since=0, to=NEWEST, program=program))
        return database
    path = place.settled(path)
    with explained(path):
        _see_to_file(path, program, must_exist=must_exist)
    database = SqliteDatabase(
        path, examine=partial(_examine, path=path, program=program, change=change), vfs=vfs
    )
    try:
        if change:
            database.refuse_damage()
            _bring_up(database, path, program)
    except BaseException:
        database.close()
        raise
    return database


def _see_to_file(path: str, program: str, *, must_exist: bool) -> None:
    """Make the file of a new state; refuse what can be none."""
    file = Path(path)
    if file.is_dir():
        raise StoreError(f"{path} is a directory; name a file with --state")
    if not file.exists():
        if must_exist:
            raise StoreError(f"there is no state at {path}")
        place.refuse_leftovers(path)
        place.make_folder(file.parent)
        place.put(path, contents_after(step_up(since=0, to=NEWEST, program=program)))
    place.refuse_empty(path)


def _examine(work: Transaction, *, path: str, program: str, change: bool) -> None:
    """Raise for what is no state, or one that this program may not use."""
    rows = work.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    names = {str(name) for (name,) in rows}
    columns = [column[1] for column in work.execute("PRAGMA table_info(meta)")]
    meta: dict[str, str] = {}
    if columns == ["name", "value"]:
        rows = work.execute("SELECT name, value FROM meta")
        meta = {str(name): str(value) for name, value in rows}
    said = meta.get("schema", "")
    if not said.isdecimal() or said == "0" or names == {"meta"}:
        raise StoreError(f"{path} is a database of another program; name another file with --state")
    version = int(said)
    if version > NEWEST or (version < NEWEST and not change):
        raise WrongSchema(_differs(path, version, meta.get("written_by"), program))


def _bring_up(database: SqliteDatabase, path: str, program: str) -> None:
    version = database.read(version_in_use)
    if version < NEWEST:
        keep_copy(database, path, version)
        database.transact(step_up(since=version, to=NEWEST, program=program))


def keep_copy(database: SqliteDatabase, path: str, version: int) -> Path:
    """A copy of the state as it was before its schema changes, beside it."""
    for number in itertools.count():
        copy = Path(f"{path}.schema-{version}" + (f".{number}" if number else ""))
        if copy.exists():
            continue
        try:
            database.backup(str(copy))
        except StoreError:
            # Another process may have taken the name meanwhile.
            if not copy.exists():
                raise
        else:
            return copy
    raise AssertionError


def _differs(path: str, version: int, written_by: str | None, program: str) -> str:
    remedy = (
        "use that version or a newer one"
        if version > NEWEST
        else "start `watcher run` once to bring it up to date"
    )
    return (
        f"the state {path} has schema {version}, written by watcher {written_by or 'unknown'}; "
        f"this is watcher {program} with schema {NEWEST}: {remedy}"
    )
