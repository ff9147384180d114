"""Registering and reading batches, for the commands and for submit scripts."""

from __future__ import annotations

from watcher.client.local import DaemonView, LocalClient, Wish, state_exists, user_name
from watcher.client.submitting import register

__all__ = ["DaemonView", "LocalClient", "Wish", "register", "state_exists", "user_name"]
