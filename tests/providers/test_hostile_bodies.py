"""What a hostile provider answers costs little, and never holds up the event loop."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time

import pytest

from tests.providers.asking import SECRET, asking, outcome
from tests.providers.loopback import Seen, reply
from watcher.errors import Garbled, ProviderError
from watcher.model import Observation, Request
from watcher.providers import ProviderOptions, build
from watcher.providers import answer as answers
from watcher.providers import wire as wires
from watcher.providers.answer import most_values, parsed
from watcher.providers.openai import OpenAIShaped
from watcher.providers.pages import FEW, read_page

PAGE = Request("GET", "/batches", most_bytes=16 * 1024 * 1024)
# An escape makes every text be searched for secrets.
MANY = b'["\\\\",' + b'"a",' * 780_000 + b'"a"]'


def unstruck(text: str) -> str:
    return text


@pytest.mark.parametrize(
    ("body", "most"),
    [
        (b"[1,2,3]", 4),
        (b'{"a": 1, "b": {"c": []}}', 5),
        (b'["a,b,[c],{d}", "\\",,,\\\\"]', 3),
        (json.dumps([{"id": "x" * 9, "texts": ["a, b", "[["]}] * 30).encode(), 151),
    ],
)
def test_the_bound_is_on_values_and_not_on_signs_in_texts(body: bytes, most: int) -> None:
    with pytest.raises(Garbled, match="more than"):
        parsed(body, unstruck, most - 1)

    assert parsed(body, unstruck, most) == json.loads(body)


async def test_a_body_of_too_many_values_is_garbled() -> None:
    page = await outcome(reply(MANY), PAGE)
    batch = await outcome(reply(b"[" + b"1," * 50_000 + b"1]"))

    assert str(page) == "the answer holds more than 300,000 values"
    assert str(batch) == "the answer holds more than 50,000 values"


async def test_a_page_of_ten_thousand_batches_is_read() -> None:
    batch = {f"key_{number}": number for number in range(28)}
    body = json.dumps({"data": [batch] * 10_000, "has_more": False}).encode()

    assert await outcome(reply(body), PAGE) == {"data": [batch] * 10_000, "has_more": False}


@pytest.mark.parametrize("mark", [b'"', b'\\"', b'"\\', b'"",', b"[", b"{", b","])
def test_counting_takes_one_pass_whatever_the_body(mark: bytes) -> None:
    body = b'"' + mark * (4_000_000 // len(mark))
    began = time.perf_counter()
    with pytest.raises(Garbled):
        parsed(body, unstruck, 50_000)
    took = time.perf_counter() - began

    assert took < 2


@pytest.mark.parametrize(
    ("size", "encoding", "apart"),
    [(1_000, "", False), (300_000, "", True), (1_000, "gzip", False), (300_000, "gzip", True)],
)
async def test_a_large_body_is_read_in_a_thread_and_a_small_one_is_not(
    size: int, encoding: str, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_by: list[threading.Thread] = []

    def watched(*given: object) -> object:
        read_by.append(threading.current_thread())
        return parsed(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(wires, "parsed", watched)
    body = json.dumps({"text": "x" * size, "key": SECRET, "escape": "\\"}).encode()
    packed = gzip.compress(body) if encoding else body
    request = Request("GET", "/", {"Authorization": f"Bearer {SECRET}"})
    headers = {"content-encoding": encoding} if encoding else {}
    read = await outcome(reply(packed, headers=headers), request)

    assert isinstance(read, dict)
    assert read["key"] == "[secret]"
    assert [thread is not threading.main_thread() for thread in read_by] == [apart]


async def test_a_bomb_is_unpacked_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    read_by: list[threading.Thread] = []

    def watched(*given: object) -> bytes:
        read_by.append(threading.current_thread())
        return answers.inflated(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(wires, "inflated", watched)
    bomb = gzip.compress(b" " * 32 * 1024 * 1024)
    async with asking(reply(bomb, headers={"content-encoding": "gzip"})) as (line, server):
        with pytest.raises(Garbled, match="larger than"):
            await line.send(Request("GET", server.url, most_bytes=PAGE.most_bytes))

    assert [thread is not threading.main_thread() for thread in read_by] == [True]


def test_a_page_may_hold_more_values_than_a_batch() -> None:
    assert (most_values(4 * 1024 * 1024), most_values(PAGE.most_bytes)) == (50_000, 300_000)


MEGABYTE = 1024 * 1024
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
# What goes before, and what is then repeated until nobody takes any more.
FLOODS: dict[str, tuple[bytes, bytes]] = {
    "a body": (b"HTTP/1.1 200 OK\r\ncontent-length: 52428800\r\n\r\n", b" " * MEGABYTE),
    "an error": (b"HTTP/1.1 500 No\r\ncontent-length: 52428800\r\n\r\n", b" " * MEGABYTE),
    "a redirect": (b"HTTP/1.1 302 No\r\ncontent-length: 52428800\r\n\r\n", b" " * MEGABYTE),
    "headers": (b"HTTP/1.1 200 OK\r\n", (b"x: " + b"y" * 8_000 + b"\r\n") * 100),
    "small headers": (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 20_000),
    "a name": (b"HTTP/1.1 200 OK\r\n", b"x" * MEGABYTE),
    "a status": (b"HTTP/1.1 200 ", b"x" * MEGABYTE),
    "trailers": (CHUNKED + b"2\r\n{}\r\n0\r\n", (b"a: " + b"b" * 8_000 + b"\r\n") * 100),
    "what follows": (b"", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}" * 10_000),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_is_not_read_to_its_end(flood: str) -> None:
    head, drop = FLOODS[flood]
    sent = 0

    async def pour(_: Seen, writer: asyncio.StreamWriter) -> bool:
        nonlocal sent
        writer.write(head)
        while sent < 50 * MEGABYTE:
            writer.write(drop)
            await writer.drain()
            sent += len(drop)
        return False

    read = await outcome(pour)

    assert isinstance(read, ProviderError) or read == {}
    # What the sockets between hold, and the 4 MiB that a batch may have.
    assert sent < 24 * MEGABYTE


def test_of_a_key_that_stands_twice_the_last_one_counts() -> None:
    body = b'{"id": "batch_1", "status": "failed", "id": "batch_2", "status": "completed"}'
    read = build("openai", ProviderOptions()).read(parsed(body, unstruck))

    assert (read.id, read.status) == ("batch_2", "completed")


def test_a_number_beyond_all_bounds_is_no_number() -> None:
    body = b'{"id": "b", "status": "completed", "created_at": 1e999, "metadata": {"x": -1e999}}'
    read = build("openai", ProviderOptions()).read(parsed(body, unstruck))

    assert (read.created_at, read.metadata) == (None, {"x": None})


@pytest.mark.parametrize("token", ["\ud800", "a\x00b", "a\nb", "\u202e", "x" * 5_000])
def test_a_token_that_fits_no_address_ends_the_list(token: str) -> None:
    body = {"batches": [], "next_page_token": token}
    _, cursor = build("cohere", ProviderOptions()).read_page(body)

    assert cursor is None


@pytest.mark.parametrize(("count", "apart"), [(FEW, False), (FEW + 1, True)])
async def test_a_long_page_is_read_in_a_thread(count: int, *, apart: bool) -> None:
    read_by: list[threading.Thread] = []

    class Watched(OpenAIShaped):
        def read_page(
            self, body: object, cursor: str | None = None
        ) -> tuple[list[Observation], str | None]:
            read_by.append(threading.current_thread())
            return super().read_page(body, cursor)

    batches = [{"id": f"batch_{number}", "status": "completed"} for number in range(count)]
    page, cursor = await read_page(Watched("openai", "https://api.example.com"), {"data": batches})

    assert (len(page), cursor) == (count, None)
    assert [thread is not threading.main_thread() for thread in read_by] == [apart]
