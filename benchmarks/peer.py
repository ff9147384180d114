"""What a user would write: a loop around the official SDK's `batches.retrieve`, in its own process.

The SDK is installed from the package index into an environment outside the repository.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rehearsal import Environment

# Given the seconds between two rounds; the ids come on standard input.
LOOP = """\
import asyncio, sys, time
from openai import AsyncOpenAI

OVER = {"completed", "failed", "expired", "cancelled"}

async def main(interval, watched):
    client = AsyncOpenAI()
    while watched:
        found = await asyncio.gather(
            *(client.batches.retrieve(id) for id in watched), return_exceptions=True
        )
        for batch in found:
            if not isinstance(batch, Exception) and batch.status in OVER:
                watched.discard(batch.id)
                print(batch.id, time.time(), flush=True)
        await asyncio.sleep(interval)
    # What it has needed is read while it lives.
    await asyncio.Event().wait()

asyncio.run(main(float(sys.argv[1]), set(sys.stdin.read().split())))
"""


class NoIndex(Exception):
    """The peer cannot be installed."""


@contextmanager
def interpreter(folder: Path | None) -> Iterator[str]:
    """A Python that has the SDK, in the folder or in one that is gone afterwards."""
    with tempfile.TemporaryDirectory() as passing:
        place = folder or Path(passing) / "peer"
        python = place / "bin" / "python"
        try:
            if not python.exists():
                _run([sys.executable, "-m", "venv", str(place)])
            if subprocess.run(
                [str(python), "-c", "import openai"], capture_output=True, check=False
            ).returncode:
                _run([str(python), "-m", "pip", "install", "-q", "openai"])
        except (subprocess.SubprocessError, OSError) as error:
            raise NoIndex(f"the openai SDK cannot be installed here: {error}") from error
        yield str(python)


def _run(arguments: Sequence[str]) -> None:
    subprocess.run(arguments, capture_output=True, check=True, timeout=150)


def version(python: str) -> str:
    """The SDK's."""
    asked = "import openai; print(openai.__version__)"
    done = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True)
    return done.stdout.strip()


class Peer:
    """The user's loop in its own process, and when it said which batch had ended."""

    def __init__(self, python: str, env: Environment, interval: float, ids: Sequence[str]) -> None:
        self.seen: dict[str, float] = {}
        self.process = subprocess.Popen(
            [python, "-c", LOOP, str(interval)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self.process.stdin is not None:
            self.process.stdin.write("\n".join(ids))
            self.process.stdin.close()
        self._listening = threading.Thread(target=self._listen)
        self._listening.start()

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        self._listening.join()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _listen(self) -> None:
        for line in self.process.stdout or ():
            id, moment = line.split()
            self.seen[id] = float(moment)


@contextmanager
def looping(python: str, env: Environment, interval: float, ids: Sequence[str]) -> Iterator[Peer]:
    """The peer, watching these, as long as the block lasts."""
    peer = Peer(python, env, interval, ids)
    try:
        yield peer
    finally:
        peer.close()
