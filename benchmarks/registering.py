"""Someone at the command line who registers, reads and removes while the daemon is being killed.

Every command is a process, and some are killed as well.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from rehearsal import PATIENCE, WATCHER, Environment
from verdict import revision_of

from watcher.simulator import Fate, SimulatedProvider

# From the creation of a batch to its end, in seconds, for most of them.
LIVES = (0.5, 12.0)
# One batch in so many is removed, and one removed batch in so many comes back.
REMOVED_ONE_IN = 15
BACK_ONE_IN = 3


def draw_fate(random: Random, *, slow: bool) -> Fate:
    """A life of some seconds; `slow`: also those that need a minute to be seen to their end."""
    after, total = random.uniform(*LIVES), random.randint(2, 500)
    fates = [
        Fate.completed(total, after=after),
        Fate.completed(total, after=after),
        Fate.partial(total, 1, after=after),
        Fate.all_failed(total, after=after),
        Fate.empty(total, after=after),
        Fate.failed(after=after / 4),
        Fate.token_limit_exceeded(),
        Fate.late_output(total, late=1.5, after=after),
        Fate.cancelled(at=60.0).faster(120.0),
        Fate.cancelled_with_results(at=60.0).faster(120.0),
        Fate.expired().faster(20_000.0),
        Fate.expired_with_results().faster(20_000.0),
        Fate.unknown_word(at=60.0, until=200.0).faster(50.0),
        Fate.late_to_appear(30.0).faster(60.0),
        Fate.vanishing(since=60.0, until=120.0).faster(60.0),
    ]
    if slow:
        fates += [
            Fate.vanished(since=120.0).faster(20.0),
            Fate.revived(total=total, at=300.0, again=900.0).faster(60.0),
            Fate.revived("cancelled", total, at=300.0, again=900.0).faster(60.0),
        ]
    return random.choice(fates)


@dataclass
class Registrar:
    """Registers `total` batches in step with `progress` (0 to 1); what it was told is kept.

    `watched` has the keys whose registration was acknowledged, with the revision each had when it
    was last registered anew; `removed` those whose removal was, with the last revision.
    """

    provider: SimulatedProvider
    where: Sequence[str]
    env: Environment
    state: Path
    total: int
    random: Random
    progress: Callable[[], float]
    slow: bool = False
    hurry: float = 1.0
    watched: dict[str, int] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    commands: Counter[str] = field(default_factory=Counter)
    made: int = 0
    # A batch that goes on until it is cancelled: there is always something to look at.
    lasting: str | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    # Held while a list of what was acknowledged is taken, or changed.
    lock: threading.Lock = field(default_factory=threading.Lock)

    def work(self) -> None:
        """Go on until all are registered, or until stopped."""
        try:
            while self.made < self.total and not self.stop.is_set():
                if self.made > self.total * self.progress():
                    self.stop.wait(0.02)
                    continue
                self._turn()
        except Exception as error:  # noqa: BLE001 - the end of this thread must not go unseen
            self.failures.append(f"registering ended: {error!r}")

    def acknowledged(self) -> tuple[frozenset[str], frozenset[str]]:
        """The keys that must be watched now, and those that must not."""
        with self.lock:
            return frozenset(self.watched), frozenset(self.removed)

    def _turn(self) -> None:
        self._register_some()
        for _ in range(self.random.randint(0, 1)):
            self.random.choice([self._list, self._show, self._say_more])()
        if self.random.random() < self.removals_due():
            self._remove()
            if self.random.randrange(BACK_ONE_IN) == 0:
                self._bring_back()

    def removals_due(self) -> float:
        """How many removals are owed by now; negative when there were more."""
        return self.made / REMOVED_ONE_IN - self.commands["rm"]

    def _register_some(self) -> None:
        least = 1 if self.made else self.total // 10
        count = min(self.total - self.made, max(least, self.random.randint(1, 20)))
        fates = [draw_fate(self.random, slow=self.slow) for _ in range(count)]
        ids = [self.provider.add(fate.faster(self.hurry)) for fate in fates]
        if self.lasting is None:
            self.lasting = self.provider.add(Fate.stuck().faster(2_000.0))
            ids[0] = self.lasting
        self.made += count
        text = "\n".join(json.dumps({"id": one, "object": "batch"}) for one in ids)
        if self.random.random() < 0.15:
            # Not acknowledged, so it is done again: nothing may come of it twice.
            self._killed("add", "-", text=text)
        if self._command("add", "-", "--account", "openai", text=text) is not None:
            with self.lock:
                self.watched |= {f"openai/{one}": 0 for one in ids}

    def _list(self) -> None:
        known, _ = self.acknowledged()
        said = self._command("ls", "--all", "--json")
        if said is not None:
            listed = {one["key"] for one in json.loads(said)}
            self.failures += [f"ls does not know {key}" for key in known - listed]

    def _show(self) -> None:
        key = self._any()
        said = self._command("show", "--json", key)
        if said is not None and json.loads(said)["key"] != key:
            self.failures.append(f"show {key} shows another")

    def _say_more(self) -> None:
        self._command("add", self._any(), "--tag", f"tag-{self.random.randint(0, 9)}")

    def _any(self) -> str:
        return self.random.choice(sorted(self.watched))

    def _remove(self) -> None:
        key = self._any()
        if key == f"openai/{self.lasting}":
            return
        with self.lock:
            # Neither is certain while the command runs.
            self.watched.pop(key)
        if self._command("rm", key) is not None:
            revision = revision_of(self.state, key)
            with self.lock:
                self.removed[key] = revision

    def _bring_back(self) -> None:
        if not self.removed:
            return
        key = self.random.choice(sorted(self.removed))
        with self.lock:
            revision = self.removed.pop(key)
        if self._command("add", key) is not None:
            with self.lock:
                self.watched[key] = revision

    def _command(self, *arguments: str, text: str = "") -> str | None:
        """Standard output of a command; None if it failed, which is written down."""
        self.commands[arguments[0]] += 1
        done = subprocess.run(
            [WATCHER, *arguments, *self.where],
            env=self.env,
            input=text,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode:
            line = f"watcher {' '.join(arguments)} ended with {done.returncode}: "
            self.failures.append(line + done.stderr.strip())
            return None
        return done.stdout

    def _killed(self, *arguments: str, text: str) -> None:
        """Run a command and kill it at a random moment of its life."""
        self.commands["killed"] += 1
        with tempfile.TemporaryFile("w+") as given:
            given.write(text)
            given.seek(0)
            process = subprocess.Popen(
                [WATCHER, *arguments, *self.where],
                env=self.env,
                stdin=given,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        with suppress(subprocess.TimeoutExpired):
            process.wait(self.random.uniform(0.05, 0.8))
        process.kill()
        process.wait()
