"""The daemon beside what a user would write: a loop around the official SDK's `batches.retrieve`.

The loop asks for every open batch at once, every 60 s, with the SDK's own defaults; the daemon has
its default settings. Both watch the same batches of the same simulated OpenAI at the same time, in
real time. All sizes run side by side, each with a simulator of its own. Of a single batch, which
ends only once, ten pairs of watchers have one each.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from peer import NoIndex, Peer, interpreter, looping, version
from picture import Axis, bars, save
from rehearsal import Simulator, command, environment, simulator, until
from sheet import Row, Sheet
from watching import configure, detections, peak_mebibytes, processor_seconds, running

SIZES = (1, 100, 1_000)
# Seconds between two rounds of the loop.
INTERVAL = 60.0
# What they call themselves to a server: ours, and the peer.
PEER = "AsyncOpenAI"
AGENTS = ("batch-watcher", PEER)
PAIRS_OF_ONE = 10
# From the start of both to the beginning of the stretch, in seconds.
WARMING = 5.0
NOTES = (
    "Everything is per pair of watchers and over the same stretch of real time.",
    "Ends are those of its first two thirds; one not seen by its end counts as seen then.",
    "The loop does nothing else: it keeps nothing, tells nobody and forgets all when it ends.",
)


@dataclass(frozen=True, slots=True)
class Effort:
    """What one kind of watcher did and needed in a stretch; delays in milliseconds."""

    requests: float
    delays: Sequence[int]
    processor: float
    peak_mebibytes: float


@dataclass(frozen=True, slots=True)
class Found:
    """Both kinds beside each other, over a stretch of so many seconds."""

    size: int
    seconds: float
    ours: Effort
    peer: Effort


@dataclass(frozen=True, slots=True)
class Pair:
    """A daemon and a loop that watch the same batches."""

    where: Sequence[str]
    pid: int
    peer: Peer

    @property
    def pids(self) -> tuple[int, int]:
        """Of ours and of the peer."""
        return self.pid, self.peer.process.pid


def measure(size: int, python: str, stretch: float) -> Found:
    """Let both watch the same batches for a while."""
    pairs = PAIRS_OF_ONE if size == 1 else 1
    # A single batch is an hour old at most; of a fleet of every age some end in each minute.
    ends = 5 if size == 1 else max(12, min(60, size // 8))
    fleet = ("--fleet", str(size * pairs), "--ages", "1h" if size == 1 else "24h")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home = environment(Path(folder) / "home")
        provider = stack.enter_context(simulator(home, 1.0, *fleet, "--ends", str(ends)))
        ids = provider.ids()
        begun = [
            _pair(stack, provider, Path(folder) / str(number), python, ids[number::pairs])
            for number in range(pairs)
        ]
        until(lambda: provider.asked(PEER).total > 0, "the first round of the loop")
        time.sleep(WARMING)
        return _watched(size, provider, begun, stretch)


def _pair(
    stack: ExitStack, provider: Simulator, folder: Path, python: str, ids: Sequence[str]
) -> Pair:
    folder.mkdir()
    where = ["--config", str(folder / "config.toml"), "--state", str(folder / "watcher.db")]
    configure(folder / "config.toml", provider.env)
    command(["add", "-", "--account", "openai", *where], provider.env, "\n".join(ids))
    pid = stack.enter_context(running(provider.env, where, folder / "watcher.log"))
    peer = stack.enter_context(looping(python, provider.env, INTERVAL, ids))
    return Pair(where, pid, peer)


def _watched(size: int, provider: Simulator, pairs: Sequence[Pair], stretch: float) -> Found:
    before = [provider.asked(agent) for agent in AGENTS]
    busy = [[processor_seconds(pid) for pid in pair.pids] for pair in pairs]
    time.sleep(stretch)
    after = [provider.asked(agent) for agent in AGENTS]
    took = [
        [processor_seconds(pid) - was for pid, was in zip(pair.pids, those, strict=True)]
        for pair, those in zip(pairs, busy, strict=True)
    ]
    began, over = before[0].now, after[0].now
    judged = began + (over - began) * 2 / 3
    ended = {id: at for id, at in provider.ends().items() if at and began <= at < judged}
    seen: tuple[dict[str, int], dict[str, int]] = {}, {}
    for pair in pairs:
        seen[0].update(detections(provider.env, pair.where, began))
        seen[1].update({id: round(at * 1_000) for id, at in pair.peer.seen.items()})
    ours, theirs = (
        Effort(
            (after[kind].total - before[kind].total) / len(pairs),
            sorted(min(seen[kind].get(id, over), over) - at for id, at in ended.items()),
            statistics.fmean(those[kind] for those in took),
            statistics.fmean(peak_mebibytes(pair.pids[kind]) for pair in pairs),
        )
        for kind in range(2)
    )
    return Found(size, (over - began) / 1_000, ours, theirs)


def sheet(found: Sequence[Found], sdk: str) -> Sheet:
    """Ours and the peer beside each other, for each size."""

    def row(what: str, unit: str, read: Callable[[Effort], float | None]) -> Row:
        return Row(what, unit, [read(one) for both in found for one in (both.ours, both.peer)])

    def delay(share: float) -> Callable[[Effort], float | None]:
        return lambda one: _quantile(one.delays, share)

    def mean(one: Effort) -> float | None:
        return statistics.fmean(one.delays) / 1_000 if one.delays else None

    return Sheet(
        f"watcher, and a loop around openai {sdk} every 60 s, over {found[0].seconds:.0f} s",
        [f"{who}, {one.size:,}" for one in found for who in ("watcher", "loop")],
        [
            row("requests", "in all", lambda one: one.requests),
            row("batches that ended", "in all", lambda one: len(one.delays)),
            row("delay, mean", "s", mean),
            row("delay, median", "s", delay(0.5)),
            row("delay, p95", "s", delay(0.95)),
            row("processor", "s", lambda one: one.processor),
            row("processor", "% of a core", lambda one: 100 * one.processor / found[0].seconds),
            row("peak memory", "MiB", lambda one: one.peak_mebibytes),
        ],
        NOTES,
    )


def _quantile(delays: Sequence[int], share: float) -> float | None:
    return delays[min(len(delays) - 1, int(len(delays) * share))] / 1_000 if delays else None


def pictures(whole: Sheet, sizes: Sequence[int], folder: Path) -> None:
    """Requests, delay, processor time and memory, ours beside the loop's."""
    groups = [f"{size:,} open" for size in sizes]
    rows = {f"{row.what}, {row.unit}": row for row in whole.rows}
    for name, which, title, logarithmic in (
        ("requests", "requests, in all", "Requests", True),
        ("delay", "delay, mean, s", "Mean time until an end is seen", False),
        ("processor", "processor, s", "Processor time", True),
        ("memory", "peak memory, MiB", "Peak memory", False),
    ):
        row = rows[which]
        series = [
            # What is not there has no place on a logarithmic axis.
            (who, [value or None for value in row.values[number::2]])
            for number, who in enumerate(("watcher", "loop around the SDK"))
        ]
        axis = Axis(row.unit, logarithmic=logarithmic)
        save(folder, f"peers-{name}", bars(title, groups, series, axis))


def main() -> int:
    """Read the options, measure, print; 1 if there is no peer to be had."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--stretch", type=float, default=185.0, help="seconds of measuring")
    parser.add_argument("--environment", type=Path, help="keep the peer's environment here")
    parser.add_argument("--json", action="store_true", help="one document instead of a table")
    parser.add_argument("--out", type=Path, help="a folder for the document and the pictures")
    options = parser.parse_args()
    try:
        with (
            interpreter(options.environment) as python,
            ThreadPoolExecutor(len(options.sizes)) as pool,
        ):
            sdk = version(python)
            running_ = [
                pool.submit(measure, size, python, options.stretch) for size in options.sizes
            ]
            found = [one.result() for one in running_]
    except NoIndex as error:
        print(error, file=sys.stderr)
        return 1
    whole = sheet(found, sdk)
    whole.show(as_json=options.json)
    if options.out is not None:
        whole.save(options.out, "peers")
        pictures(whole, options.sizes, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
