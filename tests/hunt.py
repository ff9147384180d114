"""The hunt for secrets: what a test made watcher write is searched for every secret it used.

Every test is hunted as it ends (see conftest.py), by itself and in its own process. A secret is

- each `SecretStr` that comes to be while the test runs, and what in one that is a URL is secret;
- what a `Redactor` is given, where it looks like a token;
- a constant of the test's module called SECRET, TOKEN, PASSWORD or KEY;
- each key and URL in a configuration file that the test leaves behind;
- each variable the test sets that is called like a key, a hook or a proxy;
- whatever a test gives to `HUNT.add`.

It is looked for in each of `forms`. Below SHORTEST characters it is no credential to watcher
either, and would be found in ordinary words.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import subprocess
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

import apsw
import pytest
import structlog
from pydantic import SecretStr

from watcher import cli, log
from watcher.errors import WatcherError
from watcher.meter import Meter
from watcher.redaction import STRUCK, Redactor, mixes_letters_and_digits

SHORTEST = 6
# In these a shorter one would be found by chance.
SHORTEST_ENCODED = 8
# Constants of a test's module.
NAMES = ("SECRET", "TOKEN", "PASSWORD", "KEY")
# Files that are there to hold secrets: configurations, keys, and what others keep theirs in.
KEEPERS = re.compile(r"(.*\.)?(toml|key|pem|env|envrc)|\.netrc")
# More than a test's database or log ever has; what is larger is a made-up flood.
MOST_BYTES = 32 * 1024 * 1024

_VARIABLE = re.compile(r".*(KEY|TOKEN|SECRET|PASSWORD|HOOK|PROXY)", re.IGNORECASE)
_SETTING = re.compile(r"""\b(?:api_key|url)\s*=\s*["']([^"'\n]+)["']""")
_ESCAPE = re.compile(r"%[0-9A-F]{2}")
# Where a service's protocol wants its own key in the body: PagerDuty.
OWN_FIELDS = ("routing_key",)


@lru_cache(maxsize=4_096)
def forms(secret: str) -> dict[str, bytes]:
    """How a secret may be written, by the name of the form.

    Not watcher's own list of them: what is missing there must not be missing here.
    """
    found = {
        "plain": secret,
        "URL-quoted": quote(secret, safe=""),
        "URL-quoted but for slashes": quote(secret),
        "quoted as a form": quote_plus(secret),
        "unquoted": unquote(secret),
        "JSON": json.dumps(secret)[1:-1],
        "JSON beyond ASCII": json.dumps(secret, ensure_ascii=False)[1:-1],
        "repr": repr(secret)[1:-1],
    }
    for name in ("URL-quoted", "quoted as a form"):
        found[f"{name}, small"] = _ESCAPE.sub(lambda escape: escape[0].lower(), found[name])
    raw = secret.encode("utf-8", "surrogatepass")
    if len(raw) >= SHORTEST_ENCODED:
        found |= {"hexadecimal": raw.hex(), "HEXADECIMAL": raw.hex().upper()}
        for before in range(3):
            # Of the first and the last character some bits belong to what stands beside.
            first, last = (before * 8 + 5) // 6, (before + len(raw)) * 8 // 6
            sure = base64.b64encode(bytes(before) + raw).decode()[first:last]
            found[f"base64 at {before}"] = sure
            found[f"base64 of URLs at {before}"] = sure.replace("+", "-").replace("/", "_")
    shortest = {text: name for name, text in reversed(found.items()) if len(text) >= SHORTEST}
    return {name: text.encode("utf-8", "surrogatepass") for text, name in shortest.items()}


def found_in(text: bytes, secrets: Iterable[str]) -> Iterator[str]:
    """A sentence for each secret that stands in a text, with what stands around it."""
    for secret in secrets:
        for name, form in forms(secret).items():
            if form in text:
                at = text.index(form)
                around = text[max(0, at - 80) : at + len(form) + 40]
                yield f"{secret!r} ({name}): …{around.decode('utf-8', 'replace')!r}…"
                break


def secrets_of_url(url: str, *, whole: bool = True) -> Iterator[str]:
    """What of a URL is secret: all of it, a password, and each part that looks like a token."""
    # An address with nothing behind its host is no secret.
    if whole and re.search(r"@|/.|\?", url.partition("://")[2]):
        yield url
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    yield parts.password or ""
    words = re.split(r"[/?&=:@]", url.partition("://")[2])
    yield from filter(mixes_letters_and_digits, (word for word in words if "." not in word))


class Hunt:
    """What one test wrote, and the secrets it had."""

    def __init__(self) -> None:
        self._secrets: dict[str, None] = {}
        # In the order in which they were given to any redactor.
        self._struck: dict[str, None] = {}
        # Where, what, and how many secrets were struck out by then; None: as it was written.
        self._heard: list[tuple[str, str, int | None]] = []
        self._bodies: list[bytes] = []
        self._files: list[tuple[str, bytes]] = []
        self._meters: list[Meter] = []
        self._allowed: set[Path] = set()
        self._variables: dict[str, str] = {}

    def begin(self) -> None:
        """Forget the last test."""
        self._variables = dict(os.environ)
        for kept in (self._secrets, self._struck, self._allowed):
            kept.clear()
        for told in (self._heard, self._bodies, self._files, self._meters):
            told.clear()

    def add(self, *secrets: str) -> None:
        """These are secrets, whatever they look like; of a URL, the secret parts as well."""
        for secret in secrets:
            given = secret.strip()
            for part in secrets_of_url(given) if "://" in given else (given,):
                if len(part) >= SHORTEST and part not in STRUCK:
                    self._secrets[part] = None

    def allow(self, path: Path) -> None:
        """This file is there to hold a secret."""
        self._allowed.add(path)

    def hear(self, where: str, text: object) -> None:
        """Something was written; bytes and texts alike."""
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        if text:
            self._heard.append((where, str(text), None))

    def hear_unstruck(self, where: str, text: str) -> None:
        """Something that is written once the secrets known by now have been struck out."""
        self._heard.append((where, text, len(self._struck)))

    def hear_body(self, body: bytes) -> None:
        """A message was sent; what reached the service beside its body is its own affair."""
        self._bodies.append(body)

    def hear_file(self, name: str, content: bytes) -> None:
        """A file, or a database that was none."""
        self._files.append((name, content))

    def hear_meter(self, meter: Meter) -> None:
        """A meter whose names and labels are to be looked at."""
        self._meters.append(meter)

    def learn(self, *secrets: str) -> None:
        """A redactor was given these."""
        for secret in map(str.strip, secrets):
            if len(secret) >= SHORTEST:
                self._struck.setdefault(secret)
                if mixes_letters_and_digits(secret) and not set("./ :") & set(secret):
                    self._secrets[secret] = None

    def learn_from(self, module: Any) -> None:
        """The secrets a module of tests has as constants, and those a test put into variables."""
        for name in NAMES:
            if isinstance(value := getattr(module, name, None), str):
                self.add(value)
        for name, value in os.environ.items():
            if value != self._variables.get(name) and _VARIABLE.fullmatch(name):
                # A proxy's address is no secret, only the login in it is.
                is_proxy = name.lower().endswith("proxy")
                self.add(*(secrets_of_url(value, whole=False) if is_proxy else [value]))

    def look_below(self, *folders: Path | None) -> None:
        """Take what files a test left below these folders, but for the keepers of secrets."""
        for folder in filter(None, folders):
            for path, content in _files(folder):
                if path.suffix == ".toml":
                    for given in _SETTING.findall(content.decode("utf-8", "replace")):
                        self.add(given)
                if path not in self._allowed and not KEEPERS.fullmatch(path.name):
                    self.hear_file(str(path), content)

    def found(self) -> list[str]:
        """A sentence for each place where a secret stands; empty if all is well."""
        for meter in self._meters:
            if meter.counts:
                self.hear("metrics", repr(list(meter.counts)))
        if not (self._heard or self._bodies or self._files):
            return []
        secrets = list(self._secrets)
        return [
            *self._in_what_was_heard(secrets),
            *_labelled("message", (found_in(body, secrets) for body in self._bodies)),
            *self._in_files(secrets),
        ]

    def _in_what_was_heard(self, secrets: list[str]) -> Iterator[str]:
        whole = "\n".join(text for _, text, _ in self._heard).encode("utf-8", "surrogatepass")
        # Nearly always this is all.
        suspects = [secret for secret in secrets if any(True for _ in found_in(whole, [secret]))]
        if not suspects:
            return
        for where, text, known in self._heard:
            written = text if known is None else _struck(text, tuple(self._struck)[:known])
            raw = written.encode("utf-8", "surrogatepass")
            yield from _labelled(where, [found_in(raw, suspects)])

    def _in_files(self, secrets: list[str]) -> Iterator[str]:
        keys = {secret.encode("utf-8", "surrogatepass") for secret in secrets}
        for name, content in self._files:
            # A file of nothing but a secret is where the test keeps it.
            if content.strip() not in keys:
                yield from _labelled(name, [found_in(content, secrets)])


HUNT = Hunt()


def _labelled(where: str, found: Iterable[Iterable[str]]) -> Iterator[str]:
    return (f"{where}: {sentence}" for each in found for sentence in each)


@lru_cache(maxsize=64)
def _redactor(secrets: tuple[str, ...]) -> Redactor:
    redactor = Redactor()
    for secret in secrets:
        redactor.add(secret)
    return redactor


def _struck(text: str, secrets: tuple[str, ...]) -> str:
    return _redactor(secrets).strike(text)


def _files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            # Sockets, and links that lead nowhere.
            with contextlib.suppress(OSError):
                if path.is_file() and 0 < path.stat().st_size <= MOST_BYTES:
                    yield path, path.read_bytes()


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """All that watcher writes is heard while the block lasts."""
    with pytest.MonkeyPatch.context() as patch:
        _listen_for_secrets(patch)
        _listen_to_logs(patch)
        _listen_to_processes_and_errors(patch)
        _listen_to_messages_and_states(patch)
        yield


def _before(patch: pytest.MonkeyPatch, owner: Any, name: str, heard: Callable[..., None]) -> None:
    """Call `heard` with what a method is given, before the method."""
    method = getattr(owner, name)

    @wraps(method)
    def both(*given: Any, **named: Any) -> Any:
        heard(*given, **named)
        return method(*given, **named)

    patch.setattr(owner, name, both)


def _after(patch: pytest.MonkeyPatch, owner: Any, name: str, heard: Callable[..., None]) -> None:
    """Call `heard` with a method's result and its object, after the method."""
    method = getattr(owner, name)

    @wraps(method)
    def both(self: Any, *given: Any, **named: Any) -> Any:
        result = method(self, *given, **named)
        heard(self, result)
        return result

    patch.setattr(owner, name, both)


