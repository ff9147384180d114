"""A table of several cases side by side, with what was to be reached beside what was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from picture import short


@dataclass(frozen=True, slots=True)
class Row:
    """One measure over all cases; None where it is not known. `most` is for the last case."""

    what: str
    unit: str
    values: Sequence[float | None]
    most: float | None = None

    @property
    def growth(self) -> float | None:
        """The last case in terms of the first."""
        first, last = self.values[0], self.values[-1]
        return None if len(self.values) < 2 or not first or last is None else last / first

    @property
    def reached(self) -> bool | None:
        """Whether the last case stays within its target; None without one."""
        last = self.values[-1]
        return None if self.most is None or last is None else last <= self.most

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "what": self.what,
            "unit": self.unit,
            "values": list(self.values),
            "growth": self.growth,
            "at_most": self.most,
            "reached": self.reached,
        }


@dataclass(frozen=True, slots=True)
class Sheet:
    """Everything one run has found."""

    title: str
    cases: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str] = field(default=())

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "title": self.title,
            "cases": list(self.cases),
            "rows": [row.document() for row in self.rows],
            "notes": list(self.notes),
        }

    def text(self, *, growing: bool = False) -> str:
        """As a table; `growing`: with how the last case compares to the first."""
        aimed = any(row.most is not None for row in self.rows)
        target = f"target at {self.cases[-1]}" if aimed else ""
        head = ["", *self.cases, *(["growth"] if growing else []), target]
        lines = [head]
        for row in self.rows:
            cells = [f"{row.what}, {row.unit}"]
            cells += ["not given" if value is None else short(value) for value in row.values]
            if growing:
                cells.append("" if row.growth is None else f"x {short(row.growth)}")
            lines.append([*cells, _verdict(row)])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [self.title]
        for first, *others, last in lines:
            middle = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:-1], strict=True))
            text.append("  ".join([f"  {first:<{widths[0]}}", *middle, last]).rstrip())
        return "\n".join([*text, *self.notes])

    def show(self, *, as_json: bool, growing: bool = False) -> None:
        """Print it."""
        print(json.dumps(self.document(), indent=2) if as_json else self.text(growing=growing))

    def save(self, folder: Path, name: str) -> None:
        """Write `name`.json into the folder, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.document(), indent=2) + "\n"
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


def _verdict(row: Row) -> str:
    if row.most is None:
        return ""
    said = {None: "not known", True: "reached", False: "missed"}[row.reached]
    return f"at most {short(row.most)}: {said}"
