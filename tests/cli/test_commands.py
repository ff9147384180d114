"""The command line itself: names, options, help, completion, pipes, terminals."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.channels.servers import Service
from tests.cli.bench import World, call
from watcher import cli
from watcher.cli import COMMANDS, init
from watcher.errors import StoreError
from watcher.simulator import Fate
from watcher.version import __version__

ESCAPE = "\x1b["


def shell(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, env={**os.environ, **environ}, capture_output=True, text=True, check=False
    )


def at_terminal(*arguments: str, columns: int = 80, **environ: str) -> str:
    """What a command shows at a terminal of this width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [sys.executable, "-m", "watcher", *arguments]
    environ = {**os.environ, "TERM": "xterm-256color", **environ}
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, close_fds=True
    ) as popen:
        os.close(theirs)
        said = b""
        while True:
            try:
                part = os.read(ours, 65_536)
            except OSError:
                break
            if not part:
                break
            said += part
        popen.wait(10)
    os.close(ours)
    return said.decode()


def test_every_command_explains_itself() -> None:
    for name in COMMANDS:
        said = call(name, "--help")

        assert said.code == 0, name
        assert said.out.startswith(f"Usage: watcher {name}")
        assert said.err == ""


def test_help_lists_every_command() -> None:
    said = call("--help")

    assert call().out == said.out
    assert all(re.search(rf"^  {name} ", said.out, re.MULTILINE) for name in COMMANDS)


def test_the_version_is_told() -> None:
    assert call("--version").out == f"watcher {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["lst"], "did you mean `watcher list`?"),
        (["deliverys"], "did you mean `watcher deliveries`?"),
        (["xyzzy"], "see watcher --help"),
        (["ls", "--jsn"], "Did you mean '--json'?"),
        (["wait", "--fail-fats"], "Did you mean '--fail-fast'?"),
        (["deliveries", "--limit", "0"], "--limit"),
        (["ls", "--status", "complete"], "'completed'"),
        (["show"], "Missing argument 'ID'"),
    ],
)
def test_a_mistyped_word_is_two_and_hinted_at(arguments: list[str], hint: str) -> None:
    said = call(*arguments)

    assert said.code == 2
    assert hint in said.err
    assert len(said.err.splitlines()) == 1


