"""How long the daemons of a state have run."""

from __future__ import annotations

from watcher.clock import Clock
from watcher.store.ledger import Ledger

SECOND = 1_000


class Uptime:
    """How long daemons of this state have run, in all: what `give_up_after` counts by."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept = 0
        self._since = clock.monotonic()

    def __call__(self) -> int:
        """Milliseconds."""
        return self._kept + self._elapsed()

    def _elapsed(self) -> int:
        return round((self._clock.monotonic() - self._since) * SECOND)

    def keep(self, ledger: Ledger) -> None:
        """Write down what has passed since the last time; inside a transaction."""
        elapsed = self._elapsed()
        self._kept = ledger.process.count_uptime(elapsed)
        self._since += elapsed / SECOND
