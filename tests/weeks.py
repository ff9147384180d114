"""Days of many batches at providers that fail, and the judge of what was told of them.

Shared by the suite's small rounds and by `benchmarks/week.py` and `benchmarks/poison.py`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.builders import HOUR, MINUTE, SECOND
from tests.fakes import START
from tests.world import SameThread, World
from watcher.model import Event, Status
from watcher.simulator import (
    NAMED,
    Answer,
    Call,
    Fate,
    Fault,
    Kind,
    RequestLog,
    Wire,
    faults,
    garbage,
)
from watcher.simulator.answer import Entry
from watcher.simulator.chance import chance
from watcher.store.ledger import Ledger

TERMINAL = {str(status) for status in Status if status.terminal}
# So much before the end everything new has begun, so that all that ends is told in time.
QUIET = 6 * HOUR
# Longer than any wait between two looks, and some failures in a row.
PATIENCE = 2 * HOUR
PAGE_OF_EVENTS = 1_000
# Fates that live as they are: their times say how long a provider may deny a batch or let it rest
# before it runs again, or belong to its day.
UNHURRIED = {
    *("stuck", "vanished", "vanishing", "late_to_appear", "revived"),
    *("expired", "expired_with_results"),
}


@dataclass(frozen=True, slots=True)
class Life:
    """One batch of a week: when it is made and registered, where, and what becomes of it."""

    at: int
    wire: Wire
    fate: Fate


def lives(count: int, duration: int, *, quiet: int = QUIET, seed: int = 0) -> list[Life]:
    """Every fate at every provider that can act it out, over and over; the longest last a day.

    All but what never ends has ended when the time before the end is as long as `quiet`.
    """
    dice = chance(seed, "lives")
    last = max(1, duration - quiet)
    kinds = [(wire, name) for name in NAMED for wire in Wire if _suits(wire, name, duration)]
    found = []
    for number in range(count):
        wire, name = kinds[number % len(kinds)]
        fate = NAMED[name]()
        ends = max((step.at for step in fate.steps), default=0.0)
        if name not in UNHURRIED:
            # From half as long as it is by itself to as long as there is time for, at most a day.
            longest = max(1.0, min(86_400.0, last / 2 / SECOND) / max(ends, 1.0))
            fate = fate.faster(2 / (1 + dice.random()) / longest ** dice.random())
        room = last - round(max(step.at for step in fate.steps) * SECOND)
        found.append(Life(dice.randrange(max(1, room)), wire, fate))
    return sorted(found, key=lambda life: life.at)


def _suits(wire: Wire, name: str, duration: int) -> bool:
    if not name.startswith("expired"):
        return True
    return wire is not Wire.COHERE and duration > 24 * HOUR + 2 * QUIET


class Mixture:
    """Every fault of the catalogue in turn, drawn by what is asked and how often."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._kinds = [
            # What is late is late in true seconds.
            faults.late(0.0) if name == "late" else build()
            for name, build in garbage.CATALOGUE.items()
        ]
        self._asked: Counter[tuple[Wire, Kind, str | None]] = Counter()
        self.injected: Counter[str] = Counter()
        self.fault = Fault("mixture", self._spoil)

    def _spoil(self, honest: Answer, call: Call) -> Answer:
        subject = (call.wire, call.kind, call.id)
        self._asked[subject] += 1
        fault = chance(self._seed, *subject, self._asked[subject]).choice(self._kinds)
        self.injected[fault.name] += 1
        return fault.spoil(honest, call)


@dataclass(slots=True)
class Week:
    """What came of some days: who lived, what was told and asked, and what was wrong with it."""

    lives: Mapping[str, Life] = field(default_factory=dict)
    # The statuses and outcomes told of each batch, by its key.
    told: dict[str, list[tuple[str, str | None]]] = field(default_factory=dict)
    # Requests for one batch, and for a page of a list.
    looks: int = 0
    pages: int = 0
    injected: Counter[str] = field(default_factory=Counter)
    # The most requests of one account in any minute.
    busiest: int = 0
    # From the true end to the event that tells it, in milliseconds; by key.
    delays: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @property
    def asked(self) -> int:
        """All requests."""
        return self.looks + self.pages

    @property
    def ends(self) -> dict[str, set[tuple[str, str | None]]]:
        """The ends that were told, with their outcomes."""
        return {key: {one for one in told if one[0] in TERMINAL} for key, told in self.told.items()}


@contextmanager
def database() -> Iterator[SameThread]:
    """A state in memory."""
    opened = SameThread()
    yield opened
    opened.close()


async def live(
    of: list[Life], duration: int, *, share: float = 0.0, seed: int = 0, eagerness: float = 1.0
) -> Week:
    """Let these live while a share of all requests fails in every way there is."""
    with database() as state:
        world = World(state, *Wire, polling={"eagerness": eagerness})
        mixture, minutes = Mixture(seed), _Minutes()
        for provider in world.simulation.providers.values():
            provider._logs += (minutes,)
        if share:
            world.simulation.faults.add(mixture.fault, share=share)
        await world.start()
        born: dict[str, Life] = {}
        for life in of:
            await world.run(START + life.at - world.clock.now())
            id = world.simulation.providers[life.wire].add(life.fate)
            await world.register(id, account=life.wire.value)
            born[f"{life.wire}/{id}"] = life
        await world.run(START + duration - world.clock.now())
        week = Week(born, injected=mixture.injected, busiest=minutes.busiest)
        week.looks = world.simulation.requests.by_kind[Kind.RETRIEVE]
        week.pages = world.simulation.requests.by_kind[Kind.LIST]
        await _judge(week, world)
        await world.app.close()
        return week


