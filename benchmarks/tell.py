"""A burst of events: how soon all are told, through a fast channel and a slow one, at what cost.

The real daemon watches a few batches whose looks are due every 5 s, and is then handed thousands
that have all ended already, by one command: it finds every end at once. Two channels read by
programs are told, one whose receiver answers at once and one that takes seconds. Counted are the
event ids at the receivers, and how late the looks at the few are: before, while it finds the ends
with nobody to tell, while it finds and tells them, and while only the slow channel is behind.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import picture
from idle import processor_seconds
from recording import read_message
from rehearsal import Environment, Figure, command, daemon, environment, show, until
from scene import served

from watcher.simulator import KEY, Answer, Fate, Simulation, Wire

# From one look at a batch of the few to the next, in seconds.
INTERVAL = 5.0
# They are registered in so many parts, so that their looks are spread over the interval.
PARTS = 10
# How long the slow channel may take to be told everything, in seconds.
PATIENCE = 150.0
TARGET = 60.0
CONFIG = """
[polling]
min_interval = "5s"
max_interval = "5s"

[accounts.many]
provider = "openai"
api_key_env = "API_KEY"
base_url = "{many}"
max_concurrency = 32
requests_per_minute = 1000000

[accounts.few]
provider = "cerebras"
api_key_env = "API_KEY"
base_url = "{few}"
max_concurrency = 32
requests_per_minute = 1000000

[channels.fast]
url = "json://127.0.0.1:{fast}"

[channels.slow]
url = "json://127.0.0.1:{slow}"

