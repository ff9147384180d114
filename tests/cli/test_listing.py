"""Long lists: written in bulk, and word for word as short ones."""

from __future__ import annotations

import io
import json
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.builders import batch, counts, ended, registration
from tests.cli.bench import call
from tests.fakes import START
from watcher.cli.listing import CHUNK, print_batches
from watcher.documents import batch_document
from watcher.model import Batch, Outcome, Problem, Results, Status
from watcher.text import harmless_json

METADATA: dict[str, Any] = {
    "text": 'a "quoted" é \x7f \u202e \U0001f600',
    "numbers": [1, 1.5, -0.0, 1e300, True, None],
    "empty": [{}, [], ""],
    "deep": {"a": {"b": [{"c": "d"}]}},
}
SEEN = batch(
    Status.IN_PROGRESS,
    id="batch_seen",
    counts=counts(9, 3, 1),
    metadata=METADATA,
    created_at=START,
    expires_at=START + 1,
    looks=3,
    last_error='503: "no"',
)
FAILED = ended(
    Status.FAILED,
    Outcome.EMPTY,
    id="batch_failed",
    registration=registration(name="näme", tags=("a", "b"), group="g", channels=("team",)),
    results=Results(None, "file-1"),
    problems=(Problem("code", "what\nwent wrong", 12), Problem()),
)
LISTS = {
    "none": [],
    "one": [batch()],
    "all alike": [batch()] * 3,
    "each of its own": [batch(), SEEN, FAILED, batch(id="é", metadata={"a": 1})],
    "equal within, and not alike": [batch(metadata={"a": 1}), batch(metadata={"a": True})],
    "numbers and texts of none": [batch(raw_status=""), batch(looks=0), batch(looks=1)],
    "more than are written at once": [batch(id=f"batch_{n}") for n in range(CHUNK + 1)],
}


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("batches", LISTS.values(), ids=LISTS)
def test_a_list_of_batches_is_printed_as_any_document(
    batches: Sequence[Batch], encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding))
    print_batches(iter(batches))
    sys.stdout.flush()
    documents = [batch_document(one) for one in batches]
    plain = json.dumps(documents, indent=2, ensure_ascii=encoding != "utf-8")

    assert out.getvalue().decode(encoding) == harmless_json(plain) + "\n"


@pytest.mark.usefixtures("openai")
def test_to_register_what_cannot_be_read_is_told_in_a_line_and_changes_nothing(
    state: Path,
) -> None:
    call("add", "batch_1")
    database = sqlite3.connect(state)
    with database:
        database.execute("UPDATE batches SET state = '[]'")
    database.close()
    said = call("add", "batch_2", "batch_1")

    assert said.code == 1
    assert "cannot be read: it was written by a later version or damaged" in said.err
    assert "our own fault" not in said.err
    assert call("ls", "-q", "--all").out == ""
