"""What the store asks of a database: whole transactions as functions, one thread that runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")
Value = str | int | float | bytes | None
Row = tuple[Any, ...]


class Transaction(Protocol):
    """One open transaction; only usable inside the function it was handed to."""

    def execute(self, sql: str, values: Sequence[Value] = ()) -> list[Row]:
        """Run one statement with `$1` parameters and return its rows."""

    def execute_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        """Run one statement once per row of values."""

    @property
    def changed(self) -> int:
        """How many rows the last statement changed."""


class Database(Protocol):
    """A database that runs functions as transactions.

    A function that raises is rolled back whole and its error is raised to the caller; what has
    returned has been made durable.
    """

    async def transaction(self, work: Callable[[Transaction], Result]) -> Result:
        """Run `work` from the event loop; a cancelled caller still lets it finish."""

    async def query(self, work: Callable[[Transaction], Result]) -> Result:
        """Like `transaction` for work that only reads."""

    def transact(self, work: Callable[[Transaction], Result]) -> Result:
        """Run `work` and wait for it; not from the event loop's thread."""

    def read(self, work: Callable[[Transaction], Result]) -> Result:
        """Like `transact` for work that only reads: it waits for no writer."""

    async def changed_elsewhere(self) -> bool:
        """Whether another process has written since the last call.

        Raises StateLost when the file is no longer the one that was opened.
        """

    def backup(self, path: str) -> None:
        """Write a consistent copy to a file that does not exist yet."""

    def close(self) -> None:
        """Finish what is queued and let go of the file."""
