"""Which account an id belongs to, from names alone: no key, no network."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from watcher.errors import UsageError
from watcher.model import ID_LENGTH, Outcome, Severity
from watcher.providers import PROVIDERS, Provider, ProviderOptions, build, sure_provider
from watcher.routing import Route, Switchboard
from watcher.text import clean_line

# Never asked anything: a provider is only built here to know which ids it takes.
NOWHERE = "https://localhost"
# What a channel may be called. Anything else may be a URL that was put in the wrong place.
_CHANNEL_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")


@dataclass(frozen=True, slots=True)
class Directory:
    """The accounts and channels there are, as the configuration or the daemon names them."""

    # Account names and their providers.
    accounts: Mapping[str, str] = field(default_factory=dict)
    channels: tuple[str, ...] = ()

    @classmethod
    def of_names(cls, names: Mapping[str, Any]) -> Directory:
        """From what a daemon wrote to the state."""
        accounts = {str(one["name"]): str(one["provider"]) for one in names.get("accounts", ())}
        return cls(accounts, tuple(names.get("channels", ())))

    def resolve(
        self, text: str, known: Collection[str] = (), account: str | None = None
    ) -> tuple[str, str]:
        """The account and the id that are meant; `known` are accounts that have this bare id.

        Raises UsageError naming the accounts to choose from.
        """
        _check_form(text)
        if account is not None:
            self._check_account(account)
            prefix = f"{account}/"
            return self._accepted(account, text.removeprefix(prefix))
        head, slash, rest = text.partition("/")
        if slash and head in self.accounts:
            return self._accepted(head, rest)
        if slash and rest and head.isidentifier() and not self.accounts:
            raise UsageError(f"no account is called {head!r}: {self._choices()}")
        known_here = [name for name in known if name in self.accounts or not self.accounts]
        if len(known_here) == 1:
            return known_here[0], text
        if len(known_here) > 1:
            keys = ", ".join(f"{name}/{text}" for name in known_here)
            raise UsageError(f"several accounts have this id, say which is meant: {keys}")
        return self._accepted(self._guess(text, head if slash else None), text)

    def _guess(self, text: str, head: str | None) -> str:
        # A server of one's own may give ids of any form.
        own = "openai-compatible" in self.accounts.values()
        provider = None if own else sure_provider(text)
        of_provider = [name for name, kind in self.accounts.items() if kind == provider]
        if len(of_provider) == 1:
            return of_provider[0]
        shown = clean_line(text, 60)
        if provider is not None and not of_provider:
            kind = PROVIDERS[provider]
            key = f": set {kind.key_variables[0]}" if kind.key_variables else ""
            raise UsageError(
                f"{shown} looks like {kind.title}'s; no account has that provider{key}"
            )
        if len(self.accounts) == 1 and head is None:
            return next(iter(self.accounts))
        if head is not None and self.accounts:
            raise UsageError(f"no account is called {head!r}: {self._choices()}")
        if not self.accounts:
            raise UsageError(f"{shown}: {self._choices()}")
        keys = ", ".join(f"{name}/{shown}" for name in self.accounts)
        raise UsageError(f"{shown} could belong to several accounts, say which: {keys}")

    def _check_account(self, name: str) -> None:
        if name not in self.accounts:
            raise UsageError(f"no account is called {clean_line(name, 60)!r}: {self._choices()}")

    def _choices(self) -> str:
        if self.accounts:
            return f"there is {', '.join(self.accounts)}"
        keys = [kind.key_variables[0] for kind in PROVIDERS.values() if kind.key_variables]
        return f"there is no account; set {' or '.join(keys)}, or run `watcher init`"

    def _accepted(self, account: str, id_: str) -> tuple[str, str]:
        kind = PROVIDERS.get(self.accounts[account])
        if not id_:
            raise UsageError(f"the id after {account}/ is empty")
        if len(id_) > ID_LENGTH:
            raise _too_long(id_)
        if kind is not None and not _never_asked(kind.name).accepts(id_):
            shown = clean_line(id_, 60)
            raise UsageError(f"{shown!r} cannot be the id of a batch at {kind.title}")
        return account, id_

    def check_channels(self, names: Collection[str]) -> None:
        """Raise UsageError for a channel nobody configured."""
        for name in names:
            if name not in self.channels:
                raise UsageError(no_such_channel(name, self.channels))


def may_name_a_channel(text: str) -> bool:
    """Whether a channel could be called so; a URL, which may hold a secret, could not."""
    return _CHANNEL_NAME.fullmatch(text) is not None


def no_such_channel(name: str, channels: Collection[str]) -> str:
    """What to say of a name that no channel has; what could be a URL's secret is not repeated."""
    there = f"there is {', '.join(channels) or 'none'}"
    if may_name_a_channel(name):
        return f"no channel is called {name!r}: {there}"
    return f"that is no channel's name: {there}"


def board_of_names(names: Mapping[str, Any]) -> Switchboard:
    """Who is told what, from what a daemon wrote to the state."""
    routes = []
    for route in names.get("routes", ()):
        conditions = {
            key: tuple(route.get(key, ()))
            for key in ("channels", "events", "accounts", "tags", "groups")
        }
        severity = route.get("severity")
        routes.append(
            Route(
                name=str(route["name"]),
                severity=None if severity is None else Severity(severity),
                outcomes=tuple(Outcome(outcome) for outcome in route.get("outcomes", ())),
                metadata=dict(route.get("metadata", {})),
                **conditions,
            )
        )
    operators = names.get("operators")
    return Switchboard(
        tuple(names.get("channels", ())),
        tuple(routes),
        None if operators is None else tuple(operators),
    )


def check_forms(texts: Iterable[str]) -> None:
    """Raise UsageError for what can be no id anywhere, and must not reach the state."""
    for text in texts:
        _check_form(text)


def _check_form(text: str) -> None:
    if not text:
        raise UsageError("an id is empty; give the id that the provider's create call returned")
    if not text.isprintable():
        raise UsageError(f"{clean_line(text, 60)!r} cannot be an id: it holds a control character")
    # The name of an account may stand before it.
    if len(text) > ID_LENGTH + 41:
        raise _too_long(text)


def _too_long(text: str) -> UsageError:
    return UsageError(f"{text[:40]}… cannot be an id: it has more than {ID_LENGTH} characters")


@cache
def _never_asked(provider: str) -> Provider:
    # A hundred thousand ids at once have one provider.
    own_address = PROVIDERS[provider].default_base_url
    return build(provider, ProviderOptions(base_url=None if own_address else NOWHERE))
