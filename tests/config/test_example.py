"""The example and the documentation know every key and its default."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.config.bench import PLAIN_KEYS, SECTIONS, Bench
from watcher.config import (
    Settings,
    example,
    parse_duration,
)

ROOT = Path(__file__).parents[2]


def uncommented(text: str) -> str:
    return re.sub(r"^#(?=[^\s#])", "", text, flags=re.MULTILINE)


def test_the_example_loads_as_it_stands_and_changes_nothing(bench: Bench) -> None:
    settings = bench.load(example(), WATCHER_INSTANCE="x")

    assert settings == bench.load("", WATCHER_INSTANCE="x")


def test_the_example_with_every_default_written_out_means_the_defaults(bench: Bench) -> None:
    environ = {"OPENAI_API_KEY": "sk-1", "SLACK_WEBHOOK": "slack://x"}
    written = bench.load(uncommented(example()), **environ)
    bare = bench.load(
        'operators = ["team"]\ninstance = "box1"\n[accounts.openai]\nprovider = "openai"\n'
        'api_key_env = "OPENAI_API_KEY"\n[channels.team]\nurl_env = "SLACK_WEBHOOK"\n'
        '[[routes]]\nchannels = ["team"]\n[[batches]]\nid = "batch_abc123"',
        **environ,
    )

    assert written == bare


def test_the_tables_known_here_are_all_there_are() -> None:
    tables = {re.sub(r"\W|NAME", "", title) for title in SECTIONS}

    assert tables == set(Settings.model_fields) - set(PLAIN_KEYS)


def defaults(title: str) -> dict[str, object]:
    """The keys of a table and their defaults; `...` for a key that must be given."""
    fields = SECTIONS[title].model_fields if title in SECTIONS else Settings.model_fields
    return {
        key: ... if field.is_required() else field.get_default(call_default_factory=True)
        for key, field in fields.items()
        if title in SECTIONS or key in PLAIN_KEYS
    }


@pytest.mark.parametrize("title", ["Above the first table", *SECTIONS])
def test_the_documentation_names_every_key_and_its_default(title: str) -> None:
    heading = f"### `{title}`\n" if title in SECTIONS else f"### {title}\n"
    text = (ROOT / "docs" / "configuration.md").read_text().split(heading, 1)[1]
    table = text[text.index("|") :].split("\n\n", 1)[0]
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", table, re.MULTILINE)
    documented = {key: default for keys, default in rows for key in re.findall(r"`(\w+)`", keys)}
    expected = defaults(title)
    wrong = [key for key in expected if not means(documented.get(key, ""), expected[key])]

    assert set(documented) == set(expected)
    assert wrong == []


def means(written: str, default: object) -> bool:
    """Whether the documentation's words for a default mean it."""
    if written == "required":
        return default is ...
    if written == "the host's name":
        return default == socket.gethostname()
    if not written.startswith("`"):
        return written != "" and default in (None, (), {})
    value = tomllib.loads(f"value = {written.strip('`')}")["value"]
    if isinstance(value, str) and isinstance(default, int):
        return parse_duration(value) == default
    return bool(value == (list(default) if isinstance(default, tuple) else default))


@pytest.mark.parametrize("title", ["", *SECTIONS])
def test_the_example_names_every_key(title: str) -> None:
    text = (ROOT / "config.example.toml").read_text()
    part = text.split(title.replace("NAME]", ""), 1)[1] if title else text
    part = re.split(r"^#?\[", part.partition("\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    missing = [
        key for key in defaults(title) if not re.search(rf"^#? ?{key} = ", part, re.MULTILINE)
    ]

    assert missing == []


def test_importing_the_configuration_loads_nothing_heavy() -> None:
    heavy = "{'apprise', 'httpx', 'aiohttp', 'structlog', 'rich', 'anyio', 'apsw'}"
    code = f"import sys, watcher.config; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )

    assert result.stdout.strip() == "[]"
