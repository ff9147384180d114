"""Long lists: lines in bulk, and batch objects as the text `print_json` would print.

`json.dumps` with an indent is Python code that takes each key of each object anew. All batch
objects have the same keys, so here the text around their values is made once, and the values are
turned into text a column of many objects at a time.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, repeat
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any

import click

from watcher.cli.output import needs_escapes
from watcher.documents import batch_document
from watcher.model import Batch
from watcher.text import harmless_json

# Objects in one write: enough that writing costs little, few enough to hold.
CHUNK = 500
INDENT = 2
# Stands for a value while the text around the values is made.
_HOLE = "@"
# How a line of a value within an object of the list begins.
_LINE = "\n" + " " * 2 * INDENT


@contextmanager
def in_bulk() -> Iterator[None]:
    """Without the collector of cycles, which would walk through all there is again and again.

    For commands that hold a hundred thousand batches for a moment, and make no cycles of them.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def print_lines(lines: Iterable[str]) -> None:
    """Lines on standard output, many at once."""
    for chunk in _chunks(lines):
        click.echo("\n".join(chunk))


def print_batches(batches: Iterable[Batch]) -> None:
    """One JSON list of batch objects on standard output, each batch taken when its turn comes."""
    texts = _Texts(ascii_only=needs_escapes())
    before = "[\n"
    for chunk in _chunks(batches):
        objects = texts.of([batch_document(batch) for batch in chunk])
        click.echo(before + harmless_json(",\n".join(objects)), nl=False)
        before = ",\n"
    click.echo("[]" if before == "[\n" else "\n]")


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    each = iter(items)
    while chunk := list(islice(each, CHUNK)):
        yield chunk


class _Texts:
    """Turns batch objects into their texts, as `json.dumps` indents the elements of a list."""

    def __init__(self, *, ascii_only: bool) -> None:
        self._quoted: Callable[[str], str] = (
            encode_basestring_ascii if ascii_only else encode_basestring
        )
        self._plain = json.JSONEncoder(ensure_ascii=ascii_only).encode
        # The one float of a batch object is its progress, which is finite.
        self._simple: dict[type, Callable[[Any], str]] = {
            str: self._quoted,
            int: int.__repr__,
            float: float.__repr__,
        }
        document = batch_document(Batch("", "", ""))
        # Objects within the object that always have the same keys.
        self._fixed = {name for name, one in document.items() if isinstance(one, dict) and one}
        holes = {
            name: dict.fromkeys(document[name], _HOLE) if name in self._fixed else _HOLE
            for name in document
        }
        text = json.dumps([holes], indent=INDENT).removeprefix("[\n").removesuffix("\n]")
        self._around = text.split(json.dumps(_HOLE))

    def of(self, documents: Sequence[dict[str, Any]]) -> list[str]:
        """The text of each of some batch objects."""
        parts: list[Iterable[str]] = []
        before = ""
        for around, column in zip(self._around, self._columns(documents), strict=False):
            texts = self._column(column)
            before += around
            if isinstance(texts, str):
                before += texts
            else:
                parts += [repeat(before), texts]
                before = ""
        # This one is bounded even where all objects are alike.
        parts.append([before + self._around[-1]] * len(documents))
        return ["".join(row) for row in zip(*parts, strict=False)]

    def _columns(self, documents: Sequence[dict[str, Any]]) -> Iterator[Sequence[Any]]:
        """The values that stand at the same place in all objects, place by place."""
        columns = zip(*(document.values() for document in documents), strict=True)
        for name, column in zip(documents[0], columns, strict=True):
            if name in self._fixed:
                yield from zip(*(one.values() for one in column), strict=True)
            else:
                yield column

    def _column(self, values: Sequence[Any]) -> Iterable[str] | str:
        """The text of each value; one text where it is that of all."""
        kinds = set(map(type, values))
        # Of one type, what is equal is written alike; within containers 1 equals True.
        equal = not any(values) or values.count(values[0]) == len(values)
        if equal and len(kinds) == 1 and (not values[0] or kinds <= {str, int}):
            return self._one(values[0])
        kinds.discard(type(None))
        text = self._simple.get(kinds.pop(), self._one) if len(kinds) == 1 else self._one
        return ["null" if value is None else text(value) for value in values]

    def _one(self, value: object, line: str = _LINE) -> str:
        if isinstance(value, str):
            return self._quoted(value)
        inner = line + " " * INDENT
        if isinstance(value, dict) and value:
            texts = [f"{self._quoted(key)}: {self._one(one, inner)}" for key, one in value.items()]
            return f"{{{inner}{f',{inner}'.join(texts)}{line}}}"
        if isinstance(value, list) and value:
            texts = [self._one(one, inner) for one in value]
            return f"[{inner}{f',{inner}'.join(texts)}{line}]"
        return self._plain(value)
