from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watcher import message as messages
from watcher.documents import batch_document, delivery_document, event_document
from watcher.message import DOCUMENT, Markup, Rendered, Style, neutral, render
from watcher.message.style import cost
from watcher.model import (
    Batch,
    Counts,
    Delivery,
    DeliveryState,
    Event,
    EventType,
    Outcome,
    Problem,
    Registration,
    Results,
    Severity,
    Status,
    Try,
    TryOutcome,
)

# 2026-11-21T12:00:00Z
NOW = 1_795_262_400_000
HOUR = 3_600_000
PLAIN = Style(interprets=False)
CHAT = Style()
SMS = Style(body_max=158, merged_title=True, interprets=False, ascii_marks=True)

HOSTILE = [
    "@everyone",
    "@here <@U1> <@&42> <!channel> <#C1|x>",
    "<users/all> *bold* _it_ __under__ ~~gone~~ ||spoiler|| `code`",
    "[click](https://evil.example/x) ![](https://evil.example/y.png)",
    "www.evil.example discord.gg/abcdef https://evil.example",
    "</b><script>alert(1)</script> &lt;!channel&gt; &#64;all",
    "[CQ:at,qq=all] [~admin] @**all** @_**x**",
    "a\nb\r\nDONE forged: 1 of 1\x1b[31m\x00\x07",
    "\u202egnp.exe \u2066hidden\u2069",
    "x" * 10_000,
    "@everyone" * 1_200,
]
# What means something to one service or another, in plain text.
ACTIVE = re.compile(
    r"@(?!\u200b)(?!\d+$)|[<>*`~|\\]|\]\(|(?<!\w)_|_(?!\w)|__|\[(?!\u200b)|://|www\.|&#?\w+;"
)


def batch(status: Status = Status.COMPLETED, **changes: Any) -> Batch:
    return replace(
        Batch(
            account="openai",
            id="batch_abc",
            provider="openai",
            registration=Registration(name="nightly evals", tags=("nightly",), registered_at=NOW),
            revision=3,
            status=status,
            raw_status=status.value,
            outcome=Outcome.PARTIAL,
            counts=Counts(100, 98, 2),
            created_at=NOW - 3 * HOUR,
            ended_at=NOW,
            results=Results("file-out", "file-err"),
            looks=12,
        ),
        **changes,
    )


def event(
    kind: EventType = EventType.COMPLETED,
    subject: Batch | None = None,
    severity: Severity = Severity.WARNING,
    **changes: Any,
) -> Event:
    subject = subject or batch()
    made = Event(
        id=f"{subject.key}@3",
        type=kind,
        severity=severity,
        detected_at=NOW + 7_120,
        occurred_at=NOW,
        account=subject.account,
        previous_status=Status.IN_PROGRESS,
        batch=subject,
        seq=4711,
    )
    return replace(made, **changes)


def trouble(kind: EventType, **changes: Any) -> Event:
    made = Event(
        id="account:openai@5",
        type=kind,
        severity=Severity.FAILURE,
        detected_at=NOW,
        account="openai",
        reason="HTTP 401: Incorrect API key provided",
    )
    return replace(made, **changes)


def rendered(*events: Event, style: Style = PLAIN, waiting: int = 0) -> Rendered:
    return render(
        events, style, instance="box1", zone=UTC, waiting=waiting or len(events), pages=page
    )


def page(subject: Batch) -> str | None:
    return f"https://platform.example/batches/{subject.id}"


def many(count: int, **changes: Any) -> list[Event]:
    return [
        event(subject=batch(id=f"batch_{number:04}", **changes), severity=Severity.SUCCESS)
        for number in range(count)
    ]


