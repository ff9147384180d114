"""watcher status: whether all is well, and what is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any

import click

from watcher.cli.options import Common, common_options
from watcher.cli.output import clean, print_json, styled, without_owner
from watcher.errors import ConfigError
from watcher.model import Account, Channel
from watcher.text import iso, local, plural, span

if TYPE_CHECKING:
    from watcher.client import DaemonView, LocalClient
    from watcher.config import Settings
    from watcher.store.ledger import Ledger

# A look this long overdue is late: the longest of the cadence's own waits is five minutes.
LATE = 10 * 60_000
# From here on it is worth a word that an account's limit makes its batches wait longer.
SLOWED = 1.2


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
    figures = client.read(lambda ledger: _figures(ledger, now)) if client.exists else {}
    in_use, pending = figures.pop("accounts_in_use", {}), figures.pop("pending", {})
    figures = figures or {"open": 0, "unseen": 0, "late": 0, "waiting": 0, "dead": 0}
    kept_accounts, kept_channels = client.subjects()
    directory, disabled = client.directory(), _disabled(settings, daemon)
    slowed = daemon.beat.get("slowed", {}) if daemon.alive else {}
    accounts = [
        _account_document(
            name,
            directory.accounts.get(name),
            next((one for one in kept_accounts if one.name == name), None),
            disabled.get(f"account:{name}"),
            in_use.get(name, 0),
            now,
            slowed.get(name, 1.0),
        )
        for name in dict.fromkeys([*directory.accounts, *in_use])
    ]
    channels = [
        _channel_document(
            name,
            next((one for one in kept_channels if one.name == name), None),
            disabled.get(f"channel:{name}"),
            pending.get(name, 0),
            configured=name in directory.channels,
        )
        for name in dict.fromkeys([*directory.channels, *pending])
    ]
    stuck = daemon.beat.get("stuck", []) if daemon.alive else []
    well = daemon.alive and not stuck and all(one["ok"] for one in (*accounts, *channels))
    return {
        "ok": well and not figures["dead"] and not figures["late"],
        "configuration": None if settings.file is None else str(settings.file),
        "state": settings.state,
        "daemon": {
            "alive": daemon.alive,
            "pid": daemon.pid if daemon.alive else None,
            "version": daemon.beat.get("version") if daemon.alive else None,
            "since": iso(daemon.beat.get("since")) if daemon.alive else None,
            "last_alive_at": iso(daemon.beat.get("at")),
            "stuck": stuck,
        },
        "lateness": daemon.beat.get("lateness") if daemon.alive else None,
        "accounts": accounts,
        "channels": channels,
        **figures,
    }


def _disabled(settings: Settings, daemon: DaemonView) -> dict[str, str]:
    """What cannot be used and why: as the living daemon finds it, else as we do."""
    if daemon.alive:
        accounts, channels = (
            daemon.beat.get(f"disabled_{what}", {}) for what in ("accounts", "channels")
        )
    else:
        accounts = _unreadable({name: one.credential for name, one in settings.accounts.items()})
        channels = _unreadable({name: one.url_secret for name, one in settings.channels.items()})
    return {
        **{f"account:{name}": why for name, why in accounts.items()},
        **{f"channel:{name}": why for name, why in channels.items()},
    }


def _unreadable(secrets: Mapping[str, Callable[[], object]]) -> dict[str, str]:
    reasons = {}
    for name, read in secrets.items():
        try:
            read()
        except ConfigError as error:
            reasons[name] = str(error)
    return reasons


def _account_document(
    name: str,
    provider: str | None,
    kept: Account | None,
    disabled: str | None,
    batches: int,
    now: int,
    slowed: float,
) -> dict[str, Any]:
    trouble = disabled or (kept.trouble if kept else None)
    if provider is None:
        trouble = "not configured: its batches are not watched"
    paused = kept is not None and kept.paused_until is not None and kept.paused_until > now
    return {
        "name": name,
        "provider": provider,
        "ok": trouble is None,
        "trouble": trouble,
        "reason": kept.trouble_reason if kept else None,
        "since": iso(kept.trouble_since) if kept else None,
        "paused_until": iso(kept.paused_until) if kept and paused else None,
        "pause_reason": kept.pause_reason if kept and paused else None,
        "batches": batches,
        "slowed": slowed,
    }


def _channel_document(
    name: str, kept: Channel | None, disabled: str | None, waiting: int, *, configured: bool
) -> dict[str, Any]:
    failing = kept is not None and kept.failing_since is not None
    trouble = disabled if configured else "not configured: what waits for it is kept"
    return {
        "name": name,
        "ok": trouble is None and not failing,
        "trouble": trouble,
        "failing_since": iso(kept.failing_since) if kept and failing else None,
        "reason": kept.last_error if kept and failing else None,
        "waiting": waiting,
    }


def _figures(ledger: Ledger, now: int) -> dict[str, Any]:
    pending, counts = ledger.outbox.pending_by_channel(), ledger.batches.open_counts()
    return {
        "open": sum(counts.values()),
        "unseen": sum(count for (_, status), count in counts.items() if status is None),
        "late": ledger.agenda.late(now - LATE),
        "waiting": sum(pending.values()),
        "dead": ledger.outbox.dead(),
        "accounts_in_use": ledger.batches.accounts_in_use(),
        "pending": pending,
    }


def _print(client: LocalClient, document: dict[str, Any]) -> None:
    zone, daemon = client.settings.zone, document["daemon"]
    beat = client.daemon().beat
    if daemon["alive"]:
        version = clean(daemon["version"])
        said = f"pid {daemon['pid']}, watcher {version}, since {local(beat['since'], zone)}"
        if daemon["stuck"]:
            said += styled(f", stuck: {clean(', '.join(map(str, daemon['stuck'])))}", fg="red")
    elif "at" in beat:
        ago = span(max(0, client.clock.now() - int(beat["at"])))
        said = f"none: start watcher run (the last was alive {ago} ago)"
        if client.daemon().silent:
            said = f"pid {beat['pid']} has written nothing for {ago}: see its log"
        said = styled(said, fg="red")
    else:
        said = styled("none: start watcher run", fg="red")
    click.echo(f"configuration  {document['configuration'] or 'none'}")
    click.echo(f"state          {document['state']}")
    click.echo(f"daemon         {said}")
    for account in document["accounts"]:
        click.echo(f"account        {clean(account['name'])}: {_account(account, zone)}")
    if not document["accounts"]:
        click.echo("account        none: set OPENAI_API_KEY, say, or run watcher init")
    for channel in document["channels"]:
        click.echo(f"channel        {clean(channel['name'])}: {_channel(channel, zone)}")
    if not document["channels"]:
        click.echo("channel        none: nobody is told anything")
    dead = f"{document['dead']} dead"
    figures = [
        f"{document['open']:,} open",
        *([f"{document['unseen']:,} not seen yet"] if document["unseen"] else []),
        f"{document['late']:,} late",
        f"{plural(document['waiting'], 'message')} waiting",
        styled(dead, fg="red") if document["dead"] else dead,
    ]
    click.echo(f"batches        {', '.join(figures)}")


def _moment(text: str, zone: tzinfo | None) -> str:
    return local(round(datetime.fromisoformat(text).timestamp() * 1000), zone)


def _account(account: dict[str, Any], zone: tzinfo | None) -> str:
    batches = plural(account["batches"], "batch")
    if account["trouble"]:
        reason = f": {account['reason']}" if account["reason"] else ""
        trouble = without_owner(account["trouble"], "account", account["name"])
        return styled(clean(f"{trouble}{reason}"), fg="red") + f", {batches}"
    if account["paused_until"]:
        until = _moment(account["paused_until"], zone)
        return styled(f"paused until {until}", fg="yellow") + (
            f" ({clean(account['pause_reason'])}), {batches}"
        )
    if account["slowed"] >= SLOWED:
        times = f"{account['slowed']:.1f} times as seldom as wished"
        return f"well, {batches}, looked at {times}: requests_per_minute allows no more"
    return f"well, {batches}"


def _channel(channel: dict[str, Any], zone: tzinfo | None) -> str:
    waiting = f", {plural(channel['waiting'], 'event')} waiting" if channel["waiting"] else ""
    if channel["trouble"]:
        trouble = without_owner(channel["trouble"], "channel", channel["name"])
        return styled(clean(trouble), fg="red") + waiting
    if channel["failing_since"]:
        since = _moment(channel["failing_since"], zone)
        text = f"failing since {since}: {channel['reason']}"
        return styled(clean(text), fg="red") + waiting
    return f"well{waiting}"
