"""Reads what providers write, whatever they meant by it: bounded, cleaned, never raising.

Real answers break every published schema, so a value of the wrong type is no value. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import Any

from watcher.errors import Garbled
from watcher.model import PROBLEMS_KEPT, TEXT_LENGTH, Counts, Observation, Problem, Status
from watcher.providers.addresses import fits_one_segment
from watcher.text import clean_line

WORD_LENGTH = 80
NAME_LENGTH = 200
FILE_ID_LENGTH = 480
LARGEST = 2**63 - 1
# Before 2020 nobody sold batches: such a time is a placeholder. After 2100 it is a mistake.
EARLIEST = 1_577_836_800_000
LATEST = 4_102_444_800_000
# Seconds reach this in the year 5138, milliseconds reached it in 1973.
MILLISECONDS_FROM = 1e11
# OpenAI allows 16 keys of 64 characters with 512 each; gateways add their own.
METADATA_KEYS = 64
METADATA_KEY_LENGTH = 128
METADATA_TEXT_LENGTH = 600
METADATA_DEPTH = 4
METADATA_VALUES = 256
METADATA_CHARACTERS = 16_384
PROBLEMS_COUNTED = 10_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,19}(?:\.[0-9]{1,9})?")
_PREFIX = re.compile(r"^(?:job_state|batch_state|batch_status)_")
# `unknown` and `lost` are ours to say, not the provider's.
_WORDS = {
    status.value: status for status in Status if status not in {Status.UNKNOWN, Status.LOST}
} | {
    "scheduling": Status.QUEUED,
    "in_queue": Status.QUEUED,
    "running": Status.IN_PROGRESS,
    "progress": Status.IN_PROGRESS,
    "complete": Status.COMPLETED,
    "done": Status.COMPLETED,
    "succeeded": Status.COMPLETED,
    "canceled": Status.CANCELLED,
    "canceling": Status.CANCELLING,
}


def text(value: object, limit: int) -> str | None:
    """A text as one clean line; None for anything else and for an empty one."""
    return clean_line(value, limit) or None if isinstance(value, str) else None


def word(value: object, limit: int = WORD_LENGTH) -> str | None:
    """A text or a whole number as one clean word."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST:
        return str(value)
    return text(value, limit)


def identity(value: object) -> str | None:
    """An id, None if there is none. Raises Garbled for one that no batch of ours can have."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST:
        value = str(value)
    if not isinstance(value, str) or not value:
        return None
    if not fits_one_segment(value):
        raise Garbled(f"the answer names an id that cannot be one: {clean_line(value, 60)!r}")
    return value


def whole(value: object) -> int | None:
    """A count: a whole number of at least 0 and at most 63 bits, also as text; else None."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and 0 <= value <= LARGEST else None


def moment(value: object) -> int | None:
    """A time in milliseconds, from seconds, milliseconds, numbers as text, or RFC 3339.

    None for what is not a time, lies before 2020 or absurdly far ahead.
    """
    if value is None:
        # Most times of a batch are still to come.
        return None
    if isinstance(value, str):
        value = value.strip()
        if not _NUMBER.fullmatch(value):
            return _calendar(value)
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    # Compared before it is multiplied: an integer of 4,000 digits fits no float.
    if not 0 < value <= LATEST:
        return None
    return _plausible(round(value if value > MILLISECONDS_FROM else value * 1000))


def _plausible(at: int) -> int | None:
    return at if EARLIEST <= at <= LATEST else None


