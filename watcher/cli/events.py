"""watcher events: what happened, and what happens."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

import click

from watcher.cli.options import Common, common_options
from watcher.cli.output import (
    COLOURS,
    clean,
    note,
    note_missing_state,
    print_json_line,
    styled,
    warn_of_dead,
)
from watcher.errors import UsageError
from watcher.model import Event
from watcher.text import clean_line, local

if TYPE_CHECKING:
    from watcher.client import LocalClient

PAGE = 500
FOLLOW_EVERY = 0.5
DAY = 86_400_000


@click.command(name="events")
@click.option("--since", help="A length of time (2h) or a moment (2026-11-21T12:00:00Z); 1d.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens.")
@common_options(json=True)
def command(*, common: Common, since: str | None, follow: bool) -> None:
    """Show what happened, oldest first; JSON comes one event a line."""
    client = common.client()
    now = client.clock.now()
    moment = now - DAY if since is None else parse_moment(since, now)
    with client.opened(create=follow):
        if not client.exists:
            note_missing_state(client)
            return
        shown = 0
        position = client.read(lambda ledger: ledger.events.position_before(moment))
        while True:
            events = _after(client, position)
            instance = client.instance() if common.json and events else None
            for event in events:
                position = event.seq
                shown += 1
                _print(client, event, instance)
            if len(events) == PAGE:
                continue
            if not follow:
                break
            time.sleep(FOLLOW_EVERY)
        if not shown and not common.json:
            note("nothing happened" if since else "nothing happened in the last day (--since 7d)")
        warn_of_dead(client)


def _after(client: LocalClient, position: int) -> list[Event]:
    return client.read(lambda ledger: ledger.events.after(position, PAGE))


def _print(client: LocalClient, event: Event, instance: str | None) -> None:
    """Print an event: as JSON of this instance, else as a line for people."""
    from watcher.message import body, title

    if instance is not None:
        from watcher.documents import event_document

        print_json_line(
            event_document(event, instance, title(event), body(event, instance=instance))
        )
        return
    when = local(event.detected_at, client.settings.zone)
    text = styled(title(event), fg=COLOURS[event.severity])
    click.echo(f"{when}  {clean(event.id)}  {text}")


def parse_moment(text: str, now: int) -> int:
    """A length of time ago, or a moment in RFC 3339, as milliseconds. Raises UsageError."""
    from watcher.config import parse_duration

    try:
        return now - parse_duration(text)
    except ValueError:
        pass
    try:
        moment = int(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError):
        wanted = "write a length of time (2h) or a moment (2026-11-21T12:00:00Z)"
        message = f"--since {clean_line(text, 60)!r}: {wanted}"
        raise UsageError(message) from None
    return moment
