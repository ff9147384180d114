from __future__ import annotations

import asyncio
from typing import Any

import anyio
import httpx
import pytest

from tests.providers.asking import SECRET, asking, closing, outcome, wire
from tests.providers.loopback import Answer, Seen, dripping, raw, reply, serving, silence
from watcher.errors import ProviderError, RateLimited, Refused, Unavailable
from watcher.model import Request
from watcher.providers.wire import Wire, _client, proxies_in_use
from watcher.redaction import Redactor


async def hang_up(seen: Seen, writer: asyncio.StreamWriter) -> bool:
    return False


async def reset(seen: Seen, writer: asyncio.StreamWriter) -> bool:
    writer.transport.abort()
    return False


@pytest.mark.parametrize("answer", [hang_up, reset])
async def test_a_connection_closed_without_an_answer_is_unavailable(answer: Answer) -> None:
    error = await outcome(answer)

    assert type(error) is Unavailable
    assert "127.0.0.1" in str(error)
    assert error.status_code is None


async def test_silence_is_unavailable_after_the_time_out() -> None:
    error = await outcome(silence, limit=0.05)

    assert type(error) is Unavailable
    assert str(error).startswith("no answer from 127.0.0.1:")
    assert str(error).endswith("within 0.05 s")


async def test_an_answer_that_drips_is_cut_at_twice_the_time_out() -> None:
    error = await outcome(dripping(b"HTTP/1.1 200 OK\r\n\r\n", b" "), limit=0.1)

    assert type(error) is Unavailable
    assert str(error).endswith("did not end within 0.2 s")


async def test_an_error_whose_body_drips_is_still_that_error() -> None:
    answer = dripping(b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 9\r\n\r\n", b" ")
    error = await outcome(answer, limit=0.1)

    assert isinstance(error, RateLimited)
    assert error.retry_after == 9_000


async def failing(url: str, limit: float = 5) -> ProviderError:
    async with closing(wire(limit)) as line:
        with pytest.raises(ProviderError) as caught:
            await line.send(Request("GET", url, {"Authorization": f"Bearer {SECRET}"}))
    return caught.value


async def test_a_refused_connection_says_so() -> None:
    async with serving(reply({})) as server:
        url = server.url
    error = await failing(url)

    assert type(error) is Unavailable
    assert str(error) == f"no connection with {url.removeprefix('http://')}: connection refused"


async def test_a_name_that_does_not_exist_says_so() -> None:
    error = await failing("http://api.watcher.invalid/v1")

    assert type(error) is Unavailable
    assert str(error) == "the name api.watcher.invalid was not found"


async def test_a_certificate_that_is_not_trusted_says_so() -> None:
    async with serving(reply({}), tls=True) as server:
        error = await failing(server.url)

    assert type(error) is Unavailable
    assert "certificate" in str(error)
    assert "not trusted: self-signed certificate" in str(error)
    assert server.seen == []


async def test_tls_with_a_server_that_knows_none_says_so() -> None:
    async with serving(raw(b"garbage\r\n\r\n")) as server:
        error = await failing(server.url.replace("http:", "https:"), limit=0.5)

    assert type(error) is Unavailable
    assert "TLS" in str(error) or "no connection" in str(error)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "http://127.0.0.1:99999/", "http://[half/"])
async def test_an_address_that_cannot_be_used_is_refused(url: str) -> None:
    assert type(await failing(url)) is Refused


async def test_no_more_requests_than_permits_are_under_way() -> None:
    under_way: list[int] = [0, 0]

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        under_way[0] += 1
        under_way[1] = max(under_way)
        await asyncio.sleep(0.01)
        under_way[0] -= 1
        return await reply({})(seen, writer)

    async with asking(slow) as (line, server), anyio.create_task_group() as group:
        for _ in range(12):
            group.start_soon(line.send, Request("GET", server.url))

    assert len(server.seen) == 12
    assert under_way[1] <= 4


