"""The table of providers. Importing it is cheap: no HTTP client, no settings, no event loop."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from watcher.errors import ConfigError
from watcher.providers.addresses import secret_segments
from watcher.providers.cohere import COHERE
from watcher.providers.openai import CEREBRAS, OPENAI, OPENAI_COMPATIBLE
from watcher.providers.provider import Provider, ProviderKind, ProviderOptions

__all__ = [
    "PROVIDERS",
    "Provider",
    "ProviderKind",
    "ProviderOptions",
    "build",
    "secret_parts",
    "sure_provider",
]

PROVIDERS: Mapping[str, ProviderKind] = MappingProxyType(
    {
        "openai": OPENAI,
        "cerebras": CEREBRAS,
        "cohere": COHERE,
        "openai-compatible": OPENAI_COMPATIBLE,
    }
)


def build(name: str, options: ProviderOptions) -> Provider:
    """The provider of this name at the account's base URL.

    Raises ConfigError, whose text names the option and never shows its value.
    """
    kind = PROVIDERS.get(name)
    if kind is None:
        raise ConfigError(f"no provider is called {name!r}: there are {', '.join(PROVIDERS)}")
    for option in ("organization", "project"):
        if getattr(options, option) is not None and option not in kind.options:
            raise ConfigError(f"{option} means nothing to {name}: leave it out")
    return kind.build(options)


def secret_parts(options: ProviderOptions) -> tuple[str, ...]:
    """What of an account's options may be a secret, for whoever holds the redactor to add.

    The values of its headers, and each part of its base URL's path that looks like a token.
    """
    return (*options.headers.values(), *secret_segments(options.base_url or ""))


def sure_provider(id: str) -> str | None:
    """The provider whose id this must be by its form; None where it could be another's."""
    for name, kind in PROVIDERS.items():
        if kind.sure_form is not None and kind.sure_form.fullmatch(id):
            return name
    return None
