"""A daemon whose state is full, held, damaged, deleted or closed: what it says, does and keeps."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from unittest import mock

import anyio
import anyio.to_thread
import apsw
import pytest

from tests.channels.servers import Service
from tests.cli.bench import PATIENCE, World, call, told, until, world
from tests.test_daemon import Bench, Story, add, channel
from watcher.app import App
from watcher.daemon import loops
from watcher.errors import StateDamaged, StateLost, StoreError
from watcher.simulator import Fate
from watcher.store import place, sqlite
from watcher.store.ledger import Ledger
from watcher.store.lock import StateLock
from watcher.store.schema import open_state

TROUBLE = "state trouble"


@pytest.fixture(scope="module")
def providers() -> Iterator[World]:
    with world() as one:
        yield one


@pytest.fixture
def bench(tmp_path: Path, providers: World, service: Service) -> Bench:
    one = Bench(tmp_path, providers)
    one.write(channel(service))
    return one


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute of trouble is over soon, and a writer does not wait for ten seconds."""
    monkeypatch.setattr(loops, "STORE_TROUBLE_TOLD_AFTER", 0.2)
    monkeypatch.setattr(loops, "LEASE_EVERY", 0.1)
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 20)


def troubles(service: Service) -> list[str]:
    """What the operators were told past the outbox."""
    return [one.body["message"] for one in list(service.received) if TROUBLE in one.body["title"]]


def news(service: Service) -> list[str]:
    return [title for title in told(service) if TROUBLE not in title]


@contextmanager
def another(state: Path) -> Iterator[apsw.Connection]:
    """Another process's connection: what SQLite's locks tell apart are connections."""
    with closing(apsw.Connection(str(state))) as other:
        other.set_busy_timeout(10_000)
        yield other


@contextmanager
def held(state: Path) -> Iterator[None]:
    """Another process is in the midst of a transaction."""
    with another(state) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


# Where waiting can help


@pytest.mark.usefixtures("quick")
def test_a_state_that_is_held_for_long_is_told_past_it_and_nothing_is_lost(
    bench: Bench, providers: World, service: Service
) -> None:
    async def story(app: App) -> None:
        with held(bench.state):
            await bench.until(lambda: troubles(service))
            with pytest.raises(StoreError, match="held by another process"):
                await add(app, providers.ended())
            refused = await app.database.query(lambda work: work.execute("SELECT 1"))

            assert refused == [(1,)]
        await add(app, providers.ended(Fate.failed()))
        await bench.until(lambda: news(service))

    bench.run(story)

    assert len(troubles(service)) == 1
    assert "nothing is lost: the state" in troubles(service)[0]
    assert "is held by another process" in bench.said
    assert len(news(service)) == 1


@pytest.mark.usefixtures("quick")
def test_a_daemon_that_begins_while_its_state_is_held_waits_for_it(
    bench: Bench, providers: World, service: Service
) -> None:
    open_state(str(bench.state), program="1.0", change=True).close()
    taken = threading.Event()

    def hold() -> None:
        with held(bench.state):
            taken.set()
            until(lambda: "waiting for the state" in bench.said)

    async def story(app: App) -> None:
        await add(app, providers.ended())
        await bench.until(lambda: news(service))

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait(10)
    bench.run(story)
    holder.join()

    assert bench.said.count("waiting for the state") == 1


