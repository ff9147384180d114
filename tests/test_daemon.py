"""The daemon in this process: signals, grace, reload, the heartbeat."""

from __future__ import annotations

import io
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from tests.channels.servers import Service
from tests.cli.bench import World, told, world
from tests.providers.loopback import Loopback, reply, serving
from watcher.app import App, Plan
from watcher.clock import SystemClock
from watcher.config import Settings, load
from watcher.daemon import Daemon, Loops, heartbeat, process
from watcher.errors import StoreError
from watcher.log import configure, get
from watcher.redaction import Redactor
from watcher.simulator import KEY, Fate, faults
from watcher.store.batches import Registering
from watcher.store.ledger import Ledger
from watcher.store.schema import open_state
from watcher.store.sqlite import MEMORY, SqliteDatabase
from watcher.version import __version__

Story = Callable[[App], Awaitable[None]]
PATIENCE = 10.0


@pytest.fixture(scope="module")
def providers() -> Iterator[World]:
    with world() as one:
        yield one


@pytest.fixture
def openai(providers: World) -> Iterator[World]:
    yield providers
    providers.simulation.faults.clear()


class Bench:
    """A configuration, a state, and a daemon over both that runs for a story."""

    def __init__(self, folder: Path, openai: World) -> None:
        self.config = folder / "config.toml"
        self.state = folder / "watcher.db"
        # Not a file: to write one blocks the loop, and the tests' loop may not.
        self.log = io.StringIO()
        self._openai = openai
        self.write("")

    def write(self, text: str, *, polling: str = "50ms") -> None:
        """Write the configuration: one account, and this."""
        base_url = self._openai.variables["OPENAI_BASE_URL"]
        self.config.write_text(
            f'{text}\n[polling]\nmin_interval = "{polling}"\nmax_interval = "100ms"\n'
            f'[accounts.openai]\nprovider = "openai"\napi_key = "{KEY}"\n'
            f'base_url = "{base_url}"\n'
        )
        self.config.chmod(0o600)

    @property
    def said(self) -> str:
        """The log so far."""
        return self.log.getvalue()

    def run(self, story: Story, *, grace: float = 5.0) -> float:
        """Run a daemon until the story is over and it was told to stop; how long that took."""
        redactor = Redactor()
        root = logging.getLogger()
        before, level = list(root.handlers), root.level
        self.log.seek(0)
        self.log.truncate()
        configure(debug=False, json=True, redactor=redactor, stream=self.log)
        database = open_state(str(self.state), program=__version__, change=True)
        try:
            settings = load(self.config, state=str(self.state), environ={})
            app = App(database, SystemClock(), get("daemon"), redactor)
            return anyio.run(self._run, app, app.plan(settings), story, grace)
        finally:
            database.close()
            root.handlers[:] = before
            root.setLevel(level)

    async def _run(self, app: App, plan: Plan, story: Story, grace: float) -> float:
        def again() -> Settings:
            return load(self.config, state=None, environ={"WATCHER_STATE": str(self.state)})

        one = Daemon(app, again, grace)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.run, plan)
            await self.until(lambda: '"watching"' in self.said)
            await story(app)
            told_at = time.monotonic()
            os.kill(os.getpid(), signal.SIGTERM)
        return time.monotonic() - told_at

    @staticmethod
    async def until(look: Callable[[], object]) -> None:
        """Wait until this is so."""
        with anyio.fail_after(PATIENCE):
            while not look():  # noqa: ASYNC110 - a log and a server's book have no event to wait for
                await anyio.sleep(0.01)


@pytest.fixture
def bench(tmp_path: Path, openai: World) -> Bench:
    return Bench(tmp_path, openai)


def channel(service: Service, name: str = "team", *, path: str = "hook") -> str:
    return (
        f'[channels.{name}]\nurl = "json://{service.address}/{path}"\n'
        'digest_wait = "10ms"\ndigest_interval = "10ms"\n'
    )


async def add(app: App, *ids: str) -> None:
    wanted = [Registering("openai", id_, "openai") for id_ in ids]
    now = app.clock.now()

    def work(ledger: Ledger) -> None:
        for one in wanted:
            ledger.batches.register(one, now)

    await app.write(work)
    app.wake_all()


def hup() -> None:
    os.kill(os.getpid(), signal.SIGHUP)


def test_it_looks_and_tells_and_ends_at_once_when_idle(
    bench: Bench, openai: World, service: Service
) -> None:
    bench.write(channel(service))
    id_ = openai.ended(Fate.failed())

    async def story(app: App) -> None:
        await add(app, id_)
        await bench.until(lambda: told(service))

    took = bench.run(story)

    assert took < 2.0
    assert told(service)[0].startswith("FAILED")
    assert '"stopped"' in bench.said


