"""From a file and the environment to settings, or to a mistake told plainly."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from watcher.config import files
from watcher.config.credentials import Secret, Surroundings
from watcher.config.files import Places
from watcher.config.kinds import quotable, suggestion
from watcher.config.sections import AccountSettings
from watcher.config.settings import SOURCES, Settings
from watcher.config.sources import (
    Document,
    Place,
    Variables,
    put_away_choices,
    read_document,
    read_variables,
    source,
)
from watcher.config.wording import explained, misplaced
from watcher.errors import ConfigError
from watcher.providers import PROVIDERS, ProviderKind, build

_SECRET_HEADER = re.compile("auth|key|token|secret|cookie", re.IGNORECASE)


def load(
    path: Path | None = None,
    *,
    state: str | None = None,
    environ: Mapping[str, str] = os.environ,
    places: Places | None = None,
) -> Settings:
    """The settings of this machine: the file in force, with the environment over it.

    `path` and `state` are what `--config` and `--state` said. Steps: find the file and see that
    nobody else wrote it; merge and check; add the accounts that keys in the environment imply;
    tell each account and channel where its secret is; check every name that points at another.
    No secret is needed: one that is missing is told by `credential()` and `url_secret()`.
    Reads files and so blocks. Raises ConfigError.
    """
    places = places or Places.of_this_machine()
    file = files.find(path, environ, places)
    document, variables = read_document(file), read_variables(environ)
    settled = _state(document, variables, state, environ, places)
    settings = _merged(document, variables, {"state": settled})
    implied, warnings = _implied_accounts(settings, environ)
    settings = settings.model_copy(update={"accounts": {**settings.accounts, **implied}})
    surroundings = Surroundings(environ, file.parent if file else None, places.run_secrets)
    for name, account in settings.accounts.items():
        account.bind(name, surroundings, implied=name in implied)
    for name, channel in settings.channels.items():
        channel.bind(name, surroundings)
    settings.heartbeat.bind(surroundings)
    for place, reason in _mistakes(settings):
        raise ConfigError(misplaced(place, reason, document, variables))
    settings.bind(file, (*warnings, *_warnings(settings, document)))
    return settings


def _state(
    document: Document,
    variables: Variables,
    flag: str | None,
    environ: Mapping[str, str],
    places: Places,
) -> str:
    # What is no text is left for pydantic to refuse.
    key = document.table.get("state")
    return files.state_path(
        flag,
        variables.table.get("state"),
        key if isinstance(key, str) else None,
        config=document.path,
        environ=environ,
        places=places,
    )


def _merged(document: Document, variables: Variables, settled: dict[str, Any]) -> Settings:
    table = put_away_choices(document.table, variables.table)
    if not isinstance(document.table.get("state", ""), str):
        settled = {}
    token = SOURCES.set((source(variables.table), source(table)))
    try:
        return Settings(**settled)
    except ValidationError as error:
        raise explained(error, document, variables) from None
    finally:
        SOURCES.reset(token)


def _implied_accounts(
    settings: Settings, environ: Mapping[str, str]
) -> tuple[dict[str, AccountSettings], list[str]]:
    """An account for each provider whose key is in the environment and that has none."""
    configured = {account.provider for account in settings.accounts.values()}
    implied, warnings = {}, []
    for name, kind in PROVIDERS.items():
        variable = _first_set(kind.key_variables, environ)
        if variable is None or name in configured:
            continue
        if name in settings.accounts:
            warnings.append(
                f"${variable} implies no account: the name {name} is taken by [accounts.{name}]"
            )
            continue
        try:
            implied[name] = _implied(kind, variable, environ)
        except (ConfigError, ValidationError):
            beside = ", ".join((*kind.base_url_variables, *kind.option_variables))
            warnings.append(
                f"${variable} implies no account: correct or unset {beside}, one of which is "
                "malformed"
            )
    return implied, warnings


def _implied(kind: ProviderKind, variable: str, environ: Mapping[str, str]) -> AccountSettings:
    given: dict[str, Any] = {"provider": kind.name, "api_key_env": variable}
    if (base_url := _first_set(kind.base_url_variables, environ)) is not None:
        given["base_url"] = environ[base_url]
    for name, option in kind.option_variables.items():
        if environ.get(name, "").strip():
            given[option] = environ[name]
    account = AccountSettings(**given)
    # An account nobody asked for must not stop the program: see that its provider can be built.
    build(kind.name, account.options())
    return account


def _first_set(names: tuple[str, ...], environ: Mapping[str, str]) -> str | None:
    return next((name for name in names if environ.get(name, "").strip()), None)


def _mistakes(settings: Settings) -> Iterator[tuple[Place, str]]:
    """What no single table can see: names that point nowhere, bounds that cross."""
    channels = list(settings.channels)
    # A provider's name is known without its key, so that commands without keys can read this.
    implied = (name for name, kind in PROVIDERS.items() if kind.key_variables)
    accounts = list(dict.fromkeys([*settings.accounts, *implied]))
    yield from _account_mistakes(settings)
    yield from _unknown(("operators",), settings.operators or (), channels, "channel")
    for position, route in enumerate(settings.routes):
        place = ("routes", position)
        yield from _unknown((*place, "channels"), route.channels, channels, "channel")
        yield from _unknown((*place, "accounts"), route.accounts, accounts, "account")
    for position, batch in enumerate(settings.batches):
        place = ("batches", position)
        named = (batch.account,) if batch.account else ()
        yield from _unknown((*place, "channels"), batch.channels, channels, "channel")
        yield from _unknown((*place, "account"), named, accounts, "account")


def _unknown(
    place: Place, words: tuple[str, ...], known: list[str], what: str
) -> Iterator[tuple[Place, str]]:
    for word in words:
        if word not in known:
            yield place, f"no {what}{quotable(word)}{suggestion(word, known)}"


def _account_mistakes(settings: Settings) -> Iterator[tuple[Place, str]]:
    adopted: dict[str, str] = {}
    for name, account in settings.accounts.items():
        place = ("accounts", name)
        if not account.implied and (objection := account.objection()):
            yield place, objection
        polling = settings.polling_of(name)
        if polling.min_interval > polling.max_interval:
            key = "min_interval" if account.min_interval is not None else "max_interval"
            yield (*place, key), "min_interval would be longer than max_interval here: correct one"
        for former in account.formerly:
            if former in settings.accounts:
                yield (*place, "formerly"), f"{former} is an account itself: remove it here"
            if former in adopted:
                yield (*place, "formerly"), f"[accounts.{adopted[former]}] adopts {former} already"
            adopted[former] = name


def _warnings(settings: Settings, document: Document) -> Iterator[str]:
    if document.open_to_all and _holds_a_secret(document.table):
        yield f"{document.path}: holds a secret and others can read it: chmod 600 {document.path}"
    secrets: list[Secret] = [
        *(account.secret for account in settings.accounts.values()),
        *(channel.secret for channel in settings.channels.values()),
        *((settings.heartbeat.secret,) if settings.heartbeat.wanted else ()),
    ]
    yield from dict.fromkeys(filter(None, (secret.warning() for secret in secrets)))
    yield from _useless_filters(settings)


def _useless_filters(settings: Settings) -> Iterator[str]:
    for name, account in settings.accounts.items():
        if not account.discover_metadata:
            continue
        if not account.discover:
            yield f'account "{name}": discover_metadata does nothing without discover = true'
        elif not PROVIDERS[account.provider].metadata:
            yield (
                f'account "{name}": batches of {account.provider} have no metadata, '
                "so discover_metadata lets none of them in: remove it"
            )


def _holds_a_secret(table: dict[str, Any]) -> bool:
    accounts = _tables(table.get("accounts"))
    addresses = [*_tables(table.get("channels")), *_tables([table.get("heartbeat")])]
    headers = chain.from_iterable(account.get("headers", ()) for account in accounts)
    return (
        any("api_key" in account for account in accounts)
        or any("url" in address for address in addresses)
        or any(_SECRET_HEADER.search(name) for name in headers)
    )


def _tables(value: object) -> list[dict[str, Any]]:
    # The environment may have stood in for what is no table in the file.
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [one for one in values if isinstance(one, dict)]
