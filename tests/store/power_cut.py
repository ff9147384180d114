"""A disk that forgets: SQLite's file system as a power cut leaves it.

What SQLite and the store write goes to real files, and beside them into a book of what a disk
would still know: a write counts once its file was synced, a name once its directory was. At an
operation that was chosen beforehand the power fails, and the book is closed; what goes on after
that moment happened nowhere. Of what was not synced yet, any sectors may have reached the disk,
whatever the order in which they were written.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import apsw

from watcher.store import place

SECTOR = 512
# How likely it is that a sector, a size or a name that was not synced is there all the same.
LIKELIHOODS = (0.0, 0.1, 0.5, 0.9, 1.0)
NUMBERS = itertools.count()
_SIDE_FILES = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL


def dice_of(*seed: object) -> random.Random:
    """Dice that fall the same way each time."""
    return random.Random(" ".join(map(str, seed)))  # noqa: S311 - makes up cuts, not secrets


@dataclass(slots=True)
class Contents:
    """One file: what is on the disk, and every state its sectors have had since."""

    synced: bytes = b""
    now: bytearray = field(default_factory=bytearray)
    # Of each sector touched since the last sync, what it held after each write, oldest first.
    versions: dict[int, list[bytes]] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)

    def write(self, data: bytes, offset: int) -> None:
        end = offset + len(data)
        if len(self.now) < end:
            self.now.extend(bytes(end - len(self.now)))
            self.sizes.append(end)
        self.now[offset:end] = data
        for sector in range(offset // SECTOR, -(-end // SECTOR)):
            held = bytes(self.now[sector * SECTOR : (sector + 1) * SECTOR])
            self.versions.setdefault(sector, []).append(held)

    def truncate(self, size: int) -> None:
        del self.now[size:]
        self.sizes.append(size)

    def sync(self) -> None:
        self.synced = bytes(self.now)
        self.versions.clear()
        self.sizes.clear()

    def after_cut(self, dice: random.Random) -> bytes:
        """What a disk may hold that lost its power now."""
        likelihood = dice.choice(LIKELIHOODS)
        size = len(self.synced)
        if self.sizes and dice.random() < likelihood:
            size = dice.choice(self.sizes)
        found = bytearray(self.synced)
        for sector, held in self.versions.items():
            if dice.random() < likelihood:
                there = dice.choice(held)
                start = sector * SECTOR
                found.extend(bytes(max(0, start + len(there) - len(found))))
                found[start : start + len(there)] = there
        found.extend(bytes(max(0, size - len(found))))
        return bytes(found[:size])


class Disk:
    """One directory on a disk whose power fails at the operation `cut_at`, counted from 1."""

    def __init__(self, folder: Path, cut_at: int | None = None) -> None:
        self.folder = folder
        self.cut_at = cut_at
        self.operations = 0
        self.dead = False
        self._there: set[str] = set()
        self.vfs = f"forgetful-{next(NUMBERS)}"
        # What the directory on the disk leads to; the real one shows what it leads to now.
        self._names: dict[str, Contents] = {}
        self._contents: dict[str, Contents] = {}
        for file in folder.iterdir():
            # What was there before has long been synced.
            self._written(file).sync()
        self._names = dict(self._contents)
        self._registered = _Vfs(self)

    def fails(self) -> bool:
        """Count one operation; whether the power has failed before its end."""
        if not self.dead:
            self.operations += 1
            if self.operations == self.cut_at:
                self.dead = True
                self._there = self._listed()
        return self.dead

    def _listed(self) -> set[str]:
        return {one.name for one in self.folder.iterdir()}

    def opened(self, path: str) -> Contents:
        """The contents of a file of this directory, as SQLite opens it."""
        return Contents() if self.dead else self._contents.setdefault(Path(path).name, Contents())

    def deleted(self, path: str) -> None:
        """A file of this directory has lost its name."""
        self._contents.pop(Path(path).name, None)

    def sync_names(self) -> None:
        """The directory was synced."""
        there = self._listed()
        self._names = {name: one for name, one in self._contents.items() if name in there}

    def after_cut(self, target: Path, dice: random.Random) -> None:
        """Make a directory of what is left."""
        target.mkdir()
        there = self._there if self.dead else self._listed()
        likelihood = dice.choice(LIKELIHOODS)
        found = dict(self._names)
        for name in {*self._names, *self._contents}:
            now = self._contents.get(name) if name in there else None
            if now is not self._names.get(name) and dice.random() < likelihood:
                found.pop(name, None)
                if now is not None:
                    found[name] = now
        for name, one in found.items():
            (target / name).write_bytes(one.after_cut(dice))

    def _written(self, file: Path) -> Contents:
        """The contents of a file that was not written through SQLite."""
        one = Contents()
        one.write(file.read_bytes(), 0)
        return one if self.dead else self._contents.setdefault(file.name, one)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Write down what the store does to files without SQLite, while the block lasts."""
        link = os.link

        def sync(file: Path) -> None:
            one = self._written(file)
            if not self.fails():
                one.sync()

        def sync_folder(folder: Path) -> None:
            if not self.fails():
                self.sync_names()

        def linked(old: Any, new: Any) -> None:
            link(old, new)
            if not self.dead:
                self._contents[Path(new).name] = self._written(Path(old))
            self.fails()

        with (
            mock.patch.object(place, "sync", sync),
            mock.patch.object(place, "sync_folder", sync_folder),
            mock.patch.object(os, "link", linked),
        ):
            yield

    def close(self) -> None:
        """Take it away from SQLite."""
        self._registered.unregister()


class _Vfs(apsw.VFS):
    def __init__(self, disk: Disk) -> None:
        super().__init__(disk.vfs, "")
        self._disk = disk

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None:
            return apsw.VFSFile("", name, flags)
        return _File(self._disk, name, str(path), flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        failed = self._disk.fails()
        super().xDelete(filename, syncdir)
        if not failed:
            self._disk.deleted(filename)
            if syncdir:
                self._disk.sync_names()


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, path: str, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk = disk
        self._contents = disk.opened(path)
        # SQLite syncs the directory with the first sync of what it keeps beside a database.
        self._name_unsynced = bool(flags[0] & _SIDE_FILES)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        if not self._disk.dead:
            self._contents.write(data, offset)
            self._disk.fails()
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        if not self._disk.dead:
            self._contents.truncate(newsize)
            self._disk.fails()
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        # The real file need not be synced: this machine keeps its power.
        if not self._disk.fails():
            self._contents.sync()
            if self._name_unsynced:
                self._disk.sync_names()
                self._name_unsynced = False


def run(folder: Path, work: Callable[[Disk], None], cut_at: int | None = None) -> Disk:
    """Do some work in a directory until its end, or until the power fails."""
    disk = Disk(folder, cut_at)
    try:
        with disk.watched():
            work(disk)
    finally:
        disk.close()
    return disk
