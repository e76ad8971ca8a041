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
from http.client import HTTPException
from pathlib import Path
from typing import Final

import requests
from urllib3.exceptions import HTTPError

_TIMEOUT: Final = (5.0, 10.0)
_MOST_READ: Final = 4 << 10


class NotDelivered(Exception):
    """The text says why, in words that are fit for a log: no part of the answer's body is in it."""


@dataclass(frozen=True, slots=True)
class Hook:
    """Where it goes, as the configuration says; `secret` is read when it is used."""

    url: str
    secret: bytes
    ca: Path | None = None


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
    verify: bool | str = True if hook.ca is None else str(hook.ca)
    try:
        with requests.Session() as session:
            session.trust_env = False
            with session.post(
                hook.url, body, headers=headers, timeout=_TIMEOUT, verify=verify, allow_redirects=False, stream=True
            ) as answer:
                status = answer.status_code
                # Enough of the answer for the usual server to see that it was taken.
                answer.raw.read(_MOST_READ)
    except (requests.RequestException, HTTPException, HTTPError, OSError, ValueError) as error:
        raise NotDelivered(f"no answer: {type(error).__name__}") from None
    if not 200 <= status < 300:
        raise NotDelivered(f"status {status}")
