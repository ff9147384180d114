"""The tables of the configuration: what each key is, its default, what speaks against a value.

A key added here belongs in config.example.toml and docs/configuration.md as well; a test holds
all three to each other. Every duration is an integer of milliseconds.
"""

from __future__ import annotations

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    model_validator,
)

from watcher.config.credentials import Secret, Surroundings
from watcher.config.kinds import (
    Duration,
    Emoji,
    EventPatterns,
    Flag,
    Headers,
    Names,
    OptionalDuration,
    OptionalLongText,
    OptionalName,
    OptionalPath,
    OptionalSecret,
    OptionalSeverity,
    OptionalText,
    OptionalVariable,
    Outcomes,
    PatternsByName,
    PositiveDuration,
    Text,
    Words,
    number,
    suggestion,
    whole,
)
from watcher.errors import ConfigError
from watcher.providers import PROVIDERS, ProviderOptions, build
from watcher.providers.addresses import is_loopback
from watcher.routing import Route

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Section(BaseModel):
    """One table of the file: nothing unknown in it, and nothing changes once read."""

    # A refused value may be a secret in the wrong place: pydantic must not repeat it.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class PollingSettings(Section):
    """When to look."""

    min_interval: PositiveDuration = 5 * SECOND
    max_interval: PositiveDuration = 5 * MINUTE
    eagerness: Annotated[float, number(0.01, 100)] = 1.0
    timeout: PositiveDuration = 30 * SECOND
    lost_after: PositiveDuration = HOUR
    unreachable_after: PositiveDuration = 15 * MINUTE

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_interval > self.max_interval:
            raise ValueError("min_interval is longer than max_interval: correct one of them")
        return self


def _known_provider(name: str) -> str:
    if name not in PROVIDERS:
        raise ValueError("no such provider" + suggestion(name, PROVIDERS))
    return name


class AccountSettings(Section):
    """A provider, a credential, and how to deal with them."""

    provider: Annotated[Text, AfterValidator(_known_provider)]
    api_key_env: OptionalVariable = None
    api_key_file: OptionalPath = None
    api_key: OptionalSecret = None
    # Not shown: a gateway's may hold its token.
    base_url: OptionalLongText = Field(default=None, repr=False)
    organization: OptionalText = None
    project: OptionalText = None
    # Their values are secrets: a gateway's key travels here as often as not.
    headers: Headers = Field(default_factory=dict)
    allow_insecure: Flag = False
    formerly: Names = ()
    max_concurrency: Annotated[int, whole(1, 1_000)] = 8
    requests_per_minute: Annotated[int, whole(1, 1_000_000)] = 300
    discover: Flag = False
    discover_metadata: PatternsByName = Field(default_factory=dict)
    min_interval: OptionalDuration = None
    max_interval: OptionalDuration = None
    eagerness: Annotated[float | None, number(0.01, 100)] = None

    _secret: Secret = PrivateAttr()
    _implied: bool = PrivateAttr(default=False)

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        kind = PROVIDERS[self.provider]
        _one_source(self, "api_key", f'api_key_env = "{(*kind.key_variables, "NAME")[0]}"')
        if self.base_url is None and not kind.default_base_url:
            raise ValueError(
                f'provider "{self.provider}" needs a base_url: write base_url = "https://…"'
            )
        return self

    def model_post_init(self, _context: object, /) -> None:
        """Find the secret by the process's own surroundings until `bind` names others."""
        self.bind("", Surroundings())

    def bind(self, name: str, surroundings: Surroundings, *, implied: bool = False) -> None:
        """Say which account it is and where its secret is looked for; `load` does so once."""
        self._implied = implied
        self._secret = Secret(
            f'account "{name}"',
            "api_key",
            self.api_key,
            self.api_key_env,
            self.api_key_file,
            surroundings=surroundings,
        )

    @property
    def implied(self) -> bool:
        """Whether nobody configured it: a key in the environment implies it."""
        return self._implied

    @property
    def secret(self) -> Secret:
        """Where its credential comes from."""
        return self._secret

    def credential(self) -> SecretStr:
        """The key, read anew: blocks for a file. Raises ConfigError that says what to do.

        An account whose credential cannot be had is disabled, and nothing else is.
        """
        if objection := self.objection():
            raise ConfigError(f"{self._secret.owner}: {objection}")
        return self._secret.read()

    def credential_changed(self) -> bool:
        """Whether the credential's file is another than when it was last read."""
        return self._secret.changed()

    def options(self) -> ProviderOptions:
        """What it says of its provider, for building one; the headers are no longer hidden."""
        return ProviderOptions(
            base_url=self.base_url,
            organization=self.organization,
            project=self.project,
            headers={name: value.get_secret_value() for name, value in self.headers.items()},
        )

    def objection(self) -> str | None:
        """What speaks against sending the credential with these options; None if nothing does."""
        try:
            build(self.provider, self.options())
        except ConfigError as error:
            return str(error)
        parts = urlsplit(self.base_url or "")
        if parts.scheme == "http" and not (self.allow_insecure or is_loopback(parts.hostname)):
            return (
                "base_url is http, so the credential would travel unencrypted: "
                "write https, or allow_insecure = true"
            )
        return None


