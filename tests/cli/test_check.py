"""`check`, `test`, `init`: whether it would work, before it matters; and mistakes of the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.channels.servers import Service
from tests.cli.bench import World, call, close, told
from watcher.simulator import Kind, faults

pytestmark = pytest.mark.usefixtures("openai", "state")


def test_all_that_is_well_is_said_with_one_request_and_nothing_sent(
    openai: World, configured: Path, service: Service
) -> None:
    before = openai.simulation.requests.total
    said = call("check")
    results = call("check", "--json").document

    assert said.code == 0
    assert openai.simulation.requests.total == before + 2
    assert {one["what"]: one["ok"] for one in results} == {
        "configuration": True,
        "state": True,
        "account": True,
        "channel": True,
    }
    assert set(results[0]) == {"what", "name", "ok", "error"}
    assert service.received == []


def test_offline_makes_no_request(openai: World) -> None:
    before = openai.simulation.requests.total

    assert call("check", "--offline").code == 0
    assert openai.simulation.requests.total == before


def test_a_refused_key_is_three_and_named_by_where_it_is_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-0123456789")
    said = call("check")

    assert said.code == 3
    assert "the key is from $OPENAI_API_KEY" in said.out
    assert "sk-wrong" not in said.out + said.err


def test_no_answer_is_five(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9")

    assert call("check").code == 5


@pytest.mark.parametrize("code", [404, 429, 503])
def test_no_answer_that_can_be_used_is_five(openai: World, code: int) -> None:
    openai.simulation.faults.add(faults.status(code), kind=Kind.LIST)

    assert call("check").code == 5


def test_the_first_of_two_three_and_five_is_the_exit_code(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-0123456789")
    configured.write_text(configured.read_text() + '[channels.pager]\nurl_env = "PAGER_URL"\n')
    said = call("check", "--json")

    assert said.code == 2
    assert [one["name"] for one in said.document if not one["ok"]] == ["openai", "pager"]


MISTAKES = {
    "pollling = 1\n": ("pollling", 'did you mean "polling"'),
    '[polling]\nmin_intervall = "5s"\n': ("min_intervall", 'did you mean "min_interval"'),
    "[polling]\ntimeout = 5\n": ("timeout", '"5s"'),
    '[accounts.x]\nprovider = "opena"\napi_key = "k-0123456789"\n': ("provider", '"openai"'),
    '[[routes]]\nchannels = ["teem"]\n': ("channels", "teem"),
    "[[batches]]\nid = 'nowhere/b'\naccount = 'nowhere'\n": ("account", "nowhere"),
    "instance = \n": ("not valid TOML", "quotes"),
}


@pytest.mark.parametrize("text", MISTAKES)
@pytest.mark.parametrize("command", ["check", "ls"])
def test_a_mistake_in_the_file_names_file_key_and_remedy(
    configured: Path, text: str, command: str
) -> None:
    before = configured.read_text()
    configured.write_text(text + before if "[" not in text else before + text)
    said = call(command)
    key, remedy = MISTAKES[text]

    assert said.code == 2
    assert str(configured) in said.err
    assert key in said.err
    assert remedy in said.err
    assert len(said.err.splitlines()) <= 2


def test_an_id_of_the_configuration_that_is_of_no_account_fails_the_check(
    configured: Path,
) -> None:
    configured.write_text(configured.read_text() + "[[batches]]\nid = 'nowhere/batch_1'\n")
    checked, run = call("check", "--offline"), call("run")

    assert (checked.code, run.code) == (2, 2)
    assert "batches[1]: no account is called 'nowhere'" in checked.out
    assert "batches[1]: no account is called 'nowhere'" in run.err


def test_a_bad_url_of_a_channel_fails_the_check_and_is_not_shown(configured: Path) -> None:
    configured.write_text(
        configured.read_text() + '[channels.pager]\nurl = "slak://token-0123456789"\n'
    )
    said = call("check", "--offline")

    assert said.code == 2
    assert "channel        pager: " in said.out
    assert "token-0123456789" not in said.out + said.err


def test_a_file_of_a_secret_that_cannot_be_read_is_named(configured: Path, tmp_path: Path) -> None:
    path = tmp_path / "no-such-key"
    configured.write_text(
        configured.read_text() + f'[accounts.x]\nprovider = "cohere"\napi_key_file = "{path}"\n'
    )
    said = call("check", "--offline")

    assert said.code == 2
    assert f"account        x: no file {path}: create it, or correct api_key_file" in said.out


def test_what_others_could_read_is_a_warning_on_standard_error(
    configured: Path, tmp_path: Path
) -> None:
    path = tmp_path / "key"
    path.write_text("a-key-0123456789")
    path.chmod(0o644)
    configured.write_text(
        configured.read_text() + f'[accounts.x]\nprovider = "cohere"\napi_key_file = "{path}"\n'
    )
    plain, as_json = call("check", "--offline"), call("check", "--offline", "--json")

    assert (plain.code, as_json.code) == (0, 0)
    assert f"{path}: others can read this secret: chmod 600 {path}" in plain.err
    assert f"chmod 600 {path}" in as_json.err
    assert as_json.document


@pytest.mark.skipif(os.name != "posix", reason="rights are another matter there")
def test_a_configuration_that_others_may_write_is_refused(configured: Path) -> None:
    configured.chmod(0o666)
    said = call("ls")

    assert said.code == 2
    assert f"others may write to it: chmod go-w {configured}" in said.err


def test_a_configuration_that_is_not_there_is_told() -> None:
    said = call("ls", "--config", "/nowhere/config.toml")

    assert said.code == 2
    assert said.err == "watcher: no file /nowhere/config.toml, which --config names\n"


def test_what_waits_for_what_is_gone_is_named(
    openai: World, configured: Path, service: Service
) -> None:
    service.status = 500
    call("add", openai.ended())
    call("run", "--once")
    configured.write_text(configured.read_text().replace("channels.team", "channels.ops"))
    said = call("check", "--offline")

    assert "channel team is not configured: 1 event wait" in said.err
    assert "team: not configured: what waits for it is kept" in call("status").out


def test_a_test_message_is_sent_and_marked(configured: Path, service: Service) -> None:
    said = call("test", "team")
    every = call("test", "--all", "--json")

    assert (said.code, said.out) == (0, "team: sent\n")
    assert every.document == [{"what": "channel", "name": "team", "ok": True, "error": None}]
    assert "test" in told(service)[0].lower()


def test_a_test_that_fails_is_one(configured: Path, service: Service) -> None:
    service.status = 500
    said = call("test", "team")

    assert said.code == 1
    assert said.out.startswith("team: ")
    assert "500" in said.out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "name a channel, or --all: there is team"),
        (["pager"], "no channel is called 'pager': there is team"),
        (["slack://TOKENA/TOKENB"], "that is no channel's name: there is team"),
    ],
)
def test_a_test_of_no_channel_is_told(
    configured: Path, arguments: list[str], complaint: str
) -> None:
    said = call("test", *arguments)

    assert said.code == 2
    assert complaint in said.err
    assert "TOKEN" not in said.err


def test_a_channel_without_its_url_is_named_once(configured: Path) -> None:
    configured.write_text(configured.read_text() + '[channels.pager]\nurl_env = "PAGER_URL"\n')
    said, checked = call("test", "pager"), call("check", "--offline")

    assert said.out.startswith("pager: the environment variable PAGER_URL is not set")
    assert "channel        pager: the environment variable PAGER_URL is not set" in checked.out


def test_a_state_behind_a_closed_door_is_told(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close(state, monkeypatch)
    listed, checked = call("ls"), call("check", "--offline")

    assert (listed.code, checked.code) == (1, 1)
    for said in (listed, checked):
        assert f"{state}: permission denied; check its permissions" in said.out + said.err


def test_a_configuration_to_begin_with_is_ours_alone_and_loads(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config.toml"
    said, again = call("init", path), call("init", path)

    assert (said.code, said.out) == (0, f"{path}\n")
    assert path.stat().st_mode & 0o777 == 0o600
    assert call("--config", path, "check", "--offline").code == 0
    assert again.code == 2
    assert "exists already: edit it, or name another file" in again.err


def test_what_was_not_tried_is_not_said_to_be_well(openai: World, configured: Path) -> None:
    said = call("check", "--offline")
    asked = call("check")

    assert "account        openai: well, but not asked" in said.out
    assert "account        openai: well\n" in asked.out
    assert "well, as far as its URL tells: watcher test " in asked.out
