"""What an observation, or a failure to get one, means for a batch, an account, a channel.

Pure: takes what is known and `now`, returns what is known next and the event it makes, if any.
A revision rises by one with each event and with nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from watcher.model import (
    RESULTS_AWAITED,
    Account,
    Batch,
    Channel,
    Counts,
    Event,
    EventType,
    Observation,
    Outcome,
    Severity,
    Status,
)

SECOND = 1_000
MINUTE = 60 * SECOND

NEVER_FOUND_AFTER = 2 * MINUTE
NEVER_FOUND_LOOKS = 3
LOST_LOOKS = 5
NEVER_FOUND = "never found: wrong id, account, project or base URL?"
REFUSALS_TO_TELL = 3
REFUSED_FOR = 2 * MINUTE
CHANNEL_FAILING_AFTER = 15 * MINUTE
# Between two probes of an account in doubt.
PROBE_INTERVAL = MINUTE
# The subject of a refusal given to the account's list, which no batch's id can be.
LIST = "/"


@dataclass(frozen=True, slots=True)
class Step:
    """A batch after a look; `probe` asks the account for a sign of life before judging."""

    batch: Batch
    event: Event | None = None
    probe: bool = False


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


def outcome_of(status: Status, counts: Counts) -> Outcome | None:
    """What a terminal status brought, by the counts; None where they do not tell."""
    if status is Status.LOST:
        return None
    if not counts.total:
        by_status = {Status.FAILED: Outcome.EMPTY}
        if counts.total == 0:
            by_status[Status.CANCELLED] = Outcome.EMPTY
        return by_status.get(status)
    if counts.completed is None:
        return Outcome.EMPTY if status is Status.FAILED else None
    if counts.completed >= counts.total:
        return Outcome.OK
    return Outcome.PARTIAL if counts.completed else Outcome.EMPTY


def severity_of(event_type: EventType, status: Status | None, outcome: Outcome | None) -> Severity:
    """How loud an event is."""
    match event_type:
        case (
            EventType.ACCOUNT_UNAUTHORIZED
            | EventType.ACCOUNT_UNREACHABLE
            | EventType.CHANNEL_FAILING
        ):
            return Severity.FAILURE
        case EventType.ACCOUNT_RECOVERED | EventType.CHANNEL_RECOVERED:
            return Severity.SUCCESS
        case EventType.REOPENED | EventType.UNKNOWN:
            return Severity.WARNING
    if status is None or not status.terminal:
        return Severity.INFO
    return _severity_of_end(status, outcome)


def _severity_of_end(status: Status, outcome: Outcome | None) -> Severity:
    if outcome is Outcome.PARTIAL:
        return Severity.WARNING
    if status in {Status.FAILED, Status.LOST}:
        return Severity.FAILURE
    if outcome is Outcome.OK:
        return Severity.SUCCESS
    if status is Status.CANCELLED:
        return Severity.INFO
    if outcome is Outcome.EMPTY or status is Status.EXPIRED:
        return Severity.FAILURE
    return Severity.INFO


def advance(batch: Batch, observation: Observation, now: int) -> Step:
    """What one good look at a batch means."""
    seen = _seen(batch, observation, now)
    status = observation.status
    if batch.ended and batch.status is not Status.LOST and status is Status.UNKNOWN:
        # A new word for what has ended (archived, say) does not open it again.
        return Step(seen)
    if _results_are_late(batch, observation, now):
        waiting = replace(seen, results_awaited_since=batch.results_awaited_since or now)
        if waiting.status is None:
            waiting = replace(waiting, status=Status.FINALIZING)
        return Step(waiting)
    seen = replace(seen, results_awaited_since=None)
    outcome = outcome_of(status, seen.counts) if status.terminal else None
    event_type = _change(batch, observation, outcome)
    if event_type is None:
        return Step(seen)
    before = batch.status if batch.revision else None
    after = _entered(seen, batch, observation, outcome, now)
    return _tell(
        after, event_type, now, previous=before, occurred_at=_occurred(after, event_type, before)
    )


def missed(
    batch: Batch, error: str, now: int, *, lost_after: int, account_good_at: int | None
) -> Step:
    """What an answer 404 means: doubt, and in the end `lost`.

    A batch is only lost when its account has answered something else since the doubt began.
    """
    if batch.ended:
        # Providers delete what has ended; it is not lost, and there is nothing to retry.
        return Step(replace(batch, looks=batch.looks + 1, last_look_at=now))
    since = batch.missing_since if batch.missing_since is not None else now
    step = unanswered(batch, error, now)
    if step.event is not None:
        return step
    doubted = replace(step.batch, missing_since=since, missing_looks=batch.missing_looks + 1)
    never_seen = batch.status is None
    looks, patience = (
        (NEVER_FOUND_LOOKS, NEVER_FOUND_AFTER) if never_seen else (LOST_LOOKS, lost_after)
    )
    if doubted.missing_looks < looks or now - since < patience:
        return Step(doubted)
    if account_good_at is None or account_good_at < since:
        return Step(doubted, probe=True)
    reason = NEVER_FOUND if never_seen else _gone(doubted, now - since)
    lost = replace(
        doubted, status=Status.LOST, outcome=None, reason=reason, end_seen_at=now, failures=0
    )
    return _tell(lost, EventType.LOST, now, previous=batch.status if batch.revision else None)


def _gone(batch: Batch, missing_for: int) -> str:
    minutes = missing_for // MINUTE
    return f"answered 404 to {batch.missing_looks} looks in a row over {minutes} minutes"


def unanswered(batch: Batch, error: str, now: int) -> Step:
    """A look that brought no observation: the batch stays as it is and backs off.

    But an end that only awaited its result file is told once it has waited long enough.
    """
    failed = replace(
        batch,
        looks=batch.looks + 1,
        last_look_at=now,
        failures=batch.failures + 1,
        last_error=error,
    )
    since = batch.results_awaited_since
    if since is None or now - since < RESULTS_AWAITED:
        return Step(failed)
    ended = replace(
        failed,
        status=Status.COMPLETED,
        outcome=outcome_of(Status.COMPLETED, batch.counts),
        reason=None,
        end_seen_at=now,
        results_awaited_since=None,
    )
    before = batch.status if batch.revision else None
    return _tell(ended, EventType.COMPLETED, now, previous=before, occurred_at=ended.ended_at)


def _seen(batch: Batch, observation: Observation, now: int) -> Batch:
    """The batch with all that a look said, but its status and what follows from it.

    What was known stays where the answer is silent: some providers leave keys out at the end.
    """
    counts = observation.counts
    return replace(
        batch,
        raw_status=observation.raw_status,
        counts=counts if counts != Counts() else batch.counts,
        provider_name=observation.name or batch.provider_name,
        metadata=observation.metadata or batch.metadata,
        created_at=observation.created_at or batch.created_at,
        in_progress_at=observation.in_progress_at or batch.in_progress_at,
        finalizing_at=observation.finalizing_at or batch.finalizing_at,
        cancelling_at=observation.cancelling_at or batch.cancelling_at,
        ended_at=observation.ended_at or batch.ended_at,
        expires_at=observation.expires_at or batch.expires_at,
        results=observation.results,
        problems=observation.problems,
        problem_total=observation.problem_total,
        last_look_at=now,
        looks=batch.looks + 1,
        failures=0,
        last_error=None,
        missing_since=None,
        missing_looks=0,
    )


def _results_are_late(batch: Batch, observation: Observation, now: int) -> bool:
    if observation.status is not Status.COMPLETED or batch.status is Status.COMPLETED:
        return False
    if not observation.counts.completed or observation.results.output:
        return False
    since = batch.results_awaited_since
    return since is None or now - since < RESULTS_AWAITED


def _change(batch: Batch, observation: Observation, outcome: Outcome | None) -> EventType | None:
    status = observation.status
    if not batch.revision or batch.status is None:
        return EventType(f"batch.{status}")
    if batch.status is status:
        told_again = status.terminal and outcome is not batch.outcome
        other_word = status is Status.UNKNOWN and observation.raw_status != batch.raw_status
        return EventType(f"batch.{status}") if told_again or other_word else None
    if batch.ended and not status.terminal:
        return EventType.REOPENED
    return EventType(f"batch.{status}")


def _entered(
    seen: Batch, batch: Batch, observation: Observation, outcome: Outcome | None, now: int
) -> Batch:
    """The batch in its new status."""
    status = observation.status
    end_seen_at = None
    if status.terminal:
        same = batch.status is status and batch.end_seen_at is not None
        end_seen_at = batch.end_seen_at if same else now
    # A time of an end that has been undone is not the time of the next.
    keeps_end = status.terminal and (batch.status is status or not batch.ended)
    return replace(
        seen,
        status=status,
        outcome=outcome,
        reason=None,
        end_seen_at=end_seen_at,
        ended_at=seen.ended_at if keeps_end else observation.ended_at,
    )


def _occurred(batch: Batch, event_type: EventType, previous: Status | None) -> int | None:
    """The provider's own time for a change; none for what only shows later."""
    if previous is batch.status:
        return None
    match event_type:
        case EventType.VALIDATING | EventType.QUEUED:
            # A batch may begin in either; no provider says when it came there from elsewhere.
            return batch.created_at if previous is None else None
        case EventType.IN_PROGRESS:
            return batch.in_progress_at
        case EventType.FINALIZING:
            return batch.finalizing_at
        case EventType.CANCELLING:
            return batch.cancelling_at
        case EventType.REOPENED | EventType.UNKNOWN | EventType.LOST:
            return None
    return batch.ended_at


