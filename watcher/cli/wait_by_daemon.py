"""Waiting with a live daemon: it looks, and its state is read; not one request of our own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from watcher.cli.channels import OWN_CHANNEL, named_channel
from watcher.cli.output import note
from watcher.cli.told import told_text
from watcher.cli.waiting import NOTIFY_WITHIN, End, View, Waiting, pause_after
from watcher.client import LocalClient, Wish, user_name

if TYPE_CHECKING:
    from watcher.model import Batch, Event
    from watcher.store.batches import Registering
    from watcher.store.ledger import Ledger

TOLD_BECAUSE = "asked for by wait"
TRY_AGAIN_AFTER = 5.0


def by_daemon(waiting: Waiting) -> End | None:
    """Register what is new with the daemon's state, and read what it sees; None if it is gone."""
    client = LocalClient(waiting.settings)
    with client.opened(create=True):
        named = waiting.notify if waiting.notify and "://" not in waiting.notify else None
        _register(client, waiting.looked_at, named)
        while True:
            began = time.monotonic()
            end = waiting.step(_view(client, waiting.keys))
            if end is not None:
                break
            time.sleep(pause_after(time.monotonic() - began))
            if not client.daemon().alive:
                note("the daemon is gone; going on without it")
                return None
        waiting.progress.close()
        if waiting.notify is not None and named is None:
            notes = anyio.run(_tell_ends, waiting, _ends(client, waiting.keys))
            end = replace(end, notes=(*end.notes, *notes))
        return end


def _register(client: LocalClient, keys: Sequence[tuple[str, str]], channel: str | None) -> None:
    """Register ids the state does not watch, and the channel with those that lack it."""
    if channel is not None:
        client.directory().check_channels([channel])
    wanted = client.registering(
        [(id_, account) for account, id_ in keys],
        Wish(),
        registered_by=user_name() or "command line",
    )
    known = {batch.key: batch for batch in _known(client, keys)}
    changes: list[Registering] = []
    fresh: set[str] = set()
    for one in wanted:
        batch = known.get(f"{one.account}/{one.id}")
        if batch is None or batch.removed_at is not None:
            fresh.add(f"{one.account}/{one.id}")
            changes.append(replace(one, channels=(channel,) if channel else None))
        elif channel and channel not in batch.registration.channels:
            channels = (*batch.registration.channels, channel)
            changes.append(replace(one, channels=channels, registered_by=None))
    if changes:
        registered = client.register(changes)
        new = [batch for batch in registered if batch.key in fresh]
        if new:
            pid = client.daemon().pid
            note(f"registered with daemon pid {pid}; told: {told_text(client, new)}")
    if channel is not None:
        _tell_of_the_past(client, keys, channel)


def _tell_of_the_past(client: LocalClient, keys: Sequence[tuple[str, str]], channel: str) -> None:
    """What had ended before the channel was named is told to it now."""
    now = client.clock.now()
    ends = _ends(client, keys)

    def work(ledger: Ledger) -> None:
        for event in ends:
            if channel not in {one.channel for one in ledger.outbox.of_event(event.seq)}:
                ledger.outbox.redeliver(event.seq, channel, TOLD_BECAUSE, now)

    if ends:
        client.write(work)


def _known(client: LocalClient, keys: Sequence[tuple[str, str]]) -> list[Batch]:
    return client.read(lambda ledger: ledger.batches.of_keys(keys))


def _view(client: LocalClient, keys: Sequence[tuple[str, str]]) -> View:
    batches = _known(client, keys)
    watched = [batch for batch in batches if batch.removed_at is None or batch.ended]
    there = {batch.key for batch in watched}
    return View(
        watched,
        {one.name: one for one in client.subjects()[0]},
        client.daemon().beat.get("disabled_accounts", {}),
        tuple(key for account, id_ in keys if (key := f"{account}/{id_}") not in there),
    )


def _ends(client: LocalClient, keys: Sequence[tuple[str, str]]) -> list[Event]:
    """The last event of each batch that has ended."""

    def work(ledger: Ledger) -> list[Event]:
        ends = []
        for account, id_ in keys:
            last = ledger.events.of_subject(f"{account}/{id_}")[-1:]
            ends += [event for event, _ in last if event.batch and event.batch.ended]
        return ends

    return client.read(work)


async def _tell_ends(waiting: Waiting, events: Sequence[Event]) -> list[str]:
    """Tell a URL of our own what became of the batches; returns what went wrong."""
    from watcher.app import open_notifier
    from watcher.clock import SystemClock
    from watcher.message import render
    from watcher.model import TryOutcome

    settings, error = waiting.settings, "no answer in time"
    _, channel = named_channel(settings, waiting.notify or "")
    own = settings.model_copy(update={"channels": {OWN_CHANNEL: channel}})
    notifier = open_notifier(own, OWN_CHANNEL, waiting.redactor, SystemClock())
    left = list(events)
    try:
        with anyio.move_on_after(NOTIFY_WITHIN):
            while left:
                rendered = render(
                    left,
                    notifier.style,
                    instance=settings.instance,
                    zone=settings.zone,
                    waiting=len(left),
                )
                sent = await notifier.send(rendered.message)
                if sent.outcome is TryOutcome.DELIVERED:
                    told = {event.seq for event in rendered.named}
                    left = [event for event in left if event.seq not in told]
                    continue
                error = sent.error or error
                note(f"not told yet: {error}")
                await anyio.sleep(TRY_AGAIN_AFTER)
    finally:
        notifier.close()
    return [f"not told: {error}"] if left else []
