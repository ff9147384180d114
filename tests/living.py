"""A world whose process does for its leases and its clock what the daemon does."""

from __future__ import annotations

from collections.abc import Callable

from tests.builders import SECOND
from tests.world import World
from watcher.app.app import LEASE
from watcher.daemon.loops import LEASE_EVERY, NOTICE_EVERY, Loops
from watcher.poller import AccountPoller

# The loops' own turns, in milliseconds.
NOTICE, RENEWAL = round(NOTICE_EVERY * SECOND), round(LEASE_EVERY * SECOND)


class Living(World):
    """A world whose process keeps its leases and watches its clock by the daemon's own loops."""

    async def start(self, *, spread: bool = False) -> None:
        await self.app.begin(self._plan(), spread=spread, void_leases=True)
        self.loops, self.ran_until = Loops(self.app), self.clock.monotonic()
        self.app.wake_all()

    async def run(self, milliseconds: int, *, until: Callable[[], bool] | None = None) -> int:
        """Turn by turn until leases would have run out, and then on with those it has by then."""
        looks, end = 0, self.clock.monotonic() + milliseconds / SECOND
        # What waits by time that passed in a sleep is late at once.
        overslept = self.clock.monotonic() - self.ran_until > LEASE_EVERY
        # What a jump breaks may be seen by the other loops before it is noticed.
        for slice_ in (NOTICE, RENEWAL - NOTICE, RENEWAL, RENEWAL):
            left = round((end - self.clock.monotonic()) * SECOND)
            if left <= 0 or (until is not None and until()):
                break
            looks += await super().run(min(left, slice_), until=until)
            await self.loops._notice()
            if slice_ != NOTICE or overslept:
                await self.loops.renew()
        left = round((end - self.clock.monotonic()) * SECOND)
        if left > 0 and not (until is not None and until()):
            held = await self.leased()
            await self.hold_leases(self.clock.now() + left + LEASE if held else 0)
            looks += await super().run(left, until=until)
            await self.hold_leases(self.clock.now() + LEASE if held else 0)
        self.ran_until = self.clock.monotonic()
        return looks

    async def _wait(self, poller: AccountPoller) -> float:
        # What a clock that was set back makes due is found by the turn of each minute.
        return await poller.next_wait()

    async def leased(self) -> bool:
        """Whether it holds every lease it needs."""
        names, now, holder = self.lease_names(), self.clock.now(), self.app.holder
        held = await self.books(
            lambda ledger: [ledger.process.holds(name, holder, now) for name in names]
        )
        return all(held)

    async def told_within(self, milliseconds: int, what: Callable[[], int]) -> int:
        """How long it really takes until `what` counts one more; that it does is asserted."""
        since, before = self.clock.monotonic(), what()
        await self.run(milliseconds, until=lambda: what() > before)

        assert what() > before
        return round((self.clock.monotonic() - since) * SECOND)
