"""python -m watcher.simulator: three providers on loopback, to rehearse against without a key."""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from watcher.simulator.answer import Wire
from watcher.simulator.fate import DAY, NAMED
from watcher.simulator.fleet import launch
from watcher.simulator.garbage import CATALOGUE
from watcher.simulator.provider import KEY
from watcher.simulator.report import PREFIX
from watcher.simulator.server import serve
from watcher.simulator.simulation import Simulation

# The variables each provider's own SDK reads.
_VARIABLES = {
    Wire.OPENAI: ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    Wire.CEREBRAS: ("CEREBRAS_API_KEY", "CEREBRAS_BASE_URL"),
    Wire.COHERE: ("CO_API_KEY", "CO_API_URL"),
}
_FIRST_BATCHES = {
    Wire.OPENAI: ("completed", "partial", "empty", "failed", "cancelled_with_results"),
    Wire.CEREBRAS: ("completed", "failed"),
    Wire.COHERE: ("completed", "all_failed"),
}

_UNITS = {"h": 3_600.0, "m": 60.0, "s": 1.0}


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted; prints the base URLs, what to export, and some batches' ids."""
    options = _parser().parse_args(arguments)
    with suppress(KeyboardInterrupt):
        asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> None:
    simulation = Simulation(
        lambda: time.time_ns() // 1_000_000, seed=options.seed, speed=options.speed
    )
    for fault, share in options.fault:
        simulation.faults.add(CATALOGUE[fault](), share=share)
    if options.fleet:
        launch(
            simulation.openai,
            options.fleet,
            time.time_ns() // 1_000_000,
            ages=options.ages,
            ends_a_minute=options.ends,
            seed=options.seed,
        )
        # A hundred thousand lives that stay need not be gone through again and again.
        gc.freeze()
    async with serve(simulation, port=options.port) as address:
        sys.stdout.write(introduction(simulation, address, fleet=options.fleet) + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def introduction(simulation: Simulation, address: str, *, fleet: int = 0) -> str:
    """Create the first batches, unless there is a fleet, and say how to reach everything.

    All lines are such as a shell can take.
    """
    lines: list[str] = []
    for wire, (key, url) in _VARIABLES.items():
        base_url = simulation.base_url(wire, address)
        lines += [f"# {wire}: {base_url}", f"export {key}={KEY}", f"export {url}={base_url}"]
    if fleet:
        lines += ["", f"# {fleet:,} batches of openai to watch, and what becomes of them:"]
        lines.append(f"curl -s {address}{PREFIX}/ids | watcher add - --account openai")
        lines.append(f"curl -s {address}{PREFIX}/ends")
        return "\n".join(lines)
    lines += ["", "# batches to watch:"]
    for wire, names in _FIRST_BATCHES.items():
        provider = simulation.providers[wire]
        for name in names:
            id = provider.add(NAMED[name]().faster(provider.speed), name=f"fate:{name}")
            lines.append(f"watcher add {wire}/{id}  # {name}")
    lines += ["", '# a batch you create may choose its life: metadata {"fate": "partial"}, or']
    lines += [f"# the name fate:partial; one of {', '.join(NAMED)}"]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m watcher.simulator", description=__doc__)
    parser.add_argument("--port", type=int, default=8899, help="0: any that is free")
    parser.add_argument("--seed", type=int, default=0, help="the same seed, the same lives")
    parser.add_argument("--speed", type=_factor, default=20.0, help="how much faster than life")
    parser.add_argument(
        "--fleet", type=_count, default=0, metavar="COUNT", help="begin with so many open batches"
    )
    parser.add_argument(
        "--ages",
        type=_age,
        default=DAY,
        metavar="24h",
        help="how old the oldest of the fleet is in its own time, which runs at --speed too",
    )
    parser.add_argument(
        "--ends", type=_count, default=60, help="how many of the fleet end a minute of the clock"
    )
    parser.add_argument(
        "--fault",
        type=_fault,
        action="append",
        default=[],
        metavar="NAME[:SHARE]",
        help=f"spoil this share of the answers; may be repeated; one of {', '.join(CATALOGUE)}",
    )
    return parser


def _factor(text: str) -> float:
    factor = float(text)
    if not 0 < factor < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return factor


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError("must be a whole number")
    return int(text)


def _age(text: str) -> float:
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit()) or unit not in _UNITS:
        raise argparse.ArgumentTypeError("must be a number with a unit, as in 24h, 90m or 30s")
    seconds = int(number) * _UNITS[unit]
    if seconds > DAY:
        raise argparse.ArgumentTypeError("past its window of a day no batch is open")
    return seconds


def _fault(text: str) -> tuple[str, float]:
    name, _, share = text.partition(":")
    if name not in CATALOGUE:
        raise argparse.ArgumentTypeError(f"no fault {name}; one of {', '.join(CATALOGUE)}")
    return name, float(share or 1)


if __name__ == "__main__":
    main()
