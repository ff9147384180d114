"""The tables of leases and meta: which process does what, its heartbeat, the names it published."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from watcher.store.codec import dump
from watcher.store.database import Transaction


class Process:
    """Verbs on leases and on what a daemon says of itself, inside one transaction."""

    def __init__(self, work: Transaction) -> None:
        self._work = work

    def lease(self, names: Iterable[str], holder: str, now: int, until: int) -> set[str]:
        """Take or renew leases; returns the names held now, without those of other holders."""
        held = set()
        for name in names:
            self._work.execute(
                "INSERT INTO leases (name, holder, until) VALUES ($1, $2, $3) "
                "ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until "
                "WHERE leases.holder = excluded.holder OR leases.until < $4",
                (name, holder, until, now),
            )
            if self._work.changed:
                held.add(name)
        return held

    def release(self, holder: str) -> None:
        """Give up every lease of a process."""
        self._work.execute("DELETE FROM leases WHERE holder = $1", (holder,))

    def void_leases(self) -> None:
        """Give up all leases: whoever held them has let go of the operating system's lock."""
        self._work.execute("DELETE FROM leases")

    def holds(self, name: str, holder: str, now: int) -> bool:
        """Whether a process holds a lease."""
        rows = self._work.execute(
            "SELECT 1 FROM leases WHERE name = $1 AND holder = $2 AND until >= $3",
            (name, holder, now),
        )
        return bool(rows)

    def put(self, name: str, value: Mapping[str, Any]) -> None:
        """Write one document of meta."""
        self._work.execute(
            "INSERT INTO meta (name, value) VALUES ($1, $2) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, dump(value)),
        )

    def get(self, name: str) -> dict[str, Any]:
        """One document of meta; empty if it was never written."""
        rows = self._work.execute("SELECT value FROM meta WHERE name = $1", (name,))
        try:
            document = json.loads(rows[0][0]) if rows else {}
        except (ValueError, RecursionError):
            # Damaged: the next daemon writes it anew.
            return {}
        return document if isinstance(document, dict) else {}

    def count_uptime(self, milliseconds: int) -> int:
        """Add to the time that daemons of this state have run; returns the sum."""
        rows = self._work.execute(
            "INSERT INTO counters (name, value) VALUES ('uptime', $1) "
            "ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value "
            "RETURNING value",
            (milliseconds,),
        )
        return int(rows[0][0])
