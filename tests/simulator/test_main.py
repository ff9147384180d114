"""`python -m watcher.simulator`, as a user starts it to rehearse."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import httpx
import pytest

from tests.simulator.builders import simulation
from watcher.simulator.__main__ import introduction, main


def test_the_introduction_names_urls_variables_and_batches() -> None:
    whole = simulation()
    text = introduction(whole, "http://127.0.0.1:8899")

    assert "export OPENAI_BASE_URL=http://127.0.0.1:8899/openai/v1\n" in text
    assert "export CEREBRAS_BASE_URL=http://127.0.0.1:8899/cerebras/v1\n" in text
    assert "export CO_API_URL=http://127.0.0.1:8899/cohere\n" in text
    assert all(f"watcher add openai/{id}  #" in text for id in whole.openai.ids)
    assert len(whole.cohere.ids) == len(whole.cerebras.ids) == 2


def test_it_serves_until_it_is_interrupted_and_ends_quietly() -> None:
    command = [sys.executable, "-m", "watcher.simulator", "--port", "0", "--fault", "503"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = [process.stdout.readline()]
        url = said[0].split()[-1]
        while not said[-1].startswith("# the name"):
            said.append(process.stdout.readline())
        answer = httpx.get(f"{url}/batches", timeout=5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)

    assert re.fullmatch(r"# openai: http://127\.0\.0\.1:\d+/openai/v1\n", said[0])
    assert answer.status_code == 503
    assert sum(line.startswith("watcher add cohere/") for line in said) == 2
    assert (process.returncode, errors) == (0, "")


def test_with_a_fleet_the_introduction_says_where_its_ids_and_ends_are() -> None:
    whole = simulation()
    text = introduction(whole, "http://127.0.0.1:8899", fleet=100_000)

    assert "# 100,000 batches of openai" in text
    assert "http://127.0.0.1:8899/simulator/ids | watcher add - --account openai" in text
    assert "http://127.0.0.1:8899/simulator/ends" in text
    assert whole.openai.ids == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--fault", "plague"],
        ["--fault", "503:often"],
        ["--speed", "0"],
        ["--fleet", "many"],
        ["--ages", "24"],
        ["--ages", "25h"],
    ],
)
def test_a_mistake_is_told_in_a_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)

    assert stopped.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
