"""A credential in the wrong field is refused, or taken, and in neither case shown."""

from __future__ import annotations

import pytest

from tests.config.bench import Bench
from watcher.config import public_names
from watcher.errors import ConfigError

GROQ = "gsk_Qm9vYmFyQmF6UXV4MTIz"
SLACK = "xoxb_2384729384723_Qm9vYmFy"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbmEifQ.c2lnbmF0dXJl"
HOOK = "hooks.slack.com/services/T0ABCDEF0/B0ABCDEF0/aB3dE5fG7hI9jK1lM3nO5pQ7"
PROJECT = "sk-proj-abcdef0123456789"
ACCOUNT = '[accounts.main]\nprovider = "openai"\n'
CHANNEL = "[channels.team]\n"


@pytest.mark.parametrize(
    ("text", "value", "setting"),
    [
        (ACCOUNT + "api_key_env = '{}'", GROQ, "[accounts.main] api_key_env"),
        (ACCOUNT + "api_key_env = '{}'", "AKIAIOSFODNN7EXAMPLE", "[accounts.main] api_key_env"),
        (CHANNEL + "url_env = '{}'", SLACK, "[channels.team] url_env"),
        (ACCOUNT + "api_key_file = '{}'", JWT, "[accounts.main] api_key_file"),
        (ACCOUNT + "api_key_file = '{}'", PROJECT, "[accounts.main] api_key_file"),
        (CHANNEL + "url_file = '{}'", HOOK, "[channels.team] url_file"),
        (CHANNEL + "url_file = '{}'", "hooks.example.com/T0/B0/hush", "[channels.team] url_file"),
        (CHANNEL + "url_file = '{}'", "//hooks.example.com/hush", "[channels.team] url_file"),
        (CHANNEL + "url_file = '{}'", "me:hush@mail.example", "[channels.team] url_file"),
        (CHANNEL + "url_file = '{}'", "10.0.0.7/hush", "[channels.team] url_file"),
        (CHANNEL + "url_file = '{}'", "gateway:8080/hush", "[channels.team] url_file"),
        (CHANNEL + "url_file = '{}'", "gateway/hook?token=hush", "[channels.team] url_file"),
    ],
)
def test_a_credential_instead_of_a_name_or_path_is_refused_unseen(
    bench: Bench, text: str, value: str, setting: str
) -> None:
    message = bench.mistake(text.format(value))

    assert f"{setting}: must be the " in message
    assert value not in message
    assert "hush" not in message


@pytest.mark.parametrize(
    "path",
    [
        "openai.key",
        "keys/main",
        "keys.d/main",
        "./hooks.example.com/key",
        "~/sk-proj-main",
        "../keys/7f3a",
        "/nix/store/0a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d-key",
        "openai-production-key",
    ],
)
def test_a_path_is_taken_for_one(bench: Bench, path: str) -> None:
    settings = bench.load(f"{ACCOUNT}api_key_file = '{path}'")

    assert settings.accounts["main"].api_key_file == path


@pytest.mark.parametrize("name", ["Qm9vYmFyCg", "hunter2", "aB3dE5fG7hI9jK1l"])
def test_a_variable_that_may_be_a_secret_is_never_named(bench: Bench, name: str) -> None:
    try:
        account = bench.load(f"{ACCOUNT}api_key_env = '{name}'").accounts["main"]
    except ConfigError as error:
        messages = [str(error)]
    else:
        with pytest.raises(ConfigError) as caught:
            account.credential()
        messages = [str(caught.value), account.secret.source]

    assert [message for message in messages if name in message] == []
    assert "api_key_env" in messages[0]


def test_a_variable_of_the_usual_form_is_named(bench: Bench) -> None:
    account = bench.load(f"{ACCOUNT}api_key_env = 'GROQ_API_KEY_2'").accounts["main"]

    assert account.secret.source == "$GROQ_API_KEY_2"


@pytest.mark.parametrize(
    "text",
    [
        f"[accounts.{PROJECT}]\nprovider = 'openai'\napi_key_env = 'KEY'",
        f"[accounts.{PROJECT}]\nprovider = 'opnai'",
        f"[accounts.{PROJECT}]\nprovidr = 'openai'",
        f"[accounts]\n{PROJECT} = 'openai'",
        f"[channels.{PROJECT}]\nurl_env = 'HOOK'",
        f"[channels.team]\n{PROJECT} = 'x'\nurl_env = 'HOOK'",
        f"{PROJECT} = 'x'",
        f"[{PROJECT}]\na = 1",
        f"operators = ['{PROJECT}']",
        f"[accounts.main]\nprovider = 'openai'\napi_key_env = 'K'\nformerly = ['{PROJECT}']",
        f"[accounts.{PROJECT}]\n[accounts.{PROJECT}]\n",
        f"{PROJECT} = 1\n{PROJECT} = 2\n",
        f"[accounts.main]\nprovider = 'openai'\napi_key_env = 'K'\nheaders = {{ {PROJECT} = 'x' }}",
        f"[accounts.main]\nprovider = 'openai'\napi_key = 'K'\nheaders = {{ 'Be {PROJECT}' = '' }}",
    ],
)
def test_a_key_in_the_place_of_a_name_is_refused_unseen(bench: Bench, text: str) -> None:
    message = bench.mistake(text)

    assert PROJECT not in message
    assert "abcdef" not in message


def test_a_key_in_the_name_of_a_variable_is_not_shown(bench: Bench) -> None:
    name = f"WATCHER_ACCOUNTS__{PROJECT.upper().replace('-', '_')}__PROVIDER"
    message = bench.mistake(**{name: "openai"})

    assert "ABCDEF" not in message.upper()


def test_a_name_that_is_one_is_still_shown(bench: Bench) -> None:
    message = bench.mistake("[accounts.hf-inference]\nprovider = 'opnai'\napi_key_env = 'K'")

    assert "[accounts.hf-inference] provider: no such provider" in message


@pytest.mark.parametrize(
    "query", ["key=hush-hush", "api-version=2025-04-01&key=hush-hush", "api-version=hush-hush"]
)
def test_a_base_url_with_a_query_is_refused_with_the_remedy(bench: Bench, query: str) -> None:
    message = bench.mistake(
        f"{ACCOUNT}api_key_env = 'KEY'\nbase_url = 'https://gateway.example/v1?{query}'"
    )

    assert "must not hold a query" in message
    assert "api_key or in headers" in message
    assert "hush" not in message


def test_an_api_version_may_stay_in_a_base_url(bench: Bench) -> None:
    url = "https://gateway.example/v1?api-version=2025-04-01-preview"
    settings = bench.load(f"{ACCOUNT}api_key_env = 'KEY'\nbase_url = '{url}'")

    assert public_names(settings)["accounts"][0]["host"] == "gateway.example"
