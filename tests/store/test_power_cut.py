"""A power cut takes nothing that was acknowledged, whenever it comes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from unittest import mock

import pytest

from tests.builders import registering
from tests.fakes import START
from tests.store.cuts import NAME, contents, cut_again_and_again, synced
from tests.store.power_cut import Contents, Disk, dice_of, run
from watcher.errors import StoreError
from watcher.store import place, schema
from watcher.store.batches import Registering
from watcher.store.database import Transaction
from watcher.store.ledger import Ledger
from watcher.store.schema import NEWEST, STEPS, open_state
from watcher.store.sqlite import SqliteDatabase

NEXT_STEP = (
    "ALTER TABLE batches ADD COLUMN colour TEXT;\n"
    "UPDATE batches SET colour = 'red';\n"
    "CREATE INDEX batches_colour ON batches (colour);\n"
)


def test_nothing_acknowledged_is_lost_and_nothing_is_there_by_half(tmp_path: Path) -> None:
    found = cut_again_and_again(tmp_path, 24)

    assert (found.lost, found.wrong) == (0, [])
    assert found.acknowledged > 200


def test_the_same_cuts_find_what_a_looser_setting_loses(tmp_path: Path) -> None:
    """Without this nobody would know whether the disk forgets at all."""
    found = cut_again_and_again(tmp_path, 8, synchronous="NORMAL")

    assert found.lost > 0
    assert found.wrong == []


def test_the_same_cuts_find_a_file_that_is_torn(tmp_path: Path) -> None:
    found = cut_again_and_again(tmp_path, 6, synchronous="OFF")

    assert any("is damaged" in wrong for wrong in found.wrong)


def test_a_sector_that_was_not_synced_is_kept_or_lost_whole() -> None:
    one, before, after = Contents(), b"a" * 1_024, b"b" * 1_024
    one.write(before, 0)
    one.sync()
    one.write(after, 0)
    found = {one.after_cut(dice_of(seed)) for seed in range(60)}

    assert found == {
        first * 512 + second * 512 for first in (b"a", b"b") for second in (b"a", b"b")
    }


# The making of a state


def make(disk: Disk) -> None:
    with closing(open_state(str(disk.folder / NAME), program="1.0", change=True, vfs=disk.vfs)):
        pass


def every_cut(
    folder: Path, work: Callable[[Disk], None], prepared: Path | None = None, *, apart: int = 1
) -> Iterator[tuple[Disk, Path]]:
    """The work cut at its operations, so far apart, and what is left of it, in two ways."""

    def fresh(name: str) -> Path:
        if prepared is None:
            (folder / name).mkdir()
        else:
            shutil.copytree(prepared, folder / name)
        return folder / name

    count = run(fresh("whole"), work).operations
    for cut_at in range(1, count + 1, apart):
        disk = run(fresh(f"live-{cut_at}"), work, cut_at)
        for number in range(2):
            left = folder / f"left-{cut_at}-{number}"
            disk.after_cut(left, dice_of(cut_at, number))
            with synced("OFF"):
                yield disk, left


def begins(left: Path) -> bool:
    """Whether the next start finds, or makes, a sound state."""
    with suppress(StoreError), closing(open_state(str(left / NAME), program="1.0", change=True)):
        return True
    return False


def test_the_next_start_works_wherever_the_first_was_cut(tmp_path: Path) -> None:
    begun = [begins(left) for _, left in every_cut(tmp_path, make)]

    assert len(begun) > 6
    assert all(begun)


def test_a_state_that_gets_its_name_before_it_is_synced_would_block_the_next_start(
    tmp_path: Path,
) -> None:
    """The order in which a state is made is what the test above rests on."""

    def careless(disk: Disk) -> None:
        with mock.patch.object(place, "sync"):
            make(disk)

    begun = [begins(left) for _, left in every_cut(tmp_path, careless)]

    assert not all(begun)


# A step of the schema


def register(wanted: Registering, work: Transaction) -> None:
    Ledger(work).batches.register(wanted, START)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A directory with a state of the version before the next."""
    folder = tmp_path / "old"
    with closing(open_state(str(folder / NAME), program="1.0", change=True)) as database:
        for number in range(30):
            wanted = registering(f"batch_{number}", name="nightly evals " * 20)
            database.transact(partial(register, wanted))
    (folder / f"{NAME}.lock").touch()
    return folder


def step_up(disk: Disk) -> None:
    path = str(disk.folder / NAME)
    with closing(open_state(path, program="2.0", change=True, vfs=disk.vfs)):
        pass


def test_a_step_cut_anywhere_is_taken_whole_or_not_at_all_and_its_copy_is_sound(
    tmp_path: Path, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(SqliteDatabase(str(old / NAME))) as database:
        before = contents(database)
    monkeypatch.setattr(schema, "STEPS", (*STEPS, NEXT_STEP))
    monkeypatch.setattr(schema, "NEWEST", NEWEST + 1)
    versions = []
    for disk, left in every_cut(tmp_path, step_up, old, apart=6):
        copies = [one for one in left.iterdir() if one.name.endswith(f".schema-{NEWEST}")]
        with closing(SqliteDatabase(str(left / NAME))) as database:
            version, there = database.read(schema.version_in_use), contents(database)
        versions.append(version)
        # Before a step is taken a whole copy is there to go back to.
        kept = []
        for copy in copies:
            with closing(SqliteDatabase(str(copy))) as database:
                kept.append(contents(database))

        assert all(one == before for one in kept), disk.cut_at
        assert kept or version == NEWEST, disk.cut_at
        assert there == before or version == NEWEST + 1, disk.cut_at
        with closing(open_state(str(left / NAME), program="2.0", change=True)) as database:
            found = contents(database)["batches"]

        assert [row[:-1] for row in found] == before["batches"]
        assert {row[-1] for row in found} == {"red"}
    assert set(versions) == {NEWEST, NEWEST + 1}
