"""Answers have the keys, nulls and types of recorded ones."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes import FakeClock
from tests.simulator.builders import (
    AUTHORIZED,
    ROOTS,
    batch,
    listed,
    recorded,
    retrieve,
    simulated,
)
from watcher.simulator import OMITTED, Complaint, Fate, Wire

LABEL = {"label0": "value 0"}
INVALID = tuple(Complaint("invalid_type", "wrong", "body", line) for line in range(1, 21))
# A recorded answer; a fate, an age in seconds and metadata that bring the same.
OPENAI: list[tuple[str, Fate, int, dict[str, Any] | None]] = [
    ("openai-01-cancelling-before-start-metadata-null", Fate.cancelled(), 5, None),
    (
        "openai-03-cancelled-before-start-out-null-err-null-metadata-null",
        *(Fate.cancelled(), 700, None),
    ),
    ("openai-05-in-progress-metadata-null", Fate.completed(), 3, None),
    (
        "openai-07-cancelled-before-start-out-null-err-yes-metadata-null",
        *(replace(Fate.cancelled(), errors_at=607.0), 700, None),
    ),
    (
        "openai-09-cancelled-after-start-out-null-err-yes-metadata-null",
        *(Fate.cancelled_with_results(3, 0, 1), 900, None),
    ),
    ("openai-11-in-progress", Fate.completed(), 3, LABEL),
    ("openai-13-finalizing", Fate.completed(3), 595, LABEL),
    ("openai-15-cancelling-before-start", Fate.cancelled(), 5, LABEL),
    (
        "openai-17-completed-all-failed-out-null-err-yes-metadata-null",
        *(Fate.all_failed(), 601, None),
    ),
    ("openai-19-cancelling-before-start-with-model-null", Fate.cancelled(), 5, LABEL),
    ("openai-21-in-progress-with-model-set", Fate.completed(), 3, LABEL),
    ("openai-23-validating-with-usage", Fate.completed(), 1, LABEL),
    ("openai-25-completed-with-usage-out-yes-err-null", Fate.completed(1), 601, LABEL),
    ("openai-27-expired-with-usage-out-yes-err-null", Fate.expired(), 90_000, LABEL),
    ("openai-29-in-progress-with-usage", Fate.completed(), 3, LABEL),
    ("openai-31-in-progress-with-model-set-metadata-null", Fate.completed(), 3, None),
    ("openai-33-failed-duplicate-custom-id-20-errors", Fate.failed(), 9, None),
    ("openai-35-failed-token-limit-line-and-param-null", Fate.token_limit_exceeded(), 0, {}),
    ("openai-37-failed-invalid-type-20-errors-responses-endpoint", Fate.failed(INVALID), 9, LABEL),
    ("openai-39-in-progress-large-partial", Fate.completed(30_000), 180, LABEL),
    (
        "openai-41-cancelled-quick-all-done",
        *(Fate.cancelled_with_results(3, 3, 0, at=5), 700, LABEL),
    ),
    (
        "openai-43-completed-error-file-id-empty-string",
        *(Fate.completed(2).showing(error_file_id=""), 601, None),
    ),
    (
        "openai-45-expired-partial-completed-1-failed-0",
        *(Fate.expired_with_results(), 90_000, None),
    ),
    (
        "openai-47-in-progress-with-finalizing-at-set",
        *(Fate.completed().showing(finalizing_at=1), 3, None),
    ),
]


def skeleton(value: Any) -> Any:
    """The value with each leaf replaced by its type, but statuses kept."""
    if isinstance(value, dict):
        return {key: inner if key == "status" else skeleton(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [skeleton(inner) for inner in value]
    return type(value).__name__


@pytest.mark.parametrize(
    ("name", "fate", "age", "metadata"), OPENAI, ids=lambda value: str(value)[:9]
)
def test_openai_answers_as_recorded(
    name: str, fate: Fate, age: int, metadata: dict[str, Any] | None
) -> None:
    expected = recorded(name)
    # Older batches have neither.
    newer = {key: OMITTED for key in ("model", "usage") if key not in expected}
    clock = FakeClock()
    provider = simulated("openai", clock)
    id = provider.add(fate.showing(**newer), metadata=metadata)
    clock.advance(age * 1000)
    shown = retrieve(provider, id)

    assert skeleton(shown) == skeleton(expected)
    assert list(shown) == list(expected)


def test_an_expiry_keeps_the_recorded_distances_to_the_second() -> None:
    clock = FakeClock()
    provider = simulated("openai", clock)
    id = provider.add(Fate.expired_with_results())
    clock.advance(90_000_000)
    shown = batch(provider, id)
    expected = recorded("openai-45-expired-partial-completed-1-failed-0")

    def distances(answer: dict[str, Any]) -> dict[str, int]:
        times = {key: value for key, value in answer.items() if key.endswith("_at") and value}
        return {key: value - answer["created_at"] for key, value in times.items()}

    assert distances(shown) == distances(expected)
    assert shown["request_counts"] == expected["request_counts"]


def test_cerebras_answers_as_recorded() -> None:
    clock = FakeClock()
    provider = simulated("cerebras", clock)
    id = provider.add(Fate.completed(), metadata={"custom_tags": ["one", "two"]})
    clock.advance(3_000)
    expected = recorded("cerebras-01-in-progress-metadata-list")
    shown = retrieve(provider, id)

    assert skeleton(shown) == skeleton(expected)
    assert list(shown) == list(expected)
    assert shown["input_file_id"].startswith("file_")


@pytest.mark.parametrize(
    ("fate", "kept"),
    [
        (Fate.completed(), {"created_at", "completed_at"}),
        (Fate.cancelled_with_results(), {"created_at", "cancelled_at"}),
    ],
)
def test_cerebras_forgets_the_phases_of_what_has_ended(fate: Fate, kept: set[str]) -> None:
    clock = FakeClock()
    provider = simulated("cerebras", clock)
    id = provider.add(fate)
    clock.advance(1_000_000)
    shown = retrieve(provider, id)

    assert {key for key, value in shown.items() if key.endswith("_at") and value} == kept
    assert "expires_at" not in shown


@pytest.mark.parametrize(
    ("name", "age"),
    [
        ("cohere-01-queued-no-output-dataset", 1),
        ("cohere-02-in-progress", 3),
        ("cohere-03-completed-10", 601),
    ],
)
def test_cohere_answers_as_recorded(name: str, age: int) -> None:
    clock = FakeClock()
    provider = simulated("cohere", clock)
    id = provider.add(Fate.completed(10), name="demo-batch")
    clock.advance(age * 1000)
    shown, expected = retrieve(provider, id), recorded(name)

    assert skeleton(shown) == skeleton(expected)
    assert list(shown["batch"]) == list(expected["batch"])
    assert shown["batch"]["name"] == "demo-batch"
    assert len(shown["batch"]["created_at"]) == len(expected["batch"]["created_at"])


def test_cohere_updates_when_the_status_changes() -> None:
    clock = FakeClock()
    provider = simulated("cohere", clock)
    id = provider.add(Fate.completed())
    seen = []
    for seconds in (0, 60, 535, 10):
        clock.advance(seconds * 1000)
        seen.append(batch(provider, id)["updated_at"])

    assert seen == [
        "2026-11-21T12:00:00.000000Z",
        "2026-11-21T12:00:02.000000Z",
        "2026-11-21T12:00:02.000000Z",
        "2026-11-21T12:10:00.000000Z",
    ]


def test_a_page_of_cohere_is_as_recorded_and_the_last_has_no_token() -> None:
    provider = simulated("cohere", FakeClock())
    for _ in range(2):
        provider.add(Fate.completed(10))
    page = listed(provider, page_size="1")
    last = listed(provider, page_token=page["next_page_token"])

    assert skeleton(page) == skeleton(recorded("cohere-07-list-page"))
    assert list(last) == ["batches"]


@pytest.mark.parametrize(
    ("wire", "keys"),
    [
        ("openai", {"error": {"message", "type", "param", "code"}}),
        ("cerebras", {"message", "type", "param", "code"}),
        ("cohere", {"message"}),
    ],
)
@pytest.mark.parametrize(("headers", "status"), [(AUTHORIZED, 404), ({}, 401)])
def test_an_error_has_the_body_of_its_wire(
    wire: str, keys: Any, headers: dict[str, str], status: int
) -> None:
    provider = simulated(wire, FakeClock())
    answer = provider.respond("GET", f"{ROOTS[Wire(wire)]}/nope", headers=headers)
    body = json.loads(answer.body)
    shape = {"error": set(body["error"])} if "error" in body else set(body)

    assert (answer.status, shape) == (status, keys)


def test_a_404_of_openai_and_of_cohere_is_as_recorded() -> None:
    bodies = {}
    for wire in ("openai", "cohere"):
        provider = simulated(wire, FakeClock())
        bodies[wire] = json.loads(provider.respond("GET", "/nowhere", headers=AUTHORIZED).body)

    assert bodies["openai"] == recorded("openai-49-error-404-url")
    assert skeleton(bodies["cohere"]) == skeleton(recorded("cohere-08-error-body"))
