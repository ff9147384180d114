"""Providers and a channel on loopback for the tests of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.channels.servers import Service
from tests.cli.bench import QUICK, World, world


@pytest.fixture(scope="session")
def providers() -> Iterator[World]:
    """One set of simulated providers; each test makes batches of its own."""
    with world() as one:
        yield one


@pytest.fixture
def openai(providers: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The environment of a user who has a key, looked at often; faults end with the test."""
    for name, value in {**providers.variables, **QUICK}.items():
        monkeypatch.setenv(name, value)
    yield providers
    providers.simulation.faults.clear()


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state of the test's own."""
    path = tmp_path / "watcher.db"
    monkeypatch.setenv("WATCHER_STATE", str(path))
    return path


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: Service) -> Path:
    """A configuration with one channel, `team`, that sends at once."""
    path = tmp_path / "config.toml"
    path.write_text(team(service))
    path.chmod(0o600)
    monkeypatch.setenv("WATCHER_CONFIG", str(path))
    return path


def team(service: Service) -> str:
    """The table of a channel that sends at once."""
    return (
        'instance = "box1"\n'
        "[channels.team]\n"
        f'url = "json://{service.address}/hook"\n'
        'digest_wait = "20ms"\n'
        'digest_interval = "20ms"\n'
    )