TITLES = [
    (event(), "PARTIAL nightly evals: 98 of 100, 2 failed"),
    (
        event(subject=batch(outcome=Outcome.OK, counts=Counts(100, 100, 0))),
        "DONE nightly evals: 100 of 100",
    ),
    (
        event(subject=batch(outcome=Outcome.EMPTY, counts=Counts(9, 0, 9))),
        "EMPTY nightly evals: 0 of 9, 9 failed",
    ),
    (
        event(subject=batch(outcome=None, counts=Counts())),
        "DONE nightly evals: counts not given",
    ),
    (event(subject=batch(registration=Registration())), "PARTIAL batch_abc: 98 of 100, 2 failed"),
    (
        event(subject=batch(registration=Registration(name="n" * 500))),
        f"PARTIAL {'n' * 59}…: 98 of 100, 2 failed",
    ),
    (
        event(EventType.FAILED, batch(Status.FAILED, outcome=Outcome.EMPTY, counts=Counts())),
        "FAILED nightly evals",
    ),
    (
        event(EventType.EXPIRED, batch(Status.EXPIRED, counts=Counts(100, 40, 0, 60))),
        "EXPIRED nightly evals: 40 of 100, 60 expired, paid results waiting",
    ),
    (
        event(
            EventType.EXPIRED,
            batch(Status.EXPIRED, outcome=Outcome.EMPTY, counts=Counts(1_000_000, 0)),
        ),
        "EXPIRED nightly evals: 0 of 1,000,000",
    ),
    (
        event(EventType.CANCELLED, batch(Status.CANCELLED, outcome=Outcome.EMPTY, counts=Counts())),
        "CANCELLED nightly evals",
    ),
    (
        event(EventType.LOST, batch(Status.LOST, outcome=None)),
        "LOST nightly evals: the provider no longer knows it",
    ),
    (
        event(EventType.LOST, batch(Status.LOST, outcome=None), previous_status=None),
        "LOST nightly evals: never found",
    ),
    (
        event(
            EventType.REOPENED,
            batch(Status.IN_PROGRESS, outcome=None),
            previous_status=Status.COMPLETED,
        ),
        "REOPENED nightly evals: in progress again after completed",
    ),
    (
        event(EventType.UNKNOWN, batch(Status.UNKNOWN, raw_status="dreaming", outcome=None)),
        "UNKNOWN nightly evals: status “dreaming”",
    ),
    (
        event(EventType.IN_PROGRESS, batch(Status.IN_PROGRESS, counts=Counts(10, 3, 0))),
        "RUNNING nightly evals: 3 of 10",
    ),
    (trouble(EventType.ACCOUNT_UNAUTHORIZED), "ACCOUNT openai: credential rejected"),
    (trouble(EventType.ACCOUNT_UNREACHABLE), "ACCOUNT openai: unreachable"),
    (trouble(EventType.ACCOUNT_RECOVERED), "ACCOUNT openai: well again"),
    (
        trouble(EventType.CHANNEL_FAILING, account=None, channel="team"),
        "CHANNEL team: takes no messages",
    ),
    (
        trouble(EventType.CHANNEL_RECOVERED, account=None, channel="team"),
        "CHANNEL team: takes messages again",
    ),
]


@pytest.mark.parametrize(("told", "expected"), TITLES, ids=[title for _, title in TITLES])
def test_a_title_says_the_word_that_matters_first(told: Event, expected: str) -> None:
    title = messages.title(told)

    assert title == expected


def test_a_body_says_all_a_reader_asks_for() -> None:
    problems = tuple(Problem("invalid", f"bad thing {line}", line) for line in (1, 2, 3, 4))
    told = event(
        subject=batch(problems=problems, problem_total=9), detected_at=NOW + 7 * 60_000 + 3_000
    )

    message = rendered(told).message

    assert message.body.splitlines() == [
        "openai/batch_abc",
        "Took 3h, ended 2026-11-21 12:00:00 UTC",
        "Requests: 98 of 100, 2 failed",
        "Why: line 1: invalid: bad thing 1",
        "Also: line 2: invalid: bad thing 2",
        "Also: line 3: invalid: bad thing 3",
        "And 6 more problems",
        "Results: file-out",
        "Errors: file-err",
        "https://platform.example/batches/batch_abc",
        "Seen 7m 3s late",
        "From box1",
        "openai/batch_abc@3",
    ]
    assert message.severity is Severity.WARNING


def test_a_document_has_the_same_body_uncut() -> None:
    told = event()

    body = messages.body(told, instance="box1", zone=UTC, pages=page)

    assert body == rendered(told).message.body


def test_times_are_told_in_the_zone_asked_for() -> None:
    zone = timezone(timedelta(hours=1), "CET")

    message = render([event()], PLAIN, instance="box1", zone=zone, waiting=1).message

    assert "ended 2026-11-21 13:00:00 CET" in message.body


def test_a_look_within_a_minute_is_not_called_late() -> None:
    message = rendered(event(detected_at=NOW + 60_000)).message

    assert "late" not in message.body