async def test_cancelled_requests_leave_every_connection_free() -> None:
    async def slowly(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(0.003)
        return await reply({"ok": True})(seen, writer)

    async with serving(slowly) as server, closing(wire(2, max_connections=10)) as line:

        async def cancelled(after: float) -> None:
            with anyio.move_on_after(after):
                await line.send(Request("GET", server.url))

        async with anyio.create_task_group() as group:
            for number in range(25):
                group.start_soon(cancelled, number % 7 / 1000)
        answers = []

        async def plain() -> None:
            answers.append(await line.send(Request("GET", server.url)))

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(plain)

    assert answers == [{"ok": True}] * 10


async def test_each_request_carries_its_own_headers_to_its_own_host() -> None:
    async with asking(reply({})) as (line, first), serving(reply({})) as second:

        async def ask(url: str, number: int) -> None:
            await line.send(Request("GET", f"{url}/{number}", {"X-Number": str(number)}))

        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(ask, (first if number % 2 else second).url, number)
    asked = {
        server.url: {seen.target: seen.headers["x-number"] for seen in server.seen}
        for server in (first, second)
    }

    assert asked == {
        first.url: {f"/{number}": str(number) for number in range(1, 12, 2)},
        second.url: {f"/{number}": str(number) for number in range(0, 12, 2)},
    }


async def test_a_secret_of_the_request_at_hand_is_struck_out_of_its_answer() -> None:
    async def echo(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        return await reply({"said": seen.headers["authorization"]})(seen, writer)

    secrets = [f"sk-of-account-{number}-nobody-may-see" for number in range(3)]
    async with asking(echo) as (line, server):
        answers = [
            await line.send(Request("GET", server.url, {"Authorization": f"Bearer {secret}"}))
            for secret in (*secrets, secrets[0])
        ]

    assert answers == [{"said": "[secret]"}] * 4


async def test_a_pool_that_gives_no_socket_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[httpx.AsyncClient] = []

    async def never(request: httpx.Request) -> httpx.Response:
        await anyio.sleep_forever()
        raise AssertionError

    def client(*arguments: Any) -> httpx.AsyncClient:
        fresh = (
            _client(*arguments)
            if opened
            else httpx.AsyncClient(transport=httpx.MockTransport(never))
        )
        opened.append(fresh)
        return fresh

    monkeypatch.setattr("watcher.providers.wire._client", client)
    async with asking(reply({"ok": True}), limit=0.05) as (line, server):
        with pytest.raises(Unavailable):
            await line.send(Request("GET", server.url))
        answer = await line.send(Request("GET", server.url))

        assert answer == {"ok": True}
        assert [each.is_closed for each in opened] == [True, False]


async def test_a_transport_can_be_handed_in() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"path": request.url.path})

    line = Wire(
        timeout=1,
        max_connections=1,
        redactor=Redactor(),
        transport=httpx.MockTransport(handle),
    )
    async with closing(line):
        answer = await line.send(Request("GET", "https://api.example.com/v1/batches"))

    assert answer == {"path": "/v1/batches"}


async def test_a_closed_wire_sends_nothing() -> None:
    async with asking(reply({})) as (line, server):
        await line.close()
        with pytest.raises(Unavailable):
            await line.send(Request("GET", server.url))

    assert server.seen == []


async def test_closing_ends_the_requests_under_way() -> None:
    errors: list[ProviderError] = []
    async with asking(silence) as (line, server):

        async def ask() -> None:
            try:
                await line.send(Request("GET", server.url))
            except ProviderError as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            for _ in range(200):
                if server.seen:
                    break
                await anyio.sleep(0.005)
            await line.close()

    assert [type(error) for error in errors] == [Unavailable]


async def test_the_environments_proxy_is_used_with_its_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(reply({"through": "proxy"})) as proxy:
        host = proxy.url.removeprefix("http://")
        monkeypatch.setenv("HTTP_PROXY", f"http://user:word-of-proxy@{host}")
        async with closing(wire()) as line:
            answer = await line.send(Request("GET", "http://api.watcher.invalid/v1/batches"))

    assert answer == {"through": "proxy"}
    assert proxy.seen[0].target == "http://api.watcher.invalid/v1/batches"
    assert proxy.seen[0].headers["proxy-authorization"].startswith("Basic ")


@pytest.mark.parametrize("left_out", ["127.0.0.1", "127.0.0.0/8", "*", "example.com, 127.0.0.1"])
async def test_hosts_of_no_proxy_are_reached_straight(
    monkeypatch: pytest.MonkeyPatch, left_out: str
) -> None:
    async with serving(reply({"straight": True})) as server:
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", left_out)
        async with closing(wire()) as line:
            answer = await line.send(Request("GET", server.url))

    assert answer == {"straight": True}


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ("http://user:word-of-proxy@127.0.0.1:1", "the proxy http://127.0.0.1:1 cannot be reached"),
        (
            "socks5://user:word-of-proxy@127.0.0.1:1",
            "the proxy socks5://127.0.0.1:1 cannot be used: it is neither http nor https",
        ),
    ],
)
async def test_a_proxy_that_fails_is_named_without_its_credentials(
    monkeypatch: pytest.MonkeyPatch, proxy: str, said: str
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    error = await failing("https://api.watcher.invalid/v1")

    assert type(error) is Unavailable
    assert str(error) == said


async def test_a_proxy_that_refuses_to_connect_is_told_by_its_status(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(reply(b"", "407 Proxy Authentication Required")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        error = await failing("https://api.watcher.invalid/v1")

    assert type(error) is Unavailable
    assert str(error) == f"the proxy {proxy.url} answered 407"


def test_proxies_in_use_are_named_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:word@proxy.example:3128")
    monkeypatch.setenv("ALL_PROXY", "proxy.example")

    assert proxies_in_use() == {
        "https": "http://proxy.example:3128",
        "all": "http://proxy.example",
    }
