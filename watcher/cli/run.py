"""watcher run: the daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from watcher.cli.options import Common, common_options
from watcher.errors import ConfigError

if TYPE_CHECKING:
    from watcher.app import App, Plan
    from watcher.config import Settings
    from watcher.store.lock import StateLock

UNREACHED = 5


@click.command(name="run")
@click.option("--once", is_flag=True, help="Look at what is due, send what waits, and end.")
@common_options(json=False)
def command(*, common: Common, once: bool) -> int:
    """Watch until stopped. The first SIGTERM or Ctrl-C ends well, SIGHUP reloads."""
    import anyio

    from watcher.app import App
    from watcher.clock import SystemClock
    from watcher.log import configure, get
    from watcher.redaction import Redactor
    from watcher.store.lock import StateLock

    settings = common.settings()
    redactor = Redactor()
    configure(debug=common.debug, json=None, redactor=redactor)
    log = get("daemon")
    lock = StateLock(settings.state)
    _make_place(settings)
    try:
        if once and not lock.acquire():
            log.warning("nothing done: a daemon watches this state", state=settings.state)
            return 0
        if not once:
            anyio.run(_stand_by, settings, lock, log)
        app = _open(App, SystemClock(), settings, redactor, log)
        try:
            plan = app.plan(settings)
            if once:
                return anyio.run(_once, app, plan)
            anyio.run(_watch, app, plan, common)
        finally:
            app.database.close()
    finally:
        lock.release()
    return 0


def _make_place(settings: Settings) -> None:
    """Make the state's directory: its lock comes before its file."""
    from pathlib import Path

    from watcher.errors import StoreError

    folder = Path(settings.state).parent
    try:
        if not folder.exists():
            folder.mkdir(mode=0o700, parents=True)
    except OSError as error:
        message = f"cannot create {folder}: {(error.strerror or '').lower()}; use --state"
        raise StoreError(message) from error


def _open(kind: type[App], clock: Any, settings: Settings, redactor: Any, log: Any) -> App:
    from watcher.store.schema import open_state
    from watcher.version import __version__

    database = open_state(settings.state, program=__version__, change=True)
    return kind(database, clock, log, redactor)


async def _stand_by(settings: Settings, lock: StateLock, log: Any) -> None:
    from watcher.client import LocalClient
    from watcher.config import fingerprint
    from watcher.daemon import take_lock

    def theirs() -> dict[str, Any]:
        with LocalClient(settings).opened(create=False) as client:
            return client.daemon().beat

    def waiting(beat: dict[str, Any]) -> None:
        log.info("standing by for the daemon that watches this state", pid=beat.get("pid"))

    await take_lock(lock, ours=fingerprint(settings), theirs=theirs, waiting=waiting)


async def _once(app: App, plan: Plan) -> int:
    await app.begin(plan, spread=False, void_leases=True)
    try:
        reached = await app.once()
    finally:
        await app.close()
    if not reached and app.pollers and any(poller.asked for poller in app.pollers.values()):
        app.log.error("no account could be reached")
        return UNREACHED
    return 0


async def _watch(app: App, plan: Plan, common: Common) -> None:
    from watcher.daemon import Daemon

    if not plan.looking:
        message = (
            "there is no account to watch: set OPENAI_API_KEY, CEREBRAS_API_KEY or CO_API_KEY, "
            "or run `watcher init`"
        )
        raise ConfigError(message)
    await Daemon(app, common.settings).run(plan)
