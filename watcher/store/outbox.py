"""The tables of deliveries and tries: what each channel has still to be told, and what it was."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from watcher.model import Choice, Delivery, DeliveryState, Event, Severity, Try, TryOutcome
from watcher.store.codec import UNREADABLE, decode_event
from watcher.store.database import Row, Transaction, listed, some_at_once
from watcher.store.subjects import Subjects

_COLUMNS = (
    "deliveries.seq, events.id, deliveries.channel, deliveries.state, deliveries.reason, "
    "deliveries.due_at, deliveries.settled_at"
)


_FREE = "deliveries.alone < $2"
_ASIDE = "deliveries.alone >= $2"
# Named one by one, so that an index finds what is rare however many wait.
_TROUBLE = (
    "events.subject IN (SELECT 'account:' || name FROM accounts "
    "UNION ALL SELECT 'channel:' || name FROM channels)"
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A pending delivery as the courier needs it; what it tells is read when it is to be told.

    Nothing here is taken from the document: a backlog of thousands is weighed without reading it.
    """

    seq: int
    # The event's, as the three that follow.
    id: str
    type: str
    severity: str
    document: str = field(repr=False)
    # When it was written down, or asked for again.
    due_at: int
    # Tries since then.
    attempts: int
    # Refusals of messages that named no other event.
    alone: int
    # The daemon's uptime at the first try, in milliseconds; None before it.
    first_try_uptime: int | None

    @property
    def of_batch(self) -> bool:
        """Whether it tells of a batch, not of an account or a channel."""
        return self.type.startswith("batch.")

    @property
    def urgent(self) -> bool:
        """Whether it tells of a failure, which waits for no interval."""
        return self.severity == Severity.FAILURE

    @property
    def subject(self) -> str:
        """What it happened to: `account/id`, `account:NAME` or `channel:NAME`."""
        return self.id.rpartition("@")[0]


def read_waiting(waiting: Iterable[Waiting]) -> tuple[list[Event], list[int]]:
    """The events that wait, and the seqs of those that cannot be read.

    Such an event is a later version's, or damaged. Apart from the transaction, because many take
    long to read.
    """
    events, unreadable = [], []
    for one in waiting:
        try:
            events.append(decode_event(one.seq, one.document))
        except UNREADABLE:
            unreadable.append(one.seq)
    return events, unreadable


