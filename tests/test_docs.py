"""What the documents say is there: links, commands, options, quoted texts and the picture."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import click
import pytest

from watcher.cli import root
from watcher.cli.rehearsal import cast
from watcher.simulator.__main__ import main as simulator

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "deploy/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
PICTURE = ROOT / "docs/demo.svg"

every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)

FENCE = re.compile(r"^[ \t]*```(\w*)\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
# Where every machine of the kind has these.
SHARED_FOLDERS = {"bin", "dev", "etc", "opt", "run", "tmp", "usr", "var"}
ABSOLUTE = re.compile(r"(?<![\w.:/~$*)}>…-])/(\w+)/\w")


def prose(text: str) -> str:
    return FENCE.sub("", text)


@cache
def anchors(path: Path) -> set[str]:
    """The headings of a document as links name them."""
    found: list[str] = []
    for heading in HEADING.findall(prose(path.read_text())):
        plain = re.sub(r"[^\w\- ]", "", LINK.sub("", heading).lower()).replace(" ", "-")
        found.append(f"{plain}-{found.count(plain)}" if plain in found else plain)
    return set(found)


@every_document
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    broken = []
    for link in LINK.findall(prose(path.read_text())):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


def test_a_document_is_reached_from_the_readme() -> None:
    linked = {
        (ROOT / link.partition("#")[0]).resolve()
        for link in LINK.findall((ROOT / "README.md").read_text())
    }
    forgotten = [path.name for path in (ROOT / "docs").glob("*.md") if path not in linked]

    assert forgotten == []


def simple_commands(line: str) -> Iterator[list[str]]:
    """The commands of one line of shell, each without the variables set before it."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("();<>|&"):
            yield words
            words = []
        elif words or not re.match(r"\w+=", word):
            words.append(word)


def shown_commands(text: str) -> list[list[str]]:
    """What follows `watcher` wherever a document shows it being called."""
    lines = [
        line
        for language, block in FENCE.findall(text)
        if language == "sh"
        for line in block.replace("\\\n", " ").splitlines()
    ]
    lines += [
        span
        for span in SPAN.findall(prose(text))
        if re.match(r"(\w+=\S* )*(python -m )?(watcher|docker exec watcher)[ .]\w", span)
    ]
    shown = []
    for line in lines:
        for words in simple_commands(line):
            called = words[3:] if words[:2] == ["docker", "exec"] else words
            if called and called[0].rpartition("/")[2] == "watcher":
                shown.append(called[1:])
    return shown


def mistake(words: list[str]) -> str | None:
    """What the command line would not understand in these words, as far as they go."""
    command: click.Command = root
    rest = iter(words)
    for word in rest:
        if word.startswith("-") and word != "-":
            option, equals, value = word.partition("=")
            if option in {"-h", "--help"}:
                continue
            found = [one for one in command.params if option in one.opts]
            if not found:
                return f"{command.name} has no {option}"
            if isinstance(found[0], click.Option) and not found[0].is_flag:
                value = value if equals else next(rest, "")
                kind = found[0].type
                if isinstance(kind, click.Choice) and value and value not in kind.choices:
                    return f"{option} does not take {value}"
        elif isinstance(command, click.Group):
            found_command = command.get_command(click.Context(command), word)
            if found_command is None:
                return f"{command.name} has no command {word}"
            command = found_command
        elif not any(isinstance(one, click.Argument) for one in command.params):
            return f"{command.name} takes no argument {word}"
    return None


@every_document
def test_every_command_shown_exists_with_its_options(path: Path) -> None:
    mistakes = {
        shlex.join(words): found
        for words in shown_commands(path.read_text())
        if (found := mistake(words)) is not None
    }

    assert mistakes == {}


def test_the_documents_show_commands_at_all() -> None:
    shown = {words[0] for path in DOCUMENTS for words in shown_commands(path.read_text()) if words}

    assert shown >= {"demo", "wait", "check", "run", "add", "redeliver", "status", "backup"}


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("watcher wait batch_1 --allow-partial && echo done", None),
        ("KEY=1 .venv/bin/watcher --config x.toml add - # ids", None),
        ("watcher routes test --event batch.failed --outcome ok", None),
        ("watcher wiat batch_1", "root has no command wiat"),
        ("watcher wait --patience 3", "wait has no --patience"),
        ("watcher routes test --outcome well", "--outcome does not take well"),
        ("watcher run fast", "run takes no argument fast"),
    ],
)
def test_a_command_that_does_not_exist_would_be_found(line: str, wrong: str | None) -> None:
    (words,) = shown_commands(f"```sh\n{line}\n```\n")

    assert mistake(words) == wrong


