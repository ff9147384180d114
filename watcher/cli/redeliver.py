"""watcher redeliver: sends events again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from watcher.cli.options import Common, common_options
from watcher.cli.output import note, print_json, warn_of_dead
from watcher.errors import NoSuchBatch, UsageError, WatcherError
from watcher.model import DeliveryState
from watcher.text import clean_line, plural

if TYPE_CHECKING:
    from watcher.client import LocalClient
    from watcher.model import Choice, Delivery, Event
    from watcher.store.ledger import Ledger

REASON = "asked for again"
# Of a batch that was given in place of an event.
EVENTS_NAMED = 5


@click.command(name="redeliver")
@click.argument("events", nargs=-1, metavar="EVENT…")
@click.option("--channel", help="Through this channel, whether or not it was told before.")
@click.option("--dead", is_flag=True, help="Everything that was given up.")
@common_options(json=True)
def command(*, common: Common, events: tuple[str, ...], channel: str | None, dead: bool) -> None:
    """Send events again: to the channels they were for, or to one."""
    if not events and not dead:
        message = "name an event (its id is in the message), or --dead"
        raise UsageError(message)
    with common.client().opened(create=False) as client:
        if channel is not None:
            client.directory().check_channels([channel])
        pairs = _pairs(client, events, channel)
        if dead:
            found = client.read(lambda ledger: ledger.outbox.dead_ones())
            pairs += [(seq, name) for seq, name in found if channel in {None, name}]
        now = client.clock.now()

        def work(ledger: Ledger) -> None:
            for seq, name in pairs:
                ledger.outbox.redeliver(seq, name, REASON, now)
            for name in {name for _, name in pairs}:
                # Whoever asks has mended it, and does not want to wait for the next try.
                channel = ledger.subjects.channel(name)
                ledger.subjects.put_channel(replace(channel, next_try_at=None))

        pairs = list(dict.fromkeys(pairs))
        if pairs:
            client.write(work)
        if common.json:
            from watcher.documents import delivery_document

            told = {seq: _deliveries(client, seq) for seq, _ in pairs}
            print_json(
                [
                    delivery_document(one)
                    for seq, name in pairs
                    for one in told[seq]
                    if one.channel == name
                ]
            )
        daemon = client.daemon()
        sender = f"daemon pid {daemon.pid}" if daemon.alive else "nobody: start watcher run"
        note(f"{plural(len(pairs), 'delivery').replace('ys', 'ies')} pending; sent by {sender}")
        warn_of_dead(client)


def _pairs(
    client: LocalClient, events: tuple[str, ...], channel: str | None
) -> list[tuple[int, str]]:
    """The deliveries that are meant; all events are checked before any is written."""
    pairs = []
    for identity in events:
        found = _event(client, identity)
        if found is None:
            raise _no_such_event(client, identity)
        event, choices = found
        if channel is not None:
            pairs.append((event.seq, channel))
            continue
        taken = [one.channel for one in choices if one.taken]
        told = _deliveries(client, event.seq)
        channels = list(dict.fromkeys([*taken, *(one.channel for one in told)]))
        if not channels:
            raise UsageError(f"{event.id} was for no channel: name one with --channel")
        pending = {one.channel for one in told if one.state is DeliveryState.PENDING}
        pairs += [(event.seq, name) for name in channels if name not in pending]
    return pairs


def _no_such_event(client: LocalClient, identity: str) -> WatcherError:
    """What to say of an event that is not there; of a batch's key, which events it has."""
    shown, key = clean_line(identity, 80), identity
    head, at, revision = identity.rpartition("@")
    if at and revision.isdecimal():
        key = head
    try:
        batch = client.find(key)
    except (NoSuchBatch, UsageError):
        return NoSuchBatch(f"no event {shown} is kept")
    events = client.read(lambda ledger: ledger.events.of_subject(batch.key))[-EVENTS_NAMED:]
    there = ", ".join(f"{event.id} ({event.type})" for event, _ in events)
    there = f"its events are {there}" if there else "it has no event yet"
    if key == identity:
        return UsageError(f"{shown} is a batch: {there}")
    return NoSuchBatch(f"no event {shown} is kept: {there}")


def _event(client: LocalClient, identity: str) -> tuple[Event, tuple[Choice, ...]] | None:
    return client.read(lambda ledger: ledger.events.with_id(identity))


def _deliveries(client: LocalClient, seq: int) -> list[Delivery]:
    return client.read(lambda ledger: ledger.outbox.of_event(seq))
