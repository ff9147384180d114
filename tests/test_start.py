"""A small round of benchmarks/start.py: it runs, measures every command, and writes it down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import start
from rehearsal import command, environment


def test_every_command_is_measured_and_written_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = ["--rounds", "1", "--batches", "2", "--many", "3"]
    start.main([*many, "--json", "--out", str(tmp_path)])
    printed = json.loads(capsys.readouterr().out)
    kept = json.loads((tmp_path / "start.json").read_text())
    times = {one["what"]: one["value"] for one in printed["figures"] if one["unit"] == "s"}

    assert set(times) == set(kept["runs"])
    assert {"add -", "ls --json new", "ls --json seen"} < set(times)
    assert all(value > 0 for value in times.values())
    assert all(run["memory"] > 1 for run in kept["runs"].values())
    assert {path.name for path in tmp_path.glob("*.svg")} == {"start.svg", "start-memory.svg"}


def test_a_state_is_left_as_looks_leave_it(tmp_path: Path) -> None:
    env = environment(tmp_path / "home", OPENAI_API_KEY="made-up")
    state = tmp_path / "some.db"
    ids = start.batch_ids(2)
    command(["add", "-", "--state", str(state)], env, ids)
    start.live_in(state)
    listed = json.loads(command(["ls", "--json", "--state", str(state)], env))

    assert {one["id"] for one in listed} == set(ids.split())
    assert {one["status"] for one in listed} == {"in_progress"}
