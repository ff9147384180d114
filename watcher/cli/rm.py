"""watcher rm: stops watching."""

from __future__ import annotations

import click

from watcher.cli.add import read_ids
from watcher.cli.listing import in_bulk, print_batches, print_lines
from watcher.cli.options import Common, common_options, open_ids
from watcher.cli.output import note, warn_of_dead
from watcher.errors import NoSuchBatch
from watcher.text import plural


@click.command(name="rm")
@click.argument("ids", nargs=-1, required=True, metavar="ID…", shell_complete=open_ids)
@common_options(json=True)
def command(*, common: Common, ids: tuple[str, ...]) -> None:
    """Stop watching batches. What already happened is still told.

    The provider's batch is never touched.
    """
    with common.client().opened(create=False) as client, in_bulk():
        found = client.find_all(read_ids(ids))
        gone = [batch.key for batch in found if batch.removed_at is not None]
        if gone:
            message = f"{gone[0]} is not watched: it was removed already"
            raise NoSuchBatch(message)
        removed = client.remove(found)
        if common.json:
            print_batches(removed)
        else:
            print_lines(batch.key for batch in removed)
        note(f"{plural(len(removed), 'batch')} no longer watched; they go on at the provider")
        warn_of_dead(client)
