"""watcher init: a commented configuration to begin with."""

from __future__ import annotations

import os
from pathlib import Path

import click

from watcher.cli.options import Common, common_options
from watcher.cli.output import note
from watcher.errors import ConfigError


@click.command(name="init")
@click.argument("file", required=False, type=click.Path(path_type=Path), metavar="[FILE]")
@common_options(json=False)
def command(*, common: Common, file: Path | None) -> None:
    """Write a commented configuration file, for its owner alone; never over an existing one."""
    from watcher.config import example

    target = file or common.config or _default_place()
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        message = f"{target} exists already: edit it, or name another file"
        raise ConfigError(message) from None
    except OSError as error:
        message = f"cannot write {target}: {(error.strerror or '').lower()}"
        raise ConfigError(message) from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(example())
    click.echo(str(target))
    note("edit it, then: watcher check")


def _default_place() -> Path:
    from watcher.config import Places

    return Places.of_this_machine().user_config / "config.toml"
