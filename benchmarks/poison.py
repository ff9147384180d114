"""What poisonous batches do to the punctuality of the others.

The same batches are watched twice under a fake clock, by one account with its limits: all sound,
and some of them answered with garbage, each in a way of its own; with `--hanging` their answers
take as long as a request may last. Measured is the time from the true end of each of the others
to the event that tells it. Ends with 1 if an end was not told.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time

from rehearsal import Figure, show

from tests.builders import HOUR, SECOND
from tests.poison import Punctuality, poisons, punctuality
from watcher.simulator import Fault


def main() -> None:
    """Watch both, print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=10_000)
    parser.add_argument("--poisonous", type=int, default=100)
    parser.add_argument("--hours", type=float, default=2.5)
    parser.add_argument("--requests-per-minute", type=int, default=300)
    parser.add_argument("--eagerness", type=float, default=1.0, help="as in the configuration")
    parser.add_argument("--hanging", action="store_true", help="poisonous answers take 60 s each")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    asked = parser.parse_args()
    began = time.monotonic()
    sound, poisoned = asyncio.run(watched(asked))
    others = {id: sound.delays[id] for id in poisoned.delays if id in sound.delays}
    figures = [
        *summary("all sound", others, sound.requests),
        *summary("some poisonous", poisoned.delays, poisoned.requests),
        Figure("true time this took", time.monotonic() - began, "s"),
    ]
    unseen = [*sound.unseen, *poisoned.unseen]
    notes = [f"ends not told: {', '.join(unseen[:20])}"] if unseen else ["every end was told"]
    manner = "hanging" if asked.hanging else "poisonous"
    title = f"{len(others)} batches beside {asked.poisonous} that are {manner}"
    show(title, figures, notes, as_json=asked.json)
    sys.exit(bool(unseen))


async def watched(asked: argparse.Namespace) -> tuple[Punctuality, Punctuality]:
    """The same batches without and with poison among them."""
    # The last hour is for those that are seen late.
    last = max(900.0, (asked.hours - 1) * 3_600)
    ends = [600 + (last - 600) * number / asked.batches for number in range(asked.batches)]
    apart = asked.batches // asked.poisonous
    bad = {number * apart: fault for number, fault in enumerate(poisons(asked.poisonous))}
    duration = round(asked.hours * HOUR)

    async def watch(poisonous: dict[int, Fault]) -> Punctuality:
        return await punctuality(
            ends,
            poisonous,
            duration,
            hanging=asked.hanging,
            eagerness=asked.eagerness,
            requests_per_minute=asked.requests_per_minute,
        )

    return await watch({}), await watch(bad)


def summary(what: str, delays: dict[str, int], requests: int) -> list[Figure]:
    """How late ends were seen."""
    late = sorted(delays.values())
    return [
        Figure(f"{what}: requests", requests, ""),
        Figure(f"{what}: median delay", statistics.median(late) / SECOND, "s"),
        Figure(f"{what}: 95 of 100 within", late[len(late) * 95 // 100] / SECOND, "s"),
        Figure(f"{what}: longest", late[-1] / SECOND, "s"),
    ]


if __name__ == "__main__":
    main()
