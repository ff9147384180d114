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
from watcher.text import clean_line, clean_lines, harmless_json, plural, shorten

if TYPE_CHECKING:
    from watcher.client import LocalClient

BAR = 10
# The most of one cell, and the least that is left of the last one in a line.
CELL = 2_000
LEAST_LAST = 8
COLOURS = {
    Severity.SUCCESS: "green",
    Severity.INFO: "cyan",
    Severity.WARNING: "yellow",
    Severity.FAILURE: "red",
}


def print_json(document: object) -> None:
    """One document on standard output."""
    click.echo(_dumped(document, indent=2))


def print_json_line(document: object) -> None:
    """One line of a stream."""
    click.echo(_dumped(document, separators=(",", ":")))


def _dumped(document: object, **options: Any) -> str:
    return harmless_json(json.dumps(document, ensure_ascii=needs_escapes(), **options))


def needs_escapes() -> bool:
    """Whether standard output cannot carry every character: JSON's escapes mean the same."""
    encoding = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "")
    return not encoding.startswith("utf")


def at_person() -> bool:
    """Whether standard error is a terminal: whether a person reads our notes."""
    return sys.stderr.isatty()


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
    """Aligned columns; `colours` paint one cell a row at a terminal.

    At a terminal the last column is cut to fit, and nothing else is: where the others alone fill
    the line, the first stands on a line of its own.
    """
    cells = [[clean_line(cell, CELL) for cell in row] for row in rows]
    if not cells:
        return
    painter = _Painter(colours, colour_column)
    lines = [list(headings), *cells]
    if at_terminal() and _breadth(lines) + LEAST_LAST > width():
        click.echo("\n".join(_stacked(lines, painter)))
    else:
        click.echo("\n".join(_aligned(lines, painter)))


class _Painter:
    """Paints the cells of a table where colour is welcome; the first line is its heading."""

    def __init__(self, colours: Sequence[str | None], column: int) -> None:
        self._colours = colours
        self._column = column
        self._welcome = in_colour()

    def painted(self, cell: str, line: int, column: int) -> str:
        if not self._welcome:
            return cell
        if line == 0:
            return click.style(cell, bold=True)
        colour = self._colours[line - 1] if line <= len(self._colours) else None
        return click.style(cell, fg=colour) if colour and column == self._column else cell


def _sizes(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def _breadth(lines: Sequence[Sequence[str]]) -> int:
    """What all columns but the last take."""
    return sum(size + 2 for size in _sizes(lines)[:-1])


def _aligned(
    lines: Sequence[Sequence[str]], painter: _Painter, *, first: int = 0, indent: int = 0
) -> list[str]:
    """One line a row, of the columns from `first` on."""
    shown = [line[first:] for line in lines]
    sizes = _sizes(shown)
    room = width() - indent - _breadth(shown) if at_terminal() else None
    aligned = []
    for number, line in enumerate(shown):
        *cells, last = line
        padded = [cell.ljust(size) for cell, size in zip(cells, sizes, strict=False)]
        padded.append(last if room is None else shorten(last, max(LEAST_LAST, room)))
        painted = [
            painter.painted(cell, number, column) for column, cell in enumerate(padded, first)
        ]
        aligned.append(" " * indent + "  ".join(painted).rstrip())
    return aligned


def _stacked(lines: Sequence[Sequence[str]], painter: _Painter) -> list[str]:
    """Two lines a row: the first column whole, the others below it."""
    below = _aligned(lines, painter, first=1, indent=2)
    stacked = []
    for number, (line, rest) in enumerate(zip(lines, below, strict=True)):
        stacked += [painter.painted(line[0], number, 0), rest]
    return stacked


def bar(share: float | None, size: int = BAR) -> str:
    """`██████░░░░  60%`; blanks where nothing is known."""
    if share is None:
        return " " * (size + 5)
    full = int(share * size)
    return "█" * full + "░" * (size - full) + f" {int(share * 100):3d}%"


def progress_text(batch: Batch) -> str:
    """Done of total, as far as it is known: `45/100`; once ended `98 of 100, 2 failed`."""
    counts = batch.counts
    if counts.total is None or counts.completed is None:
        return "-"
    if batch.ended:
        failed = f", {counts.failed} failed" if counts.failed else ""
        return f"{counts.completed} of {counts.total}{failed}"
    return f"{counts.completed + (counts.failed or 0)}/{counts.total}"


def status_text(batch: Batch) -> str:
    """The status, with the outcome where it says more."""
    if batch.status is None:
        return "not seen yet"
    if batch.status is Status.UNKNOWN:
        return f"unknown: {clean_line(batch.raw_status or '', 20)}"
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


def clean(text: str | None) -> str:
    """A text out of the state as one printable line: anybody may have written it."""
    return clean_line(text or "", CELL)


def without_owner(text: str, what: str, name: str) -> str:
    """A complaint without the `channel "team": ` that its line begins with anyhow."""
    return text.removeprefix(f'{what} "{name}": ').removeprefix(f"{name}: ")


def note_missing_state(client: LocalClient) -> None:
    """Say that there is nothing to read: perhaps another state was meant."""
    if not client.exists:
        note(f"there is no state at {client.settings.state} yet")


def note_unreadable(keys: Sequence[str]) -> None:
    """Name the batches whose rows a later version wrote, or somebody damaged."""
    if keys:
        named = ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")
        many = plural(len(keys), "batch")
        note(f"{many} cannot be read, written by a later version or damaged: {named}")


def note(text: str) -> None:
    """A line for people, on standard error."""
    click.echo(clean_lines(text), err=True)


def warn_of_dead(client: LocalClient) -> None:
    """Say that messages are undelivered when no channel could say so itself."""
    if not client.exists or not at_person():
        return
    dead = client.read(lambda ledger: ledger.outbox.dead_ones())
    if not dead:
        return
    failed = {channel for _, channel in dead}
    well = {one.name for one in client.subjects()[1] if one.failing_since is None} - failed
    if not well & set(client.directory().channels):
        state = DeliveryState.DEAD
        note(f"{plural(len(dead), 'message')} undelivered: watcher deliveries --state {state}")
