"""The public keys of other issuers (RFC 7517), from a URL or a file, fetched off the event loop.

A set is used for `refresh`, then fetched again; while that fails, the old one is used until it is `stale`. An unknown
key id fetches once more, but not oftener than every few seconds, so that made-up ids cannot make this service hammer
an issuer. A token has no say in where keys come from: its jku, x5u, jwk and x5c are never looked at.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import jwt
import orjson
import requests
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from pdp.calls import Call, CallFailed, answered
from pdp.config import Issuer, check_url
from pdp.identity.subject import AuthenticationFailed

# For one document, in all.
_PATIENCE: Final = 5.0
_LARGEST: Final = 1 << 20
_SHORTEST_RSA: Final = 2048
_BETWEEN_FORCED: Final = 10.0
# While there is no key at all: often enough to start soon after the issuer does, seldom enough not to keep it down.
_BETWEEN_FIRST: Final = 1.0

log = structlog.get_logger("pdp.identity")

Monotonic = Callable[[], float]


class KeySet:
    """The keys of one issuer."""

    def __init__(self, issuer: Issuer, monotonic: Monotonic = time.monotonic, patience: float = _PATIENCE) -> None:
        self._issuer = issuer
        self._patience = patience
        self._now = monotonic
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched: float | None = None
        self._tried: float | None = None
        self._one_at_a_time = asyncio.Lock()

    async def key(self, key_id: str | None, algorithm: str) -> jwt.PyJWK:
        """The key of that id for that algorithm, or AuthenticationFailed.

        Without an id the set must hold exactly one key for the algorithm.
        """
        await self._refresh(forced=False)
        if (found := self._find(key_id, algorithm)) is not None:
            return found
        await self._refresh(forced=True)
        if (found := self._find(key_id, algorithm)) is not None:
            return found
        raise AuthenticationFailed("no key of the issuer fits the token")

    def _find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        fitting = [key for key in self._keys.values() if key.algorithm_name == algorithm]
        if key_id is not None:
            fitting = [key for key in fitting if key.key_id == key_id]
        # Two keys of one id: which of them a token means cannot be told.
        return fitting[0] if len(fitting) == 1 else None

    async def _refresh(self, *, forced: bool) -> None:
        if self._one_at_a_time.locked() and not forced and self._age() < self._issuer.jwks.stale.total_seconds():
            # Another login fetches; an issuer that is slow to answer holds up nobody whose key is at hand.
            return
        async with self._one_at_a_time:
            now = self._now()
            age = None if self._fetched is None else now - self._fetched
            wanted = age is None or forced or age >= self._issuer.jwks.refresh.total_seconds()
            pause = _BETWEEN_FIRST if age is None else _BETWEEN_FORCED
            if wanted and (self._tried is None or now - self._tried >= pause):
                self._tried = now
                try:
                    self._keys = await asyncio.to_thread(self._read)
                    self._fetched = now
                    return
                except (OSError, ValueError, jwt.PyJWTError) as error:
                    why = str(error) if isinstance(error, CallFailed) else type(error).__name__
                    log.warning("issuer keys not fetched", issuer=self._issuer.name, error=why)
            if age is None or age >= self._issuer.jwks.stale.total_seconds():
                self._keys = {}
                raise AuthenticationFailed(f"the keys of issuer {self._issuer.name} cannot be had", retry=True)

    def _age(self) -> float:
        return math.inf if self._fetched is None else self._now() - self._fetched

    def _read(self) -> Mapping[str, jwt.PyJWK]:
        jwks = self._issuer.jwks
        if jwks.file is not None:
            return parse_keys(orjson.loads(jwks.file.read_bytes()), self._issuer.algorithms)
        url = jwks.url
        if url is None:
            assert self._issuer.issuer is not None
            found = _fetch(
                f"{self._issuer.issuer.rstrip('/')}/.well-known/openid-configuration", jwks.ca, self._patience
            )
            # OpenID Connect Discovery, section 4.3: a document that speaks for another issuer is not used.
            if found.get("issuer") != self._issuer.issuer or not isinstance(found.get("jwks_uri"), str):
                raise ValueError("the discovery document is not this issuer's")
            url = found["jwks_uri"]
            check_url(url)
        return parse_keys(_fetch(url, jwks.ca, self._patience), self._issuer.algorithms)


def parse_keys(document: object, algorithms: tuple[str, ...]) -> Mapping[str, jwt.PyJWK]:
    """The usable keys of a set: asymmetric, for signatures, long enough, of a pinned algorithm."""
    if not isinstance(document, Mapping) or not isinstance(document.get("keys"), list):
        raise ValueError("not a key set")  # noqa: TRY004 - whatever is wrong with the document is one error
    keys: dict[str, jwt.PyJWK] = {}
    for index, each in enumerate(document["keys"]):
        if not isinstance(each, Mapping) or each.get("kty") == "oct" or each.get("use", "sig") != "sig":
            continue
        # A key that does not name its algorithm serves each pinned one of its kind.
        for algorithm in [each["alg"]] if "alg" in each else algorithms:
            try:
                key = jwt.PyJWK(dict(each), algorithm=algorithm)
            except (jwt.PyJWTError, ValueError, KeyError, TypeError):
                continue
            if algorithm in algorithms and not _short(key):
                keys[f"{index}/{algorithm}"] = key
    return keys


def _short(key: jwt.PyJWK) -> bool:
    return isinstance(key.key, RSAPublicKey) and key.key.key_size < _SHORTEST_RSA


def _fetch(url: str, authority: Path | None, seconds: float) -> Mapping[str, Any]:
    status, content = answered(Call("GET", url, seconds, ca=authority, proxies=True), _LARGEST)
    if status != requests.codes.ok:
        raise ValueError(f"status {status}")
    document = orjson.loads(content)
    if not isinstance(document, Mapping):
        raise ValueError("not an object")  # noqa: TRY004 - whatever is wrong with the document is one error
    return document
