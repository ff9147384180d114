"""The table of batches: registering, claiming what is due, recording looks, removing, pruning."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from watcher.model import Batch, Registration
from watcher.store.codec import UNREADABLE, decode_batch, encode_registration, encode_state
from watcher.store.database import Row, Transaction

_COLUMNS = "account, id, provider, revision, edition, due_at, removed_at, registration, state"
_NO_STATE = "{}"


@dataclass(frozen=True, slots=True)
class Registering:
    """One id to be registered; a field that is None leaves what an earlier registration said."""

    account: str
    id: str
    provider: str
    name: str | None = None
    tags: tuple[str, ...] | None = None
    group: str | None = None
    channels: tuple[str, ...] | None = None
    registered_by: str | None = None
    quiet_if_ended: bool | None = None
    # False: one that was removed or pruned stays so.
    revive: bool = True


def _batch(row: Row) -> Batch:
    account, id_, provider, revision, edition, due_at, removed_at, registration, state = row
    columns = {
        "account": account,
        "id": id_,
        "provider": provider,
        "revision": revision,
        "edition": edition,
        "next_look_at": due_at,
        "removed_at": removed_at,
    }
    return decode_batch(columns, registration, state)


def _readable(rows: Iterable[Row]) -> tuple[list[Batch], list[str]]:
    """The batches, and the keys of what cannot be read: a later version's, or damaged."""
    readable, unreadable = [], []
    for row in rows:
        try:
            readable.append(_batch(row))
        except UNREADABLE:
            unreadable.append(f"{row[0]}/{row[1]}")
    return readable, unreadable


