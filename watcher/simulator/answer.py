"""What goes over the simulated wire: a call that came in, the answer to it, and the log of both."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

# Older entries of a log are forgotten; the counters are not.
ENTRIES_KEPT = 10_000
_CHUNK = 64 * 1024


class Wire(StrEnum):
    """The APIs that are acted out; `openai` stands for everything shaped like it too."""

    OPENAI = "openai"
    CEREBRAS = "cerebras"
    COHERE = "cohere"


class Kind(StrEnum):
    """What a call is for; `other` is a URL or a method the API does not have."""

    RETRIEVE = "retrieve"
    LIST = "list"
    CREATE = "create"
    CANCEL = "cancel"
    OTHER = "other"


class Manner(StrEnum):
    """How an answer travels."""

    WHOLE = "whole"
    # Whole, after `pause` seconds.
    LATE = "late"
    # Never, though the connection stays open.
    SILENT = "silent"
    # The head at once, then one byte every `pause` seconds.
    DRIP = "drip"
    # The connection is reset before a byte is sent.
    RESET = "reset"
    # The connection ends in the middle of the body.
    TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True)
class Call:
    """One request, understood; `at` is the simulation's time in milliseconds."""

    at: int
    wire: Wire
    kind: Kind
    id: str | None
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    # Who says to be asking, without a version.
    agent: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer; `padding` spaces travel before the body and are never in memory at once."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
    manner: Manner = Manner.WHOLE
    padding: int = 0
    pause: float = 1.0

    @property
    def length(self) -> int:
        """Bytes of the whole body, padding and all."""
        return self.padding + len(self.body)

    def with_header(self, name: str, value: str) -> Answer:
        """The same answer with this header set; `name` in lower case."""
        others = tuple(header for header in self.headers if header[0] != name)
        return replace(self, headers=(*others, (name, value)))

    def chunks(self) -> Iterator[bytes]:
        """The body in pieces of bounded size."""
        for start in range(0, self.padding, _CHUNK):
            yield b" " * min(_CHUNK, self.padding - start)
        for start in range(0, len(self.body), _CHUNK):
            yield self.body[start : start + _CHUNK]


@dataclass(frozen=True, slots=True)
class Entry:
    """A call, the status of its answer, and the name of the fault that spoiled it."""

    call: Call
    status: int
    fault: str | None = None


class RequestLog:
    """Counts calls and remembers the latest; calls that a fault spoiled count too."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.clear()
        for entry in entries:
            self.record(entry)

    def clear(self) -> None:
        """Forget everything."""
        self.total = 0
        self.by_kind: Counter[Kind] = Counter()
        self.by_id: Counter[str] = Counter()
        self.by_status: Counter[int] = Counter()
        self.by_fault: Counter[str] = Counter()
        # By whom, what for, and in which minute since the epoch.
        self.by_minute: Counter[tuple[str, Kind, int]] = Counter()
        # When each first asked, in milliseconds.
        self.first_at: dict[str, int] = {}
        self.entries: deque[Entry] = deque(maxlen=ENTRIES_KEPT)

    def record(self, entry: Entry) -> None:
        """Count this one."""
        call = entry.call
        self.total += 1
        self.by_kind[call.kind] += 1
        self.by_minute[call.agent, call.kind, call.at // 60_000] += 1
        self.first_at.setdefault(call.agent, call.at)
        self.by_status[entry.status] += 1
        if call.id is not None:
            self.by_id[call.id] += 1
        if entry.fault is not None:
            self.by_fault[entry.fault] += 1
        self.entries.append(entry)
