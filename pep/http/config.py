"""What a proxy's section of the configuration says besides the common part, if its protocol is HTTP.

Names only what the other modules of this package do with it. Secrets are references; nothing here resolves one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pep.core.config import (
    Approval,
    Duration,
    FilePath,
    Limits,
    Listen,
    ProxyConfig,
    Secret,
    Size,
    StrictModel,
    TcpAddress,
    Upstream,
    is_loopback,
    seconds,
)

_PORTS: Final = {"http": 80, "https": 443}
_ORIGIN = re.compile(r"(https?)://(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?/?")
# RFC 9110 section 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# RFC 3986 section 3.3, without percent-encoding: what is compared here is in canonical form.
_SEGMENT = r"[A-Za-z0-9._~!$&'()*+,=:@-]+"
_PATH = re.compile(rf"(?:/{_SEGMENT})*/?")
_ROUTE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (/\S*)")
_ANY: Final = "*"

# What says who the client is: it belongs in no input of a policy, and so in no record.
_CREDENTIALS: Final = frozenset({"authorization", "proxy-authorization", "x-checkrein-key", "cookie"})
# What frames or routes a message; a secret put there would break the one or the other.
_FRAMING: Final = frozenset(
    {"connection", "content-length", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)


@dataclass(frozen=True, slots=True)
class Origin(TcpAddress):
    """Where the target is, and whether it is spoken to by TLS. RFC 6454 section 4."""

    scheme: Literal["http", "https"] = "https"

    @property
    def authority(self) -> str:
        """As the Host field has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def _origin(value: object) -> object:
    if isinstance(value, Origin):
        return value
    found = _ORIGIN.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('must be "https://HOST", "https://HOST:PORT" or the same with http; a path is base_path')
    scheme: Literal["http", "https"] = "http" if found[1] == "http" else "https"
    port = _PORTS[scheme] if found[4] is None else int(found[4])
    if not 0 < port <= 65535:
        raise ValueError("must have a port between 1 and 65535")
    return Origin((found[2] or found[3]).lower(), port, scheme)


def _path(value: str) -> str:
    if not value.startswith("/") or _PATH.fullmatch(value) is None or {".", ".."} & set(value.split("/")):
        raise ValueError('must be a path like "/mcp", without query, percent-encoding, "//" and dots as a segment')
    return value


def _base(value: str) -> str:
    return "" if value in ("", "/") else _path(value).removesuffix("/")


def _field_name(value: str) -> str:
    if _TOKEN.fullmatch(value) is None:
        raise ValueError("must be the name of a header field")
    return value


def _shown(value: str) -> str:
    if _field_name(value).lower() in _CREDENTIALS:
        raise ValueError("this field carries a credential, which no policy sees and no record holds")
    return value.lower()


