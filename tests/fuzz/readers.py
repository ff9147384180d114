"""Every place that reads what others wrote, and what must hold there whatever they wrote.

Shared by the suite's bounded round and by `benchmarks/fuzz.py`. A reader is tried with a seed,
which makes its input; what breaks is an exception, and the seed is all it takes to see it again.
"""

from __future__ import annotations

import asyncio
import json
import math
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from tests.fakes import START, FakeClock
from tests.fuzz import inputs
from tests.fuzz.whole import Whole
from tests.providers.asking import leaves
from tests.providers.loopback import Seen, serving
from watcher.cli.add import _from_input
from watcher.cli.events import parse_moment
from watcher.config import Places, load, parse_duration
from watcher.directory import Directory
from watcher.errors import ConfigError, Garbled, ProviderError, RateLimited, UsageError
from watcher.model import Request
from watcher.notify import check_url
from watcher.providers import PROVIDERS, ProviderOptions, build
from watcher.providers.answer import failure, inflated, parsed, retry_after
from watcher.providers.reading import error_message
from watcher.providers.wire import Wire
from watcher.redaction import Redactor
from watcher.text import clean_line

Check = Callable[[int], None]
MOST_BYTES = 1024 * 1024
ERROR_LENGTH = 700
# Longer than any answer of a server that closes its connection; the wire gives up before.
WIRE_TIMEOUT = 2.0
_PROVIDERS = [
    build(name, ProviderOptions(base_url="https://api.example.com")) for name in PROVIDERS
]


def assert_harmless(text: str, most: int) -> None:
    """Valid, bounded and printable: it neither steers a terminal nor breaks a line."""
    assert len(text) <= most, f"{len(text)} characters"
    assert clean_line(text, most) == text.strip(), ascii(text[:200])
    text.encode()


def assert_told(error: Exception, lines: int = 1) -> None:
    """An error for people: some lines, no secret, nothing that steers a terminal."""
    said = str(error)
    # What pydantic or a parser was given must not hang on to it, not even for a traceback.
    assert error.__cause__ is None or not isinstance(error, ConfigError)
    assert said
    assert inputs.SECRET not in said
    assert inputs.SECRET.lower() not in said.lower()
    assert len(said.split("\n")) <= lines, said
    for line in said.split("\n"):
        assert_harmless(line, ERROR_LENGTH)


def assert_bounded(value: object) -> None:
    """Nothing in it that a database, a terminal or JSON would not take."""
    for leaf in leaves(value):
        if isinstance(leaf, str):
            assert_harmless(leaf, 2_000)
        elif isinstance(leaf, float):
            assert math.isfinite(leaf)
        elif isinstance(leaf, int):
            assert abs(leaf) < 2**63


def unstruck(text: str) -> str:
    return text


def provider_answers(seed: int) -> None:
    """A retrieve, a create and a page, of every provider."""
    value = inputs.answer(inputs.chance(seed))
    for provider in _PROVIDERS:
        with allowing():
            observation = provider.read(value)
            assert_bounded(observation)
            assert len(observation.problems) <= 20
            assert len(json.dumps(dict(observation.metadata))) < 200_000
        with allowing():
            assert provider.accepts(provider.read_created(value))
        with allowing():
            page, cursor = provider.read_page(value)
            for observation in page:
                assert_bounded(observation)
                assert observation.id is not None
                assert provider.retrieve(observation.id).url.isascii()
            assert cursor is None or provider.page(cursor).url.isascii()
    if (said := error_message(value, 200)) is not None:
        assert_harmless(said, 200)


@contextmanager
def allowing(kind: type[Exception] = Garbled, *, lines: int = 1) -> Iterator[None]:
    """Nothing else may be raised, and this only in words for people."""
    try:
        yield
    except kind as error:
        assert_told(error, lines)


def bodies(seed: int) -> None:
    """Bytes, compressed or not, to JSON that has no more of it than allowed."""
    raw, encoding = inputs.body(inputs.chance(seed))
    with allowing():
        plain = inflated(raw, encoding, MOST_BYTES)
        assert len(plain) <= MOST_BYTES + 1
        value = parsed(plain, unstruck, 10_000)
        assert json.loads(json.dumps(value)) is not Ellipsis


def refusals(seed: int) -> None:
    """What is not 2xx, with headers and a body of any kind."""
    random = inputs.chance(seed)
    asked, (raw, encoding) = inputs.headers(random), inputs.body(random)
    asked["content-encoding"] = random.choice((encoding, asked.get("content-encoding", "")))
    status = random.choice((300, 302, 400, 401, 403, 404, 410, 418, 429, 500, 503, 599, 700, 0))
    error = failure(status, asked, raw, START, unstruck)
    assert_told(error)
    if isinstance(error, RateLimited) and error.retry_after is not None:
        assert 0 <= error.retry_after <= 3_600_000


