"""Sends requests to providers: the one place that does, and that bounds and judges answers.

httpx over aiohttp's connections: httpx's own pool loses slots for ever when requests are
cancelled. Nothing here retries; whoever asks decides when to ask again.
"""

from __future__ import annotations

import base64
import functools
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TypeVar, TypeVarTuple, Unpack, cast
from urllib.parse import unquote, urlsplit

import aiohttp
import anyio
import anyio.to_thread
import httpx
from aiohttp.http_exceptions import HttpProcessingError, TransferEncodingError
from httpx_aiohttp import AiohttpTransport

from watcher.clock import Clock, SystemClock
from watcher.errors import Garbled, ProviderError, Refused, Unavailable
from watcher.model import Request
from watcher.providers.answer import ERROR_BYTES, Strike, failure, inflated, most_values, parsed
from watcher.providers.proxies import Proxies, proxies_in_use, without_credentials
from watcher.redaction import Redactor
from watcher.text import clean_line

__all__ = ["Wire", "proxies_in_use"]

# Longer than the shortest pause between two looks, shorter than servers keep a connection.
KEEP_ALIVE = 30.0
# The last word about a connection that is closed while everything is being cancelled.
CLOSE_WITHIN = 1.0

# A larger body is read in a thread, a larger compressed one unpacked there: to a thousand times.
LARGE = 256 * 1024
PACKED = 4 * 1024
READERS = 2
Given = TypeVarTuple("Given")
Result = TypeVar("Result")

# All that httpx, aiohttp and the sockets below them raise for a request that failed.
_TROUBLE = (
    httpx.HTTPError,
    httpx.InvalidURL,
    aiohttp.ClientError,
    HttpProcessingError,
    OSError,
    ValueError,
)


