"""What a test of the command line needs: commands called in this process, daemons as real ones,
providers and channels on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.channels.servers import Service
from watcher.cli import main
from watcher.simulator import KEY, Fate, Simulation, serve

Found = TypeVar("Found")
KEY_NAMES = ("OPENAI_API_KEY", "OPENAI_BASE_URL")
PATIENCE = 15.0
# Looks often, so that a test need not wait for long.
QUICK = {"WATCHER_POLLING__MIN_INTERVAL": "50ms", "WATCHER_POLLING__MAX_INTERVAL": "100ms"}


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as one JSON document, and nothing else."""
        return json.loads(self.out)


def call(*arguments: object, stdin: str | bytes = b"") -> Said:
    """One command in this process, as a pipe sees it."""
    given = io.BytesIO(stdin.encode() if isinstance(stdin, str) else stdin)
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    before = sys.stdin, sys.stdout, sys.stderr
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    sys.stdin, sys.stdout, sys.stderr = io.TextIOWrapper(given, "utf-8"), out, err
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as leaving:
        code = leaving.code
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
        root.handlers[:] = handlers
        root.setLevel(level)
    assert isinstance(code, int)
    return Said(code, *(_text(stream) for stream in (out, err)))


def _text(stream: io.TextIOWrapper) -> str:
    raw = stream.buffer
    assert isinstance(raw, io.BytesIO)
    return raw.getvalue().decode()


def until(look: Callable[[], Found], *, patience: float = PATIENCE) -> Found:
    """What `look` finds, once it finds something true."""
    deadline = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.02)
    return found


def close(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shut a file off as a directory of another user's would; root could enter that."""
    stat = Path.stat

    def refused(self: Path, **options: bool) -> os.stat_result:
        if self == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return stat(self, **options)

    monkeypatch.setattr(Path, "stat", refused)


def now() -> int:
    """Milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass
class World:
    """Simulated providers on loopback; its batches are OpenAI's."""

    simulation: Simulation
    address: str

    @property
    def variables(self) -> dict[str, str]:
        """What a user exports."""
        base_url = self.simulation.base_url("openai", self.address)
        return {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": base_url}

    def batch(self, fate: Fate, *, age: float = 0.0, **options: Any) -> str:
        """The id of a new batch, created so many seconds ago."""
        created_at = now() - round(age * 1000)
        return self.simulation.openai.add(fate, created_at=created_at, **options)

    def ended(self, fate: Fate | None = None, **options: Any) -> str:
        """The id of a batch that ended a while ago, well unless told otherwise."""
        return self.batch(fate or Fate.completed(), age=100_000.0, **options)

    def stuck(self, **options: Any) -> str:
        """The id of a batch that goes on for ever."""
        return self.batch(Fate.stuck(), age=10.0, **options)


@contextlib.contextmanager
def world() -> Iterator[World]:
    """Providers that answer while the block lasts."""
    simulation = Simulation(now)
    loop = asyncio.new_event_loop()
    begun: list[str] = []
    ready, over = threading.Event(), asyncio.Event()

    async def live() -> None:
        async with serve(simulation) as address:
            begun.append(address)
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(live(),), daemon=True)
    thread.start()
    assert ready.wait(PATIENCE)
    try:
        yield World(simulation, begun[0])
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(PATIENCE)
        loop.close()


def hook(service: Service, path: str = "hook") -> str:
    """The Apprise URL of a recording service."""
    return f"json://{service.address}/{path}"


def told(service: Service, path: str = "hook") -> list[str]:
    """The titles of all messages that came."""
    return [one.body["title"] for one in list(service.received) if one.path == f"/{path}"]


@dataclass
class Process:
    """`watcher …` as a process of its own; its log is a file."""

    popen: subprocess.Popen[bytes]
    log: Path
    signals: list[int] = field(default_factory=list)

    @property
    def said(self) -> str:
        """Its standard error so far."""
        return self.log.read_text(encoding="utf-8")

    @property
    def records(self) -> list[dict[str, Any]]:
        """Its log so far: a line that is no JSON fails the test."""
        lines = self.said.splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The records of one event."""
        return [record for record in self.records if record["event"] == event]

    def until_logged(self, event: str, count: int = 1) -> dict[str, Any]:
        """The newest record of an event, once it has come so often."""
        until(lambda: len(self.logged(event)) >= count or self.popen.poll() is not None)
        assert len(self.logged(event)) >= count, f"{event} not logged: {self.said[-2_000:]}"
        return self.logged(event)[-1]

    def send(self, number: int) -> None:
        """Send a signal."""
        self.signals.append(number)
        self.popen.send_signal(number)

    def ended(self, patience: float = PATIENCE) -> int:
        """The exit code, once it has ended."""
        return self.popen.wait(patience)

    def stop(self) -> int:
        """End it as an administrator would; returns the exit code."""
        self.send(signal.SIGTERM)
        return self.ended()


@contextlib.contextmanager
def process(
    folder: Path, *arguments: object, environ: dict[str, str] | None = None
) -> Iterator[Process]:
    """A command as a process of its own, gone when the block ends."""
    log = folder / f"log-{time.monotonic_ns()}"
    with log.open("wb") as stream:
        popen = subprocess.Popen(
            [sys.executable, "-m", "watcher", *map(str, arguments)],
            env={**os.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    try:
        yield Process(popen, log)
    finally:
        if popen.poll() is None:
            popen.kill()
        popen.wait()


@contextlib.contextmanager
def daemon(
    folder: Path, *arguments: object, environ: dict[str, str] | None = None
) -> Iterator[Process]:
    """`watcher run`, begun; at DEBUG, so that what it says there is hunted for secrets too."""
    environ = {**QUICK, **(environ or {})}
    with process(folder, "run", "--debug", *arguments, environ=environ) as one:
        one.until_logged("watching")
        yield one
