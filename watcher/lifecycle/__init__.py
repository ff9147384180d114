"""What an observation, or a failure to get one, means for a batch, an account, a channel.

Pure: takes what is known and `now`, returns what is known next and the event it makes, if any.
A revision rises by one with each event and with nothing else.
"""

from watcher.lifecycle.batch import (
    NEVER_FOUND,
    NEVER_FOUND_LOOKS,
    Step,
    advance,
    missed,
    unanswered,
)
from watcher.lifecycle.severity import outcome_of, severity_of
from watcher.lifecycle.subjects import (
    CHANNEL_FAILING_AFTER,
    LIST,
    PROBE_INTERVAL,
    AccountStep,
    ChannelStep,
    all_missing,
    answered,
    delivered,
    heard,
    limited,
    limited_next,
    listless,
    refused,
    silent,
    suspect,
    undelivered,
)

__all__ = [
    "CHANNEL_FAILING_AFTER",
    "LIST",
    "NEVER_FOUND",
    "NEVER_FOUND_LOOKS",
    "PROBE_INTERVAL",
    "AccountStep",
    "ChannelStep",
    "Step",
    "advance",
    "all_missing",
    "answered",
    "delivered",
    "heard",
    "limited",
    "limited_next",
    "listless",
    "missed",
    "outcome_of",
    "refused",
    "severity_of",
    "silent",
    "suspect",
    "unanswered",
    "undelivered",
]
