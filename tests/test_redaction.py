"""A secret is struck out in whatever form it turns up; what is no secret stays as it is."""

from __future__ import annotations

import base64
import json
import string
import threading
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from watcher.redaction import STRUCK, Redactor, forms_of, looks_like_a_secret

KEY = "sk-proj-aBcD0123EfGh4567IjKl"
WORD = "p@ss/w+rd%\"'\\ü"
SECRETS = some.text(string.ascii_letters + string.digits + string.punctuation, min_size=6).filter(
    lambda secret: secret not in STRUCK
)
AROUND = some.text(max_size=40)
# Never part of a secret, so that nothing around one passes for more of it.
ANY = some.text(" \n…äöü", max_size=10)


def redactor_of(*secrets: str) -> Redactor:
    redactor = Redactor()
    for secret in secrets:
        redactor.add(secret)
    return redactor


def disguises(secret: str) -> dict[str, str]:
    raw = secret.encode()
    quoted = quote(secret, safe="")
    return {
        "plain": secret,
        "quoted": quoted,
        "quoted as a form": quote_plus(secret),
        "quoted twice": quote(quoted, safe=""),
        "JSON": json.dumps(secret)[1:-1],
        "JSON beyond ASCII": json.dumps(secret, ensure_ascii=False)[1:-1],
        "repr": repr(secret)[1:-1],
        "hexadecimal": raw.hex(),
        "HEXADECIMAL": raw.hex().upper(),
        "base64": base64.b64encode(raw).decode(),
        "base64 of URLs": base64.urlsafe_b64encode(raw).decode(),
    }


@given(secret=SECRETS, before=ANY, after=ANY)
@example(WORD, "", "")
def test_a_secret_is_struck_out_in_every_disguise(secret: str, before: str, after: str) -> None:
    secret = secret.strip()
    redactor = redactor_of(secret)
    left = {
        name: struck
        for name, form in disguises(secret).items()
        if form in (struck := redactor.strike(f"{before}{form}{after}"))
    }

    assert left == {}


@given(secret=SECRETS, before=some.binary(max_size=8), after=some.binary(max_size=8))
def test_a_secret_is_struck_out_of_the_base64_of_what_holds_it(
    secret: str, before: bytes, after: bytes
) -> None:
    whole = base64.b64encode(before + secret.encode() + after).decode()

    struck = redactor_of(secret).strike(whole)

    assert STRUCK in struck
    # At either end two characters may hold bits of the secret's neighbours as well.
    assert len(struck) - len(STRUCK) <= len(whole) - len(secret) * 8 // 6 + 3


def test_escapes_in_small_letters_are_known() -> None:
    redactor = redactor_of("abc/def+ghi")

    assert redactor.strike("abc%2fdef%2bghi") == STRUCK
    assert redactor.strike("abc%2Fdef%2Bghi") == STRUCK
    assert redactor.strike("abc%252fdef%252bghi") == STRUCK


@given(secrets=some.lists(SECRETS, max_size=5), text=AROUND, length=some.integers(0, 2_000))
def test_short_and_long_texts_are_struck_alike(secrets: list[str], text: str, length: int) -> None:
    redactor = redactor_of(*secrets)
    mixed = text.join(["", *secrets, ""])

    # None of the secrets holds a space.
    assert redactor.strike(mixed + " " * length) == redactor.strike(mixed) + " " * length


@given(secrets=some.lists(SECRETS, min_size=1, max_size=5), text=AROUND)
def test_no_secret_is_left_where_several_overlap(secrets: list[str], text: str) -> None:
    secrets = [secret.strip() for secret in secrets]
    struck = redactor_of(*secrets).strike("".join(secrets) + text)
    # What is put in its place may itself be part of one that looks so.
    pieces = struck.split(STRUCK)

    assert [secret for secret in secrets for piece in pieces if secret in piece] == []


@given(text=AROUND)
def test_a_text_without_a_secret_stays_as_it_is(text: str) -> None:
    assert redactor_of(KEY, WORD).strike(text) == text


