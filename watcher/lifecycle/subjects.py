"""What answers and failures mean for an account or a channel, whose trouble is told once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from watcher.lifecycle.severity import severity_of
from watcher.model import Account, Channel, Event, EventType

SECOND = 1_000
MINUTE = 60 * SECOND

REFUSALS_TO_TELL = 3
REFUSED_FOR = 2 * MINUTE
CHANNEL_FAILING_AFTER = 15 * MINUTE
# Between two probes of an account in doubt.
PROBE_INTERVAL = MINUTE
# Why an account is not reached though something answers.
ALL_MISSING = "every request is answered 404: wrong base URL, or no access to batches?"
NONE_LISTED = (
    "every batch is answered 404, and the list is empty: another project's key, a wrong base URL, "
    "or were they deleted?"
)
OTHERS_LISTED = (
    "every batch is answered 404, and the list shows only others: another project's key, a wrong "
    "base URL, or were they deleted?"
)
LISTED = "batches are answered 404 that the account's list shows: a proxy or a wrong base URL?"
# The subject of a refusal given to the account's list, which no batch's id can be.
LIST = "/"


@dataclass(frozen=True, slots=True)
class AccountStep:
    """An account after an answer, or after none."""

    account: Account
    event: Event | None = None


@dataclass(frozen=True, slots=True)
class ChannelStep:
    """A channel after a try to send."""

    channel: Channel
    event: Event | None = None


def answered(account: Account, now: int) -> AccountStep:
    """An account answered as it should: every doubt about it is over."""
    well = replace(
        account,
        refused=(),
        refused_since=None,
        silent_since=None,
        missing_since=None,
        limited=0,
        paused_until=None if _passed(account.paused_until, now) else account.paused_until,
        pause_reason=None if _passed(account.paused_until, now) else account.pause_reason,
        probe_due_at=None,
        good_at=now,
    )
    if account.trouble is None:
        return AccountStep(well)
    since = min(account.trouble_since or now, now)
    well = replace(well, trouble=None, trouble_since=None, trouble_reason=None)
    return _tell_account(
        well,
        EventType.ACCOUNT_RECOVERED,
        now,
        f"{account.trouble} for {(now - since) // MINUTE} minutes; it answers again",
    )


def heard(account: Account) -> Account:
    """An account answered, though not as it should: it is not silent."""
    return replace(account, silent_since=None)


def lately_well(account: Account, now: int) -> bool:
    """Whether an account has answered as it should within the last minute."""
    return account.good_at is not None and now - account.good_at < PROBE_INTERVAL


def suspect(account: Account, now: int) -> Account:
    """Something needs the account's own word: a probe goes out, at most one a minute."""
    if account.probe_due_at is not None:
        return account
    earliest = now if account.probed_at is None else account.probed_at + PROBE_INTERVAL
    return replace(account, probe_due_at=max(now, earliest))


def refused(account: Account, subject: str, error: str, now: int) -> AccountStep:
    """The account's probe was refused (401, 403); `subject` is a batch's id or `LIST`."""
    account = heard(account)
    since = account.refused_since if account.refused_since is not None else now
    # Only as many as are needed are kept.
    subjects = (*account.refused, subject)[-REFUSALS_TO_TELL:]
    account = replace(
        account,
        refused=subjects,
        refused_since=since,
        probe_due_at=now + PROBE_INTERVAL,
    )
    enough = len(subjects) >= REFUSALS_TO_TELL and now - since >= REFUSED_FOR
    confirmed = LIST in subjects or len(set(subjects)) >= REFUSALS_TO_TELL
    if account.trouble == "unauthorized" or not (enough and confirmed):
        return AccountStep(account)
    return _trouble(account, "unauthorized", EventType.ACCOUNT_UNAUTHORIZED, error, now)


def silent(account: Account, error: str, now: int, *, unreachable_after: int) -> AccountStep:
    """A request of the account brought no answer: network, time-out, 5xx."""
    since = account.silent_since if account.silent_since is not None else now
    account = replace(account, silent_since=since)
    return _unreached(account, error, now, long_enough=now - since >= unreachable_after)