@pytest.mark.parametrize("hung", ["channel", "provider"])
def test_what_hangs_is_left_when_the_grace_is_over(
    bench: Bench, openai: World, service: Service, hung: str
) -> None:
    bench.write(channel(service))
    id_ = openai.ended()
    if hung == "channel":
        service.behaviour = "hang"
    else:
        openai.simulation.faults.add(faults.silent(), id=id_)
    count = openai.simulation.requests.total

    async def story(app: App) -> None:
        await add(app, id_)
        if hung == "channel":
            await bench.until(lambda: service.received)
        else:
            await bench.until(lambda: openai.simulation.requests.total > count)

    took = bench.run(story, grace=0.3)

    assert 0.2 < took < 3.0
    assert "grace is over" in bench.said


def test_what_was_cut_off_is_told_by_the_next_daemon(
    bench: Bench, openai: World, service: Service
) -> None:
    bench.write(channel(service))
    service.behaviour = "hang"

    async def begin(app: App) -> None:
        await add(app, openai.ended())
        await bench.until(lambda: service.received)

    bench.run(begin, grace=0.1)
    service.behaviour = "answer"

    async def go_on(app: App) -> None:
        await bench.until(lambda: '"message sent"' in bench.said)

    bench.run(go_on)

    assert len(set(told(service))) == 1
    assert len(told(service)) == 2


def test_a_second_signal_ends_at_once(bench: Bench, openai: World, service: Service) -> None:
    bench.write(channel(service))
    service.behaviour = "hang"

    async def story(app: App) -> None:
        await add(app, openai.ended())
        await bench.until(lambda: service.received)
        os.kill(os.getpid(), signal.SIGINT)
        await bench.until(lambda: '"stopping"' in bench.said)

    took = bench.run(story, grace=30.0)

    assert took < 3.0
    assert "stopping at once" in bench.said


def test_a_reload_brings_channels_and_accounts_and_takes_them_away(
    bench: Bench, openai: World, service: Service
) -> None:
    bench.write(channel(service, "old", path="old"))
    first, second = openai.ended(), openai.ended()

    async def story(app: App) -> None:
        await add(app, first)
        await bench.until(lambda: told(service, "old"))
        work = openai.variables["OPENAI_BASE_URL"]
        bench.write(
            channel(service, "new", path="new")
            + f'[accounts.work]\nprovider = "openai"\napi_key = "{KEY}"\nbase_url = "{work}"\n'
        )
        hup()
        await bench.until(lambda: '"reloaded"' in bench.said)
        await add(app, second)
        await bench.until(lambda: told(service, "new"))
        names = await app.write(lambda ledger: ledger.process.get("names"))
        beat = await app.write(lambda ledger: ledger.process.get("daemon"))

        assert [one["name"] for one in names["accounts"]] == ["work", "openai"]
        assert names["channels"] == ["new"]
        assert beat["fingerprint"] == names["fingerprint"]

    took = bench.run(story)

    # The loops of what was taken away end too, and hold nothing up.
    assert took < 2.0
    assert len(told(service, "old")) == 1
    assert len(told(service, "new")) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[pollling]\n", "polling"),
        ('[channels.team]\nurl = "slak://x"\n', "team"),
        ("[[batches]]\nid = 'nowhere/batch_1'\n", "no account is called 'nowhere'"),
    ],
)
def test_a_mistake_leaves_the_old_settings_in_force(
    bench: Bench, openai: World, service: Service, text: str, reason: str
) -> None:
    bench.write(channel(service))

    async def story(app: App) -> None:
        bench.write(text)
        hup()
        await bench.until(lambda: '"not reloaded: the old settings stay"' in bench.said)
        await add(app, openai.ended())
        await bench.until(lambda: told(service))

    bench.run(story)

    assert reason in bench.said
    assert '"reloaded"' not in bench.said


def test_a_secret_that_is_missing_disables_its_channel_alone(
    bench: Bench, openai: World, service: Service
) -> None:
    bench.write(channel(service))

    async def story(app: App) -> None:
        bench.write(channel(service) + '[channels.pager]\nurl_env = "NOT_SET"\n')
        hup()
        await bench.until(lambda: '"channel disabled"' in bench.said)
        await add(app, openai.ended())
        await bench.until(lambda: told(service))
        beat = await app.write(lambda ledger: ledger.process.get("daemon"))

        assert "NOT_SET is not set" in beat["disabled_channels"]["pager"]

    bench.run(story)

    assert '"reloaded"' in bench.said


