"""All settings together, and where pydantic finds what one `load` reads."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PrivateAttr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from watcher.config.kinds import LongText, Name, OptionalNames, Text, Unusable, nearest
from watcher.config.sections import (
    AccountSettings,
    BatchSettings,
    ChannelSettings,
    HeartbeatSettings,
    PollingSettings,
    RetentionSettings,
    RouteSettings,
)
from watcher.routing import Switchboard


def _zone(name: str) -> tzinfo | None:
    if name == "local":
        return None
    if name.upper() == "UTC":
        return UTC
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)


def _known_zone(name: str) -> str:
    try:
        _zone(name)
    # A folder of the database, or a name that leads out of it, raises what open() raises.
    except (LookupError, ValueError, OSError):
        from zoneinfo import available_timezones

        places = {zone.lower(): zone for zone in available_timezones()}
        close = nearest(name, places)
        hint = f'; did you mean "{places[close]}"?' if close else ': write "UTC" or "Europe/Berlin"'
        raise Unusable(f"no such time zone{hint}") from None
    return name


# What one `load` reads from, the strongest first; settings made by hand have none.
Source = Callable[[type[BaseSettings]], PydanticBaseSettingsSource]
SOURCES: ContextVar[tuple[Source, ...]] = ContextVar("SOURCES", default=())


class Settings(BaseSettings):
    """All settings, checked; made by `load`, or by hand from keyword arguments alone."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=False
    )

    # The path of the state's file, absolute once `load` has settled it.
    state: LongText = "watcher.db"
    instance: Text = Field(default_factory=lambda: socket.gethostname() or "localhost")
    timezone: Annotated[Text, AfterValidator(_known_zone)] = "local"
    # None: every channel.
    operators: OptionalNames = None
    polling: PollingSettings = PollingSettings()
    accounts: dict[Name, AccountSettings] = Field(default_factory=dict)
    channels: dict[Name, ChannelSettings] = Field(default_factory=dict)
    routes: tuple[RouteSettings, ...] = ()
    batches: tuple[BatchSettings, ...] = ()
    retention: RetentionSettings = RetentionSettings()
    heartbeat: HeartbeatSettings = HeartbeatSettings()

    _file: Path | None = PrivateAttr(default=None)
    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic hands it by name
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic hands it by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic hands it by name
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources of the `load` under way, behind what it settled itself."""
        return (init_settings, *(source(settings_cls) for source in SOURCES.get()))

    def bind(self, file: Path | None, warnings: tuple[str, ...]) -> None:
        """Say where it was read and what was odd there; `load` does so once."""
        self._file = file
        self._warnings = warnings

    @property
    def file(self) -> Path | None:
        """The configuration in force; None without one."""
        return self._file

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd but no error, one line each: a secret that others can read."""
        return self._warnings

    @property
    def zone(self) -> tzinfo | None:
        """The time zone of messages; None for this machine's."""
        return _zone(self.timezone)

    def polling_of(self, account: str) -> PollingSettings:
        """`[polling]` with what the account says otherwise. Raises KeyError for an unknown one."""
        own = self.accounts[account]
        keys = ("min_interval", "max_interval", "eagerness")
        changes: dict[str, Any] = {
            key: value for key in keys if (value := getattr(own, key)) is not None
        }
        return self.polling.model_copy(update=changes)

    def switchboard(self) -> Switchboard:
        """Channels, routes and operators as the routing room takes them."""
        return Switchboard(
            channels=tuple(self.channels),
            routes=tuple(route.route(number) for number, route in enumerate(self.routes, 1)),
            operators=self.operators,
        )