def all_missing(
    account: Account, now: int, *, unreachable_after: int, reason: str = ALL_MISSING
) -> AccountStep:
    """The account's probe is answered, and the answer is of no use: it is not the batches."""
    account = heard(account)
    since = account.missing_since if account.missing_since is not None else now
    account = replace(account, missing_since=since)
    return _unreached(account, reason, now, long_enough=now - since >= unreachable_after)


def _unreached(account: Account, reason: str, now: int, *, long_enough: bool) -> AccountStep:
    """Tell that the account is unreachable, once it has been for long enough."""
    told = account.trouble is None and long_enough
    if account.suspected or told:
        account = replace(account, probe_due_at=now + PROBE_INTERVAL)
    if not told:
        return AccountStep(account)
    return _trouble(account, "unreachable", EventType.ACCOUNT_UNREACHABLE, reason, now)


def limited(account: Account, now: int, pause: int, reason: str) -> Account:
    """The account was asked to slow down (429): all its looks wait `pause` milliseconds."""
    return replace(
        heard(account),
        limited=limited_next(account, now),
        paused_until=max(account.paused_until or 0, now + pause),
        pause_reason=reason,
        probe_due_at=None if account.probe_due_at is None else now + pause,
    )


def limited_next(account: Account, now: int) -> int:
    """Which answer 429 in a row the next one is; all those of one burst are one."""
    return account.limited + int(_passed(account.paused_until, now) or not account.limited)


def listless(account: Account, now: int) -> Account:
    """The account's list does not exist, but something answered: it is not the account's 404."""
    return replace(heard(account), good_at=now)


def _passed(at: int | None, now: int) -> bool:
    return at is None or at <= now


def _trouble(
    account: Account, trouble: str, event_type: EventType, reason: str, now: int
) -> AccountStep:
    troubled = replace(account, trouble=trouble, trouble_since=now, trouble_reason=reason)
    return _tell_account(troubled, event_type, now, reason)


def _tell_account(account: Account, event_type: EventType, now: int, reason: str) -> AccountStep:
    told = replace(account, revision=account.revision + 1)
    subject: dict[str, Any] = {"account": told.name}
    event = _subject_event(f"account:{told.name}@{told.revision}", event_type, now, reason, subject)
    return AccountStep(told, event)


def delivered(channel: Channel, now: int) -> ChannelStep:
    """A channel took a message."""
    well = replace(
        channel,
        failing_since=None,
        failures=0,
        last_error=None,
        next_try_at=None,
        last_message_at=now,
        message_size=None,
        trouble=False,
    )
    if not channel.trouble:
        return ChannelStep(well)
    since = min(channel.failing_since or now, now)
    reason = f"failing for {(now - since) // MINUTE} minutes; it takes messages again"
    return _tell_channel(well, EventType.CHANNEL_RECOVERED, now, reason)


def undelivered(
    channel: Channel, error: str, now: int, *, next_try_at: int, message_size: int | None
) -> ChannelStep:
    """A channel did not take a message; `message_size` bounds the next, None leaves it free."""
    # A time ahead is from before a clock was set back.
    since = now if channel.failing_since is None else min(channel.failing_since, now)
    failing = replace(
        channel,
        failing_since=since,
        failures=channel.failures + 1,
        last_error=error,
        next_try_at=next_try_at,
        message_size=message_size,
    )
    if channel.trouble or now - since < CHANNEL_FAILING_AFTER:
        return ChannelStep(failing)
    return _tell_channel(replace(failing, trouble=True), EventType.CHANNEL_FAILING, now, error)


def _tell_channel(channel: Channel, event_type: EventType, now: int, reason: str) -> ChannelStep:
    told = replace(channel, revision=channel.revision + 1)
    subject: dict[str, Any] = {"channel": told.name}
    event = _subject_event(f"channel:{told.name}@{told.revision}", event_type, now, reason, subject)
    return ChannelStep(told, event)


def _subject_event(
    identity: str, event_type: EventType, now: int, reason: str, subject: dict[str, Any]
) -> Event:
    return Event(
        id=identity,
        type=event_type,
        severity=severity_of(event_type, None, None),
        detected_at=now,
        reason=reason,
        **subject,
    )
