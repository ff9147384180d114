"""What holds for every test: a clean environment, no way out of this machine, a loop that turns."""

from __future__ import annotations

import ipaddress
import itertools
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from blockbuster import BlockBuster
from hypothesis import settings

from tests import hunt

if TYPE_CHECKING:
    from tests.channels.servers import Service
    from tests.world import SameThread, World

# Variables that would make a test depend on who runs it.
FOREIGN_PREFIXES = ("WATCHER_", "OPENAI_", "CEREBRAS_", "CO_API_", "COHERE_")
FOREIGN_NAMES = {
    "CREDENTIALS_DIRECTORY",
    "STATE_DIRECTORY",
    "CONFIGURATION_DIRECTORY",
    "RUNTIME_DIRECTORY",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "LISTEN_FDS",
    "NO_COLOR",
    "FORCE_COLOR",
    "COLUMNS",
    "LINES",
    "NETRC",
}
PROXIES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy", "ws_proxy", "wss_proxy"}
DIRECTORIES = {
    "XDG_CONFIG_HOME": "config",
    "XDG_STATE_HOME": "state",
    "XDG_DATA_HOME": "data",
    "XDG_CACHE_HOME": "cache",
    "XDG_RUNTIME_DIR": "run",
}

# A machine that is busy makes an example slow, not wrong; pytest's time limit still holds.
settings.register_profile("watcher", deadline=None)
settings.load_profile("watcher")


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio: aiohttp knows no other loop."""
    return "asyncio"


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A fresh home for each test, cheaper than a `tmp_path` for each."""
    root = tmp_path_factory.mktemp("homes")
    return (root / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, homes: Iterator[Path]) -> None:
    """No key, configuration, state, proxy or time zone of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith(FOREIGN_PREFIXES) or name in FOREIGN_NAMES or name.lower() in PROXIES:
            monkeypatch.delenv(name)
    home = next(homes)
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name, folder in DIRECTORIES.items():
        monkeypatch.setenv(name, str(home / folder))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.fixture(autouse=True, scope="session")
def listening() -> Iterator[None]:
    """What any test makes watcher write is heard; see tests/hunt.py."""
    with hunt.listening():
        yield


@pytest.fixture(autouse=True)
def no_secret_told(request: pytest.FixtureRequest, clean_environment: None) -> Iterator[None]:
    """A test that leaves a secret in a log, an error, a file or a message fails."""
    hunt.HUNT.begin()
    yield
    hunt.HUNT.learn_from(request.module)
    hunt.HUNT.look_below(Path(os.environ["HOME"]), request.node.funcargs.get("tmp_path"))
    if found := hunt.HUNT.found():
        pytest.fail("\n".join(["secrets were told", *found]), pytrace=False)


@pytest.fixture(autouse=True, scope="session")
def loop_that_turns() -> Iterator[None]:
    """A blocking call made by watcher's code inside an event loop raises `BlockingError`."""
    blockbuster = BlockBuster("watcher")
    for function in blockbuster.functions.values():
        # A late import reads files; it happens once and is no business of the loop's.
        function.can_block_in("<frozen importlib._bootstrap>", {"_find_and_load"})
    blockbuster.activate()
    yield
    blockbuster.deactivate()


class Fence:
    """Stops connections and look-ups that would leave this machine, and remembers them.

    An audit hook sees what C code does too, and can never be taken out again: hence `up`.
    """

    def __init__(self) -> None:
        self.up = False
        self.stopped: list[str] = []

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if not (self.up and event.startswith("socket.")):
            return
        if event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
            address = arguments[1]
            # Anything but a pair is a Unix socket, or a message on a connected one.
            if isinstance(address, tuple) and not is_here(address[0]):
                self._stop(event, address[0])
        elif event in {"socket.getaddrinfo", "socket.gethostbyname"} and not is_here(arguments[0]):
            # Nothing ever answers under .invalid: a test of a name that does not exist uses it.
            if not str(arguments[0]).rstrip(".").endswith(".invalid"):
                self.stopped.append(f"{event} {arguments[0]!r}")
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def _stop(self, event: str, host: object) -> None:
        self.stopped.append(f"{event} {host!r}")
        raise ConnectionRefusedError("the tests connect to this machine only")


def is_here(host: object) -> bool:
    """Whether a host is this machine; None and the empty one are, being what servers bind to."""
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in {None, "", "localhost", "localhost.localdomain", socket.gethostname()}:
        return True
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


FENCE = Fence()
sys.addaudithook(FENCE)


@pytest.fixture(autouse=True)
def no_way_out() -> Iterator[None]:
    """A test that tries to reach another machine from this process fails, whatever it caught."""
    FENCE.stopped.clear()
    FENCE.up = True
    yield
    FENCE.up = False
    assert not FENCE.stopped, f"tried to leave this machine: {', '.join(FENCE.stopped)}"


@pytest.fixture
def service() -> Iterator[Service]:
    """Where channels send to, on this machine."""
    # Only some tests need a server, and what it is made of.
    from tests.channels.servers import http_service

    with http_service() as one:
        yield one


@pytest.fixture
def database() -> Iterator[SameThread]:
    """A state in memory, for what passes days in moments."""
    from tests.world import SameThread

    database = SameThread()
    yield database
    database.close()


@pytest.fixture
def world(database: SameThread) -> World:
    """A whole watcher over that state."""
    from tests.world import World

    return World(database)