def test_paid_results_of_an_expired_batch_are_pointed_out() -> None:
    told = event(EventType.EXPIRED, batch(Status.EXPIRED, counts=Counts(100, 40)))

    body = rendered(told).message.body

    assert "The results of what was done are paid for and waiting." in body
    assert "Results: file-out" in body


def test_a_batch_without_counts_is_said_to_have_none() -> None:
    told = event(subject=batch(outcome=None, counts=Counts()))

    assert "Requests: the provider gives no counts" in rendered(told).message.body


def test_a_lost_batch_says_why() -> None:
    told = event(EventType.LOST, batch(Status.LOST, outcome=None, reason="never found: wrong id?"))

    assert "Why: never found: wrong id?" in rendered(told).message.body


def test_trouble_comes_with_its_reason_and_what_to_do() -> None:
    body = rendered(trouble(EventType.ACCOUNT_UNAUTHORIZED)).message.body

    assert "Why: HTTP 401: Incorrect API key provided" in body
    assert "watcher check" in body
    assert body.endswith("account:openai@5")


def test_a_page_that_could_carry_markup_is_left_out() -> None:
    told = event()
    bad = "https://platform.example/](x)"

    message = render([told], CHAT, instance="b", zone=UTC, waiting=1, pages=lambda _: bad).message

    assert "platform" not in message.body


def test_nothing_private_leaves_through_a_channel_without_details() -> None:
    style = replace(PLAIN, details=False)
    told = event(
        EventType.UNKNOWN,
        batch(
            Status.FAILED,
            registration=Registration(name="PRIVATE", tags=("PRIVATE",), group="PRIVATE"),
            provider_name="PRIVATE",
            metadata={"team": "PRIVATE"},
            raw_status="PRIVATE",
            problems=(Problem("PRIVATE", "PRIVATE"),),
            results=Results("PRIVATE", "PRIVATE"),
            last_error="PRIVATE",
        ),
    )
    events = [replace(told, type=kind) for kind in EventType if kind.value.startswith("batch.")]
    events.append(trouble(EventType.ACCOUNT_UNAUTHORIZED, reason="PRIVATE"))

    texts = [str(rendered(each, style=style).message) for each in events]
    texts.append(str(rendered(*events[:-1], style=style).message))
    texts.append(str(rendered(*events[:-1], style=style, waiting=300).message))

    assert not [text for text in texts if "PRIVATE" in text]
    assert all("openai" in text for text in texts[:-2])


def test_an_emoji_stands_before_the_word_only_where_it_is_wanted() -> None:
    with_emoji = rendered(event(), style=replace(CHAT, emoji=True)).message.title
    without = rendered(event(), style=CHAT).message.title

    assert with_emoji == f"\N{LARGE YELLOW CIRCLE} {without}"


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_a_user_or_provider_wrote_can_mean_something_to_a_chat(text: str) -> None:
    told = event(
        subject=batch(
            id=text[:400] or "x",
            registration=Registration(name=text),
            problems=(Problem(text, text, 1), Problem(None, text)),
            results=Results(text, text),
        ),
    )
    lost = event(EventType.LOST, batch(Status.LOST, reason=text))
    account = trouble(EventType.ACCOUNT_UNREACHABLE, reason=text)

    for each in (rendered(told, style=CHAT), rendered(told, lost, style=CHAT)):
        found = [ACTIVE.search(_ours_out(line)) for line in _lines(each)]

        assert not any(found), found
    for each in (rendered(lost, style=CHAT), rendered(account, style=CHAT)):
        found = [ACTIVE.search(_ours_out(line)) for line in _lines(each)]

        assert not any(found), found


def _lines(each: Rendered) -> list[str]:
    return [each.message.title, *each.message.body.split("\n")]


def _ours_out(line: str) -> str:
    return "" if line.startswith("https://platform.example/") else line


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_written_elsewhere_forges_no_line(text: str) -> None:
    plain = event(subject=batch(problems=(Problem("x", "y"),)))
    hostile = event(subject=batch(problems=(Problem(text, text),)))

    lines = len(rendered(hostile).message.body.splitlines())

    assert lines == len(rendered(plain).message.body.splitlines())


def test_ordinary_names_and_ids_stay_as_they_are() -> None:
    text = "openai/batch_67a_b.c-d nightly evals (3.5, R&D) für Zoë: 100% done; gpt-4.1/mini"

    assert neutral(text, CHAT) == text


