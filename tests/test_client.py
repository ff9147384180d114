"""`watcher.register` from a submit script, and the client behind the commands."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import watcher
from tests.cli.bench import close
from watcher.client import LocalClient, Wish, user_name
from watcher.config import load
from watcher.errors import NoSuchBatch, StoreError, UsageError
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
        {"id": "batch_1", "object": "batch"},
        {"batch": {"id": "batch_1", "name": "x"}},
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


@pytest.mark.parametrize("nonsense", [None, 7, object(), {}, {"id": 7}, {"batch": "x"}])
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
    assert record.getMessage().startswith("batch batch_1 was not registered: cannot create ")
    assert record.getMessage().endswith(
        "Once that is put right: watcher add --account openai batch_1"
    )


SURE = "batch_0e5eeca4214a4f0a0117bf9aa22f2785"


@pytest.mark.parametrize(
    ("id_", "options", "complaint", "remedy"),
    [
        (
            "batch_1",
            {"account": "work", "name": "nightly evals", "tags": ["a"]},
            "no account is called 'work': there is openai",
            "To mend it: watcher add --name 'nightly evals' --tag a batch_1",
        ),
        (
            "batch_1",
            {"account": "openai", "name": "two\nlines", "group": "evals"},
            "give printable text",
            "To mend it: watcher add --account openai --group evals batch_1",
        ),
        (
            "batch_1",
            {"channels": ["slack://TOKEN/TOKEN"]},
            "that is no channel's name: there is none",
            "To mend it: watcher add batch_1",
        ),
        ("a/b", {}, "no account is called 'a'", "Correct the id, and register it again."),
        ("", {}, "an id is empty", "Correct the id, and register it again."),
    ],
)
def test_the_line_that_mends_never_repeats_the_mistake(
    caplog: pytest.LogCaptureFixture,
    id_: str,
    options: dict[str, Any],
    complaint: str,
    remedy: str,
) -> None:
    assert watcher.register(id_, **options) is None
    (record,) = caplog.records

    assert complaint in record.getMessage()
    assert record.getMessage().endswith(remedy)
    assert "TOKEN" not in record.getMessage()


def test_the_line_that_mends_chooses_among_several_accounts(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CO_API_KEY", "co-0123456789")
    for id_ in ("batch_1", SURE):
        watcher.register(id_, account="work")
    either, sure = (record.getMessage() for record in caplog.records)

    assert either.endswith(
        "To mend it, whichever is meant: "
        "watcher add --account openai batch_1 or watcher add --account cohere batch_1"
    )
    assert "there is openai, cohere" in either
    assert sure.endswith(f"To mend it: watcher add {SURE}")


def test_without_a_key_the_line_comes_after_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    watcher.register(SURE)

    assert "no account has that provider: set OPENAI_API_KEY. Once that is put right" in caplog.text


def test_tags_that_are_none_never_raise(caplog: pytest.LogCaptureFixture) -> None:
    assert watcher.register("batch_1", tags=7) is None  # type: ignore[arg-type]
    assert "batch batch_1 was not registered" in caplog.text


@pytest.mark.parametrize("name", ["\x1b]0;x\x07ana\nforged", "a" * 5_000])
def test_a_users_name_is_one_short_line(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("LOGNAME", name)
    told = user_name()

    assert told is not None
    assert told.isprintable()
    assert len(told) <= 100


def test_a_state_that_is_closed_to_us_is_told_with_the_remedy(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = LocalClient(load())
    close(state, monkeypatch)
    with pytest.raises(StoreError) as told, client.opened(create=False):
        pass

    assert str(told.value) == (
        f"cannot open the state {state}: permission denied; "
        "check its permissions or name another with --state"
    )


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
