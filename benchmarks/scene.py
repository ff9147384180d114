"""Where the crashes happen: a provider and two channels that are not always well, on loopback."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from recording import Manners
from rehearsal import PATIENCE

from watcher.simulator import Answer, Simulation, faults, serve

CHANNELS = ("well", "shaky")
CONFIG = """
instance = "crash"

[polling]
min_interval = "100ms"
max_interval = "1s"
eagerness = 4.0
lost_after = "20s"

[accounts.openai]
provider = "openai"
api_key_env = "OPENAI_API_KEY"
base_url = "{base_url}"
requests_per_minute = 1000000
max_concurrency = 16

[channels.well]
url_env = "WELL_URL"
digest_wait = "100ms"
digest_interval = "200ms"

[channels.shaky]
url_env = "SHAKY_URL"
digest_wait = "100ms"
digest_interval = "200ms"

[[routes]]
channels = ["well", "shaky"]

[[routes]]
events = ["batch.*"]
channels = ["well"]
"""


class Kind(StrEnum):
    """When a process is killed."""

    STARTING = "while it starts"
    ASKING = "when a request has arrived"
    LOOKED = "just after a request was answered"
    ARRIVED = "when a message has arrived"
    ANSWERED = "just after a message was answered"
    STOPPING = "while it stops"
    ONCE = "in the one round of run --once"
    ANY_TIME = "at any time"


WEIGHTS: Mapping[Kind, int] = {
    Kind.STARTING: 10,
    Kind.ASKING: 10,
    Kind.LOOKED: 15,
    Kind.ARRIVED: 20,
    Kind.ANSWERED: 20,
    Kind.STOPPING: 10,
    Kind.ONCE: 5,
    Kind.ANY_TIME: 15,
}


@dataclass(frozen=True)
class Options:
    """The size of a run; shares are from 0 to 1, `patience` in seconds for the end."""

    kills: int = 20
    batches: int = 200
    seed: int = 0
    fault_share: float = 0.1
    # Of messages that the shaky channel refuses or hangs up on: each makes it rest for seconds.
    refused_share: float = 0.05
    # How many times as fast the batches live.
    hurry: float = 1.0
    # The ways to die, in this order; none: drawn for each process.
    kinds: Sequence[Kind] = ()
    patience: float = 240.0
    # Whether there is time for lives whose end shows after a minute.
    slow: bool = False
    # At the how-manieth occasion at most the process is killed that was to be at a request.
    skips: int = 12


class Watched(Simulation):
    """A simulation that tells of every request before it is answered, and after."""

    notice: Callable[[object], None] = staticmethod(lambda _moment: None)

    def respond(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Answer:
        self.notice(Kind.ASKING)
        answer = super().respond(method, target, headers, body)
        self.notice(Kind.LOOKED)
        return answer


@contextmanager
def served(simulation: Simulation) -> Iterator[str]:
    """The address of a simulation that answers while the block lasts, in this process."""
    loop, begun = asyncio.new_event_loop(), threading.Event()
    over, found = asyncio.Event(), list[str]()

    async def live() -> None:
        async with serve(simulation) as address:
            found.append(address)
            begun.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(live(),), daemon=True)
    thread.start()
    try:
        if not begun.wait(PATIENCE):
            raise TimeoutError("the simulator does not begin")
        yield found[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(PATIENCE)
        loop.close()


def add_faults(simulation: Simulation, share: float) -> None:
    """Spoil this share of all requests, in several ways."""
    if share:
        several = [faults.status(500), faults.html(), faults.reset(), faults.truncated()]
        for fault in several:
            simulation.faults.add(fault, share=share / (len(several) + 1))
        # Each of these makes the account rest, so there are fewer.
        simulation.faults.add(faults.rate_limited(0.2, "milliseconds"), share=share / 50)


class Shaky:
    """How a channel behaves whose service is not well; never refuses three times in a row."""

    def __init__(self, random: Random, refused_share: float) -> None:
        self.well = False
        self._random = random
        self._refused_share = refused_share
        self._streak = 0

    def __call__(self, channel: str) -> Manners:
        """What to do with the next message."""
        if self.well or channel != "shaky":
            return Manners.TAKE
        if self._random.random() < self._refused_share and self._streak < 2:
            self._streak += 1
            return self._random.choice([Manners.REFUSE, Manners.RESET])
        self._streak = 0
        return self._random.choices(
            [Manners.TAKE, Manners.LATE, Manners.HOLD], weights=[80, 15, 5]
        )[0]
