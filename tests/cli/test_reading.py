"""`show`, `events`, `deliveries`, `redeliver`, `routes`, `status`, `backup`: what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.channels.servers import Service
from tests.cli.bench import World, call, hook, told
from watcher.model import DeliveryState
from watcher.simulator import Fate
from watcher.store.ledger import Ledger
from watcher.store.schema import open_state
from watcher.version import __version__

pytestmark = pytest.mark.usefixtures("openai", "state", "configured")


@pytest.fixture
def failed(openai: World) -> str:
    """A batch that failed and was told."""
    id_ = openai.ended(Fate.failed(), name="nightly")
    call("add", id_)
    call("run", "--once")
    return id_


def bury(state: Path) -> None:
    """Give up everything that is pending, as weeks of failing would."""
    database = open_state(str(state), program=__version__, change=False)

    def work(transaction: object) -> None:
        ledger = Ledger(transaction)  # type: ignore[arg-type]
        seqs = [one.seq for one in ledger.outbox.waiting("team", 100, refusals=3)]
        ledger.outbox.end(seqs, "team", DeliveryState.DEAD, "given up after 12 tries", 1)

    database.transact(work)
    database.close()


def test_a_batch_is_shown_whole(failed: str) -> None:
    said = call("show", failed)
    document = call("show", "--json", f"openai/{failed}").document

    assert said.code == 0
    for part in ("status:      failed (empty)", "TIMELINE", "AT THE PROVIDER", f"{failed}@1"):
        assert part in said.out
    assert "team: delivered" in said.out
    assert "duplicate_custom_id: custom_id used more than once" in said.out
    assert [one["type"] for one in document["events"]] == ["batch.failed"]
    assert document["deliveries"][0]["state"] == "delivered"
    assert document["deliveries"][0]["tries"][0]["outcome"] == "delivered"


def test_why_a_channel_was_not_told_is_shown(
    openai: World, configured: Path, service: Service
) -> None:
    configured.write_text(
        configured.read_text()
        + f'[channels.other]\nurl = "{hook(service, "other")}"\n'
        + '[[routes]]\nchannels = ["team"]\nevents = ["batch.completed"]\n'
        + '[[routes]]\nchannels = ["other"]\ntags = ["nightly"]\n'
    )
    id_ = openai.ended()
    call("add", id_)
    call("run", "--once")
    said = call("show", id_).out

    assert "team: delivered" in said
    assert "other: not told: " in said


def test_events_are_lines(failed: str) -> None:
    text, lines = call("events").out, call("events", "--json").out.splitlines()
    event = json.loads(lines[0])

    assert f"openai/{failed}@1  FAILED" in text
    assert len(lines) == 1
    assert (event["type"], event["instance"], event["seq"]) == ("batch.failed", "box1", 1)
    assert event["batch"]["key"] == f"openai/{failed}"
    assert call("events", "--since", "2100-01-01").err == "nothing happened\n"


@pytest.mark.parametrize("moment", ["yesterday", "0001-01-01", "9" * 30 + "d", "5"])
def test_a_moment_that_is_none_is_told(moment: str) -> None:
    said = call("events", "--since", moment)

    assert said.code == 2
    assert "write a length of time (2h) or a moment" in said.err


def test_deliveries_are_chosen_by_state_and_channel(failed: str, state: Path) -> None:
    assert len(call("deliveries", "--json").document) == 1
    assert call("deliveries", "--json", "--state", "dead").document == []
    assert call("deliveries", "--json", "--channel", "nobody").document == []
    assert f"openai/{failed}@1  team     delivered  1" in call("deliveries").out


def test_the_state_of_deliveries_and_the_states_file_share_an_option(
    failed: str, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WATCHER_STATE")
    both = call("deliveries", "--json", "--state", "delivered", "--state", state)
    before = call("--state", state, "deliveries", "--json", "--state", "delivered")
    typo = call("deliveries", "--state", "deda")

    assert len(both.document) == len(before.document) == 1
    assert typo.code == 2
    assert "--state 'deda': there is pending, delivered, dead, dropped" in typo.err


def test_an_event_is_sent_again(failed: str, service: Service) -> None:
    said = call("redeliver", "--json", f"openai/{failed}@1")
    call("run", "--once")

    assert said.code == 0
    assert [one["state"] for one in said.document] == ["pending"]
    assert said.err == "1 delivery pending; sent by nobody: start watcher run\n"
    assert len(told(service)) == 2


def test_what_is_dead_is_sent_again_at_once(openai: World, service: Service, state: Path) -> None:
    """However long the channel was to rest after its failures."""
    service.status = 500
    call("add", openai.ended())
    call("run", "--once")
    bury(state)
    service.status = 200
    dead = call("deliveries", "--json", "--state", "dead").document
    said = call("redeliver", "--dead")
    call("run", "--once")

    assert [one["reason"] for one in dead] == ["given up after 12 tries"]
    assert "1 delivery pending" in said.err
    assert call("deliveries", "--json").document[0]["state"] == "delivered"


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        ([], 2, "name an event (its id is in the message), or --dead"),
        (["openai/nobody@1"], 4, "no event openai/nobody@1 is kept"),
        (["--dead", "--channel", "pager"], 2, "no channel is called 'pager': there is team"),
        (["--dead", "--channel", "tgram://1:TOKEN/2"], 2, "that is no channel's name"),
    ],
)
def test_what_cannot_be_sent_again_is_told(
    failed: str, arguments: list[str], code: int, complaint: str
) -> None:
    said = call("redeliver", *arguments)

    assert said.code == code
    assert complaint in said.err
    assert "TOKEN" not in said.err


def test_a_batch_in_place_of_an_event_names_its_events(failed: str, openai: World) -> None:
    unseen = openai.stuck()
    call("add", unseen)
    key = f"openai/{failed}"
    by_key, by_id, wrong = (call("redeliver", one) for one in (key, failed, f"{key}@7"))
    nothing = call("redeliver", unseen)

    assert (by_key.code, by_id.code, wrong.code, nothing.code) == (2, 2, 4, 2)
    assert by_key.err == (f"watcher: {key} is a batch: its events are {key}@1 (batch.failed)\n")
    assert f"{failed} is a batch: its events are {key}@1 (batch.failed)" in by_id.err
    assert f"no event {key}@7 is kept: its events are {key}@1" in wrong.err
    assert f"{unseen} is a batch: it has no event yet" in nothing.err


def test_channels_in_no_route_and_events_under_conditions_are_named(
    configured: Path, service: Service
) -> None:
    configured.write_text(
        configured.read_text()
        + f'[channels.pager]\nurl = "{hook(service, "pager")}"\n'
        + '[[routes]]\nchannels = ["team"]\nevents = ["batch.completed"]\noutcomes = ["ok"]\n'
        + '[[routes]]\nchannels = ["team"]\nevents = ["batch.failed"]\naccounts = ["openai"]\n'
        + '[[routes]]\nchannels = ["team"]\nevents = ["batch.expired"]\ntags = ["night*"]\n'
        + '[[routes]]\nchannels = ["team"]\nevents = ["batch.lost"]\nseverity = "failure"\n'
    )
    routes, document = call("routes").out, call("routes", "--json").document
    checked = call("check", "--offline").err

    assert document["unrouted"] == ["pager"]
    # The only account there is, and a loss is always a failure.
    assert document["conditional"] == ["batch.completed", "batch.expired"]
    assert document["untaken"] == ["batch.cancelled", "batch.reopened"]
    for text in (routes, checked):
        assert "in no route: pager (told of trouble, and of failures no route takes)" in text
        assert "taken under conditions only: batch.completed, batch.expired\n" in text
        assert "taken by no route: batch.cancelled, batch.reopened\n" in text


def test_routes_that_leave_nothing_out_need_no_remark(configured: Path) -> None:
    configured.write_text(configured.read_text() + '[[routes]]\nchannels = ["team"]\n')
    said = call("routes").out

    assert "taken" not in said
    assert "in no route" not in said


@pytest.mark.parametrize("command", ["routes", "redeliver"])
def test_what_is_undelivered_is_said_by_all_that_read_the_state(
    openai: World, service: Service, state: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    service.status = 500
    first, second = openai.ended(), openai.ended()
    call("add", first, second)
    call("run", "--once")
    bury(state)
    monkeypatch.setattr("watcher.cli.output.at_person", lambda: True)
    said = call(*([command] if command == "routes" else [command, f"openai/{first}@1"]))

    assert said.err.endswith("undelivered: watcher deliveries --state dead\n")


def test_routes_and_what_none_takes_are_said(configured: Path) -> None:
    plain = call("routes")
    configured.write_text(
        configured.read_text() + '[[routes]]\nchannels = ["team"]\nevents = ["batch.completed"]\n'
    )
    routed, document = call("routes"), call("routes", "--json").document

    assert plain.out.startswith("no routes: team get")
    assert "taken by no route: batch.failed" in routed.out
    assert document["routes"] == [
        {"name": "route 1", "takes": "batch.completed", "channels": ["team"]}
    ]
    assert "batch.failed" in document["untaken"]


def test_who_would_be_told_is_said(configured: Path) -> None:
    configured.write_text(
        configured.read_text() + '[[routes]]\nchannels = ["team"]\ntags = ["nightly"]\n'
    )
    event = ("routes", "test", "--json", "--event", "batch.completed")
    with_tag, without = call(*event, "--tag", "nightly").document, call(*event).document
    typo = call("routes", "test", "--event", "batch.compelted")

    assert [one["told"] for one in with_tag] == [True]
    assert [one["told"] for one in without] == [False]
    assert typo.code == 2
    assert "did you mean batch.completed?" in typo.err


def test_status_names_what_lacks_its_secret_without_a_daemon(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured.write_text(
        configured.read_text()
        + '[channels.pager]\nurl_env = "PAGER_URL"\n'
        + '[accounts.work]\nprovider = "cohere"\napi_key_env = "WORK_KEY"\n'
    )
    said = call("status")
    unwell = {
        one["name"]: one["trouble"]
        for one in (
            *call("status", "--json").document["accounts"],
            *call("status", "--json").document["channels"],
        )
        if not one["ok"]
    }

    assert said.code == 1
    assert set(unwell) == {"work", "pager"}
    assert "WORK_KEY is not set" in unwell["work"]
    assert "PAGER_URL is not set" in unwell["pager"]
    assert "account        work: the environment variable WORK_KEY is not set" in said.out
    assert "channel        pager: the environment variable PAGER_URL is not set" in said.out


def test_status_counts_what_is_dead(openai: World, service: Service, state: Path) -> None:
    service.status = 500
    call("add", openai.ended(), openai.stuck())
    call("run", "--once")
    waiting = call("status", "--json").document
    bury(state)
    dead = call("status", "--json").document

    assert (waiting["open"], waiting["waiting"], waiting["dead"]) == (1, 1, 0)
    assert (dead["waiting"], dead["dead"]) == (0, 1)
    assert waiting["daemon"]["alive"] is False


def test_a_backup_is_a_state(failed: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    said, again = call("backup", copy), call("backup", copy)
    nowhere = call("backup", tmp_path / "no" / "copy.db")
    nothing = call("--state", tmp_path / "none.db", "backup", tmp_path / "other.db")

    assert said.code == 0
    assert call("--state", copy, "show", "--json", failed).document["id"] == failed
    assert copy.stat().st_mode & 0o777 == 0o600
    assert (again.code, nowhere.code, nothing.code) == (2, 2, 1)
    assert "exists already: name a new file" in again.err
    assert "there is no state at" in nothing.err
