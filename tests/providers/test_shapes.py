"""Every recorded answer, and what is to be read from it: nothing lost, nothing invented."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.providers.expected import EXPECTED, NO_BATCH
from watcher.errors import Garbled
from watcher.providers import PROVIDERS, Provider, ProviderOptions, build
from watcher.providers.openai import OpenAIShaped

SHAPES = Path(__file__).parent.parent / "shapes"


def shape(name: str) -> Any:
    return json.loads((SHAPES / f"{name}.json").read_text("utf-8"))


def reader(name: str) -> Provider:
    """The provider of a recorded answer: those without their own are openai-compatible."""
    family = name.partition("-")[0]
    known = family if family in PROVIDERS else "openai-compatible"
    return build(known, ProviderOptions(base_url="https://api.example.com/v1"))


def test_every_recorded_answer_is_expected_here() -> None:
    names = {path.stem for path in SHAPES.glob("*.json")}

    assert names == EXPECTED.keys() | NO_BATCH.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recorded_answer_is_read_without_loss(name: str) -> None:
    assert reader(name).read(shape(name)) == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recorded_answer_names_a_batch_that_was_just_made(name: str) -> None:
    assert reader(name).read_created(shape(name)) == EXPECTED[name].id


OPENAI_SHAPED = [name for name in EXPECTED if isinstance(reader(name), OpenAIShaped)]


@pytest.mark.parametrize("name", OPENAI_SHAPED)
@pytest.mark.parametrize("wrapper", ["batch", "job"])
def test_a_wrapped_answer_is_read_like_a_bare_one(name: str, wrapper: str) -> None:
    wrapped = {wrapper: shape(name), "warning": None}

    assert reader(name).read(wrapped) == EXPECTED[name]
    assert reader(name).read_created(wrapped) == EXPECTED[name].id


@pytest.mark.parametrize("name", NO_BATCH)
def test_a_recorded_answer_that_is_no_batch_is_garbled(name: str) -> None:
    with pytest.raises(Garbled) as caught:
        reader(name).read(shape(name))

    assert str(caught.value) == NO_BATCH[name]


def test_a_recorded_page_gives_its_batches_and_the_cursor_of_the_next() -> None:
    page = reader("cohere").read_page(shape("cohere-07-list-page"))

    assert page == ([EXPECTED["cohere-01-queued-no-output-dataset"]], "abc")
