"""Chance that repeats: the same words, the same numbers, on every machine."""

from random import Random


def chance(*words: object) -> Random:
    """A generator seeded by these words."""
    # Nothing here guards a secret.
    return Random("/".join(map(str, words)))
