"""A daemon that is killed again and again, started anew, and in the end let finish its work."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

from recording import Moment, Recorder, recording
from registering import Registrar
from rehearsal import PATIENCE, WATCHER, environment, until
from scene import (
    CHANNELS,
    CONFIG,
    WEIGHTS,
    Kind,
    Options,
    Shaky,
    Watched,
    add_faults,
    served,
)
from verdict import (
    TERMINAL,
    Autopsy,
    Evidence,
    Expected,
    Verdict,
    complaints,
    examine,
    judge,
    read_entries,
)

from watcher.simulator import KEY

# For so many seconds after a process has begun to watch the moment of its end is waited for.
MOMENT_PATIENCE = 2.5
# Less than that is left to a process that is watched so, in seconds; a lease is 15.
LONGEST_WAIT = 2.0


@dataclass(slots=True)
class Life:
    """One process of the daemon; times in seconds since the epoch."""

    number: int
    process: subprocess.Popen[bytes]
    began: float
    # The first request or message of its own.
    first_sign: float | None = None
    ended: float = 0.0
    # What to do at each moment that is noticed.
    trap: Callable[[object], None] = lambda _moment: None

    def notice(self, moment: object) -> None:
        """Something of this process's was seen."""
        if self.first_sign is None:
            self.first_sign = time.time()
        self.trap(moment)


