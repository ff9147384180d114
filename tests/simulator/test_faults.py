"""The schedule of faults: which calls are spoiled, how often, and the same ones each time."""

from __future__ import annotations

import json

import pytest

from tests.fakes import START, FakeClock
from tests.simulator.builders import AUTHORIZED, batch, listed, simulated, simulation
from watcher.simulator import Fate, Kind, SimulatedProvider, Wire, faults, garbage


def looks(provider: SimulatedProvider, id: str, count: int) -> list[int]:
    return [
        provider.respond("GET", f"/batches/{id}", headers=AUTHORIZED).status for _ in range(count)
    ]


def test_a_fault_befalls_as_often_as_it_was_told_to() -> None:
    provider = simulated("openai", FakeClock())
    id = provider.add(Fate.stuck())
    rule = provider.faults.add(faults.status(500), times=2)

    assert looks(provider, id, 4) == [500, 500, 200, 200]
    assert rule.hits == 2


def test_a_fault_befalls_only_what_it_was_meant_for() -> None:
    clock = FakeClock()
    whole = simulation(clock)
    ids = [whole.openai.add(Fate.stuck()) for _ in range(2)]
    other = whole.cerebras.add(Fate.stuck())
    whole.faults.add(faults.status(503), wire="openai", kind="retrieve", id=ids[0])

    assert looks(whole.openai, ids[0], 1) == [503]
    assert looks(whole.openai, ids[1], 1) == [200]
    assert looks(whole.cerebras, other, 1) == [200]
    assert len(listed(whole.openai)["data"]) == 2


def test_a_fault_may_be_matched_by_anything_in_the_call() -> None:
    provider = simulated("openai", FakeClock())
    provider.faults.add(faults.status(500), match=lambda call: call.query.get("limit") == "1")
    answers = [
        provider.respond("GET", "/batches", {"limit": limit}, AUTHORIZED).status
        for limit in ("1", "2")
    ]

    assert answers == [500, 200]


def test_a_fault_lasts_from_one_moment_to_another() -> None:
    clock = FakeClock()
    provider = simulated("openai", clock)
    id = provider.add(Fate.stuck())
    provider.faults.add(faults.not_found(), during=(START + 1_000, START + 3_000))
    seen = []
    for _ in range(5):
        seen += looks(provider, id, 1)
        clock.advance(1_000)

    assert seen == [200, 404, 404, 200, 200]


def test_a_share_of_calls_is_the_same_share_each_time_whatever_the_order() -> None:
    def run(order: int) -> dict[str, list[int]]:
        provider = simulated("openai", FakeClock(), seed=5)
        ids = [provider.add(Fate.stuck()) for _ in range(20)]
        provider.faults.add(faults.status(500), share=0.3)
        seen: dict[str, list[int]] = {id: [] for id in ids}
        for _ in range(25):
            for id in ids[::order]:
                seen[id] += looks(provider, id, 1)
        return seen

    forwards, backwards = run(1), run(-1)
    hits = sum(status == 500 for statuses in forwards.values() for status in statuses)

    assert forwards == backwards
    assert 110 <= hits <= 190


def test_the_first_rule_that_befalls_a_call_wins_and_trouble_can_end() -> None:
    provider = simulated("openai", FakeClock())
    id = provider.add(Fate.stuck())
    first = provider.faults.add(faults.status(500))
    provider.faults.add(faults.status(503))
    seen = looks(provider, id, 1)
    provider.faults.remove(first)
    seen += looks(provider, id, 1)
    provider.faults.clear()

    assert seen + looks(provider, id, 1) == [500, 503, 200]


def test_a_refused_creation_creates_nothing_and_a_lost_answer_does() -> None:
    provider = simulated("openai", FakeClock())
    provider.faults.add(faults.rate_limited(), times=1)
    provider.faults.add(faults.reset(), times=1)
    created = []
    for _ in range(2):
        provider.respond("POST", "/batches", {}, AUTHORIZED, b"{}")
        created.append(len(provider.ids))

    assert created == [0, 1]


def test_spoiled_calls_are_counted_by_the_name_of_what_spoiled_them() -> None:
    provider = simulated("openai", FakeClock())
    id = provider.add(Fate.stuck())
    provider.faults.add(faults.rate_limited(), times=2)
    looks(provider, id, 3)

    assert provider.requests.by_fault == {"429 seconds": 2}
    assert provider.requests.by_kind == {Kind.RETRIEVE: 3}


@pytest.mark.parametrize("wire", Wire)
def test_a_fault_speaks_the_words_of_its_wire(wire: Wire) -> None:
    provider = simulated(wire, FakeClock())
    provider.faults.add(faults.status(500))
    body = json.loads(provider.respond("GET", "/batches", {}, AUTHORIZED).body)
    shapes = {
        Wire.OPENAI: {"error"},
        Wire.CEREBRAS: {"message", "type", "param", "code"},
        Wire.COHERE: {"message"},
    }

    assert body.keys() == shapes[wire]


def test_a_date_to_come_back_follows_the_simulations_clock() -> None:
    provider = simulated("openai", FakeClock())
    provider.faults.add(faults.rate_limited(90, form="date"))
    headers = dict(provider.respond("GET", "/batches", {}, AUTHORIZED).headers)

    assert headers["retry-after"] == "Sat, 21 Nov 2026 12:01:30 GMT"


@pytest.mark.parametrize("wire", Wire)
def test_every_field_of_a_wire_can_come_in_every_wrong_type(wire: Wire) -> None:
    provider = simulated(wire, FakeClock())
    id = provider.add(Fate.stuck())
    shown = []
    for fault in garbage.wrong_types(wire):
        provider.faults.add(fault, times=1)
        shown.append(json.dumps(batch(provider, id)))

    assert len(set(shown)) > len(shown) * 0.9
    assert batch(provider, id).keys() <= set(garbage.FIELDS[wire])


def test_garbage_befalls_every_batch_of_a_page() -> None:
    provider = simulated("cohere", FakeClock())
    for _ in range(3):
        provider.add(Fate.stuck())
    provider.faults.add(garbage.with_field("status", 7))

    assert [shown["status"] for shown in listed(provider)["batches"]] == [7, 7, 7]


def test_garbage_leaves_an_error_alone() -> None:
    provider = simulated("openai", FakeClock())
    provider.faults.add(garbage.not_a_number())

    assert looks(provider, "batch_nobody", 1) == [404]


def test_a_key_can_be_left_out() -> None:
    provider = simulated("openai", FakeClock())
    id = provider.add(Fate.stuck())
    provider.faults.add(garbage.without_field("request_counts"))

    assert "request_counts" not in batch(provider, id)