class _Minutes(RequestLog):
    """Counts the requests of each account and minute as they come."""

    def clear(self) -> None:
        self._counted: Counter[tuple[Wire, int]] = Counter()

    def record(self, entry: Entry) -> None:
        self._counted[entry.call.wire, entry.call.at // MINUTE] += 1

    @property
    def busiest(self) -> int:
        return max(self._counted.values(), default=0)


async def all_events(world: World) -> list[Event]:
    """Every event of a world, in order."""
    found: list[Event] = []
    while True:
        after = found[-1].seq if found else 0
        page = await world.books(_page_after(after))
        found += page
        if len(page) < PAGE_OF_EVENTS:
            return found


def _page_after(seq: int) -> Callable[[Ledger], list[Event]]:
    return lambda ledger: ledger.events.after(seq, PAGE_OF_EVENTS)


async def _judge(week: Week, world: World) -> None:
    """Compare what was told with what was true."""
    events = await all_events(world)
    sent = world.channels["team"].ids()
    if sorted(sent) != sorted(one.id for one in events):
        week.wrong.append(f"{len(events)} events, {len(sent)} told, {len(set(sent))} of them once")
    for (what, labels), number in world.app.meter.counts.items():
        if what == "looks" and ("result", "crashed") in labels:
            week.wrong.append(f"{number} looks crashed")
    stories: dict[str, list[Event]] = {key: [] for key in week.lives}
    for event in events:
        if event.batch is None:
            week.wrong.append(f"{event.id}: {event.type}: {event.reason}")
        else:
            stories[event.batch.key].append(event)
    for key, story in stories.items():
        week.told[key] = [_stand(one) for one in story]
        account, _, id = key.partition("/")
        truth = world.simulation.providers[Wire(account)].truth(id)
        week.wrong += [f"{key}: {what}" for what in _wrongs(week, key, story, truth)]


def _stand(event: Event) -> tuple[str, str | None]:
    batch = event.batch
    if batch is None:
        return "", None
    status = batch.raw_status if batch.status is Status.UNKNOWN else batch.status
    return _plain(str(status)), None if batch.outcome is None else str(batch.outcome)


def _is(event: Event, word: str) -> bool:
    return _stand(event)[0] == word


def _plain(word: str) -> str:
    """A provider's word without its prefix and capitals."""
    return word.lower().removeprefix("batch_status_")


def _wrongs(
    week: Week, key: str, story: list[Event], truth: list[tuple[int, str]]
) -> Iterator[str]:
    """What is wrong with the story of one batch."""
    told, life = week.told[key], week.lives[key]
    if [one.id for one in story] != [f"{key}@{number + 1}" for number in range(len(story))]:
        yield "its revisions do not rise by one"
    gone = life.fate.name == "vanished"
    words = [*(_plain(word) for _, word in truth), *(["lost"] if gone else [])]
    left = iter(words)
    steps = [word for word, _ in itertools.groupby(word for word, _ in told)]
    if not all(word in left for word in steps):
        yield f"told {steps}, true was {words}"
    if any(before == after for before, after in itertools.pairwise(told)):
        yield f"told twice: {told}"
    # Some providers give whole seconds.
    times = {moment for at, _ in truth for moment in (at, at // SECOND * SECOND)}
    if any(one.occurred_at not in {None, *times} for one in story):
        yield "an event with a time that never was"
    ends = [(at, word) for at, word in truth if word in TERMINAL]
    last = "lost" if gone else ends[-1][1] if ends else None
    final = next((word for word, _ in reversed(told) if word in TERMINAL), None)
    if last != final:
        yield f"its end {last} was told as {final}: {told}"
    elif last is not None and not gone:
        at = ends[-1][0]
        # What ran twice may end twice in the same way, and that is told once.
        seen = [one.detected_at for one in story if one.detected_at >= at and _is(one, last)]
        if seen:
            week.delays[key] = min(seen) - at
        if week.delays.get(key, 0) > PATIENCE:
            yield f"its end was told {week.delays[key] // MINUTE} minutes late"
        if not seen and [word for _, word in ends].count(last) == 1:
            yield "its end was told before it came"


def compare(clean: Week, faulty: Week) -> list[str]:
    """What the days with faults told that the same days without did not: all wrong.

    An end may first be told with an outcome nobody knows, if its counts were garbled.
    """
    wrong = []
    for key, ends in faulty.ends.items():
        last, last_clean = faulty.told[key][-1:], clean.told[key][-1:]
        made_up = {(word, outcome) for word, outcome in ends - clean.ends[key] if outcome}
        unknown = any(outcome is None for _, outcome in last)
        if made_up or (unknown and last != last_clean) or not last:
            wrong.append(f"{key}: told {faulty.told[key]}, without faults {clean.told[key]}")
    return wrong
