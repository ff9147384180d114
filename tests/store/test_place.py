"""Where a state may lie, what lies beside it, and how its file comes to be."""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.bench import call
from watcher.errors import StoreError
from watcher.store import place
from watcher.store.lock import StateLock
from watcher.store.schema import open_state
from watcher.store.sqlite import SqliteDatabase


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "watcher.db"


def make(state: Path) -> None:
    open_state(str(state), program="1.0", change=False).close()


def opening(state: Path) -> str:
    """What is said of a state that is not opened."""
    with pytest.raises(StoreError) as caught:
        open_state(str(state), program="1.0", change=True)
    return str(caught.value)


# File systems


@pytest.mark.parametrize(("kind", "name"), sorted(place.SHARED_KINDS.items()))
def test_a_file_system_that_others_share_is_refused_in_one_line(
    state: Path, monkeypatch: pytest.MonkeyPatch, kind: int, name: str
) -> None:
    monkeypatch.setattr(place, "_kind_of", lambda _: kind)

    assert opening(state) == (
        f"the state {state} is on {name}, where other machines or programs may write it at once "
        "and locks are not to be relied on; name a local path with --state"
    )
    assert not list(state.parent.iterdir())


def test_the_directory_that_is_asked_is_the_nearest_that_exists(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(place, "_kind_of", asked.append)
    place.settled(str(state.parent / "a" / "b" / state.name))

    assert asked == [state.parent]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux")
def test_the_file_system_says_what_it_is(tmp_path: Path) -> None:
    kinds = {place._kind_of(Path("/proc")), place._kind_of(tmp_path)}

    # PROC_SUPER_MAGIC
    assert 0x9FA0 in kinds
    assert len(kinds) == 2
    assert place._kind_of(tmp_path / "absent") is None


# Links


def owned_by(path: Path, user: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file, or a link itself, be another user's; only root could make it so."""
    real, is_link = Path.stat, path.is_symlink()

    def told(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        info = real(self, follow_symlinks=follow_symlinks)
        if self != path or follow_symlinks == is_link:
            return info
        return os.stat_result((*info[:4], user, *info[5:10]))

    monkeypatch.setattr(Path, "stat", told)


def test_a_link_to_a_file_of_ours_is_followed_and_is_the_same_state(state: Path) -> None:
    make(state)
    link = state.with_name("link.db")
    link.symlink_to(state)
    lock, same = StateLock(str(state)), StateLock(str(link))
    lock.acquire()
    with closing(open_state(str(link), program="1.0", change=True)) as database:
        found = database.path
    free = same.acquire()
    lock.release()

    assert found == str(state)
    assert not free
    assert not list(state.parent.glob("link.db?*"))


def test_a_link_whose_target_is_still_to_be_made_leads_to_it(state: Path, tmp_path: Path) -> None:
    state.symlink_to(tmp_path / "elsewhere" / "own.db")
    make(state)

    assert state.is_symlink()
    assert (tmp_path / "elsewhere" / "own.db").stat().st_size > 0


@pytest.mark.parametrize("whose", ["link", "target"])
def test_a_link_that_another_user_had_a_hand_in_is_refused(
    state: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    target = state.with_name("theirs.db")
    make(target)
    before = target.read_bytes()
    state.symlink_to(target)
    owned_by(state if whose == "link" else target, os.geteuid() + 1, monkeypatch)
    said = opening(state)

    assert said.startswith(f"the state {state} is a link to {target}, and ")
    assert f"belongs to user {os.geteuid() + 1}, neither root nor you" in said
    assert said.endswith("name the file itself with --state")
    assert target.read_bytes() == before


@pytest.mark.parametrize("companion", place.COMPANIONS)
def test_a_link_planted_beside_a_state_is_not_written_through(state: Path, companion: str) -> None:
    make(state)
    theirs = state.with_name("theirs")
    theirs.write_text("keep me")
    Path(f"{state}{companion}").symlink_to(theirs)

    assert f"{state}{companion} is a link" in opening(state)
    assert theirs.read_text() == "keep me"


@pytest.mark.parametrize("planted", ["", *place.COMPANIONS])
def test_what_another_put_at_a_states_place_in_a_shared_directory_is_refused(
    state: Path, monkeypatch: pytest.MonkeyPatch, planted: str
) -> None:
    make(state)
    theirs = Path(f"{state}{planted}")
    theirs.touch()
    owned_by(theirs, os.geteuid() + 1, monkeypatch)
    # In a directory of our own nobody else could have put it there.
    make(state)
    theirs.touch()
    before = state.read_bytes()
    state.parent.chmod(0o1777)
    said = opening(state)

    assert said.startswith(f"{theirs} belongs to user {os.geteuid() + 1}, who could read")
    assert said.endswith("with --state")
    assert state.read_bytes() == before


def test_one_whose_work_was_cleared_away_before_it_was_synced_gives_way(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = place.sync

    def cleared(temporary: Path) -> None:
        monkeypatch.setattr(place, "sync", sync)
        make(state)
        temporary.unlink(missing_ok=True)
        sync(temporary)

    monkeypatch.setattr(place, "sync", cleared)

    assert not place.put(str(state), b"second")
    assert state.read_bytes() != b"second"


def test_the_lock_is_never_taken_through_a_link(state: Path) -> None:
    theirs = state.with_name("theirs")
    Path(f"{state}.lock").symlink_to(theirs)
    with pytest.raises(StoreError, match="cannot open"):
        StateLock(str(state)).acquire()

    assert not theirs.exists()


# Who may enter


def test_every_directory_that_is_made_is_for_the_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    make(tmp_path / "a" / "b" / "watcher.db")
    os.umask(before)

    assert [stat.S_IMODE((tmp_path / one).stat().st_mode) for one in ("a", "a/b")] == [0o700] * 2


@pytest.mark.parametrize(("mode", "warned"), [(0o700, False), (0o750, False), (0o711, True)])
def test_a_directory_that_others_may_enter_is_warned_about_and_left_so(
    state: Path, mode: int, warned: bool
) -> None:
    state.parent.chmod(mode)
    said = place.warning(str(state))

    assert (said is not None) == warned
    assert said is None or said.startswith(f"others may enter {state.parent}, ")
    assert stat.S_IMODE(state.parent.stat().st_mode) == mode


# What is there already


@pytest.mark.parametrize("companion", ["", "-wal", ".lock"])
def test_an_empty_file_is_no_new_state(state: Path, companion: str) -> None:
    """It was cut short by somebody, or made by `mktemp`: the one must not be passed over."""
    state.touch()
    Path(f"{state}{companion}").touch()

    assert opening(state) == (
        f"the state {state} is an empty file; restore a copy of it, or delete it to begin anew"
    )
    assert state.stat().st_size == 0


@pytest.mark.parametrize("companion", ["-wal", "-journal"])
def test_a_state_whose_file_is_gone_and_whose_journal_is_left_is_not_begun_anew(
    state: Path, companion: str
) -> None:
    beside = Path(f"{state}{companion}")
    beside.write_bytes(b"what was acknowledged last")

    assert f"is gone, but {beside.name} beside it holds what belongs to it" in opening(state)
    assert not state.exists()
    assert beside.read_bytes() == b"what was acknowledged last"


@pytest.mark.parametrize(
    "command", [("ls",), ("show", "batch_1"), ("status",), ("check", "--offline"), ("add", "b")]
)
def test_no_command_takes_a_state_that_is_gone_for_none(
    state: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("WATCHER_STATE", str(state))
    monkeypatch.setenv("OPENAI_API_KEY", "made-up-key")
    Path(f"{state}-wal").write_bytes(b"acknowledged")
    said = call(*command)

    assert said.code == 1
    assert "beside it holds what belongs to it; bring the file back" in said.out + said.err


def test_what_is_no_file_is_never_to_be_deleted() -> None:
    said = opening(Path("/dev/null"))

    assert said == "the state /dev/null is not a file; name another with --state"


def test_a_state_that_vanishes_while_it_is_opened_is_not_made_by_a_reader(state: Path) -> None:
    with pytest.raises(StoreError, match="cannot open the state"):
        SqliteDatabase(str(state))

    assert not state.exists()


# How a file comes to be


def refuse(number: int) -> Any:
    def link(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return link


@pytest.mark.parametrize("links", [True, False], ids=["with links", "without"])
def test_what_another_was_quicker_to_make_is_left_as_it_is(
    state: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        # As FAT does.
        monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    state.with_name(f"{state.name}.new-0011aabb").write_bytes(b"left by a cut")
    made = [place.put(str(state), contents) for contents in (b"first", b"second")]

    assert made == [True, False]
    assert [one.name for one in state.parent.iterdir()] == [state.name]
    assert state.read_bytes() == b"first"
    assert stat.S_IMODE(state.stat().st_mode) == 0o600


def test_one_whose_work_was_cleared_away_by_a_quicker_one_gives_way(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cleared(temporary: Path, path: str) -> None:
        temporary.unlink()
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", cleared)

    assert not place.put(str(state), b"second")


def test_a_disk_too_full_for_a_new_state_is_left_as_it_was(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(place, "sync", full)

    assert "no space left for the state" in opening(state)
    assert not list(state.parent.iterdir())
