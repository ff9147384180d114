"""What each garbled answer is: the bytes are as bad as they were meant to be."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes import FakeClock
from tests.simulator.builders import AUTHORIZED, ROOTS, simulated
from watcher.simulator import Fate, Wire, garbage


def body(wire: Wire, name: str) -> bytes:
    provider = simulated(wire, FakeClock())
    id = provider.add(Fate.stuck(), name="evals")
    provider.faults.add(garbage.CATALOGUE[name]())
    return provider.respond("GET", f"{ROOTS[wire]}/{id}", headers=AUTHORIZED).body


def refused(content: bytes) -> type[Exception] | None:
    """What Python's own parser makes of it."""
    try:
        json.loads(content)
    except (ValueError, RecursionError) as error:
        return type(error)
    return None


@pytest.mark.parametrize("wire", Wire)
@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("not-a-number", lambda text: b"NaN" in text and refused(text) is None),
        ("huge-integers", lambda text: b"9" * 40 in text and refused(text) is None),
        ("endless-integers", lambda text: refused(text) is ValueError),
        ("invalid-utf8", lambda text: refused(text) is UnicodeDecodeError),
        ("lone-surrogates", lambda text: rb"\ud800" in text and refused(text) is None),
        ("duplicate-keys", lambda text: text.count(b'"id"') == 2 and b"twice" not in _ids(text)),
        ("nested", lambda text: refused(text) is RecursionError),
        ("another-batch", lambda text: _ids(text) == b"batch_" + b"0" * 32),
        ("wrong-root", lambda text: text == b"null"),
        ("empty", lambda text: text == b""),
        ("html", lambda text: text.startswith(b"<!doctype html>")),
    ],
)
def test_garbage_is_as_bad_as_it_was_meant_to_be(
    wire: Wire, name: str, holds: Callable[[bytes], bool]
) -> None:
    assert holds(body(wire, name))


def test_wrong_values_cover_every_type_json_has() -> None:
    types = {type(value) for value in garbage.WRONG_VALUES}

    assert types == {type(None), bool, int, float, str, list, dict}


def _ids(text: bytes) -> bytes:
    document: dict[str, Any] = json.loads(text)
    return str(document.get("batch", document)["id"]).encode()
