"""watcher wait: blocks until batches have ended; needs no configuration and no daemon."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from watcher.cli.add import read_ids
from watcher.cli.options import Common, common_options, open_ids
from watcher.cli.output import (
    COLOURS,
    clean,
    note,
    print_json,
    progress_text,
    severity_of_batch,
    status_text,
    styled,
    warn_of_dead,
)
from watcher.errors import ConfigError, NoSuchBatch, UsageError
from watcher.text import clean_line

if TYPE_CHECKING:
    from watcher.cli.waiting import End, Waiting
    from watcher.client import LocalClient
    from watcher.model import Batch


@click.command(name="wait")
@click.argument("ids", nargs=-1, metavar="ID…", shell_complete=open_ids)
@click.option("--account", help="The account they belong to.")
@click.option("--group", help="Every batch of this group, ended ones too.")
@click.option("--tag", multiple=True, help="Every batch with this tag, ended ones too.")
@click.option("--all", "all_", is_flag=True, help="Every open batch.")
@click.option("--any", "any_", is_flag=True, help="End as soon as one has ended.")
@click.option("--fail-fast", is_flag=True, help="End as soon as one has failed.")
@click.option("--timeout", help="Give up after this long (90m, 1d).")
@click.option("--allow-partial", is_flag=True, help="Partial results are a success.")
@click.option(
    "--notify",
    metavar="CHANNEL-OR-URL",
    help="Tell this channel or Apprise URL; tried for a minute at the end.",
)
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
    """Wait until all have ended, with live progress at a terminal.

    Beside a live daemon new ids are registered with it, and its channels are told.

    \b
    Exit codes:
      0    all have results
      2    usage or configuration
      3    the credential is rejected
      4    no such batch; nothing has this group or tag
      5    the provider gave no first answer within 60 s
      6    at least one failed, is empty, expired without results, was cancelled or is lost
      7    timed out
      8    all have results, some only partial (0 with --allow-partial)
      130  interrupted
    """  # noqa: D301 - click wants the character itself
    from watcher.cli.waiting import Waiting

    if not (ids or group or tag or all_):
        message = "name a batch, or choose with --group, --tag or --all"
        raise UsageError(message)
    seconds = None if timeout is None else _seconds(timeout)
    if notify is not None and "://" in notify:
        _check_url(notify)
    client = common.client()
    with client.opened(create=False):
        keys = client.resolve_all(read_ids(ids), account)
        chosen = _chosen(client, account, group, tag, all_=all_)
        keys = list(dict.fromkeys([*keys, *((batch.account, batch.id) for batch in chosen)]))
        # What is known to have ended need not be looked at; to be told of it is another matter.
        known = [] if notify else [batch for batch in chosen if batch.ended]
        waiting_for = set(keys) - {(batch.account, batch.id) for batch in known}
        daemon = client.daemon().alive
        # An account of ours that the daemon does not know is ours to look at.
        daemon = daemon and {name for name, _ in waiting_for} <= set(client.directory().accounts)
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
        redactor=common.redactor,
        known={batch.key: batch for batch in known},
    )
    if not keys:
        note("no open batch to wait for")
    end = _wait(waiting, common, allow_partial=allow_partial, daemon=daemon)
    _print(end, as_json=common.json)
    with client.opened(create=False):
        warn_of_dead(client)
    return end.code(allow_partial=allow_partial)


def _wait(waiting: Waiting, common: Common, *, allow_partial: bool, daemon: bool) -> End:
    from watcher.cli.waiting import End, View

    if not waiting.keys:
        return End([])
    try:
        end = None
        if waiting.known:
            # It may be over before anybody has looked.
            end = waiting.step(View(waiting.with_known(()), {}))
        if end is None and daemon:
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


def _chosen(
    client: LocalClient,
    account: str | None,
    group: str | None,
    tags: tuple[str, ...],
    *,
    all_: bool,
) -> list[Batch]:
    """The batches of a group or with tags, however they stand; else, for `--all`, the open ones.

    Raises NoSuchBatch for a group or tags that nothing has.
    """
    named = group is not None or bool(tags)
    if not (named or all_):
        return []
    batches = []
    if client.exists:
        batches = client.read(
            lambda ledger: ledger.batches.watched(open_only=not named, account=account)
        )
    chosen = [
        batch
        for batch in batches
        if group in {None, batch.registration.group} and set(tags) <= set(batch.registration.tags)
    ]
    if named and not chosen:
        words = [] if group is None else [f"of group {clean_line(group, 60)!r}"]
        words += [f"with tag {clean_line(tag, 60)!r}" for tag in tags]
        raise NoSuchBatch(f"no batch {' and '.join(words)} is registered")
    return chosen


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
    parts = [clean(batch.key), status]
    if batch.counts.total is not None:
        parts.append(progress_text(batch))
    if batch.results.output:
        parts.append(f"results: {clean(batch.results.output)}")
    if batch.results.errors:
        parts.append(f"errors: {clean(batch.results.errors)}")
    if batch.problems:
        parts.append(clean(batch.problems[0].message or batch.problems[0].code))
    if batch.reason:
        parts.append(clean(batch.reason))
    if batch.last_error and not batch.ended:
        parts.append(clean(batch.last_error))
    return "  ".join(parts)
