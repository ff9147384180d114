"""What a look saw, all the way: lifecycle, a real database, messages, documents and the log."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC
from random import Random
from typing import Any, TypeVar

from tests.builders import batch, create_tables, ended, event, registering, told
from tests.fakes import START
from watcher import cadence, lifecycle, log
from watcher.cli.output import progress_text, severity_of_batch, status_text
from watcher.documents import batch_document, event_document
from watcher.message import Markup, Style, body, render, title
from watcher.model import Batch, Event, Observation, Status
from watcher.redaction import Redactor
from watcher.routing import Route, Switchboard, audience
from watcher.store.codec import (
    UNREADABLE,
    decode_account,
    decode_batch,
    decode_channel,
    decode_event,
    encode_event,
    encode_registration,
    encode_state,
)
from watcher.store.ledger import Ledger
from watcher.store.sqlite import MEMORY, SqliteDatabase
from watcher.text import harmless_json

Row = TypeVar("Row")
Harmless = Callable[[str, int], None]
PACE = cadence.Pace(5_000, 300_000, 1.0)
BOARD = Switchboard(
    ("team", "pager"),
    (Route(("team",), events=("batch.*",), metadata={"name": "*a*", "x": "[!b]"}),),
)
STYLES = [
    Style(markup=markup, interprets=interprets, emoji=emoji, details=details)
    for markup in Markup
    for interprets in (True, False)
    for emoji, details in ((True, True), (False, False))
]
STYLES.append(Style(body_max=158, merged_title=True, interprets=False, ascii_marks=True))
STYLES.append(Style(body_max=3_800, title_max=200, in_bytes=True))


class Whole:
    """One database and one log for all that is tried."""

    def __init__(self, database: SqliteDatabase, harmless: Harmless) -> None:
        self._database = database
        self._harmless = harmless
        self._number = 0

    @classmethod
    @contextmanager
    def opened(cls, harmless: Harmless) -> Iterator[Whole]:
        """As long as the block lasts."""
        database = SqliteDatabase(MEMORY)
        database.transact(create_tables)
        yield cls(database, harmless)
        database.close()

    def observed(self, observation: Observation, provider: str) -> None:
        """Record what was seen, read it back, and show it in every way there is."""
        self._number += 1
        id_ = f"batch_{self._number}"
        wanted = replace(registering(id_), provider=provider)
        self._books(lambda ledger: ledger.batches.register(wanted, START))
        before = self._books(lambda ledger: ledger.batches.get("openai", id_))
        assert before is not None
        step = lifecycle.advance(before, observation, START + 1_000)
        due = cadence.next_look(step.batch, START + 1_000, PACE)
        after = replace(step.batch, next_look_at=due)
        event_told = None
        if step.event is not None:
            happened = replace(step.event, batch=after)
            event_told = replace(told(happened, "team"), choices=audience(happened, BOARD))
        assert self._books(
            lambda ledger: ledger.record(before, after, event_told, None, START + 1_000)
        )
        assert self._books(lambda ledger: ledger.batches.get("openai", id_)) == after
        self.shown(after)
        for found, _ in self._books(lambda ledger: ledger.events.of_subject(f"openai/{id_}")):
            assert event_told is not None
            assert replace(found, seq=0) == event_told.event
            self.told(found)

    def shown(self, one: Batch) -> None:
        """As `ls`, `show` and the log show a batch."""
        document = harmless_json(json.dumps(batch_document(one), ensure_ascii=False))
        assert json.loads(document) == batch_document(one)
        self._harmless(document, 300_000)
        for text in (status_text(one), progress_text(one), str(severity_of_batch(one))):
            self._harmless(text, 200)
        for line in logged(as_json=False, batch=one.key, name=one.name, metadata=one.metadata):
            self._harmless(line, 20_000)
        (record,) = logged(as_json=True, name=one.name, problems=[str(one.problems)])
        assert json.loads(record)["name"] == one.name

    def told(self, happened: Event) -> None:
        """As each service is told of an event, alone and among others."""
        document = event_document(
            happened, "box1", title(happened), body(happened, instance="box1", zone=UTC)
        )
        for line in document["body"].split("\n"):
            self._harmless(line, 1_000)
        for style in STYLES:
            self._rendered([happened], style)
        self._rendered([happened] * 3, STYLES[self._number % len(STYLES)])

    def _rendered(self, events: list[Event], style: Style) -> None:
        message = render(events, style, instance="box1", zone=UTC, waiting=len(events)).message
        assert len(message.title) <= style.title_max
        assert len(message.body) <= style.body_max
        for line in (message.title, *message.body.split(style.line_break)):
            self._shown_to_people(line)

    def _shown_to_people(self, line: str) -> None:
        # Ours: it keeps apart what a service would take for a mention or a link.
        self._harmless(line.replace("\N{ZERO WIDTH SPACE}", ""), 40_000)

    def damaged(self, spoil: Callable[[Any, Random], str], random: Random) -> None:
        """Rows that somebody damaged, or a later version wrote: read and shown, or unreadable."""
        sound = ended(Status.FAILED, id="batch_1", provider_name="x", metadata={"a": [1]})
        columns = {"account": "openai", "id": "batch_1", "provider": "openai", "revision": 1}
        columns |= {"edition": 0, "next_look_at": None, "removed_at": None}
        state = spoil(json.loads(encode_state(sound)), random)
        said = encode_registration(batch().registration)
        said = spoil(json.loads(said), random) if random.random() < 0.5 else said
        happened = spoil(json.loads(encode_event(event(about=sound))), random)
        self._read(lambda: decode_batch(dict(columns), said, state), self._document)
        self._read(lambda: decode_event(1, happened), self._event)
        self._read(lambda: decode_account("openai", 1, state), repr)
        self._read(lambda: decode_channel("team", 1, said), repr)

    def _document(self, one: Batch) -> None:
        shown = harmless_json(json.dumps(batch_document(one), ensure_ascii=False))
        self._harmless(shown, 1_000_000)
        for text in (status_text(one), progress_text(one)):
            self._harmless(text, 200)

    def _event(self, happened: Event) -> None:
        self._shown_to_people(title(happened))
        for line in body(happened, instance="box1", zone=UTC).split("\n"):
            self._shown_to_people(line)
        if happened.batch is not None:
            self._document(happened.batch)

    @staticmethod
    def _read(decode: Callable[[], Row], show: Callable[[Row], object]) -> None:
        """A row either cannot be read, or can be shown."""
        try:
            row = decode()
        except UNREADABLE:
            return
        show(row)

    def _books(self, work: Callable[[Ledger], Any]) -> Any:
        return self._database.transact(lambda transaction: work(Ledger(transaction)))


def logged(*, as_json: bool, **values: object) -> list[str]:
    """What the log makes of values: its lines, as they are written."""
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        log.configure(debug=True, json=as_json, redactor=Redactor(), stream=stream)
        log.get("fuzz").debug("looked", **values)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    lines = stream.getvalue().split("\n")
    assert lines.pop() == ""
    return lines
