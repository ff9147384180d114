"""Live progress on standard error: a table that redraws itself at a terminal, else lines."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from watcher.cli.output import (
    COLOURS,
    bar,
    clean,
    note,
    progress_text,
    severity_of_batch,
    status_text,
)
from watcher.model import Batch
from watcher.text import clean_line, span

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

# Rows beyond the screen's height would scroll the table out of reach.
MOST_ROWS = 20
# What status, bar and age take.
BESIDE_THE_NAME = 50
# A longer name would be folded, and a line of it could look like one of ours.
NAME_LENGTH = 60


class Progress:
    """Shows batches while they are waited for."""

    def __init__(self) -> None:
        self._live: Any = None
        self._told: dict[str, tuple[str, str | None]] = {}
        self._at_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def show(self, batches: Sequence[Batch]) -> None:
        """Show how they stand."""
        if not self._at_terminal:
            self._tell(batches)
            return
        if self._live is None:
            self._live = _live()
            self._live.start()
        console, now = self._live.console, time.time_ns() // 1_000_000
        longest = max((len(_subject(batch)) for batch in batches), default=0)
        if longest + BESIDE_THE_NAME <= console.width:
            shown: Table | Group = table(batches, now)
        else:
            shown = stacked(batches, now, most=max(1, console.height // 2 - 2))
        self._live.update(shown, refresh=True)

    def close(self) -> None:
        """Let go of the terminal."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _tell(self, batches: Sequence[Batch]) -> None:
        """One line for each change of status, or new trouble."""
        for batch in batches:
            state = (status_text(batch), batch.last_error if not batch.ended else None)
            if self._told.get(batch.key) == state or batch.last_look_at is None:
                continue
            self._told[batch.key] = state
            # Of what was never seen there is no progress to tell.
            progress = "" if batch.status is None else progress_text(batch)
            parts = [batch.key, state[0], progress, clean(state[1])]
            note("  ".join(part for part in parts if part))


def _subject(batch: Batch) -> str:
    """Its name, cut as messages cut it; a key is never cut."""
    return clean_line(batch.name or "", NAME_LENGTH) or clean(batch.key)


def _live() -> Any:
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, no_color="NO_COLOR" in os.environ or None)
    return Live(console=console, auto_refresh=False, transient=True)


def stacked(batches: Sequence[Batch], now: int, *, most: int) -> Group:
    """Two lines a batch, so that its key stays whole on a narrow terminal."""
    from rich.console import Group
    from rich.text import Text

    shown = sorted(batches, key=lambda batch: batch.ended)[:most]
    lines = []
    for batch in shown:
        lines.append(Text(_subject(batch), overflow="fold"))
        told = (
            ("  ", ""),
            (f"{status_text(batch):<12}", COLOURS[severity_of_batch(batch)]),
            (f"{bar(batch.counts.progress)}  ", ""),
            (span(_age(batch, now)), "dim"),
            (f"  {clean(batch.last_error) if not batch.ended else ''}", "yellow"),
        )
        lines.append(Text.assemble(*told, no_wrap=True, overflow="ellipsis"))
    if len(batches) > len(shown):
        lines.append(Text(f"and {len(batches) - len(shown)} more", style="dim"))
    return Group(*lines)


def _age(batch: Batch, now: int) -> int:
    born = batch.created_at or batch.registration.registered_at
    until = batch.ended_at if batch.ended and batch.ended_at else now
    return max(0, until - born)


def table(batches: Sequence[Batch], now: int) -> Table:
    """Batches with bars, as a table for a terminal."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(overflow="fold")
    for _ in range(3):
        grid.add_column(no_wrap=True)
    grid.add_column(overflow="ellipsis", no_wrap=True)
    # Those still going on are what one waits for.
    shown = sorted(batches, key=lambda batch: batch.ended)[:MOST_ROWS]
    for batch in shown:
        grid.add_row(
            Text(_subject(batch)),
            Text(status_text(batch), style=COLOURS[severity_of_batch(batch)]),
            Text(bar(batch.counts.progress)),
            Text(span(_age(batch, now)), style="dim"),
            Text(clean(batch.last_error) if not batch.ended else "", style="yellow"),
        )
    if len(batches) > len(shown):
        grid.add_row(Text(f"and {len(batches) - len(shown)} more", style="dim"))
    return grid
