"""Batches, events, accounts and channels as JSON text, and back. What is empty is left out."""

from __future__ import annotations

import json
from collections import abc
from collections.abc import Mapping
from dataclasses import MISSING, field, fields, make_dataclass
from functools import lru_cache
from operator import attrgetter
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
_EVENT_FIELDS = tuple(each.name for each in fields(Event) if each.name not in {"seq", "batch"})
_of_batch = attrgetter(*_BATCH_FIELDS)
# Of batches registered together the registrations are the same text: it is read once.
_SAME = 256
_EMPTY: tuple[Counts, Results] = (Counts(), Results())
_PARTS = frozenset({Counts, Results, Problem, Registration})
_STATUSES = {status.value: status for status in Status}
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_read_value = json.JSONDecoder().raw_decode


def dump(value: object) -> str:
    """Compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def encode_state(batch: Batch) -> str:
    """All of a batch that looks change."""
    return dump(_state(batch))


def _state(batch: Batch) -> dict[str, Any]:
    return {
        name: _plain(value)
        for name, value in zip(_BATCH_FIELDS, _of_batch(batch), strict=True)
        if (value or value == "") and value not in _EMPTY
    }


def encode_registration(registration: Registration) -> str:
    """What the user said of a batch."""
    return dump(_plain(registration))


@lru_cache(_SAME)
def decode_registration(text: str) -> Registration:
    """A registration from its JSON text."""
    return _registration(json.loads(text))


def decode_batch(columns: Mapping[str, Any], registration: str, state: str) -> Batch:
    """A batch from its columns and the two JSON texts."""
    return made(columns, decode_registration(registration), _state_fields(_parsed(state)))


def encode_event(event: Event) -> str:
    """An event with the batch as it was; its seq is a column."""
    document = {
        name: value for name in _EVENT_FIELDS if (value := getattr(event, name)) is not None
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
        registration = _registration(columns.pop("registration"))
        batch = made(columns, registration, _state_fields(stored["state"]))
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


def _parsed(text: str) -> Any:
    """As `json.loads` reads it; text without white space around it, such as ours, sooner."""
    try:
        value, end = _read_value(text)
    except ValueError:
        return json.loads(text)
    return value if end == len(text) else json.loads(text)


def _known(kind: type[Kind], **values: Any) -> Kind:
    """A value without the fields that only a later version of the same schema knows."""
    return kind(**_checked(kind, values))


def _checked(kind: type, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a kind, without those that only a later version of the same schema knows.

    Raises TypeError or ValueError for a field that cannot hold what stands there: damage shows
    here, where it can be told, and not wherever the value is first used.
    """
    types, later = _TYPES[kind], False
    for name, value in values.items():
        allowed = types.get(name)
        if allowed is None:
            later = True
        elif type(value) not in allowed:
            raise TypeError(f"{name} is a {type(value).__name__}")
        elif type(value) is int and not _LEAST[name] <= value <= _MOST[name]:
            raise ValueError(f"{name} is out of range")
    if not later:
        return values
    return {name: value for name, value in values.items() if name in types}


def _types(kind: type) -> dict[str, frozenset[type]]:
    """What each field of a dataclass may hold: JSON's own types, our enums and values."""
    types = {}
    for name, hint in get_type_hints(kind).items():
        members = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        plain = [get_origin(member) or member for member in members]
        types[name] = frozenset(dict if each is abc.Mapping else each for each in plain)
    return types


_KINDS = (Account, Batch, Channel, Counts, Event, Problem, Registration, Results)
_TYPES: Mapping[type, dict[str, frozenset[type]]] = {kind: _types(kind) for kind in _KINDS}
# Of every field that may hold a number: a moment has a date, and SQL holds 64 bits.
_NUMBERS = [name for types in _TYPES.values() for name, each in types.items() if int in each]
_LEAST = {name: 0 if name.endswith("_at") else 1 - 2**63 for name in _NUMBERS}
_MOST = {name: LAST_MOMENT if name.endswith("_at") else 2**63 - 1 for name in _NUMBERS}
_NAMES = {kind: tuple(_TYPES[kind]) for kind in _KINDS}


# A batch while it is read. `Batch(...)` sets each field through a call, because it is frozen: of
# all that reading a row takes, half. This has the same slots, and becomes a Batch by its class.
_Draft = make_dataclass(
    "_Draft",
    [
        (each.name, Any, field(default=None if each.default is MISSING else each.default))
        for each in fields(Batch)
    ],
    slots=True,
)


def made(columns: Mapping[str, Any], registration: Registration, state: Mapping[str, Any]) -> Batch:
    """A batch, of fields that are checked here; raises for a state that holds a column."""
    if not _BATCH_COLUMNS.isdisjoint(state):
        raise ValueError("a column stands in the state")
    draft: Any = _Draft()
    draft.registration, draft.metadata = registration, {}
    draft.counts, draft.results = _EMPTY
    for part in (columns, state):
        for name, value in _checked(Batch, part).items():
            setattr(draft, name, value)
    if None in (draft.account, draft.id, draft.provider):
        raise TypeError("a batch without a key")
    draft.__class__ = Batch
    batch: Batch = draft
    return batch


def _registration(document: dict[str, Any]) -> Registration:
    for key in ("tags", "channels"):
        document[key] = tuple(document.get(key, ()))
    return _known(Registration, **document)


def _state_fields(state: dict[str, Any]) -> dict[str, Any]:
    if (status := state.get("status")) is not None:
        state["status"] = _STATUSES[status]
    if (outcome := state.get("outcome")) is not None:
        state["outcome"] = _OUTCOMES[outcome]
    if (counts := state.get("counts")) is not None:
        state["counts"] = _known(Counts, **counts)
    if (results := state.get("results")) is not None:
        state["results"] = _known(Results, **results)
    if (problems := state.get("problems")) is not None:
        state["problems"] = tuple(_known(Problem, **problem) for problem in problems)
    return state


def _plain(value: Any) -> Any:
    """What JSON can hold of a value; our words are texts, and tuples lists, without our doing."""
    kind = type(value)
    if kind is tuple:
        return [_plain(item) for item in value]
    if kind in _PARTS:
        return {
            name: item
            for name in _NAMES[kind]
            if (item := getattr(value, name)) is not None and item != ()
        }
    return value
