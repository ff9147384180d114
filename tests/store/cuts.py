"""Work on a state, cut off at random, and what is found of it afterwards.

The same jobs are done on a second database in memory that nothing happens to: after a cut the
state must be what that one was at some moment between the last acknowledgement and the last job
handed over. So whatever was acknowledged is there, and nothing is there by half.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import apsw

from tests.builders import MINUTE, account, event, registering, told
from tests.fakes import START
from tests.store.power_cut import Disk, dice_of, run
from watcher.errors import StoreError
from watcher.model import Batch, EventType, Severity, Status, Try, TryOutcome
from watcher.store import sqlite
from watcher.store.database import Row, Transaction
from watcher.store.ledger import Ledger
from watcher.store.schema import open_state
from watcher.store.sqlite import MEMORY, SqliteDatabase

Job = Callable[[Transaction], Any]
NAME = "watcher.db"
COPY = "copy.db"
CHANNELS = ("team", "ops")
# Low, so that a short work crosses many checkpoints.
CHECKPOINT_PAGES = 12
JOBS = 40
# So many operations make a state.
MAKING = 8


@dataclass(slots=True)
class Found:
    """What came of a number of cuts."""

    cuts: int = 0
    acknowledged: int = 0
    lost: int = 0
    wrong: list[str] = field(default_factory=list)


def contents(database: SqliteDatabase) -> dict[str, list[Row]]:
    """Every row there is."""

    def work(transaction: Transaction) -> dict[str, list[Row]]:
        rows = transaction.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        names = sorted(str(name) for (name,) in rows)
        return {name: sorted(transaction.execute(f"SELECT * FROM {name}")) for name in names}  # noqa: S608

    return database.read(work)


# The work


class Script:
    """Jobs as the daemon and the command line do them, chosen by dice."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._now = START
        self._registered = 0

    def next(self) -> Job:
        """One more job; every run of it does the same."""
        self._now += MINUTE
        kinds = [self._register, self._look, self._look, self._settle, self._settle]
        kinds += [self._remove, self._tidy, self._keep_account]
        return self._dice.choice(kinds)()

    def _register(self) -> Job:
        now, first, count = self._now, self._registered, self._dice.randint(1, 6)
        # Some come again: removed or pruned ones are then revived.
        numbers = [*range(first, first + count), self._dice.randint(0, first)]
        self._registered += count
        name = "long name " * self._dice.choice((1, 20))

        def job(work: Transaction) -> None:
            for number in numbers:
                Ledger(work).batches.register(registering(f"batch_{number}", name=name), now)

        return job

    def _pick(self, ledger: Ledger, choice: float) -> Batch | None:
        batches = ledger.batches.watched(open_only=False)
        return batches[int(choice * len(batches))] if batches else None

    def _look(self) -> Job:
        now, choice = self._now, self._dice.random()
        ends = self._dice.random() < 0.6
        text = "why it failed " * self._dice.choice((1, 60))

        def job(work: Transaction) -> None:
            ledger = Ledger(work)
            before = self._pick(ledger, choice)
            if before is None:
                return
            after = replace(
                before,
                status=Status.COMPLETED if ends else Status.IN_PROGRESS,
                revision=before.revision + 1,
                end_seen_at=now if ends else None,
                last_error=text,
            )
            type_ = EventType.COMPLETED if ends else EventType.IN_PROGRESS
            said = event(type_, about=after, severity=Severity.SUCCESS, detected_at=now)
            ledger.record(before, after, told(said, *CHANNELS), account(), now)

        return job

    def _settle(self) -> Job:
        now, channel = self._now, self._dice.choice(CHANNELS)
        outcome = self._dice.choice((TryOutcome.DELIVERED, TryOutcome.FAILED))

        def job(work: Transaction) -> None:
            outbox = Ledger(work).outbox
            waiting = outbox.waiting(channel, 5, refusals=3)
            outbox.settle(
                channel, waiting, Try(now, outcome, None), now=now, uptime=now, refused=False
            )

        return job

    def _remove(self) -> Job:
        now, choice = self._now, self._dice.random()

        def job(work: Transaction) -> None:
            batch = self._pick(Ledger(work), choice)
            if batch is not None:
                Ledger(work).remove([batch], now)

        return job

    def _tidy(self) -> Job:
        now = self._now
        return lambda work: Ledger(work).prune(now, keep=20 * MINUTE, stub_keep=now, limit=3)

    def _keep_account(self) -> Job:
        now = self._now

        def job(work: Transaction) -> None:
            Ledger(work).process.put("daemon", {"at": now})
            Ledger(work).process.lease(["account:openai"], "us", now, now + 15_000)

        return job


# One life of a state


