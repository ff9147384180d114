"""A channel's URL: what is wrong with it, what in it is secret, and the service it opens."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import warnings
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, unquote

from pydantic import SecretStr

from watcher.errors import ConfigError
from watcher.notify.services import kind_of
from watcher.redaction import SHORTEST, Redactor
from watcher.text import clean_line

# Parameters that read local files, hide a failure, follow a redirect with a credential, or make
# Apprise repeat or choose what is ours to repeat and choose.
REFUSED = {
    "attach": "nothing is attached to messages",
    "attachment": "nothing is attached to messages",
    "keyfile": "it reads a local file",
    "optional": "it reports a failure as a success",
    "redirect": "redirects are never followed",
    "retry": "watcher repeats by itself",
    "store": "nothing is kept on disk",
    "subfile": "it reads a local file",
    "tag": "routes choose the channels",
    "tags": "routes choose the channels",
    "template": "it reads a local file",
    "wait": "watcher repeats by itself",
    "wkd": "it fetches keys from the mail's recipient's host",
}
PGP = re.compile(r"pgp\w*")
SCHEMA = re.compile(r"([A-Za-z0-9]{1,20})://")

_LOADING = threading.Lock()

# What a mail server refuses with is told at DEBUG alone. A logger of nobody's tree keeps that
# from all other services, whose DEBUG prints tokens; only who listens to a send hears it.
_MAIL = logging.Logger("apprise.mail", logging.DEBUG)  # noqa: LOG001
# Without any handler Python would print what it says.
_MAIL.addHandler(logging.NullHandler())

# Seconds between two bytes of an answer.
READ_TIMEOUT = 20.0
# A mail server may take as long to look through what it was given (RFC 5321 allows far more).
MAIL_TIMEOUT = 60.0

# Parts of a URL that are words of a service, not of its owner.
WORDS = {
    "channels",
    "hooks",
    "invoke",
    "manual",
    "markdown",
    "message",
    "notifications",
    "notify",
    "paths",
    "private",
    "public",
    "services",
    "triggers",
    "truncate",
    "webhook",
    "webhooks",
    "workflow",
    "workflows",
}
# A shorter word without a figure is a name, and striking it out would garble the log.
LONG_ENOUGH = 16


def check_url(url: SecretStr) -> str:
    """The service behind a URL, such as `slack`; ConfigError says what is wrong with it.

    The error never holds any part of the URL but its scheme. Sends nothing.
    """
    service = open_service(url)
    with refusing():
        return kind_of(service)


def open_service(url: SecretStr) -> Any:
    """A fresh object of Apprise's for a URL with one target; ConfigError when there is none."""
    text = url.get_secret_value().strip()
    found = SCHEMA.match(text)
    if not found:
        raise ConfigError("not a channel URL: it begins like slack:// or mailto://")
    scheme, apprise = found[1].lower(), load()
    with refusing(f"{scheme}://"):
        return _opened(apprise, scheme, text)


