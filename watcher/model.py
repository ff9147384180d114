"""The nouns every room shares: what a batch, an event, a delivery and a message are.

Values only: no clock, no input, no output. Every time is an integer of milliseconds since the
epoch, UTC; None means "not known" and never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

# The bound of an id, of a name and of one text taken from a provider, in characters.
ID_LENGTH = 480
TEXT_LENGTH = 2_000
# How long `completed` without its result file is not yet believed, in milliseconds: OpenAI has
# been seen to say completed one look before the file appears.
RESULTS_AWAITED = 60_000
# More problems than this are counted, not kept: OpenAI itself stops its list at 20.
PROBLEMS_KEPT = 20


class Status(StrEnum):
    """Where a batch stands, in our words; `UNKNOWN` is a word of the provider we do not know."""

    VALIDATING = "validating"
    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    LOST = "lost"

    @property
    def terminal(self) -> bool:
        """Whether nothing more is expected of a batch that stands here."""
        return self in TERMINAL


TERMINAL = frozenset(
    {Status.COMPLETED, Status.FAILED, Status.EXPIRED, Status.CANCELLED, Status.LOST}
)


class Outcome(StrEnum):
    """What a batch that ended brought: all results, some, or none."""

    OK = "ok"
    PARTIAL = "partial"
    EMPTY = "empty"


class Severity(StrEnum):
    """How loud an event is; `rank` orders them for a route's "at least"."""

    INFO = "info"
    SUCCESS = "success"
    WARNING = "warning"
    FAILURE = "failure"

    @property
    def rank(self) -> int:
        """0 for info to 3 for failure."""
        return list(Severity).index(self)


class EventType(StrEnum):
    """Every type of event; the batch types are `batch.` and the status."""

    VALIDATING = "batch.validating"
    QUEUED = "batch.queued"
    IN_PROGRESS = "batch.in_progress"
    FINALIZING = "batch.finalizing"
    CANCELLING = "batch.cancelling"
    COMPLETED = "batch.completed"
    FAILED = "batch.failed"
    EXPIRED = "batch.expired"
    CANCELLED = "batch.cancelled"
    LOST = "batch.lost"
    REOPENED = "batch.reopened"
    UNKNOWN = "batch.unknown"
    ACCOUNT_UNAUTHORIZED = "account.unauthorized"
    ACCOUNT_UNREACHABLE = "account.unreachable"
    ACCOUNT_RECOVERED = "account.recovered"
    CHANNEL_FAILING = "channel.failing"
    CHANNEL_RECOVERED = "channel.recovered"


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests of a batch by their fate. A count the provider does not give is None, never 0."""

    total: int | None = None
    completed: int | None = None
    failed: int | None = None
    expired: int | None = None
    cancelled: int | None = None

    @property
    def progress(self) -> float | None:
        """The share of requests that are done, well or not, from 0.0 to 1.0; None if not told."""
        if not self.total or self.completed is None:
            return None
        return min(1.0, (self.completed + (self.failed or 0)) / self.total)


@dataclass(frozen=True, slots=True)
class Results:
    """Ids of the provider's files that hold results and errors."""

    output: str | None = None
    errors: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason a provider gave for a failure; `line` counts the input file's lines from 1."""

    code: str | None = None
    message: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """What one look at a batch said, in our words: valid Unicode, 63-bit integers, bounded."""

    id: str | None
    status: Status
    raw_status: str | None
    counts: Counts = field(default_factory=Counts)
    name: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    created_at: int | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    cancelling_at: int | None = None
    ended_at: int | None = None
    expires_at: int | None = None
    results: Results = field(default_factory=Results)
    problems: tuple[Problem, ...] = ()
    problem_total: int = 0


