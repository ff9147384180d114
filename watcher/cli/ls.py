"""watcher ls: the open batches as a table."""

from __future__ import annotations

from collections.abc import Iterable

import click

from watcher.cli.listing import in_bulk, print_batches, print_lines
from watcher.cli.options import Common, common_options
from watcher.cli.output import (
    COLOURS,
    at_terminal,
    bar,
    clean,
    note,
    note_missing_state,
    note_unreadable,
    print_table,
    progress_text,
    severity_of_batch,
    status_text,
    warn_of_dead,
    width,
)
from watcher.model import Batch, Status
from watcher.store.batches import Listed
from watcher.text import span

# Below this many columns a bar would push the name off the line.
WIDE = 110


@click.command(name="ls")
@click.option("-q", "--quiet", is_flag=True, help="Keys only.")
@click.option("-a", "--all", "all_", is_flag=True, help="The ended ones too.")
@click.option("--status", multiple=True, type=click.Choice([str(one) for one in Status]))
@click.option("--account", help="Only this account.")
@click.option("--tag", multiple=True, help="Only with this tag.")
@click.option("--group", help="Only of this group.")
@click.option("--registered-by", help="Only what this user registered.")
@common_options(json=True)
def command(
    *,
    common: Common,
    quiet: bool,
    all_: bool,
    status: tuple[str, ...],
    account: str | None,
    tag: tuple[str, ...],
    group: str | None,
    registered_by: str | None,
) -> None:
    """List the open batches: status, progress, age, time until expiry."""
    ended_wanted = all_ or any(Status(one).terminal for one in status)
    with common.client().opened(create=False) as client, in_bulk():
        listed = Listed([])
        note_missing_state(client)
        if client.exists:
            listed = client.read(
                lambda ledger: ledger.batches.listed(open_only=not ended_wanted, account=account)
            )
        batches = (
            batch
            for batch in listed
            if (not status or batch.status in status)
            and set(tag) <= set(batch.registration.tags)
            and group in {None, batch.registration.group}
            and registered_by in {None, batch.registration.registered_by}
        )
        if common.json:
            print_batches(batches)
        elif quiet:
            print_lines(clean(batch.key) for batch in batches)
        else:
            shown = _print(batches, client.clock.now(), set(client.directory().accounts))
            if client.exists and not shown:
                note("no batch to show" if all_ else "no open batch (--all shows ended ones)")
        note_unreadable(listed.unreadable)
        warn_of_dead(client)


def _print(batches: Iterable[Batch], now: int, accounts: set[str]) -> int:
    """The table; how many batches it has."""
    wide = at_terminal() and width() >= WIDE
    rows, colours = [], []
    for batch in batches:
        rows.append(_row(batch, now, wide=wide, watched=batch.account in accounts))
        colours.append(COLOURS[severity_of_batch(batch)])
    print_table(("BATCH", "STATUS", "PROGRESS", "AGE", "EXPIRES", "NAME"), rows, colours)
    return len(rows)


def _row(batch: Batch, now: int, *, wide: bool, watched: bool) -> tuple[str, ...]:
    born = batch.created_at or batch.registration.registered_at
    until = None if batch.expires_at is None or batch.ended else batch.expires_at - now
    expires = "-" if until is None else span(until) if until > 0 else "overdue"
    progress = progress_text(batch)
    # A full bar would look like success where everything failed.
    if wide and not batch.ended:
        progress = f"{bar(batch.counts.progress)} {progress}"
    elif batch.counts.progress is not None and at_terminal() and not batch.ended:
        progress = f"{bar(batch.counts.progress, 5)}"
    status = status_text(batch)
    if batch.status is None and batch.last_error:
        status += " (error)"
    if not watched:
        status += ", not watched"
    return (batch.key, status, progress, span(max(0, now - born)), expires, batch.name or "")
