"""Strikes secrets out of text before anyone reads it; knows them, never shows them."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus, unquote

STRUCK = "[secret]"
# A shorter text is no credential, and striking it out would garble ordinary words.
SHORTEST = 6


class Redactor:
    """Holds every secret of the process in each form it may turn up in."""

    def __init__(self) -> None:
        self._forms: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Redactor of {len(self._forms)} forms>"

    def add(self, secret: str) -> None:
        """Strike this out from now on: plain, unquoted, URL-quoted, in JSON and in base64."""
        secret = secret.strip()
        if len(secret) < SHORTEST:
            return
        plain = {secret, unquote(secret)}
        forms = set(plain)
        for text in plain:
            raw = text.encode("utf-8", "replace")
            forms |= {
                quote(text, safe=""),
                quote(text),
                quote_plus(text),
                json.dumps(text)[1:-1],
                repr(text)[1:-1],
                base64.b64encode(raw).decode().rstrip("="),
                base64.urlsafe_b64encode(raw).decode().rstrip("="),
            }
        # The longest first: a form may hold another.
        self._forms = tuple(sorted(forms | set(self._forms), key=len, reverse=True))

    def strike(self, text: str) -> str:
        """The text without any known secret."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, STRUCK)
        return text
