"""What `--notify` takes: the name of a configured channel, or an Apprise URL of its own."""

from __future__ import annotations

from watcher.config import ChannelSettings, Settings
from watcher.errors import UsageError
from watcher.text import clean_line

# What a channel is called that was given as a URL.
OWN_CHANNEL = "notify"


def named_channel(settings: Settings, text: str) -> tuple[str, ChannelSettings]:
    """The channel's name and settings. Raises UsageError naming what there is."""
    if "://" in text:
        return OWN_CHANNEL, ChannelSettings.model_validate({"url": text, "digest_wait": "1s"})
    if text not in settings.channels:
        there = ", ".join(settings.channels) or "none"
        shown = clean_line(text, 60)
        raise UsageError(f"--notify: no channel is called {shown!r}: there is {there}")
    return text, settings.channels[text]
