"""OpenAI's batches and the many that resemble them: one tolerant reader for all.

"OpenAI-shaped" is a family resemblance, not a schema: every key may be missing, null, or of
another type than OpenAI's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from watcher.errors import ConfigError, Garbled
from watcher.model import Observation, Request, Results, Status
from watcher.providers.addresses import (
    address,
    batch_address,
    checked_base_url,
    fits_one_segment,
    with_version,
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
    counts_of,
    created_id,
    first,
    identity,
    metadata_of,
    moment,
    problems_of,
    readable,
    refuse_error,
    status_of,
    text,
    unwrapped,
)

# The most a list page may hold: OpenAI's limit, and that of all who copied it.
PAGE_SIZE = 100
PAGE_BYTES = 16 * 1024 * 1024
# A list without paging is read so far: it must not hold up the loop.
PAGE_ENTRIES = 10_000

OPENAI_BASE_URL = "https://api.openai.com/v1"
CEREBRAS_BASE_URL = "https://api.cerebras.ai/v1"

# Where `after` is no id: docs.morphllm.com, "List Batches".
_PAGED_BY_OFFSET = frozenset({"api.morphllm.com"})
_OFFSET = re.compile(r"[0-9]{1,9}")

# What tells a batch without an id from an error that also has a status.
_BATCH_KEYS = frozenset({"request_counts", "input_file_id", "created_at", "completion_window"})
# Only the time that fits the status counts: some set `expired_at` on a batch that still runs.
_ENDED_AT = {
    Status.COMPLETED: ("completed_at",),
    Status.FAILED: ("failed_at",),
    Status.EXPIRED: ("expired_at",),
    Status.CANCELLED: ("cancelled_at", "canceled_at"),
}
# OpenRouter has one time for every end.
_ENDED_AT_ANYHOW = ("finalized_at", "ended_at", "finished_at")


@dataclass(frozen=True, slots=True)
class OpenAIShaped:
    """A provider whose batches look like OpenAI's; `batches` follows its base URL."""

    name: str
    base_url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    # The address of a batch's web page, to be followed by its id.
    web: str | None = None
    page_size: int = PAGE_SIZE
    # False: it is how many entries to pass over.
    cursor_is_id: bool = True

    def accepts(self, id: str) -> bool:
        return fits_one_segment(id)

    def retrieve(self, id: str) -> Request:
        return Request("GET", batch_address(self.base_url, id, "batches"))

    def read(self, body: object) -> Observation:
        batch = unwrapped(body)
        return _observation(batch, identity(batch.get("id")))

    def read_created(self, body: object) -> str:
        return created_id(body)

    def page(self, cursor: str | None, size: int | None = None) -> Request:
        limit = min(max(1, size or self.page_size), self.page_size)
        url = address(self.base_url, "batches", limit=limit, after=cursor)
        return Request("GET", url, most_bytes=PAGE_BYTES)

    def read_page(
        self, body: object, cursor: str | None = None
    ) -> tuple[list[Observation], str | None]:
        page = {"data": body} if isinstance(body, list) else body
        if not isinstance(page, Mapping):
            raise Garbled("the answer is not a list of batches")
        entries = first(page, "data", "batches", "items")
        if not isinstance(entries, list):
            # Some leave out what is empty.
            if page.get("object") != "list":
                refuse_error(page)
                raise Garbled("the answer is not a list of batches")
            entries = []
        found = readable(entries[:PAGE_ENTRIES], self.read)
        if not self._more(page, entries):
            return found, None
        if self.cursor_is_id:
            return found, _last_id(page, entries)
        passed = int(cursor) if cursor and _OFFSET.fullmatch(cursor) else 0
        return found, str(passed + len(entries))

    def _more(self, page: Mapping[str, Any], entries: list[object]) -> bool:
        """Whether there may be another page.

        Groq and Together never say so: all they have comes at once, and a list of just a page's
        length costs a request that brings nothing new. Who pages and does not say so fills it.
        """
        said = page.get("has_more")
        full = said is None and len(entries) == self.page_size
        return full or said in (True, "true")

    def authorize(self, request: Request, secret: str, now: int) -> Request:  # noqa: ARG002 - the protocol's
        return signed(request, secret, self.headers)

    def page_url(self, id: str) -> str | None:
        return f"{self.web}{quote(id, safe='')}" if self.web and self.accepts(id) else None


def _is_batch(batch: Mapping[str, Any], id: str | None, raw: str | None) -> bool:
    """Whether this is a batch, and not some other object that also has a status."""
    return raw is not None and (id is not None or not _BATCH_KEYS.isdisjoint(batch))


