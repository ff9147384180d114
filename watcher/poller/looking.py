"""An account as the poller needs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from watcher import cadence
from watcher.model import Request
from watcher.providers import Provider

SECOND = 1_000


class Wire(Protocol):
    """What sends a provider's request and returns the parsed JSON, or raises ProviderError."""

    async def send(self, request: Request) -> object: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Looking:
    """An account as the poller needs it; `credential` reads the secret, or raises ConfigError."""

    name: str
    provider: Provider
    wire: Wire
    credential: Callable[[], Awaitable[str]]
    pace: cadence.Pace = field(default_factory=cadence.Pace)
    max_concurrency: int = 8
    # None: no limit but that of concurrency.
    requests_per_minute: int | None = 300
    lost_after: int = 60 * 60 * SECOND
    unreachable_after: int = 15 * 60 * SECOND
    # Whether what the account lists is registered by itself.
    discover: bool = False
