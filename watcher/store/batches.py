"""The table of batches: registering, reading, recording looks, removing, pruning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from watcher.model import Batch
from watcher.store.codec import UNREADABLE, decode_batch, encode_state
from watcher.store.database import Row, Transaction, listed, some_at_once
from watcher.store.registering import NO_STATE, Registering, Registrar, registered

__all__ = ["Batches", "Listed", "Registering"]

_COLUMNS = "account, id, provider, revision, edition, due_at, removed_at, registration, state"


def _batch(row: Row | list[Any]) -> Batch:
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


class Listed:
    """Batches read out of their rows as they are asked for, once: each row is then let go of.

    A hundred thousand of them need not be there at the same time.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._left = list(reversed(rows))
        # The keys, so far, of what cannot be read: a later version's, or damaged.
        self.unreadable: list[str] = []

    def __iter__(self) -> Iterator[Batch]:
        while self._left:
            row = self._left.pop()
            try:
                batch = _batch(row)
            except UNREADABLE:
                self.unreadable.append(f"{row[0]}/{row[1]}")
            else:
                yield batch


class Batches:
    """Verbs on batches, inside one transaction."""

    def __init__(self, work: Transaction) -> None:
        self._work = work

    def register(self, wanted: Registering, now: int) -> Batch | None:
        """Register one id, or change what is said of it; None where it must stay gone."""
        return next(iter(self.register_all([wanted], now)), None)

    def register_all(self, wanted: Sequence[Registering], now: int) -> list[Batch]:
        """As `register`, of many; without those that must stay gone."""
        registrar, batches = Registrar(now), []
        fresh: list[tuple[Batch, str]] = []
        revived: list[tuple[Batch, str]] = []
        changed: list[tuple[Batch, str]] = []
        known = self._known(wanted)
        for one in wanted:
            before, gone = known.get((one.account, one.id), (None, True))
            if before is None or (gone and one.revive):
                said = registrar.anew(one)
                batch = registered(one, said, now, before)
                (fresh if before is None else revived).append((batch, said.text))
            elif gone:
                continue
            else:
                said, batch = registrar.again(one, before.registration), before
                if said.registration != before.registration:
                    edition = before.edition + 1
                    batch = replace(before, registration=said.registration, edition=edition)
                    changed.append((batch, said.text))
            # What is asked for twice finds the first.
            known[one.account, one.id] = batch, False
            batches.append(batch)
        self._insert(fresh, now)
        self._revive(revived, now)
        self._change(changed)
        return batches

    def _known(
        self, wanted: Sequence[Registering]
    ) -> dict[tuple[str, str], tuple[Batch | None, bool]]:
        """What there is of the ids that are wanted, and whether it was removed or pruned."""
        by_account: dict[str, list[str]] = {}
        for one in wanted:
            by_account.setdefault(one.account, []).append(one.id)
        known: dict[tuple[str, str], tuple[Batch | None, bool]] = {}
        for account, ids in by_account.items():
            rows = self._rows(f"id, pruned_at, {_COLUMNS}", account, ids)
            for id_, (_, pruned_at, *columns) in rows.items():
                batch = _batch(tuple(columns))
                gone = batch.removed_at is not None or pruned_at is not None
                known[account, id_] = batch, gone
        return known

    def _rows(self, columns: str, account: str, ids: Sequence[str]) -> dict[str, Row]:
        """Rows of an account by id; `columns` begins with the id."""
        found = {}
        for some in some_at_once(ids):
            rows = self._work.execute(
                f"SELECT {columns} FROM batches WHERE account = $1 AND id IN {listed(2, some)}",
                (account, *some),
            )
            found.update({str(row[0]): row for row in rows})
        return found

    def _insert(self, batches: Sequence[tuple[Batch, str]], now: int) -> None:
        # In the order of the key: each page of its index is then written once.
        self._work.execute_many(
            "INSERT INTO batches (account, id, provider, revision, edition, due_at, group_name, "
            "registered_at, listed_at, registration, state) "
            "VALUES ($1, $2, $3, 0, 0, $4, $5, $4, $4, $6, $7)",
            sorted(
                (one.account, one.id, one.provider, now, one.registration.group, text, NO_STATE)
                for one, text in batches
            ),
        )

    def _revive(self, batches: Sequence[tuple[Batch, str]], now: int) -> None:
        """Watch again what was removed or pruned."""
        self._work.execute_many(
            "UPDATE batches SET provider = $1, edition = edition + 1, due_at = $2, status = NULL, "
            "end_seen_at = NULL, removed_at = NULL, pruned_at = NULL, group_name = $3, "
            "registered_at = $2, listed_at = $2, looked_at = NULL, registration = $4, "
            "state = $5 WHERE account = $6 AND id = $7",
            [
                (one.provider, now, one.registration.group, text, NO_STATE, one.account, one.id)
                for one, text in batches
            ],
        )

    def _change(self, batches: Sequence[tuple[Batch, str]]) -> None:
        # The edition makes a look under way notice that the registration has changed.
        self._work.execute_many(
            "UPDATE batches SET registration = $1, group_name = $2, edition = edition + 1 "
            "WHERE account = $3 AND id = $4",
            [(text, one.registration.group, one.account, one.id) for one, text in batches],
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
        had = self._rows("id", account, ids)
        return [id_ for id_ in ids if id_ not in had]

    def of_keys(self, keys: Sequence[tuple[str, str]]) -> list[Batch]:
        """As `get`, of many: the batches of those accounts and ids that are known, in order."""
        by_account: dict[str, list[str]] = {}
        for account, id_ in keys:
            by_account.setdefault(account, []).append(id_)
        rows = {
            (account, id_): row
            for account, ids in by_account.items()
            for id_, row in self._rows(f"id, pruned_at, {_COLUMNS}", account, ids).items()
        }
        found = (rows[key] for key in keys if key in rows)
        return [_batch(columns) for _, pruned_at, *columns in found if pruned_at is None]

    def by_id(self, ids: Sequence[str]) -> dict[str, list[Batch]]:
        """For each of the ids that is known every batch with it, whatever its account."""
        found: dict[str, list[Batch]] = {}
        for row in self._with_ids(_COLUMNS, ids):
            found.setdefault(str(row[1]), []).append(_batch(row))
        return found

    def accounts_of(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """For each of the ids that is known the accounts that have a batch with it."""
        found: dict[str, list[str]] = {}
        for account, id_ in self._with_ids("account, id", ids):
            found.setdefault(str(id_), []).append(str(account))
        return found

    def _with_ids(self, columns: str, ids: Sequence[str]) -> Iterator[Row]:
        for some in some_at_once(ids):
            yield from self._work.execute(
                f"SELECT {columns} FROM batches WHERE id IN {listed(1, some)} "
                "AND pruned_at IS NULL ORDER BY account",
                some,
            )

    def watched(self, *, open_only: bool, account: str | None = None) -> list[Batch]:
        """Batches that were not removed, oldest registration first, as far as they can be read."""
        return list(self.listed(open_only=open_only, account=account))

    def listed(self, *, open_only: bool, account: str | None = None) -> Listed:
        """As `watched`, to be read one by one; it names what cannot be read."""
        condition = "removed_at IS NULL AND pruned_at IS NULL"
        if open_only:
            condition += " AND end_seen_at IS NULL"
        if account is not None:
            condition += " AND account = $1"
        rows = self._work.execute(
            f"SELECT {_COLUMNS} FROM batches WHERE {condition} ORDER BY registered_at, account, id",
            () if account is None else (account,),
        )
        return Listed(rows)

    def seen_open(self, account: str, limit: int) -> list[Batch]:
        """Open batches of an account that a look has shown, as far as they can be read."""
        rows = self._work.execute(
            f"SELECT {_COLUMNS} FROM batches WHERE account = $1 AND status IS NOT NULL "
            "AND end_seen_at IS NULL AND removed_at IS NULL AND pruned_at IS NULL LIMIT $2",
            (account, limit),
        )
        return list(Listed(rows))

    def of_ids(self, account: str, ids: Sequence[str]) -> list[Batch]:
        """The batches of an account with these ids, as far as they can be read."""
        rows = self._rows(f"id, {_COLUMNS}", account, ids)
        return list(Listed([rows[id_][1:] for id_ in ids if id_ in rows]))

    def advance_if_unchanged(self, before: Batch, after: Batch) -> bool:
        """Write a batch after a look, unless it was changed or removed since it was read."""
        self._work.execute(
            "UPDATE batches SET revision = $1, due_at = $2, status = $3, end_seen_at = $4, "
            "listed_at = $5, looked_at = $6, state = $7 WHERE account = $8 AND id = $9 "
            "AND revision = $10 AND edition = $11 AND removed_at IS NULL AND pruned_at IS NULL",
            (
                after.revision,
                after.next_look_at,
                after.status,
                after.end_seen_at,
                after.registration.registered_at if after.created_at is None else after.created_at,
                after.last_look_at,
                encode_state(after),
                before.account,
                before.id,
                before.revision,
                before.edition,
            ),
        )
        return self._work.changed == 1

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
                (formerly, id_, provider, revision, registered_at, NO_STATE, now),
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
            (now, NO_STATE, account, id_),
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
