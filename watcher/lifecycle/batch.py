"""What a look at a batch, or a failure to get one, means for it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from watcher.lifecycle.severity import outcome_of, severity_of
from watcher.model import (
    RESULTS_AWAITED,
    Batch,
    Counts,
    Event,
    EventType,
    Observation,
    Outcome,
    Status,
)

SECOND = 1_000
MINUTE = 60 * SECOND

NEVER_FOUND_AFTER = 2 * MINUTE
NEVER_FOUND_LOOKS = 3
LOST_LOOKS = 5
NEVER_FOUND = "never found: wrong id, account, project or base URL?"


@dataclass(frozen=True, slots=True)
class Step:
    """A batch after a look; `probe` asks the account for a sign of life before judging."""

    batch: Batch
    event: Event | None = None
    probe: bool = False


def advance(batch: Batch, observation: Observation, now: int) -> Step:
    """What one good look at a batch means."""
    seen = _seen(batch, observation, now)
    status = observation.status
    if batch.ended and batch.status is not Status.LOST and status is Status.UNKNOWN:
        # A new word for what has ended (archived, say) does not open it again.
        return Step(seen)
    if _results_are_late(batch, observation, now):
        waiting = replace(seen, results_awaited_since=batch.results_awaited_since or now)
        if waiting.status is None:
            waiting = replace(waiting, status=Status.FINALIZING)
        return Step(waiting)
    if seen.results_awaited_since is not None:
        seen = replace(seen, results_awaited_since=None)
    outcome = outcome_of(status, seen.counts) if status.terminal else None
    event_type = _change(batch, observation, outcome)
    if event_type is None:
        return Step(seen)
    before = batch.status if batch.revision else None
    after = _entered(seen, batch, observation, outcome, now)
    return _tell(
        after, event_type, now, previous=before, occurred_at=_occurred(after, event_type, before)
    )


def missed(
    batch: Batch, error: str, now: int, *, lost_after: int, account_good_at: int | None
) -> Step:
    """What an answer 404 means: doubt, and in the end `lost`.

    A batch is only lost when its account has answered something else since the last look at it:
    what it answered when the doubt began says nothing of an hour of 404 to everything.
    """
    if batch.ended:
        # Providers delete what has ended; it is not lost, and there is nothing to retry.
        return Step(replace(batch, looks=batch.looks + 1, last_look_at=now, failures=0))
    since = batch.missing_since if batch.missing_since is not None else now
    looked_at = batch.last_look_at if batch.last_look_at is not None else since
    step = unanswered(batch, error, now)
    if step.event is not None:
        return step
    doubted = replace(step.batch, missing_since=since, missing_looks=batch.missing_looks + 1)
    never_seen = batch.status is None
    looks, patience = (
        (NEVER_FOUND_LOOKS, NEVER_FOUND_AFTER) if never_seen else (LOST_LOOKS, lost_after)
    )
    if doubted.missing_looks < looks or now - since < patience:
        return Step(doubted)
    if account_good_at is None or account_good_at < max(since, looked_at):
        return Step(doubted, probe=True)
    reason = NEVER_FOUND if never_seen else _gone(doubted, now - since)
    lost = replace(
        doubted, status=Status.LOST, outcome=None, reason=reason, end_seen_at=now, failures=0
    )
    return _tell(lost, EventType.LOST, now, previous=batch.status if batch.revision else None)


def _gone(batch: Batch, missing_for: int) -> str:
    minutes = missing_for // MINUTE
    return f"answered 404 to {batch.missing_looks} looks in a row over {minutes} minutes"


def unanswered(batch: Batch, error: str, now: int) -> Step:
    """A look that brought no observation: the batch stays as it is and backs off.

    But an end that only awaited its result file is told once it has waited long enough.
    """
    failed = replace(
        batch,
        looks=batch.looks + 1,
        last_look_at=now,
        failures=batch.failures + 1,
        last_error=error,
    )
    since = batch.results_awaited_since
    if since is None or now - since < RESULTS_AWAITED:
        return Step(failed)
    ended = replace(
        failed,
        status=Status.COMPLETED,
        outcome=outcome_of(Status.COMPLETED, batch.counts),
        reason=None,
        end_seen_at=now,
        results_awaited_since=None,
    )
    before = batch.status if batch.revision else None
    return _tell(ended, EventType.COMPLETED, now, previous=before, occurred_at=ended.ended_at)


def _seen(batch: Batch, observation: Observation, now: int) -> Batch:
    """The batch with all that a look said, but its status and what follows from it.

    What was known stays where the answer is silent: some providers leave keys out at the end.
    """
    return replace(
        batch,
        raw_status=observation.raw_status,
        counts=_counts(batch, observation),
        provider_name=observation.name or batch.provider_name,
        metadata=observation.metadata or batch.metadata,
        created_at=observation.created_at or batch.created_at,
        in_progress_at=observation.in_progress_at or batch.in_progress_at,
        finalizing_at=observation.finalizing_at or batch.finalizing_at,
        cancelling_at=observation.cancelling_at or batch.cancelling_at,
        ended_at=observation.ended_at or batch.ended_at,
        expires_at=observation.expires_at or batch.expires_at,
        results=observation.results,
        problems=observation.problems,
        problem_total=observation.problem_total,
        last_look_at=now,
        looks=batch.looks + 1,
        failures=0,
        last_error=None,
        missing_since=None,
        missing_looks=0,
    )


def _counts(batch: Batch, observation: Observation) -> Counts:
    """The counts an answer gives, or those known before as far as they still hold.

    What was counted on the way is not what an end brought, unless all was done by then; of what
    did not run to its end it shows at least that there are results.
    """
    known, status = batch.counts, observation.status
    if observation.counts != Counts():
        # An answer that leaves out one of them takes back nothing of what the same status showed.
        return _filled(observation.counts, known) if batch.status is status else observation.counts
    if not status.terminal or batch.status is status:
        return known
    done = (known.completed or 0) + (known.failed or 0)
    some = bool(known.completed) and status is not Status.COMPLETED
    return known if some or (known.total is not None and done >= known.total) else Counts()


def _filled(said: Counts, known: Counts) -> Counts:
    """What an answer says, and where it is silent what was known."""
    return Counts(
        *(old if new is None else new for new, old in zip(_each(said), _each(known), strict=True))
    )


def _each(counts: Counts) -> tuple[int | None, ...]:
    return counts.total, counts.completed, counts.failed, counts.expired, counts.cancelled


def _results_are_late(batch: Batch, observation: Observation, now: int) -> bool:
    if observation.status is not Status.COMPLETED or batch.status is Status.COMPLETED:
        return False
    if not observation.counts.completed or observation.results.output:
        return False
    since = batch.results_awaited_since
    return since is None or now - since < RESULTS_AWAITED


def _change(batch: Batch, observation: Observation, outcome: Outcome | None) -> EventType | None:
    status = observation.status
    if not batch.revision or batch.status is None:
        return EventType(f"batch.{status}")
    if batch.status is status:
        told_again = status.terminal and outcome is not batch.outcome
        other_word = status is Status.UNKNOWN and observation.raw_status != batch.raw_status
        return EventType(f"batch.{status}") if told_again or other_word else None
    if batch.ended and not status.terminal:
        return EventType.REOPENED
    return EventType(f"batch.{status}")


def _entered(
    seen: Batch, batch: Batch, observation: Observation, outcome: Outcome | None, now: int
) -> Batch:
    """The batch in its new status."""
    status = observation.status
    end_seen_at = None
    if status.terminal:
        same = batch.status is status and batch.end_seen_at is not None
        end_seen_at = batch.end_seen_at if same else now
    # A time of an end that has been undone is not the time of the next.
    keeps_end = status.terminal and (batch.status is status or not batch.ended)
    return replace(
        seen,
        status=status,
        outcome=outcome,
        reason=None,
        end_seen_at=end_seen_at,
        ended_at=seen.ended_at if keeps_end else observation.ended_at,
    )


def _occurred(batch: Batch, event_type: EventType, previous: Status | None) -> int | None:
    """The provider's own time for a change; none for what only shows later."""
    if previous is batch.status:
        return None
    match event_type:
        case EventType.VALIDATING | EventType.QUEUED:
            # A batch may begin in either; no provider says when it came there from elsewhere.
            return batch.created_at if previous is None else None
        case EventType.IN_PROGRESS:
            return batch.in_progress_at
        case EventType.FINALIZING:
            return batch.finalizing_at
        case EventType.CANCELLING:
            return batch.cancelling_at
        case EventType.REOPENED | EventType.UNKNOWN | EventType.LOST:
            return None
    return batch.ended_at


def _tell(
    batch: Batch,
    event_type: EventType,
    now: int,
    *,
    previous: Status | None,
    occurred_at: int | None = None,
) -> Step:
    told = replace(batch, revision=batch.revision + 1)
    event = Event(
        id=f"{told.key}@{told.revision}",
        type=event_type,
        severity=severity_of(event_type, told.status, told.outcome),
        detected_at=now,
        occurred_at=occurred_at,
        account=told.account,
        previous_status=previous,
        batch=told,
        reason=told.reason,
    )
    return Step(told, event)
