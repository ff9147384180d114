"""What channels that hang do to a healthy one, and to stopping.

The same stream of batches is watched twice: with one healthy channel alone, and with it among
others that accept a connection and never answer. Measured is the time from the moment the daemon
saw a batch end to the moment the healthy channel's server had the message, and the time from
SIGTERM to the end of the process.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from rehearsal import (
    PATIENCE,
    Environment,
    Figure,
    Simulator,
    command,
    daemon,
    environment,
    show,
    simulator,
    until,
)

# Each batch completes within a second or two of its creation.
SPEED = 600.0
# From the creation of one batch to the next, in seconds.
PAUSE = 0.25
CONFIG = """
[polling]
min_interval = "200ms"
max_interval = "400ms"

[accounts.openai]
provider = "openai"
api_key_env = "OPENAI_API_KEY"
base_url = "{base_url}"
requests_per_minute = 100000

[[routes]]
events = ["batch.completed"]
channels = [{names}]
"""
CHANNEL = """
[channels.{name}]
url = "json://127.0.0.1:{port}/{name}"
digest_wait = "0s"
digest_interval = "0s"
"""


class Sink(ThreadingHTTPServer):
    """A healthy receiver: remembers each message with the second it came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taking)
        self.messages: list[tuple[float, str]] = []

    def arrival(self, event: str) -> float | None:
        """When a message first named the event, in seconds since the epoch."""
        return next((at for at, text in self.messages if event in text), None)


class Taking(BaseHTTPRequestHandler):
    """Takes what it is sent."""

    server: Sink

    def do_POST(self) -> None:
        """Read the message, note when, answer at once."""
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.messages.append((time.time(), text))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Say nothing: the figures are the output."""


@contextmanager
def sink() -> Iterator[Sink]:
    """A healthy receiver, as long as the block lasts."""
    with Sink() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@contextmanager
def pit() -> Iterator[int]:
    """The port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        held: list[socket.socket] = []
        threading.Thread(target=hold, args=(listener, held), daemon=True).start()
        yield listener.getsockname()[1]
        for connection in held:
            connection.close()


def hold(listener: socket.socket, held: list[socket.socket]) -> None:
    """Accept until the listener is closed."""
    while True:
        try:
            held.append(listener.accept()[0])
        except OSError:
            return


def configure(path: Path, base_url: str, healthy: int, hanging: int, port: int) -> None:
    """A configuration of one healthy channel among so many that hang."""
    ports = {"healthy": healthy, **{f"hanging-{number}": port for number in range(hanging)}}
    text = CONFIG.format(
        base_url=base_url, names=", ".join(f'"{name}"' for name in ports)
    ) + "".join(CHANNEL.format(name=name, port=port) for name, port in ports.items())
    path.write_text(text)
    path.chmod(0o600)


def detections(env: Environment, where: list[str]) -> dict[str, float]:
    """When the daemon saw each batch end, by the event's id, in seconds since the epoch."""
    lines = command(["events", "--json", *where], env).splitlines()
    events = [json.loads(line) for line in lines]
    return {
        event["id"]: datetime.fromisoformat(event["detected_at"]).timestamp()
        for event in events
        if event["type"] == "batch.completed"
    }


def watch(
    provider: Simulator, folder: Path, batches: int, hanging: int
) -> tuple[list[float], float]:
    """Delays of the healthy channel in milliseconds, and seconds from SIGTERM to the end."""
    folder.mkdir()
    state, config = folder / "watcher.db", folder / "config.toml"
    where = ["--config", str(config), "--state", str(state)]
    with sink() as healthy, pit() as port:
        configure(config, provider.env["OPENAI_BASE_URL"], healthy.server_port, hanging, port)
        with daemon(provider.env, config, state) as process:
            for _ in range(batches):
                created = json.dumps(provider.create("completed"))
                command(["add", "-", "--account", "openai", *where], provider.env, created)
                time.sleep(PAUSE)
            until(lambda: len(detections(provider.env, where)) >= batches, "the end of every batch")
            seen = detections(provider.env, where)
            until(lambda: all(map(healthy.arrival, seen)), "every message at the healthy channel")
            stopping = stop(process)
        arrivals = {event: healthy.arrival(event) for event in seen}
    delays = [(at - seen[event]) * 1_000 for event, at in arrivals.items() if at is not None]
    return delays, stopping


def stop(process: subprocess.Popen[bytes]) -> float:
    """Ask it to end; how many seconds it took. RuntimeError if it did not end well."""
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    if process.wait(PATIENCE):
        raise RuntimeError(f"the daemon ended with {process.returncode}")
    return time.monotonic() - begun


def measure(batches: int, hanging: int) -> list[Figure]:
    """The same stream without and with channels that hang."""
    found = []
    with (
        tempfile.TemporaryDirectory() as folder,
        simulator(environment(Path(folder) / "home"), SPEED) as provider,
    ):
        for count in (0, hanging):
            delays, stopping = watch(provider, Path(folder) / str(count), batches, count)
            among = f"{count} hanging channels" if count else "alone"
            found += [
                Figure(
                    f"delay of the healthy channel, {among}: median",
                    statistics.median(delays),
                    "ms",
                ),
                Figure(f"delay of the healthy channel, {among}: longest", max(delays), "ms"),
                Figure(f"from SIGTERM to the end, {among}", stopping, "s"),
            ]
    return found


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=30)
    parser.add_argument("--hanging", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="one document instead of a table")
    options = parser.parse_args()
    found = measure(options.batches, options.hanging)
    show(f"{options.batches} batches that complete", found, [], as_json=options.json)


if __name__ == "__main__":
    main()
