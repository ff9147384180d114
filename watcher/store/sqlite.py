"""The SQLite driver: one connection, one thread, whole transactions, group commit.

Everything waiting when the thread is free shares one COMMIT, each within a savepoint of its own:
one that raises takes back only its own statements.
"""

from __future__ import annotations

import asyncio
import errno
import os
import queue
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import apsw

from watcher.errors import StateDamaged, StateLost, StoreBusy, StoreError
from watcher.store import place
from watcher.store.database import Result, Row, Transaction, Value

MEMORY = ":memory:"
# How long a writer waits for another process before it says so, in milliseconds.
BUSY_TIMEOUT = 10_000
# A group holds its first transaction's answer back until the last is done: keep it short.
GROUP_LIMIT = 256
# What SQLite's shared memory file grows by; with less than this left nothing can be written.
LEAST_SPACE = 64 * 1024
# The write-ahead log is folded back at this many pages; the default of SQLite.
CHECKPOINT_PAGES = 1_000
# With NORMAL a power cut loses every commit since the last checkpoint, and an acknowledged
# registration cannot be polled back.
SYNCHRONOUS = "FULL"
# A sound file is read in about a second up to this many bytes; more would hold up every start.
LOOKED_THROUGH = 1024 * 1024 * 1024
# Errors of what was to be written, not of the state: to wait and try again would not help.
_OWN_FAULTS = (apsw.ConstraintError, apsw.MismatchError, apsw.TooBigError)


@lru_cache(maxsize=512)
def _numbered(sql: str) -> str:
    """SQLite numbers parameters as `?1`; `$1` would be a name to it."""
    return re.sub(r"\$(\d+)", r"?\1", sql)


class _SqliteTransaction:
    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, values: Sequence[Value] = ()) -> list[Row]:
        return self._connection.execute(_numbered(sql), tuple(values)).fetchall()

    def execute_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        self._connection.executemany(_numbered(sql), rows)

    @property
    def changed(self) -> int:
        return self._connection.changes()


@dataclass(slots=True)
class _Job:
    work: Callable[[Transaction], Any]
    writes: bool
    future: Future[Any]


