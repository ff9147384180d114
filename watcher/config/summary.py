"""What of the settings others may know: names, and never a secret."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from watcher.config.sections import AccountSettings
from watcher.config.settings import Settings
from watcher.providers import PROVIDERS

EXAMPLE_NAME = "config.example.toml"


def public_names(settings: Settings) -> dict[str, Any]:
    """What the daemon writes to the state, fit for JSON, so that others resolve names as it does.

    `{"accounts": [{"name", "provider", "host", "formerly"}], "channels": [name], "operators":
    [name] or None, "routes": [{"name", "channels", and its conditions}]}`.
    """
    return {
        "accounts": [
            {
                "name": name,
                "provider": account.provider,
                "host": urlsplit(_base_url(account)).hostname,
                "formerly": list(account.formerly),
            }
            for name, account in settings.accounts.items()
        ],
        "channels": list(settings.channels),
        "operators": None if settings.operators is None else list(settings.operators),
        "routes": [_plain(asdict(route)) for route in settings.switchboard().routes],
    }


def fingerprint(settings: Settings) -> str:
    """Twelve hexadecimal digits that differ where accounts or channels do.

    Of accounts count names, providers and base URLs, of channels the names: a second daemon
    whose fingerprint differs must not stand by for the first.
    """
    accounts = sorted(
        [name, account.provider, _same(account)] for name, account in settings.accounts.items()
    )
    text = json.dumps([accounts, sorted(settings.channels)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def example() -> str:
    """The commented configuration that `watcher init` writes."""
    packaged = files("watcher") / EXAMPLE_NAME
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    # An editable installation has it where the repository keeps it.
    return (Path(__file__).parents[2] / EXAMPLE_NAME).read_text(encoding="utf-8")


def _plain(table: dict[str, Any]) -> dict[str, Any]:
    # As JSON gives it back, so that what is read compares equal to what was written.
    return {key: list(value) if isinstance(value, tuple) else value for key, value in table.items()}


def _base_url(account: AccountSettings) -> str:
    return account.base_url or PROVIDERS[account.provider].default_base_url or ""


def _same(account: AccountSettings) -> str:
    """One text for all base URLs that mean the same."""
    base_url = _base_url(account).rstrip("/")
    # The one that has no address of its own takes what it is given verbatim.
    verbatim = not PROVIDERS[account.provider].default_base_url
    return base_url if verbatim else re.sub(r"/v\d+$", "", base_url)
