"""The guards of conftest.py do fire: a guard that cannot fail guards nothing."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockingError

import watcher.clock
from tests.conftest import FENCE, is_here
from tests.fakes import START, FakeClock
from watcher.clock import Clock
from watcher.text import iso

# An address set aside for documentation: nothing is there, and the fence stops us before.
ELSEWHERE = "192.0.2.1"


def test_a_connection_to_another_machine_is_stopped_and_remembered() -> None:
    with socket.socket() as connection, pytest.raises(ConnectionRefusedError):
        connection.connect((ELSEWHERE, 80))
    stopped = FENCE.stopped.copy()
    FENCE.stopped.clear()

    assert stopped == [f"socket.connect '{ELSEWHERE}'"]


def test_a_name_of_another_machine_is_never_looked_up() -> None:
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("api.example.com", 443)
    stopped = FENCE.stopped.copy()
    FENCE.stopped.clear()

    assert stopped == ["socket.getaddrinfo 'api.example.com'"]


def test_a_name_that_cannot_exist_is_unknown_and_no_offence() -> None:
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("provider.invalid", 443)

    assert FENCE.stopped == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", None, ""])
def test_this_machine_is_here(host: str | None) -> None:
    assert is_here(host)


@pytest.mark.parametrize("host", [ELSEWHERE, "10.0.0.1", "2001:db8::1", "localhost.example.com"])
def test_other_machines_are_not_here(host: str) -> None:
    assert not is_here(host)


async def test_blocking_the_loop_in_watchers_code_raises(tmp_path: Path) -> None:
    blocking = _as_code_of_watcher("import os\ndef blocking(path): os.mkdir(path)")

    with pytest.raises(BlockingError):
        blocking(tmp_path / "made")


async def test_a_thread_of_watchers_may_block(tmp_path: Path) -> None:
    blocking = _as_code_of_watcher("import os\ndef blocking(path): os.mkdir(path)")
    thread = threading.Thread(target=blocking, args=(tmp_path / "made",))
    thread.start()
    thread.join()

    assert (tmp_path / "made").is_dir()


def _as_code_of_watcher(source: str) -> Callable[[Path], None]:
    """What a source defines as `blocking`, for all anyone can tell from a file of watcher's."""
    names: dict[str, Any] = {}
    file = Path(watcher.clock.__file__).with_name("made_up.py")
    exec(compile(source, str(file), "exec"), names)  # noqa: S102
    blocking: Callable[[Path], None] = names["blocking"]
    return blocking


def test_no_variable_of_the_developers_reaches_a_test() -> None:
    present = [name for name in os.environ if name.startswith(("WATCHER_", "OPENAI_", "COHERE_"))]

    assert present == []


def test_home_is_empty_and_the_tests_own() -> None:
    home = Path.home()

    assert list(home.iterdir()) == []


def test_the_fake_clock_moves_only_when_told_to() -> None:
    clock: Clock = (fake := FakeClock())
    before = (clock.now(), clock.monotonic())
    fake.advance(1_500)

    assert before == (START, 0.0)
    assert (clock.now(), clock.monotonic()) == (START + 1_500, 1.5)
    assert iso(START) == "2026-11-21T12:00:00Z"


def test_a_clock_set_back_does_not_turn_monotonic_time_back() -> None:
    clock = FakeClock()
    clock.jump(-60_000)

    assert (clock.now(), clock.monotonic()) == (START - 60_000, 0.0)
