"""watcher test: a marked test message through channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from watcher.cli.options import Common, common_options
from watcher.cli.output import note, print_json, styled, without_owner
from watcher.directory import no_such_channel
from watcher.errors import ConfigError, UsageError
from watcher.model import TryOutcome

if TYPE_CHECKING:
    from watcher.config import Settings
    from watcher.redaction import Redactor


@click.command(name="test")
@click.argument("channels", nargs=-1, metavar="CHANNEL…")
@click.option("--all", "all_", is_flag=True, help="Every channel.")
@common_options(json=True)
def command(*, common: Common, channels: tuple[str, ...], all_: bool) -> int:
    """Send a clearly marked test message and report per channel."""
    import anyio

    settings = common.settings()
    names = list(settings.channels) if all_ else list(dict.fromkeys(channels))
    if not settings.channels:
        message = "no channel is configured: add one, as `watcher init` shows"
        raise UsageError(message)
    if not names:
        there = ", ".join(settings.channels)
        raise UsageError(f"name a channel, or --all: there is {there}")
    for name in names:
        if name not in settings.channels:
            raise UsageError(no_such_channel(name, settings.channels))
    results = anyio.run(_test_all, settings, common.redactor, names)
    if common.json:
        print_json(results)
    else:
        for result in results:
            name, error = result["name"], result["error"]
            wrong = without_owner(error or "", "channel", name)
            click.echo(
                f"{name}: {styled(wrong, fg='red') if wrong else styled('sent', fg='green')}"
            )
        if all(result["ok"] for result in results):
            note("sent is what the service says: look whether it arrived")
    return 0 if all(result["ok"] for result in results) else 1


async def _test_all(
    settings: Settings, redactor: Redactor, names: list[str]
) -> list[dict[str, Any]]:
    import anyio

    results: dict[str, dict[str, Any]] = {}

    async def one(name: str) -> None:
        error = await _test(settings, redactor, name)
        results[name] = {"what": "channel", "name": name, "ok": error is None, "error": error}

    async with anyio.create_task_group() as tasks:
        for name in names:
            tasks.start_soon(one, name)
    return [results[name] for name in names]


async def _test(settings: Settings, redactor: Redactor, name: str) -> str | None:
    """What went wrong with one channel, None if nothing."""
    import anyio

    from watcher.app import open_notifier
    from watcher.clock import SystemClock
    from watcher.message import test_message
    from watcher.notify.channel import DEADLINE

    try:
        notifier = open_notifier(settings, name, redactor, SystemClock())
    except ConfigError as error:
        return str(error)
    try:
        with anyio.move_on_after(DEADLINE):
            sent = await notifier.send(test_message(name, settings.instance, notifier.style))
            return None if sent.outcome is TryOutcome.DELIVERED else (sent.error or "not taken")
        return f"no answer within {DEADLINE:.0f} s"
    finally:
        notifier.close()
