"""What `--notify` takes: the name of a configured channel, or an Apprise URL of its own."""

from __future__ import annotations

from watcher.config import ChannelSettings, Settings
from watcher.directory import no_such_channel
from watcher.errors import UsageError

# What a channel is called that was given as a URL.
OWN_CHANNEL = "notify"


def named_channel(settings: Settings, text: str) -> tuple[str, ChannelSettings]:
    """The channel's name and settings. Raises UsageError naming what there is."""
    if "://" in text:
        return OWN_CHANNEL, ChannelSettings.model_validate({"url": text, "digest_wait": "1s"})
    if text not in settings.channels:
        raise UsageError(f"--notify: {no_such_channel(text, settings.channels)}")
    return text, settings.channels[text]
