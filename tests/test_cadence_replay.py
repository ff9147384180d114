"""The measurement of the cadence, in small: it counts right, and reads any file of its form."""

from __future__ import annotations

import math
from pathlib import Path

import cadence
import pytest
import replay
import sharper
from fleets import fleet, watch
from timelines import DATA, SECOND, Timeline, read

from watcher.cadence import Pace
from watcher.model import Status

HEAD = "provider,endpoint,status,created_at,in_progress_at,completed_at,cancelled_at,total,extra\n"


def lives(folder: Path, *rows: str) -> list[Timeline]:
    path = folder / "lives.csv"
    path.write_text(HEAD + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return read(path)


@pytest.fixture(scope="module")
def own() -> list[Timeline]:
    return [one for one in read(DATA) if one.ran_to_its_own_end]


def test_the_timelines_are_those_that_ran_to_their_own_end(own: list[Timeline]) -> None:
    assert len(own) == 1_218
    assert len(read(DATA)) == 2_321


def test_plain_rules_score_as_the_arithmetic_says(own: list[Timeline]) -> None:
    minutely = replay.by_wait(own, lambda _: 60.0 * SECOND)
    expected = [math.ceil((one.ended_at - one.created_at) / 60 / SECOND) for one in own]

    assert minutely.looks == pytest.approx(sum(expected) / len(own))
    assert minutely.mean == pytest.approx(35.0, abs=0.1)


def test_the_real_cadence_is_replayed_on_what_the_timelines_show(own: list[Timeline]) -> None:
    some = own[::40]
    eager, calm = (replay.ours(some, Pace(eagerness=eagerness)) for eagerness in (2.0, 0.5))

    assert 3 * calm.looks < eager.looks + 2 * calm.looks < 7 * calm.looks
    assert eager.mean < calm.mean
    assert replay.ours(some, Pace(), draw=1) != replay.ours(some, Pace(), draw=2)


def test_a_file_may_leave_out_columns_and_name_any_provider(tmp_path: Path) -> None:
    known = lives(
        tmp_path,
        "someone,/v1,completed,1000,1010,1100,,5,x",
        ",,completed,1000,,1100.4,,,",
        "openai,,in_progress,1000,1010,,,,",
        "openai,,cancelled,1000,,,1400,soon,",
        "openai,,lost,,,,,,",
    )

    assert [one.provider for one in known] == ["someone", "openai", "openai", "openai"]
    assert [one.ran_to_its_own_end for one in known] == [True, True, False, False]
    assert known[0].shown(1_005 * SECOND).status is Status.VALIDATING
    assert known[0].shown(1_010 * SECOND).status is Status.IN_PROGRESS
    assert known[0].shown(1_100 * SECOND).status is Status.COMPLETED
    assert known[0].shown(1_010 * SECOND).counts.total == 5
    assert known[1].stages[0][1].status is Status.IN_PROGRESS
    assert replay.ours(known[:2], Pace()).mean < 20


def test_a_whole_run_prints_every_part_beside_what_was_to_be_reached(tmp_path: Path) -> None:
    rows = [
        f"openai,/v1,completed,{born},{born + 1},{born + 60 * (born % 7)},,1,"
        for born in range(1_001, 1_013)
    ]
    lives(tmp_path, *rows)
    found = cadence.measure(tmp_path / "lives.csv", 1, (6,), made_up=3, processes=1)
    text = cadence.text(found)

    assert found.batches == len(rows)
    assert [one.page for one in found.fleets[6]] == [None, 100, 1_000]
    assert "every 60 s" in text
    assert "of √age's delay at equal looks" in text
    assert set(cadence.document(found)["policies"]) >= {"ours, eagerness 1", "√age, 5 to 300 s"}
    assert cadence.drawing(found).startswith("<svg")
    assert cadence.fleets_drawing(found).startswith("<svg")


def test_every_batch_of_a_fleet_is_seen_to_end_however_it_is_watched(own: list[Timeline]) -> None:
    made = fleet(own[:100:2], 60)
    alone, paged = (watch(made, Pace(), page) for page in (None, 100))

    assert alone.size == paged.size == 60
    assert paged.requests < alone.requests
    assert 0 < alone.shared[1_000] <= alone.shared[100] < alone.requests


def test_a_rule_is_left_out_of_the_cadence_only_while_it_is_compared() -> None:
    queued = list(sharper.queueing(20))
    before = replay.ours(queued, Pace())
    with sharper.without("phase"):
        without = replay.ours(queued, Pace())

    assert without.mean > before.mean
    assert replay.ours(queued, Pace()) == before
