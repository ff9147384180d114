"""What waits for channels that are gone from the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from watcher.store.ledger import Ledger


def sweep_absent(
    ledger: Ledger, present: Sequence[str], now: int, uptime: int, *, give_up_after: int
) -> dict[str, int]:
    """Drop what channels that left the configuration have had pending for too long.

    Time counts only while a daemon runs. Returns how many deliveries were dropped, by channel.
    """
    dropped = {}
    for name in present:
        channel = ledger.subjects.channel(name)
        if channel.absent_since is not None:
            ledger.subjects.put_channel(replace(channel, absent_since=None))
    for name in ledger.outbox.pending_by_channel():
        if name in present:
            continue
        channel = ledger.subjects.channel(name)
        if channel.absent_since is None:
            ledger.subjects.put_channel(replace(channel, absent_since=uptime))
        elif uptime - channel.absent_since >= give_up_after:
            reason = "its channel was removed from the configuration"
            dropped[name] = ledger.outbox.drop(name, reason, now)
    return dropped
