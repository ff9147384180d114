"""Stand-ins that tests hand in where the program takes the real thing."""

from __future__ import annotations

# 2026-11-21T12:00:00Z, in milliseconds since the epoch.
START = 1_795_262_400_000


class FakeClock:
    """A clock that moves only when told to; wall and monotonic time move together.

    `true` is the time of the rest of the world, whatever this machine's clock was set to.
    """

    def __init__(self, now: int = START) -> None:
        self._now = now
        self._true = now
        self._elapsed = 0

    def now(self) -> int:
        """Milliseconds since the epoch, UTC."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._elapsed / 1000

    def advance(self, milliseconds: int) -> int:
        """Let time pass; answers what the time is then."""
        if milliseconds < 0:
            raise ValueError("time passes forwards only: use jump() for a clock that was set back")
        self._elapsed += milliseconds
        return self.suspend(milliseconds)

    def suspend(self, milliseconds: int) -> int:
        """Let time pass in a machine that sleeps: monotonic time stands still."""
        self._true += milliseconds
        self._now += milliseconds
        return self._now

    def true(self) -> int:
        """Milliseconds since the epoch as the providers count them."""
        return self._true

    def jump(self, milliseconds: int) -> int:
        """Set the wall clock forwards or back, as an administrator would; no time passes."""
        self._now += milliseconds
        return self._now
