"""Batches, events and leases as verbs, over every database."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.builders import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    account,
    batch,
    counts,
    event,
    registering,
    tell,
    told,
)
from tests.fakes import START
from tests.store.databases import Books
from watcher.model import (
    Account,
    Batch,
    Channel,
    Event,
    EventType,
    Outcome,
    Problem,
    Results,
    Severity,
    Status,
)
from watcher.store.agenda import Horizon
from watcher.store.codec import decode_event, encode_event
from watcher.store.ledger import Ledger, Told
from watcher.store.outbox import read_waiting

HORIZON = START + DAY
KEEP = {"keep": 90 * DAY, "stub_keep": 365 * DAY, "limit": 100}


def register(books: Books, id: str = "batch_1", now: int = START, **said: Any) -> Batch:
    registered = books(lambda ledger: ledger.batches.register(registering(id, **said), now))
    if registered is None:
        raise LookupError("it stays gone")
    return registered


def get(books: Books, id: str = "batch_1", account: str = "openai") -> Batch | None:
    return books(lambda ledger: ledger.batches.get(account, id))


def record(books: Books, before: Batch, *channels: str, **changes: Any) -> bool:
    """Record a look that makes an event for these channels."""
    after = replace(before, revision=before.revision + 1, **changes)
    kind = EventType(f"batch.{after.status}")
    return books(
        lambda ledger: ledger.record(
            before, after, told(event(kind, about=after), *channels), None, START
        )
    )


def finish(books: Books, id: str, *channels: str) -> Batch:
    """A batch that was registered and has ended."""
    record(
        books,
        register(books, id),
        *channels,
        status=Status.COMPLETED,
        end_seen_at=START,
        next_look_at=None,
    )
    return get(books, id) or batch()


def claim(books: Books, now: int = START, limit: int = 9, under_way: tuple[str, ...] = ()) -> Any:
    found = books(
        lambda ledger: ledger.agenda.due(
            "openai", now, limit, Horizon(now + DAY, now + DAY), under_way
        )
    )
    return [one.id for one in found]


# Writing and reading

RICH = batch(
    Status.COMPLETED,
    revision=7,
    edition=2,
    raw_status="completed",
    outcome=Outcome.PARTIAL,
    counts=counts(9, 0, 9),
    provider_name="\N{SNOWMAN} evals",
    metadata={"list": ["a", 1, None], "deep": {"x": 1.5}, "empty": {}},
    created_at=START,
    ended_at=START + 1,
    results=Results("file-1", None),
    problems=(Problem("code", "message", 3), Problem(message="only words")),
    problem_total=9_000,
    reason="why",
    next_look_at=START + 5,
    looks=3,
    failures=2,
    last_error="404",
    missing_since=START,
    missing_looks=2,
    results_awaited_since=START,
    end_seen_at=START,
)


def test_a_batch_comes_back_as_it_was_written(books: Books) -> None:
    before = register(books, tags=("a", "b"), group="evals", channels=("team",), name="named")
    after = replace(RICH, registration=before.registration, edition=before.edition)
    recorded = books(lambda ledger: ledger.record(before, after, None, None, START))

    assert recorded
    assert get(books) == after


@pytest.mark.parametrize(
    "subject",
    [
        event(EventType.COMPLETED, about=RICH, occurred_at=START, previous_status=Status.QUEUED),
        event(EventType.LOST, about=batch(Status.LOST, reason="gone"), reason="gone"),
        event(EventType.ACCOUNT_UNAUTHORIZED, reason="401", severity=Severity.FAILURE),
        event(EventType.CHANNEL_RECOVERED, channel="team"),
    ],
)
def test_an_event_comes_back_as_it_was_written(books: Books, subject: Event) -> None:
    seq = books(tell(subject, "team"))
    found = books(lambda ledger: ledger.events.with_id(subject.id))

    assert found is not None
    assert found[0] == replace(subject, seq=seq)
    assert [choice.channel for choice in found[1]] == ["team"]
    assert decode_event(0, encode_event(subject)) == subject


@pytest.mark.parametrize(
    "known",
    [
        account(),
        account(revision=3, trouble="unauthorized", refused=("/", "batch_1"), words=("new",)),
        account(paused_until=START, pause_reason="429", limited=2, good_at=START, probed_at=0),
    ],
)
def test_an_account_comes_back_as_it_was_written(books: Books, known: Account) -> None:
    books(lambda ledger: ledger.subjects.put_account(known))

    assert books(lambda ledger: ledger.subjects.account("openai", "other")) == known
    assert books(lambda ledger: ledger.subjects.accounts()) == [known]


@pytest.mark.parametrize(
    "known", [Channel("team"), Channel("team", 2, trouble=True, message_size=4, absent_since=0)]
)
def test_a_channel_comes_back_as_it_was_written(books: Books, known: Channel) -> None:
    books(lambda ledger: ledger.subjects.put_channel(known))

    assert books(lambda ledger: ledger.subjects.channel("team")) == known
    assert books(lambda ledger: ledger.subjects.channels()) == [known]


# Registering


def test_registering_again_changes_what_is_said_and_leaves_the_rest(books: Books) -> None:
    first = register(books, name="evals", tags=("a",), registered_by="ana")
    second = register(books, now=START + HOUR, tags=("b",), group="g")

    assert (first.edition, second.edition) == (0, 1)
    assert get(books) == second
    assert second.registration == replace(first.registration, tags=("b",), group="g")


def test_saying_the_same_again_changes_nothing(books: Books) -> None:
    first = register(books, tags=("a",))

    assert register(books, now=START + HOUR, tags=("a",)) == first


def test_a_look_that_began_before_a_change_of_registration_is_not_recorded(books: Books) -> None:
    before = register(books)
    register(books, tags=("new",))

    assert not record(books, before, "team", status=Status.IN_PROGRESS)
    assert books(lambda ledger: ledger.events.after(0, 10)) == []
    assert claim(books) == ["batch_1"]


def test_a_look_at_another_revision_is_not_recorded(books: Books) -> None:
    before = register(books)
    first = record(books, before, "team", status=Status.IN_PROGRESS)
    second = record(books, before, "team", status=Status.COMPLETED)

    assert (first, second) == (True, False)
    assert [one.type for one in books(lambda ledger: ledger.events.after(0, 10))] == [
        EventType.IN_PROGRESS
    ]


def test_a_look_at_a_batch_that_was_removed_is_not_recorded(books: Books) -> None:
    before = register(books)
    books(lambda ledger: ledger.remove([before], START))

    assert not record(books, before, status=Status.IN_PROGRESS)


def test_an_event_its_state_and_its_deliveries_are_one(books: Books) -> None:
    before = register(books)
    after = replace(before, revision=1, status=Status.IN_PROGRESS)
    clash = told(event(EventType.IN_PROGRESS, about=after), "team", "team")

    with pytest.raises(Exception, match="UNIQUE"):
        books(lambda ledger: ledger.record(before, after, clash, account(limited=1), START))

    assert get(books) == before
    assert books(lambda ledger: ledger.events.after(0, 10)) == []
    assert books(lambda ledger: ledger.subjects.accounts()) == []


# Removed, revived, pruned


def test_a_removed_batch_is_not_looked_at_and_keeps_what_is_pending(books: Books) -> None:
    record(books, register(books), "team", status=Status.IN_PROGRESS)
    removed = books(lambda ledger: ledger.remove([get_in(ledger)], START))
    again = books(lambda ledger: ledger.remove([get_in(ledger)], START))

    assert ([one.removed_at for one in removed], again) == ([START], [])
    assert claim(books, START + DAY) == []
    assert books(lambda ledger: ledger.outbox.pending("team")) == 1
    assert books(lambda ledger: ledger.batches.watched(open_only=False)) == []


def get_in(ledger: Ledger) -> Batch:
    return ledger.batches.get("openai", "batch_1") or batch()


def test_only_a_person_brings_back_what_was_removed(books: Books) -> None:
    record(books, register(books, tags=("old",)), status=Status.IN_PROGRESS)
    books(lambda ledger: ledger.remove([get_in(ledger)], START))
    wanted = registering(revive=False)
    by_itself = books(lambda ledger: ledger.batches.register(wanted, START))
    revived = register(books, now=START + HOUR, tags=("new",))

    assert by_itself is None
    assert (revived.revision, revived.status) == (1, None)
    assert revived.registration.tags == ("new",)
    assert get(books) == revived
    assert claim(books, START + HOUR) == ["batch_1"]


def test_a_look_from_before_the_removal_is_not_recorded_over_the_revived(books: Books) -> None:
    before = register(books)
    books(lambda ledger: ledger.remove([before], START))
    register(books)

    assert not record(books, before, status=Status.IN_PROGRESS)


def prune(books: Books, now: int) -> int:
    return books(lambda ledger: ledger.prune(now, **KEEP))


def test_what_ended_long_ago_goes_with_its_events_and_leaves_its_revision(books: Books) -> None:
    finish(books, "batch_1")
    early = prune(books, START + 90 * DAY)
    late = prune(books, START + 90 * DAY + 1)
    revived = register(books, now=START + 91 * DAY)

    assert (early, late) == (0, 1)
    assert books(lambda ledger: ledger.events.after(0, 10)) == []
    assert (revived.revision, revived.status, revived.end_seen_at) == (1, None, None)


def test_a_pruned_batch_is_nowhere_and_nobody_but_a_person_brings_it_back(books: Books) -> None:
    finish(books, "batch_1")
    prune(books, START + 91 * DAY)
    wanted = registering(revive=False)

    assert get(books) is None
    assert books(lambda ledger: ledger.batches.by_id(["batch_1"])) == {}
    assert books(lambda ledger: ledger.batches.watched(open_only=False)) == []
    assert books(lambda ledger: ledger.batches.register(wanted, START)) is None


def test_a_poisonous_look_does_not_bring_back_what_was_pruned_meanwhile(books: Books) -> None:
    over = finish(books, "batch_1")
    prune(books, START + 91 * DAY)
    books(lambda ledger: ledger.agenda.put_off(over, START))

    assert claim(books, START + 92 * DAY) == []


def test_a_key_is_kept_for_a_year_after_its_batch(books: Books) -> None:
    finish(books, "batch_1")
    prune(books, START + 91 * DAY)
    prune(books, START + 91 * DAY + 365 * DAY)
    kept = books(lambda ledger: ledger.batches.register(registering(revive=False), START))
    prune(books, START + 91 * DAY + 365 * DAY + 1)
    gone = books(lambda ledger: ledger.batches.register(registering(revive=False), START))

    assert kept is None
    assert gone is not None
    assert gone.revision == 0


def test_nothing_that_is_still_to_be_told_is_pruned(books: Books) -> None:
    finish(books, "batch_1", "team")
    books(tell(event(EventType.ACCOUNT_UNREACHABLE), "team"))
    first = prune(books, START + 400 * DAY)
    books(lambda ledger: ledger.outbox.drop("team", "on purpose", START))
    second = prune(books, START + 400 * DAY)

    assert (first, second) == (0, 2)
    assert books(lambda ledger: ledger.outbox.newest(state=None, channel=None, limit=9)) == []


def test_what_is_open_or_ended_lately_is_not_pruned(books: Books) -> None:
    record(books, register(books, "open"), status=Status.IN_PROGRESS)
    finish(books, "ended")

    assert prune(books, START + 90 * DAY) == 0
    assert prune(books, START + 400 * DAY) == 1
    assert get(books, "open") is not None


def test_a_removed_batch_is_pruned_though_it_never_ended(books: Books) -> None:
    removed = register(books)
    books(lambda ledger: ledger.remove([removed], START))

    assert prune(books, START + 91 * DAY) == 1
    assert get(books) is None


def test_pruning_goes_in_bounded_steps(books: Books) -> None:
    for number in range(5):
        finish(books, f"batch_{number}")
    now = START + 91 * DAY
    steps = [
        books(lambda ledger: ledger.prune(now, keep=DAY, stub_keep=DAY, limit=2)) for _ in range(4)
    ]

    assert steps == [2, 2, 1, 0]


# Claiming


def test_what_is_due_is_claimed_oldest_due_first(books: Books) -> None:
    for place, id in enumerate(["c", "a", "b", "later"]):
        register(books, id, now=START + place * SECOND)

    assert claim(books, START + 2 * SECOND) == ["c", "a", "b"]
    assert claim(books, START + 2 * SECOND, limit=2) == ["c", "a"]
    assert claim(books, START + 2 * SECOND, limit=2, under_way=("c",)) == ["a", "b"]


def test_a_due_time_further_ahead_than_any_wait_is_due(books: Books) -> None:
    register(books, now=START + DAY + 1)

    assert claim(books, START) == ["batch_1"]
    assert claim(books, START + 1) == []


def test_what_a_clock_set_back_left_ahead_is_overdue(books: Books) -> None:
    for id, due in (("past", -MINUTE), ("soon", MINUTE), ("ahead", HOUR)):
        register(books, id, now=START + due)
    before = register(books, "ended")
    record(
        books,
        before,
        status=Status.COMPLETED,
        end_seen_at=START,
        next_look_at=START + HOUR,
    )

    def overdue(horizon: int) -> list[str]:
        return books(
            lambda ledger: ledger.agenda.overdue(
                "openai", START, Horizon(START + horizon, START + 10 * MINUTE)
            )
        )

    # An open one is never due in an hour; one that has ended may be.
    assert sorted(overdue(2 * HOUR)) == ["ahead", "past"]
    assert sorted(overdue(30 * MINUTE)) == ["ahead", "ended", "past"]


def test_a_batch_of_another_account_is_not_claimed(books: Books) -> None:
    register(books, account="cohere")

    assert claim(books) == []


def test_the_next_due_time_leaves_out_what_is_under_way(books: Books) -> None:
    register(books, "a", now=START)
    register(books, "b", now=START + MINUTE)
    due = books(
        lambda ledger: [
            ledger.agenda.next_due("openai", frozenset(ids)) for ids in ((), ("a",), ("a", "b"))
        ]
    )

    assert due == [START, START + MINUTE, None]


def test_due_times_are_only_given_to_what_still_needs_looks(books: Books) -> None:
    register(books, "watched")
    finish(books, "over")
    books(lambda ledger: ledger.agenda.spread("openai", [("watched", START + 1), ("over", START)]))

    assert claim(books, START) == []
    assert claim(books, START + 1) == ["watched"]


# Another name


def test_an_account_adopts_the_batches_of_its_former_name_with_all_their_past(
    books: Books,
) -> None:
    record(books, register(books, "batch_1"), "team", status=Status.IN_PROGRESS)
    register(books, "both")
    register(books, "both", account="main")
    moved = books(lambda ledger: ledger.batches.adopt("main", "openai", START))
    adopted = get(books, "batch_1", "main")
    past = books(lambda ledger: ledger.events.of_subject("main/batch_1"))

    assert moved == 1
    assert adopted is not None
    assert (adopted.revision, adopted.status) == (1, Status.IN_PROGRESS)
    assert get(books, "both", "openai") is not None
    assert [one.id for one, _ in past] == ["openai/batch_1@1"]


def test_what_was_adopted_is_pruned_with_its_past(books: Books) -> None:
    finish(books, "batch_1")
    books(lambda ledger: ledger.batches.adopt("main", "openai", START))

    assert prune(books, START + 91 * DAY) == 1
    assert books(lambda ledger: ledger.events.after(0, 10)) == []


# Events


def test_seq_rises_by_one_with_each_event_and_survives_what_is_taken_back(books: Books) -> None:
    def spoiled(ledger: Ledger) -> None:
        tell(event(number=99))(ledger)
        raise LookupError("on purpose")

    first = [books(tell(event(number=number))) for number in range(3)]
    with pytest.raises(LookupError):
        books(spoiled)
    after = books(tell(event(number=3)))

    assert (first, after) == ([1, 2, 3], 4)
    assert [one.seq for one in books(lambda ledger: ledger.events.after(2, 10))] == [3, 4]


def test_seq_is_not_used_again_after_pruning(books: Books) -> None:
    books(tell(event(EventType.ACCOUNT_UNREACHABLE)))
    prune(books, START + 91 * DAY)

    assert books(tell(event())) == 2


def test_no_event_has_the_id_of_another(books: Books) -> None:
    books(tell(event()))

    with pytest.raises(Exception, match="UNIQUE"):
        books(tell(event()))


def test_a_position_is_found_by_time(books: Books) -> None:
    for number in range(3):
        books(tell(event(number=number, detected_at=START + number * HOUR)))
    moments = [START + after for after in (0, 1, 2 * HOUR, 3 * HOUR)]
    positions = books(lambda ledger: [ledger.events.position_before(at) for at in moments])

    assert positions == [0, 1, 2, 3]


# Processes


def lease(books: Books, holder: str, now: int, *names: str) -> set[str]:
    return books(lambda ledger: ledger.process.lease(names, holder, now, now + 15 * SECOND))


def holds(books: Books, holder: str, now: int, name: str = "account:openai") -> bool:
    return books(lambda ledger: ledger.process.holds(name, holder, now))


def test_a_lease_belongs_to_one_process_until_it_runs_out(books: Books) -> None:
    first = lease(books, "one", START, "account:openai")
    second = lease(books, "two", START + 15 * SECOND, "account:openai", "channel:team")
    third = lease(books, "two", START + 15 * SECOND + 1, "account:openai")

    assert (first, second) == ({"account:openai"}, {"channel:team"})
    assert third == {"account:openai"}
    assert holds(books, "two", START + 16 * SECOND)
    assert not holds(books, "one", START + SECOND)


def test_a_lease_is_renewed_by_its_holder(books: Books) -> None:
    lease(books, "one", START, "account:openai")
    lease(books, "one", START + 10 * SECOND, "account:openai")

    assert holds(books, "one", START + 25 * SECOND)
    assert not holds(books, "one", START + 25 * SECOND + 1)


@pytest.mark.parametrize("how", ["released", "voided"])
def test_a_lease_let_go_is_free_at_once(books: Books, how: str) -> None:
    lease(books, "one", START, "account:openai")

    def let_go(ledger: Ledger) -> None:
        if how == "released":
            ledger.process.release("one")
        else:
            ledger.process.void_leases()

    books(let_go)

    assert lease(books, "two", START, "account:openai") == {"account:openai"}


def test_releasing_leaves_the_leases_of_others(books: Books) -> None:
    lease(books, "one", START, "account:openai")
    books(lambda ledger: ledger.process.release("two"))

    assert holds(books, "one", START)


def test_uptime_adds_up(books: Books) -> None:
    sums = books(lambda ledger: [ledger.process.count_uptime(more) for more in (5, 0, 7)])

    assert sums == [5, 5, 12]


def test_what_a_daemon_says_of_itself_replaces_what_it_said(books: Books) -> None:
    books(lambda ledger: ledger.process.put("daemon", {"pid": 1, "at": START}))
    books(lambda ledger: ledger.process.put("daemon", {"pid": 2}))

    assert books(lambda ledger: ledger.process.get("daemon")) == {"pid": 2}
    assert books(lambda ledger: ledger.process.get("names")) == {}


def test_an_account_is_kept_with_the_event_it_made(books: Books) -> None:
    troubled = account(revision=1, trouble="unreachable")
    news = Told(event(EventType.ACCOUNT_UNREACHABLE), told(event(), "team").choices)
    books(lambda ledger: ledger.record_account(troubled, news, START))

    assert books(lambda ledger: ledger.subjects.account("openai", "openai")) == troubled
    assert books(lambda ledger: ledger.outbox.pending_by_channel()) == {"team": 1}


# Counting


def test_open_and_late_batches_are_counted(books: Books) -> None:
    register(books, "new")
    record(books, register(books, "running"), status=Status.IN_PROGRESS)
    finish(books, "ended")
    register(books, "gone")
    books(lambda ledger: ledger.remove([ledger.batches.by_id(["gone"])["gone"][0]], START))

    assert books(lambda ledger: ledger.batches.open_counts()) == {
        ("openai", None): 1,
        ("openai", "in_progress"): 1,
    }
    assert books(lambda ledger: ledger.batches.accounts_in_use()) == {"openai": 3}
    assert books(lambda ledger: ledger.agenda.late(START + 1)) == 2
    assert len(books(lambda ledger: ledger.batches.watched(open_only=True))) == 2


def test_an_ended_batch_is_of_no_open_count(books: Books) -> None:
    finish(books, "batch_1")

    assert books(lambda ledger: ledger.batches.watched(open_only=True)) == []
    assert len(books(lambda ledger: ledger.batches.watched(open_only=False))) == 1


def test_a_name_that_comes_back_uses_no_event_id_twice(books: Books) -> None:
    record(books, register(books, "batch_1"), "team", status=Status.IN_PROGRESS)
    books(lambda ledger: ledger.batches.adopt("main", "openai", START))
    again = register(books, "batch_1")
    back = books(lambda ledger: ledger.batches.adopt("openai", "main", START))

    assert again.revision == 1
    assert back == 0
    assert get(books, "batch_1", "main") is not None


def test_what_was_adopted_goes_back_with_all_its_past(books: Books) -> None:
    record(books, register(books, "batch_1"), "team", status=Status.IN_PROGRESS)
    books(lambda ledger: ledger.batches.adopt("main", "openai", START))
    moved = books(lambda ledger: ledger.batches.adopt("openai", "main", START))
    home = get(books, "batch_1", "openai")

    assert moved == 1
    assert home is not None
    assert (home.revision, home.status) == (1, Status.IN_PROGRESS)
    assert get(books, "batch_1", "main") is None


def test_rows_of_a_later_version_of_the_schema_are_read_without_what_is_new(books: Books) -> None:
    record(books, register(books, "batch_1"), "team", status=Status.IN_PROGRESS)
    books(lambda ledger: ledger.subjects.put_account(account(limited=2)))

    def grow(table: str, column: str) -> Any:
        return lambda ledger: ledger.batches._work.execute(
            f"UPDATE {table} SET {column} = '{{\"brand_new\":1,' || SUBSTR({column}, 2)"  # noqa: S608 - names of our own
        )

    for table, column in (("batches", "state"), ("accounts", "state"), ("events", "document")):
        books(grow(table, column))

    assert get(books, "batch_1") is not None
    assert books(lambda ledger: ledger.subjects.account("openai", "openai")).limited == 2
    assert len(books(lambda ledger: ledger.events.after(0, 9))) == 1


def test_an_event_that_cannot_be_read_keeps_no_other_from_being_told(books: Books) -> None:
    for number in range(3):
        books(tell(event(number=number), "team"))
    books(
        lambda ledger: ledger.batches._work.execute(
            'UPDATE events SET document = \'{"type":"batch.from_the_future"}\' WHERE seq = 2'
        )
    )
    waiting = books(lambda ledger: ledger.outbox.waiting("team", 9, refusals=3))
    events, unreadable = read_waiting(waiting)

    assert [one.seq for one in events] == [1, 3]
    assert unreadable == [2]
