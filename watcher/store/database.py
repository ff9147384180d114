"""What the store asks of a database: whole transactions as functions, one thread that runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")
Value = str | int | float | bytes | None
Row = tuple[Any, ...]
Each = TypeVar("Each", int, str)

# How many values one statement lists: few sizes, so that few statements are prepared, and no more
# parameters than databases allow (SQLite 32,766).
SIZES = (1, 8, 64, 512)
MOST_AT_ONCE = SIZES[-1]


def some_at_once(values: Sequence[Each]) -> Iterator[list[Each]]:
    """Parts of a list, each filled up to one of a few sizes with what it holds already."""
    for begin in range(0, len(values), MOST_AT_ONCE):
        some = list(values[begin : begin + MOST_AT_ONCE])
        size = next(size for size in SIZES if size >= len(some))
        yield some + some[-1:] * (size - len(some))


def listed(first: int, values: Sequence[object]) -> str:
    """The parameters of so many values, as SQL lists them: `($5, $6)`."""
    return f"({', '.join(f'${number}' for number in range(first, first + len(values)))})"


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
