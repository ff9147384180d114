"""Those whose processor time is compared: our whole look, what a user would write, and the least.

Each has `run(count)`, which does so many and returns how many it were, and `close()`.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import anyio
import httpx
from answering import identity

from tests.builders import create_tables, registering
from tests.store.databases import empty_file
from watcher import cadence, log, routing
from watcher.clock import SystemClock
from watcher.meter import Meter
from watcher.poller import AccountPoller, Looking
from watcher.providers import PROVIDERS, ProviderOptions
from watcher.providers.wire import Wire
from watcher.redaction import Redactor
from watcher.store.database import Transaction
from watcher.store.ledger import Ledger
from watcher.store.sqlite import SqliteDatabase

httptools: Any = None
# Not among what the project needs: without it the head is split by hand, which is no dearer.
with suppress(ImportError):
    httptools = importlib.import_module("httptools")

Result = TypeVar("Result")
KEY = "sk-proj-made-up-0123456789abcdefghijklmnopqrstuvwxyz"
# Of many addresses each is asked for in turn.
ADDRESSES = 1_000
STEP = 1_000
FAR = 2**62
PARSER = "split by hand (httptools is not installed)" if httptools is None else "httptools"


class Contender(Protocol):
    """What can be measured."""

    async def run(self, count: int) -> int: ...

    async def close(self) -> None: ...


class SteppedClock(SystemClock):
    """The machine's clock, that also steps ahead when nothing is due."""

    def __init__(self) -> None:
        self._ahead = 0

    def now(self) -> int:
        return super().now() + self._ahead

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead / 1_000

    def step(self, milliseconds: int) -> None:
        """All that waits for a time waits so much less."""
        self._ahead += milliseconds


@dataclass
class Timed:
    """A database that knows what the functions it ran took of its thread, by kind."""

    database: SqliteDatabase
    spent: dict[str, int] = field(default_factory=lambda: {"read": 0, "write": 0})

    def _timed(
        self, kind: str, work: Callable[[Transaction], Result]
    ) -> Callable[[Transaction], Result]:
        def run(transaction: Transaction) -> Result:
            begun = time.thread_time_ns()
            try:
                return work(transaction)
            finally:
                self.spent[kind] += time.thread_time_ns() - begun

        return run

    async def transaction(self, work: Callable[[Transaction], Result]) -> Result:
        return await self.database.transaction(self._timed("write", work))

    async def query(self, work: Callable[[Transaction], Result]) -> Result:
        return await self.database.query(self._timed("read", work))

    def forget(self) -> None:
        """Begin to count anew."""
        self.spent.update(read=0, write=0)

    def seconds(self) -> float:
        """Processor time of the thread that alone touches the database."""
        return self.database.transact(lambda _: time.thread_time())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.database, name)


class Watching:
    """One account's poller as the daemon runs it, over a state of its own."""

    def __init__(self, base_url: str, state: Path, batches: int, in_flight: int) -> None:
        self.clock, self.meter = SteppedClock(), Meter()
        self.database = Timed(empty_file(state))
        self.database.transact(create_tables)
        redactor = Redactor()
        redactor.add(KEY)
        self.wire = Wire(timeout=30.0, max_connections=in_flight + 1, redactor=redactor)
        self.provider = PROVIDERS["openai"].build(ProviderOptions(base_url=f"{base_url}/v1"))
        self.poller = AccountPoller(
            Looking(
                "openai",
                self.provider,
                self.wire,
                credential,
                pace=cadence.Pace(min_interval=STEP, max_interval=STEP),
                max_concurrency=in_flight,
                requests_per_minute=None,
            ),
            self.database,
            self.clock,
            board=lambda: routing.Switchboard((), ()),
            told=lambda: None,
            holder="benchmark",
            log=log.get("poller"),
            meter=self.meter,
        )
        now = self.clock.now()
        ids = [identity(number) for number in range(batches)]
        self.write(lambda ledger: ledger.process.lease(["account:openai"], "benchmark", 0, FAR))
        self.write(lambda ledger: [ledger.batches.register(wanted(id), now) for id in ids])

    def write(self, work: Callable[[Ledger], Result]) -> Result:
        return self.database.database.transact(lambda transaction: work(Ledger(transaction)))

    async def run(self, count: int) -> int:
        """Look so often or a little more; returns how often."""
        before = self.meter.total("looks")
        async with anyio.create_task_group() as looks:
            while self.meter.total("looks") - before < count:
                await self.poller.once(self.clock.now(), looks)
                wait = await self.poller.next_wait()
                if not self.poller.busy and wait > 0:
                    self.clock.step(STEP)
                    continue
                await self.poller.wake.wait(max(wait, 0.002))
        return self.meter.total("looks") - before

    async def close(self) -> None:
        await self.wire.close()
        self.database.close()


async def credential() -> str:
    """The secret of the account."""
    return KEY


def wanted(id: str) -> Any:
    """One registration as people make them."""
    return registering(id, name="nightly evaluation", tags=("nightly", "evaluation"))


class Bare:
    """What a user would write: one client, `get` and `json.loads`."""

    def __init__(self, base_url: str, in_flight: int, client: httpx.AsyncClient) -> None:
        self.client, self._in_flight = client, in_flight
        self._urls = [f"{base_url}/v1/batches/{identity(number)}" for number in range(ADDRESSES)]
        self._headers = {"Authorization": f"Bearer {KEY}"}

    async def run(self, count: int) -> int:
        """So many requests, so many at a time; returns how many."""
        await at_a_time(self._in_flight, count, self._one)
        return count

    async def _one(self, number: int) -> None:
        answer = await self.client.get(self._urls[number % ADDRESSES], headers=self._headers)
        json.loads(answer.content)

    async def close(self) -> None:
        await self.client.aclose()


class Raw:
    """As little as can be: open streams, bytes written, a head split or parsed in C."""

    def __init__(self, base_url: str, in_flight: int) -> None:
        parts = urlsplit(base_url)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._in_flight = in_flight
        self._requests = [
            f"GET /v1/batches/{identity(number)} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Authorization: Bearer {KEY}\r\nAccept: application/json\r\n\r\n".encode()
            for number in range(ADDRESSES)
        ]

    async def run(self, count: int) -> int:
        """So many requests, so many at a time; returns how many."""
        await at_a_time(self._in_flight, count, self._one)
        return count

    async def _one(self, number: int) -> None:
        streams = self._idle.pop() if self._idle else None
        reader, writer = streams or await asyncio.open_connection(self._host, self._port)
        writer.write(self._requests[number % ADDRESSES])
        json.loads(await whole(reader))
        self._idle.append((reader, writer))

    async def close(self) -> None:
        for _, writer in self._idle:
            writer.close()
            await writer.wait_closed()


class _Answer:
    """One answer as httptools tells of it."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


async def whole(reader: asyncio.StreamReader) -> bytes:
    """The body of the next answer."""
    if httptools is not None:
        answer = _Answer()
        parser = httptools.HttpResponseParser(answer)
        while not answer.complete:
            parser.feed_data(await reader.read(65_536))
        return answer.body
    head = await reader.readuntil(b"\r\n\r\n")
    headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    return await reader.readexactly(int(headers[b"Content-Length"]))


async def at_a_time(in_flight: int, count: int, one: Callable[[int], Awaitable[object]]) -> None:
    """`count` calls, so many under way at once."""
    numbers: Iterator[int] = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await one(number)

    async with anyio.create_task_group() as group:
        for _ in range(in_flight):
            group.start_soon(worker)
