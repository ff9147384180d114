"""One channel of each kind, with its service on loopback and everything else of Apprise's real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message as Mail
from typing import Any

import pytest

from tests.channels.servers import Mailbox, Service, http_service, mail_service
from watcher.notify.address import load

SECRETS = {
    "slack": "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/",
    "discord": "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
    "telegram": "tgram://123456789:abcdefg_hijklmnop/12345/",
    "pagerduty": f"pagerduty://{'k1' * 16}@{'b2' * 10}",
    "twilio": f"twilio://AC{'a1' * 16}:{'c3' * 16}@15551233456/15551233457",
}


@dataclass
class Kind:
    """A URL and what the service behind it was given, in a form that can be compared."""

    url: str
    service: Service
    mailbox: Mailbox

    def taken(self) -> list[Any]:
        """Everything received, without what differs from run to run."""
        requests = [
            {"path": received.path, "body": _settled(received.body)}
            for received in self.service.received
        ]
        return requests + [_read(mail) for mail in self.mailbox.mails]


@contextmanager
def kind(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kind]:
    """A channel of that kind: `slack`, `mail_html` and so on, see KINDS."""
    with http_service() as service, mail_service() as mailbox:
        yield Kind(KINDS[name](service, mailbox, monkeypatch), service, mailbox)


def _slack(service: Service, _: Mailbox, monkeypatch: pytest.MonkeyPatch) -> str:
    load()
    from apprise.plugins.slack import NotifySlack

    service.answer = b"ok"
    monkeypatch.setattr(NotifySlack, "webhook_url", f"{service.url}/services")
    return SECRETS["slack"]


def _slack_blocks(service: Service, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> str:
    return _slack(service, mailbox, monkeypatch) + "?blocks=yes"


def _discord(service: Service, _: Mailbox, monkeypatch: pytest.MonkeyPatch) -> str:
    load()
    from apprise.plugins.discord import NotifyDiscord

    monkeypatch.setattr(NotifyDiscord, "notify_url", f"{service.url}/api/webhooks")
    return SECRETS["discord"]


def _telegram(service: Service, _: Mailbox, monkeypatch: pytest.MonkeyPatch) -> str:
    load()
    from apprise.plugins.telegram import NotifyTelegram

    monkeypatch.setattr(NotifyTelegram, "notify_url", f"{service.url}/bot")
    return SECRETS["telegram"]


def _telegram_markdown(service: Service, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> str:
    return _telegram(service, mailbox, monkeypatch) + "?format=markdown&mdv=2"


def _pagerduty(service: Service, _: Mailbox, monkeypatch: pytest.MonkeyPatch) -> str:
    load()
    from apprise.plugins import pagerduty

    monkeypatch.setitem(pagerduty.PAGERDUTY_API_LOOKUP, "us", f"{service.url}/v2/enqueue")
    return SECRETS["pagerduty"]


def _twilio(service: Service, _: Mailbox, monkeypatch: pytest.MonkeyPatch) -> str:
    load()
    from apprise.plugins.twilio import NotifyTwilio

    monkeypatch.setattr(NotifyTwilio, "notify_sms_url", f"{service.url}/{{sid}}/Messages.json")
    return SECRETS["twilio"]


def _mail(_: Service, mailbox: Mailbox, __: pytest.MonkeyPatch) -> str:
    return f"mailto://127.0.0.1:{mailbox.port}?from=watcher@example.org&to=team@example.org"


def _mail_html(service: Service, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> str:
    return _mail(service, mailbox, monkeypatch) + "&format=html"


def _at(form: str) -> Callable[[Service, Mailbox, pytest.MonkeyPatch], str]:
    return lambda service, _, __: form.format(address=service.address)


KINDS: dict[str, Callable[[Service, Mailbox, pytest.MonkeyPatch], str]] = {
    "discord": _discord,
    "json": _at("json://{address}/hook"),
    "mail": _mail,
    "mail_html": _mail_html,
    "mattermost": _at("mmost://{address}/3ccdd113474722377935511fc85d3dd4"),
    "ntfy": _at("ntfy://{address}/ourtopic"),
    "pagerduty": _pagerduty,
    "slack": _slack,
    "slack_blocks": _slack_blocks,
    "telegram": _telegram,
    "telegram_markdown": _telegram_markdown,
    "twilio": _twilio,
}


def _settled(body: Any) -> Any:
    for attachment in body.get("attachments", []):
        attachment.pop("ts", None)
    return body


def _read(mail: Mail) -> dict[str, Any]:
    parts = [part for part in mail.walk() if not part.is_multipart()]
    return {
        "subject": str(mail["Subject"]),
        "parts": {part.get_content_type(): part.get_content() for part in parts},  # type: ignore[attr-defined]
    }
