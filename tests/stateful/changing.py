"""A world whose configuration changes while it runs, over a state that can be made to fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import SecretStr

from tests.builders import MINUTE, ScriptedChannel
from tests.world import SameThread, World
from watcher.app import Plan
from watcher.app.plan import close_plan
from watcher.config import ChannelSettings, PollingSettings
from watcher.errors import StoreError
from watcher.model import Severity
from watcher.routing import Route, Switchboard
from watcher.simulator import Wire
from watcher.store.database import Transaction

Result = TypeVar("Result")
NAMES = ("team", "ops", "mail")
GIVE_UP_AFTER = 30 * MINUTE
# As few looks as will do: they are what takes the time here.
MIN_INTERVAL: Any = "20s"


@dataclass(frozen=True, slots=True)
class Setup:
    """What is configured at a moment: all that may decide who is told of what happens then."""

    channels: tuple[str, ...] = NAMES
    routes: tuple[Route, ...] = ()
    # None: every channel.
    operators: tuple[str, ...] | None = None
    eagerness: float = 0.2

    @property
    def board(self) -> Switchboard:
        """As the program takes it: a route may name no channel that is not there."""
        routes = [
            replace(route, channels=tuple(name for name in route.channels if name in self.channels))
            for route in self.routes
        ]
        operators = self.operators and tuple(x for x in self.operators if x in self.channels)
        return Switchboard(
            self.channels, tuple(route for route in routes if route.channels), operators or None
        )


ROUTES: tuple[tuple[Route, ...], ...] = (
    (),
    (Route(NAMES, "route 1", events=("batch.*", "account.*", "channel.*")),),
    (
        Route(("ops",), "route 1", severity=Severity.FAILURE),
        Route(("team",), "route 2", events=("batch.completed", "batch.reopened")),
    ),
    (
        Route(("team",), "route 1", accounts=("cohere",)),
        Route(("mail",), "route 2", events=("batch.*",), groups=("evals",)),
        Route(("ops",), "route 3", events=("account.*",), tags=("nightly",)),
    ),
)


class Brittle(SameThread):
    """A state that takes so many writes more and then none, as if the process had been killed."""

    def __init__(self) -> None:
        super().__init__()
        self.left: int | None = None

    async def transaction(self, work: Callable[[Transaction], Result]) -> Result:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise StoreError("killed")
        return await super().transaction(work)


class Changing(World):
    """Two accounts, and channels that come, go, and lead elsewhere."""

    def __init__(self, database: Brittle, setup: Setup) -> None:
        self.setup = setup
        # When each channel last left, by the monotonic clock.
        self.gone_since: dict[str, float] = {}
        # Every place a channel's name has ever led to; the last is where it leads now.
        self.places = {name: [ScriptedChannel()] for name in NAMES}
        super().__init__(database, Wire.OPENAI, Wire.COHERE)
        self.brittle = database

    def _plan(self) -> Plan:
        self.channels = {name: self.places[name][-1] for name in self.setup.channels}
        polling = PollingSettings(eagerness=self.setup.eagerness, min_interval=MIN_INTERVAL)
        self._settings = self._settings.model_copy(update={"polling": polling})
        plan = super()._plan()
        channels = {
            name: ChannelSettings(
                url=SecretStr(f"json://127.0.0.1:9/{len(self.places[name])}"),
                give_up_after=f"{GIVE_UP_AFTER}ms",  # type: ignore[arg-type]
            )
            for name in self.channels
        }
        return replace(
            plan,
            settings=plan.settings.model_copy(update={"channels": channels}),
            board=self.setup.board,
            telling={
                name: replace(one, give_up_after=GIVE_UP_AFTER, address=channels[name].url)
                for name, one in plan.telling.items()
            },
        )

    async def reload(self, setup: Setup) -> None:
        """Take another configuration into use while all goes on."""
        for name in set(self.setup.channels) - set(setup.channels):
            self.gone_since[name] = self.clock.monotonic()
        self.setup, old = setup, self.app.plan_now
        await self.app.reload(self._plan())
        await close_plan(old)
        await self.hold_leases()

    async def die(self, milliseconds: int, *, after_writes: int) -> None:
        """Run until the state has taken so many writes; what comes of the next is never kept."""
        self.brittle.left = after_writes
        try:
            await self.run(milliseconds)
        except* StoreError:
            pass
        finally:
            self.brittle.left = None

    def received(self, name: str) -> list[str]:
        """The ids a channel has taken, wherever it led, in order, each as often as it came."""
        return [id for place in self.places[name] for id in place.ids()]
