"""Mounts a simulation as an httpx transport: no network, and time is whatever its clock says.

A fault raises at once what a real transport would raise in time; nothing here waits, except for an
answer that is late. The 1 MB header is refused here as the real ones refuse it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import anyio
import anyio.lowlevel
import httpx

from watcher.simulator.answer import Answer, Manner
from watcher.simulator.simulation import Simulation

# What h11 and aiohttp take at most is between 8 and 100 KB.
_MOST_HEAD = 64 * 1024
# Enough to see that an answer drips.
_DROPS = 8


class SimulatedTransport(httpx.AsyncBaseTransport):
    """Answers for any host; a request's path begins as under `Simulation.base_url`."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        # Real transports let others run here, and tests of concurrency rely on it.
        await anyio.lowlevel.checkpoint()
        target = request.url.raw_path.decode("ascii")
        answer = self._simulation.respond(request.method, target, request.headers, body)
        if answer.manner is Manner.SILENT:
            raise httpx.ReadTimeout("simulated: no answer", request=request)
        if answer.manner is Manner.RESET:
            raise httpx.ReadError("simulated: connection reset", request=request)
        if answer.manner is Manner.LATE:
            await anyio.sleep(answer.pause)
        if sum(len(name) + len(value) for name, value in answer.headers) > _MOST_HEAD:
            raise httpx.RemoteProtocolError("simulated: header too large", request=request)
        headers = [*answer.headers, ("content-length", str(answer.length))]
        return httpx.Response(
            answer.status, headers=headers, stream=_Body(answer, request), request=request
        )


class _Body(httpx.AsyncByteStream):
    """The body, broken off where the fault says so."""

    def __init__(self, answer: Answer, request: httpx.Request) -> None:
        self._answer = answer
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._answer.manner is Manner.DRIP:
            for drop in _drops(self._answer.chunks()):
                yield drop
            raise httpx.ReadTimeout("simulated: the body drips", request=self._request)
        left = self._answer.length
        if self._answer.manner is Manner.TRUNCATED:
            left //= 2
        for chunk in self._answer.chunks():
            if left:
                yield chunk[:left]
            left -= min(left, len(chunk))
        if self._answer.manner is Manner.TRUNCATED:
            message = "simulated: connection closed in the middle of the body"
            raise httpx.RemoteProtocolError(message, request=self._request)


def _drops(chunks: Iterable[bytes]) -> list[bytes]:
    first = next(iter(chunks), b"")
    return [first[place : place + 1] for place in range(min(_DROPS, len(first)))]
