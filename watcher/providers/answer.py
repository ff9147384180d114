"""What came back, bounded and judged: a body as JSON, a refusal as the error it stands for."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, NoReturn
from urllib.parse import urlsplit

from watcher.errors import (
    Garbled,
    Missing,
    ProviderError,
    RateLimited,
    Refused,
    Unauthorized,
    Unavailable,
)
from watcher.providers.reading import error_message
from watcher.text import clean_line

# Of an error only the first words are shown.
ERROR_BYTES = 64 * 1024
MESSAGE_LENGTH = 200
EXCERPT_LENGTH = 80
# The most values of a body: what they cost to read grows with their number, not their bytes. A
# page without paging may hold 10,000 batches of thirty values each.
VALUES_OF_PAGE = 300_000
VALUES_OF_BATCH = 50_000
_BATCH_BYTES = 4 * 1024 * 1024
# A text, which may hold anything, or a sign that a value may follow. Possessive, and without the
# closing quote if there is none: each byte is read once, whatever it is.
_TEXT_OR_SIGN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[,\[{]', re.DOTALL)
# No pause a provider asks for is longer to us.
LONGEST_PAUSE = 3_600_000

Strike = Callable[[str], str]


def inflated(raw: bytes, encoding: str, most_bytes: int) -> bytes:
    """The body without its compression, never more than one byte above `most_bytes`.

    Raises Garbled for a damaged body, and for an encoding that was not asked for.
    """
    encoding = encoding.strip().lower()
    if encoding in {"", "identity"}:
        return raw[: most_bytes + 1]
    if encoding in {"gzip", "x-gzip"}:
        windows = [zlib.MAX_WBITS | 16]
    elif encoding == "deflate":
        # Half of the world understood it to be without a header.
        windows = [zlib.MAX_WBITS, -zlib.MAX_WBITS]
    else:
        raise Garbled(f"the answer is compressed as {clean_line(encoding, 40)!r}, unasked")
    for window in windows:
        decompressor = zlib.decompressobj(window)
        try:
            body = decompressor.decompress(raw, most_bytes + 1)
        except zlib.error:
            continue
        if not decompressor.eof and len(body) <= most_bytes:
            raise Garbled("the compressed answer ends too early")
        return body
    raise Garbled("the compressed answer is damaged")


def most_values(most_bytes: int) -> int:
    """How many values a body may hold that may be so long."""
    return VALUES_OF_PAGE if most_bytes > _BATCH_BYTES else VALUES_OF_BATCH


def parsed(body: bytes, strike: Strike, most: int = VALUES_OF_PAGE) -> object:
    """A body as JSON, without any secret it repeats, of at most so many values.

    Raises Garbled, with the first characters of what cannot be read. Blocks for 0.1 s and more
    where the body is of megabytes.
    """
    if _has_more_values(body, most):
        raise Garbled(f"the answer holds more than {most:,} values")
    try:
        text = body.decode("utf-8-sig")
        value = _DECODER.decode(text)
    except RecursionError:
        raise Garbled("the answer is nested too deeply") from None
    except ValueError:
        # Also for bytes that are not UTF-8, and for an integer of more digits than Python takes.
        start = clean_line(strike(body[:4_096].decode("utf-8", "replace")), EXCERPT_LENGTH)
        raise Garbled(
            f"the answer is not JSON: {start!r}" if body else "the answer is empty"
        ) from None
    # An escape may hide a secret until it is read.
    return _struck(value, strike) if "\\" in text or strike(text) != text else value


def _has_more_values(body: bytes, most: int) -> bool:
    """Whether a body would be parsed to more values than that; keys do not count."""
    # Nearly every body is settled by this, which takes no time.
    if sum(map(body.count, (b",", b"[", b"{"))) < most:
        return False
    texts = signs = 0
    for found in _TEXT_OR_SIGN.finditer(body):
        if body[found.start()] == ord('"'):
            texts += 1
        else:
            signs += 1
        # Each value has at most one key: more texts than that are not JSON anyhow.
        if signs >= most or texts > 2 * most:
            return True
    return False


def _struck(value: object, strike: Strike) -> object:
    """The value with the secrets struck out of its texts; not by recursion, however deep."""
    whole = [value]
    waiting: list[Any] = [whole]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, dict):
            items = list(holder.items())
            holder.clear()
            holder.update((strike(key), _plain(item, strike, waiting)) for key, item in items)
        else:
            holder[:] = [_plain(item, strike, waiting) for item in holder]
    return whole[0]


def _plain(item: Any, strike: Strike, waiting: list[Any]) -> Any:
    if isinstance(item, dict | list):
        waiting.append(item)
    return strike(item) if isinstance(item, str) else item


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Built once: `json.loads` would build one for each body.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def failure(
    status: int, headers: Mapping[str, str], body: bytes, now: int, strike: Strike
) -> ProviderError:
    """The error an HTTP status other than 2xx stands for, with the provider's own words.

    `now` in milliseconds counts only for a Retry-After that is a date.
    """
    said = _phrase(status)
    if 300 <= status < 400:
        said += _destination(headers.get("location", ""))
    elif message := clean_line(strike(_message(headers, body)), MESSAGE_LENGTH):
        said += f": {message}"
    # Cleaning may have joined what was no secret before.
    said = strike(said)
    if status == 429:
        return RateLimited(said, retry_after=retry_after(headers, now))
    kinds: dict[int, type[ProviderError]] = {
        401: Unauthorized,
        403: Unauthorized,
        404: Missing,
        410: Missing,
    }
    kind = kinds.get(status)
    if kind is None:
        kind = Unavailable if 500 <= status < 600 else Refused if 300 <= status < 500 else Garbled
    return kind(said, status_code=status)


def _phrase(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _destination(location: str) -> str:
    """Where a redirect points, by its host alone: a query may hold a secret."""
    try:
        host = urlsplit(location).hostname
    except ValueError:
        host = None
    where = clean_line(host, 100) if host else "another path of the same host"
    return f": points to {where}, and redirects are not followed"


def _message(headers: Mapping[str, str], body: bytes) -> str:
    """The provider's own words for people; none where it sent a web page."""
    try:
        plain = inflated(body, headers.get("content-encoding", ""), ERROR_BYTES)
    except Garbled:
        return ""
    said = plain.decode("utf-8", "replace").strip()
    try:
        # Cut only after the secrets have been struck out.
        return error_message(json.loads(said), ERROR_BYTES) or ""
    except (ValueError, RecursionError):
        return "" if said.startswith(("<", "{", "[")) else said


def retry_after(headers: Mapping[str, str], now: int) -> int | None:
    """The pause asked for, in milliseconds from 0 to an hour; None if there is none to read.

    A date counts from the server's own clock where it tells it.
    """
    asked = _number(headers.get("retry-after-ms"))
    if asked is None and (seconds := _number(headers.get("retry-after"))) is not None:
        asked = seconds * 1000
    if asked is None and (date := _date(headers.get("retry-after"))) is not None:
        asked = date - (_date(headers.get("date")) or now)
    return None if asked is None else math.ceil(min(max(0, asked), LONGEST_PAUSE))


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _date(text: str | None) -> int | None:
    try:
        return int(parsedate_to_datetime(text or "").timestamp() * 1000)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
