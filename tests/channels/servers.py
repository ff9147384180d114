"""Recording servers on loopback: what a channel really sends, and answers that go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message as Mail
from email.parser import BytesParser
from email.policy import default as mail_policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from aiosmtpd.controller import Controller


@dataclass
class Received:
    """One request, its body read as JSON or as a form where it is one."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        text = self.raw.decode()
        if "form-urlencoded" in self.headers.get("content-type", ""):
            return {name: values[0] for name, values in parse_qs(text).items()}
        return json.loads(text)


@dataclass
class Service:
    """A service that answers as it is told to.

    `behaviour`: `answer` with `status`, `hang` until released, `drip` a byte at a time, `trickle`
    so from the first byte of all, `reset`, or `cut` in the midst of the answer.
    """

    port: int = 0
    status: int = 200
    behaviour: str = "answer"
    answer: bytes = b'{"ok": true}'
    headers: dict[str, str] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextlib.contextmanager
def http_service() -> Iterator[Service]:
    """A service on loopback; whatever it still holds back is let go at the end."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            received = Received(self.command, self.path, headers, self.rfile.read(length))
            service.received.append(received)
            # The other side may have hung up, which is no fault of this one.
            with contextlib.suppress(OSError):
                _answer(self, service)

        do_GET = do_POST

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parent's name
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    service.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.release.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        # A connection that was torn down, by either side, is what some tests are about.
        if not isinstance(sys.exception(), OSError | ValueError):
            super().handle_error(request, client_address)


def _answer(handler: BaseHTTPRequestHandler, service: Service) -> None:
    if service.behaviour == "hang":
        service.release.wait(20)
    if service.behaviour == "reset":
        _reset(handler)
        return
    if service.behaviour == "trickle":
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000:
            handler.wfile.write(bytes([byte]))
            if service.release.wait(0.02):
                break
        return
    if service.behaviour == "cut":
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        handler.wfile.flush()
        _reset(handler)
        return
    handler.send_response(service.status)
    for name, value in service.headers.items():
        handler.send_header(name, value)
    if service.behaviour == "drip":
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        while not service.release.wait(0.02):
            handler.wfile.write(b" ")
            handler.wfile.flush()
        return
    handler.send_header("Content-Length", str(len(service.answer)))
    handler.end_headers()
    handler.wfile.write(service.answer)


def _reset(handler: BaseHTTPRequestHandler) -> None:
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    # The handler's files hold the socket open as well.
    handler.wfile.close()
    handler.rfile.close()
    handler.connection.close()


class Mailbox:
    """What a mail server was given; `refuse` is what it says to every recipient.

    `verdict` is what it says of a mail's content, after `delay` seconds; None hangs up on it.
    """

    def __init__(self) -> None:
        self.port = 0
        self.refuse: str | None = None
        self.verdict: str | None = "250 OK"
        self.delay = 0.0
        self.mails: list[Mail] = []

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if self.refuse:
            return self.refuse
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        self.mails.append(BytesParser(policy=mail_policy).parsebytes(envelope.content))
        await asyncio.sleep(self.delay)
        if self.verdict is None:
            server.transport.abort()
        return self.verdict or "250 OK"


@contextlib.contextmanager
def mail_service() -> Iterator[Mailbox]:
    """A real SMTP server on loopback."""
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=_free_port())
    controller.start()
    mailbox.port = controller.port
    try:
        yield mailbox
    finally:
        controller.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
