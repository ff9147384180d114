"""What the file and the environment say, and which of them wins."""

from __future__ import annotations

from datetime import UTC
from zoneinfo import ZoneInfo

import pytest

from tests.config.bench import ACCOUNT, CHANNEL, SECRET, Bench
from watcher.config import (
    Settings,
    fingerprint,
    public_names,
)
from watcher.model import Outcome, Severity


def test_a_file_with_everything_is_understood(bench: Bench) -> None:
    settings = bench.load(
        """
        instance = "box1"
        timezone = "Europe/Berlin"
        operators = ["ops"]
        [polling]
        max_interval = "10m"
        eagerness = 2
        [accounts.main]
        provider = "openai"
        api_key_env = "KEY"
        headers = { X-Team = "nlp" }
        organization = "org-1"
        formerly = ["openai"]
        min_interval = "1m"
        [channels.team]
        url_env = "HOOK"
        digest_wait = "0s"
        emoji = false
        [channels.ops]
        url = "json://localhost"
        [[routes]]
        events = ["batch.*"]
        severity = "warning"
        outcomes = ["partial", "empty"]
        accounts = ["main", "cohere"]
        tags = ["night*"]
        groups = ["evals"]
        metadata = { team = "nlp-*" }
        channels = ["team"]
        [[batches]]
        id = "batch_1"
        account = "main"
        tags = ["nightly"]
        [heartbeat]
        url_env = "PING"
        """,
        KEY="sk-1",
        HOOK="json://elsewhere",
        PING="https://ping.example",
    )
    account, channel = settings.accounts["main"], settings.channels["team"]
    (route,) = settings.switchboard().routes
    pace = settings.polling_of("main")

    assert settings.file == bench.file
    assert (settings.instance, settings.operators) == ("box1", ("ops",))
    assert settings.zone == ZoneInfo("Europe/Berlin")
    assert (pace.min_interval, pace.max_interval, pace.eagerness) == (60_000, 600_000, 2.0)
    assert account.credential().get_secret_value() == "sk-1"
    assert account.options().headers == {"X-Team": "nlp"}
    assert (account.formerly, account.implied) == (("openai",), False)
    assert channel.url_secret().get_secret_value() == "json://elsewhere"
    assert (channel.digest_wait, channel.emoji, channel.details) == (0, False, True)
    assert (route.name, route.severity) == ("route 1", Severity.WARNING)
    assert route.outcomes == (Outcome.PARTIAL, Outcome.EMPTY)
    assert route.metadata == {"team": "nlp-*"}
    assert settings.batches[0].tags == ("nightly",)
    assert settings.heartbeat.url_secret().get_secret_value() == "https://ping.example"
    assert settings.warnings == ()


@pytest.mark.parametrize(("name", "zone"), [("local", None), ("UTC", UTC), ("utc", UTC)])
def test_local_time_is_no_zone_and_utc_needs_no_database(
    bench: Bench, name: str, zone: object
) -> None:
    assert bench.load(f'timezone = "{name}"').zone is zone


def test_windows_line_ends_and_its_mark_are_read(bench: Bench) -> None:
    settings = bench.load('\ufeffinstance = "box1"\r\n[polling]\r\ntimeout = "1m"\r\n')

    assert (settings.instance, settings.polling.timeout) == ("box1", 60_000)


def test_settings_do_not_change(bench: Bench) -> None:
    settings = bench.load(ACCOUNT)
    with pytest.raises(ValueError, match="frozen"):
        settings.instance = "other"
    with pytest.raises(ValueError, match="frozen"):
        settings.accounts["main"].discover = True


def test_loading_twice_gives_equal_settings(bench: Bench) -> None:
    text = ACCOUNT + CHANNEL + '[[routes]]\nchannels = ["team"]'
    first, second = bench.load(text, KEY="1"), bench.load(text, KEY="2")

    assert first == second
    assert first != bench.load(ACCOUNT)


def test_settings_by_hand_read_neither_file_nor_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WATCHER_INSTANCE", "environment")
    monkeypatch.setenv("INSTANCE", "environment")

    assert Settings(instance="hand").instance == "hand"
    assert Settings().instance != "environment"


def test_the_environment_wins_over_the_file(bench: Bench) -> None:
    settings = bench.load(
        '[polling]\nmax_interval = "10m"\ntimeout = "1m"\n' + ACCOUNT,
        WATCHER_POLLING__MAX_INTERVAL="2m",
        WATCHER_POLLING__EAGERNESS="0.5",
        WATCHER_ACCOUNTS__MAIN__DISCOVER="true",
        WATCHER_ACCOUNTS__MAIN__MAX_CONCURRENCY="3",
        WATCHER_ACCOUNTS__MAIN__FORMERLY="one, two",
        WATCHER_ACCOUNTS__MAIN__HEADERS='{"X-A": "b"}',
        WATCHER_CHANNELS__OPS_TEAM__URL="json://localhost",
        WATCHER_CHANNELS__OPS_TEAM__EMOJI="no",
        WATCHER_OPERATORS='["ops-team"]',
        WATCHER_INSTANCE="box2",
    )
    account = settings.accounts["main"]

    assert settings.polling.max_interval == 120_000
    assert (settings.polling.timeout, settings.polling.eagerness) == (60_000, 0.5)
    assert (account.discover, account.max_concurrency) == (True, 3)
    assert account.formerly == ("one", "two")
    assert account.options().headers == {"X-A": "b"}
    assert settings.channels["ops-team"].emoji is False
    assert (settings.operators, settings.instance) == (("ops-team",), "box2")


