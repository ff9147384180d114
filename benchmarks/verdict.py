"""Compares what channels were sent with what the provider did and what the state says of it.

Reading a state apart, all of it is a comparison of values: nothing here runs, sends or waits.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
from recording import Answer, Receipt

# What a message calls the end of a batch, and the provider's word for it.
ENDS = {
    "DONE": "completed",
    "PARTIAL": "completed",
    "EMPTY": "completed",
    "FAILED": "failed",
    "EXPIRED": "expired",
    "CANCELLED": "cancelled",
    "LOST": "lost",
}
TERMINAL = frozenset(ENDS.values())


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as the state has it; `status` is its type without the subject's kind."""

    seq: int
    id: str
    status: str
    # By channel.
    deliveries: Mapping[str, str] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        """Whose event it is: the key of a batch, for one."""
        return self.id.rpartition("@")[0]

    @property
    def revision(self) -> int:
        """Its number among the events of its subject."""
        return int(self.id.rpartition("@")[2])


@dataclass(frozen=True, slots=True)
class Autopsy:
    """What a process left behind; `fresh` are the events since the autopsy before."""

    life: int
    # False: it was asked to stop, and did.
    killed: bool
    fresh: tuple[tuple[int, str], ...] = ()
    # Events and channels not yet told.
    pending: frozenset[tuple[str, str]] = frozenset()
    # Keys, and whether they are watched.
    batches: Mapping[str, bool] = field(default_factory=dict)
    # When the next look may be made, in milliseconds since the epoch.
    due_at: int | None = None

    @property
    def last_seq(self) -> int:
        """The position of the newest event, if any is fresh."""
        return max((seq for seq, _ in self.fresh), default=0)


@dataclass(frozen=True, slots=True)
class Expected:
    """A watched batch: how it ended, and the revision after which it must have been told."""

    status: str
    after: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is to be compared; `removed` has the last revision that each may have."""

    receipts: Mapping[str, Sequence[Receipt]]
    autopsies: Sequence[Autopsy]
    entries: Sequence[Entry]
    expected: Mapping[str, Expected]
    removed: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Verdict:
    """What was found, in sentences; `in_flight` and `not_taken` are duplicates with a reason."""

    missing: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    disorder: list[str] = field(default_factory=list)
    namings: int = 0
    in_flight: int = 0
    not_taken: int = 0
    summarised: int = 0

    @property
    def faults(self) -> list[str]:
        """Everything that should not be."""
        return [*self.missing, *self.unexplained, *self.unknown, *self.disorder]


def judge(evidence: Evidence) -> Verdict:
    """Compare; a state that keeps the promise gives a verdict without faults."""
    verdict = Verdict()
    for channel, receipts in evidence.receipts.items():
        verdict.namings += sum(len(one.named) for one in receipts)
        verdict.unknown += _unknown(channel, receipts, evidence)
        _count_duplicates(channel, receipts, evidence, verdict)
        verdict.missing += _missing(channel, receipts, evidence, verdict)
        verdict.disorder += _disorder_of_channel(channel, receipts, evidence)
    verdict.disorder += _disorder_of_events(evidence)
    verdict.disorder += _told_after_removal(evidence)
    return verdict


def _unknown(channel: str, receipts: Sequence[Receipt], evidence: Evidence) -> Iterator[str]:
    """Messages about what the state does not know, or did not know by then."""
    entries = {entry.id: entry for entry in evidence.entries}
    written_by = _last_seqs(evidence.autopsies)
    for receipt in receipts:
        for named in receipt.named:
            entry = entries.get(named.event)
            if entry is None:
                yield f"{channel} was told of {named.event}, which no state knows"
            elif entry.seq > written_by.get(receipt.life, entry.seq):
                yield f"{channel} was told of {named.event} before it was written down"
            elif ENDS.get(named.word, entry.status) != entry.status:
                yield f"{channel} was told {named.word} of {named.event}, which is {entry.status}"


def _last_seqs(autopsies: Sequence[Autopsy]) -> dict[int, int]:
    """The newest event each process can have known."""
    last, found = 0, {}
    for autopsy in autopsies:
        last = max(last, autopsy.last_seq)
        found[autopsy.life] = last
    return found


def _count_duplicates(
    channel: str, receipts: Sequence[Receipt], evidence: Evidence, verdict: Verdict
) -> None:
    """A message may come twice if it was not taken, or was in flight when its sender was killed."""
    autopsies = {autopsy.life: autopsy for autopsy in evidence.autopsies}
    last_of_life = {receipt.life: number for number, receipt in enumerate(receipts)}
    earlier: dict[str, int] = {}
    for number, receipt in enumerate(receipts):
        for event in dict.fromkeys(named.event for named in receipt.named):
            before = earlier.get(event)
            earlier[event] = number
            if before is None:
                continue
            first = receipts[before]
            between = [autopsies.get(life) for life in range(first.life, receipt.life)]
            still_pending = all(one and (event, channel) in one.pending for one in between)
            killed = bool(between) and between[0] is not None and between[0].killed
            if first.answer is not Answer.TAKEN:
                verdict.not_taken += 1
            elif killed and still_pending and last_of_life[first.life] == before:
                verdict.in_flight += 1
            else:
                where = f"processes {first.life} and {receipt.life}"
                verdict.unexplained.append(f"{channel} was told {event} twice: {where}")


def _missing(
    channel: str, receipts: Sequence[Receipt], evidence: Evidence, verdict: Verdict
) -> Iterator[str]:
    """What the channel was to be told, by the state and by the provider, and was not."""
    taken = [one for one in receipts if one.answer is Answer.TAKEN]
    named = {each.event for one in taken for each in one.named}
    summarised = sum(one.summarised for one in taken)
    verdict.summarised += summarised
    unnamed = []
    ends: dict[str, Entry] = {}
    for entry in evidence.entries:
        if entry.status in TERMINAL:
            ends[entry.subject] = entry
        state = entry.deliveries.get(channel)
        if state not in {None, "delivered"}:
            yield f"{channel} was never told {entry.id}: its delivery is {state}"
        elif state == "delivered" and entry.id not in named:
            unnamed.append(entry.id)
    if len(unnamed) > summarised:
        for event in unnamed:
            yield f"{channel} was never told {event}, and the state says it was"
    for key, expected in evidence.expected.items():
        end = ends.get(key)
        if end is None or end.revision <= expected.after:
            yield f"{channel} was never told the end of {key}: {expected.status}"
        elif end.status != expected.status:
            yield f"{channel} was told {end.id} {end.status}, and it is {expected.status}"
        elif channel not in end.deliveries:
            yield f"{channel} was never to be told {end.id}"


def _disorder_of_channel(
    channel: str, receipts: Sequence[Receipt], evidence: Evidence
) -> Iterator[str]:
    """Batches' events are told in the order in which they were written down."""
    seqs = {one.id: one.seq for one in evidence.entries if "/" in one.id}
    seen: set[str] = set()
    newest = 0
    for receipt in receipts:
        for named in receipt.named:
            if named.event in seen or named.event not in seqs:
                continue
            seen.add(named.event)
            if seqs[named.event] < newest:
                yield f"{channel} was told {named.event} after what came later"
            newest = max(newest, seqs[named.event])


