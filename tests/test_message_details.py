"""What may leave through a channel without details, and what quoted text may do: nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from tests.channels.kinds import kind
from tests.channels.servers import http_service
from tests.cli.bench import call, world
from tests.test_message import ACTIVE, HOSTILE, batch, event, rendered, trouble
from watcher.clock import SystemClock
from watcher.message import DOCUMENT, Markup, Style, neutral, notice
from watcher.message import test_message as trial
from watcher.model import (
    Batch,
    Event,
    EventType,
    Outcome,
    Problem,
    Registration,
    Severity,
    Status,
)
from watcher.notify import AppriseNotifier, load
from watcher.redaction import Redactor
from watcher.simulator import Fate
from watcher.text import clean_line

# No word of ours holds these letters in a row, and a text cut short still shows its beginning.
MARK = "zqxj-private"
BEGINNING = "zqx"
# What stays, so that the event can be found: the key, and why it is lost in our own words.
KEPT = {"account", "id", "provider", "reason"}
BATCH_EVENTS = [kind for kind in EventType if kind.startswith("batch.")]
TROUBLES = [kind for kind in EventType if not kind.startswith("batch.")]


@pytest.fixture(autouse=True, scope="module")
def apprise_loaded() -> None:
    """Loading it reads files, which an event loop must not wait for."""
    load()


def marked(kind: Any) -> dict[str, Any]:
    """The mark in every text there is in a dataclass, whatever fields it may get one day."""
    hints = get_type_hints(kind)
    return {
        one.name: _marked(hints[one.name])
        for one in fields(kind)
        if one.name not in KEPT and _marked(hints[one.name]) is not None
    }


def _marked(hint: Any) -> Any:
    if hint is str or str in get_args(hint):
        return (MARK,) if get_origin(hint) is tuple else MARK
    if get_origin(hint) is Mapping or (get_origin(hint) or hint) is dict:
        return {MARK: {MARK: [MARK]}}
    if get_origin(hint) is tuple and is_dataclass(get_args(hint)[0]):
        return (_marked(get_args(hint)[0]),) * 5
    return hint(**marked(hint)) if is_dataclass(hint) and isinstance(hint, type) else None


def private(number: int, status: Status, outcome: Outcome | None) -> Batch:
    texts = {**marked(Batch), "metadata": {MARK: {MARK: [MARK]}}}
    return replace(batch(status, id=f"batch_{number}"), **texts, outcome=outcome)


styles = st.builds(
    Style,
    title_max=st.integers(20, 300),
    body_max=st.integers(60, 3_000),
    lines_max=st.integers(1, 30),
    markup=st.sampled_from(Markup),
    interprets=st.booleans(),
    emoji=st.booleans(),
    details=st.just(False),
    merged_title=st.booleans(),
    in_bytes=st.booleans(),
    ascii_marks=st.booleans(),
)
events_of_batches = st.builds(
    lambda kind, number, status, outcome, before: event(
        kind,
        private(number, status, outcome),
        previous_status=before,
        reason=MARK,
    ),
    st.sampled_from(BATCH_EVENTS),
    st.integers(1, 99),
    st.sampled_from(Status),
    st.sampled_from([*Outcome, None]),
    st.sampled_from([*Status, None]),
)
events_of_trouble = st.builds(
    lambda kind: (
        trouble(kind, reason=MARK, account="main", channel=None)
        if kind.startswith("account.")
        else trouble(kind, id="channel:team@5", reason=MARK, account=None, channel="team")
    ),
    st.sampled_from(TROUBLES),
)


def test_every_text_of_a_batch_is_known_to_these_tests() -> None:
    made = private(1, Status.FAILED, None)

    assert made.registration.tags == made.registration.channels == (MARK,)
    assert {made.registration.group, made.registration.registered_by, made.last_error} == {MARK}
    assert {made.name, made.provider_name, made.raw_status, made.results.output} == {MARK}
    assert [made.problems[0].code, made.problems[0].message] == [MARK, MARK]


@settings(max_examples=80, derandomize=True)
@given(
    style=styles,
    told=st.lists(events_of_batches, min_size=1, max_size=8)
    | st.lists(events_of_trouble, min_size=1, max_size=3),
    more=st.sampled_from([0, 3, 300]),
)
def test_without_details_nothing_but_keys_and_figures_leaves(
    *, style: Style, told: list[Event], more: int
) -> None:
    each = rendered(*told, style=style, waiting=len(told) + more)

    text = f"{each.message.title}\n{each.message.body}"
    assert BEGINNING not in text
    assert "batch_" in text or "main" in text or "team" in text or each.named == tuple(told)


@pytest.mark.parametrize("kind", EventType)
def test_with_details_the_same_text_is_told_so_the_mark_would_show(kind: EventType) -> None:
    one = (
        event(kind, private(1, Status.FAILED, Outcome.EMPTY))
        if kind in BATCH_EVENTS
        else trouble(kind, reason=MARK)
    )

    assert BEGINNING in str(rendered(one, style=DOCUMENT).message)


@pytest.mark.parametrize("details", [False, True])
def test_the_setting_holds_from_the_configuration_to_what_a_service_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, details: bool
) -> None:
    config = tmp_path / "config.toml"
    monkeypatch.setenv("WATCHER_CONFIG", str(config))
    monkeypatch.setenv("WATCHER_STATE", str(tmp_path / "watcher.db"))
    with world() as openai, http_service() as service:
        for name, value in openai.variables.items():
            monkeypatch.setenv(name, value)
        config.write_text(
            f'[channels.team]\nurl = "json://{service.address}/"\ndetails = {str(details).lower()}'
        )
        config.chmod(0o600)
        id_ = openai.ended(Fate.failed())
        call("add", id_, "--name", MARK, "--tag", MARK, "--group", MARK)
        ran = call("run", "--once")
        waited = call("wait", id_, "--notify", "team")
        tested = call("test", "team")
        shown = json.loads(call("show", id_, "--json").out)
        sent = [received.raw.decode() for received in service.received]

    message = shown["errors"][0]["message"]
    assert (ran.code, waited.code, tested.code) == (0, 6, 0)
    assert len(sent) == 3
    assert id_ in sent[0]
    assert (BEGINNING in sent[0], message in sent[0], message in sent[1]) == (details,) * 3


# What quoted text may do.

PIECES = [
    *"<>*_`~|\\@[]()!#&;:/.-+={}%$^\"' \n\r\t\0\x1b\u200b\u202eaZ1é",
    "www.", "://", "](", "@everyone", "@here", "@all", "<!channel>", "<@U1>", "<@&1>", "<#1|x>",
    "&lt;", "&#64;", "<b>", "</a>", "[CQ:at,qq=all]", "{{app_title}}", "{0}", "%s", "%(x)s",
    ":smile:", "javascript:", "http", "evil.example/x", "__", "**", "||", "```", "\r\nBcc: x@y",
    "\\u003c", "tg://user?id=1", "discord.gg/", "mailto:x@y",
]  # fmt: skip
hostile = st.lists(st.sampled_from(PIECES), max_size=9).map("".join)


@settings(max_examples=150, derandomize=True)
@given(text=hostile)
def test_no_text_can_mean_something_to_a_chat(text: str) -> None:
    shown = neutral(clean_line(text, 300), Style())

    assert ACTIVE.search(shown) is None
    # Nor what was made harmless once when it is quoted again.
    assert ACTIVE.search(neutral(shown, Style())) is None


@settings(max_examples=50, derandomize=True)
@given(name=hostile, why=hostile, id_=hostile, word=hostile)
def test_no_line_is_anybodys_but_ours(*, name: str, why: str, id_: str, word: str) -> None:
    told = event(
        EventType.UNKNOWN,
        batch(
            id=clean_line(id_, 400) or "x",
            registration=Registration(name=name),
            raw_status=word,
            problems=(Problem(why, why, 1),) * 3,
        ),
    )
    alone, together = rendered(told, style=Style()), rendered(told, told, style=Style())

    for each in (alone, together):
        starts = [line.split(maxsplit=1)[0] for line in each.message.body.split("\n")]
        ours = ("openai/", "Took", "Requests:", "Why:", "Also:", "Results:", "Errors:", "From")
        known = (*ours, "https://platform.example/", "UNKNOWN")
        assert [start for start in starts if not start.startswith(known)] == []
        assert "\n" not in each.message.title


@pytest.mark.parametrize("name", ["mail", "mail_html"])
async def test_no_text_becomes_a_header_of_a_mail(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forged = "x\r\nBcc: victim@example.org\r\nContent-Type: text/html\r\n\r\n<b>body</b>"
    subjects = [batch(), batch(registration=Registration(name=forged))]
    with kind(name, monkeypatch) as made:
        for subject in subjects:
            channel = AppriseNotifier(
                "mail", SecretStr(made.url), redactor=Redactor(), clock=SystemClock()
            )
            await channel.send(rendered(event(subject=subject), style=channel.style).message)
            channel.close()
        mails = made.mailbox.mails

    plain, tried = ([sorted(mail.keys()) for mail in mails], [len(mail.keys()) for mail in mails])
    assert plain[0] == plain[1]
    assert tried[0] == tried[1]
    assert "Bcc" not in plain[1]


@pytest.mark.parametrize(
    "url", ["hassio://localhost/long-lived-token", "apprise://localhost/token", "ifttt://id@event"]
)
def test_what_passes_a_message_on_gets_nothing_that_could_mean_something_there(url: str) -> None:
    style = AppriseNotifier("relay", SecretStr(url), redactor=Redactor(), clock=SystemClock()).style
    messages = [
        rendered(
            event(subject=batch(registration=Registration(name=text), problems=(Problem(text),))),
            style=style,
        ).message
        for text in HOSTILE
    ]
    lines = [line for one in messages for line in (one.title, *one.body.split("\n"))]

    assert [line for line in lines if ACTIVE.search(line.removeprefix("https://"))] == []
    assert not style.emoji


def test_messages_that_are_of_no_event_quote_as_harmlessly() -> None:
    quoted = "<@U1> @everyone [x](https://evil.example)\nforged"
    told = [
        trial("team", quoted, Style()),
        notice(f"WATCHER on {quoted}: state trouble", quoted, Severity.FAILURE, Style()),
    ]

    lines = [line for one in told for line in (one.title, *one.body.split("\n"))]
    assert [line for line in lines if ACTIVE.search(line)] == []
    assert [len(one.body.split("\n")) for one in told] == [1, 1]
