"""What it takes to watch the daemon at work: what it uses, and when it saw which batch end.

Linux only: it reads /proc.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rehearsal import WATCHER, Environment, command

# An account with the settings of a user who sets none.
ACCOUNT = """
[accounts.openai]
provider = "openai"
api_key_env = "OPENAI_API_KEY"
base_url = "{base_url}"
"""
TERMINAL = frozenset(f"batch.{word}" for word in "completed failed expired cancelled lost".split())
# How long a daemon that was asked to stop may take, in seconds.
GRACE = 30.0


def processor_seconds(pid: int) -> float:
    """Processor time of a process so far, its own and the system's for it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mebibytes(pid: int) -> float:
    """The most memory a process has held."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1_024


def configure(config: Path, env: Environment, polling: str = "", account: str = "") -> None:
    """Write a configuration with one account, and what is to be said besides."""
    config.write_text(polling + ACCOUNT.format(base_url=env["OPENAI_BASE_URL"]) + account)
    config.chmod(0o600)


@contextmanager
def running(env: Environment, where: Sequence[str], log: Path) -> Iterator[int]:
    """`watcher run` from its very start, its process id; asked to stop at the end, and heeded."""
    with log.open("ab") as out:
        process = subprocess.Popen([WATCHER, "run", *where], env=env, stdout=out, stderr=out)
    try:
        yield process.pid
        if process.poll() is not None:
            raise RuntimeError(f"the daemon ended with {process.returncode}")
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        process.kill()
        process.wait()


def detections(env: Environment, where: Sequence[str], since: int) -> dict[str, int]:
    """When the daemon saw which batch end, since a moment; all in milliseconds."""
    moment = datetime.fromtimestamp(since / 1_000, UTC).isoformat().replace("+00:00", "Z")
    found: dict[str, int] = {}
    for line in command(["events", "--since", moment, "--json", *where], env).splitlines():
        event: dict[str, Any] = json.loads(line)
        if event["type"] in TERMINAL:
            detected = datetime.fromisoformat(event["detected_at"]).timestamp()
            found.setdefault(event["batch"]["id"], round(detected * 1_000))
    return found
