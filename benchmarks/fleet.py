"""What a fleet of open batches costs the daemon, and how soon it sees them end.

For each size the simulator holds so many batches with ages spread over 24 hours, of which 60 end
in each minute. They are registered by `watcher add -`; a first daemon, without a limit of requests
a minute and with an hour between two looks, sees each of them once, which is reported apart, and
then shows what doing nothing costs. What has shared a page goes on sharing it, but such a start
leaves the pages bunched: their next looks are spread over the time that the pages take at the pace
the daemon plans with. A second daemon on that state, with the settings a user gets who sets none,
is left to settle and then measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw
from picture import Axis, Series, Target, lines, save, short
from rehearsal import (
    WATCHER,
    Asked,
    Environment,
    Simulator,
    command,
    environment,
    simulator,
    until,
)
from sheet import Row, Sheet
from watching import configure, detections, peak_mebibytes, processor_seconds, running

from watcher import cadence
from watcher.model import Batch, Status
from watcher.poller.allowance import SHARE_PLANNED
from watcher.store.ledger import Ledger
from watcher.store.sqlite import SqliteDatabase

SIZES = (1_000, 10_000, 100_000)
ENDS_A_MINUTE = 60
UNLIMITED = "requests_per_minute = 1000000\n"
HOURLY = '[polling]\nmin_interval = "1h"\nmax_interval = "1h"\n'
# A small fleet settles in this part of the time that a hundred thousand need.
SHORTEST = 0.3
# What the sweep has begun (a checkpoint, say) has ended by then, in seconds.
ENDING = 3.0
# Milliseconds for one batch: a page shows a hundred, 300 requests a minute may go out, and the
# daemon plans with a share of them.
TURN = 60_000 / 300 / 100 / SHARE_PLANNED
DAY = 86_400_000
# However few there are, their looks are spread so far, in milliseconds.
LEAST_TURN = 40_000
DEFAULTS = "The settings are the default ones: 300 requests a minute, 5 s to 5 min between looks."


@dataclass(frozen=True, slots=True)
class Plan:
    """How long each part of a measurement takes, in seconds; `settle` for the largest fleet."""

    settle: float
    stretch: float
    idle: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """The first look at every batch; `begun` is from the daemon's start to the first of them."""

    begun: float
    seconds: float
    requests: int
    peak_mebibytes: float