[[routes]]
events = [{events}]
channels = ["fast", "slow"]
"""


class Seen(Simulation):
    """A simulation that notes when each batch is shown: by itself, or in a page of a list."""

    def __init__(self) -> None:
        super().__init__(lambda: time.time_ns() // 1_000_000)
        # Of the few: when a look was made, and how much later than it was due; in seconds.
        self.looks: list[tuple[float, float]] = []
        # Of the many: when each was first shown.
        self.found: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def respond(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Answer:
        answer = super().respond(method, target, headers, body)
        if method == "GET" and answer.status == 200:
            document, at = json.loads(answer.body), time.monotonic()
            shown = [one["id"] for one in document.get("data", [document])]
            if target.startswith(self.base_url(Wire.CEREBRAS, "")):
                for id in shown:
                    if id in self._last:
                        self.looks.append((at, max(0.0, at - self._last[id] - INTERVAL)))
                    self._last[id] = at
            else:
                for id in shown:
                    self.found.setdefault(id, at)
        return answer


@dataclass
class Receiver:
    """A program that is told, and takes its time to say that it was."""

    pause: float = 0.0
    port: int = 0
    messages: int = 0
    # How often each event was named.
    named: Counter[str] = field(default_factory=Counter)
    # Events that a message counts without naming them.
    unnamed: int = 0
    # When how many different events had been named; the time by the monotonic clock.
    course: list[tuple[float, int]] = field(default_factory=list)

    def take(self, document: Mapping[str, str]) -> None:
        """Count what a message names."""
        named, unnamed = read_message(document["title"], document["message"])
        self.messages += 1
        self.unnamed += unnamed
        self.named.update(one.event for one in named)
        self.course.append((time.monotonic(), len(self.named)))


@contextmanager
def receiving(pause: float = 0.0) -> Iterator[Receiver]:
    """A receiver that answers after so many seconds, as long as the block lasts."""
    receiver = Receiver(pause)

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(receiver.pause)
            receiver.take(json.loads(text))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Say nothing: the figures are the output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Taking) as server:
        server.daemon_threads = True
        receiver.port = server.server_port
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield receiver
        server.shutdown()


@dataclass(frozen=True, slots=True)
class Lateness:
    """How late looks were, in milliseconds."""

    looks: int
    median: float
    p99: float

    @classmethod
    def of(cls, simulation: Seen, since: float, until: float) -> Lateness:
        """Of the looks at the few between two moments."""
        late = sorted(late * 1_000 for at, late in simulation.looks if since <= at < until)
        if not late:
            return cls(0, 0.0, 0.0)
        return cls(
            len(late), statistics.median(late), late[min(len(late) - 1, len(late) * 99 // 100)]
        )


@dataclass(frozen=True, slots=True)
class Burst:
    """What came of one burst; seconds from its beginning unless said otherwise."""

    found: float
    told: dict[str, float]
    messages: dict[str, int]
    named: dict[str, int]
    twice: dict[str, int]
    unnamed: dict[str, int]
    # Mebibytes.
    memory_before: float
    memory: float
    # Processor time of the daemon until all are found, and the fast channel told.
    processor: float
    before: Lateness
    during: Lateness
    # While only the slow channel is behind; None with nobody to tell.
    after: Lateness | None
    # Seconds and how many events had been named by then.
    course: dict[str, list[tuple[float, int]]]


def burst(folder: Path, events: int, few: int, quiet: float, pause: float, *, told: bool) -> Burst:
    """Let a daemon find so many ends at once; `told`: the channels hear of them."""
    folder.mkdir()
    simulation, env = Seen(), environment(folder / "home", API_KEY=KEY)
    state, config = folder / "watcher.db", folder / "config.toml"
    where = ["--config", str(config), "--state", str(state)]
    with served(simulation) as address, receiving() as fast, receiving(pause) as slow:
        channels = {"fast": fast, "slow": slow} if told else {}
        settings = CONFIG.format(
            many=simulation.base_url(Wire.OPENAI, address),
            few=simulation.base_url(Wire.CEREBRAS, address),
            fast=fast.port,
            slow=slow.port,
            events='"batch.completed"' if told else '"batch.reopened"',
        )
        config.write_text(settings)
        config.chmod(0o600)
        with daemon(env, config, state) as process:
            since = watch_few(simulation, few, env, where)
            time.sleep(quiet)
            ids = [
                simulation.openai.add(Fate.completed(9, after=1.0), created_at=1)
                for _ in range(events)
            ]
            memory_before, worked = memory(process.pid), processor_seconds(process.pid)
            begun = time.monotonic()
            command(["add", "-", "--account", "many", *where], env, "\n".join(ids))
            until(lambda: len(simulation.found) >= events, "a look at every batch")
            if told:
                until(lambda: len(fast.named) + fast.unnamed >= events, "all at the fast channel")
            else:
                # As long as telling takes at the least: the window.
                time.sleep(INTERVAL)
            over = time.monotonic()
            worked = processor_seconds(process.pid) - worked
            if told:
                done = lambda: len(slow.named) + slow.unnamed >= events  # noqa: E731
                until(done, "all at the slow channel", PATIENCE)
            return Burst(
                found=max(simulation.found.values()) - begun,
                told={name: one.course[-1][0] - begun for name, one in channels.items()},
                messages={name: one.messages for name, one in channels.items()},
                named={name: len(one.named) for name, one in channels.items()},
                twice={name: one.named.total() - len(one.named) for name, one in channels.items()},
                unnamed={name: one.unnamed for name, one in channels.items()},
                memory_before=memory_before,
                memory=memory(process.pid),
                processor=worked,
                before=Lateness.of(simulation, since, begun),
                during=Lateness.of(simulation, begun, over),
                after=Lateness.of(simulation, over, time.monotonic()) if told else None,
                course={
                    name: [(at - begun, count) for at, count in one.course]
                    for name, one in channels.items()
                },
            )


def watch_few(simulation: Seen, few: int, env: Environment, where: Sequence[str]) -> float:
    """Register the few and wait until each has been looked at twice; when that was."""
    ids = [simulation.cerebras.add(Fate.stuck()) for _ in range(few)]
    begun = time.monotonic()
    for part in range(min(PARTS, few)):
        some = "\n".join(ids[part::PARTS])
        time.sleep(max(0.0, begun + part * INTERVAL / PARTS - time.monotonic()))
        command(["add", "-", "--account", "few", *where], env, some)
    until(lambda: len(simulation.looks) >= few, "the second look at each of the few")
    return time.monotonic()


def memory(pid: int) -> float:
    """The most that the process has held so far, in mebibytes (/proc/…/status)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1_024


