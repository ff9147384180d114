"""What is lost when the daemon is killed again and again: nothing may be.

The real daemon watches simulated batches and tells two channels of them, one that is well and one
that refuses, hangs up, answers late or not at all. It is killed at random moments, and at chosen
ones: while it starts, when a request has come in or was answered, when a message has arrived or
was taken, while it stops. Meanwhile batches are registered and removed by the command line. In
the end what each channel received is compared with what the simulator did and with the state.
Exits with 1 if anything was lost, told twice without a reason, or told wrongly.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from crashing import Run, plain_starts, prepared
from rehearsal import Figure, show
from scene import Kind, Options
from verdict import Verdict


def figures_of(run: Run, verdict: Verdict) -> list[Figure]:
    """What was done and found, in numbers."""
    duplicates = verdict.in_flight + verdict.not_taken + len(verdict.unexplained)
    looks = run.simulation.requests
    kinds = [Figure(f"  {kind}", run.kills[kind], "") for kind in Kind]
    return [
        Figure("kills", run.kills.total(), ""),
        *kinds,
        Figure("processes of the daemon", run.lives, ""),
        Figure("commands", run.registrar.commands.total(), ""),
        Figure("  of them removals", run.registrar.commands["rm"], ""),
        Figure("  of them killed", run.registrar.commands["killed"], ""),
        Figure("batches", run.registrar.made, ""),
        Figure("requests to the provider", looks.total, ""),
        Figure("  of them spoiled", looks.by_fault.total(), ""),
        Figure("events", sum(len(one.fresh) for one in run.autopsies), ""),
        Figure("messages", len(run.recorder.receipts), ""),
        Figure("receipts of an event by a channel", verdict.namings, ""),
        Figure("  told in summaries besides", verdict.summarised, ""),
        Figure("duplicates", duplicates, ""),
        Figure("  share of the receipts", 100 * duplicates / max(1, verdict.namings), "%"),
        Figure("  in flight at a kill", verdict.in_flight, ""),
        Figure("  not taken at first", verdict.not_taken, ""),
        Figure("  unexplained", len(verdict.unexplained), ""),
        Figure("missing", len(verdict.missing), ""),
        Figure("unknown", len(verdict.unknown), ""),
        Figure("out of order", len(verdict.disorder), ""),
        Figure("other problems", len(run.problems), ""),
        *_times("plain start to the first look", run.plain),
        *_times("restart after a kill to the first look or message", run.restarts),
        *_times("  of it from taking the leases", run.waits),
    ]


def _times(what: str, seconds: list[float]) -> list[Figure]:
    if not seconds:
        return []
    return [
        Figure(f"{what}: how many", len(seconds), ""),
        Figure(f"{what}: median", statistics.median(seconds), "s"),
        Figure(f"{what}: longest", max(seconds), "s"),
    ]


def main() -> None:
    """Read the options, run, print; exit with 1 if the promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=Options.kills)
    parser.add_argument("--batches", type=int, default=Options.batches)
    parser.add_argument("--seed", type=int, default=0, help="of all chance but the machine's")
    parser.add_argument("--fault-share", type=float, default=Options.fault_share)
    parser.add_argument("--json", action="store_true", help="one document instead of a table")
    asked = parser.parse_args()
    options = Options(
        asked.kills, asked.batches, asked.seed, asked.fault_share, slow=asked.kills >= 100
    )
    with tempfile.TemporaryDirectory() as folder, prepared(options, Path(folder)) as run:
        plain_starts(run, 3)
        begun = time.monotonic()
        verdict = run.go()
        took = time.monotonic() - begun
    faults_found = [*verdict.faults, *run.problems]
    figures = [*figures_of(run, verdict), Figure("the whole run", took, "s")]
    title = f"{options.kills} kills, {options.batches:,} batches, seed {options.seed}"
    show(title, figures, faults_found[:50], as_json=asked.json)
    sys.exit(1 if faults_found else 0)


if __name__ == "__main__":
    main()