@pytest.mark.usefixtures("quick")
def test_a_full_disk_is_told_past_it_and_the_daemon_goes_on_when_there_is_room(
    bench: Bench, providers: World, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(app: App) -> None:
        await add(app, providers.stuck())
        with full_disk(monkeypatch):
            await bench.until(lambda: troubles(service))
            with pytest.raises(StoreError, match="no space left"):
                await add(app, providers.ended())
        await add(app, providers.ended(Fate.failed()))
        await bench.until(lambda: news(service))

    bench.run(story)

    assert "no space left for the state" in troubles(service)[0]
    assert len(news(service)) == 1


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """SQLite finds no room at the end of any transaction that writes."""
    run = sqlite._SqliteTransaction.execute

    def refused(self: sqlite._SqliteTransaction, sql: str, values: object = ()) -> object:
        if not sql.lstrip().startswith(("SELECT", "PRAGMA")):
            raise apsw.FullError("database or disk is full")
        return run(self, sql, values)  # type: ignore[arg-type]

    def many(self: sqlite._SqliteTransaction, sql: str, rows: Sequence[object]) -> None:
        for row in rows:
            refused(self, sql, row)

    with monkeypatch.context() as patch:
        patch.setattr(sqlite._SqliteTransaction, "execute", refused)
        patch.setattr(sqlite._SqliteTransaction, "execute_many", many)
        yield


# Where it cannot


def ends(bench: Bench, story: Story, *, grace: float = 5.0) -> ExceptionGroup[Exception]:
    # The bench stops a daemon by a signal; this one has to end by itself.
    with mock.patch.object(os, "kill"), pytest.raises(ExceptionGroup) as caught:
        bench.run(story, grace=grace)
    return caught.value


@pytest.mark.parametrize("companion", ["", "-wal"])
def test_a_state_deleted_under_a_daemon_ends_it_and_the_operators_hear_of_it(
    bench: Bench, service: Service, companion: str
) -> None:
    async def story(app: App) -> None:
        await anyio.to_thread.run_sync(Path(f"{bench.state}{companion}").unlink)
        await bench.until(lambda: troubles(service))

    error = ends(bench, story)

    assert error.subgroup(StateLost) is not None
    assert len(troubles(service)) == 1
    assert "was deleted or replaced while it was in use" in troubles(service)[0]


def test_a_message_under_way_holds_up_the_end_for_the_grace_only(
    bench: Bench, providers: World, service: Service
) -> None:
    async def story(app: App) -> None:
        service.behaviour = "hang"
        await add(app, providers.ended())
        await bench.until(lambda: service.received)
        await anyio.to_thread.run_sync(Path(bench.state).unlink)
        await bench.until(lambda: '"state lost"' in bench.said)

    error = ends(bench, story, grace=0.2)

    assert error.subgroup(StateLost) is not None
    assert "grace is over" in bench.said


async def test_nothing_is_acknowledged_that_goes_into_a_file_without_a_name(
    tmp_path: Path,
) -> None:
    def story() -> None:
        with closing(open_state(str(tmp_path / "w.db"), program="1", change=True)) as database:
            (tmp_path / "w.db").unlink()
            database.transact(lambda work: work.execute("DELETE FROM leases"))

    with pytest.raises(StateLost):
        await anyio.to_thread.run_sync(story)


def test_what_a_deleted_state_left_behind_is_not_begun_over(
    bench: Bench, providers: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(app: App) -> None:
        await anyio.to_thread.run_sync(bench.state.unlink)
        await bench.until(lambda: '"state lost"' in bench.said)

    ends(bench, story)
    for name, value in providers.variables.items():
        monkeypatch.setenv(name, value)
    said = call("--state", bench.state, "add", "batch_1")

    assert said.code == 1
    assert "is gone, but watcher.db-wal beside it holds what belongs to it" in said.err
    assert not bench.state.exists()


def spoil(state: Path, table: str) -> None:
    """Write garbage over the page where a table begins, as a failing disk would."""
    with another(state) as other:
        other.execute("PRAGMA wal_checkpoint(FULL)").fetchall()
        sql = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (page,) = other.execute(sql, (table,)).fetchone()  # type: ignore[misc]
        (size,) = other.execute("PRAGMA page_size").fetchone()  # type: ignore[misc]
    with state.open("r+b") as stream:
        stream.seek((page - 1) * size)
        stream.write(b"\xa5" * size)


@pytest.mark.usefixtures("quick")
def test_a_page_that_is_damaged_under_a_daemon_ends_it_and_the_operators_hear_of_it(
    bench: Bench, service: Service
) -> None:
    async def story(app: App) -> None:
        await anyio.to_thread.run_sync(spoil, bench.state, "batches")
        # What this connection has read stays in its cache until another has written.
        await anyio.to_thread.run_sync(touch, bench.state)
        with pytest.raises(StateDamaged):
            await add(app, "batch_1")
        await bench.until(lambda: troubles(service))

    error = ends(bench, story)

    assert error.subgroup(StateDamaged) is not None
    assert len(troubles(service)) == 1
    assert "is damaged; restore a copy of it, or move it away" in troubles(service)[0]
    assert bench.state.read_bytes().count(b"\xa5" * 4_096) == 1


def touch(state: Path) -> None:
    with another(state) as other:
        other.execute("UPDATE counters SET value = value + 1 WHERE name = 'uptime'")


@pytest.mark.parametrize("command", [["run"], ["run", "--once"], ["ls"], ["add", "batch_2"]])
def test_a_damaged_state_is_said_in_one_line_and_left_as_it_is(
    state: Path, command: list[str]
) -> None:
    call("add", "batch_1")
    spoil(state, "batches")
    before = state.read_bytes()
    said = call(*command)

    assert said.code == 1
    assert f"watcher: the state {state} is damaged; restore a copy of it" in said.err
    assert "Traceback" not in said.err
    assert state.read_bytes() == before


def test_a_copy_of_a_damaged_state_is_none(tmp_path: Path) -> None:
    state, copy = tmp_path / "watcher.db", tmp_path / "copy.db"
    open_state(str(state), program="1.0", change=True).close()
    spoil(state, "batches")
    said = call("--state", state, "backup", copy)

    assert said.code == 1
    assert f"the state {state} is damaged" in said.err
    assert not copy.exists()


# What each command says


@pytest.fixture
def state(tmp_path: Path, providers: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user with a key has a state, once there is one."""
    for name, value in providers.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WATCHER_STATE", str(tmp_path / "watcher.db"))
    return tmp_path / "watcher.db"


COMMANDS = [["run"], ["run", "--once"], ["ls"], ["add", "batch_1"], ["status"], ["check"]]


@pytest.mark.parametrize("command", [*COMMANDS, ["health"], ["backup", "copy"]], ids=" ".join)
def test_every_command_refuses_a_state_that_other_machines_share(
    state: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    call("add", "batch_1")
    before = state.read_bytes()
    monkeypatch.setattr(place, "_kind_of", lambda _: 0x6969)
    said = call(*command)
    lines = [one for one in (said.out + said.err).splitlines() if "is on NFS" in one]

    assert said.code == 1
    assert len(lines) == 1
    assert lines[0].endswith("name a local path with --state")
    assert state.read_bytes() == before
    assert not Path("copy").exists()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_refuses_an_empty_file_and_leaves_it(state: Path, command: list[str]) -> None:
    state.touch()
    said = call(*command)

    assert said.code == 1
    assert f"the state {state} is an empty file; restore a copy of it" in said.out + said.err
    assert state.stat().st_size == 0


def test_check_and_a_start_warn_once_of_a_directory_that_others_may_enter(state: Path) -> None:
    state.parent.chmod(0o755)
    warned = [call(*arguments).err for arguments in (["check"], ["run", "--once"], ["ls"])]

    assert [one.count(f"others may enter {state.parent}") for one in warned] == [1, 1, 0]
    assert state.parent.stat().st_mode & 0o777 == 0o755


def test_a_daemon_that_can_write_nothing_is_not_said_to_be_absent(state: Path) -> None:
    """Its disk is full, say: to start another would help nobody."""
    call("add", "batch_1")
    with closing(open_state(str(state), program="1.0", change=True)) as database:
        at = time.time_ns() // 1_000_000 - 45_000
        beat = {"pid": 4711, "since": at, "at": at}
        database.transact(lambda work: Ledger(work).process.put("daemon", beat))
    lock = StateLock(str(state))
    lock.acquire()
    health, status = call("health"), call("status")
    lock.release()
    after = call("health")

    assert (health.code, status.code, after.code) == (1, 1, 1)
    assert health.out.startswith("daemon pid 4711: has written nothing for 45s: see its log")
    assert "pid 4711 has written nothing for 45s: see its log" in status.out
    assert after.out.startswith(f"no daemon on {state}; the last was alive 4")


@pytest.mark.skipif(os.name != "posix", reason="a directory has no such mode")
@pytest.mark.parametrize("command", ["run", "add"])
def test_a_directory_that_cannot_be_written_is_told_with_the_remedy(
    tmp_path: Path, command: str
) -> None:
    prefix = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may write anywhere, and there is no setpriv to take that away")
        prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    environ = {**os.environ, "OPENAI_API_KEY": "made-up-key", "WATCHER_STATE": f"{folder}/w.db"}
    arguments = [command, *(["batch_1"] if command == "add" else [])]
    said = subprocess.run(
        [*prefix, sys.executable, "-P", "-m", "watcher", *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    line = said.stderr.splitlines()[-1]

    assert said.returncode == 1
    assert "permission denied; check its permissions or name another" in line
    assert line.endswith("--state")
    assert list(folder.iterdir()) == []