def _injected(value: str) -> str:
    if _field_name(value).lower() in _FRAMING:
        raise ValueError("this field says how the message travels; no credential goes there")
    return value


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path; a segment `*` stands for any one. Written for what an operator has to name beforehand."""

    method: str
    segments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.method} /{'/'.join(self.segments)}"

    def matches(self, method: str, segments: Sequence[str]) -> bool:
        """Whether a request is of this route, as the most lenient of servers reads it.

        What it names is what needs a permission of its own, so a reading too many is on the safe side: letters of
        either case are one, and so is a path with a slash at its end.
        """
        asked = [segment.casefold() for segment in segments if segment]
        own = [segment.casefold() for segment in self.segments]
        return (
            method.upper() == self.method
            and len(asked) == len(own)
            and all(one in (_ANY, other) for one, other in zip(own, asked, strict=True))
        )


def _route(value: object) -> object:
    if isinstance(value, Route):
        return value
    found = _ROUTE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('must be a method and a path, like "POST /v1/keys" or "POST /v1/users/*/keys"')
    return Route(found[1].upper(), tuple(segment for segment in _path(found[2]).split("/") if segment))


Address = Annotated[Origin, BeforeValidator(_origin)]
PathText = Annotated[str, AfterValidator(_path)]
ShownField = Annotated[str, AfterValidator(_shown)]
InjectedField = Annotated[str, AfterValidator(_injected)]
RoutePattern = Annotated[Route, BeforeValidator(_route)]


class CrossOrigin(StrictModel):
    """Of which origins pages in a browser may send requests with a token; each is named, "*" is none."""

    origins: Annotated[tuple[Address, ...], Field(min_length=1)]
    # How long a browser may keep the answer that they may.
    max_age: Duration = seconds(10 * 60)


class HttpListen(Listen):
    """Where clients connect, and how they may say who they are.

    `bearer` is a token in Authorization, `key` a static key there or in X-Checkrein-Key, `basic` either of them as the
    password of Basic, for clients that can do nothing else.
    """

    login: Annotated[tuple[Literal["bearer", "key", "basic"], ...], Field(min_length=1)] = ("bearer", "key")
    cors: CrossOrigin | None = None
    # By default where there is TLS. Without TLS it has to be said, and clients have to know it beforehand.
    http2: bool | None = None

    @property
    def speaks_http2(self) -> bool:
        return self.tls is not None if self.http2 is None else self.http2


class HttpUpstream(Upstream):
    """The API. Without TLS it must be on this machine, unless `plaintext` vouches for another protection."""

    addresses: Annotated[tuple[Address, ...], Field(min_length=1)]
    plaintext: bool = False
    openapi: FilePath | None = None
    # What comes before each path on its way to the target; the client and the policies do not see it.
    base_path: Annotated[str, AfterValidator(_base)] = ""

    @property
    def scheme(self) -> Literal["http", "https"]:
        return self.addresses[0].scheme

    @model_validator(mode="after")
    def _protected(self) -> HttpUpstream:
        if any(address.scheme != self.scheme for address in self.addresses):
            raise ValueError("addresses must all be https or all http")
        if self.scheme == "https":
            if self.tls.mode == "disable":
                raise ValueError("an address is https, so tls must not be disabled")
            return self
        if "tls" in self.model_fields_set and self.tls.mode != "disable":
            raise ValueError("tls does not go with http; the addresses must be https")
        far = [address for address in self.addresses if not is_loopback(address)]
        if far and not self.plaintext:
            raise ValueError(f"{far[0]} is not on this machine, so it must be https (plaintext: true allows it)")
        return self


class Basic(StrictModel):
    """RFC 7617."""

    user: Annotated[str, Field(pattern=r"^[^:\x00-\x1f\x7f]*$")]
    password: Secret


class SigV4(StrictModel):
    """AWS Signature Version 4: each request is signed for this region and service."""

    region: str
    service: str
    access_key: Secret
    secret_key: Secret
    session_token: Secret | None = None


class HttpCredential(StrictModel):
    """What the target is shown: exactly one of `header`, `bearer`, `basic`, `query`, `sigv4` and `none`.

    `header` and `query` are names, and go with `value`; `template` says what stands around the value in the header.
    With a client certificate (`upstream.tls.cert`) and nothing else it is `none`.
    """

    header: InjectedField | None = None
    query: Annotated[str, Field(min_length=1)] | None = None
    value: Secret | None = None
    template: str = "{value}"
    bearer: Secret | None = None
    basic: Basic | None = None
    sigv4: SigV4 | None = None
    none: Literal[True] | None = None

    @model_validator(mode="after")
    def _one(self) -> HttpCredential:
        kinds = (self.header, self.query, self.bearer, self.basic, self.sigv4, self.none)
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("needs exactly one of header, query, bearer, basic, sigv4 and none")
        if (self.value is not None) != (self.header is not None or self.query is not None):
            raise ValueError("value goes with header and query, and they with it")
        if self.header is None and "template" in self.model_fields_set:
            raise ValueError("template goes with header only")
        if self.template.count("{value}") != 1 or not self.template.isprintable():
            raise ValueError('template must hold "{value}" once, and no control character')
        return self

    def secrets(self) -> Mapping[str, Secret]:
        """What has to be resolved, by the key it stands under."""
        found: dict[str, Secret | None] = {"value": self.value, "bearer": self.bearer}
        if self.basic is not None:
            found["password"] = self.basic.password
        if self.sigv4 is not None:
            found["access_key"] = self.sigv4.access_key
            found["secret_key"] = self.sigv4.secret_key
            found["session_token"] = self.sigv4.session_token
        return {name: secret for name, secret in found.items() if secret is not None}


class Http(StrictModel):
    """What of a request policies see, and what becomes of it."""

    headers_in_input: tuple[ShownField, ...] = ()
    # A body that a decision needs is read up to here; a longer one is denied.
    body_limit: Annotated[Size, Field(ge=1)] = 1 << 20
    # A body that has to be masked may have so many bytes once it is unpacked.
    decoded_limit: Annotated[Size, Field(ge=1)] = 64 << 20
    header_bytes: Annotated[Size, Field(ge=1 << 10, le=1 << 20)] = 64 << 10
    mcp: tuple[PathText, ...] = ()
    graphql: tuple[PathText, ...] = ()
    # Where the target hands out credentials: a way around the proxy, denied unless a rule names it.
    mints_access: tuple[RoutePattern, ...] = ()
    preserve_host: bool = False
    websocket: bool = True

    @model_validator(mode="after")
    def _apart(self) -> Http:
        if both := sorted(set(self.mcp) & set(self.graphql)):
            raise ValueError(f"{both[0]} cannot be an endpoint of mcp and of graphql")
        return self


class HttpLimits(Limits):
    """What clients may use. Sessions belong to credentials, and one may have many connections."""

    connections: Annotated[int, Field(ge=1)] = 2000
    connections_per_address: Annotated[int, Field(ge=1)] = 1500
    # Requests of one person or workload that are served at once.
    requests_per_subject: Annotated[int, Field(ge=1)] = 1500
    # At once on one connection of HTTP/2.
    streams: Annotated[int, Field(ge=1, le=1000)] = 100
    # From the first byte of a request's head to its last, and for a TLS handshake.
    head: Duration = seconds(10)
    # Between two requests of a connection.
    idle: Duration = seconds(60)
    # A body of which nothing arrives, or of which the client takes nothing, for so long is given up.
    stalled: Duration = seconds(30)
    # How long a target may take to begin its response.
    response: Duration | None = None
    # A session without a request for so long ends; the next request opens another.
    session_idle: Duration = seconds(5 * 60)

    @property
    def most_connections(self) -> int:
        return self.connections

    @property
    def most_per_address(self) -> int:
        return self.connections_per_address


class HttpApproval(Approval):
    """How long a request may wait for people here; a client that prefers it is told to come back (RFC 7240)."""

    hold: Duration = seconds(60)
    respond_async: bool = True


class HttpProxy(ProxyConfig):
    """One proxy before one API."""

    listen: HttpListen
    upstream: HttpUpstream
    credentials: Mapping[str, HttpCredential]
    http: Http = Http()
    limits: HttpLimits = HttpLimits()
    approval: HttpApproval = HttpApproval()

    @model_validator(mode="after")
    def _named(self) -> HttpProxy:
        if set(self.credentials) != {"default"}:
            raise ValueError('credentials must have "default", and no other')
        return self

    @property
    def credential(self) -> HttpCredential:
        """The one that every request is given."""
        return self.credentials["default"]

    def secrets(self) -> Mapping[str, Secret]:
        own = {f"secret {name} of the credential default": secret for name, secret in self.credential.secrets().items()}
        return {**own, **super().secrets()}

    def files(self) -> Mapping[str, Path]:
        return {} if self.upstream.openapi is None else {"OpenAPI document": self.upstream.openapi}
