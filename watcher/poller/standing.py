"""How one account stands: its credential, its pauses, the doubts about it, and who hears of them.

The account's own probe decides whether a refusal is the account's or one batch's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from watcher import cadence, lifecycle, routing
from watcher.clock import Clock, Jumps
from watcher.errors import (
    ConfigError,
    Garbled,
    Missing,
    ProviderError,
    RateLimited,
    Refused,
    Unauthorized,
    Unavailable,
)
from watcher.lifecycle import LIST, AccountStep
from watcher.log import Log
from watcher.meter import Meter
from watcher.model import Account, Event, EventType, Observation, Request
from watcher.poller.looking import Looking
from watcher.providers.pages import read_page
from watcher.store.ledger import Ledger, Told

Result = TypeVar("Result")
SECOND = 1_000
# So many of the newest batches are asked for where the list is to vouch for a 404.
NEWEST = 100
# Of so many open batches all are in doubt, where the account's are said to be.
SAMPLE = 200
# Seconds between two looks at a credential's file.
SECRET_READ_EVERY = 60


class Write(Protocol):
    """Runs a function of the ledger as one transaction."""

    async def __call__(self, work: Callable[[Ledger], Result]) -> Result: ...


class Standing:
    """What is known of an account from moment to moment; the store keeps what must outlive us."""

    def __init__(
        self,
        looking: Looking,
        clock: Clock,
        write: Write,
        *,
        board: Callable[[], routing.Switchboard],
        told: Callable[[], None],
        log: Log,
        meter: Meter,
    ) -> None:
        self.looking = looking
        self.account = Account(looking.name, looking.provider.name)
        # Since when the wall clock has gone steadily, as far as this process knows.
        self.steady_since = 0
        # Why the account is not looked at, when its credential cannot be read.
        self.disabled: str | None = None
        # Whether the last write failed: what is seen could not be kept.
        self.unwritable = False
        # Whether this process has made a request, and whether any was answered, well or not.
        self.asked = False
        self.reached = False
        self._clock = clock
        self._jumps = Jumps(clock)
        self._write = write
        self._board = board
        self._told = told
        self._log = log
        self._meter = meter
        # What the store holds of it, but for when it last answered; None: not known.
        self._kept: Account | None = None
        self._secret: str | None = None
        self._secret_read_at: float | None = None
        # Whether something could not be recorded: its event's id may have been used already.
        self._behind = False
        # Whether a 404 waits for the list to vouch for it.
        self._doubted = False
        # Whether the account's list is refused as no list would be: it has none.
        self._listless = False

    async def begin(self) -> None:
        """Read what is remembered of the account."""
        name, provider = self.looking.name, self.looking.provider.name
        left = await self._write(lambda ledger: ledger.subjects.account(name, provider))
        left = lifecycle.account_as_left(left, self._clock.now())
        self.account = replace(left, provider=provider)
        if self.account.trouble is None:
            # Silence is only counted while somebody listens.
            self.account = replace(self.account, silent_since=None, missing_since=None)

    def adopt_settings(self, looking: Looking) -> None:
        """Take a reload's settings; the credential is read anew."""
        self.looking = looking
        self._secret_read_at = None

    def notice_jump(self) -> bool:
        """Let what was measured by the wall clock follow a jump of it.

        Returns whether much may be overdue: the clock has jumped, or the process stood still.
        """
        jump = self._jumps.since_last()
        if jump:
            self.account = lifecycle.account_after_jump(self.account, jump)
            self.steady_since = self._clock.now()
        return bool(jump) or self._jumps.stood_still

    # Its credential and its requests

    async def read_credential(self, now: int) -> None:
        """Read the secret when a minute has passed: a key file may have been replaced."""
        moment = self._clock.monotonic()
        if self._secret_read_at is not None and moment - self._secret_read_at < SECRET_READ_EVERY:
            return
        self._secret_read_at = moment
        try:
            secret = await self.looking.credential()
        except ConfigError as error:
            if self.disabled != str(error):
                self._log.error("account disabled", account=self.looking.name, error=str(error))
            self.disabled = str(error)
            return
        if self._secret is not None and secret != self._secret and self.account.suspected:
            self.account = replace(self.account, probe_due_at=now)
        self._secret, self.disabled = secret, None

    def paused(self, now: int) -> bool:
        """Whether the provider asked for fewer requests, and the time is not over."""
        until = self.account.paused_until
        if until is None or until <= now:
            return False
        if until <= now + cadence.LONGEST_PAUSE + SECOND:
            return True
        # Set by a clock that has jumped back since.
        self.account = replace(self.account, paused_until=None)
        return False

    async def send(self, request: Request) -> object:
        """Sign a request and send it. Raises ProviderError."""
        provider = self.looking.provider
        signed = provider.authorize(request, self._secret or "", self._clock.now())
        self.asked = True
        try:
            body = await self.looking.wire.send(signed)
        except ProviderError as error:
            self.reached = self.reached or error.status_code is not None
            if isinstance(error, Unauthorized):
                # The secret may have been replaced.
                self._secret_read_at = None
            raise
        self.reached = True
        return body

    # What its answers mean

    def judge(self, error: ProviderError, subject: str, now: int) -> AccountStep:
        """What a look that failed at a batch, `subject` its id, means for the account."""
        account, text = self.account, str(error)
        if isinstance(error, Unavailable):
            return lifecycle.silent(
                account, text, now, unreachable_after=self.looking.unreachable_after
            )
        if isinstance(error, Unauthorized):
            if account.suspected or self._listless:
                return lifecycle.refused(account, subject, text, now)
            return AccountStep(lifecycle.suspect(lifecycle.heard(account), now))
        if isinstance(error, Garbled | Refused) and not lifecycle.lately_well(account, now):
            # One batch's garbage, or a box in between that answers everything?
            return AccountStep(lifecycle.suspect(lifecycle.heard(account), now))
        return AccountStep(lifecycle.heard(account))

    def doubt(self, now: int) -> None:
        """A batch is answered 404: the list is to say whether others are found."""
        self._doubted = True
        self.account = lifecycle.suspect(self.account, now)

    async def limited(self, error: RateLimited) -> None:
        """The account was asked to slow down."""
        self.notice_jump()
        now, account = self._clock.now(), self.account
        number = lifecycle.limited_next(account, now)
        pause = cadence.account_pause(account.name, number, error.retry_after)
        self.account = lifecycle.limited(account, now, pause, str(error))
        self._meter.add("looks", account=account.name, result="limited")
        self._log.warning("account paused", account=account.name, seconds=pause / SECOND)
        await self.keep(None, now)

    async def probe(self) -> bool:
        """Ask the account for its list, and record what that means; whether a doubt is over."""
        looking = self.looking
        doubted = self._doubted or self.account.missing_since is not None
        self._doubted = False
        try:
            request = looking.provider.page(None, NEWEST if doubted else 1)
            page, _ = await read_page(looking.provider, await self.send(request))
            denied = await self._denied(page) if doubted else None
        except RateLimited as error:
            await self.limited(error)
            return False
        except ProviderError as error:
            self.notice_jump()
            now = self._clock.now()
            self._log.debug("probe failed", account=looking.name, error=str(error))
            step = self._judge_probe(error, now)
            self._listless = isinstance(error, Refused | Missing)
        else:
            self.notice_jump()
            now = self._clock.now()
            step = lifecycle.answered(self.account, now)
            if denied is not None:
                step = lifecycle.all_missing(
                    self.account, now, unreachable_after=looking.unreachable_after, reason=denied
                )
            self._listless = False
        before, self.account = self.account, step.account
        try:
            await self.keep(None if step.event is None else self.address(step.event), now)
        except Exception:
            self.take_back(step, before)
            raise
        return before.suspected and not self.account.suspected

    async def _denied(self, page: list[Observation]) -> str | None:
        """Why the list does not vouch for answers 404; None if it does."""
        name, ids = self.looking.name, [one.id for one in page if one.id is not None]

        def work(ledger: Ledger) -> str | None:
            if any(batch.missing_looks for batch in ledger.batches.of_ids(name, ids)):
                return lifecycle.LISTED
            seen = ledger.batches.seen_open(name, SAMPLE)
            # The only one may well be gone, and a list be empty or show others without it.
            if len(seen) > 1 and (not ids or all(batch.missing_looks for batch in seen)):
                return lifecycle.OTHERS_LISTED if ids else lifecycle.NONE_LISTED
            return None

        return await self._write(work)

    def _judge_probe(self, error: ProviderError, now: int) -> AccountStep:
        account, text, patience = self.account, str(error), self.looking.unreachable_after
        if isinstance(error, Unauthorized):
            return lifecycle.refused(account, LIST, text, now)
        if isinstance(error, Unavailable):
            return lifecycle.silent(account, text, now, unreachable_after=patience)
        if isinstance(error, Missing):
            return lifecycle.all_missing(account, now, unreachable_after=patience)
        if isinstance(error, Refused) and (error.status_code or 0) >= 400:
            return AccountStep(lifecycle.listless(account, now))
        reason = f"no answer can be used: {text}"
        return lifecycle.all_missing(account, now, unreachable_after=patience, reason=reason)

    # Keeping and telling

    def news(self, event: Event | None) -> Account | None:
        """The account if it is to be kept; it knows an unknown word that has just been told."""
        if event is not None and event.type is EventType.UNKNOWN and event.batch is not None:
            word = event.batch.raw_status or ""
            if word not in self.account.words:
                self.account = replace(self.account, words=(*self.account.words, word)[-100:])
        # When it last answered is not worth a write per look.
        if self._kept == replace(self.account, good_at=None):
            return None
        self._kept = replace(self.account, good_at=None)
        return self.account

    def forget_news(self, known: tuple[str, ...]) -> None:
        """What was to be kept was not, and nobody has been told of words not in `known`."""
        self._kept = None
        words = tuple(word for word in self.account.words if word in known)
        self.account = replace(self.account, words=words)

    async def catch_up(self) -> None:
        """Learn what another poller of this account, since replaced, has told meanwhile."""
        if not self._behind:
            return
        name, provider = self.looking.name, self.looking.provider.name
        kept = await self._write(lambda ledger: ledger.subjects.account(name, provider))
        if kept.revision > self.account.revision:
            self.account = replace(
                self.account,
                revision=kept.revision,
                trouble=kept.trouble,
                trouble_since=kept.trouble_since,
                trouble_reason=kept.trouble_reason,
            )
        self._behind = False

    def take_back(self, step: AccountStep, before: Account) -> None:
        """Forget an event of the account that could not be recorded, so that it is made again."""
        self._behind = True
        if step.event is not None and self.account.revision == step.account.revision:
            self.account = replace(
                self.account,
                revision=before.revision,
                trouble=before.trouble,
                trouble_since=before.trouble_since,
                trouble_reason=before.trouble_reason,
            )

    async def keep(self, told: Told | None, now: int) -> None:
        """Write the account's state and what it has to tell."""
        account, self._kept = self.account, None
        await self._write(lambda ledger: ledger.record_account(account, told, now))
        self.unwritable, self._kept = False, replace(account, good_at=None)
        self.tell(told)

    def address(self, event: Event) -> Told:
        """The event with everyone who wants it."""
        news = True
        if event.type is EventType.UNKNOWN and event.batch is not None:
            news = (event.batch.raw_status or "") not in self.account.words
        return Told(event, routing.audience(event, self._board(), news=news))

    def tell(self, *recorded: Told | None) -> None:
        """Log what was recorded, and wake whoever is to tell it."""
        for told in recorded:
            if told is not None:
                self._log_event(told)
        if any(told is not None for told in recorded):
            self._told()

    def _log_event(self, told: Told) -> None:
        event = told.event
        values: dict[str, Any] = {"id": event.id, "severity": event.severity}
        if event.batch is not None:
            values |= {"batch": event.batch.key, "outcome": event.batch.outcome}
        if event.reason is not None:
            values["reason"] = event.reason
        values["channels"] = [choice.channel for choice in told.choices if choice.taken]
        self._log.info(str(event.type), **values)
        self._meter.add("events", type=str(event.type))
