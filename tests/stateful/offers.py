"""What each channel must have been offered, by a count of its own beside the program's."""

from __future__ import annotations

from collections import Counter, defaultdict
from fnmatch import fnmatchcase

from tests.builders import SECOND
from tests.stateful.changing import GIVE_UP_AFTER, NAMES, Changing, Setup
from watcher.model import Delivery, DeliveryState, Event, EventType, Severity, TryOutcome
from watcher.routing import Route

DEFAULT = ("completed", "failed", "expired", "cancelled", "lost", "reopened")
LEAST_TRIES = 10


class Offers:
    """Follows what is recorded, and says in the end what is missing or too much."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        # By seq, who was to be told when it was recorded.
        self.wanted: dict[int, set[str]] = {}
        self.words: set[tuple[str | None, str | None]] = set()
        # Copies that may have come before the process died: a channel and an event's id.
        self.in_flight: Counter[tuple[str, str]] = Counter()
        # What was given up and asked for again comes out of its turn, as what was refused may.
        self.again: set[tuple[str, int]] = set()
        self.refused: set[str] = set()
        self.ended: dict[tuple[str, int], Delivery] = {}

    async def observe(self, world: Changing, setup: Setup) -> None:
        """Count what was recorded since the last time, while this was configured."""
        last = self.events[-1].seq if self.events else 0
        new = await world.books(lambda ledger: ledger.events.after(last, 10_000))
        for event in new:
            self.wanted[event.seq] = self._audience(event, setup)
        self.events += new
        for state in (DeliveryState.DEAD, DeliveryState.DROPPED):
            for one in await self._deliveries(world, state):
                if (one.channel, one.seq) not in self.ended:
                    self.ended[one.channel, one.seq] = one
                    self._is_legal(one, world)

    async def died(self, world: Changing) -> None:
        """The process is gone: what was taken and not written down may come again."""
        for name in NAMES:
            told = set(world.received(name))
            twice = {
                one.event_id
                for one in await self._deliveries(world, DeliveryState.PENDING, name)
                if one.event_id in told and not self.in_flight[name, one.event_id]
            }
            last = set(world.places[name][-1].ids(world.places[name][-1].taken[-1:]))

            # A channel has one message under way at a time.
            assert twice <= last
            self.in_flight.update((name, id) for id in twice)

    async def given_up(self, world: Changing) -> list[tuple[int, str]]:
        """What is dead or dropped, as seq and channel, noted as asked for again."""
        ended = [
            (one.seq, one.channel)
            for state in (DeliveryState.DEAD, DeliveryState.DROPPED)
            for one in await self._deliveries(world, state)
        ]
        self.again |= {(channel, seq) for seq, channel in ended}
        for seq, channel in ended:
            self.ended.pop((channel, seq), None)
        return ended

    async def settle(self, world: Changing) -> None:
        """All trouble is over and time enough has passed: nothing is missing, nothing too much."""
        ids = [event.id for event in self.events]
        seqs = [event.seq for event in self.events]
        offered: defaultdict[str, dict[str, int]] = defaultdict(dict)

        assert len(set(ids)) == len(ids)
        assert seqs == list(range(1, len(seqs) + 1))
        for event in self.events:
            rows = await world.deliveries(event)

            assert {one.channel for one in rows} == self.wanted[event.seq], event.id
            assert {one.state for one in rows} <= {DeliveryState.DELIVERED}, event.id
            for one in rows:
                offered[one.channel][event.id] = event.seq
        for name in NAMES:
            told = Counter(world.received(name))

            assert set(told) == set(offered[name])
            assert all(count <= 1 + self.in_flight[name, id] for id, count in told.items())
            self._in_order(name, world.received(name), offered[name])

    def _in_order(self, name: str, received: list[str], seqs: dict[str, int]) -> None:
        """Batches among themselves, and trouble among itself: it goes ahead of batches."""
        if name in self.refused:
            return
        first = [id for id in dict.fromkeys(received) if (name, seqs[id]) not in self.again]
        for of_batches in (False, True):
            in_turn = [seqs[id] for id in first if ("/" in id) is of_batches]

            assert in_turn == sorted(in_turn)

    @staticmethod
    def _is_legal(one: Delivery, world: Changing) -> None:
        if one.state is DeliveryState.DROPPED:
            gone_for = world.clock.monotonic() - world.gone_since[one.channel]

            assert one.channel not in world.setup.channels
            assert gone_for * SECOND >= GIVE_UP_AFTER
        else:
            assert len(one.tries) >= LEAST_TRIES
            assert all(each.outcome is not TryOutcome.DELIVERED for each in one.tries)

    @staticmethod
    async def _deliveries(
        world: Changing, state: DeliveryState, channel: str | None = None
    ) -> list[Delivery]:
        return await world.books(
            lambda ledger: ledger.outbox.newest(state=state, channel=channel, limit=10_000)
        )

    # Who is to be told, in plain words

    def _audience(self, event: Event, setup: Setup) -> set[str]:
        board = setup.board
        operators = set(board.channels if board.operators is None else board.operators)
        told = {name for route in board.routes if _takes(route, event) for name in route.channels}
        routed = bool(told)
        if event.type is EventType.CHANNEL_FAILING:
            told |= set(board.channels)
        elif event.batch is None:
            told |= operators
        else:
            if event.type.removeprefix("batch.") in DEFAULT:
                told |= set(event.batch.registration.channels)
                told |= set() if board.routes else set(board.channels)
            if event.severity is Severity.FAILURE and not routed:
                told |= operators
            if event.type is EventType.UNKNOWN and self._is_news(event):
                told |= operators
        return told - {event.channel}

    def _is_news(self, event: Event) -> bool:
        word = (event.account, event.batch.raw_status if event.batch else None)
        known = word in self.words
        self.words.add(word)
        return not known


def _takes(route: Route, event: Event) -> bool:
    """The conditions that the routes of this test have."""
    kind, word = event.type.split(".")
    if event.batch is None and (route.tags or route.groups):
        if not any(pattern.startswith(kind) for pattern in route.events):
            return False
    elif not route.events and kind == "batch" and word not in DEFAULT:
        return False
    if route.events and not any(fnmatchcase(event.type, pattern) for pattern in route.events):
        return False
    if route.severity is Severity.FAILURE and event.severity is not Severity.FAILURE:
        return False
    if route.accounts and event.account not in route.accounts:
        return False
    if event.batch is None:
        return True
    said = event.batch.registration
    if route.tags and not set(route.tags) & set(said.tags):
        return False
    return not route.groups or said.group in route.groups