class SqliteDatabase:
    """A SQLite file that exists, or `:memory:`, behind the Database protocol."""

    def __init__(
        self,
        path: str,
        *,
        examine: Callable[[Transaction], None] | None = None,
        vfs: str | None = None,
    ) -> None:
        """Open the file; raises StoreError saying what to do.

        `examine` may refuse it, by raising, before anything in it is changed. `vfs` names a file
        system registered with SQLite; None is the system's.
        """
        self.path = path
        self._examine = examine
        self._vfs = vfs
        self._damage: StateDamaged | None = None
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._connection: apsw.Connection
        self._data_version = 0
        self._identity: tuple[tuple[int, int], ...] = ()
        self._closed = False
        opened: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._serve, args=(opened,), name="store", daemon=True
        )
        self._thread.start()
        opened.result()

    def _connect(self) -> apsw.Connection:
        connection = self._open(self.path, apsw.SQLITE_OPEN_READWRITE)
        try:
            self._set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _open(self, path: str, flags: int) -> apsw.Connection:
        connection = apsw.Connection(path, flags=flags, vfs=self._vfs)
        connection.set_busy_timeout(BUSY_TIMEOUT)
        return connection

    def _set_up(self, connection: apsw.Connection) -> None:
        if self._examine is not None:
            self._examine(_SqliteTransaction(connection))
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={SYNCHRONOUS}")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        # The write-ahead log is there from the first reading until the last process closes it.
        connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchall()
        self._identity = self._file_identity()

    def _file_identity(self) -> tuple[tuple[int, int], ...]:
        """Which files the path, and that of its write-ahead log, lead to now."""
        if self.path == MEMORY:
            return ()
        found = []
        for path in (self.path, f"{self.path}-wal"):
            try:
                info = Path(path).stat()
                found.append((info.st_dev, info.st_ino))
            except FileNotFoundError:
                found.append((0, 0))
        return tuple(found)

    def _check_file(self) -> None:
        """Raise what makes it useless to go on with this file."""
        if self._damage is not None:
            raise self._damage
        if self._file_identity() != self._identity:
            # What is written to a file without a name is gone when the process ends.
            message = f"the state {self.path} was deleted or replaced while it was in use"
            raise StateLost(message)

    async def transaction(self, work: Callable[[Transaction], Result]) -> Result:
        future = asyncio.wrap_future(self._submit(work, writes=True))
        # What has been handed over is written down even while the caller is being cancelled.
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            if not future.cancelled():
                # Nobody will ask for it any more, and asyncio complains of errors unasked for.
                future.exception()
            raise

    async def query(self, work: Callable[[Transaction], Result]) -> Result:
        return await asyncio.wrap_future(self._submit(work, writes=False))

    def transact(self, work: Callable[[Transaction], Result]) -> Result:
        return self._submit(work, writes=True).result()

    def read(self, work: Callable[[Transaction], Result]) -> Result:
        return self._submit(work, writes=False).result()

    async def changed_elsewhere(self) -> bool:
        def look(transaction: Transaction) -> bool:
            self._check_file()
            version = int(transaction.execute("PRAGMA data_version")[0][0])
            changed, self._data_version = version != self._data_version, version
            return changed

        return await self.query(look)

    def backup(self, path: str) -> None:
        taken = StoreError(f"{path} exists already; name a new file")
        if Path(path).exists():
            raise taken
        # Half a copy would be taken for one: it gets its name when it is whole.
        temporary = Path(f"{path}.new-{os.urandom(4).hex()}")
        try:
            with explained(path):
                os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
                self._copy_to(str(temporary))
                if not place.install(temporary, path):
                    raise taken
        finally:
            with suppress(OSError):
                temporary.unlink()

    def _copy_to(self, path: str) -> None:
        with explained(self.path), ExitStack() as open_ones:
            source = self._open(self.path, apsw.SQLITE_OPEN_READONLY)
            open_ones.callback(source.close)
            with explained(path):
                copy = self._open(path, apsw.SQLITE_OPEN_READWRITE)
                open_ones.callback(copy.close)
                work = copy.backup("main", source, "main")
                while not work.done:
                    work.step(-1)
                work.finish()
                copy.execute("PRAGMA journal_mode=DELETE")
            # What is damaged is copied as it is, and would be kept for a sound one.
            if copy.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
                raise _damaged(self.path)

    def refuse_damage(self) -> None:
        """Raise StateDamaged for pages that do not fit together; too large a file is trusted."""
        if Path(self.path).stat().st_size > LOOKED_THROUGH:
            return
        if self.read(lambda work: work.execute("PRAGMA quick_check(1)")) != [("ok",)]:
            raise _damaged(self.path)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        self._thread.join()

    def _submit(self, work: Callable[[Transaction], Result], *, writes: bool) -> Future[Result]:
        if self._closed:
            message = f"the state {self.path} is closed"
            raise StoreError(message)
        future: Future[Result] = Future()
        self._jobs.put(_Job(work, writes, future))
        return future

    def _serve(self, opened: Future[None]) -> None:
        try:
            with explained(self.path):
                self._connection = self._connect()
        except Exception as error:  # noqa: BLE001  whoever opens it is to hear of it
            opened.set_exception(error)
            return
        opened.set_result(None)
        stopping = False
        while not stopping:
            group: list[_Job] = []
            job = self._jobs.get()
            while job is not None:
                group.append(job)
                if len(group) >= GROUP_LIMIT or self._jobs.empty():
                    break
                job = self._jobs.get()
            stopping = job is None
            if group:
                self._run_group([job for job in group if job.future.set_running_or_notify_cancel()])
        with suppress(apsw.Error):
            # What was acknowledged is safe already; a disk that fails may refuse to tidy up.
            self._connection.close()
        self._refuse_late_jobs()

    def _refuse_late_jobs(self) -> None:
        """Answer whoever handed something over in the moment of closing."""
        while not self._jobs.empty():
            job = self._jobs.get()
            if job is not None and job.future.set_running_or_notify_cancel():
                job.future.set_exception(StoreError(f"the state {self.path} is closed"))

    def _run_group(self, group: list[_Job]) -> None:
        """Run the jobs in one transaction and answer them once it is durable."""
        answers: list[tuple[_Job, Any, BaseException | None]] = []
        try:
            with self._explained():
                if any(job.writes for job in group):
                    self._check_file()
                    self._connection.execute("BEGIN IMMEDIATE")
                else:
                    self._connection.execute("BEGIN")
                for job in group:
                    answers.append((job, *self._run_one(job)))
                self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001  this thread must go on, and answer everybody
            with suppress(apsw.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            failed = error if isinstance(error, StoreError) else _taken_back(self.path, error)
            for job in group:
                job.future.set_exception(failed)
            return
        for job, result, failure in answers:
            if failure is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(failure)

    def _run_one(self, job: _Job) -> tuple[Any, BaseException | None]:
        connection = self._connection
        connection.execute("SAVEPOINT job")
        try:
            result = job.work(_SqliteTransaction(connection))
        except Exception as error:
            if not connection.in_transaction:
                # SQLite itself took everything back (disk full, say): nothing of this group holds.
                raise
            connection.execute("ROLLBACK TO job")
            connection.execute("RELEASE job")
            if isinstance(error, _OWN_FAULTS):
                return None, error
            return None, self._as_trouble(error)
        connection.execute("RELEASE job")
        return result, None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (apsw.Error, OSError) as error:
            raise self._as_trouble(error) from error

    def _as_trouble(self, error: BaseException) -> BaseException:
        """What an error means for a file that was sound when it was opened."""
        if isinstance(error, apsw.CorruptError | apsw.NotADBError):
            self._damage = _damaged(self.path)
            return self._damage
        return _as_store_error(self.path, error)


def contents_after(work: Callable[[Transaction], None]) -> bytes:
    """The file of a new database in which this was done."""
    with closing(apsw.Connection(MEMORY)) as connection:
        with connection:
            work(_SqliteTransaction(connection))
        contents = bytearray(connection.serialize("main"))
    # In WAL mode from the beginning: of two that would change the mode at once one is refused.
    contents[18:20] = b"\x02\x02"
    return bytes(contents)


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn what SQLite and the system say into what, where, and what to do."""
    try:
        yield
    except StoreError:
        raise
    except (apsw.Error, OSError) as error:
        raise _as_store_error(path, error) from error


def _damaged(path: str) -> StateDamaged:
    return StateDamaged(f"the state {path} is damaged; restore a copy of it, or move it away")


def _taken_back(path: str, error: Exception) -> StoreError:
    return StoreError(f"the state {path} took everything back: {error}")


def _is_full(path: str, error: BaseException) -> bool:
    """Whether it is for want of space: SQLite calls it a failed disk when its -shm cannot grow."""
    if getattr(error, "errno", None) == errno.ENOSPC:
        return True
    if not isinstance(error, apsw.IOError):
        return False
    try:
        return shutil.disk_usage(Path(path).parent).free < LEAST_SPACE
    except OSError:
        return False


def _as_store_error(path: str, error: BaseException) -> BaseException:
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return StoreBusy(f"the state {path} is held by another process; try again")
    if isinstance(error, apsw.FullError) or _is_full(path, error):
        return StoreError(f"no space left for the state {path}; free some, nothing was recorded")
    if isinstance(error, apsw.NotADBError):
        return StoreError(f"{path} is not a state of watcher; name another file with --state")
    if isinstance(error, apsw.CorruptError):
        return _damaged(path)
    if isinstance(error, apsw.ReadOnlyError | apsw.CantOpenError | apsw.PermissionsError | OSError):
        reason = getattr(error, "strerror", None) or "not readable or writable"
        return StoreError(
            f"cannot open the state {path}: {str(reason).lower()}; "
            "check its permissions or name another with --state"
        )
    if isinstance(error, apsw.IOError):
        return StoreError(f"the disk failed at the state {path}: {error}")
    if isinstance(error, apsw.Error):
        return StoreError(f"the state {path} cannot be used: {error}")
    return error
