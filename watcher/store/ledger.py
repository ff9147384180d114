"""Every SQL statement, as verbs. A ledger lives inside one transaction.

    batch = await database.transaction(lambda work: Ledger(work).batches.get("openai", "batch_1"))

The statements are what SQLite and Postgres share: `$1` parameters, ON CONFLICT, RETURNING.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from watcher.model import Account, Batch, Channel, Choice, Event
from watcher.store.agenda import Agenda
from watcher.store.batches import Batches
from watcher.store.database import Transaction
from watcher.store.events import Events
from watcher.store.outbox import Outbox
from watcher.store.process import Process
from watcher.store.subjects import Subjects


@dataclass(frozen=True, slots=True)
class Told:
    """An event to be recorded, with the channels chosen for it and why."""

    event: Event
    choices: tuple[Choice, ...]


class Ledger:
    """All tables, by what they are about."""

    def __init__(self, work: Transaction) -> None:
        self.batches = Batches(work)
        self.agenda = Agenda(work)
        self.events = Events(work)
        self.outbox = Outbox(work)
        self.subjects = Subjects(work)
        self.process = Process(work)

    def record(
        self, before: Batch, after: Batch, told: Told | None, account: Account | None, now: int
    ) -> bool:
        """Write a batch after a look, its event and its deliveries: all or nothing.

        False, and nothing written, when the batch was changed, registered anew or removed since
        `before` was read: it is then due still, and looked at again.
        """
        if not self.batches.advance_if_unchanged(before, after):
            return False
        if told is not None:
            self._tell(told, now)
        if account is not None:
            self.subjects.put_account(account)
        return True

    def record_account(self, account: Account, told: Told | None, now: int) -> None:
        """Write an account's state and the event it made."""
        self.subjects.put_account(account)
        if told is not None:
            self._tell(told, now)

    def record_channel(self, channel: Channel, told: Told | None, now: int) -> None:
        """Write a channel's state and the event it made."""
        self.subjects.put_channel(channel)
        if told is not None:
            self._tell(told, now)

    def end_rest(self, name: str, now: int, *, by: int) -> None:
        """Let a channel that rests after failures try again at a moment, if not sooner.

        At once (`by` is now) also forgets what was refused: another address may take it.
        """
        channel = self.subjects.channel(name)
        fresh = channel
        if by <= now:
            self.outbox.take_back(name, 1, now)
            fresh = replace(channel, failures=0, next_try_at=None, message_size=None)
        elif channel.next_try_at is not None:
            fresh = replace(channel, next_try_at=min(channel.next_try_at, by))
        if fresh != channel:
            self.subjects.put_channel(fresh)

    def _tell(self, told: Told, now: int) -> None:
        seq = self.events.append(told.event, told.choices)
        self.outbox.enqueue(seq, told.choices, now)

    def prune(self, now: int, *, keep: int, stub_keep: int, limit: int) -> int:
        """Let go of what ended longer than `keep` ms ago; the keys and revisions stay.

        A batch, its events and deliveries go together, and only once nothing of it is pending.
        Returns how many batches and other events went, at most `limit` of each.
        """
        gone = self.batches.ended_before(now - keep, limit)
        for account, id_ in gone:
            subject = f"{account}/{id_}"
            self.outbox.forget(subject)
            self.events.forget(subject)
            self.batches.prune(account, id_, now)
        others = self.events.forget_of_other_subjects(now - keep, limit)
        self.batches.drop_stubs(now - stub_keep)
        return len(gone) + others

    def remove(self, batches: Sequence[Batch], now: int) -> list[Batch]:
        """Stop watching; what already happened is still told."""
        return [
            replace(batch, removed_at=now) for batch in batches if self.batches.remove(batch, now)
        ]
