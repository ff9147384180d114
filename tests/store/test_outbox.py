"""What a channel has still to be told, over every database."""

from __future__ import annotations

from tests.builders import HOUR, SECOND, account, event, tell
from tests.fakes import START
from tests.store.databases import Books
from watcher.courier import ALONE_LIMIT
from watcher.model import Delivery, DeliveryState, EventType, Try, TryOutcome
from watcher.store.outbox import Waiting


def waiting(books: Books, channel: str = "team", limit: int = 99) -> list[Waiting]:
    return books(lambda ledger: ledger.outbox.waiting(channel, limit, refusals=ALONE_LIMIT))


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

    assert [one.id[-3] for one in waiting(books)] == ["3", "1", "2"]
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
    books(lambda ledger: ledger.outbox.end([seq], "team", DeliveryState.DEAD, "given up", START))
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


def test_one_message_may_settle_a_thousand(books: Books) -> None:
    count = 1_100
    events = [tell(event(number=number), "team", "ops") for number in range(count)]
    seqs = books(lambda ledger: [one(ledger) for one in events])
    told = waiting(books, limit=count)
    settle(books, told[:600], at=START)
    books(lambda ledger: ledger.outbox.end(seqs[3:4], "team", DeliveryState.DROPPED, "gone", 1))
    settle(books, told, TryOutcome.DELIVERED, uptime=HOUR, at=START + SECOND)
    tries = [[one.at for one in delivery(books, seqs[index]).tries] for index in (0, 3, 599, 600)]

    assert len(told) == count
    assert tries == [[START, START + SECOND], [START], [START, START + SECOND], [START + SECOND]]
    assert delivery(books, seqs[3]).state is DeliveryState.DROPPED
    assert delivery(books, seqs[-1]).settled_at == START + 2 * SECOND
    assert books(lambda ledger: ledger.outbox.pending_by_channel()) == {"ops": count}


def test_what_was_refused_again_and_again_takes_no_place_of_the_others(books: Books) -> None:
    for number in range(6):
        books(tell(event(number=number), "team"))
    for _ in range(ALONE_LIMIT):
        for one in waiting(books)[:2]:
            settle(books, [one], refused=True)

    assert [one.seq for one in waiting(books, limit=3)] == [3, 4, 5]
    assert [one.seq for one in waiting(books, limit=5)] == [1, 2, 3, 4, 5, 6]


def test_trouble_is_read_with_the_first_of_many(books: Books) -> None:
    for number in range(9):
        books(tell(event(number=number), "team"))
    about = account(trouble="unreachable")
    books(lambda ledger: ledger.subjects.put_account(about))
    seq = books(tell(event(EventType.ACCOUNT_UNREACHABLE), "team", "ops"))

    assert [one.seq for one in waiting(books, limit=2)] == [1, 2, seq]
    assert [one.of_batch for one in waiting(books, limit=2)] == [True, True, False]
