"""Real Apprise against services that go wrong on loopback, and are well again."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from tests.builders import MINUTE, SECOND
from tests.channels.kinds import kind
from tests.channels.servers import Mailbox, Service, http_service, mail_service
from tests.fakes import FakeClock
from tests.test_courier import Desk
from tests.test_notify import MESSAGE, TOKEN, hook, notifier
from tests.world import SameThread
from watcher.model import DeliveryState, TryOutcome
from watcher.notify import AppriseNotifier, Sent, load
from watcher.notify.address import open_service
from watcher.notify.channel import ABANDONED_MAX


@pytest.fixture(autouse=True, scope="module")
def apprise_loaded() -> None:
    """Loading it reads files, which an event loop must not wait for."""
    load()


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with mail_service() as made:
        yield made


@pytest.fixture
def desk() -> Iterator[Desk]:
    database = SameThread()
    yield Desk(database, FakeClock())
    database.close()


def lead(desk: Desk, channel: AppriseNotifier) -> None:
    desk.courier.adopt_settings(replace(desk.courier.telling, notifier=channel), desk.courier.voice)


def named(service: Service) -> list[str]:
    """The ids of the events that messages named, in the order in which they came."""
    words = " ".join(one.body["message"] for one in service.received).split()
    return [word for word in words if "@" in word]


# What the service does, and what is written down of it.
TROUBLES: dict[str, tuple[dict[str, Any], TryOutcome]] = {
    "hang": ({"behaviour": "hang"}, TryOutcome.UNKNOWN),
    "drip": ({"behaviour": "drip"}, TryOutcome.UNKNOWN),
    "trickle": ({"behaviour": "trickle"}, TryOutcome.UNKNOWN),
    "reset": ({"behaviour": "reset"}, TryOutcome.FAILED),
    "cut": ({"behaviour": "cut"}, TryOutcome.FAILED),
    "redirect": ({"status": 307}, TryOutcome.FAILED),
    "limit": ({"status": 429, "headers": {"Retry-After": "7"}}, TryOutcome.FAILED),
    "error": ({"status": 500}, TryOutcome.FAILED),
}


@pytest.mark.parametrize("name", TROUBLES)
async def test_whatever_a_service_did_all_is_told_in_order_once_it_is_well(
    desk: Desk, service: Service, name: str
) -> None:
    said, outcome = TROUBLES[name]
    vars(service).update(said)
    url = f"json://{service.address}/hook?rto=0.05"
    # What ends by itself is given the time that a busy machine may take for it.
    deadline = 0.2 if outcome is TryOutcome.UNKNOWN else 2.0
    channel = notifier(url, name=name, deadline=deadline, late=0.0)
    lead(desk, channel)
    ids = await desk.happen_many(30)
    await desk.run(10 * MINUTE if name == "limit" else 2 * MINUTE)
    tries = (await desk.delivery(ids[0])).tries
    threads = [one for one in threading.enumerate() if one.name == f"channel {name}"]
    service.release.set()
    vars(service).update(vars(Service(port=service.port)) | {"received": service.received})
    await until_ended(threads)
    # What was under way till now may have been read late, and counts with what failed.
    failed = len(service.received)
    await desk.run(10 * MINUTE)
    channel.close()
    told = named(service)[len(named_before(service, failed)) :]
    states = {(await desk.delivery(id)).state for id in ids}

    assert 3 <= len(tries) <= 8
    assert tries[0].outcome is outcome
    assert TryOutcome.DELIVERED not in {one.outcome for one in tries}
    assert len(threads) <= 1 + ABANDONED_MAX
    assert told == ids
    assert states == {DeliveryState.DELIVERED}


def named_before(service: Service, count: int) -> list[str]:
    return named(replace(service, received=service.received[:count]))


async def until_ended(threads: list[threading.Thread]) -> None:
    """Wait until no thread but the one in use is left of these."""
    for _ in range(500):
        if sum(one.is_alive() for one in threads) <= 1:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("threads that were given up go on")


async def test_a_service_that_was_not_there_is_told_all_in_order(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    lead(desk, notifier(f"json://127.0.0.1:{port}/hook"))
    ids = await desk.happen_many(30)
    await desk.run(2 * MINUTE)
    tries = (await desk.delivery(ids[0])).tries
    with http_service() as service:
        lead(desk, notifier(f"json://{service.address}/hook"))
        await desk.run(10 * MINUTE)

    assert {one.outcome for one in tries} == {TryOutcome.FAILED}
    assert named(service) == ids


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed_or_taken_for_success(service: Service, status: int) -> None:
    with http_service() as elsewhere:
        service.status = status
        service.headers = {"Location": f"{elsewhere.url}/stolen"}

        sent = await hook(service).send(MESSAGE)

    assert sent.outcome is TryOutcome.FAILED
    assert not sent.refused
    assert str(status) in (sent.error or "")
    assert TOKEN not in (sent.error or "")
    assert (len(service.received), elsewhere.received) == (1, [])


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("slack", b"no_service"),
        ("slack", b'{"ok": false, "error": "channel_not_found"}'),
    ],
)
async def test_an_error_in_an_answer_of_200_is_an_error(
    name: str, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kind(name, monkeypatch) as made:
        made.service.answer = answer

        sent = await notifier(made.url).send(MESSAGE)

    assert sent.outcome is TryOutcome.FAILED


# A plugin that breaks


@pytest.mark.parametrize(
    ("raised", "refused"),
    [(UnicodeEncodeError("ascii", "é", 0, 1, "no"), True), (OSError(), False)],
)
async def test_a_message_that_breaks_a_plugin_is_one_nobody_wants(
    service: Service, monkeypatch: pytest.MonkeyPatch, raised: Exception, refused: bool
) -> None:
    from apprise.plugins.custom_json import NotifyJSON

    def broken(*_: Any, **__: Any) -> None:
        raise raised

    channel = hook(service)
    with monkeypatch.context() as patch:
        patch.setattr(NotifyJSON, "send", broken)
        sent = await channel.send(MESSAGE)
    after = await channel.send(MESSAGE)

    reason = f"Apprise's json broke on it ({type(raised).__name__})"
    assert sent == Sent(TryOutcome.FAILED, reason, refused=refused)
    assert after == Sent(TryOutcome.DELIVERED)


# Mail


def mail(mailbox: Mailbox, more: str = "", **options: Any) -> AppriseNotifier:
    return notifier(f"mailto://127.0.0.1:{mailbox.port}?from=a@b.co&to=c@d.co{more}", **options)


@pytest.mark.parametrize(
    ("verdict", "refused"),
    [("554 5.7.1 taken for spam", True), ("552 5.3.4 too big", True), ("451 4.7.1 later", False)],
)
async def test_a_mail_whose_content_is_refused_is_told_from_a_server_in_trouble(
    mailbox: Mailbox, verdict: str, refused: bool
) -> None:
    mailbox.verdict = verdict

    sent = await mail(mailbox).send(MESSAGE)

    assert sent.outcome is TryOutcome.FAILED
    assert sent.refused is refused
    assert verdict[:3] in (sent.error or "")


@pytest.mark.parametrize("answer", ["550 5.1.1 nobody here", "451 4.7.1 greylisted"])
async def test_a_recipient_that_is_refused_says_nothing_of_the_content(
    mailbox: Mailbox, answer: str
) -> None:
    mailbox.refuse = answer

    sent = await mail(mailbox).send(MESSAGE)

    assert sent.outcome is TryOutcome.FAILED
    assert not sent.refused
    assert answer[:3] in (sent.error or "")


@pytest.mark.parametrize(("more", "delay", "verdict"), [("", 0.0, None), ("&cto=0.2", 5.0, "250")])
async def test_a_mail_server_that_hangs_up_or_never_answers_may_have_taken_it(
    mailbox: Mailbox, more: str, delay: float, verdict: str | None
) -> None:
    mailbox.delay, mailbox.verdict = delay, verdict

    sent = await mail(mailbox, more).send(MESSAGE)

    assert len(mailbox.mails) == 1
    assert sent.outcome is TryOutcome.UNKNOWN
    assert "it may have arrived" in (sent.error or "")


async def test_a_mail_server_that_is_not_there_has_taken_nothing() -> None:
    sent = await notifier("mailto://127.0.0.1:9?from=a@b.co&to=c@d.co").send(MESSAGE)

    assert sent.outcome is TryOutcome.FAILED


def test_a_mail_server_is_given_a_minute_unless_the_url_says_otherwise() -> None:
    url = "mailto://127.0.0.1:9?from=a@b.co&to=c@d.co"
    patience = [
        open_service(SecretStr(text)).socket_connect_timeout for text in (url, f"{url}&cto=2")
    ]

    assert patience == [60.0, 2.0]


async def test_a_mail_taken_for_spam_lets_its_successors_pass(
    desk: Desk, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apprise.plugins.email import NotifyEmail

    # Apprise would let seconds pass between two mails.
    monkeypatch.setattr(NotifyEmail, "request_rate_per_sec", 0)
    lead(desk, mail(mailbox))
    mailbox.verdict = "554 5.7.1 taken for spam"
    bad = await desk.happen_many(1)
    await desk.run(MINUTE)
    mailbox.verdict = "250 OK"
    good = await desk.happen_many(1)
    await desk.run(10 * SECOND)

    assert (await desk.delivery(good[0])).state is DeliveryState.DELIVERED
    assert (await desk.delivery(bad[0])).state is DeliveryState.PENDING


async def test_a_name_is_no_encoded_word_in_a_mails_subject(mailbox: Mailbox) -> None:
    # A reader would be shown a line end and a mark that turns the direction of writing.
    title = "FAILED =?utf-8?q?=0D=0A=E2=80=AEok=20all=20done?="
    await mail(mailbox).send(replace(MESSAGE, title=title))
    (told,) = mailbox.mails
    subject = str(told["subject"])

    assert "=0D=0A" in subject
    assert not {"\n", "\u202e"} & set(subject)
