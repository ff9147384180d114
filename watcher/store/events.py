"""The table of events: appended, read by position, never changed."""

from __future__ import annotations

from watcher.model import Choice, Event
from watcher.store.codec import (
    UNREADABLE,
    decode_choices,
    decode_event,
    encode_choices,
    encode_event,
)
from watcher.store.database import Transaction


class Events:
    """Verbs on events, inside one transaction."""

    def __init__(self, work: Transaction) -> None:
        self._work = work

    def append(self, event: Event, choices: tuple[Choice, ...]) -> int:
        """Write an event and return its seq, which rises in the order of commits."""
        # One row that every writer must change: no seq can become visible before a smaller one.
        rows = self._work.execute(
            "INSERT INTO counters (name, value) VALUES ('seq', 1) "
            "ON CONFLICT (name) DO UPDATE SET value = counters.value + 1 RETURNING value"
        )
        seq = int(rows[0][0])
        self._work.execute(
            "INSERT INTO events (seq, id, subject, type, severity, detected_at, document, choices) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            (
                seq,
                event.id,
                event.id.rpartition("@")[0],
                event.type,
                event.severity,
                event.detected_at,
                encode_event(event),
                encode_choices(choices),
            ),
        )
        return seq

    def after(self, seq: int, limit: int) -> list[Event]:
        """Events beyond a position, in order."""
        rows = self._work.execute(
            "SELECT seq, document FROM events WHERE seq > $1 ORDER BY seq LIMIT $2", (seq, limit)
        )
        events = []
        for number, document in rows:
            try:
                events.append(decode_event(int(number), document))
            except UNREADABLE:
                # A later version's event is for a later version to show.
                continue
        return events

    def position_before(self, moment: int) -> int:
        """The seq of the last event detected before a moment; 0 if there is none."""
        rows = self._work.execute(
            "SELECT COALESCE(MAX(seq), 0) FROM events WHERE detected_at < $1", (moment,)
        )
        return int(rows[0][0])

    def of_subject(self, subject: str) -> list[tuple[Event, tuple[Choice, ...]]]:
        """A batch's (by key), account's or channel's events in order, each with its choices."""
        rows = self._work.execute(
            "SELECT seq, document, choices FROM events WHERE subject = $1 ORDER BY seq", (subject,)
        )
        events = []
        for seq, text, why in rows:
            try:
                events.append((decode_event(int(seq), text), decode_choices(why)))
            except UNREADABLE:
                # As above: a later version shows it.
                continue
        return events

    def with_id(self, identity: str) -> tuple[Event, tuple[Choice, ...]] | None:
        """One event by its id."""
        rows = self._work.execute(
            "SELECT seq, document, choices FROM events WHERE id = $1", (identity,)
        )
        if not rows:
            return None
        seq, text, why = rows[0]
        return decode_event(int(seq), text), decode_choices(why)

    def forget(self, subject: str) -> None:
        """Delete a subject's events; its deliveries must be gone already."""
        self._work.execute("DELETE FROM events WHERE subject = $1", (subject,))

    def forget_of_other_subjects(self, before: int, limit: int) -> int:
        """Delete old events of accounts and channels that are told; returns how many."""
        rows = self._work.execute(
            "SELECT seq FROM events WHERE detected_at < $1 "
            "AND (subject LIKE 'account:%' OR subject LIKE 'channel:%') AND NOT EXISTS ("
            "SELECT 1 FROM deliveries WHERE deliveries.seq = events.seq "
            "AND deliveries.state = 'pending') LIMIT $2",
            (before, limit),
        )
        for (seq,) in rows:
            for table in ("tries", "deliveries", "events"):
                self._work.execute(f"DELETE FROM {table} WHERE seq = $1", (seq,))
        return len(rows)
