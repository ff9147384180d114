"""`watcher run` as a process: what it takes to be started, stopped, killed and started again."""

from __future__ import annotations

import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.channels.servers import Service
from tests.cli.bench import KEY_NAMES, World, call, daemon, process, told, until
from watcher.simulator import KEY, Fate, faults

pytestmark = pytest.mark.usefixtures("state")


def test_a_day_of_a_daemon(
    openai: World, configured: Path, service: Service, tmp_path: Path
) -> None:
    """What the command line writes is noticed within a second, by a process of its own."""
    with daemon(tmp_path) as one:
        healthy, well = call("health"), call("status", "--json")
        began = time.monotonic()
        added = call("add", openai.ended(Fate.failed()))
        until(lambda: told(service))
        took = time.monotonic() - began
        one.until_logged("message sent")
        event = call("events", "--json").out
        again = call("redeliver", event.split('"id":"')[1].split('"')[0])
        until(lambda: len(told(service)) == 2)
        stuck = openai.stuck()
        call("add", stuck)
        until(lambda: call("show", "--json", stuck).document["looks"] > 0)
        call("rm", stuck)
        code = one.stop()
        records = one.records

    assert code == 0
    assert (healthy.code, healthy.out) == (0, f"daemon pid {one.popen.pid}: well\n")
    assert (well.code, well.document["daemon"]["pid"]) == (0, one.popen.pid)
    assert f"looked at by daemon pid {one.popen.pid}; told: team" in added.err
    assert f"sent by daemon pid {one.popen.pid}" in again.err
    assert took < 5.0
    assert [record["event"] for record in records][-1] == "stopped"
    assert (call("health").code, call("status").code) == (1, 1)


