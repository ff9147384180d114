"""When a batch that waited long has ended: when to look at those made beside it."""

from __future__ import annotations

from watcher.cadence.looks import Pace
from watcher.model import Batch

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

# Of 254 real ones that took more than an hour 62 ended within 120 s of another: a queue that
# moves moves for all. A look at once at the siblings, replayed over all 1,218, brought the delay
# of these 254 from 41.6 s to 39.7 s, for 0.4 looks a batch more beside 243.
LONG = HOUR
# Made so close together, in milliseconds. 2 min do as well as 10 min; an hour does no better.
COHORT_SPAN = 10 * MINUTE
# Of a larger cohort one or another ends all the time, and each end says little of the rest: to
# follow every one up would cost more looks than all the others together.
LARGEST_COHORT = 10


def waited_long(batch: Batch, now: int) -> bool:
    """Whether a batch is so old that its end says something of those made beside it."""
    return batch.created_at is not None and now - batch.created_at >= LONG


def siblings(ended: Batch, other: Batch, now: int) -> bool:
    """Whether a batch of the same account was made beside one that ended, and waits as long."""
    if (
        other.ended
        or other.created_at is None
        or ended.created_at is None
        or other.key == ended.key
    ):
        return False
    if now - max(ended.created_at, other.created_at) < LONG:
        return False
    return abs(other.created_at - ended.created_at) <= COHORT_SPAN


def sibling_look(
    ended: Batch, sibling: Batch, now: int, pace: Pace, *, cohort: int = 1
) -> int | None:
    """When at the latest to look at a batch beside which one has just been seen to end.

    `cohort` is how many open siblings there are. None: not sooner than it is due anyway.
    """
    if cohort > LARGEST_COHORT or not siblings(ended, sibling, now) or sibling.failures:
        return None
    looked = sibling.last_look_at
    at = now if looked is None else max(now, looked + pace.min_interval)
    return at if sibling.next_look_at is not None and at < sibling.next_look_at else None
