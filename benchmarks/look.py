"""What one look costs in processor time: ours from claim to disk, beside bare requests.

All in one run, round by round in turn, with so many in flight, against a server in its own
process on the other core: the account's poller over a SQLite file with FULL synchronisation, by
single looks and by pages; `httpx.AsyncClient.get` and `json.loads` over httpx's default
transport, and over aiohttp's connections; asyncio's streams and a parser. Then where ours goes,
and whether connections are free again after requests were cancelled.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import anyio
import httpx
from answering import answering, batch, identity
from contenders import KEY, PARSER, Bare, Contender, Raw, Watching, at_a_time
from httpx_aiohttp import AiohttpTransport
from picture import Axis, Target, bars, save
from rehearsal import Figure, show

from watcher import cadence, lifecycle, log
from watcher.errors import ProviderError
from watcher.providers import PROVIDERS, ProviderOptions
from watcher.providers.wire import Wire
from watcher.redaction import Redactor

TITLE = "processor time of one look, all threads"
# A whole durable look in terms of the bare request over httpx's default transport, at most.
TARGET = 0.5
OURS = "ours, a whole durable look"
PAGED = "ours, one batch of a page of 100"
BARE = "httpx get + json.loads, default transport"
PLAIN = "httpx get + json.loads, over aiohttp"
RAW = "asyncio streams + a parser + json.loads"
PARTS = (
    "parts: claim, record and commit as they ran, by the clock of the store's thread; the wire, "
    "reading and deciding each by itself on the same answers; the rest is what is left of the whole"
)
# So many requests at a time are cancelled, after 0 to 6 ms, so often, on so many connections.
CANCELLED = 25
BURSTS = 12
CONNECTIONS = 10


@dataclass(frozen=True)
class Measured:
    """What one run has found."""

    # Microseconds of processor time: of one request or look, and of the parts of one of ours.
    each: Mapping[str, float]
    parts: Mapping[str, float]
    # Of ten plain requests after the cancelled ones, how many were answered.
    free: Mapping[str, int]

    @property
    def ratio(self) -> float:
        """Ours in terms of the bare one."""
        return self.each[OURS] / self.each[BARE]

    def figures(self) -> list[Figure]:
        """For the table."""
        bare = self.each[BARE]
        found = [Figure(name, spent, "µs") for name, spent in self.each.items()]
        found += [Figure(f"{name}: ratio", of / bare, "") for name, of in self.each.items()]
        found += [Figure(f"ours: {name}", spent, "µs") for name, spent in self.parts.items()]
        return found + [
            Figure(f"free after cancelled requests: {name}", free, f"of {CONNECTIONS}")
            for name, free in self.free.items()
        ]

    def notes(self) -> list[str]:
        """What the figures mean."""
        verdict = "reached" if self.ratio <= TARGET else "missed"
        return [
            f"ratio: to {BARE}; target for ours {TARGET}, found {self.ratio:.3f}: {verdict}",
            PARTS,
            f"the parser of the raw limit: {PARSER}",
        ]


async def measure(single: str, listing: str, folder: Path, asked: argparse.Namespace) -> Measured:
    """Every contender in turn, round by round; of the rounds the median counts."""
    most = asked.in_flight
    over = AiohttpTransport(verify=httpx.create_ssl_context())
    async with AsyncExitStack() as open_ones:
        watching = Watching(single, folder / "single.db", asked.batches, most)
        contenders: dict[str, Contender] = {
            OURS: watching,
            PAGED: Watching(listing, folder / "paged.db", asked.batches, most),
            BARE: Bare(single, most, httpx.AsyncClient()),
            PLAIN: Bare(single, most, httpx.AsyncClient(transport=over)),
            RAW: Raw(single, most),
        }
        for one in contenders.values():
            open_ones.push_async_callback(one.close)
            # Connections are opened, and the first looks, which tell of each batch, are over.
            await one.run(most)
            while isinstance(one, Watching) and one.meter.total("events") < asked.batches:
                await one.run(most)
        watching.database.forget()
        took: dict[str, list[float]] = {name: [] for name in contenders}
        looks, thread = 0, 0.0
        for _ in range(asked.rounds):
            for name, one in contenders.items():
                before = watching.database.seconds()
                spent, done = await processor_time(one.run, asked.requests)
                took[name].append(spent)
                if one is watching:
                    looks += done
                    thread += watching.database.seconds() - before
        each = {name: statistics.median(times) for name, times in took.items()}
        parts = await parts_of(watching, looks, thread, asked)
        parts["the rest: tasks, locks, hops between threads"] = each[OURS] - sum(parts.values())
    return Measured(each, parts, await connections_left(single))


async def processor_time(run: Callable[[int], Awaitable[int]], count: int) -> tuple[float, int]:
    """Microseconds of all threads for each of `count` requests, and how many it were."""
    begun = time.process_time_ns()
    done = await run(count)
    return (time.process_time_ns() - begun) / 1_000 / done, done


async def parts_of(
    watching: Watching, looks: int, thread: float, asked: argparse.Namespace
) -> dict[str, float]:
    """What of a look is spent where."""
    spent = {kind: took / 1_000 / looks for kind, took in watching.database.spent.items()}
    provider, now, pace = watching.provider, watching.clock.now(), cadence.Pace()
    signed = provider.authorize(provider.retrieve(identity(0)), KEY, now)
    body = batch(0, now // 1_000)
    seen = provider.read(body)
    found = watching.write(lambda ledger: ledger.batches.get("openai", identity(0)))
    if found is None:
        raise LookupError(identity(0))

    async def send(count: int) -> int:
        await at_a_time(asked.in_flight, count, lambda _: watching.wire.send(signed))
        return count

    def decide() -> None:
        step = lifecycle.advance(lifecycle.batch_by_clock(found, now, 0), seen, now)
        cadence.next_look(step.batch, now, pace)

    wire, _ = await processor_time(send, asked.requests)
    return {
        "claim, statements and rows": spent["read"],
        "request, built and signed": alone(
            lambda: provider.authorize(provider.retrieve(identity(7)), KEY, now)
        ),
        "wire, sent to parsed JSON": wire,
        "reading, in our words": alone(lambda: provider.read(body)),
        "deciding, lifecycle and cadence": alone(decide),
        "recording, encoding and statements": spent["write"],
        "commit, and what the store's thread waits for": thread * 1e6 / looks
        - spent["read"]
        - spent["write"],
    }


def alone(work: Callable[[], object], times: int = 2_000) -> float:
    """Microseconds of processor time for one call."""
    begun = time.thread_time_ns()
    for _ in range(times):
        work()
    return (time.thread_time_ns() - begun) / 1_000 / times


async def connections_left(base_url: str) -> dict[str, int]:
    """How many plain requests succeed after others were cancelled: ours, and httpx's own pool."""
    limits = httpx.Limits(max_connections=CONNECTIONS)
    default = httpx.AsyncClient(limits=limits, timeout=httpx.Timeout(5.0, pool=0.3))
    wire = Wire(timeout=5.0, max_connections=CONNECTIONS, redactor=Redactor())
    provider = PROVIDERS["openai"].build(ProviderOptions(base_url=f"{base_url}/late/v1"))
    request = provider.retrieve(identity(0))
    try:
        return {
            "ours": await left_after(lambda: wire.send(request)),
            "httpx, default transport": await left_after(lambda: default.get(request.url)),
        }
    finally:
        await wire.close()
        with anyio.move_on_after(0.3):
            await default.aclose()


