"""From settings to all that watching needs: here everything may fail, and nothing is in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import anyio.to_thread
from pydantic import SecretStr

from watcher.cadence import Pace
from watcher.clock import Clock
from watcher.config import Settings, public_names
from watcher.courier import Telling
from watcher.directory import Directory
from watcher.errors import ConfigError, UsageError
from watcher.log import Log
from watcher.notify import AppriseNotifier
from watcher.poller import Looking
from watcher.providers import build, secret_parts
from watcher.providers.wire import Wire
from watcher.redaction import Redactor
from watcher.routing import Switchboard
from watcher.store.batches import Registering
from watcher.store.ledger import Ledger
from watcher.version import __version__

SECOND = 1_000


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything built from settings, ready to be taken into use."""

    settings: Settings
    board: Switchboard
    looking: dict[str, Looking]
    telling: dict[str, Telling]
    # Channels that cannot be used, and why.
    disabled: dict[str, str]
    registering: tuple[Registering, ...] = ()


def plan_of(
    settings: Settings, redactor: Redactor, clock: Clock, log: Log, transport: Any = None
) -> Plan:
    """Build everything. Raises ConfigError before anything is in use. Reads files."""
    looking = {
        name: looking_of(settings, name, redactor, clock, transport) for name in settings.accounts
    }
    telling: dict[str, Telling] = {}
    disabled: dict[str, str] = {}
    for name in settings.channels:
        try:
            telling[name] = telling_of(settings, name, redactor, clock, log)
        except ConfigError as error:
            disabled[name] = str(error)
    registering = configured_batches(settings)
    return Plan(settings, settings.switchboard(), looking, telling, disabled, registering)


def looking_of(
    settings: Settings, name: str, redactor: Redactor, clock: Clock, transport: Any = None
) -> Looking:
    """An account as the poller needs it, with a wire of its own."""
    account, polling = settings.accounts[name], settings.polling_of(name)
    options = account.options()
    for part in secret_parts(options):
        redactor.add(part)
    wire = Wire(
        timeout=polling.timeout / SECOND,
        max_connections=account.max_concurrency + 1,
        redactor=redactor,
        transport=transport,
        user_agent=f"batch-watcher/{__version__}",
        clock=clock,
    )

    def read() -> str:
        secret = account.credential().get_secret_value()
        redactor.add(secret)
        return secret

    async def credential() -> str:
        return await anyio.to_thread.run_sync(read)

    return Looking(
        name=name,
        provider=build(account.provider, options),
        wire=wire,
        credential=credential,
        pace=Pace(polling.min_interval, polling.max_interval, polling.eagerness),
        max_concurrency=account.max_concurrency,
        requests_per_minute=account.requests_per_minute,
        lost_after=polling.lost_after,
        unreachable_after=polling.unreachable_after,
        discover=account.discover,
    )


def telling_of(
    settings: Settings, name: str, redactor: Redactor, clock: Clock, log: Log
) -> Telling:
    """A channel as the courier needs it. Raises ConfigError that never shows the URL."""
    channel = settings.channels[name]
    address = channel.url_secret()
    notifier = open_notifier(settings, name, redactor, clock, log, address=address)
    return Telling(
        name,
        notifier,
        digest_wait=channel.digest_wait,
        digest_interval=channel.digest_interval,
        give_up_after=channel.give_up_after,
        address=address,
    )


async def close_plan(plan: Plan) -> None:
    """Close the connections and notifiers of a plan that is no longer in use."""
    for looking in plan.looking.values():
        await close_looking(looking)
    for telling in plan.telling.values():
        telling.notifier.close()


async def close_looking(looking: Looking) -> None:
    """Let go of an account's connections."""
    await looking.wire.close()


def open_notifier(
    settings: Settings,
    name: str,
    redactor: Redactor,
    clock: Clock,
    log: Log | None = None,
    *,
    address: SecretStr | None = None,
) -> AppriseNotifier:
    """A configured channel's way out. Raises ConfigError that never shows the URL.

    `address` is its URL where that was read already.
    """
    channel = settings.channels[name]
    return AppriseNotifier(
        name,
        channel.url_secret() if address is None else address,
        redactor=redactor,
        clock=clock,
        emoji=channel.emoji if isinstance(channel.emoji, bool) else "auto",
        details=channel.details,
        log=log,
    )


def register_configured(ledger: Ledger, plan: Plan, now: int) -> None:
    """Register `[[batches]]` as `watcher add` would, and adopt the batches of former names."""
    for name, account in plan.settings.accounts.items():
        for former in account.formerly:
            ledger.batches.adopt(name, former, now)
    ledger.batches.register_all(plan.registering, now)


def configured_batches(settings: Settings) -> tuple[Registering, ...]:
    """What `[[batches]]` registers. Raises ConfigError for an id whose account is not plain."""
    directory = Directory.of_names(public_names(settings))
    wanted = []
    for number, batch in enumerate(settings.batches, 1):
        try:
            account, id_ = directory.resolve(batch.id, account=batch.account)
        except UsageError as error:
            message = f"{settings.file}: batches[{number}]: {error}"
            raise ConfigError(message) from error
        wanted.append(
            Registering(
                account,
                id_,
                settings.accounts[account].provider,
                name=batch.name,
                tags=batch.tags or None,
                group=batch.group,
                channels=batch.channels or None,
                registered_by="configuration",
                quiet_if_ended=batch.quiet_if_ended or None,
                revive=False,
            )
        )
    return tuple(wanted)
