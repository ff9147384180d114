"""One channel: a message goes in, what became of it comes out, in bounded time.

Apprise blocks and may hang for ever, so each channel has a thread of its own that the process
does not wait for.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import html
import logging
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any, Protocol

import anyio
from pydantic import SecretStr

from watcher.clock import Clock
from watcher.errors import ConfigError
from watcher.message import Markup, Style
from watcher.model import Message, TryOutcome
from watcher.notify.address import add_secrets, load, open_service, refusing
from watcher.notify.services import MAIL, Emoji, kind_of, markup_of, style_of
from watcher.redaction import Redactor
from watcher.text import clean_line

DEADLINE = 60.0
LATE = 600.0
# Threads that hang and were given up, each with its memory and its socket.
ABANDONED_MAX = 3
REASON_LENGTH = 300
RATE_LIMIT_PAUSE = 60_000

# What a mail server refused with; all else that is told at DEBUG may hold the mail.
_REASON = "Socket Exception: "
# What Apprise says of a mail that it had begun to hand over, not of a server it did not reach.
_MAIL_BEGUN = "Sending email to "
# What smtplib says when the server never answered to it.
_MAIL_UNANSWERED = re.compile(r"unexpectedly closed|timed out|\[Errno ")
_CONNECTION = "A Connection error occurred"
_STATUS = re.compile(r"\berror=(\d{3})\b")
# The service read the message and does not want it: less of it, or another, may pass.
_REFUSALS = frozenset((400, 413, 414, 422, 431))


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one message.

    `refused`: the service refused this content. `pause`: at least so many milliseconds until the
    next try, None where the service did not ask for one.
    """

    outcome: TryOutcome
    error: str | None = None
    refused: bool = False
    pause: int | None = None


class Notifier(Protocol):
    """A channel; a test hands in its own."""

    @property
    def style(self) -> Style:
        """How to render for it."""

    async def send(self, message: Message) -> Sent:
        """Send one message, one at a time; never raises for what the service does."""

    def close(self) -> None:
        """Let go of it; waits for nothing."""


class Log(Protocol):
    """What is asked of a logger."""

    def warning(self, event: str, **fields: Any) -> Any:
        """Say that something needs an eye kept on it."""


class AppriseNotifier:
    """A channel behind any Apprise URL with one target.

    ConfigError at once when the URL cannot be used. After `deadline` seconds without an answer
    the send waits `late` seconds more for it, since a second send beside the first could tell
    the same twice; then thread and object are given up and the outcome is unknown.
    """

    def __init__(
        self,
        name: str,
        url: SecretStr,
        *,
        redactor: Redactor,
        clock: Clock,
        emoji: Emoji = "auto",
        details: bool = True,
        log: Log | None = None,
        deadline: float = DEADLINE,
        late: float = LATE,
    ) -> None:
        self.name = name
        self._url = url
        self._redactor = redactor
        self._clock = clock
        self._log = log
        self._deadline = deadline
        self._late = late
        add_secrets(url, redactor)
        service = open_service(url)
        with refusing():
            self.kind = kind_of(service)
            self._style = style_of(service, emoji=emoji, details=details)
        self._turn = anyio.Lock()
        self._sender: _Sender | None = _Sender(name, url, redactor, service)
        self._abandoned: list[_Sender] = []

    def __repr__(self) -> str:
        return f"<AppriseNotifier {self.name} ({self.kind})>"

    @property
    def style(self) -> Style:
        return self._style

    async def send(self, message: Message) -> Sent:
        async with self._turn:
            sender = self._free_sender()
            if sender is None:
                hung = f"{ABANDONED_MAX} earlier sends still hang; nothing is sent until one ends"
                return Sent(TryOutcome.FAILED, hung)
            began = self._clock.monotonic()
            answer = sender.take(message)
            await asyncio.wait({answer}, timeout=self._deadline)
            if not answer.done():
                self._warn("no answer yet, still waiting for it", began)
                await asyncio.wait({answer}, timeout=self._late)
            if answer.done():
                return answer.result()
            self._abandon()
            self._warn("no answer, given up", began)
            waited = f"no answer within {self._deadline + self._late:g} s"
            return Sent(TryOutcome.UNKNOWN, f"{waited}; it may have been delivered")

    def close(self) -> None:
        if self._sender is not None:
            self._sender.stop()
            self._sender = None

    def _free_sender(self) -> _Sender | None:
        if self._sender is not None and self._sender.busy:
            # A send was cancelled and its thread goes on.
            self._abandon()
        self._abandoned = [sender for sender in self._abandoned if sender.busy]
        if len(self._abandoned) >= ABANDONED_MAX:
            return None
        if self._sender is None:
            self._sender = _Sender(self.name, self._url, self._redactor)
        return self._sender

    def _abandon(self) -> None:
        if self._sender is not None:
            self._sender.stop()
            self._abandoned.append(self._sender)
            self._sender = None

    def _warn(self, event: str, began: float) -> None:
        if self._log is not None:
            seconds = round(self._clock.monotonic() - began, 1)
            self._log.warning(event, channel=self.name, seconds=seconds)


_Job = tuple[Message, asyncio.AbstractEventLoop, "asyncio.Future[Sent]"]


