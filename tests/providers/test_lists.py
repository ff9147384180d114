"""Whatever form a list has, it is read to its end: every batch once, and no page too many."""

from __future__ import annotations

import json

import pytest

from tests.fakes import FakeClock
from watcher.model import Observation
from watcher.providers import Provider, ProviderOptions, build
from watcher.providers.openai import OpenAIShaped
from watcher.simulator import (
    GROQ,
    KEY,
    MORPH,
    TOGETHER,
    Envelope,
    Fate,
    ListForm,
    Order,
    Paging,
    Simulation,
    Wire,
)

ADDRESS = "http://127.0.0.1:1"


def shaped(simulation_of: Wire, form: ListForm) -> Provider:
    """The reader of a simulated provider's lists."""
    base_url = Simulation.base_url(simulation_of, ADDRESS)
    if form.paging is Paging.OFFSET:
        return OpenAIShaped("openai-compatible", base_url, cursor_is_id=False)
    return build(simulation_of, ProviderOptions(base_url=base_url))


def walked(wire: Wire, form: ListForm, count: int) -> tuple[list[str], list[list[Observation]]]:
    """The ids there are, newest first, and the pages of a walk up to a cursor it has had."""
    clock = FakeClock()
    simulation = Simulation(clock.now)
    there = simulation.providers[wire]
    there.list_form = form
    for _ in range(count):
        clock.advance(1_000)
        there.add(Fate.stuck())
    reader = shaped(wire, form)
    pages: list[list[Observation]] = []
    cursor, had = None, set[str | None]()
    while cursor is not None or not had:
        had.add(cursor)
        request = reader.authorize(reader.page(cursor), KEY, 0)
        answer = simulation.respond("GET", request.url.removeprefix(ADDRESS), request.headers)
        page, cursor = reader.read_page(json.loads(answer.body), cursor)
        pages.append(page)
        if cursor in had:
            break
    return there.ids, pages


NO_MORE = ListForm(envelope=Envelope.IDS)
FORMS: dict[str, tuple[Wire, ListForm, int, list[int]]] = {
    "as documented": (Wire.OPENAI, ListForm(), 230, [100, 100, 30]),
    "full to the last": (Wire.OPENAI, ListForm(), 200, [100, 100]),
    "cohere": (Wire.COHERE, ListForm(), 1_030, [1_000, 30]),
    "oldest first": (Wire.OPENAI, ListForm(order=Order.OLDEST), 230, [100, 100, 30]),
    "no order": (Wire.OPENAI, ListForm(order=Order.NONE), 130, [100, 30]),
    "unpaged": (Wire.OPENAI, GROQ, 230, [230]),
    "unpaged and short": (Wire.OPENAI, GROQ, 30, [30]),
    # Nothing tells it from a page that is full: it is asked for once more.
    "unpaged and just as long as a page": (Wire.OPENAI, GROQ, 100, [100, 100]),
    "array": (Wire.OPENAI, TOGETHER, 230, [230]),
    "offset": (Wire.OPENAI, MORPH, 230, [100, 100, 30]),
    "offset without has_more": (
        Wire.OPENAI,
        ListForm(paging=Paging.OFFSET, envelope=Envelope.DATA),
        230,
        [100, 100, 30],
    ),
    "no has_more": (Wire.OPENAI, NO_MORE, 230, [100, 100, 30]),
    "no has_more and full to the last": (Wire.OPENAI, NO_MORE, 200, [100, 100, 0]),
    "nothing listed": (Wire.OPENAI, NO_MORE, 0, [0]),
}


@pytest.mark.parametrize(("wire", "form", "count", "lengths"), FORMS.values(), ids=FORMS)
def test_a_list_of_any_form_is_read_to_its_end(
    wire: Wire, form: ListForm, count: int, lengths: list[int]
) -> None:
    ids, pages = walked(wire, form, count)
    seen = {one.id for page in pages for one in page}

    assert [len(page) for page in pages] == lengths
    assert seen == set(ids)


def test_a_list_that_overlooks_its_cursor_gives_a_cursor_that_was_had() -> None:
    ids, pages = walked(Wire.CEREBRAS, ListForm(paging=Paging.IGNORED), 45)

    assert [[one.id for one in page] for page in pages] == [ids[:20], ids[:20]]


def test_where_a_page_may_begin_is_as_the_provider_says() -> None:
    by_id = {
        name: build(name, ProviderOptions(base_url="https://api.example.com")).cursor_is_id
        for name in ("openai", "cerebras", "cohere", "openai-compatible")
    }
    morph = build("openai-compatible", ProviderOptions(base_url="https://api.morphllm.com/v1"))

    assert by_id == {"openai": True, "cerebras": True, "cohere": False, "openai-compatible": True}
    assert morph.cursor_is_id is False
    assert morph.page("100").url == "https://api.morphllm.com/v1/batches?limit=100&after=100"


@pytest.mark.parametrize("name", ["openai", "cerebras", "cohere", "openai-compatible"])
def test_a_page_is_asked_for_at_its_full_length(name: str) -> None:
    built = build(name, ProviderOptions(base_url="https://api.example.com"))

    assert built.page_size == (1_000 if name == "cohere" else 100)
    assert f"={built.page_size}" in built.page(None).url


def test_a_page_whose_entries_were_all_filtered_out_still_leads_on() -> None:
    page = {"data": [], "has_more": True, "last_id": "batch_9"}

    assert build("openai", ProviderOptions()).read_page(page) == ([], "batch_9")
