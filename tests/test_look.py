"""A small round of `benchmarks/look.py`: that it runs, and that what it counts is there."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from answering import answering
from contenders import Watching
from look import OURS, PAGED

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "look.py"
BATCHES = 120


@pytest.mark.parametrize("listed", [False, True])
def test_looks_counted_are_looks_recorded(tmp_path: Path, *, listed: bool) -> None:
    with answering(None, BATCHES if listed else 0) as address:
        watching = Watching(address, tmp_path / "watcher.db", BATCHES, 10)

        async def watch() -> int:
            looks = await watching.run(BATCHES) + await watching.run(2 * BATCHES)
            await watching.wire.close()
            return looks

        looks = asyncio.run(watch())
        batches = watching.write(lambda ledger: ledger.batches.watched(open_only=True))
        watching.database.close()
    paged = {dict(labels)["result"] for (name, labels) in watching.meter.counts if name == "looks"}

    assert looks >= 3 * BATCHES
    assert sum(batch.looks for batch in batches) == looks
    assert ("listed" in paged) is listed


def test_a_run_ends_with_figures_and_a_picture(tmp_path: Path) -> None:
    small = ["--in-flight", "5", "--batches", "40", "--requests", "40", "--rounds", "1"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *small, "--json", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )

    assert done.stderr == ""
    printed = {one["what"]: one["value"] for one in json.loads(done.stdout)["figures"]}
    kept = json.loads((tmp_path / "look.json").read_text())
    assert printed[OURS] == pytest.approx(sum(kept["parts"].values()))
    assert set(kept["each"]) >= {OURS, PAGED}
    assert min(kept["each"].values()) > 0
    assert kept["free"]["ours"] == 10
    assert "<svg" in (tmp_path / "look.svg").read_text()
