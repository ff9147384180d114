"""Verbs on many batches at once: the same as on one after the other, in few statements."""

from __future__ import annotations

import pytest

from tests.builders import registering
from tests.fakes import START
from tests.store.databases import Books
from watcher.model import Batch
from watcher.store.batches import Registering
from watcher.store.database import MOST_AT_ONCE
from watcher.store.ledger import Ledger

LATER = START + 60_000
IDS = [f"batch_{number}" for number in range(MOST_AT_ONCE + 1)]


def standing(ledger: Ledger) -> dict[str, Batch]:
    return {batch.key: batch for batch in ledger.batches.watched(open_only=True)}


def wishes() -> list[Registering]:
    """Of all kinds: new, known, changed, removed, twice, and to stay gone."""
    return [
        registering("new", name="first"),
        registering("known"),
        registering("changed", tags=("b",), group="g"),
        registering("removed", registered_by="ana"),
        registering("left alone", revive=False),
        registering("new", tags=("again",)),
        registering("new", "other"),
    ]


def before(ledger: Ledger) -> None:
    for name in ("known", "changed", "removed", "left alone"):
        ledger.batches.register(registering(name, tags=("a",), name=name), START)
    for name in ("removed", "left alone"):
        ledger.remove(ledger.batches.by_id([name])[name], START + 1)


def test_many_are_registered_as_one_after_the_other_would_be(books: Books) -> None:
    def at_once(ledger: Ledger) -> tuple[list[Batch], dict[str, Batch]]:
        before(ledger)
        return ledger.batches.register_all(wishes(), LATER), standing(ledger)

    batches, read = books(at_once)

    assert [one.id for one in batches] == ["new", "known", "changed", "removed", "new", "new"]
    said = {key: (one.name, one.registration.tags, one.edition) for key, one in read.items()}
    assert said == {
        "openai/new": ("first", ("again",), 1),
        "openai/known": ("known", ("a",), 0),
        "openai/changed": ("changed", ("b",), 1),
        "openai/removed": (None, (), 2),
        "other/new": (None, (), 0),
    }
    assert read == {one.key: one for one in batches}


def test_more_than_one_statement_takes_are_registered_and_found(books: Books) -> None:
    wanted = [registering(id_) for id_ in IDS]
    books(lambda ledger: ledger.batches.register_all(wanted, START))
    books(lambda ledger: ledger.batches.register(registering(IDS[-1], "other"), START))
    asked = [*reversed(IDS), "batch_of_nobody"]
    of_ids = books(lambda ledger: ledger.batches.of_ids("openai", asked))
    of_keys = books(lambda ledger: ledger.batches.of_keys([("openai", id_) for id_ in asked]))
    accounts = books(lambda ledger: ledger.batches.accounts_of(asked))
    unknown = books(lambda ledger: ledger.batches.unknown("openai", asked))

    assert [one.id for one in of_ids] == [one.id for one in of_keys] == list(reversed(IDS))
    assert len(accounts) == len(IDS)
    assert accounts[IDS[-1]] == ["openai", "other"]
    assert unknown == ["batch_of_nobody"]


def test_one_that_cannot_be_written_leaves_none_of_them_registered(books: Books) -> None:
    wanted = [registering("batch_1"), registering("\ud800")]
    with pytest.raises(UnicodeEncodeError):
        books(lambda ledger: ledger.batches.register_all(wanted, START))

    assert books(standing) == {}