def _disorder_of_events(evidence: Evidence) -> Iterator[str]:
    """No event is lost, renumbered or slipped in, and each subject counts without a gap."""
    kept: dict[int, str] = {}
    for autopsy in evidence.autopsies:
        kept |= dict(autopsy.fresh)
    final = {entry.seq: entry.id for entry in evidence.entries}
    for seq in sorted(kept.keys() | final.keys()):
        if kept.get(seq) != final.get(seq):
            yield f"event {seq} was {kept.get(seq)} and is {final.get(seq)}"
    revisions: dict[str, list[int]] = defaultdict(list)
    for entry in sorted(evidence.entries, key=lambda entry: entry.seq):
        revisions[entry.subject].append(entry.revision)
    for subject, found in revisions.items():
        if found != list(range(1, len(found) + 1)):
            yield f"{subject} has the revisions {found}"


def _told_after_removal(evidence: Evidence) -> Iterator[str]:
    for entry in evidence.entries:
        if entry.revision > evidence.removed.get(entry.subject, entry.revision):
            yield f"{entry.id} was written down after {entry.subject} was removed"


# The state, read while no daemon runs, or beside one.


def _rows(path: Path, *queries: str) -> list[list[tuple[Any, ...]]]:
    """The answers to some queries at one moment; empty where nothing was written yet."""
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    except apsw.CantOpenError:
        return [[] for _ in queries]
    try:
        connection.set_busy_timeout(10_000)
        connection.execute("BEGIN")
        tables = connection.execute("SELECT name FROM sqlite_master WHERE name = 'events'")
        if not tables.fetchall():
            return [[] for _ in queries]
        return [connection.execute(query).fetchall() for query in queries]
    finally:
        connection.close()


def examine(path: Path, life: int, *, killed: bool, after: int) -> Autopsy:
    """What a process that has ended left in its state; `after` is the last seq known before."""
    events, pending, batches, due, accounts = _rows(
        path,
        f"SELECT seq, id FROM events WHERE seq > {after:d}",  # noqa: S608 - a number of our own
        "SELECT id, channel FROM deliveries JOIN events ON events.seq = deliveries.seq "
        "WHERE deliveries.state = 'pending'",
        "SELECT account || '/' || id, removed_at IS NULL FROM batches",
        "SELECT MIN(due_at) FROM batches WHERE due_at IS NOT NULL AND removed_at IS NULL",
        "SELECT state FROM accounts",
    )
    due_at = due[0][0] if due else None
    if due_at is not None:
        # An account that was asked to wait, or is in doubt, is not looked at earlier.
        states = [json.loads(text) for (text,) in accounts]
        names = ("paused_until", "probe_due_at")
        due_at = max(due_at, *(one.get(name) or 0 for one in states for name in names))
    return Autopsy(
        life,
        killed,
        tuple((int(seq), str(id_)) for seq, id_ in events),
        frozenset((str(id_), str(channel)) for id_, channel in pending),
        {str(key): bool(watched) for key, watched in batches},
        due_at,
    )


def read_entries(path: Path) -> list[Entry]:
    """Every event with its deliveries, in order."""
    events, deliveries = _rows(
        path,
        "SELECT seq, id, type FROM events ORDER BY seq",
        "SELECT seq, channel, state FROM deliveries",
    )
    states: dict[int, dict[str, str]] = defaultdict(dict)
    for seq, channel, state in deliveries:
        states[seq][channel] = state
    return [
        Entry(seq, id_, type_.partition(".")[2], states.get(seq, {})) for seq, id_, type_ in events
    ]


def revision_of(path: Path, key: str) -> int:
    """How many events a batch has had."""
    account, _, id_ = key.partition("/")
    ((row,),) = _rows(
        path,
        "SELECT revision FROM batches WHERE "  # noqa: S608 - names that the simulator made
        f"account = '{account}' AND id = '{id_}'",
    )
    return int(row[0])


def complaints(path: Path) -> list[str]:
    """What SQLite finds wrong with the file; empty if it is sound."""
    (rows,) = _rows(path, "PRAGMA integrity_check")
    said = [str(row[0]) for row in rows]
    return [] if said == ["ok"] else said or ["there is no state"]
