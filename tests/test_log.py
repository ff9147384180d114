from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from watcher import log
from watcher.redaction import STRUCK, Redactor

SECRET = "sk-abcdef0123456789"
FORGED = "x\n2026-11-21T12:00:00 error   daemon forged=yes\r\x1b[2J\u2028\u202e"


@pytest.fixture(autouse=True)
def logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raising = list(root.handlers), root.level, logging.raiseExceptions
    shown = warnings.showwarning
    levels = {name: logging.getLogger(name).level for name in log.QUIET}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising
    logging.captureWarnings(capture=False)
    warnings.showwarning = shown
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def configured(*, debug: bool = False, as_json: bool | None = True) -> io.StringIO:
    redactor = Redactor()
    redactor.add(SECRET)
    stream = io.StringIO()
    log.configure(debug=debug, json=as_json, redactor=redactor, stream=stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_with_its_keys() -> None:
    stream = configured()

    log.get("poller").info("looked", account="openai", batches=3)

    (line,) = lines(stream)
    assert line.pop("at").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "watcher.poller",
        "event": "looked",
        "account": "openai",
        "batches": 3,
    }


def test_a_terminal_gets_lines_for_people_and_anything_else_json() -> None:
    redactor = Redactor()
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        log.configure(debug=False, json=None, redactor=redactor, stream=stream)
        log.get("poller").info("looked", account="openai", why="a b")

    assert terminal.getvalue().endswith(' info    poller looked account=openai why="a b"\n')
    assert json.loads(pipe.getvalue())["why"] == "a b"


def test_a_look_is_seen_only_when_debugging() -> None:
    quiet = configured()
    log.get("poller").debug("looked")
    loud = configured(debug=True)
    log.get("poller").debug("looked")

    assert quiet.getvalue() == ""
    assert [line["event"] for line in lines(loud)] == ["looked"]


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("debug", [True, False])
def test_no_secret_is_written_at_any_level_or_place(*, as_json: bool, debug: bool) -> None:
    stream = configured(debug=debug, as_json=as_json)
    logger = log.get("poller")
    others = [logging.getLogger(name) for name in ("other", *log.QUIET)]

    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(logger, level)(f"key {SECRET}", key=SECRET, deep={SECRET: [(SECRET,), {SECRET}]})
        getattr(logger, level)("bytes", raw=SECRET.encode(), thing=ValueError(SECRET))
        for other in others:
            getattr(other, level)("key %s", SECRET)
    _fail_with(SECRET, logger, others[0])

    assert SECRET not in stream.getvalue()
    assert stream.getvalue().count(STRUCK) > 10


def _fail_with(text: str, *loggers: Any) -> None:
    try:
        try:
            raise ValueError(text)
        except ValueError as error:
            raise RuntimeError(f"because of {text}") from error
    except RuntimeError:
        for logger in loggers:
            logger.exception("failed", why=text) if logger is loggers[0] else logger.exception(text)


def test_a_secret_cut_in_two_by_a_bound_is_not_written() -> None:
    stream = configured()

    log.get("poller").info("long", text="x" * (log.HEAD_LENGTH - 8) + SECRET + "x" * 20_000)

    assert SECRET[:8] not in stream.getvalue()


@pytest.mark.parametrize("as_json", [True, False])
def test_nothing_written_elsewhere_can_forge_a_line(*, as_json: bool) -> None:
    stream = configured(as_json=as_json)

    log.get("poller").info(FORGED, **{"name": FORGED, "key\nforged": FORGED})
    logging.getLogger("other").warning("%s", FORGED)

    text = stream.getvalue()
    assert len(text.splitlines()) == 2
    assert not {"\x1b", "\u2028", "\u202e", "\r"} & set(text)


def test_a_traceback_on_a_terminal_is_set_in_so_that_no_line_of_it_passes_for_an_event() -> None:
    stream = configured(as_json=False)

    _fail_with(FORGED, log.get("poller"))

    first, *rest = stream.getvalue().splitlines()
    assert "failed" in first
    assert any("RuntimeError" in line for line in rest)
    assert all(line.startswith("    | ") for line in rest)


def test_a_traceback_in_json_is_one_line() -> None:
    stream = configured()

    _fail_with("boom", log.get("poller"), logging.getLogger("other"))

    own, other = lines(stream)
    assert "RuntimeError: because of boom" in own["exception"]
    assert "ValueError: boom" in other["exception"]


def test_the_standard_library_goes_the_same_way() -> None:
    stream = configured()

    logging.getLogger("asyncio").warning("task %s was never awaited", "x")

    (line,) = lines(stream)
    assert (line["logger"], line["level"]) == ("asyncio", "warning")
    assert line["event"] == "task x was never awaited"


def test_libraries_that_print_tokens_are_never_at_debug() -> None:
    stream = configured(debug=True)

    for name in ("apprise", "urllib3.connectionpool", "httpx", "httpcore.http11"):
        logging.getLogger(name).debug("POST https://hooks.example/services/T/B/X")
        logging.getLogger(name).info("POST https://hooks.example/services/T/B/X")

    assert stream.getvalue() == ""


def test_a_library_that_nobody_thought_of_is_never_at_debug() -> None:
    stream = configured(debug=True)

    for level in (logging.DEBUG, logging.INFO):
        logging.getLogger("requests_oauthlib.oauth2_session").log(level, "got at %d", level)
    log.get("poller").debug("looked")

    assert [line["event"] for line in lines(stream)] == ["got at 20", "looked"]


def test_a_value_that_cannot_be_shown_does_not_stop_the_log() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    stream = configured()

    log.get("poller").info("looked", thing=Broken(), number=float("inf"), text="\ud800")

    (line,) = lines(stream)
    assert line["thing"] == "<Broken: RuntimeError>"


@pytest.mark.parametrize("as_json", [True, False])
def test_a_stream_that_knows_only_ascii_gets_ascii(*, as_json: bool) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    log.configure(debug=False, json=as_json, redactor=Redactor(), stream=stream)

    log.get("poller").info("für", name="Zoë ✓")

    assert raw.getvalue().isascii()
    assert raw.getvalue().count(b"\n") == 1


def test_a_stream_that_is_gone_stops_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    stream = configured()
    stream.close()

    log.get("poller").info(SECRET)

    assert SECRET not in "".join(capfd.readouterr())


def test_configured_again_a_line_is_written_once() -> None:
    configured()
    stream = configured()

    log.get("poller").info("looked")

    assert len(lines(stream)) == 1


def test_a_long_value_is_bounded() -> None:
    stream = configured()

    log.get("poller").info("answer", body="x" * 1_000_000)

    assert len(stream.getvalue()) < 20_000


def test_unconfigured_nothing_is_written() -> None:
    program = "from watcher import log; log.get('poller').error('key', key='hidden')"

    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True
    )

    assert ended.stdout + ended.stderr == ""
