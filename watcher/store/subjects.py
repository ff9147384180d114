"""The tables of accounts and channels: their pauses, their trouble, their revisions."""

from __future__ import annotations

from watcher.model import Account, Channel
from watcher.store.codec import UNREADABLE, decode_account, decode_channel, encode_subject
from watcher.store.database import Transaction


def _account(name: str, revision: int, state: str, provider: str = "") -> Account:
    try:
        return decode_account(name, revision, state)
    except UNREADABLE:
        # What it was is lost; its revision is not, so that no id is used twice.
        return Account(name=name, provider=provider, revision=revision)


def _channel(name: str, revision: int, state: str) -> Channel:
    try:
        return decode_channel(name, revision, state)
    except UNREADABLE:
        # As above.
        return Channel(name=name, revision=revision)


class Subjects:
    """Verbs on accounts and channels, inside one transaction."""

    def __init__(self, work: Transaction) -> None:
        self._work = work

    def account(self, name: str, provider: str) -> Account:
        """An account's state, fresh if it was never kept."""
        rows = self._work.execute("SELECT revision, state FROM accounts WHERE name = $1", (name,))
        if not rows:
            return Account(name=name, provider=provider)
        revision, state = rows[0]
        return _account(name, revision, state, provider)

    def accounts(self) -> list[Account]:
        """Every account that was ever looked at."""
        rows = self._work.execute("SELECT name, revision, state FROM accounts ORDER BY name")
        return [_account(*row) for row in rows]

    def channel(self, name: str) -> Channel:
        """A channel's state, fresh if it was never kept."""
        rows = self._work.execute("SELECT revision, state FROM channels WHERE name = $1", (name,))
        return _channel(name, *rows[0]) if rows else Channel(name=name)

    def channels(self) -> list[Channel]:
        """Every channel that was ever sent to."""
        rows = self._work.execute("SELECT name, revision, state FROM channels ORDER BY name")
        return [_channel(*row) for row in rows]

    def put_account(self, account: Account) -> None:
        """Write an account's state."""
        self._put("accounts", account)

    def put_channel(self, channel: Channel) -> None:
        """Write a channel's state."""
        self._put("channels", channel)

    def _put(self, table: str, subject: Account | Channel) -> None:
        self._work.execute(
            f"INSERT INTO {table} (name, revision, state) VALUES ($1, $2, $3) "
            "ON CONFLICT (name) DO UPDATE SET revision = excluded.revision, state = excluded.state",
            (subject.name, subject.revision, encode_subject(subject)),
        )
