"""Credentials become subjects: tokens of configured issuers or of this service's own, static keys, certificates.

Which issuer a token claims to be of only selects the rules by which it is then verified. Algorithms are pinned for
each issuer, a key serves one algorithm, and nothing in a token's header chooses a key but its id.

Nobody is let in past `Doors`: who is revoked, and what was to be used once and has been, is asked of it for every kind
of credential, here, so that no caller can forget to.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import jwt

from pdp.config import Identity, Issuer, SignIn, StaticKey
from pdp.identity import strict_tokens
from pdp.identity.claims import foreign_subject, own_subject
from pdp.identity.client_certificates import ClientCertificates
from pdp.identity.key_sets import KeySet
from pdp.identity.subject import Authenticated, AuthenticationFailed, OneTime, Subject
from pdp.identity.tokens import TOKEN_TYPE, Clock, OwnIssuer, now_utc

_LONGEST_TOKEN_ID: Final = 255
# The times and the audience are checked here, by one clock and more strictly: a token is for one resource.
_SIGNATURE_AND_ISSUER: Final[jwt.types.Options] = {
    "require": ["exp", "iat", "iss", "aud"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
}
_STATIC = re.compile(r"ck_([A-Za-z0-9-]{1,63})_([A-Za-z0-9_-]{16,128})")


class Doors(Protocol):
    """What is known of credentials beside what they say of themselves."""

    def revoked(self, who: Authenticated) -> str | None:
        """Why this credential or anybody behind it is not let in; None if nothing speaks against it."""

    async def spend(self, once: OneTime, use: str) -> bool:
        """Takes the one use of the token; False if it was taken by another than this very `use`."""


class Authenticator:
    """Judges every kind of credential that this version knows. Without `doors`, a token for one use has none."""

    def __init__(
        self, settings: Identity, own: OwnIssuer | None, now: Clock = now_utc, doors: Doors | None = None
    ) -> None:
        self._skew = settings.clock_skew
        self._own = own
        self._issuers = {each.issuer: (each, KeySet(each)) for each in settings.issuers if each.issuer}
        self._keys = {each.id: each for each in settings.keys}
        self._certificates = ClientCertificates(settings.certificates, now)
        self._same = settings.people.same if settings.people else None
        self._now = now
        self._doors = doors

    async def bearer(self, credential: str, resource: str, *, use: str = "") -> Authenticated:
        """A token or a static key, whichever it is. AuthenticationFailed says why it is not accepted.

        A call that is repeated with the same `use` is one use of a token that is good for one; "" is never the same.
        """
        if credential.startswith("ck_"):
            return self.static_key(credential, resource)
        return await self.token(credential, resource, use=use)

    async def token(self, token: str, resource: str, *, use: str = "") -> Authenticated:
        """A JSON Web Token that is good for the resource."""
        header, said = strict_tokens.read(token)
        claimed = said.get("iss")
        if self._own is not None and claimed == self._own.name:
            who = self._own_token(token, header, resource)
        elif isinstance(claimed, str) and claimed in self._issuers:
            who = await self._foreign_token(token, header, resource, *self._issuers[claimed])
        else:
            raise AuthenticationFailed("the token's issuer is not configured")
        # Asked before the use is taken, so that a revoked one is refused as that.
        self._let_in(who)
        if who.once is not None and (self._doors is None or not await self._doors.spend(who.once, use)):
            raise AuthenticationFailed("the token was good for one use, and has been used")
        return who

    def _let_in(self, who: Authenticated) -> Authenticated:
        """Whoever is not revoked."""
        if self._doors is not None and (why := self._doors.revoked(who)) is not None:
            raise AuthenticationFailed(why)
        return who

    def shut_out(self, who: Authenticated) -> str | None:
        """Why who was let in a moment ago would not be now."""
        return None if self._doors is None else self._doors.revoked(who)

    def _own_token(self, token: str, header: Mapping[str, Any], resource: str) -> Authenticated:
        assert self._own is not None
        # Another kind of token that this service signs, now or later, must not pass as an identity.
        if header.get("typ") != TOKEN_TYPE or header.get("kid") != self._own.key_id:
            raise AuthenticationFailed("the token is not of this issuer's kind or key")
        claims = self._verified(token, self._own.public_key, "EdDSA", self._own.name)
        _one_audience(claims, resource)
        subject = own_subject(claims, self._own.name)
        once = claims.get("once", False)
        if not isinstance(once, bool):
            raise AuthenticationFailed("once is neither true nor false")
        return self._authenticated(claims, subject, claims.get("auth_time"), once=once)

    async def _foreign_token(
        self, token: str, header: Mapping[str, Any], resource: str, issuer: Issuer, keys: KeySet
    ) -> Authenticated:
        strict_tokens.check_kind(header)
        algorithm = header.get("alg")
        if algorithm not in issuer.algorithms:
            raise AuthenticationFailed("the token's algorithm is not one of its issuer's")
        assert isinstance(algorithm, str)
        assert issuer.issuer is not None
        assert issuer.subject is not None
        key = await keys.key(header.get("kid"), algorithm)
        claims = self._verified(token, key.key, algorithm, issuer.issuer)
        if issuer.audience is None:
            _one_audience(claims, resource)
        elif issuer.audience not in _audiences(claims):
            raise AuthenticationFailed("the token is for somebody else")
        subject = foreign_subject(claims, issuer.name, issuer.subject, self._same)
        return self._authenticated(claims, subject, _signed_in(claims, issuer.subject.sign_in), once=issuer.one_time)

    def _verified(self, token: str, key: Any, algorithm: str, issuer: str) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(
                token, key, algorithms=[algorithm], issuer=issuer, options=_SIGNATURE_AND_ISSUER
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise AuthenticationFailed(f"the token does not verify: {type(error).__name__}") from error
        self._check_times(claims)
        return claims

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        """By this service's own clock, give or take the skew."""
        now = self._now()
        try:
            if _instant(claims["exp"]) + self._skew <= now:
                raise AuthenticationFailed("the token has run out")
            starts = [_instant(claims[name]) for name in ("iat", "nbf") if name in claims]
        except (OverflowError, ValueError, TypeError, OSError) as error:
            raise AuthenticationFailed("a time in the token is no time") from error
        if any(start - self._skew > now for start in starts):
            raise AuthenticationFailed("the token is not valid yet")

    def _authenticated(
        self, claims: Mapping[str, Any], subject: Subject, signed_in: Any, *, once: bool
    ) -> Authenticated:
        token_id = claims.get("jti")
        named = isinstance(token_id, str) and 0 < len(token_id) <= _LONGEST_TOKEN_ID
        if once and not named:
            raise AuthenticationFailed("a token for one use needs an id (jti)")
        try:
            ends = _instant(claims["exp"])
            # It verifies until the skew is over as well, and so long it must be remembered.
            one_time = OneTime(subject.issuer, str(token_id), ends + self._skew) if once else None
            return Authenticated(
                subject,
                ends,
                None if signed_in is None else _instant(signed_in),
                credential=f"token:{subject.issuer}:{token_id}" if named else "",
                once=one_time,
            )
        except (OverflowError, ValueError, TypeError, OSError) as error:
            raise AuthenticationFailed("a time in the token is no time") from error

    def certificate(self, chain: Sequence[bytes], proxy: str) -> Authenticated:
        """A client certificate, in DER, of whose key that proxy saw proof. It opens whatever the proxy serves."""
        return self._let_in(self._certificates.authenticate(chain, proxy))

    def static_key(self, credential: str, resource: str) -> Authenticated:
        """A key `ck_<id>_<secret>` that is good for the resource."""
        found = _STATIC.fullmatch(credential)
        known = self._keys.get(found[1]) if found else None
        # An unknown id takes the same way, so that the time taken does not tell which ids exist.
        digest = hashlib.sha256((found[2] if found else "").encode()).hexdigest()
        if not hmac.compare_digest(digest, known.hash if known else "0" * 64) or known is None:
            raise AuthenticationFailed("no such key")
        if known.expires is not None and known.expires <= self._now():
            raise AuthenticationFailed("the key has run out")
        if known.audience != resource:
            raise AuthenticationFailed("the key is for another resource")
        return self._let_in(Authenticated(_key_subject(known), known.expires, None, credential=f"key:{known.id}"))


def _key_subject(key: StaticKey) -> Subject:
    also = () if key.subject.same is None else (key.subject.same,)
    return Subject(
        key.subject.type, key.subject.id, key.subject.groups, issuer="checkrein-keys", method="static_key", also=also
    )


def _signed_in(claims: Mapping[str, Any], rules: SignIn) -> Any:
    """The claim that says when the person signed in; None where that was not in a way that counts."""
    methods = claims.get("amr", [])
    if rules.amr and not (isinstance(methods, list) and any(each in rules.amr for each in methods)):
        return None
    if rules.acr and claims.get("acr") not in rules.acr:
        return None
    return claims.get(rules.time)


def _audiences(claims: Mapping[str, Any]) -> list[Any]:
    audience = claims["aud"]
    return audience if isinstance(audience, list) else [audience]


def _one_audience(claims: Mapping[str, Any], resource: str) -> None:
    if _audiences(claims) != [resource]:
        raise AuthenticationFailed("the token is not for this resource alone")


def _instant(seconds: Any) -> datetime.datetime:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError("not a number")
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
