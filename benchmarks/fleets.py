"""Fleets of batches at one account, created over an hour: what its list saves, in requests.

The real cadence and the real planner under a fake clock; the account's list holds the fleet and
nothing else, newest first, and a page may begin after any batch. Looks after the end are the same
for all and not made.
"""

from __future__ import annotations

import heapq
import statistics
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from timelines import SECOND, Timeline, unseen

from watcher import cadence, lifecycle
from watcher.cadence import Listing, Pace, Page, Place

HOUR = 3_600 * SECOND
PAGES = (100, 1_000)
# How often the bound counts again how many are open on each page: a minute while the fleet is
# being created and the hour after it, then ten.
COUNTED_EVERY, COUNTED_LATER = 60 * SECOND, 600 * SECOND


@dataclass(frozen=True, slots=True)
class Watched:
    """What watching a fleet took; delays in seconds. `shared` is the bound by size of page."""

    size: int
    page: int | None
    requests: int
    mean: float
    late: float
    shared: dict[int, float]


def fleet(lives: Sequence[Timeline], size: int) -> list[Timeline]:
    """So many of these lives in a random order that is always the same, newest first."""
    order = sorted(range(size), key=lambda number: cadence.jitter("fleet", number))
    born = lives[0].created_at
    made = []
    for place, number in enumerate(order):
        life = lives[number % len(lives)]
        # Providers give whole seconds: those of one second stand in no known order.
        begin = born + HOUR * place // size // SECOND * SECOND
        made.append(_moved(life, begin - life.created_at))
    return made[::-1]


def _moved(life: Timeline, by: int) -> Timeline:
    def moved(at: int | None) -> int | None:
        return None if at is None else at + by

    stages = tuple(
        (
            since + by,
            replace(
                said,
                created_at=moved(said.created_at),
                in_progress_at=moved(said.in_progress_at),
                finalizing_at=moved(said.finalizing_at),
                cancelling_at=moved(said.cancelling_at),
                ended_at=moved(said.ended_at),
                expires_at=moved(said.expires_at),
            ),
        )
        for since, said in life.stages
    )
    return Timeline(life.provider, stages)


def watch(lives: Sequence[Timeline], pace: Pace, page: int | None) -> Watched:
    """A fleet, newest first, watched through pages of that many, or one by one."""
    return _Fleet(lives, pace, page).run()


class _Fleet:
    def __init__(self, lives: Sequence[Timeline], pace: Pace, page: int | None) -> None:
        self._lives, self._pace, self._page = lives, pace, page
        self._listing = None if page is None else Listing(page, cursor_is_id=True)
        self._batches = [unseen(life, number) for number, life in enumerate(lives)]
        self._numbers = {batch.id: number for number, batch in enumerate(self._batches)}
        self._stages = [0] * len(lives)
        self._born = [-life.created_at for life in lives]
        self._places = [
            Place(batch.id, life.created_at, None, life.created_at, seen=False)
            for batch, life in zip(self._batches, lives, strict=True)
        ]
        self._due = [(life.created_at, number) for number, life in enumerate(lives)]
        heapq.heapify(self._due)
        self._delays: list[float] = []
        self._requests = 0
        self._now = 0

    def run(self) -> Watched:
        shared = _Shared(self._places)
        while self._due:
            self._now, number = heapq.heappop(self._due)
            place = self._places[number]
            if place.due_at != self._now:
                continue
            if self._listing is None:
                shared.count(number, self._now, bisect_left(self._born, -self._now))
            looks = cadence.plan([place], self._around, self._listing, self._now, most=1)
            for look in looks:
                self._make(look)
        ordered = sorted(self._delays)
        late = ordered[int(0.95 * len(ordered))]
        mean = statistics.fmean(ordered)
        return Watched(len(ordered), self._page, self._requests, mean, late, shared.requests)

    def _make(self, look: cadence.Single | Page) -> None:
        if not isinstance(look, Page):
            self._requests += 1
            self._look(self._numbers[look.id], 1.0)
            return
        self._requests += look.count
        first = bisect_left(self._born, -self._now)
        if look.after is not None:
            first = max(first, self._numbers[look.after] + 1)
        shown = range(
            first, min(len(self._lives), first + look.count * (look.size or self._page or 1))
        )
        wanted = [number for number in shown if self._places[number].due_at is not None]
        for number in wanted:
            self._look(number, 1 / len(wanted))

    def _look(self, number: int, price: float) -> None:
        now, batch, stages = self._now, self._batches[number], self._lives[number].stages
        stage = self._stages[number]
        while stage < len(stages) and stages[stage][0] <= now:
            stage += 1
        if stage != self._stages[number]:
            self._stages[number] = stage
            batch = lifecycle.advance(batch, stages[stage - 1][1], now).batch
            self._batches[number] = batch
        else:
            # What `advance` does where nothing has changed; a million copies would take a minute.
            object.__setattr__(batch, "looks", batch.looks + 1)
            object.__setattr__(batch, "last_look_at", now)
        due = None
        if batch.ended:
            self._delays.append((now - stages[-1][0]) / SECOND)
        else:
            due = cadence.next_look(batch, now, self._pace, price=price)
            if due is None:
                raise RuntimeError(f"the cadence gave up a batch that is {batch.status}")
            heapq.heappush(self._due, (due, number))
        self._places[number] = Place(batch.id, self._lives[number].created_at, now, due)

    def _around(self, listed_at: int, reach: int) -> Sequence[Place]:
        """The batches made by now, as many on each side of a time of the list as asked for."""
        made, at = bisect_left(self._born, -self._now), -listed_at
        low, high = bisect_left(self._born, at, made), bisect_right(self._born, at, made)
        return self._places[max(made, low - reach) : high + reach]


class _Shared:
    """The bound: each look made one by one, shared with all that are open on its best page."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places
        self.requests = dict.fromkeys(PAGES, 0.0)
        self._open: dict[int, list[int]] = {}
        self._until = 0
        self._began: int | None = None

    def count(self, number: int, now: int, made: int) -> None:
        """One look, made when those from the `made`-th on had been created."""
        if now >= self._until or number < made:
            began = self._began = now if self._began is None else self._began
            self._until = now + (COUNTED_EVERY if now < began + 2 * HOUR else COUNTED_LATER)
            self._open = {page: self._best(page, made) for page in PAGES}
        for page, best in self._open.items():
            self.requests[page] += 1 / max(1, best[number])

    def _best(self, page: int, made: int) -> list[int]:
        """For each batch how many are open on the page with it that has most of them."""
        size, sums = len(self._places), [0]
        for place, one in enumerate(self._places):
            sums.append(sums[-1] + (place >= made and one.due_at is not None))
        best: list[int] = []
        pages: deque[tuple[int, int]] = deque()
        for place in range(size):
            shown = sums[min(size, place + page)] - sums[place]
            while pages and pages[-1][1] <= shown:
                pages.pop()
            pages.append((place, shown))
            if pages[0][0] <= place - page:
                pages.popleft()
            best.append(pages[0][1])
        return best
