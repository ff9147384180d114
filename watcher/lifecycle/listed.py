"""What an entry of an account's list means for a batch: less than the provider's answer for it.

Lists lag behind, and contradict each other from one request to the next; some leave out what the
answer for one batch says. An entry is taken for a look where it leads on from what is known.
Everything else is for a look at the batch itself to say.
"""

from __future__ import annotations

from dataclasses import replace

from watcher.lifecycle.batch import Step, advance
from watcher.lifecycle.severity import outcome_of
from watcher.model import Batch, Observation, Results, Status

# A status only leads on to one that stands later here.
_COURSE = {
    status: place
    for place, status in enumerate(
        (
            Status.VALIDATING,
            Status.QUEUED,
            Status.IN_PROGRESS,
            Status.FINALIZING,
            Status.CANCELLING,
        )
    )
}


def listed(batch: Batch, observation: Observation, now: int) -> Step | None:
    """What an entry of the list means; None where only a look at the batch itself can tell."""
    status = observation.status
    if batch.status is Status.LOST or status is Status.UNKNOWN:
        return None
    if batch.ended:
        return advance(batch, observation, now) if _confirms(batch, observation) else None
    if batch.status is None or status is batch.status:
        known = batch.counts.completed or 0
        lags = status is batch.status and (observation.counts.completed or 0) < known
        current = replace(observation, counts=batch.counts) if lags else observation
        return None if _wants_details(status, current) else advance(batch, current, now)
    if not status.terminal and _COURSE[status] < _COURSE.get(batch.status, len(_COURSE)):
        # It leads back, or says what an unknown word may have followed on.
        return None
    return None if _wants_details(status, observation) else advance(batch, observation, now)


def _confirms(batch: Batch, observation: Observation) -> bool:
    """Whether an entry says the end again that is known, and takes nothing of it back."""
    if observation.status is not batch.status:
        return False
    results = observation.results
    known = batch.results
    kept = results == known or known == Results()
    same = observation.counts == batch.counts
    return kept and same and outcome_of(observation.status, observation.counts) is batch.outcome


def _wants_details(status: Status, observation: Observation) -> bool:
    """Whether an end is shown without what is told of it: its counts, its files, its reasons."""
    if not status.terminal:
        return False
    if status is Status.FAILED:
        return not observation.problems
    if outcome_of(status, observation.counts) is None:
        return True
    return bool(observation.counts.completed) and observation.results.output is None
