"""The JSON objects that scripts and dashboards read: batches, events, deliveries. Pure.

Keys and their order are a promise: fields may be added, never renamed or removed.
"""

from __future__ import annotations

from typing import Any

from watcher.model import Batch, Counts, Delivery, Event
from watcher.text import iso

VERSION = 1


def batch_document(batch: Batch) -> dict[str, Any]:
    """A batch as `ls --json` and events show it; times in RFC 3339, what is not known as None."""
    registration = batch.registration
    return {
        "key": batch.key,
        "id": batch.id,
        "account": batch.account,
        "provider": batch.provider,
        "revision": batch.revision,
        "status": None if batch.status is None else batch.status.value,
        "raw_status": batch.raw_status,
        "outcome": None if batch.outcome is None else batch.outcome.value,
        "counts": _counts(batch.counts),
        "progress": batch.counts.progress,
        "name": batch.name,
        "tags": list(registration.tags),
        "group": registration.group,
        "channels": list(registration.channels),
        "metadata": dict(batch.metadata),
        "registered_by": registration.registered_by,
        "created_at": iso(batch.created_at),
        "in_progress_at": iso(batch.in_progress_at),
        "finalizing_at": iso(batch.finalizing_at),
        "cancelling_at": iso(batch.cancelling_at),
        "ended_at": iso(batch.ended_at),
        "expires_at": iso(batch.expires_at),
        "results": {"output": batch.results.output, "errors": batch.results.errors},
        "errors": [
            {"code": problem.code, "message": problem.message, "line": problem.line}
            for problem in batch.problems
        ],
        # 0 is what a batch that was never registered carries.
        "registered_at": iso(registration.registered_at or None),
        "last_look_at": iso(batch.last_look_at),
        "next_look_at": iso(batch.next_look_at),
        "looks": batch.looks,
        "failures": batch.failures,
        "last_error": batch.last_error,
    }


def event_document(event: Event, instance: str, title: str, body: str) -> dict[str, Any]:
    """An event with its batch as it was then; `title` and `body` are rendered on reading."""
    return {
        "version": VERSION,
        "instance": instance,
        "seq": event.seq,
        "id": event.id,
        "type": event.type.value,
        "severity": event.severity.value,
        "occurred_at": iso(event.occurred_at),
        "detected_at": iso(event.detected_at),
        "lag_seconds": None if event.lag is None else event.lag / 1000,
        "account": event.account,
        "channel": event.channel,
        "previous_status": None if event.previous_status is None else event.previous_status.value,
        "title": title,
        "body": body,
        "batch": None if event.batch is None else batch_document(event.batch),
    }


def delivery_document(delivery: Delivery) -> dict[str, Any]:
    """One event for one channel, with every try."""
    return {
        "event": delivery.event_id,
        "channel": delivery.channel,
        "state": delivery.state.value,
        "reason": delivery.reason,
        "tries": [
            {"at": iso(attempt.at), "outcome": attempt.outcome.value, "error": attempt.error}
            for attempt in delivery.tries
        ],
        "next_try_at": iso(delivery.next_try_at),
        "settled_at": iso(delivery.settled_at),
    }


def _counts(counts: Counts) -> dict[str, int | None]:
    return {
        "total": counts.total,
        "completed": counts.completed,
        "failed": counts.failed,
        "expired": counts.expired,
        "cancelled": counts.cancelled,
    }
