"""How many requests an account may make now."""

from __future__ import annotations

import math

from watcher.clock import Clock

# An account plans with this share of its requests a minute: the rest is for what comes unplanned,
# and lets looks be punctual. Replayed with 100,000 batches, more makes them late by many seconds.
SHARE_PLANNED = 0.85
# For so many seconds, about, a request counts: as long as looks are apart where they are stretched.
MEMORY = 200.0
# What fewer seconds show is set against as many as this.
LEAST_KNOWN = 60.0


class Allowance:
    """An account's requests per minute, as a bucket that refills steadily.

    It holds as many as may be in flight at once: a burst after a quiet time stays that small. A
    full bucket and a minute's refilling together are never more than the minute allows.
    """

    def __init__(self, per_minute: int | None, burst: int, clock: Clock) -> None:
        # `burst` is the most that may go out at once.
        if per_minute is None:
            self.burst, self.per_second = max(1, burst), math.inf
        else:
            # Two, if ever so few at a time: one may have to be set aside.
            self.burst = max(min(2, per_minute), min(burst, per_minute // 2))
            self.per_second = (per_minute - self.burst + 1) / 60
        self._clock = clock
        self._left = float(self.burst)
        self._since = clock.monotonic()

    def available(self) -> int:
        """How many requests may go out now."""
        moment = self._clock.monotonic()
        refilled = self._left + (moment - self._since) * self.per_second
        if self.per_second == math.inf:
            refilled = float(self.burst)
        self._left, self._since = min(float(self.burst), refilled), moment
        return int(self._left)

    def take(self) -> None:
        """One request goes out; a retry beyond the allowance is owed."""
        self._left -= 1

    def wait(self, requests: int = 1) -> float:
        """Seconds until so many requests may go out, or as many as ever can at once."""
        self.available()
        return max(0.0, (min(requests, self.burst) - self._left) / self.per_second)


class Load:
    """How much more the batches of an account ask for than its requests a minute allow.

    Each request says how long its batch has waited, and how long it would have at the pace wished
    for. Together they say how many requests that pace would take.
    """

    def __init__(self, per_second: float, clock: Clock) -> None:
        self._clock = clock
        self._begun = self._at = self._since = clock.monotonic()
        self._wished = 0.0
        self.limit(per_second)

    def limit(self, per_second: float) -> None:
        """So many requests a second are allowed from now on, once a burst is over."""
        self._per_second = SHARE_PLANNED * per_second

    def begin_anew(self) -> None:
        """Nothing was looked at until now, for whatever reason: that was no want of requests."""
        self._since = self._clock.monotonic()

    def assume(self, stretch: float) -> None:
        """So much longer all had to wait until a moment ago, in a process before this one."""
        self._begun = self._at - 10 * MEMORY
        self._wished = stretch * self._per_second * MEMORY

    def note(self, waited: float, wished: float) -> None:
        """A request was made after so many milliseconds, wished for after so many."""
        self._fade()
        waited = min(waited, 1_000 * (self._at - self._since))
        self._wished += max(1.0, waited / wished) if wished > 0 else 1.0

    @property
    def stretch(self) -> float:
        """How many times longer than wished all have to wait, 1.0 if there is room for all."""
        self._fade()
        known_for = 1 - math.exp(-max(LEAST_KNOWN, self._at - self._begun) / MEMORY)
        return max(1.0, self._wished / (MEMORY * known_for) / self._per_second)

    def _fade(self) -> None:
        moment = self._clock.monotonic()
        self._wished *= math.exp((self._at - moment) / MEMORY)
        self._at = moment
