"""Options that every command takes, before or after its name, and what they lead to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from watcher.client import LocalClient
    from watcher.config import Settings

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(slots=True)
class Common:
    """What the common options said; filled before and after the command's name."""

    config: Path | None = None
    state: str | None = None
    debug: bool = False
    json: bool = False

    def settings(self) -> Settings:
        """The settings in force. Raises ConfigError."""
        from watcher.config import load

        return load(self.config, state=self.state)

    def client(self) -> LocalClient:
        """The state of the settings in force, not yet opened."""
        from watcher.client import LocalClient

        return LocalClient(self.settings())


def common_options(*, json: bool) -> Callable[[Function], Function]:
    """Add the common options to a command, and hand it one `common`."""

    def decorate(function: Function) -> Function:
        @wraps(function)
        def wrapped(*values: Any, **options: Any) -> Any:
            context = click.get_current_context()
            common = context.find_root().ensure_object(Common)
            for name in ("config", "state", "debug", "json"):
                given = options.pop(f"common_{name}", None)
                if given:
                    setattr(common, name, given)
            return function(*values, common=common, **options)

        command: Any = wrapped
        if json:
            command = click.option("--json", "common_json", is_flag=True, help="Print JSON.")(
                command
            )
        for option in (
            click.option("--debug", "common_debug", is_flag=True, help="Log all there is."),
            click.option("--state", "common_state", metavar="PATH", help="The state's file."),
            click.option(
                "--config",
                "common_config",
                metavar="FILE",
                type=click.Path(path_type=Path),
                help="The configuration file.",
            ),
        ):
            command = option(command)
        result: Function = command
        return result

    return decorate


def open_ids(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Keys of open batches that begin so, for the shell's completion; never an error."""
    try:
        common = ctx.find_root().ensure_object(Common)
        with common.client().opened(create=False) as client:
            if not client.exists:
                return []
            batches = client.read(lambda ledger: ledger.batches.watched(open_only=False))
    except Exception:  # noqa: BLE001  a completion that fails completes nothing
        return []
    names = [name for batch in batches for name in (batch.key, batch.id)]
    return [name for name in names if name.startswith(incomplete)]
