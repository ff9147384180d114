"""What real providers do to the published schema, one test a quirk."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from watcher.errors import Garbled
from watcher.model import Counts, Observation, Problem, Results, Status
from watcher.providers import ProviderOptions, build
from watcher.text import clean_line

AT = 1_791_000_000_000
READER = build("openai-compatible", ProviderOptions(base_url="https://api.example.com/v1"))


def read(**body: Any) -> Observation:
    return READER.read({"id": "batch_1", "status": "in_progress", **body})


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("validating", Status.VALIDATING),
        ("VALIDATING", Status.VALIDATING),
        ("queued", Status.QUEUED),
        ("scheduling", Status.QUEUED),
        ("in_queue", Status.QUEUED),
        ("running", Status.IN_PROGRESS),
        ("PROGRESS", Status.IN_PROGRESS),
        ("in-progress", Status.IN_PROGRESS),
        ("In Progress", Status.IN_PROGRESS),
        ("finalizing", Status.FINALIZING),
        ("complete", Status.COMPLETED),
        ("Done", Status.COMPLETED),
        ("JOB_STATE_SUCCEEDED", Status.COMPLETED),
        ("BATCH_STATE_FAILED", Status.FAILED),
        ("expired", Status.EXPIRED),
        ("canceling", Status.CANCELLING),
        ("cancelling", Status.CANCELLING),
        ("BATCH_STATUS_CANCELED", Status.CANCELLED),
        ("cancelled", Status.CANCELLED),
        ("BATCH_STATUS_UNSPECIFIED", Status.UNKNOWN),
        ("paused", Status.UNKNOWN),
        # Ours to say, not theirs.
        ("lost", Status.UNKNOWN),
        ("unknown", Status.UNKNOWN),
    ],
)
def test_words_that_plainly_mean_one_of_ours_are_mapped(word: str, status: Status) -> None:
    observation = read(status=word)

    assert observation.status is status
    assert observation.raw_status == word


@pytest.mark.parametrize(
    ("errors", "problems", "total"),
    [
        (None, (), 0),
        ([], (), 0),
        ({}, (), 0),
        ("", (), 0),
        (7, (), 0),
        ([None, {}, "", 3, []], (), 0),
        ({"object": "list", "data": []}, (), 0),
        ({"object": "list", "data": None}, (), 0),
        ({"data": [{"message": "bad"}]}, (Problem(message="bad"),), 1),
        ("input file is empty", (Problem(message="input file is empty"),), 1),
        (["one", "two"], (Problem(message="one"), Problem(message="two")), 2),
        (
            [{"message": "timed out", "count": 3}, {"message": "refused"}],
            (Problem(message="timed out"), Problem(message="refused")),
            4,
        ),
        ({"code": 400, "message": "bad"}, (Problem("400", "bad"),), 1),
        ([{"code": "x", "line": "12"}], (Problem("x", None, 12),), 1),
        ([{"code": "x", "line": True}], (Problem("x"),), 1),
    ],
)
def test_errors_are_read_in_every_form(
    errors: object, problems: tuple[Problem, ...], total: int
) -> None:
    observation = read(errors=errors)

    assert (observation.problems, observation.problem_total) == (problems, total)


def test_no_more_than_twenty_problems_are_kept_and_the_others_counted() -> None:
    observation = read(errors=[f"bad line {number}" for number in range(15_000)])

    assert len(observation.problems) == 20
    assert observation.problem_total == 15_000


def test_an_error_beside_the_status_is_a_problem() -> None:
    assert read(status="failed", error="out of memory").problems == (
        Problem(message="out of memory"),
    )


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (None, Counts()),
        ({}, Counts()),
        ([], Counts()),
        ("many", Counts()),
        ({"total": None, "completed": None, "failed": None}, Counts()),
        ({"total": "10", "completed": " 4 ", "failed": "x"}, Counts(10, 4, None)),
        ({"total": 10.0, "completed": 1.5}, Counts(10)),
        ({"total": True, "completed": False}, Counts()),
        ({"total": -1, "completed": "-1"}, Counts()),
        ({"total": 2**63, "completed": 2**63 - 1}, Counts(None, 2**63 - 1)),
        ({"total": 1e400, "completed": float("nan")}, Counts()),
        ({"total": 3, "expired": 1, "canceled": 2}, Counts(3, None, None, 1, 2)),
    ],
)
def test_counts_that_are_not_given_are_not_zero(counts: object, expected: Counts) -> None:
    assert read(request_counts=counts).counts == expected


def test_counts_may_stand_beside_the_status() -> None:
    assert read(total=3, completed=2, failed=1).counts == Counts(3, 2, 1)


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (AT // 1000, AT),
        (AT, AT),
        (AT / 1000 + 0.25, AT + 250),
        (str(AT // 1000), AT),
        (str(AT), AT),
        ("2026-10-03T04:00:00Z", AT),
        ("2026-10-03T06:00:00+02:00", AT),
        ("2026-10-03T04:00:00.123456789Z", AT + 123),
        ("2026-10-03 04:00:00", AT),
        ("2026-10-03", AT - 4 * 3_600_000),
        # Placeholders and mistakes.
        (None, None),
        (0, None),
        ("", None),
        ("0001-01-01T00:00:00Z", None),
        ("1970-01-20T00:00:00Z", None),
        ("9999-12-31T23:59:59-14:00", None),
        (946_656_000_000, None),
        (AT * 1000, None),
        (10**4_000, None),
        (-AT, None),
        (1e400, None),
        (float("nan"), None),
        (True, None),
        ({}, None),
        ([], None),
        ("soon", None),
        ("2026-13-45", None),
        ("٣٤٥٦٧٨٩٠١٢", None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_times_are_read_in_every_form(time: object, expected: int | None) -> None:
    observation = read(created_at=time, expires_at=time)

    assert (observation.created_at, observation.expires_at) == (expected, expected)


@pytest.mark.parametrize(
    ("status", "ended_at"),
    [
        ("completed", AT + 1_000),
        ("failed", AT + 2_000),
        ("expired", AT + 3_000),
        ("cancelled", AT + 4_000),
        ("in_progress", None),
        ("cancelling", None),
        ("paused", None),
    ],
)
def test_the_end_is_the_time_that_fits_the_status(status: str, ended_at: int | None) -> None:
    at = AT // 1000
    observation = read(
        status=status,
        completed_at=at + 1,
        failed_at=at + 2,
        expired_at=at + 3,
        cancelled_at=at + 4,
    )

    assert observation.ended_at == ended_at


def test_one_time_for_every_end_is_taken_when_there_is_no_other() -> None:
    assert read(status="failed", finalized_at=AT // 1000).ended_at == AT


@pytest.mark.parametrize("status", ["validating", "in_progress", "cancelling", "paused"])
def test_files_are_trusted_only_at_the_end(status: str) -> None:
    assert read(status=status, output_file_id="f1", error_file_id="f2").results == Results()


@pytest.mark.parametrize("absent", [None, "", {}, 0, False, "   "])
def test_a_file_that_is_not_there_is_none(absent: object) -> None:
    observation = read(status="completed", output_file_id="f1", error_file_id=absent)

    assert observation.results == Results(output="f1")


def test_metadata_is_kept_whatever_it_holds() -> None:
    metadata = {"tags": ["a", "b"], "deep": {"n": 1, "f": 0.5}, "none": None, "yes": True}

    assert read(metadata=metadata).metadata == metadata


def test_metadata_is_bounded_and_cleaned() -> None:
    nested: Any = "bottom"
    for _ in range(500):
        nested = {"next": nested}
    read_metadata = read(
        metadata={
            "deep": nested,
            "long": "x" * 10_000,
            "red\x1b[31m": "two\nlines",
            "big": 2**70,
            "not a number": float("nan"),
            **{f"key{number}": number for number in range(1_000)},
        }
    ).metadata

    assert len(read_metadata) == 64
    assert read_metadata["deep"] == {"next": {"next": {"next": None}}}
    assert len(read_metadata["long"]) == 600
    assert read_metadata["red\ufffd[31m"] == "two lines"
    assert read_metadata["big"] is None
    assert read_metadata["not a number"] is None


@given(st.dictionaries(st.text(max_size=150), st.text(max_size=700), max_size=8))
@example({" team ": " a ", "run": "42"})
@example({"k" * 129: "v"})
@example({"k": "v" * 601})
@example({"team": "evals\x1b[31m"})
def test_each_text_of_metadata_is_one_clean_line(metadata: dict[str, str]) -> None:
    cleaned = {clean_line(key, 128): clean_line(text, 600) for key, text in metadata.items()}

    assert read(metadata=metadata).metadata == cleaned


@pytest.mark.parametrize("metadata", [None, [], "text", 5, {}])
def test_metadata_that_is_no_object_is_empty(metadata: object) -> None:
    assert read(metadata=metadata).metadata == {}


def test_texts_are_cleaned_and_bounded() -> None:
    observation = read(
        status="odd\n" + "x" * 1_000,
        name="two\nlines \u202e\ud800 " + "x" * 1_000,
        errors="y" * 100_000,
    )

    assert observation.raw_status is not None
    assert len(observation.raw_status) == 80
    assert observation.name is not None
    assert observation.name.startswith("two lines \ufffd\ufffd x")
    assert len(observation.name) == 200
    assert len(observation.problems[0].message or "") == 2_000


def test_a_batch_may_lack_everything_but_its_id_and_status() -> None:
    assert read() == Observation("batch_1", Status.IN_PROGRESS, "in_progress")


def test_a_batch_without_an_id_is_told_from_an_error_by_what_else_it_holds() -> None:
    batch = READER.read({"status": "completed", "request_counts": {"total": 1, "completed": 1}})

    assert batch.id is None
    assert batch.status is Status.COMPLETED
    with pytest.raises(Garbled, match="quota exceeded"):
        READER.read({"status": "failed", "message": "quota exceeded"})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (None, "the answer is not an object"),
        ([], "the answer is not an object"),
        ("completed", "the answer is not an object"),
        ({}, "the answer is not a batch: it has no status"),
        ({"id": "batch_1"}, "the answer is not a batch: it has no status"),
        ({"id": "batch_1", "status": None}, "the answer is not a batch: it has no status"),
        ({"id": "batch_1", "status": []}, "the answer is not a batch: it has no status"),
        ({"error": {"message": "no"}}, "an error where a batch should be: no"),
        ({"detail": "no"}, "an error where a batch should be: no"),
        ({"status": 404, "error": "Not Found"}, "an error where a batch should be: Not Found"),
        (
            {"id": "a/b", "status": "completed"},
            "the answer names an id that cannot be one: 'a/b'",
        ),
    ],
)
def test_what_is_no_batch_is_garbled_and_says_why(body: object, said: str) -> None:
    with pytest.raises(Garbled) as caught:
        READER.read(body)

    assert str(caught.value) == said


def test_a_number_may_be_an_id() -> None:
    assert read(id=1234567890123456789).id == "1234567890123456789"
