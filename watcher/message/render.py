"""What a channel is told: events as a title and a body, one by one or many in one message.

Pure, and knows no service: `style` says how much fits and which characters mean something.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from watcher.message.style import DOCUMENT, MARK_LENGTH, Line, Style, fit, fit_whole, neutral
from watcher.model import Batch, Counts, Event, EventType, Message, Outcome, Severity, Status
from watcher.text import clean_line, iso, local, plural, span

NAME_LENGTH = 60
PROBLEMS_SHOWN = 3
PROBLEM_LENGTH = 300
NOTICE_LENGTH = 1_000
LATE = 60_000
# With more than this waiting, one summary settles all where people read.
SUMMARY_ABOVE = 200

# What a page's address may consist of, so that it can be passed on as it is.
_PAGE = re.compile(r"https://[A-Za-z0-9._~:/?#=&%+-]{1,1000}")

Pages = Callable[[Batch], str | None]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A message, and the events it names: only those are settled when it is delivered."""

    message: Message
    named: tuple[Event, ...]


def no_page(_batch: Batch) -> str | None:
    """The page of a batch at a provider that has none."""
    return None


def render(
    events: Sequence[Event],
    style: Style,
    *,
    instance: str,
    zone: tzinfo | None,
    waiting: int,
    pages: Pages = no_page,
) -> Rendered:
    """One message of these events, oldest first, that stays within what the service takes.

    `waiting` counts all that wait for the channel, these included. Never mixes what happened to
    batches with trouble: the caller does not hand in both.
    """
    if not events:
        raise ValueError("a message needs at least one event")
    if waiting > SUMMARY_ABOVE and len(events) > 1 and not style.by_program:
        return _summary(events, style, instance, zone)
    if len(events) > 1:
        digest = _digest(events, style, instance, waiting)
        if digest is not None:
            return digest
    event = events[0]
    lines = _lines(event, style, instance, zone, pages)
    return Rendered(fit(title(event, style), lines, event.severity, style), (event,))


def title(event: Event, style: Style = DOCUMENT) -> str:
    """`PARTIAL nightly evals: 98 of 100, 2 failed`: the word that matters comes first."""
    word, subject, facts = _headline(event, style)
    tail = f": {facts}" if facts else ""
    room = style.title_max - len(word) - len(tail) - 1 - MARK_LENGTH * style.emoji
    # The figures say more than the end of a long name does.
    subject = clean_line(subject, max(10, min(NAME_LENGTH, room)))
    return neutral(f"{word} {subject}".rstrip() + tail, style)


def body(event: Event, *, instance: str, zone: tzinfo | None = None, pages: Pages = no_page) -> str:
    """All there is to say of one event, for documents: plain lines, nothing cut."""
    return "\n".join(text for _, text in _lines(event, DOCUMENT, instance, zone, pages))


def notice(heading: str, text: str, severity: Severity, style: Style) -> Message:
    """A message of our own that is of no event, and in which nothing quoted can mean anything."""
    heading = neutral(clean_line(heading, style.title_max), style)
    return fit(heading, [(0, neutral(clean_line(text, NOTICE_LENGTH), style))], severity, style)


def test_message(channel: str, instance: str, style: Style) -> Message:
    """A message that cannot be taken for news."""
    sender = clean_line(instance, NAME_LENGTH)
    return notice(
        f"TEST of channel {clean_line(channel, NAME_LENGTH)}",
        f"This is only a test, sent by watcher on {sender}. No batch is meant.",
        Severity.INFO,
        style,
    )


# What happened, in words.

_WORDS = {
    EventType.VALIDATING: "VALIDATING",
    EventType.QUEUED: "QUEUED",
    EventType.IN_PROGRESS: "RUNNING",
    EventType.FINALIZING: "FINALIZING",
    EventType.CANCELLING: "CANCELLING",
    EventType.FAILED: "FAILED",
    EventType.EXPIRED: "EXPIRED",
    EventType.CANCELLED: "CANCELLED",
    EventType.LOST: "LOST",
    EventType.REOPENED: "REOPENED",
    EventType.UNKNOWN: "UNKNOWN",
}
_COMPLETED_WORDS = {Outcome.PARTIAL: "PARTIAL", Outcome.EMPTY: "EMPTY"}
_TROUBLES = {
    EventType.ACCOUNT_UNAUTHORIZED: "credential rejected",
    EventType.ACCOUNT_UNREACHABLE: "unreachable",
    EventType.ACCOUNT_RECOVERED: "well again",
    EventType.CHANNEL_FAILING: "takes no messages",
    EventType.CHANNEL_RECOVERED: "takes messages again",
}
_ADVICE = {
    EventType.ACCOUNT_UNAUTHORIZED: "None of its batches is looked at until the credential works;"
    " it is tried once a minute. Renew the key, then run: watcher check",
    EventType.ACCOUNT_UNREACHABLE: "Its batches are looked at again once it answers."
    " Look at the network, the base URL and the provider's status page.",
    EventType.ACCOUNT_RECOVERED: "Its batches are looked at again.",
    EventType.CHANNEL_FAILING: "Its messages wait and are tried again. Look at:"
    " watcher deliveries --state pending",
    EventType.CHANNEL_RECOVERED: "What waited is being sent.",
}
# The order of the counts in a digest's title; what is not here follows.
_KINDS = ["ok", "done", "partial", "empty", "failed", "expired", "cancelled", "lost"]


