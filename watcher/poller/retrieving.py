"""Looks at one batch, by asking for it."""

from __future__ import annotations

from dataclasses import dataclass

from watcher import lifecycle
from watcher.clock import Clock
from watcher.errors import Garbled, Missing, ProviderError, RateLimited
from watcher.lifecycle import Step
from watcher.log import Log
from watcher.meter import Meter
from watcher.model import Batch, Observation
from watcher.poller.lateness import Lateness
from watcher.poller.lists import Lists
from watcher.poller.recording import Look, Recorder
from watcher.poller.standing import Standing


@dataclass(slots=True)
class Retriever:
    """Asks for one batch at a time, and records what that means for it and its account."""

    standing: Standing
    lists: Lists
    recorder: Recorder
    lateness: Lateness
    clock: Clock
    log: Log
    meter: Meter

    async def look(self, batch: Batch) -> bool:
        """Look at a batch and record what came of it; whether a doubt about its account is over.

        Raises what kept it from being recorded.
        """
        log, standing = self.log, self.standing
        if batch.next_look_at is not None:
            self.lateness.note(batch.next_look_at, self.clock.now())
        try:
            observation = await self._observe(batch)
        except RateLimited as error:
            await standing.limited(error)
            return False
        except ProviderError as error:
            now, batch = self._judged_now(batch)
            log.debug("look failed", batch=batch.key, error=str(error))
            self.meter.add("looks", account=batch.account, result=type(error).__name__.lower())
            account_step = standing.judge(error, batch.id, now)
            step = self._judge(batch, error, now)
        else:
            now, batch = self._judged_now(batch)
            log.debug("looked", batch=batch.key, status=observation.status)
            self.meter.add("looks", account=batch.account, result="seen")
            account_step = lifecycle.answered(standing.account, now)
            step = lifecycle.advance(batch, observation, now)
            self.lists.doubted.discard(batch.id)
        before, standing.account = standing.account, account_step.account
        if step.probe:
            standing.doubt(now)
        look = Look(batch, step, now, account_before=before, account_step=account_step)
        await self.recorder.record(look)
        return before.suspected and not standing.account.suspected

    def _judged_now(self, batch: Batch) -> tuple[int, Batch]:
        """What the time is, and the batch with its own times as this clock has them."""
        self.standing.notice_jump()
        now = self.clock.now()
        return now, lifecycle.batch_by_clock(batch, now, self.standing.steady_since)

    async def _observe(self, batch: Batch) -> Observation:
        provider = self.standing.looking.provider
        body = await self.standing.send(provider.retrieve(batch.id))
        observation = provider.read(body)
        if observation.id is not None and observation.id != batch.id:
            message = f"the answer is about another batch: {observation.id}"
            raise Garbled(message)
        return observation

    def _judge(self, batch: Batch, error: ProviderError, now: int) -> Step:
        """What a look that failed means for the batch."""
        if not isinstance(error, Missing):
            return lifecycle.unanswered(batch, str(error), now)
        return lifecycle.missed(
            batch,
            str(error),
            now,
            lost_after=self.standing.looking.lost_after,
            account_good_at=self.standing.account.good_at,
        )
