"""Secrets, from wherever they are kept to a `SecretStr`; nothing here shows or keeps one."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from watcher.config import files
from watcher.config.kinds import shown_path, shown_variable
from watcher.errors import ConfigError

# The longest known are signed tokens of some 4 KiB.
MOST_BYTES = 64 * 1024

Stamp = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stands around a setting when its secret is looked for."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    # The configuration's directory: where a relative path begins.
    directory: Path | None = None
    run_secrets: Path = Path("/run/secrets")

    @property
    def secret_stores(self) -> tuple[Path, ...]:
        """Directories of secrets that the system looks after, in the order they are asked."""
        named = self.environ.get("CREDENTIALS_DIRECTORY", "")
        return (*((Path(named),) if named.startswith("/") else ()), self.run_secrets)


@dataclass(slots=True)
class Secret:
    """Where one secret comes from. Reads it anew each time it is asked, and blocks meanwhile."""

    # As it stands in messages: `account "openai"`.
    owner: str
    # What the settings call it: `api_key` or `url`.
    key: str
    literal: SecretStr | None = None
    variable: str | None = None
    file: str | None = None
    # A URL may hold spaces between words; a key may not, and one that does was pasted wrongly.
    spaces_allowed: bool = False
    surroundings: Surroundings = field(default_factory=Surroundings, compare=False, repr=False)
    _seen: Stamp | None = field(default=None, compare=False, repr=False)

    @property
    def source(self) -> str:
        """Where it comes from, for people: `$OPENAI_API_KEY`, a path, `the configuration`."""
        if self.variable:
            name = shown_variable(self.variable)
            return f"${name}" if name else f"the variable that {self.key}_env names"
        return str(self.path()) if self.file else "the configuration"

    def read(self) -> SecretStr:
        """The secret without white space around it. Raises ConfigError with the remedy."""
        if self.file:
            text = self._read_file()
        elif self.variable:
            text = self.surroundings.environ.get(self.variable, "")
        else:
            text = self.literal.get_secret_value() if self.literal else ""
        text = text.strip().removeprefix("\ufeff").strip()
        if not text:
            raise ConfigError(f"{self.owner}: {self._missing()}")
        if not text.isascii() or not text.isprintable():
            raise ConfigError(
                f"{self.owner}: the secret of {self.source} holds a line end or a character "
                "beyond ASCII: keep nothing but the secret there"
            )
        if " " in text and not self.spaces_allowed:
            raise ConfigError(
                f"{self.owner}: the secret of {self.source} holds a space: "
                "keep the bare key there, without Bearer or a name before it"
            )
        return SecretStr(text)

    def changed(self) -> bool:
        """Whether its file is another than at the last `read`; False for all but files."""
        return self.file is not None and self._stamp(self.path()) != self._seen

    def path(self) -> Path:
        """Where its file is, or would be looked for last; only for a secret that has a file."""
        given = files.expanded(self.file or "")
        if given.is_absolute():
            return given
        directory = self.surroundings.directory
        if self._is_bare:
            for store in self.surroundings.secret_stores:
                if _is_file(store / given):
                    return store / given
            # Whoever filled the working directory must not be able to name the secret.
            return (directory or self.surroundings.run_secrets) / given
        return (directory or Path.cwd()) / given

    @property
    def _is_bare(self) -> bool:
        return os.path.basename(self.file or "") == self.file  # noqa: PTH119 - ./name is not bare

    def warning(self) -> str | None:
        """What is wrong with how its file is kept, None if nothing."""
        if not self.file or (path := self.path()).parent in self.surroundings.secret_stores:
            return None
        try:
            open_to_all = files.read(path, most_bytes=MOST_BYTES).open_to_all
        except (OSError, ValueError):
            return None
        return f"{path}: others can read this secret: chmod 600 {path}" if open_to_all else None

    def _read_file(self) -> str:
        path = self.path()
        # Before reading: a change in between then shows as one.
        self._seen = self._stamp(path)
        try:
            raw = files.read(path, most_bytes=MOST_BYTES).raw
        except FileNotFoundError:
            no_file = f"no file {shown_path(path)}{self._searched()}"
            raise ConfigError(f"{self.owner}: {no_file}") from None
        except OSError as error:
            # A key in place of a path may be too long for one.
            shown = shown_path(path) if self._seen is None else path
            raise ConfigError(f"{self.owner}: {shown} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise ConfigError(f"{self.owner}: {path} {error}") from None
        # What is not ASCII is refused by `read`, however it was encoded.
        return raw.decode("utf-8", "replace")

    def _searched(self) -> str:
        stores = self.surroundings.secret_stores
        others = [str(store) for store in stores if store != self.path().parent]
        if not self._is_bare or not others:
            return f": create it, or correct {self.key}_file"
        restart = " (a systemd credential comes with a restart)" if len(stores) > 1 else ""
        names = " and ".join(others)
        return f", nor one of that name in {names}: create it, or correct {self.key}_file{restart}"

    def _missing(self) -> str:
        if self.variable:
            name = shown_variable(self.variable)
            which = name or f"that {self.key}_env names"
            return (
                f"the environment variable {which} is not set or empty: "
                "set it and start watcher again"
            )
        if not self.file:
            return f"its {self.key} is empty: write it, or name {self.key}_env or {self.key}_file"
        path = self.path()
        if path.parent in self.surroundings.secret_stores[:-1]:
            return f"{path} is empty: systemd fills it when the service starts, so restart it"
        return f"{path} is empty: write the secret into it"

    @staticmethod
    def _stamp(path: Path) -> Stamp | None:
        try:
            info = path.stat()
        except OSError:
            return None
        # The inode tells a file put in place of another, the change time a mended permission.
        return (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        # A key in place of a name may be longer than a name can be.
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False
