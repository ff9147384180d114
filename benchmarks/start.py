"""How long a user waits for the command line, and how much memory that takes.

`--help`, `ls`, `add` of ids from standard input and `ls --json`, against an empty Python. Every
round runs each command once, in turn, so that what disturbs the machine disturbs all of them alike;
the figures are medians of the same run. `ls --json` is measured twice: with batches just
registered, and with batches as looks leave them, with counts, times and metadata.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from picture import Axis, Target, bars, save
from rehearsal import PATIENCE, WATCHER, Environment, Figure, command, environment, show

from watcher.model import Batch, Counts, Status
from watcher.store.ledger import Ledger
from watcher.store.sqlite import SqliteDatabase

# Libraries that cost tens of milliseconds each and that few commands need.
HEAVY = (
    "aiohttp anyio apprise apsw asyncio click httpx httpx_aiohttp platformdirs pydantic"
    " pydantic_settings requests rich ssl structlog urllib3 yaml"
).split()
EMPTY = "python -c pass"
HELP = "watcher --help"
# Between this process and a command: a process counts as its own memory what the one that began it
# had, and this one holds more than an empty Python.
LAUNCHER = """
import os, sys, time
begun = time.perf_counter()
process = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, used = os.wait4(process, 0)
os.write(int(sys.argv[1]), b"%f %d" % (time.perf_counter() - begun, used.ru_maxrss))
sys.exit(status != 0)
"""
# What may be waited, in seconds, for so many as the targets are given for.
ADD_TARGET, JSON_TARGET, TARGET_IDS = 5.0, 3.0, 100_000
DAY = 86_400_000


@dataclass(frozen=True, slots=True)
class Run:
    """What one command took: milliseconds, and at most so many MiB of memory."""

    milliseconds: float
    memory: float


@dataclass(frozen=True, slots=True)
class Command:
    """A command to be measured, and what it is to be fed."""

    arguments: Sequence[str]
    given: Path = Path(os.devnull)
    terminal: bool = False
    # What has to be done before each of its runs.
    prepare: Callable[[], object] = lambda: None
    # The most seconds it may take.
    target: float | None = None


def ran(one: Command, env: Environment) -> Run:
    """Run a command to its end, all it prints read as it comes. RuntimeError if it fails."""
    one.prepare()
    said, its = terminal() if one.terminal else os.pipe()
    report, told = os.pipe()
    with one.given.open("rb") as given, os.fdopen(report) as lines:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", LAUNCHER, str(told), *one.arguments],
            env=env,
            stdin=its if one.terminal else given,
            stdout=its,
            stderr=its if one.terminal else subprocess.DEVNULL,
            pass_fds=[told],
        )
        os.close(its)
        os.close(told)
        _drain(said)
        if process.wait(PATIENCE):
            raise RuntimeError(f"{' '.join(one.arguments)} failed")
        seconds, memory = lines.read().split()
    # Linux counts memory in KiB, macOS in bytes.
    return Run(
        float(seconds) * 1_000, int(memory) / (1 << (20 if sys.platform == "darwin" else 10))
    )


def terminal() -> tuple[int, int]:
    """Both ends of a terminal of 120 by 40: the one that reads along, and the command's."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    return ours, its


def _drain(said: int) -> None:
    try:
        # Linux answers a read with EIO once the last process has let go of a terminal.
        while os.read(said, 65_536):
            pass
    except OSError:
        pass
    finally:
        os.close(said)


def imported(arguments: Sequence[str], env: Environment) -> tuple[int, list[str]]:
    """How many modules a command imports, and which of the heavy libraries are among them."""
    python = [sys.executable, "-X", "importtime", *arguments]
    said = subprocess.run(
        python, env=env, capture_output=True, text=True, timeout=PATIENCE, check=True
    ).stderr
    # import time:       130 |        130 |   encodings.aliases
    lines = [line for line in said.splitlines() if line.startswith("import time:")]
    names = {line.rpartition("|")[2].strip() for line in lines}
    return len(names), [name for name in HEAVY if name in names]


def batch_ids(count: int) -> str:
    """Ids as OpenAI's, a line each: in no order, as ids are."""
    dice = random.Random(count)  # noqa: S311 - nobody has to be unable to guess them
    return "".join(f"batch_{dice.getrandbits(128):032x}\n" for _ in range(count))


def live_in(state: Path) -> None:
    """Leave every batch of a state as looks leave them."""
    dice = random.Random(4)  # noqa: S311 - as above
    database = SqliteDatabase(str(state))

    def seen(batch: Batch, number: int) -> Batch:
        now = batch.registration.registered_at
        created_at = (now - dice.randrange(DAY)) // 1_000 * 1_000
        return replace(
            batch,
            status=Status.IN_PROGRESS,
            raw_status="in_progress",
            revision=2,
            counts=Counts(1_000, dice.randrange(1_000), dice.randrange(5)),
            metadata={"team": "nlp", "run": f"run-{number}"},
            created_at=created_at,
            in_progress_at=created_at + 60_000,
            expires_at=created_at + DAY,
            last_look_at=now + dice.randrange(60_000),
            next_look_at=now + dice.randrange(300_000),
            looks=dice.randrange(60),
        )

    def work(ledger: Ledger) -> None:
        for number, batch in enumerate(ledger.batches.watched(open_only=True)):
            ledger.batches.advance_if_unchanged(batch, seen(batch, number))

    try:
        database.transact(lambda transaction: work(Ledger(transaction)))
    finally:
        database.close()


