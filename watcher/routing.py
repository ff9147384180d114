"""Which channels want an event, and why the others do not. Pure.

Every matching route applies; the conditions of one route must all hold; a channel gets an event
once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from watcher.model import Batch, Choice, Event, EventType, Outcome, Severity

DEFAULT_EVENTS = frozenset(
    {
        EventType.COMPLETED,
        EventType.FAILED,
        EventType.EXPIRED,
        EventType.CANCELLED,
        EventType.LOST,
        EventType.REOPENED,
        EventType.ACCOUNT_UNAUTHORIZED,
        EventType.ACCOUNT_UNREACHABLE,
        EventType.ACCOUNT_RECOVERED,
        EventType.CHANNEL_FAILING,
        EventType.CHANNEL_RECOVERED,
    }
)


@dataclass(frozen=True, slots=True)
class Route:
    """Which events go to which channels; an empty condition holds for everything."""

    channels: tuple[str, ...]
    # What `routes` and `show` call it: `route 2`.
    name: str = "route 1"
    events: tuple[str, ...] = ()
    severity: Severity | None = None
    outcomes: tuple[Outcome, ...] = ()
    accounts: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_batch_conditions(self) -> bool:
        """Whether it asks for what only a batch has."""
        return bool(self.outcomes or self.tags or self.groups or self.metadata)


@dataclass(frozen=True, slots=True)
class Switchboard:
    """All that decides who is told: the channels there are, the routes, the operators."""

    channels: tuple[str, ...]
    routes: tuple[Route, ...] = ()
    # None: every channel.
    operators: tuple[str, ...] | None = None

    @property
    def told_of_trouble(self) -> tuple[str, ...]:
        """The operators' channels."""
        return self.channels if self.operators is None else self.operators


def audience(event: Event, board: Switchboard, *, news: bool = True) -> tuple[Choice, ...]:
    """For each channel whether it gets the event, and why; in the order of the channels.

    `news` is False for what has been told before: an unknown word that the operators know.
    """
    taken: dict[str, str] = {}
    refused: dict[str, str] = {}
    for route in board.routes:
        objection = mismatch(route, event)
        for channel in route.channels:
            if objection is None:
                taken.setdefault(channel, route.name)
            else:
                refused.setdefault(channel, f"{route.name}: {objection}")
    _take_unrouted(event, board, taken, news=news, routed=bool(taken))
    quiet = _registered_quietly(event)
    names = dict.fromkeys((*board.channels, *taken))
    return tuple(
        _choice(name, event, taken.get(name), refused.get(name), quiet=quiet) for name in names
    )


def _take_unrouted(
    event: Event, board: Switchboard, taken: dict[str, str], *, news: bool, routed: bool
) -> None:
    """Add whoever is told without a route: the batch's own channels, the operators."""
    default = event.type in DEFAULT_EVENTS
    if event.batch is None:
        everyone = event.type is EventType.CHANNEL_FAILING
        for channel in board.channels if everyone else board.told_of_trouble:
            taken.setdefault(channel, "operators")
        return
    if default:
        for channel in event.batch.registration.channels:
            taken.setdefault(channel, "named at registration")
        if not board.routes:
            for channel in board.channels:
                taken.setdefault(channel, "no routes: every channel gets the default events")
    if event.type is EventType.UNKNOWN and news:
        for channel in board.told_of_trouble:
            taken.setdefault(channel, "operators")
    if event.severity is Severity.FAILURE and not routed:
        for channel in board.told_of_trouble:
            taken.setdefault(channel, "operators: a failure no route takes")


def _choice(
    channel: str, event: Event, why: str | None, why_not: str | None, *, quiet: bool
) -> Choice:
    if channel == event.channel:
        return Choice(channel, taken=False, why="a channel's own trouble is told elsewhere")
    if quiet:
        return Choice(channel, taken=False, why="registered with --quiet-if-ended, and had ended")
    if why is not None:
        return Choice(channel, taken=True, why=why)
    if why_not is None:
        default = event.type in DEFAULT_EVENTS
        why_not = "no route names it" if default else f"{event.type} is not a default event"
    return Choice(channel, taken=False, why=why_not)


