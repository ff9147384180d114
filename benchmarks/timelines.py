"""Real lives of batches, read from a file, and what a look at any moment of one would have said.

The file is CSV with the columns of data/timelines.csv: Unix seconds, empty where absent.
"""

from __future__ import annotations

import csv
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from watcher.model import Batch, Counts, Observation, Registration, Results, Status

SECOND = 1_000
DATA = Path(__file__).parent / "data" / "timelines.csv"
TIMES = (
    "created_at",
    "in_progress_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
    "expires_at",
)
ENDS = {
    "completed_at": Status.COMPLETED,
    "failed_at": Status.FAILED,
    "expired_at": Status.EXPIRED,
    "cancelled_at": Status.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class Timeline:
    """One batch's life: what its provider said from when on, in milliseconds, in order."""

    provider: str
    stages: tuple[tuple[int, Observation], ...]

    @property
    def created_at(self) -> int:
        """When it began."""
        return self.stages[0][0]

    @property
    def end(self) -> Observation | None:
        """What was said when it ended; None if it never did."""
        last = self.stages[-1][1]
        return last if last.status.terminal else None

    @property
    def ended_at(self) -> int:
        """When it ended; LookupError if it never did."""
        if self.end is None:
            raise LookupError("it never ended")
        return self.stages[-1][0]

    @property
    def cancelling_at(self) -> int | None:
        """Since when it was being cancelled."""
        return self.stages[-1][1].cancelling_at

    @property
    def ran_to_its_own_end(self) -> bool:
        """Whether it ended and nobody cancelled it."""
        return self.end is not None and self.end.status is not Status.CANCELLED

    def shown(self, now: int) -> Observation:
        """What a look at that moment says."""
        return self.stages[max(1, bisect_right(self.stages, now, key=lambda one: one[0])) - 1][1]


def unseen(timeline: Timeline, number: int) -> Batch:
    """The batch as it is registered in the moment it is made."""
    registration = Registration(registered_at=timeline.created_at)
    return Batch("replay", f"batch_{number}", timeline.provider, registration)


def read(path: Path) -> list[Timeline]:
    """Every row with a `created_at`; what else is missing or unknown is taken as not said."""
    with path.open(newline="", encoding="utf-8") as lines:
        return list(filter(None, map(_timeline, csv.DictReader(lines))))


def _timeline(row: Mapping[str, str | None]) -> Timeline | None:
    known = {name: _number(row.get(name)) for name in TIMES}
    at = {name: seconds * SECOND for name, seconds in known.items() if seconds is not None}
    if "created_at" not in at:
        return None
    return timeline(
        row.get("provider") or "openai",
        at,
        Counts(*(_number(row.get(name)) for name in ("total", "completed", "failed"))),
    )


def timeline(provider: str, at: Mapping[str, int], counts: Counts) -> Timeline:
    """A life from its times in milliseconds; `counts` are those of its end."""
    end = min((name for name in ENDS if name in at), key=lambda name: at[name], default=None)
    first = Status.VALIDATING
    if end == "completed_at" and "in_progress_at" not in at:
        # Some providers never say when they began.
        first = Status.IN_PROGRESS
    underway = Counts(total=counts.total) if counts.total else Counts()
    said = Observation(
        id=None,
        status=first,
        raw_status=str(first),
        counts=underway,
        created_at=at["created_at"],
        expires_at=at.get("expires_at"),
    )
    stages = [(at["created_at"], said)]
    for name in ("in_progress_at", "finalizing_at", "cancelling_at"):
        if name in at and (end is None or at[name] < at[end]):
            status = Status(name.removesuffix("_at"))
            stages.append((at[name], replace(said, status=status, raw_status=str(status))))
    if end is not None:
        over = replace(said, status=ENDS[end], raw_status=str(ENDS[end]), counts=counts)
        results = Results("file" if counts.completed else None)
        stages.append((at[end], replace(over, results=results, ended_at=at[end])))
    return Timeline(provider, tuple(_dated(sorted(stages, key=lambda one: one[0]), at)))


def _dated(
    stages: Iterable[tuple[int, Observation]], at: Mapping[str, int]
) -> Iterable[tuple[int, Observation]]:
    """Each stage with the times of those before it, as the provider shows them from then on."""
    for since, said in stages:
        passed = {name: one for name, one in at.items() if one <= since}
        dated = replace(
            said,
            in_progress_at=passed.get("in_progress_at"),
            finalizing_at=passed.get("finalizing_at"),
            cancelling_at=passed.get("cancelling_at"),
        )
        yield since, dated


def _number(text: str | None) -> int | None:
    try:
        return round(float(text)) if text else None
    except (ValueError, OverflowError):
        return None