def commands(place: Path, env: Environment, batches: int, many: int) -> dict[str, Command]:
    """All that is measured, on states made here."""
    ids = place / "ids.txt"
    ids.write_text(batch_ids(many), encoding="ascii")
    states = {name: place / f"{name}.db" for name in ("some", "fresh", "seen", "new")}
    adding = [WATCHER, "add", "-", "--account", "openai", "--state"]
    for name, count in (("some", batches), ("fresh", many), ("seen", many)):
        command([*adding[1:], str(states[name])], env, batch_ids(count))
    live_in(states["seen"])

    def ls(name: str, *options: str) -> list[str]:
        return [WATCHER, "ls", *options, "--state", str(states[name])]

    def begin_anew() -> None:
        for file in place.glob("new.db*"):
            file.unlink()

    aimed_at = many == TARGET_IDS
    to_add, to_list = (ADD_TARGET, JSON_TARGET) if aimed_at else (None, None)
    return {
        EMPTY: Command([sys.executable, "-c", "pass"]),
        HELP: Command([WATCHER, "--help"]),
        "ls, piped": Command(ls("some")),
        "ls, terminal": Command(ls("some"), terminal=True),
        "add -": Command([*adding, str(states["new"])], ids, prepare=begin_anew, target=to_add),
        "ls --json new": Command(ls("fresh", "--json"), target=to_list),
        "ls --json seen": Command(ls("seen", "--json"), target=to_list),
    }


def measure(
    rounds: int, batches: int, many: int
) -> tuple[dict[str, Run], dict[str, float], list[str]]:
    """Of each command the median run and its target in seconds, and what each imports."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        # A key implies the account; nothing here makes a request.
        env = environment(place / "home", OPENAI_API_KEY="made-up", TERM="xterm-256color")
        asked = commands(place, env, batches, many)
        for quick in (EMPTY, HELP):
            # The first run fills the caches of files and bytecode.
            ran(asked[quick], env)
        runs: dict[str, list[Run]] = {name: [] for name in asked}
        for _ in range(rounds):
            for name, one in asked.items():
                runs[name].append(ran(one, env))
        where = ["--state", str(place / "some.db")]
        notes = [
            describe(name, imported(arguments, env))
            for name, arguments in {
                EMPTY: ["-c", "pass"],
                HELP: ["-m", "watcher", "--help"],
                "watcher ls": ["-m", "watcher", "ls", *where],
            }.items()
        ]
    return (
        {name: middle(each) for name, each in runs.items()},
        {name: one.target for name, one in asked.items() if one.target is not None},
        notes,
    )


def middle(runs: Sequence[Run]) -> Run:
    """The medians of what a command took."""
    return Run(
        statistics.median(run.milliseconds for run in runs),
        statistics.median(run.memory for run in runs),
    )


def figures(runs: Mapping[str, Run], targets: Mapping[str, float]) -> list[Figure]:
    """For each command its time, its target, its ratio to the empty Python, its memory."""
    found = []
    for name, run in runs.items():
        found.append(Figure(name, run.milliseconds / 1_000, "s"))
        if name in targets:
            found.append(Figure(f"{name}: target, at most", targets[name], "s"))
        if name != EMPTY:
            ratio = run.milliseconds / runs[EMPTY].milliseconds
            found.append(Figure(f"{name}: ratio", ratio, f"times {EMPTY}"))
        found.append(Figure(f"{name}: memory", run.memory, "MiB"))
    return found


def describe(name: str, modules: tuple[int, list[str]]) -> str:
    """One line on what a command imports."""
    count, heavy = modules
    return f"{name} imports {count} modules; heavy: {', '.join(heavy) or 'none'}"


def write_down(
    folder: Path,
    title: str,
    runs: Mapping[str, Run],
    targets: Mapping[str, float],
    notes: Sequence[str],
) -> None:
    """start.json and the pictures, in this folder."""
    document = {
        "title": title,
        "runs": {name: asdict(run) for name, run in runs.items()},
        "targets": dict(targets),
        "notes": list(notes),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "start.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    aims = [
        Target("add, at most 5 s", ADD_TARGET),
        Target("ls --json, at most 3 s", JSON_TARGET),
    ]
    seconds = [run.milliseconds / 1_000 for run in runs.values()]
    drawn = bars(
        title, list(runs), [("seconds", seconds)], Axis("seconds"), aims if targets else ()
    )
    save(folder, "start", drawn)
    memory = [run.memory for run in runs.values()]
    drawn = bars(title, list(runs), [("memory", memory)], Axis("MiB at most"))
    save(folder, "start-memory", drawn)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=10_000, help="of the plain ls")
    parser.add_argument("--many", type=int, default=100_000, help="of add and ls --json")
    parser.add_argument("--json", action="store_true", help="one document instead of a table")
    parser.add_argument("--out", type=Path, help="a folder for start.json and start.svg")
    options = parser.parse_args(arguments)
    runs, targets, notes = measure(options.rounds, options.batches, options.many)
    title = f"{options.batches:,} batches to ls, {options.many:,} to add and ls --json"
    show(
        f"{title}; medians of {options.rounds} rounds",
        figures(runs, targets),
        notes,
        as_json=options.json,
    )
    if options.out is not None:
        write_down(options.out, title, runs, targets, notes)


if __name__ == "__main__":
    main()
