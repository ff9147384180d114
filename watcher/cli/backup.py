"""watcher backup: a consistent copy of the state while the daemon runs."""

from __future__ import annotations

from pathlib import Path

import click

from watcher.cli.options import Common, common_options
from watcher.cli.output import note


@click.command(name="backup")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@common_options(json=False)
def command(*, common: Common, file: Path) -> None:
    """Write a consistent copy of the state to FILE, which must not exist yet."""
    with common.client().opened(create=False) as client:
        client.database.backup(str(file))
        note(f"copied {client.settings.state} to {file} ({file.stat().st_size:,} bytes)")
