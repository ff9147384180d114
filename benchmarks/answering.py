"""A server on loopback that answers any GET with a batch, as cheaply as Python can.

Beside it the client is what a measurement sees. The id is the last segment of the path; a path
that ends in `batches` is a page of the list, answered 404 unless `--batches` says how many there
are; below `/late/` an answer takes 3 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

PAGE = 100
LATE = 0.003
# What OpenAI's edge sends before a body: a client reads all of it, whichever it is.
HEAD = """HTTP/1.1 200 OK
Date: Sat, 21 Nov 2026 12:00:00 GMT
Content-Type: application/json
Connection: keep-alive
openai-version: 2020-10-01
openai-organization: user-aaaaaaaaaaaaaaaaaaaaaaaa
openai-project: proj_aaaaaaaaaaaaaaaaaaaaaaaa
x-request-id: req_00000000000000000000000000000000
openai-processing-ms: 42
x-envoy-upstream-service-time: 45
strict-transport-security: max-age=31536000; includeSubDomains; preload
cf-cache-status: DYNAMIC
Set-Cookie: __cf_bm=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; path=/; HttpOnly; Secure; SameSite=None
X-Content-Type-Options: nosniff
Server: cloudflare
CF-RAY: 9000000000000000-FRA
alt-svc: h3=":443"; ma=86400
Content-Length: {length}

"""
MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def identity(number: int) -> str:
    """The id of a batch by its number."""
    return f"batch_{number:032x}"


def number_of(id: str) -> int:
    """The number in an id."""
    return int(id.removeprefix("batch_"), 16)


def batch(number: int, since: int) -> dict[str, Any]:
    """A batch as OpenAI shows one on its way, created so many seconds after `since`; 1.1 kB."""
    created_at = since + number
    return {
        "id": identity(number),
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "model": "gpt-4o-mini-2024-07-18",
        "errors": None,
        "input_file_id": "file-gha1AtXJUbe3xorzbcvwcK",
        "completion_window": "24h",
        "status": "in_progress",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": created_at,
        "in_progress_at": created_at + 75,
        "expires_at": created_at + 86_400,
        "finalizing_at": None,
        "completed_at": None,
        "failed_at": None,
        "expired_at": None,
        "cancelling_at": None,
        "cancelled_at": None,
        "request_counts": {"total": 5_000, "completed": 1_250, "failed": 3},
        "usage": {
            "input_tokens": 0,
            "output_tokens": 0,
            "total_tokens": 0,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
        "metadata": {
            "team": "evaluation",
            "run": "nightly-0042",
            "dataset": "questions-v3",
            "description": "each answer of last week's sample, judged by the larger model",
        },
    }


def answer_to(body: object) -> bytes:
    """A whole answer with that body."""
    text = json.dumps(body, indent=2).encode()
    return HEAD.format(length=len(text)).replace("\n", "\r\n").encode() + text


@functools.cache
def one(name: bytes, since: int) -> bytes:
    """The answer for one batch, made once."""
    return answer_to(batch(number_of(name.decode()), since))


class Answering(asyncio.Protocol):
    """One connection."""

    def __init__(self, batches: int, since: int) -> None:
        self._batches, self._since = batches, since
        self._transport: asyncio.Transport
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        *requests, self._unread = (self._unread + data).split(b"\r\n\r\n")
        for request in requests:
            path, _, query = request.split(b" ", 2)[1].partition(b"?")
            name = path.rpartition(b"/")[2]
            if name != b"batches":
                answer = one(name, self._since)
            else:
                answer = self._page(query.decode()) if self._batches else MISSING
            if path.startswith(b"/late/"):
                asyncio.get_running_loop().call_later(LATE, self._transport.write, answer)
            else:
                self._transport.write(answer)

    def _page(self, query: str) -> bytes:
        """A page of the list, the newest first: numbers fall."""
        asked = dict(pair.partition("=")[::2] for pair in query.split("&"))
        after = asked.get("after")
        first = self._batches if after is None else number_of(after)
        size = min(PAGE, int(asked.get("limit", PAGE)))
        numbers = range(first - 1, -1, -1)[:size]
        entries = [batch(number, self._since) for number in numbers]
        return answer_to({"object": "list", "data": entries, "has_more": first > size})


@contextmanager
def answering(core: int | None, batches: int = 0) -> Iterator[str]:
    """The server in a process of its own, on that core, as long as the block lasts: its address.

    Its batches were created, one a second, until an hour ago.
    """
    arguments = [sys.executable, __file__, "--batches", str(batches)]
    if core is not None:
        arguments += ["--core", str(core)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = next(iter(process.stdout or ())).strip()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


async def serve(batches: int, since: int) -> None:
    """Answer until killed; the port is the first line of standard output."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Answering(batches, since), "127.0.0.1", 0, backlog=512
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=0, help="how many the list has; 0: no list")
    parser.add_argument("--core", type=int, help="the processor core to stay on")
    asked = parser.parse_args(arguments)
    if asked.core is not None:
        os.sched_setaffinity(0, {asked.core})
    asyncio.run(serve(asked.batches, round(time.time()) - 3_600 - asked.batches))


if __name__ == "__main__":
    main()
