"""No error, traceback or object tells a secret: what leaked once, or could have."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from pydantic import BaseModel, SecretStr

from tests.builders import registering
from tests.channels.servers import http_service
from tests.cli.bench import call, world
from tests.config.bench import Bench
from tests.fakes import FakeClock
from tests.hunt import HUNT, found_in
from tests.providers.loopback import Loopback, Seen, serving
from tests.world import SameThread
from watcher import log
from watcher.app import App
from watcher.cli import check
from watcher.config import HeartbeatSettings, Places
from watcher.daemon.heartbeat import Heartbeat
from watcher.errors import WatcherError
from watcher.model import Request
from watcher.providers.wire import Wire
from watcher.redaction import Redactor
from watcher.simulator import KEY, Fate, Simulation
from watcher.simulator import Wire as Shape
from watcher.simulator.transport import SimulatedTransport

SECRET = "sk-Plain4Nobody/0123+456789"
URL = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
HEADER, PASSWORD, SEGMENT = "gate-way-0123", "pass-word-0123", "0a1b2c3d4e5f6a7b8c9d"
PING = "/ping/1f2e3d4c5b6a7988"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (folder := tmp_path / "user").mkdir()
    system = tmp_path / "system"
    return Bench(Places(folder / "config", folder, system / "config.toml", system, system))


async def echo(seen: Seen, writer: asyncio.StreamWriter) -> bool:
    """Refuses, and repeats all it was sent, as a careless gateway does."""
    said = f"not {seen.target} with {seen.headers.get('proxy-authorization')}".encode()
    writer.write(b"HTTP/1.1 404 \r\ncontent-length: %d\r\n\r\n" % len(said) + said)
    await writer.drain()
    return True


async def heartbeat_said(server: Loopback, path: str) -> str:
    said: list[str] = []
    settings = HeartbeatSettings(url=SecretStr(server.url + path))
    app: Any = SimpleNamespace(
        redactor=Redactor(),
        clock=FakeClock(),
        plan_now=SimpleNamespace(settings=SimpleNamespace(heartbeat=settings)),
        log=SimpleNamespace(warning=lambda _, error: said.append(error)),
    )
    heartbeat = Heartbeat(app)
    await heartbeat.once()
    await heartbeat.close()
    return said[0]


@pytest.mark.parametrize("path", ["/ping/0a1b2c3d-4e5f", "/api/push/aB3dE5fG7hI9jK1l?ok=1"])
async def test_a_heartbeats_address_is_struck_out_where_only_its_path_is_told(path: str) -> None:
    async with serving(echo) as server:
        said = await heartbeat_said(server, path)

    assert said == "404 Not Found: not [secret] with None"


@pytest.mark.parametrize("password", ["pass-word-1", "p%40ss%2Fword-1"])
async def test_a_proxy_that_repeats_its_credentials_does_not_have_them_told(
    monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    async with serving(echo) as server:
        login = f"http://me:{password}@"
        monkeypatch.setenv("http_proxy", server.url.replace("http://", login))
        wire = Wire(timeout=5, max_connections=1, redactor=Redactor())
        with pytest.raises(WatcherError, match=r"Basic \[secret\]"):
            await wire.send(Request("GET", "http://provider.invalid/batches"))
        await wire.close()


@pytest.mark.parametrize(
    "given", ["/Qm9vYmFyQmF6cXV4MTIzNDU2Nzg5MA==", "/AbC1234567890deFGHI+/xyZ0=", "~/" + "x9Y" * 99]
)
@pytest.mark.parametrize("table", ["accounts.main", "channels.team", "heartbeat"])
def test_a_secret_in_place_of_its_files_path_is_not_told(
    bench: Bench, given: str, table: str
) -> None:
    key = "api_key_file" if table == "accounts.main" else "url_file"
    provider = 'provider = "openai"\n' if table == "accounts.main" else ""
    settings = bench.load(f"[{table}]\n{provider}{key} = '{given}'\n")
    account, channel = settings.accounts.get("main"), settings.channels.get("team")
    secret = account.secret if account else (channel or settings.heartbeat).secret
    with pytest.raises(WatcherError) as caught:
        secret.read()

    assert "…" in str(caught.value)
    assert given[2:10] not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", URL),
        (URL,),
        ("sk-proj-abcdef0123456789",),
        ("ls", "--status", "sk-proj-abcdef0123456789"),
        ("add", "batch_1", "--account", "sk-proj-abcdef0123456789"),
        ("add", "sk-proj-abcdef0123456789/batch_1"),
        ("events", "--since=sk-proj-abcdef0123456789"),
        ("show", "sk-proj-abcdef0123456789"),
        # What is said of a long one is cut, and its beginning is as good as a part of the key.
        ("show", f"sk-proj-abcdef0123456789{'A1b2C3d4' * 12}"),
        ("rm", f"json://user:abcdef0123456789@host/{'long' * 40}"),
        ("add", "batch_1", "--account", f"json://user:abcdef0123456789@host/{'long' * 40}"),
        ("events", "--since", f"json://user:abcdef0123456789@host/{'long' * 40}"),
    ],
)
def test_a_secret_in_the_wrong_place_of_a_command_is_not_repeated(
    configured: None, arguments: tuple[str, ...]
) -> None:
    said = call(*arguments)

    assert said.code in {2, 4}
    assert "…" in said.err
    assert "abcdef0123456789" not in said.err
    assert "TIiajkdnlazkcOXrIdevi7FQ" not in said.err


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        f'[accounts.main]\nprovider = "openai"\napi_key = "{SECRET}"\n'
        f'[channels.team]\nurl = "{URL}"\n'
    )
    file.chmod(0o600)
    monkeypatch.setenv("WATCHER_CONFIG", str(file))
    monkeypatch.setenv("WATCHER_STATE", str(tmp_path / "watcher.db"))


@pytest.mark.parametrize("debug", [(), ("--debug",)])
def test_a_fault_of_our_own_tells_no_secret_that_was_read(
    configured: None, monkeypatch: pytest.MonkeyPatch, debug: tuple[str, ...]
) -> None:
    account = check._account

    async def broken(app: App, settings: Any, name: str, *, offline: bool) -> dict[str, Any]:
        await account(app, settings, name, offline=offline)
        raise RuntimeError(f"broke on {settings.accounts[name].credential().get_secret_value()}")

    monkeypatch.setattr(check, "_account", broken)
    said = call("check", "--offline", *debug)

    assert said.code == 1
    assert "our own fault" in said.err
    assert SECRET not in said.err


def test_at_debug_nothing_is_told_of_a_key_and_a_channel_that_are_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WATCHER_STATE", str(tmp_path / "watcher.db"))
    monkeypatch.setenv("http_proxy", f"http://me:{PASSWORD}@127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with world() as providers, http_service() as service:
        service.status, service.answer = 500, f"{URL} {PASSWORD}".encode()
        id_ = providers.ended()
        base_url = providers.variables["OPENAI_BASE_URL"]
        file = bench.write(
            f'[accounts.main]\nprovider = "openai"\napi_key = "{KEY}"\nbase_url = "{base_url}"\n'
            f'headers = {{ X-Gateway = "{HEADER}" }}\n'
            f'[accounts.wrong]\nprovider = "openai"\napi_key = "{SECRET}"\n'
            f'base_url = "{base_url}"\n'
            f'[channels.team]\nurl = "json://me:{PASSWORD}@{service.address}/{SEGMENT}"\n'
            f'[heartbeat]\nurl = "{service.url}{PING}"\n'
        )
        call("add", f"main/{id_}", "wrong/batch_1", "--config", file)
        said = [
            call(*command, "--debug", "--config", file)
            for command in (
                ("run", "--once"),
                ("check",),
                ("test", "team"),
                ("status", "--json"),
                ("show", f"main/{id_}", "--json"),
                ("deliveries", "--json"),
                ("wait", f"wrong/{id_}", "--notify", f"json://me:{PASSWORD}@{service.address}/x"),
            )
        ]
    HUNT.add(HEADER, PASSWORD, SEGMENT, PING)

    # What is told at all; that no secret is in it, the hunt sees to at the end of every test.
    assert "DEBUG" in said[0].err.upper()
    assert "500" in said[2].err + said[2].out
    assert [one.code for one in said][1:3] == [3, 1]
    assert service.received


# What objects show


def reached(root: object) -> Iterator[object]:
    """Every object of ours that is reached from one, and every plain model and container."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, str | bytes | int | float | SecretStr | type):
            continue
        seen.add(id(one))
        if isinstance(one, Mapping):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set | frozenset):
            waiting += one
        elif type(one).__module__.partition(".")[0] == "watcher":
            yield one
            waiting += vars(one).values() if hasattr(one, "__dict__") else ()
            waiting += [getattr(one, name) for name in _slots(one) if hasattr(one, name)]


