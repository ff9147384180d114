"""Batches, events, accounts and channels as JSON text, and back. What is empty is left out."""

from __future__ import annotations

import json
from collections import abc
from collections.abc import Mapping
from dataclasses import fields
from enum import StrEnum
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from watcher.model import (
    Account,
    Batch,
    Channel,
    Choice,
    Counts,
    Event,
    EventType,
    Outcome,
    Problem,
    Registration,
    Results,
    Severity,
    Status,
)

Kind = TypeVar("Kind", Account, Batch, Channel, Counts, Event, Problem, Registration, Results)
# What reading a row that cannot be read raises.
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
# The last moment that has a date: the end of the year 9999.
LAST_MOMENT = 253_402_300_799_999

# These live in columns of their own, so that SQL can ask for them and a look cannot overwrite
# what a registration says.
_BATCH_COLUMNS = frozenset(
    {"account", "id", "provider", "registration", "revision", "edition", "next_look_at"}
    | {"removed_at"}
)
_BATCH_FIELDS = tuple(field.name for field in fields(Batch) if field.name not in _BATCH_COLUMNS)


def dump(value: object) -> str:
    """Compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def encode_state(batch: Batch) -> str:
    """All of a batch that looks change."""
    return dump(_state(batch))


def _state(batch: Batch) -> dict[str, Any]:
    return {
        name: _plain(value)
        for name in _BATCH_FIELDS
        if (value := getattr(batch, name)) not in (None, 0, (), {}, Counts(), Results())
    }


def encode_registration(registration: Registration) -> str:
    """What the user said of a batch."""
    return dump(_plain(registration))


def decode_registration(text: str) -> Registration:
    """A registration from its JSON text."""
    return _registration(json.loads(text))


def decode_batch(columns: Mapping[str, Any], registration: str, state: str) -> Batch:
    """A batch from its columns and the two JSON texts."""
    return _known(
        Batch,
        **columns,
        registration=decode_registration(registration),
        **_state_fields(json.loads(state)),
    )


def encode_event(event: Event) -> str:
    """An event with the batch as it was; its seq is a column."""
    document = {
        field.name: _plain(value)
        for field in fields(event)
        if field.name not in {"seq", "batch"} and (value := getattr(event, field.name)) is not None
    }
    if event.batch is not None:
        batch = event.batch
        columns = {name: _plain(getattr(batch, name)) for name in _BATCH_COLUMNS}
        document["batch"] = {"columns": columns, "state": _state(batch)}
    return dump(document)


def decode_event(seq: int, text: str) -> Event:
    """An event from its JSON text."""
    document = json.loads(text)
    stored = document.pop("batch", None)
    batch = None
    if stored is not None:
        columns = stored["columns"]
        columns["registration"] = _registration(columns["registration"])
        batch = _known(Batch, **columns, **_state_fields(stored["state"]))
    previous = document.pop("previous_status", None)
    return _known(
        Event,
        seq=seq,
        type=EventType(document.pop("type")),
        severity=Severity(document.pop("severity")),
        previous_status=None if previous is None else Status(previous),
        batch=batch,
        **document,
    )


def encode_choices(choices: tuple[Choice, ...]) -> str:
    """Who was to be told and why."""
    return dump([[choice.channel, choice.taken, choice.why] for choice in choices])


def decode_choices(text: str) -> tuple[Choice, ...]:
    """Who was to be told and why, from JSON text."""
    return tuple(Choice(channel, taken, why) for channel, taken, why in json.loads(text))


def encode_subject(subject: Account | Channel) -> str:
    """An account's or a channel's state; name and revision are columns."""
    return dump(
        {
            field.name: _plain(value)
            for field in fields(subject)
            if field.name not in {"name", "revision"}
            and (value := getattr(subject, field.name)) != field.default
        }
    )


def decode_account(name: str, revision: int, text: str) -> Account:
    """An account from its row."""
    state = json.loads(text)
    for key in ("refused", "words"):
        state[key] = tuple(state.get(key, ()))
    return _known(Account, name=name, revision=revision, **{"provider": "", **state})


def decode_channel(name: str, revision: int, text: str) -> Channel:
    """A channel from its row."""
    return _known(Channel, name=name, revision=revision, **json.loads(text))


def _known(kind: type[Kind], **values: Any) -> Kind:
    """A value without the fields that only a later version of the same schema knows.

    Raises TypeError or ValueError for a field that cannot hold what stands there: damage shows
    here, where it can be told, and not wherever the value is first used.
    """
    types = _TYPES[kind]
    known = {name: value for name, value in values.items() if name in types}
    for name, value in known.items():
        if type(value) not in types[name]:
            raise TypeError(f"{name} is a {type(value).__name__}")
        if type(value) is int and not _fits(name, value):
            raise ValueError(f"{name} is out of range")
    return kind(**known)


def _types(kind: type) -> dict[str, tuple[type, ...]]:
    """What each field of a dataclass may hold: JSON's own types, our enums and values."""
    types = {}
    for name, hint in get_type_hints(kind).items():
        members = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        plain = [get_origin(member) or member for member in members]
        types[name] = tuple(dict if each is abc.Mapping else each for each in plain)
    return types


_TYPES: Mapping[type, dict[str, tuple[type, ...]]] = {
    kind: _types(kind)
    for kind in (Account, Batch, Channel, Counts, Event, Problem, Registration, Results)
}


def _fits(name: str, value: int) -> bool:
    return 0 <= value <= LAST_MOMENT if name.endswith("_at") else abs(value) < 2**63


def _registration(document: dict[str, Any]) -> Registration:
    for key in ("tags", "channels"):
        document[key] = tuple(document.get(key, ()))
    return _known(Registration, **document)


def _state_fields(state: dict[str, Any]) -> dict[str, Any]:
    if (status := state.get("status")) is not None:
        state["status"] = Status(status)
    if (outcome := state.get("outcome")) is not None:
        state["outcome"] = Outcome(outcome)
    if (counts := state.get("counts")) is not None:
        state["counts"] = _known(Counts, **counts)
    if (results := state.get("results")) is not None:
        state["results"] = _known(Results, **results)
    state["problems"] = tuple(_known(Problem, **problem) for problem in state.get("problems", ()))
    return state


def _plain(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Counts | Results | Problem | Registration):
        return {
            field.name: _plain(item)
            for field in fields(value)
            if (item := getattr(value, field.name)) not in (None, ())
        }
    return value
