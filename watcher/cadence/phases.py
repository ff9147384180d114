"""What is known of a batch's phases beyond its age: small rules, each with its evidence beside it.

A rule takes the batch, `now`, the wait by age in milliseconds, how many times slower than usual
this batch is looked at, and a number from 0 up to 1 that spreads; it returns a wait. The figures
named "real" are from 2,321 batches of one project at OpenAI, of 17 months.
"""

from __future__ import annotations

from collections.abc import Callable

from watcher.model import Batch, Status

SECOND = 1_000
OPENAI = "openai"

Rule = Callable[[Batch, int, float, float, float], float]

# What has not begun cannot end: until then a look only serves to see it begin. Without a queue
# of its own a provider shows these for a moment; real ones stand here 0 to 3 s. On made-up ones
# that queue long this takes a quarter less of looks times delay.
UNBEGUN = frozenset({Status.VALIDATING, Status.QUEUED})
PATIENCE = 1.5

# Real cancelling takes 605 to 607 s (1,067 of 1,087); 608 to 626 s another 11, and up to
# 2,802 s the rest. Until then a few looks, should it ever be quicker.
CANCELLED_AFTER = 606_500
CANCELLED_WITHIN = 1_500
LOOK_WHILE_CANCELLING = 150 * SECOND

# Of three real ones that expired two were marked 607 and 608 s after `expires_at`.
EXPIRED_AFTER = 607_500
EXPIRED_WITHIN = 2_000

# Finalizing took 60 to 160 s for each 1,000 requests in what was seen of large batches; none of
# the real ones here is large. Nothing is to be seen before the least: milliseconds a request.
FINALIZED_AFTER = 60


def since(batch: Batch, born: int) -> int:
    """When the phase began that the batch is in, as far as its provider says; else its birth.

    Not the age of the whole: what waited an hour in a queue may be done a minute after it began,
    and one that is finalizing has seconds to go, however old it is.
    """
    began = batch.in_progress_at or born
    match batch.status:
        case Status.FINALIZING:
            return batch.finalizing_at or began
        case Status.CANCELLING:
            return batch.cancelling_at or began
    return began


def patience(batch: Batch) -> float:
    """How many times longer to wait than the age asks."""
    return PATIENCE if batch.status in UNBEGUN else 1.0


def finalizing(batch: Batch, now: int, wait: float, slower: float, drawn: float) -> float:
    """Wait at least until so many requests can have been written down."""
    del slower, drawn
    if batch.status is not Status.FINALIZING or batch.provider != OPENAI:
        return wait
    if not batch.finalizing_at or not batch.counts.total:
        return wait
    return max(wait, batch.finalizing_at + FINALIZED_AFTER * batch.counts.total - now)


def cancelling(batch: Batch, now: int, wait: float, slower: float, drawn: float) -> float:
    """Look a few times, and when the ten minutes are over."""
    if batch.status is not Status.CANCELLING or batch.provider != OPENAI or not batch.cancelling_at:
        return wait
    left = batch.cancelling_at + CANCELLED_AFTER - now
    if left <= 0:
        return wait
    between = LOOK_WHILE_CANCELLING * slower
    return left + CANCELLED_WITHIN * drawn if left < 1.5 * between else between


def expiring(batch: Batch, now: int, wait: float, slower: float, drawn: float) -> float:
    """Wait no longer than until it should be marked as expired."""
    del slower
    if batch.provider != OPENAI or batch.expires_at is None:
        return wait
    marked = batch.expires_at + EXPIRED_AFTER - now
    return min(wait, marked + EXPIRED_WITHIN * drawn) if marked > 0 else wait


RULES: tuple[Rule, ...] = (finalizing, cancelling, expiring)
