"""Three simulated providers under one address, one clock and one schedule of faults."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from urllib.parse import parse_qsl

from watcher.simulator.answer import Answer, RequestLog, Wire
from watcher.simulator.faults import Faults
from watcher.simulator.provider import KEY, SimulatedProvider
from watcher.simulator.report import PREFIX, report

# What follows the address in each base URL.
PREFIXES: Mapping[Wire, str] = {
    Wire.OPENAI: "/openai/v1",
    Wire.CEREBRAS: "/cerebras/v1",
    Wire.COHERE: "/cohere",
}


class Simulation:
    """Holds the three providers; `clock` gives milliseconds, `seed` makes all chance repeatable.

    `faults` befall all three (a rule may name one wire); `requests` counts what came to any.
    """

    def __init__(
        self,
        clock: Callable[[], int],
        *,
        seed: int = 0,
        keys: Iterable[str] = (KEY,),
        speed: float = 1.0,
    ) -> None:
        self.faults = Faults(seed)
        self.requests = RequestLog()
        self._clock = clock
        accepted = tuple(keys)
        self.providers: Mapping[Wire, SimulatedProvider] = {
            wire: SimulatedProvider(
                wire,
                clock,
                keys=accepted,
                seed=seed,
                speed=speed,
                faults=self.faults,
                logs=(self.requests,),
            )
            for wire in Wire
        }
        self.openai = self.providers[Wire.OPENAI]
        self.cerebras = self.providers[Wire.CEREBRAS]
        self.cohere = self.providers[Wire.COHERE]

    @staticmethod
    def base_url(wire: Wire | str, address: str) -> str:
        """What an account's `base_url` is to be, for `http://127.0.0.1:PORT`."""
        return address.rstrip("/") + PREFIXES[Wire(wire)]

    def respond(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Answer:
        """The answer to a request; `target` is path and query as they stand in its first line."""
        path, _, query = target.partition("?")
        for wire, prefix in PREFIXES.items():
            if path.startswith(prefix + "/"):
                parameters = dict(parse_qsl(query, keep_blank_values=True))
                below = path.removeprefix(prefix)
                return self.providers[wire].respond(method, below, parameters, headers, body)
        told = None
        if path.startswith(PREFIX + "/"):
            below = path.removeprefix(PREFIX)
            told = report(method, below, self.openai, self.requests, self._clock())
        return told or Answer(404, b'{"error": {"message": "no such url"}}')