class ChannelSettings(Section):
    """One Apprise URL, and how to send through it."""

    url: OptionalSecret = None
    url_env: OptionalVariable = None
    url_file: OptionalPath = None
    digest_wait: Duration = 5 * SECOND
    digest_interval: Duration = MINUTE
    give_up_after: PositiveDuration = 72 * HOUR
    details: Flag = True
    emoji: Emoji = "auto"

    _secret: Secret = PrivateAttr()

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        _one_source(self, "url", 'url_env = "NAME"')
        return self

    def model_post_init(self, _context: object, /) -> None:
        """Find the URL by the process's own surroundings until `bind` names others."""
        self.bind("", Surroundings())

    def bind(self, name: str, surroundings: Surroundings) -> None:
        """Say which channel it is and where its URL is looked for; `load` does so once."""
        self._secret = _url_secret(f'channel "{name}"', self, surroundings)

    @property
    def secret(self) -> Secret:
        """Where its URL comes from."""
        return self._secret

    def url_secret(self) -> SecretStr:
        """The Apprise URL, read anew: blocks for a file. Raises ConfigError that says what to do.

        A channel whose URL cannot be had is disabled, and nothing else is.
        """
        return _read_url(self._secret, "an Apprise URL, as in mailto://… or slack://…")

    def url_changed(self) -> bool:
        """Whether the URL's file is another than when it was last read."""
        return self._secret.changed()


class RouteSettings(Section):
    """Which events go to which channels; an empty condition holds for everything."""

    channels: Names
    events: EventPatterns = ()
    severity: OptionalSeverity = None
    outcomes: Outcomes = ()
    accounts: Names = ()
    tags: Words = ()
    groups: Words = ()
    metadata: PatternsByName = Field(default_factory=dict)

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        if not self.channels:
            raise ValueError("channels is empty: name at least one channel, or remove the route")
        return self

    def route(self, number: int) -> Route:
        """The route as the routing room takes it; `number` counts from 1."""
        return Route(
            channels=self.channels,
            name=f"route {number}",
            events=self.events,
            severity=self.severity,
            outcomes=self.outcomes,
            accounts=self.accounts,
            tags=self.tags,
            groups=self.groups,
            metadata=self.metadata,
        )


class BatchSettings(Section):
    """A batch to register at start, as `watcher add` would."""

    id: Text
    account: OptionalName = None
    name: OptionalText = None
    tags: Words = ()
    group: OptionalText = None
    channels: Names = ()
    quiet_if_ended: Flag = False


class RetentionSettings(Section):
    """How long ended batches are kept, with their events and settled deliveries."""

    keep: PositiveDuration = 90 * DAY


class HeartbeatSettings(Section):
    """An address to fetch while the loops turn."""

    url: OptionalSecret = None
    url_env: OptionalVariable = None
    url_file: OptionalPath = None
    every: PositiveDuration = 5 * MINUTE

    _secret: Secret = PrivateAttr()

    @model_validator(mode="after")
    def _at_most_one_source(self) -> Self:
        _one_source(self, "url", None)
        return self

    def model_post_init(self, _context: object, /) -> None:
        """Find the URL by the process's own surroundings until `bind` names others."""
        self.bind(Surroundings())

    def bind(self, surroundings: Surroundings) -> None:
        """Say where its URL is looked for; `load` does so once."""
        self._secret = _url_secret("heartbeat", self, surroundings)

    @property
    def secret(self) -> Secret:
        """Where its URL comes from."""
        return self._secret

    @property
    def wanted(self) -> bool:
        """Whether an address is configured."""
        return bool(self.url or self.url_env or self.url_file)

    def url_secret(self) -> SecretStr:
        """The address, read anew: blocks for a file. Raises ConfigError that says what to do."""
        url = _read_url(self._secret, "an address, as in https://…")
        if not url.get_secret_value().lower().startswith(("https://", "http://")):
            raise ConfigError("heartbeat: its url must begin with https://")
        return url


def _one_source(section: Section, key: str, remedy: str | None) -> None:
    """Exactly one of `key`, `key_env`, `key_file`; without a remedy, at most one."""
    given = [
        name for name in (f"{key}_env", f"{key}_file", key) if getattr(section, name) is not None
    ]
    if len(given) > 1:
        raise ValueError(f"has both {' and '.join(given)}: keep one of them")
    if not given and remedy is not None:
        raise ValueError(f"needs one of {key}_env, {key}_file, {key}: write {remedy}")


def _url_secret(
    owner: str, section: ChannelSettings | HeartbeatSettings, surroundings: Surroundings
) -> Secret:
    return Secret(
        owner,
        "url",
        section.url,
        section.url_env,
        section.url_file,
        spaces_allowed=True,
        surroundings=surroundings,
    )


def _read_url(secret: Secret, expected: str) -> SecretStr:
    url = secret.read()
    if "://" not in url.get_secret_value():
        raise ConfigError(f"{secret.owner}: what {secret.source} holds is not {expected}")
    return url
