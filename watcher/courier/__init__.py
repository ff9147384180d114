"""One try at every delivery that is due, channel by channel."""

from __future__ import annotations

from watcher.courier.absent import sweep_absent
from watcher.courier.channel import TRIES_BEFORE_DEAD, ChannelCourier, Voice
from watcher.courier.choosing import ALONE_LIMIT, Telling

__all__ = [
    "ALONE_LIMIT",
    "TRIES_BEFORE_DEAD",
    "ChannelCourier",
    "Telling",
    "Voice",
    "sweep_absent",
]