def _registered_quietly(event: Event) -> bool:
    batch = event.batch
    return (
        batch is not None
        and batch.registration.quiet_if_ended
        and event.previous_status is None
        and batch.ended
        # What was never found did not end: its id may be wrong.
        and event.type is not EventType.LOST
    )


def mismatch(route: Route, event: Event) -> str | None:
    """The first condition of the route that the event does not meet, in words; None if all hold."""
    if not _type_matches(route, event):
        return f"takes {', '.join(route.events) or 'the default events'}"
    if route.severity is not None and event.severity.rank < route.severity.rank:
        return f"takes severity {route.severity} and above"
    if route.accounts and event.account not in route.accounts:
        return f"takes accounts {', '.join(route.accounts)}"
    if event.batch is None:
        return None
    return _batch_mismatch(route, event.batch)


def _type_matches(route: Route, event: Event) -> bool:
    if event.batch is None and route.has_batch_conditions:
        # Such a route is about batches: it takes other events only if it says their kind.
        kind = str(event.type).split(".", 1)[0] + "."
        return any(
            pattern.startswith(kind) and fnmatchcase(event.type, pattern)
            for pattern in route.events
        )
    if not route.events:
        return event.type in DEFAULT_EVENTS
    return any(fnmatchcase(event.type, pattern) for pattern in route.events)


def _batch_mismatch(route: Route, batch: Batch) -> str | None:
    if route.outcomes and batch.outcome not in route.outcomes:
        return f"takes outcomes {', '.join(route.outcomes)}"
    if route.tags and not _any_matches(route.tags, batch.registration.tags):
        return f"takes tags {', '.join(route.tags)}"
    if route.groups and not _any_matches(route.groups, [batch.registration.group or ""]):
        return f"takes groups {', '.join(route.groups)}"
    if (unmet := unmet_metadata(route.metadata, batch.metadata)) is not None:
        return f"takes metadata {unmet} = {route.metadata[unmet]}"
    return None


def unmet_metadata(patterns: Mapping[str, str], metadata: Mapping[str, Any]) -> str | None:
    """The first key whose value in a batch's metadata fits not its pattern; None if all fit."""
    for key, pattern in patterns.items():
        value = metadata.get(key)
        values = value if isinstance(value, list | tuple) else [value]
        if not _any_matches([pattern], [_word(one) for one in values if one is not None]):
            return key
    return None


def _word(value: object) -> str:
    """A value of JSON as the user would write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _any_matches(patterns: Sequence[str], values: Collection[str]) -> bool:
    return any(fnmatchcase(value, pattern) for value in values for pattern in patterns)


def untaken_types(board: Switchboard) -> tuple[EventType, ...]:
    """The default events of batches that no route takes, whatever the batch."""
    if not board.routes:
        return () if board.channels else tuple(t for t in EventType if t in DEFAULT_EVENTS)
    return tuple(
        event_type
        for event_type in EventType
        if event_type in DEFAULT_EVENTS
        and event_type.startswith("batch.")
        and not any(_may_take(route, event_type) for route in board.routes)
    )


# The types that are never a failure, and those that come without an outcome.
_NEVER_FAILURE = frozenset({EventType.CANCELLED, EventType.REOPENED})
_NO_OUTCOME = frozenset({EventType.LOST, EventType.REOPENED})


def _may_take(route: Route, event_type: EventType) -> bool:
    if route.severity is Severity.FAILURE and event_type in _NEVER_FAILURE:
        return False
    if route.outcomes and event_type in _NO_OUTCOME:
        return False
    if not route.events:
        return event_type in DEFAULT_EVENTS
    return any(fnmatchcase(event_type, pattern) for pattern in route.events)
