"""Hostile input to every reader, for as long as one likes: what was tried, and what broke.

The same readers and properties as in the suite's bounded round, with seeds of their own. What
broke is printed with its seed; `--only READER --seed N --inputs 1` shows it again.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom

from rehearsal import Figure, show

from tests.fuzz.readers import Check, readers

# A reader's turn, in seconds: so that a short run, too, tries each of them.
TURN = 1.0
# The same mistake is told once, with how often it was made.
TOLD = 20


@dataclass
class Tried:
    """What one reader was given, and what it did not stand."""

    inputs: int = 0
    slowest: float = 0.0
    slowest_seed: int = 0
    broke: Counter[str] = field(default_factory=Counter)
    examples: dict[str, int] = field(default_factory=dict)

    def take(self, check: Check, seed: int) -> None:
        """One input."""
        began = time.perf_counter()
        try:
            check(seed)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what was looked for
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno}"
            said = f"{type(error).__name__} at {place}: {ascii(str(error))[:200]}"
            known = f"{type(error).__name__} at {place}"
            self.broke[known] += 1
            if known not in self.examples:
                self.examples[known] = seed
                print(f"  seed {seed}: {said}", file=sys.stderr)
        took = time.perf_counter() - began
        self.inputs += 1
        if took > self.slowest:
            self.slowest, self.slowest_seed = took, seed


def run(arguments: argparse.Namespace) -> dict[str, Tried]:
    """Turn after turn, one reader after the other, until the time or the inputs are over."""
    end = time.monotonic() + arguments.minutes * 60
    seed = arguments.seed
    with readers() as checks:
        unknown = set(arguments.only) - checks.keys()
        if unknown:
            sys.exit(f"no reader is called {', '.join(unknown)}: there is {', '.join(checks)}")
        chosen = {name: check for name, check in checks.items() if name in arguments.only}
        chosen = chosen or dict(checks)
        tried = {name: Tried() for name in chosen}
        if arguments.inputs:
            for name, check in chosen.items():
                for number in range(arguments.inputs):
                    tried[name].take(check, seed + number)
            return tried
        while time.monotonic() < end:
            for name, check in chosen.items():
                over = min(end, time.monotonic() + TURN)
                while time.monotonic() < over:
                    tried[name].take(check, seed + tried[name].inputs)
    return tried


def report(seed: int, tried: dict[str, Tried], *, as_json: bool) -> None:
    """A line a reader, then what broke."""
    figures, notes = [], []
    for name, one in tried.items():
        figures += [
            Figure(name, one.inputs, "inputs"),
            Figure("  broke", one.broke.total(), "times"),
            Figure("  slowest", one.slowest * 1_000, f"ms, seed {one.slowest_seed}"),
        ]
        for what, count in one.broke.most_common(TOLD):
            notes.append(f"{name}: {count:,} times {what}, first with seed {one.examples[what]}")
    figures.append(Figure("all", sum(one.inputs for one in tried.values()), "inputs"))
    show(f"Fuzzing from seed {seed}", figures, notes, as_json=as_json)


def main() -> None:
    """Fuzz as the arguments say; ends with 1 if anything broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument(
        "--seed", type=int, default=None, help="where to begin; random if not given"
    )
    parser.add_argument("--only", action="append", default=[], metavar="READER")
    parser.add_argument("--inputs", type=int, default=0, help="so many to each, instead of minutes")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.seed is None:
        arguments.seed = SystemRandom().randrange(2**32)
    # Parsers of dates and addresses may warn; here only errors count.
    warnings.simplefilter("ignore")
    tried = run(arguments)
    report(arguments.seed, tried, as_json=arguments.json)
    sys.exit(1 if any(one.broke for one in tried.values()) else 0)


if __name__ == "__main__":
    main()
