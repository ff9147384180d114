"""The databases of the conformance suite, for every test of this folder."""

from tests.store.databases import books, database, empty

__all__ = ["books", "database", "empty"]
