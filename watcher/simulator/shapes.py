"""How each provider shows a batch, a page and an error: the keys, nulls and types it really sends.

Pure. The keys follow recorded answers; the words of messages are our own.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from random import Random
from typing import Any, Protocol

from watcher.simulator.answer import Wire
from watcher.simulator.chance import chance
from watcher.simulator.fate import OMITTED, TERMINAL, Complaint, Fate, Tally

_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz123456789"
_NO_TOKENS = {
    "input_tokens": 0,
    "output_tokens": 0,
    "total_tokens": 0,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens_details": {"reasoning_tokens": 0},
}
# Cohere has no word for these phases, and one l in these.
_COHERE_WORDS = {"validating": "queued", "finalizing": "in_progress"}
_COHERE_SPELLINGS = {"cancelling": "CANCELING", "cancelled": "CANCELED"}
MODEL = "simulated-mini-2026-01-01"


@dataclass(frozen=True, slots=True)
class Life:
    """A batch that has been created; times in milliseconds."""

    id: str
    fate: Fate
    created_at: int
    name: str | None = None
    metadata: Mapping[str, Any] | None = None
    # What the body of its creation said besides.
    details: Mapping[str, Any] = field(default_factory=dict)
    # Orders batches created in the same millisecond.
    number: int = 0

    def age(self, now: int) -> float:
        """Seconds since its creation."""
        return (now - self.created_at) / 1000

    def moment(self, age: float) -> int:
        """The time in milliseconds at which it is this old."""
        return self.created_at + round(age * 1000)

    def transitions(self, now: int) -> list[tuple[int, str]]:
        """When it came to stand where, up to now."""
        moments = ((self.moment(step.at), step.status) for step in self.fate.steps)
        return [(at, status) for at, status in moments if at <= now]

    def status(self, now: int) -> str:
        """Where it stands."""
        return (self.transitions(now) or [(now, self.fate.steps[0].status)])[-1][1]


class Shape(Protocol):
    """One API's way to show things; an id, once made, also makes the ids of its files."""

    def identify(self, random: Random) -> str:
        """A new id of the right form."""

    def word(self, status: str) -> str:
        """The status as this API knows it, in our words: Cohere queues what others validate."""

    def suits(self, fate: Fate, /) -> bool:
        """Whether a batch of this API can have this fate."""

    def show(self, life: Life, now: int) -> dict[str, Any]:
        """The batch as it stands inside a page."""

    def wrap(self, shown: dict[str, Any]) -> dict[str, Any]:
        """The batch as the answer to a retrieve."""

    def page(self, shown: Sequence[dict[str, Any]], *, more: bool) -> dict[str, Any]:
        """An answer to a list."""

    def error(self, status: int, message: str, /) -> dict[str, Any]:
        """The body of an answer that is not 200."""


class OpenAIShape:
    """OpenAI as of 2026: `model` and `usage` on every batch, null where not known."""

    def identify(self, random: Random) -> str:
        return f"batch_{random.getrandbits(128):032x}"

    def word(self, status: str) -> str:
        return status

    def suits(self, _fate: Fate) -> bool:
        return True

    def show(self, life: Life, now: int) -> dict[str, Any]:
        body = _openai_object(life, now, "file-" + _token(life.id, "input", 22))
        usage = {**_NO_TOKENS, **_usage(life.fate.tally(life.age(now)))}
        shown: dict[str, Any] = {}
        for key, value in body.items():
            # Where OpenAI puts them.
            if key == "errors":
                shown["model"] = life.details.get(
                    "model", MODEL if body["in_progress_at"] else None
                )
            if key == "metadata":
                shown["usage"] = usage
            shown[key] = value
        return _told(life.fate, shown)

    def wrap(self, shown: dict[str, Any]) -> dict[str, Any]:
        return shown

    def page(self, shown: Sequence[dict[str, Any]], *, more: bool) -> dict[str, Any]:
        return {
            "object": "list",
            "data": list(shown),
            "first_id": shown[0]["id"] if shown else None,
            "last_id": shown[-1]["id"] if shown else None,
            "has_more": more,
        }

    def error(self, status: int, message: str) -> dict[str, Any]:
        kind, code = _openai_error_kind(status)
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}


