"""What a daemon costs that has nothing to do: many open batches, none of which is due.

Each batch is looked at once, after which none is due for an hour; then the processor time of all
the daemon's threads is read over a stretch. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from rehearsal import Environment, Figure, command, daemon, environment, show, simulator, until

# The next look is as far away as the configuration lets it be.
CONFIG = """
[polling]
min_interval = "1h"
max_interval = "1h"

[accounts.openai]
provider = "openai"
api_key_env = "OPENAI_API_KEY"
base_url = "{base_url}"
requests_per_minute = 1000000
max_concurrency = 32
"""


def processor_seconds(pid: int) -> float:
    """Processor time of all its threads so far, to the nanosecond (/proc/…/schedstat)."""
    nanoseconds = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            nanoseconds += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:
            continue
    return nanoseconds / 1e9


def wakeups(pid: int) -> int:
    """How often its threads have gone to sleep of themselves, and so were woken."""
    woken = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                woken += int(line.split()[1])
    return woken


def resident_mebibytes(pid: int) -> float:
    """Memory it holds just now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1_024


def never_looked_at(env: Environment, where: list[str]) -> int:
    """How many open batches still wait for their first look."""
    batches: list[dict[str, Any]] = json.loads(command(["ls", "--json", *where], env))
    return sum(batch["looks"] == 0 for batch in batches)


def measure(batches: int, seconds: float) -> list[Figure]:
    """Register, let the first looks pass, then watch the daemon do nothing."""
    with (
        tempfile.TemporaryDirectory() as folder,
        simulator(environment(Path(folder) / "home")) as provider,
    ):
        state, config = Path(folder) / "watcher.db", Path(folder) / "config.toml"
        config.write_text(CONFIG.format(base_url=provider.env["OPENAI_BASE_URL"]))
        config.chmod(0o600)
        created = "\n".join(json.dumps(provider.create("stuck")) for _ in range(batches))
        where = ["--config", str(config), "--state", str(state)]
        command(["add", "-", "--account", "openai", *where], provider.env, created)
        with daemon(provider.env, config, state) as process:
            settled = until(
                lambda: not never_looked_at(provider.env, where), "the first look at every batch"
            )
            # What the first looks have begun (a checkpoint, say) is no part of doing nothing.
            time.sleep(2.0)
            before, woken, begun = processor_seconds(process.pid), wakeups(process.pid), time.time()
            time.sleep(seconds)
            stretch = time.time() - begun
            busy = processor_seconds(process.pid) - before
            woken = wakeups(process.pid) - woken
            memory = resident_mebibytes(process.pid)
    return [
        Figure(f"first looks at {batches:,} batches", settled, "s"),
        Figure(f"processor share over {stretch:.0f} s", 100 * busy / stretch, "% of a core"),
        Figure("wake-ups", woken / stretch, "a second"),
        Figure("resident memory", memory, "MiB"),
    ]


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--json", action="store_true", help="one document instead of a table")
    options = parser.parse_args()
    found = measure(options.batches, options.seconds)
    show(f"a daemon with {options.batches:,} batches, none due", found, [], as_json=options.json)


if __name__ == "__main__":
    main()
