"""The daemon as a process, killed again and again: nothing is lost, and the judge would see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from crashing import prepared
from recording import Answer, Named, Receipt, read_message
from scene import Kind, Options
from verdict import Autopsy, Entry, Evidence, Expected, judge

# Of an account or a channel, in seconds.
LEASE = 15.0
ONE, TWO = "openai/batch_1", "openai/batch_2"
TOLD = {"team": "delivered"}


def test_nothing_is_lost_however_often_the_daemon_is_killed(tmp_path: Path) -> None:
    kinds = [Kind.ARRIVED, Kind.LOOKED, Kind.ANSWERED, Kind.STARTING]
    options = Options(
        kills=4, batches=24, refused_share=0.0, hurry=6.0, kinds=kinds, skips=0, patience=30.0
    )
    with prepared(options, tmp_path) as run:
        verdict = run.go()

    assert [*verdict.faults, *run.problems] == []
    assert run.kills.total() == 4
    assert len(run.registrar.watched) + len(run.registrar.removed) == 24
    # Each of two channels was told the end of each batch that is still watched.
    assert verdict.namings >= 2 * len(run.registrar.watched)
    # A lease that outlived its holder would let nothing be looked at for so long.
    assert run.kills[Kind.LOOKED] == 1
    assert 0.0 < max(run.waits) < LEASE / 3


# Two batches and three events; the first process is killed, the second asked to stop.


def named(event: str, word: str = "DONE") -> Named:
    return Named(event, word)


def receipt(life: int, *events: str, answer: Answer = Answer.TAKEN) -> Receipt:
    return Receipt("team", life, tuple(map(named, events)), answer=answer)


def evidence(
    *receipts: Receipt, pending: frozenset[tuple[str, str]] = frozenset(), **changes: Any
) -> Evidence:
    """What is sound, unless the receipts are not."""
    first = Autopsy(1, killed=True, fresh=((1, f"{ONE}@1"), (2, f"{TWO}@1")), pending=pending)
    second = Autopsy(2, killed=False, fresh=((3, f"{TWO}@2"),))
    entries = [
        Entry(1, f"{ONE}@1", "completed", TOLD),
        Entry(2, f"{TWO}@1", "in_progress"),
        Entry(3, f"{TWO}@2", "completed", TOLD),
    ]
    expected = {ONE: Expected("completed"), TWO: Expected("completed")}
    sound = Evidence({"team": receipts}, [first, second], entries, expected)
    return replace(sound, **changes)


def test_what_is_sound_has_no_fault() -> None:
    verdict = judge(evidence(receipt(1, f"{ONE}@1"), receipt(2, f"{TWO}@2")))

    assert verdict.faults == []
    assert (verdict.namings, verdict.in_flight, verdict.not_taken) == (2, 0, 0)


def test_a_repeat_of_what_was_in_flight_at_a_kill_is_explained() -> None:
    pending = frozenset({(f"{ONE}@1", "team")})
    verdict = judge(
        evidence(receipt(1, f"{ONE}@1"), receipt(2, f"{ONE}@1", f"{TWO}@2"), pending=pending)
    )

    assert verdict.faults == []
    assert verdict.in_flight == 1


def test_a_repeat_after_a_process_that_ended_by_itself_is_not_explained() -> None:
    pending = frozenset({(f"{ONE}@1", "team")})
    sound = evidence(receipt(1, f"{ONE}@1"), receipt(2, f"{ONE}@1", f"{TWO}@2"), pending=pending)
    stopped = [replace(sound.autopsies[0], killed=False), sound.autopsies[1]]

    assert judge(replace(sound, autopsies=stopped)).unexplained


@pytest.mark.parametrize("answer", [Answer.REFUSED, Answer.NONE])
def test_a_repeat_of_what_was_not_taken_is_explained(answer: Answer) -> None:
    first = receipt(2, f"{ONE}@1", answer=answer)
    verdict = judge(evidence(first, receipt(2, f"{ONE}@1"), receipt(2, f"{TWO}@2")))

    assert verdict.faults == []
    assert verdict.not_taken == 1


def test_what_a_summary_counted_is_not_missing() -> None:
    summary = replace(receipt(1), summarised=2)
    verdict = judge(evidence(summary))

    assert verdict.faults == []
    assert judge(evidence(replace(summary, summarised=1))).missing


@pytest.mark.parametrize(
    ("receipts", "pending", "complaint"),
    [
        ([receipt(2, f"{TWO}@2")], (), f"never told {ONE}@1"),
        ([receipt(1, f"{ONE}@1", answer=Answer.NONE), receipt(2, f"{TWO}@2")], (), "never told"),
        (
            # Written down as sent, and sent all the same.
            [receipt(1, f"{ONE}@1"), receipt(2, f"{ONE}@1"), receipt(2, f"{TWO}@2")],
            (),
            f"told {ONE}@1 twice: processes 1 and 2",
        ),
        (
            # Pending though its sender had gone on to another message.
            [receipt(1, f"{ONE}@1"), receipt(1, f"{TWO}@1"), receipt(2, f"{ONE}@1", f"{TWO}@2")],
            (f"{ONE}@1",),
            "twice",
        ),
        ([receipt(2, f"{ONE}@1"), receipt(2, f"{ONE}@1", f"{TWO}@2")], (), "processes 2 and 2"),
        ([receipt(1, f"{ONE}@1"), receipt(2, f"{TWO}@2", f"{TWO}@7")], (), f"{TWO}@7, which no"),
        ([receipt(1, f"{ONE}@1", f"{TWO}@2")], (), "before it was written down"),
        ([receipt(2, f"{TWO}@2"), receipt(2, f"{ONE}@1")], (), "after what came later"),
        (
            [Receipt("team", 1, (named(f"{ONE}@1", "FAILED"),), answer=Answer.TAKEN)],
            (),
            f"FAILED of {ONE}@1, which is completed",
        ),
    ],
)
def test_the_judge_sees_what_a_channel_should_not_have_been_sent(
    receipts: list[Receipt], pending: tuple[str, ...], complaint: str
) -> None:
    left = frozenset((event, "team") for event in pending)
    faults = judge(evidence(*receipts, pending=left)).faults

    assert [one for one in faults if complaint in one], faults


def without(number: int) -> Callable[[Evidence], Evidence]:
    """An event that the state once had and has no more."""
    return lambda sound: replace(sound, entries=[one for one in sound.entries if one.seq != number])


def with_entry(number: int, **changes: Any) -> Callable[[Evidence], Evidence]:
    return lambda sound: replace(
        sound,
        entries=[replace(one, **changes) if one.seq == number else one for one in sound.entries],
    )


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (without(3), f"event 3 was {TWO}@2 and is None"),
        (without(2), f"{TWO} has the revisions [2]"),
        (with_entry(3, seq=7), "event 7 was None"),
        (with_entry(3, status="failed"), f"told {TWO}@2 failed, and it is completed"),
        (with_entry(3, deliveries={"team": "pending"}), "its delivery is pending"),
        (with_entry(3, deliveries={}), f"never to be told {TWO}@2"),
        (
            lambda sound: replace(sound, expected={TWO: Expected("completed", after=2)}),
            f"the end of {TWO}",
        ),
        (
            lambda sound: replace(sound, removed={TWO: 1}),
            f"{TWO}@2 was written down after {TWO} was removed",
        ),
    ],
)
def test_the_judge_sees_what_a_state_should_not_hold(
    spoil: Callable[[Evidence], Evidence], complaint: str
) -> None:
    faults = judge(spoil(evidence(receipt(1, f"{ONE}@1"), receipt(2, f"{TWO}@2")))).faults

    assert [one for one in faults if complaint in one], faults


def test_a_message_is_read_as_it_is_written() -> None:
    alone = read_message("PARTIAL nightly: 2 of 3", "openai/batch_1\nFrom crash\nopenai/batch_1@3")
    digest = read_message(
        "2 batches: 1 ok, 1 failed",
        "DONE batch_1: 3 of 3 · openai/batch_1@3\nFAILED a · b · openai/batch_2@1\nFrom crash",
    )
    summary = read_message("1,204 events: 1,204 ok", "Between …\nwatcher events --since …")

    assert alone == ((Named("openai/batch_1@3", "PARTIAL"),), 0)
    assert digest == ((named("openai/batch_1@3"), named("openai/batch_2@1", "FAILED")), 0)
    assert summary == ((), 1_204)
    with pytest.raises(ValueError, match="names no event"):
        read_message("hello", "world")
