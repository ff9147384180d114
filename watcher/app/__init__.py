"""Builds all of it from settings; shared by the command line, the daemon and tests."""

from watcher.app.app import App
from watcher.app.plan import (
    Plan,
    close_looking,
    close_plan,
    configured_batches,
    open_notifier,
)
from watcher.app.uptime import Uptime

__all__ = [
    "App",
    "Plan",
    "Uptime",
    "close_looking",
    "close_plan",
    "configured_batches",
    "open_notifier",
]
