"""watcher show: one batch, whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from watcher.cli.options import Common, common_options, open_ids
from watcher.cli.output import (
    COLOURS,
    bar,
    clean,
    note_missing_state,
    print_json,
    progress_text,
    severity_of_batch,
    status_text,
    styled,
    warn_of_dead,
)
from watcher.documents import batch_document, delivery_document, event_document
from watcher.model import Batch, Choice, Delivery, DeliveryState, Event
from watcher.text import local, plural, span

if TYPE_CHECKING:
    from watcher.client import LocalClient
    from watcher.store.ledger import Ledger

History = list[tuple[Event, tuple[Choice, ...], list[Delivery]]]


@click.command(name="show")
@click.argument("id_", metavar="ID", shell_complete=open_ids)
@common_options(json=True)
def command(*, common: Common, id_: str) -> None:
    """Show one batch: its timeline, looks, events, and every delivery with every try."""
    with common.client().opened(create=False) as client:
        note_missing_state(client)
        batch = client.find(id_)
        history = _history(client, batch)
        if common.json:
            print_json(_document(client, batch, history))
        else:
            _print_batch(client, batch)
            _print_timeline(client, batch, history)
            _print_history(client, history)
        warn_of_dead(client)


def _history(client: LocalClient, batch: Batch) -> History:
    def work(ledger: Ledger) -> History:
        return [
            (event, choices, ledger.outbox.of_event(event.seq))
            for event, choices in ledger.events.of_subject(batch.key)
        ]

    return client.read(work)


def _document(client: LocalClient, batch: Batch, history: History) -> dict[str, Any]:
    from watcher.message import body, title

    instance = client.instance()
    return {
        **batch_document(batch),
        "events": [
            {
                **event_document(event, instance, title(event), body(event, instance=instance)),
                "audience": [
                    {"channel": one.channel, "told": one.taken, "why": one.why} for one in choices
                ],
            }
            for event, choices, _ in history
        ],
        "deliveries": [
            delivery_document(delivery) for _, _, deliveries in history for delivery in deliveries
        ],
    }


def _print_batch(client: LocalClient, batch: Batch) -> None:
    zone, said = client.settings.zone, batch.registration
    click.echo(styled(clean(batch.key), bold=True))
    status = styled(status_text(batch), fg=COLOURS[severity_of_batch(batch)])
    progress = [] if batch.counts.total is None else [progress_text(batch)]
    if batch.counts.progress is not None and not batch.ended:
        progress.insert(0, bar(batch.counts.progress))
    lines = [
        ("why", batch.reason),
        ("provider", batch.provider),
        ("tags", ", ".join(said.tags)),
        ("group", said.group),
        ("results", batch.results.output),
        ("errors", batch.results.errors),
        ("registered", f"{local(said.registered_at, zone)} by {said.registered_by or 'unknown'}"),
        ("removed", None if batch.removed_at is None else local(batch.removed_at, zone)),
        ("looks", _looks(batch, client)),
        ("last error", batch.last_error),
    ]
    _print_field("name", clean(batch.name))
    _print_field("status", "  ".join([status, *progress]))
    for label, text in lines:
        _print_field(label, clean(text))
    for problem in batch.problems:
        where = "" if problem.line is None else f"line {problem.line}: "
        parts = [part for part in (problem.code, problem.message) if part]
        _print_field("problem", where + clean(": ".join(parts)))
    if batch.problem_total > len(batch.problems):
        more = batch.problem_total - len(batch.problems)
        click.echo(f"  {'':<12} and {plural(more, 'more problem')}")


def _print_field(label: str, text: str) -> None:
    if text:
        click.echo(f"  {label + ':':<12} {text}")


def _looks(batch: Batch, client: LocalClient) -> str:
    now = client.clock.now()
    last = (
        "" if batch.last_look_at is None else f", last {span(max(0, now - batch.last_look_at))} ago"
    )
    if batch.removed_at is not None or batch.next_look_at is None:
        following = ", no more to come"
    elif batch.next_look_at <= now:
        following = ", the next is due"
    else:
        following = f", next in {span(batch.next_look_at - now)}"
    failing = f", {plural(batch.failures, 'failure')} in a row" if batch.failures else ""
    return f"{batch.looks}{last}{following}{failing}"


def _print_timeline(client: LocalClient, batch: Batch, history: History) -> None:
    """The provider's own times beside ours; what we did not see happen is there too."""
    zone = client.settings.zone
    seen = {event.batch.status: event.detected_at for event, _, _ in history if event.batch}
    end = str(batch.status) if batch.ended else "ended"
    moments = [
        ("created", batch.created_at, None),
        ("in_progress", batch.in_progress_at, "in_progress"),
        ("finalizing", batch.finalizing_at, "finalizing"),
        ("cancelling", batch.cancelling_at, "cancelling"),
        (end, batch.ended_at, end),
        ("expires", None if batch.ended else batch.expires_at, None),
    ]
    by_status = {str(status): at for status, at in seen.items() if status is not None}
    rows = []
    for label, theirs, status in moments:
        ours = by_status.pop(status, None) if status else None
        if theirs is not None or ours is not None:
            rows.append((theirs or ours or 0, label, theirs, ours, status))
    rows += [(at, status, None, at, status) for status, at in by_status.items()]
    if not rows:
        return
    click.echo()
    click.echo(styled(f"  {'TIMELINE':<12} {'AT THE PROVIDER':<19}  SEEN BY US", bold=True))
    for _, label, theirs, ours, status in sorted(rows, key=lambda row: row[0]):
        if ours is not None:
            late = "" if theirs is None else f"  ({span(max(0, ours - theirs))} later)"
            right = local(ours, zone) + late
        else:
            right = "between two looks" if status else ""
        click.echo(f"  {label:<12} {local(theirs, zone):<19}  {right}".rstrip())


def _print_history(client: LocalClient, history: History) -> None:
    zone = client.settings.zone
    for event, choices, deliveries in history:
        click.echo()
        type_ = styled(str(event.type), fg=COLOURS[event.severity])
        click.echo(f"  {local(event.detected_at, zone)}  {type_}  {clean(event.id)}")
        settled = {delivery.channel: delivery for delivery in deliveries}
        for choice in choices:
            delivery = settled.pop(choice.channel, None)
            if delivery is None:
                click.echo(f"    {clean(choice.channel)}: not told: {clean(choice.why)}")
            else:
                why = choice.why if choice.taken else delivery.reason or choice.why
                _print_delivery(delivery, why, client)
        for delivery in settled.values():
            _print_delivery(delivery, delivery.reason or "", client)
        if not choices:
            click.echo("    told nobody: no channel was configured")


def _print_delivery(delivery: Delivery, why: str, client: LocalClient) -> None:
    zone = client.settings.zone
    when = f" {local(delivery.settled_at, zone)}" if delivery.settled_at else ""
    reason = delivery.reason if delivery.state is not DeliveryState.DELIVERED else None
    shown = f": {clean(reason)}" if reason and reason != why else ""
    click.echo(f"    {clean(delivery.channel)}: {delivery.state}{when} ({clean(why)}){shown}")
    for attempt in delivery.tries:
        error = f": {clean(attempt.error)}" if attempt.error else ""
        click.echo(f"      {local(attempt.at, zone)}  {attempt.outcome}{error}")