@dataclass(slots=True)
class _Head:
    """The answer as far as it has come."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class _Open:
    """A client, how many requests it carries, and whether it is to be closed after them."""

    client: httpx.AsyncClient
    users: int = 0
    retired: bool = False


class Wire:
    """Connections to one account's provider, at most `max_connections` at a time.

    `timeout`, in seconds, is the limit for connecting and for each silence; twice that is the
    limit for all of a request. A transport handed in is neither rebuilt nor closed.
    """

    def __init__(
        self,
        *,
        timeout: float,
        max_connections: int,
        redactor: Redactor,
        transport: httpx.AsyncBaseTransport | None = None,
        user_agent: str = "batch-watcher",
        clock: Clock | None = None,
    ) -> None:
        self._timeout = timeout
        self._max_connections = max_connections
        self._redactor = redactor
        self._transport = transport
        self._user_agent = user_agent
        self._clock = clock or SystemClock()
        self._proxies = Proxies() if transport else Proxies.of_environment()
        redactor.add(*self._proxies.secrets())
        self._trust = None if transport else _trusted()
        # As many permits as sockets: nothing ever queues inside the pool.
        self._permits = anyio.Semaphore(max_connections, fast_acquire=True)
        # Reading keeps a processor busy: more at a time would only take each other's.
        self._readers = anyio.CapacityLimiter(READERS)
        self._open: _Open | None = None
        # The headers of the last request, and the secrets in them.
        self._struck_headers: dict[str, str] = {}
        self._own = Redactor()
        self._closed = False

    async def send(self, request: Request) -> object:
        """The JSON a provider answers to a request that is already authorized.

        Raises the ProviderError that the answer, or its absence, stands for.
        """
        if not _is_address(request.url):
            raise Refused("the address of the provider cannot be used")
        strike = self._strike(request)
        async with self._permits:
            if self._closed:
                raise Unavailable("the connections to the provider have been closed")
            held = self._take()
            try:
                answer = await self._exchange(held, request, strike)
            finally:
                await self._let_go(held)
            # Still with the permit: what is being read counts as under way.
            return await self._read(answer, request, strike)

    async def close(self) -> None:
        """Closes every connection; requests under way end as Unavailable."""
        self._closed = True
        held, self._open = self._open, None
        if held is not None and self._transport is None:
            await held.client.aclose()

    async def _read(self, answer: _Head, request: Request, strike: Strike) -> object:
        """The JSON of an answer; in a thread where it would hold up the event loop."""
        raw, headers, most = bytes(answer.body), answer.headers, request.most_bytes
        if not 200 <= answer.status < 300:
            raise failure(answer.status, headers, raw, self._clock.now(), strike)
        encoding = headers.get("content-encoding", "")
        packed = bool(encoding) and len(raw) > PACKED
        body = await self._apart(inflated, raw, encoding, most, when=packed)
        if len(body) > most:
            raise Garbled(f"the answer is larger than {most:,} bytes")
        large = len(body) > LARGE
        return await self._apart(parsed, body, strike, most_values(most), when=large)

    async def _apart(
        self, work: Callable[[Unpack[Given]], Result], *given: *Given, when: bool
    ) -> Result:
        """Does the work, in a thread `when` it may take long."""
        if not when:
            return work(*given)
        return await anyio.to_thread.run_sync(work, *given, limiter=self._readers)

    async def _exchange(self, held: _Open, request: Request, strike: Strike) -> _Head:
        """One request and what came back of it, all within the deadline."""
        answer = _Head()
        with anyio.move_on_after(2 * self._timeout) as deadline:
            try:
                await self._receive(held.client, request, answer)
            except _TROUBLE as error:
                # Of an error the status counts, even if its body did not come through.
                if answer.status < 300:
                    raise self._explained(error, request.url, strike) from None
            except RuntimeError:
                if not self._closed:
                    raise
                raise Unavailable("the connections to the provider have been closed") from None
        if deadline.cancelled_caught and answer.status < 300:
            host, limit = _host(request.url), f"{2 * self._timeout:g} s"
            if answer.status:
                raise Unavailable(f"the answer of {host} did not end within {limit}")
            # Without as much as a socket the pool itself may be stuck.
            self._retire(held)
            raise Unavailable(f"no answer from {host} within {limit}")
        return answer

    async def _receive(self, client: httpx.AsyncClient, request: Request, answer: _Head) -> None:
        outgoing = client.build_request(request.method, request.url, headers=request.headers)
        response = await client.send(outgoing, stream=True)
        try:
            answer.headers = response.headers
            answer.status = response.status_code
            if 300 <= answer.status < 400:
                return
            most = request.most_bytes if answer.status < 300 else ERROR_BYTES
            # Not through httpx's decoders: they inflate without a bound.
            async for chunk in cast("httpx.AsyncByteStream", response.stream):
                answer.body += chunk[: most + 1 - len(answer.body)]
                if len(answer.body) > most:
                    return
        finally:
            await response.aclose()

    def _take(self) -> _Open:
        if self._open is None:
            transport = self._transport or _Routes(
                self._max_connections, self._proxies, cast("ssl.SSLContext", self._trust)
            )
            self._open = _Open(_client(transport, self._timeout, self._user_agent))
        self._open.users += 1
        return self._open

    def _retire(self, held: _Open) -> None:
        if self._transport is None:
            held.retired = True
            if self._open is held:
                self._open = None

    async def _let_go(self, held: _Open) -> None:
        held.users -= 1
        if held.retired and not held.users:
            with anyio.move_on_after(CLOSE_WITHIN, shield=True):
                await held.client.aclose()

    def _strike(self, request: Request) -> Strike:
        """Strikes out the secrets of the process and whatever this request's headers hold."""
        headers = dict(request.headers)
        if headers != self._struck_headers:
            self._struck_headers, self._own = headers, Redactor()
            for name, value in headers.items():
                if name.lower() not in _HARMLESS:
                    self._own.add(value)
                    self._own.add(value.partition(" ")[2])
        own, redactor = self._own, self._redactor
        return lambda text: own.strike(redactor.strike(text))

    def _explained(self, error: Exception, url: str, strike: Strike) -> ProviderError:
        """What went wrong below HTTP, as a sentence for people."""
        below = _below(error)
        kind, sentence = next(row[1:] for row in _CAUSES if isinstance(below, row[0]))
        said = sentence.format(
            host=_host(url),
            limit=f"{self._timeout:g} s",
            proxy=without_credentials(self._proxies.for_url(url) or ""),
            why=_why(below),
        )
        return kind(clean_line(strike(said), 300))


# Headers whose values are no secrets and may turn up in an error.
_HARMLESS = {"accept", "content-type", "openai-organization", "openai-project", "user-agent"}


class _Routes(httpx.AsyncBaseTransport):
    """Straight connections, and those through each proxy the environment asks for."""

    def __init__(self, max_connections: int, proxies: Proxies, trust: ssl.SSLContext) -> None:
        self._max_connections = max_connections
        self._proxies = proxies
        self._trust = trust
        self._transports: dict[str | None, AiohttpTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        proxy = self._proxies.for_url(str(request.url))
        if proxy not in self._transports:
            if proxy is not None and urlsplit(proxy).scheme not in {"http", "https"}:
                raise httpx.ProxyError("it is neither http nor https")
            self._transports[proxy] = AiohttpTransport(
                verify=self._trust,
                proxy=None if proxy is None else _proxy(proxy),
                client=self._session,
            )
        return await self._transports[proxy].handle_async_request(request)

    async def aclose(self) -> None:
        for transport in self._transports.values():
            await transport.aclose()

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._max_connections, keepalive_timeout=KEEP_ALIVE, ssl=self._trust
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Neither netrc nor proxies of aiohttp's own finding.
            trust_env=False,
        )