def _headline(event: Event, style: Style) -> tuple[str, str, str]:
    batch = event.batch
    if batch is None or event.type in _TROUBLES:
        kind, name = ("CHANNEL", event.channel) if event.channel else ("ACCOUNT", event.account)
        return kind, name or "", _TROUBLES.get(event.type, event.type.value)
    name = clean_line(batch.name or "", NAME_LENGTH) if style.details else ""
    return _word(event, batch), name or batch.id, _facts(event, batch, style)


def _word(event: Event, batch: Batch) -> str:
    if event.type is EventType.COMPLETED:
        return _COMPLETED_WORDS.get(batch.outcome, "DONE") if batch.outcome else "DONE"
    return _WORDS.get(event.type, "CHANGED")


def _facts(event: Event, batch: Batch, style: Style) -> str:
    counted = _counted(batch.counts)
    match event.type:
        case EventType.COMPLETED:
            return counted or "counts not given"
        case EventType.EXPIRED if batch.outcome is Outcome.PARTIAL:
            return f"{counted}, paid results waiting"
        case EventType.LOST:
            never_seen = event.previous_status is None
            return "never found" if never_seen else "the provider no longer knows it"
        case EventType.REOPENED:
            before = event.previous_status
            return f"{_status(batch.status)} again" + (f" after {before.value}" if before else "")
        case EventType.UNKNOWN:
            told = style.details and batch.raw_status
            return f"status “{clean_line(batch.raw_status or '', 40)}”" if told else "new status"
    return counted


def _counted(counts: Counts) -> str:
    if not counts.total or counts.completed is None:
        return ""
    text = f"{counts.completed:,} of {counts.total:,}"
    for count, word in (
        (counts.failed, "failed"),
        (counts.expired, "expired"),
        (counts.cancelled, "cancelled"),
    ):
        text += f", {count:,} {word}" if count else ""
    return text


def _status(status: Status | None) -> str:
    return "not seen yet" if status is None else status.value.replace("_", " ")


def _kind(event: Event) -> str:
    batch = event.batch
    if batch is None or event.type in _TROUBLES:
        return event.type.value.rpartition(".")[2]
    if batch.outcome is Outcome.PARTIAL and batch.ended:
        return "partial"
    if event.type is EventType.COMPLETED:
        return "done" if batch.outcome is None else batch.outcome.value
    return event.type.value.rpartition(".")[2].replace("_", " ")


# The body, line by line: each with how soon it is given up where there is little room, 0 last.


def _lines(
    event: Event, style: Style, instance: str, zone: tzinfo | None, pages: Pages
) -> list[Line]:
    batch = event.batch
    if batch is None or event.type in _TROUBLES:
        lines = _trouble_lines(event, style)
    else:
        lines = _batch_lines(event, batch, style, zone, pages)
    if event.lag is not None and event.lag > LATE:
        lines.append((7, f"Seen {span(event.lag)} late"))
    lines.append((6, neutral(f"From {clean_line(instance, NAME_LENGTH)}", style)))
    lines.append((0, _event_id(event, style)))
    return lines


def _trouble_lines(event: Event, style: Style) -> list[Line]:
    lines: list[Line] = []
    if event.reason and style.details:
        lines.append((1, neutral(f"Why: {clean_line(event.reason, PROBLEM_LENGTH)}", style)))
    if advice := _ADVICE.get(event.type):
        lines.append((2, advice))
    return lines


def _batch_lines(
    event: Event, batch: Batch, style: Style, zone: tzinfo | None, pages: Pages
) -> list[Line]:
    lines: list[Line] = [(5, neutral(clean_line(batch.key, 600), style))]
    if event.previous_status is batch.status and batch.ended:
        lines.append((3, "This is news of a batch that had already ended."))
    if batch.ended and batch.created_at is not None:
        ended = batch.ended_at or event.occurred_at or event.detected_at
        took = span(max(0, ended - batch.created_at))
        lines.append((4, f"Took {took}, ended {local(ended, zone)} {_zone_name(ended, zone)}"))
    counted = _counted(batch.counts)
    if counted:
        lines.append((4, f"Requests: {counted}"))
    elif event.type is EventType.COMPLETED:
        lines.append((4, "Requests: the provider gives no counts"))
    # Why a batch is lost is in our own words.
    if batch.reason and event.type is EventType.LOST:
        lines.append((1, neutral(f"Why: {clean_line(batch.reason, PROBLEM_LENGTH)}", style)))
    lines += _problem_lines(batch, style)
    lines += _result_lines(event, batch, style)
    page = pages(batch)
    if page and _PAGE.fullmatch(page):
        lines.append((8, page))
    return lines


