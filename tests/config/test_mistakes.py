"""A mistake is told in a line or two: where, what, and what to write; never a secret."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.config.bench import ACCOUNT, CHANNEL, SECRET, SECTIONS, Bench
from watcher.config import (
    Places,
    Settings,
    load,
)
from watcher.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('intance = "x"', 'intance: unknown key; did you mean "instance"?'),
        ('timeout = "5s"', "timeout: unknown key here: it belongs in [polling]"),
        ('[polling]\ninstance = "x"', "it belongs above the first [table] of the file"),
        ('[polling]\nmax_intervall = "5m"', "[polling] max_intervall: unknown key; did you mean"),
        (
            ACCOUNT + 'base_ur = "https://x"',
            '[accounts.main] base_ur: unknown key; did you mean "base_url"?',
        ),
        ('[http]\nlisten = "x"', "this version does not have it yet"),
        ("[polling]\ntimeout = 30", 'timeout: a bare number has no unit: write "30s"'),
        ('[polling]\ntimeout = "30"', 'timeout: a bare number has no unit: write "30s"'),
        (f'[polling]\ntimeout = "{SECRET}"', "timeout: not a length of time: write"),
        ('[polling]\ntimeout = "0s"', "must be longer than nothing"),
        ("[polling]\ntimeout = true", "must be a length of time in quotes"),
        ("[polling]\neagerness = 0", "eagerness: must be a number from 0.01 to 100"),
        ("[polling]\neagerness = nan", "eagerness: must be a number from 0.01 to 100"),
        ('[polling]\nmin_interval = "10m"', "[polling]: min_interval is longer than max_interval"),
        ("polling = 3", "[polling]: must be a table, as in [polling]"),
        ("instance = 3", "instance: must be a text in quotes"),
        ("state = 3", "state: must be a text in quotes"),
        ("state = 2026-11-21", "state: must be a text in quotes"),
        ('timezone = "Europe/Berln"', 'no such time zone; did you mean "Europe/Berlin"?'),
        (f'[accounts]\nopenai = "{SECRET}"', "[accounts.openai]: must be a table"),
        (
            '[accounts.x]\nprovider = "opnai"\napi_key_env = "K"',
            '[accounts.x] provider: no such provider; did you mean "openai"?',
        ),
        ('[accounts.x]\napi_key_env = "K"', "[accounts.x] provider: is missing"),
        (
            '[accounts.Main]\nprovider = "openai"\napi_key_env = "K"',
            "[accounts.Main]: a name is a small letter",
        ),
        (
            '[accounts.x]\nprovider = "openai"',
            'needs one of api_key_env, api_key_file, api_key: write api_key_env = "OPENAI_API_KEY"',
        ),
        (ACCOUNT + f'api_key = "{SECRET}"', "has both api_key_env and api_key: keep one"),
        (ACCOUNT + "max_concurrency = 0", "must be a whole number from 1 to 1,000"),
        (ACCOUNT + 'max_concurrency = "8"', "must be a whole number from 1 to 1,000"),
        (ACCOUNT + 'discover = "yes"', "discover: must be true or false, without quotes"),
        (ACCOUNT + 'formerly = "old"', "formerly: must be a list"),
        (ACCOUNT + 'formerly = ["main"]', "main is an account itself"),
        (ACCOUNT + f'base_url = "ftp://{SECRET}"', "[accounts.main]: base_url"),
        (ACCOUNT + f'base_url = "https://me:{SECRET}@host"', "[accounts.main]: base_url"),
        (ACCOUNT + 'base_url = "http://host.example/v1"', "would travel unencrypted"),
        (ACCOUNT + f'headers = {{ X-A = "a\\n{SECRET}" }}', "[accounts.main]"),
        (ACCOUNT + "headers = { X-A = 3 }", "must have a text in quotes for each header"),
        (ACCOUNT + 'min_interval = "1h"', "min_interval would be longer than max_interval"),
        (
            '[accounts.x]\nprovider = "openai-compatible"\napi_key_env = "K"',
            'provider "openai-compatible" needs a base_url',
        ),
        (
            '[accounts.x]\nprovider = "cohere"\napi_key_env = "K"\norganization = "o"',
            "[accounts.x]: organization",
        ),
        (
            f'[accounts.x]\nprovider = "openai"\napi_key_env = "{SECRET}"',
            "must be the NAME of an environment variable",
        ),
        (
            '[accounts.x]\nprovider = "openai"\napi_key_env = "' + "aB3" * 14 + '"',
            "must be the NAME of an environment variable",
        ),
        (
            f'[accounts.x]\nprovider = "openai"\napi_key_file = "{SECRET * 2}"',
            "must be the path of a file that holds the secret",
        ),
        ('[channels.team]\nurl_file = "json://x"', "must be the path of a file"),
        ("[channels.team]\n", 'needs one of url_env, url_file, url: write url_env = "NAME"'),
        (CHANNEL + 'emoji = "no"', 'must be "auto", true or false'),
        ('operators = ["taem"]\n' + CHANNEL, 'no channel "taem"; did you mean "team"?'),
        (f'operators = ["slack://{SECRET}"]', "a name is a small letter"),
        (
            CHANNEL + '[[routes]]\nchannels = ["team"]\n[[routes]]\nchannels = ["tem"]',
            '[[routes]] number 2, channels: no channel "tem"; did you mean "team"?',
        ),
        ('[[routes]]\nevents = ["batch.*"]', "number 1, channels: is missing"),
        ("[[routes]]\nchannels = []", "channels is empty: name at least one"),
        (
            CHANNEL + '[[routes]]\nchannels = ["team"]\naccounts = ["opena"]',
            'no account "opena"; did you mean "openai"?',
        ),
        (
            CHANNEL + '[[routes]]\nchannels = ["team"]\nevents = ["batch.*", "batch.complete"]',
            'events: entry 2: matches no type of event; did you mean "batch.completed"?',
        ),
        (CHANNEL + '[[routes]]\nchannels = ["team"]\nseverity = "loud"', '"info", "success"'),
        (CHANNEL + '[[routes]]\nchannels = ["team"]\noutcomes = ["good"]', '"ok", "partial"'),
        (f'routes = "{SECRET}"', "routes: must be a list of tables: write [[routes]]"),
        ("batches = [3]", "[[batches]] number 1: must be a table, as in [[batches]]"),
        ('[[batches]]\naccount = "openai"', "[[batches]] number 1, id: is missing"),
        ('[[batches]]\nid = "b"\naccount = "mine"', "[[batches]] number 1, account: no account"),
        ('[heartbeat]\nurl = "https://x"\nurl_env = "X"', "has both url_env and url"),
    ],
)
def test_a_mistake_names_file_place_and_remedy(bench: Bench, text: str, part: str) -> None:
    message = bench.mistake(text)

    assert message.startswith(f"{bench.file}: ")
    assert part in message


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        (f"[polling]\ntimeout = 5m # {SECRET}".encode(), "is not valid TOML"),
        (f"[polling]\ntimeout = 5m # {SECRET}".encode(), "line 2"),
        (f'api_key = "{SECRET}\n'.encode(), "line 1"),
        (b"[polling]\n[polling]\n", "line 2"),
        (b"\x7fELF\x02\x01\x01\x00\x00\x00\x00", "is not a text file"),
        (b"\xff\xfei\x00n\x00s\x00t\x00", "is not UTF-8 text"),
        (b"x = " + b"[" * 100_000, "is nested too deeply"),
        (b"#" * (1024 * 1024 + 1), "is larger than 1,048,576 bytes"),
    ],
)
def test_a_file_that_is_no_toml_is_told_so(bench: Bench, raw: bytes, part: str) -> None:
    message = bench.mistake(raw)

    assert message.startswith(f"{bench.file}: ")
    assert part in message


def test_a_directory_is_no_file(places: Places, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a directory: name a file, as in .*config\.toml"):
        load(tmp_path, environ={}, places=places)


def test_a_pipe_is_refused_instead_of_waited_for(places: Places, tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    with pytest.raises(ConfigError, match="is not a regular file"):
        load(pipe, environ={}, places=places)


@pytest.mark.parametrize(
    "value",
    [
        f'"{SECRET}"',
        f'["{SECRET}"]',
        f'["{SECRET.lower()}"]',
        f'[["{SECRET}"]]',
        f'{{ a = "{SECRET}" }}',
        f'[{{ a = "{SECRET}" }}]',
        f'{{ a = {{ b = "{SECRET}" }} }}',
        f'"line\\n{SECRET}"',
    ],
)
@pytest.mark.parametrize("header", ["", *SECTIONS])
def test_a_secret_in_the_wrong_place_is_never_repeated(
    bench: Bench, header: str, value: str
) -> None:
    keys = (SECTIONS[header] if header else Settings).model_fields
    table = header.replace("NAME", "name")
    messages = {key: said(bench, f"{table}\n{key} = {value}\n") for key in keys}
    if header == "[accounts.NAME]":
        table += '\nprovider = "openai"'
        sources = ("api_key", "api_key_env", "api_key_file", "headers", "base_url")
        messages |= {key: said(bench, f"{table}\n{key} = {value}\n") for key in sources}
    leaks = [key for key, message in messages.items() if SECRET.lower() in message.lower()]

    assert leaks == []
    assert any(messages.values())


def said(bench: Bench, text: str) -> str:
    """What loading says, or using all that was loaded."""
    try:
        settings = bench.load(text)
        for account in settings.accounts.values():
            account.credential()
        for channel in settings.channels.values():
            channel.url_secret()
        if settings.heartbeat.wanted:
            settings.heartbeat.url_secret()
    except ConfigError as error:
        return str(error)
    return ""
