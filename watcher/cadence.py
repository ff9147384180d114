"""When to look next, when to try a delivery again, how long to leave an account alone.

Pure. Real completions show a hazard that falls about as 1/age: a batch that has waited long will
wait longer. For such a hazard the least mean delay for a given number of looks comes from waiting
in proportion to the square root of the age (inspection policies: Barlow, Hunter and Proschan
1963; Keller 1974). Jitter is a hash of the key and the attempt, so a run can be repeated exactly.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from watcher.model import RESULTS_AWAITED, Batch, Status

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

# After the end: counts and files have been seen to change for some minutes.
LOOKS_AFTER_THE_END = (MINUTE, 5 * MINUTE, 30 * MINUTE)
# One of them that fails is made up for, unless the answers are bad for good.
FAILURES_AFTER_THE_END = 8
LOST_WATCHED_FOR = DAY
RESULTS_LOOK = 10 * SECOND
# A batch never seen is looked at three times within 30 s, then until two minutes have passed;
# from then on it backs off like any other.
NEVER_SEEN_WAITS = (10 * SECOND, 20 * SECOND, 45 * SECOND, 45 * SECOND, 45 * SECOND)
# No rule but an interval of the user's sets a due time further ahead than this: one that lies
# further is a clock's jump.
LONGEST_WAIT = HOUR + 15 * MINUTE
LONGEST_PAUSE = HOUR
FIRST_PAUSE = 5 * SECOND
LONGEST_BACKOFF_PAUSE = 5 * MINUTE
# 2 to the power of this is beyond every bound here; larger exponents would only overflow.
STEEPEST = 30


@dataclass(frozen=True, slots=True)
class Pace:
    """How often an account's batches may be looked at; both intervals in milliseconds."""

    min_interval: int = 5 * SECOND
    max_interval: int = 5 * MINUTE
    eagerness: float = 1.0


def jitter(*parts: object) -> float:
    """A number from 0 up to 1 that is the same for the same parts."""
    text = "\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) / 2**64


def next_look(batch: Batch, now: int, pace: Pace) -> int | None:
    """When to look at a batch again after the look just recorded in it; None for never."""
    if batch.results_awaited_since is not None and not batch.failures:
        # Before the end: what was lost and is found completed may still await its file.
        told_at = batch.results_awaited_since + RESULTS_AWAITED
        return now + _within(min(RESULTS_LOOK, told_at - now), pace)
    if batch.ended:
        return _after_the_end(batch, now, pace)
    if batch.status is None and 0 < batch.missing_looks <= len(NEVER_SEEN_WAITS):
        return now + _within(NEVER_SEEN_WAITS[batch.missing_looks - 1], pace)
    wait: float = _by_age(batch, now, pace)
    if batch.failures:
        wait = min(max(wait, _backoff(batch, pace)), pace.max_interval)
    return now + round(wait)


def _backoff(batch: Batch, pace: Pace) -> float:
    steps = 2.0 ** min(batch.failures - 1, STEEPEST)
    return pace.min_interval * steps * (0.75 + 0.5 * jitter(batch.key, batch.failures))


def _within(wait: int, pace: Pace) -> int:
    return max(pace.min_interval, min(wait, pace.max_interval))


def _by_age(batch: Batch, now: int, pace: Pace) -> float:
    born = batch.created_at if batch.created_at is not None else batch.registration.registered_at
    # Looked at so often, it is at least so old, though our clock may be set before its birth.
    age = max(0, now - born, batch.looks * pace.min_interval) / SECOND
    wait = math.sqrt(age) * SECOND / pace.eagerness
    # A tenth either way: a fleet created in one second must not be looked at in one second.
    wait *= 0.9 + 0.2 * jitter(batch.key, batch.looks)
    longest = pace.max_interval * (0.9 + 0.1 * jitter(batch.key, batch.looks))
    return max(pace.min_interval, min(wait, longest))


def _after_the_end(batch: Batch, now: int, pace: Pace) -> int | None:
    end = batch.end_seen_at if batch.end_seen_at is not None else now
    if batch.status is Status.LOST:
        due = now + pace.max_interval
        return due if due <= end + LOST_WATCHED_FOR else None
    if 0 < batch.failures <= FAILURES_AFTER_THE_END:
        return now + _within(round(_backoff(batch, pace)), pace)
    looked = batch.last_look_at if batch.last_look_at is not None else end
    for offset in LOOKS_AFTER_THE_END:
        if end + offset > looked:
            return max(now + pace.min_interval, end + offset)
    return None


def account_pause(account: str, limited: int, retry_after: int | None) -> int:
    """How long an account rests after its `limited`-th 429 in a row, in milliseconds."""
    if retry_after is not None:
        # A hair later than asked, and not all accounts of one key in the same moment; a request
        # to wait no time at all is not taken at its word.
        asked = max(SECOND, retry_after)
        return min(LONGEST_PAUSE, asked + round(SECOND * jitter(account, limited)))
    steps = 2.0 ** min(limited, STEEPEST)
    pause = min(float(LONGEST_BACKOFF_PAUSE), FIRST_PAUSE * steps)
    return round(pause * (0.75 + 0.5 * jitter(account, limited)))


def next_try(channel: str, failures: int) -> int:
    """How long a channel rests after its `failures`-th failure in a row, in milliseconds.

    5 s, 20 s, 80 s, 5 min, 21 min and then an hour, each a fifth more or less.
    """
    steps = 4.0 ** min(max(0, failures - 1), STEEPEST)
    pause = min(float(HOUR), FIRST_PAUSE * steps)
    return min(HOUR, round(pause * (0.8 + 0.4 * jitter(channel, failures))))
