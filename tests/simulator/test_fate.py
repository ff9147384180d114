"""Every fate's timeline, lived through second by second under a fake clock."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.fakes import START, FakeClock
from tests.simulator.builders import batch, simulated
from watcher.simulator import NAMED, Complaint, Fate, Wire
from watcher.simulator.chance import chance
from watcher.simulator.fate import choose

RUNS = [(0, "validating"), (2, "in_progress"), (590, "finalizing")]
TIMELINES = {
    "completed": [*RUNS, (600, "completed")],
    "partial": [*RUNS, (600, "completed")],
    "all_failed": [*RUNS, (600, "completed")],
    "empty": [*RUNS, (600, "completed")],
    "late_output": [*RUNS, (600, "completed")],
    "failed": [(0, "validating"), (8, "failed")],
    "token_limit_exceeded": [(0, "validating"), (0, "failed")],
    "expired": [
        *((0, "validating"), (2, "in_progress")),
        *((86_401, "finalizing"), (87_007, "expired")),
    ],
    "expired_with_results": [
        *((0, "validating"), (2, "in_progress")),
        *((86_401, "finalizing"), (87_007, "expired")),
    ],
    "cancelled": [(0, "validating"), (1, "cancelling"), (607, "cancelled")],
    "cancelled_with_results": [
        *((0, "validating"), (2, "in_progress")),
        *((144, "cancelling"), (750, "cancelled")),
    ],
    "stuck": [(0, "validating"), (2, "in_progress")],
    "revived": [
        *((0, "validating"), (2, "in_progress"), (590, "finalizing"), (600, "completed")),
        *((1_800, "in_progress"), (2_399, "finalizing"), (2_400, "completed")),
    ],
    "unknown_word": [
        *((0, "validating"), (2, "in_progress"), (60, "marinating"), (600, "in_progress")),
        *((650, "finalizing"), (660, "completed")),
    ],
    "late_to_appear": [*RUNS, (600, "completed")],
    "vanishing": [*RUNS, (600, "completed")],
    "vanished": [*RUNS, (600, "completed")],
}
# (total, completed, failed), whether there is an output file, whether there is an error file.
ENDS = {
    "completed": ((100, 100, 0), True, False),
    "partial": ((100, 98, 2), True, True),
    "all_failed": ((4, 0, 4), False, True),
    "empty": ((9, 0, 9), False, False),
    "late_output": ((100, 100, 0), True, False),
    "failed": ((0, 0, 0), False, False),
    "token_limit_exceeded": ((0, 0, 0), False, False),
    "expired": ((1, 0, 0), True, False),
    "expired_with_results": ((10, 1, 0), True, True),
    "cancelled": ((0, 0, 0), False, False),
    "cancelled_with_results": ((100, 40, 1), True, True),
    "stuck": ((100, 60, 0), False, False),
    "revived": ((100, 100, 0), True, False),
    "unknown_word": ((100, 100, 0), True, False),
    "late_to_appear": ((100, 100, 0), True, False),
    "vanishing": ((100, 100, 0), True, False),
}
LONG = 200_000


def test_every_named_fate_has_its_timeline_here() -> None:
    assert TIMELINES.keys() == NAMED.keys()


@pytest.mark.parametrize("name", TIMELINES)
def test_truth_tells_the_timeline_to_the_second(name: str) -> None:
    clock = FakeClock()
    provider = simulated("openai", clock)
    id = provider.add(NAMED[name]())
    clock.advance(LONG * 1000)
    seconds = [((at - START) / 1000, status) for at, status in provider.truth(id)]

    assert seconds == TIMELINES[name]


@pytest.mark.parametrize(
    "name", sorted(TIMELINES.keys() - {"late_to_appear", "vanishing", "vanished"})
)
def test_a_look_shows_each_status_from_its_moment_on_and_not_before(name: str) -> None:
    clock = FakeClock()
    provider = simulated("openai", clock)
    id = provider.add(NAMED[name]())
    seen = []
    for at, _ in TIMELINES[name][1:]:
        clock.advance(max(0, START + at * 1000 - 1 - clock.now()))
        before = batch(provider, id)["status"]
        clock.advance(START + at * 1000 - clock.now())
        seen.append((before, batch(provider, id)["status"]))
    words = [status for _, status in TIMELINES[name]]
    if name == "token_limit_exceeded":
        words[0] = "failed"

    assert seen == list(pairwise(words))


@pytest.mark.parametrize("name", ENDS)
def test_the_end_brings_its_counts_and_files(name: str) -> None:
    clock = FakeClock()
    provider = simulated("openai", clock)
    id = provider.add(NAMED[name]())
    clock.advance(LONG * 1000)
    shown = batch(provider, id)
    files = shown["output_file_id"] is not None, shown["error_file_id"] is not None

    assert (tuple(shown["request_counts"].values()), *files) == ENDS[name]


@pytest.mark.parametrize(
    ("name", "there", "gone"),
    [
        ("late_to_appear", [3, 1_000], [0, 1, 2.999]),
        ("vanishing", [0, 119.999, 240, 1_000], [120, 239.999]),
        ("vanished", [0, 119.999], [120, 1_000, LONG]),
    ],
)
def test_a_batch_that_vanishes_is_answered_404_then_and_only_then(
    name: str, there: list[float], gone: list[float]
) -> None:
    answers: dict[float, int] = {}
    clock = FakeClock()
    provider = simulated("openai", clock)
    id = provider.add(NAMED[name]())
    for age in sorted(there + gone):
        clock.advance(START + int(age * 1000) - clock.now())
        try:
            batch(provider, id)
            answers[age] = 200
        except LookupError as error:
            answers[age] = error.args[0]

    assert answers == {age: 200 if age in there else 404 for age in sorted(there + gone)}


def test_counts_go_up_steadily_and_are_done_before_finalizing() -> None:
    clock = FakeClock()
    provider = simulated("openai", clock)
    id = provider.add(Fate.partial(1_000, 100))
    counts = []
    for _ in range(60):
        counts.append(batch(provider, id)["request_counts"])
        clock.advance(10_000)
    completed = [count["completed"] for count in counts]
    grown = [later - earlier for earlier, later in pairwise(completed[1:])]

    assert counts[0] == {"total": 0, "completed": 0, "failed": 0}
    assert counts[-1] == {"total": 1_000, "completed": 900, "failed": 100}
    assert max(grown) - min(grown) <= 1


def test_a_late_output_file_comes_when_it_was_said_to() -> None:
    clock = FakeClock()
    provider = simulated("openai", clock)
    id = provider.add(Fate.late_output(late=30))
    clock.advance(629_999)
    before = batch(provider, id)
    clock.advance(1)

    assert (before["status"], before["output_file_id"]) == ("completed", None)
    assert batch(provider, id)["output_file_id"].startswith("file-")


def test_a_hastened_fate_keeps_its_proportions() -> None:
    clock = FakeClock()
    provider = simulated("openai", clock)
    id = provider.add(Fate.expired_with_results().faster(60))
    clock.advance(LONG * 1000)
    ages = [at - START for at, _ in provider.truth(id)]
    shown = batch(provider, id)

    assert ages == [0, 33, 1_440_017, 1_450_117]
    assert shown["expires_at"] - shown["created_at"] == 1_440


def test_a_revived_batch_shows_no_end_while_it_runs_again() -> None:
    clock = FakeClock()
    provider = simulated("openai", clock)
    id = provider.add(Fate.revived("cancelled"))
    ended = []
    for age in (700, 1_900, 2_500):
        clock.advance(START + age * 1000 - clock.now())
        shown = batch(provider, id)
        ended.append((shown["status"], shown["cancelled_at"], shown["completed_at"]))
    second = START // 1000

    assert ended == [
        ("cancelled", second + 600, None),
        ("in_progress", None, None),
        ("completed", None, second + 2_400),
    ]


def test_a_queue_puts_off_everything_but_the_expiry() -> None:
    clock = FakeClock()
    provider = simulated("cerebras", clock)
    id = provider.add(Fate.completed().queueing(30))
    clock.advance(LONG * 1000)
    seconds = [((at - START) / 1000, status) for at, status in provider.truth(id)]

    assert seconds == [
        *((0, "validating"), (2, "queued"), (32, "in_progress")),
        *((620, "finalizing"), (630, "completed")),
    ]


def test_cohere_knows_no_validating_and_no_finalizing() -> None:
    clock = FakeClock()
    provider = simulated("cohere", clock)
    id = provider.add(Fate.completed())
    clock.advance(LONG * 1000)
    seconds = [((at - START) / 1000, status) for at, status in provider.truth(id)]

    assert seconds == [(0, "queued"), (2, "in_progress"), (600, "completed")]


@pytest.mark.parametrize(
    ("age", "word"),
    [
        *((1, "QUEUED"), (3, "IN_PROGRESS"), (145, "CANCELING"), (800, "CANCELED")),
    ],
)
def test_cohere_spells_its_words_its_own_way(age: int, word: str) -> None:
    clock = FakeClock()
    provider = simulated("cohere", clock)
    id = provider.add(Fate.cancelled_with_results())
    clock.advance(age * 1000)

    assert batch(provider, id)["status"] == f"BATCH_STATUS_{word}"


def test_nothing_expires_at_cohere() -> None:
    with pytest.raises(ValueError, match="expired"):
        simulated("cohere", FakeClock()).add(Fate.expired())


def test_cerebras_says_why_it_failed_in_a_plain_string() -> None:
    clock = FakeClock()
    provider = simulated("cerebras", clock)
    id = provider.add(Fate.failed((Complaint("bad", "line 3 is not JSON"),)))
    clock.advance(10_000)

    assert batch(provider, id)["errors"] == "line 3 is not JSON"


def test_a_fate_can_show_what_is_not_true() -> None:
    provider = simulated("openai", FakeClock())
    id = provider.add(Fate.completed().showing(error_file_id="", request_counts=None))
    shown = batch(provider, id)

    assert (shown["error_file_id"], shown["request_counts"]) == ("", None)


def test_chosen_fates_vary_with_the_seed_and_with_nothing_else() -> None:
    fates = [[choose(random).name for _ in range(40)] for random in (chance(1), chance(1))]

    assert fates[0] == fates[1]
    assert fates[0] != [choose(chance(2, number)).name for number in range(40)]
    assert len(set(fates[0])) > 2


@pytest.mark.parametrize("wire", Wire)
def test_what_a_look_shows_is_always_the_truth(wire: Wire) -> None:
    clock = FakeClock()
    provider = simulated(wire, clock)
    fates = [make() for make in NAMED.values() if not make().name.startswith("expired")]
    ids = {provider.add(fate.queueing(40)): fate for fate in fates}
    shown: list[str | None] = []
    true: list[str | None] = []
    for _ in range(50):
        clock.advance(60_000)
        for id, fate in ids.items():
            hidden = fate.missing((clock.now() - START) / 1000)
            true.append(None if hidden else provider.truth(id)[-1][1])
            try:
                shown.append(our_word(batch(provider, id)["status"]))
            except LookupError:
                shown.append(None)

    assert shown == true
    assert None in shown


def our_word(raw: str) -> str:
    return raw.lower().removeprefix("batch_status_").replace("cell", "cel").replace("cel", "cell")


def test_a_queue_may_come_before_a_failure() -> None:
    fate = Fate.token_limit_exceeded().queueing(5)

    assert [fate.status(age) for age in (0, 4.9, 5)] == ["queued", "queued", "failed"]
