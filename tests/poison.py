"""How punctual batches are beside poisonous ones: a world whose answers take their time.

Shared by the suite's small rounds and by `benchmarks/poison.py`.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import anyio.lowlevel

from tests.builders import SECOND
from tests.fakes import START
from tests.weeks import all_events, database
from tests.world import World
from watcher.model import Request
from watcher.simulator import Answer, Call, Fate, Fault, Kind, faults, garbage

# What an answer takes, in milliseconds: a moment, or as long as a read may last.
AT_ONCE = 250
HANGING = 60 * SECOND


def cut(length: int) -> Fault:
    """The answer's first bytes, as if they were all."""

    def spoil(honest: Answer, _call: Call) -> Answer:
        return replace(honest, body=honest.body[:length])

    return Fault(f"cut after {length}", spoil)


def poisons(count: int) -> list[Fault]:
    """So many answers that cannot be read, each garbled in a way of its own."""
    singles = [
        *(faults.html(), faults.redirect(), faults.truncated(), faults.empty(), faults.reset()),
        *(faults.status(400), faults.status(418), faults.status(500), faults.status(503)),
        *(faults.forbidden(), garbage.not_a_number(), garbage.invalid_utf8()),
        garbage.with_field("status", ["completed"]),
    ]
    families: list[Callable[[int], Fault]] = [
        lambda number: cut(1 + number),
        lambda number: garbage.another_batch(f"batch_{number:032x}"),
        lambda number: garbage.huge_integers(5_000 + number),
        lambda number: garbage.nested(5_000 + number),
        lambda number: garbage.wrong_root([number]),
    ]
    endless = (families[number % 5](number // 5) for number in itertools.count())
    found = itertools.islice(itertools.chain(singles, endless), count)
    return [replace(fault, name=f"{number}: {fault.name}") for number, fault in enumerate(found)]


@dataclass(slots=True)
class Punctuality:
    """When the ends of batches were seen, in milliseconds after they came; by id."""

    delays: dict[str, int] = field(default_factory=dict)
    # Batches that ended long enough before the end of it all, and were not seen to.
    unseen: list[str] = field(default_factory=list)
    requests: int = 0


class TakingTime(World):
    """A world whose answers take their time, so that looks get in each other's way."""

    def begin_to_take(self, takes: Callable[[Request], int]) -> None:
        """From now on each answer takes so many milliseconds."""
        self._asleep: list[tuple[int, int, anyio.Event]] = []
        self._numbers = itertools.count()
        wire = self.poller.looking.wire
        send = wire.send

        async def sending(request: Request) -> object:
            awake = anyio.Event()
            until = self.clock.now() + takes(request)
            heapq.heappush(self._asleep, (until, next(self._numbers), awake))
            await awake.wait()
            return await send(request)

        wire.send = sending  # type: ignore[method-assign]

    async def pass_time(self, milliseconds: int) -> None:
        """Let time pass along what the looks and their answers ask for."""
        end = self.clock.now() + milliseconds
        async with anyio.create_task_group() as tasks:
            while self.clock.now() < end:
                while await self.poller.once(self.clock.now(), tasks):
                    await self._settle()
                await self._settle()
                due = self.clock.now() + math.ceil(await self.poller.next_wait() * SECOND)
                # A pass that had no slot or no allowance is called again a moment later.
                wakes = [max(due, self.clock.now() + 1), end]
                wakes += [until for until, _, _ in self._asleep[:1]]
                self.clock.advance(min(wakes) - self.clock.now())
                while self._asleep and self._asleep[0][0] <= self.clock.now():
                    heapq.heappop(self._asleep)[2].set()
                await self._settle()
            tasks.cancel_scope.cancel()

    async def _settle(self) -> None:
        """Let every look run until it waits for its answer or has ended."""
        while len(self.poller._slots) + self.poller._probing > len(self._asleep):
            await anyio.lowlevel.checkpoint()


async def punctuality(
    ends: list[float],
    poisonous: Mapping[int, Fault],
    duration: int,
    *,
    hanging: bool = False,
    eagerness: float = 1.0,
    **account: Any,
) -> Punctuality:
    """Watch batches that complete at these ages (seconds), those of some numbers poisonous.

    `hanging`: the poisonous answers take as long as a read may last.
    """
    with database() as state:
        world = TakingTime(state, polling={"eagerness": eagerness}, **account)
        # What they share is to be the requests a minute, not pages.
        world.lists = False
        await world.start()
        ids = [
            world.openai.add(Fate.completed(after=after), id=f"batch_{number:032x}")
            for number, after in enumerate(ends)
        ]
        bad = {ids[number]: fault for number, fault in poisonous.items()}

        def spoil(honest: Answer, call: Call) -> Answer:
            return bad[call.id or ""].spoil(honest, call)

        world.simulation.faults.add(
            Fault("poison", spoil), kind=Kind.RETRIEVE, match=lambda call: call.id in bad
        )
        await world.register(*ids)
        slow = tuple(bad) if hanging else ()
        world.begin_to_take(
            lambda request: HANGING if request.url.rpartition("/")[2] in slow else AT_ONCE
        )
        await world.pass_time(duration)
        found = Punctuality(requests=world.openai.requests.total)
        truth = {id: START + round(after * SECOND) for id, after in zip(ids, ends, strict=True)}
        for event in await all_events(world):
            if event.batch is not None and event.batch.ended:
                found.delays.setdefault(event.batch.id, event.detected_at - truth[event.batch.id])
        for id in bad:
            found.delays.pop(id, None)
        found.unseen = [id for id in ids if id not in bad and id not in found.delays]
        await world.app.close()
        return found
