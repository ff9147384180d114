"""The operating system's lock on a state: held by the daemon, let go by the kernel when it dies."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from watcher.errors import StoreError
from watcher.store.place import true_path

# A link planted in its place would have us lock, or make, another's file.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


class StateLock:
    """One process at a time: the file `STATE.lock` beside the state."""

    def __init__(self, state: str) -> None:
        self._path = Path(f"{true_path(state)}.lock")
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock if it is free; False if another process has it."""
        if self._descriptor is not None:
            return True
        try:
            descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR | _NO_LINK, 0o600)
        except OSError as error:
            reason = (error.strerror or "not writable").lower()
            remedy = "check its permissions or name another state with --state"
            message = f"cannot open {self._path}: {reason}; {remedy}"
            raise StoreError(message) from error
        if not _lock(descriptor):
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    @property
    def free(self) -> bool:
        """Whether no process holds it now."""
        if self._descriptor is not None:
            return False
        if not self._path.exists():
            return True
        try:
            descriptor = os.open(self._path, os.O_RDWR | _NO_LINK)
        except OSError:
            # Not ours to open: somebody else's daemon made it, so its heartbeat decides.
            return False
        try:
            return _lock(descriptor)
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Let go."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
