"""A machine that holds nothing but the configuration a test gives it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from watcher.config import (
    AccountSettings,
    BatchSettings,
    ChannelSettings,
    HeartbeatSettings,
    Places,
    PollingSettings,
    RetentionSettings,
    RouteSettings,
    Settings,
    load,
)
from watcher.errors import ConfigError

SECRET = "sk-Tell4Nobody0123456789"
ACCOUNT = '[accounts.main]\nprovider = "openai"\napi_key_env = "KEY"\n'
CHANNEL = '[channels.team]\nurl_env = "HOOK"\n'

# Every table there is, by its header.
SECTIONS: dict[str, type[BaseModel]] = {
    "[polling]": PollingSettings,
    "[accounts.NAME]": AccountSettings,
    "[channels.NAME]": ChannelSettings,
    "[[routes]]": RouteSettings,
    "[[batches]]": BatchSettings,
    "[retention]": RetentionSettings,
    "[heartbeat]": HeartbeatSettings,
}
PLAIN_KEYS = ("state", "instance", "timezone", "operators")


class Bench:
    """Loads a text as the configuration of a machine that holds nothing else."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.file = places.user_config / "config.toml"
        self.file.parent.mkdir()

    def write(self, text: str | bytes) -> Path:
        self.file.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.file.chmod(0o600)
        return self.file

    def load(self, text: str | bytes = "", **environ: str) -> Settings:
        self.write(text)
        return load(environ=environ, places=self.places)

    def mistake(self, text: str | bytes = "", **environ: str) -> str:
        with pytest.raises(ConfigError) as caught:
            self.load(text, **environ)
        message = str(caught.value)

        assert SECRET not in message
        assert len(message.splitlines()) <= 2
        # Nothing hangs on to what pydantic was given, not even for a traceback.
        assert caught.value.__cause__ is None
        return message


def write_file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path
