"""The file of a state: its permissions, its copies, and other processes that write to it."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import apsw
import pytest

from tests.builders import event, tell
from tests.store.databases import empty_file
from watcher.errors import StateLost, StoreBusy, StoreError
from watcher.store import sqlite
from watcher.store.database import Transaction
from watcher.store.ledger import Ledger
from watcher.store.lock import StateLock
from watcher.store.schema import open_state
from watcher.store.sqlite import MEMORY, SqliteDatabase

ROOT = Path(__file__).parents[2]
PAIR = "INSERT INTO leases (name, holder, until) VALUES ($1, 'x', $2)"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "own" / "watcher.db"


@pytest.fixture
def database(state: Path) -> Iterator[SqliteDatabase]:
    database = open_state(str(state), program="test", change=True)
    yield database
    database.close()


def pair(number: int) -> list[tuple[str, int]]:
    """Two rows that only ever come together."""
    return [(f"left {number}", number), (f"right {number}", number)]


def insert(rows: list[tuple[str, int]], work: Transaction) -> None:
    work.execute_many(PAIR, rows)


def test_only_the_owner_reads_a_state_and_its_directory(
    state: Path, database: SqliteDatabase
) -> None:
    database.transact(partial(insert, pair(1)))
    modes = {file.name: file.stat().st_mode & 0o777 for file in state.parent.iterdir()}

    assert state.parent.stat().st_mode & 0o777 == 0o700
    assert set(modes.values()) == {0o600}
    assert "watcher.db-wal" in modes


def test_a_directory_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    open_state(str(tmp_path / "watcher.db"), program="test", change=False).close()

    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_what_was_acknowledged_survives_a_power_cut(database: SqliteDatabase) -> None:
    found = database.read(
        lambda work: [
            work.execute(f"PRAGMA {name}")[0][0] for name in ("journal_mode", "synchronous")
        ]
    )

    assert found == ["wal", 2]


# Copies


def test_a_copy_made_while_somebody_writes_is_whole(
    tmp_path: Path, database: SqliteDatabase
) -> None:
    stop = threading.Event()

    def write() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            database.transact(partial(insert, pair(number)))

    writer = threading.Thread(target=write)
    writer.start()
    copies = [tmp_path / f"copy-{number}" for number in range(5)]
    for copy in copies:
        database.backup(str(copy))
    stop.set()
    writer.join()
    for copy in copies:
        connection = sqlite3.connect(copy)
        rows = connection.execute("SELECT until, COUNT(*) FROM leases GROUP BY until").fetchall()
        check = connection.execute("PRAGMA integrity_check").fetchall()
        connection.close()

        assert check == [("ok",)]
        assert [count for _, count in rows] == [2] * len(rows)
        # One file, for whoever carries it away.
        assert not Path(f"{copy}-wal").exists()
        assert copy.stat().st_mode & 0o777 == 0o600


def test_a_copy_never_replaces_a_file(tmp_path: Path, database: SqliteDatabase) -> None:
    (tmp_path / "poems").write_text("all of them")

    with pytest.raises(StoreError, match="exists already; name a new file"):
        database.backup(str(tmp_path / "poems"))
    assert (tmp_path / "poems").read_text() == "all of them"


def test_a_copy_that_cannot_be_made_leaves_nothing_behind(
    tmp_path: Path, database: SqliteDatabase
) -> None:
    with pytest.raises(StoreError, match="cannot open"):
        database.backup(str(tmp_path / "absent" / "copy"))

    assert not (tmp_path / "absent").exists()


def test_a_copy_is_a_state(tmp_path: Path, database: SqliteDatabase) -> None:
    database.transact(lambda work: tell(event(), "team")(Ledger(work)))
    database.backup(str(tmp_path / "copy"))
    copy = SqliteDatabase(str(tmp_path / "copy"))
    pending = copy.read(lambda work: Ledger(work).outbox.pending("team"))
    copy.close()

    assert pending == 1


# A disk that is full


def fill(work: Transaction) -> None:
    work.execute_many(PAIR, [(f"{'long name ' * 400} {number}", number) for number in range(200)])


@pytest.mark.parametrize("path", [MEMORY, "file"])
def test_a_full_disk_is_told_and_nothing_is_recorded(path: str, tmp_path: Path) -> None:
    where = path if path == MEMORY else str(tmp_path / path)
    database = open_state(where, program="test", change=True)
    pages = database.read(lambda work: int(work.execute("PRAGMA page_count")[0][0]))
    database.transact(lambda work: work.execute(f"PRAGMA max_page_count = {pages + 5}"))
    with pytest.raises(StoreError, match=r"no space left for the state .* nothing was recorded"):
        database.transact(fill)
    database.transact(partial(insert, pair(1)))
    rows = database.read(lambda work: work.execute("SELECT name FROM leases ORDER BY name"))
    database.close()

    assert rows == [("left 1",), ("right 1",)]


def test_a_transaction_that_sqlite_takes_back_whole_leaves_nobody_waiting(
    database: SqliteDatabase,
) -> None:
    def end_it(work: Transaction) -> None:
        work.execute("ROLLBACK")
        raise LookupError("on purpose")

    with pytest.raises(StoreError, match="took everything back: on purpose"):
        database.transact(end_it)

    database.transact(partial(insert, pair(1)))


# Other processes


def test_writes_of_another_connection_are_noticed_once(
    state: Path, database: SqliteDatabase
) -> None:
    other = SqliteDatabase(str(state))

    async def story() -> list[bool]:
        found = [await database.changed_elsewhere(), await database.changed_elsewhere()]
        await other.transaction(partial(insert, pair(1)))
        found += [await database.changed_elsewhere(), await database.changed_elsewhere()]
        return found

    found = asyncio.run(story())
    other.close()

    assert found[1:] == [False, True, False]


def test_a_state_another_process_holds_is_busy(
    state: Path, database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 20)
    waiting = SqliteDatabase(str(state))
    holder = apsw.Connection(str(state))
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy, match="is held by another process; try again"):
        waiting.transact(partial(insert, pair(1)))
    read = waiting.read(lambda work: work.execute("SELECT * FROM leases"))
    holder.execute("COMMIT")
    holder.close()
    waiting.transact(partial(insert, pair(2)))
    waiting.close()

    assert read == []


WRITER = """
import sys
from tests.builders import event, tell
from watcher.store.ledger import Ledger
from watcher.store.sqlite import SqliteDatabase

