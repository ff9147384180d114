"""watcher: polls LLM batch jobs and tells people what became of them.

A submit script registers what it has made: `watcher.register(client.batches.create(...))`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from watcher.version import __version__

if TYPE_CHECKING:
    from watcher.client import register

__all__ = ["__version__", "register"]


def __getattr__(name: str) -> Any:
    # A submit script pays for what it uses: the import of the package itself stays cheap.
    if name == "register":
        from watcher.client import register

        return register
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
