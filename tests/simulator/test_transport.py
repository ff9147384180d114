"""Every fault through the httpx transport, at once and under a fake clock."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.fakes import FakeClock
from tests.simulator.builders import AUTHORIZED, simulation
from watcher.simulator import Fate, Simulation, faults, garbage
from watcher.simulator.transport import SimulatedTransport

BASE = "http://simulated.invalid"
RAISES = {
    "silent": httpx.ReadTimeout,
    "drip": httpx.ReadTimeout,
    "reset": httpx.ReadError,
    "truncated": httpx.RemoteProtocolError,
    "large-header": httpx.RemoteProtocolError,
}
STATUSES = {
    "429": 429,
    "429-date": 429,
    "429-milliseconds": 429,
    "429-silent": 429,
    "500": 500,
    "503": 503,
    "401": 401,
    "403": 403,
    "404": 404,
    "redirect": 302,
    "html-502": 502,
}


async def get(whole: Simulation, path: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=SimulatedTransport(whole), base_url=BASE) as client:
        return await client.get(path, headers=AUTHORIZED)


async def test_a_day_passes_in_a_moment() -> None:
    clock = FakeClock()
    whole = simulation(clock)
    id = whole.openai.add(Fate.expired_with_results())
    seen = []
    for _ in range(30):
        clock.advance(3_600_000)
        seen.append((await get(whole, f"/openai/v1/batches/{id}")).json()["status"])

    assert seen == ["in_progress"] * 24 + ["expired"] * 6


async def test_a_creation_travels_with_its_body() -> None:
    whole = simulation()
    async with httpx.AsyncClient(transport=SimulatedTransport(whole), base_url=BASE) as client:
        answer = await client.post(
            "/cohere/v2/batches", json={"name": "fate:stuck"}, headers=AUTHORIZED
        )

    assert answer.json()["batch"]["name"] == "fate:stuck"


async def test_a_page_travels_with_its_query() -> None:
    whole = simulation()
    for _ in range(3):
        whole.openai.add(Fate.stuck())
    page = (await get(whole, "/openai/v1/batches?limit=2")).json()

    assert (len(page["data"]), page["has_more"]) == (2, True)


async def test_a_url_below_no_provider_is_answered_404() -> None:
    assert (await get(simulation(), "/mistral/v1/batches")).status_code == 404


@pytest.mark.parametrize("name", RAISES)
async def test_a_fault_of_the_connection_raises_what_httpx_would(name: str) -> None:
    whole = simulation()
    id = whole.openai.add(Fate.stuck())
    whole.faults.add(garbage.CATALOGUE[name]())

    with pytest.raises(RAISES[name]):
        await get(whole, f"/openai/v1/batches/{id}")


@pytest.mark.parametrize("name", STATUSES)
async def test_a_refusal_comes_with_its_status(name: str) -> None:
    whole = simulation()
    whole.faults.add(garbage.CATALOGUE[name]())
    answer = await get(whole, "/openai/v1/batches")

    assert answer.status_code == STATUSES[name]


async def test_a_bomb_unfolds_to_the_true_answer() -> None:
    whole = simulation()
    id = whole.openai.add(Fate.stuck())
    whole.faults.add(faults.gzip_bomb(3 * 1024 * 1024))
    answer = await get(whole, f"/openai/v1/batches/{id}")

    assert len(answer.content) > 3 * 1024 * 1024
    assert int(answer.headers["content-length"]) < 100_000
    assert json.loads(answer.content)["id"] == id


async def test_large_bodies_are_streamed_and_may_be_left_unread() -> None:
    whole = simulation()
    whole.faults.add(faults.large())
    read = 0
    async with (
        httpx.AsyncClient(transport=SimulatedTransport(whole), base_url=BASE) as client,
        client.stream("GET", "/openai/v1/batches", headers=AUTHORIZED) as answer,
    ):
        async for chunk in answer.aiter_raw():
            read += len(chunk)
            if read > 1_000_000:
                break

    assert read < 2_000_000
    assert int(answer.headers["content-length"]) > 50_000_000


async def test_a_late_answer_comes_after_a_while() -> None:
    whole = simulation()
    whole.faults.add(faults.late(0.01))

    assert (await get(whole, "/openai/v1/batches")).status_code == 200
