"""Lists as they really are: late, contradictory, refused, of another envelope, order or paging."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fakes import FakeClock
from tests.simulator.builders import AUTHORIZED, batch, entries, listed, simulated
from watcher.simulator import (
    GROQ,
    MORPH,
    TOGETHER,
    Answer,
    Envelope,
    Fate,
    ListForm,
    Order,
    Paging,
    SimulatedProvider,
)


def stocked(form: ListForm, count: int, clock: FakeClock | None = None) -> SimulatedProvider:
    """A provider with so many batches, made a second apart."""
    clock = clock or FakeClock()
    provider = simulated("openai", clock)
    provider.list_form = form
    for _ in range(count):
        provider.add(Fate.stuck())
        clock.advance(1_000)
    return provider


def answered(provider: SimulatedProvider, **query: str) -> Answer:
    return provider.respond("GET", "/batches", query, AUTHORIZED)


def ids(provider: SimulatedProvider, **query: str) -> list[str]:
    return [shown["id"] for shown in entries(answered(provider, **query))]


@pytest.mark.parametrize(
    ("form", "around"),
    [
        (ListForm(), {"object", "first_id", "last_id", "has_more"}),
        (ListForm(envelope=Envelope.IDS), {"object", "first_id", "last_id"}),
        (GROQ, {"object"}),
        (MORPH, {"object", "first_id", "last_id", "has_more"}),
    ],
)
def test_each_envelope_has_its_keys(form: ListForm, around: set[str]) -> None:
    assert listed(stocked(form, 2)).keys() == {"data", *around}


def test_an_array_has_nothing_around_it() -> None:
    page: Any = json.loads(answered(stocked(TOGETHER, 2)).body)

    assert [one["object"] for one in page] == ["batch", "batch"]


def test_a_list_without_pages_shows_all_whatever_is_asked_for() -> None:
    provider = stocked(GROQ, 130)

    assert ids(provider, limit="2", after=provider.ids[5]) == provider.ids


def test_a_list_that_overlooks_its_parameters_shows_its_first_page() -> None:
    provider = stocked(ListForm(paging=Paging.IGNORED), 45)

    assert ids(provider, limit="100", after=provider.ids[19]) == provider.ids[:20]
    assert listed(provider)["has_more"] is True


def test_an_offset_passes_over_so_many_and_is_no_id() -> None:
    provider = stocked(MORPH, 5)
    refused = answered(provider, after=provider.ids[1]).status

    assert ids(provider, limit="2", after="2") == provider.ids[2:4]
    assert ids(provider, after="7") == []
    assert refused == 400


@pytest.mark.parametrize("order", [Order.OLDEST, Order.NONE])
def test_another_order_is_kept_from_page_to_page(order: Order) -> None:
    provider = stocked(ListForm(order=order), 50)
    pages = [ids(provider)]
    while len(pages[-1]) == 20:
        pages.append(ids(provider, after=pages[-1][-1]))
    seen = [id for page in pages for id in page]

    assert sorted(seen) == sorted(provider.ids)
    assert seen != provider.ids
    assert (seen == provider.ids[::-1]) is (order is Order.OLDEST)


def test_what_is_hidden_is_retrieved_and_not_listed() -> None:
    provider = stocked(ListForm(), 3)
    hidden = provider.ids[1]
    provider.hide(hidden)
    refused = answered(provider, after=hidden).status

    assert ids(provider) == [provider.ids[0], provider.ids[2]]
    assert batch(provider, hidden)["id"] == hidden
    assert refused == 400


def test_a_list_may_be_refused_while_retrieve_works() -> None:
    provider = stocked(ListForm(refusal=403), 1)

    assert answered(provider).status == 403
    assert batch(provider, provider.ids[0])["status"] == "validating"


def test_a_list_that_lags_shows_what_was_and_not_what_is_new() -> None:
    clock = FakeClock()
    provider = stocked(ListForm(lag=30), 0, clock)
    id = provider.add(Fate.completed(after=60))
    clock.advance(29_000)
    early = ids(provider)
    cursor = answered(provider, after=id).status
    clock.advance(1_000)
    shown = listed(provider)["data"][0]["status"]
    clock.advance(30_000)
    late, true = listed(provider)["data"][0]["status"], batch(provider, id)["status"]
    clock.advance(30_000)

    assert (early, cursor) == ([], 400)
    assert (shown, late, true) == ("validating", "in_progress", "completed")
    assert listed(provider)["data"][0]["status"] == "completed"


def test_requests_contradict_each_other_the_same_way_for_the_same_seed() -> None:
    def lengths(seed: int) -> list[int]:
        clock = FakeClock()
        provider = simulated("openai", clock, seed)
        provider.list_form = ListForm(jitter=20)
        for _ in range(20):
            provider.add(Fate.stuck())
            clock.advance(1_000)
        return [len(ids(provider)) for _ in range(12)]

    assert lengths(1) == lengths(1) != lengths(2)
    # One that was shown is gone again.
    assert sorted(lengths(1)) != lengths(1)


def test_a_list_of_cohere_may_lag_too() -> None:
    clock = FakeClock()
    provider = simulated("cohere", clock)
    provider.list_form = ListForm(lag=5)
    provider.add(Fate.stuck())
    before = listed(provider)
    clock.advance(5_000)

    assert (before["batches"], len(listed(provider)["batches"])) == ([], 1)
