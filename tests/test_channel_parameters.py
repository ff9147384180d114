"""What the parameters of a channel's URL may do: read no file, run nothing, hide nothing."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from watcher.errors import ConfigError
from watcher.notify import check_url, load
from watcher.notify.address import PGP, REFUSED

TOKEN = "s3cr3t-t0ken-abcdef"
HOOK = "https://discord.com/api/webhooks/4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js"
# Every parameter of every service of Apprise that was looked at, and is harmless or refused.
KNOWN = frozenset((Path(__file__).parent / "channels/parameters.txt").read_text().split())

# Those whose name could be a file's or a program's and that are allowed all the same.
HARMLESS = {
    "autoverify": "of other devices, by Matrix; of certificates see `verify`",
    "attach-as": "what a form calls a file; none is attached",
    "file_url": "an address that the service fetches",
    "filename": "what ntfy calls what is attached; nothing is",
    "path": "of the service's own address",
    "profile": "the number of an account",
}
# Words of files, of running something, and of leaving checks out.
SUSPICIOUS = re.compile(
    r"file|path|template|attach|include|import|plugin|config|exec|command|script|program|pem|cert"
    r"|pgp|gpg|wkd|verify|redirect|store|cache_dir|ssl|tls|insecure"
)


def plugins() -> Any:
    load()
    from apprise.manager_plugins import NotificationManager

    manager: Any = NotificationManager
    return list(manager().plugins(include_disabled=True))


def parameters() -> set[str]:
    return {str(name).lower() for plugin in plugins() for name in plugin.template_args}


def test_every_parameter_that_apprise_knows_was_looked_at() -> None:
    """A new one fails this test until someone has seen what it does: refuse it, or list it.

    Look for `AppriseAttachment`, `open(`, `subprocess` and paths where its service uses it.
    """
    found = parameters()

    assert len(found) > 200
    assert sorted(found - KNOWN) == []


def test_whatever_sounds_like_a_file_or_a_program_is_refused_or_argued_for() -> None:
    suspects = {name for name in parameters() if SUSPICIOUS.search(name)}
    refused = {name for name in suspects if name in REFUSED or PGP.fullmatch(name)}

    assert sorted(suspects - refused - set(HARMLESS) - {"verify"}) == []
    assert {"template", "keyfile", "subfile", "attach", "pgppub", "pgpprv", "wkd"} <= refused


def test_services_that_take_a_file_are_built_of_nothing_but_refused_parameters() -> None:
    """Apprise's own source says which services open files that a URL names."""
    import apprise.plugins

    folder = Path(apprise.plugins.__file__).parent
    opening = re.compile(r"self\.(\w+) = (?:_?\w+\.)?AppriseAttachment\(")
    named = {
        name.strip("_")
        for path in folder.rglob("*.py")
        for name in opening.findall(path.read_text(encoding="utf-8"))
    }

    assert named
    assert sorted(named - set(REFUSED)) == []


@pytest.mark.parametrize("name", sorted({*REFUSED, "pgp", "pgppub", "pgpprv", "verify"}))
def test_a_refused_parameter_is_refused_in_every_spelling_and_named(name: str) -> None:
    value = "no" if name == "verify" else "/etc/passwd"
    escaped = f"%{ord(name[0]):02x}{name[1:]}"
    spellings = [
        f"{name}={value}",
        f"{name.upper()}={value}",
        f"{escaped}={value}",
        f"%20{name}%20={value}",
        f"a=b&{name}={value}",
        f"a=b;{name}={value}",
        f"{name}={value}&{name}=",
        f"{name}=yes&{name}={value}",
    ]
    urls = [f"json://localhost/{TOKEN}?{each}" for each in spellings]
    urls += [f"{HOOK}?{name}={value}", f"{HOOK}/?a=b&{name.title()}={value}"]
    for url in urls:
        with pytest.raises(ConfigError) as raised:
            check_url(SecretStr(url))

        assert str(raised.value).startswith(f"take {name}= out of the URL: "), url
        assert TOKEN not in str(raised.value)
        assert "/etc/passwd" not in str(raised.value)


@pytest.mark.parametrize("value", ["", "f", "nope", "Denied", "disable", "-", "0x0", "whatever"])
def test_no_word_turns_the_verification_of_certificates_off(value: str) -> None:
    with pytest.raises(ConfigError, match=r"^take verify= out of the URL"):
        check_url(SecretStr(f"jsons://localhost/{TOKEN}?verify={value}"))


@pytest.mark.parametrize("prefix", ["%2B", "-", ":"])
def test_a_prefixed_parameter_is_a_header_or_a_field_and_opens_nothing(prefix: str) -> None:
    opened: list[str] = []
    secret = Path(os.environ["HOME"]) / "secret"
    secret.write_text(TOKEN)
    watch = Watch(str(secret), opened)
    for name in sorted(REFUSED):
        check_url(SecretStr(f"json://localhost/?{prefix}{name}={secret}"))
        check_url(SecretStr(f"discord://4174216298/{'j' * 30}?{prefix}{name}={secret}"))
    watch.path = None

    assert opened == []


class Watch:
    """Notes each time that this process opens a file, by an audit hook that stays for ever."""

    def __init__(self, path: str, opened: list[str]) -> None:
        self.path: str | None = path
        self._opened = opened
        import sys

        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and arguments[0] == self.path and self.path is not None:
            self._opened.append(self.path)


def test_a_service_that_runs_a_program_runs_one_of_fixed_places() -> None:
    """The only one is macOS's notifier; that its arguments stay arguments is Apprise's part."""
    import apprise.plugins
    from apprise.plugins.macosx import NotifyMacOSX

    folder = Path(apprise.plugins.__file__).parent
    running = re.compile(r"(?m)^\s*(?:import|from) subprocess|os\.(?:system|popen|spawn|exec)")
    found = [
        path.name
        for path in folder.rglob("*.py")
        if running.search(path.read_text(encoding="utf-8"))
    ]

    assert found == ["macosx.py"]
    assert all(path.startswith("/") for path in NotifyMacOSX.notify_paths)
