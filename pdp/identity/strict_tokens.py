"""A token's text, read strictly before any of it is believed; pure.

A JSON Web Token is two JSON objects that two programs may read differently: a member given twice, a number that is
none, padding, a token inside a token. What is not the one plain form is refused here, so that what is verified later
is what was read now. This verifies nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from pdp.identity.subject import AuthenticationFailed

LONGEST: Final = 16 << 10
_LONGEST_KEY_ID: Final = 256
# RFC 7519, section 5.1, and RFC 9068: what says of itself to be an identity. A logout token, a proof of possession or
# a security event of the same issuer, with the same keys, is none.
_KINDS: Final = frozenset({"jwt", "at+jwt"})
# JSON Web Signature in its compact form, of which neither part nor signature is empty.
_COMPACT: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


def read(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, or AuthenticationFailed."""
    if len(token) > LONGEST:
        raise AuthenticationFailed("the token is too long")
    found = _COMPACT.fullmatch(token)
    if found is None:
        raise AuthenticationFailed("not a token")
    header, claims = _object(found[1]), _object(found[2])
    if "crit" in header or "b64" in header:
        raise AuthenticationFailed("the token asks for extensions")
    if "cty" in header:
        raise AuthenticationFailed("the token holds another token")
    key_id = header.get("kid", "")
    if not isinstance(key_id, str):
        raise AuthenticationFailed("the token's key id is not a string")
    if len(key_id) > _LONGEST_KEY_ID:
        raise AuthenticationFailed("the token's key id is too long")
    return header, claims


def check_kind(header: Mapping[str, Any]) -> None:
    """AuthenticationFailed if a token of another issuer says that it is something else than an identity."""
    kind = header.get("typ")
    if kind is None:
        return
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in _KINDS:
        raise AuthenticationFailed("the token is of another kind")


def _object(part: str) -> dict[str, Any]:
    try:
        text = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode("utf-8")
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except (binascii.Error, ValueError, RecursionError) as error:
        raise AuthenticationFailed("not a token, or with a member given twice") from error
    if not isinstance(value, dict):
        raise AuthenticationFailed("not a token")
    return value


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a member is given twice")
    return found


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number")
