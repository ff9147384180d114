"""The place of a state: whether it may lie there, and how its file comes to be.

A state begins as a whole file under its name, or not at all: one that exists, however empty, was
somebody's, and is never begun anew.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

from watcher.errors import StoreError

# What SQLite and the daemon keep beside a state.
COMPANIONS = ("-wal", "-shm", "-journal", ".lock")
# Of these, what may hold transactions that were acknowledged.
_UNFOLDED = ("-wal", "-journal")
# Linux's f_type of file systems that other machines, or a program, may change under us
# (linux/magic.h; CIFS and SMB2 in fs/smb, Lustre in lustre_user.h). FUSE counts for all that is
# built on it, fuseblk and fuse-overlayfs included: who answers for its locks cannot be told.
SHARED_KINDS = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "SMB",
    0xFE534D42: "SMB",
    0x0BD00BD0: "Lustre",
    0x65735546: "FUSE",
    0x01021997: "9P",
    0x5346414F: "AFS",
    0x6B414653: "AFS",
    0x00C36400: "Ceph",
}
# More than any libc's struct statfs takes.
_STATFS_BYTES = 512


def settled(path: str) -> str:
    """The path to open, links followed as far as they may be.

    Raises StoreError for a place that other machines share, a link that leads to another's file,
    and links where SQLite or the daemon would write beside it.
    """
    if _is_link(Path(path)):
        _refuse_foreign_link(path)
    file = Path(true_path(path))
    for companion in COMPANIONS:
        beside = Path(f"{file}{companion}")
        if _is_link(beside):
            raise StoreError(
                f"{beside} is a link, and what is written through it might be another's; "
                "remove it, or name another state with --state"
            )
    _refuse_planted(file)
    kind = _shared_kind(nearest_folder(file))
    if kind is not None:
        raise StoreError(
            f"the state {path} is on {kind}, where other machines or programs may write it at once "
            "and locks are not to be relied on; name a local path with --state"
        )
    return str(file)


def true_path(path: str) -> str:
    """What a link at the state's place leads to: one state has one lock, however it is named."""
    return os.path.realpath(path) if _is_link(Path(path)) else path


def _is_link(file: Path) -> bool:
    try:
        return file.is_symlink()
    except OSError as error:
        raise _unreachable(file, error) from error


def _refuse_foreign_link(path: str) -> None:
    """A link may have been planted: it counts only if it and its target are ours or root's."""
    trusted = {0, os.geteuid()} if hasattr(os, "geteuid") else None
    target = os.path.realpath(path)
    for owned, follow in ((path, False), (target, True)):
        try:
            owner = Path(owned).stat(follow_symlinks=follow).st_uid
        except FileNotFoundError:
            # What a trusted link leads to is still to be made.
            continue
        except OSError as error:
            raise _unreachable(Path(owned), error) from error
        if trusted is not None and owner not in trusted:
            what = "its target" if follow else "the link"
            raise StoreError(
                f"the state {path} is a link to {target}, and {what} belongs to user {owner}, "
                "neither root nor you; name the file itself with --state"
            )


def _refuse_planted(file: Path) -> None:
    """Where anybody may write, what lies at a state's place may be there to read along.

    Only our own and root's files count there, of the state and of what SQLite keeps beside it.
    """
    try:
        if not hasattr(os, "geteuid") or not file.parent.stat().st_mode & stat.S_IWOTH:
            return
        for one in (file, *(Path(f"{file}{companion}") for companion in COMPANIONS)):
            with suppress(FileNotFoundError):
                owner = one.stat().st_uid
                if owner not in {0, os.geteuid()}:
                    raise StoreError(
                        f"{one} belongs to user {owner}, who could read and change what is written "
                        "there; name a state in a directory of your own with --state"
                    )
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unreachable(file, error) from error


def nearest_folder(file: Path) -> Path:
    """The directory of a file, or the nearest above it that exists."""
    for folder in file.absolute().parents:
        try:
            if folder.exists():
                return folder
        except OSError as error:
            raise _unreachable(file, error) from error
    return Path(file.anchor)