class Outbox:
    """Verbs on deliveries, inside one transaction."""

    def __init__(self, work: Transaction) -> None:
        self._work = work

    def enqueue(self, seq: int, choices: Iterable[Choice], now: int) -> None:
        """Write down one delivery for each channel chosen."""
        self._work.execute_many(
            "INSERT INTO deliveries (seq, channel, state, reason, due_at, attempts, alone) "
            "VALUES ($1, $2, 'pending', $3, $4, 0, 0)",
            [(seq, choice.channel, choice.why, now) for choice in choices if choice.taken],
        )

    def waiting(self, channel: str, limit: int, *, refusals: int) -> list[Waiting]:
        """What a channel has still to be told, in the order it happened, for `read_waiting`.

        Of more than `limit` the first, and the trouble among the rest. What was refused alone so
        often takes no place of the others': it is there when they leave room.
        """
        free = self._waiting(_FREE, channel, refusals, limit)
        beside = self._waiting(
            _ASIDE if len(free) < limit else f"{_FREE} AND {_TROUBLE}", channel, refusals, limit
        )
        if not beside:
            return free
        by_seq = {one.seq: one for one in (*free, *beside)}
        return [by_seq[seq] for seq in sorted(by_seq)]

    def _waiting(self, condition: str, channel: str, refusals: int, limit: int) -> list[Waiting]:
        rows = self._work.execute(
            "SELECT events.seq, events.id, events.type, events.severity, events.document, "
            "deliveries.due_at, deliveries.attempts, deliveries.alone, deliveries.first_try_uptime "
            "FROM deliveries JOIN events ON events.seq = deliveries.seq "
            f"WHERE deliveries.channel = $1 AND deliveries.state = 'pending' AND {condition} "
            "ORDER BY deliveries.seq LIMIT $3",
            (channel, refusals, limit),
        )
        return [Waiting(*row) for row in rows]

    def settle(
        self,
        channel: str,
        told: Sequence[Waiting],
        attempt: Try,
        *,
        now: int,
        uptime: int,
        refused: bool,
    ) -> None:
        """Write down what became of one message for every event it named.

        `refused`: the service read the message and did not want it.
        """
        alone = int(refused and len(told) == 1)
        seqs = [one.seq for one in told]
        for some in some_at_once(seqs):
            self._work.execute(
                "INSERT INTO tries (seq, channel, attempt, at, outcome, error) "
                "SELECT seq, channel, (SELECT COALESCE(MAX(tries.attempt), 0) + 1 FROM tries "
                "WHERE tries.seq = deliveries.seq AND tries.channel = deliveries.channel), "
                "$2, $3, $4 FROM deliveries "
                f"WHERE channel = $1 AND state = 'pending' AND seq IN {listed(5, some)}",
                (channel, attempt.at, attempt.outcome, attempt.error, *some),
            )
            self._work.execute(
                "UPDATE deliveries SET attempts = attempts + 1, alone = alone + $2, "
                "first_try_uptime = COALESCE(first_try_uptime, $3) "
                f"WHERE channel = $1 AND state = 'pending' AND seq IN {listed(4, some)}",
                (channel, alone, uptime, *some),
            )
        if attempt.outcome is TryOutcome.DELIVERED:
            self.end(seqs, channel, DeliveryState.DELIVERED, None, now)

    def end(
        self,
        seqs: Sequence[int],
        channel: str,
        state: DeliveryState,
        reason: str | None,
        now: int,
    ) -> None:
        """Settle a channel's deliveries for good; a reason of None keeps the one each has."""
        for some in some_at_once(seqs):
            self._work.execute(
                "UPDATE deliveries SET state = $2, settled_at = $3, reason = COALESCE($4, reason) "
                f"WHERE channel = $1 AND state = 'pending' AND seq IN {listed(5, some)}",
                (channel, state, now, reason, *some),
            )

    def put_off(self, seq: int, channel: str, until: int) -> None:
        """Let a delivery stand aside until a moment."""
        self._work.execute(
            "UPDATE deliveries SET due_at = $1 WHERE seq = $2 AND channel = $3",
            (until, seq, channel),
        )

    def take_back(self, channel: str, refusals: int, now: int) -> None:
        """Let what stands aside after so many refusals try once more among the others."""
        self._work.execute(
            "UPDATE deliveries SET alone = $1, due_at = $2 "
            "WHERE channel = $3 AND state = 'pending' AND alone >= $4",
            (refusals - 1, now, channel, refusals),
        )

    def drop(self, channel: str, reason: str, now: int) -> int:
        """Give up everything a channel has pending; returns how many."""
        self._work.execute(
            "UPDATE deliveries SET state = 'dropped', settled_at = $1, reason = $2 "
            "WHERE channel = $3 AND state = 'pending'",
            (now, reason, channel),
        )
        return self._work.changed

    def redeliver(self, seq: int, channel: str, reason: str, now: int) -> None:
        """Make a delivery pending anew, whether or not it was ever meant for the channel.

        Its earlier tries stay on record and count no more.
        """
        self._work.execute(
            "INSERT INTO deliveries (seq, channel, state, reason, due_at, attempts, alone) "
            "VALUES ($1, $2, 'pending', $3, $4, 0, 0) ON CONFLICT (seq, channel) DO UPDATE SET "
            "state = 'pending', reason = excluded.reason, due_at = excluded.due_at, "
            "attempts = 0, alone = 0, first_try_uptime = NULL, settled_at = NULL",
            (seq, channel, reason, now),
        )

    def of_event(self, seq: int) -> list[Delivery]:
        """An event's deliveries, each with its tries."""
        rows = self._work.execute(
            f"SELECT {_COLUMNS} FROM deliveries JOIN events ON events.seq = deliveries.seq "
            "WHERE deliveries.seq = $1 ORDER BY deliveries.channel",
            (seq,),
        )
        return self._readable(rows)

    def newest(
        self, *, state: DeliveryState | None, channel: str | None, limit: int
    ) -> list[Delivery]:
        """The newest deliveries, oldest of them first."""
        conditions, values = ["1 = 1"], []
        for column, value in (("deliveries.state", state), ("deliveries.channel", channel)):
            if value is not None:
                values.append(str(value))
                conditions.append(f"{column} = ${len(values)}")
        rows = self._work.execute(
            f"SELECT {_COLUMNS} FROM deliveries JOIN events ON events.seq = deliveries.seq "
            f"WHERE {' AND '.join(conditions)} "
            f"ORDER BY deliveries.seq DESC, deliveries.channel LIMIT ${len(values) + 1}",
            (*values, limit),
        )
        return self._readable(reversed(rows))

    def _readable(self, rows: Iterable[Row]) -> list[Delivery]:
        deliveries, rests = (
            [],
            {one.name: one.next_try_at for one in Subjects(self._work).channels()},
        )
        for row in rows:
            try:
                one = self._delivery(row)
            except ValueError:
                # A state or an outcome that only a later version knows.
                continue
            rest = rests.get(one.channel)
            if one.next_try_at is not None and rest is not None:
                one = replace(one, next_try_at=max(one.next_try_at, rest))
            deliveries.append(one)
        return deliveries

    def _delivery(self, row: Row) -> Delivery:
        seq, event_id, channel, state, reason, due_at, settled_at = row
        tries = self._work.execute(
            "SELECT at, outcome, error FROM tries WHERE seq = $1 AND channel = $2 ORDER BY attempt",
            (seq, channel),
        )
        pending = state == DeliveryState.PENDING
        return Delivery(
            seq=seq,
            event_id=str(event_id),
            channel=str(channel),
            state=DeliveryState(str(state)),
            reason=None if reason is None else str(reason),
            tries=tuple(Try(at, TryOutcome(outcome), error) for at, outcome, error in tries),
            next_try_at=due_at if pending else None,
            settled_at=settled_at,
        )

    def pending_by_channel(self) -> dict[str, int]:
        """How many deliveries each channel has pending."""
        rows = self._work.execute(
            "SELECT channel, COUNT(*) FROM deliveries WHERE state = 'pending' GROUP BY channel"
        )
        return {str(channel): int(count) for channel, count in rows}

    def pending(self, channel: str) -> int:
        """How many deliveries a channel has pending."""
        rows = self._work.execute(
            "SELECT COUNT(*) FROM deliveries WHERE state = 'pending' AND channel = $1", (channel,)
        )
        return int(rows[0][0])

    def dead(self) -> int:
        """How many deliveries are dead."""
        rows = self._work.execute("SELECT COUNT(*) FROM deliveries WHERE state = 'dead'")
        return int(rows[0][0])

    def dead_ones(self) -> list[tuple[int, str]]:
        """Every dead delivery, as seq and channel."""
        rows = self._work.execute(
            "SELECT seq, channel FROM deliveries WHERE state = 'dead' ORDER BY seq"
        )
        return [(int(seq), str(channel)) for seq, channel in rows]

    def forget(self, subject: str) -> None:
        """Delete the deliveries and tries of a subject's events."""
        for table in ("tries", "deliveries"):
            self._work.execute(
                f"DELETE FROM {table} WHERE seq IN (SELECT seq FROM events WHERE subject = $1)",
                (subject,),
            )
