"""How to look at many batches of one account at least cost: one by one, or by pages of its list.

A single look costs one request; so does a page, whatever it shows. A page is worth the single
looks it replaces: one for each batch on it that is due, and of every other the part of its wait
that has passed, because its next look is put off by as much. The batch that has been due longest
is served first, so none starves, and its page is placed where it serves the others most.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate

# A page replaces at least so many looks: for less the provider's own word for the one batch is
# worth more. Replayed, 3 takes a sixth more requests, and 1 no fewer than this.
PAGE_REPLACES = 1.5
# Strangers' batches between ours are not spread evenly: a page is asked for so much longer.
MARGIN = 1.25
# A list that is read from the top is planned to at least so many pages.
LEAST_PAGES = 10


@dataclass(frozen=True, slots=True)
class Place:
    """A batch of ours as an entry of its account's list, which begins with the newest.

    `listed_at` is when the provider made it. `due_at` is None for what needs no more looks: it
    only takes up room. All times in milliseconds.
    """

    id: str
    listed_at: int
    looked_at: int | None = None
    due_at: int | None = None
    # False while the provider has not shown it: its place is not known, and likely near the top.
    seen: bool = True


@dataclass(frozen=True, slots=True)
class Listing:
    """An account's list: how many entries a page holds, and where a page may begin."""

    page_size: int
    # Whether a page may begin after any batch; else only at the top and where another ended.
    cursor_is_id: bool
    # Of the entries of its recent pages, the share that are places we know.
    known_share: float = 1.0

    @property
    def room(self) -> int:
        """How many places of ours a page can be expected to show."""
        return max(1, int(self.page_size * self.known_share))

    def size_for(self, places: int) -> int:
        """How many entries to ask for so that they show so many places of ours."""
        share = max(self.known_share, 1 / self.page_size)
        return min(self.page_size, math.ceil(places * (MARGIN if share < 1 else 1) / share))


@dataclass(frozen=True, slots=True)
class Single:
    """A request for one batch."""

    id: str


@dataclass(frozen=True, slots=True)
class Page:
    """A request for a page of the list, or for several, each from where the last one ended.

    `after` is the batch the first of them follows, None for the newest. `target` is the batch it
    is placed for; `ids` are all it should show that are wanted, due or not. `size` is how many
    entries are asked for, None for as many as a page can hold. A page that `walks` is followed by
    others for as long as they show what is sought.
    """

    after: str | None
    target: str
    ids: tuple[str, ...]
    count: int = 1
    size: int | None = None
    walks: bool = False


# Places that were seen, in the order of the list: so many newer than a time of the list, those of
# that time, and so many older.
Around = Callable[[int, int], Sequence[Place]]
# Newer than any batch.
TOP = 2**62


def worth(place: Place, now: int) -> float:
    """How much of a look of its own it saves to see this batch now, from 0.0 to 1.0."""
    due_at, looked_at = place.due_at, place.looked_at
    if due_at is None:
        return 0.0
    if due_at <= now:
        return 1.0
    if looked_at is None or looked_at >= now:
        return 0.0
    return (now - looked_at) / (due_at - looked_at)


def plan(
    due: Sequence[Place],
    around: Around,
    listing: Listing | None,
    now: int,
    *,
    most: int,
    singly: Collection[str] = frozenset(),
    served: Collection[str] = frozenset(),
) -> list[Single | Page]:
    """The requests that serve what is due, longest due first, at most `most` of them.

    `due` holds what may be looked at now; `listing` is None where there is no list to be used.
    `singly` names what no page serves, by its id: it is not on the list, or doubted; `served`
    what other requests serve already.
    """
    looks: list[Single | Page] = []
    served = {*served, *singly}
    if listing is not None and most > 0 and due:
        fresh = tuple(one.id for one in due if not one.seen and one.id not in singly)
        page = _from_the_top(fresh, len(due), around, listing, now, served)
        if page is not None:
            looks.append(page)
            served.update(page.ids)
    for target in due:
        if len(looks) >= most:
            break
        page = None
        if target.id not in singly:
            if target.id in served:
                continue
            if listing is not None and listing.cursor_is_id and target.seen:
                near = around(target.listed_at, listing.room)
                page = _page_for(target, near, listing, now, served, singly)
        served.update((target.id,) if page is None else page.ids)
        looks.append(Single(target.id) if page is None else page)
    return looks


def _from_the_top(
    fresh: tuple[str, ...],
    due: int,
    around: Around,
    listing: Listing,
    now: int,
    served: Collection[str],
) -> Page | None:
    """The pages from the newest batch on that save most; None if they save nothing.

    Where a page may begin anywhere it is one, and only for what is `fresh`: never seen.
    """
    if listing.cursor_is_id and not fresh:
        return None
    room = listing.room
    # No more pages than what is due could pay for.
    most = 1 if listing.cursor_is_id else max(LEAST_PAGES, math.ceil(due / PAGE_REPLACES))
    places = around(TOP, room * most)
    sums, found = _sums(places, now, served), min(len(fresh), room)
    most_saved, count = -1.0, 0
    for pages in range(1, min(most, len(places) // room + 1) + 1):
        saved = found + sums[min(len(places), pages * room)] - pages * PAGE_REPLACES
        if saved >= 0 and saved > most_saved:
            most_saved, count = saved, pages
    shown = places[: count * room]
    others = (one.id for one in shown if one.id not in served and worth(one, now) >= 1)
    target = fresh[0] if fresh else next(others, None)
    if not count or target is None:
        return None
    return Page(None, target, (*fresh, *_wanted(shown, served)), count)


def _page_for(
    target: Place,
    places: Sequence[Place],
    listing: Listing,
    now: int,
    served: Collection[str],
    singly: Collection[str],
) -> Page | None:
    """The page with this batch on it that is worth most; None if single looks are cheaper."""
    at = next((index for index, one in enumerate(places) if one.id == target.id), None)
    if at is None:
        return None
    sums, room = _sums(places, now, served), listing.room
    newer = sum(one.listed_at > target.listed_at for one in places)
    best, begin = 0.0, None
    for start in range(max(0, at - room + 1), at + 1):
        if start:
            before = places[start - 1]
            # Of batches made in the same second none knows which comes first.
            if start > newer or before.id in singly:
                continue
        elif newer >= room:
            # The top lies beyond what was asked for.
            continue
        value = sums[min(len(places), start + room)] - sums[start]
        if value > best:
            best, begin = value, start
    if begin is None or best < PAGE_REPLACES:
        return None
    shown = places[begin : begin + room]
    last = max(place for place, one in enumerate(shown) if _is_wanted(one, served))
    return Page(
        after=places[begin - 1].id if begin else None,
        target=target.id,
        ids=_wanted(shown, served),
        size=listing.size_for(last + 1),
    )


def _sums(places: Sequence[Place], now: int, served: Collection[str]) -> list[float]:
    """What the first n places are worth together, for each n from 0."""
    worths = (0.0 if one.id in served else worth(one, now) for one in places)
    return list(accumulate(worths, initial=0.0))


def _wanted(places: Sequence[Place], served: Collection[str]) -> tuple[str, ...]:
    return tuple(one.id for one in places if _is_wanted(one, served))


def _is_wanted(place: Place, served: Collection[str]) -> bool:
    return place.due_at is not None and place.id not in served