def _listen_for_secrets(patch: pytest.MonkeyPatch) -> None:
    _before(patch, SecretStr, "__init__", lambda _, secret: HUNT.add(secret))
    _before(patch, Redactor, "add", lambda redactor, *secrets: HUNT.learn(*secrets))


def _listen_to_logs(patch: pytest.MonkeyPatch) -> None:
    """What watcher's loggers are given at any level, and what its handler writes of all others."""
    by_level = structlog.stdlib.filter_by_level

    def heard(logger: Any, method: str, event_dict: Any) -> Any:
        HUNT.hear_unstruck("log", _shown(event_dict))
        return by_level(logger, method, event_dict)

    patch.setattr(structlog.stdlib, "filter_by_level", heard)
    _after(patch, log._Handler, "format", lambda _, line: HUNT.hear("log as written", line))


def _shown(event_dict: dict[str, Any]) -> str:
    try:
        shown = repr(event_dict)
    except Exception as error:  # noqa: BLE001 - a test may log what cannot be shown
        shown = repr(error)
    if event_dict.get("exc_info"):
        shown += traceback.format_exc()
    return shown


def _listen_to_processes_and_errors(patch: pytest.MonkeyPatch) -> None:
    def ended(
        process: Any, args: Any, returncode: int, stdout: Any = None, stderr: Any = None
    ) -> None:
        HUNT.hear("standard output", stdout)
        HUNT.hear("standard error", stderr)

    def said(text: str, strike: Any, *, traceback: bool = False) -> None:
        # As `--debug` would print it, whether or not it was asked for.
        HUNT.hear("traceback of --debug", strike(_format_exc()))
        HUNT.hear("standard error", strike(text))

    _before(patch, subprocess.CompletedProcess, "__init__", ended)
    _before(patch, cli, "_say", said)
    _after(patch, WatcherError, "__init__", lambda error, _: HUNT.hear("error", error))


