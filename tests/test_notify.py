from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tests.channels.kinds import KINDS, SECRETS, Kind, kind
from tests.channels.servers import Service, http_service, mail_service
from tests.test_message import HOSTILE, batch, event, rendered, trouble
from watcher.clock import SystemClock
from watcher.errors import ConfigError
from watcher.model import EventType, Message, Problem, Registration, Severity, TryOutcome
from watcher.notify import AppriseNotifier, Sent, check_url, load
from watcher.notify.services import style_of
from watcher.redaction import Redactor

SNAPSHOTS = Path(__file__).parent / "channels" / "snapshots"
MESSAGE = Message("DONE nightly evals: 100 of 100", "openai/batch_abc@3", Severity.SUCCESS)
TOKEN = "s3cr3t-t0ken-abcdef"


@pytest.fixture(autouse=True, scope="module")
def apprise_loaded() -> None:
    """Loading it reads files, which an event loop must not wait for."""
    load()


def notifier(url: str, **options: Any) -> AppriseNotifier:
    options = {"redactor": Redactor(), "clock": SystemClock(), **options}
    name = options.pop("name", "team")
    return AppriseNotifier(name, SecretStr(url), **options)


def hook(service: Service, **options: Any) -> AppriseNotifier:
    return notifier(f"json://user:{TOKEN}@{service.address}/{TOKEN}", **options)


async def taken(made: Kind, messages: list[Message]) -> list[Any]:
    for message in messages:
        # One object each: a second send through one would wait for Apprise's throttle.
        channel = notifier(made.url)
        sent = await channel.send(message)
        channel.close()
        assert sent == Sent(TryOutcome.DELIVERED)
    return made.taken()


@pytest.mark.parametrize("name", KINDS)
async def test_each_kind_of_channel_is_sent_what_its_snapshot_says(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kind(name, monkeypatch) as made:
        style = notifier(made.url).style
        hostile = " ".join(HOSTILE[:8])
        one = event(subject=batch(problems=(Problem("invalid", "model & <b> 'x' \"y\"", 12),)))
        bad = event(
            subject=batch(
                registration=Registration(name=hostile), problems=(Problem(hostile, hostile),)
            )
        )
        messages = [
            rendered(one, style=style).message,
            rendered(one, bad, style=style).message,
            rendered(bad, style=style).message,
            rendered(trouble(EventType.ACCOUNT_UNAUTHORIZED), style=style).message,
        ]

        payloads = await taken(made, messages)

    compare(name, payloads)


def compare(name: str, payloads: list[Any]) -> None:
    """Exactly what is stored; `REWRITE_SNAPSHOTS=1 pytest` stores what is sent now."""
    text = json.dumps(payloads, indent=2, sort_keys=True) + "\n"
    file = SNAPSHOTS / f"{name}.json"
    if os.environ.get("REWRITE_SNAPSHOTS"):
        file.write_text(text)

    assert text == file.read_text()


@pytest.mark.parametrize("name", KINDS)
async def test_hostile_text_of_any_length_is_delivered_whole_and_harmless(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kind(name, monkeypatch) as made:
        style = notifier(made.url).style
        messages = [
            rendered(
                event(
                    subject=batch(
                        registration=Registration(name=text),
                        problems=(Problem(text, text, 1),) * 9,
                    )
                ),
                style=style,
            ).message
            for text in HOSTILE
        ]

        payloads = await taken(made, messages)

    # One request for each message: none was split, and the id at its end was not cut off.
    assert len(payloads) == len(HOSTILE)
    for payload in payloads:
        shown = json.dumps(payload, ensure_ascii=False).replace("\\", "")
        assert "openai/batch_abc@3" in shown
        assert not {"\u202e", "\u2066", "\x1b", "\x00"} & set(shown)
        if style.interprets:
            assert not [bad for bad in ("@everyone", "@here", "<!", "<@", "](") if bad in shown]
        if name in {"mail_html", "telegram"}:
            markup = (
                payload["parts"]["text/html"] if "parts" in payload else payload["body"]["text"]
            )
            assert "<script>" not in markup


async def test_a_message_as_long_as_the_style_allows_is_not_cut_by_apprise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("discord", "telegram", "telegram_markdown", "pagerduty", "twilio", "mattermost"):
        with kind(name, monkeypatch) as made:
            style = notifier(made.url).style
            lines = [
                event(
                    subject=batch(
                        id=f"batch_{number:03}",
                        registration=Registration(name="<b> & \"quoted\" 'name' (x) #1!"),
                    )
                )
                for number in range(60)
            ]
            digest = rendered(*lines, style=replace(style, lines_max=60))

            payloads = await taken(made, [digest.message])

        shown = json.dumps(payloads).replace("\\", "")
        assert len(payloads) == 1
        assert [each.id for each in digest.named if each.id not in shown] == []


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (302, Sent(TryOutcome.FAILED, "error=302", refused=False, pause=None)),
        (400, Sent(TryOutcome.FAILED, "error=400", refused=True, pause=None)),
        (401, Sent(TryOutcome.FAILED, "error=401", refused=False, pause=None)),
        (413, Sent(TryOutcome.FAILED, "error=413", refused=True, pause=None)),
        (422, Sent(TryOutcome.FAILED, "error=422", refused=True, pause=None)),
        (429, Sent(TryOutcome.FAILED, "error=429", refused=False, pause=60_000)),
        (500, Sent(TryOutcome.FAILED, "error=500", refused=False, pause=None)),
        (503, Sent(TryOutcome.FAILED, "error=503", refused=False, pause=None)),
    ],
)
async def test_what_a_service_answers_is_classified(
    service: Service, status: int, expected: Sent
) -> None:
    service.status = status
    service.headers = {"Location": f"{service.url}/elsewhere"} if status == 302 else {}

    sent = await hook(service).send(MESSAGE)

    assert expected.error is not None
    assert expected.error in (sent.error or "")
    assert replace(sent, error=expected.error) == expected
    # Nothing was repeated, and no redirect followed.
    assert len(service.received) == 1