def test_a_secrets_source_in_the_environment_puts_away_the_files(bench: Bench) -> None:
    settings = bench.load(ACCOUNT, WATCHER_ACCOUNTS__MAIN__API_KEY=SECRET)

    assert settings.accounts["main"].credential().get_secret_value() == SECRET


def test_empty_and_foreign_variables_are_let_be(bench: Bench) -> None:
    settings = bench.load(
        WATCHER_PORT="tcp://10.0.0.1:80",
        WATCHER_SERVICE_HOST="10.0.0.1",
        WATCHER_URL="http://localhost:8080",
        WATCHER_TOKEN=SECRET,
        WATCHER_POLLING__TIMEOUT="",
        POLLING__TIMEOUT="1h",
        INSTANCE="other",
    )

    assert settings.polling.timeout == 30_000
    assert settings.instance != "other"


def test_a_typo_in_a_variable_names_it_and_the_nearest_key(bench: Bench) -> None:
    inner = bench.mistake(WATCHER_POLLING__MAX_INTERVALL="2m")
    outer = bench.mistake(WATCHER_POLING__MAX_INTERVAL="2m")

    assert inner == (
        "environment variable WATCHER_POLLING__MAX_INTERVALL: "
        'unknown key; did you mean "max_interval"?'
    )
    assert outer.startswith("environment variable WATCHER_POLING__*: unknown key")
    assert 'did you mean "polling"?' in outer


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("WATCHER_POLLING__TIMEOUT", "5", 'write "5s" for seconds'),
        ("WATCHER_POLLING__EAGERNESS", SECRET, "must be a number from 0.01 to 100"),
        ("WATCHER_POLLING__EAGERNESS", "inf", "must be a number from 0.01 to 100"),
        ("WATCHER_ACCOUNTS__MAIN__MAX_CONCURRENCY", SECRET, "must be a whole number"),
        ("WATCHER_ACCOUNTS__MAIN__DISCOVER", SECRET, "must be true or false"),
        ("WATCHER_ACCOUNTS__MAIN__HEADERS", SECRET, "must be a table"),
        ("WATCHER_ACCOUNTS__MAIN__HEADERS", "{" + SECRET, "starts as JSON but is not"),
        ("WATCHER_ACCOUNTS__MAIN__FORMERLY", "[" + SECRET, "starts as JSON but is not"),
        ("WATCHER_ACCOUNTS__MAIN__FORMERLY", "[" * 100_000, "starts as JSON but is not"),
        ("WATCHER_ACCOUNTS__MAIN__PROVIDER", SECRET, "no such provider (known: cerebras"),
        ("WATCHER_INSTANCE", "a\ud800b", "must be one printable line"),
        ("WATCHER_TIMEZONE", "../../etc/passwd", "no such time zone"),
        ("WATCHER_OPERATORS", SECRET, "a name is a small letter"),
    ],
)
def test_a_bad_value_of_a_variable_is_told_without_showing_it(
    bench: Bench, name: str, value: str, part: str
) -> None:
    message = bench.mistake(ACCOUNT, **{name: value})

    assert message.startswith(f"environment variable {name}: ")
    assert part in message


def test_an_account_of_the_environment_alone_is_told_by_its_variables(bench: Bench) -> None:
    unfinished = bench.mistake(WATCHER_ACCOUNTS__X__BASE_URL="https://gateway.example")
    without_key = bench.mistake(WATCHER_ACCOUNTS__X__PROVIDER="openai")

    assert unfinished.startswith("environment variable WATCHER_ACCOUNTS__X__PROVIDER: is missing")
    assert without_key.startswith("environment variable WATCHER_ACCOUNTS__X__*: needs one of")


def test_variables_that_contradict_each_other_are_a_mistake(bench: Bench) -> None:
    message = bench.mistake(WATCHER_STATE="/x", WATCHER_STATE__FILE="/y")

    assert "environment variable WATCHER_STATE__FILE: another variable gives state" in message


def test_public_names_are_what_a_command_without_keys_needs(bench: Bench) -> None:
    text = ACCOUNT + CHANNEL + '[[routes]]\nchannels = ["team"]\nseverity = "warning"'
    names = public_names(bench.load(text))

    assert names["accounts"] == [
        {"name": "main", "provider": "openai", "host": "api.openai.com", "formerly": []}
    ]
    assert (names["channels"], names["operators"]) == (["team"], None)
    assert names["routes"][0]["channels"] == ["team"]
    assert names["routes"][0]["severity"] == "warning"


def test_fingerprints_differ_where_accounts_or_channels_do(bench: Bench) -> None:
    base = fingerprint(bench.load(ACCOUNT + CHANNEL))
    same = [
        bench.load(CHANNEL + ACCOUNT + 'base_url = "https://api.openai.com/v1/"'),
        bench.load(ACCOUNT + CHANNEL + 'details = false\n[polling]\ntimeout = "1s"'),
    ]
    others = [
        bench.load(ACCOUNT),
        bench.load(ACCOUNT + 'base_url = "https://eu.api.openai.com/v1"\n' + CHANNEL),
        bench.load(ACCOUNT.replace("main", "other") + CHANNEL),
        bench.load(ACCOUNT.replace('"openai"', '"cohere"') + CHANNEL),
    ]

    assert {fingerprint(settings) for settings in same} == {base}
    assert len({base, *(fingerprint(settings) for settings in others)}) == 5
