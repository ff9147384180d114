"""Who gets a credential: its own host, past redirects, look-alikes, proxies and netrc."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import SecretStr

from tests.channels.kinds import KINDS, kind
from tests.channels.servers import Service, http_service
from tests.cli.bench import call
from tests.providers.asking import SECRET, asking, wire
from tests.providers.asking import closing as closing_wire
from tests.providers.loopback import reply, serving
from watcher.app import App
from watcher.clock import SystemClock
from watcher.config import AccountSettings, Settings
from watcher.daemon.heartbeat import Heartbeat
from watcher.errors import ConfigError, ProviderError
from watcher.log import get
from watcher.model import Message, Request, Severity, TryOutcome
from watcher.notify import AppriseNotifier, load
from watcher.providers.addresses import checked_base_url
from watcher.redaction import Redactor
from watcher.store.sqlite import MEMORY, SqliteDatabase

MESSAGE = Message("DONE nightly evals: 100 of 100", "openai/batch_abc@3", Severity.SUCCESS)
REDIRECTS = (301, 302, 303, 307, 308)


@pytest.fixture(autouse=True, scope="module")
def apprise_loaded() -> None:
    """Loading it reads files, which an event loop must not wait for."""
    load()


@pytest.fixture
def provider() -> Iterator[Service]:
    """The host that a credential is for."""
    with http_service() as service:
        yield service


@pytest.fixture
def stranger() -> Iterator[Service]:
    """A host that must never hear anything."""
    with http_service() as service:
        yield service


def lure(stranger: Service) -> dict[str, str]:
    """Everything a host can say to send its client elsewhere."""
    return {
        "Location": f"{stranger.url}/v1/batches",
        "Content-Location": stranger.url,
        "Refresh": f"0; url={stranger.url}",
        "Alt-Svc": f'h2="{stranger.address}"; ma=86400, http/1.1="{stranger.address}"',
        "Link": f"<{stranger.url}>; rel=next",
        "Set-Cookie": "session=stolen; Domain=127.0.0.1; Path=/",
    }


# Other hosts.


@pytest.mark.parametrize("status", REDIRECTS)
async def test_no_redirect_of_any_form_takes_a_credential_elsewhere(
    stranger: Service, status: int
) -> None:
    port = stranger.port
    locations = [
        stranger.url,
        f"http://localhost:{port}/",
        f"//127.0.0.1:{port}/v1",
        f"https://127.0.0.1:{port}/v1",
        f"HTTP://user:word@127.0.0.1:{port}",
        f"\\\\127.0.0.1:{port}\\v1",
        f" {stranger.url}",
    ]
    for location in locations:
        headers = {**lure(stranger), "Location": location}
        async with asking(reply({}, f"{status} Elsewhere", headers)) as (line, server):
            for _ in range(2):
                with pytest.raises(ProviderError):
                    await line.send(Request("GET", server.url, {"Authorization": SECRET}))

            assert [seen.headers["authorization"] for seen in server.seen] == [SECRET] * 2
            assert [seen for seen in server.seen if "cookie" in seen.headers] == []

    assert stranger.received == []


def test_check_wait_and_discovery_follow_no_redirect(
    provider: Service, stranger: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f'[accounts.main]\nprovider = "openai"\napi_key = "{SECRET}"\n'
        f'base_url = "{provider.url}/v1"\ndiscover = true\n'
    )
    config.chmod(0o600)
    monkeypatch.setenv("WATCHER_CONFIG", str(config))
    monkeypatch.setenv("WATCHER_STATE", str(tmp_path / "watcher.db"))
    provider.status, provider.headers = 307, lure(stranger)
    codes = [
        call(*words).code
        for words in (
            ("check",),
            ("wait", "batch_1", "--timeout", "100ms"),
            ("add", "batch_1"),
            ("run", "--once"),
        )
    ]

    asked = [received.path.partition("?")[0] for received in provider.received]
    assert codes[0] == 5
    assert {"/v1/batches", "/v1/batches/batch_1"} == set(asked)
    assert {one.headers["authorization"] for one in provider.received} == {f"Bearer {SECRET}"}
    assert stranger.received == []


def test_the_heartbeat_follows_no_redirect(provider: Service, stranger: Service) -> None:
    provider.status, provider.headers = 302, lure(stranger)

    async def beat(app: App) -> None:
        one = Heartbeat(app)
        await one.once()
        await one.close()

    with closing(SqliteDatabase(MEMORY)) as database:
        app = App(database, SystemClock(), get("test"), Redactor())
        settings = Settings.model_validate({"heartbeat": {"url": f"{provider.url}/ping/{SECRET}"}})
        app.plan_in_use = app.plan(settings)
        anyio.run(beat, app)

    assert [received.path for received in provider.received] == [f"/ping/{SECRET}"]
    assert stranger.received == []


@pytest.mark.parametrize("name", sorted(set(KINDS) - {"mail", "mail_html"}))
async def test_no_channel_follows_a_redirect(
    name: str, stranger: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kind(name, monkeypatch) as made:
        made.service.status, made.service.headers = 307, lure(stranger)
        channel = AppriseNotifier(
            "team", SecretStr(made.url), redactor=Redactor(), clock=SystemClock()
        )

        sent = await channel.send(MESSAGE)
        channel.close()

    assert sent.outcome is TryOutcome.FAILED
    assert len(made.service.received) == 1
    assert stranger.received == []


ELSEWHERE = [
    "http://localhost.evil.invalid",
    "http://localhost.",
    "http://127.0.0.1.evil.invalid",
    "http://127.0.0.1.",
    "http://127.1",
    "http://0x7f.1",
    "http://0177.0.0.1",
    "http://2130706433",
    "http://0.0.0.0",
    "http://[::]",
    "http://\uff11\uff12\uff17.0.0.1",
    "http://127\u30020\u30020\u30021",
    "http://\uff4cocalhost",
    "http://xn--lcalhost-99a",
    "HTTP://evil.invalid",
]
REFUSED = [
    "http://127.0.0.1@evil.invalid",
    "http://user:word@127.0.0.1",
    "http://[::1]evil.invalid",
    "http://[::1].evil.invalid",
    "http://[::1%25eth0]",
    "http://[127.0.0.1]",
    "http://127.0.0.1\\@evil.invalid",
    "http://127.0.0.1\\.evil.invalid",
    "http://evil.invalid\\127.0.0.1",
    "http:\\\\127.0.0.1",
    "http:///127.0.0.1",
    "http:127.0.0.1",
    "http://127.0.0.1%2f.evil.invalid",
    "http://127.0.0.1,evil.invalid",
    "http://127.0.0.1;evil.invalid",
    "http://127.0.0.1:80:90",
    "http://127.0.0.1:+80",
    "http://127.0.0.1#@evil.invalid",
    "http://127.0.0.1?@evil.invalid",
    "http://127.0.0.1 .evil.invalid",
    "ftp://127.0.0.1",
    "//127.0.0.1",
    "file:///etc/passwd",
]


def objection(base_url: str, **options: Any) -> str | None:
    given = {"provider": "openai", "api_key": SECRET, "base_url": base_url, **options}
    return AccountSettings.model_validate(given).objection()


@pytest.mark.parametrize("base_url", ELSEWHERE)
def test_what_only_looks_like_this_machine_needs_leave_to_be_unencrypted(base_url: str) -> None:
    assert "allow_insecure = true" in (objection(base_url) or "")
    assert objection(base_url, allow_insecure=True) is None
    assert objection(re.sub("(?i)^http:", "https:", base_url)) is None


@pytest.mark.parametrize("base_url", REFUSED)
def test_an_address_that_two_readers_could_take_for_two_hosts_is_refused(base_url: str) -> None:
    with pytest.raises(ConfigError):
        checked_base_url(base_url)

    assert objection(base_url, allow_insecure=True)


# Proxies and netrc.


async def test_what_runs_here_is_asked_past_any_proxy(
    provider: Service, stranger: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, stranger.url)
    async with closing_wire(wire()) as line:
        answer = await line.send(Request("GET", provider.url, {"Authorization": SECRET}))

    assert answer == {"ok": True}
    assert stranger.received == []


async def test_a_proxy_is_not_shown_the_credential_of_an_encrypted_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(reply(b"", "407 Proxy Authentication Required")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        async with closing_wire(wire()) as line:
            headers = {"Authorization": SECRET}
            with pytest.raises(ProviderError):
                await line.send(Request("GET", "https://api.watcher.invalid/v1", headers))

    assert [(seen.method, seen.target) for seen in proxy.seen] == [
        ("CONNECT", "api.watcher.invalid:443")
    ]
    assert SECRET not in repr(proxy.seen)


def test_check_names_the_proxies_without_their_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://user:word-of-proxy@proxy.example:3128")
    monkeypatch.setenv("ALL_PROXY", "socks5://token-of-proxy@other.example")
    said = call("check", "--offline")

    assert "https requests go through the proxy http://proxy.example:3128" in said.err
    assert "all requests go through the proxy socks5://other.example" in said.err
    assert "-of-proxy" not in said.out + said.err


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user keeps for other programs, where they look for it."""
    for place in (Path(os.environ["HOME"]) / ".netrc", tmp_path / "netrc"):
        text = "machine 127.0.0.1 login somebody password sesame\ndefault login x password sesame\n"
        place.write_text(text)
        place.chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.mark.usefixtures("netrc")
async def test_netrc_is_used_for_no_provider(provider: Service) -> None:
    async with closing_wire(wire()) as line:
        await line.send(Request("GET", provider.url))
        await line.send(Request("GET", provider.url, {"Authorization": SECRET}))

    sent = [received.headers.get("authorization") for received in provider.received]
    assert sent == [None, SECRET]


@pytest.mark.usefixtures("netrc")
async def test_netrc_is_used_for_no_channel(provider: Service) -> None:
    url = SecretStr(f"json://{provider.address}/hook")
    channel = AppriseNotifier("team", url, redactor=Redactor(), clock=SystemClock())

    await channel.send(MESSAGE)
    channel.close()

    assert "authorization" not in provider.received[0].headers
