"""What a wall clock that was set means for what was measured by it.

Evidence (since when an account is silent, a batch is missing, a channel fails) counts only time
that has passed: no jump alone makes anything lost, unreachable or failing, and none forbids it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from watcher.model import Account, Batch, Channel

Subject = TypeVar("Subject", Account, Channel)
_ACCOUNT_EVIDENCE = ("refused_since", "silent_since", "missing_since", "good_at", "probed_at")
# A sleep is a jump forwards: what was said to last until a moment lasts no longer for it, and
# what began in the evening did begin then. Backwards a clock can only be set.
_ACCOUNT_MOMENTS = ("trouble_since", "paused_until", "probe_due_at")
_CHANNEL_EVIDENCE = ("failing_since",)
_CHANNEL_MOMENTS = ("next_try_at", "last_message_at")


def account_after_jump(account: Account, jump: int) -> Account:
    """An account as it stands by a clock that has jumped so many milliseconds."""
    return _moved(account, _ACCOUNT_EVIDENCE, _ACCOUNT_MOMENTS, jump)


def channel_after_jump(channel: Channel, jump: int) -> Channel:
    """A channel as it stands by a clock that has jumped so many milliseconds."""
    return _moved(channel, _CHANNEL_EVIDENCE, _CHANNEL_MOMENTS, jump)


def _moved(
    subject: Subject, evidence: tuple[str, ...], moments: tuple[str, ...], jump: int
) -> Subject:
    names = evidence if jump > 0 else evidence + moments
    return replace(
        subject,
        **{name: max(0, at + jump) for name in names if (at := getattr(subject, name)) is not None},
    )


def account_as_left(account: Account, now: int) -> Account:
    """An account as another process left it, whose clock may have been ahead."""
    known: dict[str, Any] = {
        name: min(at, now)
        for name in ("trouble_since", "refused_since", "silent_since", "missing_since")
        if (at := getattr(account, name)) is not None
    }
    for name in ("good_at", "probed_at"):
        at = getattr(account, name)
        known[name] = None if at is None or at > now else at
    return replace(account, **known)


def batch_by_clock(batch: Batch, now: int, steady_since: int) -> Batch:
    """A batch whose doubts are counted from no earlier than the clock's last jump.

    What lies ahead was written by a clock that has been set back since, and is taken for now:
    the looks after an end that is still to come would never be over.
    """
    known: dict[str, Any] = {}
    for name in ("missing_since", "results_awaited_since"):
        at = getattr(batch, name)
        if at is not None and not steady_since <= at <= now:
            known[name] = min(max(at, steady_since), now)
    if batch.end_seen_at is not None and batch.end_seen_at > now:
        known["end_seen_at"] = now
    return replace(batch, **known) if known else batch
