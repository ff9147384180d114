"""Where structlog is set up, once: one line an event, and no secret in any of them.

Only this room imports structlog, and commands that log nothing do not import this room.
"""

from __future__ import annotations

import json as json_module
import logging
import sys
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

import structlog
from structlog.typing import EventDict, ProcessorReturnValue, WrappedLogger

from watcher.redaction import Redactor
from watcher.text import clean_line


class Log(Protocol):
    """The levels of a structured log that the loops use."""

    def debug(self, event: str, **values: Any) -> Any: ...
    def info(self, event: str, **values: Any) -> Any: ...
    def warning(self, event: str, **values: Any) -> Any: ...
    def error(self, event: str, **values: Any) -> Any: ...
    def critical(self, event: str, **values: Any) -> Any: ...
    def exception(self, event: str, **values: Any) -> Any: ...


ROOT = "watcher"
# The most of one value, and what is kept of the beginning and the end of a longer one.
TEXT_LENGTH = 16_000
HEAD_LENGTH = 4_000
TAIL_LENGTH = 11_000
# How deep a value may be nested before it is written as one text.
DEPTH = 6

# What others say is news only when it goes wrong; at DEBUG some of them print tokens.
QUIET = {
    "aiosqlite": logging.WARNING,
    "apprise": logging.WARNING,
    "asyncio": logging.WARNING,
    "charset_normalizer": logging.WARNING,
    "hpack": logging.WARNING,
    "httpcore": logging.WARNING,
    "httpx": logging.WARNING,
    "mail.log": logging.WARNING,
    "requests": logging.WARNING,
    "urllib3": logging.ERROR,
}


def configure(
    *, debug: bool, json: bool | None, redactor: Redactor, stream: TextIO | None = None
) -> None:
    """Send every log record of the process to `stream`, standard error if None.

    `json` None: JSON unless the stream is a terminal. Called again it replaces what it set up.
    """
    stream = stream or sys.stderr
    if json is None:
        json = not stream.isatty()
    handler = _Handler(stream, redactor)
    handler.addFilter(_is_ours_or_news)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _Striker(redactor),
                _as_json if json else _as_line,
            ],
        )
    )
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)
    # The standard way of telling of a failed handler prints the record, secrets and all.
    logging.raiseExceptions = False
    logging.captureWarnings(capture=True)


def _is_ours_or_news(record: logging.LogRecord) -> bool:
    # A library that nobody has named above may print tokens as well.
    return record.levelno > logging.DEBUG or record.name.partition(".")[0] == ROOT


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of one room; silent until `configure` has been called."""
    logger = logging.getLogger(f"{ROOT}.{name}")
    home = logging.getLogger(ROOT)
    if not home.handlers:
        # Else what is logged unconfigured comes out on standard error, with no secret struck out.
        home.addHandler(logging.NullHandler())
    bound: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logger,
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    return bound


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to a stream that may know fewer characters than we do, or may have gone."""

    def __init__(self, stream: TextIO, redactor: Redactor) -> None:
        super().__init__(stream)
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        # Once more over the whole line: a secret may only have come together in it.
        line = self._redactor.strike(super().format(record))
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        return line.encode(encoding, "backslashreplace").decode(encoding)


class _Striker:
    """Strikes secrets out of every value before anything is cut: half a secret is no longer known.

    What is neither number nor text becomes text here, so that nothing is rendered unstruck.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def __call__(self, _: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
        return {str(key): self._struck(value, DEPTH) for key, value in event_dict.items()}

    def _struck(self, value: object, depth: int) -> object:
        if value is None or isinstance(value, bool | int | float):
            return value
        if depth and isinstance(value, Mapping):
            return {
                self._redactor.strike(str(key)): self._struck(inner, depth - 1)
                for key, inner in value.items()
            }
        if depth and isinstance(value, list | tuple | set | frozenset):
            return [self._struck(inner, depth - 1) for inner in value]
        text = self._redactor.strike(value if isinstance(value, str) else _shown(value))
        # A traceback says at its end what went wrong.
        return (
            text if len(text) <= TEXT_LENGTH else text[:HEAD_LENGTH] + " … " + text[-TAIL_LENGTH:]
        )


def _shown(value: object) -> str:
    try:
        return str(value) if isinstance(value, BaseException) else repr(value)
    except Exception as error:  # noqa: BLE001 - a value that cannot be shown is no reason to die
        return f"<{type(value).__name__}: {type(error).__name__}>"


def _as_json(_: WrappedLogger, __: str, event_dict: EventDict) -> ProcessorReturnValue:
    rest = dict(event_dict)
    first = {
        "at": rest.pop("timestamp", None),
        "level": rest.pop("level", None),
        "logger": rest.pop("logger", None),
        "event": rest.pop("event", None),
    }
    return json_module.dumps({**first, **rest}, default=str, skipkeys=True)


def _as_line(_: WrappedLogger, __: str, event_dict: EventDict) -> ProcessorReturnValue:
    rest = dict(event_dict)
    traceback = rest.pop("exception", None)
    at = str(rest.pop("timestamp", ""))[:19]
    level = str(rest.pop("level", ""))
    logger = str(rest.pop("logger", "")).removeprefix(f"{ROOT}.")
    parts = [at, f"{level:<7}", logger, clean_line(str(rest.pop("event", "")), TEXT_LENGTH)]
    parts += [f"{clean_line(key, 80)}={_value(value)}" for key, value in rest.items()]
    line = " ".join(parts)
    if traceback is None:
        return line
    # Each line of a traceback is set in, so that none can pass for an event of its own.
    shown = [f"    | {clean_line(part, 500)}" for part in str(traceback).splitlines()]
    return "\n".join([line, *shown])


def _value(value: object) -> str:
    text = clean_line(value if isinstance(value, str) else str(value), TEXT_LENGTH)
    plain = text and not any(character in ' "=' for character in text)
    return text if plain else json_module.dumps(text, ensure_ascii=False)
