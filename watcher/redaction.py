"""Strikes secrets out of text before anyone reads it; knows them, never shows them."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from urllib.parse import quote, quote_plus, unquote

STRUCK = "[secret]"
# A shorter text is no credential, and striking it out would garble ordinary words.
SHORTEST = 6
# Of a secret of so many characters a beginning is struck out as well, if it is no shorter than
# this and stands alone: providers show `sk-proj-abcd…` of a key they refuse.
LONG = 20
BEGINNING = 12

_TOKEN = re.compile(r"[A-Za-z0-9_.+=~-]+")
_ESCAPED = re.compile(r"%[0-9A-F]{2}")
# How keys of providers, code hosts and chat services begin, and signed tokens; what follows is
# long or has a figure or a capital, else it is somebody's name.
_KNOWN = re.compile(
    r"eyJ[A-Za-z0-9_-]{8}|AKIA[A-Z0-9]{12}|AIza[A-Za-z0-9_-]{12}|sk-(?:admin|ant|proj|svcacct)-"
    r"|(?:c?sk[-_]|xox[a-z]{1,2}[-_]|xapp-|glpat-|gsk_|gh[a-z]_|github_pat_|hf_)"
    r"(?=[A-Za-z0-9_-]*[A-Z0-9]|[A-Za-z0-9_-]{16})[A-Za-z0-9_-]{8}"
)
_RUN = re.compile(r"[A-Za-z0-9]{16,}")
# A run of one case is a longer name more often than one of both.
_LONG_RUN = 20


def looks_like_a_secret(text: str) -> bool:
    """Whether a text that should be a name may be a credential that someone put there instead.

    It begins like a known kind of key, or holds a long run of letters mixed with digits.
    """
    return begins_like_a_key(text) or any(
        _is_mixed(run) and (len(run) >= _LONG_RUN or (run.lower() != run and run.upper() != run))
        for run in _RUN.findall(text)
    )


def begins_like_a_key(text: str) -> bool:
    """Whether a text begins like a known kind of key; no batch's id and no name does."""
    return _KNOWN.match(text) is not None


def mixes_letters_and_digits(text: str) -> bool:
    """Whether a text of 16 characters or more holds letters and digits both, as tokens do."""
    return len(text) >= 16 and _is_mixed(text)


def secrets_of_address(url: str) -> Iterator[str]:
    """What of a secret http address may turn up by itself: its path, the tokens in that, a login.

    Never its host: errors name it.
    """
    _, slash, target = url.partition("://")[2].partition("/")
    yield url
    yield slash + target
    yield from filter(mixes_letters_and_digits, re.split(r"[/?&=#]", target))
    yield from login_of_address(url)


def login_of_address(url: str) -> Iterator[str]:
    """The password of an address, and user and password as basic authentication sends them."""
    userinfo, at, _ = url.partition("://")[2].partition("/")[0].rpartition("@")
    user, _, password = userinfo.partition(":")
    if at:
        yield userinfo
    if password:
        yield unquote(password)
        yield f"{unquote(user)}:{unquote(password)}"
    elif mixes_letters_and_digits(user):
        yield user


def _is_mixed(text: str) -> bool:
    return any(map(str.isdigit, text)) and any(map(str.isalpha, text))


