"""The measurement of a burst counts what there is to count."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tell
from tell import INTERVAL, Burst, Lateness, Receiver, Seen, figures_of, pictures, receiving

from tests.builders import ended, event
from tests.test_notify import notifier
from watcher.message import render
from watcher.model import Event, TryOutcome
from watcher.notify import load
from watcher.simulator import KEY, Fate, Wire


@pytest.fixture(scope="module", autouse=True)
def apprise_loaded() -> None:
    """Loading it reads files, which an event loop must not wait for."""
    load()


def events(*numbers: int) -> list[Event]:
    return [event(about=ended(id=f"batch_{number}", revision=2)) for number in numbers]


async def test_a_receiver_counts_every_event_it_is_really_sent_and_those_it_has_had() -> None:
    with receiving() as receiver:
        channel = notifier(f"json://127.0.0.1:{receiver.port}")
        outcomes = []
        for some in (events(*range(40)), events(3, 4, 50)):
            each = render(some, channel.style, instance="b", zone=None, waiting=len(some))
            outcomes.append((await channel.send(each.message)).outcome)
        channel.close()

    assert outcomes == [TryOutcome.DELIVERED] * 2
    assert (receiver.messages, len(receiver.named), receiver.named.total()) == (2, 41, 43)
    assert receiver.unnamed == 0
    assert [count for _, count in receiver.course] == [40, 41]


def test_a_receiver_counts_what_is_told_without_an_id() -> None:
    receiver = Receiver()
    receiver.take({"title": "1,201 batches: 1,201 ok", "message": "watcher events --since x"})

    assert (receiver.unnamed, len(receiver.named)) == (1_201, 0)


@pytest.mark.parametrize("listed", [False, True])
def test_a_look_is_late_by_what_it_comes_after_the_interval(
    monkeypatch: pytest.MonkeyPatch, *, listed: bool
) -> None:
    simulation = Seen()
    id = simulation.cerebras.add(Fate.stuck())
    path = simulation.base_url(Wire.CEREBRAS, "") + ("/batches" if listed else f"/batches/{id}")
    for at in (100.0, 100.0 + INTERVAL, 100.5 + 2 * INTERVAL, 101.0 + 2 * INTERVAL):
        monkeypatch.setattr(
            tell, "time", SimpleNamespace(monotonic=lambda at=at: at, time_ns=lambda: 1)
        )
        simulation.respond("GET", path, {"authorization": f"Bearer {KEY}"})
    late = Lateness.of(simulation, 105.0, 200.0)

    assert [late for _, late in simulation.looks] == [0.0, 0.5, 0.0]
    assert (late.looks, late.median, late.p99) == (3, 0.0, 500.0)
    assert Lateness.of(simulation, 111.0, 200.0).looks == 1


def test_what_is_found_is_noted_once_and_is_no_look_at_the_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulation = Seen()
    id = simulation.openai.add(Fate.completed(9, after=1.0), created_at=1)
    path = simulation.base_url(Wire.OPENAI, "") + f"/batches/{id}"
    for at in (100.0, 200.0):
        monkeypatch.setattr(time, "monotonic", lambda at=at: at)
        simulation.respond("GET", path, {"authorization": f"Bearer {KEY}"})

    assert (simulation.found, simulation.looks) == ({id: 100.0}, [])


def measured(*, told: bool) -> Burst:
    def each(value: Any) -> dict[str, Any]:
        return {"fast": value, "slow": value} if told else {}

    return Burst(
        found=3.0,
        told=each(9.5),
        messages=each(4),
        named=each(99),
        twice=each(1),
        unnamed=each(0),
        memory_before=70.0,
        memory=80.0,
        processor=2.5,
        before=Lateness(40, 1.0, 10.0),
        during=Lateness(40, 2.0, 30.0 if told else 20.0),
        after=Lateness(40, 1.0, 12.0) if told else None,
        course=each([(8.0, 40), (9.5, 99)]),
    )


def test_the_table_shows_each_target_beside_what_was_reached_and_the_picture_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds: list[bool] = []

    def burst(folder: Path, *sizes: float, told: bool) -> Burst:
        rounds.append(told)
        return measured(told=told)

    monkeypatch.setattr(tell, "burst", burst)
    monkeypatch.setattr(sys, "argv", ["tell.py", "--events", "100", "--out", str(tmp_path)])
    tell.main()
    table = capsys.readouterr().out
    found = {
        one.what.strip(): (one.value, one.unit)
        for one in figures_of(100, measured(told=False), measured(told=True))
    }
    document = json.loads((tmp_path / "tell.json").read_text())

    assert rounds == [False, True]
    assert found["all told: fast channel"] == (9.5, "s (target 60)")
    assert found["events named by id"] == (99, "(target 100)")
    assert found["by telling: times"] == (1.5, "(target 2)")
    assert found["by the burst: times"] == (3.0, "(target 2)")
    assert "(target 100)" in table
    assert document["told"]["named"] == {"fast": 99, "slow": 99}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "tell-lateness.svg",
        "tell.json",
        "tell.svg",
    ]
    assert list(pictures(100, measured(told=True), measured(told=False))) == [
        "tell",
        "tell-lateness",
    ]
