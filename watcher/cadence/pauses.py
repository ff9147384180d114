"""How long to leave an account alone after a 429, and a channel after a failure."""

from __future__ import annotations

from watcher.cadence.jittering import STEEPEST, jitter

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

LONGEST_PAUSE = HOUR
FIRST_PAUSE = 5 * SECOND
LONGEST_BACKOFF_PAUSE = 5 * MINUTE


def account_pause(account: str, limited: int, retry_after: int | None) -> int:
    """How long an account rests after its `limited`-th 429 in a row, in milliseconds."""
    if retry_after is not None:
        # A hair later than asked, and not all accounts of one key in the same moment; a request
        # to wait no time at all is not taken at its word.
        asked = max(SECOND, retry_after)
        return min(LONGEST_PAUSE, asked + round(SECOND * jitter(account, limited)))
    steps = 2.0 ** min(limited, STEEPEST)
    pause = min(float(LONGEST_BACKOFF_PAUSE), FIRST_PAUSE * steps)
    return round(pause * (0.75 + 0.5 * jitter(account, limited)))


def next_try(channel: str, failures: int) -> int:
    """How long a channel rests after its `failures`-th failure in a row, in milliseconds.

    5 s, 20 s, 80 s, 5 min, 21 min and then an hour, each a fifth more or less.
    """
    steps = 4.0 ** min(max(0, failures - 1), STEEPEST)
    pause = min(float(HOUR), FIRST_PAUSE * steps)
    return min(HOUR, round(pause * (0.8 + 0.4 * jitter(channel, failures))))
