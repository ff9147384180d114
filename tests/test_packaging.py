"""What is installed, built and started: pins, package data, image and unit, read as files."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME = ROOT / "deploy/requirements.txt"
BUILD = ROOT / "deploy/requirements-build.txt"
EVERYTHING = ROOT / ".ci/requirements.txt"
AUDIT = ROOT / ".ci/requirements-audit.txt"
# How long a daemon that was asked to stop may take, in seconds (contract of `watcher run`).
GRACE = 20


def pins(path: Path) -> dict[str, tuple[Version, int]]:
    """Each requirement of a file: its version, and how many hashes it may have."""
    found: dict[str, tuple[Version, int]] = {}
    for entry in re.split(r"\n(?=\S)", path.read_text()):
        if entry.startswith("#"):
            continue
        requirement = Requirement(entry.partition("\\")[0])
        (pin,) = requirement.specifier
        assert pin.operator == "==", entry
        hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)
        found[canonicalize_name(requirement.name)] = (Version(pin.version), len(hashes))
    return found


@pytest.mark.parametrize(
    "path",
    [RUNTIME, BUILD, EVERYTHING, AUDIT],
    ids=["runtime", "build", "everything", "audit"],
)
def test_every_pin_has_hashes_and_no_file_names_a_place(path: Path) -> None:
    found = pins(path)

    assert found
    assert [name for name, (_, hashes) in found.items() if not hashes] == []
    assert re.findall(r"https?:|file:|index-url|find-links|(?m:^-)|@ ", path.read_text()) == []


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        (RUNTIME, PROJECT["project"]["dependencies"]),
        (BUILD, PROJECT["build-system"]["requires"]),
        (
            EVERYTHING,
            PROJECT["project"]["dependencies"]
            + PROJECT["project"]["optional-dependencies"]["dev"]
            + PROJECT["build-system"]["requires"],
        ),
    ],
    ids=["runtime", "build", "everything"],
)
def test_the_pins_are_what_the_project_asks_for(path: Path, wanted: list[str]) -> None:
    found = pins(path)
    unmet = [
        text
        for text in wanted
        if (requirement := Requirement(text)).name not in found
        or found[requirement.name][0] not in requirement.specifier
    ]

    assert unmet == []


def test_the_checks_run_on_what_is_shipped() -> None:
    tested = pins(EVERYTHING)
    shipped = pins(RUNTIME) | pins(BUILD)

    assert {name: tested.get(name) for name in shipped} == shipped


def test_the_licence_is_the_one_the_metadata_names() -> None:
    text = (ROOT / "LICENSE").read_text()

    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert text.count("\n") == 202


def dockerfile() -> list[tuple[str, str]]:
    """Instructions of the image in order, each with its argument on one line."""
    text = (ROOT / "deploy/docker/Dockerfile").read_text()
    lines = re.sub(r"(?m)^#.*\n", "", text).replace("\\\n", " ").splitlines()
    return [
        (instruction, " ".join(argument.split()))
        for instruction, _, argument in (line.partition(" ") for line in lines if line)
    ]


def last_stage() -> dict[str, str]:
    """The last instruction of each kind in the stage that is shipped."""
    instructions = dockerfile()
    start = max(at for at, (instruction, _) in enumerate(instructions) if instruction == "FROM")
    return dict(instructions[start:])


def test_the_image_runs_the_daemon_as_an_ordinary_user_of_a_fixed_number() -> None:
    stage = last_stage()

    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", stage["USER"])
    assert json.loads(stage["ENTRYPOINT"]) == ["watcher"]
    assert json.loads(stage["CMD"]) == ["run"]
    assert stage["STOPSIGNAL"] == "SIGTERM"


def test_the_image_keeps_the_state_in_a_volume_and_tells_whether_it_is_well() -> None:
    stage = last_stage()
    options, _, command = stage["HEALTHCHECK"].partition(" CMD ")

    assert json.loads(command) == ["watcher", "health"]
    assert "--timeout=" in options
    assert f"STATE_DIRECTORY={stage['VOLUME']}" in stage["ENV"]


def test_nothing_enters_the_image_without_a_hash_but_the_program_itself() -> None:
    commands = " && ".join(text for instruction, text in dockerfile() if instruction == "RUN")
    installs = [part for part in commands.split(" && ") if re.search(r"pip (install|wheel)", part)]
    loose = [part for part in installs if not re.search("--require-hashes|--no-deps", part)]

    assert len(installs) == 4
    assert loose == []
    assert "ADD" not in dict(dockerfile())


@pytest.mark.parametrize("script", ["run", "audit"])
def test_nothing_enters_ci_without_a_hash_but_the_program_itself(script: str) -> None:
    text = (ROOT / ".ci" / script).read_text()
    installs = re.findall(r"pip\"? install.*", text)

    assert installs
    assert [line for line in installs if not re.search("--require-hashes|--no-deps", line)] == []


def test_the_audit_looks_at_every_file_of_pins_that_is_installed() -> None:
    text = (ROOT / ".ci/audit").read_text()

    assert [
        path for path in (RUNTIME, BUILD, EVERYTHING) if f"{path.relative_to(ROOT)}" not in text
    ] == []


def test_the_builder_gets_what_the_image_copies_and_no_more() -> None:
    ignored = (ROOT / "deploy/docker/Dockerfile.dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in ignored if line.startswith("!")]
    copied = [
        source
        for instruction, argument in dockerfile()
        if instruction == "COPY" and not argument.startswith("--from")
        for source in argument.split()[:-1]
    ]

    assert "*" in ignored
    assert sorted(copied) == sorted(allowed)
    assert [source for source in copied if not (ROOT / source).exists()] == []


def unit() -> configparser.ConfigParser:
    """The unit as systemd reads it, but for the last of a repeated key."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(ROOT / "deploy/systemd/watcher.service")
    return parser


def test_the_unit_starts_the_daemon_and_leaves_it_time_to_stop() -> None:
    service = unit()["Service"]

    assert fnmatch(service["ExecStart"], "/*/bin/watcher run")
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert int(service["TimeoutStopSec"].removesuffix("s")) > GRACE


def test_the_unit_restarts_after_a_crash_but_not_after_a_wrong_configuration() -> None:
    service = unit()["Service"]

    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"] == "2"


def test_the_unit_gives_the_daemon_a_user_and_a_state_of_its_own() -> None:
    service = unit()["Service"]

    assert service["DynamicUser"] == "yes"
    assert service["StateDirectory"] == service["ConfigurationDirectory"] == "watcher"
