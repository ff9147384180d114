"""A row that a later version wrote, or somebody damaged: it is left alone, and stops no other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.builders import HOUR, ended, event, registering, tell
from tests.fakes import START
from tests.store.databases import Books
from watcher.model import Account, Channel, Counts
from watcher.store.agenda import Horizon
from watcher.store.batches import Registering
from watcher.store.codec import (
    UNREADABLE,
    decode_account,
    decode_batch,
    decode_event,
    encode_event,
    encode_registration,
    encode_state,
)
from watcher.store.database import Database, Transaction
from watcher.store.ledger import Ledger

DAMAGED = {
    "too deep": "[" * 100_000,
    "a number too long": '{"looks": ' + "1" * 5_000 + "}",
    "a later status": '{"status": "paused"}',
    "a text for a number": '{"looks": "many"}',
    "a flag for a number": '{"looks": true}',
    "a number for a text": '{"last_error": 1}',
    "counts of another type": '{"counts": {"total": {}}}',
    "problems of another type": '{"problems": [{"line": "1"}]}',
    "metadata of another type": '{"metadata": 5}',
    "a time after all calendars": '{"created_at": 253402300800000}',
    "a time before them": '{"ended_at": -1}',
    "a number no column holds": '{"looks": 9223372036854775808}',
    "what has a column of its own": '{"account": "other"}',
}


def registered(wanted: Registering) -> Callable[[Ledger], object]:
    return lambda ledger: ledger.batches.register(wanted, START)


@pytest.fixture
def damaged(database: Database, books: Books, state: str) -> Books:
    """Of two batches the first cannot be read."""
    for wanted in (registering("batch_1"), registering("batch_2")):
        books(registered(wanted))
    update = "UPDATE batches SET state = $1 WHERE id = 'batch_1'"
    database.transact(lambda work: work.execute(update, (state,)))
    return books


@pytest.mark.parametrize("state", DAMAGED.values(), ids=DAMAGED)
def test_it_is_due_and_listed_by_its_key_alone(damaged: Books) -> None:
    far = Horizon(START + HOUR, START + HOUR)
    listed = damaged(lambda ledger: ledger.batches.listed(open_only=True))
    readable = [one.id for one in listed]
    due = damaged(lambda ledger: ledger.agenda.due("openai", START, 9, far, ()))
    read = damaged(lambda ledger: ledger.batches.of_ids("openai", [one.id for one in due]))

    assert listed.unreadable == ["openai/batch_1"]
    assert sorted(one.id for one in due) == ["batch_1", "batch_2"]
    assert readable == [one.id for one in read] == ["batch_2"]


def test_an_event_that_cannot_be_read_hides_no_other(database: Database, books: Books) -> None:
    subject = ended()
    for revision in (1, 2):
        happened = event(about=subject, id=f"{subject.key}@{revision}")
        books(tell(happened))
    update = "UPDATE events SET document = '{}' WHERE seq = 1"
    database.transact(lambda work: work.execute(update))
    found = books(lambda ledger: ledger.events.of_subject(subject.key))

    assert [one.id for one, _ in found] == [f"{subject.key}@2"]


def test_whatever_is_written_is_read_back() -> None:
    one = ended(counts=Counts(2**63 - 1, 0, 1), metadata={"a": [1.5, None, True]})
    columns = {"account": "openai", "id": "batch_1", "provider": "openai", "revision": 1}
    columns |= {"edition": 0, "next_look_at": None, "removed_at": None}
    read = decode_batch(columns, encode_registration(one.registration), encode_state(one))
    happened = event(about=one)

    assert read == one
    assert decode_event(0, encode_event(happened)) == happened


@pytest.mark.parametrize("text", ['{"limited": "x"}', '{"trouble": 1}', '{"words": 5}', "[", "[1]"])
def test_an_account_that_cannot_be_read_is_told_as_such(text: str) -> None:
    with pytest.raises(UNREADABLE):
        decode_account("openai", 1, text)


@pytest.mark.parametrize("state", ["[]", "5", "{"])
def test_an_account_and_a_channel_begin_anew_and_use_no_id_twice(
    database: Database, books: Books, state: str
) -> None:
    def insert(work: Transaction) -> None:
        for table in ("accounts", "channels"):
            text = f"INSERT INTO {table} (name, revision, state) VALUES ('a', 7, $1)"  # noqa: S608
            work.execute(text, (state,))

    database.transact(insert)
    account = books(lambda ledger: ledger.subjects.account("a", "openai"))
    (other,) = books(lambda ledger: ledger.subjects.accounts())
    channel = books(lambda ledger: ledger.subjects.channel("a"))

    assert (account, other.revision) == (Account("a", "openai", revision=7), 7)
    assert channel == Channel("a", revision=7)


@pytest.mark.parametrize("document", ["[1]", '"x"', "null", "{", "[" * 100_000])
def test_what_a_daemon_said_of_itself_counts_only_where_it_can_be_read(
    database: Database, books: Books, document: str
) -> None:
    put = "INSERT INTO meta (name, value) VALUES ('daemon', $1)"
    database.transact(lambda work: work.execute(put, (document,)))

    assert books(lambda ledger: ledger.process.get("daemon")) == {}


def test_a_delivery_in_a_state_that_only_a_later_version_knows_hides_no_other(
    database: Database, books: Books
) -> None:
    for revision in (1, 2):
        happened = event(about=ended(), id=f"openai/batch_1@{revision}")
        books(tell(happened, "team", now=START))
    later = "UPDATE deliveries SET state = 'snoozed' WHERE seq = 1"
    database.transact(lambda work: work.execute(later))
    newest = books(lambda ledger: ledger.outbox.newest(state=None, channel=None, limit=9))

    assert [one.event_id for one in newest] == ["openai/batch_1@2"]