@given(secret=some.text(max_size=30))
def test_no_form_is_shorter_than_six_characters(secret: str) -> None:
    assert [form for form in forms_of(secret) if len(form) < 6] == []


def test_a_short_text_is_no_secret_in_any_form() -> None:
    # Unquoted it would be "AB", and every such pair of letters would go.
    assert redactor_of("%41%42", "short").strike("ABACUS is short") == "ABACUS is short"


def test_two_secrets_that_overlap_leave_no_tail() -> None:
    assert redactor_of("abcdefgh", "efghijklmnop").strike("x abcdefghijklmnop y") == (
        f"x {STRUCK} y"
    )


def test_what_stands_for_a_secret_is_never_struck_out_of_itself() -> None:
    redactor = redactor_of("secret", KEY)

    assert redactor.strike(redactor.strike(KEY)) == STRUCK


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key: sk-proj-aBcD…",
        "Incorrect API key: sk-proj-aBcD0123",
        "Incorrect API key: sk-proj-aBcD0***4567",
        "Incorrect API key: sk-proj-aBcDxxxxxxxxxx",
        "key=sk-proj-aBcD0123EfGh...",
    ],
)
def test_the_beginning_of_a_long_key_is_struck_out_where_it_stands_alone(text: str) -> None:
    assert "aBcD" not in redactor_of(KEY).strike(text)


@pytest.mark.parametrize(
    "text",
    [
        "sk-proj-ab is another",
        # Another key that begins alike, and a word that ends with it.
        "sk-proj-aBcDefghijklmnop",
        "task-proj-aBcD…",
    ],
)
def test_what_only_begins_like_a_key_stays(text: str) -> None:
    assert redactor_of(KEY).strike(text) == text


def test_beginnings_of_short_secrets_words_and_addresses_stay() -> None:
    redactor = redactor_of(
        "abcdefgh0123456789", "nightly-batch-watcher-2", "https://hooks.example.com/T0123456789"
    )
    texts = ["abcdefgh0123…", "nightly-batch done", "https://hooks.example.com refused"]

    assert [redactor.strike(text) for text in texts] == texts


def test_threads_that_add_at_once_lose_no_secret() -> None:
    redactor = Redactor()
    secrets = [[f"secret-{thread}-{number:04}" for number in range(40)] for thread in range(6)]
    start = threading.Barrier(len(secrets))

    def add(each: list[str]) -> None:
        start.wait(10)
        for secret in each:
            redactor.add(secret)
            redactor.strike("anything at all")

    threads = [threading.Thread(target=add, args=(each,)) for each in secrets[:2]]
    threads += [
        threading.Thread(target=lambda each=each: (start.wait(10), [*map(redactor.add, each)]))
        for each in secrets[2:]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    left = [each for some_of in secrets for each in some_of if redactor.strike(each) != STRUCK]

    assert left == []


def test_a_redactor_shows_no_secret() -> None:
    assert repr(redactor_of(KEY)) == "<Redactor of 1 secrets>"


@pytest.mark.parametrize(
    "text",
    [
        "gsk_Qm9vYmFyQmF6",
        "xoxb_1234567890",
        "xoxb-1234567890-abc",
        "sk-proj-abcdef",
        "sk-0123456789abcdef",
        "eyJhbGciOiJIUzI1NiJ9.e30.c2ln",
        "AKIAIOSFODNN7EXAMPLE",
        "d41d8cd98f00b204e980",
        "token/aB3dE5fG7hI9jK1l",
    ],
)
def test_a_credential_looks_like_one(text: str) -> None:
    assert looks_like_a_secret(text)


@pytest.mark.parametrize(
    "text",
    [
        "OPENAI_API_KEY",
        "openai-production-2",
        "hf-inference",
        "xai-production",
        "sk-telecom",
        "max_concurrency",
        "SERVICEACCOUNTKEY1",
        "nightly-evals-2026-11",
    ],
)
def test_a_name_does_not_look_like_a_credential(text: str) -> None:
    assert not looks_like_a_secret(text)
