"""watcher run: the daemon."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from watcher.cli.options import Common, common_options
from watcher.errors import ConfigError

if TYPE_CHECKING:
    from watcher.app import App, Plan
    from watcher.config import Settings
    from watcher.store.lock import StateLock

UNREACHED = 5
STANDBY_EVERY = 0.5
# A command that only looks whether the lock is free holds it for a moment.
TRIES = 3
TRY_EVERY = 0.02
SIGHUP = getattr(signal, "SIGHUP", None)


@click.command(name="run")
@click.option("--once", is_flag=True, help="Look at what is due, send what waits, and end.")
@common_options(json=False)
def command(*, common: Common, once: bool) -> int:
    """Watch until stopped. The first SIGTERM or Ctrl-C ends well, SIGHUP reloads."""
    import anyio

    from watcher.app import App
    from watcher.clock import SystemClock
    from watcher.daemon import check_urls
    from watcher.log import configure, get
    from watcher.store.lock import StateLock

    with _early_signals():
        settings = common.settings()
        redactor = common.redactor
        configure(debug=common.debug, json=None, redactor=redactor)
        log = get("daemon")
        _make_place(settings, log)
        lock = StateLock(settings.state)
        try:
            if not once:
                settings = _stand_by(settings, common, lock, log)
            elif not _taken_soon(lock):
                log.warning("nothing done: a daemon watches this state", state=settings.state)
                return 0
            app = _open(App, SystemClock(), settings, redactor, log)
            try:
                plan = app.plan(settings)
                _check_accounts(plan)
                check_urls(plan)
                if once:
                    return anyio.run(_once, app, plan)
                anyio.run(_watch, app, plan, common)
            finally:
                app.database.close()
        finally:
            lock.release()
    return 0


@contextmanager
def _early_signals() -> Iterator[None]:
    """End well, or go on, before the daemon answers signals itself.

    A SIGHUP in this time has nothing to tell: the configuration is read when the lock is ours.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {
            number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGINT)
        }
        if SIGHUP is not None:
            before[SIGHUP] = signal.signal(SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(0)


def _make_place(settings: Settings, log: Any) -> None:
    """Make the state's directory: its lock comes before its file."""
    from pathlib import Path

    from watcher.store import place

    place.make_folder(Path(place.settled(settings.state)).parent)
    warning = place.warning(settings.state)
    if warning is not None:
        log.warning(warning)


def _open(kind: type[App], clock: Any, settings: Settings, redactor: Any, log: Any) -> App:
    from watcher.store.schema import open_state
    from watcher.version import __version__

    database = open_state(settings.state, program=__version__, change=True)
    return kind(database, clock, log, redactor)


def _stand_by(settings: Settings, common: Common, lock: StateLock, log: Any) -> Settings:
    """Wait until the state's lock is ours; returns the settings as they are by then.

    Raises ConfigError when the daemon that has it has other accounts or channels: to stand by for
    it would leave ours unwatched.
    """
    waited = False
    while not _taken_soon(lock):
        beat = _their_beat(settings)
        if _differ(beat, settings):
            # Perhaps only because the file has changed since we began.
            settings = _read_again(settings, common, log)
        if _differ(beat, settings):
            raise ConfigError(
                f"daemon pid {beat.get('pid')} watches this state with other accounts or channels; "
                "stop it, or give this one a state of its own with --state"
            )
        if not waited:
            log.info("standing by for the daemon that watches this state", pid=beat.get("pid"))
        waited = True
        time.sleep(STANDBY_EVERY)
    return _read_again(settings, common, log) if waited else settings


def _taken_soon(lock: StateLock) -> bool:
    """Whether the lock is ours; one that is only being tried by `status` is free in a moment."""
    for _ in range(TRIES):
        if lock.acquire():
            return True
        time.sleep(TRY_EVERY)
    return False


def _their_beat(settings: Settings) -> dict[str, Any]:
    from watcher.client import LocalClient

    with LocalClient(settings).opened(create=False) as client:
        return client.daemon().beat


def _differ(beat: dict[str, Any], settings: Settings) -> bool:
    from watcher.config import fingerprint

    ours = fingerprint(settings)
    return bool("stopped_at" not in beat and beat.get("fingerprint", ours) != ours)


def _read_again(settings: Settings, common: Common, log: Any) -> Settings:
    try:
        anew = common.settings()
    except ConfigError as error:
        log.error("the configuration is not read again", error=str(error))
        return settings
    return anew.model_copy(update={"state": settings.state})


async def _once(app: App, plan: Plan) -> int:
    await app.begin(plan, spread=False, void_leases=True)
    try:
        reached = await app.once()
    finally:
        await app.close()
    if (
        not reached
        and app.pollers
        and any(poller.standing.asked for poller in app.pollers.values())
    ):
        app.log.error("no account could be reached")
        return UNREACHED
    return 0


async def _watch(app: App, plan: Plan, common: Common) -> None:
    from watcher.daemon import Daemon

    await Daemon(app, common.settings).run(plan)


def _check_accounts(plan: Plan) -> None:
    if not plan.looking:
        raise ConfigError(
            "there is no account to watch: set OPENAI_API_KEY, CEREBRAS_API_KEY or CO_API_KEY, "
            "or run `watcher init`"
        )
