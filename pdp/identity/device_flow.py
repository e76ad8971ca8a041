"""The OAuth 2.0 Device Authorization Grant (RFC 8628), from the side of a command line without a browser.

The person opens the issuer's page wherever they like and signs in there; this side learns a token and never a
password. Endpoints come from the issuer's discovery document. Nothing that the issuer sends is believed here: the
token is judged by the decision service that it is shown to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import requests

from pdp.calls import Call, CallFailed, answered
from pdp.config import check_url

# For one answer, in all.
_PATIENCE: Final = 20.0
_LARGEST: Final = 256 << 10
_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
# RFC 8628, sections 3.2 and 3.5.
_USUAL_INTERVAL: Final = 5.0
_SLOWER: Final = 5.0
_LONGEST_WAIT: Final = 1800.0


class LoginFailed(Exception):
    """No token; the text says why. It may hold words of the issuer's, so it is to be made fit before it is shown."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks for a token, at which issuer, and which of the two tokens that may come is wanted."""

    issuer: str
    client_id: str
    scope: str
    token: str
    ca: Path | None = None
    patience: float = _PATIENCE


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the person is told; foreign words."""

    uri: str
    code: str
    complete: str


def login(
    client: Client,
    tell: Callable[[Prompt], None],
    *,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """The token, once the person has signed in. Blocks; LoginFailed if none comes."""
    found = _call("GET", f"{client.issuer.rstrip('/')}/.well-known/openid-configuration", client)
    # OpenID Connect Discovery, section 4.3.
    if found.get("issuer") != client.issuer:
        raise LoginFailed("the discovery document is not this issuer's")
    device, token = (_endpoint(found, name) for name in ("device_authorization_endpoint", "token_endpoint"))
    started = _call("POST", device, client, {"client_id": client.client_id, "scope": client.scope})
    code, user_code, uri = (started.get(name) for name in ("device_code", "user_code", "verification_uri"))
    if not (isinstance(code, str) and isinstance(user_code, str) and isinstance(uri, str)):
        raise LoginFailed(f"the issuer began no sign-in: {_error(started)}")
    complete = started.get("verification_uri_complete")
    tell(Prompt(uri, user_code, complete if isinstance(complete, str) else ""))
    end = clock() + min(_seconds(started.get("expires_in"), _LONGEST_WAIT), _LONGEST_WAIT)
    interval = _seconds(started.get("interval"), _USUAL_INTERVAL)
    asked = {"grant_type": _GRANT, "device_code": code, "client_id": client.client_id}
    while clock() < end:
        pause(interval)
        answer = _call("POST", token, client, asked)
        if "error" not in answer:
            return _token(answer, client.token)
        match answer["error"]:
            case "authorization_pending":
                continue
            case "slow_down":
                interval += _SLOWER
            case "access_denied":
                raise LoginFailed("the sign-in was refused")
            case "expired_token":
                break
            case _:
                raise LoginFailed(f"the issuer gives no token: {_error(answer)}")
    raise LoginFailed("nobody signed in in time")


def _token(answer: Mapping[str, Any], name: str) -> str:
    token = answer.get(name)
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable() or " " in token:
        raise LoginFailed(f"the issuer's answer has no {name}")
    return token


def _endpoint(found: Mapping[str, Any], name: str) -> str:
    url = found.get(name)
    if not isinstance(url, str):
        raise LoginFailed(f"the issuer has no {name}")
    try:
        check_url(url)
    except ValueError as error:
        raise LoginFailed(f"the issuer's {name} {error}") from None
    return url


def _seconds(value: object, otherwise: float) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e6
    return float(value) if good and isinstance(value, int | float) else otherwise


def _error(answer: Mapping[str, Any]) -> str:
    return " ".join(str(answer[name]) for name in ("error", "error_description") if name in answer) or "no reason"


def _call(method: str, url: str, client: Client, form: Mapping[str, str] | None = None) -> Mapping[str, Any]:
    """The JSON object that is answered, also to what is refused: RFC 8628 puts the reason there."""
    try:
        asked = Call(method, url, client.patience, form, ca=client.ca, proxies=True)
        status, content = answered(asked, _LARGEST)
        document = orjson.loads(content)
    except CallFailed as error:
        raise LoginFailed(f"the issuer does not answer: {error}") from None
    except ValueError:
        raise LoginFailed("the issuer's answer is no JSON") from None
    if not isinstance(document, Mapping) or (method == "GET" and status != requests.codes.ok):
        raise LoginFailed(f"the issuer answers with status {status}")
    return document
