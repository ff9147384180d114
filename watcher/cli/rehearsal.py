"""The demo's stage: eight batches with different fates, and a screen that is a channel too.

Everything but the providers is the real thing: state, pollers, courier, messages.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from pydantic import SecretStr
from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from watcher.app import App
from watcher.cli.output import COLOURS
from watcher.cli.progress import table
from watcher.clock import SystemClock
from watcher.config import AccountSettings, ChannelSettings, PollingSettings, Settings
from watcher.courier import Telling
from watcher.daemon import Loops
from watcher.log import configure, get
from watcher.message import Style
from watcher.model import Batch, Message, TryOutcome
from watcher.notify import Sent
from watcher.redaction import Redactor
from watcher.routing import Switchboard
from watcher.simulator import KEY, Fate, Simulation, serve
from watcher.store.batches import Registering
from watcher.store.schema import open_state
from watcher.store.sqlite import MEMORY
from watcher.version import __version__

if TYPE_CHECKING:
    from watcher.app import Plan
    from watcher.store.ledger import Ledger

DAY = 86_400
# No fate of the demo lasts longer; whatever has not ended by then is left.
LONGEST = 80.0
REDRAW_EVERY = 0.25
SCREEN = "screen"
WIDTH = 78
# Quicker than life, so that a minute shows it all.
POLLING = PollingSettings.model_validate({"min_interval": "800ms", "max_interval": "2s"})


def cast() -> list[tuple[str, str, Fate]]:
    """Who plays: account, name and fate, in real seconds."""
    return [
        ("openai", "broken input", Fate.failed(after=6)),
        ("openai", "summaries", Fate.completed(400, after=600).faster(600 / 14)),
        ("cohere", "ticket labels", Fate.completed(5_000, after=600).faster(600 / 20)),
        ("cerebras", "wrong model name", Fate.all_failed(60, after=600).faster(600 / 26)),
        ("openai", "nightly evals", Fate.partial(100, 2, after=600).faster(600 / 32)),
        ("cerebras", "stopped by hand", Fate.cancelled_with_results(at=144).faster(750 / 38)),
        ("cohere", "translations", Fate.partial(900, 31, after=600).faster(600 / 42)),
        ("openai", "too much for a day", Fate.expired_with_results(10, 7).faster(DAY / 46)),
    ]


class Screen:
    """Shows the batches as they live and each message as it arrives; a channel's notifier."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(
            no_color="NO_COLOR" in os.environ or None, highlight=False
        )
        self.style = Style(title_max=WIDTH - 6, body_max=1_500)
        self.messages: list[Message] = []
        self._live: Live | None = None
        self._rows: tuple[Batch, ...] = ()

    @property
    def live(self) -> bool:
        """Whether the table redraws itself: at a terminal only."""
        return self.console.is_terminal and not self.console.is_dumb_terminal

    def begin(self) -> None:
        """Take the terminal."""
        self.console.print(
            Text("Eight batches at three simulated providers. Each box is a message as sent.\n")
        )
        if self.live:
            self._live = Live(console=self.console, auto_refresh=False, transient=False)
            self._live.start()

    def show(self, batches: Sequence[Batch]) -> None:
        """Redraw the table."""
        self._rows = tuple(batches)
        if self._live is not None:
            self._live.update(Group(Text(), self._table()), refresh=True)

    def _table(self) -> Padding:
        return Padding(table(self._rows, time.time_ns() // 1_000_000), (0, 1))

    def end(self) -> None:
        """Let go of the terminal, with the last table on it."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        elif self._rows:
            self.console.print(self._table())

    async def send(self, message: Message) -> Sent:
        """Show one message."""
        self.messages.append(message)
        self.console.print(box(message, min(WIDTH, self.console.width)))
        return Sent(TryOutcome.DELIVERED)

    def close(self) -> None:
        """Nothing to let go of."""


def box(message: Message, width: int) -> Panel:
    """A message as a box with its title on the edge."""
    colour = COLOURS[message.severity]
    return Panel(
        Text(message.body),
        title=Text(message.title, style=f"bold {colour}"),
        title_align="left",
        border_style=colour,
        width=width,
    )


class Rehearsal:
    """One run of the demo."""

    def __init__(
        self,
        screen: Screen,
        channel: ChannelSettings | None,
        redactor: Redactor,
        *,
        debug: bool = False,
    ) -> None:
        self._screen = screen
        self._channel = channel
        self._redactor = redactor
        self._debug = debug
        # What went wrong with the real channel, one line each.
        self.notes: list[str] = []

    async def run(self) -> None:
        """Play it to its end."""
        clock, redactor = SystemClock(), self._redactor
        if self._debug:
            configure(debug=True, json=None, redactor=redactor, stream=sys.stderr)
        simulation = Simulation(clock.now)
        async with serve(simulation) as address:
            app = App(
                open_state(MEMORY, program=__version__, change=True),
                clock,
                get("demo"),
                redactor,
            )
            try:
                await self._play(app, simulation, address)
            finally:
                self._screen.end()
                with anyio.CancelScope(shield=True):
                    await app.close()
                app.database.close()

    async def _play(self, app: App, simulation: Simulation, address: str) -> None:
        plan = await anyio.to_thread.run_sync(self._plan, app, address)
        await app.begin(plan, spread=False)
        keys = await app.write(lambda ledger: _register(ledger, simulation, app.clock.now()))
        self._screen.begin()
        loops = Loops(app)
        async with anyio.create_task_group() as tasks:
            loops.start(tasks)
            with anyio.move_on_after(LONGEST):
                while not await self._over(app, keys):  # noqa: ASYNC110 - it redraws too
                    await anyio.sleep(REDRAW_EVERY)
            loops.stop()
            tasks.cancel_scope.cancel()
        await self._finish(app)

    def _plan(self, app: App, address: str) -> Plan:
        accounts = {
            name: AccountSettings(
                provider=name,
                api_key=SecretStr(KEY),
                base_url=Simulation.base_url(name, address),
            )
            for name in ("openai", "cerebras", "cohere")
        }
        channels = {} if self._channel is None else {"notify": self._channel}
        settings = Settings(instance="demo", accounts=accounts, channels=channels, polling=POLLING)
        plan = app.plan(settings)
        screen = Telling(SCREEN, self._screen, digest_wait=300, digest_interval=0)
        return replace(
            plan,
            board=Switchboard((*channels, SCREEN)),
            telling={**plan.telling, SCREEN: screen},
        )

    async def _over(self, app: App, keys: Sequence[tuple[str, str]]) -> bool:
        """Show how all stand; whether all have ended and been told."""

        def work(ledger: Ledger) -> tuple[list[Batch], int]:
            found = [ledger.batches.get(account, id_) for account, id_ in keys]
            return [batch for batch in found if batch], ledger.outbox.pending(SCREEN)

        batches, waiting = await app.write(work)
        self._screen.show(batches)
        return all(batch.ended for batch in batches) and not waiting

    async def _finish(self, app: App) -> None:
        """Send what the real channel has still to be told, and say if it would not take it."""
        courier = app.couriers.get("notify")
        if courier is None:
            self.notes += [f"--notify: {why}" for why in app.plan_now.disabled.values()]
            return
        await app.write(lambda ledger: app.keep_alive(ledger, app.clock.now()))
        with anyio.move_on_after(60):
            while await courier.once(app.clock.now(), flush=True):
                pass
        left = await app.write(lambda ledger: ledger.outbox.pending("notify"))
        if left:
            channel: Any = await app.write(lambda ledger: ledger.subjects.channel("notify"))
            self.notes.append(f"--notify: {left} not told: {channel.last_error or 'no answer'}")


def _register(ledger: Ledger, simulation: Simulation, now: int) -> list[tuple[str, str]]:
    """Create the cast at the providers and register it."""
    keys = []
    for account, name, fate in cast():
        id_ = simulation.providers[account].add(fate, name=name, created_at=now)  # type: ignore[index]
        ledger.batches.register(Registering(account, id_, account, name=name), now)
        keys.append((account, id_))
    return keys
