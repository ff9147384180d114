"""Reads pages beside the event loop where they are long: a provider may list all it has in one."""

from __future__ import annotations

from collections.abc import Mapping

import anyio.to_thread

from watcher.model import Observation
from watcher.providers.provider import Provider

# So many batches take some 10 ms to read; a page that keeps to its limit has no more of OpenAI's.
FEW = 200


async def read_page(
    provider: Provider, body: object, cursor: str | None = None
) -> tuple[list[Observation], str | None]:
    """What the provider's own `read_page` says. Raises Garbled as it does."""
    if _longest(body) <= FEW:
        return provider.read_page(body, cursor)
    return await anyio.to_thread.run_sync(provider.read_page, body, cursor)


def _longest(body: object) -> int:
    """How many entries the longest list at the top of a page has."""
    parts = [body, *(body.values() if isinstance(body, Mapping) else ())]
    return max((len(part) for part in parts if isinstance(part, list)), default=0)
