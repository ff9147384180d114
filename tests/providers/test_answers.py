from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from tests.providers.asking import SECRET, asking, closing, outcome, wire
from tests.providers.loopback import Answer, dripping, raw, reply, serving
from watcher.errors import (
    Garbled,
    Missing,
    ProviderError,
    RateLimited,
    Refused,
    Unauthorized,
    Unavailable,
)
from watcher.model import Request
from watcher.providers.answer import inflated, parsed
from watcher.redaction import Redactor


def chunked(*chunks: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


async def test_json_is_returned_whatever_the_content_type_says() -> None:
    answer = reply(b'\xef\xbb\xbf {"id": "b1"}', headers={"content-type": "text/html"})

    assert await outcome(answer) == {"id": "b1"}


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(b'{"id": 1}', mtime=0)),
        ("deflate", zlib.compress(b'{"id": 1}')),
        ("deflate", zlib.compress(b'{"id": 1}', wbits=-15)),
        ("identity", b'{"id": 1}'),
    ],
)
async def test_a_compressed_answer_is_read(encoding: str, body: bytes) -> None:
    assert await outcome(reply(body, headers={"content-encoding": encoding})) == {"id": 1}


async def test_a_request_says_who_asks_and_what_it_can_read() -> None:
    async with asking(reply({})) as (line, server):
        await line.send(Request("GET", f"{server.url}/v1/batches?limit=1", {"X-Extra": "yes"}))

    seen = server.seen[0]
    assert (seen.method, seen.target) == ("GET", "/v1/batches?limit=1")
    assert seen.headers["user-agent"] == "batch-watcher/1.2.3"
    assert seen.headers["accept-encoding"] == "gzip, deflate"
    assert seen.headers["accept"] == "application/json"
    assert seen.headers["x-extra"] == "yes"


@pytest.mark.parametrize(
    "segment", ["a%2Fb", "a%3Fb%23c", "%2E%2E%2Fx", "a%20b", "a%2Bb", "%C3%BC", "a%25b", "a;b,c"]
)
async def test_an_encoded_path_arrives_as_it_was_sent(segment: str) -> None:
    async with asking(reply({})) as (line, server):
        await line.send(Request("GET", f"{server.url}/v1/batches/{segment}"))
    target = server.seen[0].target

    # Signs that need no encoding may travel either way.
    assert target.replace("%3B", ";").replace("%2C", ",").replace("..", "%2E%2E") == (
        f"/v1/batches/{segment}"
    )


@pytest.mark.parametrize(
    ("rest", "target"),
    [
        ("/v1/batches?limit=2&after=batch_1", "/v1/batches?limit=2&after=batch_1"),
        ("/v1/batches/\N{LATIN SMALL LETTER U WITH DIAERESIS} x", "/v1/batches/%C3%BC%20x"),
        ("/v1/batches#last", "/v1/batches"),
        ("", "/"),
    ],
)
async def test_the_rest_of_an_address_arrives_as_one_target(rest: str, target: str) -> None:
    async with asking(reply({})) as (line, server):
        await line.send(Request("GET", server.url + rest))

    assert [seen.target for seen in server.seen] == [target]


async def test_an_address_with_a_line_break_adds_no_header() -> None:
    async with asking(reply({})) as (line, server):
        with pytest.raises(Refused):
            await line.send(Request("GET", f"{server.url}/v1\r\nx-evil: 1"))

    assert server.seen == []


async def test_connections_are_kept_and_cookies_are_not() -> None:
    async with asking(reply({}, headers={"set-cookie": "a=b; path=/"})) as (line, server):
        for _ in range(3):
            await line.send(Request("GET", server.url))

    assert server.connections == 1
    assert [seen.headers.get("cookie") for seen in server.seen] == [None, None, None]


STATUSES = {
    "301 Moved Permanently": Refused,
    "304 Not Modified": Refused,
    "400 Bad Request": Refused,
    "401 Unauthorized": Unauthorized,
    "403 Forbidden": Unauthorized,
    "404 Not Found": Missing,
    "409 Conflict": Refused,
    "410 Gone": Missing,
    "418 I'm a Teapot": Refused,
    "429 Too Many Requests": RateLimited,
    "500 Internal Server Error": Unavailable,
    "503 Service Unavailable": Unavailable,
}


