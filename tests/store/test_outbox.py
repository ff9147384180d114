"""What a channel has still to be told, over every database."""

from __future__ import annotations

from tests.builders import HOUR, SECOND, event, tell
from tests.fakes import START
from tests.store.databases import Books
from watcher.model import Delivery, DeliveryState, Try, TryOutcome
from watcher.store.outbox import Waiting, read_waiting


def waiting(books: Books, channel: str = "team", limit: int = 99) -> list[Waiting]:
    rows = books(lambda ledger: ledger.outbox.waiting_rows(channel, limit))
    return read_waiting(rows)[0]


def delivery(books: Books, seq: int, channel: str = "team") -> Delivery:
    found = books(lambda ledger: ledger.outbox.of_event(seq))
    return next(one for one in found if one.channel == channel)


def settle(
    books: Books,
    told: list[Waiting],
    outcome: TryOutcome = TryOutcome.FAILED,
    *,
    refused: bool = False,
    uptime: int = 0,
    at: int = START,
) -> None:
    attempt = Try(at, outcome, None if outcome is TryOutcome.DELIVERED else "no connection")
    books(
        lambda ledger: ledger.outbox.settle(
            "team", told, attempt, now=at + SECOND, uptime=uptime, refused=refused
        )
    )


def test_deliveries_wait_in_the_order_of_events(books: Books) -> None:
    for number in (3, 1, 2):
        books(tell(event(number=number), "team", "ops"))

    assert [one.event.id[-3] for one in waiting(books)] == ["3", "1", "2"]
    assert len(waiting(books, limit=2)) == 2
    assert books(lambda ledger: ledger.outbox.pending_by_channel()) == {"team": 3, "ops": 3}


def test_a_delivered_event_waits_no_more_and_knows_when(books: Books) -> None:
    seq = books(tell(event(), "team", "ops"))
    settle(books, waiting(books), TryOutcome.DELIVERED)
    found = delivery(books, seq)

    assert (found.state, found.settled_at) == (DeliveryState.DELIVERED, START + SECOND)
    assert found.tries == (Try(START, TryOutcome.DELIVERED),)
    assert waiting(books) == []
    assert len(waiting(books, "ops")) == 1


def test_every_try_is_kept_and_the_first_has_its_uptime(books: Books) -> None:
    seq = books(tell(event(), "team"))
    for number in (1, 2, 3):
        settle(books, waiting(books), uptime=number * HOUR, at=START + number)
    only = waiting(books)[0]

    assert (only.attempts, only.first_try_uptime) == (3, HOUR)
    assert [one.at for one in delivery(books, seq).tries] == [START + 1, START + 2, START + 3]


def test_only_a_refusal_of_one_alone_counts_as_alone(books: Books) -> None:
    books(tell(event(number=1), "team"))
    settle(books, waiting(books))
    settle(books, waiting(books), TryOutcome.UNKNOWN)
    settle(books, waiting(books), refused=True)
    books(tell(event(number=2), "team"))
    settle(books, waiting(books), refused=True)

    assert [one.alone for one in waiting(books)] == [1, 0]


def test_what_has_ended_meanwhile_is_not_settled_again(books: Books) -> None:
    seq = books(tell(event(), "team"))
    told = waiting(books)
    books(lambda ledger: ledger.outbox.drop("team", "its channel is gone", START))
    settle(books, told, TryOutcome.DELIVERED)

    assert delivery(books, seq).state is DeliveryState.DROPPED
    assert delivery(books, seq).reason == "its channel is gone"


def test_a_dead_delivery_is_listed_counted_and_pending_again_when_asked_for(
    books: Books,
) -> None:
    seq = books(tell(event(), "team"))
    settle(books, waiting(books))
    books(lambda ledger: ledger.outbox.end(seq, "team", DeliveryState.DEAD, "given up", START))
    dead = books(lambda ledger: (ledger.outbox.dead(), ledger.outbox.dead_ones()))
    books(lambda ledger: ledger.outbox.redeliver(seq, "team", "asked for", START + HOUR))
    again = waiting(books)[0]

    assert dead == (1, [(seq, "team")])
    assert books(lambda ledger: ledger.outbox.dead()) == 0
    assert (again.due_at, again.alone, again.first_try_uptime) == (START + HOUR, 0, None)
    # Its tries are numbered on.
    settle(books, waiting(books), TryOutcome.DELIVERED)
    assert len(delivery(books, seq).tries) == 2


def test_an_event_can_be_delivered_where_it_was_never_meant_to_go(books: Books) -> None:
    seq = books(tell(event(), "team"))
    books(lambda ledger: ledger.outbox.redeliver(seq, "ops", "asked for", START))

    assert delivery(books, seq, "ops").state is DeliveryState.PENDING
    assert delivery(books, seq, "ops").reason == "asked for"


def test_the_newest_are_listed_oldest_first_by_state_and_channel(books: Books) -> None:
    for number in range(4):
        books(tell(event(number=number), "team", "ops"))
    settle(books, waiting(books)[:1], TryOutcome.DELIVERED)

    def newest(state: DeliveryState | None, channel: str | None, limit: int) -> list[int]:
        found = books(
            lambda ledger: ledger.outbox.newest(state=state, channel=channel, limit=limit)
        )
        return [one.seq for one in found]

    assert newest(None, "team", 2) == [3, 4]
    assert newest(DeliveryState.PENDING, "team", 9) == [2, 3, 4]
    assert newest(DeliveryState.DELIVERED, None, 9) == [1]
    assert newest(None, None, 3) == [3, 4, 4]


def test_a_delivery_put_off_waits_for_its_time(books: Books) -> None:
    seq = books(tell(event(), "team"))
    books(lambda ledger: ledger.outbox.put_off(seq, "team", START + HOUR))

    assert delivery(books, seq).next_try_at == START + HOUR
    assert waiting(books)[0].due_at == START + HOUR
