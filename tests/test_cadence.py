"""When to look again: the rules of the design, and the bounds no rule may leave."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import DAY, HOUR, MINUTE, SECOND, batch, counts, ended, registration
from tests.fakes import START
from watcher import cadence
from watcher.cadence import Pace, account_pause, jitter, looks, next_look, next_try
from watcher.model import Batch, Status

PACE = Pace()


def wait(of: Batch, now: int = START, pace: Pace = PACE) -> int:
    due = next_look(of, now, pace)
    if due is None:
        raise LookupError("it is not looked at again")
    return due - now


def running(age: int, **known: object) -> Batch:
    return batch(Status.IN_PROGRESS, created_at=START - age, **known)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(100, 15.7), (400, 27.2), (3_600, 61.7), (10_000, 84.7), (40_000, 113.3), (80_000, 122.6)],
)
def test_the_wait_grows_ever_slower_than_the_age(seconds: int, expected: float) -> None:
    waits = [wait(running(seconds * SECOND, looks=number)) for number in range(50)]

    assert sum(waits) / len(waits) == pytest.approx(expected * SECOND, rel=0.05)
    assert all(0.899 < one / SECOND / expected < 1.101 for one in waits)
    assert max(waits) - min(waits) > 0


def test_a_look_that_shares_its_request_comes_sooner() -> None:
    old = running(HOUR)
    few, many, more = (
        (next_look(old, START, PACE, price=1 / shared) or 0) - START
        for shared in (looks.SHARED_BY, 4 * looks.SHARED_BY, 9 * looks.SHARED_BY)
    )

    assert few == pytest.approx(wait(old), rel=0.22)
    assert many == pytest.approx(few / 2, rel=0.05)
    assert more == pytest.approx(few / 3, rel=0.05)


def test_what_shares_a_page_is_due_again_together() -> None:
    mates = [replace(running(HOUR), id=f"batch_{number}") for number in range(5)]
    together = {next_look(one, START, PACE, price=1 / 5) for one in mates}
    alone = {next_look(one, START, PACE) for one in mates}

    assert len(together) == 1
    assert len(alone) == 5
    assert next_look(mates[0], START + SECOND, PACE, price=1 / 5) not in together


def test_what_an_account_cannot_afford_stretches_every_wait_within_the_bounds() -> None:
    old = running(HOUR)
    stretched = [next_look(old, START, PACE, stretch=stretch) for stretch in (2.0, 100.0)]

    assert None not in stretched
    assert [(due or 0) - START for due in stretched] == [
        pytest.approx(2 * wait(old), rel=0.1),
        pytest.approx(PACE.max_interval, rel=0.1),
    ]


def test_age_counts_from_the_providers_time_not_from_the_registration() -> None:
    old = running(3_600 * SECOND, registration=registration(registered_at=START))
    unknown = replace(old, created_at=None)

    assert wait(old) > 50 * SECOND
    assert wait(unknown) == PACE.min_interval


def test_a_batch_that_is_born_in_the_future_is_young() -> None:
    assert wait(running(-HOUR)) == PACE.min_interval


@pytest.mark.parametrize("eagerness", [0.5, 2.0])
def test_twice_the_eagerness_is_about_half_the_wait(eagerness: float) -> None:
    plain = wait(running(3_600 * SECOND))
    eager = wait(running(3_600 * SECOND), pace=Pace(eagerness=eagerness))

    assert eager == pytest.approx(plain / eagerness, rel=0.08)


def test_the_wait_stays_between_the_bounds() -> None:
    pace = Pace(min_interval=20 * SECOND, max_interval=90 * SECOND)
    waits = [wait(running(age * SECOND), pace=pace) for age in range(0, 100_000, 500)]

    assert min(waits) == 20 * SECOND
    assert 65 * SECOND < max(waits) <= 90 * SECOND


def test_equal_bounds_are_kept_exactly() -> None:
    pace = Pace(min_interval=MINUTE, max_interval=MINUTE)

    assert wait(running(DAY), pace=pace) == MINUTE


def test_a_fleet_of_one_second_is_not_looked_at_in_one_second() -> None:
    dues = {wait(running(HOUR, id=f"batch_{number}")) // SECOND for number in range(50)}

    assert len(dues) > 8


def test_failures_back_off_doubling_up_to_the_longest_wait() -> None:
    waits = [wait(running(0, failures=failures)) for failures in range(1, 9)]
    expected = [min(5 * 2**step, 300) * SECOND for step in range(8)]

    assert waits == [pytest.approx(one, rel=0.26) for one in expected]
    assert max(waits) <= PACE.max_interval


def test_a_thousand_failures_do_not_overflow() -> None:
    assert wait(running(0, failures=1_000)) == PACE.max_interval


def test_a_backoff_never_comes_sooner_than_the_age_asks() -> None:
    assert wait(running(DAY, failures=1)) == wait(running(DAY))


def test_after_the_end_it_looks_after_one_five_and_thirty_minutes_and_no_more() -> None:
    offsets, over = [], ended()
    while (due := next_look(over, over.last_look_at or START, PACE)) is not None:
        offsets.append(due - START)
        over = replace(over, last_look_at=due)

    assert offsets == [MINUTE, 5 * MINUTE, 30 * MINUTE]


def test_looks_after_the_end_respect_the_shortest_wait() -> None:
    assert wait(ended(), pace=Pace(min_interval=10 * MINUTE, max_interval=HOUR)) == 10 * MINUTE


def test_a_lost_batch_is_looked_at_each_max_interval_for_a_day() -> None:
    waits, lost = [], ended(Status.LOST, None)
    while (due := next_look(lost, lost.last_look_at or START, PACE)) is not None:
        waits.append(due - (lost.last_look_at or START))
        lost = replace(lost, last_look_at=due)

    assert set(waits) == {PACE.max_interval}
    assert sum(waits) == DAY


def test_an_awaited_result_file_is_looked_for_at_the_latest_when_its_time_is_up() -> None:
    awaited = batch(Status.FINALIZING, results_awaited_since=START)

    assert wait(awaited) == 10 * SECOND
    assert wait(awaited, START + 52 * SECOND) == 8 * SECOND
    assert wait(awaited, START + 58 * SECOND) == PACE.min_interval


def test_a_lost_batch_found_completed_is_looked_at_soon_for_its_file() -> None:
    found = ended(Status.LOST, None, results_awaited_since=START)

    assert wait(found) == 10 * SECOND


def test_looks_for_an_awaited_file_back_off_when_they_fail() -> None:
    awaited = batch(Status.FINALIZING, results_awaited_since=START, created_at=START)

    assert wait(replace(awaited, failures=6), START + HOUR) > 100 * SECOND


def test_a_batch_never_seen_is_looked_at_three_times_in_thirty_seconds() -> None:
    waits = [wait(batch(missing_looks=one, failures=one)) for one in range(1, 5)]

    assert waits == [10 * SECOND, 20 * SECOND, 45 * SECOND, 45 * SECOND]


STATUSES = st.one_of(st.none(), st.sampled_from(Status))
PACES = st.builds(
    lambda shortest, longer, eagerness: Pace(shortest, shortest + longer, eagerness),
    st.integers(1, HOUR),
    st.integers(0, 4 * HOUR),
    st.floats(0.01, 100),
)


@given(
    status=STATUSES,
    pace=PACES,
    age=st.integers(-DAY, 400 * DAY),
    failures=st.integers(0, 10_000),
    missing=st.integers(0, 100),
    awaited=st.one_of(st.none(), st.integers(0, HOUR)),
    phase=st.one_of(st.none(), st.integers(-DAY, 400 * DAY)),
    total=st.one_of(st.none(), st.integers(0, 2**63 - 1)),
    price=st.floats(0.0001, 1),
    stretch=st.floats(1, 10_000),
)
def test_no_rule_leaves_the_bounds(
    status: Status | None,
    pace: Pace,
    age: int,
    failures: int,
    missing: int,
    awaited: int | None,
    phase: int | None,
    total: int | None,
    price: float,
    stretch: float,
) -> None:
    began = None if phase is None else START - phase
    subject = batch(
        status,
        created_at=START - age,
        in_progress_at=began,
        finalizing_at=began,
        cancelling_at=began,
        expires_at=began,
        counts=counts(total),
        failures=failures,
        missing_looks=missing,
        results_awaited_since=None if awaited is None else START - awaited,
        last_look_at=START,
        end_seen_at=START if status is not None and status.terminal else None,
    )
    due = next_look(subject, START, pace, price=price, stretch=stretch)
    longest = max(pace.max_interval, HOUR) if subject.ended else pace.max_interval

    assert due is None or pace.min_interval <= due - START <= longest
    assert due is not None or subject.ended
    assert due == next_look(subject, START, pace, price=price, stretch=stretch)


def test_jitter_is_the_same_for_the_same_and_different_for_others() -> None:
    drawn = {jitter("key", attempt) for attempt in range(100)}

    assert jitter("key", 3) == jitter("key", 3)
    assert len(drawn) == 100
    assert all(0 <= one < 1 for one in drawn)
    assert 0.4 < sum(drawn) / 100 < 0.6


@pytest.mark.parametrize("asked", [30 * SECOND, 10 * MINUTE, 59 * MINUTE])
def test_a_pause_is_as_long_as_asked_for_and_a_hair_longer(asked: int) -> None:
    assert asked <= account_pause("openai", 1, asked) <= asked + SECOND


def test_a_pause_is_never_longer_than_an_hour() -> None:
    assert account_pause("openai", 1, 5 * HOUR) == HOUR


def test_a_request_to_wait_no_time_is_not_taken_at_its_word() -> None:
    assert account_pause("openai", 1, 0) >= SECOND


def test_pauses_nobody_asked_for_double_and_are_capped() -> None:
    pauses = [account_pause("openai", number, None) for number in range(1, 12)]
    expected = [min(5 * 2**number, 300) * SECOND for number in range(1, 12)]

    assert pauses == [pytest.approx(one, rel=0.26) for one in expected]
    assert account_pause("openai", 5_000, None) <= 375 * SECOND


def test_tries_of_a_channel_are_spaced_out_up_to_an_hour() -> None:
    waits = [next_try("team", failures) for failures in range(1, 9)]
    expected = [min(5 * 4**step, 3_600) * SECOND for step in range(8)]

    assert waits == [pytest.approx(one, rel=0.21) for one in expected]
    assert max(next_try("team", failures) for failures in range(100)) <= HOUR


def test_nothing_waits_longer_than_what_is_taken_for_a_clocks_jump() -> None:
    assert max(cadence.LOOKS_AFTER_THE_END) < cadence.LONGEST_WAIT
    assert cadence.LONGEST_PAUSE < cadence.LONGEST_WAIT