_format_exc = traceback.format_exc


class _Heard(apsw.Connection):
    """A connection that shows what a database in memory holds before it is gone."""

    def close(self, force: bool = False) -> None:
        if not self.filename:
            with contextlib.suppress(apsw.Error):
                HUNT.hear_file("state in memory", self.serialize("main"))
        super().close(force)


def _listen_to_messages_and_states(patch: pytest.MonkeyPatch) -> None:
    from tests.builders import ScriptedChannel
    from tests.channels.servers import Received
    from tests.cli.bench import Said

    def called(_: Any, code: int, out: str, err: str) -> None:
        HUNT.hear("standard output", out)
        HUNT.hear("standard error", err)

    def sent(_: Any, message: Any) -> None:
        HUNT.hear_body(f"{message.title}\n{message.body}".encode("utf-8", "surrogatepass"))

    def received(_: Any, method: str, path: str, headers: Any, raw: bytes) -> None:
        HUNT.hear_body(_without_own_fields(raw))

    _before(patch, ScriptedChannel, "send", sent)
    _before(patch, Received, "__init__", received)
    _before(patch, Said, "__init__", called)
    patch.setattr(apsw, "Connection", _Heard)
    _after(patch, Meter, "__init__", lambda meter, _: HUNT.hear_meter(meter))


def _without_own_fields(raw: bytes) -> bytes:
    try:
        body = json.loads(raw)
    except ValueError:
        return raw
    if isinstance(body, dict) and any(name in body for name in OWN_FIELDS):
        return json.dumps({n: v for n, v in body.items() if n not in OWN_FIELDS}).encode()
    return raw