@dataclass
class Run:
    """One run from the first start to the verdict."""

    options: Options
    folder: Path
    simulation: Watched
    recorder: Recorder
    registrar: Registrar
    shaky: Shaky
    random: Random
    config: Path
    state: Path
    env: dict[str, str]
    kills: Counter[Kind] = field(default_factory=Counter)
    autopsies: list[Autopsy] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    # Seconds from the start of a process to its first look or message: with nothing before it,
    # and after a kill where something was due by then.
    plain: list[float] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)
    # Of the same restarts: seconds from having taken its leases to the first look or message.
    waits: list[float] = field(default_factory=list)
    life: Life | None = None
    lives: int = 0

    # A process, from its start to its autopsy.

    def begin(self, *, once: bool = False) -> Life:
        """Start the daemon, or a single round of it."""
        self.lives += 1
        number = self.lives
        urls = {f"{name.upper()}_URL": self.recorder.url(name, number) for name in CHANNELS}
        command = [WATCHER, "run", "--config", str(self.config), "--state", str(self.state)]
        command += ["--once"] if once else []
        with (self.folder / f"log-{number}").open("wb") as log:
            began = time.time()
            process = subprocess.Popen(command, env={**self.env, **urls}, stdout=log, stderr=log)
        self.life = Life(number, process, began)
        return self.life

    def notice(self, moment: object, number: int | None = None) -> None:
        """A request or a message came in, of this life or (a message) of one that is over."""
        life = self.life
        if life is not None and number in {None, life.number}:
            life.notice(moment)

    def end(self, life: Life) -> Autopsy:
        """What is left, once a process has ended; nobody has touched it since but commands."""
        code = life.process.wait(PATIENCE)
        life.ended = time.time()
        self.recorder.end_life(life.number)
        watched, removed = self.registrar.acknowledged()
        last = max((one.last_seq for one in self.autopsies), default=0)
        # Asked to stop before it could answer signals, it ends as any process does.
        killed = code in {-signal.SIGKILL, -signal.SIGTERM}
        autopsy = examine(self.state, life.number, killed=killed, after=last)
        if code and not killed:
            self.problems.append(f"process {life.number} ended with {code}: {self._log(life)}")
        self._check_registrations(autopsy, watched, removed)
        self._measure(life)
        self.autopsies.append(autopsy)
        return autopsy

    def _log(self, life: Life) -> str:
        return (self.folder / f"log-{life.number}").read_text()[-600:]

    def _check_registrations(
        self, autopsy: Autopsy, watched: frozenset[str], removed: frozenset[str]
    ) -> None:
        # What was said meanwhile is checked by the next.
        watched_still, removed_still = self.registrar.acknowledged()
        for key in watched & watched_still:
            if not autopsy.batches.get(key):
                self.problems.append(f"{key} was registered, and is not after {autopsy.life}")
        for key in removed & removed_still:
            if autopsy.batches.get(key):
                self.problems.append(f"{key} was removed, and is not after {autopsy.life}")

    def _measure(self, life: Life) -> None:
        before = self.autopsies[-1] if self.autopsies else None
        ready = next(self._said(life.number, "watching"), None)
        if before is None or before.due_at is None or ready is None:
            return
        # From here on only a lease could hold it up.
        at = datetime.fromisoformat(ready["at"]).timestamp()
        if not before.killed or before.due_at > at * 1_000:
            return
        if life.first_sign is not None:
            self.restarts.append(life.first_sign - life.began)
        # Killed without a sign, it had waited for as long as it lived, and would have longer.
        self.waits.append(max(0.0, (life.first_sign or life.ended) - at))
        if self.waits[-1] > LONGEST_WAIT:
            self.problems.append(f"process {life.number} waited {self.waits[-1]:.1f} s")

    # The ways to die.

    def crash(self, kind: Kind) -> None:
        """One process, killed at such a moment."""
        life = self.begin(once=kind is Kind.ONCE)
        if kind is Kind.STARTING:
            time.sleep(self.random.uniform(0.0, 1.2))
        elif kind is Kind.STOPPING:
            if self.random.random() < 0.7:
                self.await_sign(life)
            time.sleep(self.random.uniform(0.0, 0.5))
            life.process.send_signal(signal.SIGTERM)
            time.sleep(self.random.uniform(0.0, 0.15))
        elif kind is Kind.ONCE:
            # It never says that it watches.
            _await(life, lambda: life.first_sign is not None, 5 * MOMENT_PATIENCE)
            time.sleep(self.random.uniform(0.0, 0.3))
        elif kind is Kind.ANY_TIME:
            self.await_sign(life)
            time.sleep(self.random.uniform(0.0, 1.0))
        elif not self._trapped(life, kind):
            kind = Kind.ANY_TIME
        life.process.kill()
        if self.end(life).killed:
            self.kills[kind] += 1

    def _trapped(self, life: Life, kind: Kind) -> bool:
        """Wait until the process has met the trap set for it; False if it has not."""
        messages = kind in {Kind.ARRIVED, Kind.ANSWERED}
        most = self.options.skips
        left = [self.random.randint(0, min(2, most) if messages else most)]
        pause = self.random.uniform(0.0, 0.008) if kind in {Kind.LOOKED, Kind.ANSWERED} else 0.0
        sprung = threading.Event()
        lock = threading.Lock()

        def trap(moment: object) -> None:
            with lock:
                if moment is not kind or sprung.is_set():
                    return
                left[0] -= 1
                if left[0] >= 0:
                    return
                sprung.set()
            if pause:
                threading.Timer(pause, life.process.kill).start()
            else:
                life.process.kill()

        life.trap = trap
        self._await_ready(life)
        try:
            life.process.wait(MOMENT_PATIENCE)
        except subprocess.TimeoutExpired:
            return sprung.is_set()
        return True

    def await_sign(self, life: Life, patience: float = MOMENT_PATIENCE) -> None:
        """Wait until a process has asked or told something, if it does so soon."""
        self._await_ready(life)
        _await(life, lambda: life.first_sign is not None, patience)

    def _await_ready(self, life: Life) -> None:
        """Wait until it watches, however busy the machine is."""
        log = self.folder / f"log-{life.number}"
        _await(life, lambda: life.first_sign is not None or b'"watching"' in log.read_bytes())

    # The whole.

    def go(self) -> Verdict:
        """Kill as often as asked, let everything end well, judge."""
        # Twice before there is anything at all: the file itself is made in the middle of it.
        for _ in range(min(2, self.options.kills // 10)):
            self.crash(Kind.STARTING)
        registering = threading.Thread(target=self.registrar.work, daemon=True)
        registering.start()
        given = itertools.cycle(self.options.kinds)
        kinds, weights = zip(*WEIGHTS.items(), strict=True)
        try:
            user = self.registrar
            until(lambda: bool(user.watched or user.failures), "the first registration")
            while self.kills.total() < self.options.kills:
                drawn = self.random.choices(kinds, weights)[0]
                self.crash(next(given, drawn))
            self._let_all_end(registering)
        finally:
            self.registrar.stop.set()
            registering.join(PATIENCE)
            if self.life is not None and self.life.process.poll() is None:
                self.life.process.kill()
        return self._judge()

    def progress(self) -> float:
        """How much may be registered by now; all of it well before the last kill."""
        return self.kills.total() / (0.85 * max(1, self.options.kills))

    def _let_all_end(self, registering: threading.Thread) -> None:
        """The last process is not killed, and all trouble is over."""
        self.simulation.faults.clear()
        self.shaky.well = True
        if self.registrar.lasting is not None:
            self.simulation.openai.cancel(self.registrar.lasting)
        life = self.begin()
        registering.join(PATIENCE)
        try:
            until(lambda: self._over(life), "the end of everything", self.options.patience)
        except TimeoutError as error:
            self.problems.append(str(error))
        life.process.send_signal(signal.SIGTERM)
        if self.end(life).killed:
            self.problems.append("the last process did not stop")

    def _over(self, life: Life) -> bool:
        if life.process.poll() is not None:
            return True
        expected = self.expected()
        if expected is None:
            return False
        ends = {one.subject: one for one in read_entries(self.state) if one.status in TERMINAL}
        for key, one in expected.items():
            end = ends.get(key)
            if end is None or end.revision <= one.after or end.status != one.status:
                return False
        autopsy = examine(self.state, life.number, killed=False, after=1 << 60)
        return not autopsy.pending

    def expected(self) -> dict[str, Expected] | None:
        """How each watched batch has ended, by the simulator; None while one has not."""
        now, found = time.time_ns() // 1_000_000, {}
        for key, after in self.registrar.watched.items():
            id_ = key.partition("/")[2]
            truth = self.simulation.openai.truth(id_)
            status = next((word for _, word in reversed(truth) if word in TERMINAL), None)
            if self.simulation.openai.fate(id_).missing((now - truth[0][0]) / 1_000):
                status = "lost"
            if status is None or truth[-1][1] != status != "lost":
                return None
            found[key] = Expected(status, after)
        return found

    def _judge(self) -> Verdict:
        receipts = {name: self.recorder.of_channel(name) for name in CHANNELS}
        removed = dict(self.registrar.removed)
        entries = read_entries(self.state)
        evidence = Evidence(receipts, self.autopsies, entries, self.expected() or {}, removed)
        if not evidence.expected:
            self.problems.append("the simulator's batches have not ended")
        self.problems += complaints(self.state)
        self.problems += self.registrar.failures + self.recorder.unreadable
        self.problems += self._logged()
        return judge(evidence)

    def _logged(self) -> Iterator[str]:
        """What the daemon itself calls an error: none is foreseen here."""
        for number in range(1, self.lives + 1):
            for said in self._said(number):
                if said["level"] in {"error", "critical"}:
                    yield f"process {number} logged: {json.dumps(said)[:2_000]}"

    def _said(self, number: int, event: str | None = None) -> Iterator[dict[str, Any]]:
        """The log of a process, or its lines about one event."""
        for line in (self.folder / f"log-{number}").read_text().splitlines():
            try:
                said: dict[str, Any] = json.loads(line)
            except ValueError:
                # Cut short by the kill, or what a process says that cannot begin.
                continue
            if event in {None, said["event"]}:
                yield said


def _await(life: Life, condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait for it while the process lives and patience lasts."""
    deadline = time.monotonic() + patience
    while life.process.poll() is None and not condition() and time.monotonic() < deadline:
        time.sleep(0.005)


def plain_starts(run: Run, count: int) -> None:
    """Start the daemon on states without a past and something due, and stop it."""
    state = run.state
    for number in range(count):
        run.state = run.folder / f"plain-{number}.db"
        where = ["--config", str(run.config), "--state", str(run.state)]
        subprocess.run(
            [WATCHER, "add", "batch_none", *where], env=run.env, capture_output=True, check=True
        )
        life = run.begin()
        run.await_sign(life)
        if life.first_sign is not None:
            run.plain.append(life.first_sign - life.began)
        life.process.send_signal(signal.SIGTERM)
        life.process.wait(PATIENCE)
    run.state = state


@contextmanager
def prepared(options: Options, folder: Path) -> Iterator[Run]:
    """Simulator, channels, configuration; nothing runs yet."""
    random = Random(f"crash {options.seed}")  # noqa: S311 - chooses moments, not secrets
    simulation = Watched(lambda: time.time_ns() // 1_000_000, seed=options.seed)
    add_faults(simulation, options.fault_share)
    shaky = Shaky(Random(f"shaky {options.seed}"), options.refused_share)  # noqa: S311
    moments = {Moment.ARRIVED: Kind.ARRIVED, Moment.ANSWERED: Kind.ANSWERED}
    config, state = folder / "config.toml", folder / "watcher.db"
    with served(simulation) as address, recording(Recorder(shaky)) as recorder:
        config.write_text(CONFIG.format(base_url=simulation.base_url("openai", address)))
        config.chmod(0o600)
        urls = {f"{name.upper()}_URL": recorder.url(name, 0) for name in CHANNELS}
        env = environment(folder / "home", OPENAI_API_KEY=KEY, **urls)
        registrar = Registrar(
            simulation.openai,
            ["--config", str(config), "--state", str(state)],
            env,
            state,
            options.batches,
            Random(f"registrar {options.seed}"),  # noqa: S311
            lambda: run.progress(),  # noqa: PLW0108 - there is no run yet
            slow=options.slow,
            hurry=options.hurry,
        )
        run = Run(
            options, folder, simulation, recorder, registrar, shaky, random, config, state, env
        )
        simulation.notice = run.notice
        recorder.notice = lambda moment, life: run.notice(moments[moment], life)
        yield run
