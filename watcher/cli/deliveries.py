"""watcher deliveries: what was told to whom."""

from __future__ import annotations

import os

import click

from watcher.cli.options import Common, common_options
from watcher.cli.output import note, note_missing_state, print_json, print_table, warn_of_dead
from watcher.documents import delivery_document
from watcher.errors import UsageError
from watcher.model import Delivery, DeliveryState
from watcher.text import clean_line, local, span

MOST = 1_000
COLOURS = {
    DeliveryState.PENDING: "yellow",
    DeliveryState.DELIVERED: "green",
    DeliveryState.DEAD: "red",
    DeliveryState.DROPPED: "red",
}


@click.command(name="deliveries")
@click.option(
    "--state",
    "states",
    multiple=True,
    metavar="STATE",
    help=f"Only one of: {', '.join(DeliveryState)}. (A path is the state's file.)",
)
@click.option("--channel", help="Only this channel.")
@click.option("--limit", type=click.IntRange(1), default=MOST, show_default=True)
@common_options(json=True, state=False)
def command(*, common: Common, states: tuple[str, ...], channel: str | None, limit: int) -> None:
    """Show what was told to whom, newest last."""
    wanted = _wanted(states, common)
    with common.client().opened(create=False) as client:
        deliveries = []
        note_missing_state(client)
        if client.exists:
            deliveries = client.read(
                lambda ledger: ledger.outbox.newest(state=wanted, channel=channel, limit=limit)
            )
        if common.json:
            print_json([delivery_document(delivery) for delivery in deliveries])
            return
        zone, now = client.settings.zone, client.clock.now()
        rows = [
            (
                one.event_id,
                one.channel,
                str(one.state),
                str(len(one.tries)),
                local(one.settled_at, zone) if one.settled_at else _next(one, now),
                _why(one),
            )
            for one in deliveries
        ]
        headings = ("EVENT", "CHANNEL", "STATE", "TRIES", "SETTLED", "WHY")
        print_table(headings, rows, [COLOURS[one.state] for one in deliveries], colour_column=2)
        if client.exists and not rows:
            note("no delivery to show")
        if len(rows) == limit:
            note(f"only the newest {limit}: --limit shows more")
        warn_of_dead(client)


def _wanted(texts: tuple[str, ...], common: Common) -> DeliveryState | None:
    """The state of deliveries that is meant; what looks like a path names the state's file.

    Here the two options of one name meet, and each has to be understood.
    """
    wanted = None
    for text in texts:
        if text in list(DeliveryState):
            wanted = DeliveryState(text)
        elif "/" in text or os.sep in text or "." in text:
            common.state = text
        else:
            there = ", ".join(DeliveryState)
            raise UsageError(f"--state {clean_line(text, 60)!r}: there is {there}")
    return wanted


def _next(delivery: Delivery, now: int) -> str:
    if delivery.next_try_at is None or delivery.next_try_at <= now:
        return "waiting"
    return f"in {span(delivery.next_try_at - now)}"


def _why(delivery: Delivery) -> str:
    errors = [one.error for one in delivery.tries if one.error]
    if errors and delivery.state is not DeliveryState.DELIVERED:
        return errors[-1]
    return delivery.reason or ""
