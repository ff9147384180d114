"""Options that every command takes, before or after its name, and what they lead to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from watcher.client import LocalClient
    from watcher.config import Settings
    from watcher.redaction import Redactor

Function = TypeVar("Function", bound=Callable[..., Any])
# Of the parameters that hold them, so that none clashes with a command's own.
PREFIX = "common_"


@dataclass(slots=True)
class Common:
    """What the common options said; filled before and after the command's name."""

    config: Path | None = None
    state: str | None = None
    debug: bool = False
    json: bool = False
    _redactor: Redactor | None = field(default=None, init=False, repr=False)

    @property
    def redactor(self) -> Redactor:
        """The process's own: what it knows is struck out of the log and out of its last words."""
        if self._redactor is None:
            from watcher.redaction import Redactor

            self._redactor = Redactor()
        return self._redactor

    def settings(self) -> Settings:
        """The settings in force. Raises ConfigError, or StoreError for a state closed to us."""
        from watcher.config import load
        from watcher.errors import StoreError

        try:
            return load(self.config, state=self.state)
        except PermissionError as error:
            # Already to ask whether it is there is denied: of the state, or of a secret.
            raise StoreError(
                f"cannot open {error.filename}: permission denied; "
                "check its permissions, or name another state with --state"
            ) from error

    def client(self) -> LocalClient:
        """The state of the settings in force, not yet opened."""
        from watcher.client import LocalClient

        return LocalClient(self.settings())


def common_options(*, json: bool, state: bool = True) -> Callable[[Function], Function]:
    """Add the common options to a command, and hand it one `common`.

    `state` False: the command has a `--state` of its own, which see.
    """

    def decorate(function: Function) -> Function:
        @wraps(function)
        def wrapped(*values: Any, **options: Any) -> Any:
            context = click.get_current_context()
            common = context.find_root().ensure_object(Common)
            _note(common, options)
            given = {name: one for name, one in options.items() if not name.startswith(PREFIX)}
            return function(*values, common=common, **given)

        command: Any = wrapped
        if json:
            command = click.option("--json", f"{PREFIX}json", is_flag=True, help="Print JSON.")(
                command
            )
        command = click.option("--debug", f"{PREFIX}debug", is_flag=True, help="Log all there is.")(
            command
        )
        if state:
            command = click.option(
                "--state", f"{PREFIX}state", metavar="PATH", help="The state's file."
            )(command)
        command = click.option(
            "--config",
            f"{PREFIX}config",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="The configuration file.",
        )(command)
        result: Function = command
        return result

    return decorate


def _note(common: Common, options: Mapping[str, Any]) -> None:
    for name in ("config", "state", "debug", "json"):
        if given := options.get(PREFIX + name):
            setattr(common, name, given)


def open_ids(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Keys of open batches that begin so, for the shell's completion; never an error."""
    common = Common()
    for level in (ctx.find_root(), ctx):
        _note(common, level.params)
    try:
        with common.client().opened(create=False) as client:
            if not client.exists:
                return []
            batches = client.read(lambda ledger: ledger.batches.watched(open_only=False))
    except Exception:  # noqa: BLE001  a completion that fails completes nothing
        return []
    names = [name for batch in batches for name in (batch.key, batch.id)]
    return [name for name in names if name.startswith(incomplete)]
