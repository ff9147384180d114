"""watcher status: whether all is well, and what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from watcher.cli.options import Common, common_options
from watcher.cli.output import print_json, styled
from watcher.text import iso, local, plural, span

if TYPE_CHECKING:
    from watcher.client import LocalClient
    from watcher.store.ledger import Ledger

# A look this long overdue is late: the longest of the cadence's own waits is five minutes.
LATE = 10 * 60_000


@click.command(name="status")
@common_options(json=True)
def command(*, common: Common) -> int:
    """Show configuration, daemon, accounts, channels and what waits; exit 0 when all is well."""
    with common.client().opened(create=False) as client:
        document = _document(client)
        if common.json:
            print_json(document)
        else:
            _print(client, document)
    return 0 if document["ok"] else 1


def _document(client: LocalClient) -> dict[str, Any]:
    now, settings = client.clock.now(), client.settings
    daemon = client.daemon()
    beat = daemon.beat
    directory = client.directory()
    figures = client.read(lambda ledger: _figures(ledger, now)) if client.exists else {}
    kept_accounts, kept_channels = client.subjects()
    in_use = figures.pop("accounts_in_use", {})
    pending = figures.pop("pending", {})
    accounts = []
    for name in dict.fromkeys([*directory.accounts, *in_use]):
        one = next((kept for kept in kept_accounts if kept.name == name), None)
        disabled = beat.get("disabled_accounts", {}).get(name) if daemon.alive else None
        configured = name in directory.accounts
        trouble = disabled or (one.trouble if one else None)
        accounts.append(
            {
                "name": name,
                "provider": directory.accounts.get(name),
                "ok": configured and trouble is None,
                "trouble": trouble if configured else "not configured: its batches are not watched",
                "reason": one.trouble_reason if one else None,
                "since": iso(one.trouble_since) if one else None,
                "paused_until": iso(one.paused_until)
                if one and one.paused_until and one.paused_until > now
                else None,
                "pause_reason": one.pause_reason if one else None,
                "batches": in_use.get(name, 0),
            }
        )
    channels = []
    for name in dict.fromkeys([*directory.channels, *pending]):
        kept = next((one for one in kept_channels if one.name == name), None)
        disabled = beat.get("disabled_channels", {}).get(name) if daemon.alive else None
        configured = name in directory.channels
        failing = kept is not None and kept.failing_since is not None
        channels.append(
            {
                "name": name,
                "ok": configured and not failing and disabled is None,
                "trouble": disabled if configured else "not configured: what waits for it is kept",
                "failing_since": iso(kept.failing_since) if kept and failing else None,
                "reason": kept.last_error if kept and failing else None,
                "waiting": pending.get(name, 0),
            }
        )
    figures = figures or {"open": 0, "late": 0, "waiting": 0, "dead": 0}
    stuck = beat.get("stuck", []) if daemon.alive else []
    well = (
        daemon.alive
        and not stuck
        and all(one["ok"] for one in (*accounts, *channels))
        and not figures["dead"]
        and not figures["late"]
    )
    return {
        "ok": well,
        "configuration": None if settings.file is None else str(settings.file),
        "state": settings.state,
        "daemon": {
            "alive": daemon.alive,
            "pid": daemon.pid if daemon.alive else None,
            "version": beat.get("version") if daemon.alive else None,
            "since": iso(beat.get("since")) if daemon.alive else None,
            "last_alive_at": iso(beat.get("at")),
            "stuck": stuck,
        },
        "accounts": accounts,
        "channels": channels,
        **figures,
    }


def _figures(ledger: Ledger, now: int) -> dict[str, Any]:
    pending = ledger.outbox.pending_by_channel()
    return {
        "open": sum(ledger.batches.open_counts().values()),
        "late": ledger.batches.late(now - LATE),
        "waiting": sum(pending.values()),
        "dead": ledger.outbox.dead(),
        "accounts_in_use": ledger.batches.accounts_in_use(),
        "pending": pending,
    }


def _print(client: LocalClient, document: dict[str, Any]) -> None:
    zone, daemon = client.settings.zone, document["daemon"]
    beat = client.daemon().beat
    if daemon["alive"]:
        said = (
            f"pid {daemon['pid']}, watcher {daemon['version']}, since {local(beat['since'], zone)}"
        )
        if daemon["stuck"]:
            said += styled(f", stuck: {', '.join(daemon['stuck'])}", fg="red")
    elif "at" in beat:
        ago = span(max(0, client.clock.now() - int(beat["at"])))
        said = styled(f"none: start watcher run (the last was alive {ago} ago)", fg="red")
    else:
        said = styled("none: start watcher run", fg="red")
    click.echo(f"configuration  {document['configuration'] or 'none'}")
    click.echo(f"state          {document['state']}")
    click.echo(f"daemon         {said}")
    for account in document["accounts"]:
        click.echo(f"account        {account['name']}: {_account(account)}")
    if not document["accounts"]:
        click.echo("account        none: set OPENAI_API_KEY, say, or run watcher init")
    for channel in document["channels"]:
        click.echo(f"channel        {channel['name']}: {_channel(channel)}")
    if not document["channels"]:
        click.echo("channel        none: nobody is told anything")
    dead = f"{document['dead']} dead"
    figures = [
        f"{document['open']} open",
        f"{document['late']} late",
        f"{plural(document['waiting'], 'message')} waiting",
        styled(dead, fg="red") if document["dead"] else dead,
    ]
    click.echo(f"batches        {', '.join(figures)}")


def _account(account: dict[str, Any]) -> str:
    batches = plural(account["batches"], "batch")
    if account["trouble"]:
        reason = f": {account['reason']}" if account["reason"] else ""
        return styled(f"{account['trouble']}{reason}", fg="red") + f", {batches}"
    if account["paused_until"]:
        return styled(f"paused until {account['paused_until']}", fg="yellow") + (
            f" ({account['pause_reason']}), {batches}"
        )
    return f"well, {batches}"


def _channel(channel: dict[str, Any]) -> str:
    waiting = f", {plural(channel['waiting'], 'event')} waiting" if channel["waiting"] else ""
    if channel["trouble"]:
        return styled(str(channel["trouble"]), fg="red") + waiting
    if channel["failing_since"]:
        text = f"failing since {channel['failing_since']}: {channel['reason']}"
        return styled(text, fg="red") + waiting
    return f"well{waiting}"