def _slots(one: object) -> list[str]:
    names = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]
    return names + ([field.name for field in fields(one)] if is_dataclass(one) else [])


@pytest.mark.parametrize("shape", [Shape.OPENAI, Shape.COHERE])
async def test_no_object_of_a_process_at_work_shows_a_secret(bench: Bench, shape: Shape) -> None:
    clock, database = FakeClock(), SameThread()
    simulation = Simulation(clock.now)
    provider = getattr(simulation, shape.value)
    id_ = provider.add(Fate.completed(), created_at=clock.now() - 10**8)
    with http_service() as service:
        configuration = (
            f'[accounts.main]\nprovider = "{shape.value}"\napi_key = "simulator-key"\n'
            f'base_url = "{simulation.base_url(shape, "http://127.0.0.1:9")}"\n'
            f'headers = {{ X-Gateway = "{HEADER}" }}\n'
            f'[accounts.gate]\nprovider = "openai-compatible"\napi_key = "{SECRET}"\n'
            f'base_url = "http://127.0.0.1:9/{SEGMENT}/v1"\n'
            f'[channels.team]\nurl = "json://me:{PASSWORD}@{service.address}/{SEGMENT}"\n'
            f'digest_wait = "0s"\n[heartbeat]\nurl = "http://127.0.0.1:9{PING}"\n'
        )
        settings = await anyio.to_thread.run_sync(bench.load, configuration)
        transport = SimulatedTransport(simulation)
        app = App(database, clock, log.get("test"), Redactor(), transport=transport)
        plan = await anyio.to_thread.run_sync(app.plan, settings)
        await app.begin(plan, spread=False)
        await app.write(
            lambda ledger: ledger.batches.register(registering(id_, "main"), clock.now())
        )
        await app.once()
        HUNT.add(HEADER, PASSWORD, SEGMENT, PING)
        secrets = [SECRET, HEADER, PASSWORD, SEGMENT, PING, "simulator-key"]
        objects = list(reached(app))
        told = [found for one in objects for found in found_in(shown(one), secrets)]
        await app.close()
    database.close()

    assert told == []
    assert len(service.received) == 1
    assert {"App", "Plan", "Settings", "Looking", "Telling", "Wire", "AppriseNotifier"} <= {
        type(one).__name__ for one in objects
    }


def shown(one: object) -> bytes:
    texts = [repr(one), str(one), f"{one}"]
    if isinstance(one, BaseModel):
        # A base URL is no SecretStr: who dumps an account gets it, as configured.
        dumped = one.model_dump(exclude={"base_url", "accounts"})
        texts += [repr(dumped), repr(list(one))] if not hasattr(one, "base_url") else [repr(dumped)]
    return "\n".join(texts).encode()
