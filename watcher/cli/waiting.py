"""What `wait` goes by: what is wanted, what is seen, and when it is over."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from watcher.cli.progress import Progress
from watcher.config import Settings
from watcher.lifecycle import NEVER_FOUND, NEVER_FOUND_LOOKS
from watcher.model import Account, Batch, Outcome, Status
from watcher.redaction import Redactor

OK, UNUSABLE, CREDENTIAL, NO_SUCH_BATCH, UNREACHABLE = 0, 2, 3, 4, 5
FAILED, TIMEOUT, PARTIAL = 6, 7, 8
FIRST_ANSWER_WITHIN = 60.0
# As often is one batch refused, while its account is well, until it is not ours to see.
REFUSALS = 3
READ_EVERY = 0.25
# Reading ten thousand batches takes a while; it shall not take all the time there is.
READ_SHARE = 5.0
# What messages may take at the end before they are given up.
NOTIFY_WITHIN = 60.0


@dataclass(frozen=True, slots=True)
class End:
    """How the waiting ended; `verdict` is None when the batches' own ends decide."""

    batches: Sequence[Batch]
    verdict: int | None = None
    notes: tuple[str, ...] = ()

    def code(self, *, allow_partial: bool) -> int:
        """The exit code."""
        if self.verdict is not None:
            return self.verdict
        ended = [batch for batch in self.batches if batch.ended]
        if any(has_failed(batch) for batch in ended):
            return FAILED
        if any(batch.outcome is Outcome.PARTIAL for batch in ended) and not allow_partial:
            return PARTIAL
        return OK


def has_failed(batch: Batch) -> bool:
    """Whether it ended without the results that were hoped for."""
    if batch.status in {Status.FAILED, Status.CANCELLED, Status.LOST}:
        return True
    if batch.status is Status.EXPIRED:
        return batch.outcome is not Outcome.PARTIAL and batch.outcome is not Outcome.OK
    return batch.outcome is Outcome.EMPTY


@dataclass(frozen=True, slots=True)
class View:
    """What is known at one moment of all that is waited for."""

    batches: Sequence[Batch]
    accounts: Mapping[str, Account]
    # Accounts that cannot be used, and why.
    disabled: Mapping[str, str] = field(default_factory=dict)
    # Keys that nobody watches any more.
    gone: tuple[str, ...] = ()


@dataclass(slots=True)
class Waiting:
    """One call of `wait`."""

    settings: Settings
    # Accounts and ids.
    keys: Sequence[tuple[str, str]]
    any_: bool = False
    fail_fast: bool = False
    seconds: float | None = None
    # The name of a channel, or an Apprise URL, which is a secret.
    notify: str | None = field(default=None, repr=False)
    debug: bool = False
    # Ended batches, by key, that are not looked at any more.
    known: Mapping[str, Batch] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)
    redactor: Redactor = field(default_factory=Redactor)
    _began: float = field(default_factory=time.monotonic)

    @property
    def looked_at(self) -> list[tuple[str, str]]:
        """The keys of all that has to be looked at."""
        return [(name, id_) for name, id_ in self.keys if f"{name}/{id_}" not in self.known]

    def with_known(self, batches: Sequence[Batch]) -> list[Batch]:
        """These and what is known already, in the order of the keys."""
        there = {**self.known, **{batch.key: batch for batch in batches}}
        keys = (f"{account}/{id_}" for account, id_ in self.keys)
        return [there[key] for key in keys if key in there]

    def step(self, view: View) -> End | None:
        """Show what is seen, and say how it ended; None to go on."""
        self.progress.show(view.batches)
        return self.judge(view, time.monotonic() - self._began)

    def judge(self, view: View, elapsed: float) -> End | None:
        """Whether the waiting is over after so many seconds, and how; None to go on."""
        batches = view.batches
        ended = [batch for batch in batches if batch.ended]
        if self.fail_fast and any(has_failed(batch) for batch in ended):
            return End(batches)
        if len(ended) == len(self.keys) or (self.any_ and ended):
            unfound = [batch.key for batch in ended if batch.reason == NEVER_FOUND]
            if unfound:
                notes = tuple(f"{key}: {NEVER_FOUND}" for key in unfound)
                return End(batches, NO_SUCH_BATCH, notes)
            return End(batches)
        if view.gone:
            notes = tuple(f"{key}: was removed while it was waited for" for key in view.gone)
            return End(batches, NO_SUCH_BATCH, notes)
        for batch in batches:
            hopeless = _hopeless(view, batch, elapsed)
            if hopeless is not None:
                verdict, reason = hopeless
                return End(batches, verdict, (reason,))
        if self.seconds is not None and elapsed >= self.seconds:
            left = len(self.keys) - len(ended)
            return End(batches, TIMEOUT, (f"timed out: {left} of {len(self.keys)} not ended",))
        return None


def _hopeless(view: View, batch: Batch, elapsed: float) -> tuple[int, str] | None:
    """The verdict and why, where a batch can never be seen: wrong key, wrong id, no network."""
    if batch.ended:
        return None
    if reason := view.disabled.get(batch.account):
        return UNUSABLE, reason
    account = view.accounts.get(batch.account)
    error = batch.last_error or ""
    if account is not None and (account.refused or account.trouble == "unauthorized"):
        why = account.trouble_reason or error or "refused"
        return CREDENTIAL, f"account {batch.account}: credential rejected: {why}"
    if batch.status is not None:
        return None
    if batch.failures >= REFUSALS and error[:3] in {"401", "403"}:
        return CREDENTIAL, f"{batch.key}: the credential is not for this batch: {error}"
    if batch.missing_looks >= NEVER_FOUND_LOOKS:
        return NO_SUCH_BATCH, f"{batch.key}: {NEVER_FOUND}"
    silent = account is not None and account.silent_since is not None
    # The text of an answer 5xx begins with it, and an answer it is.
    if silent and error and not error[:3].isdigit() and elapsed >= FIRST_ANSWER_WITHIN:
        within = f"{FIRST_ANSWER_WITHIN:g} s"
        return UNREACHABLE, f"account {batch.account}: no answer within {within}: {error}"
    return None


def pause_after(took: float) -> float:
    """Seconds to the next reading of what is known, after one that took so long."""
    return max(READ_EVERY, took * READ_SHARE)
