"""How long a user waits for the command line: `--help` and `ls` against an empty Python.

Every round runs each command once, in turn, so that what disturbs the machine disturbs all of
them alike; the ratios are of medians of the same run.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rehearsal import PATIENCE, WATCHER, Environment, Figure, command, environment, show

# Libraries that cost tens of milliseconds each and that few commands need.
HEAVY = (
    "aiohttp anyio apprise apsw asyncio click httpx httpx_aiohttp platformdirs pydantic"
    " pydantic_settings requests rich ssl structlog urllib3 yaml"
).split()
EMPTY = "python -c pass"


def piped(arguments: Sequence[str], env: Environment) -> float:
    """Run with no terminal at any end; milliseconds until it has ended."""
    begun = time.perf_counter()
    subprocess.run(
        arguments,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    return (time.perf_counter() - begun) * 1_000


def at_a_terminal(arguments: Sequence[str], env: Environment) -> float:
    """Run at a terminal of 120 by 40 that reads along; milliseconds until it has ended."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    begun = time.perf_counter()
    process = subprocess.Popen(arguments, env=env, stdin=its, stdout=its, stderr=its)
    os.close(its)
    try:
        # Linux answers a read with EIO once the last process has let go of the terminal.
        while os.read(ours, 65_536):
            pass
    except OSError:
        pass
    finally:
        os.close(ours)
    if process.wait(PATIENCE):
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}")
    return (time.perf_counter() - begun) * 1_000


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


def measure(rounds: int, batches: int) -> tuple[list[Figure], list[str]]:
    """Medians and ratios of each command, and what each imports."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        # A key implies the account; nothing here makes a request.
        env = environment(place / "home", OPENAI_API_KEY="made-up", TERM="xterm-256color")
        state = str(place / "watcher.db")
        ids = "".join(f"batch_{number:032x}\n" for number in range(batches))
        command(["add", "-", "--account", "openai", "--state", state], env, ids)
        listing = ["ls", "--state", state]
        runs: dict[str, Callable[[], float]] = {
            EMPTY: lambda: piped([sys.executable, "-c", "pass"], env),
            "watcher --help": lambda: piped([WATCHER, "--help"], env),
            f"watcher ls, {batches:,} batches, piped": lambda: piped([WATCHER, *listing], env),
            f"watcher ls, {batches:,} batches, terminal": lambda: at_a_terminal(
                [WATCHER, *listing], env
            ),
        }
        took: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(rounds + 1):
            for name, run in runs.items():
                milliseconds = run()
                # The first round fills the caches of files and bytecode.
                if number:
                    took[name].append(milliseconds)
        notes = [
            describe(name, imported(arguments, env))
            for name, arguments in {
                EMPTY: ["-c", "pass"],
                "watcher --help": ["-m", "watcher", "--help"],
                "watcher ls": ["-m", "watcher", *listing],
            }.items()
        ]
    return figures(took), notes


def figures(took: dict[str, list[float]]) -> list[Figure]:
    """For each command its median and its ratio to the empty Python of the same rounds."""
    empty = statistics.median(took[EMPTY])
    found = []
    for name, milliseconds in took.items():
        median = statistics.median(milliseconds)
        found.append(Figure(f"{name}, median", median, "ms"))
        if name != EMPTY:
            found.append(Figure(f"{name}, ratio", median / empty, "times an empty Python"))
    return found


def describe(name: str, modules: tuple[int, list[str]]) -> str:
    """One line on what a command imports."""
    count, heavy = modules
    return f"{name} imports {count} modules; heavy: {', '.join(heavy) or 'none'}"


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batches", type=int, default=1_000)
    parser.add_argument("--json", action="store_true", help="one document instead of a table")
    options = parser.parse_args()
    found, notes = measure(options.rounds, options.batches)
    show(f"start of the command line, {options.rounds} rounds", found, notes, as_json=options.json)


if __name__ == "__main__":
    main()