class CerebrasShape(OpenAIShape):
    """OpenAI's with a string for `errors`, times that go missing at the end, and flat errors."""

    def identify(self, random: Random) -> str:
        return f"batch_{random.getrandbits(48):012x}"

    def show(self, life: Life, now: int) -> dict[str, Any]:
        shown = _openai_object(life, now, "file_" + _token(life.id, "input", 12))
        for key in ("output_file_id", "error_file_id"):
            if shown[key]:
                shown[key] = shown[key].replace("file-", "file_")
        if shown["errors"] is not None:
            shown["errors"] = life.fate.complaints[0].message
        # As in its documented list: a completed batch has only the time it completed, and a
        # cancelled one only the time it was cancelled, beside its creation.
        dropped = {
            "completed": ("in_progress_at", "finalizing_at", "expires_at"),
            "cancelled": ("in_progress_at", "finalizing_at", "expires_at", "cancelling_at"),
        }
        for key in dropped.get(shown["status"], ()):
            del shown[key]
        return _told(life.fate, shown)

    def error(self, status: int, message: str) -> dict[str, Any]:
        kind, code = _openai_error_kind(status)
        return {"message": message, "type": kind, "param": None, "code": code}


class CohereShape:
    """Cohere's own: wrapped, RFC 3339, counts of records, no times of phases."""

    def identify(self, random: Random) -> str:
        return str(uuid.UUID(int=random.getrandbits(128), version=4))

    def word(self, status: str) -> str:
        return _COHERE_WORDS.get(status, status)

    def suits(self, fate: Fate) -> bool:
        return all(step.status != "expired" for step in fate.steps)

    def show(self, life: Life, now: int) -> dict[str, Any]:
        fate, age = life.fate, life.age(now)
        counts, status = fate.tally(age), self.word(life.status(now))
        shown: dict[str, Any] = {
            "name": life.name or "simulated-batch",
            "input_dataset_id": life.details.get(
                "input_dataset_id", "simulated-in-" + _token(life.id, "input", 6).lower()
            ),
            "model": life.details.get("model", "batch-simulated"),
            "id": life.id,
            "creator_id": str(uuid.UUID(int=1, version=4)),
            "org_id": str(uuid.UUID(int=2, version=4)),
            "status": "BATCH_STATUS_" + _COHERE_SPELLINGS.get(status, status.upper()),
            "created_at": _rfc3339(life.created_at),
            "updated_at": _rfc3339(self._changed_at(life, now)),
            "input_tokens": "0",
            "output_tokens": "0",
            # Known from the first, unlike OpenAI's total.
            "num_records": max((tally.total for tally in fate.tallies), default=0),
            "num_successful_records": counts.completed,
            "num_failed_records": counts.failed,
        }
        if self._has_output(life, now):
            shown["output_dataset_id"] = "simulated-out-" + _token(life.id, "output", 6).lower()
        if status == "failed" and fate.complaints:
            shown["status_reason"] = fate.complaints[0].message
        return _told(fate, shown)

    def wrap(self, shown: dict[str, Any]) -> dict[str, Any]:
        return {"batch": shown}

    def page(self, shown: Sequence[dict[str, Any]], *, more: bool) -> dict[str, Any]:
        page: dict[str, Any] = {"batches": list(shown)}
        if more:
            page["next_page_token"] = page_token(shown[-1]["id"])
        return page

    def error(self, _status: int, message: str) -> dict[str, Any]:
        return {"message": message}

    def _changed_at(self, life: Life, now: int) -> int:
        changed, last = life.created_at, None
        for at, status in life.transitions(now):
            if self.word(status) != last:
                changed, last = at, self.word(status)
        return changed

    def _has_output(self, life: Life, now: int) -> bool:
        """A data set is there from the start of the run on, unless the fate makes it late."""
        output_at = life.fate.output_at
        if output_at is None:
            return False
        ends = [step.at for step in life.fate.steps if step.status in TERMINAL]
        if not ends or output_at > ends[0]:
            return now >= life.moment(output_at)
        return any(status == "in_progress" for _, status in life.transitions(now))


