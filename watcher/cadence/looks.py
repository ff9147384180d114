"""When to look at a batch again.

A batch that has waited long will wait longer: real completions show a hazard that falls with the
age. Where the hazard is h the least mean delay for a given number of looks comes from waits in
proportion to 1/√h (inspection policies: Barlow, Hunter and Proschan 1963; Keller 1974). Every
wait stays between the two intervals of the pace.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from watcher.cadence import phases
from watcher.cadence.jittering import STEEPEST, jitter
from watcher.model import RESULTS_AWAITED, Batch, Status

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

# After the end: counts and files have been seen to change for some minutes.
LOOKS_AFTER_THE_END = (MINUTE, 5 * MINUTE, 30 * MINUTE)
# None of them is urgent: a page that shows the batch sooner or later by this share will do.
RIDES_WITHIN = 0.3
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
# A page that shows more of ours than this is worth reading sooner than any of them alone. Where n
# share a look the least mean delay for the requests asks for waits in proportion to 1/√n; so many
# are set against the requests that are saved. Replayed, 1,000 batches created over an hour and
# pages of 100: an eighth of the requests of single looks, at two thirds of their delay.
SHARED_BY = 30

# The wait in seconds is SCALE · (age / (1 + age / LEVEL)) ^ EXPONENT. Of 1,218 real lives the
# hazard falls a little slower than 1/age, which alone would ask for the square root, and falls no
# more after some hours: what is due within a day has to end. Beside √age at equal looks that is
# 12 % less delay, 15 % on the older half and 9 % on the newer, and between 4 and 38 % less on all
# of 35 made-up populations, among them exponential, log-normal and Weibull ones. The bottom is
# flat: exponents from 0.35 to 0.5 with levels from 8 h down to 1 h differ by 1 % on the real ones.
SCALE = 2.5
LEVEL = 8 * HOUR / SECOND
EXPONENT = 0.4


@dataclass(frozen=True, slots=True)
class Pace:
    """How often an account's batches may be looked at; both intervals in milliseconds."""

    min_interval: int = 5 * SECOND
    max_interval: int = 5 * MINUTE
    eagerness: float = 1.0


def next_look(
    batch: Batch, now: int, pace: Pace, *, price: float = 1.0, stretch: float = 1.0
) -> int | None:
    """When to look at a batch again after the look just recorded in it; None for never.

    `price` is what the look cost in requests: 1 alone, a share of 1 on a page. `stretch` is how
    many times longer than wished the account's requests a minute make every batch wait.
    """
    if batch.results_awaited_since is not None and not batch.failures:
        # Before the end: what was lost and is found completed may still await its file.
        told_at = batch.results_awaited_since + RESULTS_AWAITED
        return now + _within(min(RESULTS_LOOK, told_at - now), pace)
    if batch.ended:
        return _after_the_end(batch, now, pace, price)
    if batch.status is None and 0 < batch.missing_looks <= len(NEVER_SEEN_WAITS):
        return now + _within(NEVER_SEEN_WAITS[batch.missing_looks - 1], pace)
    wait: float = _before_the_end(batch, now, pace, price, stretch)
    if batch.failures:
        wait = min(max(wait, _backoff(batch, pace)), pace.max_interval)
    return now + round(wait)


def by_age(age: float) -> float:
    """The wait that serves best at an age, both in seconds, before any bound."""
    return SCALE * math.pow(age / (1 + age / LEVEL), EXPONENT)


def _backoff(batch: Batch, pace: Pace) -> float:
    steps = 2.0 ** min(batch.failures - 1, STEEPEST)
    return pace.min_interval * steps * (0.75 + 0.5 * jitter(batch.key, batch.failures))


def _within(wait: int, pace: Pace) -> int:
    return max(pace.min_interval, min(wait, pace.max_interval))


def sooner(price: float) -> float:
    """What part of the wait is left where a look costs a share of a request."""
    return min(1.0, math.sqrt(SHARED_BY * price))


def _before_the_end(batch: Batch, now: int, pace: Pace, price: float, stretch: float) -> float:
    """How long to wait by the age of the phase it is in, and what is known of that phase."""
    born = batch.created_at if batch.created_at is not None else batch.registration.registered_at
    asked_at = now
    if now <= born:
        # Looked at so often, it is at least so old: our clock is set before its birth.
        now = born + batch.looks * pace.min_interval
    # What has shared a page is to go on sharing it, and so is drawn alike.
    drawn = jitter(batch.account, asked_at) if price < 1 else jitter(batch.key, batch.looks)
    slower = sooner(price) / pace.eagerness
    age = max(0, now - phases.since(batch, born)) / SECOND
    wait = by_age(age) * SECOND * phases.patience(batch) * slower
    # A tenth either way: a fleet created in one second must not be looked at in one second.
    wait *= 0.9 + 0.2 * drawn
    # The longest wait is drawn near, not run into: as if there were a hazard that asks for it
    # beside that of the age. Half the eagerness is then a little more than half the looks.
    wait /= math.sqrt(1 + (wait / pace.max_interval) ** 2)
    for rule in phases.RULES:
        wait = rule(batch, now, wait, slower, drawn)
    wait *= stretch
    longest = pace.max_interval * (0.9 + 0.1 * drawn)
    return max(pace.min_interval, min(wait, longest))


def _after_the_end(batch: Batch, now: int, pace: Pace, price: float) -> int | None:
    end = batch.end_seen_at if batch.end_seen_at is not None else now
    if batch.status is Status.LOST:
        due = now + pace.max_interval
        return due if due <= end + LOST_WATCHED_FOR else None
    if 0 < batch.failures <= FAILURES_AFTER_THE_END:
        return now + _within(round(_backoff(batch, pace)), pace)
    looked = batch.last_look_at if batch.last_look_at is not None else end
    patience = 1 + RIDES_WITHIN if price < 1 else 1
    for offset in LOOKS_AFTER_THE_END:
        if end + round(offset * (1 - RIDES_WITHIN)) > looked:
            return max(now + pace.min_interval, end + round(offset * patience))
    return None