@dataclass(frozen=True, slots=True)
class Registration:
    """What the user said of a batch; only a registration changes it, never a look."""

    name: str | None = None
    tags: tuple[str, ...] = ()
    group: str | None = None
    channels: tuple[str, ...] = ()
    registered_by: str | None = None
    registered_at: int = 0
    # True: a batch that has already ended when first seen is recorded, not told.
    quiet_if_ended: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """One job at a provider as we know it; the key is `account/id`.

    `revision` rises by one per event and by nothing else. `edition` rises with each change of
    the registration, so that a look that began before the change is not recorded over it.
    """

    account: str
    id: str
    provider: str
    registration: Registration = field(default_factory=Registration)
    revision: int = 0
    edition: int = 0
    # None until it has been seen once.
    status: Status | None = None
    raw_status: str | None = None
    outcome: Outcome | None = None
    counts: Counts = field(default_factory=Counts)
    provider_name: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    created_at: int | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    cancelling_at: int | None = None
    ended_at: int | None = None
    expires_at: int | None = None
    results: Results = field(default_factory=Results)
    problems: tuple[Problem, ...] = ()
    problem_total: int = 0
    # Why it is lost, in one line; else None.
    reason: str | None = None
    last_look_at: int | None = None
    next_look_at: int | None = None
    looks: int = 0
    # Failed looks in a row, and what the last of them said.
    failures: int = 0
    last_error: str | None = None
    # Since when, and for how many looks in a row, the provider has answered 404.
    missing_since: int | None = None
    missing_looks: int = 0
    # Since when the provider says completed while its result file is still to come.
    results_awaited_since: int | None = None
    # When we saw it end; the looks after the end count from here.
    end_seen_at: int | None = None
    removed_at: int | None = None

    @property
    def key(self) -> str:
        """`account/id`; a key splits at its first slash."""
        return f"{self.account}/{self.id}"

    @property
    def name(self) -> str | None:
        """What the user called it, else what the provider calls it."""
        return self.registration.name or self.provider_name

    @property
    def ended(self) -> bool:
        """Whether its status is terminal."""
        return self.status is not None and self.status.terminal


@dataclass(frozen=True, slots=True)
class Account:
    """What we remember of an account between looks: its pauses and its trouble."""

    name: str
    provider: str
    revision: int = 0
    # `unauthorized` or `unreachable`, once told; None when well.
    trouble: str | None = None
    trouble_since: int | None = None
    trouble_reason: str | None = None
    # Refusals (401, 403) in a row, whom they were given to, and since when.
    refused: tuple[str, ...] = ()
    refused_since: int | None = None
    # Since when no request has been answered at all.
    silent_since: int | None = None
    # Since when every answer has been 404.
    missing_since: int | None = None
    # When the account last answered a request as it should.
    good_at: int | None = None
    paused_until: int | None = None
    pause_reason: str | None = None
    # Answers 429 in a row.
    limited: int = 0
    probe_due_at: int | None = None
    probed_at: int | None = None
    # Unknown status words already told to the operators.
    words: tuple[str, ...] = ()

    @property
    def suspected(self) -> bool:
        """Whether its looks are held back and only probes go out."""
        return self.trouble is not None or bool(self.refused)


@dataclass(frozen=True, slots=True)
class Channel:
    """What we remember of a channel between sends."""

    name: str
    revision: int = 0
    # Whether `channel.failing` has been told and no recovery since.
    trouble: bool = False
    failing_since: int | None = None
    failures: int = 0
    last_error: str | None = None
    next_try_at: int | None = None
    last_message_at: int | None = None
    # The most events the next message may name; halved by each refusal, None for no limit.
    message_size: int | None = None
    # The daemon's uptime when the channel was first found missing from the configuration.
    absent_since: int | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that changed; immutable. Its subject is a batch, an account or a channel.

    `batch` is the batch as it was then. `reason` says why, for lost batches and for the trouble
    of accounts and channels. `seq` orders all events of a state and is 0 until recorded.
    """

    id: str
    type: EventType
    severity: Severity
    detected_at: int
    occurred_at: int | None = None
    account: str | None = None
    channel: str | None = None
    previous_status: Status | None = None
    batch: Batch | None = None
    reason: str | None = None
    seq: int = 0

    @property
    def lag(self) -> int | None:
        """Milliseconds from the provider's change to our seeing it; None if it gave no time."""
        return None if self.occurred_at is None else max(0, self.detected_at - self.occurred_at)


class DeliveryState(StrEnum):
    """Where a delivery stands; `pending` is the only one that moves by itself."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    DROPPED = "dropped"


class TryOutcome(StrEnum):
    """What became of one attempt to send; `unknown`: no answer came in time."""

    DELIVERED = "delivered"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt to send a message that named the event."""

    at: int
    outcome: TryOutcome
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one channel, from written down to settled."""

    seq: int
    event_id: str
    channel: str
    state: DeliveryState
    # Why the channel was chosen while pending; why it ended when dead or dropped.
    reason: str | None = None
    tries: tuple[Try, ...] = ()
    next_try_at: int | None = None
    settled_at: int | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether a channel was to get an event, and why."""

    channel: str
    taken: bool
    why: str


@dataclass(frozen=True, slots=True)
class Message:
    """What a channel is asked to send: plain text, already short enough for its service."""

    title: str
    body: str
    severity: Severity


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request to a provider; `most_bytes` bounds its answer after decompression."""

    method: str
    # Neither is shown: some hold a credential.
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    most_bytes: int = 4 * 1024 * 1024
