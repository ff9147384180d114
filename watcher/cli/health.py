"""watcher health: whether a daemon is alive and its loops turn."""

from __future__ import annotations

import click

from watcher.cli.options import Common, common_options
from watcher.cli.output import print_json
from watcher.text import span


@click.command(name="health")
@common_options(json=True)
def command(*, common: Common) -> int:
    """Exit 0 when a daemon on this state is alive and its loops turn, else 1."""
    with common.client().opened(create=False) as client:
        daemon = client.daemon()
        stuck = daemon.beat.get("stuck", []) if daemon.alive else []
        well = daemon.alive and not stuck
        if stuck:
            text = f"daemon pid {daemon.pid}: stuck: {', '.join(stuck)}"
        elif daemon.alive:
            text = f"daemon pid {daemon.pid}: well"
        elif "at" in daemon.beat:
            ago = span(max(0, client.clock.now() - int(daemon.beat["at"])))
            text = f"no daemon on {client.settings.state}; the last was alive {ago} ago"
            if daemon.silent:
                text = f"daemon pid {daemon.pid}: has written nothing for {ago}: see its log"
        else:
            text = f"no daemon on {client.settings.state}"
        if common.json:
            print_json({"ok": well, "pid": daemon.pid if daemon.alive else None, "stuck": stuck})
        else:
            click.echo(text)
    return 0 if well else 1
