"""Which states are opened, which are refused and in what words, and what a change keeps."""

from __future__ import annotations

import sqlite3
import threading
from functools import partial
from pathlib import Path

import pytest

from tests.builders import create_tables, event, tell
from tests.store.cuts import contents
from tests.store.databases import empty_file
from watcher.errors import StoreError, WrongSchema
from watcher.store import schema
from watcher.store.database import Row, Transaction
from watcher.store.ledger import Ledger
from watcher.store.schema import NEWEST, STEPS, open_state, step_up, version_in_use
from watcher.store.sqlite import MEMORY, SqliteDatabase

# The copy that is kept of a state before it is brought up.
KEPT = f"watcher.db.schema-{NEWEST}"
NEXT_STEP = (
    "ALTER TABLE batches ADD COLUMN colour TEXT;\n"
    "CREATE INDEX batches_colour ON batches (colour);\n"
)


def opened(path: Path, *, program: str = "1.0", change: bool = True) -> SqliteDatabase:
    return open_state(str(path), program=program, change=change)


def tables(database: SqliteDatabase) -> list[Row]:
    """All of the schema but the order in which it came to be."""
    return database.read(
        lambda work: work.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' "
            "ORDER BY name"
        )
    )


def columns(database: SqliteDatabase, table: str) -> list[Row]:
    return database.read(lambda work: work.execute(f"PRAGMA table_info({table})"))


def version(database: SqliteDatabase) -> int:
    return database.read(version_in_use)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "watcher.db"


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of the program that knows one more step."""
    monkeypatch.setattr(schema, "STEPS", (*STEPS, NEXT_STEP))
    monkeypatch.setattr(schema, "NEWEST", NEWEST + 1)


# Building


def test_an_empty_state_is_filled_by_whoever_comes_first(state: Path) -> None:
    database = opened(state, change=False)
    found = version(database)
    database.close()

    assert found == NEWEST
    assert not list(state.parent.glob("*.schema-*"))


def test_a_schema_built_in_one_go_is_the_one_built_step_by_step(tmp_path: Path) -> None:
    at_once, by_steps = SqliteDatabase(MEMORY), empty_file(tmp_path / "w.db")
    at_once.transact(step_up(since=0, to=NEWEST, program="1.0"))
    for number in range(NEWEST):
        by_steps.transact(step_up(since=number, to=number + 1, program="1.0"))
    built = (tables(at_once), tables(by_steps))
    at_once.close()
    by_steps.close()

    assert built[0] == built[1]
    assert len(built[0]) > 10


@pytest.mark.usefixtures("newer")
def test_a_state_brought_up_equals_one_built_new(tmp_path: Path) -> None:
    old = empty_file(tmp_path / "old.db")
    old.transact(step_up(since=0, to=NEWEST, program="1.0"))
    old.close()
    brought_up, built = opened(tmp_path / "old.db"), opened(tmp_path / "new.db")
    found = [(columns(one, "batches"), version(one)) for one in (brought_up, built)]
    brought_up.close()
    built.close()

    assert found[0] == found[1]
    assert found[0][1] == NEWEST + 1


def lease(name: str, work: Transaction) -> None:
    work.execute("INSERT INTO leases VALUES ($1, 'x', 1)", (name,))


@pytest.mark.usefixtures("newer")
def test_a_copy_is_kept_before_the_schema_changes(state: Path) -> None:
    for name in ("kept", "kept too"):
        database = empty_file(state)
        database.transact(create_tables)
        database.transact(partial(lease, name))
        database.close()
        opened(state, program="2.0").close()
        state.unlink()
    copies = sorted(state.parent.glob("*.schema-*"))
    kept = []
    for copy in copies:
        connection = sqlite3.connect(copy)
        kept.append(connection.execute("SELECT name FROM leases").fetchall())
        connection.close()

    assert [one.name for one in copies] == [KEPT, f"{KEPT}.1"]
    assert kept == [[("kept",)], [("kept too",)]]
    assert {one.stat().st_mode & 0o777 for one in copies} == {0o600}


@pytest.mark.usefixtures("newer")
def test_a_step_that_fails_leaves_the_state_as_it_was(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = empty_file(state)
    database.transact(create_tables)
    before = tables(database)
    database.close()
    monkeypatch.setattr(schema, "STEPS", (*STEPS, NEXT_STEP + "CREATE TABLE batches (id TEXT);\n"))
    with pytest.raises(StoreError, match="already exists"):
        opened(state)
    database = SqliteDatabase(str(state))
    after = tables(database)
    database.close()

    assert after == before


def test_a_step_taken_by_another_process_meanwhile_is_not_taken_twice(state: Path) -> None:
    database = opened(state)
    database.transact(step_up(since=0, to=NEWEST, program="1.0"))
    with pytest.raises(StoreError, match="try again"):
        database.transact(step_up(since=NEWEST + 1, to=NEWEST + 2, program="1.0"))
    found = version(database)
    database.close()

    assert found == NEWEST


# Other versions


def make(state: Path, version: int, program: str) -> None:
    database = empty_file(state)

    def work(transaction: Transaction) -> None:
        create_tables(transaction)
        values = [(str(version), "schema"), (program, "written_by")]
        transaction.execute_many("UPDATE meta SET value = $1 WHERE name = $2", values)

    database.transact(work)
    database.close()


@pytest.mark.parametrize("change", [True, False])
def test_a_newer_schema_is_refused_naming_both_versions(state: Path, *, change: bool) -> None:
    make(state, NEWEST + 6, "9.9")

    with pytest.raises(WrongSchema) as caught:
        opened(state, program="1.2", change=change)
    assert str(caught.value) == (
        f"the state {state} has schema {NEWEST + 6}, written by watcher 9.9; "
        f"this is watcher 1.2 with schema {NEWEST}: use that version or a newer one"
    )
    assert caught.value.exit_code == 1


@pytest.mark.usefixtures("newer")
def test_only_the_daemon_takes_an_older_schema_up(state: Path) -> None:
    make(state, NEWEST, "1.0")

    with pytest.raises(WrongSchema, match=r"start `watcher run` once to bring it up to date"):
        opened(state, program="2.0", change=False)
    assert not list(state.parent.glob("*.schema-*"))


def beside(state: Path) -> dict[str, bytes]:
    """Everything in the state's directory."""
    return {one.name: one.read_bytes() for one in state.parent.iterdir()}


