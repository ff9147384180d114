"""Secrets: found where they are kept, read again when they change, never shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.config.bench import ACCOUNT, CHANNEL, SECRET, Bench, write_file
from watcher.config import (
    Places,
    Settings,
    fingerprint,
    load,
    public_names,
)
from watcher.errors import ConfigError


def secret_account(bench: Bench, source: str, **environ: str) -> Settings:
    return bench.load(f'[accounts.main]\nprovider = "openai"\n{source}', **environ)


def problem(settings: Settings) -> str:
    with pytest.raises(ConfigError) as caught:
        settings.accounts["main"].credential()
    message = str(caught.value)
    assert SECRET not in message
    return message


def test_a_missing_variable_disables_its_account_alone(bench: Bench) -> None:
    settings = bench.load(ACCOUNT + CHANNEL, HOOK="json://x", KEY="  \n")

    assert problem(settings) == (
        'account "main": the environment variable KEY is not set or empty: '
        "set it and start watcher again"
    )
    assert settings.channels["team"].url_secret().get_secret_value() == "json://x"


def test_a_bare_name_is_looked_up_where_systems_keep_secrets(bench: Bench, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    environ = {"CREDENTIALS_DIRECTORY": str(credentials)}
    settings = secret_account(bench, 'api_key_file = "openai"', **environ)
    account = settings.accounts["main"]
    places = [credentials, bench.places.run_secrets, bench.file.parent]
    found = []
    for number, place in reversed(list(enumerate(places))):
        write_file(place / "openai", f"key{number}\r\n", 0o644)
        found.append(account.credential().get_secret_value())

    assert found == ["key2", "key1", "key0"]


def test_a_missing_file_says_where_it_was_looked_for(bench: Bench) -> None:
    message = problem(secret_account(bench, 'api_key_file = "openai"'))

    assert f"no file {bench.file.parent / 'openai'}, nor one of that name in" in message
    assert str(bench.places.run_secrets) in message


def test_relative_paths_begin_at_the_configuration_and_a_tilde_is_home(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write_file(bench.file.parent / "keys" / "main", "relative")
    write_file(tmp_path / "home" / "key", "home")
    relative = secret_account(bench, 'api_key_file = "keys/main"').accounts["main"]
    home = secret_account(bench, 'api_key_file = "~/key"').accounts["main"]

    assert relative.credential().get_secret_value() == "relative"
    assert home.credential().get_secret_value() == "home"


def test_without_a_configuration_a_bare_name_is_never_the_working_directorys(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_file(tmp_path / "openai", "planted")
    environ = {
        "WATCHER_ACCOUNTS__MAIN__PROVIDER": "openai",
        "WATCHER_ACCOUNTS__MAIN__API_KEY_FILE": "openai",
        "WATCHER_CHANNELS__TEAM__URL_FILE": "openai",
    }
    settings = load(environ=environ, places=places)
    asked = {**environ, "WATCHER_ACCOUNTS__MAIN__API_KEY_FILE": "./openai"}
    missing = problem(settings)
    with pytest.raises(ConfigError, match=f"no file {places.run_secrets / 'openai'}: create it"):
        settings.channels["team"].url_secret()

    assert missing == (
        f'account "main": no file {places.run_secrets / "openai"}: '
        "create it, or correct api_key_file"
    )
    assert (
        load(environ=asked, places=places).accounts["main"].credential().get_secret_value()
        == "planted"
    )


def test_a_link_to_a_secret_is_followed_and_its_change_noticed(
    bench: Bench, tmp_path: Path
) -> None:
    """As Kubernetes mounts them: the name is a link into a directory that is a link itself."""
    for number in (1, 2):
        write_file(tmp_path / f"mounted{number}" / "key", f"secret{number}")
    data = tmp_path / "data"
    data.symlink_to(tmp_path / "mounted1")
    (bench.file.parent / "key").symlink_to(data / "key")
    account = secret_account(bench, 'api_key_file = "key"').accounts["main"]
    first = account.credential().get_secret_value()
    unchanged = account.credential_changed()
    data.unlink()
    data.symlink_to(tmp_path / "mounted2")
    changed = account.credential_changed()

    assert (first, unchanged, changed) == ("secret1", False, True)
    assert account.credential().get_secret_value() == "secret2"


def test_an_unreadable_file_disables_its_account_alone(bench: Bench) -> None:
    (bench.file.parent / "folder").mkdir()
    os.mkfifo(bench.file.parent / "pipe")

    assert "is a directory" in problem(secret_account(bench, 'api_key_file = "./folder"'))
    assert "is not a regular file" in problem(secret_account(bench, 'api_key_file = "./pipe"'))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_disables_its_account_alone(bench: Bench) -> None:
    write_file(bench.file.parent / "key", SECRET, 0o000)

    assert "cannot be read: Permission denied" in problem(
        secret_account(bench, 'api_key_file = "key"')
    )


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        (b"", "is empty"),
        (b" \r\n", "is empty"),
        (f"{SECRET}\nsecond".encode(), "holds a line end or a character beyond ASCII"),
        (f"{SECRET}é".encode(), "holds a line end or a character beyond ASCII"),
        (SECRET.encode("utf-16"), "holds a line end or a character beyond ASCII"),
        (f"{SECRET}\x00".encode(), "holds a line end or a character beyond ASCII"),
        (f"Bearer {SECRET}".encode(), "holds a space: keep the bare key there"),
        (b"k" * 70_000, "is larger than 65,536 bytes"),
    ],
)
def test_a_secret_that_cannot_be_one_is_refused_unseen(bench: Bench, raw: bytes, part: str) -> None:
    write_file(bench.file.parent / "key", "").write_bytes(raw)

    assert part in problem(secret_account(bench, 'api_key_file = "key"'))


def test_a_changed_file_is_noticed_and_read_again(bench: Bench) -> None:
    path = write_file(bench.file.parent / "key", "old")
    account = secret_account(bench, 'api_key_file = "key"').accounts["main"]
    seen = [account.credential().get_secret_value(), account.credential_changed()]
    path.unlink()
    seen.append(account.credential_changed())
    with pytest.raises(ConfigError, match="no file"):
        account.credential()
    seen.append(account.credential_changed())
    # As secrets are swapped in: another file, under the same name.
    write_file(bench.file.parent / "new", "new").replace(path)
    seen += [account.credential_changed(), account.credential().get_secret_value()]

    assert seen == ["old", False, True, False, True, "new"]
    assert not account.credential_changed()


def test_variables_and_literals_never_change(bench: Bench) -> None:
    environ = secret_account(bench, 'api_key_env = "KEY"').accounts["main"]
    literal = secret_account(bench, f'api_key = "{SECRET}"').accounts["main"]

    assert not environ.credential_changed()
    assert not literal.credential_changed()


def test_a_channel_needs_a_url_and_never_shows_what_it_got(bench: Bench) -> None:
    channel = bench.load(CHANNEL, HOOK=SECRET).channels["team"]
    with pytest.raises(ConfigError, match=r'channel "team": what \$HOOK holds is not') as caught:
        channel.url_secret()

    assert SECRET not in str(caught.value)


def test_a_secret_file_that_others_can_read_is_a_warning(bench: Bench) -> None:
    path = write_file(bench.file.parent / "key", SECRET, 0o644)
    settings = secret_account(bench, 'api_key_file = "key"')

    assert settings.warnings == (f"{path}: others can read this secret: chmod 600 {path}",)


def test_secrets_the_system_keeps_are_no_warning(bench: Bench, tmp_path: Path) -> None:
    write_file(bench.places.run_secrets / "key", SECRET, 0o644)
    of_run = secret_account(bench, 'api_key_file = "key"')
    whole = secret_account(bench, f'api_key_file = "{bench.places.run_secrets}/key"')
    write_file(tmp_path / "credentials" / "key", SECRET, 0o644)
    of_unit = secret_account(
        bench, 'api_key_file = "key"', CREDENTIALS_DIRECTORY=str(tmp_path / "credentials")
    )

    assert of_run.warnings == of_unit.warnings == whole.warnings == ()


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        (f'[accounts.x]\nprovider = "openai"\napi_key = "{SECRET}"', True),
        (f'[channels.x]\nurl = "slack://{SECRET}"', True),
        (ACCOUNT + f'headers = {{ api-key = "{SECRET}" }}', True),
        (f'[heartbeat]\nurl = "https://{SECRET}"', True),
        (ACCOUNT + 'headers = { X-Team = "nlp" }', False),
        (ACCOUNT + CHANNEL, False),
    ],
)
def test_a_literal_secret_in_a_file_that_others_can_read_is_a_warning(
    bench: Bench, text: str, warned: bool
) -> None:
    bench.write(text).chmod(0o644)
    settings = load(environ={}, places=bench.places)
    bench.file.chmod(0o600)

    assert bool(settings.warnings) is warned
    assert SECRET not in "".join(settings.warnings)
    assert load(environ={}, places=bench.places).warnings == ()


def test_no_form_of_the_settings_shows_a_secret(bench: Bench) -> None:
    write_file(bench.file.parent / "key", SECRET)
    settings = bench.load(
        f"""
        [accounts.one]
        provider = "openai"
        api_key = "{SECRET}"
        headers = {{ Authorization = "{SECRET}" }}
        [accounts.two]
        provider = "openai"
        api_key_file = "key"
        [accounts.three]
        provider = "openai"
        api_key_env = "KEY"
        [channels.team]
        url = "slack://{SECRET}"
        """,
        KEY=SECRET,
    )
    for account in settings.accounts.values():
        account.credential()
    first = settings.accounts["one"]
    forms = [repr(settings), str(settings), repr(first.secret), str(settings.model_dump())]
    forms += [repr(account.options()) for account in settings.accounts.values()]
    forms += [str(public_names(settings)), fingerprint(settings)]

    assert isinstance(first.credential(), SecretStr)
    assert [form for form in forms if SECRET in form] == []
