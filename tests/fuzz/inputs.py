"""Hostile inputs: real answers, configurations and lists, mutilated; each made of a seed alone."""

from __future__ import annotations

import copy
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).parents[2]
SHAPES = ROOT / "tests" / "shapes"
SECRET = "sk-proj-Tell4Nobody0123456789abcdef"

# Terminal escapes (colours, titles, the clipboard, a link), marks of direction, what cannot be
# seen, line ends of every kind, markup, mentions, templates and formats.
HOSTILE_TEXTS = (
    *("\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x1b]52;c;ZXZpbA==\x07", "\x9b2J", "\x90q\x9c"),
    *("\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\", "\x1b[2J\x1b[H", "\b\b\b\x7f"),
    *("\u202egnp.exe", "\u2066hidden\u2069", "a\u200bb\u200d\u200e\ufeff", "\U000e0041\U000e0042"),
    *("one\ntwo\r\nthree\u2028four\x85five", '\n2026-11-21T12:00:00 error daemon "forged"=yes'),
    *("[bold]rich[/bold]", "{0} {self} {{}}", "%s %d %(key)s %n", "${HOME} $(id) `id`", "\x00"),
    *("@everyone <!channel> <@U1>", "<script>alert(1)</script>", "[x](https://evil.example)"),
    *("\ud800", "\udfff\ud83d", "\U0001f600\u0301\u0301", "\uffff\ufdd0", "'\"\\", "-", "", " "),
    *("../../etc/passwd", "a/b?c#d", "x" * 5_000, "\u0301" * 600, "9" * 30, "1e999", "NaN", "-1"),
)
HOSTILE_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 10**40),
    *(1.5, -0.0, 1e308, float("inf"), float("-inf"), float("nan"), 1_795_262_400, 10**12, 10**15),
    *([], {}, [None], [[]], [{}], {"": ""}, {"data": None}, {"data": [1]}, {"message": {}}),
    *([{"code": 1, "message": [], "line": "9", "count": 10**30}], {"total": "12", "completed": -1}),
    *(
        "completed",
        "FAILED",
        "JOB_STATE_EXPIRED",
        "canceled",
        "in progress",
        "2026-11-21T12:00:00Z",
    ),
    *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59", "1795262400", "12"),
    *HOSTILE_TEXTS,
)


def chance(seed: int) -> Random:
    """What every input is made of."""
    return Random(seed)  # noqa: S311 - nothing is kept secret by it


def recorded_answers() -> list[Any]:
    """What providers have really sent."""
    return [json.loads(path.read_bytes()) for path in sorted(SHAPES.glob("*.json"))]


def recorded_keys() -> list[str]:
    """Every key of those answers, and those that only some code reads."""
    found = {key for answer in recorded_answers() for key in _keys(answer)}
    more = "batch job batches data items has_more last_id next_page_token error errors detail msg"
    more += " message code type line count name metadata total completed failed expired cancelled"
    more += " num_records status_reason updated_at finalized_at request_counts output_dataset_id"
    return sorted(found | set(more.split()))


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    for inner in value.values() if isinstance(value, dict) else value if _is_list(value) else ():
        yield from _keys(inner)


def _is_list(value: object) -> bool:
    return isinstance(value, list)


_ANSWERS = recorded_answers()
_KEYS = recorded_keys()


def hostile_text(random: Random) -> str:
    """A text that steers, hides, injects or breaks."""
    parts = [random.choice(HOSTILE_TEXTS) for _ in range(random.choice((1, 1, 2, 5)))]
    if random.random() < 0.3:
        parts += [chr(random.choice((random.randrange(0x110000), random.randrange(256))))] * 3
    return "".join(parts)


def json_value(random: Random, depth: int = 3) -> Any:
    """Any JSON, with keys that mean something."""
    roll = random.random()
    if not depth or roll < 0.4:
        return copy.deepcopy(random.choice(HOSTILE_VALUES))
    if roll < 0.5:
        return hostile_text(random)
    if roll < 0.7:
        return [json_value(random, depth - 1) for _ in range(random.randrange(4))]
    keys = [random.choice(_KEYS) for _ in range(random.randrange(8))]
    return {key: json_value(random, depth - 1) for key in keys}


def answer(random: Random) -> Any:
    """A recorded answer, alone, wrapped or in a page, mutilated in some places."""
    if random.random() < 0.15:
        return json_value(random, 4)
    value = copy.deepcopy(random.choice(_ANSWERS))
    wrapping = random.random()
    if wrapping < 0.1:
        value = {"batch": value}
    elif wrapping < 0.35:
        entries = [value, *(copy.deepcopy(random.choice(_ANSWERS)) for _ in range(2))]
        more = {"has_more": random.choice((True, "true", 1)), "next_page_token": "abc"}
        value = {random.choice(("data", "batches", "items")): entries, "last_id": "x", **more}
    for _ in range(random.choice((0, 1, 1, 2, 3, 6))):
        value = mutilated(value, random)
    return value


def mutilated(value: Any, random: Random) -> Any:
    """The value with one part dropped, retyped, repeated, nested, swapped or made up."""
    holders = [value for value in _holders(value) if value]
    if not holders:
        return json_value(random)
    holder = random.choice(holders)
    key = random.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    roll = random.randrange(8)
    if roll == 0:
        del holder[key]
    elif roll == 1:
        holder[key] = json_value(random, 1)
    elif roll == 2:
        holder[key] = hostile_text(random)
    elif roll == 3:
        holder[key] = _nested(holder[key], random.choice((1, 2, 8, 50)), random)
    elif roll == 4:
        holder[key] = [copy.deepcopy(holder[key]) for _ in range(random.choice((2, 30)))]
    elif roll == 5 and isinstance(holder, dict):
        holder[random.choice(_KEYS)] = holder.pop(key)
    elif roll == 6 and isinstance(holder, dict):
        holder[random.choice(_KEYS)] = json_value(random, 2)
    else:
        other = copy.deepcopy(random.choice(HOSTILE_VALUES))
        holder[key] = str(holder[key]) if random.random() < 0.5 else other
    return value


def _nested(value: Any, depth: int, random: Random) -> Any:
    for _ in range(depth):
        value = [value] if random.random() < 0.5 else {random.choice(_KEYS): value}
    return value


def _holders(value: Any, most_deep: int = 20) -> Iterator[Any]:
    if isinstance(value, dict | list) and most_deep:
        yield value
        for inner in list(value.values() if isinstance(value, dict) else value):
            yield from _holders(inner, most_deep - 1)


def document(value: Any, random: Random) -> bytes:
    """The value as JSON, also as some that Python alone would write or read."""
    text = json.dumps(value, ensure_ascii=random.random() < 0.5)
    raw = text.encode("utf-8", "surrogatepass")
    roll = random.random()
    if roll < 0.05 and raw.startswith(b"{"):
        # A key twice: the last one counts.
        raw = b'{"id": [], "status": {}, ' + raw[1:] if len(raw) > 2 else raw
    elif roll < 0.10:
        digits = b"1" * random.choice((20, 4_000, 10_000))
        raw = raw.replace(b"null", digits).replace(b"1", digits, 1)
    elif roll < 0.15:
        raw = raw.replace(b"null", random.choice((b"NaN", b"-Infinity", b"1e999", b"-0", b"01")))
    elif roll < 0.20:
        raw = raw.replace(b"null", b"[" * 100_000 + b"]" * random.choice((0, 100_000)))
    elif roll < 0.25:
        raw = text.encode(random.choice(("utf-16", "utf-32", "utf-8-sig")), "replace")
    return raw


def garbled_bytes(raw: bytes, random: Random) -> bytes:
    """The bytes with some changed, cut out, repeated or put in."""
    changed = bytearray(raw)
    for _ in range(random.choice((0, 1, 1, 3, 20))):
        at = random.randrange(len(changed) + 1)
        match random.randrange(5):
            case 0:
                changed[at : at + 1] = bytes([random.randrange(256)])
            case 1:
                del changed[at : at + random.choice((1, 5, 100))]
            case 2:
                changed[at:at] = changed[at : at + random.choice((1, 5, 100))]
            case 3:
                changed[at:at] = random.choice(HOSTILE_TEXTS).encode("utf-8", "surrogatepass")
            case _:
                changed[at:at] = random.choice(
                    (b"\xff", b"\xc0\x80", b"\x00", b"\r\n", b'"', b"\\u")
                )
    return bytes(changed)


def body(random: Random) -> tuple[bytes, str]:
    """A body and its content encoding, which may or may not be true."""
    raw = document(answer(random), random)
    if random.random() < 0.5:
        raw = garbled_bytes(raw, random)
    encoding = random.choice(("", "", "", "gzip", "deflate", "x-gzip", "br", "zstd", "gzip, gzip"))
    packed = raw
    if encoding in {"gzip", "x-gzip"}:
        packed = gzip.compress(raw, 1)
    elif encoding == "deflate":
        packed = zlib.compress(raw, 1, wbits=random.choice((-15, 15)))
    if random.random() < 0.2:
        packed = garbled_bytes(packed, random)
    return packed, random.choice((encoding, encoding, encoding, hostile_text(random)))


RETRY_WORDS = (
    *("7", "0.5", "-3", "1e9", "inf", "nan", "soon", "1_000", "\u0663", "0x10", " 5 ", "5, 6"),
    *("Sat, 21 Nov 2026 12:00:30 GMT", "Sat, 21 Nov 2026 12:00:30 -0000", "21 Nov 99 0:0"),
    *("Mon, 00 Jan 0000 00:00:00 GMT", "Mon, 31 Feb 2026 25:61:61 +9999", "1 Jan 1 00:00:00 +2359"),
    *(
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "2026-11-21T12:00:30Z",
        "Saturday, 21-Nov-26 12:00:30 GMT",
    ),
)


def headers(random: Random) -> dict[str, str]:
    """Headers that ask for a pause, or seem to."""
    made = {}
    for name in ("retry-after", "retry-after-ms", "date", "location", "content-encoding"):
        if random.random() < 0.6:
            words = [random.choice(RETRY_WORDS) for _ in range(random.choice((1, 1, 2)))]
            text = " ".join(words)
            if random.random() < 0.4:
                text = garbled_bytes(text.encode(), random).decode("latin-1")
            made[name] = random.choice((text, text, "9" * random.randrange(1, 5_000)))
    return made


def duration(random: Random) -> str:
    """A length of time, or something like one."""
    units = ("d", "h", "m", "s", "ms", "min", "", " ", "D", "\u00b5s", "h ", "w")
    numbers = ("0", "1", "30", "999999999", "9999999999", "1.5", "-1", "\u0663", "1e3", "9" * 5_000)
    parts = random.randrange(6)
    text = "".join(random.choice(numbers) + random.choice(units) for _ in range(parts))
    return text if random.random() < 0.8 else text + hostile_text(random)


def moment(random: Random) -> str:
    """What `--since` may be given."""
    dates = ("0001-01-01", "9999-12-31T23:59:59", "2026-11-21T12:00:00Z", "2026-W47-6", "20261121")
    offsets = ("", "Z", "+23:59", "-23:59:59.999999", "+24:00", "T24:00", "T00", " 00:00")
    made = (duration(random), random.choice(dates) + random.choice(offsets), hostile_text(random))
    return random.choice(made)


def mutilated_lines(lines: Sequence[str], random: Random, values: Sequence[str]) -> list[str]:
    """Lines of a file dropped, doubled, swapped, uncommented or given another value."""
    changed = list(lines)
    for _ in range(random.choice((0, 1, 1, 2, 4))):
        at = random.randrange(len(changed)) if changed else 0
        key, equals, _ = changed[at].lstrip("# ").partition("=") if changed else ("a", "=", "")
        match random.randrange(6):
            case 0:
                del changed[at : at + 1]
            case 1:
                changed[at:at] = changed[at : at + 3]
            case 2 if equals:
                changed[at : at + 1] = [changed[at].lstrip("# ")]
            case 3 if changed:
                other = random.randrange(len(changed))
                changed[at], changed[other] = changed[other], changed[at]
            case _ if equals:
                changed[at : at + 1] = [f"{key.strip()} = {random.choice(values)}"]
    return changed


TOML_VALUES = (
    *("0", "-1", "1.5", "nan", "inf", "true", '""', '"x"', '"30s"', '"1h30m"', "[]", "{}", "[[]]"),
    *("9" * 30, "9" * 5_000, "1979-05-27", "07:32:00", "2026-13-45T99:99:99Z", '"\\ud800"', "'''"),
    *('["*"]', '["a", 1]', "{a = 1}", '{a = {b = {c = "d"}}}', '"openai"', '"team"', "0x_", "1__0"),
    *(f'"{SECRET}"', f"'{SECRET}'", f'["{SECRET}"]', f'{{"{SECRET}" = "x"}}', SECRET, f'"{SECRET}'),
    *(f'"https://user:{SECRET}@api.example/v1?key={SECRET}"', f'"slack://{SECRET}/b/c"'),
    *(
        '"\\u001b[31m"',
        '"\\u202e"',
        '"\x1b"',
        "[" * 5_000,
        "{a=" * 2_000,
        "a" + ".a" * 200 + " = 1",
    ),
    *('"' + "x" * 10_000 + '"', '"../../etc/passwd"', '"/dev/null"', '"~"', '"$HOME"', '"%s {0}"'),
)


def configuration(random: Random) -> bytes:
    """The example, mutilated, or a TOML document of parts that mean something."""
    lines = (ROOT / "config.example.toml").read_text("utf-8").splitlines()
    if random.random() < 0.4:
        # Uncommented, nearly every key has a value.
        lines = [line.removeprefix("# ") if "=" in line else line for line in lines]
    if random.random() < 0.2:
        at = random.randrange(len(lines))
        lines[at:at] = [random.choice((SECRET, f"{SECRET} = 1", f"[{SECRET}]", f"[a.{SECRET}]"))]
    text = "\n".join(mutilated_lines(lines, random, TOML_VALUES))
    raw = text.encode("utf-8", "surrogatepass")
    return garbled_bytes(raw, random) if random.random() < 0.2 else raw


def variables(random: Random) -> dict[str, str]:
    """Variables of the environment that set, or seem to set, a key."""
    names: tuple[str, ...] = (
        "STATE",
        "INSTANCE",
        "OPERATORS",
        "POLLING__MAX_INTERVAL",
        "POLLING",
        "POLLING__X__Y",
    )
    names += ("ACCOUNTS__A_B__API_KEY", "ACCOUNTS__A__HEADERS__X_Y", "ROUTES", "CHANNELS__T__URL")
    names += ("__", "A__" * 30, "CHANNELS__T__DETAILS", f"ACCOUNTS__{SECRET}__API_KEY", "BATCHES")
    made = {}
    for _ in range(random.choice((0, 0, 0, 1, 2))):
        value = random.choice((*TOML_VALUES, *HOSTILE_TEXTS, "[" * 3_000, "9" * 5_000))
        made[f"WATCHER_{random.choice(names)}"] = value.replace("\x00", "")
    return made


def standard_input(random: Random) -> bytes:
    """Ids, JSON, JSON Lines and mixtures of them, as a script may pipe them in."""
    ids = ("batch_1", "openai/batch_2", "nowhere/x", "batch_" + "0" * 32, "a b", "a/b/c", ".")
    pieces: list[bytes] = []
    for _ in range(random.choice((0, 1, 2, 5))):
        roll = random.random()
        if roll < 0.4:
            pieces.append(random.choice(ids).encode())
        elif roll < 0.5:
            pieces.append(hostile_text(random).encode("utf-8", "surrogatepass"))
        else:
            pieces.append(document(answer(random), random))
    raw = random.choice((b"\n", b"\r\n", b" ", b"\n\n", b",")).join(pieces)
    roll = random.random()
    if roll < 0.2:
        return garbled_bytes(raw, random)
    if roll < 0.3:
        text = raw.decode("utf-8", "replace")
        return text.encode(random.choice(("utf-8-sig", "utf-16", "latin-1")), "replace")
    return raw + b"\n" + b"x" * 100_000 if roll < 0.33 else raw


def channel_url(random: Random) -> str:
    """An address of a channel that holds a secret, mutilated."""
    schemes = ("slack", "discord", "tgram", "mailtos", "json", "ntfy", "apprise", "xyz", "", "file")
    hosts = (SECRET, f"user:{SECRET}@host.example", "[::1", "host:99999", "a,b", "localhost", "")
    paths = (SECRET, "a/b/c", f"%{SECRET}", "..", "\u202e", "%00%0a%1b[31m", "#chan,@b")
    options = ("template=x", "format=html", f"key={SECRET}", "rto=nan", "verify=no", "cto=x", "&&&")
    url = f"{random.choice(schemes)}://{random.choice(hosts)}/{random.choice(paths)}"
    if random.random() < 0.5:
        url += "?" + "&".join(random.choice(options) for _ in range(random.choice((1, 2))))
    if random.random() < 0.4:
        url = garbled_bytes(url.encode(), random).decode("utf-8", "replace")
    return url


def stored_row(value: Any, random: Random) -> str:
    """A document of the store, damaged or of a later version."""
    value = copy.deepcopy(value)
    for _ in range(random.choice((0, 1, 1, 2, 4))):
        value = mutilated(value, random)
    raw = document(value, random)
    if random.random() < 0.1:
        raw = garbled_bytes(raw, random)
    return raw.decode("utf-8", "replace")


def response(random: Random) -> bytes:
    """An answer as it comes from the socket: status line, headers, body, and what is wrong."""
    content, encoding = body(random)
    status = random.choice((200, 200, 200, 201, 204, 302, 401, 404, 429, 500, 100, 101, 700, 0))
    reason = random.choice(("OK", "", "x" * 9_000, "caf\u00e9"))
    lines = [f"HTTP/1.1 {status} {reason}"]
    fields = [*headers(random).items(), ("content-encoding", encoding)]
    fields.append(("content-length", str(random.choice((len(content), len(content), 5, 10**30)))))
    if random.random() < 0.2:
        fields.append(("transfer-encoding", random.choice(("chunked", "gzip", "chunked, x"))))
        content = b"%x;%s\r\n%s\r\n0\r\n\r\n" % (len(content), b"e" * 9, content)
    lines += [f"{name}: {value}" for name, value in fields if value or random.random() < 0.1]
    raw = "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogatepass") + content
    return garbled_bytes(raw, random) if random.random() < 0.4 else raw
