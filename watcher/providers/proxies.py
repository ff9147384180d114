"""The proxies that the environment asks for, and which requests they are for."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

from watcher.providers.addresses import is_loopback
from watcher.redaction import login_of_address

_SCHEMES = ("http", "https", "all")


@dataclass(frozen=True, slots=True)
class Proxies:
    """HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY as they were when this was made."""

    # By the scheme of the request; `all` for the others, `no` for the hosts left out.
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of_environment(cls) -> Proxies:
        """What the variables say now, in either case of letters."""
        return cls(getproxies_environment())

    def for_url(self, url: str) -> str | None:
        """The proxy for a request, credentials and all; None to go straight."""
        parts = urlsplit(url)
        proxy = self.settings.get(parts.scheme) or self.settings.get("all")
        # What runs on this machine is not the proxy's to reach.
        if (
            not proxy
            or is_loopback(parts.hostname or "")
            or self._left_out(parts.hostname or "", parts.netloc)
        ):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"

    def _left_out(self, host: str, host_and_port: str) -> bool:
        entries = (entry.strip() for entry in self.settings.get("no", "").lower().split(","))
        return any(entry and _covers(entry, host, host_and_port) for entry in entries)

    def secrets(self) -> Iterator[str]:
        """The credentials in them: a proxy may repeat its own in what it answers."""
        for scheme in _SCHEMES:
            proxy = self.settings.get(scheme) or ""
            yield from login_of_address(proxy if "://" in proxy else f"http://{proxy}")

    def named(self) -> dict[str, str]:
        """The proxy for each scheme that has one, without credentials."""
        return {
            scheme: without_credentials(proxy)
            for scheme in _SCHEMES
            if (proxy := self.settings.get(scheme))
        }


def proxies_in_use() -> dict[str, str]:
    """The proxy the environment names for `http`, `https` and `all`, without credentials."""
    return Proxies.of_environment().named()


def without_credentials(proxy: str) -> str:
    """A proxy's address as it may be shown: scheme, host and port."""
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "(not an address)"
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")


def _covers(entry: str, host: str, host_and_port: str) -> bool:
    """Whether an entry of NO_PROXY is this host, a domain above it, or a network around it."""
    domain = entry.removeprefix("*").removeprefix(".")
    if entry == "*" or domain in {host, host_and_port} or host.endswith(f".{domain}"):
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
