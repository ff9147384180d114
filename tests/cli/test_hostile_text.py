"""Whatever a provider, a neighbour or an argument says, the terminal shows it and does not obey."""

from __future__ import annotations

import json
import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.channels.servers import Service
from tests.cli.bench import World, call
from tests.cli.test_commands import at_terminal
from watcher.simulator import Complaint, Fate, ListForm, faults
from watcher.text import clean_line

pytestmark = pytest.mark.usefixtures("openai", "state")

HOSTILE = (
    "\x1b[31mred \x1b]0;title\x07 \x1b]52;c;ZXZpbA==\x07 \x1b]8;;https://evil.example\x1b\\link "
    "\x9b2J\x90q\x9c \u202egnp.exe\u2066 a\u200bb\ufeff [bold]rich[/bold] [red]x {0} {self} %s %n "
    "@everyone <!channel> \n2026-11-21T12:00:00 error   daemon forged=yes\r\nforged\u2028forged"
)
# Our own: colours, and what draws the live table of `wait`.
OURS = re.compile(r"\x1b\[[0-9;]*[mAKGhl]|\x1b\[\?25[lh]|\x1b\[[0-9]*[A-D]|\x1b\[[12]K")
DAMAGED = {
    "not JSON": "{",
    "a list": "[]",
    "too deep": "[" * 100_000,
    "a later status": '{"status": "paused"}',
    "another type": '{"looks": "many"}',
    "a time beyond all calendars": '{"created_at": 99999999999999999}',
    "a part of another type": '{"problems": [1]}',
    "a number too long to read": '{"looks": ' + "1" * 5_000 + "}",
}


@pytest.fixture
def batches(openai: World) -> list[str]:
    """A batch that failed, one with an unknown status, and one that goes on, all hostile."""
    said: dict[str, Any] = {
        "name": HOSTILE,
        "metadata": {"name": HOSTILE, HOSTILE: [HOSTILE]},
    }
    complaint = Complaint(HOSTILE, HOSTILE, line=3)
    fates = (
        Fate.failed((complaint,)).showing(**said, error_file_id=HOSTILE),
        Fate.completed().showing(**said, status=HOSTILE),
        Fate.stuck().showing(**said),
    )
    return [openai.batch(fate, age=10_000.0) for fate in fates]


@pytest.fixture
def seen(batches: list[str], configured: Path, service: Service) -> list[str]:
    """They have been looked at, and a channel has refused what was told of them."""
    del configured
    service.status = 500
    service.answer = HOSTILE.encode()
    call("add", *batches)
    call("run", "--once", "--debug")
    return batches


def assert_shown(said: str) -> None:
    """Nothing but our own styling, and no line that a provider began."""
    plain = OURS.sub("", said).replace("\r\n", "\n").replace("\r", "\n")
    for line in plain.split("\n"):
        assert clean_line(line, 100_000) == line.strip(), ascii(line)
        assert not line.lstrip().startswith(("forged", "2026-11-21T12:00:00 error"))


def test_a_terminal_obeys_us_alone(seen: list[str]) -> None:
    commands = [
        ["ls", "--all"],
        ["show", seen[0]],
        ["events"],
        ["deliveries"],
        ["wait", seen[0]],
    ]
    with ThreadPoolExecutor() as pool:
        shown = list(pool.map(lambda arguments: at_terminal(*arguments), commands))
    for arguments, said in zip(commands, shown, strict=True):
        # What a channel answers is not kept; all others repeat what a provider said.
        assert "0;title" in said or arguments == ["deliveries"]
        assert_shown(said)


def test_a_pipe_gets_plain_lines(seen: list[str]) -> None:
    failed, unknown, _ = seen
    commands = ["ls --all", f"show {failed}", f"show {unknown}", "events", "deliveries", "status"]
    for command in [*commands, f"wait {failed}"]:
        said = call(*command.split())

        assert_shown(said.out)
        assert_shown(said.err)
        assert "\x1b" not in said.out + said.err


def test_json_is_plain_too(seen: list[str]) -> None:
    for command in ("ls --all", f"show {seen[0]}", "events", "deliveries", f"wait {seen[0]}"):
        said = call(*command.split(), "--json")
        documents = said.out.splitlines() if command == "events" else [said.out]

        assert_shown(said.out)
        assert all(json.loads(document) for document in documents)


def test_json_escapes_what_another_wrote_to_the_state(state: Path) -> None:
    call("add", "batch_1", "--name", "NAME")
    word = "a\x9b2J\x7f\u202eb\u200f\U000e0041\ud800 \u00e4\U0001f600"
    spoil(state, "registration", lambda text: text.replace("NAME", json.dumps(word)[1:-1]))
    said = call("ls", "--json")

    assert_shown(said.out)
    assert "\u00e4\U0001f600" in said.out
    assert said.document[0]["name"] == word


