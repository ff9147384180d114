"""Pictures of measurements as SVG: points, lines and grouped bars, on linear or logarithmic axes.

Plain text: no script, no font and no address from elsewhere, the same bytes for the same figures.
The card brings its own background, so that it reads on a light page and on a dark one; it follows
the reader's colour scheme. pygal writes a script into every picture, leather has no logarithmic
axis, and neither knows a dark page: hence our own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, BOTTOM = 84, 736, 376
# Of a letter of 12 px in most faces; enough to keep texts from lying on each other.
LETTER = 6.6
# Six hues that people who see few colours still tell apart, for a light card and a dark one.
LIGHT = ("#0072b2", "#d55e00", "#00875f", "#a8478a", "#8a6d00", "#56595c")
DARK = ("#56b4e9", "#ff8c42", "#2fd6a3", "#e08fc4", "#e6c945", "#b4b8bc")
STYLE = """\
text { font: 12px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: INK }
.title { font-size: 16px; font-weight: 600 }
.quiet { fill: QUIET }
.halo { stroke: CARD; stroke-width: 4px }
.card { fill: CARD; stroke: GRID }
.grid { stroke: GRID; fill: none }
.axis { stroke: QUIET; fill: none }
.target { stroke: QUIET; stroke-dasharray: 6 4; fill: none }
.line { fill: none; stroke-width: 2 }
"""


@dataclass(frozen=True, slots=True)
class Axis:
    """What is measured along it, with its unit; a logarithmic one takes only what is above 0."""

    title: str
    logarithmic: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """Points (across, up) of one colour, in order; `labels`, if any, has one text a point."""

    name: str
    points: Sequence[tuple[float, float]]
    labels: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """A height that was to be reached, drawn across the picture."""

    name: str
    value: float


def points(
    title: str, series: Sequence[Series], across: Axis, up: Axis, targets: Sequence[Target] = ()
) -> str:
    """Points with their labels."""
    return _chart(title, series, (across, up), targets, joined=False)


def lines(
    title: str, series: Sequence[Series], across: Axis, up: Axis, targets: Sequence[Target] = ()
) -> str:
    """Points with their labels, those of one series joined in their order."""
    return _chart(title, series, (across, up), targets, joined=True)


def bars(
    title: str,
    groups: Sequence[str],
    series: Sequence[tuple[str, Sequence[float | None]]],
    up: Axis,
    targets: Sequence[Target] = (),
) -> str:
    """For each group one bar a series, side by side, its value above it; None: no bar."""
    values = [value for _, heights in series for value in heights if value is not None]
    scale = _Scale.over([*values, *(one.value for one in targets)], up, bars=True)
    names = [name for name, _ in series]
    top, drawn = _frame(title, names, up)
    height = scale.between(BOTTOM, top)
    drawn += _rungs(scale, height)
    room = (RIGHT - LEFT) / max(1, len(groups))
    thick = min(56.0, 0.8 * room / max(1, len(series)))
    for place, group in enumerate(groups):
        middle = LEFT + room * (place + 0.5)
        drawn.append(_text(middle, BOTTOM + 20, group, anchor="middle"))
        for number, (_, heights) in enumerate(series):
            value = heights[place]
            if value is None:
                continue
            left = middle + thick * (number - len(series) / 2)
            reached = min(BOTTOM, height(value))
            drawn.append(
                f'<rect class="fill{number % len(LIGHT)}" x="{left + 1:.1f}" y="{reached:.1f}"'
                f' width="{thick - 2:.1f}" height="{BOTTOM - reached:.1f}"/>'
            )
            drawn.append(_text(left + thick / 2, reached - 5, short(value), anchor="middle"))
    return _svg(title, [*drawn, *_aims(targets, height)])


def save(folder: Path, name: str, svg: str) -> Path:
    """Write `name`.svg into the folder, which is made if need be; where it is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.svg"
    path.write_text(svg, encoding="utf-8")
    return path