def _tell(
    batch: Batch,
    event_type: EventType,
    now: int,
    *,
    previous: Status | None,
    occurred_at: int | None = None,
) -> Step:
    told = replace(batch, revision=batch.revision + 1)
    event = Event(
        id=f"{told.key}@{told.revision}",
        type=event_type,
        severity=severity_of(event_type, told.status, told.outcome),
        detected_at=now,
        occurred_at=occurred_at,
        account=told.account,
        previous_status=previous,
        batch=told,
        reason=told.reason,
    )
    return Step(told, event)


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
    since = account.trouble_since or now
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
    if account.suspected:
        account = replace(account, probe_due_at=now + PROBE_INTERVAL)
    if account.trouble is not None or now - since < unreachable_after:
        return AccountStep(account)
    account = replace(account, probe_due_at=now + PROBE_INTERVAL)
    return _trouble(account, "unreachable", EventType.ACCOUNT_UNREACHABLE, error, now)


def all_missing(account: Account, now: int, *, unreachable_after: int) -> AccountStep:
    """The account's probe was answered 404 too: it is the account that is not found."""
    account = heard(account)
    since = account.missing_since if account.missing_since is not None else now
    account = replace(account, missing_since=since)
    if account.suspected:
        account = replace(account, probe_due_at=now + PROBE_INTERVAL)
    if account.trouble is not None or now - since < unreachable_after:
        return AccountStep(account)
    account = replace(account, probe_due_at=now + PROBE_INTERVAL)
    reason = "every request is answered 404: wrong base URL, or no access to batches?"
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
    since = channel.failing_since or now
    reason = f"failing for {(now - since) // MINUTE} minutes; it takes messages again"
    return _tell_channel(well, EventType.CHANNEL_RECOVERED, now, reason)


def undelivered(
    channel: Channel, error: str, now: int, *, next_try_at: int, message_size: int | None
) -> ChannelStep:
    """A channel did not take a message; `message_size` bounds the next, None leaves it free."""
    since = channel.failing_since if channel.failing_since is not None else now
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
