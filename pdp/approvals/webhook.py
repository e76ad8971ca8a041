"""One delivery to a webhook: signed, bounded in every way, and never on the event loop.

The body is signed as `v1=HMAC-SHA256(secret, timestamp + "." + body)` in hex; the receiver computes it again and
refuses what is older than a few minutes. Certificates are verified, no redirect is followed, neither proxies nor
passwords are taken from the environment, and of the answer only its status counts. Where the address leads is the
operator's choice: private addresses are not refused.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pdp.calls import Call, CallFailed, status_of

# For one delivery, in all.
_PATIENCE: Final = 15.0


class NotDelivered(Exception):
    """The text says why, in words that are fit for a log: no part of the answer's body is in it."""


@dataclass(frozen=True, slots=True)
class Hook:
    """Where it goes, as the configuration says; `secret` is read when it is used."""

    url: str
    secret: bytes
    ca: Path | None = None
    patience: float = _PATIENCE


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """The value of `Checkrein-Signature`."""
    return "v1=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def post(hook: Hook, id: str, timestamp: str, body: bytes) -> None:
    """Delivers it; NotDelivered unless the answer's status is 2xx. Blocks."""
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "checkrein",
        "Checkrein-Delivery": id,
        "Checkrein-Timestamp": timestamp,
        "Checkrein-Signature": signature(hook.secret, timestamp, body),
    }
    try:
        status = status_of(Call("POST", hook.url, hook.patience, body, headers, hook.ca))
    except CallFailed as error:
        raise NotDelivered(f"no answer: {error}") from None
    if not 200 <= status < 300:
        raise NotDelivered(f"status {status}")
