"""Mistakes in the settings, told in one or two lines without repeating what was given."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from watcher.config.kinds import shown, shown_variable, suggestion
from watcher.config.settings import Settings
from watcher.config.sources import (
    PREFIX,
    Document,
    Place,
    Variables,
    homes_of,
    section_at,
)
from watcher.errors import ConfigError
from watcher.text import ELLIPSIS, clean_line

# What a later version has; naming another key as the nearest would mislead.
TO_COME = {"http", "log"}


def explained(error: ValidationError, document: Document, variables: Variables) -> ConfigError:
    """What pydantic found as what to tell the user: the first mistake, and how many more."""
    # An unknown key comes first: it is often why another is missing.
    details = sorted(
        error.errors(include_url=False, include_context=False, include_input=False),
        key=lambda detail: detail["type"] != "extra_forbidden",
    )
    text = misplaced(details[0]["loc"], _reason(details[0]), document, variables)
    more = len(details) - 1
    return ConfigError(f"{text}\n(and {more} more)" if more else text)


def misplaced(place: Place, reason: str, document: Document, variables: Variables) -> str:
    """`/etc/watcher/config.toml: [polling] timeout: must …`, or the variable that set it."""
    if (name := _variable_of(place, document, variables)) is not None:
        which = shown_variable(name) or f"{PREFIX}{ELLIPSIS}"
        return f"environment variable {clean_line(which, 100)}: {reason}"
    where = f"{document.path}: " if document.path else ""
    return f"{where}{place_text(place)}: {reason}"


def place_text(place: Place) -> str:
    """A place as one finds it in the file: `[polling] timeout`, `[[routes]] number 2, events`."""
    parts = [clean_line(shown(str(part)), 60) or '""' for part in place if part != "[key]"]
    if not parts:
        return "the configuration"
    if len(place) > 1 and isinstance(place[1], int):
        rest = f", {'.'.join(parts[2:])}" if len(parts) > 2 else ""
        return f"[[{parts[0]}]] number {place[1] + 1}{rest}"
    depth = 2 if parts[0] in {"accounts", "channels"} else 1
    if len(parts) <= depth:
        is_table = section_at(place[:1]) is not None or depth == 2
        return f"[{'.'.join(parts)}]" if is_table else parts[0]
    return f"[{'.'.join(parts[:depth])}] {'.'.join(parts[depth:])}"


def _variable_of(place: Place, document: Document, variables: Variables) -> str | None:
    for length in range(len(place), 0, -1):
        # The mistake may lie inside what a variable gave.
        if place[:length] in variables.names:
            return variables.names[place[:length]]
    if _depth(place, variables.table) <= _depth(place, document.table):
        return None
    # Only variables made this table: name the one that is missing, or all of them.
    name = PREFIX + "__".join(str(part) for part in place).upper().replace("-", "_")
    return f"{name}__*" if _depth(place, variables.table) == len(place) else name


def _depth(place: Place, table: object) -> int:
    """How many parts of a place lead somewhere in a table."""
    for depth, part in enumerate(place):
        if not isinstance(table, dict) or part not in table:
            return depth
        table = table[part]
    return len(place)


def _reason(detail: ErrorDetails) -> str:
    place, kind = detail["loc"], detail["type"]
    if kind == "extra_forbidden":
        return _unknown(place)
    if kind == "missing":
        return "is missing: " + _missing(str(place[-1]))
    if kind in {"model_type", "dict_type", "model_attributes_type"}:
        return "must be a table, " + _table_example(place)
    if kind in {"tuple_type", "list_type"}:
        return f"must be a list of tables: write [[{place[0]}]] above each"
    if kind == "value_error":
        return detail["msg"].removeprefix("Value error, ")
    # Ours are all value errors: this is a kind nobody foresaw, and its text holds no input.
    return detail["msg"]


def _unknown(place: Place) -> str:
    key = str(place[-1])
    if len(place) == 1 and key in TO_COME:
        return "this version does not have it yet: remove it"
    if len(place) > 1 and key in Settings.model_fields and section_at((key,)) is None:
        return "unknown key here: it belongs above the first [table] of the file"
    section = section_at(place[:-1])
    known = list(section.model_fields) if section is not None else []
    if homes := list(homes_of(key)):
        return f"unknown key here: it belongs in {' or '.join(homes)}"
    return "unknown key" + suggestion(key, known)


def _missing(key: str) -> str:
    examples = {
        "provider": 'write the provider\'s name, as in provider = "openai"',
        "channels": 'name the channels it leads to, as in channels = ["team"]',
        "id": "write the batch's id",
    }
    return examples.get(key, "write it")


def _table_example(place: Place) -> str:
    if len(place) > 1 and isinstance(place[1], int):
        return f"as in [[{place[0]}]]"
    if place and place[0] in {"accounts", "channels"}:
        inner = 'provider = "openai"' if place[0] == "accounts" else 'url_env = "NAME"'
        return f"as in [{place[0]}.NAME] and below it {inner}"
    return f"as in [{clean_line(shown(str(place[0])), 60)}]" if place else "as TOML has them"
