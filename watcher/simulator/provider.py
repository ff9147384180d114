"""One provider acted out: batches with fates, and an answer to every request. No input, no output.

The clock is handed in, so a test may live through a day in a moment; everything that looks like
chance comes from the seed.
"""

from __future__ import annotations

import json
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from watcher.simulator.answer import Answer, Call, Entry, Kind, RequestLog, Wire
from watcher.simulator.chance import chance
from watcher.simulator.fate import NAMED, TERMINAL, Fate, choose
from watcher.simulator.faults import Fault, Faults
from watcher.simulator.shapes import SHAPES, Life, read_page_token

# The credential every simulated provider accepts until told otherwise.
KEY = "simulator-key"
_ROOTS = {Wire.OPENAI: "/batches", Wire.CEREBRAS: "/batches", Wire.COHERE: "/v2/batches"}
# Pages: the parameter's name, its default and its most.
_LIMITS = {
    Wire.OPENAI: ("limit", 20, 100),
    Wire.CEREBRAS: ("limit", 20, 100),
    Wire.COHERE: ("page_size", 50, 1_000),
}


class SimulatedProvider:
    """Holds one account's batches at one provider and answers as that provider would.

    `clock` gives milliseconds. `speed` hastens the fates of batches created by request. Keys may
    be revoked and restored at any time; `truth` says what really happened, for comparison.
    """

    def __init__(
        self,
        wire: Wire | str,
        clock: Callable[[], int],
        *,
        keys: Iterable[str] = (KEY,),
        seed: int = 0,
        speed: float = 1.0,
        faults: Faults | None = None,
        logs: Iterable[RequestLog] = (),
    ) -> None:
        self.wire = Wire(wire)
        self.keys = set(keys)
        self.speed = speed
        self.faults = faults or Faults(seed=seed)
        self.requests = RequestLog()
        self._logs = (self.requests, *logs)
        self._clock = clock
        self._shape = SHAPES[self.wire]
        self._random = chance(seed, self.wire)
        self._lives: dict[str, Life] = {}
        # (-created_at, -number, id): newest first.
        self._order: list[tuple[int, int, str]] = []
        self._revoked: set[str] = set()

    # What a test says and asks.

    @property
    def ids(self) -> list[str]:
        """Every id, newest first, batches that are missing just now included."""
        return [id for _, _, id in self._order]

    def add(
        self,
        fate: Fate,
        *,
        id: str | None = None,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        created_at: int | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> str:
        """Create a batch with this fate and return its id; `created_at` in milliseconds.

        Only Cohere knows names; elsewhere the name becomes `metadata["name"]`. ValueError for a
        fate this provider cannot act out (nothing expires at Cohere) or an id that is taken.
        """
        if not self._shape.suits(fate):
            raise ValueError(f"{self.wire} has no status for a batch that is {fate.name}")
        if id is not None and id in self._lives:
            raise ValueError(f"{id} exists already")
        if name is not None and self.wire is not Wire.COHERE:
            metadata = {"name": name, **(metadata or {})}
        life = Life(
            id if id is not None else self._shape.identify(self._random),
            fate,
            self._clock() if created_at is None else created_at,
            name,
            metadata,
            details or {},
            number=len(self._lives),
        )
        self._lives[life.id] = life
        insort(self._order, self._place(life))
        return life.id

    def revise(self, id: str, fate: Fate) -> None:
        """Give a batch another fate from its creation on; `truth` follows the new one."""
        self._lives[id] = replace(self._lives[id], fate=fate)

    def fate(self, id: str) -> Fate:
        """What will become of a batch."""
        return self._lives[id].fate

    def cancel(self, id: str) -> None:
        """Cancel a batch as its owner would; one that has ended stays as it is."""
        life, now = self._lives[id], self._clock()
        if life.status(now) not in TERMINAL | {"cancelling"}:
            self.revise(id, life.fate.cancelled_at(life.age(now)))

    def truth(self, id: str) -> list[tuple[int, str]]:
        """When (milliseconds) the batch came to stand where, up to now, as this API knows it."""
        transitions: list[tuple[int, str]] = []
        for at, status in self._lives[id].transitions(self._clock()):
            word = self._shape.word(status)
            if not transitions or transitions[-1][1] != word:
                transitions.append((at, word))
        return transitions

    def revoke(self) -> None:
        """Accept no key any more."""
        self._revoked |= self.keys
        self.keys.clear()

    def restore(self) -> None:
        """Accept again what was revoked."""
        self.keys |= self._revoked
        self._revoked.clear()

    # What a client gets.

    def respond(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """The answer to a request; `path` as sent, below the base URL: `/batches/batch_1`."""
        call = self._understand(method, path, query or {})
        fault = self.faults.choose(call)
        answer = self._spoiled(fault, call, headers or {}, body)
        for log in self._logs:
            log.record(Entry(call, answer.status, fault.name if fault else None))
        return answer

    def _spoiled(
        self, fault: Fault | None, call: Call, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        if fault is None:
            return self._honest(call, headers, body)
        honest = Answer(200) if fault.refuses else self._honest(call, headers, body)
        return fault.spoil(honest, call)

    def _understand(self, method: str, path: str, query: Mapping[str, str]) -> Call:
        kind, id = self._route(method, path)
        return Call(self._clock(), self.wire, kind, id, method, path, query)

    def _route(self, method: str, path: str) -> tuple[Kind, str | None]:
        root = _ROOTS[self.wire]
        if path.rstrip("/") == root:
            return {"GET": Kind.LIST, "POST": Kind.CREATE}.get(method, Kind.OTHER), None
        if not path.startswith(root + "/"):
            return Kind.OTHER, None
        rest = path.removeprefix(root + "/")
        cancel = ":cancel" if self.wire is Wire.COHERE else "/cancel"
        if method == "POST" and rest.endswith(cancel) and "/" not in rest.removesuffix(cancel):
            return Kind.CANCEL, unquote(rest.removesuffix(cancel))
        # An id is one segment, however it is quoted.
        if method == "GET" and "/" not in rest:
            return Kind.RETRIEVE, unquote(rest)
        return Kind.OTHER, None

    def _honest(self, call: Call, headers: Mapping[str, str], body: bytes) -> Answer:
        if not self._admits(headers):
            return self._error(401, "this key is not accepted")
        if call.kind is Kind.LIST:
            return self._list(call)
        if call.kind is Kind.CREATE:
            return self._create(body)
        life = self._lives.get(call.id or "")
        if call.kind is Kind.OTHER:
            return self._error(404, "no such url")
        if life is None or life.fate.missing(life.age(call.at)):
            return self._error(404, "no such batch")
        if call.kind is Kind.CANCEL:
            return self._cancel(life, call.at)
        return self._shown(life, call.at)

    def _admits(self, headers: Mapping[str, str]) -> bool:
        sent = {name.lower(): value for name, value in headers.items()}.get("authorization", "")
        scheme, _, key = sent.partition(" ")
        return scheme.lower() == "bearer" and key.strip() in self.keys

    def _shown(self, life: Life, now: int) -> Answer:
        return _json(200, self._shape.wrap(self._shape.show(life, now)))

    def _cancel(self, life: Life, now: int) -> Answer:
        status = self._shape.word(life.status(now))
        if status in TERMINAL:
            # OpenAI's clients call it a conflict.
            return self._error(409, f"a batch that is {status} cannot be cancelled")
        self.cancel(life.id)
        if self.wire is Wire.COHERE:
            return _json(200, {})
        return self._shown(self._lives[life.id], now)

    def _create(self, body: bytes) -> Answer:
        try:
            said = json.loads(body)
        except ValueError:
            return self._error(400, "the body is not JSON")
        if not isinstance(said, dict):
            return self._error(400, "the body is not an object")
        name, metadata = said.get("name"), said.get("metadata")
        if not isinstance(metadata, dict | None) or not isinstance(name, str | None):
            return self._error(400, "name or metadata has the wrong type")
        try:
            fate = self._fate_asked_for(name, metadata).faster(self.speed)
            kept = name if self.wire is Wire.COHERE else None
            id = self.add(fate, name=kept, metadata=metadata, details=_details(said))
        except ValueError as error:
            return self._error(400, str(error))
        return self._shown(self._lives[id], self._clock())

    def _fate_asked_for(self, name: str | None, metadata: Mapping[str, Any] | None) -> Fate:
        """`fate:partial` as the name or any value of the metadata, or `{"fate": "partial"}`."""
        words = [name or "", *(metadata or {}).values()]
        asked = [word[5:] for word in words if isinstance(word, str) and word.startswith("fate:")]
        if metadata and isinstance(metadata.get("fate"), str):
            asked.append(metadata["fate"].removeprefix("fate:"))
        if not asked:
            return choose(self._random)
        if asked[0] not in NAMED:
            raise ValueError(f"no such fate; one of {', '.join(NAMED)}")
        return NAMED[asked[0]]()

    def _list(self, call: Call) -> Answer:
        try:
            most = self._page_size(call.query)
        except ValueError as error:
            return self._error(400, str(error))
        after = call.query.get("page_token" if self.wire is Wire.COHERE else "after")
        start = 0
        if after:
            last = self._lives.get(
                (read_page_token(after) if self.wire is Wire.COHERE else after) or ""
            )
            if last is None:
                return self._error(400, "no such place to go on from")
            start = bisect_left(self._order, self._place(last)) + 1
        shown: list[dict[str, Any]] = []
        for position in range(start, len(self._order)):
            life = self._lives[self._order[position][2]]
            if life.fate.missing(life.age(call.at)):
                continue
            if len(shown) == most:
                return _json(200, self._shape.page(shown, more=True))
            shown.append(self._shape.show(life, call.at))
        return _json(200, self._shape.page(shown, more=False))

    def _page_size(self, query: Mapping[str, str]) -> int:
        name, default, most = _LIMITS[self.wire]
        asked = query.get(name)
        if asked is None:
            return default
        if asked.isascii() and asked.isdigit() and 1 <= int(asked) <= most:
            return int(asked)
        if self.wire is Wire.COHERE and asked.isascii() and asked.isdigit():
            return most if int(asked) else default
        if self.wire is Wire.CEREBRAS:
            # Its list documents no parameter: what it cannot use it overlooks.
            return default
        raise ValueError(f"{name} must be a number from 1 to {most}")

    def _error(self, status: int, message: str) -> Answer:
        return _json(status, self._shape.error(status, message))

    @staticmethod
    def _place(life: Life) -> tuple[int, int, str]:
        return -life.created_at, -life.number, life.id


def _json(status: int, body: Mapping[str, Any]) -> Answer:
    return Answer(status, json.dumps(body).encode())


def _details(said: Mapping[str, Any]) -> dict[str, Any]:
    """What a provider repeats of the body of a creation."""
    kept = ("endpoint", "input_file_id", "completion_window", "model", "input_dataset_id")
    return {key: said[key] for key in kept if isinstance(said.get(key), str)}
