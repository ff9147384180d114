"""What the file and the environment say, as tables that pydantic-settings merges and checks."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from watcher.config import files
from watcher.config.kinds import Typed, shown, shown_variable
from watcher.config.settings import Settings, Source
from watcher.errors import ConfigError
from watcher.text import ELLIPSIS

PREFIX = "WATCHER_"
# Without `__` these alone are ours; anything may put a WATCHER_PORT into the environment.
PLAIN_VARIABLES = ("state", "instance", "timezone", "operators")
# Of each group one is chosen: what the environment gives puts away what the file chose.
CHOICES = (("api_key", "api_key_env", "api_key_file"), ("url", "url_env", "url_file"))

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """What the configuration file holds, unchecked."""

    path: Path | None
    table: dict[str, Any]
    open_to_all: bool = False


@dataclass(frozen=True, slots=True)
class Variables:
    """What the environment sets, unchecked, and which variable set what."""

    table: dict[str, Any]
    names: Mapping[Place, str]


def read_document(path: Path | None) -> Document:
    """The file as tables. Raises ConfigError that names the line of a mistake."""
    if path is None:
        return Document(None, {})
    contents = files.read_trusted(path)
    try:
        # Editors of Windows put a mark before the text.
        text = contents.raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text: save it as UTF-8") from None
    if "\0" in text:
        raise ConfigError(f"{path}: is not a text file")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{path}: is not valid TOML: {_without_text(error)}. Texts and durations need quotes"
        ) from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None
    except ValueError:
        # Python reads no number of more than 4,300 digits.
        raise ConfigError(f"{path}: is not valid TOML: a number has too many digits") from None
    return Document(path, table, contents.open_to_all)


def _without_text(error: tomllib.TOMLDecodeError) -> str:
    # Newer versions keep the document in the error; its message alone is for people.
    message = str(error)
    # It names a key that stands twice, which may be a secret in the wrong place.
    plain = all(shown(word) == word for word in re.split(r"[^\w-]+", message))
    plain = plain and message.isprintable() and len(message) <= 200
    return message if plain else "it cannot be parsed"


def read_variables(environ: Mapping[str, str]) -> Variables:
    """`WATCHER_POLLING__MAX_INTERVAL=2m` as `{"polling": {"max_interval": "2m"}}`.

    An empty variable counts as unset. Underlines in the name of an account or a channel stand
    for its hyphens. Names are not checked here, but for those that set a value and a table.
    """
    table: dict[str, Any] = {}
    names: dict[Place, str] = {}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or not environ[name].strip():
            continue
        key = name.removeprefix(PREFIX).lower()
        if "__" not in key and key not in PLAIN_VARIABLES:
            continue
        place = _place(key.split("__"))
        names[place] = name
        inner = table
        for part in place[:-1]:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ConfigError(
                    f"environment variable {shown_variable(name) or PREFIX + ELLIPSIS}: "
                    f"another variable gives {shown(part)} a value: unset one"
                )
        if isinstance(inner.get(place[-1]), dict):
            raise ConfigError(
                f"environment variable {shown_variable(name) or PREFIX + ELLIPSIS}: "
                "other variables set keys inside it: unset one"
            )
        inner[place[-1]] = Typed(environ[name])
    return Variables(table, names)


def _place(parts: list[str]) -> tuple[str, ...]:
    named = len(parts) > 1 and parts[0] in {"accounts", "channels"}
    return (parts[0], parts[1].replace("_", "-"), *parts[2:]) if named else tuple(parts)


def put_away_choices(document: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    """The document without the choices that the environment makes otherwise."""
    kept = {}
    for key, value in document.items():
        theirs = variables.get(key)
        kept[key] = (
            put_away_choices(value, theirs)
            if isinstance(value, dict) and isinstance(theirs, dict)
            else value
        )
    for choice in CHOICES:
        if any(key in variables for key in choice):
            kept = {key: value for key, value in kept.items() if key not in choice}
    return kept


class _Table(PydanticBaseSettingsSource):
    """A table read beforehand, as one source."""

    def __init__(self, settings_class: type[BaseSettings], table: dict[str, Any]) -> None:
        super().__init__(settings_class)
        self._table = table

    def get_field_value(
        self,
        field: FieldInfo,  # noqa: ARG002 - the protocol's
        field_name: str,
    ) -> tuple[Any, str, bool]:
        return self._table.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return self._table


def source(table: dict[str, Any]) -> Source:
    """What `SOURCES` takes, of a table."""
    return lambda settings_class: _Table(settings_class, table)


def section_at(place: Place) -> type[BaseModel] | None:
    """The model whose keys stand at a place; None where there is none or keys are free."""
    kind: Any = Settings
    for part in place:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(str(part))
            kind = field.annotation if field is not None else None
        elif parameters := get_args(kind):
            # dict[str, Section] leads to its values, tuple[Section, ...] to its items.
            kind = parameters[1] if get_origin(kind) is dict else parameters[0]
        else:
            return None
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def homes_of(key: str) -> Iterator[str]:
    """The tables in which a key would be known, as one writes them."""
    for name, field in Settings.model_fields.items():
        origin = get_origin(field.annotation)
        title = {dict: f"{name}.NAME", tuple: f"[{name}]"}.get(origin, name) if origin else name
        section = section_at((name,) if title == name else (name, 0))
        if section is not None and key in section.model_fields:
            yield f"[{title}]"
