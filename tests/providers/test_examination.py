"""The examination every provider of the table has to pass, the next one too."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.providers.asking import SECRET, closing, leaves, wire
from tests.providers.expected import EXPECTED
from tests.providers.loopback import reply, serving
from tests.providers.test_shapes import SHAPES
from watcher.errors import Garbled, ProviderError
from watcher.model import Observation
from watcher.providers import PROVIDERS, Provider, ProviderOptions, build
from watcher.text import clean_line

ALL = {name: build(name, ProviderOptions(base_url="https://api.example.com")) for name in PROVIDERS}
every_provider = pytest.mark.parametrize("provider", ALL.values(), ids=ALL)

# The statuses a provider, or what stands before it, may answer with.
STATUSES = (300, 302, 304, 307, *range(400, 432), 451, 499, 500, 501, 502, 503, 504, 520, 529, 599)

KEYS = some.sampled_from(
    sorted(
        {key for path in SHAPES.glob("*.json") for key in json.loads(path.read_bytes())}
        | {"batch", "job", "batches", "message", "detail", "status_reason", "num_records"}
        | {"updated_at", "output_dataset_id", "name", "data", "has_more", "last_id"}
        | {"next_page_token", "total", "completed", "failed", "code", "line", "count"}
    )
)
SCALARS = (
    some.none()
    | some.booleans()
    | some.integers()
    | some.sampled_from([2**63, -(2**63) - 1, 10**4_000, 1_791_000_000, 946_656_000_000])
    | some.floats()
    | some.text(some.characters())
    | some.sampled_from(["completed", "FAILED", "\ud800", "\x1b[31m", "1791000000", "2026-10-03"])
)
JSON = some.recursive(
    SCALARS,
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(KEYS, inner, max_size=8),
    max_leaves=25,
)
BATCHES = some.dictionaries(KEYS, JSON, max_size=12).map(
    lambda body: {"id": "batch_1", "status": "completed", **body}
)


def assert_bounded(observation: Observation) -> None:
    for leaf in leaves(observation):
        if isinstance(leaf, str):
            assert clean_line(leaf, 2_000) == leaf
            assert leaf.encode("utf-8", "replace") == leaf.encode("utf-8", "ignore")
        elif isinstance(leaf, float):
            assert math.isfinite(leaf)
        elif isinstance(leaf, int):
            assert abs(leaf) < 2**63
    assert len(observation.problems) <= 20
    assert observation.problem_total >= len(observation.problems)
    assert len(json.dumps(dict(observation.metadata))) < 200_000


@every_provider
@given(body=JSON | BATCHES)
@settings(max_examples=60, deadline=None)
def test_any_json_is_a_bounded_observation_or_garbled(provider: Provider, body: object) -> None:
    try:
        observation = provider.read(body)
    except Garbled as error:
        said = str(error)
    else:
        said = observation.status.value
        assert_bounded(observation)

    assert 0 < len(said) < 400


@every_provider
@given(body=JSON | some.fixed_dictionaries({"data": some.lists(BATCHES), "has_more": JSON}))
@settings(max_examples=30, deadline=None)
def test_any_json_is_a_page_or_garbled(provider: Provider, body: object) -> None:
    try:
        found, cursor = provider.read_page(body)
    except Garbled:
        return
    for observation in found:
        assert_bounded(observation)
        assert observation.id is not None
        assert provider.accepts(observation.id)
    assert cursor is None or provider.page(cursor).url


@every_provider
@given(body=JSON | BATCHES)
@settings(max_examples=40, deadline=None)
def test_any_json_names_a_new_batch_or_is_garbled(provider: Provider, body: object) -> None:
    with contextlib.suppress(Garbled):
        assert provider.accepts(provider.read_created(body))


@every_provider
@given(id=some.text(some.characters()) | some.text("./%?#\\ a"))
@settings(max_examples=100, deadline=None)
def test_an_id_stays_one_segment_below_the_list(provider: Provider, id: str) -> None:
    if not provider.accepts(id):
        return
    below = provider.page(None).url.partition("?")[0] + "/"
    url = provider.retrieve(id).url

    assert url.startswith(below)
    assert url.isascii()
    assert not set("/?#") & set(url.removeprefix(below))


@every_provider
@pytest.mark.parametrize("path", sorted(SHAPES.glob("*.json")), ids=lambda path: path.stem)
def test_a_recorded_answer_is_an_observation_or_garbled(provider: Provider, path: Path) -> None:
    """Another provider's answer may be refused, never taken for another batch."""
    try:
        observation = provider.read(json.loads(path.read_bytes()))
    except Garbled as error:
        said = str(error)
    else:
        said = observation.status.value
        assert_bounded(observation)
        assert observation.id in {None, EXPECTED[path.stem].id}

    assert said


@every_provider
def test_a_provider_says_how_it_is_found(provider: Provider) -> None:
    kind = PROVIDERS[provider.name]

    assert kind.title
    assert kind.default_base_url or kind.name == "openai-compatible"
    assert set(kind.option_variables.values()) <= kind.options | {"base_url"}
    assert kind.sure_form is None or not kind.sure_form.fullmatch("")


@every_provider
def test_a_credential_leaves_no_trace(provider: Provider) -> None:
    request = provider.authorize(provider.retrieve("batch_1"), SECRET, 0)

    assert SECRET not in f"{request!r} {provider!r}"
    assert SECRET in "".join(request.headers.values())


@every_provider
async def test_no_status_and_no_garbage_shows_the_secret(provider: Provider) -> None:
    echo = {"error": {"message": f"key {SECRET} is wrong"}, "message": SECRET, "status": SECRET}
    answers = [reply(echo, f"{status} {SECRET}") for status in STATUSES if status != 304]
    answers += [reply(body) for body in (echo, SECRET.encode(), [SECRET], {"id": SECRET}, b"")]
    for answer in answers:
        async with serving(answer) as server, closing(wire()) as line:
            local = build(provider.name, ProviderOptions(base_url=server.url))
            request = local.authorize(local.retrieve("batch_1"), SECRET, 0)
            with pytest.raises(ProviderError) as caught:
                local.read(await line.send(request))

        error = caught.value
        assert SECRET in "".join(server.seen[0].headers.values())
        assert SECRET not in f"{error} {error!r} {error.args}"
