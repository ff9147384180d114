"""A channel that remembers what it was sent and by which process, and misbehaves on purpose.

Loopback only. A path is `/CHANNEL/LIFE`: the process that sends names itself by its address.
"""

from __future__ import annotations

import io
import json
import re
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# No send is held for longer: the process that waits for it gives up after 20 s.
LONGEST_HOLD = 25.0
# `PARTIAL batch_1: 98 of 100, 2 failed · openai/batch_1@3`, a line of a digest.
_LINE = re.compile(r"(?P<word>\S+) .* · (?P<event>\S+/\S+@\d+)")
_ALONE = re.compile(r"\S+@\d+")
_TALLY = re.compile(r"([\d,]+) (?:batch|batches|event|events): ")


class Answer(StrEnum):
    """What a message was answered; `none`: nothing, or not to anybody who still listened."""

    TAKEN = "taken"
    REFUSED = "refused"
    NONE = "none"


class Manners(StrEnum):
    """What a channel does with a message; `hold`: nothing, until its sender has died."""

    TAKE = "take"
    LATE = "late"
    REFUSE = "refuse"
    RESET = "reset"
    HOLD = "hold"


class Moment(StrEnum):
    """When something may be made to happen to the sender."""

    ARRIVED = "arrived"
    ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class Named:
    """An event as a message named it, with the word that the message opens with."""

    event: str
    word: str


@dataclass(slots=True)
class Receipt:
    """One message as it came; `summarised`: how many events it tells of without naming them."""

    channel: str
    life: int
    named: tuple[Named, ...]
    summarised: int = 0
    answer: Answer = Answer.NONE


def read_message(title: str, body: str) -> tuple[tuple[Named, ...], int]:
    """The events that a message names, and how many it only counts. ValueError if neither."""
    lines = body.splitlines()
    found = [match for line in lines if (match := _LINE.fullmatch(line))]
    if found:
        return tuple(Named(match["event"], match["word"]) for match in found), 0
    if lines and _ALONE.fullmatch(lines[-1]):
        return (Named(lines[-1], title.partition(" ")[0]),), 0
    tally = _TALLY.match(title)
    if tally is None:
        message = f"a message that names no event: {title!r}: {body!r}"
        raise ValueError(message)
    return (), int(tally[1].replace(",", ""))


@dataclass
class Recorder:
    """What came, in the order it came. `manners` is asked once for each message."""

    manners: Callable[[str], Manners] = lambda _channel: Manners.TAKE
    # Told of each moment of each message, with the life of its sender.
    notice: Callable[[Moment, int], None] = lambda _moment, _life: None
    receipts: list[Receipt] = field(default_factory=list)
    # What came and could not be read.
    unreadable: list[str] = field(default_factory=list)
    port: int = 0
    _over: int = 0
    _busy: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def url(self, channel: str, life: int) -> str:
        """Where a process sends to: an Apprise URL."""
        return f"json://127.0.0.1:{self.port}/{channel}/{life}"

    def end_life(self, life: int) -> None:
        """Let go of what a dead process has sent; returns when all of it is written down."""
        with self._changed:
            self._over = max(self._over, life)
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._busy, LONGEST_HOLD)

    def of_channel(self, channel: str) -> list[Receipt]:
        """What one channel was sent, life by life."""
        receipts = [one for one in list(self.receipts) if one.channel == channel]
        # What a process had sent may be read only after its successor has begun.
        return sorted(receipts, key=lambda one: one.life)

    def take(self, handler: BaseHTTPRequestHandler, raw: bytes) -> None:
        """Write a message down, and answer it in the channel's manner."""
        with self._changed:
            self._busy += 1
        try:
            self._take(handler, raw)
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def _take(self, handler: BaseHTTPRequestHandler, raw: bytes) -> None:
        _, channel, life = handler.path.split("/")
        try:
            said: dict[str, Any] = json.loads(raw)
            named, summarised = read_message(said["title"], said["message"])
        except (ValueError, KeyError) as error:
            self.unreadable.append(f"{channel}: {error}")
            named, summarised = (), 0
        receipt = Receipt(channel, int(life), named, summarised)
        self.receipts.append(receipt)
        manners = self.manners(channel)
        self.notice(Moment.ARRIVED, receipt.life)
        self._answer(handler, receipt, manners)
        self.notice(Moment.ANSWERED, receipt.life)

    def _answer(self, handler: BaseHTTPRequestHandler, receipt: Receipt, manners: Manners) -> None:
        if manners is Manners.HOLD:
            with self._changed:
                # Held no longer than its sender lives, and not counted among the busy meanwhile.
                self._busy -= 1
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._over >= receipt.life, LONGEST_HOLD)
                self._busy += 1
        if manners in {Manners.HOLD, Manners.RESET}:
            _reset(handler)
            return
        if manners is Manners.LATE:
            with self._changed:
                self._changed.wait_for(lambda: self._over >= receipt.life, 0.7)
        taken = manners is not Manners.REFUSE
        # Before the bytes are on their way: what happens next may be a reaction to them.
        receipt.answer = Answer.TAKEN if taken else Answer.REFUSED
        try:
            handler.send_response(204 if taken else 503)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            handler.wfile.flush()
        except OSError:
            receipt.answer = Answer.NONE


def _reset(handler: BaseHTTPRequestHandler) -> None:
    """Hang up so that the other side's system reports a reset, not an end."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    # The handler's files hold the socket open as well.
    for each in (handler.wfile, handler.rfile, handler.connection):
        with suppress(OSError):
            each.close()
    # It is flushed once more afterwards.
    handler.wfile = io.BytesIO()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.recorder = recorder

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that broke, for they were meant to; keep all else."""
        del request, client_address
        error = sys.exception()
        if not isinstance(error, OSError):
            self.recorder.unreadable.append(repr(error))


class _Taking(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        # Killed in the middle of sending it: the message never came.
        if len(raw) == length:
            self.server.recorder.take(self, raw)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Say nothing: the figures are the output."""


@contextmanager
def recording(recorder: Recorder) -> Iterator[Recorder]:
    """Serve the recorder's channels on a free port, as long as the block lasts."""
    with _Server(recorder) as server:
        recorder.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield recorder
        finally:
            recorder.end_life(1 << 60)
            server.shutdown()
            thread.join(5.0)
