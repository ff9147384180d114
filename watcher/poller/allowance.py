"""How many requests an account may make now."""

from __future__ import annotations

import math

from watcher.clock import Clock


class Allowance:
    """An account's requests per minute, as a bucket that refills steadily.

    It holds as many as may be in flight at once: a burst after a quiet time stays that small. A
    full bucket and a minute's refilling together are never more than the minute allows.
    """

    def __init__(self, per_minute: int | None, burst: int, clock: Clock) -> None:
        if per_minute is None:
            self._burst, self._per_second = max(1, burst), math.inf
        else:
            self._burst = max(1, min(burst, per_minute // 2))
            self._per_second = (per_minute - self._burst + 1) / 60
        self._clock = clock
        self._left = float(self._burst)
        self._since = clock.monotonic()

    def available(self) -> int:
        """How many requests may go out now."""
        moment = self._clock.monotonic()
        refilled = self._left + (moment - self._since) * self._per_second
        if self._per_second == math.inf:
            refilled = float(self._burst)
        self._left, self._since = min(float(self._burst), refilled), moment
        return int(self._left)

    def take(self) -> None:
        """One request goes out; a retry beyond the allowance is owed."""
        self._left -= 1

    def wait(self) -> float:
        """Seconds until the next request may go out."""
        self.available()
        return max(0.0, (1 - self._left) / self._per_second)
