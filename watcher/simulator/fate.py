"""A batch's life written down in advance: when it stands where, and what it brings. Pure.

A fate knows no provider and no clock; every time in it is an age, in seconds since the batch was
created. How a provider shows it is the business of `shapes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

DAY = 86_400.0
TERMINAL = frozenset({"completed", "failed", "expired", "cancelled"})
# Of 1,087 cancelled batches of OpenAI, 98 % stood in cancelling for 605 to 607 s.
CANCELLING_SECONDS = 606.0
# Recorded expiries: finalizing one second after expires_at, expired 607 s after it.
EXPIRY_BEGINS, EXPIRY_ENDS = 1.0, 607.0
# In place of a value in `Fate.showing`: the key is left out of the answer.
OMITTED = object()


@dataclass(frozen=True, slots=True)
class Step:
    """From this age on the batch has this status: one of our words, or any other word."""

    at: float
    status: str


@dataclass(frozen=True, slots=True)
class Tally:
    """Requests counted at this age; between two tallies they rise steadily."""

    at: float
    total: int = 0
    completed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Complaint:
    """One reason for a failure, as OpenAI lists them; `line` counts the input's lines from 1."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """From one age to another (None: for ever) the provider answers 404 for the batch."""

    since: float
    until: float | None


@dataclass(frozen=True, slots=True)
class Fate:
    """What will become of a batch."""

    name: str
    steps: tuple[Step, ...]
    tallies: tuple[Tally, ...] = ()
    # The ages from which the files with results and with errors are shown; None: never.
    output_at: float | None = None
    errors_at: float | None = None
    complaints: tuple[Complaint, ...] = ()
    gaps: tuple[Gap, ...] = ()
    # From created_at to expires_at.
    window: float = DAY
    # By how much this fate has been sped up; the time it takes to cancel follows.
    pace: float = 1.0
    # Keys of the provider's object with the values shown in place of the true ones.
    shown: tuple[tuple[str, Any], ...] = ()

    def reached(self, age: float) -> tuple[Step, ...]:
        """The steps taken by this age, in order; none before the batch was created."""
        # An age is whole milliseconds, a step of a hastened fate need not be.
        return tuple(step for step in self.steps if round(step.at, 3) <= age)

    def status(self, age: float) -> str:
        """Where the batch stands at this age; before its creation where it begins."""
        return (self.reached(age) or self.steps[:1])[-1].status

    def tally(self, age: float) -> Tally:
        """The counts at this age: zeros before the first tally, then rising to the next."""
        before = [tally for tally in self.tallies if tally.at <= age]
        if not before:
            return Tally(age)
        last = before[-1]
        if len(before) == len(self.tallies):
            return replace(last, at=age)
        following = self.tallies[len(before)]
        share = (age - last.at) / (following.at - last.at)
        return Tally(
            age,
            last.total,
            last.completed + int((following.completed - last.completed) * share),
            last.failed + int((following.failed - last.failed) * share),
        )

    def missing(self, age: float) -> bool:
        """Whether the provider denies the batch at this age."""
        return any(gap.since <= age and (gap.until is None or age < gap.until) for gap in self.gaps)

    def faster(self, factor: float) -> Fate:
        """The same life, `factor` times as fast."""

        def scaled(age: float | None) -> float | None:
            return None if age is None else age / factor

        return replace(
            self,
            steps=tuple(replace(step, at=step.at / factor) for step in self.steps),
            tallies=tuple(replace(tally, at=tally.at / factor) for tally in self.tallies),
            output_at=scaled(self.output_at),
            errors_at=scaled(self.errors_at),
            gaps=tuple(Gap(gap.since / factor, scaled(gap.until)) for gap in self.gaps),
            window=self.window / factor,
            pace=self.pace * factor,
        )

    def queueing(self, seconds: float) -> Fate:
        """The same life with a wait in `queued` before the batch begins; for Cerebras and Cohere.

        The window does not move: it counts from the creation.
        """
        begins = next(step.at for step in self.steps if step.status != "validating")

        def later(age: float | None) -> float | None:
            return age if age is None or age < begins else age + seconds

        moved = tuple(replace(step, at=later(step.at) or 0.0) for step in self.steps)
        place = next(i for i, step in enumerate(self.steps) if step.status != "validating")
        return replace(
            self,
            steps=(*moved[:place], Step(begins, "queued"), *moved[place:]),
            tallies=tuple(replace(tally, at=later(tally.at) or 0.0) for tally in self.tallies),
            output_at=later(self.output_at),
            errors_at=later(self.errors_at),
        )

    def cancelled_at(self, age: float) -> Fate:
        """The same life cancelled by its owner at this age: what was done by then is kept."""
        counts = self.tally(age)
        ends = age + CANCELLING_SECONDS / self.pace
        return replace(
            self,
            steps=(*self.reached(age), Step(age, "cancelling"), Step(ends, "cancelled")),
            tallies=(*(tally for tally in self.tallies if tally.at < age), counts),
            output_at=ends if counts.completed else None,
            errors_at=ends if counts.failed else None,
        )

    def hidden(self, since: float, until: float | None = None) -> Fate:
        """The same life, answered 404 from one age to another (None: for ever)."""
        return replace(self, gaps=(*self.gaps, Gap(since, until)))

    def showing(self, **fields: Any) -> Fate:
        """The same life whose object shows these values whatever is true; `OMITTED` leaves out."""
        return replace(self, shown=(*self.shown, *fields.items()))

    # Named lives. `after` is the age at which the batch ends.

    @classmethod
    def completed(
        cls,
        total: int = 100,
        failed: int = 0,
        *,
        after: float = 600.0,
        finalizing: float | None = None,
    ) -> Fate:
        """Runs to its end, the last seconds of it `finalizing`; counts go up steadily."""
        begins, finalizes = _phases(after)
        if finalizing is not None:
            finalizes = max(begins, after - finalizing)
        done = Tally(finalizes, total, total - failed, failed)
        return cls(
            "completed",
            _steps((begins, "in_progress"), (finalizes, "finalizing"), (after, "completed")),
            (Tally(begins, total), done),
            output_at=after if failed < total else None,
            errors_at=after if failed else None,
        )

    @classmethod
    def partial(cls, total: int = 100, failed: int = 2, *, after: float = 600.0) -> Fate:
        """Runs to its end with some requests failed."""
        return replace(cls.completed(total, failed, after=after), name="partial")

    @classmethod
    def all_failed(cls, total: int = 4, *, after: float = 600.0) -> Fate:
        """Says completed though every request failed: no output file, an error file."""
        return replace(cls.completed(total, total, after=after), name="all_failed")

    @classmethod
    def empty(cls, total: int = 9, *, after: float = 600.0) -> Fate:
        """Says completed though no request succeeded, and there is no file at all."""
        fate = cls.completed(total, total, after=after)
        return replace(fate, name="empty", errors_at=None)

    @classmethod
    def late_output(
        cls, total: int = 100, *, late: float = 30.0, after: float = 600.0, failed: int = 0
    ) -> Fate:
        """Says completed `late` seconds before its result file is there."""
        fate = cls.completed(total, failed, after=after)
        return replace(fate, name="late_output", output_at=after + late)

    @classmethod
    def failed(cls, complaints: tuple[Complaint, ...] | None = None, *, after: float = 8.0) -> Fate:
        """Fails in validation; the default complains as often as OpenAI lists at most."""
        if complaints is None:
            message = "custom_id used more than once in this input file"
            complaints = tuple(
                Complaint("duplicate_custom_id", message, "custom_id", line)
                for line in range(9_601, 9_621)
            )
        return cls("failed", _steps((after, "failed")), complaints=complaints)

    @classmethod
    def token_limit_exceeded(cls) -> Fate:
        """Fails in the second of its creation: the queue of the organisation is full."""
        message = "organisation is over its enqueued-token limit for this model"
        fate = cls.failed((Complaint("token_limit_exceeded", message),), after=0.0)
        return replace(fate, name="token_limit_exceeded")

    @classmethod
    def expired(cls, total: int = 1) -> Fate:
        """Runs out of its day with nothing done; has an output file all the same, as recorded."""
        fate = cls.expired_with_results(total, 0)
        return replace(fate, name="expired", output_at=fate.errors_at, errors_at=None)

    @classmethod
    def expired_with_results(cls, total: int = 10, completed: int = 1) -> Fate:
        """Runs out of its day with some done; what was not is in no count, as recorded."""
        begins, ends = 2.0, DAY + EXPIRY_ENDS
        finalizes = DAY + EXPIRY_BEGINS
        return cls(
            "expired_with_results",
            _steps((begins, "in_progress"), (finalizes, "finalizing"), (ends, "expired")),
            (Tally(begins, total), Tally(DAY, total, completed)),
            output_at=ends if completed else None,
            errors_at=ends,
        )

    @classmethod
    def cancelled(cls, *, at: float = 1.0) -> Fate:
        """Cancelled before it began: no counts, no files."""
        return cls("cancelled", _steps()).cancelled_at(at)

    @classmethod
    def cancelled_with_results(
        cls, total: int = 100, completed: int = 40, failed: int = 1, *, at: float = 144.0
    ) -> Fate:
        """Cancelled while it ran; what was done by then is there."""
        begins, _ = _phases(at)
        tallies = (Tally(begins, total), Tally(at, total, completed, failed))
        fate = cls("cancelled_with_results", _steps((begins, "in_progress")), tallies)
        return fate.cancelled_at(at)

    @classmethod
    def stuck(cls, total: int = 100, completed: int = 60) -> Fate:
        """Stays in progress for ever, past its window too (Azure does not expire batches)."""
        tallies = (Tally(2.0, total), Tally(600.0, total, completed))
        return cls("stuck", _steps((2.0, "in_progress")), tallies)

    @classmethod
    def revived(
        cls,
        first: str = "completed",
        total: int = 100,
        *,
        at: float = 600.0,
        again: float = 1_800.0,
    ) -> Fate:
        """Ends (`first`: completed or cancelled), runs again at the age `again`, and completes."""
        begins, finalizes = _phases(at)
        closing = "finalizing" if first == "completed" else "cancelling"
        done = total * 6 // 10
        failed = total - done if first == "completed" else 0
        ends = again + at
        steps = _steps(
            (begins, "in_progress"),
            (finalizes, closing),
            (at, first),
            (again, "in_progress"),
            (ends - 1.0, "finalizing"),
            (ends, "completed"),
        )
        tallies = (
            Tally(begins, total),
            Tally(finalizes, total, done, failed),
            Tally(again, total, done, failed),
            Tally(again, total, done, 0),
            Tally(ends - 1.0, total, total, 0),
        )
        return cls("revived", steps, tallies, output_at=at)

    @classmethod
    def unknown_word(
        cls, word: str = "marinating", *, at: float = 60.0, until: float = 600.0
    ) -> Fate:
        """Stands in a status nobody has heard of from one age to another, then completes."""
        fate = cls.completed(after=until + 60.0)
        steps = (*fate.reached(at), Step(at, word), Step(until, "in_progress"), *fate.steps[-2:])
        return replace(fate, name="unknown_word", steps=steps)

    @classmethod
    def late_to_appear(cls, seconds: float = 3.0) -> Fate:
        """Is answered 404 in its first seconds, then completes."""
        return replace(cls.completed().hidden(0.0, seconds), name="late_to_appear")

    @classmethod
    def vanishing(cls, since: float = 120.0, until: float | None = 240.0) -> Fate:
        """Is answered 404 for a while in its middle, then completes."""
        return replace(cls.completed().hidden(since, until), name="vanishing")

    @classmethod
    def vanished(cls, since: float = 120.0) -> Fate:
        """Is answered 404 from some age on, for ever."""
        return replace(cls.vanishing(since, None), name="vanished")


