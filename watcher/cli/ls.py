"""watcher ls: the open batches as a table."""

from __future__ import annotations

import click

from watcher.cli.options import Common, common_options
from watcher.cli.output import (
    COLOURS,
    at_terminal,
    bar,
    clean,
    note,
    note_missing_state,
    note_unreadable,
    print_json,
    print_table,
    progress_text,
    severity_of_batch,
    status_text,
    warn_of_dead,
    width,
)
from watcher.documents import batch_document
from watcher.model import Batch, Status
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
    with common.client().opened(create=False) as client:
        batches: list[Batch] = []
        unreadable: list[str] = []
        note_missing_state(client)
        if client.exists:
            batches, unreadable = client.read(
                lambda ledger: ledger.batches.listed(open_only=not ended_wanted, account=account)
            )
        names = client.directory().accounts
        batches = [
            batch
            for batch in batches
            if (not status or batch.status in status)
            and set(tag) <= set(batch.registration.tags)
            and group in {None, batch.registration.group}
            and registered_by in {None, batch.registration.registered_by}
        ]
        now = client.clock.now()
        if common.json:
            print_json([batch_document(batch) for batch in batches])
        elif quiet:
            for batch in batches:
                click.echo(clean(batch.key))
        else:
            _print(batches, now, set(names))
            if client.exists and not batches:
                note("no batch to show" if all_ else "no open batch (--all shows ended ones)")
        note_unreadable(unreadable)
        warn_of_dead(client)


def _print(batches: list[Batch], now: int, accounts: set[str]) -> None:
    wide = at_terminal() and width() >= WIDE
    rows = [_row(batch, now, wide=wide, watched=batch.account in accounts) for batch in batches]
    headings = ("BATCH", "STATUS", "PROGRESS", "AGE", "EXPIRES", "NAME")
    colours = [COLOURS[severity_of_batch(batch)] for batch in batches]
    print_table(headings, rows, colours)


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
