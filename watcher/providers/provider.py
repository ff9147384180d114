"""What a provider is: it builds requests and reads answers. It never sends anything itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from watcher.errors import ConfigError, Unauthorized
from watcher.model import Observation, Request
from watcher.redaction import looks_like_a_secret


class Provider(Protocol):
    """One provider at one base URL; pure, and free of any credential."""

    @property
    def name(self) -> str:
        """The name it has in the table of providers."""

    @property
    def page_size(self) -> int:
        """How many batches a full page of the list may hold."""

    @property
    def cursor_is_id(self) -> bool:
        """Whether a page may be asked to begin after any batch whose id is known.

        What its documentation says: a server that resembles it may do otherwise.
        """

    def accepts(self, id: str) -> bool:
        """Whether this could be the id of a batch here."""

    def retrieve(self, id: str) -> Request:
        """The request for one batch. Raises Refused for an id that `accepts` does not take."""

    def read(self, body: object) -> Observation:
        """What an answer to `retrieve` says; `body` is parsed JSON.

        Raises Garbled. Whether the id it names is the one that was asked for is the caller's
        to compare.
        """

    def read_created(self, body: object) -> str:
        """The id in what a create call returned, wrapped or not. Raises Garbled."""

    def page(self, cursor: str | None, size: int | None = None) -> Request:
        """The request for a page of the account's batches, as long as can be unless told."""

    def read_page(
        self, body: object, cursor: str | None = None
    ) -> tuple[list[Observation], str | None]:
        """The batches of a page and the cursor of the next, None after the last.

        `cursor` is the one it was asked for with. Entries that cannot be read are left out. A
        provider that ignores its cursor answers with the same page for ever: the caller stops
        at a cursor it has had. Raises Garbled.
        """

    def authorize(self, request: Request, secret: str, now: int) -> Request:
        """The request with the credential; `now` in milliseconds, for those that sign.

        Raises Unauthorized for a secret that no header can carry.
        """

    def page_url(self, id: str) -> str | None:
        """The provider's own web page of a batch, where it has one."""


@dataclass(frozen=True, slots=True)
class ProviderOptions:
    """What an account may say of its provider; extra headers may hold credentials."""

    # Nor is this shown: a gateway's may hold its token.
    base_url: str | None = field(default=None, repr=False)
    organization: str | None = None
    project: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class ProviderKind:
    """A row of the table of providers: what is known of one before it is built."""

    name: str
    title: str
    build: Callable[[ProviderOptions], Provider]
    # None: the account must give one.
    default_base_url: str | None = None
    # The first of these that is set in the environment counts.
    key_variables: tuple[str, ...] = ()
    base_url_variables: tuple[str, ...] = ()
    # Variables of the environment, and the option each one sets.
    option_variables: Mapping[str, str] = field(default_factory=dict)
    # Of `organization` and `project`, those it knows.
    options: frozenset[str] = frozenset()
    # Whether its batches carry metadata of the user's.
    metadata: bool = True
    # The form of ids that are this provider's and nobody else's.
    sure_form: re.Pattern[str] | None = None


class Credentials(dict[str, str]):
    """Headers that hold a credential: what is printed of them is their names."""

    def __repr__(self) -> str:
        return f"<headers {', '.join(sorted(self))}>"


def checked_headers(options: ProviderOptions) -> dict[str, str]:
    """The extra headers of an account. Raises ConfigError, which never shows a value."""
    for number, (name, value) in enumerate(options.headers.items(), 1):
        # Someone may have written the value where the name belongs.
        if not _HEADER_NAME.fullmatch(name) or looks_like_a_secret(name):
            raise ConfigError(f'headers: entry {number} has no name such as "X-Team" before the =')
        if not _fits_header(value):
            raise ConfigError(f"headers: {name} {_UNFIT}")
    for option in ("organization", "project"):
        if not _fits_header(getattr(options, option) or ""):
            raise ConfigError(f"{option} {_UNFIT}")
    return dict(options.headers)


def signed(request: Request, secret: str, headers: Mapping[str, str]) -> Request:
    """The request with a bearer token and these headers; one of them may replace the token.

    An empty secret adds no token. Raises Unauthorized for one that no header can carry.
    """
    secret = secret.strip()
    if not _fits_header(secret):
        raise Unauthorized(f"the API key {_UNFIT}")
    given = {name.lower() for name in headers}
    token = {"Authorization": f"Bearer {secret}"} if secret else {}
    return replace(
        request,
        headers=Credentials(
            {**request.headers, **({} if "authorization" in given else token), **headers}
        ),
    )


_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_UNFIT = "holds a line break or another character that no header can carry"


def _fits_header(value: str) -> bool:
    return value.isascii() and value.isprintable()
