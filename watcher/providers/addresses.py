"""Addresses of a provider's API: base URLs checked and completed, ids as one path segment."""

from __future__ import annotations

import functools
import ipaddress
import re
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from watcher.errors import ConfigError, Refused
from watcher.model import ID_LENGTH
from watcher.redaction import mixes_letters_and_digits
from watcher.text import clean_line

_VERSION = re.compile(r"v\d{1,2}(?:(?:alpha|beta)\d{0,2})?")

# A host and perhaps a port as every reader of URLs understands them: with anything else in it,
# `http://[::1]evil` or `http://127.0.0.1\.evil`, one may see another host than the next.
_PLACE = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^\s\[\]\\%@,;:'\"<>^`{|}]+)(?::\d*)?")

# What needs no quoting anywhere.
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")

# Azure's, such as 2025-04-01-preview: short words and figures, no credential.
_HARMLESS_QUERY = re.compile(
    r"api-version=(?:v\d{1,2}|latest|preview|\d{4}-\d\d-\d\d)(?:-preview)?"
)


def fits_one_segment(id: str) -> bool:
    """Whether an id is printable, at most 480 characters and safe as one segment of a path."""
    return (
        0 < len(id) <= ID_LENGTH
        and "/" not in id
        and id not in {".", ".."}
        and id.isprintable()
        # Anything else would never equal the id that an answer names.
        and clean_line(id, ID_LENGTH) == id
    )


def is_loopback(host: str | None) -> bool:
    """Whether the host of a URL is this machine: `localhost` or an address written out in full."""
    # A short or octal form, a closing dot, a name below localhost: each may be somewhere else.
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def checked_base_url(text: str) -> str:
    """A base URL without its closing slashes.

    Raises ConfigError, whose text never shows the URL: it may hold a password.
    """
    text = text.strip()
    advice = "base_url must be an http or https address, such as https://api.example.com/v1"
    if not text.isprintable() or " " in text:
        raise ConfigError(f"{advice}: this one holds a space or a control character")
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - raises ValueError when it is no number
    except ValueError:
        raise ConfigError(advice) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(advice)
    if "@" in parts.netloc:
        raise ConfigError("base_url must not hold a user name or password: use headers instead")
    if not _PLACE.fullmatch(parts.netloc):
        raise ConfigError(advice)
    if parts.query and not _HARMLESS_QUERY.fullmatch(parts.query):
        raise ConfigError(
            "base_url must not hold a query (?…) other than api-version=…: "
            "give a key as api_key or in headers instead"
        )
    if parts.fragment:
        raise ConfigError("base_url must not hold a fragment (#…)")
    return urlunsplit(parts._replace(path=parts.path.rstrip("/")))


def secret_segments(base_url: str) -> tuple[str, ...]:
    """The parts of a base URL's path that may be a gateway's token, not its words."""
    try:
        path = urlsplit(base_url.strip()).path
    except ValueError:
        return ()
    return tuple(filter(mixes_letters_and_digits, path.split("/")))


def with_version(base_url: str, version: str) -> str:
    """The base URL with its version part, which gateways may keep anywhere in their path."""
    parts = urlsplit(base_url)
    if any(_VERSION.fullmatch(segment) for segment in parts.path.split("/")):
        return base_url
    return urlunsplit(parts._replace(path=f"{parts.path}/{version}"))


def without_version(base_url: str) -> str:
    """The base URL without a version at its end."""
    parts = urlsplit(base_url)
    head, _, tail = parts.path.rpartition("/")
    return urlunsplit(parts._replace(path=head)) if _VERSION.fullmatch(tail) else base_url


def address(base_url: str, *segments: str, **query: str | int | None) -> str:
    """A URL below the base URL; the query a base URL may have stays, None is left out."""
    base, held = _without_query(base_url)
    url = "/".join([base, *map(_quoted, segments)])
    asked = urlencode({name: value for name, value in query.items() if value is not None})
    both = "&".join(text for text in (held, asked) if text)
    return f"{url}?{both}" if both else url


@functools.lru_cache(maxsize=64)
def _without_query(base_url: str) -> tuple[str, str]:
    """A base URL without its query, and the query."""
    parts = urlsplit(base_url)
    return urlunsplit(parts._replace(query="")), parts.query


def _quoted(segment: str) -> str:
    # Nearly every id is plain.
    return segment if _PLAIN.fullmatch(segment) else quote(segment, safe="")


def batch_address(base_url: str, id: str, *segments: str) -> str:
    """The URL of one batch. Raises Refused for an id that could lead elsewhere."""
    if not fits_one_segment(id):
        raise Refused(f"{clean_line(id, 60)!r} cannot be the id of a batch here")
    return address(base_url, *segments, id)