def test_a_changed_state_needs_a_restart(bench: Bench, openai: World, service: Service) -> None:
    other = bench.state.with_name("other.db")

    async def story(app: App) -> None:
        was, bench.state = bench.state, other
        bench.write(channel(service))
        hup()
        await bench.until(lambda: '"reloaded"' in bench.said)
        bench.state = was
        await add(app, openai.ended())
        await bench.until(lambda: told(service))

        assert app.plan_now.settings.state == str(was)

    bench.run(story)

    assert "a changed state needs a restart" in bench.said
    assert not other.exists()


def test_batches_of_the_configuration_are_registered_once(
    bench: Bench, openai: World, service: Service
) -> None:
    kept, removed = openai.stuck(), openai.stuck()
    bench.write("".join(f'[[batches]]\nid = "{id_}"\n' for id_ in (kept, removed)))

    async def watched(app: App) -> list[str]:
        batches = await app.write(lambda ledger: ledger.batches.watched(open_only=True))
        return [one.id for one in batches]

    async def begin(app: App) -> None:
        assert set(await watched(app)) == {kept, removed}
        gone = await app.write(lambda ledger: ledger.batches.get("openai", removed))
        assert gone is not None
        await app.write(lambda ledger: ledger.remove([gone], app.clock.now()))

    async def again(app: App) -> None:
        assert await watched(app) == [kept]

    bench.run(begin)
    bench.run(again)


def test_an_account_adopts_the_batches_of_its_former_name(
    bench: Bench, openai: World, tmp_path: Path
) -> None:
    id_ = openai.stuck()

    async def begin(app: App) -> None:
        await add(app, id_)

    async def renamed(app: App) -> None:
        batches = await app.write(lambda ledger: ledger.batches.watched(open_only=True))

        assert [one.key for one in batches] == [f"work/{id_}"]

    bench.run(begin)
    text = bench.config.read_text().replace("[accounts.openai]", "[accounts.work]")
    bench.config.write_text(text + 'formerly = ["openai"]\n')
    bench.run(renamed)


def test_the_heartbeat_is_fetched_while_all_is_well(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "HEARTBEAT_DUE_EVERY", 0.02)
    seen: list[Loopback] = []

    async def story(app: App) -> None:
        async with serving(reply(b"OK")) as loopback:
            seen.append(loopback)
            bench.write(
                f'[heartbeat]\nurl = "{loopback.url}/ping/secret-0123456789"\nevery = "50ms"\n'
            )
            hup()
            await bench.until(lambda: len(loopback.seen) >= 2)
            loops = app.plan_now.settings.heartbeat

            assert loops.wanted
        bench.write("")
        hup()
        await bench.until(lambda: bench.said.count('"reloaded"') == 2)

    bench.run(story)

    assert {one.target for one in seen[0].seen} == {"/ping/secret-0123456789"}
    assert {one.method for one in seen[0].seen} == {"GET"}
    assert "secret-0123456789" not in bench.said


def test_a_heartbeat_that_fails_is_told_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "HEARTBEAT_DUE_EVERY", 0.02)
    monkeypatch.setattr(heartbeat, "HEARTBEAT_AGAIN", 0.02)
    seen: list[Loopback] = []

    async def story(app: App) -> None:
        async with serving(reply(b"", "503 Service Unavailable")) as loopback:
            seen.append(loopback)
            bench.write(f'[heartbeat]\nurl = "{loopback.url}/ping"\nevery = "50ms"\n')
            hup()
            await bench.until(lambda: len(loopback.seen) >= 3)
        bench.write("")
        hup()
        await bench.until(lambda: bench.said.count('"reloaded"') == 2)

    bench.run(story)

    assert bench.said.count("heartbeat not fetched") == 1


async def test_only_a_write_shows_that_the_state_is_well_again(openai: World) -> None:
    database = await anyio.to_thread.run_sync(_memory)
    app = App(database, SystemClock(), get("test"), Redactor())
    loops = Loops(app)
    await app.begin(app.plan(Settings()), spread=False)
    with loops.guarded("account:openai"):
        raise StoreError("full")
    await app.once()
    after_reading = loops.well
    await loops.renew()

    assert (after_reading, loops.well) == (False, True)
    await anyio.to_thread.run_sync(database.close)


async def test_what_no_loop_foresees_ends_none_of_them(openai: World) -> None:
    database = await anyio.to_thread.run_sync(_memory)
    app = App(database, SystemClock(), get("test"), Redactor())
    loops, turns = Loops(app), 0

    async def work() -> None:
        nonlocal turns
        turns += 1
        if turns == 1:
            raise LookupError("on purpose")
        loops.stop()

    with anyio.fail_after(PATIENCE):
        await loops.every(0.01, "work", work)

    assert turns == 2
    await anyio.to_thread.run_sync(database.close)


def _memory() -> SqliteDatabase:
    return open_state(MEMORY, program=__version__, change=True)
