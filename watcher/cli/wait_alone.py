"""Waiting without a daemon: we look for ourselves, in memory, and leave nothing behind.

The daemon's own pollers and couriers do it, over a state that is gone with the process.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import anyio

from watcher.app import App, Plan
from watcher.cli.channels import OWN_CHANNEL, named_channel
from watcher.cli.output import note
from watcher.cli.waiting import CREDENTIAL, NOTIFY_WITHIN, End, View, Waiting, pause_after
from watcher.clock import SystemClock
from watcher.config import Settings
from watcher.courier import ChannelCourier
from watcher.daemon import LEASE_EVERY, Loops
from watcher.errors import ConfigError
from watcher.log import configure, get
from watcher.store.batches import Registering
from watcher.store.ledger import Ledger
from watcher.store.schema import open_state
from watcher.store.sqlite import MEMORY
from watcher.version import __version__


def alone(waiting: Waiting) -> End:
    """Look until it is over. Raises ConfigError where a key or a channel cannot be used."""
    redactor = waiting.redactor
    if waiting.debug:
        configure(debug=True, json=None, redactor=redactor)
    settings = settings_for(waiting)
    database = open_state(MEMORY, program=__version__, change=True)
    try:
        app = App(database, SystemClock(), get("wait"), redactor)
        plan = app.plan(settings)
        for name, reason in plan.disabled.items():
            raise ConfigError(reason if name != OWN_CHANNEL else f"--notify: {reason}")
        return anyio.run(_alone, app, plan, waiting)
    finally:
        database.close()


async def _alone(app: App, plan: Plan, waiting: Waiting) -> End:
    try:
        await app.begin(plan, spread=False)
        await app.write(lambda ledger: _register(ledger, waiting))
        end = await _look(app, waiting)
        waiting.progress.close()
        notes = [note for courier in app.couriers.values() for note in await _flush(app, courier)]
        if end.verdict == CREDENTIAL:
            accounts = dict.fromkeys(account for account, _ in waiting.keys)
            sources = (f"{name}'s key is from {_source(plan, name)}" for name in accounts)
            notes = [*sources, *notes]
        return replace(end, notes=(*end.notes, *notes))
    finally:
        with anyio.CancelScope(shield=True):
            await app.close()


def _source(plan: Plan, account: str) -> str:
    return plan.settings.accounts[account].secret.source


async def _look(app: App, waiting: Waiting) -> End:
    loops = Loops(app)
    async with anyio.create_task_group() as tellers:
        loops.start_new(tellers, [], list(app.couriers.values()))
        async with anyio.create_task_group() as lookers:
            loops.start_new(lookers, list(app.pollers.values()), [])
            lookers.start_soon(loops.every, LEASE_EVERY, "leases", loops.renew)
            end = await _watch(app, waiting)
            loops.stop()
            # A look under way is of no use to anybody any more.
            lookers.cancel_scope.cancel()
        # But a message under way would be sent twice if it were cut off.
        tellers.cancel_scope.deadline = anyio.current_time() + NOTIFY_WITHIN
    return end


async def _watch(app: App, waiting: Waiting) -> End:
    while True:
        began = time.monotonic()
        end = waiting.step(await _view(app, waiting))
        if end is not None:
            return end
        await anyio.sleep(pause_after(time.monotonic() - began))


async def _view(app: App, waiting: Waiting) -> View:
    batches = await app.write(lambda ledger: ledger.batches.of_keys(waiting.looked_at))
    disabled = {name: one.disabled for name, one in app.pollers.items() if one.disabled}
    accounts = {name: poller.account for name, poller in app.pollers.items()}
    return View(waiting.with_known(batches), accounts, disabled)


def settings_for(waiting: Waiting) -> Settings:
    """Only the accounts that are asked, and only the channel that was named."""
    settings = waiting.settings
    wanted = {account for account, _ in waiting.looked_at}
    missing = wanted - set(settings.accounts)
    if missing:
        raise ConfigError(
            f"no daemon watches account {min(missing)}, and it is not configured here: "
            "its key is needed"
        )
    changes: Mapping[str, Any] = {
        "accounts": {name: one for name, one in settings.accounts.items() if name in wanted},
        "channels": {},
        "routes": (),
        "batches": (),
        "operators": None,
    }
    if waiting.notify is not None:
        name, channel = named_channel(settings, waiting.notify)
        changes = {**changes, "channels": {name: channel}}
    return settings.model_copy(update=changes)


def _register(ledger: Ledger, waiting: Waiting) -> None:
    now = time.time_ns() // 1_000_000
    accounts = waiting.settings.accounts
    ledger.batches.register_all(
        [Registering(name, id_, accounts[name].provider) for name, id_ in waiting.looked_at], now
    )


async def _flush(app: App, courier: ChannelCourier) -> list[str]:
    """Send what a channel is still to be told, again if need be; returns what could not be."""
    name, error = courier.telling.name, None
    with anyio.move_on_after(NOTIFY_WITHIN):
        while True:
            while await courier.once(app.clock.now(), flush=True):
                pass
            if not await app.write(lambda ledger: ledger.outbox.pending(name)):
                return []
            channel = await app.write(lambda ledger: ledger.subjects.channel(name))
            if channel.last_error and channel.last_error != error:
                error = channel.last_error
                note(f"not told yet: {error}")
            await anyio.sleep(min(1.0, max(0.05, courier.next_wait())))
    return [f"not told: {error or 'no answer in time'}"]
