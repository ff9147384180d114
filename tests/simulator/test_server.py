"""The loopback server: HTTP as clients speak it, every fault on a real socket, a bounded end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime

import httpx
import pytest
from httpx_aiohttp import AiohttpTransport

from tests.simulator.builders import AUTHORIZED, simulation
from watcher.simulator import KEY, Call, Fate, Simulation, Wire, faults, garbage, serve

RAISES = {
    "silent": httpx.ReadTimeout,
    "drip": httpx.ReadTimeout,
    "reset": httpx.ReadError,
    "truncated": httpx.RemoteProtocolError,
    "large-header": httpx.RemoteProtocolError,
}
STATUSES = {"429": 429, "500": 500, "503": 503, "401": 401, "403": 403, "404": 404}
GET = f"GET /openai/v1/batches HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"


@asynccontextmanager
async def client(
    whole: Simulation, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serve(whole) as address,
        httpx.AsyncClient(
            base_url=address, headers=AUTHORIZED, timeout=0.2, transport=transport
        ) as visitor,
    ):
        yield visitor


async def raw(address: str, text: str | bytes, *, until: bytes | None = None) -> bytes:
    """Everything the server says to these bytes, until it closes or has said `until`."""
    host, port = address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(text.encode() if isinstance(text, str) else text)
    said = await (reader.read() if until is None else reader.readuntil(until))
    writer.close()
    await writer.wait_closed()
    return said


@pytest.mark.parametrize("wire", Wire)
async def test_each_wire_answers_below_its_base_url(wire: Wire) -> None:
    whole = simulation()
    id = whole.providers[wire].add(Fate.stuck())
    path = "/v2/batches" if wire is Wire.COHERE else "/batches"
    async with serve(whole) as address, httpx.AsyncClient(headers=AUTHORIZED) as visitor:
        answer = await visitor.get(f"{whole.base_url(wire, address)}{path}/{id}")

    assert answer.json().get("batch", answer.json())["id"] == id
    assert whole.requests.by_id == {id: 1}
    assert whole.providers[wire].requests.total == 1


async def test_the_clients_that_watcher_uses_is_served_too() -> None:
    whole = simulation()
    id = whole.openai.add(Fate.stuck())
    async with client(whole, AiohttpTransport()) as visitor:
        answers = [await visitor.get(f"/openai/v1/batches/{id}") for _ in range(3)]

    assert [answer.json()["id"] for answer in answers] == [id] * 3


async def test_a_batch_is_created_over_http() -> None:
    whole = simulation()
    async with client(whole) as visitor:
        answer = await visitor.post("/openai/v1/batches", json={"metadata": {"fate": "empty"}})

    assert whole.openai.ids == [answer.json()["id"]]


async def test_many_requests_share_one_connection() -> None:
    async with serve(simulation()) as address:
        said = await raw(address, (GET + "\r\n") * 3 + GET + "Connection: close\r\n\r\n")

    assert said.count(b"HTTP/1.1 200 OK") == 4
    assert said.count(b"connection: close") == 1


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("GET /openai/v1/batches HTTP/1.0\r\n\r\n", 401),
        ("nonsense\r\n\r\n", 400),
        ("GET / SPDY/3\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        ("GET / HTTP/1.1\r\nX: " + "x" * 100_000 + "\r\n\r\n", 431),
    ],
)
async def test_what_ends_a_connection_is_answered_first(text: str, status: int) -> None:
    async with serve(simulation()) as address:
        said = await raw(address, text)

    assert said.startswith(f"HTTP/1.1 {status} ".encode())


async def test_a_client_that_asks_before_sending_its_body_is_told_to_go_on() -> None:
    head = "POST /openai/v1/batches HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    async with serve(simulation()) as address:
        said = await raw(address, head, until=b"\r\n\r\n")

    assert said == b"HTTP/1.1 100 Continue\r\n\r\n"


async def test_many_clients_are_served_at_once() -> None:
    whole = simulation()
    ids = [whole.openai.add(Fate.stuck()) for _ in range(60)]
    async with serve(whole) as address:
        said = await asyncio.gather(
            *(
                raw(address, GET.replace("batches", f"batches/{id}") + "Connection: close\r\n\r\n")
                for id in ids
            )
        )

    assert all(id.encode() in text for id, text in zip(ids, said, strict=True))


# Faults.


def test_every_fault_is_tried_here() -> None:
    tried = {
        *RAISES,
        *STATUSES,
        *{"429-date", "429-milliseconds", "429-silent", "late", "large", "gzip-bomb", "redirect"},
        *{"empty", "html", "html-502", "wrong-content-type"},
        *{"another-batch", "not-a-number", "huge-integers", "endless-integers", "nested"},
        *{"invalid-utf8", "lone-surrogates", "duplicate-keys", "wrong-root", "wrong-type"},
    }

    assert tried == garbage.CATALOGUE.keys()


@pytest.mark.parametrize("name", RAISES)
async def test_a_fault_of_the_connection_is_felt_and_the_next_answer_is_well(name: str) -> None:
    whole = simulation()
    whole.faults.add(garbage.CATALOGUE[name](), times=1)
    async with client(whole) as visitor:
        with pytest.raises(RAISES[name]):
            await visitor.get("/openai/v1/batches")
        answer = await visitor.get("/openai/v1/batches")

    assert answer.status_code == 200


@pytest.mark.parametrize("name", STATUSES)
async def test_a_refusal_comes_with_its_status_and_a_body(name: str) -> None:
    whole = simulation()
    whole.faults.add(garbage.CATALOGUE[name]())
    async with client(whole) as visitor:
        answer = await visitor.get("/openai/v1/batches")

    assert answer.status_code == STATUSES[name]
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("name", "header", "value"),
    [
        ("429", "retry-after", "30"),
        ("429-milliseconds", "retry-after-ms", "30000"),
        ("429-silent", "retry-after", None),
        ("redirect", "location", "http://elsewhere.invalid/batches"),
        ("wrong-content-type", "content-type", "text/html; charset=utf-16"),
        ("html", "content-type", "text/html"),
        ("html-502", "content-length", "86"),
        ("empty", "content-length", "0"),
        ("wrong-root", "content-length", "4"),
    ],
)
async def test_a_fault_of_the_answer_shows_in_its_head(
    name: str, header: str, value: str | None
) -> None:
    whole = simulation()
    whole.faults.add(garbage.CATALOGUE[name]())
    async with client(whole) as visitor:
        answer = await visitor.get("/openai/v1/batches")

    assert answer.headers.get(header) == value
    assert len(answer.content) == int(answer.headers["content-length"])


async def test_a_date_to_come_back_is_a_date() -> None:
    whole = simulation()
    whole.faults.add(faults.rate_limited(form="date"))
    async with client(whole) as visitor:
        answer = await visitor.get("/openai/v1/batches")

    assert parsedate_to_datetime(answer.headers["retry-after"]).year == 2026


@pytest.mark.parametrize(
    "name",
    [
        *("another-batch", "not-a-number", "huge-integers", "endless-integers", "nested"),
        *("invalid-utf8", "lone-surrogates", "duplicate-keys", "wrong-type"),
    ],
)
async def test_garbled_json_travels_whole(name: str) -> None:
    whole = simulation()
    id = whole.openai.add(Fate.stuck())
    async with client(whole) as visitor:
        honest = await visitor.get(f"/openai/v1/batches/{id}")
        whole.faults.add(garbage.CATALOGUE[name]())
        answer = await visitor.get(f"/openai/v1/batches/{id}")

    assert answer.status_code == 200
    assert len(answer.content) == int(answer.headers["content-length"])
    assert answer.content != honest.content


async def test_a_late_answer_comes_late_and_whole() -> None:
    whole = simulation()
    whole.faults.add(faults.late(0.05))
    async with client(whole) as visitor:
        began = time.monotonic()
        answer = await visitor.get("/openai/v1/batches")
        took = time.monotonic() - began

    assert answer.status_code == 200
    assert took >= 0.05


async def test_dripping_defeats_the_time_out_of_a_read() -> None:
    whole = simulation()
    whole.faults.add(faults.drip(0.01))
    received: list[bytes] = []

    async def drink(visitor: httpx.AsyncClient) -> None:
        async with visitor.stream("GET", "/openai/v1/batches") as answer:
            async for chunk in answer.aiter_raw():
                received.append(chunk)

    async with client(whole) as visitor:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(drink(visitor), 0.4)

    assert 5 <= len(b"".join(received)) < 60


async def test_fifty_megabytes_come_if_one_takes_them() -> None:
    whole = simulation()
    whole.openai.add(Fate.stuck())
    whole.faults.add(garbage.CATALOGUE["large"]())
    async with serve(whole) as address:
        said = await raw(address, GET + "Connection: close\r\n\r\n")

    assert len(said) > 50 * 1024 * 1024
    assert json.loads(said[-2_000:].strip())["object"] == "list"


async def test_a_bomb_is_small_on_the_wire() -> None:
    whole = simulation()
    whole.faults.add(garbage.CATALOGUE["gzip-bomb"]())
    async with client(whole) as visitor, visitor.stream("GET", "/openai/v1/batches") as answer:
        packed = sum([len(chunk) async for chunk in answer.aiter_raw()])

    assert answer.headers["content-encoding"] == "gzip"
    assert packed < 1_000_000


# The end.


@pytest.mark.parametrize("name", ["silent", "drip", "large", "late"])
async def test_the_server_closes_at_once_however_its_connections_hang(name: str) -> None:
    whole = simulation()
    arrived = asyncio.Semaphore(0)

    def arrives(_call: Call) -> bool:
        arrived.release()
        return True

    hanging = faults.late(60) if name == "late" else garbage.CATALOGUE[name]()
    whole.faults.add(hanging, match=arrives)
    async with serve(whole) as address:
        host, port = address.removeprefix("http://").split(":")
        hung = [await asyncio.open_connection(host, int(port)) for _ in range(5)]
        for _, writer in hung:
            writer.write((GET + "\r\n").encode())
        for _ in hung:
            await arrived.acquire()
        began = time.monotonic()
    took = time.monotonic() - began
    for _, writer in hung:
        writer.close()

    assert took < 1.0


async def test_an_idle_connection_ends_with_the_server() -> None:
    async with serve(simulation()) as address:
        host, port = address.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write((GET + "\r\n").encode())
        await reader.readuntil(b"}")
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await reader.readuntil(b"never")
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, int(port))


async def test_a_client_that_leaves_a_silent_answer_is_let_go() -> None:
    whole = simulation()
    whole.faults.add(faults.silent(), times=1)
    async with client(whole) as visitor:
        with pytest.raises(httpx.ReadTimeout):
            await visitor.get("/openai/v1/batches")
        answers = [(await visitor.get("/openai/v1/batches")).status_code for _ in range(2)]

    assert answers == [200, 200]
