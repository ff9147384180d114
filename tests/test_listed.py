"""What an entry of a list means for a batch: a list lags, and must not take anything back."""

from __future__ import annotations

import pytest

from tests.builders import batch, counts, ended, seen
from tests.fakes import START
from watcher.lifecycle import advance, listed
from watcher.model import EventType, Outcome, Problem, Results, Status

NOW = START + 60_000
FILE = Results(output="file-1")
OPEN = [
    Status.VALIDATING,
    Status.QUEUED,
    Status.IN_PROGRESS,
    Status.FINALIZING,
    Status.CANCELLING,
]
ENDS = [Status.COMPLETED, Status.EXPIRED, Status.CANCELLED, Status.FAILED]


@pytest.mark.parametrize("status", [*OPEN, Status.EXPIRED, Status.CANCELLED])
def test_what_was_never_seen_is_seen_on_a_list(status: Status) -> None:
    said = seen(status, counts=counts(4, 1, 0), results=FILE)
    step = listed(batch(), said, NOW)

    assert step == advance(batch(), said, NOW)
    assert step.event is not None


@pytest.mark.parametrize("later", OPEN)
@pytest.mark.parametrize("earlier", OPEN)
def test_a_status_only_leads_on(earlier: Status, later: Status) -> None:
    step = listed(batch(earlier), seen(later), NOW)

    assert (step is None) == (OPEN.index(later) < OPEN.index(earlier))
    if step is not None:
        assert (step.event is None) == (earlier is later)


@pytest.mark.parametrize("status", OPEN)
def test_an_end_follows_on_every_status(status: Status) -> None:
    said = seen(Status.COMPLETED, counts=counts(4, 4, 0), results=FILE, ended_at=NOW)
    step = listed(batch(status), said, NOW)

    assert step is not None
    assert step.event is not None
    assert (step.event.type, step.batch.outcome) == (EventType.COMPLETED, Outcome.OK)


@pytest.mark.parametrize("now_shown", [*OPEN, *ENDS[1:], Status.UNKNOWN])
def test_an_end_is_only_undone_by_a_look_at_the_batch(now_shown: Status) -> None:
    known = ended(counts=counts(4, 4, 0), results=FILE)

    assert listed(known, seen(now_shown), NOW) is None


def test_an_end_shown_again_takes_back_none_of_what_is_known_of_it() -> None:
    known = ended(counts=counts(4, 4, 0), results=FILE)
    same = seen(Status.COMPLETED, counts=counts(4, 4, 0), results=FILE)
    step = listed(known, same, NOW)

    assert step is not None
    assert (step.event, step.batch.looks) == (None, known.looks + 1)
    assert listed(known, seen(Status.COMPLETED, counts=counts(4, 4, 0)), NOW) is None
    assert listed(known, seen(Status.COMPLETED, counts=counts(4, 3, 1), results=FILE), NOW) is None
    assert listed(known, seen(Status.COMPLETED, results=FILE), NOW) is None


def test_a_file_that_a_list_shows_for_the_first_time_is_taken() -> None:
    known = ended(counts=counts(4, 4, 0))
    step = listed(known, seen(Status.COMPLETED, counts=counts(4, 4, 0), results=FILE), NOW)

    assert step is not None
    assert step.batch.results == FILE


def test_what_is_lost_is_for_a_look_at_the_batch() -> None:
    assert listed(ended(Status.LOST, None), seen(Status.IN_PROGRESS), NOW) is None


def test_what_was_answered_404_and_is_listed_is_not_gone() -> None:
    step = listed(batch(Status.IN_PROGRESS, missing_looks=2, missing_since=START), seen(), NOW)

    assert step is not None
    assert (step.batch.missing_looks, step.batch.missing_since) == (0, None)


def test_an_unknown_word_is_for_a_look_at_the_batch() -> None:
    assert listed(batch(Status.IN_PROGRESS), seen(Status.UNKNOWN), NOW) is None
    assert listed(batch(), seen(Status.UNKNOWN), NOW) is None


def test_an_end_without_its_file_or_its_reasons_is_for_a_look_at_the_batch() -> None:
    running = batch(Status.IN_PROGRESS)
    why = (Problem("bad_line", "no such model"),)

    assert listed(running, seen(Status.COMPLETED, counts=counts(4, 4, 0)), NOW) is None
    assert listed(running, seen(Status.FAILED), NOW) is None
    assert listed(batch(), seen(Status.FAILED), NOW) is None
    assert listed(running, seen(Status.FAILED, problems=why), NOW) is not None
    assert listed(running, seen(Status.COMPLETED, counts=counts(4, 0, 4)), NOW) is not None


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.EXPIRED, Status.CANCELLED])
def test_an_end_without_counts_is_for_a_look_at_the_batch(status: Status) -> None:
    assert listed(batch(Status.IN_PROGRESS), seen(status), NOW) is None


@pytest.mark.parametrize("status", OPEN)
def test_what_followed_on_an_unknown_word_is_for_a_look_at_the_batch(status: Status) -> None:
    assert listed(batch(Status.UNKNOWN, raw_status="pausing"), seen(status), NOW) is None


def test_counts_do_not_run_backwards() -> None:
    known = batch(Status.IN_PROGRESS, counts=counts(10, 7, 1))
    behind = listed(known, seen(counts=counts(10, 5, 0)), NOW)
    ahead = listed(known, seen(counts=counts(10, 8, 1)), NOW)

    assert behind is not None
    assert ahead is not None
    assert behind.batch.counts == known.counts
    assert ahead.batch.counts == counts(10, 8, 1)