def _calendar(value: str) -> int | None:
    if len(value) > 64:
        return None
    try:
        read = datetime.fromisoformat(value)
    except ValueError:
        return None
    read = read if read.tzinfo else read.replace(tzinfo=UTC)
    return _plausible((read - _EPOCH) // timedelta(milliseconds=1))


def status_of(raw: object) -> tuple[Status, str | None]:
    """The status in our words and in the provider's; a word we do not know is `unknown`."""
    if isinstance(raw, str) and raw in _WORDS:
        return _WORDS[raw], raw
    verbatim = word(raw)
    if verbatim is None:
        return Status.UNKNOWN, None
    plain = re.sub(r"[\s-]+", "_", verbatim.lower())
    return _WORDS.get(_PREFIX.sub("", plain), Status.UNKNOWN), verbatim


def counts_of(value: object) -> Counts:
    """Counts as OpenAI names them; what is not given stays None."""
    if not isinstance(value, Mapping):
        return Counts()
    return Counts(
        total=whole(value.get("total")),
        completed=whole(value.get("completed")),
        failed=whole(value.get("failed")),
        expired=whole(value.get("expired")),
        cancelled=whole(first(value, "cancelled", "canceled")),
    )


def first(mapping: Mapping[str, Any], *names: str) -> object:
    """The value of the first of these keys that has one."""
    for name in names:
        value = mapping.get(name)
        if value is not None and value != "":
            return value
    return None


def problems_of(value: object) -> tuple[tuple[Problem, ...], int]:
    """The first reasons a provider gave, and how many there are.

    Takes `{"data": […]}`, one object, a text, a list of texts, and a list of objects that say
    by `count` how often each occurred.
    """
    if value is None:
        return (), 0
    data = value.get("data") if isinstance(value, Mapping) else value
    entries = data if isinstance(data, list) else [value]
    kept: list[Problem] = []
    total = 0
    for entry in entries[:PROBLEMS_COUNTED]:
        problem = _problem(entry)
        if problem is None:
            continue
        times = whole(entry.get("count")) if isinstance(entry, Mapping) else None
        total += 1 if times is None else times
        if len(kept) < PROBLEMS_KEPT:
            kept.append(problem)
    total += max(0, len(entries) - PROBLEMS_COUNTED)
    return tuple(kept), min(max(total, len(kept)), LARGEST)


def _problem(entry: object) -> Problem | None:
    if isinstance(entry, str):
        entry = {"message": entry}
    if not isinstance(entry, Mapping):
        return None
    problem = Problem(
        code=word(first(entry, "code", "type")),
        message=text(first(entry, "message", "error", "detail"), TEXT_LENGTH),
        line=whole(entry.get("line")) or None,
    )
    return problem if problem.code or problem.message else None


def metadata_of(value: object) -> Mapping[str, Any]:
    """What the user hung on the batch: any JSON, bounded in keys, length, depth and number."""
    if not isinstance(value, Mapping):
        return {}
    if _is_plain(value):
        return dict(value)
    kept = _bounded(value, METADATA_DEPTH, _Room())
    return kept if isinstance(kept, dict) else {}


def _is_plain(metadata: Mapping[str, Any]) -> bool:
    """Whether nothing of it needs cleaning or cutting: nearly all that people write."""
    try:
        names, texts = "".join(metadata), "".join(metadata.values())
    except TypeError:
        return False
    both = names + texts
    return (
        len(metadata) <= METADATA_KEYS
        and len(names) <= METADATA_KEY_LENGTH
        and len(texts) <= METADATA_TEXT_LENGTH
        and both.isascii()
        and both.isprintable()
        and all(text == text.strip() for text in chain(metadata, metadata.values()))
    )


class _Room:
    """How much more of some metadata may be taken."""

    def __init__(self) -> None:
        self.values = METADATA_VALUES
        self.characters = METADATA_CHARACTERS

    def take(self, value: str, limit: int) -> str:
        taken = clean_line(value, max(0, min(limit, self.characters)))
        self.characters -= len(taken)
        return taken

    @property
    def left(self) -> bool:
        return self.values > 0 and self.characters > 0


def _bounded(value: object, depth: int, room: _Room) -> object:
    """A copy within bounds; what is not JSON, or too deep, is None."""
    room.values -= 1
    if isinstance(value, str):
        return room.take(value, METADATA_TEXT_LENGTH)
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= LARGEST else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth and isinstance(value, Mapping):
        items: dict[str, object] = {}
        for key, item in islice(value.items(), METADATA_KEYS):
            if not room.left:
                break
            name = room.take(str(key), METADATA_KEY_LENGTH)
            items[name] = _bounded(item, depth - 1, room)
        return items
    if depth and isinstance(value, list):
        entries: list[object] = []
        for item in value[:METADATA_KEYS]:
            if not room.left:
                break
            entries.append(_bounded(item, depth - 1, room))
        return entries
    return None


def unwrapped(body: object) -> Mapping[str, Any]:
    """The batch in an answer, out of `{"batch": …}` or `{"job": …}` if it is wrapped.

    Raises Garbled for anything but an object.
    """
    if isinstance(body, Mapping) and "status" not in body:
        for wrapper in ("batch", "job"):
            if isinstance(body.get(wrapper), Mapping):
                body = body[wrapper]
                break
    if not isinstance(body, Mapping):
        raise Garbled("the answer is not an object")
    return body


def refuse_error(body: object) -> None:
    """Raises Garbled with its message when an answer is an error in the dress of a success."""
    message = error_message(body, TEXT_LENGTH)
    if message is not None:
        raise Garbled(f"an error where a batch should be: {clean_line(message, 200)}")


def error_message(body: object, limit: int) -> str | None:
    """What an error answer says for people, in any of the forms providers give it."""
    if isinstance(body, list) and body:
        body = body[0]
    if isinstance(body, str):
        return text(body, limit)
    if not isinstance(body, Mapping):
        return None
    error = body.get("error")
    inner = error if isinstance(error, Mapping) else {}
    detail = body.get("detail")
    if isinstance(detail, list) and detail and isinstance(detail[0], Mapping):
        detail = detail[0].get("msg")
    errors = problems_of(body.get("errors"))[0]
    candidates = (
        inner.get("message"),
        error,
        body.get("message"),
        detail,
        body.get("msg"),
        body.get("error_description"),
        errors[0].message if errors else None,
        inner.get("code"),
        inner.get("type"),
    )
    return next((found for found in (text(each, limit) for each in candidates) if found), None)


def created_id(body: object) -> str:
    """The id in what a create call returned, wrapped or not. Raises Garbled."""
    batch = unwrapped(body)
    id = identity(batch.get("id"))
    if id is None:
        refuse_error(body)
        raise Garbled("the answer names no batch")
    return id


def readable(entries: Iterable[object], read: Callable[[object], Observation]) -> list[Observation]:
    """The entries of a page that can be read and have an id; the others are left out."""
    found: list[Observation] = []
    for entry in entries:
        try:
            observation = read(entry)
        except Garbled:
            continue
        if observation.id is not None:
            found.append(observation)
    return found
