"""This service's own issuer: short-lived tokens for people, agents and the nodes of a workflow.

A token's form (EdDSA, `typ` is `checkrein-identity+jwt`):

    iss, aud (one resource), iat, nbf, exp, jti
    auth_time                     when the person signed in; absent if no person did, and then it never approves
    sub, sub_profile, groups      the person if the token names one, else the subject itself
    act {sub, sub_profile, groups}  the agent, where `sub` is the person it works for
    workflow {graph, node, run, thread, task, agent, tool}, purpose {text, ticket}
    once                          true if it is good for one use; its jti is then remembered
    also [names]                  other names of its people, by which they are the same human elsewhere
    minted_by [ids]               who had it made, with everybody behind them: they never approve what it asks for

The key is a file in the state folder, for this user alone, or a secret that the configuration names: whoever can read
it can be anybody.
"""

from __future__ import annotations

import datetime
import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pdp.certificates import locked, write_private
from pdp.config import Config
from pdp.identity.subject import Party
from pdp.v1.strict_yaml import ConfigError

TOKEN_TYPE: Final = "checkrein-identity+jwt"
DEFAULT_LIFE: Final = datetime.timedelta(minutes=10)
LONGEST_LIFE: Final = datetime.timedelta(hours=24)

Clock = Callable[[], datetime.datetime]


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What a token is to say."""

    subject: Party
    audience: str
    on_behalf_of: Party | None = None
    workflow: Mapping[str, str] = field(default_factory=dict)
    purpose: Mapping[str, str] = field(default_factory=dict)
    minted_by: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    lifetime: datetime.timedelta | None = None
    # Whoever mints at the state folder is there in person; a token made with another token inherits its sign-in.
    signed_in_at: datetime.datetime | Literal["now"] | None = "now"
    once: bool = False


@dataclass(frozen=True, slots=True)
class Minted:
    """A token and its end."""

    token: str
    expires_at: datetime.datetime


class OwnIssuer:
    """Mints tokens and knows the key that verifies them."""

    def __init__(self, name: str, key: Ed25519PrivateKey, life: datetime.timedelta, now: Clock) -> None:
        self.name = name
        self._key = key
        self._life = life
        self._now = now
        public = self.public_key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.key_id = hashlib.sha256(public).hexdigest()[:16]

    @property
    def public_key(self) -> Ed25519PublicKey:
        return self._key.public_key()

    def mint(self, request: TokenRequest, *, not_after: datetime.datetime | None = None) -> Minted:
        """The token; ValueError if its life is not between a second and a day.

        `not_after` is the end of the credential that it is made with, which it does not outlive: whoever has a token
        of ten minutes could otherwise renew it for ever.
        """
        life = self._life if request.lifetime is None else request.lifetime
        if not datetime.timedelta(seconds=1) <= life <= LONGEST_LIFE:
            raise ValueError(f"a token lives between a second and {LONGEST_LIFE}")
        now = self._now().replace(microsecond=0)
        end = now + life if not_after is None else min(now + life, not_after.replace(microsecond=0))
        claims: dict[str, Any] = {
            "iss": self.name,
            "aud": request.audience,
            "iat": int(now.timestamp()),
            "nbf": int(now.timestamp()),
            "exp": int(end.timestamp()),
            "jti": secrets.token_hex(8),
            "minted_by": list(request.minted_by),
        }
        if request.also:
            claims["also"] = list(request.also)
        if request.on_behalf_of is None:
            claims |= _party(request.subject)
        else:
            claims |= _party(request.on_behalf_of) | {"act": _party(request.subject)}
        if request.signed_in_at is not None:
            signed_in = now if request.signed_in_at == "now" else request.signed_in_at
            claims["auth_time"] = int(signed_in.timestamp())
        if request.once:
            claims["once"] = True
        for name in ("workflow", "purpose"):
            if value := dict(getattr(request, name)):
                claims[name] = value
        headers = {"kid": self.key_id, "typ": TOKEN_TYPE}
        return Minted(jwt.encode(claims, self._key, algorithm="EdDSA", headers=headers), end)


def _party(party: Party) -> dict[str, Any]:
    return {"sub": party.id, "sub_profile": party.type, "groups": list(party.groups)}


def now_utc() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def open_issuer(config: Config, now: Clock = now_utc) -> OwnIssuer | None:
    """The issuer that the configuration names, its key made on first use; None if it names none.

    This is how the first token comes about: whoever owns the state folder mints it there.
    """
    settings = next((each for each in config.pdp.identity.issuers if each.own), None)
    if settings is None:
        return None
    if settings.key is None:
        key = own_key(config.state, "issuer.key")
    else:
        key = read_key(settings.key.resolve().encode(), "identity.issuers key")
    return OwnIssuer(settings.name, key, settings.token_ttl or DEFAULT_LIFE, now)


def own_key(state: Path, name: str) -> Ed25519PrivateKey:
    """The key in that file of the state folder, made on first use."""
    file = state / name
    with locked(state, file.stem):
        if not file.exists():
            _write(file)
        return read_key(file.read_bytes(), str(file))


def new_own_key(state: Path, name: str) -> Ed25519PrivateKey:
    """A new key in that file, in place of the one there."""
    file = state / name
    with locked(state, file.stem):
        _write(file)
        return read_key(file.read_bytes(), str(file))


def _write(file: Path) -> None:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    write_private(file, Ed25519PrivateKey.generate().private_bytes(encoding, form, serialization.NoEncryption()))


def read_key(pem: bytes, name: str) -> Ed25519PrivateKey:
    """ConfigError, which names where it was to be found, for what is none."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{name}: not an Ed25519 key in PEM; a new one: openssl genpkey -algorithm ed25519")
    return key
