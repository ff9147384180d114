"""watcher completion: the script that makes a shell complete commands, options and ids."""

from __future__ import annotations

import click

from watcher.cli.options import Common, common_options

SHELLS = ("bash", "zsh", "fish")


@click.command(name="completion")
@click.argument("shell", type=click.Choice(SHELLS))
@common_options(json=False)
@click.pass_context
def command(ctx: click.Context, *, common: Common, shell: str) -> None:
    """Print the completion script of a shell.

    For bash: watcher completion bash > ~/.local/share/bash-completion/completions/watcher
    """
    del common
    from click.shell_completion import get_completion_class

    completion = get_completion_class(shell)
    if completion is not None:
        script = completion(ctx.find_root().command, {}, "watcher", "_WATCHER_COMPLETE")
        click.echo(script.source())
