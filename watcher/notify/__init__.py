"""Channels: a message goes out through Apprise, and nothing here knows what a batch is."""

from watcher.notify.address import check_url, load
from watcher.notify.channel import AppriseNotifier, Notifier, Sent

__all__ = ["AppriseNotifier", "Notifier", "Sent", "check_url", "load"]
