"""Time, as something that can be handed in.

The wall clock is for what is stored, the monotonic one for waits inside a process.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the time is; a test hands in its own."""

    def now(self) -> int:
        """Milliseconds since the epoch, UTC: may jump, so nothing in a process waits by it."""

    def monotonic(self) -> float:
        """Seconds from some moment on: never jumps."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()