@pytest.mark.parametrize("restored", [False, True], ids=["as it was left", "restored from a copy"])
@pytest.mark.parametrize("change", [True, False], ids=["run", "ls"])
def test_what_another_version_wrote_is_not_changed_by_a_byte(
    state: Path, monkeypatch: pytest.MonkeyPatch, *, change: bool, restored: bool
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(schema, "STEPS", (*STEPS, NEXT_STEP))
        patch.setattr(schema, "NEWEST", NEWEST + 1)
        database = opened(state, program="2.0")
        database.transact(partial(lease, "kept"))
        if restored:
            database.backup(str(state.with_name("copy")))
        database.close()
        if restored:
            state.with_name("copy").replace(state)
    before = beside(state)
    with pytest.raises(WrongSchema, match=rf"has schema {NEWEST + 1}, written by watcher 2\.0"):
        opened(state, program="1.0", change=change)

    assert beside(state) == before


@pytest.mark.usefixtures("newer")
def test_a_command_beside_an_older_state_changes_nothing_of_it(state: Path) -> None:
    make(state, NEWEST, "1.0")
    before = beside(state)
    with pytest.raises(WrongSchema):
        opened(state, program="2.0", change=False)

    assert beside(state) == before


def test_the_copy_kept_before_a_step_brings_everything_back_to_the_old_version(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = opened(state, program="1.0")
    database.transact(lambda work: tell(event(), "team")(Ledger(work)))
    before = contents(database)
    database.close()
    with monkeypatch.context() as patch:
        patch.setattr(schema, "STEPS", (*STEPS, NEXT_STEP))
        patch.setattr(schema, "NEWEST", NEWEST + 1)
        database = opened(state, program="2.0")
        database.transact(partial(lease, "only in the new one"))
        database.close()
    with pytest.raises(WrongSchema):
        opened(state, program="1.0")
    state.with_name(KEPT).replace(state)
    database = opened(state, program="1.0")
    after = contents(database)
    database.transact(partial(lease, "written to"))
    database.close()

    assert after == before


@pytest.mark.usefixtures("newer")
def test_two_that_bring_a_state_up_at_once_take_the_step_once(state: Path) -> None:
    make(state, NEWEST, "1.0")
    barrier = threading.Barrier(2)
    found: list[int] = []

    def bring_up() -> None:
        barrier.wait()
        database = opened(state, program="2.0")
        found.append(version(database))
        database.close()

    threads = [threading.Thread(target=bring_up) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert found == [NEWEST + 1] * 2
    assert state.with_name(KEPT).exists()


# What is no state


def foreign(state: Path, *statements: str) -> bytes:
    connection = sqlite3.connect(state)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return state.read_bytes()


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE places (url TEXT)"],
        ["CREATE TABLE places (url TEXT)", "CREATE TABLE meta (key TEXT, value TEXT)"],
        ["CREATE TABLE places (url TEXT)", "CREATE TABLE meta (name TEXT, value TEXT)"],
        [
            "CREATE TABLE meta (name TEXT, value TEXT)",
            "INSERT INTO meta VALUES ('schema', 'four')",
        ],
    ],
    ids=["no meta", "another meta", "the same meta", "no version"],
)
def test_a_database_of_another_program_is_refused(state: Path, statements: list[str]) -> None:
    foreign(state, *statements)

    with pytest.raises(StoreError, match="is a database of another program; name another file"):
        opened(state)


def test_a_database_of_another_program_is_left_as_it_was(state: Path) -> None:
    before = foreign(state, "CREATE TABLE places (url TEXT)")
    with pytest.raises(StoreError):
        opened(state)

    assert state.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_left_as_it_was(state: Path) -> None:
    state.write_bytes(b"all my poems\n" * 1_000)

    with pytest.raises(StoreError, match="is not a state of watcher; name another file"):
        opened(state)
    assert state.read_bytes() == b"all my poems\n" * 1_000


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a directory; name a file with --state"):
        opened(tmp_path)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")

    with pytest.raises(StoreError, match=r"cannot create .* not a directory"):
        opened(tmp_path / "file" / "watcher.db")


def test_a_state_that_must_exist_and_does_not_is_refused_and_not_made(state: Path) -> None:
    with pytest.raises(StoreError, match="there is no state at"):
        open_state(str(state), program="1.0", change=False, must_exist=True)

    assert not state.exists()
