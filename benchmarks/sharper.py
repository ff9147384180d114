"""What each of the sharper rules of the cadence is worth: replayed with and without it.

Where the timelines hold the case they are used; else lives are made up, always the same, and
labelled so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import NormalDist

from replay import Score, by_rule, in_company
from timelines import SECOND, Timeline, timeline

from watcher import cadence
from watcher.cadence import cohorts, phases
from watcher.model import Batch, Counts, Status

MADE_UP = 300
BORN = 1_760_000_000 * SECOND
PACE = cadence.Pace()
# What siblings gain is less than what jitter does to so few in one replay.
COHORT_DRAWS = 4
# So many replayed lives tell a rule's worth.
ENOUGH, MOST_DRAWS = 1_000, 16


@dataclass(frozen=True, slots=True)
class Comparison:
    """A rule on the lives that hold its case: looks and delays with it and without it."""

    rule: str
    lives: str
    count: int
    having: Score | None = None
    lacking: Score | None = None

    @property
    def saved(self) -> float | None:
        """How much less looks times delay is with it, in percent: both at once, at one rate."""
        if self.having is None or self.lacking is None:
            return None
        before = self.lacking.looks * self.lacking.mean
        return 100 * (1 - self.having.looks * self.having.mean / before) if before else None


@contextmanager
def without(rule: str) -> Iterator[None]:
    """The cadence as it would be without one of its rules."""
    kept = phases.RULES, phases.PATIENCE, phases.since
    try:
        match rule:
            case "phase":
                phases.since = _birth_of_all
            case "patience":
                phases.PATIENCE = 1.0
            case _:
                phases.RULES = tuple(one for one in kept[0] if one.__name__ != rule)
        yield
    finally:
        phases.RULES, phases.PATIENCE, phases.since = kept


def _birth_of_all(batch: Batch, born: int) -> int:
    del batch
    return born


def compare(lives: Sequence[Timeline], made_up: int = MADE_UP) -> list[Comparison]:
    """Every rule, on these lives or on so many made-up ones."""
    ended = [one for one in lives if one.end is not None]
    own = [one for one in ended if one.ran_to_its_own_end]
    openai = [one for one in own if one.provider == "openai"]
    cancelled = [one for one in ended if one.cancelling_at and one.provider == "openai"]
    expired = [one for one in openai if one.end and one.end.status is Status.EXPIRED]
    queued, large = list(queueing(made_up)), list(finalizing(made_up))
    return [
        _compare("phase", "age of the phase", "of the file, own end", own),
        _compare("phase", "age of the phase", "that queue long and run short, made up", queued),
        _compare(
            "patience", "patience until it begins", "that queue long and run short, made up", queued
        ),
        _compare(
            "finalizing", "finalizing: by size", "of 1,000 to 50,000 requests, made up", large
        ),
        _compare("cancelling", "cancelling", "of the file, from cancelling on", cancelled),
        _compare("expiring", "expiry", "of the file, expired", expired),
        _cohorts(own),
    ]


def _compare(rule: str, what: str, whose: str, lives: Sequence[Timeline]) -> Comparison:
    if not lives:
        return Comparison(what, whose, 0)
    since = _cancelling if rule == "cancelling" else _birth
    # Where few hold the case, what jitter does to them is more than what the rule does.
    draws = min(MOST_DRAWS, 1 + ENOUGH // len(lives))

    def score() -> Score:
        return Score.mean_of([by_rule(lives, _ours, since, draw) for draw in range(draws)])

    having = score()
    with without(rule):
        return Comparison(what, whose, len(lives), having, score())


def _ours(batch: Batch, now: int) -> int | None:
    return cadence.next_look(batch, now, PACE)


def _cohorts(lives: Sequence[Timeline]) -> Comparison:
    """All lives at their own times in one account; judged on those that the rule may help."""
    long = {
        number for number, one in enumerate(lives) if one.ended_at - one.created_at > cohorts.LONG
    }
    what, whose = "cohorts", "of the file, longer than an hour"
    if not long:
        return Comparison(what, whose, 0)
    having, lacking = (
        in_company(lives, PACE, long, follow_up=follow_up, draws=COHORT_DRAWS)
        for follow_up in (True, False)
    )
    return Comparison(what, whose, len(long), having, lacking)


def queueing(count: int) -> Iterator[Timeline]:
    """Lives that queue for an hour or so and run for ten minutes or so (log-normal)."""
    for number in range(count):
        began = _log_normal("queued", number, 3_600)
        ends = began + _log_normal("ran", number, 600)
        yield _life(number, began, ends, ends + 2, Counts(100, 100, 0))


def finalizing(count: int) -> Iterator[Timeline]:
    """Lives of some hours that are finalizing for 60 to 160 s for each 1,000 requests."""
    for number in range(count):
        total = round(1_000 * 50 ** cadence.jitter("total", number))
        rate = 60 + 100 * cadence.jitter("rate", number)
        ran = 2 + _log_normal("hours", number, 7_200)
        ended = ran + total * rate / 1_000
        # The rule is for OpenAI's alone.
        yield _life(number, 2, ran, ended, Counts(total, total, 0), provider="openai")


def _life(
    number: int,
    began: float,
    ran: float,
    ended: float,
    counts: Counts,
    *,
    provider: str = "made-up",
) -> Timeline:
    at = {"in_progress_at": began, "finalizing_at": ran, "completed_at": ended}
    born = BORN + 7 * SECOND * number
    times = {name: born + round(seconds * SECOND) for name, seconds in at.items()}
    return timeline(provider, {"created_at": born, **times}, counts)


def _log_normal(what: str, number: int, median: float) -> float:
    """Seconds around a median, one in six less than a third and one in six more than thrice."""
    quantile = min(0.999, max(0.001, cadence.jitter(what, number)))
    return median * math.exp(NormalDist().inv_cdf(quantile))


def _birth(life: Timeline) -> int:
    return life.created_at


def _cancelling(life: Timeline) -> int:
    return life.cancelling_at or life.created_at