class Redactor:
    """Holds every secret of the process in each form it may turn up in; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._secrets: frozenset[str] = frozenset()
        # Built by the first `strike` after an `add`: at the start there are many in a row.
        self._known: _Known | None = None

    def __repr__(self) -> str:
        return f"<Redactor of {len(self._secrets)} secrets>"

    def add(self, *secrets: str) -> None:
        """Strike these out from now on, in every form that `forms_of` names.

        A token of 20 characters or more is also struck out where only its beginning is shown.
        """
        given = {secret.strip() for secret in secrets}
        # What stands for a secret is none, and would be struck out of itself.
        new = {one for one in given if len(one) >= SHORTEST and one not in STRUCK} - self._secrets
        if new:
            with self._lock:
                self._secrets |= new
                self._known = None

    def strike(self, text: str) -> str:
        """The text without any known secret."""
        if len(text) < SHORTEST or not self._secrets:
            return text
        known = self._known
        if known is None:
            with self._lock:
                known = self._known = self._known or _Known.of(self._secrets)
        return known.struck(text)


def forms_of(secret: str) -> set[str]:
    """A secret as it may turn up, none shorter than 6 characters.

    Plain, unquoted, URL-quoted once and twice with escapes in either case, in JSON, as `repr`
    shows it, in hexadecimal, and in base64 at each of the three places it may begin there.
    """
    forms: set[str] = set()
    for text in {secret, unquote(secret)}:
        if len(text) < SHORTEST:
            continue
        raw = text.encode("utf-8", "replace")
        once = {text, quote(text, safe=""), quote(text), quote_plus(text)}
        once |= {_with_small_escapes(form) for form in once - {text}}
        twice = {form for each in once for form in (quote(each, safe=""), quote(each))}
        in_json = {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
        forms |= once | twice
        forms |= in_json | {form.replace("/", "\\/") for form in in_json} | {repr(text)[1:-1]}
        forms |= {raw.hex(), raw.hex().upper(), *_in_base64(raw)}
    return {form for form in forms if len(form.strip()) >= SHORTEST}


def _with_small_escapes(text: str) -> str:
    return _ESCAPED.sub(lambda found: found[0].lower(), text)


def _in_base64(raw: bytes) -> Iterator[str]:
    """What of the base64 of any text around `raw` is sure: at its ends neighbours mix in."""
    whole = base64.b64encode(raw).decode().rstrip("=")
    sure = [whole]
    for before in range(3):
        # Six bits a character: the first ones hold bits of what stands before.
        first, last = (before * 8 + 5) // 6, (before + len(raw)) * 8 // 6
        sure.append(base64.b64encode(b"\0" * before + raw).decode()[first:last])
    for text in sure:
        yield text
        yield text.replace("+", "-").replace("/", "_")


@dataclass(frozen=True, slots=True, repr=False)
class _Known:
    """All forms of all secrets, found by the first characters of each; shows none of them."""

    # Any of the heads: one pass over a text finds where a form may begin.
    heads: re.Pattern[str]
    # By head: the forms that begin so, the longest first, since one may hold another.
    forms: dict[str, tuple[str, ...]]
    # By head: the tokens whose beginning is struck out as well.
    tokens: dict[str, tuple[str, ...]]
    # One of these is in any text that holds a secret.
    needles: tuple[str, ...]

    @classmethod
    def of(cls, secrets: Iterable[str]) -> _Known:
        forms: dict[str, set[str]] = defaultdict(set)
        tokens: dict[str, set[str]] = defaultdict(set)
        for secret in secrets:
            for form in forms_of(secret):
                forms[form[:SHORTEST]].add(form)
            if len(secret) >= LONG and _TOKEN.fullmatch(secret) and _is_mixed(secret):
                tokens[secret[:SHORTEST]].add(secret)
        beginnings = {token[:BEGINNING] for token in chain.from_iterable(tokens.values())}
        return cls(
            re.compile(_alternation(sorted(forms))),
            {head: tuple(sorted(each, key=len, reverse=True)) for head, each in forms.items()},
            {head: tuple(each) for head, each in tokens.items()},
            tuple(_without_continuations(chain(beginnings, *forms.values()))),
        )

    def struck(self, text: str) -> str:
        heads = self.heads
        if len(text) > len(self.forms):
            # A search for each is faster in a long text, and lets other threads run in between.
            there = {needle[:SHORTEST] for needle in self.needles if needle in text}
            if not there:
                return text
            heads = re.compile(_alternation(sorted(there)))
        pieces: list[str] = []
        done = at = 0
        while found := heads.search(text, at):
            start, at = found.start(), found.start() + 1
            end = self._end(text, start)
            if end == start:
                continue
            # Another may begin within this one and reach beyond it.
            while (found := heads.search(text, at)) and found.start() < end:
                end, at = max(end, self._end(text, found.start())), found.start() + 1
            pieces += (text[done:start], STRUCK)
            done = at = end
        return "".join((*pieces, text[done:])) if pieces else text

    def _end(self, text: str, start: int) -> int:
        """Where the secret that begins here ends; `start` if none does."""
        head = text[start : start + SHORTEST]
        for form in self.forms[head]:
            if text.startswith(form, start):
                return start + len(form)
        ends = (_end_of_beginning(token, text, start) for token in self.tokens.get(head, ()))
        return max(ends, default=start)


def _without_continuations(texts: Iterable[str]) -> Iterator[str]:
    """The texts that do not begin with another of them."""
    last = ""
    for text in sorted(texts):
        if not last or not text.startswith(last):
            last = text
            yield text


def _end_of_beginning(token: str, text: str, start: int) -> int:
    """Where the beginning of a token that stands alone here ends; `start` if none does."""
    if not text.startswith(token[:BEGINNING], start) or (start and text[start - 1].isalnum()):
        return start
    length = BEGINNING
    while text[start + length : start + length + 1] == token[length]:
        length += 1
    after = text[start + length : start + length + 3]
    # Some fill up what they leave out with crosses.
    alone = not after[:1].isalnum() or after in {"xxx", "XXX"}
    # A word that ends where a word of the token ends may be that word and nothing else.
    is_part = token[length].isalnum() or _is_mixed(token[:length])
    return start + length if alone and is_part else start


def _alternation(heads: list[str]) -> str:
    """Any of these texts of one length, sorted, as a pattern that branches by the character.

    A flat alternation would try hundreds of them at each place of a text.
    """
    if len(heads) == 1:
        return re.escape(heads[0])
    branches: dict[str, list[str]] = defaultdict(list)
    for head in heads:
        branches[head[:1]].append(head[1:])
    if set(branches) == {""}:
        return ""
    parts = [re.escape(first) + _alternation(rest) for first, rest in branches.items()]
    return parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"
