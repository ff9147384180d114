"""watcher add: registers ids, given or read from standard input."""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from typing import TYPE_CHECKING

import click

from watcher.cli.listing import in_bulk, print_batches, print_lines
from watcher.cli.options import Common, common_options
from watcher.cli.output import note, warn_of_dead
from watcher.errors import ProviderError, UsageError
from watcher.text import plural

if TYPE_CHECKING:
    from watcher.client import LocalClient, Wish
    from watcher.model import Batch
    from watcher.providers import Provider

# What standard input may hold: a hundred thousand create replies and more.
MOST_INPUT = 256 * 1024 * 1024
JSON_BEGINS = ("{", "[", '"')
LINE_END = "\n"
_SOLID = re.compile(r"\S")


@click.command(name="add")
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@click.option("--account", help="The account they belong to.")
@click.option("--name", help="What messages call it.")
@click.option("--tag", multiple=True, help="A tag, for routes and selections.")
@click.option("--group", help="The name of the piece of work it is part of.")
@click.option("--channel", multiple=True, help="Tell this channel too.")
@click.option("--quiet-if-ended", is_flag=True, help="Do not tell what has already ended.")
@common_options(json=True)
def command(
    *,
    common: Common,
    ids: tuple[str, ...],
    account: str | None,
    name: str | None,
    tag: tuple[str, ...],
    group: str | None,
    channel: tuple[str, ...],
    quiet_if_ended: bool,
) -> None:
    """Register batches to be watched; `-` reads ids or JSON from standard input.

    Registered again, the options given replace and the others stay.
    """
    from watcher.client import Wish

    wish = Wish(
        name=name,
        tags=tag or None,
        group=group,
        channels=channel or None,
        quiet_if_ended=True if quiet_if_ended else None,
    )
    with in_bulk():
        wanted_ids = read_ids(ids)
        if not wanted_ids:
            message = "standard input holds no id"
            raise UsageError(message)
        _register(common, wanted_ids, account, wish)


def _register(common: Common, ids: list[str], account: str | None, wish: Wish) -> None:
    from watcher.client import user_name

    client = common.client()
    with client.opened(create=False):
        wanted = client.registering(
            ((text, account) for text in ids), wish, registered_by=user_name() or "command line"
        )
    with client.opened(create=True):
        batches = client.register(wanted)
        if common.json:
            print_batches(batches)
        else:
            print_lines(batch.key for batch in batches)
        _say_who(client, batches)
        warn_of_dead(client)


def _say_who(client: LocalClient, batches: list[Batch]) -> None:
    """Who will look, and who will be told."""
    from watcher.cli.told import told_text

    daemon = client.daemon()
    looks = f"daemon pid {daemon.pid}" if daemon.alive else "nobody: start watcher run"
    tells = told_text(client, batches)
    note(f"registered {plural(len(batches), 'batch')}; looked at by {looks}; told: {tells}")


def read_ids(ids: tuple[str, ...]) -> list[str]:
    """The ids given, with `-` replaced by those on standard input."""
    texts: list[str] = []
    for id_ in ids:
        texts += _from_input(sys.stdin.buffer.read(MOST_INPUT + 1)) if id_ == "-" else [id_]
    return texts


def _from_input(raw: bytes) -> list[str]:
    """Ids one a line, or JSON, or JSON Lines, as create calls returned them."""
    if len(raw) > MOST_INPUT:
        message = f"standard input holds more than {MOST_INPUT >> 20} MiB"
        raise UsageError(message)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        message = "standard input is not UTF-8 text"
        raise UsageError(message) from None
    if text.lstrip().startswith(JSON_BEGINS):
        return _from_documents(text, 1)
    texts = []
    for number, line in enumerate(map(str.strip, text.split(LINE_END)), 1):
        if line.startswith(JSON_BEGINS):
            texts += _from_documents(line, number)
        elif line:
            texts.append(line)
    return texts


def _from_documents(text: str, first_line: int) -> list[str]:
    """The ids in one JSON document or several, whatever white space is between them."""
    decoder, texts, position = json.JSONDecoder(), [], 0
    while begin := _SOLID.search(text, position):
        try:
            document, position = decoder.raw_decode(text, begin.start())
            texts += _ids_of(document)
        except (ValueError, RecursionError, ProviderError) as error:
            line = first_line + text.count(LINE_END, 0, begin.start())
            lacks = "holds no id: give what the create call returned"
            said = lacks if isinstance(error, ProviderError) else "is not valid JSON"
            raise UsageError(f"line {line} of standard input {said}") from None
    return texts


def _ids_of(document: object) -> list[str]:
    if isinstance(document, str):
        return [document]
    if isinstance(document, dict) and isinstance(document.get("data"), list):
        document = document["data"]
    if isinstance(document, list):
        return [id_ for one in document for id_ in _ids_of(one)]
    return [_reader().read_created(document)]


@cache
def _reader() -> Provider:
    """Of all create calls' answers, wrapped or not."""
    from watcher.directory import NOWHERE
    from watcher.providers import ProviderOptions, build

    return build("openai-compatible", ProviderOptions(base_url=NOWHERE))
