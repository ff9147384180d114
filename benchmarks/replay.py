"""Lives of batches replayed under a fake clock: when a policy would have seen each of them end.

Looks are counted from the one after registration, which all policies make, until the end is seen;
the delay is the time from the end to the look that saw it.
"""

from __future__ import annotations

import heapq
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from timelines import Timeline, unseen

from watcher import cadence, lifecycle
from watcher.model import Batch

# When to look again after a look, from the batch as it then is; what `cadence.next_look` is.
Rule = Callable[[Batch, int], int | None]
# How long to wait from the age, both in milliseconds.
Wait = Callable[[float], float]


@dataclass(slots=True)
class Life:
    """One batch on its way through its timeline."""

    timeline: Timeline
    batch: Batch

    def look(self, now: int) -> bool:
        """Look at it; whether it has ended."""
        self.batch = lifecycle.advance(self.batch, self.timeline.shown(now), now).batch
        return self.batch.ended


@dataclass(frozen=True, slots=True)
class Score:
    """Looks a batch, and how late its end was seen, in seconds."""

    looks: float
    mean: float
    median: float
    late: float

    @classmethod
    def of(cls, looks: int, delays: Sequence[float]) -> Score:
        """The score of as many batches as there are delays; `late` is their 95th percentile."""
        ordered = sorted(delays)
        late = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
        middle = statistics.median(ordered)
        return cls(looks / len(ordered), statistics.fmean(ordered), middle, late)

    @classmethod
    def mean_of(cls, scores: Sequence[Score]) -> Score:
        """Several replays of the same lives as one."""
        rows = [(one.looks, one.mean, one.median, one.late) for one in scores]
        return cls(*map(statistics.fmean, zip(*rows, strict=True)))


def by_rule(
    lives: Sequence[Timeline], rule: Rule, since: Callable[[Timeline], int], draw: int = 0
) -> Score:
    """Each life alone, looked at as a rule says; looks count if made after `since`.

    Another `draw` gives every batch another id, and with it other jitter.
    """
    looks, delays = 0, []
    for number, timeline in enumerate(lives):
        life = Life(timeline, unseen(timeline, number + draw * len(lives)))
        now, counted_from = timeline.created_at, since(timeline)
        while not life.look(now):
            now = _next(rule(life.batch, now), life.batch, now)
            looks += now > counted_from
        delays.append((now - timeline.ended_at) / 1_000)
    return Score.of(looks, delays)


def ours(lives: Sequence[Timeline], pace: cadence.Pace, draw: int = 0) -> Score:
    """Each life alone under the real cadence."""
    return by_rule(
        lives,
        lambda batch, now: cadence.next_look(batch, now, pace),
        lambda timeline: timeline.created_at,
        draw,
    )


def by_wait(lives: Sequence[Timeline], wait: Wait, draw: int | None = None) -> Score:
    """Each life alone, looked at as its age says and nothing else; jittered if there is a draw."""
    looks, delays = 0, []
    for number, timeline in enumerate(lives):
        age, life, first = 0.0, timeline.ended_at - timeline.created_at, looks
        while age < life:
            pause = wait(age)
            if draw is not None:
                pause *= 0.9 + 0.2 * cadence.jitter(number, looks - first, draw)
            age += pause
            looks += 1
        delays.append((age - life) / 1_000)
    return Score.of(looks, delays)


def in_company(
    lives: Sequence[Timeline],
    pace: cadence.Pace,
    judged: Collection[int],
    *,
    follow_up: bool,
    draws: int = 1,
) -> Score:
    """All lives at their own times as batches of one account; the score of those `judged`.

    `follow_up`: when one is seen to end, the siblings of its cohort are looked at as the rule says.
    """
    looks, delays = 0, list[float]()
    for draw in range(draws):
        company = _Company(lives, pace, draw, follow_up=follow_up)
        for number, now in company.run():
            if number in judged:
                life = company.lives[number]
                looks += life.batch.looks - 1
                delays.append((now - life.timeline.ended_at) / 1_000)
    return Score.of(looks, delays)


class _Company:
    """Batches of one account, each looked at when it is due."""

    def __init__(
        self, lives: Sequence[Timeline], pace: cadence.Pace, draw: int, *, follow_up: bool
    ) -> None:
        ordered = sorted(range(len(lives)), key=lambda number: lives[number].created_at)
        self._order = ordered
        self._births = [lives[number].created_at for number in ordered]
        self._pace, self._follow_up = pace, follow_up
        shift = draw * len(lives)
        self.lives = [Life(one, unseen(one, number + shift)) for number, one in enumerate(lives)]
        self._due = [(one.created_at, number) for number, one in enumerate(lives)]
        heapq.heapify(self._due)

    def run(self) -> Iterator[tuple[int, int]]:
        """Which of them was seen to end, and when, one after the other."""
        while self._due:
            now, number = heapq.heappop(self._due)
            life = self.lives[number]
            if life.batch.ended or life.batch.next_look_at not in {None, now}:
                continue
            if not life.look(now):
                due = cadence.next_look(life.batch, now, self._pace)
                self._plan(number, _next(due, life.batch, now))
                continue
            yield number, now
            if self._follow_up:
                self._look_beside(life.batch, life.timeline.created_at, now)

    def _look_beside(self, ended: Batch, born: int, now: int) -> None:
        low = bisect_left(self._births, born - cadence.COHORT_SPAN)
        high = bisect_right(self._births, min(now, born + cadence.COHORT_SPAN))
        cohort = [
            number
            for number in self._order[low:high]
            if cadence.siblings(ended, self.lives[number].batch, now)
        ]
        for number in cohort:
            sibling = self.lives[number].batch
            at = cadence.sibling_look(ended, sibling, now, self._pace, cohort=len(cohort))
            if at is not None:
                self._plan(number, at)

    def _plan(self, number: int, at: int) -> None:
        life = self.lives[number]
        life.batch = replace(life.batch, next_look_at=at)
        heapq.heappush(self._due, (at, number))


def _next(due: int | None, batch: Batch, now: int) -> int:
    if due is None or due <= now:
        raise RuntimeError(f"the rule gave up a batch that is {batch.status}")
    return due
