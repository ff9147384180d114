"""watcher backup: a consistent copy of the state while the daemon runs."""

from __future__ import annotations

from pathlib import Path

import click

from watcher.cli.options import Common, common_options
from watcher.cli.output import note
from watcher.errors import StoreError, UsageError
from watcher.text import clean_line

# Longer than a path can be.
PATH_SHOWN = 5_000


@click.command(name="backup")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@common_options(json=False)
def command(*, common: Common, file: Path) -> None:
    """Write a consistent copy of the state to FILE, which must not exist yet."""
    shown = clean_line(str(file), PATH_SHOWN)
    try:
        exists = file.exists()
    except OSError as error:
        raise UsageError(f"{shown}: {(error.strerror or '').lower()}: name a new file") from None
    if exists:
        raise UsageError(f"{shown} exists already: name a new file")
    if not file.absolute().parent.is_dir():
        raise UsageError(f"{shown}: there is no directory {file.absolute().parent}")
    with common.client().opened(create=False) as client:
        if not client.exists:
            raise StoreError(f"there is no state at {client.settings.state} to copy")
        client.database.backup(str(file))
        note(f"copied {client.settings.state} to {shown} ({file.stat().st_size:,} bytes)")
