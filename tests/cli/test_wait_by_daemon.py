"""`watcher wait` beside a live daemon: that one looks, and `wait` makes no request of its own."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.channels.servers import Service
from tests.cli.bench import World, call, daemon, hook, process, until
from watcher.cli import wait_by_daemon, waiting
from watcher.simulator import KEY, Fate


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read often, and give up messages soon."""
    monkeypatch.setattr(waiting, "READ_EVERY", 0.02)
    monkeypatch.setattr(wait_by_daemon, "NOTIFY_WITHIN", 1.0)


@pytest.fixture(scope="module")
def running(providers: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("daemon")
    path = folder / "watcher.db"
    account = {
        "PROVIDER": "openai",
        "API_KEY_ENV": "OPENAI_API_KEY",
        "REQUESTS_PER_MINUTE": "60000",
    }
    account["BASE_URL"] = providers.variables["OPENAI_BASE_URL"]
    environ = {f"WATCHER_ACCOUNTS__OPENAI__{key}": value for key, value in account.items()}
    environ |= {**providers.variables, "WATCHER_STATE": str(path), "WATCHER_CONFIG": "/dev/null"}
    with daemon(folder, environ=environ) as one:
        yield path
        assert one.stop() == 0


@pytest.fixture(autouse=True)
def no_key_here(running: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHER_STATE", str(running))


@pytest.mark.parametrize(
    ("fate", "code"),
    [(Fate.completed(), 0), (Fate.partial(), 8), (Fate.failed(), 6), (Fate.expired(), 6)],
)
def test_the_end_of_a_batch_is_the_exit_code(providers: World, fate: Fate, code: int) -> None:
    assert call("wait", providers.ended(fate)).code == code


def test_it_registers_what_is_new_and_needs_no_key(providers: World) -> None:
    id_ = providers.stuck()
    said = call("wait", "--timeout", "200ms", id_)
    again = call("wait", "--timeout", "200ms", id_)

    assert said.code == 7
    assert re.match(r"registered with daemon pid \d+; told: no channel is configured\n", said.err)
    assert "registered with" not in again.err
    assert f"openai/{id_}" in call("ls", "-q").out.splitlines()


def test_what_ended_long_ago_is_known_at_once(providers: World) -> None:
    id_ = providers.ended()
    call("wait", id_)
    began = time.monotonic()
    said = call("wait", "--json", id_)

    assert said.document[0]["status"] == "completed"
    assert time.monotonic() - began < 1.0


def test_a_group_is_waited_for_with_its_ended_ones(providers: World) -> None:
    ended, also = providers.ended(Fate.failed()), providers.ended()
    call("add", ended, "--group", "mixed")
    call("wait", ended)
    call("add", also, "--group", "mixed")
    said = call("wait", "--json", "--group", "mixed")

    assert said.code == 6
    assert [one["id"] for one in said.document] == [ended, also]


def test_any_and_fail_fast(providers: World) -> None:
    stuck = providers.stuck()

    assert call("wait", "--any", stuck, providers.ended()).code == 0
    assert call("wait", "--fail-fast", stuck, providers.ended(Fate.failed())).code == 6


def test_a_url_is_told_at_the_end(providers: World, service: Service) -> None:
    ids = [providers.ended() for _ in range(30)]
    said = call("wait", *ids, "--notify", hook(service))
    bodies = "".join(one.body["message"] for one in service.received)

    assert said.code == 0
    assert all(f"openai/{id_}@" in bodies for id_ in ids)


def test_a_channel_the_daemon_does_not_have_is_told_at_once(providers: World) -> None:
    said = call("wait", providers.stuck(), "--notify", "team")

    assert said.code == 2
    assert "no channel is called 'team': there is none" in said.err


def test_what_is_removed_meanwhile_is_four(providers: World, tmp_path: Path) -> None:
    id_ = providers.stuck()
    with process(tmp_path, "wait", id_) as one:
        until(lambda: "in_progress" in one.said)
        call("rm", id_)
        code = one.ended()

        assert code == 4
        assert f"openai/{id_}: was removed while it was waited for" in one.said


def test_an_account_of_ours_alone_is_looked_at_by_us(
    providers: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CO_API_KEY", KEY)
    monkeypatch.setenv("CO_API_URL", providers.simulation.base_url("cohere", providers.address))
    id_ = providers.simulation.cohere.add(Fate.completed(), created_at=1_700_000_000_000)

    assert call("wait", f"cohere/{id_}").code == 0


def test_it_goes_on_without_a_daemon_that_is_gone(
    openai: World, state: Path, tmp_path: Path
) -> None:
    id_ = openai.batch(Fate.completed(after=600.0))
    with daemon(tmp_path) as looking, process(tmp_path, "wait", id_) as one:
        until(lambda: "validating" in one.said or "in_progress" in one.said)
        looking.send(signal.SIGKILL)
        until(lambda: "the daemon is gone; going on without it" in one.said)
        openai.simulation.openai.revise(id_, Fate.completed(after=0.01))
        code = one.ended()

    assert code == 0
