"""Creation, cancellation, paging, keys, counters: what an API does beside acting out fates."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.fakes import START, FakeClock
from tests.simulator.builders import AUTHORIZED, ROOTS, batch, listed, simulated
from watcher.simulator import KEY, Answer, Fate, Kind, SimulatedProvider, Wire

FORMS = {
    Wire.OPENAI: r"batch_[0-9a-f]{32}",
    Wire.CEREBRAS: r"batch_[0-9a-f]{12}",
    Wire.COHERE: r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
}


def post(provider: SimulatedProvider, path: str, body: Any = None) -> Answer:
    content = b"" if body is None else json.dumps(body).encode()
    return provider.respond("POST", path, {}, AUTHORIZED, content)


@pytest.mark.parametrize("wire", Wire)
def test_ids_have_the_form_of_their_provider_and_come_from_the_seed(wire: Wire) -> None:
    clock = FakeClock()
    first, second, other = (simulated(wire, clock, seed) for seed in (1, 1, 2))
    ids = [provider.add(Fate.stuck()) for provider in (first, second, other)]

    assert re.fullmatch(FORMS[wire], ids[0])
    assert ids[0] == ids[1] != ids[2]


def test_an_id_can_be_chosen_once() -> None:
    provider = simulated("openai", FakeClock())
    provider.add(Fate.stuck(), id="batch_mine")

    with pytest.raises(ValueError, match="batch_mine"):
        provider.add(Fate.stuck(), id="batch_mine")


def test_a_quoted_id_is_one_segment() -> None:
    provider = simulated("openai", FakeClock())
    id = provider.add(Fate.stuck(), id="odd id/with:all?of#it")
    quoted = "odd%20id%2Fwith%3Aall%3Fof%23it"
    answers = [
        provider.respond("GET", f"/batches/{path}", headers=AUTHORIZED).status
        for path in (quoted, "odd%20id/with%3Aall%3Fof%23it")
    ]

    assert batch(provider, quoted)["id"] == id
    assert answers == [200, 404]


def test_a_name_goes_where_the_provider_keeps_it() -> None:
    clock = FakeClock()
    openai, cohere = simulated("openai", clock), simulated("cohere", clock)
    metadata = batch(openai, openai.add(Fate.stuck(), name="evals", metadata={"team": "nlp"}))

    assert metadata["metadata"] == {"name": "evals", "team": "nlp"}
    assert batch(cohere, cohere.add(Fate.stuck(), name="evals"))["name"] == "evals"


def test_a_batch_may_have_been_created_long_ago() -> None:
    clock = FakeClock()
    provider = simulated("openai", clock)
    id = provider.add(Fate.completed(), created_at=START - 3_600_000)

    assert batch(provider, id)["status"] == "completed"
    assert batch(provider, id)["created_at"] == START // 1000 - 3_600


# Lists.


@pytest.mark.parametrize("wire", ["openai", "cerebras"])
def test_pages_of_openai_hold_every_batch_once_newest_first(wire: str) -> None:
    clock = FakeClock()
    provider = simulated(wire, clock)
    ids = []
    for number in range(45):
        ids.append(provider.add(Fate.stuck()))
        clock.advance(number % 3 * 1_000)
    pages = [listed(provider)]
    while pages[-1]["has_more"]:
        pages.append(listed(provider, after=pages[-1]["last_id"], limit="20"))
    seen = [shown["id"] for page in pages for shown in page["data"]]

    assert [len(page["data"]) for page in pages] == [20, 20, 5]
    assert seen == ids[::-1] == provider.ids
    assert [page["first_id"] for page in pages] == [page["data"][0]["id"] for page in pages]
    assert {page["object"] for page in pages} == {"list"}


def test_an_empty_list_has_no_first_and_no_last() -> None:
    page = listed(simulated("openai", FakeClock()))

    assert page["data"] == []
    assert (page["first_id"], page["last_id"], page["has_more"]) == (None, None, False)


def test_a_page_ends_exactly_with_the_last_batch() -> None:
    provider = simulated("openai", FakeClock())
    for _ in range(4):
        provider.add(Fate.stuck())
    page = listed(provider, limit="4")

    assert (len(page["data"]), page["has_more"]) == (4, False)


def test_pages_of_cohere_follow_their_tokens() -> None:
    provider = simulated("cohere", FakeClock())
    ids = [provider.add(Fate.stuck()) for _ in range(7)]
    pages = [listed(provider, page_size="3")]
    while "next_page_token" in pages[-1]:
        token = pages[-1]["next_page_token"]
        pages.append(listed(provider, page_size="3", page_token=token))
    seen = [shown["id"] for page in pages for shown in page["batches"]]

    assert [len(page["batches"]) for page in pages] == [3, 3, 1]
    assert seen == ids[::-1]


@pytest.mark.parametrize(
    ("wire", "query", "status"),
    [
        ("openai", {"limit": "0"}, 400),
        ("openai", {"limit": "101"}, 400),
        ("openai", {"limit": "many"}, 400),
        ("openai", {"limit": "100"}, 200),
        ("openai", {"after": "batch_nobody"}, 400),
        ("cerebras", {"limit": "many"}, 200),
        ("cohere", {"page_size": "5000"}, 200),
        ("cohere", {"page_size": "-1"}, 400),
        ("cohere", {"page_token": "never given"}, 400),
        ("cohere", {"page_token": "\u00e9"}, 400),
        ("cohere", {"order_by": "created_at"}, 200),
    ],
)
def test_parameters_of_a_list_are_held_to_what_the_provider_takes(
    wire: str, query: dict[str, str], status: int
) -> None:
    provider = simulated(wire, FakeClock())

    assert provider.respond("GET", ROOTS[Wire(wire)], query, AUTHORIZED).status == status


def test_a_batch_that_is_missing_is_missing_from_the_list_too() -> None:
    clock = FakeClock()
    provider = simulated("openai", clock)
    provider.add(Fate.late_to_appear(3))
    before = len(listed(provider)["data"])
    clock.advance(3_000)

    assert (before, len(listed(provider)["data"])) == (0, 1)


# Keys.


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": f"Bearer {KEY}"}, 200),
        ({"AUTHORIZATION": f"bearer {KEY}"}, 200),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": KEY}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"api-key": KEY}, 401),
        ({}, 401),
    ],
)
def test_only_an_accepted_key_as_bearer_gets_in(headers: dict[str, str], status: int) -> None:
    provider = simulated("openai", FakeClock())

    assert provider.respond("GET", "/batches", {}, headers).status == status


def test_keys_can_be_revoked_and_restored() -> None:
    provider = simulated("openai", FakeClock())
    provider.keys.add("second")
    second = {"Authorization": "Bearer second"}
    provider.revoke()
    revoked = [provider.respond("GET", "/batches", {}, headers) for headers in (AUTHORIZED, second)]
    provider.restore()
    restored = [
        provider.respond("GET", "/batches", {}, headers) for headers in (AUTHORIZED, second)
    ]

    assert [answer.status for answer in revoked] == [401, 401]
    assert [answer.status for answer in restored] == [200, 200]


# Creation and cancellation.


@pytest.mark.parametrize(
    ("wire", "body", "fate"),
    [
        ("openai", {"metadata": {"fate": "partial"}}, "partial"),
        ("openai", {"metadata": {"note": "fate:stuck"}}, "stuck"),
        ("cerebras", {"metadata": {"tags": ["x"], "fate": "fate:empty"}}, "empty"),
        ("cohere", {"name": "fate:cancelled"}, "cancelled"),
    ],
)
def test_a_created_batch_may_choose_its_fate(wire: str, body: Any, fate: str) -> None:
    provider = simulated(wire, FakeClock())
    answer = post(provider, ROOTS[Wire(wire)], body)
    shown = json.loads(answer.body)
    id = shown.get("batch", shown)["id"]

    assert answer.status == 200
    assert provider.fate(id).name == fate
    assert batch(provider, id)["id"] == id


def test_a_created_batch_repeats_what_it_was_created_with() -> None:
    provider = simulated("openai", FakeClock())
    said = {
        "endpoint": "/v1/embeddings",
        "input_file_id": "file-mine",
        "completion_window": "24h",
        "metadata": {"team": "nlp"},
    }
    shown = json.loads(post(provider, "/batches", said).body)

    assert {key: shown[key] for key in said} == said
    assert shown["status"] == "validating"


def test_creations_hasten_with_the_providers_speed() -> None:
    clock = FakeClock()
    provider = SimulatedProvider("openai", clock.now, speed=600)
    shown = json.loads(post(provider, "/batches", {"metadata": {"fate": "completed"}}).body)
    clock.advance(1_000)

    assert batch(provider, shown["id"])["status"] == "completed"


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        ("openai", {"metadata": {"fate": "glory"}}),
        ("openai", {"metadata": "text"}),
        ("openai", ["no object"]),
        ("openai", None),
        ("cohere", {"name": "fate:expired"}),
        ("cohere", {"name": 7}),
    ],
)
def test_a_creation_that_makes_no_sense_creates_nothing(wire: str, body: Any) -> None:
    provider = simulated(wire, FakeClock())
    answer = post(provider, ROOTS[Wire(wire)], body)

    assert answer.status == 400
    assert provider.ids == []


def test_a_cancelled_batch_cancels_for_ten_minutes_and_keeps_what_was_done() -> None:
    clock = FakeClock()
    provider = simulated("openai", clock)
    id = provider.add(Fate.completed(1_000))
    clock.advance(296_000)
    answer = json.loads(post(provider, f"/batches/{id}/cancel").body)
    clock.advance(605_999)
    cancelling = batch(provider, id)
    clock.advance(1)
    cancelled = batch(provider, id)

    assert answer["status"] == cancelling["status"] == "cancelling"
    assert cancelled["status"] == "cancelled"
    assert cancelled["request_counts"] == {"total": 1_000, "completed": 500, "failed": 0}
    assert cancelled["output_file_id"]
    assert provider.truth(id)[2:] == [
        (START + 296_000, "cancelling"),
        (START + 902_000, "cancelled"),
    ]


def test_cancelling_twice_changes_nothing_and_what_has_ended_is_a_conflict() -> None:
    clock = FakeClock()
    provider = simulated("openai", clock)
    id = provider.add(Fate.completed())
    clock.advance(3_000)
    statuses = [post(provider, f"/batches/{id}/cancel").status]
    clock.advance(60_000)
    statuses.append(post(provider, f"/batches/{id}/cancel").status)
    clock.advance(600_000)
    statuses.append(post(provider, f"/batches/{id}/cancel").status)

    assert statuses == [200, 200, 409]
    assert [at - START for at, _ in provider.truth(id)] == [0, 2_000, 3_000, 609_000]


def test_cohere_cancels_in_its_own_way() -> None:
    clock = FakeClock()
    provider = simulated("cohere", clock)
    id = provider.add(Fate.stuck())
    answer = post(provider, f"/v2/batches/{id}:cancel")

    assert (answer.status, answer.body) == (200, b"{}")
    assert batch(provider, id)["status"] == "BATCH_STATUS_CANCELING"


def test_a_revised_fate_holds_from_the_creation_on() -> None:
    clock = FakeClock()
    provider = simulated("openai", clock)
    id = provider.add(Fate.stuck())
    clock.advance(700_000)
    provider.revise(id, Fate.completed())

    assert batch(provider, id)["status"] == "completed"


# What is counted.


def test_requests_are_counted_by_kind_by_id_and_by_answer() -> None:
    provider = simulated("openai", FakeClock())
    id = provider.add(Fate.stuck())
    batch(provider, id)
    batch(provider, id)
    listed(provider, limit="7")
    post(provider, "/batches", {})
    post(provider, f"/batches/{id}/cancel")
    provider.respond("DELETE", f"/batches/{id}", {}, AUTHORIZED)
    provider.respond("GET", "/batches/nobody", {}, AUTHORIZED)
    log = provider.requests

    assert log.total == 7
    assert [log.by_kind[kind] for kind in Kind] == [3, 1, 1, 1, 1]
    assert log.by_id == {id: 3, "nobody": 1}
    assert log.by_status == {200: 5, 404: 2}
    assert [entry.call.query for entry in log.entries if entry.call.kind is Kind.LIST] == [
        {"limit": "7"}
    ]


def test_a_cleared_log_starts_again() -> None:
    provider = simulated("openai", FakeClock())
    listed(provider)
    provider.requests.clear()
    listed(provider)

    assert (provider.requests.total, len(provider.requests.entries)) == (1, 1)
