"""A working directory that somebody else has filled steers nothing and runs nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.channels.servers import Service, http_service
from tests.cli.bench import World, call, world

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def simulated() -> Iterator[World]:
    with world() as one:
        yield one


@pytest.fixture
def stranger() -> Iterator[Service]:
    """A host that must never hear anything."""
    with http_service() as one:
        yield one


PLANTED_MODULES = (
    "watcher apprise httpx aiohttp anyio click pydantic structlog requests apsw "
    "sitecustomize usercustomize"
).split()


@pytest.fixture
def hostile(tmp_path: Path, stranger: Service, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with everything in it that some program reads unasked."""
    folder = tmp_path / "cloned"
    settings = (
        f'[accounts.openai]\nprovider = "openai"\napi_key_env = "OPENAI_API_KEY"\n'
        f'base_url = "{stranger.url}/v1"\n[channels.evil]\nurl = "json://{stranger.address}/"\n'
        f'[heartbeat]\nurl = "{stranger.url}/"\n'
    )
    variables = f"OPENAI_BASE_URL={stranger.url}/v1\nWATCHER_CONFIG=config.toml\n"
    table = re.sub(r"(?m)^\[", "[tool.watcher.", settings)
    files = {
        **dict.fromkeys(("config.toml", "watcher.toml", ".watcher.toml"), settings),
        **dict.fromkeys((".watcher/config.toml", "watcher/config.toml"), settings),
        **dict.fromkeys((".config/watcher/config.toml", "etc/watcher/config.toml"), settings),
        **dict.fromkeys((".env", ".envrc", "watcher.env"), variables),
        "pyproject.toml": table,
        "setup.cfg": f"[watcher]\nbase_url = {stranger.url}\n",
        ".netrc": "default login x password sesame\n",
        **dict.fromkeys(("apprise.yml", "apprise", ".apprise.yml"), "urls: [json://x]\n"),
        **dict.fromkeys(("openai", "OPENAI_API_KEY", "team", "hook"), f"json://{stranger.address}"),
        "watcher.db": "not ours",
        **{f"{name}.py": PLANTED for name in (*PLANTED_MODULES, "plugins/evil", "evil")},
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)
    monkeypatch.chdir(folder)
    return folder


PLANTED = 'from pathlib import Path\nPath(__file__).with_suffix(".ran").write_text("")\n'


class Opened:
    """The files that this process opens below a folder, by an audit hook that stays for ever."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.paths: list[str] = []

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.folder is None or event not in {"open", "os.listdir", "os.scandir", "import"}:
            return
        given = arguments[1 if event == "import" else 0]
        if isinstance(given, str | bytes | os.PathLike):
            path = os.path.abspath(os.fsdecode(given))  # noqa: PTH100 - pathlib would call us again
            if path.startswith(self.folder):
                self.paths.append(path)


OPENED = Opened()
sys.addaudithook(OPENED)


@pytest.mark.parametrize(
    "words",
    [
        ["check"],
        ["ls", "--all"],
        ["status"],
        ["wait", "ID"],
        ["wait", "ID", "--notify", "URL"],
        ["add", "ID", "--quiet-if-ended"],
        ["run", "--once"],
    ],
    ids=" ".join,
)
def test_nothing_in_the_working_directory_is_opened(
    hostile: Path,
    simulated: World,
    service: Service,
    stranger: Service,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
) -> None:
    for name, value in simulated.variables.items():
        monkeypatch.setenv(name, value)
    known = {"ID": simulated.ended(), "URL": f"json://{service.address}/hook"}
    OPENED.folder = str(hostile)
    try:
        said = call(*(known.get(word, word) for word in words))
    finally:
        OPENED.folder = None
        opened, OPENED.paths = OPENED.paths, []

    assert said.code == (1 if words == ["status"] else 0), said.err
    assert opened == []
    assert stranger.received == []


def test_the_command_runs_nothing_that_was_planted_and_asks_only_the_users_provider(
    hostile: Path, simulated: World, stranger: Service
) -> None:
    program = Path(sys.executable).with_name("watcher")
    before = set(hostile.rglob("*"))
    commands = [["wait", simulated.ended()], ["ls", "--all"]]
    running = [
        subprocess.Popen(
            [program, *words],
            # A PYTHONPATH of the developer's may name the working directory.
            env={**os.environ, **simulated.variables, "PYTHONPATH": ""},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for words in commands
    ]
    said = [process.communicate(timeout=30)[0] for process in running]

    assert [process.returncode for process in running] == [0, 0], said
    assert set(hostile.rglob("*")) == before
    assert stranger.received == []


def test_apprise_loads_no_plugins_of_its_variables_or_of_the_home(
    tmp_path: Path, service: Service
) -> None:
    home = tmp_path / "home"
    text = "from apprise.decorators import notify\n@notify(on='evil')\ndef _(*_, **__): ...\n"
    places = [".apprise/plugins", ".config/apprise/plugins", "given"]
    for place in places:
        (home / place).mkdir(parents=True)
        (home / place / "evil.py").write_text(PLANTED + text)
    (home / ".apprise.yml").write_text(f"urls:\n  - json://{service.address}/of-the-home\n")
    program = (
        "import sys, pydantic; from watcher.notify import check_url\n"
        "try: check_url(pydantic.SecretStr('evil://x'))\n"
        "except Exception as error: print(error)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **os.environ,
            "HOME": str(home),
            "APPRISE_PLUGIN_PATH": str(home / "given"),
            "APPRISE_CONFIG_PATH": str(home / ".apprise.yml"),
            "APPRISE_URLS": f"json://{service.address}/of-the-variable",
            "APPRISE_STORAGE_PATH": str(home / "given"),
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert "evil://" in ended.stdout
    assert "no such service" in ended.stdout
    assert list(home.rglob("*.ran")) == []
    assert service.received == []


def test_the_image_the_unit_and_the_documents_start_the_command_not_the_module() -> None:
    """`python -m` looks for modules in the working directory first."""
    texts = [*ROOT.glob("docs/*.md"), *ROOT.glob("deploy/**/*"), ROOT / "README.md"]
    found = [
        path.name
        for path in texts
        if path.is_file() and re.search(r"-m watcher(?!\.simulator)\b", path.read_text())
    ]

    assert found == []
