"""`watcher.register` from a submit script, and the client behind the commands."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import watcher
from watcher.client import LocalClient, Wish
from watcher.config import load
from watcher.errors import NoSuchBatch, UsageError
from watcher.model import Batch


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "watcher.db"
    monkeypatch.setenv("WATCHER_STATE", str(path))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    return path


def kept() -> list[Batch]:
    with LocalClient(load()).opened(create=False) as client:
        return client.read(lambda ledger: ledger.batches.watched(open_only=False))


@pytest.mark.parametrize(
    "given",
    [
        "batch_1",
        SimpleNamespace(id="batch_1", object="batch"),
        SimpleNamespace(batch=SimpleNamespace(id="batch_1")),
    ],
)
def test_an_id_or_what_has_one_is_registered_and_its_key_returned(given: object) -> None:
    key = watcher.register(
        given, name="nightly", tags=["a", "b"], group="evals", account="openai", strict=True
    )
    (batch,) = kept()

    assert key == batch.key == "openai/batch_1"
    assert batch.name == "nightly"
    assert batch.registration.tags == ("a", "b")
    assert batch.registration.group == "evals"
    assert batch.registration.registered_by


def test_one_tag_may_be_a_plain_text() -> None:
    watcher.register("batch_1", tags="nightly", strict=True)

    assert kept()[0].registration.tags == ("nightly",)


@pytest.mark.parametrize("nonsense", [None, 7, object(), {"id": "batch_1"}])
def test_what_has_no_id_never_raises(nonsense: object, caplog: pytest.LogCaptureFixture) -> None:
    assert watcher.register(nonsense) is None
    assert "register() takes an id or an object with an .id" in caplog.text
    with pytest.raises(UsageError):
        watcher.register(nonsense, strict=True)


def test_a_failure_logs_the_line_that_mends_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WATCHER_STATE", str(tmp_path / "file" / "watcher.db"))
    key = watcher.register("batch_1", account="openai")
    (record,) = caplog.records

    assert key is None
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("batch batch_1 was not registered: cannot open the state")
    assert record.getMessage().endswith("To mend it: watcher add --account openai batch_1")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"account": "work"}, "no account is called 'work'"),
        ({"channels": ["pager"]}, "no channel is called 'pager'"),
        ({"name": "two\nlines"}, "give printable text"),
    ],
)
def test_strict_raises_what_is_wrong(options: dict[str, str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        watcher.register("batch_1", strict=True, **options)


def test_a_mistake_in_the_environment_never_raises(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHER_POLLING__TIMEOUT", "soon")

    assert watcher.register("batch_1") is None
    assert "watcher add batch_1" in caplog.text


def test_a_submit_script_is_told_without_any_logging_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    script = "import watcher, sys; print(watcher.register('batch_1'), 'httpx' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert said.stdout == "None False\n"
    assert "batch batch_1 was not registered: batch_1: there is no account" in said.stderr
    assert "Traceback" not in said.stderr


def test_the_package_itself_has_only_what_it_names() -> None:
    assert not hasattr(watcher, "unregister")


def test_finding_is_by_key_or_id_and_each_once() -> None:
    client = LocalClient(load())
    with client.opened(create=True):
        wanted = client.registering(
            [("batch_1", None), ("openai/batch_1", None), ("batch_2", None)],
            Wish(),
            registered_by="ana",
        )
        client.register(wanted)
        found = client.find_all(["batch_2", "openai/batch_1", "batch_1"])

        assert [batch.id for batch in found] == ["batch_2", "batch_1"]
        with pytest.raises(NoSuchBatch, match="no batch batch_3 is registered"):
            client.find("batch_3")


def test_without_a_state_there_is_nothing_and_nothing_is_made(state: Path) -> None:
    client = LocalClient(load())
    with client.opened(create=False):
        assert not client.exists
        assert not client.daemon().alive
        assert client.subjects() == ([], [])
        assert client.resolve_all(["batch_1"]) == [("openai", "batch_1")]
        with pytest.raises(NoSuchBatch):
            client.find("batch_1")
        with pytest.raises(NoSuchBatch, match="there is no state at"):
            client.read(lambda ledger: ledger.outbox.dead())

    assert not state.exists()
