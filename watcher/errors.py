"""The ways to go wrong. A docstring is its error's default message; no text holds a secret.

WatcherError
├─ ConfigError            file, key, what to write instead
├─ UsageError             a command was given what it cannot take
├─ NoSuchBatch            an id nobody registered
├─ ProviderError
│   ├─ Unavailable        network, time-out, 5xx: the batch backs off
│   ├─ RateLimited        429: the account pauses
│   ├─ Unauthorized       401, 403: the batch backs off, the account's probe decides
│   ├─ Missing            404, 410: doubted
│   ├─ Refused            any other 3xx or 4xx: the batch backs off
│   └─ Garbled            an answer we cannot read: the batch backs off
├─ DeliveryFailed         a channel did not take a message
└─ StoreError             the state cannot be read or written
    ├─ StoreBusy          another process holds it: waiting can help
    ├─ StateLost          its file was deleted or replaced: waiting cannot help
    ├─ StateDamaged       its file holds what SQLite never wrote: waiting cannot help
    └─ WrongSchema        the state belongs to another version
"""

from __future__ import annotations


class WatcherError(Exception):
    """Something went wrong."""

    exit_code = 1

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class ConfigError(WatcherError):
    """The configuration cannot be used."""

    exit_code = 2


class UsageError(WatcherError):
    """The command was given what it cannot take."""

    exit_code = 2


class NoSuchBatch(WatcherError):
    """No such batch is registered."""

    exit_code = 4


class ProviderError(WatcherError):
    """The provider did not answer as it should."""

    # The HTTP status that said so, None when no answer came.
    status_code: int | None

    def __init__(self, message: str | None = None, *, status_code: int | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code


class Unavailable(ProviderError):
    """The provider could not be reached."""

    exit_code = 5


class RateLimited(ProviderError):
    """The provider asks for fewer requests."""

    exit_code = 5

    def __init__(
        self,
        message: str | None = None,
        *,
        status_code: int | None = 429,
        retry_after: int | None = None,
    ) -> None:
        """`retry_after`: milliseconds the provider asked us to wait, None if it did not say."""
        super().__init__(message, status_code=status_code)
        self.retry_after = retry_after


class Unauthorized(ProviderError):
    """The provider refuses the credential."""

    exit_code = 3


class Missing(ProviderError):
    """The provider knows no such batch."""

    exit_code = 4


class Refused(ProviderError):
    """The provider refuses the request."""

    exit_code = 5


class Garbled(ProviderError):
    """The provider's answer cannot be read."""

    exit_code = 5


class DeliveryFailed(WatcherError):
    """The channel did not take the message."""


class StoreError(WatcherError):
    """The state cannot be read or written."""


class StoreBusy(StoreError):
    """Another process is writing to the state and does not let go."""


class StateLost(StoreError):
    """The state's file was deleted or replaced under the process that has it open."""


class StateDamaged(StoreError):
    """The state's file is damaged."""


class WrongSchema(StoreError):
    """The state was written by another version of watcher."""
