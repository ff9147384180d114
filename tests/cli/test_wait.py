"""`watcher wait`: every exit code, with and without a daemon."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.channels.servers import Service
from tests.cli.bench import World, call, hook, process, told, until
from watcher.cadence import looks, pauses
from watcher.cli import wait_alone, wait_by_daemon, waiting
from watcher.cli.output import progress_text
from watcher.model import Account, Batch, Counts, Outcome, Status
from watcher.simulator import Fate, faults


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    """Read often, and give up messages soon."""
    monkeypatch.setattr(waiting, "READ_EVERY", 0.02)
    for module in (wait_alone, wait_by_daemon):
        monkeypatch.setattr(module, "NOTIFY_WITHIN", 1.0)
    monkeypatch.setattr(wait_by_daemon, "TRY_AGAIN_AFTER", 0.1)


ENDS = {
    "completed": (Fate.completed(), 0),
    "partial": (Fate.partial(), 8),
    "empty": (Fate.empty(), 6),
    "failed": (Fate.failed(), 6),
    "expired": (Fate.expired(), 6),
    "expired with results": (Fate.expired_with_results(), 8),
    "cancelled": (Fate.cancelled(), 6),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_end_of_a_batch_is_the_exit_code(openai: World, name: str) -> None:
    fate, code = ENDS[name]

    assert call("wait", openai.ended(fate)).code == code


def test_partial_results_may_be_a_success(openai: World) -> None:
    partial, failed = openai.ended(Fate.partial()), openai.ended(Fate.failed())

    assert call("wait", "--allow-partial", partial).code == 0
    assert call("wait", "--allow-partial", partial, failed).code == 6


def test_it_waits_and_says_on_standard_error_how_it_goes(openai: World, state: Path) -> None:
    id_ = openai.batch(Fate.completed(10, after=0.5))
    said = call("wait", id_)

    assert said.code == 0
    assert said.out.startswith(f"openai/{id_}  completed  10 of 10  results: file-")
    assert len(said.out.splitlines()) == 1
    assert f"openai/{id_}  completed  10 of 10\n" in said.err
    assert not state.exists()


def test_json_is_the_batches_and_nothing_else(openai: World) -> None:
    first, second = openai.ended(), openai.ended(Fate.failed())
    said = call("wait", "--json", first, second)

    assert said.code == 6
    assert [one["status"] for one in said.document] == ["completed", "failed"]


def test_any_ends_with_the_first(openai: World) -> None:
    assert call("wait", "--any", openai.stuck(), openai.ended()).code == 0


def test_fail_fast_ends_with_the_first_failure(openai: World) -> None:
    stuck, failed = openai.stuck(), openai.ended(Fate.failed())

    assert call("wait", "--fail-fast", stuck, openai.ended(), failed).code == 6


def test_a_time_out_is_seven(openai: World) -> None:
    said = call("wait", "--timeout", "300ms", openai.stuck(), openai.ended())

    assert said.code == 7
    assert "timed out: 1 of 2 not ended" in said.err


def test_a_refused_key_is_three(openai: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-0123456789")
    said = call("wait", openai.stuck())

    assert said.code == 3
    assert "credential rejected: 401" in said.err
    assert "key is from $OPENAI_API_KEY" in said.err
    assert "sk-wrong" not in said.out + said.err


def test_a_batch_that_is_another_projects_is_three(openai: World) -> None:
    id_ = openai.stuck()
    openai.simulation.faults.add(faults.forbidden(), id=id_)
    said = call("wait", id_)

    assert said.code == 3
    assert f"openai/{id_}: the credential is not for this batch: 403" in said.err


def test_an_unknown_id_is_four_after_three_looks(
    openai: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "NEVER_SEEN_WAITS", (20, 20))
    said = call("wait", "batch_nobody")

    assert said.code == 4
    assert "openai/batch_nobody  not seen yet  404" in said.err
    assert "never found: wrong id, account, project or base URL?" in said.err
    assert openai.simulation.requests.by_id["batch_nobody"] == 3


def test_no_first_answer_is_five(openai: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "FIRST_ANSWER_WITHIN", 0.3)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9")
    said = call("wait", "batch_1")

    assert said.code == 5
    assert "no answer within 0.3 s: no connection with 127.0.0.1:9" in said.err


@pytest.mark.parametrize("fault", ["503", "429", "reset"])
def test_trouble_of_the_provider_never_ends_it(
    openai: World, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(waiting, "FIRST_ANSWER_WITHIN", 0.1 if fault == "503" else 60.0)
    monkeypatch.setattr(pauses, "FIRST_PAUSE", 50)
    trouble = {
        "503": faults.status(503),
        "429": faults.rate_limited(form=None),
        "reset": faults.reset(),
    }
    id_ = openai.ended()
    rule = openai.simulation.faults.add(trouble[fault], id=id_, times=3)

    assert call("wait", id_).code == 0
    assert rule.hits == 3


def test_a_key_that_is_missing_is_two(openai: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    nobody = call("wait", "batch_1")
    monkeypatch.setenv("WATCHER_ACCOUNTS__WORK__PROVIDER", "openai")
    monkeypatch.setenv("WATCHER_ACCOUNTS__WORK__API_KEY_ENV", "WORK_KEY")
    configured = call("wait", "batch_1")

    assert (nobody.code, configured.code) == (2, 2)
    assert "set OPENAI_API_KEY or CEREBRAS_API_KEY or CO_API_KEY" in nobody.err
    assert "the environment variable WORK_KEY is not set or empty" in configured.err


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ([], "name a batch, or choose with --group, --tag or --all"),
        (["batch_1", "--timeout", "5"], 'write "5s" for seconds'),
        (["batch_1", "--notify", "nobody"], "no channel is called 'nobody': there is none"),
        (["batch_1", "--notify", "slak://x/y"], "--notify: "),
        (["batch_1", "--notify", "slack:/TOKEN"], "--notify: that is no channel's name"),
        (["nowhere/batch_1"], "no account is called 'nowhere': there is openai"),
    ],
)
def test_what_it_cannot_take_is_told_at_once(
    openai: World, arguments: list[str], remedy: str
) -> None:
    said = call("wait", *arguments)

    assert said.code == 2
    assert remedy in said.err
    assert "TOKEN" not in said.err
    assert len(said.err.splitlines()) <= 2


def test_a_group_a_tag_or_all_choose_batches(openai: World) -> None:
    grouped, tagged = openai.ended(), openai.ended(Fate.failed())
    call("add", grouped, "--group", "evals")
    call("add", tagged, "--tag", "nightly")
    of_group, of_tag = (
        call("wait", "--json", *by).document for by in (["--group", "evals"], ["--tag", "nightly"])
    )

    assert [one["id"] for one in of_group] == [grouped]
    assert [one["id"] for one in of_tag] == [tagged]
    assert call("wait", "--all").code == 6


def test_the_ended_ones_of_a_group_count_and_are_not_looked_at_again(
    openai: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed, partial = openai.ended(Fate.failed()), openai.ended(Fate.partial())
    call("add", failed, "--group", "evals")
    call("add", partial, "--group", "evals", "--tag", "night")
    call("run", "--once")
    later = openai.ended()
    call("add", later, "--group", "evals", "--tag", "night", "--tag", "late")
    looks = Counter(openai.simulation.requests.by_id)
    group, night, late = (
        call("wait", "--json", *by)
        for by in (["--group", "evals"], ["--tag", "night"], ["--tag", "night", "--tag", "late"])
    )
    call("rm", failed)
    left = call("wait", "--group", "evals")
    monkeypatch.delenv("OPENAI_API_KEY")
    keyless = call("wait", "--json", "--tag", "night", "--any")

    assert [one["id"] for one in group.document] == [failed, partial, later]
    assert [one.code for one in (group, night, late, left)] == [6, 8, 0, 8]
    assert openai.simulation.requests.by_id[partial] == looks[partial]
    assert call("wait", "--group", "evals").code == 2
    # One is enough, and that one has ended.
    assert keyless.code == 8


def test_what_has_ended_is_told_to_whom_is_named(openai: World, service: Service) -> None:
    call("add", openai.ended(Fate.failed()), "--group", "evals")
    call("run", "--once")
    said = call("wait", "--group", "evals", "--notify", hook(service))

    assert said.code == 6
    assert told(service)[0].startswith("FAILED")


def test_all_that_has_ended_needs_no_key(openai: World, monkeypatch: pytest.MonkeyPatch) -> None:
    call("add", openai.ended(Fate.partial()), "--group", "evals")
    call("run", "--once")
    monkeypatch.delenv("OPENAI_API_KEY")
    said, every = call("wait", "--group", "evals"), call("wait", "--all")

    assert said.code == 8
    assert "completed (partial)  98 of 100, 2 failed" in said.out
    assert (every.code, every.err) == (0, "no open batch to wait for\n")


@pytest.mark.parametrize(
    ("by", "complaint"),
    [
        (["--group", "none"], "no batch of group 'none' is registered"),
        (["--tag", "a", "--tag", "b"], "no batch with tag 'a' and with tag 'b' is registered"),
    ],
)
def test_what_nothing_bears_is_four(openai: World, by: list[str], complaint: str) -> None:
    nothing = call("wait", *by)
    call("add", "batch_1", "--tag", "a")
    said = call("wait", *by)

    assert (nothing.code, said.code) == (4, 4)
    assert said.err == f"watcher: {complaint}\n"


def test_its_help_lists_the_exit_codes_a_line_each() -> None:
    lines = [line.split() for line in call("wait", "--help").out.splitlines()]
    codes = [words[0] for words in lines if words and words[0].isdecimal()]

    assert codes == ["0", "2", "3", "4", "5", "6", "7", "8", "130"]


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        (Counts(100, 98, 2), "98 of 100, 2 failed"),
        (Counts(9, 0, 9), "0 of 9, 9 failed"),
        (Counts(10, 10, 0), "10 of 10"),
        (Counts(10, 7), "7 of 10"),
        (Counts(), "-"),
    ],
)
def test_the_progress_of_what_has_ended_tells_what_it_brought(counts: Counts, text: str) -> None:
    ended = batch(Status.COMPLETED, counts=counts)
    still = batch(Status.IN_PROGRESS, counts=Counts(9, 2, 1))

    assert progress_text(ended) == text
    assert progress_text(still) == "3/9"


def test_ids_come_from_standard_input(openai: World) -> None:
    ids = [openai.ended(), openai.ended()]
    said = call("wait", "--json", "-", stdin="\n".join(ids))

    assert [one["id"] for one in said.document] == ids


def test_a_url_is_told_without_a_daemon(openai: World, service: Service, state: Path) -> None:
    id_ = openai.ended(Fate.failed(), name="nightly")
    said = call("wait", id_, "--notify", hook(service))

    assert said.code == 6
    assert told(service) == ["FAILED nightly"] or told(service)[0].startswith("FAILED")
    assert not state.exists()


def test_a_named_channel_is_told_and_no_other(
    openai: World, service: Service, configured: Path
) -> None:
    configured.write_text(
        configured.read_text() + f'[channels.other]\nurl = "{hook(service, "other")}"\n'
    )
    call("wait", openai.ended(), "--notify", "team")

    assert len(told(service)) == 1
    assert told(service, "other") == []


def test_a_channel_that_takes_nothing_is_named_at_the_end(openai: World, service: Service) -> None:
    service.status = 500
    said = call("wait", openai.ended(), "--notify", hook(service))

    assert said.code == 0
    assert "not told: " in said.err.splitlines()[-1]


def test_ctrl_c_prints_the_command_that_resumes(openai: World, tmp_path: Path) -> None:
    id_ = openai.stuck()
    with process(tmp_path, "wait", "--allow-partial", id_) as one:
        until(lambda: "in_progress" in one.said)
        one.send(signal.SIGINT)
        code = one.ended()
        said = one.said

    assert code == 130
    assert "Traceback" not in said
    resumed = f"watcher wait --allow-partial openai/{id_}"
    assert f"still going on; to go on waiting: {resumed}" in said


def batch(status: Status | None, outcome: Outcome | None = None, **changes: object) -> Batch:
    return Batch("openai", "batch_1", "openai", status=status, outcome=outcome, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("account", "verdict"),
    [
        (Account("openai", "openai", trouble="unauthorized"), 3),
        (Account("openai", "openai", refused=("/",)), 3),
        (Account("openai", "openai", trouble="unreachable", silent_since=1), None),
    ],
)
def test_an_accounts_trouble_is_judged(account: Account, verdict: int | None) -> None:
    one = waiting.Waiting(None, [("openai", "batch_1")])  # type: ignore[arg-type]
    view = waiting.View([batch(Status.IN_PROGRESS, counts=Counts(10, 3))], {"openai": account})
    end = one.judge(view, 10_000.0)

    assert (None if end is None else end.verdict) == verdict


def test_unfound_batches_that_were_given_up_are_four() -> None:
    one = waiting.Waiting(None, [("openai", "batch_1")])  # type: ignore[arg-type]
    lost = batch(Status.LOST, reason="never found: wrong id, account, project or base URL?")
    end = one.judge(waiting.View([lost], {}), 1.0)

    assert end is not None
    assert end.verdict == 4
