"""How loud an event is, and what an end brought."""

from __future__ import annotations

from watcher.model import Counts, EventType, Outcome, Severity, Status


def outcome_of(status: Status, counts: Counts) -> Outcome | None:
    """What a terminal status brought, by the counts; None where they do not tell."""
    if status is Status.LOST:
        return None
    if not counts.total:
        by_status = {Status.FAILED: Outcome.EMPTY}
        if counts.total == 0:
            by_status[Status.CANCELLED] = Outcome.EMPTY
        return by_status.get(status)
    if counts.completed is None:
        return Outcome.EMPTY if status is Status.FAILED else None
    if counts.completed >= counts.total:
        return Outcome.OK
    return Outcome.PARTIAL if counts.completed else Outcome.EMPTY


def severity_of(event_type: EventType, status: Status | None, outcome: Outcome | None) -> Severity:
    """How loud an event is."""
    match event_type:
        case (
            EventType.ACCOUNT_UNAUTHORIZED
            | EventType.ACCOUNT_UNREACHABLE
            | EventType.CHANNEL_FAILING
        ):
            return Severity.FAILURE
        case EventType.ACCOUNT_RECOVERED | EventType.CHANNEL_RECOVERED:
            return Severity.SUCCESS
        case EventType.REOPENED | EventType.UNKNOWN:
            return Severity.WARNING
    if status is None or not status.terminal:
        return Severity.INFO
    return _severity_of_end(status, outcome)


def _severity_of_end(status: Status, outcome: Outcome | None) -> Severity:
    if outcome is Outcome.PARTIAL:
        return Severity.WARNING
    if status in {Status.FAILED, Status.LOST}:
        return Severity.FAILURE
    if outcome is Outcome.OK:
        return Severity.SUCCESS
    if status is Status.CANCELLED:
        return Severity.INFO
    if outcome is Outcome.EMPTY or status is Status.EXPIRED:
        return Severity.FAILURE
    return Severity.INFO