def _client(
    transport: httpx.AsyncBaseTransport, timeout: float, user_agent: str
) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=transport,
        # `pool` is the whole way to a socket, look-up of the name included: the deadline's part.
        timeout=httpx.Timeout(timeout, pool=None),
        headers={
            "accept": "application/json",
            # What `inflated` can bound.
            "accept-encoding": "gzip, deflate",
            "user-agent": user_agent,
        },
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        follow_redirects=False,
        trust_env=False,
    )


@functools.cache
def _trusted() -> ssl.SSLContext:
    """The certificates this process trusts; read once, SSL_CERT_FILE and SSL_CERT_DIR first."""
    return httpx.create_ssl_context()


def _proxy(url: str) -> httpx.Proxy:
    """A proxy whose credentials travel as a header: aiohttp deprecates any other way."""
    parts = urlsplit(url)
    if parts.username is None:
        return httpx.Proxy(without_credentials(url))
    credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    # aiohttp makes Proxy-Authorization of it.
    headers = {"Authorization": f"Basic {base64.b64encode(credentials).decode()}"}
    return httpx.Proxy(without_credentials(url), headers=headers)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _host(url: str) -> str:
    """The host and port of a URL, never its user, password or query."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return clean_line(f"{host}:{parts.port}" if parts.port else host, 100)


# What lies below a failed request, what kind of error it is, and what to say; the first that
# fits counts. The transport calls a refused connection, a failed look-up and a reset alike:
# only the error below it tells which it was.
_CAUSES: tuple[tuple[type[Exception], type[ProviderError], str], ...] = (
    (aiohttp.ClientProxyConnectionError, Unavailable, "the proxy {proxy} cannot be reached"),
    (aiohttp.ClientHttpProxyError, Unavailable, "the proxy {proxy} answered {why}"),
    (httpx.ProxyError, Unavailable, "the proxy {proxy} cannot be used: {why}"),
    (aiohttp.ClientConnectorDNSError, Unavailable, "the name {host} was not found"),
    (
        aiohttp.ClientConnectorCertificateError,
        Unavailable,
        "the certificate of {host} is not trusted: {why}",
    ),
    (aiohttp.ClientSSLError, Unavailable, "no TLS connection with {host}: {why}"),
    (ssl.SSLError, Unavailable, "no TLS connection with {host}: {why}"),
    (aiohttp.ClientConnectorError, Unavailable, "no connection with {host}: {why}"),
    (aiohttp.ConnectionTimeoutError, Unavailable, "no connection with {host} within {limit}"),
    (httpx.ConnectTimeout, Unavailable, "no connection with {host} within {limit}"),
    (TimeoutError, Unavailable, "no answer from {host} within {limit}"),
    (httpx.TimeoutException, Unavailable, "no answer from {host} within {limit}"),
    (
        aiohttp.ServerDisconnectedError,
        Unavailable,
        "{host} closed the connection without an answer",
    ),
    (TransferEncodingError, Garbled, "the answer of {host} is not sound HTTP"),
    (aiohttp.ClientPayloadError, Unavailable, "the answer of {host} broke off"),
    (aiohttp.InvalidURL, Refused, "the address of {host} cannot be used"),
    (httpx.InvalidURL, Refused, "the address of {host} cannot be used"),
    (httpx.UnsupportedProtocol, Refused, "the address of {host} cannot be used"),
    (aiohttp.ClientResponseError, Garbled, "what {host} answered is not HTTP"),
    (HttpProcessingError, Garbled, "what {host} answered is not HTTP"),
    (httpx.ProtocolError, Garbled, "what {host} answered is not HTTP"),
    (ValueError, Refused, "the request to {host} cannot be sent"),
    (OSError, Unavailable, "the connection with {host} broke"),
    (httpx.NetworkError, Unavailable, "the connection with {host} broke"),
    (aiohttp.ClientConnectionError, Unavailable, "the connection with {host} broke"),
    (Exception, Unavailable, "no answer from {host}: {why}"),
)


def _below(error: Exception) -> Exception:
    """The error that says most: the one below httpx's, and below that what broke the framing."""
    cause = error.__cause__ if isinstance(error, httpx.HTTPError) else None
    found = cause if isinstance(cause, Exception) else error
    broken = found.__cause__
    return broken if isinstance(broken, TransferEncodingError) else found


def _why(error: Exception) -> str:
    """The reason in the words of whoever gave it, where it is one for people."""
    match error:
        case aiohttp.ClientHttpProxyError(status=status):
            return str(status)
        case aiohttp.ClientConnectorCertificateError(certificate_error=reason):
            return getattr(reason, "verify_message", "") or str(reason)
        case aiohttp.ClientConnectorError(os_error=reason) | (ssl.SSLError() as reason):
            if isinstance(reason, ConnectionRefusedError):
                return "connection refused"
            return getattr(reason, "reason", "") or reason.strerror or type(reason).__name__
        case httpx.ProxyError():
            return str(error)
        case _:
            return type(error).__name__
