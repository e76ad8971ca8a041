"""The tokens that proxies present with each call: bound to one proxy, one resource, one session, one subject.

Signed with a key of the store, so that any replica can verify them. They are of another type and key than the tokens
of `pdp.identity.tokens`: neither passes for the other.
"""

from __future__ import annotations

import datetime
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pdp.identity.tokens import Clock

TOKEN_TYPE: Final = "checkrein-session+jwt"
PURPOSE: Final = "session"
# A refresh may come this long after the token's end.
REFRESH_GRACE: Final = datetime.timedelta(minutes=1)
_REMEMBERED: Final = 4096


class TokenRefused(Exception):
    """The token does not verify, or has run out."""


@dataclass(frozen=True, slots=True)
class SessionClaims:
    """What a session's token says."""

    session: str
    proxy: str
    resource: str
    subject: str
    expires_at: datetime.datetime


class SessionTokens:
    """Makes and verifies session tokens. Tokens that verified once are remembered: a signature takes its time."""

    def __init__(self, keys: list[tuple[str, Ed25519PrivateKey]], life: datetime.timedelta, now: Clock) -> None:
        self._keys = dict(keys)
        self._signing = keys[0][0]
        self._life = life
        self._now = now
        self._verified: OrderedDict[str, SessionClaims] = OrderedDict()

    def make(
        self, *, session: str, proxy: str, resource: str, subject: str, not_after: datetime.datetime | None
    ) -> tuple[str, datetime.datetime]:
        """The token and its end, which is never past `not_after`, the end of the client's credential."""
        now = self._now()
        end = now + self._life if not_after is None else min(now + self._life, not_after)
        claims = {"sid": session, "proxy": proxy, "resource": resource, "subject": subject, "exp": end.timestamp()}
        headers = {"kid": self._signing, "typ": TOKEN_TYPE}
        return jwt.encode(claims, self._keys[self._signing], algorithm="EdDSA", headers=headers), end

    def verify(self, token: str, *, grace: datetime.timedelta = datetime.timedelta(0)) -> SessionClaims:
        """What the token says; TokenRefused if it is not ours, or ended longer ago than `grace`."""
        claims = self._verified.get(token)
        if claims is None:
            claims = self._read(token)
            self._verified[token] = claims
            if len(self._verified) > _REMEMBERED:
                self._verified.popitem(last=False)
        if claims.expires_at + grace <= self._now():
            raise TokenRefused("the session's token has run out")
        return claims

    def _read(self, token: str) -> SessionClaims:
        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.get(header.get("kid", ""))
            if key is None or header.get("typ") != TOKEN_TYPE:
                raise TokenRefused("not a session's token of this service")
            # The end is checked by the caller, for whom a grace may hold.
            options: jwt.types.Options = {"require": ["exp"], "verify_exp": False}
            claims = jwt.decode(token, key.public_key(), algorithms=["EdDSA"], options=options)
            end = datetime.datetime.fromtimestamp(claims["exp"], datetime.UTC)
            return SessionClaims(claims["sid"], claims["proxy"], claims["resource"], claims["subject"], end)
        except (jwt.PyJWTError, KeyError, ValueError, TypeError) as error:
            raise TokenRefused("not a session's token of this service") from error