database = SqliteDatabase(sys.argv[1])
for number in range(60):
    told = event(number=int(sys.argv[2]) + number)
    database.transact(lambda work: tell(told, "team")(Ledger(work)))
database.close()
"""


def test_two_processes_that_write_at_once_lose_nothing_and_share_no_seq(
    state: Path, database: SqliteDatabase
) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(state), str(start)], cwd=ROOT)
        for start in (1_000, 2_000)
    ]
    codes = [writer.wait(timeout=30) for writer in writers]
    events = database.read(lambda work: Ledger(work).events.after(0, 1_000))

    assert codes == [0, 0]
    assert [one.seq for one in events] == list(range(1, 121))
    assert len({one.id for one in events}) == 120
    assert database.read(lambda work: Ledger(work).outbox.pending("team")) == 120


# The lock of the operating system

HOLDER = """
import sys
from watcher.store.lock import StateLock

lock = StateLock(sys.argv[1])
print(lock.acquire(), flush=True)
sys.stdin.read()
"""


def test_the_lock_is_one_processes_and_free_as_soon_as_it_is_killed(state: Path) -> None:
    state.parent.mkdir()
    ours = StateLock(str(state))
    before = ours.free
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as holder:
        assert holder.stdout is not None
        held = holder.stdout.readline().strip()
        during = (ours.free, ours.acquire())
        holder.kill()
    after = (ours.free, ours.acquire(), ours.acquire(), ours.free)
    ours.release()

    assert (before, held, during) == (True, b"True", (False, False))
    assert after == (True, True, True, False)
    assert StateLock(str(state)).free


def test_a_lock_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot open .*no such file or directory"):
        StateLock(str(tmp_path / "absent" / "watcher.db")).acquire()


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_that_is_no_longer_ours_is_noticed(tmp_path: Path, *, replaced: bool) -> None:
    path = tmp_path / "watcher.db"
    database = await anyio.to_thread.run_sync(empty_file, path)
    await database.changed_elsewhere()
    await anyio.to_thread.run_sync(path.unlink)
    if replaced:
        other = await anyio.to_thread.run_sync(empty_file, path)
        await anyio.to_thread.run_sync(other.close)
    try:
        with pytest.raises(StateLost, match="deleted or replaced"):
            await database.changed_elsewhere()
    finally:
        await anyio.to_thread.run_sync(database.close)


def test_a_disk_so_full_that_sqlite_calls_it_failed_is_told_as_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = empty_file(tmp_path / "watcher.db")

    def fail(work: Transaction) -> None:
        raise apsw.IOError("disk I/O error")

    with pytest.raises(StoreError, match="the disk failed"):
        database.transact(fail)
    monkeypatch.setattr(sqlite, "LEAST_SPACE", 1 << 62)
    with pytest.raises(StoreError, match="no space left"):
        database.transact(fail)
    database.close()
