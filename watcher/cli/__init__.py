"""The command line: one file a command, imported only when it is called."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any

import click

from watcher.cli.options import Common, common_options
from watcher.errors import WatcherError
from watcher.text import ELLIPSIS, clean_line, clean_lines
from watcher.version import __version__

# Name, module, and the line in `--help`: none of the modules is imported to show it.
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("run", "Watch until stopped: the daemon."),
    "add": ("add", "Register batches to be watched."),
    "ls": ("ls", "List the open batches."),
    "show": ("show", "Show one batch: its timeline, events and deliveries."),
    "wait": ("wait", "Wait until batches have ended."),
    "rm": ("rm", "Stop watching batches; the provider's batch stays."),
    "events": ("events", "Show what happened."),
    "deliveries": ("deliveries", "Show what was told to whom."),
    "redeliver": ("redeliver", "Send events again."),
    "routes": ("routes", "Show who is told what, and what nobody is told."),
    "status": ("status", "Show whether all is well."),
    "check": ("check", "Check the configuration, credentials and channels; sends nothing."),
    "test": ("test", "Send a test message through channels."),
    "demo": ("demo", "See it work in a minute: no key, no network."),
    "init": ("init", "Write a commented configuration file."),
    "health": ("health", "Exit 0 when a daemon is alive and its loops turn."),
    "backup": ("backup", "Write a consistent copy of the state."),
    "completion": ("completion", "Print the shell's completion script."),
}
ALIASES = {"list": "ls"}
INTERRUPTED = 130
HELP = """Watches LLM batch jobs at their providers and tells people what became of them.

Try `watcher demo` first. With a key in the environment: `watcher wait batch_…`.
"""


class Commands(click.Group):
    """A group that knows its commands by name and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"watcher.cli.{COMMANDS[name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if ctx.resilient_parsing:
            # A shell asks what could follow: not the moment to complain.
            return super().resolve_command(ctx, args)
        if name not in ALIASES and name not in COMMANDS and not name.startswith("-"):
            import difflib

            close = difflib.get_close_matches(name, [*COMMANDS, *ALIASES], n=1)
            hint = f"; did you mean `watcher {close[0]}`?" if close else "; see watcher --help"
            raise click.UsageError(f"no command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Whoever read our output has gone (`watcher ls | head`): that is no trouble.
            _forget_output()
            return 0

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=Commands,
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@click.version_option(__version__, prog_name="watcher", message="%(prog)s %(version)s")
@common_options(json=True)
@click.pass_context
def root(ctx: click.Context, common: Common) -> None:
    """The command without a command: its help."""
    del common
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name may hold what the terminal's encoding does not: that is no reason to fail.
        sys.stdout.reconfigure(errors="replace")
    code = _run(list(sys.argv[1:] if arguments is None else arguments))
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_output()
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    debug, common = "--debug" in arguments, Common()

    def strike(text: str) -> str:
        return _without_keys(common.redactor.strike(text), arguments)

    for argument in arguments:
        # Python passes on bytes that are no text as lone surrogates, which nothing else takes.
        if not _is_text(argument):
            _say(f"an argument is not text in this encoding: {clean_line(argument, 60)!a}", strike)
            return 2
    try:
        result: Any = root.main(arguments, prog_name="watcher", standalone_mode=False, obj=common)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except click.ClickException as error:
        _say(error.format_message().rstrip(".").replace("\n", " "), strike)
        return 2
    except WatcherError as error:
        _say(str(error), strike, traceback=debug)
        return error.exit_code
    except Exception as error:  # noqa: BLE001  the command line's last resort
        told = f"our own fault, please report it: {type(error).__name__}: {error}"
        _say(told, strike, traceback=debug)
        if not debug:
            _say("run it again with --debug for the whole story", strike)
        return 1
    return result if isinstance(result, int) else 0


def _is_text(argument: str) -> bool:
    return argument.isascii() or argument == argument.encode("utf-8", "replace").decode()


def _without_keys(text: str, arguments: list[str]) -> str:
    """The text without what of the arguments is a key or a channel's URL in the wrong place."""
    from watcher.redaction import begins_like_a_key

    for argument in arguments:
        for part in (argument, argument.partition("=")[2], argument.partition("/")[0]):
            if "://" in part or begins_like_a_key(part):
                text = _without_beginnings(text, part)
    return text


def _without_beginnings(text: str, secret: str) -> str:
    """The text without a secret, nor what is left of one that was cut before it was told."""
    from watcher.redaction import BEGINNING

    while len(secret) >= BEGINNING and (at := text.find(secret[:BEGINNING])) >= 0:
        alike = (one == other for one, other in zip(text[at:], secret, strict=False))
        shared = sum(takewhile(bool, alike))
        text = text[:at] + ELLIPSIS + text[at + shared :].removeprefix(ELLIPSIS)
    return text.replace(secret, ELLIPSIS) if secret else text


def _say(text: str, strike: Callable[[str], str], *, traceback: bool = False) -> None:
    """Tell of a mistake; what it repeats of arguments and answers cannot steer the terminal."""
    said = f"watcher: {text}"
    if traceback:
        from traceback import format_exc

        said = format_exc() + said
    click.echo(clean_lines(strike(said)), err=True)


def _forget_output() -> None:
    # The interpreter would flush it once more at exit and complain.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
