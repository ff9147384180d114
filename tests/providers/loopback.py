"""A tiny HTTP server on loopback that answers with whatever bytes a test gives it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

CERTIFICATE = Path(__file__).with_name("certificate.pem")


@dataclass(frozen=True)
class Seen:
    """A request as it arrived; header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]


# Writes an answer and returns True to keep the connection for another.
Answer = Callable[[Seen, asyncio.StreamWriter], Awaitable[bool]]


@dataclass
class Loopback:
    """A running server: where it is, what it was asked, how many connections it had."""

    url: str
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0


def reply(
    body: object = b"", status: str = "200 OK", headers: Mapping[str, str] | None = None
) -> Answer:
    """Answers every request alike; a body that is not bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"content-type": "application/json", **(headers or {})}
    head = [f"HTTP/1.1 {status}", f"content-length: {len(content)}"]
    head += [f"{name}: {value}" for name, value in lines.items()]
    return raw("\r\n".join([*head, "", ""]).encode() + content, keep=True)


def raw(content: bytes, *, keep: bool = False) -> Answer:
    """Answers with exactly these bytes."""

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        writer.write(content)
        await writer.drain()
        return keep

    return answer


async def silence(seen: Seen, writer: asyncio.StreamWriter) -> bool:
    """Never answers."""
    await asyncio.Event().wait()
    return False


def dripping(head: bytes, drop: bytes) -> Answer:
    """Answers with a head and then a drop every 20 ms, without an end."""

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        writer.write(head)
        while True:
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(0.02)

    return answer


@asynccontextmanager
async def serving(answer: Answer, *, tls: bool = False) -> AsyncIterator[Loopback]:
    """A server that gives this answer to every request, until the block ends."""
    here = Loopback("")
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        here.connections += 1
        try:
            while seen := await _read(reader):
                here.seen.append(seen)
                if not await answer(seen, writer):
                    break
        except ConnectionError:
            pass
        finally:
            writer.close()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(connected(reader, writer))
        tasks.add(task)

    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
    server = await asyncio.start_server(begin, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    here.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        yield here
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> Seen | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, target, _ = first.split(" ", 2)
    headers = dict(line.split(": ", 1) for line in lines)
    return Seen(method, target, {name.lower(): value for name, value in headers.items()})