async def left_after(ask: Callable[[], Awaitable[object]]) -> int:
    """How many of ten requests succeed after bursts of others were cancelled."""
    answered = 0

    async def cancelled(seconds: float) -> None:
        with anyio.move_on_after(seconds), suppress(httpx.HTTPError, ProviderError):
            await ask()

    async def plain() -> None:
        nonlocal answered
        with suppress(httpx.HTTPError, ProviderError):
            await ask()
            answered += 1

    for _ in range(BURSTS):
        async with anyio.create_task_group() as group:
            for number in range(CANCELLED):
                group.start_soon(cancelled, number % 7 / 1_000)
    async with anyio.create_task_group() as group:
        for _ in range(CONNECTIONS):
            group.start_soon(plain)
    return answered


def write_down(found: Measured, folder: Path) -> None:
    """The figures as look.json, those of a look or request as look.svg."""
    names = {
        OURS: "ours, whole look",
        PAGED: "ours, by pages",
        BARE: "httpx, default",
        PLAIN: "httpx, aiohttp",
        RAW: "raw limit",
    }
    target = Target(f"{TARGET:g} of httpx's default", TARGET * found.each[BARE])
    axis = Axis("µs of processor time")
    drawn = bars(TITLE, [""], [(names[one], [found.each[one]]) for one in names], axis, [target])
    save(folder, "look", drawn)
    document = {**asdict(found), "ratio": found.ratio, "target": TARGET, "notes": found.notes()}
    (folder / "look.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def run(asked: argparse.Namespace) -> Measured:
    """Start the servers, measure, stop them."""
    cores = sorted(os.sched_getaffinity(0))
    other = cores[1] if len(cores) > 1 else None
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        answering(other) as single,
        answering(other, asked.batches) as listing,
        tempfile.TemporaryDirectory() as folder,
    ):
        # As the daemon logs unless told otherwise.
        log.configure(debug=False, json=True, redactor=Redactor(), stream=nowhere)
        os.sched_setaffinity(0, cores[:1])
        try:
            return asyncio.run(measure(single, listing, Path(folder), asked))
        finally:
            os.sched_setaffinity(0, cores)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in-flight", type=int, default=50)
    parser.add_argument("--batches", type=int, default=2_000)
    parser.add_argument("--requests", type=int, default=2_000, help="of each contender each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one document instead of a table")
    parser.add_argument("--out", type=Path, help="a folder for look.json and look.svg")
    asked = parser.parse_args(arguments)
    found = run(asked)
    show(TITLE, found.figures(), found.notes(), as_json=asked.json)
    if asked.out is not None:
        write_down(found, asked.out)


if __name__ == "__main__":
    main()