def test_an_event_id_can_be_copied_from_a_chat() -> None:
    lines = rendered(event(), style=CHAT).message.body.splitlines()

    assert lines[-1] == "openai/batch_abc@3"


def test_several_events_make_one_digest() -> None:
    ok = event(subject=batch(id="a", outcome=Outcome.OK, counts=Counts(5, 5, 0)))
    failed = event(
        EventType.FAILED, batch(Status.FAILED, id="b", outcome=Outcome.EMPTY), Severity.FAILURE
    )
    partial = event(subject=batch(id="c"))

    digest = rendered(ok, failed, partial)

    assert digest.message.title == "3 batches: 1 ok, 1 partial, 1 failed"
    assert digest.message.body.splitlines() == [
        "DONE nightly evals: 5 of 5 · openai/a@3",
        "FAILED nightly evals: 98 of 100, 2 failed · openai/b@3",
        "PARTIAL nightly evals: 98 of 100, 2 failed · openai/c@3",
        "From box1",
    ]
    assert digest.message.severity is Severity.FAILURE
    assert digest.named == (ok, failed, partial)


def test_two_events_of_one_batch_are_not_called_two_batches() -> None:
    title = rendered(event(), event(id="openai/batch_abc@4")).message.title

    assert title == "2 events: 2 partial"


def test_a_digest_names_no_more_than_its_lines_and_says_what_is_left() -> None:
    events = many(60)

    digest = rendered(*events)

    lines = digest.message.body.splitlines()
    assert len(lines) == 20
    assert digest.named == tuple(events[: len(digest.named)])
    assert lines[-1] == f"{60 - len(digest.named)} more to come"
    assert [line.partition(" · ")[2] for line in lines[:-1]] == [each.id for each in digest.named]


def test_a_digest_takes_what_the_service_has_room_for() -> None:
    digest = rendered(*many(15), style=replace(PLAIN, body_max=300))

    assert 2 <= len(digest.named) < 15
    assert len(digest.message.body) <= 300
    assert all(each.id in digest.message.body for each in digest.named)


def test_a_service_with_no_room_for_two_lines_gets_one_event_in_full() -> None:
    events = many(3, registration=Registration(name="n" * 60))

    single = rendered(*events, style=SMS)

    assert single.named == (events[0],)
    assert events[0].id in single.message.body


def test_more_than_two_hundred_waiting_are_settled_by_one_summary() -> None:
    events = [
        *many(200, outcome=Outcome.OK),
        event(EventType.FAILED, batch(Status.FAILED, outcome=Outcome.EMPTY), Severity.FAILURE),
    ]

    summary = rendered(*events)

    assert summary.named == tuple(events)
    assert summary.message.title == "201 batches: 200 ok, 1 failed"
    assert "watcher events --since 2026-11-21T12:00:07Z" in summary.message.body.splitlines()
    assert "FAILED nightly evals: 98 of 100, 2 failed" in summary.message.body
    assert summary.message.severity is Severity.FAILURE


def test_a_program_is_told_each_by_its_id_however_many_wait() -> None:
    program = replace(PLAIN, lines_max=500, by_program=True)

    digest = rendered(*many(501), style=program, waiting=9_000)

    lines = digest.message.body.splitlines()
    assert 200 < len(digest.named) < 500
    assert lines[-1] == f"{9_000 - len(digest.named):,} more to come"
    assert [line.partition(" · ")[2] for line in lines[:-1]] == [each.id for each in digest.named]


def test_two_hundred_waiting_are_still_told_one_by_one() -> None:
    assert len(rendered(*many(200)).named) < 200


def test_a_summary_fits_a_text_message() -> None:
    summary = rendered(*many(500, outcome=Outcome.OK), style=SMS)

    text = summary.message.title + "\r\n" + summary.message.body
    assert len(text) <= 160
    assert "watcher events --since" in text
    assert len(summary.named) == 500


def test_a_text_message_keeps_the_event_id_and_stays_in_its_alphabet() -> None:
    told = event(
        subject=batch(
            registration=Registration(name="n" * 90), problems=(Problem("x", "why " * 90),)
        )
    )

    message = rendered(told, style=SMS).message

    assert (message.title + message.body).isascii()
    assert message.body.splitlines()[-1] == "openai/batch_abc@3"
    assert len(message.title) + 2 + len(message.body) <= 160


