"""watcher backup: a consistent copy of the state while the daemon runs."""

from __future__ import annotations

from pathlib import Path

import click

from watcher.cli.options import Common, common_options
from watcher.cli.output import note
from watcher.errors import StoreError, UsageError


@click.command(name="backup")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@common_options(json=False)
def command(*, common: Common, file: Path) -> None:
    """Write a consistent copy of the state to FILE, which must not exist yet."""
    if file.exists():
        raise UsageError(f"{file} exists already: name a new file")
    if not file.absolute().parent.is_dir():
        raise UsageError(f"{file}: there is no directory {file.absolute().parent}")
    with common.client().opened(create=False) as client:
        if not client.exists:
            raise StoreError(f"there is no state at {client.settings.state} to copy")
        client.database.backup(str(file))
        note(f"copied {client.settings.state} to {file} ({file.stat().st_size:,} bytes)")
