"""Who would be told of what: what `add`, `wait`, `routes` and `check` say of the routes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from watcher.lifecycle import severity_of
from watcher.model import Batch, Event, EventType, Outcome, Status
from watcher.routing import DEFAULT_EVENTS, Switchboard, audience, mismatch, untaken_types

if TYPE_CHECKING:
    from watcher.client import LocalClient

SUCCESS = ((Status.COMPLETED, Outcome.OK),)
FAILURE = ((Status.FAILED, Outcome.EMPTY),)
FAILURES = (
    *FAILURE,
    (Status.COMPLETED, Outcome.EMPTY),
    (Status.EXPIRED, Outcome.EMPTY),
    (Status.LOST, None),
)
# An account that no route can name.
ANY_ACCOUNT = ""

End = tuple[Status, Outcome | None]


def told_text(client: LocalClient, batches: Iterable[Batch]) -> str:
    """Who will hear of these batches' ends: `team; of failures only: pager`."""
    board = client.board()
    if not board.channels:
        return "no channel is configured"
    kinds = _kinds(batches, board)
    groups: dict[str, list[str]] = {
        "": [],
        "of failures only: ": [],
        "of success only: ": [],
        "of some of them: ": [],
    }
    for channel in board.channels:
        heard = {_heard(board, channel, batch) for batch in kinds}
        if len(heard) > 1:
            groups["of some of them: "].append(channel)
        elif (label := next(iter(heard), None)) is not None:
            groups[label].append(channel)
    parts = [label + ", ".join(names) for label, names in groups.items() if names]
    return "; ".join(parts) or "nobody: no route takes it"


def _kinds(batches: Iterable[Batch], board: Switchboard) -> list[Batch]:
    """One batch for each kind that these routes can tell apart."""
    asked = sorted({name for route in board.routes for name in route.metadata})
    kinds: dict[object, Batch] = {}
    for batch in batches:
        said = batch.registration
        metadata = repr([batch.metadata.get(name) for name in asked]) if asked else ""
        key = (batch.account, said.tags, said.group, said.channels, metadata)
        kinds.setdefault(key, batch)
    return list(kinds.values())


def _heard(board: Switchboard, channel: str, batch: Batch) -> str | None:
    """Of which ends a channel hears, as a label; None if of none."""
    success, failure, some_failure = (
        any(_takes(board, channel, batch, end) for end in ends)
        for ends in (SUCCESS, FAILURE, FAILURES)
    )
    if success:
        return "" if failure else "of success only: "
    return "of failures only: " if some_failure else None


def _takes(board: Switchboard, channel: str, batch: Batch, end: End) -> bool:
    choices = audience(_event(batch, *end), board)
    return any(one.taken and one.channel == channel for one in choices)


def _event(batch: Batch, status: Status, outcome: Outcome | None) -> Event:
    kind = EventType(f"batch.{status}")
    return Event(
        "",
        kind,
        severity_of(kind, status, outcome),
        0,
        account=batch.account,
        # Not the first sight, of which --quiet-if-ended could keep silent.
        previous_status=Status.IN_PROGRESS,
        batch=replace(batch, status=status, outcome=outcome),
    )


def unrouted_channels(board: Switchboard) -> tuple[str, ...]:
    """The channels that stand in no route, where there are routes."""
    routed = {name for route in board.routes for name in route.channels}
    return tuple(name for name in board.channels if board.routes and name not in routed)


def conditional_types(board: Switchboard, accounts: Sequence[str]) -> tuple[EventType, ...]:
    """The default events of batches that routes take of some batches only.

    By their severity, outcome, account, tags, group or metadata.
    """
    if not board.routes:
        return ()
    untaken = untaken_types(board)
    return tuple(
        kind
        for kind in EventType
        if kind in DEFAULT_EVENTS
        and kind.startswith("batch.")
        and kind not in untaken
        and not all(
            any(mismatch(route, event) is None for route in board.routes)
            for event in _plain_events(kind, accounts or [ANY_ACCOUNT])
        )
    )


def _plain_events(kind: EventType, accounts: Sequence[str]) -> Iterator[Event]:
    """Events of a type as batches have them of which nothing was said."""
    for account in accounts:
        batch = Batch(account, "", "")
        if kind is EventType.REOPENED:
            severity = severity_of(kind, Status.IN_PROGRESS, None)
            yield Event("", kind, severity, 0, account=account, batch=batch)
            continue
        status = Status(kind.removeprefix("batch."))
        for outcome in _outcomes(status):
            yield _event(batch, status, outcome)


def _outcomes(status: Status) -> tuple[Outcome | None, ...]:
    """What a batch that ended so can have brought."""
    match status:
        case Status.LOST:
            return (None,)
        case Status.FAILED:
            return (Outcome.EMPTY,)
        case Status.CANCELLED | Status.EXPIRED:
            return (Outcome.EMPTY, Outcome.PARTIAL)
        case _:
            return (Outcome.OK, Outcome.PARTIAL, Outcome.EMPTY, None)


def gaps(board: Switchboard, accounts: Sequence[str]) -> list[str]:
    """What a user might not expect of the routes, a line each."""
    lines = []
    if unrouted := unrouted_channels(board):
        lines.append(f"in no route: {', '.join(unrouted)}{_operators_among(board, unrouted)}")
    if conditional := conditional_types(board, accounts):
        lines.append(f"taken under conditions only: {', '.join(conditional)}")
    if board.channels and (untaken := untaken_types(board)):
        lines.append(f"taken by no route: {', '.join(untaken)}")
    return lines


def _operators_among(board: Switchboard, names: Sequence[str]) -> str:
    """Say that those who stand in no route may yet be told of trouble."""
    told = [name for name in names if name in board.told_of_trouble]
    if not told:
        return ""
    who = "" if len(told) == len(names) else f"{', '.join(told)}: "
    return f" ({who}told of trouble, and of failures no route takes)"
