"""What is known of Apprise's services beyond what they say of themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from watcher.message import Markup, Style

Emoji = Literal["auto"] | bool


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Who reads an emoji as a box, or pays for it: everything but chat and push.
MAIL = _words(
    """mailto brevo groundmail mailersend mailgun azure pingram postmark resend sendgrid
    sendpulse ses smtp2go sparkpost"""
)
SMS = _words(
    """atalk bulksms bulkvs burstsms clickatell clicksend cm d7sms eight00com exotel 46elks
    freemobile httpsms infobip kaleyra kavenegar mobilemessage msg91 msgbird notifyre octopush
    plivo ringc serwersms seven sfr sinch smpp smsc smseagle smsmgr smstunnel sns telesign telnyx
    twilio voipms vonage"""
)
PAGERS = _words(
    """aprs betterstack dapnet firehydrant flowtriq goalert ilert incidentio jira opsgenie
    pagerduty pagertree signl4 spike splunk squadcast xmatters"""
)
LINES = _words("irc syslog rsyslog")
HOOKS = _words("json xml form amqp mqtt")
# What passes a message on, to whatever service its owner chose: Home Assistant's own notification
# reads Markdown, an Apprise server's chats their mentions. No emoji: it may end up in a mail.
RELAYS = _words("apprise hassio ifttt")
# Push services that show plain text as it is. Not those of a desktop (dbus, glib, gnome, kde,
# macosx, qt, windows): the freedesktop notification server reads <b>, <a href> and <img> in it.
PLAIN_PUSH = _words(
    """bark enigma2 fcm gorush gotify growl join kodi kumulos ntfy onesignal pbul pjet pover prowl
    pushdeer pushed pushy vapid"""
)
PLAIN = MAIL | SMS | PAGERS | LINES | HOOKS | PLAIN_PUSH

LINES_MAX = 20
# A program reads these, and takes more.
HOOK_LINES_MAX = 500
# Apprise writes a line end or tags between a title and a body that share one field.
MERGE_MARGIN = 24
# Below this a service is a text message: no room to spare, and our own marks in ASCII.
SHORT_BODY = 500


@dataclass(frozen=True, slots=True)
class Limits:
    """What a service really takes where Apprise says more, or says it in another unit."""

    body: int
    title: int = 250
    in_bytes: bool = False


LIMITS = {
    # ntfy turns a longer message into a file attached to it (message-size-limit, in bytes).
    "ntfy": Limits(3_800, 200, in_bytes=True),
    # 2,000 with what Apprise escapes of its own.
    "discord": Limits(1_900),
    # More is cut by Slack with a "Show more", or refused.
    "slack": Limits(8_000),
}
# Section and header of Slack's Block Kit.
SLACK_BLOCKS = Limits(2_900, 145)


def kind_of(service: Any) -> str:
    """The first schema of a service, such as `slack`, `mailto` or `tgram`."""
    # Of the class: Kodi keeps the version of its own protocol under this name.
    for schemas in (type(service).protocol, type(service).secure_protocol):
        if schemas:
            return str(schemas if isinstance(schemas, str) else schemas[0])
    return str(service.schema)


def style_of(service: Any, *, emoji: Emoji, details: bool) -> Style:
    """How to speak to a service of Apprise's."""
    kind = kind_of(service)
    markup = markup_of(service)
    limits = _limits(service, kind)
    merged = service.title_maxlen <= 0 or bool(service.overflow_amalgamate_title)
    title_max = min(limits.title, service.title_maxlen if service.title_maxlen > 0 else 250)
    body_max = min(limits.body, service.body_maxlen)
    short = body_max <= SHORT_BODY
    if merged:
        body_max -= 2 if short else MERGE_MARGIN
    lines_max = HOOK_LINES_MAX if kind in HOOKS else LINES_MAX
    # Apprise cuts what has more lines, and a merged title is one of them.
    if service.body_max_line_count > 0:
        lines_max = min(lines_max, max(1, service.body_max_line_count - merged))
    return Style(
        title_max=title_max,
        body_max=body_max,
        lines_max=lines_max,
        markup=markup,
        interprets=markup is Markup.MARKDOWN or kind not in PLAIN,
        emoji=_wants_emoji(kind) if emoji == "auto" else emoji,
        details=details,
        merged_title=merged,
        in_bytes=limits.in_bytes,
        ascii_marks=short or kind in SMS | LINES,
        line_break=_line_break(kind, markup),
        by_program=kind in HOOKS,
    )


def markup_of(service: Any) -> Markup:
    """What plain text becomes at this service: asked of the service, so that `format=` counts."""
    resolved = service.resolve_format("text")
    name = getattr(resolved, "value", resolved)
    return {"html": Markup.HTML, "markdown": Markup.MARKDOWN}.get(name, Markup.PLAIN)


def _limits(service: Any, kind: str) -> Limits:
    if kind == "slack" and service.use_blocks:
        return SLACK_BLOCKS
    return LIMITS.get(kind, Limits(1_000_000))


def _wants_emoji(kind: str) -> bool:
    return kind not in MAIL | SMS | PAGERS | LINES | HOOKS | RELAYS


def _line_break(kind: str, markup: Markup) -> str:
    if markup is not Markup.MARKDOWN:
        return "\n"
    # CommonMark runs lines together: two spaces keep them apart, Teams wants paragraphs.
    return "\n\n" if kind == "workflow" else "  \n"
