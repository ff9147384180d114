"""Files and names that no configuration should have, each told in a line or two."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.bench import ACCOUNT, Bench
from watcher.config import load
from watcher.errors import ConfigError


@pytest.mark.parametrize("text", ["a = " + "1" * 5_000, "[polling]\ntimeout = -" + "9" * 10_000])
def test_a_number_too_long_to_read_is_told(bench: Bench, text: str) -> None:
    assert bench.mistake(text) == f"{bench.file}: is not valid TOML: a number has too many digits"


def test_the_path_of_a_state_too_long_for_any_file_is_told(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="the name of the file is too long") as caught:
        load(state="x" * 5_000, environ={}, places=bench.places)

    assert str(caught.value).startswith("--state: ")


def test_the_name_of_a_secret_too_long_for_any_file_disables_its_account_alone(
    bench: Bench, tmp_path: Path
) -> None:
    name = "a-" * 150
    settings = bench.load(
        f'{ACCOUNT}[accounts.other]\nprovider = "cohere"\napi_key_file = "{name}"\n',
        KEY="sk-plain",
        CREDENTIALS_DIRECTORY=str(tmp_path),
    )

    assert settings.accounts["main"].credential().get_secret_value() == "sk-plain"
    with pytest.raises(ConfigError, match="cannot be read"):
        settings.accounts["other"].credential()
