"""What the simulator's tests start from: a simulation under a fake clock, and a key to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.fakes import FakeClock
from watcher.simulator import KEY, Answer, SimulatedProvider, Simulation, Wire

SHAPES = Path(__file__).parent.parent / "shapes"
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
ROOTS = {Wire.OPENAI: "/batches", Wire.CEREBRAS: "/batches", Wire.COHERE: "/v2/batches"}


def simulated(wire: str, clock: FakeClock, seed: int = 0) -> SimulatedProvider:
    return SimulatedProvider(wire, clock.now, seed=seed)


def simulation(clock: FakeClock | None = None, seed: int = 0) -> Simulation:
    return Simulation((clock or FakeClock()).now, seed=seed)


def retrieve(provider: SimulatedProvider, id: str) -> dict[str, Any]:
    answer = provider.respond("GET", f"{ROOTS[provider.wire]}/{id}", headers=AUTHORIZED)
    if answer.status != 200:
        raise LookupError(answer.status)
    body: dict[str, Any] = json.loads(answer.body)
    return body


def batch(provider: SimulatedProvider, id: str) -> dict[str, Any]:
    """The batch itself, out of Cohere's wrapping."""
    body = retrieve(provider, id)
    inner: dict[str, Any] = body.get("batch", body)
    return inner


def listed(provider: SimulatedProvider, **query: str) -> dict[str, Any]:
    answer = provider.respond("GET", ROOTS[provider.wire], query, AUTHORIZED)
    body: dict[str, Any] = json.loads(answer.body)
    return body


def recorded(name: str) -> dict[str, Any]:
    shape: dict[str, Any] = json.loads((SHAPES / f"{name}.json").read_text("utf-8"))
    return shape


def entries(answer: Answer) -> list[dict[str, Any]]:
    """The batches on a page, whatever stands around them."""
    page = json.loads(answer.body)
    found: list[dict[str, Any]] = page if isinstance(page, list) else page["data"]
    return found
