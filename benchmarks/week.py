"""Days of many batches at three providers a share of whose answers fail in every way there is.

The same days are lived twice under a fake clock, without and with faults. What is told of each
batch is compared with what the simulated providers know to be true, and the requests made with
those made without faults. Ends with 1 if anything told was wrong, missing or made up, or if
failures made more requests than one for each.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time

from rehearsal import Figure, show

from tests import weeks
from tests.builders import DAY, SECOND

# So many wrong things are shown in full.
SHOWN = 20
# So many requests in a minute are no storm, however few there are without faults.
STRAY = 10


def main() -> None:
    """Live, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=300, help="over all fates and providers")
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--fault-share", type=float, default=0.3, help="of all requests")
    parser.add_argument("--eagerness", type=float, default=1.0, help="as in the configuration")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    asked = parser.parse_args()
    began = time.monotonic()
    clean, faulty = asyncio.run(lived(asked))
    wrong = [f"without faults: {one}" for one in clean.wrong] + faulty.wrong
    wrong += weeks.compare(clean, faulty)
    # A page that fails sends its batches to single looks: more requests, but never many at once.
    if faulty.busiest > 2 * clean.busiest + STRAY:
        wrong.append(f"a storm: {faulty.busiest} requests of one account in a minute")
    title = (
        f"{asked.batches} batches, {asked.days:g} days, {asked.fault_share:.0%} of requests failing"
    )
    took = time.monotonic() - began
    show(title, figures(clean, faulty, took), notes(faulty, wrong), as_json=asked.json)
    sys.exit(bool(wrong))


async def lived(asked: argparse.Namespace) -> tuple[weeks.Week, weeks.Week]:
    """The same lives without faults, and with them."""
    duration = round(asked.days * DAY)
    lives = weeks.lives(asked.batches, duration, seed=asked.seed)
    clean = await weeks.live(lives, duration, eagerness=asked.eagerness)
    faulty = await weeks.live(
        lives, duration, share=asked.fault_share, seed=asked.seed, eagerness=asked.eagerness
    )
    return clean, faulty


def figures(clean: weeks.Week, faulty: weeks.Week, took: float) -> list[Figure]:
    """What came of both."""
    found = [
        Figure("planned: requests without faults", clean.asked, "requests"),
        Figure("made: requests with faults", faulty.asked, "requests"),
        Figure("faults injected", sum(faulty.injected.values()), "requests"),
        Figure("kinds of faults injected", len(faulty.injected), "kinds"),
        Figure("made of planned", faulty.asked / max(1, clean.asked), ""),
        Figure("busiest minute of an account, without", clean.busiest, "requests"),
        Figure("busiest minute of an account, with", faulty.busiest, "requests"),
        Figure("events told, without", sum(map(len, clean.told.values())), "events"),
        Figure("events told, with", sum(map(len, faulty.told.values())), "events"),
    ]
    for name, week in (("without", clean), ("with", faulty)):
        delays = sorted(week.delays.values())
        found += [
            Figure(f"ends told, {name}", len(delays), "batches"),
            Figure(f"delay, {name}: mean", statistics.fmean(delays) / SECOND, "s"),
            Figure(
                f"delay, {name}: 95 of 100 within", delays[len(delays) * 95 // 100] / SECOND, "s"
            ),
            Figure(f"delay, {name}: longest", delays[-1] / SECOND, "s"),
        ]
    return [*found, Figure("true time this took", took, "s")]


def notes(faulty: weeks.Week, wrong: list[str]) -> list[str]:
    """What was wrong, in words."""
    least = min(faulty.injected.items(), key=lambda item: item[1], default=("none", 0))
    said = [f"the fault injected least often: {least[0]}, {least[1]} times"]
    if not wrong:
        return [*said, "nothing told was wrong, missing or made up"]
    more = [f"and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
    return [*said, f"wrong: {len(wrong)}", *wrong[:SHOWN], *more]


if __name__ == "__main__":
    main()
