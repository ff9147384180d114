"""What every database must do: whole transactions as functions. One suite over all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable

import anyio
import pytest

from watcher.errors import StoreError
from watcher.store.database import Database, Transaction

INSERT = "INSERT INTO numbers (id, word) VALUES ($1, $2)"
UPSERT = "INSERT INTO numbers (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET word = 'x'"
SELECT = "SELECT id FROM numbers ORDER BY id"


@pytest.fixture
def numbers(empty: Database) -> Database:
    empty.transact(
        lambda work: work.execute("CREATE TABLE numbers (id BIGINT PRIMARY KEY, word TEXT)")
    )
    return empty


def insert(id: int, word: str = "a word") -> Callable[[Transaction], int]:
    def work(transaction: Transaction) -> int:
        transaction.execute(INSERT, (id, word))
        return id

    return work


def ids(database: Database) -> list[int]:
    return [row[0] for row in database.read(lambda work: work.execute(SELECT))]


def test_parameters_are_numbered_and_may_be_used_twice(numbers: Database) -> None:
    rows = numbers.read(lambda work: work.execute("SELECT $2, $1, $2", ("one", "two")))

    assert rows == [("two", "one", "two")]


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), 0, "ünïcödé \N{PILE OF POO}", "", None])
def test_values_come_back_as_they_went_in(numbers: Database, value: int | str | None) -> None:
    rows = numbers.read(lambda work: work.execute("SELECT $1", (value,)))

    assert rows == [(value,)]


def test_what_a_transaction_returned_is_there_for_the_next(numbers: Database) -> None:
    assert numbers.transact(insert(1)) == 1
    assert ids(numbers) == [1]


def test_one_that_raises_inside_a_transaction_is_taken_back_whole(numbers: Database) -> None:
    def work(transaction: Transaction) -> None:
        insert(1)(transaction)
        insert(2)(transaction)
        raise LookupError("on purpose")

    with pytest.raises(LookupError, match="on purpose"):
        numbers.transact(work)

    assert ids(numbers) == []
    assert numbers.transact(insert(3)) == 3


def test_the_number_of_changed_rows_is_that_of_the_last_statement(numbers: Database) -> None:
    def work(transaction: Transaction) -> list[int]:
        changed = []
        for sql in (
            "INSERT INTO numbers (id) VALUES (1), (2), (3)",
            "UPDATE numbers SET word = 'new' WHERE id > 1",
            "UPDATE numbers SET word = 'new' WHERE id > 9",
            f"{UPSERT} WHERE numbers.word = 'never'",
            UPSERT,
        ):
            transaction.execute(sql)
            changed.append(transaction.changed)
        return changed

    assert numbers.transact(work) == [3, 2, 0, 0, 1]


def test_many_rows_go_in_by_one_statement(numbers: Database) -> None:
    numbers.transact(lambda work: work.execute_many(INSERT, [(id, "w") for id in range(1_000)]))

    assert ids(numbers) == list(range(1_000))


class Gate:
    """Keeps the database busy, so that what is submitted meanwhile shares one commit."""

    def __init__(self, database: Database) -> None:
        self._open = threading.Event()
        self._entered = threading.Event()
        self._thread = threading.Thread(target=database.transact, args=(self._hold,))

    def _hold(self, _: Transaction) -> None:
        self._entered.set()
        assert self._open.wait(10)

    def __enter__(self) -> None:
        self._thread.start()
        assert self._entered.wait(10)

    def __exit__(self, *_: object) -> None:
        self._open.set()
        self._thread.join()


async def test_of_a_group_that_commits_together_only_the_one_that_raises_is_taken_back(
    numbers: Database,
) -> None:
    answers: dict[int, object] = {}
    numbers_to_write = [*range(20), 7]

    async def write(place: int, id: int) -> None:
        def work(transaction: Transaction) -> int:
            transaction.execute(INSERT, (100 + place, "before"))
            return insert(id)(transaction)

        try:
            answers[place] = await numbers.transaction(work)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            answers[place] = error

    gate = Gate(numbers)
    await anyio.to_thread.run_sync(gate.__enter__)
    async with anyio.create_task_group() as tasks:
        for place, id in enumerate(numbers_to_write):
            tasks.start_soon(write, place, id)
        await anyio.lowlevel.checkpoint()
        await anyio.to_thread.run_sync(gate.__exit__)
    rows = await numbers.query(lambda work: work.execute(SELECT))
    failed = [place for place, answer in answers.items() if isinstance(answer, Exception)]

    # The second seven broke the constraint; it alone did, and all of it is gone.
    assert failed == [20]
    assert [row[0] for row in rows] == [*range(20), *range(100, 120)]
    assert not isinstance(answers[20], StoreError)


async def test_a_cancelled_caller_still_lets_the_transaction_finish(numbers: Database) -> None:
    gate = Gate(numbers)
    await anyio.to_thread.run_sync(gate.__enter__)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(numbers.transaction, insert(1))
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(gate.__exit__)
    rows = await numbers.query(lambda work: work.execute(SELECT))

    assert rows == [(1,)]


async def test_a_cancelled_question_does_no_harm(numbers: Database) -> None:
    gate = Gate(numbers)
    await anyio.to_thread.run_sync(gate.__enter__)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(numbers.query, lambda work: work.execute(SELECT))
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    await anyio.to_thread.run_sync(gate.__exit__)

    assert await numbers.transaction(insert(5)) == 5


async def test_many_writers_at_once_lose_nothing(numbers: Database) -> None:
    async with anyio.create_task_group() as tasks:
        for id in range(600):
            tasks.start_soon(numbers.transaction, insert(id))
    rows = await numbers.query(lambda work: work.execute(SELECT))

    assert [row[0] for row in rows] == list(range(600))


def test_a_closed_database_says_so(numbers: Database) -> None:
    numbers.close()
    numbers.close()

    with pytest.raises(StoreError, match="is closed"):
        numbers.transact(insert(1))


def test_a_mistake_in_a_statement_is_told_and_forgotten(numbers: Database) -> None:
    with pytest.raises(StoreError, match="no such table"):
        numbers.transact(lambda work: work.execute("SELECT * FROM absent"))

    assert numbers.transact(insert(1)) == 1


async def test_what_this_process_writes_is_no_change_elsewhere(numbers: Database) -> None:
    await numbers.changed_elsewhere()
    await numbers.transaction(insert(1))

    assert not await numbers.changed_elsewhere()
