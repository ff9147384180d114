"""What is said of an id that is registered, and what comes of it; writes nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

from watcher.model import Batch, Registration
from watcher.store.codec import encode_registration, made

NO_STATE = "{}"
# What an earlier registration may have said, and a new one may replace.
_Words = tuple[str | bool | tuple[str, ...] | None, ...]


@dataclass(frozen=True, slots=True)
class Registering:
    """One id to be registered; a field that is None leaves what an earlier registration said."""

    account: str
    id: str
    provider: str
    name: str | None = None
    tags: tuple[str, ...] | None = None
    group: str | None = None
    channels: tuple[str, ...] | None = None
    registered_by: str | None = None
    quiet_if_ended: bool | None = None
    # False: one that was removed or pruned stays so.
    revive: bool = True

    @property
    def words(self) -> _Words:
        """All that is said of the batch."""
        return (
            *(self.name, self.tags, self.group, self.channels),
            *(self.registered_by, self.quiet_if_ended),
        )


@dataclass(frozen=True, slots=True)
class Said:
    """A registration, and its text."""

    registration: Registration
    text: str


class Registrar:
    """Works out registrations; of a hundred thousand alike it makes one."""

    def __init__(self, now: int) -> None:
        self._new = Registration(registered_at=now)
        self._made: dict[tuple[Registration, _Words], Said] = {}

    def anew(self, wanted: Registering) -> Said:
        """What is said of a batch that is registered now."""
        return self.again(wanted, self._new)

    def again(self, wanted: Registering, before: Registration) -> Said:
        """What is said of a batch already registered: what is not said now stays."""
        key = (before, wanted.words)
        if (said := self._made.get(key)) is None:
            registration = _said(wanted, before)
            said = self._made[key] = Said(registration, encode_registration(registration))
        return said


def _said(wanted: Registering, before: Registration) -> Registration:
    given = {
        name: value
        for name in ("name", "tags", "group", "channels", "registered_by", "quiet_if_ended")
        if (value := getattr(wanted, name)) is not None
    }
    return replace(before, **given)


def registered(wanted: Registering, said: Said, now: int, before: Batch | None) -> Batch:
    """A batch as it is once registered anew; its revision goes on where it was."""
    columns = {
        "account": wanted.account,
        "id": wanted.id,
        "provider": wanted.provider,
        "revision": 0 if before is None else before.revision,
        "edition": 0 if before is None else before.edition + 1,
        "next_look_at": now,
    }
    return made(columns, said.registration, {})