def test_common_options_go_before_or_after_the_name(
    openai: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "some.db"
    call("--state", path, "add", "batch_1")
    before = call("--json", "--state", path, "--config", "/dev/null", "ls")
    after = call("ls", "--config", "/dev/null", "--json", "--state", path)

    assert before.document == after.document
    assert before.document[0]["id"] == "batch_1"


def test_list_is_another_name_for_ls(openai: World, state: Path) -> None:
    call("add", "batch_1")

    assert call("list", "-q").out == call("ls", "-q").out == "openai/batch_1\n"


def test_our_own_fault_is_one_line_without_and_a_traceback_with_debug(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken() -> Path:
        message = "the cat sat on it"
        raise ZeroDivisionError(message)

    monkeypatch.setattr(init, "_default_place", broken)
    plain, debug = call("init"), call("--debug", "init")

    assert (plain.code, debug.code) == (1, 1)
    assert "our own fault, please report it: ZeroDivisionError" in plain.err
    assert "Traceback" not in plain.err
    assert "Traceback" in debug.err


def test_a_foreseen_error_keeps_its_exit_code_under_debug(state: Path) -> None:
    said = call("--debug", "show", "batch_1")

    assert said.code == 4
    assert said.err.splitlines()[-1] == (
        "watcher: no batch batch_1 is registered: watcher add it first"
    )


def test_a_reader_that_goes_away_is_no_trouble(openai: World, state: Path) -> None:
    call("add", "-", stdin="\n".join(f"batch_{number:050d}" for number in range(3_000)))
    said = shell("bash", "-c", f"{sys.executable} -m watcher ls | head -1; echo ${{PIPESTATUS[0]}}")

    assert said.stdout.splitlines()[0].split()[0] == "BATCH"
    assert said.stdout.splitlines()[-1] == "0"
    assert said.stderr == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_will_do(openai: World, state: Path, encoding: str) -> None:
    call("add", "batch_1", "--name", "Größe ✓")
    said = subprocess.run(
        [sys.executable, "-m", "watcher", "ls"],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    )

    assert b"openai/batch_1" in said.stdout
    assert b"Gr" in said.stdout


class TestAtATerminal:
    """What a person sees, 80 columns wide."""

    @pytest.fixture
    def ids(self, openai: World, state: Path) -> list[str]:
        ids = [openai.ended(Fate.failed()), openai.stuck()]
        call("add", *ids, "--name", "the nightly evaluation of all the models we have ever had")
        call("run", "--once")
        return ids

    def test_no_line_is_too_long_and_no_id_cut(self, ids: list[str]) -> None:
        lines = at_terminal("ls", "--all", NO_COLOR="1").splitlines()

        assert max(map(len, lines)) <= 80
        assert {f"openai/{id_}" for id_ in ids} <= set(lines)

    def test_there_is_colour_and_a_bar(self, ids: list[str]) -> None:
        said = at_terminal("ls", "--all", columns=160)

        assert f"{ESCAPE}31mfailed" in said
        assert re.search(r"░{10}   \d% \d/100", said)

    def test_no_color_and_a_dumb_terminal_are_honoured(self, ids: list[str]) -> None:
        assert ESCAPE not in at_terminal("ls", "--all", NO_COLOR="1")
        assert ESCAPE not in at_terminal("show", ids[0], TERM="dumb")

    def test_waiting_shows_live_progress(self, openai: World, state: Path) -> None:
        said = at_terminal("wait", openai.stuck(), "--timeout", "2s")

        assert "in_progress" in said
        assert "░░░░░░░░░░" in said
        assert "timed out: 1 of 1 not ended" in said.rstrip().splitlines()[-1]

    def test_what_is_undelivered_is_said_when_no_channel_could(
        self, openai: World, state: Path, configured: Path, service: Service
    ) -> None:
        from tests.cli.test_reading import bury

        service.status = 500
        call("add", openai.ended())
        call("run", "--once")
        bury(state)

        assert (
            at_terminal("ls", NO_COLOR="1")
            .rstrip()
            .endswith("1 message undelivered: watcher deliveries --state dead")
        )


class TestCompletion:
    """Tab."""

    @pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
    def test_there_is_a_script_for_each_shell(self, name: str) -> None:
        said = call("completion", name)

        assert said.code == 0
        assert f"_WATCHER_COMPLETE={name}_complete" in said.out

    def complete(self, line: str) -> list[str]:
        words = line.split(" ")
        said = shell(
            *(sys.executable, "-m", "watcher"),
            _WATCHER_COMPLETE="bash_complete",
            COMP_WORDS=line,
            COMP_CWORD=str(len(words) - 1),
        )
        assert said.stderr == ""
        return [one.partition(",")[2] for one in said.stdout.split()]

    def test_commands_options_and_ids_are_completed(self, openai: World, state: Path) -> None:
        call("add", "batch_1", "batch_2")

        assert self.complete("watcher del") == ["deliveries"]
        assert self.complete("watcher wait --fail") == ["--fail-fast"]
        assert self.complete("watcher show openai/") == ["openai/batch_1", "openai/batch_2"]
        assert self.complete("watcher rm batch_2") == ["batch_2"]

    def test_it_reads_the_state_that_is_named_and_minds_no_nonsense(
        self, openai: World, tmp_path: Path
    ) -> None:
        path = tmp_path / "other.db"
        call("--state", path, "add", "batch_7")

        assert self.complete(f"watcher --state {path} show ba") == ["batch_7"]
        assert self.complete("watcher nonsense x") == []


def test_a_store_that_fails_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        message = "the disk is on fire"
        raise StoreError(message)

    monkeypatch.setattr(cli.root, "main", fail)
    said = call("ls")

    assert (said.code, said.err) == (1, "watcher: the disk is on fire\n")
