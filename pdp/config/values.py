"""What several sections of the configuration have in common: names, spans of time, addresses of keys; no section."""

from __future__ import annotations

import datetime
import re
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator

from pdp.v1.config_values import Duration

ADMINISTRATION: Final = "checkrein"
"""The id and the type of the resource that stands for this service itself."""


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def _is_name(value: str) -> str:
    if _NAME.fullmatch(value) is None:
        raise ValueError("must be a name of letters, digits, dot, dash and underscore, at most 63 of them")
    return value


def _positive(value: datetime.timedelta) -> datetime.timedelta:
    if value <= datetime.timedelta(0):
        raise ValueError("must be longer than nothing")
    return value


Name = Annotated[str, AfterValidator(_is_name)]
Span = Annotated[Duration, AfterValidator(_positive)]
SubjectType = Literal["agent", "user", "service"]
# Symmetric algorithms and `none` cannot be configured: whoever can verify with them can forge.
Algorithm = Literal["ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA"]


def check_url(url: str) -> None:
    """ValueError unless the keys behind this URL cannot be replaced on the way."""
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"}):
        return
    raise ValueError("must be an https URL (plain http on this machine only)")


def no_twice(what: str, values: list[str]) -> None:
    """ValueError where a value stands there more than once."""
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{what} {value} is given twice")