NAMED: Mapping[str, Callable[[], Fate]] = {
    "completed": Fate.completed,
    "partial": Fate.partial,
    "all_failed": Fate.all_failed,
    "empty": Fate.empty,
    "late_output": Fate.late_output,
    "failed": Fate.failed,
    "token_limit_exceeded": Fate.token_limit_exceeded,
    "expired": Fate.expired,
    "expired_with_results": Fate.expired_with_results,
    "cancelled": Fate.cancelled,
    "cancelled_with_results": Fate.cancelled_with_results,
    "stuck": Fate.stuck,
    "revived": Fate.revived,
    "unknown_word": Fate.unknown_word,
    "late_to_appear": Fate.late_to_appear,
    "vanishing": Fate.vanishing,
    "vanished": Fate.vanished,
}


def choose(random: Random) -> Fate:
    """A fate such as a day at a provider brings: most complete, some do not."""
    after, total = random.uniform(60, 3_600), random.randint(2, 5_000)
    lives: tuple[tuple[Fate, int], ...] = (
        (Fate.completed(total, after=after), 12),
        (Fate.partial(total, max(1, total // 50), after=after), 4),
        (Fate.all_failed(total, after=after), 1),
        (Fate.late_output(total, after=after), 1),
        (Fate.failed(), 1),
        (Fate.cancelled_with_results(total, total // 2, 0, at=after), 1),
    )
    return random.choices([life for life, _ in lives], [weight for _, weight in lives])[0]


def _phases(after: float) -> tuple[float, float]:
    """When a life that ends at this age begins to run, and when it begins to finalize."""
    return min(2.0, after * 0.2), after - min(10.0, after * 0.2)


def _steps(*rest: tuple[float, str]) -> tuple[Step, ...]:
    return (Step(0.0, "validating"), *(Step(at, status) for at, status in rest))
