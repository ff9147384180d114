"""Which file is the configuration, whom it may belong to, and where the state lies."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.config.bench import SECRET, Bench, write_file
from watcher.config import (
    Places,
    load,
)
from watcher.config.files import distrust
from watcher.errors import ConfigError


def test_no_configuration_is_fine(places: Places) -> None:
    settings = load(environ={}, places=places)

    assert settings.file is None
    assert settings.accounts == {}
    assert settings.state == str(places.user_state / "watcher.db")


def test_the_first_file_of_the_order_counts(places: Places, tmp_path: Path) -> None:
    asked = write_file(tmp_path / "asked.toml", 'instance = "asked"')
    named = write_file(tmp_path / "named.toml", 'instance = "named"')
    unit = write_file(tmp_path / "unit" / "config.toml", 'instance = "unit"')
    user = write_file(places.user_config / "config.toml", 'instance = "user"')
    system = write_file(places.system_config, 'instance = "system"')
    environ = {
        "WATCHER_CONFIG": str(named),
        "CONFIGURATION_DIRECTORY": f"{tmp_path / 'empty'}:{unit.parent}",
    }
    found = [load(asked, environ=environ, places=places).instance]
    found.append(load(environ=environ, places=places).instance)
    del environ["WATCHER_CONFIG"]
    found.append(load(environ=environ, places=places).instance)
    found.append(load(environ={}, places=places).instance)
    user.unlink()
    found.append(load(environ={}, places=places).instance)

    assert found == ["asked", "named", "unit", "user", "system"]
    assert load(environ={}, places=places).file == system


def test_a_file_in_the_working_directory_is_never_read_unasked(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("config.toml", "watcher.toml", ".env"):
        write_file(tmp_path / name, 'instance = "here"\nWATCHER_INSTANCE=here')
    monkeypatch.chdir(tmp_path)

    assert load(environ={"CONFIGURATION_DIRECTORY": "."}, places=places).file is None


@pytest.mark.parametrize("asker", ["--config", "$WATCHER_CONFIG"])
def test_a_file_that_is_asked_for_must_exist(places: Places, tmp_path: Path, asker: str) -> None:
    missing = tmp_path / "missing.toml"
    path = missing if asker == "--config" else None
    environ = {} if path else {"WATCHER_CONFIG": str(missing)}
    with pytest.raises(ConfigError) as caught:
        load(path, environ=environ, places=places)

    assert str(caught.value) == f"no file {missing}, which {asker} names"


def test_dev_null_means_no_configuration(bench: Bench) -> None:
    bench.write('instance = "here"')

    assert load(Path(os.devnull), environ={}, places=bench.places).file is None


def test_a_file_that_others_may_write_is_refused(bench: Bench) -> None:
    bench.write("").chmod(0o606)
    with pytest.raises(ConfigError, match="others may write to it: chmod go-w"):
        load(environ={}, places=bench.places)


def info(*, mode: int = 0o644, user: int, group: int = 0) -> os.stat_result:
    return os.stat_result((stat.S_IFREG | mode, 1, 1, 1, user, group, 0, 0, 0, 0))


def test_only_roots_files_and_ones_own_are_trusted() -> None:
    me, path = os.geteuid(), Path("/x")
    stranger = distrust(info(user=me + 4711), path)

    assert distrust(info(user=me), path) is None
    assert distrust(info(user=0), path) is None
    assert stranger == f"belongs to user {me + 4711}, neither root nor you: chown {me} /x"


def test_a_group_of_several_may_not_write() -> None:
    path = Path("/x")
    shared = distrust(info(user=0, mode=0o664, group=2**31 - 5), path)

    assert shared == "its group may write to it: chmod go-w /x"
    assert distrust(info(user=0, mode=0o664, group=0), path) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_strangers_file_is_refused(bench: Bench) -> None:
    os.chown(bench.write(""), 4711, 4711)
    with pytest.raises(ConfigError, match="belongs to user 4711, neither root nor you"):
        load(environ={}, places=bench.places)


def test_the_state_lies_in_the_first_directory_of_the_order(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    system = write_file(places.system_config, 'state = "mine.db"')
    environ = {"STATE_DIRECTORY": f"{tmp_path / 'unit'}:/other"}
    variable = {"WATCHER_STATE": "typed.db", **environ}

    assert load(state="flag.db", environ=variable, places=places).state == str(tmp_path / "flag.db")
    assert load(environ=variable, places=places).state == str(tmp_path / "typed.db")
    assert load(environ=environ, places=places).state == str(tmp_path / "unit" / "mine.db")
    assert load(environ={}, places=places).state == str(places.system_state / "mine.db")
    assert load(system, environ={}, places=places).state == str(places.system_state / "mine.db")


def test_a_directory_gets_the_default_name(places: Places, tmp_path: Path) -> None:
    there = load(state=str(tmp_path), environ={}, places=places).state
    to_be_made = load(state=f"{tmp_path}/new/", environ={}, places=places).state

    assert there == str(tmp_path / "watcher.db")
    assert to_be_made == str(tmp_path / "new" / "watcher.db")


def test_postgres_is_not_yet_and_its_password_is_not_shown(bench: Bench) -> None:
    message = bench.mistake(f'state = "postgresql://me:{SECRET}@host/db"')

    assert "state: a state in PostgreSQL is not supported yet" in message
