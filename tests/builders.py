"""What the tests of the core start from: nouns with defaults, and a channel that is scripted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.fakes import START
from watcher.message import Style
from watcher.model import (
    Account,
    Batch,
    Choice,
    Counts,
    Event,
    EventType,
    Message,
    Observation,
    Outcome,
    Registration,
    Results,
    Severity,
    Status,
    TryOutcome,
)
from watcher.notify import Sent
from watcher.store.batches import Registering
from watcher.store.database import Transaction
from watcher.store.ledger import Ledger, Told
from watcher.store.schema import NEWEST, step_up

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

DELIVERED = Sent(TryOutcome.DELIVERED)
FAILED = Sent(TryOutcome.FAILED, "no connection")
REFUSED = Sent(TryOutcome.FAILED, "error=400", refused=True)
UNKNOWN = Sent(TryOutcome.UNKNOWN, "no answer within 660 s; it may have been delivered")


def registration(**said: Any) -> Registration:
    return Registration(**{"registered_at": START, **said})


def batch(status: Status | None = None, **known: Any) -> Batch:
    """A batch that stands there and has been told of, or one never seen."""
    given: dict[str, Any] = {
        "account": "openai",
        "id": "batch_1",
        "provider": "openai",
        "registration": registration(),
        "status": status,
        "revision": 0 if status is None else 1,
    }
    return Batch(**{**given, **known})


def ended(
    status: Status = Status.COMPLETED, outcome: Outcome | None = Outcome.OK, **known: Any
) -> Batch:
    """A batch that was seen to end at the START and looked at then."""
    given: dict[str, Any] = {"outcome": outcome, "end_seen_at": START, "last_look_at": START}
    return batch(status, **{**given, **known})


def seen(status: Status = Status.IN_PROGRESS, **said: Any) -> Observation:
    """What a look says."""
    given: dict[str, Any] = {"id": "batch_1", "raw_status": str(status), "created_at": START}
    return Observation(status=status, **{**given, **said})


def counts(total: int | None, completed: int | None = None, failed: int | None = None) -> Counts:
    return Counts(total=total, completed=completed, failed=failed)


def done(total: int = 9, completed: int = 9, **said: Any) -> Observation:
    """What a look at a batch that completed with a result file says."""
    given = {"counts": counts(total, completed, total - completed), "results": Results("file-1")}
    return seen(Status.COMPLETED, **{**given, **said})


def account(**known: Any) -> Account:
    return Account(**{"name": "openai", "provider": "openai", **known})


def event(
    type: EventType = EventType.COMPLETED,
    number: int = 1,
    *,
    about: Batch | None = None,
    **said: Any,
) -> Event:
    """An event of a batch, or of an account or a channel as its type says."""
    kind = type.split(".")[0]
    given: dict[str, Any] = {"severity": Severity.SUCCESS, "detected_at": START}
    if kind == "batch":
        subject = about or ended(Status.COMPLETED, id=f"batch_{number}")
        given |= {"id": f"{subject.key}@{subject.revision}", "batch": subject}
        given["account"] = subject.account
    else:
        name = said.get(kind) or "openai"
        given |= {"id": f"{kind}:{name}@{number}", kind: name}
    return Event(type=type, **{**given, **said})


def registering(id: str = "batch_1", account: str = "openai", **said: Any) -> Registering:
    return Registering(account, id, "openai", **said)


def told(event: Event, *channels: str) -> Told:
    """An event for these channels."""
    return Told(event, tuple(Choice(name, taken=True, why="a test") for name in channels))


def tell(event: Event, *channels: str, now: int = START) -> Callable[[Ledger], int]:
    """Writes an event down for these channels and returns its seq."""

    def work(ledger: Ledger) -> int:
        choices = told(event, *channels).choices
        seq = ledger.events.append(event, choices)
        ledger.outbox.enqueue(seq, choices, now)
        return seq

    return work


def create_tables(work: Transaction) -> None:
    """The newest schema in an empty database."""
    step_up(since=0, to=NEWEST, program="test")(work)


@dataclass(slots=True)
class ScriptedChannel:
    """A Notifier that keeps what it was asked to send and answers as it was told to."""

    script: list[Sent] = field(default_factory=list)
    # What it answers when the script is over.
    otherwise: Sent = DELIVERED
    messages: list[Message] = field(default_factory=list)
    answers: list[Sent] = field(default_factory=list)
    judge: Callable[[Message], Sent | None] | None = None
    style: Style = field(default_factory=Style)

    async def send(self, message: Message) -> Sent:
        self.messages.append(message)
        judged = self.judge(message) if self.judge else None
        sent = judged or (self.script.pop(0) if self.script else self.otherwise)
        self.answers.append(sent)
        return sent

    def close(self) -> None:
        pass

    @property
    def taken(self) -> list[Message]:
        """The messages it took."""
        return [
            message
            for message, sent in zip(self.messages, self.answers, strict=False)
            if sent.outcome is TryOutcome.DELIVERED
        ]

    def ids(self, messages: Iterable[Message] | None = None) -> list[str]:
        """The ids of the events that messages named, in order; all taken ones by default."""
        words = " ".join(one.body for one in (self.taken if messages is None else messages)).split()
        return [word for word in words if "@" in word]
