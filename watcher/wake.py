"""A signal that wakes a loop early; many signals before it looks are one."""

from __future__ import annotations

import anyio


class Wake:
    """Set from anywhere on the loop; waited for by one loop."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        """There may be work."""
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Return when it is set, or has been since the last wait, or after so many seconds."""
        with anyio.move_on_after(seconds):
            await self._event.wait()
        self._event = anyio.Event()
