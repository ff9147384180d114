"""Faults that spoil the JSON of an answer: what no provider should send, and some have sent.

Each changes every batch of an answer, alone or in a page; answers without a batch pass unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from watcher.simulator import faults
from watcher.simulator.answer import Answer, Call, Wire
from watcher.simulator.faults import Fault

_OPENAI_FIELDS = (
    *("id", "object", "endpoint", "errors", "input_file_id", "completion_window", "status"),
    *("output_file_id", "error_file_id", "created_at", "in_progress_at", "expires_at"),
    *("finalizing_at", "completed_at", "failed_at", "expired_at", "cancelling_at"),
    *("cancelled_at", "request_counts", "metadata"),
)
# The keys of a batch, whose values may come in a wrong type.
FIELDS: Mapping[Wire, tuple[str, ...]] = {
    Wire.OPENAI: (*_OPENAI_FIELDS, "model", "usage"),
    Wire.CEREBRAS: _OPENAI_FIELDS,
    Wire.COHERE: (
        *("name", "input_dataset_id", "model", "id", "creator_id", "org_id", "status"),
        *("created_at", "updated_at", "input_tokens", "output_tokens", "num_records"),
        *("num_successful_records", "num_failed_records", "output_dataset_id", "status_reason"),
    ),
}
WRONG_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 10**30, "", "text", "7", "2026-11-21", "\x1b[31m\u202e"),
    *([], {}, [1, None], ["text"], {"data": None}, {"total": "7"}, [[[]]]),
)


def with_field(field: str, value: Any) -> Fault:
    """One value under one key, whatever is true."""

    def change(batch: dict[str, Any]) -> None:
        batch[field] = value

    return _changing(f"{field} = {value!r:.40}", change)


def without_field(field: str) -> Fault:
    """The key left out."""

    def change(batch: dict[str, Any]) -> None:
        batch.pop(field, None)

    return _changing(f"no {field}", change)


def another_batch(id: str = "batch_00000000000000000000000000000000") -> Fault:
    """An answer about a batch nobody asked for."""
    return replace(with_field("id", id), name="another batch")


def wrong_types(wire: Wire | str) -> list[Fault]:
    """Every field of this provider's batch with every wrong value."""
    return [with_field(field, value) for field in FIELDS[Wire(wire)] for value in WRONG_VALUES]


def not_a_number() -> Fault:
    """NaN and infinities, which JSON does not have and Python's parser takes."""
    return _raw("not a number", _numbers("NaN", "Infinity", "-Infinity"))


def huge_integers(digits: int = 40) -> Fault:
    """Counts and times no 64-bit column holds; from 4,301 digits on Python's parser refuses."""
    number = "9" * digits
    return _raw(f"integers of {digits} digits", _numbers(number, number, number))


def nested(depth: int = 100_000) -> Fault:
    """Metadata, or a name, so deep that a recursive parser gives up."""
    deep = b"[" * depth + b"]" * depth
    return _raw("nested", {"metadata": b'{"deep": %s}' % deep, "name": deep})


def invalid_utf8() -> Fault:
    """Bytes that are no UTF-8 inside a text."""
    spoiled = b'"bad \xff\xfe\x80 text"'
    return _raw("invalid utf-8", {"metadata": b'{"note": %s}' % spoiled, "name": spoiled})


def lone_surrogates() -> Fault:
    """Escapes that make text no database takes."""
    spoiled = rb'"bad \ud800 text"'
    return _raw("lone surrogates", {"metadata": b'{"note": %s}' % spoiled, "name": spoiled})


def duplicate_keys() -> Fault:
    """Keys given twice; the last ones, which most parsers take, are the true ones."""

    def spoil(honest: Answer, _call: Call) -> Answer:
        marker = b'"id": '
        twice = b'"status": "failed", "id": "twice", ' + marker
        return replace(honest, body=honest.body.replace(marker, twice))

    return Fault("duplicate keys", spoil)


def wrong_root(value: Any = None) -> Fault:
    """Sound JSON that is no object: by default `null`."""
    body = json.dumps(value).encode()
    return Fault(f"root {body.decode():.20}", lambda honest, _call: replace(honest, body=body))


# One of each, by the name `python -m watcher.simulator --fault` takes.
CATALOGUE: Mapping[str, Callable[[], Fault]] = {
    "429": faults.rate_limited,
    "429-date": lambda: faults.rate_limited(form="date"),
    "429-milliseconds": lambda: faults.rate_limited(form="milliseconds"),
    "429-silent": lambda: faults.rate_limited(form=None),
    "500": lambda: faults.status(500),
    "503": lambda: faults.status(503),
    "401": faults.unauthorized,
    "403": faults.forbidden,
    "404": faults.not_found,
    "redirect": faults.redirect,
    "html": faults.html,
    "html-502": lambda: faults.html(502),
    "silent": faults.silent,
    "late": faults.late,
    "drip": faults.drip,
    "reset": faults.reset,
    "truncated": faults.truncated,
    "empty": faults.empty,
    "wrong-content-type": faults.wrong_content_type,
    "large": faults.large,
    "gzip-bomb": faults.gzip_bomb,
    "large-header": faults.large_header,
    "another-batch": another_batch,
    "not-a-number": not_a_number,
    "huge-integers": huge_integers,
    "endless-integers": lambda: huge_integers(5_000),
    "nested": nested,
    "invalid-utf8": invalid_utf8,
    "lone-surrogates": lone_surrogates,
    "duplicate-keys": duplicate_keys,
    "wrong-root": wrong_root,
    "wrong-type": lambda: with_field("status", ["completed"]),
}


def _numbers(count: str, time: str, other: str) -> dict[str, bytes]:
    """Raw JSON for the fields of either family that hold numbers."""
    counts = f'{{"total": {count}, "completed": {count}, "failed": {other}}}'
    raw = {"created_at": time, "request_counts": counts}
    return {key: text.encode() for key, text in {**raw, "num_records": count}.items()}


def _raw(name: str, fields: Mapping[str, bytes]) -> Fault:
    """Raw text as the values of those of these fields that a batch has."""

    def spoil(honest: Answer, _call: Call) -> Answer:
        marked = _change(honest, lambda batch: _mark(batch, fields)).body
        for field, text in fields.items():
            marked = marked.replace(_marker(field).encode(), text)
        return replace(honest, body=marked)

    return Fault(name, spoil)


def _mark(batch: dict[str, Any], fields: Mapping[str, bytes]) -> None:
    for field in fields.keys() & batch.keys():
        batch[field] = _marker(field).strip('"')


def _marker(field: str) -> str:
    return f'"<raw {field}>"'


def _changing(name: str, change: Callable[[dict[str, Any]], None]) -> Fault:
    return Fault(name, lambda honest, _call: _change(honest, change))


def _change(honest: Answer, change: Callable[[dict[str, Any]], None]) -> Answer:
    document = json.loads(honest.body)
    for batch in _batches(document):
        change(batch)
    return replace(honest, body=json.dumps(document).encode())


def _batches(document: Any) -> list[dict[str, Any]]:
    """The batches of an answer of any of the three providers."""
    if not isinstance(document, dict):
        return []
    if "batch" in document:
        return [document["batch"]]
    page = document.get("batches", document.get("data"))
    if isinstance(page, list):
        return page
    return [document] if "status" in document else []