@pytest.mark.parametrize(("status", "kind"), STATUSES.items())
async def test_each_status_is_the_error_it_stands_for(
    status: str, kind: type[ProviderError]
) -> None:
    error = await outcome(reply(b"", status))

    assert type(error) is kind
    assert error.status_code == int(status[:3])
    assert str(error).startswith(status)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "Incorrect API key provided"}}, "Incorrect API key provided"),
        ({"error": {"code": "invalid_api_key"}}, "invalid_api_key"),
        ({"error": "no such key"}, "no such key"),
        ({"message": "invalid api token"}, "invalid api token"),
        ({"detail": "Not authenticated"}, "Not authenticated"),
        ({"detail": [{"msg": "field required"}]}, "field required"),
        ({"errors": ["first", "second"]}, "first"),
        ([{"error": {"message": "in a list"}}], "in a list"),
        (b"plain words", "plain words"),
        ({"error": {"message": "two\nlines \x1b[31m"}}, "two lines \ufffd[31m"),
    ],
)
async def test_the_providers_own_words_are_part_of_the_error(body: object, said: str) -> None:
    assert str(await outcome(reply(body, "401 Unauthorized"))) == f"401 Unauthorized: {said}"


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"", b"{", b"{}", b'{"a": 1}'])
async def test_an_error_without_words_for_people_is_its_status(body: bytes) -> None:
    assert str(await outcome(reply(body, "502 Bad Gateway"))) == "502 Bad Gateway"


async def test_a_long_message_is_cut_after_the_secret_in_it_was_struck() -> None:
    body = {"error": {"message": "x" * 190 + SECRET + "y" * 100_000}}
    request = Request("GET", "/", {"Authorization": f"Bearer {SECRET}"})
    said = str(await outcome(reply(body, "400 Bad Request"), request))

    assert SECRET[:10] not in said
    assert len(said) <= len("400 Bad Request: ") + 200


TELLING: dict[str, Answer] = {
    "message": reply({"error": {"message": f"bad key {SECRET}"}}, "401 Unauthorized"),
    "not JSON": reply(f"not json {SECRET}".encode()),
    "redirect": reply({}, "302 Found", {"location": f"https://{SECRET}@a.example/?k={SECRET}"}),
    "header": raw(f"HTTP/1.1 200 {SECRET}\r\n{SECRET}: {SECRET * 1000}\r\n\r\n".encode()),
    "not HTTP": raw(f"garbage {SECRET}\r\n\r\n".encode()),
}


@pytest.mark.parametrize("header", ["Authorization", "api-key"])
@pytest.mark.parametrize("answer", TELLING.values(), ids=TELLING)
async def test_no_error_shows_the_credential_it_was_sent_with(answer: Answer, header: str) -> None:
    headers = {header: f"Bearer {SECRET}" if header == "Authorization" else SECRET}
    error = await outcome(answer, Request("GET", f"/?key={SECRET}", headers))

    assert isinstance(error, ProviderError)
    assert SECRET not in f"{error} {error!r}"


async def test_secrets_of_other_accounts_are_struck_too() -> None:
    redactor = Redactor()
    redactor.add(SECRET)
    answer = reply({"message": f"that is {SECRET}"}, "403 Forbidden")
    async with serving(answer) as server, closing(wire(redactor=redactor)) as line:
        with pytest.raises(Unauthorized) as caught:
            await line.send(Request("GET", server.url))

    assert str(caught.value) == "403 Forbidden: that is [secret]"


async def test_a_secret_that_an_answer_repeats_goes_no_further() -> None:
    escaped = SECRET.replace("-", "\\u002d").encode()
    body = b'{"id": 1, "a": ["%s", [[{"%s": "x %s"}]]]}' % (SECRET.encode(), escaped, escaped)
    request = Request("GET", "/", {"Authorization": f"Bearer {SECRET}"})

    assert await outcome(reply(body), request) == {
        "id": 1,
        "a": ["[secret]", [[{"[secret]": "x [secret]"}]]],
    }


@pytest.mark.parametrize(
    ("location", "where"),
    [
        ("https://login.example/sso?token=abcdef", "login.example"),
        ("/elsewhere", "another path of the same host"),
        ("http://[half", "another path of the same host"),
    ],
)
async def test_a_redirect_is_refused_and_names_its_host(location: str, where: str) -> None:
    async with asking(reply({}, "302 Found", {"location": location})) as (line, server):
        with pytest.raises(Refused) as caught:
            await line.send(Request("GET", server.url))

    assert str(caught.value) == f"302 Found: points to {where}, and redirects are not followed"
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7_000),
        ({"retry-after": "0.5"}, 500),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "999999999"}, 3_600_000),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1_500),
        # The clock of the test says 2026-11-21T12:00:00Z.
        ({"retry-after": "Sat, 21 Nov 2026 12:00:30 GMT"}, 30_000),
        ({"retry-after": "Sat, 21 Nov 2026 11:00:00 GMT"}, 0),
        ({"retry-after": "Sun, 22 Nov 2026 12:00:00 GMT"}, 3_600_000),
        (
            {
                "retry-after": "Sat, 21 Nov 2026 13:00:10 GMT",
                "date": "Sat, 21 Nov 2026 13:00:00 GMT",
            },
            10_000,
        ),
    ],
)
async def test_the_pause_asked_for_is_read_and_bounded(
    headers: dict[str, str], pause: int | None
) -> None:
    error = await outcome(reply({}, "429 Too Many Requests", headers))

    assert isinstance(error, RateLimited)
    assert error.retry_after == pause


