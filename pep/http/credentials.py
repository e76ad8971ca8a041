"""The target's credential: from its references in the configuration into each request.

What a client sent under the name of the credential is replaced. References are resolved off the loop; a command with a
`ttl` is run again when that is over. RFC 6750 (bearer), RFC 7617 (basic), AWS Signature Version 4 by botocore; a client
certificate is part of the TLS context (`pep.core.tls`) and injects nothing here.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import math
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Final, Protocol
from urllib.parse import quote, unquote_plus

from pep.core.config import Secret
from pep.core.errors import ConfigError
from pep.http.config import HttpCredential, SigV4
from pep.http.messages import Fields
from pep.http.scrub import SHORTEST

_AUTHORIZATION: Final = "Authorization"
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"
_CONTENT_HASH: Final = "X-Amz-Content-SHA256"
# What the signature brings; of a client's own nothing of it is left.
_SIGNED_ANEW: Final = (_AUTHORIZATION, "X-Amz-Date", "X-Amz-Security-Token", _CONTENT_HASH)
# A body that is not known here: without one it is empty for these.
_BODILESS: Final = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})


class CredentialUnavailable(RuntimeError):
    """A reference that was resolved before cannot be resolved again. Its words are fit for the log."""


class Injector(Protocol):
    """One kind of credential."""

    @property
    def injects(self) -> bool:
        """Whether requests carry a secret that may come back in a response."""

    @property
    def current(self) -> bool:
        """Whether nothing has to be resolved for now: what is asked is then answered without waiting."""

    @property
    def stands(self) -> object:
        """The same object for as long as the same request is answered in the same way; None where nothing says so."""

    async def secrets(self) -> tuple[bytes, ...]:
        """What must not come back, as of now. Raises ConfigError."""

    async def apply(
        self, method: str, target: str, fields: Fields, host: str, body: bytes | None
    ) -> tuple[str, Fields]:
        """Target and fields with the credential; `body` is None where it is not known. Raises CredentialUnavailable."""


def injector_of(credential: HttpCredential) -> Injector:
    """The kind that the configuration names. Raises ConfigError."""
    match credential:
        case HttpCredential(bearer=Secret() as secret):
            return InHeader(_AUTHORIZATION, "Bearer {value}", Reference(secret, "the bearer token"))
        case HttpCredential(header=str(name), value=Secret() as secret, template=template):
            return InHeader(name, template, Reference(secret, f"the value of {name}"))
        case HttpCredential(query=str(name), value=Secret() as secret):
            return InQuery(name, Reference(secret, f"the value of {name}"))
        case HttpCredential(basic=basic) if basic is not None:
            return InBasic(basic.user, Reference(basic.password, "the password", in_field=False))
        case HttpCredential(sigv4=sigv4) if sigv4 is not None:
            return Signing(sigv4)
        case _:
            return Nothing()


class Reference:
    """A secret that is resolved once, or anew whenever its time is over."""

    def __init__(self, secret: Secret, what: str, *, in_field: bool = True) -> None:
        self._secret = secret
        self._what = what
        self._in_field = in_field
        self._lasts = math.inf if secret.ttl is None else secret.ttl.total_seconds()
        self._value = ""
        self._until = -math.inf
        self._lock = asyncio.Lock()

    @property
    def current(self) -> bool:
        return time.monotonic() < self._until

    @property
    def stands(self) -> object:
        """The value, while it is current."""
        return self._value if self.current else None

    async def value(self) -> str:
        """Raises ConfigError."""
        if self.current:
            return self._value
        async with self._lock:
            # Somebody else may have done it meanwhile.
            if time.monotonic() >= self._until:
                value = await asyncio.to_thread(self._secret.resolve)
                self._check(value)
                self._value, self._until = value, time.monotonic() + self._lasts
            return self._value

    def _check(self, value: str) -> None:
        if len(value.encode()) < SHORTEST:
            raise ConfigError(f"{self._what} is shorter than {SHORTEST} bytes, so it cannot be kept out of responses")
        if self._in_field and not (value.isascii() and value.isprintable() and value == value.strip()):
            raise ConfigError(f"{self._what} holds a character that no header field may have, or white space around it")


async def _now(reference: Reference) -> str:
    """While serving a wrong reference is no error of the start."""
    try:
        return await reference.value()
    except ConfigError as error:
        raise CredentialUnavailable(str(error)) from None


def _put(fields: Fields, name: str, value: str) -> Fields:
    """A field instead of all that a server may take for the same: many see no difference between - and _."""
    return Fields((*_rid(fields, (name,)).items, (name, value)))


def _rid(fields: Fields, names: tuple[str, ...]) -> Fields:
    gone = {_folded(name) for name in names}
    return Fields(tuple(item for item in fields if _folded(item[0]) not in gone))


def _folded(name: str) -> str:
    return name.lower().replace("_", "-")


class Nothing:
    """No credential, or one of the connection only."""

    injects: Final = False
    current: Final = True
    stands: Final = "nothing"

    async def secrets(self) -> tuple[bytes, ...]:
        return ()

    async def apply(
        self,
        method: str,  # noqa: ARG002 - as the others have it
        target: str,
        fields: Fields,
        host: str,  # noqa: ARG002
        body: bytes | None,  # noqa: ARG002
    ) -> tuple[str, Fields]:
        return target, fields


class InHeader:
    """A header field; `template` has the value's surroundings."""

    injects: Final = True

    def __init__(self, name: str, template: str, reference: Reference) -> None:
        self._name = name
        self._template = template
        self._reference = reference

    @property
    def current(self) -> bool:
        return self._reference.current

    @property
    def stands(self) -> object:
        return self._reference.stands

    async def secrets(self) -> tuple[bytes, ...]:
        return ((await self._reference.value()).encode(),)

    async def apply(
        self,
        method: str,  # noqa: ARG002
        target: str,
        fields: Fields,
        host: str,  # noqa: ARG002
        body: bytes | None,  # noqa: ARG002
    ) -> tuple[str, Fields]:
        value = await _now(self._reference)
        return target, _put(fields, self._name, self._template.replace("{value}", value))


