"""The only reader of files and environment: settings, or a mistake told in a line or two."""

from __future__ import annotations

from watcher.config.durations import parse_duration
from watcher.config.files import Places
from watcher.config.loading import load
from watcher.config.sections import (
    AccountSettings,
    BatchSettings,
    ChannelSettings,
    HeartbeatSettings,
    PollingSettings,
    RetentionSettings,
    RouteSettings,
)
from watcher.config.settings import Settings
from watcher.config.summary import example, fingerprint, public_names

__all__ = [
    "AccountSettings",
    "BatchSettings",
    "ChannelSettings",
    "HeartbeatSettings",
    "Places",
    "PollingSettings",
    "RetentionSettings",
    "RouteSettings",
    "Settings",
    "example",
    "fingerprint",
    "load",
    "parse_duration",
    "public_names",
]
