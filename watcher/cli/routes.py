"""watcher routes: who is told what, and what nobody is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from watcher.cli.options import Common, common_options
from watcher.cli.output import print_json, print_table, styled, warn_of_dead
from watcher.cli.told import conditional_types, gaps, unrouted_channels
from watcher.errors import UsageError
from watcher.model import Batch, Event, EventType, Outcome, Registration, Severity, Status
from watcher.routing import Route, Switchboard, audience, untaken_types

if TYPE_CHECKING:
    from watcher.client import LocalClient


@click.group(name="routes", invoke_without_command=True)
@common_options(json=True)
@click.pass_context
def command(ctx: click.Context, *, common: Common) -> None:
    """Show the routes as understood, every default event no route takes, or not always."""
    if ctx.invoked_subcommand is not None:
        return
    with common.client().opened(create=False) as client:
        board, accounts = client.board(), list(client.directory().accounts)
        if common.json:
            print_json(_document(board, accounts))
        else:
            _print(board, accounts)
        warn_of_dead(client)


def _document(board: Switchboard, accounts: list[str]) -> dict[str, Any]:
    return {
        "channels": list(board.channels),
        "operators": list(board.told_of_trouble),
        "routes": [
            {"name": route.name, "takes": describe(route), "channels": list(route.channels)}
            for route in board.routes
        ],
        "untaken": [str(one) for one in untaken_types(board)],
        "conditional": [str(one) for one in conditional_types(board, accounts)],
        "unrouted": list(unrouted_channels(board)),
    }


def _print(board: Switchboard, accounts: list[str]) -> None:
    if not board.channels:
        click.echo("no channel is configured: nobody is told anything")
        return
    if board.routes:
        rows = [(route.name, ", ".join(route.channels), describe(route)) for route in board.routes]
        print_table(("ROUTE", "CHANNELS", "TAKES"), rows)
    else:
        click.echo(f"no routes: {', '.join(board.channels)} get the default events of every batch")
    click.echo(f"trouble of accounts and channels: {', '.join(board.told_of_trouble) or 'nobody'}")
    for line in gaps(board, accounts):
        click.echo(styled(line, fg="yellow"))
    if untaken_types(board) or conditional_types(board, accounts):
        click.echo(f"(a failure that no route takes goes to {_operators(board)})")


def _operators(board: Switchboard) -> str:
    return ", ".join(board.told_of_trouble) or "nobody: there are no operators"


def describe(route: Route) -> str:
    """A route's conditions in words."""
    parts = [", ".join(route.events) or "the default events"]
    if route.severity is not None:
        parts.append(f"severity {route.severity} and above")
    for name, values in (
        ("outcome", route.outcomes),
        ("account", route.accounts),
        ("tag", route.tags),
        ("group", route.groups),
    ):
        if values:
            parts.append(f"{name} {' or '.join(values)}")
    parts += [f"metadata {key} = {pattern}" for key, pattern in route.metadata.items()]
    return "; ".join(parts)


@command.command(name="test")
@click.option("--event", "event_type", required=True, help="A type: batch.completed, say.")
@click.option("--account", help="The account the batch is of.")
@click.option("--tag", multiple=True, help="A tag it has.")
@click.option("--group", help="The group it is of.")
@click.option("--severity", type=click.Choice([str(one) for one in Severity]))
@click.option("--outcome", type=click.Choice([str(one) for one in Outcome]))
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="Metadata it has.")
@common_options(json=True)
def test(
    *,
    common: Common,
    event_type: str,
    account: str | None,
    tag: tuple[str, ...],
    group: str | None,
    severity: str | None,
    outcome: str | None,
    metadata: tuple[str, ...],
) -> None:
    """Say who would be told of an event, and why the others would not."""
    try:
        kind = EventType(event_type)
    except ValueError:
        import difflib

        close = difflib.get_close_matches(event_type, [str(one) for one in EventType], n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UsageError(f"no event is called {event_type!r}{hint}") from None
    pairs = dict(_pair(text) for text in metadata)
    with common.client().opened(create=False) as client:
        board = client.board()
        event = _example(client, kind, account, tag, group, severity, outcome, pairs)
        warn_of_dead(client)
    choices = audience(event, board)
    if common.json:
        print_json(
            [
                {"channel": choice.channel, "told": choice.taken, "why": choice.why}
                for choice in choices
            ]
        )
        return
    if not choices:
        click.echo("nobody: no channel is configured")
    rows = [(one.channel, "told" if one.taken else "not told", one.why) for one in choices]
    print_table(("CHANNEL", "", "WHY"), rows, ["green" if one.taken else None for one in choices])


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--metadata {text!r}: write KEY=VALUE")
    return key, value


def _example(
    client: LocalClient,
    kind: EventType,
    account: str | None,
    tags: tuple[str, ...],
    group: str | None,
    severity: str | None,
    outcome: str | None,
    metadata: dict[str, str],
) -> Event:
    """An event as it would be, from what was said of it."""
    from watcher.lifecycle import severity_of

    name = account or next(iter(client.directory().accounts), "example")
    if not kind.startswith("batch."):
        told = Severity(severity) if severity else severity_of(kind, None, None)
        return Event("example", kind, told, 0, account=name if "account" in kind else None)
    word = kind.removeprefix("batch.")
    status = Status.IN_PROGRESS if kind is EventType.REOPENED else Status(word)
    ended_as = Outcome(outcome) if outcome else _usual_outcome(status)
    batch = Batch(
        name,
        "batch_example",
        "openai",
        Registration(tags=tags, group=group),
        revision=2,
        status=status,
        outcome=ended_as,
        metadata=metadata,
    )
    told = Severity(severity) if severity else severity_of(kind, status, ended_as)
    return Event("example", kind, told, 0, account=name, batch=batch)


def _usual_outcome(status: Status) -> Outcome | None:
    return {Status.COMPLETED: Outcome.OK, Status.FAILED: Outcome.EMPTY}.get(status)
