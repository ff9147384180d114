"""One provider acted out: batches with fates, and an answer to every request. No input, no output.

The clock is handed in, so a test may live through a day in a moment; everything that looks like
chance comes from the seed.
"""

from __future__ import annotations

import json
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from watcher.simulator.answer import Answer, Call, Entry, Kind, RequestLog, Wire
from watcher.simulator.chance import chance
from watcher.simulator.fate import NAMED, TERMINAL, Fate, choose
from watcher.simulator.faults import Fault, Faults
from watcher.simulator.listing import ListForm, Order, Paging
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
    be revoked and restored at any time, and `list_form` set to another; `truth` says what really
    happened, for comparison.
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
        list_form: ListForm | None = None,
    ) -> None:
        self.wire = Wire(wire)
        self.list_form = list_form or ListForm()
        self.keys = set(keys)
        self.speed = speed
        self.faults = faults or Faults(seed=seed)
        self.requests = RequestLog()
        self._logs = (self.requests, *logs)
        self._clock = clock
        self._shape = SHAPES[self.wire]
        self._seed = seed
        self._random = chance(seed, self.wire)
        self._lives: dict[str, Life] = {}
        # (-created_at, -number, id): newest first.
        self._order: list[tuple[int, int, str]] = []
        self._revoked: set[str] = set()
        self._hidden: set[str] = set()

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

    def end(self, id: str) -> int | None:
        """When (milliseconds) the batch first comes to an end; None for never."""
        life = self._lives[id]
        ends = (step.at for step in life.fate.steps if step.status in TERMINAL)
        return next(map(life.moment, ends), None)

    def hide(self, id: str) -> None:
        """Leave a batch out of every list, as another project's is; retrieve shows it still."""
        self._hidden.add(id)

    def show(self, id: str) -> None:
        """List again what was hidden."""
        self._hidden.discard(id)

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
        said = {name.lower(): value for name, value in (headers or {}).items()}
        agent = said.get("user-agent", "").partition("/")[0]
        call = self._understand(method, path, query or {}, agent)
        fault = self.faults.choose(call)
        answer = self._spoiled(fault, call, said, body)
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

    def _understand(self, method: str, path: str, query: Mapping[str, str], agent: str) -> Call:
        kind, id = self._route(method, path)
        return Call(self._clock(), self.wire, kind, id, method, path, query, agent)

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
        scheme, _, key = headers.get("authorization", "").partition(" ")
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
        form = self.list_form
        if form.refusal is not None:
            return self._error(form.refusal, "batches are not listed here")
        at = call.at
        if form.lag or form.jitter:
            at -= form.behind(chance(self._seed, self.wire, "list", self.requests.total))
        try:
            most = self._page_size(call.query)
            order = self._in_order(at)
            start = self._start(call.query, order, at)
        except ValueError as error:
            return self._error(400, str(error))
        shown: list[dict[str, Any]] = []
        more = False
        for position in range(start, len(order)):
            life = self._lives[order[position][2]]
            if not self._listed(life, at):
                continue
            if more := len(shown) == most:
                break
            shown.append(self._shape.show(life, at))
        return _json(200, form.wrapped(self._shape.page(shown, more=more)))

    def _listed(self, life: Life, at: int) -> bool:
        return self._known_to_list(life, at) and not life.fate.missing(life.age(at))

    def _known_to_list(self, life: Life, at: int) -> bool:
        lags = self.list_form.lag > 0 or self.list_form.jitter > 0
        return life.id not in self._hidden and not (lags and life.created_at > at)

    def _in_order(self, at: int) -> Sequence[tuple[int, int, str]]:
        order = self._order
        if self.list_form.order is Order.OLDEST:
            order = order[::-1]
        elif self.list_form.order is Order.NONE:
            order = sorted(order, key=lambda place: chance(self._seed, place[2]).random())
        if self.list_form.paging is Paging.OFFSET:
            order = [place for place in order if self._listed(self._lives[place[2]], at)]
        return order

    def _start(
        self, query: Mapping[str, str], order: Sequence[tuple[int, int, str]], at: int
    ) -> int:
        """Where in the order a page begins. ValueError for a place that is none."""
        paging = self.list_form.paging
        after = query.get("page_token" if self.wire is Wire.COHERE else "after")
        if not after or paging in {Paging.NONE, Paging.IGNORED}:
            return 0
        if paging is Paging.OFFSET:
            if not (after.isascii() and after.isdigit()):
                raise ValueError("after must be a whole number")
            return int(after)
        id = read_page_token(after) if self.wire is Wire.COHERE else after
        last = self._lives.get(id or "")
        if last is None or not self._known_to_list(last, at):
            raise ValueError("no such place to go on from")
        place = self._place(last)
        newest_first = self.list_form.order is Order.NEWEST
        return (bisect_left(order, place) if newest_first else order.index(place)) + 1

    def _page_size(self, query: Mapping[str, str]) -> int:
        name, default, most = _LIMITS[self.wire]
        if self.list_form.paging is Paging.NONE:
            return len(self._order)
        if self.list_form.paging is Paging.IGNORED:
            return default
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


def _json(status: int, body: object) -> Answer:
    return Answer(status, json.dumps(body).encode())


def _details(said: Mapping[str, Any]) -> dict[str, Any]:
    """What a provider repeats of the body of a creation."""
    kept = ("endpoint", "input_file_id", "completion_window", "model", "input_dataset_id")
    return {key: said[key] for key in kept if isinstance(said.get(key), str)}
