"""Providers that act out batches' lives on loopback: for the demo, for rehearsal, for tests.

`transport` is not named here: it alone needs httpx.
"""

from watcher.simulator.answer import Answer, Call, Kind, Manner, RequestLog, Wire
from watcher.simulator.fate import NAMED, OMITTED, Complaint, Fate, Gap, Step, Tally
from watcher.simulator.faults import Fault, Faults
from watcher.simulator.listing import GROQ, MORPH, TOGETHER, Envelope, ListForm, Order, Paging
from watcher.simulator.provider import KEY, SimulatedProvider
from watcher.simulator.server import serve
from watcher.simulator.simulation import Simulation

__all__ = [
    "GROQ",
    "KEY",
    "MORPH",
    "NAMED",
    "OMITTED",
    "TOGETHER",
    "Answer",
    "Call",
    "Complaint",
    "Envelope",
    "Fate",
    "Fault",
    "Faults",
    "Gap",
    "Kind",
    "ListForm",
    "Manner",
    "Order",
    "Paging",
    "RequestLog",
    "SimulatedProvider",
    "Simulation",
    "Step",
    "Tally",
    "Wire",
    "serve",
]
