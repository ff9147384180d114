"""The heartbeat: an address of somebody else's who notices when it is no longer fetched."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

import anyio
import anyio.to_thread

from watcher.app import App
from watcher.errors import Garbled, WatcherError
from watcher.model import Request
from watcher.providers.wire import Wire
from watcher.redaction import secrets_of_address
from watcher.version import __version__

HEARTBEAT_TIMEOUT = 5.0
# After a failure: whoever waits for it allows for little more than its interval.
HEARTBEAT_AGAIN = 30.0


@dataclass(slots=True)
class Heartbeat:
    """Fetches the configured address while all turns, so that its absence is noticed elsewhere."""

    app: App
    _wire: Wire = field(init=False)
    _due_at: float = 0.0
    _failing: bool = False

    def __post_init__(self) -> None:
        self._wire = Wire(
            timeout=HEARTBEAT_TIMEOUT,
            max_connections=1,
            redactor=self.app.redactor,
            user_agent=f"batch-watcher/{__version__}",
        )

    async def once(self) -> None:
        """Fetch it if it is time."""
        heartbeat, moment = self.app.plan_now.settings.heartbeat, self.app.clock.monotonic()
        if not heartbeat.wanted or moment < self._due_at:
            return
        every = heartbeat.every / 1_000
        self._due_at = moment + every
        try:
            url = (await anyio.to_thread.run_sync(heartbeat.url_secret)).get_secret_value()
            self.app.redactor.add(*secrets_of_address(url))
            with suppress(Garbled):
                # What it says is of no interest, JSON or not.
                await self._wire.send(Request("GET", url))
        except WatcherError as error:
            self._due_at = moment + min(every, HEARTBEAT_AGAIN)
            if not self._failing:
                self.app.log.warning("heartbeat not fetched", error=str(error))
            self._failing = True
            return
        if self._failing:
            self.app.log.info("heartbeat fetched again")
        self._failing = False

    async def close(self) -> None:
        """Let go of its connection."""
        await self._wire.close()