async def test_a_connection_that_is_reset_is_a_failure(service: Service) -> None:
    service.behaviour = "reset"

    sent = await hook(service).send(MESSAGE)

    assert sent.outcome is TryOutcome.FAILED
    assert "onnection" in (sent.error or "")


async def test_a_service_that_is_not_there_is_a_failure(service: Service) -> None:
    channel = notifier("json://127.0.0.1:9/hook")

    sent = await channel.send(MESSAGE)

    assert sent.outcome is TryOutcome.FAILED
    assert not sent.refused


async def test_a_mail_server_that_refuses_is_a_failure() -> None:
    with mail_service() as mailbox:
        mailbox.refuse = "550 no such user"

        sent = await notifier(f"mailto://127.0.0.1:{mailbox.port}?from=a@b.co&to=c@d.co").send(
            MESSAGE
        )

    assert sent.outcome is TryOutcome.FAILED
    assert "550" in (sent.error or "")
    assert "no such user" in (sent.error or "")
    assert mailbox.mails == []


async def test_a_mail_servers_reason_holds_no_secret_and_is_printed_nowhere(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with mail_service() as mailbox:
        mailbox.refuse = f"550 {TOKEN} is no password, dG9rZW4 is"
        url = f"mailto://127.0.0.1:{mailbox.port}?from=a@b.co&to=c@d.co"
        redactor = Redactor()
        redactor.add(TOKEN)

        sent = await notifier(url, redactor=redactor).send(MESSAGE)
    printed = "".join(capfd.readouterr())

    assert "is no password" in (sent.error or "")
    assert TOKEN not in (sent.error or "")
    assert MESSAGE.body not in (sent.error or "")
    assert printed == ""


async def test_severity_reaches_the_service(service: Service) -> None:
    await hook(service).send(MESSAGE)

    assert service.received[0].body["type"] == "success"


async def test_a_word_between_colons_stays_a_word(service: Service) -> None:
    message = replace(MESSAGE, body=":smile: \\n")

    await notifier(f"json://{service.address}?emojis=yes").send(message)

    assert service.received[0].body["message"] == ":smile: \\n"


async def test_a_hung_channel_is_given_up_and_a_fresh_object_sends_the_next(
    service: Service,
) -> None:
    service.behaviour = "drip"
    channel = hook(service, deadline=0.05, late=0.05)

    first = await channel.send(MESSAGE)
    service.behaviour = "answer"
    second = await channel.send(MESSAGE)

    assert first.outcome is TryOutcome.UNKNOWN
    assert "may have been delivered" in (first.error or "")
    assert second.outcome is TryOutcome.DELIVERED


async def test_a_late_answer_counts(service: Service) -> None:
    service.behaviour = "hang"
    said = Said()
    channel = hook(service, deadline=0.05, late=10.0, log=said)
    asyncio.get_running_loop().call_later(0.2, service.release.set)

    sent = await channel.send(MESSAGE)

    assert sent.outcome is TryOutcome.DELIVERED
    assert said.events == ["no answer yet, still waiting for it"]


class Said:
    """A logger that remembers."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.fields: list[dict[str, Any]] = []

    def warning(self, event: str, **fields: Any) -> None:
        self.events.append(event)
        self.fields.append(fields)


async def test_after_three_hung_sends_a_channel_fails_at_once_until_one_returns(
    service: Service,
) -> None:
    service.behaviour = "drip"
    channel = hook(service, deadline=0.02, late=0.0)
    outcomes = [(await channel.send(MESSAGE)).outcome for _ in range(3)]

    refused = await channel.send(MESSAGE)
    service.behaviour = "answer"
    service.release.set()
    recovered = await until_delivered(channel)

    assert outcomes == [TryOutcome.UNKNOWN] * 3
    assert refused.outcome is TryOutcome.FAILED
    assert "still hang" in (refused.error or "")
    assert recovered


async def until_received(service: Service, count: int) -> None:
    for _ in range(500):
        if len(service.received) >= count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the service was not asked in time")


async def until_delivered(channel: AppriseNotifier) -> bool:
    for _ in range(200):
        if (await channel.send(MESSAGE)).outcome is TryOutcome.DELIVERED:
            return True
        await asyncio.sleep(0.01)
    return False


async def test_a_send_can_be_cancelled_at_once_and_the_channel_goes_on(service: Service) -> None:
    service.behaviour = "drip"
    channel = hook(service)
    sending = asyncio.create_task(channel.send(MESSAGE))
    await until_received(service, 1)

    began = time.monotonic()
    sending.cancel()
    await asyncio.wait({sending}, timeout=5)
    took = time.monotonic() - began
    service.behaviour = "answer"
    after = await channel.send(MESSAGE)

    assert sending.cancelled()
    assert took < 0.5
    assert after.outcome is TryOutcome.DELIVERED


async def test_hung_channels_do_not_delay_another(service: Service) -> None:
    service.behaviour = "drip"
    hung = [hook(service) for _ in range(12)]
    tasks = [asyncio.create_task(channel.send(MESSAGE)) for channel in hung]
    await until_received(service, len(hung))

    with http_service() as healthy:
        began = time.monotonic()
        sent = await hook(healthy).send(MESSAGE)
        took = time.monotonic() - began
    for task in tasks:
        task.cancel()

    assert sent.outcome is TryOutcome.DELIVERED
    assert took < 2


async def test_an_answer_that_never_comes_is_no_refused_connection(service: Service) -> None:
    service.behaviour = "hang"
    channel = notifier(f"json://{service.address}/hook?rto=0.3")

    sent = await channel.send(MESSAGE)

    assert sent.outcome is TryOutcome.UNKNOWN
    assert "may have arrived" in (sent.error or "")


async def test_one_send_at_a_time(service: Service) -> None:
    service.behaviour = "hang"
    channel = hook(service)
    first = asyncio.create_task(channel.send(MESSAGE))
    second = asyncio.create_task(channel.send(MESSAGE))
    await until_received(service, 1)
    await asyncio.sleep(0.05)

    in_flight = len(service.received)
    service.release.set()
    outcomes = {(await each).outcome for each in (first, second)}

    assert in_flight == 1
    assert outcomes == {TryOutcome.DELIVERED}


async def test_a_closed_channel_leaves_no_thread(service: Service) -> None:
    channel = hook(service, name="closing")
    await channel.send(MESSAGE)
    before = threads("closing")

    channel.close()
    for _ in range(200):
        if not threads("closing"):
            break
        await asyncio.sleep(0.01)

    assert before == ["channel closing"]
    assert threads("closing") == []


def threads(name: str) -> list[str]:
    return [each.name for each in threading.enumerate() if each.name == f"channel {name}"]


EXIT = """
import asyncio, sys
from pydantic import SecretStr
from watcher.clock import SystemClock
from watcher.model import Message, Severity
from watcher.notify import AppriseNotifier
from watcher.redaction import Redactor

async def main():
    url, parts = SecretStr(sys.argv[1]), {"redactor": Redactor(), "clock": SystemClock()}
    channel = AppriseNotifier("team", url, **parts, deadline=0.3, late=0)
    print((await channel.send(Message("a", "b", Severity.INFO))).outcome.value)

asyncio.run(main())
"""


def test_a_process_with_a_hung_send_ends_promptly(service: Service) -> None:
    service.behaviour = "drip"

    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", EXIT, f"json://{service.address}/hook"],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    took = time.monotonic() - began

    assert ended.stdout == "unknown\n"
    assert ended.stderr == ""
    assert took < 10


async def test_an_exception_in_a_plugin_is_a_failure_without_secrets(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = hook(service)

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"cannot post to {service.url}/{TOKEN}")

    monkeypatch.setattr("apprise.Apprise.notify", broken)
    sent = await channel.send(MESSAGE)

    assert sent.outcome is TryOutcome.FAILED
    assert "RuntimeError" in (sent.error or "")
    assert TOKEN not in (sent.error or "")


@pytest.mark.parametrize("name", SECRETS)
async def test_no_secret_comes_back_from_a_channel(
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    redactor, said = Redactor(), Said()
    written = logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(logging.getLogger(), "handlers", [written])
    monkeypatch.setattr(logging.getLogger(), "level", logging.DEBUG)
    with kind(name, monkeypatch) as made:
        made.service.status = 400
        made.service.answer = SECRETS[name].encode()
        channel = notifier(made.url, redactor=redactor, log=said)

        sent = await channel.send(MESSAGE)

    shown = [repr(channel), repr(sent), "".join(capfd.readouterr()), repr(said.fields)]
    parts = re.split("[@/]+", SECRETS[name].partition("://")[2].strip("/"))
    parts = [part for part in parts if len(part) > 6]
    assert sent.outcome is TryOutcome.FAILED
    assert parts
    assert [part for part in parts for text in shown if part in text] == []
    assert [part for part in parts if part in redactor.strike(f"POST {part}")] == []


async def test_what_netrc_holds_is_not_sent(service: Service) -> None:
    netrc = Path(os.environ["HOME"]) / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password sesame\n")
    netrc.chmod(0o600)

    await notifier(f"json://{service.address}/hook").send(MESSAGE)

    assert "authorization" not in service.received[0].headers


async def test_a_proxy_of_the_environment_is_honoured(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", service.url)

    sent = await notifier("json://nowhere.invalid/hook").send(MESSAGE)

    assert sent.outcome is TryOutcome.DELIVERED
    assert service.received[0].path == "http://nowhere.invalid/hook"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (SECRETS["slack"], "slack"),
        ("https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "slack"),
        (SECRETS["telegram"], "tgram"),
        ("mailtos://user:secret@example.org?to=team@example.org", "mailto"),
        ("json://localhost/hook?verify=yes", "json"),
        ("kodi://localhost", "kodi"),
    ],
)
def test_a_good_url_is_known_by_its_service(url: str, expected: str) -> None:
    assert check_url(SecretStr(url)) == expected


def test_apprise_is_not_imported_before_a_channel_needs_it() -> None:
    program = "import sys, watcher.notify; print('apprise' in sys.modules)"

    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True
    )

    assert ended.stdout == "False\n"


REFUSED_URLS = [
    ("", "not a channel URL"),
    (TOKEN, "not a channel URL"),
    (f"nosuch://{TOKEN}", "nosuch://"),
    (f"slack://{TOKEN}", "slack://"),
    (f"json://{TOKEN}.example json://other.example", "more than one URL"),
    (f"json://{TOKEN}.example,mailto://other.example", "more than one URL"),
    (f"json://host/{TOKEN}/a b", "space"),
    (f"mailto://u:{TOKEN}@h.co?from=a@b.co&to=c@d.co,e@f.co", "2 targets"),
    (f"ntfy://{TOKEN}@localhost/one/two", "2 targets"),
    (f"discord://4174216298/{TOKEN}?template=/etc/passwd", "template="),
    (f"json://localhost/{TOKEN}?Optional=yes", "optional="),
    (f"json://localhost/{TOKEN}?retry=3", "retry="),
    (f"json://localhost/{TOKEN}?wait=1", "wait="),
    (f"json://localhost/{TOKEN}?redirect=yes", "redirect="),
    (f"jsons://localhost/{TOKEN}?verify=no", "verify="),
    (f"json://localhost/{TOKEN}?tags=a", "tags="),
    (f"ntfy://localhost/{TOKEN}?attach=/etc/passwd", "attach="),
    (f"mailto://u:{TOKEN}@h.co?pgppub=/etc/passwd", "pgppub="),
    (f"fcm://{TOKEN}/x?keyfile=/etc/passwd", "keyfile="),
    (f"vapid://a@b.co/c@d.co?subfile=/{TOKEN}", "subfile="),
]


@pytest.mark.parametrize(("url", "expected"), REFUSED_URLS, ids=range(len(REFUSED_URLS)))
def test_a_url_that_cannot_be_used_is_refused_without_showing_it(url: str, expected: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_url(SecretStr(url))

    assert expected in str(raised.value)
    assert TOKEN not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "dbus://[::1",
        "glib://[::1",
        "json://[::1",
        "tgram://[",
        "mailto://[x",
        "json://host:[/",
        "slack://%%%",
        "mailto://\x00@",
    ],
)
def test_a_url_that_apprise_breaks_on_is_refused_by_each_door(url: str) -> None:
    url = f"{url}/{TOKEN}"
    with pytest.raises(ConfigError) as checked:
        check_url(SecretStr(url))
    with pytest.raises(ConfigError) as opened:
        notifier(url)

    assert TOKEN not in f"{checked.value} {opened.value}"


@pytest.mark.parametrize(
    "name", ["plugins.url_to_dict", "Apprise.instantiate", "utils.parse.parse_urls"]
)
def test_whatever_apprise_raises_over_a_url_is_a_refusal_without_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise TypeError(f"cannot parse {TOKEN}")

    monkeypatch.setattr(f"apprise.{name}", broken)
    with pytest.raises(ConfigError) as raised:
        check_url(SecretStr(f"json://localhost/{TOKEN}"))

    assert str(raised.value) == "Apprise cannot use this json:// URL: it broke on it (TypeError)"


def test_a_service_whose_length_cannot_be_had_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from apprise.plugins.custom_json import NotifyJSON

    def broken(_: Any) -> int:
        raise RuntimeError(TOKEN)

    monkeypatch.setattr(NotifyJSON, "__len__", broken)
    with pytest.raises(ConfigError) as raised:
        check_url(SecretStr("json://localhost"))

    assert TOKEN not in str(raised.value)


@pytest.mark.parametrize(
    "schema", ["dbus", "glib", "gio", "gnome", "kde", "macosx", "qt", "windows"]
)
def test_a_desktop_reads_markup_so_none_is_sent_there(schema: str) -> None:
    load()
    from apprise.manager_plugins import NotificationManager

    plugins: Any = NotificationManager
    plugin = plugins()[schema]
    service = plugin.__new__(plugin)
    style = style_of(service, emoji="auto", details=True)
    bad = event(subject=batch(registration=Registration(name="<b>x</b> <img src=y> &lt;")))
    message = rendered(bad, style=style).message

    assert style.interprets
    assert not [part for part in ("<b>", "<img", "&lt;") if part in message.title + message.body]


def test_emojis_are_for_chat_and_push_unless_said_otherwise() -> None:
    chosen = {
        url: notifier(url).style.emoji
        for url in (
            SECRETS["slack"],
            "ntfy://localhost/topic",
            "mailto://localhost?from=a@b.co&to=c@d.co",
            SECRETS["twilio"],
            SECRETS["pagerduty"],
            "syslog://",
            "irc://localhost/#channel",
            "json://localhost",
        )
    }

    assert list(chosen.values()) == [True, True, False, False, False, False, False, False]
    assert notifier("json://localhost", emoji=True).style.emoji
    assert not notifier(SECRETS["slack"], emoji=False).style.emoji


@pytest.mark.parametrize(
    ("url", "by_program"),
    [
        ("json://127.0.0.1", True),
        ("xml://127.0.0.1", True),
        ("form://127.0.0.1", True),
        ("ntfy://127.0.0.1/topic", False),
        ("mailto://127.0.0.1?from=a@b.co&to=c@d.co", False),
    ],
)
def test_what_programs_read_is_told_from_what_people_read(*, url: str, by_program: bool) -> None:
    assert notifier(url).style.by_program is by_program