class _Sender:
    """One object of Apprise's and the one thread that uses it, started by the first message."""

    def __init__(
        self, name: str, url: SecretStr, redactor: Redactor, service: Any | None = None
    ) -> None:
        self.busy = False
        self._name = name
        self._url = url
        self._redactor = redactor
        self._service = service
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def take(self, message: Message) -> asyncio.Future[Sent]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sent] = loop.create_future()
        self.busy = True
        self._jobs.put((message, loop, answer))
        if self._thread is None:
            # A daemon thread: one that hangs must not keep the process from ending.
            self._thread = threading.Thread(
                target=self._work, name=f"channel {self._name}", daemon=True
            )
            self._thread.start()
        return answer

    def stop(self) -> None:
        """End the thread after what it is doing; waits for nothing."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            message, loop, answer = job
            sent = self._send(message)
            self.busy = False
            try:
                loop.call_soon_threadsafe(_answer, answer, sent)
            except RuntimeError:
                # The loop has closed: nobody waits any more.
                return

    def _send(self, message: Message) -> Sent:
        try:
            if self._service is None:
                self._service = open_service(self._url)
            return _deliver(self._service, message, self._redactor)
        except ConfigError as error:
            return Sent(TryOutcome.FAILED, str(error))
        except Exception as error:  # noqa: BLE001 - 183 plugins, and a thread that must go on
            why = f"{type(error).__name__}: {error}"
            return Sent(TryOutcome.FAILED, clean_line(self._redactor.strike(why), REASON_LENGTH))


def _answer(answer: asyncio.Future[Sent], sent: Sent) -> None:
    if not answer.done():
        answer.set_result(sent)


def _deliver(service: Any, message: Message, redactor: Redactor) -> Sent:
    apprise = load()
    sender = apprise.Apprise(asset=service.asset)
    sender.add(service)
    title, body, body_format = message.title, message.body, "text"
    if markup_of(service) is Markup.HTML:
        # Apprise would turn every space into one that does not break, for lines without end.
        body, body_format = html.escape(body).replace("\n", "<br/>"), "html"
        title = html.escape(title) if service.title_maxlen <= 0 else title
    if kind_of(service) in MAIL:
        # An encoded word is read in a subject, whoever wrote it; this makes Apprise encode all.
        title = title.replace("=?", "=\N{ZERO WIDTH SPACE}?")
    mail = kind_of(service) == "mailto"
    began = time.monotonic()
    with _noting(service) as broken:
        result = sender.notify(
            body,
            title=title,
            notify_type=message.severity.value,
            body_format=body_format,
            interpret_escapes=False,
            log_level=logging.DEBUG if mail else logging.WARNING,
        )
    sent = _judge(result, redactor)
    if broken and sent.outcome is TryOutcome.FAILED:
        # No network's fault, so the message may be to blame: another may pass.
        blamed = not isinstance(broken[-1], OSError)
        reason = f"Apprise's {kind_of(service)} broke on it ({type(broken[-1]).__name__})"
        return replace(sent, error=reason, refused=blamed)
    if mail:
        return _judge_mail(sent, result)
    waited, patience = time.monotonic() - began, service.socket_read_timeout or 0
    # Apprise says the same of a refused connection and of an answer that never came.
    if _CONNECTION in (sent.error or "") and 0 < patience <= waited:
        reason = f"no answer within {patience:.0f} s: it may have arrived"
        return replace(sent, outcome=TryOutcome.UNKNOWN, error=reason)
    return sent


@contextlib.contextmanager
def _noting(service: Any) -> Iterator[list[Exception]]:
    """What the service raises meanwhile: Apprise says no more than that it did."""
    broken: list[Exception] = []
    send = service.send

    def noted(*arguments: Any, **options: Any) -> Any:
        try:
            return send(*arguments, **options)
        except Exception as error:
            broken.append(error)
            raise

    service.send = noted
    try:
        yield broken
    finally:
        del service.send


def _judge_mail(sent: Sent, result: Any) -> Sent:
    """What a mail server said to the mail itself, which Apprise does not tell from the rest."""
    if sent.outcome is TryOutcome.DELIVERED or _MAIL_BEGUN not in (sent.error or ""):
        return sent
    entries = [entry for each in result.results for entry in each.logs()]
    for entry in (*entries, *result.call_logs()):
        said = str(entry.message).removeprefix(_REASON)
        if said == entry.message:
            continue
        if _refuses_mail(said):
            return replace(sent, refused=True)
        if _MAIL_UNANSWERED.search(said):
            reason = f"{sent.error}; it may have arrived"
            return replace(sent, outcome=TryOutcome.UNKNOWN, error=reason)
    return sent


def _refuses_mail(said: str) -> bool:
    """Whether smtplib shows an answer to the content.

    A refused sender has a third part, a refused recipient is a table; 552 is too much of it.
    """
    try:
        answer = ast.literal_eval(said)
    except (ValueError, SyntaxError):
        return False
    match answer:
        case (int(code), bytes()):
            return 500 <= code < 600
        case (552, bytes(), str()):
            return True
    return False


def _judge(result: Any, redactor: Redactor) -> Sent:
    """By the attempts, not by the status, which calls some failures a success."""
    # The last attempt of each decides, and there must be one.
    attempts = [attempt for each in result.results for attempt in each.attempts[-1:]]
    if attempts and all(attempts) and len(attempts) == len(result.results):
        return Sent(TryOutcome.DELIVERED)
    entries = [entry for each in result.results for entry in each.logs()]
    said = "; ".join(filter(None, map(_told, [*entries, *result.call_logs()])))
    found = _STATUS.search(said)
    status = int(found[1]) if found else None
    return Sent(
        TryOutcome.FAILED,
        clean_line(redactor.strike(said), REASON_LENGTH) or "Apprise gives no reason",
        refused=status in _REFUSALS,
        pause=RATE_LIMIT_PAUSE if status == 429 else None,
    )


def _told(entry: Any) -> str:
    """What one entry of Apprise's log says of a failure."""
    message = str(entry.message)
    if entry.level in {"DEBUG", "INFO", "TRACE"}:
        return message.removeprefix(_REASON) if message.startswith(_REASON) else ""
    return message