def pauses(seed: int) -> None:
    """`Retry-After` and its relatives."""
    pause = retry_after(inputs.headers(inputs.chance(seed)), START)
    assert pause is None or (isinstance(pause, int) and 0 <= pause <= 3_600_000)


def durations(seed: int) -> None:
    """Lengths of time."""
    with allowing(ValueError):
        assert 0 <= parse_duration(inputs.duration(inputs.chance(seed))) < 2**63


def moments(seed: int) -> None:
    """What `events --since` takes."""
    with allowing(UsageError):
        assert abs(parse_moment(inputs.moment(inputs.chance(seed)), START)) < 2**63


def standard_input(seed: int) -> None:
    """`add -`: ids, JSON and JSON Lines; then whose batch each is."""
    random = inputs.chance(seed)
    directory = Directory({"openai": "openai", "cohere": "cohere", "own": "openai-compatible"})
    with allowing(UsageError):
        for text in _from_input(inputs.standard_input(random)):
            account, id_ = directory.resolve(text, (), random.choice((None, "openai", "own")))
            assert account in directory.accounts
            assert_harmless(id_, 480)


def channel_urls(seed: int) -> None:
    """Addresses of channels; nothing of one is ever repeated but its scheme."""
    with allowing(ConfigError):
        assert check_url(SecretStr(inputs.channel_url(inputs.chance(seed))))


class Configurations:
    """Files and variables, loaded on a machine that holds nothing else."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "config.toml"
        self._places = Places(folder, folder / "s", folder / "e", folder / "v", folder / "r")

    def __call__(self, seed: int) -> None:
        random = inputs.chance(seed)
        self._file.write_bytes(inputs.configuration(random))
        self._file.chmod(0o600)
        environ = {"KEY": "sk-plain", **inputs.variables(random)}
        with allowing(ConfigError, lines=2):
            settings = load(environ=environ, places=self._places)
            assert inputs.SECRET not in repr((settings.accounts, settings.channels))
            for warning in settings.warnings:
                assert inputs.SECRET not in warning
                assert_harmless(warning, ERROR_LENGTH)


class Sockets:
    """Bytes of a server, through a real connection: JSON, or the error they stand for."""

    def __init__(self, stack: ExitStack) -> None:
        self._runner = stack.enter_context(asyncio.Runner())
        self._content = b""
        self._asking = self._open()
        self._ask = self._runner.run(self._asking.__aenter__())
        stack.callback(lambda: self._runner.run(self._asking.__aexit__(None, None, None)))

    def __call__(self, seed: int) -> None:
        self._content = inputs.response(inputs.chance(seed))
        self._runner.run(self._ask())

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Callable[[], Any]]:
        wire = Wire(
            timeout=WIRE_TIMEOUT, max_connections=2, redactor=Redactor(), clock=FakeClock(START)
        )

        async def answer(_: Seen, writer: asyncio.StreamWriter) -> bool:
            writer.write(self._content)
            await writer.drain()
            return False

        async with serving(answer) as server:
            request = Request("GET", f"{server.url}/v1/batches/1", most_bytes=MOST_BYTES)

            async def ask() -> None:
                with allowing(ProviderError):
                    json.dumps(await wire.send(request))

            try:
                yield ask
            finally:
                await wire.close()


def whole_ways(stack: ExitStack) -> Mapping[str, Check]:
    """An answer through lifecycle, store, message, documents and log; and damaged rows."""
    whole = stack.enter_context(Whole.opened(assert_harmless))

    def answered(seed: int) -> None:
        random = inputs.chance(seed)
        provider, observation = random.choice(_PROVIDERS), None
        while observation is None:
            with suppress(Garbled):
                observation = provider.read(inputs.answer(random))
        whole.observed(observation, provider.name)

    def stored(seed: int) -> None:
        whole.damaged(inputs.stored_row, inputs.chance(seed))

    return {"the whole way": answered, "rows of the store": stored}


@contextmanager
def readers() -> Iterator[Mapping[str, Check]]:
    """All of them by name, as long as the block lasts."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield {
            "provider answers": provider_answers,
            "bodies": bodies,
            "refusals": refusals,
            "pauses": pauses,
            "durations": durations,
            "moments": moments,
            "standard input": standard_input,
            "channel URLs": channel_urls,
            "configurations": Configurations(folder),
            "sockets": Sockets(stack),
            **whole_ways(stack),
        }