def short(value: float) -> str:
    """A number in three digits or whole, with separators: 0.0123, 4.56, 78.9, 12,345."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 2 - math.floor(math.log10(abs(value)))
    plain = f"{value:.{digits}f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


@dataclass(frozen=True, slots=True)
class _Scale:
    """The stretch of numbers an axis shows, and which of them it names."""

    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool

    @classmethod
    def over(cls, values: Sequence[float], axis: Axis, *, bars: bool = False) -> _Scale:
        """A scale that holds them all; a linear one begins at 0 unless something lies below."""
        if axis.logarithmic:
            if min(values, default=1.0) <= 0:
                raise ValueError(f"{axis.title}: {min(values)} has no place on a logarithmic axis")
            return cls._decades(values, bars=bars)
        low, high = min(0.0, *values, 0.0), max(0.0, *values, 0.0)
        step = _round_step((high - low or 1.0) / 5)
        first, last = math.floor(low / step), math.ceil(high / step * 1.02) or 1
        ticks = tuple(number * step for number in range(first, last + 1))
        return cls(ticks[0], ticks[-1], ticks, logarithmic=False)

    @classmethod
    def _decades(cls, values: Sequence[float], *, bars: bool) -> _Scale:
        low, high = min(values, default=1.0), max(values, default=10.0)
        # A bar needs a foot below its smallest value.
        low, high = low / (2.0 if bars else 1.3), high * 1.3
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = (1, 2, 5) if math.log10(high / low) <= 2.5 else (1,)
        ticks = tuple(step * 10.0**decade for decade in decades for step in steps)
        return cls(low, high, tuple(t for t in ticks if low <= t <= high), logarithmic=True)

    def between(self, start: float, end: float) -> Callable[[float], float]:
        """Where on the card, from `start` to `end`, a number lies."""

        def measure(value: float) -> float:
            return math.log10(value) if self.logarithmic else value

        low, high = measure(self.low), measure(self.high)
        return lambda value: start + (end - start) * (measure(value) - low) / (high - low)


def _chart(
    title: str,
    series: Sequence[Series],
    axes: tuple[Axis, Axis],
    targets: Sequence[Target],
    *,
    joined: bool,
) -> str:
    across, up = axes
    both = [point for one in series for point in one.points]
    horizontal = _Scale.over([x for x, _ in both], across)
    vertical = _Scale.over([*(y for _, y in both), *(one.value for one in targets)], up)
    top, drawn = _frame(title, [one.name for one in series], up)
    place, height = horizontal.between(LEFT, RIGHT), vertical.between(BOTTOM, top)
    drawn += _rungs(vertical, height)
    for tick in horizontal.ticks:
        drawn.append(f'<path class="axis" d="M{place(tick):.1f} {BOTTOM}v5"/>')
        drawn.append(_text(place(tick), BOTTOM + 20, short(tick), "quiet", anchor="middle"))
    drawn.append(_text((LEFT + RIGHT) / 2, BOTTOM + 44, across.title, anchor="middle"))
    drawn += _aims(targets, height)
    spots = [[(place(x), height(y)) for x, y in one.points] for one in series]
    for number, where in enumerate(spots):
        colour = number % len(LIGHT)
        if joined and where:
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in where)
            drawn.append(f'<path class="line stroke{colour}" d="M{path}"/>')
        # A line of many points is clearer without a dot on each.
        if not joined or len(where) <= 40:
            drawn += [
                f'<circle class="fill{colour}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in where
            ]
    wanted = [
        (spot, text)
        for one, where in zip(series, spots, strict=True)
        for spot, text in zip(where, one.labels, strict=False)
    ]
    dots = [spot for where in spots for spot in where]
    return _svg(title, [*drawn, *_labels(wanted, dots, joined=joined)])


def _frame(title: str, names: Sequence[str], up: Axis) -> tuple[float, list[str]]:
    """The upper edge of what is drawn, and all above it: title, legend, what the height means."""
    drawn = [_text(24, 32, title, "title")]
    x, y = 24.0, 58.0
    for number, name in enumerate(names if len(names) > 1 else ()):
        width = 22 + LETTER * len(name) + 18
        if x + width > WIDTH - 12:
            x, y = 24.0, y + 20
        drawn.append(
            f'<rect class="fill{number % len(LIGHT)}" x="{x:.1f}" y="{y - 10:.1f}"'
            ' width="12" height="12" rx="2"/>'
        )
        drawn.append(_text(x + 18, y, name))
        x += width
    top = y + 46 if len(names) > 1 else y + 26
    drawn.append(_text(24, top - 18, up.title, "quiet"))
    return top, drawn


def _rungs(scale: _Scale, height: Callable[[float], float]) -> list[str]:
    drawn = []
    for tick in scale.ticks:
        y = height(tick)
        drawn.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        drawn.append(_text(LEFT - 8, y + 4, short(tick), "quiet", anchor="end"))
    return [*drawn, f'<path class="axis" d="M{LEFT} {BOTTOM}H{RIGHT}"/>']


def _aims(targets: Iterable[Target], height: Callable[[float], float]) -> list[str]:
    drawn = []
    for one in targets:
        y = height(one.value)
        drawn.append(f'<path class="target" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        # Its own outline in the card's colour keeps it legible in front of a bar.
        drawn += [_text(LEFT + 6, y - 5, f"target: {one.name}", kind) for kind in ("halo", "quiet")]
    return drawn


def _labels(
    wanted: Sequence[tuple[tuple[float, float], str]],
    dots: Sequence[tuple[float, float]],
    *,
    joined: bool,
) -> list[str]:
    """Each text where it meets no dot and no other text: beside its point, or off its line."""
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in dots]
    drawn = []
    for (x, y), text in wanted:
        wide = LETTER * len(text)
        lefts = (
            (x + 8, y + 4),
            (x - wide / 2, y - 9),
            (x - wide - 8, y + 4),
            (x - wide / 2, y + 19),
        )
        if joined:
            lefts = (lefts[1], lefts[3], lefts[0], lefts[2])
        boxes = [(left, base - 10, left + wide, base + 3) for left, base in lefts]
        free = [box for box in boxes if _inside(box) and not any(_meet(box, o) for o in taken)]
        box = free[0] if free else boxes[0]
        taken.append(box)
        drawn.append(_text(box[0], box[3] - 3, text))
    return drawn


def _inside(box: tuple[float, float, float, float]) -> bool:
    return box[0] > LEFT and box[2] < WIDTH - 4 and box[3] < BOTTOM


def _meet(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    across = one[0] < other[2] and other[0] < one[2]
    return across and one[1] < other[3] and other[1] < one[3]


def _round_step(rough: float) -> float:
    """The next of 1, 2, 5, 10 … that is not below."""
    decade = 10.0 ** math.floor(math.log10(rough))
    return next(step * decade for step in (1, 2, 5, 10) if step * decade >= rough * 0.999)


def _text(x: float, y: float, text: str, kind: str = "", *, anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    turned = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}"{named}{turned}>{escape(text)}</text>'


def _svg(title: str, drawn: Iterable[str]) -> str:
    def style(card: str, ink: str, quiet: str, grid: str, colours: Sequence[str]) -> str:
        words = {"CARD": card, "INK": ink, "QUIET": quiet, "GRID": grid}
        text = STYLE
        for word, colour in words.items():
            text = text.replace(word, colour)
        rows = [
            f".fill{number} {{ fill: {colour} }} .stroke{number} {{ stroke: {colour} }}"
            for number, colour in enumerate(colours)
        ]
        return text + "\n".join(rows)

    body = "\n".join(drawn)
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">
<title>{escape(title)}</title>
<style>
{style("#ffffff", "#1f2328", "#59636e", "#d8dee4", LIGHT)}
@media (prefers-color-scheme: dark) {{
{style("#151b23", "#f0f6fc", "#9198a1", "#3d444d", DARK)}
}}
</style>
<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8"/>
{body}
</svg>
"""
