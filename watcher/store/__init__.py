"""The state: a database, its schema, and the ledger that holds every SQL statement."""
