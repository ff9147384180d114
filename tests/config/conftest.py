"""The bench, for every test of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.bench import Bench
from watcher.config import Places


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(
        user_config=tmp_path / "user-config",
        user_state=tmp_path / "user-state",
        system_config=tmp_path / "etc" / "config.toml",
        system_state=tmp_path / "var",
        run_secrets=tmp_path / "run-secrets",
    )


@pytest.fixture
def bench(places: Places) -> Bench:
    return Bench(places)
