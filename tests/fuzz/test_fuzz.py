"""A bounded round over every reader; `benchmarks/fuzz.py` goes on for as long as one likes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.fuzz.readers import Check, readers

SEEDS = some.integers(min_value=0, max_value=2**32)
# How many inputs each reader gets here: about a fifth of a second's worth.
ROUNDS = {
    "provider answers": 80,
    "bodies": 120,
    "refusals": 150,
    "pauses": 200,
    "durations": 150,
    "moments": 150,
    "standard input": 150,
    "channel URLs": 30,
    "configurations": 60,
    "sockets": 60,
    "the whole way": 8,
    "rows of the store": 100,
}


@pytest.fixture(scope="module")
def checks() -> Iterator[Mapping[str, Check]]:
    with readers() as found:
        yield found


def test_every_reader_has_a_round(checks: Mapping[str, Check]) -> None:
    assert ROUNDS.keys() == checks.keys()


@pytest.mark.parametrize("name", ROUNDS)
def test_a_reader_takes_whatever_comes(name: str, checks: Mapping[str, Check]) -> None:
    tried: list[int] = []

    @settings(max_examples=ROUNDS[name], derandomize=True, database=None)
    @given(seed=SEEDS)
    def take(seed: int) -> None:
        tried.append(seed)
        checks[name](seed)

    take()

    assert len(tried) >= ROUNDS[name]
