"""What the measurements share: pictures and tables, a fleet watched for a moment, the peer's loop.

Nothing timed is asserted, only that what is counted is counted right.
"""

from __future__ import annotations

import os
import shlex
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import fleet
import peers
import pytest
from peer import looping
from picture import Axis, Series, Target, bars, lines, points, save, short
from rehearsal import environment, simulator, until
from sheet import Row, Sheet

SVG = "{http://www.w3.org/2000/svg}"
CURVE = Series("curve", [(1_000, 2.5), (10_000, 20.0)], ["two and a half", "a < b & c"])
FLAT = Series("flat", [(1_000, 10.0), (10_000, 10.0)])
OPEN, SECONDS = Axis("open", logarithmic=True), Axis("seconds")
# In place of the official SDK: the same call, over the same protocol, under the same name.
SDK = """
import os, types, httpx

class AsyncOpenAI:
    def __init__(self):
        self.batches = self
        self._client = httpx.AsyncClient(headers={
            "authorization": "Bearer " + os.environ["OPENAI_API_KEY"],
            "user-agent": "AsyncOpenAI/Python 0",
        })

    async def retrieve(self, id):
        answer = await self._client.get(os.environ["OPENAI_BASE_URL"] + "/batches/" + id)
        return types.SimpleNamespace(**answer.json())
"""


def parts(svg: str, tag: str | None = None) -> list[ET.Element]:
    # A picture of our own making.
    return list(ET.fromstring(svg).iter(tag))  # noqa: S314


def texts(svg: str) -> list[str]:
    return ["".join(text.itertext()) for text in parts(svg, f"{SVG}text")]


def heights(svg: str, kind: str) -> list[float]:
    found = [one for one in parts(svg) if one.get("class", "").startswith(kind)]
    return [float(one.get("cy") or one.get("height") or 0) for one in found]


# Pictures


def test_a_picture_is_the_same_bytes_each_time_and_asks_nothing_of_anybody() -> None:
    once, again = (
        lines("Growth", [CURVE, FLAT], OPEN, SECONDS, [Target("five", 5)]) for _ in range(2)
    )

    assert once == again
    assert not [word for word in ("<script", "@import", "url(", "href") if word in once]
    assert once.count("http") == 1
    assert "prefers-color-scheme: dark" in once


def test_a_picture_names_its_axes_its_series_its_points_and_its_targets() -> None:
    said = texts(points("Growth", [CURVE, FLAT], OPEN, SECONDS, [Target("five", 5)]))

    assert {"Growth", "open", "seconds", "curve", "flat", "target: five"} <= set(said)
    assert {"two and a half", "a < b & c", "1,000", "10,000"} <= set(said)


def test_a_logarithmic_axis_gives_each_decade_the_same_room() -> None:
    steps = Series("steps", [(1, 1.0), (2, 10.0), (3, 100.0)])
    svg = points("Decades", [steps], Axis("n"), Axis("s", logarithmic=True))
    one, ten, hundred = heights(svg, "fill0")

    assert one - ten == pytest.approx(ten - hundred, abs=0.2)
    assert one - ten > 50


def test_nothing_at_or_below_zero_has_a_place_on_a_logarithmic_axis() -> None:
    with pytest.raises(ValueError, match="seconds"):
        bars("None", ["a"], [("ours", [0.0])], Axis("seconds", logarithmic=True))


def test_a_bar_is_as_high_as_its_value_and_what_is_not_known_has_none() -> None:
    svg = bars("Cost", ["one", "two"], [("ours", [1.0, None]), ("theirs", [2.0, 4.0])], SECONDS)
    ours, theirs = heights(svg, "fill0"), heights(svg, "fill1")

    # The first of each is its patch in the legend.
    assert len(ours) == 2
    assert theirs[2] == pytest.approx(2 * theirs[1], abs=0.2)
    assert theirs[1] == pytest.approx(2 * ours[1], abs=0.2)


def test_labels_of_points_that_coincide_do_not_lie_on_each_other() -> None:
    same = [Series(name, [(1, 1)], [f"label {name}"]) for name in "abcd"]
    svg = points("Crowd", [*same, Series("far", [(2, 2)])], Axis("x"), Axis("y"))
    places = [
        (one.get("x"), one.get("y"))
        for one in parts(svg, f"{SVG}text")
        if (one.text or "").startswith("label")
    ]

    assert len(set(places)) == 4


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.0123"), (4.5, "4.5"), (78.94, "78.9"), (12_345.6, "12,346")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert short(value) == text


# Tables


