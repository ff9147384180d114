"""Where the configuration and the state lie, and how a file is read that others must not bend."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from watcher.errors import ConfigError

FILE_NAME = "config.toml"
STATE_NAME = "watcher.db"
# Five thousand [[batches]] fit; a file beyond this is not a configuration.
MOST_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Places:
    """Where this machine keeps things; a test hands in its own."""

    user_config: Path
    user_state: Path
    system_config: Path = Path("/etc/watcher") / FILE_NAME
    system_state: Path = Path("/var/lib/watcher")
    run_secrets: Path = Path("/run/secrets")

    @classmethod
    def of_this_machine(cls) -> Places:
        """The user's directories by the platform's custom, the system's by Unix's."""
        # Takes 20 ms to load, which a test that brings its own places need not pay.
        from platformdirs import PlatformDirs

        directories = PlatformDirs("watcher", appauthor=False)
        return cls(
            user_config=Path(directories.user_config_dir),
            user_state=Path(directories.user_state_dir),
        )


@dataclass(frozen=True, slots=True)
class Contents:
    """A file as it was when read."""

    raw: bytes
    # Whether anyone on the machine may read it.
    open_to_all: bool


def find(path: Path | None, environ: Mapping[str, str], places: Places) -> Path | None:
    """The configuration in force, absolute; None if there is none. Never the working directory's.

    A file asked for by `--config` or `$WATCHER_CONFIG` must exist; /dev/null stands for none.
    """
    if path is not None or (named := environ.get("WATCHER_CONFIG", "").strip()):
        asker = "--config" if path is not None else "$WATCHER_CONFIG"
        chosen = expanded(path if path is not None else named).absolute()
        if str(chosen) == os.devnull:
            return None
        if not _exists(chosen):
            raise ConfigError(f"no file {chosen}, which {asker} names")
        return chosen
    candidates = [
        *(folder / FILE_NAME for folder in _directories(environ, "CONFIGURATION_DIRECTORY")),
        places.user_config / FILE_NAME,
        places.system_config,
    ]
    return next((candidate for candidate in candidates if _exists(candidate)), None)


def expanded(path: str | Path) -> Path:
    """The path with `~` put in full; a user nobody knows is left as written."""
    # Path.expanduser raises for such a user, and the file is then reported missing anyway.
    return Path(os.path.expanduser(path))  # noqa: PTH111


def _directories(environ: Mapping[str, str], variable: str) -> list[Path]:
    # systemd separates several by colons.
    return [Path(part) for part in environ.get(variable, "").split(":") if part.startswith("/")]


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        # Passing over a file we may not see would run with another configuration, unnoticed.
        raise ConfigError(_unreadable(path, error)) from None
    return True


def _unreadable(path: Path, error: OSError) -> str:
    return (
        f"{path}: cannot be read: {error.strerror}. "
        f"Run watcher as the user it belongs to, or without it: --config {os.devnull}"
    )


def state_path(
    flag: str | None,
    variable: str | None,
    key: str | None,
    *,
    config: Path | None,
    environ: Mapping[str, str],
    places: Places,
) -> str:
    """The state's file: of `--state`, else `$WATCHER_STATE`, else the key, else the default.

    A relative path is the working directory's where someone typed it (flag, variable), and the
    default directory's in the configuration. A directory gets the default file name.
    """
    folder = _state_directory(config, environ, places)
    for text, asker, origin in (
        (flag, "--state", Path()),
        (variable, "$WATCHER_STATE", Path()),
        (key, f"{config}: state", folder),
    ):
        if text:
            return str(_state_of(text, asker, origin))
    return str(folder / STATE_NAME)


def _state_of(text: str, asker: str, origin: Path) -> Path:
    text = text.strip()
    if not text.isprintable() or not text:
        raise ConfigError(f"{asker}: must be one printable line: the path of a file")
    if "://" in text:
        scheme = urlsplit(text).scheme
        if scheme.startswith("postgres"):
            raise ConfigError(
                f"{asker}: a state in PostgreSQL is not supported yet: "
                f'write the path of a file, as in "{STATE_NAME}"'
            )
        raise ConfigError(f'{asker}: not a path: write one, as in "{STATE_NAME}"')
    path = origin / expanded(text)
    try:
        is_directory = path.is_dir()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise ConfigError(f"{asker}: the name of the file is too long: write another") from None
    if text.endswith(("/", os.sep)) or is_directory:
        path = path / STATE_NAME
    return Path(os.path.normpath(path.absolute()))


def _state_directory(config: Path | None, environ: Mapping[str, str], places: Places) -> Path:
    if named := _directories(environ, "STATE_DIRECTORY"):
        return named[0]
    return places.system_state if config == places.system_config else places.user_state


def read(path: Path, *, most_bytes: int = MOST_BYTES) -> Contents:
    """The file's bytes. Raises OSError, and ValueError that says why it is not one we read."""
    contents, _ = _read(path, most_bytes)
    return contents


def read_trusted(path: Path) -> Contents:
    """The configuration's bytes, if nobody but root and this user can have written them.

    Raises ConfigError. Rights are those of the open file: a swap in between changes nothing.
    """
    try:
        contents, info = _read(path, MOST_BYTES)
    except OSError as error:
        raise ConfigError(_unreadable(path, error)) from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    if (objection := distrust(info, path)) and not _on_read_only_mount(path):
        raise ConfigError(f"{path}: {objection}")
    return contents


def _read(path: Path, most_bytes: int) -> tuple[Contents, os.stat_result]:
    # Opening a pipe would otherwise wait for whoever writes to it.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        info = os.fstat(descriptor)
        if stat.S_ISDIR(info.st_mode):
            raise ValueError(f"is a directory: name a file, as in {path / FILE_NAME}")
        if not stat.S_ISREG(info.st_mode):
            raise ValueError("is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            raw = file.read(most_bytes + 1)
    finally:
        os.close(descriptor)
    if len(raw) > most_bytes:
        raise ValueError(f"is larger than {most_bytes:,} bytes")
    open_to_all = bool(info.st_mode & stat.S_IROTH) and os.name == "posix"
    return Contents(raw, open_to_all and not _on_read_only_mount(path)), info


def distrust(info: os.stat_result, path: Path) -> str | None:
    """Why a file with these rights cannot be trusted, and the remedy; None if it can."""
    if os.name != "posix":
        return None
    user = os.geteuid()
    if info.st_uid not in {0, user}:
        return f"belongs to user {info.st_uid}, neither root nor you: chown {user} {path}"
    if info.st_mode & stat.S_IWOTH:
        return f"others may write to it: chmod go-w {path}"
    if info.st_mode & stat.S_IWGRP and not _is_private_group(info.st_gid):
        return f"its group may write to it: chmod go-w {path}"
    return None


def _is_private_group(group: int) -> bool:
    """Whether a group holds nobody but root, or nobody but this user.

    Debian's users have a group of their own name and a umask that lets it write, and OpenShift
    gives every container's files to group root.
    """
    if group == 0:
        return True
    import grp
    import pwd

    try:
        user, entry = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    alone = set(entry.gr_mem) <= {user.pw_name}
    return group == user.pw_gid and entry.gr_name == user.pw_name and alone


def _on_read_only_mount(path: Path) -> bool:
    if os.name != "posix":
        return False
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False
