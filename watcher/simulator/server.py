"""Serves a simulation on loopback over HTTP/1.1, with every fault a connection can have.

Small on purpose: keep-alive, bodies by content-length, no TLS. It closes in bounded time however
many connections hang.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus

from watcher.simulator.answer import Answer, Manner
from watcher.simulator.simulation import Simulation

_MOST_HEAD = 64 * 1024
_MOST_BODY = 16 * 1024 * 1024
# How long closing waits for the last handlers; they end at once when their sockets are gone.
_CLOSING_SECONDS = 5.0


@asynccontextmanager
async def serve(
    simulation: Simulation, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[str]:
    """Serve until the block ends; gives `http://127.0.0.1:PORT` (port 0: any that is free)."""
    visitors = _Visitors(simulation)
    listener = await asyncio.start_server(
        visitors.receive, host, port, limit=_MOST_HEAD, backlog=1_024
    )
    try:
        bound = listener.sockets[0].getsockname()
        yield f"http://{bound[0]}:{bound[1]}"
    finally:
        listener.close()
        await visitors.dismiss()
        await listener.wait_closed()


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    keep_alive: bool


class _Unreadable(Exception):
    """A request this server does not take; `status` answers it."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Visitors:
    """The open connections."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._open: set[asyncio.StreamWriter] = set()
        self._all_gone = asyncio.Event()

    async def receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer on one connection until it ends."""
        self._open.add(writer)
        self._all_gone.clear()
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self._open.remove(writer)
            if not self._open:
                self._all_gone.set()

    async def dismiss(self) -> None:
        """End every connection, hung ones too."""
        # A connection taken in this very turn of the loop has yet to reach `receive`.
        await asyncio.sleep(0)
        for writer in self._open:
            writer.transport.abort()
        if self._open:
            async with asyncio.timeout(_CLOSING_SECONDS):
                await self._all_gone.wait()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; whether the connection goes on."""
        try:
            request = await _read(reader, writer)
        except _Unreadable as unreadable:
            await _send(reader, writer, Answer(unreadable.status), keep_alive=False)
            return False
        if request is None:
            return False
        answer = self._simulation.respond(
            request.method, request.target, request.headers, request.body
        )
        return await _send(reader, writer, answer, keep_alive=request.keep_alive)


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> _Request | None:
    """The next request; None when the client has gone."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as error:
        raise _Unreadable(431) from error
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise _Unreadable(400)
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    method, target, version = parts
    wish = headers.get("connection", "").lower()
    keep_alive = "close" not in wish and (version != "HTTP/1.0" or "keep-alive" in wish)
    return _Request(method, target, headers, await _body(reader, headers), keep_alive)


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if "transfer-encoding" in headers:
        raise _Unreadable(411)
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise _Unreadable(400)
    if int(length) > _MOST_BODY:
        raise _Unreadable(413)
    return await reader.readexactly(int(length))


async def _send(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    answer: Answer,
    *,
    keep_alive: bool,
) -> bool:
    """Let the answer travel in its manner; whether the connection goes on."""
    if answer.manner is Manner.SILENT:
        await _client_gone(reader, None)
        return False
    if answer.manner is Manner.RESET:
        _reset(writer)
        return False
    if answer.manner is Manner.LATE and await _client_gone(reader, answer.pause):
        return False
    writer.write(_head(answer, keep_alive=keep_alive))
    if answer.manner is Manner.DRIP:
        return await _drip(reader, writer, answer) and keep_alive
    left = answer.length if answer.manner is not Manner.TRUNCATED else answer.length // 2
    for chunk in answer.chunks():
        writer.write(chunk[:left])
        left -= min(left, len(chunk))
        await writer.drain()
    return keep_alive and answer.manner is not Manner.TRUNCATED


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> bool:
    for chunk in answer.chunks():
        for byte in chunk:
            writer.write(bytes((byte,)))
            if await _client_gone(reader, answer.pause):
                return False
    return True


async def _client_gone(reader: asyncio.StreamReader, seconds: float | None) -> bool:
    """Wait this long (None: for ever) for the client to go; whatever it still says is lost."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while await reader.read(_MOST_HEAD):
                pass
            return True
    return False


def _head(answer: Answer, *, keep_alive: bool) -> bytes:
    phrase = HTTPStatus(answer.status).phrase
    lines = [f"HTTP/1.1 {answer.status} {phrase}"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    lines += [f"content-length: {answer.length}"]
    lines += [f"connection: {'keep-alive' if keep_alive else 'close'}", "", ""]
    return "\r\n".join(lines).encode("latin-1")


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the client's system reports a reset, not an end."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
