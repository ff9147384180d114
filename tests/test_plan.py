"""How many batches are looked at with few requests: single looks, pages, and where pages begin."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import HOUR, MINUTE, SECOND
from tests.fakes import START
from watcher.cadence import Listing, Page, Place, Single, plan, worth
from watcher.cadence.plan import Around

BY_ID = Listing(10, cursor_is_id=True)
BY_CURSOR = Listing(10, cursor_is_id=False)


def place(
    number: int,
    *,
    due: int | None = 0,
    looked: int = MINUTE,
    made: int | None = None,
    seen: bool = True,
) -> Place:
    """The number-th newest batch, due so many ms from now and looked at so long ago."""
    return Place(
        f"batch_{number}",
        START - HOUR - number * SECOND if made is None else made,
        looked_at=START - looked if seen else None,
        due_at=None if due is None else START + due,
        seen=seen,
    )


def listed(places: Sequence[Place]) -> Around:
    def around(at: int, reach: int) -> Sequence[Place]:
        seen = [one for one in places if one.seen]
        newer = [one for one in seen if one.listed_at > at][-reach:]
        same = [one for one in seen if one.listed_at == at]
        return [*newer, *same, *[one for one in seen if one.listed_at < at][:reach]]

    return around


def planned(
    places: Sequence[Place],
    listing: Listing | None = BY_ID,
    *,
    most: int = 8,
    **more: frozenset[str],
) -> list[Single | Page]:
    due = [one for one in places if one.due_at is not None and one.due_at <= START]
    due.sort(key=lambda one: one.due_at or 0)
    return plan(due, listed(places), listing, START, most=most, **more)


def pages(looks: Sequence[Single | Page]) -> list[Page]:
    return [one for one in looks if isinstance(one, Page)]


# What a look is worth


@pytest.mark.parametrize(
    ("due", "looked", "expected"),
    [(0, MINUTE, 1.0), (-HOUR, MINUTE, 1.0), (MINUTE, MINUTE, 0.5), (3 * MINUTE, MINUTE, 0.25)],
)
def test_a_look_is_worth_the_part_of_the_wait_that_has_passed(
    due: int, looked: int, expected: float
) -> None:
    assert worth(place(1, due=due, looked=looked), START) == expected


def test_a_look_at_what_needs_none_or_was_never_seen_and_is_not_due_is_worth_nothing() -> None:
    assert worth(place(1, due=None), START) == 0
    assert worth(place(1, due=SECOND, seen=False), START) == 0
    assert worth(place(1, due=SECOND, looked=-SECOND), START) == 0


# Which requests


def test_one_batch_is_looked_at_singly() -> None:
    assert planned([place(1)]) == [Single("batch_1")]


def test_those_too_far_apart_for_a_page_are_looked_at_singly_longest_due_first() -> None:
    places = [place(number, due=None) for number in range(30)]
    places[1], places[20] = place(1, due=-SECOND), place(20, due=-MINUTE)

    assert planned(places) == [Single("batch_20"), Single("batch_1")]


def test_two_side_by_side_are_looked_at_by_a_page_no_longer_than_it_takes() -> None:
    places = [place(number, due=None) for number in range(10)]
    places[6], places[8] = place(6), place(8)
    (page,) = pages(planned(places))

    assert page.ids == ("batch_6", "batch_8")
    assert (page.after, page.size) in {
        (None, 9),
        *((f"batch_{after}", 8 - after) for after in range(6)),
    }
    assert planned([place(0), place(1, due=MINUTE, looked=SECOND)]) == [Single("batch_0")]


def test_a_page_among_strangers_batches_is_asked_for_longer() -> None:
    places = [place(number) for number in range(4)]
    crowded = Listing(20, cursor_is_id=True, known_share=0.5)
    (page,) = pages(planned(places, crowded))

    assert page.size == 10


def test_what_is_half_way_to_its_look_counts_half() -> None:
    half = (place(number, due=MINUTE) for number in range(1, 5))
    third = (place(number, due=3 * MINUTE) for number in range(1, 2))

    assert len(pages(planned([place(0), *half]))) == 1
    assert planned([place(0), *third]) == [Single("batch_0")]


def test_without_a_list_every_look_is_a_request() -> None:
    looks = planned([place(number) for number in range(20)], None, most=20)

    assert len(looks) == 20
    assert pages(looks) == []


def test_no_more_requests_are_planned_than_allowed() -> None:
    places = [place(number) for number in range(60)]

    assert len(planned(places, most=3)) == 3
    assert len(planned(places, None, most=3)) == 3
    assert planned(places, most=0) == planned(places, BY_CURSOR, most=0) == []


# Where a page begins


def test_a_page_begins_after_any_batch_and_where_it_serves_most() -> None:
    # Of thirty only those from the twelfth to the nineteenth need a look.
    places = [place(number, due=0 if 12 <= number < 20 else None) for number in range(30)]
    (page,) = pages(planned(places))

    assert page.after in {"batch_9", "batch_10", "batch_11"}
    assert page.ids == tuple(f"batch_{number}" for number in range(12, 20))


def test_several_pages_serve_what_lies_apart_and_none_twice() -> None:
    due = {*range(5), *range(20, 25), *range(40, 45)}
    places = [place(number, due=0 if number in due else None) for number in range(60)]
    found = pages(planned(places))
    ids = [id for page in found for id in page.ids]

    assert len(found) == 3
    assert sorted(ids) == sorted(f"batch_{number}" for number in due)


def test_no_page_begins_after_a_batch_of_the_same_second() -> None:
    together = START - HOUR
    places = [place(number, due=None) for number in range(-12, 0)]
    places += [place(number, made=together) for number in range(6)]
    (page,) = pages(planned(places))

    assert page.after in {f"batch_{number}" for number in range(-5, 0)}
    assert page.ids == tuple(f"batch_{number}" for number in range(6))


def test_no_page_begins_after_a_batch_that_the_list_did_not_show() -> None:
    places = [place(number, due=0 if 12 <= number < 20 else None) for number in range(30)]
    unlisted = frozenset({"batch_9", "batch_10"})
    (page,) = pages(planned(places, singly=unlisted))

    assert page.after == "batch_11"


@pytest.mark.parametrize(("listing", "count"), [(BY_ID, 1), (BY_CURSOR, 3)])
def test_what_was_never_seen_is_looked_for_on_the_newest_page_with_what_stands_there(
    listing: Listing, count: int
) -> None:
    fresh = [place(number, seen=False) for number in range(2)]
    known = [place(number, due=MINUTE) for number in range(2, 30)]
    (page,) = planned([*fresh, *known], listing)

    assert isinstance(page, Page)
    assert (page.after, page.target, page.count) == (None, "batch_0", count)
    assert page.ids[:12] == tuple(f"batch_{number}" for number in range(12))
    assert planned(fresh[:1], listing) == [Single("batch_0")]


def test_what_was_never_seen_and_is_not_at_the_top_counts_for_no_page() -> None:
    fresh = [place(number, seen=False) for number in range(5)]
    singly = frozenset(one.id for one in fresh)

    assert planned(fresh, singly=singly) == [Single(f"batch_{number}") for number in range(5)]


def test_where_strangers_batches_stand_between_ours_a_page_is_expected_to_show_fewer() -> None:
    places = [place(number) for number in range(10)]
    crowded = Listing(10, cursor_is_id=True, known_share=0.5)

    assert [len(page.ids) for page in pages(planned(places, crowded))] == [5, 5]


def test_the_longest_due_has_the_first_page_even_where_another_would_serve_more() -> None:
    places = [place(number, due=-SECOND) for number in range(10)]
    places += [place(number, due=-HOUR if number == 22 else -SECOND) for number in range(20, 24)]
    first, *_ = planned(places)

    assert isinstance(first, Page)
    assert "batch_22" in first.ids


# What no page serves


def test_what_a_page_did_not_show_is_looked_at_singly_and_counts_for_no_page() -> None:
    places = [place(number) for number in range(3)]
    looks = planned(places, singly=frozenset({"batch_0", "batch_1"}))

    assert sorted(looks, key=str) == [Single(f"batch_{number}") for number in range(3)]


def test_what_other_requests_serve_counts_for_no_page() -> None:
    places = [place(number, due=0 if number < 2 else SECOND) for number in range(8)]
    served = frozenset(f"batch_{number}" for number in range(2, 8))

    assert len(pages(planned(places))) == 1
    assert planned(places[1:], served=served) == [Single("batch_1")]


# Lists that are only read from the top


def test_a_list_without_such_cursors_is_read_from_the_top_as_far_as_it_pays() -> None:
    places = [place(number) for number in range(25)]
    places += [place(number, due=None) for number in range(25, 100)] + [place(100)]
    looks = planned(places, BY_CURSOR)

    assert pages(looks) == [
        Page(None, "batch_0", tuple(f"batch_{number}" for number in range(25)), count=3)
    ]
    assert looks[1:] == [Single("batch_100")]


def test_a_list_is_not_read_down_to_a_few_that_stand_deep() -> None:
    places = [place(number, due=None) for number in range(95)]
    places += [place(number) for number in range(95, 100)]
    looks = planned(places, BY_CURSOR)

    assert looks == [Single(f"batch_{number}") for number in range(95, 100)]


def test_nothing_is_read_while_nothing_is_due() -> None:
    places = [place(number, due=SECOND, looked=HOUR) for number in range(20)]

    assert planned(places, BY_CURSOR) == planned(places) == []


@given(
    due=st.lists(st.one_of(st.none(), st.integers(-HOUR, HOUR)), max_size=60),
    by_id=st.booleans(),
    size=st.integers(1, 30),
    share=st.floats(0, 1),
    most=st.integers(0, 12),
    singly=st.frozensets(st.integers(0, 60).map("batch_{}".format)),
)
def test_each_batch_is_served_at_most_once_and_what_is_due_while_there_is_room(
    due: list[int | None],
    by_id: bool,
    size: int,
    share: float,
    most: int,
    singly: frozenset[str],
) -> None:
    places = [place(number, due=at) for number, at in enumerate(due)]
    looks = planned(places, Listing(size, by_id, share), most=most, singly=singly)
    served = [id for one in looks for id in (one.ids if isinstance(one, Page) else (one.id,))]
    wanted = {one.id for one in places if one.due_at is not None and one.due_at <= START}

    assert len(looks) <= most
    assert len(served) == len(set(served))
    assert len(looks) == most or wanted <= set(served)
    assert singly.isdisjoint(id for page in pages(looks) for id in page.ids)
    assert all(page.target in wanted for page in pages(looks))
