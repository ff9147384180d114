"""Accounts that a key in the environment implies, and where a key may be sent."""

from __future__ import annotations

import pytest

from tests.config.bench import ACCOUNT, SECRET, Bench
from watcher.errors import ConfigError


def test_each_known_key_implies_an_account(bench: Bench) -> None:
    settings = bench.load(
        OPENAI_API_KEY="sk-1",
        OPENAI_BASE_URL="https://eu.api.openai.com/v1",
        OPENAI_ORG_ID="org-1",
        OPENAI_PROJECT_ID="proj_1",
        COHERE_API_KEY="co-1",
        CEREBRAS_API_KEY="",
    )
    openai, cohere = settings.accounts["openai"], settings.accounts["cohere"]

    assert list(settings.accounts) == ["openai", "cohere"]
    assert openai.implied
    assert (openai.base_url, openai.organization, openai.project) == (
        "https://eu.api.openai.com/v1",
        "org-1",
        "proj_1",
    )
    assert openai.credential().get_secret_value() == "sk-1"
    assert cohere.credential().get_secret_value() == "co-1"


def test_cohere_reads_its_own_variable_first(bench: Bench) -> None:
    settings = bench.load(CO_API_KEY="first", COHERE_API_KEY="second")

    assert settings.accounts["cohere"].credential().get_secret_value() == "first"


def test_a_configured_account_ends_the_implied_one_and_heeds_no_variable(bench: Bench) -> None:
    settings = bench.load(
        ACCOUNT, OPENAI_API_KEY="sk-1", OPENAI_BASE_URL="https://x", OPENAI_ORG_ID="o", KEY="sk-2"
    )
    account = settings.accounts["main"]

    assert list(settings.accounts) == ["main"]
    assert (account.base_url, account.organization) == (None, None)
    assert account.credential().get_secret_value() == "sk-2"


def test_a_name_that_is_taken_implies_no_account_and_says_so(bench: Bench) -> None:
    text = '[accounts.openai]\nprovider = "cohere"\napi_key_env = "K"'
    settings = bench.load(text, OPENAI_API_KEY="sk-1")

    assert settings.accounts["openai"].provider == "cohere"
    assert "the name openai is taken by [accounts.openai]" in settings.warnings[0]


def test_an_unencrypted_address_disables_only_the_implied_account(bench: Bench) -> None:
    settings = bench.load(
        OPENAI_API_KEY=SECRET, OPENAI_BASE_URL="http://lan.example:8000/v1", CO_API_KEY="co-1"
    )
    with pytest.raises(ConfigError, match='account "openai": base_url is http') as caught:
        settings.accounts["openai"].credential()

    assert SECRET not in str(caught.value)
    assert settings.accounts["cohere"].credential().get_secret_value() == "co-1"


@pytest.mark.parametrize("base_url", ["nonsense", f"https://me:{SECRET}@host", "a\ud800"])
def test_a_malformed_variable_implies_no_account_and_says_so(bench: Bench, base_url: str) -> None:
    settings = bench.load(OPENAI_API_KEY=SECRET, OPENAI_BASE_URL=base_url, CO_API_KEY="co-1")

    assert list(settings.accounts) == ["cohere"]
    assert len(settings.warnings) == 1
    assert "$OPENAI_API_KEY implies no account: correct or unset" in settings.warnings[0]
    assert "OPENAI_BASE_URL" in settings.warnings[0]
    assert SECRET not in settings.warnings[0]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "[::1]"])
def test_plain_http_to_this_machine_is_fine(bench: Bench, host: str) -> None:
    settings = bench.load(ACCOUNT + f'base_url = "http://{host}:8000/v1"', KEY="k")

    assert settings.accounts["main"].credential().get_secret_value() == "k"


def test_plain_http_elsewhere_can_be_allowed(bench: Bench) -> None:
    text = ACCOUNT + 'base_url = "http://lan.example/v1"\nallow_insecure = true'

    assert bench.load(text, KEY="k").accounts["main"].credential().get_secret_value() == "k"


@pytest.mark.parametrize(
    ("provider", "discover", "said"),
    [
        ("openai", "true", None),
        ("openai", "false", "discover_metadata does nothing without discover = true"),
        ("cohere", "true", "batches of cohere have no metadata"),
    ],
)
def test_a_filter_that_can_do_nothing_is_a_warning(
    bench: Bench, provider: str, discover: str, said: str | None
) -> None:
    settings = bench.load(
        f'[accounts.main]\nprovider = "{provider}"\napi_key_env = "KEY"\n'
        f'discover = {discover}\ndiscover_metadata = {{ team = "nlp-*" }}\n',
        KEY="sk-1",
    )

    assert settings.accounts["main"].discover_metadata == {"team": "nlp-*"}
    assert [said in warning for warning in settings.warnings if said] == ([True] if said else [])
    assert bool(settings.warnings) is (said is not None)
