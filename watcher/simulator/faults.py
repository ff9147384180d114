"""What can go wrong with an answer, and the schedule that says when it does. Deterministic.

A fault turns an honest answer into a bad one; `garbage` has those that spoil the JSON itself.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import Literal

from watcher.simulator.answer import Answer, Call, Kind, Manner, Wire
from watcher.simulator.chance import chance
from watcher.simulator.shapes import SHAPES

MEGABYTE = 1024 * 1024
_HTML = b"<!doctype html><html><head><title>Oops</title></head><body><h1>Oops</h1></body></html>"
RetryAfter = Literal["seconds", "date", "milliseconds"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to spoil an answer.

    `spoil` gets the honest answer and the call. `refuses`: the provider never carries the request
    out, so a refused creation creates nothing; `spoil` then gets an empty answer.
    """

    name: str
    spoil: Callable[[Answer, Call], Answer]
    refuses: bool = False


@dataclass(slots=True)
class Rule:
    """A fault and the calls it befalls; `hits` counts how often it did."""

    fault: Fault
    matches: Callable[[Call], bool]
    times: int | None
    share: float
    seed: str
    hits: int = 0
    seen: Counter[tuple[Kind, str | None]] = field(default_factory=Counter)

    def befalls(self, call: Call) -> bool:
        """Whether this call is spoiled; counts it if so."""
        if (self.times is not None and self.hits >= self.times) or not self.matches(call):
            return False
        # Drawn by what is asked and how often, so that calls in flight together may change
        # places without changing their fates.
        subject = (call.kind, call.id)
        self.seen[subject] += 1
        draw = chance(self.seed, call.wire, *subject, self.seen[subject])
        if self.share < 1.0 and draw.random() >= self.share:
            return False
        self.hits += 1
        return True


class Faults:
    """The schedule: rules in the order they were added; the first that befalls a call wins."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._added = 0
        self._rules: list[Rule] = []

    def add(
        self,
        fault: Fault,
        *,
        match: Callable[[Call], bool] | None = None,
        wire: Wire | str | None = None,
        kind: Kind | str | None = None,
        id: str | None = None,
        during: tuple[int, int | None] | None = None,
        times: int | None = None,
        share: float = 1.0,
    ) -> Rule:
        """From now on spoil the calls that meet every condition given.

        `during`: from one millisecond of the simulation to another (None: for ever). `times`: at
        most so often. `share`: this part of them, drawn from the seed.
        """

        def matches(call: Call) -> bool:
            return (
                (wire is None or call.wire == wire)
                and (kind is None or call.kind == kind)
                and (id is None or call.id == id)
                and (during is None or during[0] <= call.at)
                and (during is None or during[1] is None or call.at < during[1])
                and (match is None or match(call))
            )

        rule = Rule(fault, matches, times, share, f"{self._seed}/{self._added}")
        self._added += 1
        self._rules.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Let one kind of trouble end."""
        self._rules.remove(rule)

    def clear(self) -> None:
        """Let all trouble end."""
        self._rules.clear()

    def choose(self, call: Call) -> Fault | None:
        """What befalls this call."""
        return next((rule.fault for rule in self._rules if rule.befalls(call)), None)


# Answers the provider means.


def status(code: int, message: str = "simulated trouble") -> Fault:
    """An answer with one HTTP status and the error body of the provider."""

    def spoil(_honest: Answer, call: Call) -> Answer:
        return Answer(code, json.dumps(SHAPES[call.wire].error(code, message)).encode())

    return Fault(f"status {code}", spoil, refuses=True)


def rate_limited(after: float = 30.0, form: RetryAfter | None = "seconds") -> Fault:
    """429 that asks to wait `after` seconds, in one of three forms or (None) without saying."""
    plain = status(429, "too many requests")

    def spoil(honest: Answer, call: Call) -> Answer:
        answer = plain.spoil(honest, call)
        if form == "seconds":
            return answer.with_header("retry-after", f"{after:g}")
        if form == "milliseconds":
            return answer.with_header("retry-after-ms", f"{after * 1000:g}")
        if form == "date":
            moment = datetime.fromtimestamp((call.at + after * 1000) // 1000, UTC)
            return answer.with_header("retry-after", format_datetime(moment, usegmt=True))
        return answer

    return Fault(f"429 {form or 'silent'}", spoil, refuses=True)


def unauthorized() -> Fault:
    """401, whatever the key."""
    return status(401, "this key is not accepted")


def forbidden() -> Fault:
    """403, whatever the key."""
    return status(403, "not allowed")


def not_found() -> Fault:
    """404, though the batch is there."""
    return status(404, "no such batch")


def redirect(location: str = "http://elsewhere.invalid/batches") -> Fault:
    """302 to another host, which must never see the credential."""

    def spoil(_honest: Answer, _call: Call) -> Answer:
        return Answer(302, b"", (("location", location),))

    return Fault("redirect", spoil, refuses=True)


def html(code: int = 200) -> Fault:
    """A page of HTML from some box in the middle."""

    def spoil(_honest: Answer, _call: Call) -> Answer:
        return Answer(code, _HTML, (("content-type", "text/html"),))

    return Fault(f"html {code}", spoil, refuses=True)


# Answers that do not arrive as they should.


def silent() -> Fault:
    """Never answers; the connection stays open."""
    return _travels(Manner.SILENT)


def late(seconds: float = 1.0) -> Fault:
    """Answers after a while."""
    return _travels(Manner.LATE, seconds)


def drip(pause: float = 1.0) -> Fault:
    """Sends the body a byte at a time, `pause` seconds apart: no read ever times out."""
    return _travels(Manner.DRIP, pause)


def reset() -> Fault:
    """Resets the connection instead of answering."""
    return _travels(Manner.RESET)


def truncated() -> Fault:
    """Ends the connection in the middle of the body."""
    return _travels(Manner.TRUNCATED)


def empty() -> Fault:
    """200 and no body at all."""
    return Fault("empty", lambda honest, _call: replace(honest, body=b""))


def wrong_content_type(content_type: str = "text/html; charset=utf-16") -> Fault:
    """The right body under a false label."""
    return Fault(
        "wrong content type", lambda honest, _call: honest.with_header("content-type", content_type)
    )


def large(size: int = 50 * MEGABYTE) -> Fault:
    """The right body behind `size` bytes of white space; whoever reads all of it can read it."""
    return Fault("large", lambda honest, _call: replace(honest, padding=size))


def gzip_bomb(size: int = 64 * MEGABYTE) -> Fault:
    """The right body behind white space that unfolds a hundredfold and more."""

    def spoil(honest: Answer, _call: Call) -> Answer:
        start, packer = _packed_spaces(size)
        packer = packer.copy()
        body = start + packer.compress(honest.body) + packer.flush()
        return replace(honest, body=body).with_header("content-encoding", "gzip")

    return Fault("gzip bomb", spoil)


def large_header(size: int = 1_000_000) -> Fault:
    """A header no client should take."""
    return Fault("large header", lambda honest, _call: honest.with_header("x-padding", "a" * size))


def _travels(manner: Manner, pause: float = 1.0) -> Fault:
    return Fault(manner, lambda honest, _call: replace(honest, manner=manner, pause=pause))


@lru_cache(maxsize=4)
def _packed_spaces(size: int) -> tuple[bytes, zlib._Compress]:
    """The beginning of a gzip stream, and the packer that can go on with it."""
    packer = zlib.compressobj(level=1, wbits=31)
    spaces = b" " * MEGABYTE
    return b"".join(packer.compress(spaces) for _ in range(size // MEGABYTE)), packer