@contextlib.contextmanager
def refusing(what: str = "channel's") -> Iterator[None]:
    """Makes whatever Apprise raises over a URL a ConfigError without a word of that URL."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 - 183 plugins, none of which expects every text
        raise ConfigError(
            f"Apprise cannot use this {what} URL: it broke on it ({type(error).__name__})"
        ) from None


def _opened(apprise: Any, scheme: str, text: str) -> Any:
    # Stricter than Apprise, which would take each for a channel of its own.
    if len(apprise.utils.parse.parse_urls(text)) > 1:
        raise ConfigError("more than one URL: give each a channel of its own")
    if any(map(str.isspace, text)):
        raise ConfigError("a space in the URL: write it as %20")
    _refuse_parameters(apprise, text)
    redactor = Redactor()
    add_secrets(SecretStr(text), redactor)
    with _captured() as said:
        service = apprise.Apprise.instantiate(text, asset=_asset(apprise))
    if service is None:
        # The rest of what it says is the URL again.
        told = [line for line in said if not line.startswith(("Could not load", "Unparseable"))]
        why = clean_line(redactor.strike("; ".join(told)), 200) or "no such service, or incomplete"
        raise ConfigError(f"Apprise cannot use this {scheme}:// URL: {why}")
    # Asked of the service: Apprise takes for no whatever is not plainly yes, an empty word too.
    if not service.verify_certificate:
        raise ConfigError("take verify= out of the URL: certificates are always verified")
    if "rto=" not in text:
        # Apprise's 4 s call a slow answer a failure, and what was delivered is then sent again.
        service.socket_read_timeout = max(READ_TIMEOUT, service.socket_read_timeout)
    service.retry = 0
    service.wait = 0.0
    service.optional = False
    service.redirects = False
    # `emojis=yes` in the URL would turn a provider's :words: into pictures.
    service.interpret_emojis = None
    service.overflow_mode = apprise.OverflowMode.TRUNCATE
    if scheme in {"mailto", "mailtos"}:
        service.logger = _MAIL
        if "cto=" not in text:
            # Smtplib's only one: what is given up too soon is taken all the same, and sent again.
            service.socket_connect_timeout = max(MAIL_TIMEOUT, service.socket_connect_timeout)
    if len(service) != 1:
        raise ConfigError(f"this {scheme}:// URL has {len(service)} targets: a channel has one")
    return service


def load() -> Any:
    """Apprise, imported when it is first needed; then it blocks for 0.2 s to 1 s.

    An event loop must not be the first to need it: call this, or build a channel, before.
    """
    with _LOADING:
        # Apprise and one of its parts import modules that Python is about to drop.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import apprise
            import apprise.utils.parse
            from apprise.manager_plugins import NotificationManager

            # Else whoever parses the first URL reads all 183 plugins from disk.
            plugins: Any = NotificationManager
            plugins().load_modules()
            _give_mail_a_logger()
        # At DEBUG it prints tokens, and what it says is read from its results anyhow.
        logger = logging.getLogger("apprise")
        logger.setLevel(logging.WARNING)
        logger.propagate = False
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        # requests would send what ~/.netrc holds for a host to whoever answers as that host.
        os.environ["NETRC"] = os.devnull
        return apprise


def _give_mail_a_logger() -> None:
    with contextlib.suppress(ImportError):
        from apprise.plugins.email import smtp

        vars(smtp)["logger"] = _MAIL


def add_secrets(url: SecretStr, redactor: Redactor) -> None:
    """Strike out from now on whatever in the URL could be a secret."""
    text = url.get_secret_value().strip()
    rest = text.partition("://")[2]
    if not rest:
        # All of `syslog://` is the name of a service.
        return
    redactor.add(text)
    place, _, query = rest.partition("?")
    redactor.add(place)
    authority, *path = place.split("/")
    for secret in (*_of_authority(authority), *path, *_of_query(query)):
        for form in {secret, unquote(secret)}:
            if form.lower() not in WORDS:
                redactor.add(form)


def _of_authority(authority: str) -> Iterator[str]:
    userinfo, _, host = authority.rpartition("@")
    user, _, password = userinfo.partition(":")
    yield password
    if password:
        # As basic authentication sends it; the redactor knows its base64.
        yield f"{unquote(user)}:{unquote(password)}"
    # Some services keep a token where a host would stand, Telegram one with a colon.
    plain_host = "." in host or host.startswith("[")
    for part in (user, *(() if plain_host else (host, *host.split(":")))):
        if len(part) >= LONG_ENOUGH or any(map(str.isdigit, part)):
            yield part


def _of_query(query: str) -> Iterator[str]:
    for _, value in parse_qsl(query):
        yield value
        # A header such as `+Authorization=Bearer …`.
        yield from (word for word in value.split() if len(word) > SHORTEST)


def _refuse_parameters(apprise: Any, text: str) -> None:
    pairs = dict(parse_qsl(text.partition("?")[2], keep_blank_values=True))
    with _captured():
        # Apprise finds parameters where a plain reading of the URL would not.
        parsed = apprise.plugins.url_to_dict(text) or {}
    for name in (*pairs, *(parsed.get("qsd") or {})):
        word = name.strip().lower()
        if word in REFUSED:
            raise ConfigError(f"take {word}= out of the URL: {REFUSED[word]}")
        if PGP.fullmatch(word):
            raise ConfigError(f"take {word}= out of the URL: it reads a local file")


def _asset(apprise: Any) -> Any:
    return apprise.AppriseAsset(
        app_id="watcher",
        app_desc="watcher",
        app_url="",
        service_timeout=0,
        async_mode=False,
        http_redirects=False,
        default_service_retry=0,
        default_service_wait=0.0,
        interpret_escapes=False,
        allow_templates=False,
        pgp_autogen=False,
        pem_autogen=False,
        storage_mode="memory",
        # Else each message makes its reader fetch a picture from a third party.
        image_url_mask="",
        image_url_logo="",
        secure_logging=True,
    )


class _Ear(logging.Handler):
    def __init__(self, heard: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        self._heard.append(record.getMessage())


@contextlib.contextmanager
def _captured() -> Iterator[list[str]]:
    """What Apprise says meanwhile: of what it cannot use it tells only its log."""
    said: list[str] = []
    ear = _Ear(said)
    logger = logging.getLogger("apprise")
    logger.addHandler(ear)
    try:
        yield said
    finally:
        logger.removeHandler(ear)
