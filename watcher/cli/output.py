"""How commands speak: JSON, tables that fit the terminal, lines that can be copied.

A table is aligned text; on a terminal it has colour. No cell is cut but the last column's.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from watcher.model import Batch, DeliveryState, Outcome, Severity, Status
from watcher.text import plural, shorten

if TYPE_CHECKING:
    from watcher.client import LocalClient

BAR = 10
COLOURS = {
    Severity.SUCCESS: "green",
    Severity.INFO: "cyan",
    Severity.WARNING: "yellow",
    Severity.FAILURE: "red",
}


def print_json(document: object) -> None:
    """One document on standard output."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))


def print_json_line(document: object) -> None:
    """One line of a stream."""
    click.echo(json.dumps(document, ensure_ascii=False, separators=(",", ":")))


def at_terminal() -> bool:
    """Whether standard output is a terminal that a person looks at."""
    return sys.stdout.isatty()


def in_colour() -> bool:
    """Whether colour is welcome."""
    return at_terminal() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def width() -> int:
    """Columns of the terminal."""
    return shutil.get_terminal_size((80, 24)).columns


def styled(text: str, **style: Any) -> str:
    """The text in colour where colour is welcome."""
    return click.style(text, **style) if in_colour() else text


def print_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    colours: Sequence[str | None] = (),
    *,
    colour_column: int = 1,
) -> None:
    """Aligned columns; at a terminal the last is cut to fit, and `colours` paint one cell a row."""
    rows = [tuple(row) for row in rows]
    if not rows:
        return
    sizes = [
        max(len(heading), *(len(row[column]) for row in rows))
        for column, heading in enumerate(headings)
    ]
    room = width() - sum(size + 2 for size in sizes[:-1]) if at_terminal() else None
    lines = []
    for number, row in enumerate([tuple(headings), *rows]):
        cells = [cell.ljust(size) for cell, size in zip(row, sizes, strict=True)]
        last = row[-1]
        cells[-1] = shorten(last, max(8, room)) if room is not None and len(last) > room else last
        if in_colour():
            if number == 0:
                cells = [click.style(cell, bold=True) for cell in cells]
            elif number <= len(colours) and colours[number - 1]:
                cells[colour_column] = click.style(cells[colour_column], fg=colours[number - 1])
        lines.append("  ".join(cells).rstrip())
    click.echo("\n".join(lines))


def bar(share: float | None, size: int = BAR) -> str:
    """`██████░░░░  60%`; blanks where nothing is known."""
    if share is None:
        return " " * (size + 5)
    full = int(share * size)
    return "█" * full + "░" * (size - full) + f" {int(share * 100):3d}%"


def progress_text(batch: Batch) -> str:
    """Done of total, as far as it is known: `45/100`."""
    counts = batch.counts
    if counts.total is None or counts.completed is None:
        return "-"
    return f"{counts.completed + (counts.failed or 0)}/{counts.total}"


def status_text(batch: Batch) -> str:
    """The status, with the outcome where it says more."""
    if batch.status is None:
        return "not seen yet" if not batch.last_error else "not seen: error"
    if batch.status is Status.UNKNOWN:
        return f"unknown: {shorten(batch.raw_status or '', 20)}"
    if batch.outcome in {Outcome.PARTIAL, Outcome.EMPTY}:
        return f"{batch.status} ({batch.outcome})"
    return str(batch.status)


def severity_of_batch(batch: Batch) -> Severity:
    """How its present status would be told."""
    from watcher.lifecycle import severity_of
    from watcher.model import EventType

    if batch.status is None:
        return Severity.INFO
    return severity_of(EventType(f"batch.{batch.status}"), batch.status, batch.outcome)


def note(text: str) -> None:
    """A line for people, on standard error."""
    click.echo(text, err=True)


def warn_of_dead(client: LocalClient) -> None:
    """Say that messages are undelivered when no channel could say so itself."""
    if not client.exists or not sys.stderr.isatty():
        return
    dead = client.read(lambda ledger: ledger.outbox.dead_ones())
    if not dead:
        return
    failed = {channel for _, channel in dead}
    well = {one.name for one in client.subjects()[1] if one.failing_since is None} - failed
    if not well & set(client.directory().channels):
        state = DeliveryState.DEAD
        note(f"{plural(len(dead), 'message')} undelivered: watcher deliveries --state {state}")