GARBLED: dict[str, Answer] = {
    "the answer is empty": reply(b""),
    "the answer is not JSON: '<html>Welcome'": reply(b"<html>Welcome"),
    "the answer is not JSON: '[NaN]'": reply(b"[NaN]"),
    "the answer is not JSON: '[-Infinity]'": reply(b"[-Infinity]"),
    "the answer is not JSON: '[\ufffd]'": reply(b"[\xff]"),
    "the answer is nested too deeply": reply(b"[" * 40_000),
    "the compressed answer is damaged": reply(b"{}", headers={"content-encoding": "gzip"}),
    "the compressed answer ends too early": reply(
        gzip.compress(b"{}" * 99)[:-12], headers={"content-encoding": "gzip"}
    ),
    "the answer is compressed as 'br', unasked": reply(b"{}", headers={"content-encoding": "br"}),
    "700": raw(b"HTTP/1.1 700 Odd\r\ncontent-length: 2\r\n\r\n{}"),
}


@pytest.mark.parametrize(("said", "answer"), GARBLED.items())
async def test_what_is_not_json_is_garbled_and_says_how(said: str, answer: Answer) -> None:
    error = await outcome(answer)

    assert type(error) is Garbled
    assert str(error) == said


async def test_an_integer_of_ten_thousand_digits_is_garbled() -> None:
    error = await outcome(reply(b"1" * 10_000))

    assert type(error) is Garbled
    assert len(str(error)) < 200


OK = b"HTTP/1.1 200 OK\r\n"
NOT_HTTP: dict[str, Answer] = {
    "words": raw(b"garbage\r\n\r\n"),
    "bytes": raw(b"\x00\x01\x02\x03\r\n\r\n"),
    "no colon": raw(OK + b"broken header\r\n\r\n"),
    "1 MB header": raw(OK + b"x: " + b"y" * 1_000_000 + b"\r\n\r\n"),
    "length": raw(OK + b"content-length: many\r\n\r\n"),
    "chunk": raw(OK + b"transfer-encoding: chunked\r\n\r\nno-size\r\n{}\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("answer", NOT_HTTP.values(), ids=NOT_HTTP)
async def test_what_is_not_http_is_garbled(answer: Answer) -> None:
    error = await outcome(answer)

    assert type(error) is Garbled
    assert "127.0.0.1" in str(error)
    assert "HTTP" in str(error)


BOMB = b" " * 500_000
TOO_LARGE: dict[str, Answer] = {
    "plain": reply(b" " * 2_000 + b"{}"),
    "chunks": raw(chunked(b" " * 600, b" " * 600)),
    "gzip": reply(gzip.compress(BOMB), headers={"content-encoding": "gzip"}),
    "deflate": reply(zlib.compress(BOMB), headers={"content-encoding": "deflate"}),
    "endless": dripping(OK + b"\r\n", b" " * 500),
}


@pytest.mark.parametrize("answer", TOO_LARGE.values(), ids=TOO_LARGE)
async def test_a_body_is_bounded_after_decompression(answer: Answer) -> None:
    error = await outcome(answer, Request("GET", "/", most_bytes=1_000))

    assert type(error) is Garbled
    assert str(error) == "the answer is larger than 1,000 bytes"


async def test_memory_is_bounded_while_decompressing() -> None:
    body = gzip.compress(bytes(200_000_000), compresslevel=1)
    tracemalloc.start()
    with pytest.raises(Garbled):
        parsed(inflated(body, "gzip", 1_000), str)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 1_000_000


async def test_a_body_of_just_the_bound_is_read() -> None:
    body = b'"' + b"x" * 998 + b'"'

    assert await outcome(reply(body), Request("GET", "/", most_bytes=1_000)) == "x" * 998


async def test_a_body_that_breaks_off_is_unavailable() -> None:
    answer = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{")
    error = await outcome(answer)

    assert type(error) is Unavailable
    assert "broke off" in str(error)


async def test_the_status_of_an_error_counts_even_if_its_body_breaks_off() -> None:
    answer = raw(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 50\r\n\r\nno such")
    error = await outcome(answer)

    assert type(error) is Unauthorized
    assert str(error) == "401 Unauthorized: no such"