def _problem_lines(batch: Batch, style: Style) -> list[Line]:
    total = max(batch.problem_total, len(batch.problems))
    if not style.details:
        return [(2, f"The provider gives {plural(total, 'reason')}")] if total else []
    shown = batch.problems[:PROBLEMS_SHOWN]
    lines: list[Line] = []
    for number, problem in enumerate(shown):
        line = f"line {problem.line}" if problem.line is not None else None
        text = ": ".join(part for part in (line, problem.code, problem.message) if part)
        lead = "Also" if number else "Why"
        lines.append((1 + number, neutral(f"{lead}: {clean_line(text, PROBLEM_LENGTH)}", style)))
    if total > len(shown):
        lines.append((5, f"And {plural(total - len(shown), 'more problem')}"))
    return lines


def _result_lines(event: Event, batch: Batch, style: Style) -> list[Line]:
    lines: list[Line] = []
    if event.type is EventType.EXPIRED and batch.outcome is Outcome.PARTIAL:
        lines.append((2, "The results of what was done are paid for and waiting."))
    for name, file in (("Results", batch.results.output), ("Errors", batch.results.errors)):
        if file:
            where = neutral(clean_line(file, 480), style) if style.details else "in a file"
            lines.append((3, f"{name}: {where}"))
    return lines


def _event_id(event: Event, style: Style) -> str:
    key, _, revision = event.id.rpartition("@")
    # The last @ is ours and only figures follow it: it stays, so that the id can be copied.
    return f"{neutral(clean_line(key, 600), style)}@{clean_line(revision, 20)}"


def _zone_name(at: int, zone: tzinfo | None) -> str:
    return datetime.fromtimestamp(at // 1000, UTC).astimezone(zone).tzname() or ""


# Several events in one message.


def _digest(events: Sequence[Event], style: Style, instance: str, waiting: int) -> Rendered | None:
    """As many lines as fit, or None when not even two do: then one event is told in full."""
    mark = " - " if style.ascii_marks else " · "
    lines = [
        f"{title(event, style)}{mark}{_event_id(event, style)}"
        for event in events[: style.lines_max]
    ]
    sender = neutral(f"From {clean_line(instance, NAME_LENGTH)}", style)

    def attempt(count: int) -> Message | None:
        whole: list[Line] = [(0, line) for line in lines[:count]]
        rest = max(waiting, len(events)) - count
        if rest:
            whole.append((0, f"{rest:,} more to come"))
        named = events[:count]
        return fit_whole(_tally(named), [*whole, (1, sender)], _loudest(named), style)

    # The line of what is still to come counts too.
    low, high = 1, min(len(events), style.lines_max)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (low, middle - 1) if attempt(middle) is None else (middle, high)
    message = attempt(low) if low > 1 else None
    return None if message is None else Rendered(message, tuple(events[:low]))


def _summary(events: Sequence[Event], style: Style, instance: str, zone: tzinfo | None) -> Rendered:
    first = min(event.detected_at for event in events)
    last = max(event.detected_at for event in events)
    lines: list[Line] = [
        (2, f"Between {local(first, zone)} and {local(last, zone)} {_zone_name(last, zone)}"),
        (3, "Too much happened to tell one by one. For all of it:"),
        (0, f"watcher events --since {iso(first // 1000 * 1000)}"),
        (4, neutral(f"From {clean_line(instance, NAME_LENGTH)}", style)),
    ]
    loud = [event for event in events if event.severity is Severity.FAILURE]
    room = max(0, style.lines_max - len(lines))
    lines[1:1] = [(5, title(event, style)) for event in loud[:room]]
    return Rendered(fit(_tally(events), lines, _loudest(events), style), tuple(events))


def _tally(events: Sequence[Event]) -> str:
    kinds = Counter(_kind(event) for event in events)
    order = sorted(kinds, key=lambda kind: _KINDS.index(kind) if kind in _KINDS else len(_KINDS))
    counted = ", ".join(f"{kinds[kind]:,} {kind}" for kind in order)
    subjects = {event.batch.key for event in events if event.batch}
    noun = "batch" if len(subjects) == len(events) else "event"
    return f"{plural(len(events), noun)}: {counted}"


def _loudest(events: Sequence[Event]) -> Severity:
    return max((event.severity for event in events), key=lambda severity: severity.rank)
