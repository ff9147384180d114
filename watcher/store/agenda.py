"""Which batches are due for a look, and where each stands in its account's list."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from watcher.cadence import Around, Place
from watcher.model import Batch
from watcher.store.database import Row, Transaction, Value

_PLACE = "id, listed_at, looked_at, due_at, status"
# What a batch must be to need a look. Each of the two kinds has an index of its own.
_WATCHED = "account = $1 AND removed_at IS NULL AND due_at IS NOT NULL"
_SEEN = f"{_WATCHED} AND status IS NOT NULL"
_UNSEEN = f"{_WATCHED} AND status IS NULL"


@dataclass(frozen=True, slots=True)
class Horizon:
    """Further ahead than this no due time lies but one of a clock that was set back since.

    `open` is the nearer one, of batches that have not ended; milliseconds.
    """

    any: int
    open: int


def _place(row: Row) -> Place:
    """A place, of whatever stands in the row: damage is for whoever reads the whole batch."""
    id_, listed_at, looked_at, due_at, status = row
    at = _moment(listed_at) or 0
    return Place(str(id_), at, _moment(looked_at), _moment(due_at), status is not None)


def _moment(value: Value) -> int | None:
    return value if isinstance(value, int) else None


class Agenda:
    """Verbs on due times, inside one transaction."""

    def __init__(self, work: Transaction) -> None:
        self._work = work

    def due(
        self,
        account: str,
        now: int,
        limit: int,
        horizon: Horizon,
        under_way: Collection[str],
        *,
        unseen_since: int = -1,
    ) -> list[Place]:
        """What is due at an account, longest due first, without the ids being looked at.

        Of the batches never seen only those registered after `unseen_since`. What lies beyond
        the horizon is due too.
        """
        most, far = limit + len(under_way), max(horizon.open, now)
        rows = self._work.execute(
            f"SELECT {_PLACE} FROM batches WHERE {_SEEN} AND due_at <= $2 ORDER BY due_at LIMIT $3",
            (account, now, most),
        )
        rows += self._unseen(_PLACE, account, "due_at <= $2", now, unseen_since, most)
        rows.sort(key=lambda row: _moment(row[3]) or 0)
        for kind in (_SEEN, _UNSEEN):
            rows += self._work.execute(
                f"SELECT {_PLACE} FROM batches WHERE {kind} AND due_at > $2 "
                "AND (end_seen_at IS NULL OR due_at > $3) LIMIT $4",
                (account, far, horizon.any, limit),
            )
        return [_place(row) for row in rows if row[0] not in under_way][:limit]

    def _unseen(
        self, columns: str, account: str, condition: str, value: int, since: int, limit: int
    ) -> list[Row]:
        """What was never seen, longest due first; of what was registered after a moment any."""
        select = f"SELECT {columns} FROM batches WHERE {_UNSEEN} AND {condition}"
        if since < 0:
            return self._work.execute(f"{select} ORDER BY due_at LIMIT $3", (account, value, limit))
        return self._work.execute(
            f"{select} AND registered_at > $3 ORDER BY registered_at LIMIT $4",
            (account, value, since, limit),
        )

    def around(self, account: str) -> Around:
        """The batches of an account in the order of its list, as the plan of looks asks for them.

        Removed and ended ones take up room in it too.
        """

        def near(listed_at: int, reach: int) -> list[Place]:
            newer, same, older = (
                self._listed(account, listed_at, side, reach) for side in (">", "=", "<")
            )
            return [*reversed(newer), *same, *older]

        return near

    def _listed(self, account: str, at: int, side: str, most: int) -> list[Place]:
        """So many that were made after, at or before a time: those next to it, outwards."""
        order = "listed_at, id" if side == ">" else "listed_at DESC, id DESC"
        rows = self._work.execute(
            f"SELECT {_PLACE} FROM batches WHERE account = $1 AND status IS NOT NULL "
            f"AND status <> 'lost' AND pruned_at IS NULL AND listed_at {side} $2 "
            f"ORDER BY {order} LIMIT $3",
            (account, at, most),
        )
        return [_place(row) for row in rows]

    def beside(self, batch: Batch, span: int, limit: int) -> list[str]:
        """Ids of open batches of its account made within so many ms of a batch, itself left out."""
        made = batch.created_at or 0
        rows = self._work.execute(
            "SELECT id FROM batches WHERE account = $1 AND status IS NOT NULL "
            "AND pruned_at IS NULL AND listed_at >= $2 AND listed_at <= $3 "
            "AND end_seen_at IS NULL AND removed_at IS NULL AND id <> $4 LIMIT $5",
            (batch.account, made - span, made + span, batch.id, limit),
        )
        return [str(id_) for (id_,) in rows]

    def next_due(
        self, account: str, under_way: Collection[str], *, unseen_since: int = -1
    ) -> int | None:
        """When the next batch of an account is due, without those being looked at."""
        most = 1 + len(under_way)
        rows = self._work.execute(
            f"SELECT id, due_at FROM batches WHERE {_SEEN} ORDER BY due_at LIMIT $2",
            (account, most),
        )
        rows += self._unseen("id, due_at", account, "due_at > $2", -1, unseen_since, most)
        return min((int(due_at) for id_, due_at in rows if id_ not in under_way), default=None)

    def spread(self, account: str, due: Iterable[tuple[str, int]]) -> None:
        """Give batches that need looks new due times: pairs of id and time."""
        self._work.execute_many(
            "UPDATE batches SET due_at = $1 WHERE account = $2 AND id = $3 "
            "AND due_at IS NOT NULL AND removed_at IS NULL",
            [(at, account, id_) for id_, at in due],
        )

    def overdue(self, account: str, before: int, horizon: Horizon) -> list[str]:
        """Ids of the batches that were due before a moment, or lie beyond the horizon."""
        rows = self._work.execute(
            "SELECT id FROM batches WHERE account = $1 AND removed_at IS NULL "
            "AND due_at IS NOT NULL AND (due_at < $2 OR due_at > $3 "
            "OR (due_at > $4 AND end_seen_at IS NULL))",
            (account, before, horizon.any, horizon.open),
        )
        return [str(id_) for (id_,) in rows]

    def put_off(self, batch: Batch, until: int) -> None:
        """Leave a batch alone until a moment, whatever became of its last look."""
        self._work.execute(
            "UPDATE batches SET due_at = $1 WHERE account = $2 AND id = $3 "
            "AND removed_at IS NULL AND pruned_at IS NULL",
            (until, batch.account, batch.id),
        )

    def late(self, before: int) -> int:
        """How many looks were due before a moment and have not happened."""
        rows = self._work.execute(
            "SELECT COUNT(*) FROM batches WHERE removed_at IS NULL AND due_at < $1", (before,)
        )
        return int(rows[0][0])
