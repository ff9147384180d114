"""A fleet of open batches: how old they are, which of them end when, and what is told of it."""

from __future__ import annotations

import json
import statistics
from typing import Any

import pytest

from tests.fakes import FakeClock
from tests.simulator.builders import AUTHORIZED, listed, retrieve, simulated, simulation
from watcher.simulator import Fate, SimulatedProvider, Simulation
from watcher.simulator.fleet import launch

HOUR = 3_600.0
DAY = 86_400.0


def launched(count: int, clock: FakeClock, **more: Any) -> SimulatedProvider:
    provider = simulated("openai", clock)
    launch(provider, count, clock.now(), **more)
    return provider


def ages(provider: SimulatedProvider, clock: FakeClock) -> list[float]:
    created = (retrieve(provider, id)["created_at"] for id in provider.ids)
    return [clock.now() / 1_000 - at for at in created]


def ends(provider: SimulatedProvider, clock: FakeClock) -> list[float]:
    """In seconds from now, the newest batch's first."""
    known = (provider.end(id) for id in provider.ids)
    return [(at - clock.now()) / 1_000 for at in known if at is not None]


def test_a_fleet_is_open_and_of_every_age() -> None:
    clock = FakeClock()
    provider = launched(48, clock, ages=DAY, ends_a_minute=1)
    statuses = {retrieve(provider, id)["status"] for id in provider.ids}

    assert ages(provider, clock) == pytest.approx([1_800 * (n + 0.5) for n in range(48)], abs=1)
    assert statuses <= {"in_progress", "finalizing"}


def test_as_many_end_in_each_minute_as_was_asked_for() -> None:
    clock = FakeClock()
    moments = sorted(ends(launched(600, clock, ages=HOUR, ends_a_minute=60), clock))

    assert [sum(60 * n <= at < 60 * (n + 1) for at in moments) for n in range(10)] == [60] * 10


def test_the_younger_a_batch_the_sooner_its_turn_comes() -> None:
    clock = FakeClock()
    moments = ends(launched(2_000, clock, ages=HOUR, ends_a_minute=100), clock)
    young, old = moments[:200], moments[-200:]

    assert statistics.median(young) < 0.4 * statistics.median(old)


def test_what_does_not_end_before_its_window_expires_in_it() -> None:
    clock = FakeClock()
    provider = launched(12, clock, ages=DAY)
    oldest = provider.ids[-1]
    clock.advance(2 * 3_600_000)

    assert retrieve(provider, oldest)["status"] == "expired"
    assert sum(retrieve(provider, id)["status"] == "expired" for id in provider.ids) == 1


def test_a_fleet_in_hastened_time_has_all_its_ages_hastened() -> None:
    clock = FakeClock()
    provider = SimulatedProvider("openai", clock.now, speed=60.0)
    launch(provider, 24, clock.now(), ages=12 * HOUR, ends_a_minute=12)

    assert max(ages(provider, clock)) == pytest.approx(720 * 23.5 / 24, abs=1)
    assert sorted(ends(provider, clock))[11] == pytest.approx(57.5, abs=2.5)


def test_the_same_seed_launches_the_same_fleet() -> None:
    one, other, third = (
        listed(launched(30, FakeClock(), ends_a_minute=10, seed=seed), limit="30")
        for seed in (7, 7, 8)
    )

    assert one == other
    assert one != third


def test_past_its_window_no_batch_is_open() -> None:
    with pytest.raises(ValueError, match="window"):
        launched(1, FakeClock(), ages=DAY + 1)


# What a rehearsal in another process is told.


def told(whole: Simulation, path: str, method: str = "GET") -> Any:
    answer = whole.respond(method, f"/simulator{path}", {})
    if answer.status != 200:
        return answer.status
    return json.loads(answer.body)


def ask(whole: Simulation, agent: str, *paths: str) -> None:
    for path in paths:
        whole.respond("GET", f"/openai/v1{path}", {**AUTHORIZED, "User-Agent": agent})


def test_requests_are_counted_by_who_asked_for_what_in_which_minute() -> None:
    clock = FakeClock()
    whole = simulation(clock)
    id = whole.openai.add(Fate.stuck())
    ask(whole, "batch-watcher/1.0", f"/batches/{id}", f"/batches/{id}", "/batches")
    clock.advance(60_000)
    ask(whole, "AsyncOpenAI/Python 3.54.0", f"/batches/{id}")
    said = told(whole, "/requests")

    first = clock.now() - 60_000
    assert said["first_at"] == {"batch-watcher": first, "AsyncOpenAI": clock.now()}
    assert {(one["agent"], one["kind"], one["at"]): one["requests"] for one in said["minutes"]} == {
        ("batch-watcher", "retrieve", first): 2,
        ("batch-watcher", "list", first): 1,
        ("AsyncOpenAI", "retrieve", clock.now()): 1,
    }


def test_the_count_can_begin_anew_and_reports_are_no_part_of_it() -> None:
    whole = simulation()
    ask(whole, "batch-watcher", "/batches")
    before = len(told(whole, "/requests")["minutes"])

    assert (before, told(whole, "/requests", "DELETE")) == (1, 204)
    assert told(whole, "/requests")["minutes"] == []


def test_every_id_and_its_true_end_are_told() -> None:
    clock = FakeClock()
    whole = simulation(clock)
    lasting, brief = whole.openai.add(Fate.stuck()), whole.openai.add(Fate.completed(after=90.0))

    assert told(whole, "/ends") == {brief: clock.now() + 90_000, lasting: None}
    assert whole.respond("GET", "/simulator/ids", {}).body.decode() == f"{brief}\n{lasting}\n"


@pytest.mark.parametrize(("method", "path"), [("GET", "/secrets"), ("POST", "/ends")])
def test_there_are_no_other_reports(method: str, path: str) -> None:
    assert told(simulation(), path, method) == 404
