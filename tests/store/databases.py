"""Every database the conformance suite runs over. One more is one more line in MAKERS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.builders import create_tables
from watcher.store.database import Database
from watcher.store.ledger import Ledger
from watcher.store.sqlite import MEMORY, SqliteDatabase

Result = TypeVar("Result")

# A name, and how to make an empty database of this kind in a folder that is the test's own.
MAKERS: dict[str, Callable[[Path], Database]] = {
    "memory": lambda _: SqliteDatabase(MEMORY),
    "file": lambda folder: empty_file(folder / "watcher.db"),
}


def empty_file(path: Path) -> SqliteDatabase:
    """A database without a table, in a file of its own."""
    path.touch()
    return SqliteDatabase(str(path))


@pytest.fixture(params=MAKERS)
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without a table."""
    database = MAKERS[request.param](tmp_path)
    yield database
    database.close()


@pytest.fixture
def database(empty: Database) -> Database:
    """A database with the newest schema."""
    empty.transact(create_tables)
    return empty


class Books:
    """A ledger whose every verb is a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __call__(self, work: Callable[[Ledger], Result]) -> Result:
        return self._database.transact(lambda transaction: work(Ledger(transaction)))


@pytest.fixture
def books(database: Database) -> Books:
    return Books(database)