def figures_of(events: int, untold: Burst, told: Burst) -> list[Figure]:
    """The table: each target stands beside what was reached."""
    found = [
        Figure("all ends found, nobody told", untold.found, "s"),
        Figure("all ends found, both channels told", told.found, "s"),
    ]
    for name in told.told:
        aim = f"s (target {TARGET:g})" if name == "fast" else "s"
        found += [
            Figure(f"all told: {name} channel", told.told[name], aim),
            Figure("  messages", told.messages[name], ""),
            Figure("  events named by id", told.named[name], f"(target {events:,})"),
            Figure("  named more than once", told.twice[name], "(target 0)"),
            Figure("  told without an id", told.unnamed[name], "(target 0)"),
        ]
    alone = untold.during.p99
    found += [
        Figure("lateness of looks, before: median", told.before.median, "ms"),
        Figure("lateness of looks, before: p99", told.before.p99, "ms"),
        Figure("  while ends are found, nobody told: p99", alone, "ms"),
        Figure("  while they are found and told: p99", told.during.p99, "ms"),
        Figure("  by telling: times", told.during.p99 / max(alone, 1.0), "(target 2)"),
        Figure("  by the burst: times", told.during.p99 / max(told.before.p99, 1.0), "(target 2)"),
    ]
    if told.after is not None:
        found.append(Figure("  while the slow one is behind: p99", told.after.p99, "ms"))
    return [
        *found,
        Figure("processor time, nobody told", untold.processor, "s"),
        Figure("processor time, until the fast channel has all", told.processor, "s"),
        Figure("peak memory before", told.memory_before, "MiB"),
        Figure("peak memory, nobody told", untold.memory, "MiB"),
        Figure("peak memory, both channels told", told.memory, "MiB"),
    ]


def pictures(events: int, told: Burst, untold: Burst) -> dict[str, str]:
    """How the burst went, and what it did to the looks."""
    series = [
        picture.Series(f"{name} channel", [(0.0, 0.0), *course])
        for name, course in told.course.items()
    ]
    course = picture.lines(
        f"{events:,} events at once: named by id at the receiver",
        series,
        picture.Axis("seconds since the burst began"),
        picture.Axis("events"),
    )
    stages = {"before": told.before, "found": untold.during, "found and told": told.during}
    if told.after is not None:
        stages["slow one behind"] = told.after
    late = picture.bars(
        "Lateness of other looks",
        list(stages),
        [
            ("median", [one.median for one in stages.values()]),
            ("p99", [one.p99 for one in stages.values()]),
        ],
        picture.Axis("ms"),
    )
    return {"tell": course, "tell-lateness": late}


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--few", type=int, default=200, help="batches looked at every 5 s")
    parser.add_argument("--quiet", type=float, default=20.0, help="seconds before the burst")
    parser.add_argument("--pause", type=float, default=2.0, help="seconds the slow receiver takes")
    parser.add_argument("--json", action="store_true", help="one document instead of a table")
    parser.add_argument("--out", type=Path, help="a folder for tell.json and its pictures")
    asked = parser.parse_args()
    sizes = (asked.events, asked.few, asked.quiet, asked.pause)
    with tempfile.TemporaryDirectory() as folder:
        untold = burst(Path(folder) / "untold", *sizes, told=False)
        told = burst(Path(folder) / "told", *sizes, told=True)
    found = figures_of(asked.events, untold, told)
    show(f"{asked.events:,} events at once", found, [], as_json=asked.json)
    if asked.out is not None:
        for name, svg in pictures(asked.events, told, untold).items():
            picture.save(asked.out, name, svg)
        document = {"figures": [asdict(one) for one in found], "untold": asdict(untold)}
        text = json.dumps({**document, "told": asdict(told)}, indent=2)
        (asked.out / "tell.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
