"""What is known of a batch beyond its age: each rule of its phases, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.builders import DAY, HOUR, MINUTE, SECOND, batch, counts, ended
from tests.fakes import START
from watcher.cadence import Pace, next_look, sibling_look, siblings
from watcher.cadence.cohorts import LARGEST_COHORT
from watcher.model import Batch, Status

PACE = Pace()


def wait(of: Batch, now: int = START, pace: Pace = PACE) -> int:
    due = next_look(of, now, pace)
    if due is None:
        raise LookupError("it is not looked at again")
    return due - now


def standing(status: Status, age: int, **known: Any) -> Batch:
    return batch(status, created_at=START - age, **known)


def walked(of: Batch, upto: int, pace: Pace = PACE) -> list[int]:
    """When it is looked at from the START on, if nothing changes, in milliseconds after it."""
    now, dues = START, []
    while now < START + upto:
        now = next_look(of, now, pace) or 0
        of = replace(of, looks=of.looks + 1)
        dues.append(now - START)
    return dues


# The phase it is in


def test_what_waited_long_in_a_queue_is_young_when_it_begins() -> None:
    queued = standing(Status.QUEUED, 5 * HOUR)
    begun = standing(Status.IN_PROGRESS, 5 * HOUR, in_progress_at=START - 10 * SECOND)

    assert wait(queued) > MINUTE
    assert wait(begun) < 10 * SECOND


def test_what_has_not_begun_is_looked_at_less_than_what_runs() -> None:
    running = wait(standing(Status.IN_PROGRESS, HOUR))

    assert wait(standing(Status.QUEUED, HOUR)) == pytest.approx(1.5 * running, rel=0.04)
    assert wait(standing(Status.VALIDATING, HOUR)) == pytest.approx(1.5 * running, rel=0.04)


def test_what_is_finalizing_is_looked_at_soon_however_old_it_is() -> None:
    known: dict[str, Any] = {"in_progress_at": START - DAY // 2, "finalizing_at": START - SECOND}

    assert wait(standing(Status.FINALIZING, DAY // 2, **known)) == PACE.min_interval
    assert wait(standing(Status.IN_PROGRESS, DAY // 2, **known)) > MINUTE


def test_a_provider_that_gives_no_times_of_phases_is_looked_at_by_the_age() -> None:
    plain = wait(standing(Status.IN_PROGRESS, HOUR))

    assert wait(standing(Status.FINALIZING, HOUR)) == plain
    assert wait(standing(Status.CANCELLING, HOUR)) == plain


@pytest.mark.parametrize("progress", [0, 500, 999])
def test_progress_moves_no_look(progress: int) -> None:
    counted = standing(Status.IN_PROGRESS, HOUR, counts=counts(1_000, progress, 0))

    assert wait(counted) == wait(standing(Status.IN_PROGRESS, HOUR))


# Finalizing by size


def test_a_large_batch_is_finalizing_for_as_long_as_its_requests_take_at_least() -> None:
    known: dict[str, Any] = {"finalizing_at": START, "counts": counts(2_000, 2_000, 0)}

    assert wait(standing(Status.FINALIZING, HOUR, **known)) == 2 * MINUTE
    assert wait(standing(Status.FINALIZING, HOUR, **known), START + 2 * MINUTE) < 30 * SECOND


def test_no_size_makes_it_wait_beyond_the_longest_wait() -> None:
    huge = standing(Status.FINALIZING, HOUR, finalizing_at=START, counts=counts(10**9, 0, 0))

    assert 0.9 * PACE.max_interval <= wait(huge) <= PACE.max_interval


# Cancelling


def test_cancelling_at_openai_takes_six_looks_until_it_is_over() -> None:
    going = batch(Status.CANCELLING, created_at=START - HOUR, cancelling_at=START)
    dues = walked(going, 606 * SECOND)

    assert len(dues) <= 5
    assert 606 * SECOND < dues[-1] <= 608 * SECOND


def test_after_the_ten_minutes_cancelling_is_looked_at_often_again() -> None:
    going = batch(Status.CANCELLING, created_at=START - HOUR, cancelling_at=START - 608 * SECOND)

    assert wait(going) < wait(standing(Status.IN_PROGRESS, 608 * SECOND)) + SECOND


def test_cancelling_elsewhere_goes_by_the_age_of_the_cancelling() -> None:
    going = batch(
        Status.CANCELLING, created_at=START - HOUR, cancelling_at=START, provider="cohere"
    )

    assert wait(going) == PACE.min_interval


# Expiring


def test_an_expiry_is_looked_for_ten_minutes_after_its_time() -> None:
    late = standing(Status.IN_PROGRESS, DAY, expires_at=START - 600 * SECOND)

    assert 7 * SECOND < wait(late) < 10 * SECOND
    assert wait(replace(late, provider="openai-compatible")) > MINUTE


def test_an_expiry_that_is_long_over_or_far_away_moves_no_look() -> None:
    plain = standing(Status.IN_PROGRESS, HOUR)

    assert wait(replace(plain, expires_at=START - HOUR)) == wait(plain)
    assert wait(replace(plain, expires_at=START + HOUR)) == wait(plain)


# Cohorts


def beside(apart: int, **known: Any) -> tuple[Batch, Batch]:
    """One that has just ended after two hours, and an open one that was made so long after it."""
    over = ended(created_at=START - 2 * HOUR, ended_at=START - SECOND)
    given: dict[str, Any] = {
        "id": "batch_2",
        "created_at": START - 2 * HOUR + apart,
        "last_look_at": START - MINUTE,
        "next_look_at": START + MINUTE,
    }
    return over, batch(Status.IN_PROGRESS, **{**given, **known})


@pytest.mark.parametrize("apart", [-10 * MINUTE, 0, 10 * MINUTE])
def test_when_one_of_a_cohort_ends_its_siblings_are_looked_at_at_once(apart: int) -> None:
    over, open_ = beside(apart)

    assert siblings(over, open_, START)
    assert sibling_look(over, open_, START, PACE) == START


def test_a_sibling_seen_a_moment_ago_has_its_shortest_wait() -> None:
    over, open_ = beside(0, last_look_at=START - 2 * SECOND)

    assert sibling_look(over, open_, START, PACE) == START + 3 * SECOND


@pytest.mark.parametrize(
    ("apart", "known"),
    [
        pytest.param(11 * MINUTE, {}, id="made at another time"),
        pytest.param(0, {"status": Status.COMPLETED}, id="ended itself"),
        pytest.param(0, {"created_at": None}, id="never seen"),
        pytest.param(0, {"next_look_at": START}, id="due anyway"),
        pytest.param(0, {"next_look_at": None}, id="not to be looked at"),
        pytest.param(0, {"failures": 1}, id="backing off"),
        pytest.param(0, {"id": "batch_1"}, id="the same"),
    ],
)
def test_what_is_no_sibling_is_left_alone(apart: int, known: dict[str, Any]) -> None:
    over, open_ = beside(apart)

    assert sibling_look(over, replace(open_, **known), START, PACE) is None


def test_a_young_cohort_and_a_large_one_are_left_alone() -> None:
    over, open_ = beside(0)
    young = replace(over, created_at=START - HOUR + 1)

    assert sibling_look(young, replace(open_, created_at=START - HOUR + 1), START, PACE) is None
    assert sibling_look(over, open_, START, PACE, cohort=LARGEST_COHORT) is not None
    assert sibling_look(over, open_, START, PACE, cohort=LARGEST_COHORT + 1) is None