def test_no_events_make_no_message() -> None:
    with pytest.raises(ValueError, match="at least one"):
        rendered()


texts = st.text(max_size=400) | st.sampled_from(HOSTILE)
styles = st.builds(
    Style,
    title_max=st.integers(20, 300),
    body_max=st.integers(60, 3_000),
    lines_max=st.integers(1, 30),
    markup=st.sampled_from(Markup),
    interprets=st.booleans(),
    emoji=st.booleans(),
    details=st.booleans(),
    merged_title=st.booleans(),
    in_bytes=st.booleans(),
    ascii_marks=st.booleans(),
    line_break=st.sampled_from(["\n", "  \n", "\n\n"]),
)


@settings(max_examples=150, deadline=None)
@given(style=styles, name=texts, why=texts, key=texts, count=st.integers(1, 30), more=st.booleans())
def test_no_message_is_ever_beyond_what_its_service_takes(
    *, style: Style, name: str, why: str, key: str, count: int, more: bool
) -> None:
    subject = batch(
        registration=Registration(name=name), problems=(Problem(why, why, 3),) * 5, problem_total=30
    )
    events = [event(subject=replace(subject, id=f"{number}{key}"[:480])) for number in range(count)]

    each = rendered(*events, style=style, waiting=count + 250 * more)

    message = each.message
    title = cost(
        message.title, style if style.merged_title else replace(style, markup=Markup.PLAIN)
    )
    body = cost(message.body, style)
    shared = title + cost(style.line_break, style) if style.merged_title else 0
    assert len(message.title) <= style.title_max
    assert body + shared <= style.body_max
    assert len(message.body.split(style.line_break)) <= style.lines_max
    assert message.body
    assert each.named
    assert each.named == tuple(events[: len(each.named)])


def test_an_event_document_has_the_promised_keys_in_their_order() -> None:
    told = event()

    document = event_document(told, "box1", messages.title(told), "body")

    assert " ".join(document) == (
        "version instance seq id type severity occurred_at detected_at lag_seconds account channel"
        " previous_status title body batch"
    )
    assert " ".join(document["batch"]) == (
        "key id account provider revision status raw_status outcome counts progress name tags group"
        " channels metadata registered_by created_at in_progress_at finalizing_at cancelling_at"
        " ended_at expires_at results errors registered_at last_look_at next_look_at looks failures"
        " last_error"
    )
    assert document["detected_at"] == "2026-11-21T12:00:07.120Z"
    assert document["lag_seconds"] == 7.12
    assert document["severity"] == "warning"
    assert document["previous_status"] == "in_progress"
    assert document["batch"]["counts"] == {
        "total": 100,
        "completed": 98,
        "failed": 2,
        "expired": None,
        "cancelled": None,
    }


def test_what_is_not_known_is_null_in_a_document() -> None:
    fresh = Batch("openai", "batch_abc", "openai")

    document = batch_document(fresh)

    assert document["status"] is None
    assert document["progress"] is None
    assert document["registered_at"] is None
    assert document["counts"]["total"] is None
    assert event_document(event(occurred_at=None), "b", "t", "b")["lag_seconds"] is None


def test_a_delivery_document_shows_every_try() -> None:
    delivery = Delivery(
        seq=1,
        event_id="openai/batch_abc@3",
        channel="team",
        state=DeliveryState.PENDING,
        tries=(Try(NOW, TryOutcome.FAILED, "error=500"),),
        next_try_at=NOW + 1_000,
    )

    assert delivery_document(delivery) == {
        "event": "openai/batch_abc@3",
        "channel": "team",
        "state": "pending",
        "reason": None,
        "tries": [{"at": "2026-11-21T12:00:00Z", "outcome": "failed", "error": "error=500"}],
        "next_try_at": "2026-11-21T12:00:01Z",
        "settled_at": None,
    }


def test_a_test_message_cannot_be_taken_for_news() -> None:
    message = messages.test_message("team", "box1\nDONE", DOCUMENT)

    assert message.title == "TEST of channel team"
    assert "only a test" in message.body
    assert "\n" not in message.body


def test_the_style_of_documents_changes_nothing() -> None:
    assert neutral("@everyone *x* <b>", DOCUMENT) == "@everyone *x* <b>"
