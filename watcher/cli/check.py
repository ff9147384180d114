"""watcher check: everything that can be known before it matters; it sends nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from watcher.cli.options import Common, common_options
from watcher.cli.output import note, print_json, styled, without_owner
from watcher.cli.told import gaps
from watcher.errors import ConfigError, StoreError, Unauthorized, WatcherError
from watcher.store import place
from watcher.text import plural

if TYPE_CHECKING:
    from watcher.app import App
    from watcher.config import Settings


@click.command(name="check")
@click.option("--offline", is_flag=True, help="Make no request.")
@common_options(json=True)
def command(*, common: Common, offline: bool) -> int:
    """Read the configuration, open the state, try each credential, parse each channel.

    Each account's credential is tried with one harmless request. Nothing is sent.
    """
    settings = common.settings()
    results = [_configuration(settings), _state(settings)]
    results += _accounts(settings, common, offline=offline)
    results += [_channel(settings, name) for name in settings.channels]
    codes = [result.pop("code") for result in results]
    if common.json:
        print_json(results)
    else:
        _print(settings, results, offline=offline)
    for warning in (*settings.warnings, place.warning(settings.state)):
        if warning is not None:
            note(f"warning: {warning}")
    # Whatever else is wrong with an answer, the provider did not give one that we can use.
    codes = [code if code in {0, 1, 2, 3} else 5 for code in codes]
    return next((code for code in (2, 3, 5, 1) if code in codes), 0)


def _result(what: str, name: str, error: WatcherError | None = None) -> dict[str, Any]:
    """One line of the answer; `code` is the exit code it asks for."""
    code = 0 if error is None else error.exit_code
    return {
        "what": what,
        "name": name,
        "ok": error is None,
        "error": None if error is None else str(error),
        "code": code,
    }


def _configuration(settings: Settings) -> dict[str, Any]:
    """What loading it does not see: ids of no account, and the heartbeat's address."""
    from watcher.app import configured_batches

    try:
        configured_batches(settings)
        if settings.heartbeat.wanted:
            settings.heartbeat.url_secret()
    except ConfigError as error:
        return _result("configuration", str(settings.file or "none"), error)
    return _result("configuration", str(settings.file or "none"))


def _state(settings: Settings) -> dict[str, Any]:
    from watcher.client import state_exists
    from watcher.store.schema import open_state
    from watcher.version import __version__

    try:
        if state_exists(settings.state):
            open_state(settings.state, program=__version__, change=False).close()
        else:
            path = place.settled(settings.state)
            place.refuse_leftovers(path)
            _check_place(Path(path))
    except StoreError as error:
        return _result("state", settings.state, error)
    return _result("state", settings.state)


def _check_place(state: Path) -> None:
    """Whether the state could be made: the nearest directory that exists must be ours to write."""
    import os

    folder = place.nearest_folder(state)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        message = f"cannot create {state}: {folder} is not writable; name another with --state"
        raise StoreError(message)


def _accounts(settings: Settings, common: Common, *, offline: bool) -> list[dict[str, Any]]:
    import anyio

    from watcher.app import App
    from watcher.clock import SystemClock
    from watcher.log import get
    from watcher.store.sqlite import MEMORY, SqliteDatabase

    database = SqliteDatabase(MEMORY)
    app = App(database, SystemClock(), get("check"), common.redactor)
    results: dict[str, dict[str, Any]] = {}

    async def one(name: str) -> None:
        results[name] = await _account(app, settings, name, offline=offline)

    async def every_one() -> None:
        async with anyio.create_task_group() as tasks:
            for name in settings.accounts:
                tasks.start_soon(one, name)

    try:
        anyio.run(every_one)
    finally:
        database.close()
    return [results[name] for name in settings.accounts]


async def _account(app: App, settings: Settings, name: str, *, offline: bool) -> dict[str, Any]:
    from watcher.app import close_looking

    looking = app.looking(settings, name)
    try:
        secret = await looking.credential()
        if not offline:
            request = looking.provider.page(None, 1)
            now = app.clock.now()
            body = await looking.wire.send(looking.provider.authorize(request, secret, now))
            looking.provider.read_page(body)
    except WatcherError as error:
        return _result("account", name, _explained(settings, name, error))
    finally:
        await close_looking(looking)
    return _result("account", name)


def _explained(settings: Settings, name: str, error: WatcherError) -> WatcherError:
    if isinstance(error, Unauthorized):
        source = settings.accounts[name].secret.source
        return Unauthorized(f"{error}; the key is from {source}")
    return error


def _channel(settings: Settings, name: str) -> dict[str, Any]:
    from watcher.notify import check_url

    try:
        check_url(settings.channels[name].url_secret())
    except ConfigError as error:
        return _result("channel", name, error)
    return _result("channel", name)


def _print(settings: Settings, results: list[dict[str, Any]], *, offline: bool) -> None:
    for result in results:
        what, name = result["what"], result["name"]
        wrong = without_owner(result["error"] or "", what, name)
        said = styled("well", fg="green") if result["ok"] else styled(wrong, fg="red")
        if result["ok"] and what == "channel":
            said += f", as far as its URL tells: watcher test {name}"
        elif result["ok"] and what == "account" and offline:
            said += ", but not asked"
        click.echo(f"{what:<13}  {name}: {said}")
    if not settings.accounts:
        note("no account: set OPENAI_API_KEY, CEREBRAS_API_KEY or CO_API_KEY, or run watcher init")
    if not settings.channels:
        note("no channel: nobody is told anything; add one to the configuration")
    _note_proxies()
    _note_leftovers(settings)
    for line in gaps(settings.switchboard(), list(settings.accounts)):
        note(line)


def _note_proxies() -> None:
    from watcher.providers.proxies import proxies_in_use

    for scheme, proxy in proxies_in_use().items():
        note(f"{scheme} requests go through the proxy {proxy}")


def _note_leftovers(settings: Settings) -> None:
    """Name what waits for channels, and batches of accounts, that are no longer configured."""
    from watcher.client import LocalClient

    try:
        with LocalClient(settings).opened(create=False) as client:
            if not client.exists:
                return
            pending = client.read(lambda ledger: ledger.outbox.pending_by_channel())
            accounts = client.read(lambda ledger: ledger.batches.accounts_in_use())
    except StoreError:
        return
    for name, count in pending.items():
        if name not in settings.channels:
            note(f"channel {name} is not configured: {plural(count, 'event')} wait for it")
    for name, count in accounts.items():
        if name not in settings.accounts:
            note(f"account {name} is not configured: {plural(count, 'batch')} not watched")
