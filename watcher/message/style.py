"""How to speak to one service: how much it takes, and what could mean something to it. Pure.

A provider's or user's text is data. Where a service may read markup, links or mentions in plain
text, characters that could mean something to it give way to others that look alike.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from watcher.model import Message, Severity
from watcher.text import ELLIPSIS

# A line and how soon it is given up where there is little room: 0 last.
Line = tuple[int, str]

# What is left of a line that must be cut to be told at all.
SHORTEST_CUT = 24


class Markup(StrEnum):
    """What plain text becomes on its way to the service; each way costs room of its own."""

    PLAIN = "plain"
    MARKDOWN = "markdown"
    HTML = "html"


@dataclass(frozen=True, slots=True)
class Style:
    """What one service takes.

    Bounds count UTF-16 units, the widest that services count in, or with `in_bytes` UTF-8 bytes,
    and hold for the text after `markup`. With `merged_title` title and body share `body_max`.
    `interprets`: the service may read markup, links or mentions in plain text. `details` False:
    no name, tag, metadata or text of a provider leaves. `ascii_marks`: our own marks are ASCII,
    because one other character more than halves what an SMS holds. `by_program`: a program reads
    it, so that however many events there are, each is told by its id.
    """

    title_max: int = 250
    body_max: int = 32_768
    lines_max: int = 20
    markup: Markup = Markup.PLAIN
    interprets: bool = True
    emoji: bool = False
    details: bool = True
    merged_title: bool = False
    in_bytes: bool = False
    ascii_marks: bool = False
    line_break: str = "\n"
    by_program: bool = False


# For documents: nothing is replaced, and next to nothing cut.
DOCUMENT = Style(title_max=2_000, body_max=1_000_000, lines_max=500, interprets=False)

_ZERO_WIDTH = "\N{ZERO WIDTH SPACE}"
_LOOKALIKES = str.maketrans(
    {
        "<": "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}",
        ">": "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}",
        "*": "\N{ASTERISK OPERATOR}",
        "`": "\N{MODIFIER LETTER GRAVE ACCENT}",
        "~": "\N{TILDE OPERATOR}",
        "|": "\N{LATIN LETTER DENTAL CLICK}",
        "\\": "\N{REVERSE SOLIDUS OPERATOR}",
        "@": f"@{_ZERO_WIDTH}",
        "[": f"[{_ZERO_WIDTH}",
    }
)
_BROKEN = (
    # Emphasis needs an underscore at the edge of a word; within one it stays, ids are full of it.
    (re.compile(r"(?<![^\W_])_|_(?![^\W_])"), "\N{MODIFIER LETTER LOW MACRON}"),
    (re.compile(r"\]\("), f"]{_ZERO_WIDTH}("),
    # An entity could bring back what was just taken out.
    (re.compile(r"&(?=#?\w+;)"), f"&{_ZERO_WIDTH}"),
    (re.compile(r"://"), f":{_ZERO_WIDTH}//"),
    (re.compile(r"(www)\.", re.IGNORECASE), rf"\1{_ZERO_WIDTH}."),
    # A bare host with a path: some services turn invitations like these into a preview.
    (re.compile(r"\.(?=[\w-]{2,}(?::\d+)?[/?#])"), f"{_ZERO_WIDTH}."),
)
_ASCII_MARKS = str.maketrans({ELLIPSIS: ".", "·": "-", "“": '"', "”": '"'})

_MARKS = {
    Severity.SUCCESS: "\N{WHITE HEAVY CHECK MARK}",
    Severity.INFO: "\N{SMALL BLUE DIAMOND}",
    Severity.WARNING: "\N{LARGE YELLOW CIRCLE}",
    Severity.FAILURE: "\N{LARGE RED CIRCLE}",
}
# A mark and a space, in UTF-16 units.
MARK_LENGTH = 3

# What escaping adds to a character.
_HTML_COST = {"&": 4, "<": 3, ">": 3, '"': 5, "'": 5, "\n": 4}


def neutral(text: str, style: Style) -> str:
    """The text with nothing in it that the service could take for markup, link or mention."""
    if not style.interprets:
        return text
    text = text.translate(_LOOKALIKES)
    for pattern, replacement in _BROKEN:
        text = pattern.sub(replacement, text)
    return text


def cost(text: str, style: Style) -> int:
    """How much of the service's bound the text takes once it is escaped."""
    units = _units(text, style)
    if style.markup is Markup.HTML:
        return units + sum(_HTML_COST.get(character, 0) for character in text)
    if style.markup is Markup.MARKDOWN:
        return units + sum(character in string.punctuation for character in text)
    # Slack wants ampersands as entities; nothing else is left to escape.
    return units + (4 * text.count("&") if style.interprets else 0)


def fit(heading: str, lines: Sequence[Line], severity: Severity, style: Style) -> Message:
    """The message, with the lines that matter most where not all have room."""
    lines = [(need, _marked(text, style)) for need, text in lines]
    title = _heading(heading, min(lines)[1], severity, style)
    room = _room(title, style)
    chosen: dict[int, str] = {}
    for index in sorted(range(len(lines)), key=lambda index: (lines[index][0], index)):
        need, text = lines[index]
        if len(chosen) >= style.lines_max:
            break
        spare = room - (cost(style.line_break, style) if chosen else 0)
        if cost(text, style) > spare:
            # Half a reason is better than none; an id that cannot be whole still tells something.
            if need > 1 or (chosen and spare < SHORTEST_CUT):
                continue
            text = cut(text, spare, style)
        chosen[index] = text
        room = spare - cost(text, style)
    body = style.line_break.join(chosen[index] for index in sorted(chosen))
    return Message(title, body, severity)


def fit_whole(
    heading: str, lines: Sequence[Line], severity: Severity, style: Style
) -> Message | None:
    """The message if every line that may not be given up fits uncut, else None."""
    title = _heading(heading, "", severity, style)
    kept = [_marked(text, style) for need, text in lines if need == 0]
    body = style.line_break.join(kept)
    if len(kept) > style.lines_max or cost(body, style) > _room(title, style):
        return None
    return fit(heading, lines, severity, style)


def cut(text: str, room: int, style: Style) -> str:
    """The longest beginning that takes at most `room`, an ellipsis where it was cut."""
    if cost(text, style) <= room:
        return text
    mark = _marked(ELLIPSIS, style)
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if cost(text[:middle].rstrip() + mark, style) <= room:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + mark if low else ""


def _units(text: str, style: Style) -> int:
    if style.in_bytes:
        return len(text.encode("utf-8", "surrogatepass"))
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _heading(text: str, most_needed: str, severity: Severity, style: Style) -> str:
    text = _marked(text, style)
    if style.emoji:
        text = f"{_MARKS[severity]} {text}"
    room = style.title_max
    if style.merged_title:
        left = style.body_max - cost(most_needed, style) - cost(style.line_break, style)
        room = min(room, max(style.body_max // 2, left))
    return cut(text, room, style if style.merged_title else _as_sent(style))


def _as_sent(style: Style) -> Style:
    """A title with a field of its own is sent as it is."""
    return replace(style, markup=Markup.PLAIN)


def _room(title: str, style: Style) -> int:
    if not style.merged_title:
        return style.body_max
    return style.body_max - cost(title, style) - cost(style.line_break, style)


def _marked(text: str, style: Style) -> str:
    return text.translate(_ASCII_MARKS) if style.ascii_marks else text