def test_the_log_has_a_line_a_record(
    openai: World, batches: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each is asked for by itself.
    monkeypatch.setattr(openai.simulation.openai, "list_form", ListForm(refusal=404))
    call("add", *batches, openai.ended())
    openai.simulation.faults.add(faults.status(400, HOSTILE), id=batches[1])
    at_one = at_terminal("run", "--once", "--debug")
    call("add", openai.ended(), *batches)
    openai.simulation.faults.add(faults.status(429, HOSTILE), id=batches[2])
    piped = call("run", "--once", "--debug").err
    records = [line for line in at_one.replace("\r\n", "\n").split("\n") if line]

    assert "0;title" in at_one
    assert_shown(at_one)
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d \w+ +\w", line) for line in records)
    assert piped.isascii()
    assert all(json.loads(line)["event"] for line in piped.splitlines())


COMMANDS = (
    "add ID",
    "show ID",
    "rm ID",
    "wait ID",
    "ls --account ID",
    "deliveries --channel ID",
    "redeliver ID",
    "events --since ID",
    "backup ID",
    "ls --status ID",
    "ID",
    "ls --ID",
    "ls ID",
)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("hostile", ["b\udcffad", "b\x1b[31m\u202ex", "b\x9b2J\nforged: line"])
def test_a_hostile_argument_is_told_in_a_line(
    command: str, hostile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    call("add", "batch_1")
    said = call(*(word.replace("ID", hostile) for word in command.split()))
    mistake = said.err.split("\n")

    assert said.code in {0, 2, 4}
    assert said.code != 0 or not hostile.isascii() or "backup" in command or "--" in command
    assert "our own fault" not in said.err
    assert len(mistake) <= 3
    assert_shown(said.out + said.err)


@pytest.mark.parametrize("command", ["add", "wait"])
def test_standard_input_with_half_a_character_is_told(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two accounts every id is looked for in the state."""
    monkeypatch.setenv("CEREBRAS_API_KEY", "a-key-of-nobody")
    call("add", "cerebras/batch_1")
    said = call(command, "-", stdin='["\\ud800"]')

    assert said.code == 2
    assert "cannot be an id" in said.err


@pytest.mark.parametrize("state_text", DAMAGED.values(), ids=DAMAGED)
def test_one_damaged_row_hides_no_other(state_text: str, state: Path) -> None:
    call("add", "batch_1", "batch_2")
    spoil(state, "state", lambda _: state_text, "batch_1")
    listed, shown, other = call("ls"), call("show", "batch_1"), call("show", "batch_2")
    ids = [one["id"] for one in call("ls", "--json").document]

    assert ids == ["batch_2"]
    assert (listed.code, other.code) == (0, 0)
    assert "1 batch cannot be read, written by a later version or damaged: openai/batch_1" in (
        listed.err
    )
    assert shown.code == 1
    assert "cannot be read: it was written by a later version or damaged" in shown.err
    assert "our own fault" not in shown.err


@pytest.mark.parametrize("name", ["daemon", "names"])
@pytest.mark.parametrize("document", ['{"at": "x"}', '{"at": 1}', '{"accounts": [{}]}', "[]"])
def test_a_daemons_damaged_notes_are_as_good_as_none(state: Path, name: str, document: str) -> None:
    call("add", "batch_1")
    with sqlite3.connect(state) as connection:
        put = "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)"
        connection.execute(put, (name, document))
    connection.close()
    said = [call(command) for command in ("ls", "status", "health", "routes", "check")]
    added = call("add", "batch_2")

    assert added.code == 0
    assert not [one.err for one in said if "our own fault" in one.err]


def test_status_shows_what_another_wrote_to_the_state_harmlessly(state: Path) -> None:
    call("add", "batch_1")
    word = json.dumps("a\x1b]52;c;eA==\x07b\r\nforged \x9b2J\u202ec")
    row = f'{{"provider": "openai", "trouble": "unauthorized", "trouble_reason": {word}}}'
    with sqlite3.connect(state) as connection:
        put = "INSERT OR REPLACE INTO accounts (name, revision, state) VALUES ('openai', 1, ?)"
        connection.execute(put, (row,))
    connection.close()
    said = call("status")

    assert "forged" in said.out
    assert_shown(said.out)
    assert not [line for line in said.out.splitlines() if line.startswith("forged")]


def spoil(state: Path, column: str, change: Any, id_: str = "batch_1") -> None:
    """Change what a row of a batch holds, as another hand would."""
    with sqlite3.connect(state) as connection:
        query = f"SELECT {column} FROM batches WHERE id = ?"  # noqa: S608 - a test's own word
        (text,) = connection.execute(query, (id_,)).fetchone()
        update = f"UPDATE batches SET {column} = ? WHERE id = ?"  # noqa: S608 - as above
        connection.execute(update, (change(text), id_))
    connection.close()
