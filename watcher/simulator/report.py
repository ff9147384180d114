"""What a rehearsal in another process asks of the simulation itself: who asked what, what is true.

Paths beside the providers', below `/simulator`; no key is asked for, and nothing here is counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from watcher.simulator.answer import Answer, RequestLog
from watcher.simulator.provider import SimulatedProvider

PREFIX = "/simulator"


def report(
    method: str, path: str, provider: SimulatedProvider, requests: RequestLog, now: int
) -> Answer | None:
    """The answer to a request below `PREFIX`; None if there is no such report.

    `/ids`: every id of `provider`, a line each, newest first. `/ends`: for each id when it comes
    to an end, in milliseconds, null for never. `/requests`: the count of requests by who asked
    (the name in the user agent), what for, and the minute; and when each asked first. DELETE
    begins that count anew.
    """
    if (method, path) == ("DELETE", "/requests"):
        requests.clear()
        return Answer(204)
    if method != "GET":
        return None
    if path == "/ids":
        lines = "".join(f"{id}\n" for id in provider.ids)
        return Answer(200, lines.encode(), (("content-type", "text/plain; charset=utf-8"),))
    documents: Mapping[str, Callable[[], Any]] = {
        "/ends": lambda: {id: provider.end(id) for id in provider.ids},
        "/requests": lambda: _requests(requests, now),
    }
    made = documents.get(path)
    return None if made is None else Answer(200, json.dumps(made()).encode())


def _requests(requests: RequestLog, now: int) -> dict[str, Any]:
    minutes = [
        {"agent": agent, "kind": str(kind), "at": minute * 60_000, "requests": count}
        for (agent, kind, minute), count in requests.by_minute.items()
    ]
    return {"now": now, "first_at": requests.first_at, "minutes": minutes}