@dataclass(frozen=True, slots=True)
class Found:
    """What one size has shown; shares are of one core, times in seconds."""

    size: int
    added: float
    sweep: Sweep
    # None if nothing was due until the end.
    first_look: float | None
    peak_mebibytes: float
    share: float
    seconds: float
    requests: dict[str, int]
    lateness: dict[str, float]
    ended: int
    # Of those that ended, the ones that were told before the stretch was over.
    delays: tuple[float, ...]
    # None if it was not measured.
    idle_share: float | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a fleet is watched: a folder, and the provider it is watched at."""

    folder: Path
    provider: Simulator

    @property
    def env(self) -> Environment:
        """Of every command."""
        return self.provider.env

    def where(self, state: str, settings: str, account: str = "") -> list[str]:
        """The options that name a state and a configuration, which is written."""
        config = self.folder / "config.toml"
        configure(config, self.env, settings, account)
        return ["--config", str(config), "--state", str(self.folder / state)]


def some_unseen(state: Path) -> bool:
    """Whether some batch of the state still waits for its first look.

    Takes a while itself in a large state, and then pauses, so as to disturb little.
    """
    since = time.monotonic()
    connection = apsw.Connection(str(state), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.set_busy_timeout(5_000)
        return bool(list(connection.execute("SELECT 1 FROM batches WHERE status IS NULL LIMIT 1")))
    finally:
        connection.close()
        time.sleep(9 * (time.monotonic() - since))


def sweep(place: Place, idle: float) -> tuple[Sweep, float | None]:
    """Let a daemon look at all of the state once; then, for `idle` seconds, its share of a core."""
    where = place.where("fleet.db", HOURLY, UNLIMITED)
    place.provider.forget()
    started = time.time() * 1_000
    with running(place.env, where, place.folder / "sweep.log") as pid:
        until(lambda: place.provider.asked().first_at is not None, "the first look")
        first_at = place.provider.asked().first_at or 0
        until(lambda: not some_unseen(place.folder / "fleet.db"), "a look at every batch", 240)
        asked = place.provider.asked()
        begun, took = (first_at - started) / 1_000, (asked.now - first_at) / 1_000
        found = Sweep(begun, took, asked.total, peak_mebibytes(pid))
        if not idle:
            return found, None
        time.sleep(ENDING)
        before, since = processor_seconds(pid), time.monotonic()
        time.sleep(idle)
        return found, (processor_seconds(pid) - before) / (time.monotonic() - since)


def spread_pages(state: Path, now: int) -> None:
    """Leave a state as a daemon does that has long watched it; `now` in milliseconds.

    The next looks are spread evenly, each page's batches together, and the pace is the one that
    takes: how many times longer all wait than they would if there were no limit.
    """
    connection = apsw.Connection(str(state))
    try:
        (count,) = next(iter(connection.execute("SELECT COUNT(*) FROM batches")))
        turn = max(LEAST_TURN, round(TURN * count))
        looked = list(connection.execute("SELECT DISTINCT looked_at FROM batches ORDER BY 1"))
        rows = [(now + turn * page // len(looked), at) for page, (at,) in enumerate(looked)]
        with connection:
            connection.execute("CREATE INDEX by_page ON batches (looked_at)")
            connection.executemany("UPDATE batches SET due_at = ? WHERE looked_at = ?", rows)
            connection.execute("DROP INDEX by_page")
    finally:
        connection.close()
    database = SqliteDatabase(str(state))
    beat = {"at": now, "slowed": {"openai": max(1.0, turn / wished(now))}}
    try:
        database.transact(lambda work: Ledger(work).process.put("daemon", beat))
    finally:
        database.close()


def wished(now: int) -> float:
    """How long the batches would wait on average if there were no limit; milliseconds."""
    ages = [DAY * (hour + 0.5) / 24 for hour in range(24)]
    batches = [
        Batch("openai", "batch", "openai", created_at=now - round(age), status=Status.IN_PROGRESS)
        for age in ages
    ]
    due = [cadence.next_look(one, now, cadence.Pace(), price=1 / 100) for one in batches]
    return statistics.fmean((at or now) - now for at in due)


def measure(size: int, plan: Plan) -> Found:
    """Register a fleet of this size and watch it being watched."""
    fleet = ("--fleet", str(size), "--ages", "24h", "--ends", str(ENDS_A_MINUTE))
    with (
        tempfile.TemporaryDirectory() as folder,
        simulator(environment(Path(folder) / "home"), 1.0, *fleet) as provider,
    ):
        place = Place(Path(folder), provider)
        where = place.where("fleet.db", "")
        ids, since = "\n".join(provider.ids()), time.monotonic()
        command(["add", "-", "--account", "openai", *where], place.env, ids)
        added = time.monotonic() - since
        first, idle_share = sweep(place, plan.idle)
        spread_pages(place.folder / "fleet.db", round(time.time() * 1_000))
        return steady(place, plan, size, added, first, idle_share)


def steady(
    place: Place, plan: Plan, size: int, added: float, first: Sweep, idle_share: float | None
) -> Found:
    """Watch a daemon with default settings on the state that has been swept."""
    where, provider = place.where("fleet.db", ""), place.provider
    provider.forget()
    started = time.time() * 1_000
    with running(place.env, where, place.folder / "fleet.log") as pid:
        time.sleep(plan.settle * max(SHORTEST, min(1.0, size / SIZES[-1])))
        before, busy = provider.asked(), processor_seconds(pid)
        time.sleep(plan.stretch)
        after, busy = provider.asked(), processor_seconds(pid) - busy
        status = subprocess.run(
            [WATCHER, "status", "--json", *where],
            env=place.env,
            capture_output=True,
            check=False,
            text=True,
        )
        ended, delays = seen(place, where, before, after)
        return Found(
            size,
            added,
            first,
            None if after.first_at is None else (after.first_at - started) / 1_000,
            peak_mebibytes(pid),
            busy / ((after.now - before.now) / 1_000),
            (after.now - before.now) / 1_000,
            {kind: count - before.kinds.get(kind, 0) for kind, count in after.kinds.items()},
            json.loads(status.stdout).get("lateness") or {},
            ended,
            delays,
            idle_share,
        )


def seen(
    place: Place, where: Sequence[str], before: Asked, after: Asked
) -> tuple[int, tuple[float, ...]]:
    """How many ended in a stretch, and how late those were seen that were seen within it."""
    ends = place.provider.ends()
    truly = {id: at for id, at in ends.items() if at and before.now <= at < after.now}
    found = detections(place.env, where, before.now)
    delays = [
        (found[id] - at) / 1_000
        for id, at in truly.items()
        if id in found and found[id] < after.now
    ]
    return len(truly), tuple(sorted(delays))


def median_of_all(delays: Sequence[float], ended: int) -> float | None:
    """The median delay if those not seen in time would all have been later than those seen."""
    return delays[ended // 2] if ended // 2 < len(delays) else None


def sheet(found: Sequence[Found]) -> Sheet:
    """All sizes side by side."""

    def row(what: str, unit: str, values: Sequence[float | None], most: float | None = None) -> Row:
        # The targets are for a hundred thousand.
        return Row(what, unit, values, most if found[-1].size == SIZES[-1] else None)

    def a_minute(kind: str) -> list[float | None]:
        return [60 * one.requests.get(kind, 0) / one.seconds for one in found]

    idle = [_percent(one.idle_share) for one in found]

    def seen_share(one: Found) -> float | None:
        return 100 * len(one.delays) / one.ended if one.ended else None

    return Sheet(
        "open batches with ages spread over 24 hours",
        [f"{one.size:,}" for one in found],
        [
            row("`watcher add -` of all", "s", [one.added for one in found]),
            row("first look at every batch", "s", [one.sweep.seconds for one in found]),
            row("  requests", "in all", [one.sweep.requests for one in found]),
            row("  peak memory", "MiB", [one.sweep.peak_mebibytes for one in found]),
            row("start to first look, all due", "s", [one.sweep.begun for one in found], 5),
            row("start to first look, some due", "s", [one.first_look for one in found], 5),
            row("peak memory", "MiB", [one.peak_mebibytes for one in found], 250),
            row("processor", "% of a core", [100 * one.share for one in found], 50),
            row("requests for a page", "a minute", a_minute("list")),
            row("requests for one batch", "a minute", a_minute("retrieve")),
            row("looks the daemon counted", "in all", [one.lateness.get("looks") for one in found]),
            row("lateness of looks, p50", "s", [one.lateness.get("p50") for one in found]),
            row("lateness of looks, p99", "s", [one.lateness.get("p99") for one in found], 2),
            row("batches that ended", "in the stretch", [one.ended for one in found]),
            row("  seen in the stretch", "%", [seen_share(one) for one in found]),
            row("  delay, median", "s", [median_of_all(one.delays, one.ended) for one in found]),
            row("  delay, mean of the seen", "s", [_mean(one.delays) for one in found]),
            row("nothing due: processor", "% of a core", idle, 1),
        ],
        [
            f"Measured over {found[-1].seconds:.0f} s. {DEFAULTS}",
            "The median counts an end not seen in the stretch as later than all that were.",
        ],
    )


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _mean(delays: Sequence[float]) -> float | None:
    return statistics.fmean(delays) if delays else None


def pictures(found: Sequence[Found], folder: Path) -> None:
    """One picture a question: memory, processor time, requests, delay."""
    across = Axis("open batches", logarithmic=True)

    def series(name: str, values: Sequence[float | None]) -> Series:
        known = [(one.size, y) for one, y in zip(found, values, strict=True) if y is not None]
        return Series(name, known, [short(y) for _, y in known])

    peak = series("daemon", [one.peak_mebibytes for one in found])
    target = [Target("at most 250 MiB", 250)]
    svg = lines("Peak memory of the daemon", [peak], across, Axis("MiB"), target)
    save(folder, "fleet-memory", svg)
    shares = [
        series("watching", [100 * one.share for one in found]),
        series("nothing due", [_percent(one.idle_share) for one in found]),
    ]
    target = [Target("at most half a core", 50)]
    svg = lines("Processor time of the daemon", shares, across, Axis("% of a core"), target)
    save(folder, "fleet-processor", svg)
    asked = [
        series("requests made", [60 * sum(one.requests.values()) / one.seconds for one in found]),
    ]
    svg = lines("Requests", asked, across, Axis("a minute"), [Target("allowed", 300)])
    save(folder, "fleet-requests", svg)
    late = [
        series("delay, median", [median_of_all(one.delays, one.ended) for one in found]),
        series("lateness of looks, p99", [one.lateness.get("p99") for one in found]),
    ]
    known = [one for one in late if one.points]
    if known:
        svg = lines("How late an end is seen, and a look is made", known, across, Axis("s"))
        save(folder, "fleet-delay", svg)


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument(
        "--settle", type=float, default=40.0, help="seconds before measuring a large fleet"
    )
    parser.add_argument("--stretch", type=float, default=30.0, help="seconds of measuring")
    parser.add_argument("--idle", type=float, default=6.0, help="seconds of doing nothing, or 0")
    parser.add_argument("--json", action="store_true", help="one document instead of a table")
    parser.add_argument("--out", type=Path, help="a folder for the document and the pictures")
    options = parser.parse_args()
    plan = Plan(options.settle, options.stretch, options.idle)
    found = [measure(size, plan) for size in options.sizes]
    whole = sheet(found)
    whole.show(as_json=options.json, growing=True)
    if options.out is not None:
        whole.save(options.out, "fleet")
        pictures(found, options.out)


if __name__ == "__main__":
    main()
