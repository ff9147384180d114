"""The kinds of value a setting can have.

Each takes what the file or the environment gave and answers the value, or says what to write
instead. None repeats what it was given: it may be a secret in the wrong place.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import PlainValidator, SecretStr

from watcher.config.durations import parse_duration
from watcher.model import ID_LENGTH, EventType, Outcome, Severity
from watcher.redaction import looks_like_a_secret, mixes_letters_and_digits
from watcher.text import ELLIPSIS

Member = TypeVar("Member", bound=StrEnum)

# The longest path that Linux takes.
LINE_LENGTH = 4_096
NAME = re.compile(r"[a-z][a-z0-9-]{0,39}", re.ASCII)
NAME_RULE = "a name is a small letter, then small letters, digits and hyphens, at most 40 in all"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
# The custom for variables: only such a name is ever shown.
_PLAIN_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,127}", re.ASCII)
_RUN = re.compile(r"[A-Za-z0-9]{16,}")
# A path that says it is one; two slashes begin an address.
_PLAIN_PATH = re.compile(r"(?:~|\.{1,2}(?=[/\\])|[A-Za-z]:[/\\]|[/\\](?![/\\]))")
# A host with more behind it, or credentials before it.
_ADDRESS = re.compile(
    r"//|[^/]*:[^/]*@|[\w.-]+:\d+(?:/|$)|(?:[\w-]+\.)+(?:[A-Za-z]{2,}|\d{1,3})[/?#:]|.*[?&]\w+=",
    re.ASCII,
)
_YES = {"true", "yes", "on", "1"}
_NO = {"false", "no", "off", "0"}


class Unusable(ValueError):
    """A value cannot be used."""


class Typed(str):
    """A text of the environment, which has no types: it may stand for a number or a list."""

    __slots__ = ()


def nearest(word: str, known: Mapping[str, Any] | list[str]) -> str | None:
    """The known word a mistyped one is closest to, None if none is close."""
    found = get_close_matches(word.lower()[:60], list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def suggestion(word: str, known: Mapping[str, Any] | list[str]) -> str:
    """`; did you mean "openai"?`, else all that is known: never the word itself."""
    if close := nearest(word, known):
        return f'; did you mean "{close}"?'
    return f" (known: {', '.join(sorted(known))})" if known else " (none is configured)"


def quotable(word: str) -> str:
    """` "team"` for a word that can only be a name, nothing for what might be a secret."""
    plain = NAME.fullmatch(word) and len(word) <= 24 and sum(map(str.isdigit, word)) <= 4
    return f' "{word}"' if plain and not looks_like_a_secret(word) else ""


def shown(word: str) -> str:
    """A word as it may stand in a message: an ellipsis for what might be a secret."""
    suspect = looks_like_a_secret(word) or any(map(mixes_letters_and_digits, _RUN.findall(word)))
    return ELLIPSIS if suspect else word


def shown_path(path: Path) -> str:
    """The path of a file that is not there, up to where it may be a secret written in its place."""
    parts = path.parts
    for position, part in enumerate(parts):
        if looks_like_a_secret(part):
            return str(Path(*parts[:position], ELLIPSIS))
    return str(path)


def shown_variable(name: str) -> str | None:
    """The name of a variable of the environment if it can be nothing else, else None."""
    words = name.removesuffix("*").split("__")
    if name.startswith("WATCHER_"):
        # WATCHER_ACCOUNTS__SK_PROJ_… holds the name of an account, which may be a key.
        words += [word.lower().replace("_", "-") for word in words]
    plain = bool(_PLAIN_VARIABLE.fullmatch(name.removesuffix("*")))
    plain = plain and all(shown(word) == word for word in words)
    return name if plain else None


def _text(value: object, most: int = ID_LENGTH) -> str:
    if not isinstance(value, str):
        raise Unusable('must be a text in quotes, as in key = "value"')
    value = str(value).strip()
    if not value or not value.isprintable() or len(value) > most:
        raise Unusable(f"must be one printable line of 1 to {most:,} characters")
    return value


def _long_text(value: object) -> str:
    return _text(value, LINE_LENGTH)


def _path(value: object) -> str:
    value = _long_text(value)
    if "://" in value or _looks_like_a_key(value) or _looks_like_an_address(value):
        raise Unusable(
            "must be the path of a file that holds the secret, not the secret itself; "
            "a path that looks like one begins with / or ./"
        )
    return value


def _variable(value: object) -> str:
    value = _text(value)
    if (
        not _VARIABLE.fullmatch(value)
        or (len(value) >= 24 and "_" not in value)
        or looks_like_a_secret(value)
    ):
        raise Unusable(
            'must be the NAME of an environment variable, as in "OPENAI_API_KEY", '
            "not the secret itself"
        )
    return value


def _looks_like_a_key(value: str) -> bool:
    """Whether someone may have written a key where the name of its file belongs."""
    if _PLAIN_PATH.match(value):
        return False
    if any(map(looks_like_a_secret, re.split(r"[/\\]", value))):
        return True
    if re.search(r"[./\\~]", value) or not re.search(r"\d", value):
        return False
    mixed = re.search("[a-z]", value) and re.search("[A-Z]", value)
    return len(value) >= (16 if mixed else 32)


def _looks_like_an_address(value: str) -> bool:
    """Whether someone may have written a URL, or what follows its ://, where a path belongs."""
    return not _PLAIN_PATH.match(value) and _ADDRESS.match(value) is not None


