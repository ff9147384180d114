"""Asks a server on loopback through a real wire, and tells what came of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import fields, is_dataclass
from typing import Any

from tests.fakes import START, FakeClock
from tests.providers.loopback import Answer, Loopback, serving
from watcher.errors import ProviderError
from watcher.model import Request
from watcher.providers.wire import Wire
from watcher.redaction import Redactor

SECRET = "sk-a-secret-nobody-may-see"


def wire(timeout: float = 5, max_connections: int = 4, redactor: Redactor | None = None) -> Wire:
    return Wire(
        timeout=timeout,
        max_connections=max_connections,
        redactor=redactor or Redactor(),
        user_agent="batch-watcher/1.2.3",
        clock=FakeClock(START),
    )


@asynccontextmanager
async def closing(line: Wire) -> AsyncIterator[Wire]:
    """The wire, closed at the end of the block."""
    try:
        yield line
    finally:
        await line.close()


@asynccontextmanager
async def asking(answer: Answer, limit: float = 5) -> AsyncIterator[tuple[Wire, Loopback]]:
    """A wire and a server that answers it."""
    async with serving(answer) as server, closing(wire(limit)) as line:
        yield line, server


async def outcome(answer: Answer, request: Request | None = None, limit: float = 5) -> object:
    """What the wire makes of an answer: the JSON, or the error it raised."""
    async with asking(answer, limit) as (line, server):
        request = request or Request("GET", "/batches/1")
        sent = Request(
            request.method, server.url + request.url, request.headers, request.most_bytes
        )
        try:
            return await line.send(sent)
        except ProviderError as error:
            return error


def leaves(value: Any) -> Iterator[Any]:
    """Every text and number in a value, however deep."""
    if is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            yield from leaves(getattr(value, each.name))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    else:
        yield value
