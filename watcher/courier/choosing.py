"""What the next message of a channel is to be about, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import SecretStr

from watcher.model import Channel
from watcher.notify import Notifier
from watcher.store.outbox import Waiting

SECOND = 1_000
HOUR = 3_600 * SECOND
# A single event that was refused so often lets its successors pass.
ALONE_LIMIT = 3
# After so many refusals in a row every third try, and then every one, is of what came last: does
# the service want nothing, or none of these?
MANY_REFUSALS = 24
# A service that has refused this often in a row is left alone as one that does not answer.
PATIENT_REFUSALS = 30
# Longer than any pause between tries: a time further ahead was set by a clock that has jumped.
LONGEST_PAUSE = HOUR + SECOND


@dataclass(frozen=True, slots=True)
class Telling:
    """A channel as the courier needs it; times in milliseconds."""

    name: str
    notifier: Notifier
    digest_wait: int = 5 * SECOND
    digest_interval: int = 60 * SECOND
    give_up_after: int = 72 * HOUR
    # Where it leads: what another address refused or could not take says nothing of this one.
    address: SecretStr | None = None


@dataclass(frozen=True, slots=True)
class Pick:
    """What the next message is to be about; where there is nothing yet, when there may be."""

    waiting: tuple[Waiting, ...] = ()
    # How many more of the same kind could have gone with it.
    left: int = 0
    at: int | None = None


def choose(
    waiting: Sequence[Waiting],
    channel: Channel,
    telling: Telling,
    now: int,
    *,
    flush: bool,
    interval: int,
) -> Pick:
    """What the next message is to be about, or when there may be something.

    Trouble of accounts and channels, and recovery from it, never share a message with batches,
    and go first. `flush`: whatever is there goes now. `interval`: how long after the last message
    the next may go, in milliseconds.
    """
    best: int | None = None
    for of_batches in (False, True):
        group = [one for one in waiting if one.of_batch is of_batches]
        # What was refused alone again and again stands aside until its own time comes.
        free = [one for one in group if one.alone < ALONE_LIMIT]
        aside = [one for one in group if one.alone >= ALONE_LIMIT]
        if free:
            at = now if flush else _ready_at(free, channel, telling, interval)
            if not now < at <= now + _longest_wait(telling):
                size = channel.message_size or len(free)
                if size == 1 and _doubtful(channel.failures):
                    return Pick((_of_the_newest(free),), len(free) - 1)
                return Pick(tuple(free[:size]), max(0, len(free) - size))
            best = at if best is None else min(best, at)
        for one in aside:
            if not now < one.due_at <= now + LONGEST_PAUSE:
                return Pick((one,))
            best = one.due_at if best is None else min(best, one.due_at)
    return Pick(at=best)


def _doubtful(failures: int) -> bool:
    return failures > PATIENT_REFUSALS or (failures >= MANY_REFUSALS and failures % 3 == 0)


def _of_the_newest(waiting: Sequence[Waiting]) -> Waiting:
    """What is to be told first of the subject that something happened to last."""
    newest = waiting[-1].subject
    return next(one for one in waiting if one.subject == newest)


def _longest_wait(telling: Telling) -> int:
    """No message waits longer than this: a time further ahead comes from a clock set back."""
    return max(telling.digest_wait, telling.digest_interval)


def _ready_at(chosen: Sequence[Waiting], channel: Channel, telling: Telling, interval: int) -> int:
    """When these may go: together after the window, and not too soon after the last message."""
    ready = min(one.due_at for one in chosen) + telling.digest_wait
    if channel.last_message_at is not None:
        ready = max(ready, channel.last_message_at + interval)
    urgent = [one.due_at for one in chosen if one.urgent]
    return min(ready, min(urgent) + telling.digest_wait) if urgent else ready
