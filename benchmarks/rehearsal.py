"""What the measurements share: the real program, the simulator, a clean environment, a table.

Everything listens and connects on loopback; every wait has an end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

WATCHER = str(Path(sysconfig.get_path("scripts")) / "watcher")
# The time that anything here may take before it is given up, in seconds.
PATIENCE = 120.0

Environment = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number."""

    what: str
    value: float
    unit: str


def environment(home: Path, **more: str) -> dict[str, str]:
    """Of this process's variables only what a program needs to start, and a home of its own."""
    home.mkdir(parents=True, exist_ok=True)
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    return {**kept, "HOME": str(home), "TZ": "UTC", **more}


def command(arguments: Sequence[str], env: Environment, text: str = "") -> str:
    """Run one command of the program to its end; its standard output. RuntimeError if it fails."""
    done = subprocess.run(
        [WATCHER, *arguments],
        env=env,
        input=text,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip()
        raise RuntimeError(f"watcher {' '.join(arguments)} ended with {done.returncode}: {said}")
    return done.stdout


def until(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> float:
    """Wait until it holds; how long that took, in seconds. TimeoutError names what never came."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > patience:
            raise TimeoutError(f"{what}: not within {patience:g} s")
        time.sleep(0.05)
    return time.monotonic() - begun


@dataclass(frozen=True, slots=True)
class Asked:
    """A client's requests by what they are for, and when it first asked; milliseconds."""

    now: int
    first_at: int | None
    kinds: Mapping[str, int]

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.kinds.values())


class Simulator:
    """The simulated OpenAI in a process of its own; `env` is what an SDK would be told."""

    def __init__(self, env: Environment, pid: int = 0) -> None:
        self.env = env
        self.pid = pid
        address = urlsplit(env["OPENAI_BASE_URL"])
        self._path = address.path
        self._connection = HTTPConnection(address.netloc, timeout=PATIENCE)

    def close(self) -> None:
        """Let go of the connection to it."""
        self._connection.close()

    def ids(self) -> list[str]:
        """Every batch of its OpenAI, newest first."""
        return self._report("GET", "/ids").decode().split()

    def ends(self) -> dict[str, int | None]:
        """When each of them comes to an end, in milliseconds; None for never."""
        ends: dict[str, int | None] = json.loads(self._report("GET", "/ends"))
        return ends

    def asked(self, agent: str = "batch-watcher") -> Asked:
        """What this client has asked of it since the count began."""
        said = json.loads(self._report("GET", "/requests"))
        kinds: Counter[str] = Counter()
        for minute in said["minutes"]:
            if minute["agent"] == agent:
                kinds[minute["kind"]] += minute["requests"]
        return Asked(said["now"], said["first_at"].get(agent), kinds)

    def forget(self) -> None:
        """Begin the count of requests anew."""
        self._report("DELETE", "/requests")

    def _report(self, method: str, path: str) -> bytes:
        self._connection.request(method, f"/simulator{path}")
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"the simulator answers {answer.status}: {text[:200]!r}")
        return text

    def create(self, fate: str) -> dict[str, Any]:
        """Create a batch that will live so; what the provider's create call answers."""
        body = {
            "input_file_id": "file-made-up",
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {"fate": fate},
        }
        self._connection.request(
            "POST",
            f"{self._path}/batches",
            json.dumps(body),
            {
                "Authorization": f"Bearer {self.env['OPENAI_API_KEY']}",
                "Content-Type": "application/json",
            },
        )
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"the simulator answers {answer.status}: {text[:200]!r}")
        created: dict[str, Any] = json.loads(text)
        return created


@contextmanager
def simulator(env: Environment, speed: float = 1.0, *more: str) -> Iterator[Simulator]:
    """A simulator on a free port, as long as the block lasts; `more` are options of its own."""
    arguments = [sys.executable, "-m", "watcher.simulator", "--port", "0", "--speed", str(speed)]
    arguments += more
    with subprocess.Popen(arguments, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            provider = Simulator({**env, **_exports(process.stdout or ())}, process.pid)
            with closing(provider):
                yield provider
        finally:
            process.kill()


def _exports(lines: Iterable[str]) -> dict[str, str]:
    """What the simulator asks to export for OpenAI; the address is the last of it."""
    found = {}
    for line in lines:
        if line.startswith("export OPENAI_"):
            name, _, value = line.removeprefix("export ").strip().partition("=")
            found[name] = value
        if "OPENAI_BASE_URL" in found:
            return found
    raise RuntimeError("the simulator ended before it said where it listens")


@contextmanager
def daemon(env: Environment, config: Path, state: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`watcher run` until it says that it is well; killed at the end if it still runs."""
    where = ["--config", str(config), "--state", str(state)]
    with state.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen([WATCHER, "run", *where], env=env, stdout=log, stderr=log)
    try:
        until(lambda: _well(process, where, env), "a healthy daemon")
        yield process
    finally:
        process.kill()
        process.wait()


def _well(process: subprocess.Popen[bytes], where: list[str], env: Environment) -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"the daemon ended with {process.returncode}")
    health = [WATCHER, "health", *where]
    return subprocess.run(health, env=env, capture_output=True, check=False).returncode == 0


def show(title: str, figures: Sequence[Figure], notes: Sequence[str], *, as_json: bool) -> None:
    """Print the figures as a table, or everything as one JSON document."""
    if as_json:
        document = {"title": title, "figures": [asdict(figure) for figure in figures]}
        print(json.dumps({**document, "notes": list(notes)}, indent=2))
        return
    width = max(len(figure.what) for figure in figures)
    print(title)
    for figure in figures:
        print(f"  {figure.what:<{width}}  {figure.value:>10,.3f} {figure.unit}")
    for note in notes:
        print(note)