class InBasic:
    """User and password."""

    injects: Final = True

    def __init__(self, user: str, password: Reference) -> None:
        self._user = user
        self._password = password

    @property
    def current(self) -> bool:
        return self._password.current

    @property
    def stands(self) -> object:
        return self._password.stands

    async def secrets(self) -> tuple[bytes, ...]:
        password = await self._password.value()
        return password.encode(), self._pair(password)

    async def apply(
        self,
        method: str,  # noqa: ARG002
        target: str,
        fields: Fields,
        host: str,  # noqa: ARG002
        body: bytes | None,  # noqa: ARG002
    ) -> tuple[str, Fields]:
        pair = self._pair(await _now(self._password)).decode()
        return target, _put(fields, _AUTHORIZATION, f"Basic {pair}")

    def _pair(self, password: str) -> bytes:
        return base64.b64encode(f"{self._user}:{password}".encode())


class InQuery:
    """A query parameter."""

    injects: Final = True

    def __init__(self, name: str, reference: Reference) -> None:
        self._name = name
        self._reference = reference

    @property
    def current(self) -> bool:
        return self._reference.current

    @property
    def stands(self) -> object:
        return self._reference.stands

    async def secrets(self) -> tuple[bytes, ...]:
        return ((await self._reference.value()).encode(),)

    async def apply(
        self,
        method: str,  # noqa: ARG002
        target: str,
        fields: Fields,
        host: str,  # noqa: ARG002
        body: bytes | None,  # noqa: ARG002
    ) -> tuple[str, Fields]:
        value = await _now(self._reference)
        path, _, query = target.partition("?")
        # However it is spelled: servers differ in what of a name they fold.
        others = [pair for pair in query.split("&") if pair and not self._is_it(pair)]
        own = f"{quote(self._name, safe='')}={quote(value, safe='')}"
        return f"{path}?{'&'.join((*others, own))}", fields

    def _is_it(self, pair: str) -> bool:
        return unquote_plus(pair.partition("=")[0]).casefold() == self._name.casefold()


class Signing:
    """AWS Signature Version 4. A body that is not known is not signed, which not every service accepts."""

    injects: Final = True

    def __init__(self, settings: SigV4) -> None:
        self._settings = settings
        self._sign = _signer(settings)
        self._access_key = Reference(settings.access_key, "the access key")
        self._secret_key = Reference(settings.secret_key, "the secret key")
        token = settings.session_token
        self._token = None if token is None else Reference(token, "the session token")

    @property
    def current(self) -> bool:
        return all(each is None or each.current for each in (self._access_key, self._secret_key, self._token))

    # The time is part of a signature.
    stands: Final = None

    async def secrets(self) -> tuple[bytes, ...]:
        # The access key is no secret by itself, but without it nobody can use a signature that a target showed.
        references = (self._access_key, self._secret_key, self._token)
        return tuple([(await each.value()).encode() for each in references if each is not None])

    async def apply(
        self, method: str, target: str, fields: Fields, host: str, body: bytes | None
    ) -> tuple[str, Fields]:
        token = None if self._token is None else await _now(self._token)
        keys = (await _now(self._access_key), await _now(self._secret_key), token)
        fields = _rid(fields, _SIGNED_ANEW)
        signed = {"Host": host}
        for name, value in fields:
            if _folded(name) in ("content-type", "content-md5") or name.lower().startswith("x-amz-"):
                signed[name.lower()] = ",".join((signed[name.lower()], value)) if name.lower() in signed else value
        if body is None and method in _BODILESS:
            body = b""
        if body is None:
            signed[_CONTENT_HASH] = _UNSIGNED
        added = self._sign(keys, method, f"https://{host}{target}", signed, body)
        for name in _SIGNED_ANEW:
            if name.lower() in added:
                fields = _put(fields, name, added[name.lower()])
        return target, fields


_Keys = tuple[str, str, str | None]
_Sign = Callable[[_Keys, str, str, Mapping[str, str], bytes | None], Mapping[str, str]]


def _signer(settings: SigV4) -> _Sign:
    try:
        auth: Any = importlib.import_module("botocore.auth")
        request: Any = importlib.import_module("botocore.awsrequest")
        credentials: Any = importlib.import_module("botocore.credentials")
    except ImportError:
        raise ConfigError('credentials of sigv4 need botocore; install it with: pip install "checkrein[aws]"') from None
    # S3 alone takes the path as it is sent, and always wants the hash of the content.
    kind = auth.S3SigV4Auth if settings.service == "s3" else auth.SigV4Auth

    def sign(keys: _Keys, method: str, url: str, fields: Mapping[str, str], body: bytes | None) -> Mapping[str, str]:
        asked = request.AWSRequest(method=method, url=url, headers=dict(fields), data=body or b"")
        if body is None:
            asked.context["payload_signing_enabled"] = False
            # S3 has a setting of its own for the same.
            asked.context["client_config"] = SimpleNamespace(s3={"payload_signing_enabled": False})
        kind(credentials.Credentials(*keys), settings.service, settings.region).add_auth(asked)
        return {str(name).lower(): str(value) for name, value in asked.headers.items()}

    return sign
