"""The hunt finds a secret in every form and place that one can be written in, and nothing else."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from tests.builders import ScriptedChannel
from tests.channels.servers import Received
from tests.cli.bench import call
from tests.hunt import HUNT, forms
from tests.world import SameThread
from watcher import cli, log
from watcher.errors import Unavailable
from watcher.meter import Meter
from watcher.model import Message, Severity
from watcher.redaction import Redactor

SECRET = "sk-Plain4Nobody/0123+456789"
URL = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"


def disguises() -> dict[str, str]:
    quoted = quote(SECRET, safe="")
    around = [base64.b64encode(b"x" * before + SECRET.encode() + b"yz") for before in range(3)]
    return {
        "plain": SECRET,
        "quoted": quoted,
        "quoted in small letters": quoted.replace("%2F", "%2f").replace("%2B", "%2b"),
        "in JSON": json.dumps({"key": SECRET}),
        "as repr": repr({"key": SECRET}),
        "in hexadecimal": SECRET.encode().hex(),
        "in basic authentication": base64.b64encode(f"me:{SECRET}".encode()).decode(),
        "in base64 of URLs": base64.urlsafe_b64encode(SECRET.encode()).decode(),
        **{f"in base64 at {place}": text.decode() for place, text in enumerate(around)},
    }


def a_log_at_debug(text: str) -> None:
    log.get("planted").debug("looked", said=text)


def a_logged_traceback(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        log.get("planted").exception("looked")


def a_line_as_written(text: str) -> None:
    record = logging.LogRecord("aiohttp", logging.DEBUG, "", 0, text, (), None)
    log._Handler(sys.stderr, Redactor()).format(record)


def an_error(text: str) -> None:
    Unavailable(text)


def the_last_resort(text: str) -> None:
    try:
        raise RuntimeError(text)
    except RuntimeError:
        cli._say("our own fault", str)


def a_process(text: str) -> None:
    program = "import sys; print(sys.argv[1], file=sys.stderr)"
    subprocess.run([sys.executable, "-c", program, text], capture_output=True, check=True)


def a_command(text: str) -> None:
    call("ls", "--status", text)


def a_metric(text: str) -> None:
    Meter().add("looks", account=text)


def a_message(text: str) -> None:
    asyncio.run(ScriptedChannel().send(Message("title", text, Severity.INFO)))


def a_body(text: str) -> None:
    Received("POST", "/hook", {}, text.encode())


def a_state_in_memory(text: str) -> None:
    database = SameThread()
    database.transact(lambda work: work.execute("INSERT INTO meta VALUES ($1, $2)", ("k", text)))
    database.close()


PLACES: list[Callable[[str], None]] = [
    a_log_at_debug,
    a_logged_traceback,
    a_line_as_written,
    an_error,
    the_last_resort,
    a_process,
    a_command,
    a_metric,
    a_message,
    a_body,
    a_state_in_memory,
]


def hunted() -> list[str]:
    """What the hunt finds now; it forgets it, for these are our own leaks."""
    HUNT.add(SECRET)
    found = HUNT.found()
    HUNT.begin()
    return found


@pytest.mark.parametrize("name", disguises())
def test_a_secret_is_found_in_every_form(name: str) -> None:
    an_error(f"the key {disguises()[name]} is wrong")

    assert len(hunted()) == 1


@pytest.mark.parametrize("leak", PLACES, ids=lambda leak: leak.__name__)
def test_a_secret_is_found_wherever_it_is_written(leak: Callable[[str], None]) -> None:
    leak(f"the key {SECRET} is wrong")

    assert hunted()


@pytest.mark.parametrize("leak", PLACES, ids=lambda leak: leak.__name__)
def test_where_no_secret_is_written_none_is_found(leak: Callable[[str], None]) -> None:
    leak(f"the key {SECRET[:5]} is wrong")

    assert hunted() == []


@pytest.mark.parametrize("name", ["watcher.db", "watcher.db-wal", "copies/1.db", "log-1"])
def test_a_secret_is_found_in_files(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"\0\xff" + SECRET.encode() + b"\0")
    HUNT.look_below(tmp_path)
    file.unlink()

    assert [one.partition(":")[0] for one in hunted()] == [str(file)]


def test_files_that_keep_secrets_may_hold_them(tmp_path: Path) -> None:
    for name in ("config.toml", "openai.key", ".netrc", "allowed"):
        (tmp_path / name).write_text(f"key = {SECRET}")
    # Whatever it is called: nothing but a secret is in it.
    (tmp_path / "bare").write_text(f"{SECRET}\n")
    HUNT.allow(tmp_path / "allowed")
    HUNT.look_below(tmp_path)
    found = hunted()
    HUNT.allow(tmp_path / "allowed")

    assert found == []


def test_secrets_make_themselves_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = SecretStr("a-hidden-one")
    Redactor().add("0a1b2c3d4e5f6a7b8c9d")
    monkeypatch.setenv("TEAM_HOOK", URL)
    monkeypatch.setenv("http_proxy", "http://me:pass-word-1@127.0.0.1:9")
    (tmp_path / "config.toml").write_text('api_key = "in-a-file"\nbase_url = "http://127.0.0.1"')
    HUNT.learn_from(SimpleNamespace(TOKEN="in-a-module", OTHER="something"))
    HUNT.look_below(tmp_path)
    for text in (hidden.get_secret_value(), "0a1b2c3d4e5f6a7b8c9d", "TIiajkdnlazkcOXrIdevi7FQ"):
        an_error(text)
    for text in ("pass-word-1", "in-a-file", "in-a-module", "127.0.0.1", "http://127.0.0.1", "me"):
        an_error(text)

    assert len(hunted()) == 6


def test_what_the_handler_would_strike_out_is_no_leak_and_what_it_knows_too_late_is() -> None:
    a_log_at_debug(f"early {SECRET}")
    Redactor().add(SECRET)
    a_log_at_debug(f"late {SECRET}")
    found = hunted()

    assert len(found) == 1
    assert "early" in found[0]


def test_what_is_too_short_for_a_secret_is_not_hunted() -> None:
    HUNT.add("short", "secret")
    an_error("short of [secret]")

    assert hunted() == []
    assert forms("short") == {}
