"""How soon the cadence sees a batch end, for how many looks, beside what else one might do.

Replays a file of real lives (data/timelines.csv, or any of that form) through the real cadence
under a fake clock, on those that ran to their own end: each alone; then each of the sharper rules
with and without it; then fleets of them, created over an hour, with the account's list and without
it. Looks are counted from the one after registration, which all policies make; of fleets all
requests are counted.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import picture
from fleets import PAGES, Watched, fleet, watch
from replay import Score, Wait, by_wait, ours
from sharper import MADE_UP, Comparison, compare
from timelines import DATA, SECOND, Timeline, read

from watcher.cadence import Pace

EAGERNESS = (2.0, 1.0, 0.5)
# So many replays of ours and of √age, each with other jitter, tell the two apart: one alone is
# off by a third of what is to be shown.
DRAWS = 3
SIZES = (10, 100, 1_000, 10_000)
# Of one by one's requests, the most that pages may take in a fleet of these sizes.
SHARES = {100: 1 / 8, 1_000: 1 / 20}
AIMED_SIZES = (1_000, 10_000)
SHORTEST, LONGEST = 5.0 * SECOND, 300.0 * SECOND


@dataclass(frozen=True, slots=True)
class Target:
    """What was to be reached, and what was."""

    what: str
    at_most: float
    reached: float

    @property
    def verdict(self) -> str:
        """In one word."""
        return "reached" if self.reached <= self.at_most else "missed"


@dataclass(frozen=True, slots=True)
class Beside:
    """Ours and plain √age at as many looks, both over several draws of jitter."""

    eagerness: float
    ours: Score
    scale: float
    root: Score

    @property
    def less(self) -> float:
        """How much less our mean delay is, in percent."""
        return 100 * (1 - self.ours.mean / self.root.mean) if self.root.mean else 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """Everything one run has found."""

    file: str
    batches: int
    policies: dict[str, Score]
    beside: Sequence[Beside]
    rules: Sequence[Comparison]
    # By size, first those watched one by one, then by page.
    fleets: dict[int, list[Watched]]

    @property
    def targets(self) -> list[Target]:
        """The aims that hold for any file, and those that are about our own."""
        least = min((one.less for one in self.beside), default=0.0)
        aims = [Target("of √age's delay at equal looks, %", 92, 100 - least)]
        if self.file != DATA.name:
            return aims
        even, half = self.policies[_name(1.0)], self.policies[_name(0.5)]
        aims += [
            Target("looks a batch at eagerness 1", 66, even.looks),
            Target("mean delay at eagerness 1, s", 16, even.mean),
            Target("looks a batch at eagerness 0.5", 37, half.looks),
            Target("mean delay at eagerness 0.5, s", 30.5, half.mean),
        ]
        ended = next((one.having for one in self.rules if one.rule == "cancelling"), None)
        if ended is not None:
            aims.append(Target("looks from cancelling on", 6, ended.looks))
            aims.append(Target("mean delay from cancelling on, s", 5, ended.mean))
        for size in AIMED_SIZES:
            watched = self.fleets.get(size, [])
            for alone, one in ((watched[0], paged) for paged in watched[1:]):
                what = f"{size:,} with pages of {one.page}"
                share = one.requests / alone.requests
                aims.append(Target(f"{what}: share of requests", SHARES[one.page or 0], share))
                aims.append(Target(f"{what}: mean delay, s", alone.mean, one.mean))
        return aims


def _name(eagerness: float) -> str:
    return f"ours, eagerness {eagerness:g}"


def root(scale: float, age: float) -> float:
    """Plain √age: `scale` · √age seconds within the two intervals; milliseconds."""
    return max(SHORTEST, min(LONGEST, scale * math.sqrt(age * SECOND)))


def _tenth(age: float) -> float:
    return max(10.0 * SECOND, min(LONGEST, age / 10))


def _doubling(age: float) -> float:
    """30 s doubling up to 900 s; looks are then at 30, 90, 210, 450 s and so on."""
    doubled = math.floor(math.log2(age / 30 / SECOND + 1) + 1e-9)
    return min(900.0, math.ldexp(30.0, doubled)) * SECOND


def _steadily(every: float, _: float) -> float:
    return every * SECOND


BASELINES: dict[str, Wait] = {
    **{f"every {every} s": partial(_steadily, every) for every in (10, 30, 60, 300)},
    "doubling, 30 to 900 s": _doubling,
    "10 % of age, 10 to 300 s": _tenth,
    "√age, 5 to 300 s": partial(root, 1.0),
}


def beside(lives: Sequence[Timeline], eagerness: float, draws: int) -> Beside:
    """Ours at an eagerness, and √age scaled until it looks as often."""
    mine = Score.mean_of([ours(lives, Pace(eagerness=eagerness), draw) for draw in range(draws)])

    def roots(scale: float) -> Score:
        wait = partial(root, scale)
        return Score.mean_of([by_wait(lives, wait, draw) for draw in range(draws)])

    often, seldom = 0.05, 50.0
    for _ in range(12):
        middle = math.sqrt(often * seldom)
        often, seldom = (middle, seldom) if roots(middle).looks > mine.looks else (often, middle)
    return Beside(eagerness, mine, seldom, roots(seldom))


def measure(
    path: Path,
    draws: int = DRAWS,
    sizes: Sequence[int] = SIZES,
    made_up: int = MADE_UP,
    processes: int = 2,
) -> Found:
    """Replay everything. ValueError if no batch of the file ran to its own end."""
    lives = read(path)
    own = [one for one in lives if one.ran_to_its_own_end]
    if not own:
        raise ValueError(f"{path}: no batch in it ran to its own end")
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        # The longest first.
        watched = {
            size: [pool.submit(company, own, size, page) for page in (None, *PAGES)]
            for size in sorted(sizes, reverse=True)
        }
        rules = pool.submit(compare, lives, made_up)
        told = [pool.submit(beside, own, eagerness, draws) for eagerness in EAGERNESS]
        single = {
            _name(eagerness): pool.submit(ours, own, Pace(eagerness=eagerness))
            for eagerness in EAGERNESS
        }
        others = {name: pool.submit(by_wait, own, wait) for name, wait in BASELINES.items()}
        policies = {name: score.result() for name, score in (single | others).items()}
        fleets = {size: [one.result() for one in watched[size]] for size in sorted(sizes)}
        pairs = [one.result() for one in told]
        return Found(path.name, len(own), policies, pairs, rules.result(), fleets)


def company(lives: Sequence[Timeline], size: int, page: int | None) -> Watched:
    """A fleet of so many, through pages of that size or one by one."""
    return watch(fleet(lives, size), Pace(), page)


def text(found: Found) -> str:
    """All of it as tables."""
    lines = [f"{found.file}: {found.batches:,} batches that ran to their own end, each alone", ""]
    lines += [f"  {'':28}{'looks':>8}{'mean s':>9}{'median s':>10}{'p95 s':>9}"]
    for name, one in found.policies.items():
        lines += [_row(name, one)]
    lines += ["", "At as many looks, over several draws of jitter:", ""]
    for pair in found.beside:
        lines += [_row(_name(pair.eagerness), pair.ours)]
        lines += [_row(f"{pair.scale:.3f} √age", pair.root) + f"   ours {pair.less:.1f} % less"]
    lines += ["", "Each sharper rule with it and without it:", ""]
    for rule in found.rules:
        lines += [f"  {rule.rule} ({rule.count:,} {rule.lives})"]
        if rule.having is not None and rule.lacking is not None and rule.saved is not None:
            looks = f"looks {rule.having.looks:.2f} beside {rule.lacking.looks:.2f}"
            delay = f"mean delay {rule.having.mean:.2f} s beside {rule.lacking.mean:.2f} s"
            less = f"{abs(rule.saved):.1f} % {'less' if rule.saved >= 0 else 'more'}"
            lines += [f"    {looks}, {delay}, looks x delay {less}"]
    lines += ["", "Fleets created over an hour, in requests:", ""]
    lines += [f"  {'':28}{'requests':>10}{'bound':>10}{'one in':>8}{'mean s':>9}{'p95 s':>9}"]
    for size, watched in found.fleets.items():
        lines += [_fleet_row(size, one, watched[0]) for one in watched]
    lines += [
        "",
        "  bound: if each look of one by one were shared by all that are open on its best page",
        "  one in: how many requests of one by one each request stands for",
    ]
    lines += ["", "Targets:"]
    for aim in found.targets:
        lines += [f"  {aim.what:<45} at most {aim.at_most:.4g}: {aim.reached:.4g}, {aim.verdict}"]
    return "\n".join(lines)


def _row(name: str, one: Score) -> str:
    return f"  {name:28}{one.looks:8.1f}{one.mean:9.1f}{one.median:10.1f}{one.late:9.1f}"


def _fleet_row(size: int, one: Watched, alone: Watched) -> str:
    name = f"{size:,}, " + ("one by one" if one.page is None else f"pages of {one.page:,}")
    bound = alone.requests if one.page is None else alone.shared[one.page]
    share = alone.requests / one.requests
    figures = f"{one.requests:10,}{bound:10,.0f}{share:8.1f}{one.mean:9.1f}{one.late:9.1f}"
    return f"  {name:28}{figures}"


def document(found: Found) -> dict[str, Any]:
    """All of it for JSON."""
    return {
        "file": found.file,
        "batches": found.batches,
        "policies": {name: asdict(one) for name, one in found.policies.items()},
        "at_equal_looks": [{**asdict(one), "percent_less": one.less} for one in found.beside],
        "rules": [{**asdict(one), "percent_saved": one.saved} for one in found.rules],
        "fleets": [asdict(one) for watched in found.fleets.values() for one in watched],
        "targets": [{**asdict(one), "verdict": one.verdict} for one in found.targets],
    }


def drawing(found: Found) -> str:
    """Delay against looks, a point a policy."""

    def series(name: str, chosen: Callable[[str], bool]) -> picture.Series:
        scores = found.policies.items()
        # What is seen at once, or without a look, has no place on these axes.
        rows = [(label, one) for label, one in scores if chosen(label) and one.looks * one.mean > 0]
        labels = [label.removeprefix("ours, ").split(", ")[0] for label, _ in rows]
        return picture.Series(name, [(one.looks, one.mean) for _, one in rows], labels)

    return picture.points(
        "How late the end of a batch is seen",
        [
            series("ours", lambda label: label.startswith("ours")),
            series("others", lambda label: not label.startswith("ours")),
        ],
        picture.Axis("looks a batch", logarithmic=True),
        picture.Axis("mean delay, s", logarithmic=True),
    )


def fleets_drawing(found: Found) -> str:
    """Requests a batch by size of fleet."""
    names = ["one by one", *(f"pages of {page:,}" for page in PAGES)]
    series = [
        picture.Series(
            name, [(size, row[place].requests / size) for size, row in found.fleets.items()]
        )
        for place, name in enumerate(names)
    ]
    series += [
        picture.Series(
            f"bound, {page:,}",
            [(size, row[0].shared[page] / size) for size, row in found.fleets.items()],
        )
        for page in PAGES
    ]
    return picture.lines(
        "Requests a batch until the last of a fleet has ended",
        series,
        picture.Axis("batches created over an hour", logarithmic=True),
        picture.Axis("requests a batch", logarithmic=True),
    )


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=DATA)
    parser.add_argument("--draws", type=int, default=DRAWS, help="replays to average over")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="fleets, in batches")
    parser.add_argument("--json", action="store_true", help="one document instead of tables")
    parser.add_argument("--out", type=Path, help="a folder for cadence.json and its pictures")
    asked = parser.parse_args()
    found = measure(asked.file, asked.draws, asked.sizes)
    told = json.dumps(document(found), indent=2)
    print(told if asked.json else text(found))
    if asked.out is not None:
        picture.save(asked.out, "cadence", drawing(found))
        if found.fleets:
            picture.save(asked.out, "cadence-fleets", fleets_drawing(found))
        (asked.out / "cadence.json").write_text(told + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
