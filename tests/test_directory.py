"""Which account an id belongs to, from names alone."""

from __future__ import annotations

import pytest

from watcher.directory import Directory
from watcher.errors import UsageError

SURE = "batch_0e5eeca4214a4f0a0117bf9aa22f2785"
UUID = "ccbe72c3-09ae-41a3-9e34-d549de1097df"
TWO = Directory({"openai": "openai", "co": "cohere"}, ("team",))
ONE = Directory({"work": "openai"})


@pytest.mark.parametrize(
    ("directory", "text", "known", "account", "meant"),
    [
        # Said in full.
        (TWO, f"co/{UUID}", [], None, ("co", UUID)),
        (TWO, UUID, [], "co", ("co", UUID)),
        (TWO, f"co/{UUID}", [], "co", ("co", UUID)),
        # The only account.
        (ONE, "anything", [], None, ("work", "anything")),
        # Known already.
        (TWO, UUID, ["co"], None, ("co", UUID)),
        # Known of an account that is gone, and of one that is there.
        (TWO, UUID, ["gone", "co"], None, ("co", UUID)),
        # What is known wins over its form, and a server of one's own gives any.
        (Directory({"co": "cohere"}), SURE, ["co"], None, ("co", SURE)),
        (Directory({"own": "openai-compatible"}), SURE, [], None, ("own", SURE)),
        # Told by its form.
        (TWO, SURE, [], None, ("openai", SURE)),
        # Without any account what was registered is found all the same.
        (Directory(), UUID, ["gone"], None, ("gone", UUID)),
    ],
)
def test_the_account_that_is_meant_is_found(
    directory: Directory, text: str, known: list[str], account: str | None, meant: tuple[str, str]
) -> None:
    assert directory.resolve(text, known, account) == meant


@pytest.mark.parametrize(
    ("directory", "text", "known", "complaint"),
    [
        (TWO, UUID, [], f"say which: openai/{UUID}, co/{UUID}"),
        (TWO, UUID, ["openai", "co"], f"say which is meant: openai/{UUID}, co/{UUID}"),
        (TWO, "gone/batch_1", [], "no account is called 'gone': there is openai, co"),
        (ONE, "a/b", [], "no account is called 'a': there is work"),
        (ONE, "work/a/b", [], "'a/b' cannot be the id of a batch at OpenAI"),
        (ONE, "", [], "an id is empty"),
        (ONE, "work/", [], "the id after work/ is empty"),
        (ONE, "a\nb", [], "it holds a control character"),
        (ONE, "b" * 481, [], "more than 480 characters"),
        (Directory(), SURE, [], "looks like OpenAI's; no account has that provider"),
        (Directory({"co": "cohere"}), SURE, [], "no account has that provider: set OPENAI_API_KEY"),
        (Directory(), "batch_1", [], "set OPENAI_API_KEY or CEREBRAS_API_KEY or CO_API_KEY"),
    ],
)
def test_what_cannot_be_resolved_is_told(
    directory: Directory, text: str, known: list[str], complaint: str
) -> None:
    with pytest.raises(UsageError) as told:
        directory.resolve(text, known)

    assert complaint in str(told.value)


def test_two_accounts_of_one_provider_are_not_guessed_between() -> None:
    directory = Directory({"a": "openai", "b": "openai"})

    with pytest.raises(UsageError, match=f"say which: a/{SURE}, b/{SURE}"):
        directory.resolve(SURE)


def test_a_server_of_ones_own_may_give_ids_of_any_form() -> None:
    directory = Directory({"openai": "openai", "own": "openai-compatible"})

    with pytest.raises(UsageError, match="say which"):
        directory.resolve(SURE)


def test_names_that_a_daemon_wrote_are_read() -> None:
    names = {"accounts": [{"name": "a", "provider": "cohere", "more": 1}], "channels": ["team"]}

    assert Directory.of_names(names) == Directory({"a": "cohere"}, ("team",))
    assert Directory.of_names({}) == Directory()


def test_channels_are_held_to_those_there_are() -> None:
    TWO.check_channels(["team"])

    with pytest.raises(UsageError, match="no channel is called 'pager': there is team"):
        TWO.check_channels(["team", "pager"])
    with pytest.raises(UsageError, match="there is none"):
        ONE.check_channels(["team"])


@pytest.mark.parametrize("text", ["slack://TOKEN/b", "TOKEN", "a" * 41, "", "a\nb", "TOKEN:x"])
def test_what_could_be_a_secret_is_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as told:
        TWO.check_channels([text])

    assert str(told.value) == "that is no channel's name: there is team"
