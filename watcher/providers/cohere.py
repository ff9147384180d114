"""Cohere's batches: wrapped in `batch`, status words with a prefix, datasets for files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from watcher.errors import Garbled
from watcher.model import TEXT_LENGTH, Counts, Observation, Problem, Request, Results
from watcher.providers.addresses import (
    address,
    batch_address,
    checked_base_url,
    fits_one_segment,
    without_version,
)
from watcher.providers.provider import (
    Provider,
    ProviderKind,
    ProviderOptions,
    checked_headers,
    signed,
)
from watcher.providers.reading import (
    FILE_ID_LENGTH,
    NAME_LENGTH,
    created_id,
    identity,
    moment,
    readable,
    refuse_error,
    status_of,
    text,
    unwrapped,
    whole,
)

BASE_URL = "https://api.cohere.com"
# Cohere's own limit: a larger one is cut to it.
PAGE_SIZE = 1_000
PAGE_BYTES = 16 * 1024 * 1024

_BATCH_KEYS = frozenset({"input_dataset_id", "num_records", "created_at", "model"})


@dataclass(frozen=True, slots=True)
class Cohere:
    """Cohere's batch API, version 2; the base URL has no version part."""

    base_url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    name: str = "cohere"
    page_size: int = PAGE_SIZE
    # Its tokens are its own, and given with each page.
    cursor_is_id: bool = False

    def accepts(self, id: str) -> bool:
        return fits_one_segment(id)

    def retrieve(self, id: str) -> Request:
        return Request("GET", batch_address(self.base_url, id, "v2", "batches"))

    def read(self, body: object) -> Observation:
        batch = unwrapped(body)
        id = identity(batch.get("id"))
        # The SDK calls id and status optional: an unset status is UNSPECIFIED, and left out.
        signs = (id is not None, "status" in batch, not _BATCH_KEYS.isdisjoint(batch))
        if sum(signs) < 2:
            refuse_error(batch)
            raise Garbled("the answer is not a batch")
        if not isinstance(batch.get("status"), str | None):
            raise Garbled("the answer is not a batch: its status is no word")
        return _observation(batch, id)

    def read_created(self, body: object) -> str:
        return created_id(body)

    def page(self, cursor: str | None, size: int | None = None) -> Request:
        page_size = min(max(1, size or self.page_size), self.page_size)
        url = address(self.base_url, "v2", "batches", page_size=page_size, page_token=cursor)
        return Request("GET", url, most_bytes=PAGE_BYTES)

    def read_page(
        self,
        body: object,
        cursor: str | None = None,  # noqa: ARG002 - the protocol's
    ) -> tuple[list[Observation], str | None]:
        if not isinstance(body, Mapping):
            raise Garbled("the answer is not a list of batches")
        entries = body.get("batches")
        if not isinstance(entries, list):
            refuse_error(body)
            # An empty list may be left out, and a lone batch is no page.
            if entries is not None or body.keys() - {"next_page_token"}:
                raise Garbled("the answer is not a list of batches")
            entries = []
        token = body.get("next_page_token")
        found = readable(entries[:PAGE_SIZE], self.read)
        # Nothing else fits into the address of the next page.
        fits = isinstance(token, str) and 0 < len(token) <= 4_096 and token.isprintable()
        return found, token if fits else None

    def authorize(self, request: Request, secret: str, now: int) -> Request:  # noqa: ARG002 - the protocol's
        return signed(request, secret, self.headers)

    def page_url(self, id: str) -> str | None:  # noqa: ARG002 - no page is known
        return None


def _observation(batch: Mapping[str, Any], id: str | None) -> Observation:
    status, raw = status_of(batch.get("status"))
    reason = text(batch.get("status_reason"), TEXT_LENGTH)
    output = text(batch.get("output_dataset_id"), FILE_ID_LENGTH)
    return Observation(
        id=id,
        status=status,
        raw_status=raw,
        counts=Counts(
            total=whole(batch.get("num_records")),
            completed=whole(batch.get("num_successful_records")),
            failed=whole(batch.get("num_failed_records")),
        ),
        name=text(batch.get("name"), NAME_LENGTH),
        created_at=moment(batch.get("created_at")),
        # There is no time of the end; the last change of a batch that ended is its end.
        ended_at=moment(batch.get("updated_at")) if status.terminal else None,
        # Named while the batch still runs, when there is nothing to fetch.
        results=Results(output=output) if status.terminal else Results(),
        problems=(Problem(message=reason),) if reason else (),
        problem_total=1 if reason else 0,
    )


def _build(options: ProviderOptions) -> Provider:
    base_url = without_version(checked_base_url(options.base_url or BASE_URL))
    return Cohere(base_url, checked_headers(options))


COHERE = ProviderKind(
    name="cohere",
    title="Cohere",
    build=_build,
    default_base_url=BASE_URL,
    key_variables=("CO_API_KEY", "COHERE_API_KEY"),
    base_url_variables=("CO_API_URL",),
    metadata=False,
)