def test_the_command_line_needs_no_key_while_a_daemon_lives(
    openai: World, configured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = openai.stuck()
    with daemon(tmp_path):
        monkeypatch.setenv("WATCHER_CONFIG", "/dev/null")
        for name in KEY_NAMES:
            monkeypatch.delenv(name, raising=False)
        added = call("add", id_, "--channel", "team")
        refused = call("add", id_, "--channel", "pager")
        status = call("status", "--json").document
        routes = call("routes", "--json").document

    assert added.out == f"openai/{id_}\n"
    assert "no channel is called 'pager': there is team" in refused.err
    assert [one["name"] for one in status["accounts"]] == ["openai"]
    assert routes["channels"] == ["team"]


def test_a_second_one_stands_by_and_takes_over_when_the_first_is_killed(
    openai: World, configured: Path, service: Service, tmp_path: Path
) -> None:
    with daemon(tmp_path) as first, process(tmp_path, "run") as second:
        second.until_logged("standing by for the daemon that watches this state")
        first.send(signal.SIGKILL)
        killed_at = time.monotonic()
        second.until_logged("watching")
        took = time.monotonic() - killed_at
        call("add", openai.ended())
        until(lambda: told(service))

        assert took < 8.0
        assert call("health").out == f"daemon pid {second.popen.pid}: well\n"


def test_one_with_other_accounts_is_turned_away_and_one_that_stands_by_can_be_stopped(
    openai: World, configured: Path, tmp_path: Path
) -> None:
    with daemon(tmp_path) as first:
        other = call("--config", "/dev/null", "run")
        with process(tmp_path, "run") as second:
            second.until_logged("standing by for the daemon that watches this state")
            second.send(signal.SIGHUP)
            code = second.stop()

        assert first.popen.poll() is None

    assert other.code == 2
    assert f"daemon pid {first.popen.pid} watches this state with other accounts" in other.err
    assert code == 0


def test_a_kill_between_sending_and_writing_down_loses_nothing(
    openai: World, configured: Path, service: Service, tmp_path: Path
) -> None:
    service.behaviour = "hang"
    with daemon(tmp_path) as one:
        call("add", openai.ended())
        until(lambda: service.received)
        one.send(signal.SIGKILL)
        one.ended()
    service.behaviour = "answer"
    with daemon(tmp_path) as one:
        until(lambda: len(service.received) == 2)
        one.until_logged("message sent")
    bodies = [one.body["message"] for one in service.received]

    assert bodies[0].splitlines()[-1] == bodies[1].splitlines()[-1]
    assert re.fullmatch(r"openai/batch_\w+@1", bodies[0].splitlines()[-1])


def test_a_registration_outlives_a_kill(openai: World, tmp_path: Path) -> None:
    with daemon(tmp_path) as one:
        id_ = openai.stuck()
        call("add", id_)
        one.send(signal.SIGKILL)
        one.ended()

    assert call("ls", "-q").out == f"openai/{id_}\n"


def test_nothing_secret_is_said_however_much_is_logged(
    openai: World, configured: Path, service: Service, tmp_path: Path
) -> None:
    password, beat = "channel-password-1", "heartbeat-secret-1"
    text = configured.read_text().replace("json://", f"json://user:{password}@")
    text += f'[heartbeat]\nurl = "http://{service.address}/{beat}"\nevery = "100ms"\n'
    configured.write_text(text)
    refused = openai.stuck()
    openai.simulation.faults.add(faults.unauthorized(), id=refused)
    with daemon(tmp_path, "--debug") as one:
        call("add", openai.ended(), refused)
        until(lambda: told(service))
        until(lambda: any(one.path == f"/{beat}" for one in service.received))
        one.until_logged("look failed")
        said = one.said
    service.status = 500

    assert password in call("--version").out + configured.read_text()
    for secret in (KEY, password, beat):
        assert secret not in said


def test_a_reload_by_signal(
    openai: World, configured: Path, service: Service, tmp_path: Path
) -> None:
    text = configured.read_text()
    with daemon(tmp_path) as one:
        configured.write_text(text + "[pollling]\n")
        one.send(signal.SIGHUP)
        refused = one.until_logged("not reloaded: the old settings stay")
        configured.write_text(text.replace("channels.team", "channels.ops"))
        one.send(signal.SIGHUP)
        one.until_logged("reloaded")
        call("add", openai.ended())
        until(lambda: told(service))
        deliveries = call("deliveries", "--json").document

    assert "polling" in refused["error"]
    assert str(configured) in refused["error"]
    assert [one["channel"] for one in deliveries] == ["ops"]


class TestOnce:
    """`run --once` is for cron."""

    def test_it_looks_tells_at_once_and_ends(
        self, openai: World, configured: Path, service: Service
    ) -> None:
        configured.write_text(
            configured.read_text().replace('digest_wait = "20ms"', 'digest_wait = "1h"')
        )
        call("add", openai.ended())
        first = call("run", "--once")
        second = call("run", "--once")

        assert (first.code, second.code) == (0, 0)
        assert len(told(service)) == 1

    def test_nothing_due_is_well(self, openai: World) -> None:
        assert call("run", "--once").code == 0

    def test_no_account_reached_is_five(
        self, openai: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9")
        call("add", openai.stuck())
        said = call("run", "--once")

        assert said.code == 5
        assert "no account could be reached" in said.err

    def test_without_an_account_it_says_so(self) -> None:
        said = call("run", "--once")

        assert said.code == 2
        assert "there is no account to watch" in said.err

    def test_a_channel_without_its_secret_only_is_off(
        self, openai: World, configured: Path, service: Service
    ) -> None:
        configured.write_text(configured.read_text() + '[channels.pager]\nurl_env = "PAGER"\n')
        call("add", openai.ended())

        assert call("run", "--once").code == 0
        assert len(told(service)) == 1

    @pytest.mark.parametrize("options", [[], ["--once"]])
    def test_a_channel_whose_url_is_wrong_is_two(
        self, openai: World, configured: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
    ) -> None:
        monkeypatch.setenv("PAGER", "slak://token-0123456789")
        configured.write_text(configured.read_text() + '[channels.pager]\nurl_env = "PAGER"\n')
        said = call("run", *options)

        assert said.code == 2
        assert said.err.startswith(f'watcher: {configured}: channel "pager": ')
        assert "token-0123456789" not in said.err

    def test_beside_a_daemon_it_does_nothing(self, openai: World, tmp_path: Path) -> None:
        with daemon(tmp_path):
            said = call("run", "--once")

        assert said.code == 0
        assert "a daemon watches this state" in said.err


def test_at_a_terminal_its_log_is_for_people_and_ctrl_c_is_quiet(
    openai: World, tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "watcher", "run"]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as popen:
        os.close(theirs)
        said = _read_until(ours, b"watching")
        popen.send_signal(signal.SIGINT)
        said += _read_until(ours, b"stopped")
        code = popen.wait(10)
    os.close(ours)
    lines = said.decode().splitlines()

    assert code == 0
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d info    daemon watching accounts=", lines[0])
    assert "Traceback" not in said.decode()


def _read_until(descriptor: int, awaited: bytes) -> bytes:
    said = b""
    while awaited not in said:
        # What is read of a terminal that was closed is an error.
        said += os.read(descriptor, 65_536)
    return said


@pytest.fixture
def other_schema(state: Path) -> Path:
    call("add", "batch_1")
    with sqlite3.connect(state) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
    connection.close()
    return state


def test_a_state_of_a_later_version_is_left_alone(openai: World, other_schema: Path) -> None:
    said = [call(*arguments) for arguments in (["run"], ["ls"], ["add", "batch_2"], ["status"])]

    assert {one.code for one in said} == {1}
    assert all("has schema 99, written by watcher" in one.err for one in said)


@pytest.mark.parametrize("command", [["run"], ["ls"], ["add", "batch_1"], ["status"], ["health"]])
def test_what_is_no_state_is_left_alone(openai: World, state: Path, command: list[str]) -> None:
    state.write_text("a shopping list, and no database at all\n" * 100)
    said = call(*command)

    assert said.code == 1
    assert f"{state} is not a state of watcher; name another file with --state" in said.err
    assert state.read_text().startswith("a shopping list")


@pytest.mark.parametrize("command", [["run"], ["add", "batch_1"], ["check", "--offline"]])
def test_a_state_that_cannot_be_made_is_told_with_the_remedy(
    openai: World, tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "file").write_text("")
    said = call("--state", tmp_path / "file" / "watcher.db", *command)

    assert said.code == 1
    assert "--state" in said.out + said.err
    assert "Traceback" not in said.err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB; only root can mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_told_and_nothing_is_half_registered(
    openai: World, small_disk: Path
) -> None:
    path = small_disk / "watcher.db"
    first = call("--state", path, "add", "batch_1")
    ids = "\n".join(f"batch_{number:064d}" for number in range(2_000))
    many = call("--state", path, "add", "-", stdin=ids)

    assert first.code == 0
    assert many.code == 1
    assert "no space left" in many.err
    assert call("--state", path, "ls", "-q").out == "openai/batch_1\n"
