"""`add`, `ls` and `rm`: what is registered, from where, and what is refused whole."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

import pytest

from tests.channels.servers import Service
from tests.cli.bench import World, call, hook
from watcher.simulator import KEY, Fate, faults

pytestmark = pytest.mark.usefixtures("openai", "state")
UUID = "ccbe72c3-09ae-41a3-9e34-d549de1097df"


def keys(*options: str) -> list[str]:
    return call("ls", "-q", *options).out.split()


def test_an_id_is_registered_with_what_is_said_of_it() -> None:
    said = call(
        *("add", "batch_1", "--name", "nightly evals", "--tag", "a", "--tag", "b"),
        *("--group", "evals", "--json"),
    )
    (document,) = said.document

    assert said.code == 0
    assert (document["key"], document["account"]) == ("openai/batch_1", "openai")
    assert (document["name"], document["tags"], document["group"]) == (
        "nightly evals",
        ["a", "b"],
        "evals",
    )
    assert document["status"] is None
    assert document["counts"]["completed"] is None


def test_it_ends_with_who_will_look_and_who_will_be_told(configured: Path) -> None:
    said = call("add", "batch_1")
    nobody = call("--config", "/dev/null", "add", "batch_1")

    assert said.out == "openai/batch_1\n"
    looked_at = "registered 1 batch; looked at by nobody: start watcher run; told: "
    assert said.err == f"{looked_at}team\n"
    assert nobody.err == f"{looked_at}no channel is configured\n"


def test_again_the_options_given_replace_and_the_others_stay(configured: Path) -> None:
    call("add", "batch_1", "--name", "first", "--tag", "a", "--group", "g", "--channel", "team")
    (document,) = call("add", "batch_1", "--name", "second", "--json").document

    assert (document["name"], document["tags"]) == ("second", ["a"])
    assert (document["group"], document["channels"]) == ("g", ["team"])
    assert keys() == ["openai/batch_1"]


@pytest.mark.parametrize(
    "given",
    [
        "batch_1\nbatch_2\n",
        "\ufeffbatch_1\r\n\r\n  batch_2  \r\n",
        '{"id": "batch_1", "object": "batch"}\n{"id": "batch_2"}\n',
        '{\n  "id": "batch_1"\n}\n{\n  "id": "batch_2"\n}',
        '[{"id": "batch_1"}, {"id": "batch_2"}]',
        '{"object": "list", "data": [{"id": "batch_1"}, {"id": "batch_2"}]}',
        '{"batch": {"id": "batch_1", "name": "x"}}{"batch": {"id": "batch_2"}}',
        '"batch_1" "batch_2"',
        'batch_1\n{"id": "batch_2"}\n',
    ],
)
def test_standard_input_holds_ids_or_what_a_create_call_returned(given: str) -> None:
    said = call("add", "-", stdin=given)

    assert said.code == 0
    assert said.out.split() == ["openai/batch_1", "openai/batch_2"]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("", "standard input holds no id"),
        ("[]", "standard input holds no id"),
        ('{"id": "batch_1"}\n{"id": "batch_2"', "line 2 of standard input is not valid JSON"),
        ('batch_1\n\n{"id": ', "line 3 of standard input is not valid JSON"),
        ('{"id": "batch_1"}\n{"error": 1}', "line 2 of standard input holds no id"),
        ("[" * 100_000, "line 1 of standard input is not valid JSON"),
        (b"\xff\xfe\x00", "standard input is not UTF-8 text"),
    ],
)
def test_what_standard_input_should_not_hold_is_told(given: str | bytes, complaint: str) -> None:
    said = call("add", "-", stdin=given)

    assert said.code == 2
    assert complaint in said.err
    assert not keys()


BAD_IDS = {
    "": "an id is empty",
    "openai/": "the id after openai/ is empty",
    "batch_1\nbatch_2": "it holds a control character",
    "batch_\x1b[31m": "it holds a control character",
    "b" * 481: "it has more than 480 characters",
    "openai/" + "b" * 481: "it has more than 480 characters",
    "nowhere/batch_1": "no account is called 'nowhere': there is openai",
    "openai/a/b": "'a/b' cannot be the id of a batch at OpenAI",
    "openai/..": "'..' cannot be the id of a batch at OpenAI",
}


@pytest.mark.parametrize("id_", BAD_IDS)
def test_a_bad_id_is_told_in_a_line(id_: str) -> None:
    said = call("add", "--", id_)

    assert said.code == 2
    assert BAD_IDS[id_] in said.err
    assert len(said.err.splitlines()) == 1
    assert said.err.isprintable() or said.err.rstrip("\n").isprintable()


def test_one_bad_id_among_a_hundred_leaves_nothing_registered(state: Path) -> None:
    ids = [f"batch_{number}" for number in range(100)]
    said = call("add", *ids[:50], "nowhere/x", *ids[50:])

    assert said.code == 2
    assert not state.exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--name", "two\nlines"], "name 'two lines': give printable text"),
        (["--tag", " "], "tag '': give printable text"),
        (["--group", "g" * 201], "the group has more than 200 characters"),
        (["--channel", "pager"], "no channel is called 'pager': there is none"),
        (["--channel", "tgram://123456:TOKEN/1"], "that is no channel's name: there is none"),
        (["--channel", "Bot123456-TOKEN"], "that is no channel's name: there is none"),
        (["--account", "work"], "no account is called 'work': there is openai"),
    ],
)
def test_an_option_that_cannot_be_used_is_told(options: list[str], complaint: str) -> None:
    said = call("add", "batch_1", *options)

    assert said.code == 2
    assert complaint in said.err
    assert "TOKEN" not in said.err
    assert not keys()


def test_who_is_told_of_failures_only_is_said(configured: Path, service: Service) -> None:
    configured.write_text(
        'operators = ["pager"]\n'
        + configured.read_text()
        + f'[channels.pager]\nurl = "{hook(service, "pager")}"\n'
        + f'[channels.other]\nurl = "{hook(service, "other")}"\n'
        + '[[routes]]\nchannels = ["team"]\n'
        + '[[routes]]\nchannels = ["pager"]\nseverity = "failure"\n'
        + '[[routes]]\nchannels = ["other"]\nevents = ["batch.completed"]\ntags = ["a"]\n'
    )
    plain, tagged = call("add", "batch_1"), call("add", "batch_2", "--tag", "a")
    both = call("add", "batch_1", "batch_2", "--quiet-if-ended")

    assert plain.err.endswith("told: team; of failures only: pager\n")
    assert tagged.err.endswith("told: team; of failures only: pager; of success only: other\n")
    assert both.err.endswith("told: team; of failures only: pager; of some of them: other\n")


def test_that_a_batch_is_told_to_nobody_is_said(configured: Path) -> None:
    configured.write_text(
        "operators = []\n"
        + configured.read_text()
        + '[[routes]]\nchannels = ["team"]\ntags = ["a"]\n'
    )

    assert call("add", "batch_1").err.endswith("told: nobody: no route takes it\n")


def test_a_name_of_a_user_cannot_reach_the_terminal_raw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "\x1b]0;x\x07" + "a" * 1_000 + "\nforged: line")
    call("add", "batch_1")
    by = call("show", "--json", "batch_1").document["registered_by"]
    shown = [*call("show", "batch_1").out.splitlines(), *call("ls").out.splitlines()]

    assert by.isprintable()
    assert len(by) == 100
    assert all(line.isprintable() for line in shown)


def test_what_another_wrote_to_the_state_is_cleaned_before_it_is_shown(state: Path) -> None:
    call("add", "batch_1", "--name", "NAME", "--tag", "TAG", "--group", "GROUP")
    with sqlite3.connect(state) as connection:
        (registration,) = connection.execute("SELECT registration FROM batches").fetchone()
        for word in ("NAME", "TAG", "GROUP"):
            registration = registration.replace(word, f"{word}\\u001b[2J\\u009b2J\\nforged")
        connection.execute("UPDATE batches SET registration = ?", (registration,))
    connection.close()
    shown = call("show", "batch_1").out + call("ls").out

    assert "TAG\N{REPLACEMENT CHARACTER}[2J" in shown
    assert all(line.isprintable() for line in shown.splitlines())
    assert not any(line.startswith("forged") for line in shown.splitlines())


@pytest.mark.parametrize(("command", "code"), [("ls", 0), ("deliveries", 0), ("show batch_1", 4)])
def test_a_state_that_is_not_there_is_named(state: Path, command: str, code: int) -> None:
    said = call(*command.split())

    assert said.code == code
    assert f"there is no state at {state} yet\n" in said.err
    assert not state.exists()


def test_an_id_of_a_provider_without_a_key_names_the_key() -> None:
    id_ = "batch_0e5eeca4214a4f0a0117bf9aa22f2785"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OPENAI_API_KEY")
        said = call("add", id_)

    assert said.code == 2
    assert said.err == (
        f"watcher: {id_} looks like OpenAI's; no account has that provider: set OPENAI_API_KEY\n"
    )


class TestOfTwoAccounts:
    @pytest.fixture(autouse=True)
    def cohere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CO_API_KEY", KEY)

    def test_an_id_of_either_names_both(self) -> None:
        said = call("add", UUID)

        assert said.code == 2
        assert f"say which: openai/{UUID}, cohere/{UUID}" in said.err

    def test_an_id_whose_form_is_sure_needs_no_account(self) -> None:
        id_ = "batch_0e5eeca4214a4f0a0117bf9aa22f2785"

        assert call("add", id_).out == f"openai/{id_}\n"

    def test_a_known_id_needs_no_account(self) -> None:
        call("add", "--account", "cohere", UUID)

        assert call("add", UUID, "--name", "x").out == f"cohere/{UUID}\n"
        assert call("show", "--json", UUID).document["name"] == "x"

    def test_an_id_that_both_have_must_be_said_in_full(self) -> None:
        call("add", f"cohere/{UUID}", f"openai/{UUID}")
        said = call("rm", UUID)
        call("rm", f"openai/{UUID}")

        assert said.code == 2
        assert f"say which is meant: cohere/{UUID}, openai/{UUID}" in said.err
        assert call("rm", UUID).out == f"cohere/{UUID}\n"


def test_removed_is_no_longer_listed_and_can_come_back() -> None:
    call("add", "batch_1", "batch_2")
    said = call("rm", "batch_1")
    again = call("rm", "batch_1")
    left = keys("--all")
    call("add", "batch_1")

    assert (said.code, said.out) == (0, "openai/batch_1\n")
    assert (again.code, again.err) == (
        4,
        "watcher: openai/batch_1 is not watched: it was removed already\n",
    )
    assert left == ["openai/batch_2"]
    assert keys() == ["openai/batch_2", "openai/batch_1"]


def test_removing_takes_all_or_nothing() -> None:
    call("add", "batch_1")
    said = call("rm", "batch_1", "batch_nobody")

    assert said.code == 4
    assert "no batch batch_nobody is registered" in said.err
    assert keys() == ["openai/batch_1"]


def test_lists_are_chosen_from(openai: World, monkeypatch: pytest.MonkeyPatch) -> None:
    failed, ended, stuck = openai.ended(Fate.failed()), openai.ended(), openai.stuck()
    call("add", failed, "--tag", "a", "--tag", "b")
    call("add", ended, "--group", "g")
    monkeypatch.setenv("LOGNAME", "ana")
    call("add", stuck)
    call("run", "--once")
    chosen = {
        options: keys(*options.split())
        for options in (
            "",
            "--all",
            "--status failed",
            "--all --tag a --tag b",
            "--all --group g",
            "--registered-by ana",
            "--account openai",
            "--account other",
        )
    }

    assert chosen == {
        "": [f"openai/{stuck}"],
        "--all": [f"openai/{one}" for one in (failed, ended, stuck)],
        "--status failed": [f"openai/{failed}"],
        "--all --tag a --tag b": [f"openai/{failed}"],
        "--all --group g": [f"openai/{ended}"],
        "--registered-by ana": [f"openai/{stuck}"],
        "--account openai": [f"openai/{stuck}"],
        "--account other": [],
    }


def test_a_pipe_gets_aligned_text_with_every_id_whole(openai: World) -> None:
    ids = [openai.ended(name="\x1b[31mred\u202e name"), openai.stuck()]
    for id_ in ids:
        call("add", id_)
    call("run", "--once")
    heading, *rows = call("ls", "--all").out.splitlines()
    progress = heading.find("PROGRESS")

    assert heading.split() == ["BATCH", "STATUS", "PROGRESS", "AGE", "EXPIRES", "NAME"]
    assert {row.split()[0] for row in rows} == {f"openai/{one}" for one in ids}
    assert rows[0][progress:].startswith("100 of 100  ")
    assert rows[1][progress:].split()[0].endswith("/100")
    assert rows[0].find("completed") == rows[1].find("in_progress") == heading.find("STATUS")
    assert all(row.isprintable() for row in rows)


def test_a_batch_of_an_account_no_longer_there_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    call("add", "batch_1")
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("CO_API_KEY", KEY)
    status = call("status", "--json").document

    assert "not watched" in call("ls").out
    assert [one["name"] for one in status["accounts"] if not one["ok"]] == ["openai"]


def test_a_list_looks_at_nothing(openai: World) -> None:
    call("add", openai.stuck())
    before = openai.simulation.requests.total
    call("ls")
    call("show", openai.stuck())

    assert openai.simulation.requests.total == before


def test_a_hundred_thousand_ids_are_a_matter_of_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured with a tenth of them: five seconds would be fifty."""
    monkeypatch.setenv("CO_API_KEY", KEY)
    ids = "\n".join(json.dumps({"id": f"batch_{number:032x}"}) for number in range(10_000))
    began = time.monotonic()
    added = call("add", "-", stdin=ids)
    listed = call("ls", "-q")
    took = time.monotonic() - began

    assert added.code == 0
    assert len(listed.out.splitlines()) == 10_000
    assert took < 5.0


def test_a_look_that_fails_is_shown(openai: World) -> None:
    id_ = openai.stuck()
    openai.simulation.faults.add(faults.status(503, "overloaded"), id=id_)
    call("add", id_)
    call("run", "--once")
    document = call("show", "--json", id_).document

    assert document["failures"] == 1
    assert document["last_error"].startswith("503")
    assert "not seen yet (error)" in call("ls").out