@dataclass(slots=True)
class Life:
    """A state on a disk, from nothing to the cut, and its twin."""

    script: Script
    dice: random.Random
    acknowledged: int = 0
    # Jobs handed over, in order.
    jobs: list[Job] = field(default_factory=list)
    # How many jobs were acknowledged when a copy was acknowledged.
    copied: int | None = None

    def live(self, disk: Disk) -> None:
        """Do it all; ends where the power fails."""
        path = str(disk.folder / NAME)
        with closing(open_state(path, program="test", change=False, vfs=disk.vfs)) as database:
            if not disk.dead:
                self._work(database, disk)

    def _work(self, database: SqliteDatabase, disk: Disk) -> None:
        copy_at = self.dice.randrange(JOBS)
        while len(self.jobs) < JOBS:
            # Those that wait together share one commit.
            group = [self.script.next() for _ in range(self.dice.choice((1, 1, 2, 5)))]
            self.jobs += group
            answers = [database._submit(job, writes=True) for job in group]
            for answer in answers:
                answer.result()
                if disk.dead:
                    # Who was acknowledged after the power failed?
                    return
                self.acknowledged += 1
            if self.copied is None and len(self.jobs) > copy_at:
                database.backup(str(disk.folder / COPY))
                if disk.dead:
                    return
                self.copied = self.acknowledged

    def moments(self) -> Iterator[dict[str, list[Row]]]:
        """What the state was after none, one, two … of its jobs."""
        with closing(open_state(MEMORY, program="test", change=False)) as twin:
            yield contents(twin)
            for job in self.jobs:
                twin.transact(job)
                yield contents(twin)


def looked_at(folder: Path, life: Life) -> tuple[bool, str | None]:
    """Whether anything acknowledged is lost, and what is wrong with what is left, if anything."""
    state, copy = folder / NAME, folder / COPY
    if not state.exists() and life.acknowledged:
        return True, None
    moments = list(life.moments())
    try:
        with closing(open_state(str(state), program="test", change=True)) as database:
            if database.read(lambda work: work.execute("PRAGMA integrity_check")) != [("ok",)]:
                return False, "the state is damaged"
            there = contents(database)
            database.transact(life.script.next())
    except (StoreError, apsw.Error) as error:
        return False, f"the state cannot be opened: {error}"
    if there not in moments:
        return False, "something is there by half"
    if life.copied is not None and not copy.exists():
        return True, None
    if copy.exists():
        try:
            with closing(SqliteDatabase(str(copy))) as database:
                if contents(database) not in moments:
                    return False, "the copy is not what the state was"
        except StoreError as error:
            return False, f"the copy cannot be read: {error}"
    return there not in moments[life.acknowledged :], None


@contextmanager
def synced(how: str) -> Iterator[None]:
    """Many checkpoints, and the driver syncs so."""
    with (
        mock.patch.object(sqlite, "CHECKPOINT_PAGES", CHECKPOINT_PAGES),
        mock.patch.object(sqlite, "SYNCHRONOUS", how),
    ):
        yield


def cut_again_and_again(
    folder: Path, cuts: int, *, seed: int = 0, synchronous: str = "FULL"
) -> Found:
    """Live so many lives, each cut off at a random operation, and look at what is left."""
    found = Found()
    scripts = [f"{seed} {number}" for number in range(max(4, cuts // 20))]
    lengths: dict[str, int] = {}
    for number in range(cuts):
        dice = dice_of(seed, number, synchronous)
        script = dice.choice(scripts)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            if script not in lengths:
                lengths[script] = _length(Path(place) / "whole", script, synchronous)
            # One in eight while the state is being made.
            most = lengths[script] if dice.random() < 0.875 else MAKING
            life = _cut_life(Path(place), script, dice.randint(1, most), dice, synchronous)
            with synced("OFF"):
                lost, wrong = looked_at(Path(place) / "left", life)
        found.cuts += 1
        found.acknowledged += life.acknowledged
        found.lost += lost
        if wrong:
            found.wrong.append(f"seed {seed}, cut {number}: {wrong}")
    return found


def _life(script: str) -> Life:
    return Life(Script(dice_of(script)), dice_of(script))


def _length(folder: Path, script: str, synchronous: str) -> int:
    """How many operations the whole life takes."""
    folder.mkdir()
    with synced(synchronous):
        return run(folder, _life(script).live).operations


def _cut_life(place: Path, script: str, cut_at: int, dice: random.Random, synchronous: str) -> Life:
    """A life until its cut; what is left of it lies in `left`."""
    live, life = place / "live", _life(script)
    live.mkdir()
    with synced(synchronous):
        disk = run(live, life.live, cut_at)
    disk.after_cut(place / "left", dice)
    return life