def test_a_table_says_what_was_to_be_reached_beside_what_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        Row("memory", "MiB", [60.0, 240.0], 250),
        Row("lateness", "s", [1.0, 3.0], 2),
        Row("delay", "s", [None, None], 1),
        Row("requests", "a minute", [0.0, 7.0]),
    ]
    Sheet("a fleet", ["1,000", "100,000"], rows, ["a note"]).show(as_json=False, growing=True)
    said = capsys.readouterr().out.splitlines()

    assert said[1].split() == ["1,000", "100,000", "growth", "target", "at", "100,000"]
    assert said[2].endswith("x 4  at most 250: reached")
    assert said[3].endswith("x 3  at most 2: missed")
    assert said[4].split()[2:] == ["not", "given", "not", "given", *"at most 1: not known".split()]
    assert said[5].split() == ["requests,", "a", "minute", "0", "7"]
    assert said[6] == "a note"


# The fleet and the peers


def test_a_small_fleet_is_watched_and_its_ends_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "ENDS_A_MINUTE", 600)
    found = fleet.measure(300, fleet.Plan(settle=0.2, stretch=0.8, idle=0.0))
    whole = fleet.sheet([found])
    fleet.pictures([found], tmp_path)

    # One in each tenth of a second, somewhere in it.
    assert found.ended == pytest.approx(10 * found.seconds, abs=2)
    assert len(found.delays) <= found.ended
    assert 0 < found.sweep.requests <= 300
    assert found.idle_share is None
    assert {row.what: row.values for row in whole.rows}["batches that ended"] == [found.ended]
    assert "fleet-memory.svg" in {path.name for path in tmp_path.iterdir()}


def python_with(folder: Path, module: str, text: str) -> str:
    """An interpreter that finds this module too."""
    folder.joinpath(f"{module}.py").write_text(text)
    path = folder / "python"
    found = os.pathsep.join([str(folder), *filter(None, sys.path)])
    path.write_text(
        f'#!/bin/sh\nPYTHONPATH={shlex.quote(found)} exec {shlex.quote(sys.executable)} "$@"\n'
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_the_peers_loop_asks_for_each_open_batch_in_each_round_and_says_which_has_ended(
    tmp_path: Path,
) -> None:
    python = python_with(tmp_path, "openai", SDK)
    # By this seed the first of them ends a fifth of a second after the simulator's start, the
    # others seconds later, one by one.
    options = ("--fleet", "6", "--ages", "1h", "--ends", "20", "--seed", "7")
    with simulator(environment(tmp_path / "home"), 1.0, *options) as provider:
        ends = provider.ends()
        with looping(python, provider.env, 0.1, provider.ids()) as peer:
            until(lambda: len(peer.seen) >= 1, "the first end", 20)
            until(lambda: provider.asked("AsyncOpenAI").total >= 16, "three rounds", 20)
            seen, asked = dict(peer.seen), provider.asked("AsyncOpenAI")

    assert all(at * 1_000 > (ends[id] or 0) for id, at in seen.items())
    assert asked.kinds.keys() == {"retrieve"}


def test_without_an_index_the_peers_are_left_out_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho no index >&2\nexit 1\n")
    python.chmod(0o700)
    monkeypatch.setattr(sys, "argv", ["peers.py", "--environment", str(tmp_path)])

    assert peers.main() == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def effort(requests: float, delays: Sequence[int]) -> peers.Effort:
    return peers.Effort(requests, delays, processor=1.5, peak_mebibytes=60.0)


def test_ours_stands_beside_the_peers_in_table_and_picture(tmp_path: Path) -> None:
    both = peers.Found(100, 60.0, effort(20, [1_000, 2_000, 6_000]), effort(0, []))
    whole = peers.sheet([both], "1.2.3")
    peers.pictures(whole, [100], tmp_path)
    rows = {f"{row.what}, {row.unit}": list(row.values) for row in whole.rows}

    assert whole.cases == ["watcher, 100", "loop, 100"]
    assert rows["delay, mean, s"] == [3.0, None]
    assert rows["delay, median, s"] == [2.0, None]
    assert rows["processor, % of a core"] == [2.5, 2.5]
    assert "100 open" in texts((tmp_path / "peers-delay.svg").read_text())


def test_a_picture_is_saved_where_it_is_asked_for(tmp_path: Path) -> None:
    path = save(tmp_path / "new" / "folder", "memory", "<svg/>")

    assert path == tmp_path / "new" / "folder" / "memory.svg"
    assert path.read_text() == "<svg/>"
