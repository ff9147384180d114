"""How lists of batches differ from one provider to the next, and from what retrieve says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any


class Paging(StrEnum):
    """What a list does with the place and the length that a request asks for."""

    # `after` is an id: openai 3.54.0, types/batch_list_params.py. At Cohere an opaque token.
    CURSOR = "cursor"
    # `after` is how many to pass over: docs.morphllm.com, "List Batches".
    OFFSET = "offset"
    # All there are in one answer: groq 1.7.0, resources/batches.py, takes no parameter, and
    # neither does together 3.1.1, types/batch_list_response.py.
    NONE = "none"
    # The first page of the usual length, whatever was asked for: Cerebras documents no parameter
    # (inference-docs.cerebras.ai, "List batches").
    IGNORED = "ignored"


class Envelope(StrEnum):
    """What stands around the entries, for those shaped like OpenAI."""

    # {object, data, first_id, last_id, has_more}: openai-openapi, ListBatchesResponse.
    WHOLE = "whole"
    # {object, data}: groq 1.7.0, types/batch_list_response.py.
    DATA = "data"
    # A bare array: together 3.1.1, types/batch_list_response.py.
    ARRAY = "array"
    # Without has_more, which watsonx-ai-node-sdk, BatchCollection, calls optional.
    IDS = "ids"


class Order(StrEnum):
    """In which order the entries come."""

    # Said by Morph, OpenRouter and Perplexity, seen at OpenAI, whose specification is silent.
    NEWEST = "newest"
    # The default of Fireworks: fireworks-ai 1.2.30, `orderBy`.
    OLDEST = "oldest"
    # The same from one request to the next, and no other.
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ListForm:
    """A list as it really is; the default is OpenAI's as it should be.

    `lag` and `jitter` are seconds: a page shows what was true that long ago, and up to so much
    longer, drawn anew for each request, so that two requests may contradict each other. A batch
    younger than that is not in it, and a page cannot begin after it. `refusal` is the status that
    every list is refused with, though retrieve works: a key without the right to list.
    """

    paging: Paging = Paging.CURSOR
    envelope: Envelope = Envelope.WHOLE
    order: Order = Order.NEWEST
    lag: float = 0.0
    jitter: float = 0.0
    refusal: int | None = None

    def behind(self, draw: Random) -> int:
        """How many milliseconds one answer lags behind."""
        return round((self.lag + self.jitter * draw.random()) * 1000)

    def wrapped(self, page: dict[str, Any]) -> Any:
        """A whole page in this list's envelope."""
        if self.envelope is Envelope.ARRAY:
            return page.get("data", page)
        left_out = {
            Envelope.DATA: ("first_id", "last_id", "has_more"),
            Envelope.IDS: ("has_more",),
        }.get(self.envelope, ())
        return {key: value for key, value in page.items() if key not in left_out}


GROQ = ListForm(paging=Paging.NONE, envelope=Envelope.DATA)
TOGETHER = ListForm(paging=Paging.NONE, envelope=Envelope.ARRAY)
MORPH = ListForm(paging=Paging.OFFSET)
