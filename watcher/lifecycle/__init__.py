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
from watcher.lifecycle.clocks import (
    account_after_jump,
    account_as_left,
    batch_by_clock,
    channel_after_jump,
)
from watcher.lifecycle.listed import listed
from watcher.lifecycle.severity import outcome_of, severity_of
from watcher.lifecycle.subjects import (
    ALL_MISSING,
    CHANNEL_FAILING_AFTER,
    LIST,
    LISTED,
    NONE_LISTED,
    OTHERS_LISTED,
    PROBE_INTERVAL,
    AccountStep,
    ChannelStep,
    all_missing,
    answered,
    delivered,
    heard,
    lately_well,
    limited,
    limited_next,
    listless,
    refused,
    silent,
    suspect,
    undelivered,
)

__all__ = [
    "ALL_MISSING",
    "CHANNEL_FAILING_AFTER",
    "LIST",
    "LISTED",
    "NEVER_FOUND",
    "NEVER_FOUND_LOOKS",
    "NONE_LISTED",
    "OTHERS_LISTED",
    "PROBE_INTERVAL",
    "AccountStep",
    "ChannelStep",
    "Step",
    "account_after_jump",
    "account_as_left",
    "advance",
    "all_missing",
    "answered",
    "batch_by_clock",
    "channel_after_jump",
    "delivered",
    "heard",
    "lately_well",
    "limited",
    "limited_next",
    "listed",
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
