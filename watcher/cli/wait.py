"""watcher wait: blocks until batches have ended; needs no configuration and no daemon."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from watcher.cli.add import read_ids
from watcher.cli.options import Common, common_options, open_ids
from watcher.cli.output import (
    COLOURS,
    note,
    print_json,
    progress_text,
    severity_of_batch,
    status_text,
    styled,
    warn_of_dead,
)
from watcher.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watcher.cli.waiting import End, Waiting
    from watcher.client import LocalClient
    from watcher.model import Batch


@click.command(name="wait")
@click.argument("ids", nargs=-1, metavar="ID…", shell_complete=open_ids)
@click.option("--account", help="The account they belong to.")
@click.option("--group", help="Every open batch of this group.")
@click.option("--tag", multiple=True, help="Every open batch with this tag.")
@click.option("--all", "all_", is_flag=True, help="Every open batch.")
@click.option("--any", "any_", is_flag=True, help="End as soon as one has ended.")
@click.option("--fail-fast", is_flag=True, help="End as soon as one has failed.")
@click.option("--timeout", help="Give up after this long (90m, 1d).")
@click.option("--allow-partial", is_flag=True, help="Partial results are a success.")
@click.option("--notify", metavar="CHANNEL-OR-URL", help="Tell this channel or Apprise URL.")
@common_options(json=True)
def command(
    *,
    common: Common,
    ids: tuple[str, ...],
    account: str | None,
    group: str | None,
    tag: tuple[str, ...],
    all_: bool,
    any_: bool,
    fail_fast: bool,
    timeout: str | None,
    allow_partial: bool,
    notify: str | None,
) -> int:
    r"""Wait until all have ended, with live progress at a terminal.

    \b
    Exit codes: 0 all have results; 6 at least one failed, is empty, expired without results,
    was cancelled or is lost; 8 all have results, some only partial; 7 timed out; 3 credential
    rejected; 4 no such batch; 5 no first answer within 60 s; 130 interrupted.
    """
    from watcher.cli.waiting import Waiting

    if not (ids or group or tag or all_):
        message = "name a batch, or choose with --group, --tag or --all"
        raise UsageError(message)
    seconds = None if timeout is None else _seconds(timeout)
    if notify is not None and "://" in notify:
        _check_url(notify)
    client = common.client()
    with client.opened(create=False):
        keys = _keys(client, read_ids(ids), account, group, tag, all_=all_)
        daemon = client.daemon().alive
        # An account of ours that the daemon does not know is ours to look at.
        daemon = daemon and {name for name, _ in keys} <= set(client.directory().accounts)
        if daemon and notify is not None and "://" not in notify:
            client.directory().check_channels([notify])
    waiting = Waiting(
        client.settings,
        keys,
        any_=any_,
        fail_fast=fail_fast,
        seconds=seconds,
        notify=notify,
        debug=common.debug,
    )
    if not keys:
        note("no open batch to wait for")
    end = _wait(waiting, common, allow_partial=allow_partial, daemon=daemon)
    _print(end, as_json=common.json)
    with client.opened(create=False):
        warn_of_dead(client)
    return end.code(allow_partial=allow_partial)


def _wait(waiting: Waiting, common: Common, *, allow_partial: bool, daemon: bool) -> End:
    from watcher.cli.waiting import End

    if not waiting.keys:
        return End([])
    try:
        end = None
        if daemon:
            from watcher.cli.wait_by_daemon import by_daemon

            end = by_daemon(waiting)
        if end is None:
            from watcher.cli.wait_alone import alone

            end = alone(waiting)
        return end
    except KeyboardInterrupt:
        waiting.progress.close()
        command = resume_command(waiting, common, allow_partial=allow_partial)
        note(f"still going on; to go on waiting: {command}")
        raise
    finally:
        waiting.progress.close()


def _check_url(url: str) -> None:
    """See now, and not after hours of waiting, that the URL can be used."""
    from pydantic import SecretStr

    from watcher.notify import check_url

    try:
        check_url(SecretStr(url))
    except ConfigError as error:
        raise UsageError(f"--notify: {error}") from None


def _seconds(text: str) -> float:
    from watcher.config import parse_duration

    try:
        return parse_duration(text) / 1000
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from None


def _keys(
    client: LocalClient,
    texts: Sequence[str],
    account: str | None,
    group: str | None,
    tags: tuple[str, ...],
    *,
    all_: bool,
) -> list[tuple[str, str]]:
    """Accounts and ids of all that is to be waited for."""
    keys = client.resolve_all(texts, account)
    if (group or tags or all_) and client.exists:
        batches = client.read(lambda ledger: ledger.batches.watched(open_only=True))
        keys += [
            (batch.account, batch.id)
            for batch in batches
            if (group is None or batch.registration.group == group)
            and set(tags) <= set(batch.registration.tags)
            and account in {None, batch.account}
        ]
    return list(dict.fromkeys(keys))


def resume_command(waiting: Waiting, common: Common, *, allow_partial: bool) -> str:
    """The line that goes on waiting; a URL, which may hold a secret, is left for its owner."""
    parts = ["watcher"]
    for option, value in (("--config", common.config), ("--state", common.state)):
        parts += [] if value is None else [option, str(value)]
    parts.append("wait")
    for option, given in (
        ("--any", waiting.any_),
        ("--fail-fast", waiting.fail_fast),
        ("--allow-partial", allow_partial),
        ("--json", common.json),
    ):
        parts += [option] * given
    if waiting.notify is not None:
        parts += ["--notify", "URL" if "://" in waiting.notify else waiting.notify]
    return shlex.join([*parts, *(f"{account}/{id_}" for account, id_ in waiting.keys)])


def _print(end: End, *, as_json: bool) -> None:
    if as_json:
        from watcher.documents import batch_document

        print_json([batch_document(batch) for batch in end.batches])
    else:
        for batch in end.batches:
            click.echo(_line(batch))
    for text in end.notes:
        note(text)


def _line(batch: Batch) -> str:
    status = styled(status_text(batch), fg=COLOURS[severity_of_batch(batch)])
    parts = [batch.key, status]
    if batch.counts.total is not None:
        parts.append(progress_text(batch))
    if batch.results.output:
        parts.append(f"results: {batch.results.output}")
    if batch.results.errors:
        parts.append(f"errors: {batch.results.errors}")
    if batch.problems:
        parts.append(batch.problems[0].message or batch.problems[0].code or "")
    if batch.reason:
        parts.append(batch.reason)
    if batch.last_error and not batch.ended:
        parts.append(batch.last_error)
    return "  ".join(parts)
