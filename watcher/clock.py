"""Time, as something that can be handed in.

The wall clock is for what is stored, the monotonic one for waits inside a process.
"""

from __future__ import annotations

import time
from typing import Protocol

# What the wall clock gains or loses by less than this, in milliseconds, is no jump: clocks are
# slewed, and a busy machine reads the two one after the other.
LEAST_JUMP = 5_000
# Whoever asks does so at least once a minute: in this many seconds without it the process stood
# still (stopped, or asleep where that is counted).
STANDSTILL = 120.0


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


class Jumps:
    """Notices that the wall clock went otherwise than time: it was set, or the machine slept."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._moment, self._wall = clock.monotonic(), clock.now()
        self._steady_from = self._moment
        # Whether the process stood still before this was last asked.
        self.stood_still = False

    def since_last(self) -> int:
        """Milliseconds by which the wall clock has jumped since this was last asked, or 0."""
        moment, wall = self._clock.monotonic(), self._clock.now()
        self.stood_still = moment - self._moment > STANDSTILL
        jump = self._jump(moment, wall)
        self._moment, self._wall = moment, wall
        if jump:
            self._steady_from = moment
        return jump

    def steady_for(self) -> float:
        """Seconds since the last jump, asked about or not, or since this began to be asked."""
        moment = self._clock.monotonic()
        return 0.0 if self._jump(moment, self._clock.now()) else moment - self._steady_from

    def _jump(self, moment: float, wall: int) -> int:
        jump = wall - self._wall - round((moment - self._moment) * 1000)
        return 0 if abs(jump) < LEAST_JUMP else jump
