"""Words and figures for people: cleaned lines, spans of time, counts. Pure."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime, tzinfo
from functools import lru_cache

# Formatting characters that turn the direction of what follows or hide in a word.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_JOINERS = {"\u200c", "\u200d"}
ELLIPSIS = "…"
_SECONDS = tuple(f"{second:02d}" for second in range(60))
_BEYOND_PRINTABLE_ASCII = re.compile(r"[^\x00-\x7e]")


def clean_line(text: str, limit: int) -> str:
    """One printable line of at most `limit` characters.

    Line ends and tabs become spaces; control characters, terminal escapes, marks that turn the
    direction of writing, lone surrogates and unassigned characters become U+FFFD.
    """
    if len(text) <= limit and text.isascii() and text.isprintable():
        # Nearly every text.
        return text.strip()
    # Cleaning a text of megabytes to keep its first line would cost more than reading it.
    text = text[: limit * 2 + 16]
    if not (text.isascii() and text.isprintable()):
        text = "".join(_clean_character(character) for character in text)
    return shorten(text.strip(), limit)


def clean_lines(text: str) -> str:
    """The text line by line as `clean_line` has it, uncut; what is set in stays so."""
    lines = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip(" "))]
        lines.append(indent + clean_line(line, len(line)))
    return "\n".join(lines)


def _clean_character(character: str) -> str:
    if character in "\t\n\r\v\f\x85\u2028\u2029":
        return " "
    return character if _is_seen(character) else "\N{REPLACEMENT CHARACTER}"


def _is_seen(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character) not in _UNSEEN


def harmless_json(document: str) -> str:
    """JSON text in which whatever could steer a terminal, or hide, is escaped.

    It means the same: beyond ASCII, JSON has only the insides of its texts.
    """
    if document.isascii() and "\x7f" not in document:
        return document
    return _BEYOND_PRINTABLE_ASCII.sub(_escaped, document)


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if _is_seen(character):
        return character
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def shorten(text: str, limit: int) -> str:
    """The text cut to `limit` characters, the last of them an ellipsis where it was cut."""
    return text if len(text) <= limit else text[: max(0, limit - 1)].rstrip() + ELLIPSIS


def iso(at: int | None) -> str | None:
    """Milliseconds as RFC 3339 in UTC; the fraction only where there is one."""
    if at is None:
        return None
    seconds, fraction = divmod(at, 1_000)
    upto = _minute(seconds // 60) + _SECONDS[seconds % 60]
    return f"{upto}.{fraction:03d}Z" if fraction else f"{upto}Z"


@lru_cache(4_096)
def _minute(minutes: int) -> str:
    """`2026-11-21T12:00:`; the times of a long list fall into few minutes."""
    moment = datetime.fromtimestamp(minutes * 60, UTC).replace(tzinfo=None)
    return f"{moment.isoformat(timespec='minutes')}:"


def local(at: int | None, zone: tzinfo | None = None) -> str:
    """Milliseconds as `2026-11-21 12:00:07` in a zone (None: this machine's), `-` for None."""
    if at is None:
        return "-"
    return datetime.fromtimestamp(at // 1000, UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def span(milliseconds: int | None) -> str:
    """A length of time in its two largest units: `850ms`, `7s`, `4m 10s`, `3h 5m`, `2d 4h`."""
    if milliseconds is None:
        return "-"
    if abs(milliseconds) < 1000:
        return f"{milliseconds}ms"
    sign, seconds = ("-" if milliseconds < 0 else ""), abs(milliseconds) // 1000
    units = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
    parts: list[str] = []
    for unit, size in units:
        count, seconds = divmod(seconds, size)
        if count or parts:
            parts.append(f"{count}{unit}" if count else "")
        if len(parts) == 2:
            break
    return sign + " ".join(part for part in parts if part)


def plural(count: int, noun: str) -> str:
    """`1 event`, `3 events`, `2 batches`."""
    if count == 1:
        return f"{count:,} {noun}"
    return f"{count:,} {noun}{'es' if noun.endswith(('ch', 's', 'x')) else 's'}"
