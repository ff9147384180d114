"""One try at every delivery that is due, channel by channel.

A channel's trouble delays only itself. What has left the house is written down even while the
process stops; what was not written down is sent again, with the same event id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread

from watcher import cadence, lifecycle, routing
from watcher.clock import Clock, Jumps
from watcher.courier.choosing import (
    ALONE_LIMIT,
    HOUR,
    LONGEST_PAUSE,
    MANY_REFUSALS,
    PATIENT_REFUSALS,
    SECOND,
    Pick,
    Telling,
    choose,
)
from watcher.errors import StoreError
from watcher.lifecycle import ChannelStep
from watcher.log import Log
from watcher.message import Rendered, no_page, render
from watcher.message.render import Pages
from watcher.meter import Meter
from watcher.model import Channel, DeliveryState, Event, Try, TryOutcome
from watcher.notify import Sent
from watcher.store.database import Database
from watcher.store.ledger import Ledger, Told
from watcher.store.outbox import Waiting, read_waiting
from watcher.wake import Wake

Result = TypeVar("Result")
# What one summary settles at most: more is told in the next.
SUMMARY_LIMIT = 5_000
# More events than this are read and rendered in a thread: each takes some 50 microseconds.
READ_IN_PLACE = 50
# Between two readings of what waits, in milliseconds, while none of it may go yet.
READ_AGAIN_AFTER = 500
# After a message that could not hold all that waited, those that are not full are so far apart
# for a while: what comes in one burst is told while it is news.
BURST_INTERVAL = 5 * SECOND
TRIES_BEFORE_DEAD = 10
# What is written down for a message under way when the process stops.
INTERRUPTED = Sent(TryOutcome.UNKNOWN, "stopped before an answer came", refused=False, pause=None)


@dataclass(frozen=True, slots=True)
class Voice:
    """What every message is signed and dated with."""

    instance: str
    zone: tzinfo | None = None
    pages: Pages = no_page


class ChannelCourier:
    """Tells one channel what it is to be told, one message at a time."""

    def __init__(
        self,
        telling: Telling,
        database: Database,
        clock: Clock,
        *,
        board: Callable[[], routing.Switchboard],
        told: Callable[[], None],
        uptime: Callable[[], int],
        voice: Voice,
        holder: str,
        log: Log,
        meter: Meter,
    ) -> None:
        self.telling = telling
        self.voice = voice
        self._database = database
        self._clock = clock
        self._board = board
        self._told = told
        self._uptime = uptime
        self._holder = holder
        self._log = log
        self._meter = meter
        self._next_at: int | None = None
        # When what has been written down since what waits was last read may go at the earliest.
        self._expected_at: int | None = None
        self._read_again_at = 0
        # Whether the last message left some of what waited, and until when, by the monotonic
        # clock, what comes is taken for the rest of that burst.
        self._left_some = False
        self._burst_until = 0.0
        self._jumps = Jumps(clock)
        # By how much the wall clock has jumped since the channel's times were last right.
        self._jumped = 0
        # What became of the last message, when the state could not be told.
        self._unwritten: Callable[[Ledger], int] | None = None
        # The seqs of pending events that could not be read, once said.
        self._unreadable: set[int] = set()
        self.wake = Wake()
        self.sending = False

    def adopt_settings(self, telling: Telling, voice: Voice) -> None:
        """Take a reload's settings; what is under way ends with the old ones."""
        self.telling = telling
        self.voice = voice
        self.wake.set()

    async def once(self, now: int, *, flush: bool = False) -> int:
        """Send one message if it is time; returns how many deliveries it was about."""
        if self._unwritten is not None:
            # Else it would be sent again and again while the state takes nothing.
            await self._write_down(self._unwritten)
        await self._follow_clock()
        self._next_at = self._expected_at = None
        channel, pick, events = await self._claim(now, flush=flush)
        if not events:
            self._next_at = pick.at
            if pick.at is not None:
                self._read_again_at = now + READ_AGAIN_AFTER
            return 0
        return await self._tell(channel, pick, events, now)

    def expect(self) -> None:
        """An event was written down, perhaps for this channel: it goes when its window is over.

        Cheap: of a burst only the first event of a window wakes the loop.
        """
        now = self._clock.now()
        # A clock that was set back would have it read again far too late.
        again = min(self._read_again_at, now + READ_AGAIN_AFTER)
        at = max(now + self.telling.digest_wait, again)
        if self._expected_at is None or at < self._expected_at:
            self._expected_at = at
            self.wake.nudge()

    def next_wait(self) -> float:
        """Seconds until there may be something to send, at most a minute."""
        due = [at for at in (self._next_at, self._expected_at) if at is not None]
        if not due:
            return 60.0
        return min(60.0, max(0.0, (min(due) - self._clock.now()) / SECOND))

    async def _follow_clock(self) -> None:
        """Let the channel's times follow a jump of the wall clock."""
        self._jumped += self._jumps.since_last()
        if not self._jumped:
            return
        name, jump = self.telling.name, self._jumped

        def work(ledger: Ledger) -> None:
            channel = lifecycle.channel_after_jump(ledger.subjects.channel(name), jump)
            ledger.subjects.put_channel(channel)

        await self._write(work)
        self._jumped = 0

    async def _claim(self, now: int, *, flush: bool) -> tuple[Channel, Pick, list[Event]]:
        """The channel and what it is to be told now; nothing while it rests."""
        while True:
            channel, pick = await self._read(partial(self._pick, now, flush))
            if len(pick.waiting) > READ_IN_PLACE:
                events, unreadable = await anyio.to_thread.run_sync(read_waiting, pick.waiting)
            else:
                events, unreadable = read_waiting(pick.waiting)
            if not unreadable:
                return channel, pick, events
            self._log.error("events cannot be read", channel=channel.name, seqs=unreadable[:20])
            self._unreadable.update(unreadable)

    def _pick(self, now: int, flush: bool, ledger: Ledger) -> tuple[Channel, Pick]:  # noqa: FBT001
        """What of all that waits the next message is to be about; nothing of it is read yet."""
        telling, name = self.telling, self.telling.name
        channel = ledger.subjects.channel(name)
        if not ledger.process.holds(f"channel:{name}", self._holder, now):
            # Another process holds the lease, or the clock has jumped.
            return channel, Pick(at=now + SECOND)
        paused = channel.next_try_at
        if paused is not None and now < paused <= now + LONGEST_PAUSE:
            return channel, Pick(at=paused)
        style, most = telling.notifier.style, SUMMARY_LIMIT
        if style.by_program and channel.failures < MANY_REFUSALS:
            # What one message holds, and whether there is more.
            most = style.lines_max + 1
        most += len(self._unreadable)
        waiting = ledger.outbox.waiting(name, most, refusals=ALONE_LIMIT)
        full = len(waiting) >= most
        waiting = [one for one in waiting if one.seq not in self._unreadable]
        interval = self._interval(telling, len(waiting))
        pick = choose(waiting, channel, telling, now, flush=flush, interval=interval)
        if full and style.by_program and pick.waiting and pick.waiting[0].of_batch:
            pick = replace(pick, left=ledger.outbox.pending(name) - len(pick.waiting))
        return channel, pick

    def _interval(self, telling: Telling, waiting: int) -> int:
        """How long after the last message the next may go: a program is told a burst at once."""
        style = telling.notifier.style
        if not style.by_program:
            return telling.digest_interval
        if self._left_some or waiting > style.lines_max:
            return 0
        if self._clock.monotonic() < self._burst_until:
            return min(telling.digest_interval, BURST_INTERVAL)
        return telling.digest_interval

    async def _tell(self, channel: Channel, pick: Pick, events: Sequence[Event], now: int) -> int:
        telling, told = self.telling, pick.waiting
        # Until something may have left the house there is nothing to write down.
        sent: Sent | None = None
        self.sending = True
        try:
            rendered = await self._render(telling, pick, events)
            named = {event.seq for event in rendered.named}
            told = tuple(one for one in pick.waiting if one.seq in named)
            sent = INTERRUPTED
            sent = await telling.notifier.send(rendered.message)
        except Exception:  # noqa: BLE001  the guard around one delivery
            self._log.exception("message failed", channel=telling.name)
            sent = Sent(TryOutcome.FAILED, "our own fault: see the log", refused=True, pause=None)
        finally:
            self.sending = False
            if sent is not None:
                with anyio.CancelScope(shield=True):
                    await self._settle(telling, channel, told, sent, now)
        left = pick.left + len(pick.waiting) - len(told)
        self._left_some = left > 0 and sent.outcome is TryOutcome.DELIVERED
        if self._left_some:
            self._burst_until = self._clock.monotonic() + telling.digest_interval / SECOND
        return len(told)

    async def _render(self, telling: Telling, pick: Pick, events: Sequence[Event]) -> Rendered:
        style, voice = telling.notifier.style, self.voice
        work = partial(
            render,
            events,
            style,
            instance=voice.instance,
            zone=voice.zone,
            waiting=len(events) + pick.left * style.by_program,
            pages=voice.pages,
        )
        if len(events) > READ_IN_PLACE:
            return await anyio.to_thread.run_sync(work)
        return work()

    async def _settle(
        self,
        telling: Telling,
        channel: Channel,
        told: Sequence[Waiting],
        sent: Sent,
        began: int,
    ) -> None:
        now, name = self._clock.now(), telling.name
        jump = self._jumps.since_last()
        channel = lifecycle.channel_after_jump(channel, jump)
        delivered = sent.outcome is TryOutcome.DELIVERED
        step: ChannelStep | None = None
        if delivered:
            step = lifecycle.delivered(channel, now)
        elif sent is not INTERRUPTED and telling.address == self.telling.address:
            # Else the channel is not to blame: we were stopped, or it leads elsewhere by now.
            step = self._failure(channel, told, sent, now)
        if step is None:
            # The channel is left as it is kept: its times follow before the next message.
            self._jumped += jump
        event_told = None
        if step is not None and step.event is not None:
            event_told = Told(step.event, routing.audience(step.event, self._board()))
        attempt = Try(began, sent.outcome, sent.error)
        uptime = self._uptime()

        def work(ledger: Ledger) -> int:
            ledger.outbox.settle(name, told, attempt, now=now, uptime=uptime, refused=sent.refused)
            dead = 0
            if not delivered and sent is not INTERRUPTED:
                dead = self._bury(ledger, told, sent, now, uptime)
            if delivered and channel.failures > PATIENT_REFUSALS:
                # It was the service that refused everything, not each event that was refused.
                ledger.outbox.take_back(name, ALONE_LIMIT, now)
            if step is not None:
                ledger.record_channel(step.channel, event_told, now)
            return dead

        dead = await self._write_down(work)
        self._report(told, sent, dead)
        if event_told is not None:
            self._log.warning(str(event_told.event.type), channel=name, reason=sent.error)
            self._told()

    def _failure(
        self, channel: Channel, told: Sequence[Waiting], sent: Sent, now: int
    ) -> ChannelStep:
        alone = told[0].alone + 1 if sent.refused and len(told) == 1 else 0
        if alone > ALONE_LIMIT and channel.failing_since is None:
            # It has long stood aside: that says nothing of a channel that takes the others.
            return ChannelStep(channel)
        failures = channel.failures + 1
        if sent.refused and failures <= PATIENT_REFUSALS:
            # The service is there and reads: what it does not want is soon found by halving.
            failures = alone if 0 < alone < ALONE_LIMIT else 1
        pause = cadence.next_try(channel.name, failures)
        since = now if channel.failing_since is None else min(channel.failing_since, now)
        until_told = since + lifecycle.CHANNEL_FAILING_AFTER - now
        if until_told > 0:
            # Only a try can find out that it has been failing for so long.
            pause = min(pause, until_told)
        pause = max(pause, min(sent.pause or 0, HOUR))
        size = channel.message_size
        if sent.refused:
            size = max(1, len(told) // 2)
        error = sent.error or str(sent.outcome)
        return lifecycle.undelivered(
            channel, error, now, next_try_at=now + pause, message_size=size
        )

    def _bury(
        self, ledger: Ledger, told: Sequence[Waiting], sent: Sent, now: int, uptime: int
    ) -> int:
        """Give up what has been tried long and often enough; put off what stands aside."""
        name, given_up = self.telling.name, defaultdict[int, list[int]](list)
        for one in told:
            tried_for = 0 if one.first_try_uptime is None else uptime - one.first_try_uptime
            attempts = one.attempts + 1
            if attempts >= TRIES_BEFORE_DEAD and tried_for >= self.telling.give_up_after:
                given_up[attempts].append(one.seq)
            elif sent.refused and len(told) == 1 and one.alone + 1 >= ALONE_LIMIT:
                pause = cadence.next_try(f"{name}/{one.id}", one.alone + 1)
                ledger.outbox.put_off(one.seq, name, now + pause)
        for attempts, seqs in given_up.items():
            reason = f"given up after {attempts} tries: {sent.error}"
            ledger.outbox.end(seqs, name, DeliveryState.DEAD, reason, now)
        return sum(map(len, given_up.values()))

    def _report(self, told: Sequence[Waiting], sent: Sent, dead: int) -> None:
        name, events = self.telling.name, [one.id for one in told[:20]]
        self._meter.add("deliveries", len(told), channel=name, outcome=str(sent.outcome))
        if sent.outcome is TryOutcome.DELIVERED:
            self._log.info("message sent", channel=name, events=events, count=len(told))
        else:
            self._log.warning(
                "message not sent",
                channel=name,
                outcome=str(sent.outcome),
                error=sent.error,
                events=events,
                count=len(told),
            )
        if dead:
            self._log.error("deliveries dead", channel=name, count=dead, error=sent.error)

    async def _write_down(self, work: Callable[[Ledger], int]) -> int:
        """Write what became of a message, now or before the next one is sent."""
        try:
            dead = await self._write(work)
        except StoreError:
            self._unwritten = work
            raise
        self._unwritten = None
        return dead

    async def _write(self, work: Callable[[Ledger], Result]) -> Result:
        return await self._database.transaction(lambda transaction: work(Ledger(transaction)))

    async def _read(self, work: Callable[[Ledger], Result]) -> Result:
        return await self._database.query(lambda transaction: work(Ledger(transaction)))