def _name(value: object) -> str:
    value = _text(value)
    if not NAME.fullmatch(value):
        raise Unusable(NAME_RULE)
    if looks_like_a_secret(value):
        # It would be shown, stored and sent wherever its owner is named.
        raise Unusable("must be a name of your own, and this looks like a key: choose another")
    return value


def _secret(value: object) -> SecretStr:
    if isinstance(value, SecretStr):
        return value
    if not isinstance(value, str):
        raise Unusable("must be a text in quotes")
    return SecretStr(str(value))


def _flag(value: object) -> bool:
    if isinstance(value, Typed) and value.lower() in _YES | _NO:
        return value.lower() in _YES
    if not isinstance(value, bool):
        raise Unusable("must be true or false, without quotes")
    return value


def _emoji(value: object) -> bool | str:
    if isinstance(value, bool) or (isinstance(value, str) and value == "auto"):
        return value if isinstance(value, bool) else "auto"
    try:
        return _flag(value)
    except ValueError:
        raise Unusable('must be "auto", true or false') from None


def _duration(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < 10**9:
            raise Unusable('a bare number has no unit: write a text, as in "30s"')
        raise Unusable(f'a bare number has no unit: write "{value}s" for seconds')
    if not isinstance(value, str):
        raise Unusable('must be a length of time in quotes, as in "30s" or "1h30m"')
    return parse_duration(value)


def _positive(value: object) -> int:
    duration = _duration(value)
    if duration == 0:
        raise Unusable('must be longer than nothing: write a time such as "1s"')
    return duration


def whole(least: int, most: int) -> PlainValidator:
    """A whole number between two bounds, both allowed."""

    def check(value: object) -> int:
        if isinstance(value, Typed) and re.fullmatch(r"\d{1,9}", value, re.ASCII):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise Unusable(f"must be a whole number from {least:,} to {most:,}, without quotes")
        return value

    return PlainValidator(check)


def number(least: float, most: float) -> PlainValidator:
    """A number between two bounds, both allowed; nothing infinite."""

    def check(value: object) -> float:
        if isinstance(value, Typed) and len(value) < 40:
            try:
                value = float(value)
            except ValueError:
                value = math.nan
        if not isinstance(value, int | float) or isinstance(value, bool):
            value = math.nan
        # Not a number compares false with everything, and so fails here.
        if not least <= value <= most:
            raise Unusable(f"must be a number from {least:g} to {most:g}, without quotes")
        return float(value)

    return PlainValidator(check)


def _items(value: object) -> list[object]:
    if isinstance(value, Typed):
        if not value.lstrip().startswith("["):
            return [part.strip() for part in value.split(",") if part.strip()]
        value = _from_json(value)
    if not isinstance(value, list | tuple):
        raise Unusable('must be a list, as in key = ["one", "two"]')
    return list(value)


def _from_json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Unusable("starts as JSON but is not") from None


def _each(one: Callable[[object], str]) -> Callable[[object], tuple[str, ...]]:
    def check(value: object) -> tuple[str, ...]:
        items = _items(value)
        checked = []
        for position, item in enumerate(items, 1):
            try:
                checked.append(one(item))
            except ValueError as error:
                raise Unusable(f"entry {position}: {error}") from None
        return tuple(dict.fromkeys(checked))

    return check


def _pattern(value: object) -> str:
    value = _text(value)
    if not any(fnmatchcase(known, value) for known in EventType):
        known = [str(one) for one in EventType]
        if close := nearest(value, [*known, "batch.*", "account.*", "channel.*"]):
            raise Unusable(f'matches no type of event; did you mean "{close}"?')
        raise Unusable(f"matches no type of event; the types are {', '.join(known)}")
    return value


def _member(kind: type[Member], value: object) -> Member:
    value = _text(value)
    if value not in list(kind):
        raise Unusable("must be one of " + ", ".join(f'"{one}"' for one in kind))
    return kind(value)


def _outcomes(value: object) -> tuple[Outcome, ...]:
    return tuple(dict.fromkeys(_member(Outcome, item) for item in _items(value)))


def _table(value: object) -> dict[str, object]:
    if isinstance(value, Typed):
        value = _from_json(value) if value.lstrip().startswith("{") else None
    if not isinstance(value, Mapping):
        raise Unusable('must be a table of texts, as in { name = "value" }')
    return {str(key): item for key, item in value.items()}


def _patterns_by_name(value: object) -> dict[str, str]:
    return {_text(key): _text(item) for key, item in _table(value).items()}


def _headers(value: object) -> dict[str, SecretStr]:
    headers = {}
    for name, item in _table(value).items():
        if not isinstance(item, str):
            raise Unusable('must have a text in quotes for each header: { name = "value" }')
        headers[name] = SecretStr(item.strip())
    return headers


Text = Annotated[str, PlainValidator(_text)]
LongText = Annotated[str, PlainValidator(_long_text)]
OptionalLongText = Annotated[str | None, PlainValidator(_long_text)]
OptionalText = Annotated[str | None, PlainValidator(_text)]
OptionalPath = Annotated[str | None, PlainValidator(_path)]
OptionalVariable = Annotated[str | None, PlainValidator(_variable)]
OptionalSecret = Annotated[SecretStr | None, PlainValidator(_secret)]
Flag = Annotated[bool, PlainValidator(_flag)]
Emoji = Annotated[bool | str, PlainValidator(_emoji)]
Name = Annotated[str, PlainValidator(_name)]
OptionalName = Annotated[str | None, PlainValidator(_name)]
# Durations are milliseconds once read.
Duration = Annotated[int, PlainValidator(_duration)]
PositiveDuration = Annotated[int, PlainValidator(_positive)]
OptionalDuration = Annotated[int | None, PlainValidator(_positive)]
Words = Annotated[tuple[str, ...], PlainValidator(_each(_text))]
Names = Annotated[tuple[str, ...], PlainValidator(_each(_name))]
OptionalNames = Annotated[tuple[str, ...] | None, PlainValidator(_each(_name))]
EventPatterns = Annotated[tuple[str, ...], PlainValidator(_each(_pattern))]
OptionalSeverity = Annotated[
    Severity | None, PlainValidator(lambda value: _member(Severity, value))
]
Outcomes = Annotated[tuple[Outcome, ...], PlainValidator(_outcomes)]
PatternsByName = Annotated[dict[str, str], PlainValidator(_patterns_by_name)]
Headers = Annotated[dict[str, SecretStr], PlainValidator(_headers)]
