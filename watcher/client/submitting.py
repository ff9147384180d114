"""`watcher.register`: a submit script hands over what it has made, and is never ended by that."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable, Mapping, Sequence

from watcher.client.local import LABEL_LENGTH, LocalClient, Wish, fault, user_name
from watcher.config import load
from watcher.directory import Directory, may_name_a_channel
from watcher.errors import UsageError
from watcher.providers.addresses import fits_one_segment
from watcher.text import clean_line


def register(
    batch_or_id: object,
    *,
    account: str | None = None,
    name: str | None = None,
    tags: Sequence[str] | None = None,
    group: str | None = None,
    channels: Sequence[str] | None = None,
    strict: bool = False,
) -> str | None:
    """Register a batch from the script that submitted it; returns its key.

    Takes an id, any object with an `.id`, or one whose `.batch` has it, as Cohere's create call
    returns it; or a dict of that form, as JSON gives it. Durable when it returns. It never raises
    in a submit script: it logs the id and the `watcher add` line that mends it, and returns None;
    `strict=True` raises.
    """
    try:
        id_ = _id_of(batch_or_id)
    except Exception as error:
        if strict:
            raise
        logging.getLogger("watcher").error("a batch was not registered: %s", error)
        return None
    wish = Wish()
    try:
        wish = Wish(name=name, tags=_texts(tags), group=group, channels=_texts(channels))
        client = LocalClient(load())
        with client.opened(create=True):
            wanted = client.registering(
                [(id_, account)], wish, registered_by=user_name() or "python"
            )
            return client.register(wanted)[0].key
    except Exception as error:
        if strict:
            raise
        logging.getLogger("watcher").error(
            "batch %s was not registered: %s. %s",
            clean_line(id_, 480),
            error,
            _remedy(id_, account, wish, error),
        )
        return None


def _id_of(batch_or_id: object) -> str:
    if isinstance(batch_or_id, str):
        return batch_or_id
    for holder in (batch_or_id, _part(batch_or_id, "batch")):
        id_ = _part(holder, "id")
        if isinstance(id_, str):
            return id_
    kind = type(batch_or_id).__name__
    raise UsageError(f"register() takes an id or an object with an .id, not {kind}")


def _part(holder: object, name: str) -> object:
    """What an object, or a parsed JSON document, has under a name."""
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)


def _texts(given: Sequence[str] | None) -> tuple[str, ...] | None:
    # One text is a sequence of its letters, and nobody means that.
    return None if given is None else (given,) if isinstance(given, str) else tuple(given)


def _remedy(id_: str, account: str | None, wish: Wish, error: Exception) -> str:
    """What to do about a registration that failed; never a line that would fail the same way."""
    if not isinstance(error, UsageError):
        return f"Once that is put right: {_add_line(id_, account, _sound(wish, None))}"
    try:
        client = LocalClient(load())
        with client.opened(create=False):
            directory = client.directory()
            accounts = directory.accounts
            known, sound = account if account in accounts else None, _sound(wish, directory)
            head, slash, rest = id_.partition("/")
            if not fits_one_segment(rest if slash and head in accounts else id_):
                return "Correct the id, and register it again."
            try:
                client.registering([(id_, known)], sound, registered_by="")
            except UsageError:
                if len(accounts) > 1 and known is None:
                    choices = " or ".join(_add_line(id_, name, sound) for name in accounts)
                    return f"To mend it, whichever is meant: {choices}"
                return f"Once that is put right: {_add_line(id_, known, sound)}"
            return f"To mend it: {_add_line(id_, known, sound)}"
    except Exception:  # noqa: BLE001  a submit script is never ended by what was to help it
        return "See `watcher check`."


def _sound(wish: Wish, directory: Directory | None) -> Wish:
    """What of a wish can be granted; without a directory what could be."""

    def fitting(what: str, texts: Iterable[str | None]) -> tuple[str, ...]:
        return tuple(text for text in texts if text is not None and not fault(what, text))

    known = None if directory is None else directory.channels
    channels = [name for name in wish.channels or () if known is None or name in known]
    return Wish(
        name=next(iter(fitting("name", [wish.name])), None),
        tags=fitting("tag", wish.tags or ()) or None,
        group=next(iter(fitting("group", [wish.group])), None),
        channels=tuple(filter(may_name_a_channel, channels)) or None,
    )


def _add_line(id_: str, account: str | None, wish: Wish) -> str:
    words = ["watcher", "add"]
    for option, values in (
        ("--account", (account,)),
        ("--name", (wish.name,)),
        ("--tag", wish.tags or ()),
        ("--group", (wish.group,)),
        ("--channel", wish.channels or ()),
    ):
        for value in values:
            words += [] if value is None else [option, clean_line(value, LABEL_LENGTH)]
    return shlex.join([*words, clean_line(id_, 480)])