SHAPES: Mapping[Wire, Shape] = {
    Wire.OPENAI: OpenAIShape(),
    Wire.CEREBRAS: CerebrasShape(),
    Wire.COHERE: CohereShape(),
}


def page_token(last_id: str) -> str:
    """An opaque token for the page after the batch with this id."""
    return base64.urlsafe_b64encode(last_id.encode()).decode().rstrip("=")


def read_page_token(token: str) -> str | None:
    """The id a page token stands for; None for a token that was never given out."""
    try:
        return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    except ValueError:
        return None


def _openai_object(life: Life, now: int, input_file: str) -> dict[str, Any]:
    fate, created = life.fate, life.created_at // 1000
    status, times = life.status(now), _phase_times(life, now)
    counts = fate.tally(life.age(now))
    errors = fate.complaints if status == "failed" else ()
    return {
        "id": life.id,
        "object": "batch",
        "endpoint": life.details.get("endpoint", "/v1/chat/completions"),
        "errors": {"object": "list", "data": [_complaint(one) for one in errors]}
        if errors
        else None,
        "input_file_id": life.details.get("input_file_id", input_file),
        "completion_window": life.details.get("completion_window", "24h"),
        "status": status,
        "output_file_id": _file(life, "output", fate.output_at, now),
        "error_file_id": _file(life, "errors", fate.errors_at, now),
        "created_at": created,
        "in_progress_at": times.get("in_progress"),
        "expires_at": created + round(fate.window),
        "finalizing_at": times.get("finalizing"),
        "completed_at": times.get("completed"),
        "failed_at": times.get("failed"),
        "expired_at": times.get("expired"),
        "cancelling_at": times.get("cancelling"),
        "cancelled_at": times.get("cancelled"),
        "request_counts": {
            "total": counts.total,
            "completed": counts.completed,
            "failed": counts.failed,
        },
        "metadata": None if life.metadata is None else dict(life.metadata),
    }


def _phase_times(life: Life, now: int) -> dict[str, int]:
    """When each phase first began, in seconds; an end only while it lasts."""
    transitions = life.transitions(now)
    times: dict[str, int] = {}
    for at, status in transitions:
        times.setdefault(status, at // 1000)
    for status in TERMINAL & times.keys():
        last_at, last = transitions[-1]
        if last == status:
            times[status] = last_at // 1000
        else:
            del times[status]
    return times


def _complaint(complaint: Complaint) -> dict[str, Any]:
    return {
        "code": complaint.code,
        "message": complaint.message,
        "param": complaint.param,
        "line": complaint.line,
    }


def _usage(counts: Tally) -> dict[str, int]:
    """Tokens that go with the counts: 24 in and 8 out a request, as in a recorded answer."""
    done = counts.completed
    return {"input_tokens": 24 * done, "output_tokens": 8 * done, "total_tokens": 32 * done}


def _file(life: Life, what: str, shown_at: float | None, now: int) -> str | None:
    if shown_at is None or now < life.moment(shown_at):
        return None
    return "file-" + _token(life.id, what, 22)


@lru_cache(maxsize=100_000)
def _token(id: str, what: str, length: int) -> str:
    return "".join(chance(id, what).choices(_ALPHABET, k=length))


def _told(fate: Fate, shown: dict[str, Any]) -> dict[str, Any]:
    """What is true with what the fate shows in its place."""
    told = {**shown, **dict(fate.shown)}
    return {key: value for key, value in told.items() if value is not OMITTED}


def _rfc3339(at: int) -> str:
    moment = datetime.fromtimestamp(at // 1000, UTC).replace(microsecond=at % 1000 * 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _openai_error_kind(status: int) -> tuple[str, str | None]:
    """The `type` and the `code` that go with an HTTP status."""
    if status >= 500:
        return "server_error", None
    codes = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
    return "requests" if status == 429 else "invalid_request_error", codes.get(status)