def _shared_kind(folder: Path) -> str | None:
    kind = _kind_of(folder)
    return None if kind is None else SHARED_KINDS.get(kind)


def _kind_of(folder: Path) -> int | None:
    """The f_type of the file system a directory is on; None where it cannot be asked."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    try:
        ask = ctypes.CDLL(None, use_errno=True).statfs
    except (OSError, AttributeError):
        return None
    answer = ctypes.create_string_buffer(_STATFS_BYTES)
    if ask(os.fsencode(folder), answer) != 0:
        return None
    # A word of the machine, though on some 64-bit ones only its lower half is used.
    kind: int = ctypes.c_long.from_buffer(answer).value
    return kind & 0xFFFFFFFF


def warning(path: str) -> str | None:
    """What should be known of the directory of a state: that others may enter it."""
    folder = Path(path).absolute().parent
    try:
        mode = folder.stat().st_mode
    except OSError:
        return None
    if os.name != "posix" or not mode & stat.S_IXOTH:
        return None
    return f"others may enter {folder}, where the state is: keep it in one of its own, mode 700"


def make_folder(folder: Path) -> None:
    """Make a directory that nobody else enters, with those above it, to outlast a power cut.

    Raises StoreError; one that exists stays as it is.
    """
    try:
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        for one in reversed(missing):
            one.mkdir(mode=0o700, exist_ok=True)
            sync_folder(one.parent)
        if not folder.is_dir():
            raise NotADirectoryError(0, "not a directory", str(folder))
    except OSError as error:
        reason = (error.strerror or "not to be made").lower()
        raise StoreError(f"cannot create {folder}: {reason}; name another with --state") from error


def refuse_leftovers(path: str) -> None:
    """Raise StoreError where a state is gone and a part of it was left behind."""
    for companion in _UNFOLDED:
        beside = Path(f"{path}{companion}")
        try:
            size = beside.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise _unreachable(Path(path), error) from error
        if size:
            raise StoreError(
                f"the state {path} is gone, but {beside.name} beside it holds what belongs to "
                f"it; bring the file back, or move {beside.name} away to begin anew"
            )


def refuse_empty(path: str) -> None:
    """Raise StoreError for a file without contents: it was cut short, or never was a state."""
    found = Path(path).stat()
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"the state {path} is not a file; name another with --state")
    if found.st_size == 0:
        raise StoreError(
            f"the state {path} is an empty file; restore a copy of it, or delete it to begin anew"
        )


def put(path: str, contents: bytes) -> bool:
    """Put a whole file at a path where none is, durably; False if another was quicker.

    A cut leaves it whole or absent, and at worst a `.new-…` beside it, which the next one clears
    away.
    """
    temporary = Path(f"{path}.new-{os.urandom(4).hex()}")
    try:
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(contents)
        sync(temporary)
        return install(temporary, path)
    except FileNotFoundError:
        # Whoever was quicker cleared ours away.
        if os.path.lexists(path):
            return False
        raise
    finally:
        with suppress(OSError):
            temporary.unlink()


def install(temporary: Path, path: str) -> bool:
    """Give a synced file its name, unless something bears it; False if something does."""
    try:
        os.link(temporary, path)
    except (FileExistsError, FileNotFoundError):
        # Whoever was quicker may have cleared ours away as well.
        return False
    except OSError:
        # No hard links here (FAT). Of two that come this far the first clears away what the
        # second would rename, before it writes a word into its own.
        if os.path.lexists(path):
            return False
        try:
            temporary.rename(path)
        except FileNotFoundError:
            return False
    beginning = f"{Path(path).name}.new-"
    for one in Path(path).parent.iterdir():
        if one.name.startswith(beginning):
            with suppress(OSError):
                one.unlink()
    sync_folder(Path(path).parent)
    return True


def sync(file: Path) -> None:
    """Make what was written to a file outlast a power cut."""
    descriptor = os.open(file, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a directory outlast a power cut, where the system can."""
    if os.name != "posix":
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _unreachable(file: Path, error: OSError) -> StoreError:
    reason = (error.strerror or "not readable").lower()
    return StoreError(
        f"cannot open the state {file}: {reason}; "
        "check its permissions or name another with --state"
    )
