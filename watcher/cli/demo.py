"""watcher demo: the whole thing in a minute, with simulated providers on loopback."""

from __future__ import annotations

import click

from watcher.cli.options import Common, common_options
from watcher.cli.output import note, styled

NEXT = (
    ("wait for a batch of your own", "OPENAI_API_KEY=… watcher wait batch_…"),
    ("be told in Slack or by mail", "watcher init, edit the file, then watcher check"),
    ("watch day and night", "watcher run, and watcher add batch_… from your scripts"),
)


@click.command(name="demo")
@click.option("--notify", metavar="CHANNEL-OR-URL", help="Send the messages here as well.")
@common_options(json=False)
def command(*, common: Common, notify: str | None) -> int:
    """Watch eight simulated batches live and end, and see each message that is sent.

    Needs no key and no network, and leaves nothing behind.
    """
    import anyio

    from watcher.cli.channels import named_channel
    from watcher.cli.rehearsal import Rehearsal, Screen

    channel = None if notify is None else named_channel(common.settings(), notify)[1]
    rehearsal = Rehearsal(Screen(), channel, common.redactor, debug=common.debug)
    anyio.run(rehearsal.run)
    click.echo()
    for what, how in NEXT:
        click.echo(f"To {what}: {styled(how, bold=True)}")
    for text in rehearsal.notes:
        note(text)
    return 1 if rehearsal.notes else 0
