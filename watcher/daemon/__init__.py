"""Loops, signals, reload: the process that watches until it is stopped.

The first SIGTERM or SIGINT lets each step in hand finish within a grace; the second ends at once.
SIGHUP builds everything anew from the configuration and swaps only if all of it could be built.
"""

from watcher.daemon.loops import LEASE_EVERY, Loops
from watcher.daemon.process import Daemon, check_urls

__all__ = ["LEASE_EVERY", "Daemon", "Loops", "check_urls"]
