"""Makes docs/demo.svg from a real run of `watcher demo`, which takes about a minute.

Run it from anywhere: `.venv/bin/python docs/picture.py`. The run begins at a fixed moment of its
own clock, so that a picture made anew differs only where the demo does.
"""

# ruff: noqa: INP001, T201 - a script beside the documents, not a package

from __future__ import annotations

import io
import os
import time
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import anyio
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from watcher.cli import rehearsal
from watcher.cli.progress import table
from watcher.model import Batch, Message

TARGET = Path(__file__).with_name("demo.svg")
TITLE = "watcher demo"
COLUMNS = 80
# As many lines as a reader of the README takes in at one look.
MOST_LINES = 45
# The messages that say what a status alone would not, by the names of their batches.
SHOWN = ("wrong model name", "nightly evals", "too much for a day")
# 2026-11-21 12:00:00 UTC, in milliseconds.
NOON = 1_795_262_400_000
# Rich's own frame fetches a font from another host. What is here is on every machine, and each
# text is set to its width, so that any of these fits.
FONTS = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
FRAME = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<title>watcher demo: messages as sent, and how each batch ended</title>
<style>
.{unique_id}-matrix {{ font-family: FONTS; font-size: {char_height}px; }}
.{unique_id}-title {{ font-family: sans-serif; font-size: 18px; font-weight: bold; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
""".replace("FONTS", FONTS)


class NoonClock:
    """The machine's clock, set so that it began at noon."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def now(self) -> int:
        """Milliseconds since the epoch, UTC."""
        return NOON + round((time.monotonic() - self._began) * 1000)

    def monotonic(self) -> float:
        """Seconds from some moment on."""
        return time.monotonic()


class Album(rehearsal.Screen):
    """A screen nobody looks at, which keeps what the demo showed on it."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO(), width=COLUMNS))
        self.batches: tuple[Batch, ...] = ()

    def show(self, batches: Sequence[Batch]) -> None:
        """Keep how all stand; the last call is the end."""
        super().show(batches)
        self.batches = tuple(batches)


def main() -> None:
    """Play the demo and write the picture."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    album = Album()
    with patch.object(rehearsal, "SystemClock", NoonClock):
        anyio.run(rehearsal.Rehearsal(album, None).run)
    TARGET.write_text(picture(album.messages, album.batches), encoding="utf-8")
    print(TARGET.name, f"{TARGET.stat().st_size:,} bytes")


def picture(messages: Sequence[Message], batches: Sequence[Batch]) -> str:
    """Some of the messages above the table of all batches, as SVG that names no other host."""
    console = Console(
        file=io.StringIO(),
        record=True,
        width=COLUMNS,
        force_terminal=True,
        color_system="truecolor",
        no_color=False,
        highlight=False,
    )
    console.print(Text.assemble(("$ ", "dim"), ("watcher demo", "bold")))
    left_out = False
    for message in messages:
        if not any(f" {name}" in message.title for name in SHOWN):
            left_out = True
            continue
        if left_out:
            console.print(Text("  …", "dim"))
        console.print(rehearsal.box(message, rehearsal.WIDTH))
        left_out = False
    # All have ended, so the time that `table` counts ages by does not show. Below it is a line
    # to spare: Rich clips the last one away.
    console.print(Padding(table(batches, NOON), (1, 1)))
    lines = console.export_text(clear=False).count("\n")
    if lines > MOST_LINES:
        raise SystemExit(f"{lines} lines are more than {MOST_LINES}: show fewer messages")
    svg = console.export_svg(title=TITLE, code_format=FRAME, unique_id="demo")
    return "\n".join(line.strip() for line in svg.splitlines() if line.strip()) + "\n"


if __name__ == "__main__":
    main()
