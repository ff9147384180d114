"""What looks mean: each line of the contract's words and events, and laws that hold for all."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import DAY, HOUR, MINUTE, SECOND, batch, counts, done, ended, seen
from tests.fakes import START
from watcher import cadence, lifecycle
from watcher.lifecycle import NEVER_FOUND, Step, advance, missed, outcome_of, severity_of
from watcher.model import (
    Batch,
    Counts,
    EventType,
    Observation,
    Outcome,
    Results,
    Severity,
    Status,
)

OPEN = [status for status in Status if not status.terminal]
SEEN_TO_END = [Status.COMPLETED, Status.FAILED, Status.EXPIRED, Status.CANCELLED]


def look(before: Batch, observation: Observation, now: int = START) -> Step:
    return advance(before, observation, now)


def told(step: Step) -> tuple[EventType, Status | None] | None:
    return None if step.event is None else (step.event.type, step.event.previous_status)


# Outcome and severity


@pytest.mark.parametrize(
    ("status", "total", "completed", "outcome"),
    [
        (Status.COMPLETED, None, None, None),
        (Status.EXPIRED, None, None, None),
        (Status.CANCELLED, None, None, None),
        (Status.FAILED, None, None, Outcome.EMPTY),
        (Status.COMPLETED, 0, 0, None),
        (Status.EXPIRED, 0, 0, None),
        (Status.FAILED, 0, 0, Outcome.EMPTY),
        (Status.CANCELLED, 0, 0, Outcome.EMPTY),
        (Status.COMPLETED, 9, 9, Outcome.OK),
        (Status.COMPLETED, 9, 10, Outcome.OK),
        (Status.COMPLETED, 9, 0, Outcome.EMPTY),
        (Status.COMPLETED, 9, 8, Outcome.PARTIAL),
        (Status.FAILED, 9, 3, Outcome.PARTIAL),
        (Status.EXPIRED, 9, 1, Outcome.PARTIAL),
        (Status.EXPIRED, 9, 0, Outcome.EMPTY),
        (Status.CANCELLED, 9, 4, Outcome.PARTIAL),
        (Status.CANCELLED, 9, 0, Outcome.EMPTY),
        (Status.COMPLETED, 9, None, None),
        (Status.LOST, 9, 4, None),
    ],
)
def test_the_outcome_follows_from_the_counts(
    status: Status, total: int | None, completed: int | None, outcome: Outcome | None
) -> None:
    assert outcome_of(status, counts(total, completed)) is outcome


@pytest.mark.parametrize(
    ("status", "outcome", "severity"),
    [
        (Status.COMPLETED, Outcome.OK, Severity.SUCCESS),
        (Status.COMPLETED, Outcome.PARTIAL, Severity.WARNING),
        (Status.COMPLETED, Outcome.EMPTY, Severity.FAILURE),
        (Status.COMPLETED, None, Severity.INFO),
        (Status.FAILED, Outcome.PARTIAL, Severity.WARNING),
        (Status.FAILED, Outcome.EMPTY, Severity.FAILURE),
        (Status.FAILED, None, Severity.FAILURE),
        (Status.EXPIRED, Outcome.PARTIAL, Severity.WARNING),
        (Status.EXPIRED, Outcome.EMPTY, Severity.FAILURE),
        (Status.EXPIRED, None, Severity.FAILURE),
        (Status.CANCELLED, Outcome.PARTIAL, Severity.WARNING),
        (Status.CANCELLED, Outcome.EMPTY, Severity.INFO),
        (Status.CANCELLED, None, Severity.INFO),
        (Status.LOST, None, Severity.FAILURE),
        *((status, None, Severity.INFO) for status in OPEN if status is not Status.UNKNOWN),
        (Status.UNKNOWN, None, Severity.WARNING),
    ],
)
def test_the_severity_follows_from_status_and_outcome(
    status: Status, outcome: Outcome | None, severity: Severity
) -> None:
    assert severity_of(EventType(f"batch.{status}"), status, outcome) is severity


@pytest.mark.parametrize(
    ("event_type", "severity"),
    [
        (EventType.REOPENED, Severity.WARNING),
        (EventType.ACCOUNT_UNAUTHORIZED, Severity.FAILURE),
        (EventType.ACCOUNT_UNREACHABLE, Severity.FAILURE),
        (EventType.CHANNEL_FAILING, Severity.FAILURE),
        (EventType.ACCOUNT_RECOVERED, Severity.SUCCESS),
        (EventType.CHANNEL_RECOVERED, Severity.SUCCESS),
    ],
)
def test_trouble_is_a_failure_and_recovery_a_success(
    event_type: EventType, severity: Severity
) -> None:
    assert severity_of(event_type, Status.IN_PROGRESS, None) is severity


# Transitions


@pytest.mark.parametrize("status", [one for one in Status if one is not Status.LOST])
def test_the_first_sight_is_an_event_without_a_previous_status(status: Status) -> None:
    step = look(batch(), seen(status))

    assert told(step) == (EventType(f"batch.{status}"), None)
    assert step.batch.revision == 1
    assert step.event is not None
    assert step.event.id == "openai/batch_1@1"
    assert step.event.batch == step.batch


@pytest.mark.parametrize("status", [one for one in OPEN if one is not Status.UNKNOWN])
def test_the_same_open_status_again_is_no_event(status: Status) -> None:
    step = look(batch(status), seen(status))

    assert step.event is None
    assert step.batch.revision == 1
    assert step.batch.looks == 1


@pytest.mark.parametrize("after", [one for one in Status if one is not Status.LOST])
@pytest.mark.parametrize("before", OPEN)
def test_an_open_batch_that_stands_elsewhere_is_told_there(before: Status, after: Status) -> None:
    step = look(batch(before, revision=3), seen(after))

    if before is after is not Status.UNKNOWN:
        assert step.event is None
    else:
        assert told(step) == (EventType(f"batch.{after}"), before)
        assert step.batch.revision == 4


@pytest.mark.parametrize("after", SEEN_TO_END)
@pytest.mark.parametrize("before", [*SEEN_TO_END, Status.LOST])
def test_terminal_to_another_terminal_is_the_other_ones_event(
    before: Status, after: Status
) -> None:
    outcome = Outcome.EMPTY if before is Status.FAILED else None
    step = look(ended(before, outcome), seen(after), START + MINUTE)

    if before is after:
        assert step.event is None
    else:
        assert told(step) == (EventType(f"batch.{after}"), before)
        assert step.batch.end_seen_at == START + MINUTE


@pytest.mark.parametrize("after", [one for one in OPEN if one is not Status.UNKNOWN])
@pytest.mark.parametrize("before", [*SEEN_TO_END, Status.LOST])
def test_terminal_to_open_is_reopened(before: Status, after: Status) -> None:
    step = look(ended(before, ended_at=START - 1), seen(after))

    assert told(step) == (EventType.REOPENED, before)
    assert step.batch.status is after
    assert step.batch.outcome is None
    assert step.batch.end_seen_at is None
    assert step.batch.ended_at is None


def test_the_second_end_has_its_own_time() -> None:
    reopened = look(ended(ended_at=START - HOUR), seen()).batch
    step = look(reopened, done(ended_at=START + HOUR), START + HOUR)

    assert step.event is not None
    assert step.event.occurred_at == START + HOUR
    assert step.batch.end_seen_at == START + HOUR


def test_an_unknown_word_does_not_open_what_has_ended() -> None:
    step = look(ended(), seen(Status.UNKNOWN, raw_status="archived"))

    assert step.event is None
    assert step.batch.status is Status.COMPLETED


def test_a_lost_batch_that_is_seen_is_no_longer_lost_whatever_the_word() -> None:
    step = look(ended(Status.LOST, None), seen(Status.UNKNOWN, raw_status="marinating"))

    assert told(step) == (EventType.REOPENED, Status.LOST)
    assert step.batch.status is Status.UNKNOWN


def test_another_unknown_word_is_another_event() -> None:
    before = batch(Status.UNKNOWN, raw_status="marinating")

    assert look(before, seen(Status.UNKNOWN, raw_status="marinating")).event is None
    assert told(look(before, seen(Status.UNKNOWN, raw_status="resting"))) == (
        EventType.UNKNOWN,
        Status.UNKNOWN,
    )


def test_an_outcome_that_changes_after_the_end_is_told_again() -> None:
    first = look(batch(Status.IN_PROGRESS), done(9, 7))
    second = look(first.batch, done(9, 9), START + MINUTE)

    assert told(second) == (EventType.COMPLETED, Status.COMPLETED)
    assert second.event is not None
    assert second.event.id == "openai/batch_1@3"
    assert second.event.severity is Severity.SUCCESS
    assert second.event.occurred_at is None
    assert second.batch.end_seen_at == START


def test_an_end_that_stays_is_told_once() -> None:
    first = look(batch(Status.IN_PROGRESS), done(9, 7))
    second = look(first.batch, done(9, 7, results=Results("file-1", "file-2")), START + MINUTE)

    assert second.event is None
    assert second.batch.results.errors == "file-2"


def test_an_answer_without_one_of_the_counts_takes_none_back() -> None:
    known = ended(Status.CANCELLED, Outcome.PARTIAL, counts=counts(9, 4, 0))
    poorer = look(known, seen(Status.CANCELLED, counts=counts(None, 4)))
    other = look(known, seen(Status.CANCELLED, counts=counts(9, 0)))

    assert (poorer.event, poorer.batch.counts) == (None, counts(9, 4, 0))
    assert other.batch.counts == counts(9, 0, 0)
    assert other.batch.outcome is Outcome.EMPTY


def test_what_an_answer_leaves_out_stays_known() -> None:
    rich = seen(name="evals", metadata={"a": "b"}, expires_at=START + DAY, counts=counts(9, 1, 0))
    before = look(batch(), rich).batch
    after = look(before, seen(Status.CANCELLED, created_at=None)).batch

    assert (after.provider_name, after.metadata) == ("evals", {"a": "b"})
    assert (after.created_at, after.expires_at) == (START, START + DAY)
    assert after.counts == counts(9, 1, 0)
    assert after.outcome is Outcome.PARTIAL


# When it happened


@pytest.mark.parametrize(
    ("status", "field_name"),
    [
        (Status.VALIDATING, "created_at"),
        (Status.QUEUED, "created_at"),
        (Status.IN_PROGRESS, "in_progress_at"),
        (Status.FINALIZING, "finalizing_at"),
        (Status.CANCELLING, "cancelling_at"),
        (Status.COMPLETED, "ended_at"),
        (Status.FAILED, "ended_at"),
        (Status.EXPIRED, "ended_at"),
        (Status.CANCELLED, "ended_at"),
    ],
)
def test_a_change_occurred_when_the_provider_says(status: Status, field_name: str) -> None:
    step = look(batch(), seen(status, **{field_name: START - 7_120}))

    assert step.event is not None
    assert step.event.occurred_at == START - 7_120
    assert step.event.lag == 7_120


def test_a_batch_queued_after_its_validation_has_no_time_for_it() -> None:
    step = look(batch(Status.VALIDATING), seen(Status.QUEUED))

    assert step.event is not None
    assert step.event.occurred_at is None


def test_an_unknown_lag_is_none_and_a_negative_one_is_0() -> None:
    unknown = look(batch(Status.IN_PROGRESS), done()).event
    future = look(batch(Status.IN_PROGRESS), done(ended_at=START + MINUTE)).event

    assert unknown is not None
    assert unknown.lag is None
    assert future is not None
    assert (future.lag, future.detected_at) == (0, START)


# A result file that is late

NO_FILE = done(9, 9, results=Results())


def test_completed_without_its_file_is_held_until_the_file_appears() -> None:
    held = look(batch(Status.FINALIZING), NO_FILE)
    still = look(held.batch, NO_FILE, START + 59 * SECOND)
    there = look(still.batch, done(), START + 59 * SECOND)

    assert (held.event, still.event) == (None, None)
    assert held.batch.status is Status.FINALIZING
    assert told(there) == (EventType.COMPLETED, Status.FINALIZING)
    assert there.batch.results_awaited_since is None


def test_completed_without_its_file_is_told_after_sixty_seconds() -> None:
    held = look(batch(Status.FINALIZING), NO_FILE)
    step = look(held.batch, NO_FILE, START + 60 * SECOND)

    assert told(step) == (EventType.COMPLETED, Status.FINALIZING)


def test_held_at_first_sight_it_is_still_a_first_sight() -> None:
    held = look(batch(), NO_FILE)
    step = look(held.batch, done(), START + 10 * SECOND)

    assert (held.batch.status, held.batch.revision) == (Status.FINALIZING, 0)
    assert told(step) == (EventType.COMPLETED, None)


@pytest.mark.parametrize("completed", [0, None])
def test_completed_with_nothing_done_awaits_no_file(completed: int | None) -> None:
    observation = seen(Status.COMPLETED, counts=counts(9, completed, 9))

    assert told(look(batch(Status.IN_PROGRESS), observation)) is not None


def test_a_batch_that_runs_on_while_its_file_is_awaited_awaits_nothing() -> None:
    held = look(batch(Status.IN_PROGRESS), NO_FILE)
    step = look(held.batch, seen(), START + 10 * SECOND)

    assert step.event is None
    assert step.batch.results_awaited_since is None


@pytest.mark.parametrize("missing", [False, True])
def test_an_end_is_told_in_time_even_if_the_provider_has_gone_silent(missing: bool) -> None:
    held = look(batch(Status.FINALIZING), replace(NO_FILE, ended_at=START - SECOND))

    def fail(before: Batch, now: int) -> Step:
        if missing:
            return missed(before, "404", now, lost_after=HOUR, account_good_at=None)
        return lifecycle.unanswered(before, "no answer", now)

    early = fail(held.batch, START + 59 * SECOND)
    step = fail(early.batch, START + 60 * SECOND)

    assert early.event is None
    assert told(step) == (EventType.COMPLETED, Status.FINALIZING)
    assert step.event is not None
    assert step.event.occurred_at == START - SECOND
    assert (step.batch.outcome, step.batch.end_seen_at) == (Outcome.OK, START + 60 * SECOND)


# Lost


def miss(before: Batch, now: int, good_at: int | None, lost_after: int = HOUR) -> Step:
    return missed(before, "404", now, lost_after=lost_after, account_good_at=good_at)


def misses(before: Batch, times: list[int], good_at: int | None = START + DAY) -> list[Step]:
    steps = []
    for at in times:
        steps.append(miss(before, START + at, good_at))
        before = steps[-1].batch
    return steps


def test_a_404_is_doubted_for_lost_after_and_five_looks() -> None:
    steps = misses(batch(Status.IN_PROGRESS), [0, 1, 2, 3, 4, HOUR - 1, HOUR])

    assert [step.event for step in steps[:-1]] == [None] * 6
    assert told(steps[-1]) == (EventType.LOST, Status.IN_PROGRESS)
    assert steps[-1].batch.status is Status.LOST
    assert steps[-1].event is not None
    assert steps[-1].event.reason == "answered 404 to 7 looks in a row over 60 minutes"


def test_an_hour_of_few_looks_is_not_enough() -> None:
    steps = misses(batch(Status.IN_PROGRESS), [0, HOUR, 2 * HOUR, 3 * HOUR, 4 * HOUR])

    assert [told(step) is not None for step in steps] == [False, False, False, False, True]


def test_a_batch_never_seen_is_lost_after_three_looks_in_two_minutes() -> None:
    steps = misses(batch(), [0, 10 * SECOND, 30 * SECOND, 75 * SECOND, 2 * MINUTE])

    assert [step.event for step in steps[:-1]] == [None] * 4
    assert told(steps[-1]) == (EventType.LOST, None)
    assert steps[-1].event is not None
    assert steps[-1].event.reason == NEVER_FOUND
    assert steps[-1].event.severity is Severity.FAILURE


def test_two_looks_are_not_enough_for_never_found() -> None:
    steps = misses(batch(), [0, 3 * MINUTE])

    assert told(steps[-1]) is None


@pytest.mark.parametrize("good_at", [None, START - 1])
@pytest.mark.parametrize("status", [None, Status.IN_PROGRESS])
def test_while_every_look_turns_404_nothing_is_lost(
    status: Status | None, good_at: int | None
) -> None:
    times = [number * 10 * MINUTE for number in range(30)]
    steps = misses(batch(status), times, good_at=good_at)

    assert [step.event for step in steps] == [None] * 30
    assert steps[-1].probe


def test_one_good_look_ends_the_doubt() -> None:
    doubted = misses(batch(Status.IN_PROGRESS), [0, 1, 2, 3])[-1].batch
    again = look(doubted, seen(), START + 2 * HOUR).batch

    assert (again.missing_since, again.missing_looks, again.failures) == (None, 0, 0)
    assert miss(again, START + 3 * HOUR, START + DAY).event is None


def test_what_has_ended_is_not_lost_when_the_provider_deletes_it() -> None:
    steps = misses(ended(), [number * HOUR for number in range(10)])

    assert [step.event for step in steps] == [None] * 10
    assert steps[-1].batch.status is Status.COMPLETED
    assert steps[-1].batch.failures == 0


def test_a_lost_batch_that_turns_up_completed_is_completed() -> None:
    lost = misses(batch(), [0, 1, 2 * MINUTE])[-1].batch
    step = look(lost, done(), START + HOUR)

    assert told(step) == (EventType.COMPLETED, Status.LOST)
    assert step.batch.reason is None


# Laws


@dataclass
class Life:
    """A batch through any sequence of looks, and all that was told of it."""

    batch: Batch = field(default_factory=batch)
    now: int = START
    events: list[str] = field(default_factory=list)
    types: list[EventType] = field(default_factory=list)

    def take(self, action: Observation | str, wait: int) -> Step:
        self.now += wait
        if isinstance(action, Observation):
            step = advance(self.batch, action, self.now)
        elif action == "missing":
            good_at = self.now if wait % 2 else None
            step = missed(self.batch, "404", self.now, lost_after=HOUR, account_good_at=good_at)
        else:
            step = lifecycle.unanswered(self.batch, "no answer", self.now)
        if step.event is not None:
            self.events.append(step.event.id)
            self.types.append(step.event.type)
        return step


WHOLE = st.one_of(st.none(), st.integers(0, 9))
OBSERVATIONS = st.builds(
    lambda status, word, total, completed, output: seen(
        status,
        raw_status=word,
        counts=Counts(total, completed),
        results=Results(output),
        ended_at=START if status.terminal else None,
    ),
    st.sampled_from([one for one in Status if one is not Status.LOST]),
    st.sampled_from(["a", "b"]),
    WHOLE,
    WHOLE,
    st.sampled_from([None, "file-1"]),
)
ACTIONS = st.lists(
    st.tuples(
        st.one_of(OBSERVATIONS, st.sampled_from(["missing", "silent"])),
        st.integers(0, 2 * HOUR),
    ),
    max_size=25,
)


@given(actions=ACTIONS)
@settings(max_examples=150)
def test_any_life_is_told_by_the_rules(actions: list[tuple[Observation | str, int]]) -> None:
    life, pace = Life(), cadence.Pace()
    for action, wait in actions:
        before = life.batch
        step = life.take(action, wait)
        after = step.batch

        # A revision rises by one per event and by nothing else.
        assert after.revision == before.revision + (step.event is not None)
        assert after.looks == before.looks + 1
        assert after.ended == (after.end_seen_at is not None)
        assert after.outcome is None or after.ended
        if step.event is not None:
            assert step.event.batch == after
            assert step.event.severity.rank >= 0
        # Whatever changed was told, but for a first sight that is held.
        changed = after.status is not before.status or after.outcome is not before.outcome
        held = after.results_awaited_since is not None
        assert (step.event is not None) >= (changed and not held)
        due = cadence.next_look(after, life.now, pace)
        assert due is None or due >= life.now + pace.min_interval
        assert due is None or due <= life.now + 30 * MINUTE
        life.batch = after

    assert len(set(life.events)) == len(life.events)
    assert life.events == [f"openai/batch_1@{number + 1}" for number in range(len(life.events))]


@given(actions=ACTIONS)
@settings(max_examples=40)
def test_the_same_looks_always_mean_the_same(actions: list[tuple[Observation | str, int]]) -> None:
    lives = []
    for _ in range(2):
        life = Life()
        for action, wait in actions:
            life.batch = life.take(action, wait).batch
        lives.append(life)

    assert lives[0] == lives[1]


@given(actions=ACTIONS)
@settings(max_examples=60)
def test_every_life_that_ends_is_told_to_have_ended(
    actions: list[tuple[Observation | str, int]],
) -> None:
    life = Life()
    for action, wait in actions:
        life.batch = life.take(action, wait).batch
    life.batch = life.take(done(9, 9), MINUTE).batch

    assert life.batch.status is Status.COMPLETED
    assert life.types[-1] is EventType.COMPLETED
