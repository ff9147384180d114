"""Who is told, and why the others are not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.builders import batch, ended, event, registration
from watcher.model import Batch, Event, EventType, Outcome, Severity, Status
from watcher.routing import DEFAULT_EVENTS, Route, Switchboard, audience, untaken_types

CHANNELS = ("team", "ops", "pager")
BATCH_TYPES = [one for one in EventType if one.startswith("batch.")]
TROUBLE = [one for one in EventType if not one.startswith("batch.")]


def board(*routes: Route, operators: tuple[str, ...] | None = None) -> Switchboard:
    numbered = [replace(route, name=f"route {number}") for number, route in enumerate(routes, 1)]
    return Switchboard(CHANNELS, tuple(numbered), operators)


def told(of: Event, switchboard: Switchboard, *, news: bool = True) -> list[str]:
    return [choice.channel for choice in audience(of, switchboard, news=news) if choice.taken]


def why(of: Event, switchboard: Switchboard, channel: str) -> str:
    return next(one.why for one in audience(of, switchboard) if one.channel == channel)


def completed(**said: Any) -> Event:
    about = ended(registration=registration(**said))
    return event(EventType.COMPLETED, about=about)


def failed() -> Event:
    about = ended(Status.FAILED, Outcome.EMPTY)
    return event(EventType.FAILED, about=about, severity=Severity.FAILURE)


def to_team(**conditions: Any) -> Route:
    return Route(("team",), **conditions)


# Without routes


@pytest.mark.parametrize("event_type", sorted(DEFAULT_EVENTS))
def test_without_routes_every_channel_gets_the_default_events(event_type: EventType) -> None:
    subject = event(event_type, channel="elsewhere" if event_type.startswith("channel") else None)

    assert told(subject, board()) == list(CHANNELS)


def test_the_default_events_are_ends_reopening_and_trouble() -> None:
    terminal = {f"batch.{status}" for status in Status if status.terminal}

    assert {str(one) for one in DEFAULT_EVENTS} == terminal | {"batch.reopened"} | set(TROUBLE)


@pytest.mark.parametrize("event_type", [one for one in BATCH_TYPES if one not in DEFAULT_EVENTS])
def test_other_events_need_a_route(event_type: EventType) -> None:
    subject = event(event_type, severity=Severity.INFO)
    operators = list(CHANNELS) if event_type is EventType.UNKNOWN else []

    assert told(subject, board()) == operators
    assert told(subject, board(to_team(events=("batch.*",)), operators=())) == ["team"]


# Routes


def test_every_matching_route_applies_and_a_channel_gets_an_event_once() -> None:
    switchboard = board(to_team(), Route(("ops", "team")), to_team(events=("batch.lost",)))

    assert told(completed(), switchboard) == ["team", "ops"]
    assert why(completed(), switchboard, "team") == "route 1"
    assert why(completed(), switchboard, "ops") == "route 2"
    assert why(completed(), switchboard, "pager") == "no route names it"


METADATA = {"team": "nlp-evals", "labels": ["a", "b"], "priority": 3, "dry": True, "none": None}
SUBJECT = event(
    EventType.COMPLETED,
    about=ended(
        outcome=Outcome.PARTIAL,
        registration=registration(tags=("nightly", "big"), group="evals"),
        metadata=METADATA,
    ),
    severity=Severity.WARNING,
)


@pytest.mark.parametrize(
    ("conditions", "holds"),
    [
        ({}, True),
        ({"events": ("batch.completed",)}, True),
        ({"events": ("batch.*",)}, True),
        ({"events": ("batch.failed", "*")}, True),
        ({"events": ("batch.failed",)}, False),
        ({"severity": Severity.INFO}, True),
        ({"severity": Severity.WARNING}, True),
        ({"severity": Severity.FAILURE}, False),
        ({"outcomes": (Outcome.PARTIAL, Outcome.EMPTY)}, True),
        ({"outcomes": (Outcome.OK,)}, False),
        ({"accounts": ("cohere", "openai")}, True),
        ({"accounts": ("cohere",)}, False),
        ({"tags": ("night*",)}, True),
        ({"tags": ("other", "big")}, True),
        ({"tags": ("Nightly",)}, False),
        ({"groups": ("ev?ls",)}, True),
        ({"groups": ("other",)}, False),
        ({"metadata": {"team": "nlp-*"}}, True),
        ({"metadata": {"team": "vision-*"}}, False),
        ({"metadata": {"labels": "b"}}, True),
        ({"metadata": {"priority": "3"}}, True),
        ({"metadata": {"dry": "true"}}, True),
        ({"metadata": {"none": "*"}}, False),
        ({"metadata": {"absent": "*"}}, False),
        ({"metadata": {"team": "*", "absent": "*"}}, False),
        ({"tags": ("nightly",), "outcomes": (Outcome.OK,)}, False),
        ({"tags": ("nightly",), "groups": ("evals",), "accounts": ("openai",)}, True),
    ],
)
def test_all_conditions_of_a_route_must_hold(conditions: dict[str, Any], *, holds: bool) -> None:
    switchboard = board(to_team(**conditions), operators=())

    assert told(SUBJECT, switchboard) == (["team"] if holds else [])
    assert why(SUBJECT, switchboard, "team").startswith("route 1: takes ") is not holds


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ({"events": ("batch.lost", "batch.failed")}, "takes batch.lost, batch.failed"),
        ({"severity": Severity.FAILURE}, "takes severity failure and above"),
        ({"outcomes": (Outcome.OK,)}, "takes outcomes ok"),
        ({"accounts": ("cohere",)}, "takes accounts cohere"),
        ({"tags": ("weekly",)}, "takes tags weekly"),
        ({"groups": ("other",)}, "takes groups other"),
        ({"metadata": {"team": "vision"}}, "takes metadata team = vision"),
    ],
)
def test_the_first_condition_that_does_not_hold_is_named(
    conditions: dict[str, Any], words: str
) -> None:
    assert why(SUBJECT, board(to_team(**conditions)), "team") == f"route 1: {words}"


def test_a_batch_without_a_group_matches_only_a_pattern_for_none() -> None:
    assert told(completed(), board(to_team(groups=("e*",)))) == []


# The batch's own channels


def test_a_batchs_own_channels_are_added_to_what_the_routes_say() -> None:
    subject = completed(channels=("pager",))

    assert told(subject, board(to_team())) == ["team", "pager"]
    assert why(subject, board(to_team()), "pager") == "named at registration"


def test_a_batchs_own_channels_get_the_default_events_only() -> None:
    subject = event(
        EventType.IN_PROGRESS,
        about=batch(Status.IN_PROGRESS, registration=registration(channels=("pager",))),
        severity=Severity.INFO,
    )

    assert told(subject, board(to_team())) == []
    assert "not a default event" in why(subject, board(), "pager")


def test_an_own_channel_that_is_not_configured_keeps_its_delivery() -> None:
    assert told(completed(channels=("gone",)), board(to_team())) == ["team", "gone"]


# Operators


def test_a_failure_no_route_takes_goes_to_the_operators() -> None:
    switchboard = board(to_team(tags=("other",)), operators=("ops",))

    assert told(failed(), switchboard) == ["ops"]
    assert why(failed(), switchboard, "ops") == "operators: a failure no route takes"


def test_a_failure_only_its_own_channel_gets_goes_to_the_operators_too() -> None:
    about = ended(Status.FAILED, None, registration=registration(channels=("pager",)))
    subject = event(EventType.FAILED, about=about, severity=Severity.FAILURE)

    assert told(subject, board(to_team(tags=("other",)), operators=("ops",))) == ["ops", "pager"]


def test_a_failure_a_route_takes_does_not_go_to_the_operators() -> None:
    assert told(failed(), board(to_team(), operators=("ops",))) == ["team"]


def test_a_success_no_route_takes_goes_nowhere() -> None:
    assert told(completed(), board(to_team(tags=("other",)), operators=("ops",))) == []


@pytest.mark.parametrize("event_type", [one for one in TROUBLE if one.startswith("account")])
def test_trouble_of_accounts_goes_to_the_operators(event_type: EventType) -> None:
    assert told(event(event_type), board(to_team(tags=("a",)), operators=("ops",))) == ["ops"]


def test_an_unknown_word_is_told_to_the_operators_while_it_is_news() -> None:
    subject = event(EventType.UNKNOWN, severity=Severity.WARNING)

    assert told(subject, board(operators=("ops",))) == ["ops"]
    assert told(subject, board(operators=("ops",)), news=False) == []


def test_a_route_that_names_unknown_words_gets_each_of_them() -> None:
    switchboard = board(to_team(events=("batch.unknown",)), operators=("ops",))

    assert told(event(EventType.UNKNOWN), switchboard, news=False) == ["team"]


# Trouble


def test_a_failing_channel_is_told_to_every_other_whatever_the_routes() -> None:
    subject = event(EventType.CHANNEL_FAILING, channel="team", severity=Severity.FAILURE)
    switchboard = board(to_team(), operators=("ops",))

    assert told(subject, switchboard) == ["ops", "pager"]
    assert why(subject, switchboard, "team") == "a channel's own trouble is told elsewhere"


@pytest.mark.parametrize("event_type", [EventType.CHANNEL_FAILING, EventType.CHANNEL_RECOVERED])
def test_a_channels_trouble_never_goes_through_itself_even_by_a_route(
    event_type: EventType,
) -> None:
    subject = event(event_type, channel="team")

    assert "team" not in told(subject, board(to_team(events=("channel.*",))))


@pytest.mark.parametrize(
    ("events", "taken"),
    [((), False), (("*",), False), (("account.*",), True), (("batch.*", "account.rec*"), True)],
)
def test_a_route_with_batch_conditions_takes_trouble_only_by_its_name(
    events: tuple[str, ...], *, taken: bool
) -> None:
    switchboard = board(to_team(events=events, tags=("nightly",)), operators=("ops",))

    assert ("team" in told(event(EventType.ACCOUNT_RECOVERED), switchboard)) is taken


def test_a_route_without_batch_conditions_takes_trouble_by_default() -> None:
    subject = event(EventType.ACCOUNT_UNREACHABLE, severity=Severity.FAILURE)
    switchboard = board(to_team(accounts=("openai",)), operators=("ops",))

    assert told(subject, switchboard) == ["team", "ops"]
    assert told(replace(subject, account="cohere"), switchboard) == ["ops"]


# Quietly registered


def quiet(about: Batch, previous: Status | None = None, **said: Any) -> Event:
    hushed = replace(about, registration=registration(quiet_if_ended=True))
    kind = EventType(f"batch.{about.status}")
    return event(kind, about=hushed, previous_status=previous, **said)


def test_what_had_ended_when_first_seen_is_recorded_and_not_told() -> None:
    subject = quiet(ended())

    assert told(subject, board()) == []
    assert "--quiet-if-ended" in why(subject, board(), "team")


def test_registered_anew_it_is_as_quiet() -> None:
    assert told(quiet(ended(revision=5)), board()) == []


@pytest.mark.parametrize(
    "subject",
    [
        quiet(batch(Status.IN_PROGRESS)),
        quiet(ended(revision=2), Status.IN_PROGRESS),
        quiet(ended(revision=2), Status.COMPLETED),
        quiet(ended(Status.LOST, None)),
    ],
    ids=["open", "ended later", "another outcome", "never found"],
)
def test_everything_else_of_a_quietly_registered_batch_is_told(subject: Event) -> None:
    assert told(subject, board(to_team(events=("batch.*",)))) == ["team"]


# What no route takes


def test_without_routes_everything_is_taken_if_there_is_a_channel() -> None:
    assert untaken_types(board()) == ()
    assert set(untaken_types(Switchboard(()))) == DEFAULT_EVENTS


@pytest.mark.parametrize(
    ("conditions", "untaken"),
    [
        ({}, set()),
        ({"events": ("batch.*",)}, set()),
        ({"events": ("batch.c*",)}, {"failed", "expired", "lost", "reopened"}),
        ({"events": ("batch.co*", "batch.ca*")}, {"failed", "expired", "lost", "reopened"}),
        ({"severity": Severity.WARNING}, set()),
        ({"severity": Severity.FAILURE}, {"cancelled", "reopened"}),
        ({"outcomes": (Outcome.PARTIAL,)}, {"lost", "reopened"}),
    ],
)
def test_the_default_events_of_batches_that_no_route_takes_are_named(
    conditions: dict[str, Any], untaken: set[str]
) -> None:
    named = {one.removeprefix("batch.") for one in untaken_types(board(to_team(**conditions)))}

    assert named == untaken


def test_a_second_route_takes_what_the_first_leaves() -> None:
    switchboard = board(
        to_team(events=("batch.completed",)), Route(("ops",), severity=Severity.WARNING)
    )

    assert untaken_types(switchboard) == ()