class Batches:
    """Verbs on batches, inside one transaction."""

    def __init__(self, work: Transaction) -> None:
        self._work = work

    def register(self, wanted: Registering, now: int) -> Batch | None:
        """Register one id, or change what is said of it; None where it must stay gone."""
        rows = self._work.execute(
            f"SELECT {_COLUMNS}, pruned_at FROM batches WHERE account = $1 AND id = $2",
            (wanted.account, wanted.id),
        )
        if not rows:
            return self._insert(wanted, now)
        *columns, pruned_at = rows[0]
        known = _batch(tuple(columns))
        gone = known.removed_at is not None or pruned_at is not None
        if gone and not wanted.revive:
            return None
        if gone:
            return self._revive(wanted, known, now)
        said = _said(wanted, known.registration)
        if said == known.registration:
            return known
        # The edition makes a look under way notice that the registration has changed.
        self._work.execute(
            "UPDATE batches SET registration = $1, group_name = $2, edition = edition + 1 "
            "WHERE account = $3 AND id = $4",
            (encode_registration(said), said.group, known.account, known.id),
        )
        return replace(known, registration=said, edition=known.edition + 1)

    def _insert(self, wanted: Registering, now: int) -> Batch:
        said = _said(wanted, Registration(registered_at=now))
        batch = Batch(wanted.account, wanted.id, wanted.provider, said, next_look_at=now)
        self._work.execute(
            "INSERT INTO batches (account, id, provider, revision, edition, due_at, group_name, "
            "registered_at, registration, state) VALUES ($1, $2, $3, 0, 0, $4, $5, $6, $7, $8)",
            (
                batch.account,
                batch.id,
                batch.provider,
                now,
                said.group,
                now,
                encode_registration(said),
                _NO_STATE,
            ),
        )
        return batch

    def _revive(self, wanted: Registering, known: Batch, now: int) -> Batch:
        """Watch again what was removed or pruned; its revision goes on where it was."""
        said = _said(wanted, Registration(registered_at=now))
        self._work.execute(
            "UPDATE batches SET provider = $1, edition = edition + 1, due_at = $2, status = NULL, "
            "end_seen_at = NULL, removed_at = NULL, pruned_at = NULL, group_name = $3, "
            "registered_at = $2, registration = $4, state = $5 WHERE account = $6 AND id = $7",
            (
                wanted.provider,
                now,
                said.group,
                encode_registration(said),
                _NO_STATE,
                wanted.account,
                wanted.id,
            ),
        )
        return Batch(
            wanted.account,
            wanted.id,
            wanted.provider,
            said,
            revision=known.revision,
            edition=known.edition + 1,
            next_look_at=now,
        )

    def get(self, account: str, id_: str) -> Batch | None:
        """One batch by its key; None if unknown or pruned. Removed ones are found."""
        rows = self._work.execute(
            f"SELECT {_COLUMNS} FROM batches WHERE account = $1 AND id = $2 AND pruned_at IS NULL",
            (account, id_),
        )
        return _batch(rows[0]) if rows else None

    def unknown(self, account: str, ids: Sequence[str]) -> list[str]:
        """Those of the ids that an account never had, removed and pruned ones counted as had."""
        return [
            id_
            for id_ in ids
            if not self._work.execute(
                "SELECT 1 FROM batches WHERE account = $1 AND id = $2", (account, id_)
            )
        ]

    def of_id(self, id_: str) -> list[Batch]:
        """Every batch with this id, whatever its account."""
        rows = self._work.execute(
            f"SELECT {_COLUMNS} FROM batches WHERE id = $1 AND pruned_at IS NULL", (id_,)
        )
        return [_batch(row) for row in rows]

    def watched(self, *, open_only: bool, account: str | None = None) -> list[Batch]:
        """Batches that were not removed, oldest registration first, as far as they can be read."""
        return self.listed(open_only=open_only, account=account)[0]

    def listed(
        self, *, open_only: bool, account: str | None = None
    ) -> tuple[list[Batch], list[str]]:
        """As `watched`, and the keys of what cannot be read: a later version's, or damaged."""
        condition = "removed_at IS NULL AND pruned_at IS NULL"
        if open_only:
            condition += " AND end_seen_at IS NULL"
        if account is not None:
            condition += " AND account = $1"
        rows = self._work.execute(
            f"SELECT {_COLUMNS} FROM batches WHERE {condition} ORDER BY registered_at, account, id",
            () if account is None else (account,),
        )
        return _readable(rows)

    def claim(
        self,
        account: str,
        now: int,
        limit: int,
        horizon: int,
        under_way: Collection[str],
        *,
        open_horizon: int | None = None,
    ) -> list[Batch]:
        """What is due at an account, oldest due first, without the ids being looked at.

        A due time beyond `horizon`, for open batches beyond the nearer `open_horizon`, was set by
        a clock that has jumped back since: it is due too.
        """
        rows = self._work.execute(
            f"SELECT {_COLUMNS} FROM batches WHERE account = $1 AND removed_at IS NULL "
            "AND due_at IS NOT NULL AND due_at <= $2 ORDER BY due_at LIMIT $3",
            (account, now, limit + len(under_way)),
        )
        rows += self._work.execute(
            f"SELECT {_COLUMNS} FROM batches WHERE account = $1 AND removed_at IS NULL "
            "AND due_at IS NOT NULL AND due_at > $2 AND (end_seen_at IS NULL OR due_at > $3) "
            "LIMIT $4",
            (account, horizon if open_horizon is None else open_horizon, horizon, limit),
        )
        return [_batch(row) for row in rows if row[1] not in under_way][:limit]

    def seen_open(self, account: str, limit: int) -> list[Batch]:
        """Open batches of an account that a look has shown, as far as they can be read."""
        rows = self._work.execute(
            f"SELECT {_COLUMNS} FROM batches WHERE account = $1 AND status IS NOT NULL "
            "AND end_seen_at IS NULL AND removed_at IS NULL AND pruned_at IS NULL LIMIT $2",
            (account, limit),
        )
        return _readable(rows)[0]

    def of_ids(self, account: str, ids: Sequence[str]) -> list[Batch]:
        """The batches of an account with these ids, as far as they can be read."""
        rows = [
            row
            for id_ in ids
            for row in self._work.execute(
                f"SELECT {_COLUMNS} FROM batches WHERE account = $1 AND id = $2", (account, id_)
            )
        ]
        return _readable(rows)[0]

    def next_due(self, account: str, under_way: Collection[str]) -> int | None:
        """When the next batch of an account is due, without those being looked at."""
        rows = self._work.execute(
            "SELECT id, due_at FROM batches WHERE account = $1 AND removed_at IS NULL "
            "AND due_at IS NOT NULL ORDER BY due_at LIMIT $2",
            (account, 1 + len(under_way)),
        )
        return next((int(due_at) for id_, due_at in rows if id_ not in under_way), None)

    def spread(self, account: str, due: Iterable[tuple[str, int]]) -> None:
        """Give overdue batches new due times: pairs of id and time."""
        self._work.execute_many(
            "UPDATE batches SET due_at = $1 WHERE account = $2 AND id = $3",
            [(at, account, id_) for id_, at in due],
        )

    def overdue(self, account: str, before: int, horizon: int, *, open_horizon: int) -> list[str]:
        """Ids of the batches that were due before a moment, or are as in `claim`."""
        rows = self._work.execute(
            "SELECT id FROM batches WHERE account = $1 AND removed_at IS NULL "
            "AND due_at IS NOT NULL AND (due_at < $2 OR due_at > $3 "
            "OR (due_at > $4 AND end_seen_at IS NULL))",
            (account, before, horizon, open_horizon),
        )
        return [str(id_) for (id_,) in rows]

    def advance_if_unchanged(self, before: Batch, after: Batch) -> bool:
        """Write a batch after a look, unless it was changed or removed since it was read."""
        self._work.execute(
            "UPDATE batches SET revision = $1, due_at = $2, status = $3, end_seen_at = $4, "
            "state = $5 WHERE account = $6 AND id = $7 AND revision = $8 AND edition = $9 "
            "AND removed_at IS NULL AND pruned_at IS NULL",
            (
                after.revision,
                after.next_look_at,
                after.status,
                after.end_seen_at,
                encode_state(after),
                before.account,
                before.id,
                before.revision,
                before.edition,
            ),
        )
        return self._work.changed == 1

    def put_off(self, batch: Batch, until: int) -> None:
        """Leave a batch alone until a moment, whatever became of its last look."""
        self._work.execute(
            "UPDATE batches SET due_at = $1 WHERE account = $2 AND id = $3 "
            "AND removed_at IS NULL AND pruned_at IS NULL",
            (until, batch.account, batch.id),
        )

    def put_off_unreadable(self, account: str, until: int) -> list[str]:
        """Leave alone until a moment whatever of an account's cannot be read; returns the ids."""
        rows = self._work.execute(
            f"SELECT {_COLUMNS} FROM batches WHERE account = $1 AND removed_at IS NULL "
            "AND due_at IS NOT NULL AND due_at < $2",
            (account, until),
        )
        unreadable = []
        for row in rows:
            try:
                _batch(row)
            except UNREADABLE:
                unreadable.append(str(row[1]))
        self.spread(account, [(id_, until) for id_ in unreadable])
        return unreadable

    def remove(self, batch: Batch, now: int) -> bool:
        """Stop watching a batch; False if it was not watched."""
        self._work.execute(
            "UPDATE batches SET removed_at = $1, due_at = NULL, edition = edition + 1 "
            "WHERE account = $2 AND id = $3 AND removed_at IS NULL AND pruned_at IS NULL",
            (now, batch.account, batch.id),
        )
        return self._work.changed == 1

    def adopt(self, account: str, formerly: str, now: int) -> int:
        """Move the batches of one account's name to another; returns how many.

        Their events go with them, under the ids they were told by. A stub keeps the former key
        and its revision, so that no event id is used twice should the name come back.
        """
        rows = self._work.execute(
            "SELECT batches.id, batches.provider, batches.revision, "
            "COALESCE(other.revision, 0), batches.registered_at FROM batches "
            "LEFT JOIN batches AS other ON other.account = $1 AND other.id = batches.id "
            "WHERE batches.account = $2 AND batches.pruned_at IS NULL "
            "AND (other.id IS NULL OR other.pruned_at IS NOT NULL)",
            (account, formerly),
        )
        for id_, provider, revision, stub_revision, registered_at in rows:
            self._work.execute("DELETE FROM batches WHERE account = $1 AND id = $2", (account, id_))
            self._work.execute(
                "UPDATE batches SET account = $1, revision = $2, edition = edition + 1 "
                "WHERE account = $3 AND id = $4",
                (account, max(int(revision), int(stub_revision)), formerly, id_),
            )
            self._work.execute(
                "INSERT INTO batches (account, id, provider, revision, edition, registered_at, "
                "registration, state, pruned_at) VALUES ($1, $2, $3, $4, 0, $5, $6, $6, $7)",
                (formerly, id_, provider, revision, registered_at, _NO_STATE, now),
            )
            self._work.execute(
                "UPDATE events SET subject = $1 WHERE subject = $2",
                (f"{account}/{id_}", f"{formerly}/{id_}"),
            )
        return len(rows)

    def ended_before(self, moment: int, limit: int) -> list[tuple[str, str]]:
        """Accounts and ids of what ended or was removed before a moment and is told in full.

        Nothing ends before it is registered: such a time is a wrong clock's.
        """
        rows = self._work.execute(
            "SELECT account, id FROM batches WHERE pruned_at IS NULL "
            "AND (end_seen_at < $1 OR removed_at < $1) AND registered_at < $1 AND NOT EXISTS ("
            "SELECT 1 FROM events JOIN deliveries ON deliveries.seq = events.seq "
            "WHERE events.subject = batches.account || '/' || batches.id "
            "AND deliveries.state = 'pending') LIMIT $2",
            (moment, limit),
        )
        return [(str(account), str(id_)) for account, id_ in rows]

    def prune(self, account: str, id_: str, now: int) -> None:
        """Leave only the key and the revision, so that neither is ever used twice."""
        self._work.execute(
            "UPDATE batches SET pruned_at = $1, due_at = NULL, group_name = NULL, "
            "registration = $2, state = $2 WHERE account = $3 AND id = $4",
            (now, _NO_STATE, account, id_),
        )

    def drop_stubs(self, before: int) -> None:
        """Forget keys pruned before a moment."""
        self._work.execute("DELETE FROM batches WHERE pruned_at < $1", (before,))

    def accounts_in_use(self) -> dict[str, int]:
        """How many watched batches each account has."""
        rows = self._work.execute(
            "SELECT account, COUNT(*) FROM batches "
            "WHERE removed_at IS NULL AND pruned_at IS NULL GROUP BY account"
        )
        return {str(account): int(count) for account, count in rows}

    def open_counts(self) -> dict[tuple[str, str | None], int]:
        """How many open batches there are by account and status."""
        rows = self._work.execute(
            "SELECT account, status, COUNT(*) FROM batches WHERE end_seen_at IS NULL "
            "AND removed_at IS NULL AND pruned_at IS NULL GROUP BY account, status"
        )
        return {(str(account), status): int(count) for account, status, count in rows}

    def late(self, before: int) -> int:
        """How many looks were due before a moment and have not happened."""
        rows = self._work.execute(
            "SELECT COUNT(*) FROM batches WHERE removed_at IS NULL AND due_at < $1", (before,)
        )
        return int(rows[0][0])


def _said(wanted: Registering, before: Registration) -> Registration:
    """A registration with what is newly said; what is not said stays."""
    given = {
        name: value
        for name in ("name", "tags", "group", "channels", "registered_by", "quiet_if_ended")
        if (value := getattr(wanted, name)) is not None
    }
    return replace(before, **given)
