"""The table, and the requests its providers build."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from watcher.errors import ConfigError, Garbled, Refused, Unauthorized
from watcher.model import Counts, Observation, Problem, Request, Results, Status
from watcher.providers import (
    PROVIDERS,
    Provider,
    ProviderOptions,
    build,
    secret_parts,
    sure_provider,
)

SECRET = "sk-a-secret-nobody-may-see"
UUID = "01234567-89ab-4cde-8f01-23456789abcd"


# Those whose batches lie below `batches` and whose keys are bearer tokens.
FIRST = ("openai", "cerebras", "cohere", "openai-compatible")


def provider(name: str, base_url: str | None = None, **options: Any) -> Provider:
    return build(name, ProviderOptions(base_url=base_url, **options))


def batch(id: str) -> dict[str, object]:
    return {"id": id, "object": "batch", "status": "in_progress"}


def test_the_table_names_its_providers_by_their_own_names() -> None:
    assert set(FIRST) <= PROVIDERS.keys()
    assert [kind.name for kind in PROVIDERS.values()] == list(PROVIDERS)


def test_the_table_knows_the_variables_of_the_sdks() -> None:
    assert PROVIDERS["openai"].key_variables == ("OPENAI_API_KEY",)
    assert PROVIDERS["cerebras"].key_variables == ("CEREBRAS_API_KEY",)
    assert PROVIDERS["cohere"].key_variables == ("CO_API_KEY", "COHERE_API_KEY")
    assert PROVIDERS["openai-compatible"].key_variables == ()
    assert PROVIDERS["openai"].base_url_variables == ("OPENAI_BASE_URL",)
    assert PROVIDERS["cerebras"].base_url_variables == ("CEREBRAS_BASE_URL",)
    assert PROVIDERS["cohere"].base_url_variables == ("CO_API_URL",)
    assert PROVIDERS["openai"].option_variables == {
        "OPENAI_ORG_ID": "organization",
        "OPENAI_PROJECT_ID": "project",
    }


def test_importing_the_table_imports_no_http_client() -> None:
    program = (
        "import sys, watcher.providers; "
        "print(sorted({'httpx', 'aiohttp', 'pydantic', 'anyio', 'asyncio'} & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "base_url", "url"),
    [
        ("openai", None, "https://api.openai.com/v1/batches/b1"),
        ("openai", "https://api.openai.com", "https://api.openai.com/v1/batches/b1"),
        ("openai", "https://api.openai.com/", "https://api.openai.com/v1/batches/b1"),
        ("openai", "https://api.openai.com/v1", "https://api.openai.com/v1/batches/b1"),
        ("openai", " https://api.openai.com/v1/ ", "https://api.openai.com/v1/batches/b1"),
        ("openai", "http://127.0.0.1:8080", "http://127.0.0.1:8080/v1/batches/b1"),
        (
            "openai",
            "https://gw.example/v1/acme/openai",
            "https://gw.example/v1/acme/openai/batches/b1",
        ),
        ("openai", "https://gw.example/openai", "https://gw.example/openai/v1/batches/b1"),
        ("cerebras", None, "https://api.cerebras.ai/v1/batches/b1"),
        ("cerebras", "https://api.cerebras.ai", "https://api.cerebras.ai/v1/batches/b1"),
        ("cohere", None, "https://api.cohere.com/v2/batches/b1"),
        ("cohere", "https://api.cohere.com/v1", "https://api.cohere.com/v2/batches/b1"),
        ("cohere", "https://api.cohere.com/v2/", "https://api.cohere.com/v2/batches/b1"),
        ("cohere", "https://gw.example/cohere", "https://gw.example/cohere/v2/batches/b1"),
        ("openai-compatible", "https://x.example", "https://x.example/batches/b1"),
        (
            "openai-compatible",
            "https://x.example/api/paas/v4/",
            "https://x.example/api/paas/v4/batches/b1",
        ),
        (
            "openai-compatible",
            "https://x.example/openai?api-version=2024-10-21",
            "https://x.example/openai/batches/b1?api-version=2024-10-21",
        ),
    ],
)
def test_a_base_url_means_the_same_with_or_without_its_version(
    name: str, base_url: str | None, url: str
) -> None:
    assert provider(name, base_url).retrieve("b1") == Request("GET", url)


@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize(
    ("id", "segment"),
    [
        ("batch_abc-1.x~", "batch_abc-1.x~"),
        ("a b", "a%20b"),
        ("a?b#c", "a%3Fb%23c"),
        ("..%2fx", "..%252fx"),
        ("a\\b", "a%5Cb"),
        ("…", "%E2%80%A6"),
    ],
)
def test_an_id_is_one_segment_of_the_path(name: str, id: str, segment: str) -> None:
    built = provider(name, "https://api.example.com")

    assert built.accepts(id)
    assert built.retrieve(id).url.endswith(f"/batches/{segment}")


@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize(
    "id",
    ["", ".", "..", "a/b", "/", "a\nb", "a\x00", " a", "a ", "\u202ea", "\ud800", "x" * 481],
)
def test_an_id_that_could_lead_elsewhere_is_not_taken(name: str, id: str) -> None:
    built = provider(name, "https://api.example.com")

    assert not built.accepts(id)
    with pytest.raises(Refused):
        built.retrieve(id)


@pytest.mark.parametrize("name", FIRST)
def test_the_longest_id_is_taken(name: str) -> None:
    assert provider(name, "https://api.example.com").accepts("x" * 480)


@pytest.mark.parametrize(
    "base_url",
    [
        "api.openai.com",
        "ftp://api.openai.com",
        "https://",
        "https://a b.example",
        "https://a.example:port",
        "https://a.example:99999",
        "https://[half",
        f"https://user:{SECRET}@a.example/v1",
        f"https://a.example/v1#{SECRET}",
        f"https://a.example/\n{SECRET}",
    ],
)
@pytest.mark.parametrize("name", FIRST)
def test_a_base_url_that_cannot_be_used_is_a_mistake_of_the_configuration(
    name: str, base_url: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        provider(name, base_url)

    assert "base_url" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_an_openai_compatible_account_needs_a_base_url() -> None:
    with pytest.raises(ConfigError, match="openai-compatible needs a base_url"):
        provider("openai-compatible")


def test_a_provider_nobody_knows_is_told_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="there are openai, cerebras, cohere"):
        provider("opneai")


@pytest.mark.parametrize("name", ["cohere", "cerebras"])
def test_an_option_the_provider_does_not_know_is_a_mistake(name: str) -> None:
    with pytest.raises(ConfigError, match="project means nothing to"):
        provider(name, project="proj_1")


@pytest.mark.parametrize("name", FIRST)
def test_a_request_is_authorized_by_a_bearer_token(name: str) -> None:
    built = provider(name, "https://api.example.com", headers={"X-Team": "nlp"})
    request = built.authorize(built.retrieve("b1"), f" {SECRET}\n", 0)

    assert dict(request.headers) == {"Authorization": f"Bearer {SECRET}", "X-Team": "nlp"}
    assert built.retrieve("b1").headers == {}


@pytest.mark.parametrize("name", FIRST)
def test_a_credential_is_not_printed_with_its_request(name: str) -> None:
    built = provider(name, "https://api.example.com", headers={"api-key": SECRET})
    request = built.authorize(built.retrieve("b1"), SECRET, 0)

    assert SECRET not in f"{request!r} {built!r} {ProviderOptions(headers={'a': SECRET})!r}"


def test_openai_is_told_the_organization_and_the_project() -> None:
    built = provider("openai", organization="org-1", project="proj_1")
    request = built.authorize(built.page(None), SECRET, 0)

    assert request.headers["OpenAI-Organization"] == "org-1"
    assert request.headers["OpenAI-Project"] == "proj_1"


def test_an_extra_header_may_stand_in_for_the_token() -> None:
    built = provider(
        "openai-compatible", "https://x.example", headers={"authorization": "Basic abc"}
    )

    assert dict(built.authorize(built.retrieve("b1"), SECRET, 0).headers) == {
        "authorization": "Basic abc"
    }


def test_a_server_without_keys_gets_no_token() -> None:
    built = provider("openai-compatible", "http://127.0.0.1:8000/v1")

    assert dict(built.authorize(built.retrieve("b1"), "", 0).headers) == {}


@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize("secret", [f"{SECRET}\nx", f"{SECRET}\x00", f"{SECRET}ü"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(name: str, secret: str) -> None:
    built = provider(name, "https://api.example.com")
    with pytest.raises(Unauthorized) as caught:
        built.authorize(built.retrieve("b1"), secret, 0)

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [{"headers": {"a b": SECRET}}, {"headers": {"a": f"{SECRET}\r\nb: c"}}, {"project": "ü"}],
)
def test_a_header_that_cannot_be_sent_is_a_mistake_of_the_configuration(
    options: dict[str, Any],
) -> None:
    with pytest.raises(ConfigError) as caught:
        provider("openai", **options)

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "cursor", "size", "query"),
    [
        ("openai", None, None, "limit=100"),
        ("openai", "batch_9", 1, "limit=1&after=batch_9"),
        ("openai", None, 5_000, "limit=100"),
        ("cohere", None, None, "page_size=1000"),
        ("cohere", "a&b=c", 0, "page_size=1000&page_token=a%26b%3Dc"),
    ],
)
def test_a_page_is_as_long_as_the_provider_allows(
    name: str, cursor: str | None, size: int | None, query: str
) -> None:
    request = provider(name).page(cursor, size)

    assert request.url.partition("?")[2] == query
    assert request.most_bytes == 16 * 1024 * 1024


@pytest.mark.parametrize(
    ("page", "cursor"),
    [
        ({"data": [batch("b1"), batch("b2")], "has_more": True, "last_id": "b2"}, "b2"),
        ({"data": [batch("b1"), batch("b2")], "has_more": True}, "b2"),
        ({"data": [batch("b1"), batch("b2")], "has_more": "true", "last_id": None}, "b2"),
        ({"data": [batch("b1"), batch("b2")], "has_more": False, "last_id": "b2"}, None),
        ({"data": [batch("b1"), batch("b2")], "last_id": "b2"}, None),
        ({"object": "list", "data": [batch("b1"), batch("b2")]}, None),
        ([batch("b1"), batch("b2")], None),
        ({"data": [batch("b1"), {"broken": 1}, 7, None, {**batch("b2")}], "has_more": False}, None),
    ],
)
def test_a_page_is_read_with_and_without_its_envelope(page: object, cursor: str | None) -> None:
    found, following = provider("openai").read_page(page)

    assert [observation.id for observation in found] == ["b1", "b2"]
    assert following == cursor


@pytest.mark.parametrize("page", [[], {"data": []}, {"object": "list", "has_more": True}])
def test_an_empty_page_is_the_last(page: object) -> None:
    assert provider("openai").read_page(page) == ([], None)


@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize(
    "page", [None, 7, "text", {"data": 7, "batches": 7}, {"error": {"message": "no"}}, {"id": "b1"}]
)
def test_what_is_no_page_is_garbled(name: str, page: object) -> None:
    with pytest.raises(Garbled):
        provider(name, "https://api.example.com").read_page(page)


@pytest.mark.parametrize(
    ("page", "following"),
    [
        ({}, None),
        ({"batches": []}, None),
        ({"batches": [], "next_page_token": ""}, None),
        ({"batches": [], "next_page_token": "x"}, "x"),
    ],
)
def test_a_page_of_cohere_may_leave_out_what_is_empty(page: object, following: str | None) -> None:
    assert provider("cohere").read_page(page) == ([], following)


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_batch_of_cohere_is_read_wrapped_or_not(wrapped: bool) -> None:
    body = {
        "id": UUID,
        "name": "nightly",
        "input_dataset_id": "in",
        "model": "m",
        "status": "BATCH_STATUS_FAILED",
        "status_reason": "the dataset is empty",
        "created_at": "2026-10-03T04:00:00Z",
        "updated_at": "2026-10-03T04:00:05Z",
        "num_records": "10",
        "num_successful_records": "0",
        "num_failed_records": "10",
        "output_dataset_id": "",
        "input_tokens": "0",
    }

    assert provider("cohere").read({"batch": body} if wrapped else body) == Observation(
        id=UUID,
        status=Status.FAILED,
        raw_status="BATCH_STATUS_FAILED",
        counts=Counts(10, 0, 10),
        name="nightly",
        created_at=1_791_000_000_000,
        ended_at=1_791_000_005_000,
        results=Results(),
        problems=(Problem(message="the dataset is empty"),),
        problem_total=1,
    )


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("BATCH_STATUS_CANCELING", Status.CANCELLING),
        ("BATCH_STATUS_CANCELLED", Status.CANCELLED),
        ("CANCELED", Status.CANCELLED),
        ("BATCH_STATUS_UNSPECIFIED", Status.UNKNOWN),
        (None, Status.UNKNOWN),
    ],
)
def test_the_words_of_cohere_are_mapped(word: str | None, status: Status) -> None:
    observation = provider("cohere").read({"batch": {"id": UUID, "status": word}})

    assert (observation.status, observation.raw_status) == (status, word)


@pytest.mark.parametrize(
    ("id", "name"),
    [
        ("batch_69c3c347282c81908ede48ecc95bf201", "openai"),
        ("batch_69c3c347282c81908ede48ecc95bf201\n", None),
        ("batch_abc123", None),
        ("batch_00112233aabb", None),
        ("batch_01jh6xa7reempvjyh6n3yst2zw", None),
        ("batch_6caaf24d-54a5-46be-b1b7-518884fcbdde", None),
        ("batch_bGl0ZWxsbTphYmM7bW9kZWwsZ3B0", None),
        (UUID, None),
        ("msgbatch_013Zva2CMHLNnXjNJJKqJ2EF", None),
        ("arn:aws:bedrock:us-east-1:123456789012:model-invocation-job/abcdefghij12", None),
        ("batches/abc", None),
        ("", None),
    ],
)
def test_only_a_form_that_is_nobody_elses_names_its_provider(id: str, name: str | None) -> None:
    assert sure_provider(id) == name


def test_openai_has_a_page_for_a_batch_and_a_gateway_has_none() -> None:
    assert provider("openai").page_url("b 1") == "https://platform.openai.com/batches/b%201"
    assert provider("openai", "https://eu.api.openai.com").page_url("b1") is not None
    assert provider("openai", "https://gw.example/v1").page_url("b1") is None
    assert provider("openai").page_url("../x") is None
    assert provider("cohere").page_url(UUID) is None


@pytest.mark.parametrize(
    ("base_url", "parts"),
    [
        ("https://gateway.example/v1", ()),
        ("https://gateway.example/ab12cd34ef56ab78/openai/v1/", ("ab12cd34ef56ab78",)),
        ("https://gateway.example/a-long-plain-word/short1/v1", ()),
        (None, ()),
        ("http://[half/ab12cd34ef56ab78", ()),
    ],
)
def test_a_token_in_the_path_of_a_base_url_is_named_for_the_redactor(
    base_url: str | None, parts: tuple[str, ...]
) -> None:
    options = ProviderOptions(base_url=base_url, headers={"X-Key": "hush-hush"})

    assert secret_parts(options) == ("hush-hush", *parts)
