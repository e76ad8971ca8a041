"""Where the store is: a file of SQLite or a database of PostgreSQL, as a URL of SQLAlchemy.

A URL that holds a password is a secret, and is not shown: what is said of a store is its place. Over a network a
server has to prove who it is, because whoever answers in its place reads every record and decides who was approved.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from pdp.v1.strict_yaml import ConfigError

PSYCOPG: Final = "postgresql+psycopg"
_FORMS: Final = "sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE"
_SECRETS: Final = frozenset({"password", "sslpassword", "passfile", "service", "servicefile"})
_VERIFIED: Final = frozenset({"verify-full", "verify-ca"})


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """The URL. As text, its place alone."""

    url: URL

    @property
    def is_file(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @property
    def file(self) -> Path | None:
        return Path(self.url.database) if self.is_file and self.url.database else None

    def __str__(self) -> str:
        if self.is_file:
            return str(self.url.database)
        return f"{', '.join(hosts(self.url)) or 'local socket'}, database {self.url.database}"


def holds_secret(text: str) -> bool:
    """Whether the URL carries a password; ConfigError for what is no URL."""
    url = _parsed(text)
    return url.password is not None or any(name in _SECRETS for name in url.query)


def read_url(text: str) -> StoreUrl:
    """The place that the URL names; ConfigError, which never repeats it, where no store can be."""
    url = _parsed(text)
    if url.drivername == "sqlite" and url.database not in (None, "", ":memory:"):
        return StoreUrl(url)
    if url.drivername not in {"postgresql", PSYCOPG} or not url.database:
        raise ConfigError(f"pdp.store.url: must be {_FORMS}")
    far = [host for host in hosts(url) if not _is_here(host)]
    if far and url.query.get("sslmode") not in _VERIFIED:
        raise ConfigError(
            f"pdp.store.url: {far[0]} is not on this machine, so the URL needs sslmode=verify-full (and sslrootcert)"
        )
    return StoreUrl(url.set(drivername=PSYCOPG))


def hosts(url: URL) -> Sequence[str]:
    """Every host that the URL names: one before the path, or several as `host=` behind it."""
    named: list[str] = [url.host] if url.host else []
    for name in ("host", "hostaddr"):
        value = url.query.get(name, ())
        for each in (value,) if isinstance(value, str) else value:
            named += [part.rsplit(":", 1)[0] if part.count(":") == 1 else part for part in each.split(",")]
    return named


def _parsed(text: str) -> URL:
    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigError(f"pdp.store.url: must be {_FORMS}") from None


def _is_here(host: str) -> bool:
    if host in {"", "localhost"} or host.startswith(("/", "@")):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
