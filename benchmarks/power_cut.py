"""What a power cut takes: nothing that was acknowledged, with the setting that watcher uses.

A state is worked on upon a disk that forgets what was not synced (tests/store/power_cut.py), cut
off at a random operation, opened, and compared with what was acknowledged. Beside it the same with
`synchronous=NORMAL`, which syncs at checkpoints only: what that loses shows that the disk forgets.
Exits with 1 if anything was lost or damaged, or if the looser setting lost nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from rehearsal import Figure, show

from tests.store.cuts import Found, cut_again_and_again

LOOSER = "NORMAL"


def figures_of(setting: str, found: Found, seconds: float) -> list[Figure]:
    """What was found with one setting."""
    return [
        Figure(f"synchronous={setting}: cuts", found.cuts, ""),
        Figure("  acknowledged transactions looked for", found.acknowledged, ""),
        Figure("  cuts that lost some of them", found.lost, ""),
        Figure("  states damaged, halved or not opened", len(found.wrong), ""),
        Figure("  it took", seconds, "s"),
    ]


def measure(folder: Path, cuts: int, seed: int, setting: str) -> tuple[Found, list[Figure]]:
    """Cut again and again."""
    begun = time.monotonic()
    found = cut_again_and_again(folder, cuts, seed=seed, synchronous=setting)
    return found, figures_of(setting, found, time.monotonic() - begun)


def main() -> None:
    """Read the options, cut, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=500)
    parser.add_argument("--baseline", type=int, default=100, help="cuts with the looser setting")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one document instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ours, figures = measure(Path(folder), options.cuts, options.seed, "FULL")
        theirs, more = measure(Path(folder), options.baseline, options.seed, LOOSER)
    notes = [*ours.wrong[:10]]
    if options.baseline and not theirs.lost:
        notes.append(f"{LOOSER} lost nothing: does this disk forget?")
    show(f"{options.cuts:,} power cuts", [*figures, *more], notes, as_json=options.json)
    sys.exit(1 if ours.lost or notes else 0)


if __name__ == "__main__":
    main()