@every_document
def test_the_simulator_understands_what_is_shown_of_it(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = []
    for shown in re.findall(r"python -m watcher\.simulator([^`\n]*)", path.read_text()):
        # With --help it says what it takes and ends, unless something before it is wrong.
        with pytest.raises(SystemExit) as ending:
            simulator([*shlex.split(shown), "--help"])
        if ending.value.code != 0:
            wrong.append(shown)
    capsys.readouterr()

    assert wrong == []


@every_document
def test_no_document_names_a_path_that_only_one_machine_has(path: Path) -> None:
    folders = set(ABSOLUTE.findall(path.read_text()))

    assert folders <= SHARED_FOLDERS


# What troubleshooting.md quotes of the program, as far as it stands in one piece in its source.
QUOTED = [
    "none: start watcher run",
    "nobody: start watcher run",
    "none: nobody is told anything",
    "no open batch (--all shows ended ones)",
    "told nobody: no channel was configured",
    "no route names it",
    "in no route: ",
    "taken by no route: ",
    "taken under conditions only: ",
    "of failures only: ",
    "of success only: ",
    "nobody: no route takes it",
    "that is no channel's name: ",
    "not told yet: ",
    "not told: ",
    " is a batch: ",
    "its events are ",
    " looks like ",
    "; no account has that provider",
    "registered with --quiet-if-ended, and had ended",
    "never found: wrong id, account, project or base URL?",
    "the provider no longer knows it",
    "every request is answered 404: wrong base URL, or no access to batches?",
    "every batch is answered 404, and the list is empty: another project's key, a wrong base URL, ",
    "or were they deleted?",
    "batches are answered 404 that the account's list shows: a proxy or a wrong base URL?",
    "no answer can be used: ",
    ": credential rejected: ",
    "; the key is from ",
    "the credential is not for this batch",
    "holds a space: ",
    "keep the bare key there, without Bearer or a name before it",
    " was not found",
    "connection refused",
    "cannot be reached",
    " is not trusted: ",
    ", and redirects are not followed",
    "the answer is not JSON: ",
    "base_url is http, so the credential would travel unencrypted",
    "paused until ",
    "failing since ",
    "takes no messages",
    "; it may have been delivered",
    " earlier sends still hang; nothing is sent until one ends",
    " is not set or empty: ",
    "set it and start watcher again",
    " targets: a channel has one",
    " undelivered: watcher deliveries --state ",
    "not configured: what waits for it is kept",
    "not configured: its batches are not watched",
    " is not configured: ",
    " not watched",
    " could belong to several accounts, say which: ",
    "several accounts have this id, say which is meant: ",
    "no account is called ",
    "there is no account; set ",
    ", and it is not configured here: ",
    " is registered: watcher add it first",
    " is held by another process; try again",
    "; free some, nothing was recorded",
    "use that version or a newer one",
    " once to bring it up to date",
    " is damaged; restore a copy of it, or move it away",
    " is not a state of watcher; name another file with --state",
    " is a database of another program; name another file with --state",
    "check its permissions or name another with --state",
    " is not writable; name another with --state",
    " is an empty file; restore a copy of it, or delete it to begin anew",
    "bring the file back, ",
    " was deleted or replaced while it was in use",
    "; name a local path with --state",
    "; name the file itself with --state",
    " is a link, and what is written through it might be another's; ",
    "others may enter ",
    ", who could read and change what is written ",
    "waiting for the state",
    " has written nothing for ",
    " cannot be read, written by a later version or damaged",
    " yet: register a batch first",
    "standing by for the daemon that watches this state",
    " watches this state with other accounts or channels; ",
    "stop it, or give this one a state of its own with --state",
    "nothing done: a daemon watches this state",
    "not reloaded: the old settings stay",
    "others may write to it: chmod go-w ",
    ", neither root nor you: chown ",
    "this version does not have it yet: remove it",
    "This is news of a batch that had already ended.",
    "counts not given",
    "paid results waiting",
    ", nor one of that name in ",
    "create it, or correct ",
    " (a systemd credential comes with a restart)",
    " cannot be read: ",
    ": others can read this secret: chmod 600 ",
    "our own fault, please report it: ",
]


@cache
def printed() -> str:
    """Every text in the program's source, with a blank where a value is put in."""
    texts = []
    for path in sorted((ROOT / "watcher").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def test_what_troubleshooting_quotes_is_what_the_program_prints() -> None:
    page = (ROOT / "docs/troubleshooting.md").read_text()
    # The page leaves out the marks that would end its own code spans.
    source = printed().replace("`", "")
    misquoted = [text for text in QUOTED if text not in source]
    unquoted = [text for text in QUOTED if text.strip() not in page]

    assert (misquoted, unquoted) == ([], [])


def test_the_index_of_troubleshooting_leads_to_what_it_names() -> None:
    page = (ROOT / "docs/troubleshooting.md").read_text()
    index, *sections = re.split(r"^## ", page, flags=re.MULTILINE)
    rows = re.findall(r"^\| (.*) \| \[(.*)\]\(#[^)]*\) \|$", index, re.MULTILINE)
    by_title = dict(section.split("\n", 1) for section in sections)
    astray = [
        (text, title)
        for texts, title in rows
        for text in SPAN.findall(texts)
        if text.strip(" …") not in title + by_title[title]
    ]
    unnamed = set(by_title) - {title for _, title in rows}

    assert astray == []
    # No text of the program leads to these.
    assert unnamed == {"The clock jumps", "A message comes twice"}


def picture_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("picture", ROOT / "docs/picture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_is_of_the_demo_as_it_is() -> None:
    drawing = ET.fromstring(PICTURE.read_text())  # noqa: S314 - our own file
    words = "".join(drawing.itertext()).replace("\N{NO-BREAK SPACE}", " ")
    names = [name for _, name, _ in cast()]

    assert [name for name in names if name not in words] == []


def test_what_the_picture_shows_is_in_the_demo() -> None:
    names = {name for _, name, _ in cast()}

    assert set(picture_script().SHOWN) <= names


def test_the_picture_fetches_nothing_and_names_no_host() -> None:
    text = PICTURE.read_text()
    hosts = set(re.findall(r"\b\w+://([^/\"'\s]+)", text))
    outside = re.findall(r"url\((?!#)|@import|@font-face|href=|<image|<script", text)

    # The namespace every SVG has.
    assert hosts == {"www.w3.org"}
    assert outside == []