def _observation(batch: Mapping[str, Any], id: str | None) -> Observation:
    status, raw = status_of(batch.get("status"))
    if not _is_batch(batch, id, raw):
        refuse_error(batch)
        raise Garbled("the answer is not a batch: it has no status")
    problems, problem_total = problems_of(first(batch, "errors", "error"))
    counts = batch.get("request_counts")
    return Observation(
        id=id,
        status=status,
        raw_status=raw,
        # Novita counts beside the status, not below it.
        counts=counts_of(batch if counts is None else counts),
        name=text(batch.get("name"), NAME_LENGTH),
        metadata=metadata_of(batch.get("metadata")),
        created_at=moment(batch.get("created_at")),
        in_progress_at=moment(batch.get("in_progress_at")),
        finalizing_at=moment(batch.get("finalizing_at")),
        cancelling_at=moment(first(batch, "cancelling_at", "canceling_at")),
        ended_at=_ended_at(batch, status),
        expires_at=moment(batch.get("expires_at")),
        results=_results(batch, status),
        problems=problems,
        problem_total=problem_total,
    )


def _ended_at(batch: Mapping[str, Any], status: Status) -> int | None:
    names = _ENDED_AT.get(status)
    return moment(first(batch, *names, *_ENDED_AT_ANYHOW)) if names else None


def _results(batch: Mapping[str, Any], status: Status) -> Results:
    if not status.terminal:
        # AIBrix named files that could not be fetched yet.
        return Results()
    return Results(
        output=text(batch.get("output_file_id"), FILE_ID_LENGTH),
        errors=text(batch.get("error_file_id"), FILE_ID_LENGTH),
    )


def _last_id(page: Mapping[str, Any], entries: list[object]) -> str | None:
    last = entries[-1] if entries else None
    for cursor in (page.get("last_id"), last.get("id") if isinstance(last, Mapping) else None):
        if isinstance(cursor, str) and fits_one_segment(cursor):
            return cursor
    return None


def _build(
    name: str,
    options: ProviderOptions,
    base_url: str,
    *,
    web: str | None = None,
    cursor_is_id: bool = True,
) -> Provider:
    headers = checked_headers(options)
    given = {header.lower() for header in headers}
    for header, value in (
        ("OpenAI-Organization", options.organization),
        ("OpenAI-Project", options.project),
    ):
        if value and header.lower() not in given:
            headers[header] = value
    return OpenAIShaped(name, base_url, headers, web, cursor_is_id=cursor_is_id)


def _build_openai(options: ProviderOptions) -> Provider:
    base_url = with_version(checked_base_url(options.base_url or OPENAI_BASE_URL), "v1")
    host = urlsplit(base_url).hostname or ""
    # Behind a gateway an id need not be OpenAI's own. Regions are hosts below this one.
    its_own = host == "api.openai.com" or host.endswith(".api.openai.com")
    web = "https://platform.openai.com/batches/" if its_own else None
    return _build("openai", options, base_url, web=web)


def _build_cerebras(options: ProviderOptions) -> Provider:
    base_url = with_version(checked_base_url(options.base_url or CEREBRAS_BASE_URL), "v1")
    return _build("cerebras", options, base_url)


def _build_compatible(options: ProviderOptions) -> Provider:
    if not options.base_url:
        raise ConfigError(
            "openai-compatible needs a base_url: what stands before /batches, "
            "such as https://api.example.com/v1"
        )
    base_url = checked_base_url(options.base_url)
    by_id = urlsplit(base_url).hostname not in _PAGED_BY_OFFSET
    return _build("openai-compatible", options, base_url, cursor_is_id=by_id)


OPENAI = ProviderKind(
    name="openai",
    title="OpenAI",
    build=_build_openai,
    default_base_url=OPENAI_BASE_URL,
    key_variables=("OPENAI_API_KEY",),
    base_url_variables=("OPENAI_BASE_URL",),
    option_variables={"OPENAI_ORG_ID": "organization", "OPENAI_PROJECT_ID": "project"},
    options=frozenset({"organization", "project"}),
    # All of 2025 and 2026 seen; older ids may have other forms, which are never guessed.
    sure_form=re.compile(r"batch_[0-9a-f]{32}"),
)

CEREBRAS = ProviderKind(
    name="cerebras",
    title="Cerebras",
    build=_build_cerebras,
    default_base_url=CEREBRAS_BASE_URL,
    key_variables=("CEREBRAS_API_KEY",),
    base_url_variables=("CEREBRAS_BASE_URL",),
)

OPENAI_COMPATIBLE = ProviderKind(
    name="openai-compatible",
    title="OpenAI-compatible",
    build=_build_compatible,
    options=frozenset({"organization", "project"}),
)
