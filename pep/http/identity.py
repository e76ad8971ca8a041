"""The credential that a request carries, and what of a request is its client's own and goes no further. Pure."""

from __future__ import annotations

import base64
import binascii
from typing import Final
from urllib.parse import unquote

from pep.core.decision_client import Bearer, Credential
from pep.core.errors import ClientProtocolError
from pep.http.messages import Fields, RequestHead

KEY_FIELD: Final = "X-Checkrein-Key"

# Whatever says who the client is, or was said to be by somebody before: never for the target.
PRIVATE: Final = ("Authorization", "Proxy-Authorization", KEY_FIELD)
_SHORTEST: Final = 16


def presented(fields: Fields, login: frozenset[str], certificate: Credential | None = None) -> Credential | None:
    """The one credential of a request; None where it shows none. Raises ClientProtocolError where it shows several.

    `certificate` is the connection's, for requests that say nothing else; one that is not accepted does not fall back.

    RFC 6750 section 2.1 (Bearer), RFC 7617 (Basic: the token is the password, the user name is nobody's).
    """
    shown = [("authorization", value) for value in fields.all("Authorization")]
    shown += [("key", value) for value in fields.all(KEY_FIELD)]
    if not shown:
        return certificate
    if len(shown) > 1:
        raise ClientProtocolError("400", "more than one credential in one request")
    kind, value = shown[0]
    if kind == "key":
        return Bearer(value) if "key" in login and value else None
    scheme, _, rest = value.partition(" ")
    rest = rest.strip()
    match scheme.lower():
        case "bearer" if rest and {"bearer", "key"} & login:
            return Bearer(rest)
        case "basic" if "basic" in login:
            return _password(rest)
        case _:
            return None


def repeats(head: RequestHead, credential: Credential) -> bool:
    """Whether the request has its credential once more where the target would see it: in another field, in the query.

    Short keys are not looked for: they occur by chance.
    """
    if not isinstance(credential, Bearer) or len(credential.secret) < _SHORTEST:
        return False
    secret = credential.secret
    if secret in head.target or ("%" in head.target and secret in unquote(head.target)):
        return True
    passing = head.fields.without(PRIVATE)
    return any(secret in value or ("%" in value and secret in unquote(value)) for _, value in passing)


def _password(text: str) -> Credential | None:
    try:
        decoded = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    _, colon, password = decoded.partition(":")
    return Bearer(password) if colon and password else None
