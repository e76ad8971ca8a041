"""The tokens that proxies present with each call: bound to one proxy, one resource, one session, one subject.

Signed with a key of the store, so that any replica can verify them; a new key is made by age or on demand, and signs
once every replica knows it. A token that was renewed stays good to its own end, for calls that are on their way: it is
of no use to anybody but the proxy that it names. They are of another type and key than the tokens
of `pdp.identity.tokens`: neither passes for the other.
"""

from __future__ import annotations

import datetime
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import jwt

from pdp.identity.tokens import Clock
from pdp.store.keys import SigningKey

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

    def __init__(self, keys: Sequence[SigningKey], life: datetime.timedelta, now: Clock) -> None:
        self._life = life
        self._now = now
        self._verified: OrderedDict[str, SessionClaims] = OrderedDict()
        self._keys: dict[str, SigningKey] = {}
        self.use(keys)

    def use(self, keys: Sequence[SigningKey]) -> None:
        """The keys from now on, newest first. What a key signed that is gone verifies no more."""
        if self._keys.keys() - {each.id for each in keys}:
            self._verified.clear()
        self._keys = {each.id: each for each in keys}

    @property
    def longest(self) -> datetime.timedelta:
        """How long after it signed last a key may still be needed."""
        return self._life + REFRESH_GRACE

    def _signing(self, now: datetime.datetime) -> SigningKey:
        """The newest that signs already; one of a clock that is ahead, where there is no other."""
        known = list(self._keys.values())
        return next((each for each in known if each.signs_from <= now), known[-1])

    def make(
        self, *, session: str, proxy: str, resource: str, subject: str, not_after: datetime.datetime | None
    ) -> tuple[str, datetime.datetime]:
        """The token and its end, which is never past `not_after`, the end of the client's credential."""
        now = self._now()
        end = now + self._life if not_after is None else min(now + self._life, not_after)
        claims = {"sid": session, "proxy": proxy, "resource": resource, "subject": subject, "exp": end.timestamp()}
        key = self._signing(now)
        headers = {"kid": key.id, "typ": TOKEN_TYPE}
        return jwt.encode(claims, key.private, algorithm="EdDSA", headers=headers), end

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
            key_id = header.get("kid")
            key = self._keys.get(key_id) if isinstance(key_id, str) else None
            if key is None or header.get("typ") != TOKEN_TYPE:
                raise TokenRefused("not a session's token of this service")
            # The end is checked by the caller, for whom a grace may hold.
            options: jwt.types.Options = {"require": ["exp"], "verify_exp": False}
            claims = jwt.decode(token, key.private.public_key(), algorithms=["EdDSA"], options=options)
            end = datetime.datetime.fromtimestamp(claims["exp"], datetime.UTC)
            return SessionClaims(claims["sid"], claims["proxy"], claims["resource"], claims["subject"], end)
        except (jwt.PyJWTError, KeyError, ValueError, TypeError) as error:
            raise TokenRefused("not a session's token of this service") from error
