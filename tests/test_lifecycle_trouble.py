"""What answers, and their absence, mean for an account; and tries to send, for a channel."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import DAY, HOUR, MINUTE, SECOND, account
from tests.fakes import START
from watcher import lifecycle
from watcher.lifecycle import LIST, AccountStep, answered, delivered, undelivered
from watcher.model import Account, Channel, EventType, Severity

QUARTER = 15 * MINUTE


def told(step: AccountStep | lifecycle.ChannelStep) -> EventType | None:
    return None if step.event is None else step.event.type


def refusals(*given: tuple[str, int]) -> list[AccountStep]:
    """The account after each refusal, of a subject at a time after the START."""
    steps, now = [], account()
    for subject, at in given:
        steps.append(lifecycle.refused(now, subject, "401 Unauthorized", START + at))
        now = steps[-1].account
    return steps


def silence(of: Account, *times: int) -> list[AccountStep]:
    steps = []
    for at in times:
        steps.append(lifecycle.silent(of, "no route", START + at, unreachable_after=QUARTER))
        of = steps[-1].account
    return steps


# Unauthorized


def test_three_refusals_over_two_minutes_confirmed_by_the_list_are_unauthorized() -> None:
    steps = refusals((LIST, 0), ("batch_1", MINUTE), (LIST, 2 * MINUTE), ("batch_1", 3 * MINUTE))

    assert [told(step) for step in steps] == [None, None, EventType.ACCOUNT_UNAUTHORIZED, None]
    assert steps[2].event is not None
    assert steps[2].event.id == "account:openai@1"
    assert (steps[2].event.account, steps[2].event.batch) == ("openai", None)
    assert steps[2].event.reason == "401 Unauthorized"
    assert steps[2].account.trouble == "unauthorized"


@pytest.mark.parametrize(
    "given",
    [
        [(LIST, 0), (LIST, MINUTE)],
        [(LIST, 0), (LIST, SECOND), (LIST, 2 * MINUTE - 1)],
        [("batch_1", 0), ("batch_1", MINUTE), ("batch_1", 2 * MINUTE), ("batch_2", 3 * MINUTE)],
    ],
    ids=["two", "too soon", "never the list"],
)
def test_less_than_that_is_not_unauthorized(given: list[tuple[str, int]]) -> None:
    steps = refusals(*given)

    assert [told(step) for step in steps] == [None] * len(steps)
    assert steps[-1].account.suspected


def test_three_different_batches_stand_in_for_a_list() -> None:
    steps = refusals(("batch_1", 0), ("batch_2", MINUTE), ("batch_3", 2 * MINUTE))

    assert told(steps[-1]) is EventType.ACCOUNT_UNAUTHORIZED


def test_each_refusal_asks_for_the_next_probe_in_a_minute() -> None:
    step = refusals((LIST, 0))[0]

    assert step.account.probe_due_at == START + MINUTE


def test_one_good_answer_clears_the_suspicion_without_a_word() -> None:
    suspected = refusals((LIST, 0), (LIST, MINUTE))[-1].account
    step = answered(suspected, START + 2 * MINUTE)

    assert told(step) is None
    assert not step.account.suspected
    assert step.account.refused_since is None


def test_a_refused_batch_asks_for_a_probe_at_most_once_a_minute() -> None:
    first = lifecycle.suspect(account(), START)
    probed = account(probed_at=START)

    assert first.probe_due_at == START
    assert lifecycle.suspect(first, START + SECOND).probe_due_at == START
    assert lifecycle.suspect(probed, START + SECOND).probe_due_at == START + MINUTE


# Unreachable


def test_unreachable_is_told_once_after_a_quarter_of_an_hour_of_silence() -> None:
    steps = silence(account(), 0, 5 * MINUTE, QUARTER - 1, QUARTER, HOUR)

    assert [told(step) for step in steps] == [
        None,
        None,
        None,
        EventType.ACCOUNT_UNREACHABLE,
        None,
    ]
    assert steps[3].account.trouble == "unreachable"
    assert steps[3].account.probe_due_at == START + QUARTER + MINUTE


@pytest.mark.parametrize("how", ["heard", "limited", "refused", "answered"])
def test_any_answer_ends_the_silence(how: str) -> None:
    silent = silence(account(), 0)[-1].account
    answers = {
        "heard": lifecycle.heard(silent),
        "limited": lifecycle.limited(silent, START, SECOND, "429"),
        "refused": lifecycle.refused(silent, LIST, "401", START).account,
        "answered": answered(silent, START).account,
    }

    assert told(silence(answers[how], QUARTER)[-1]) is None


# All is 404


def test_a_list_that_is_404_too_is_the_accounts_trouble() -> None:
    steps, now = [], account()
    for at in (0, 5 * MINUTE, QUARTER, HOUR):
        steps.append(lifecycle.all_missing(now, START + at, unreachable_after=QUARTER))
        now = steps[-1].account

    assert [told(step) for step in steps] == [None, None, EventType.ACCOUNT_UNREACHABLE, None]
    assert steps[2].event is not None
    assert "404" in (steps[2].event.reason or "")


# Recovery


@pytest.mark.parametrize("trouble", ["unauthorized", "unreachable"])
def test_recovery_is_told_once_with_how_long_it_lasted(trouble: str) -> None:
    troubled = account(revision=1, trouble=trouble, trouble_since=START)
    first = answered(troubled, START + 40 * MINUTE)
    second = answered(first.account, START + 41 * MINUTE)

    assert (told(first), told(second)) == (EventType.ACCOUNT_RECOVERED, None)
    assert first.event is not None
    assert first.event.id == "account:openai@2"
    assert first.event.severity is Severity.SUCCESS
    assert first.event.reason == f"{trouble} for 40 minutes; it answers again"


def test_after_a_recovery_the_next_trouble_is_told_again() -> None:
    troubled = silence(account(), 0, QUARTER)[-1].account
    well = answered(troubled, START + HOUR).account
    again = silence(well, 2 * HOUR, 2 * HOUR + QUARTER)

    assert [told(step) for step in again] == [None, EventType.ACCOUNT_UNREACHABLE]
    assert again[-1].event is not None
    assert again[-1].event.id == "account:openai@3"


# Asked to slow down


def test_a_429_pauses_the_account_and_a_shorter_pause_does_not_cut_a_longer_one() -> None:
    paused = lifecycle.limited(account(), START, 60 * SECOND, "429")
    again = lifecycle.limited(paused, START + SECOND, 5 * SECOND, "429")

    assert (again.paused_until, again.pause_reason) == (START + MINUTE, "429")


def test_a_burst_of_429_counts_as_one() -> None:
    burst = account()
    for _ in range(8):
        burst = lifecycle.limited(burst, START, 10 * SECOND, "429")
    later = lifecycle.limited(burst, START + 11 * SECOND, 10 * SECOND, "429")

    assert (burst.limited, later.limited) == (1, 2)


def test_a_good_answer_keeps_the_pause_that_is_not_over() -> None:
    paused = lifecycle.limited(account(), START, MINUTE, "429")
    during = answered(paused, START + SECOND).account
    after = answered(paused, START + MINUTE).account

    assert (during.paused_until, during.limited) == (START + MINUTE, 0)
    assert (after.paused_until, after.pause_reason) == (None, None)


# Channels


def failing(of: Channel, *times: int) -> list[lifecycle.ChannelStep]:
    steps = []
    for at in times:
        now = START + at
        steps.append(undelivered(of, "refused", now, next_try_at=now + SECOND, message_size=None))
        of = steps[-1].channel
    return steps


def test_a_channel_is_failing_after_a_quarter_of_an_hour_of_nothing_but_failures() -> None:
    steps = failing(Channel("team"), 0, QUARTER - 1, QUARTER, DAY)

    assert [told(step) for step in steps] == [None, None, EventType.CHANNEL_FAILING, None]
    assert steps[2].event is not None
    assert (steps[2].event.id, steps[2].event.channel) == ("channel:team@1", "team")
    assert steps[-1].channel.failures == 4


def test_one_delivery_in_between_starts_the_count_anew() -> None:
    before = failing(Channel("team"), 0, 10 * MINUTE)[-1].channel
    well = delivered(before, START + 11 * MINUTE)
    after = failing(well.channel, 12 * MINUTE, 20 * MINUTE)

    assert told(well) is None
    assert (well.channel.failures, well.channel.next_try_at) == (0, None)
    assert [told(step) for step in after] == [None, None]


def test_a_channels_recovery_is_told_once() -> None:
    troubled = failing(Channel("team"), 0, QUARTER)[-1].channel
    first = delivered(troubled, START + HOUR)
    second = delivered(first.channel, START + 2 * HOUR)

    assert (told(first), told(second)) == (EventType.CHANNEL_RECOVERED, None)
    assert first.event is not None
    assert first.event.id == "channel:team@2"


# Laws

ANSWERS = st.sampled_from(
    ["good", "heard", "silent", "refused list", "refused 1", "refused 2", "missing", "limited"]
)


def take(of: Account, answer: str, now: int) -> AccountStep:
    match answer.split():
        case ["good"]:
            return answered(of, now)
        case ["silent"]:
            return lifecycle.silent(of, "no route", now, unreachable_after=QUARTER)
        case ["missing"]:
            return lifecycle.all_missing(of, now, unreachable_after=QUARTER)
        case ["refused", subject]:
            subject = LIST if subject == "list" else f"batch_{subject}"
            return lifecycle.refused(of, subject, "403", now)
        case ["limited"]:
            return AccountStep(lifecycle.limited(of, now, MINUTE, "429"))
    return AccountStep(lifecycle.heard(of))


@given(st.lists(st.tuples(ANSWERS, st.integers(0, 10 * MINUTE)), max_size=40))
@settings(max_examples=150)
def test_trouble_is_told_once_and_recovery_only_after_it(given: list[tuple[str, int]]) -> None:
    now, known, events = START, account(), []
    for answer, wait in given:
        now += wait
        step = take(known, answer, now)
        assert step.account.revision == known.revision + (step.event is not None)
        if step.event is not None:
            events.append(step.event)
            assert (step.event.type is EventType.ACCOUNT_RECOVERED) == (answer == "good")
        assert (step.account.trouble is None) == (
            not events or events[-1].type is EventType.ACCOUNT_RECOVERED
        )
        known = step.account
    types = [event.type for event in events]

    assert [event.id for event in events] == [
        f"account:openai@{number}" for number in range(1, len(events) + 1)
    ]
    assert all(one is not two for one, two in pairwise(types))
    assert not types or types[0] is not EventType.ACCOUNT_RECOVERED
