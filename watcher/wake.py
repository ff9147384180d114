"""A signal that wakes a loop early; many signals before it looks are one."""

from __future__ import annotations

import anyio


class Wake:
    """Set from anywhere on the loop; waited for by one loop."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._work = False

    def set(self) -> None:
        """There may be work."""
        self._work = True
        self._event.set()

    def nudge(self) -> None:
        """There is no work yet, but there may be sooner than the loop believes."""
        self._event.set()

    async def wait(self, seconds: float) -> bool:
        """Return when it is set, or has been since the last wait, or after so many seconds.

        False when it was only nudged: the loop is to reckon anew how long to wait.
        """
        with anyio.move_on_after(seconds):
            await self._event.wait()
        over = self._work or not self._event.is_set()
        self._event, self._work = anyio.Event(), False
        return over
