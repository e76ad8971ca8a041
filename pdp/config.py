"""The decision service's part of the configuration file, strictly read.

Sections: `version`, `state`, `pdp`, `log`; `proxies` and `decisions` belong to the enforcement points, which check
them, and are kept here as they are, for the names of the proxies that one file may start. An option which this version
does not implement is an unknown key. References to secrets are resolved where they are used, not here.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pdp.v1.operations_config import Admin, Telemetry
from pdp.v1.strict_yaml import (
    Address,
    ConfigError,
    Duration,
    FilePath,
    Secret,
    Size,
    SocketAddress,
    StrictModel,
    UnixAddress,
    load,
    socket_address,
)

ADMINISTRATION: Final = "checkrein"
"""The id and the type of the resource that stands for this service itself."""

_FILE: Final = "sqlite:///"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def _is_name(value: str) -> str:
    if _NAME.fullmatch(value) is None:
        raise ValueError("must be a name of letters, digits, dot, dash and underscore, at most 63 of them")
    return value


def _positive(value: datetime.timedelta) -> datetime.timedelta:
    if value <= datetime.timedelta(0):
        raise ValueError("must be longer than nothing")
    return value


Name = Annotated[str, AfterValidator(_is_name)]
Span = Annotated[Duration, AfterValidator(_positive)]
SubjectType = Literal["agent", "user", "service"]
# Symmetric algorithms and `none` cannot be configured: whoever can verify with them can forge.
Algorithm = Literal["ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA"]


class Tls(StrictModel):
    """Certificates that somebody else issues; without this section the service keeps an authority of its own."""

    cert: FilePath
    key: FilePath
    client_ca: FilePath


class ProxyGrant(StrictModel):
    """Which resources a proxy may speak for."""

    # The whole SAN URI of its certificate, or the name of one that the local authority issued.
    certificate: str
    # Shell patterns of resource ids.
    resources: Annotated[tuple[str, ...], Field(min_length=1)]


class SessionTokens(StrictModel):
    """What proxies present with each call."""

    ttl: Span = datetime.timedelta(minutes=15)
    # How old the key that signs them may become.
    rotate: Span = datetime.timedelta(days=1)


class Opa(StrictModel):
    """The policy engine's program and patience."""

    path: FilePath | None = None
    timeout: Span = datetime.timedelta(milliseconds=500)


class Policies(StrictModel):
    """Where the policies are, and whether a change is taken up."""

    dir: FilePath
    reload: Literal["watch", "none"] = "watch"


class Resource(StrictModel):
    """What policies see of a target."""

    type: Name
    labels: Mapping[str, str] = Field(default_factory=dict)
    database: str | None = None


class Jwks(StrictModel):
    """Where an issuer's keys are, how long they are used, and how long at most when they cannot be fetched."""

    url: str | None = None
    file: FilePath | None = None
    ca: FilePath | None = None
    refresh: Span = datetime.timedelta(minutes=5)
    stale: Span = datetime.timedelta(hours=1)

    @field_validator("url")
    @classmethod
    def _safe(cls, value: str | None) -> str | None:
        if value is not None:
            check_url(value)
        return value

    @model_validator(mode="after")
    def _one(self) -> Jwks:
        if self.url is not None and self.file is not None:
            raise ValueError("needs one of url and file, not both")
        return self


class SignIn(StrictModel):
    """What shows that a person signed in, and when: only then does a token approve anything."""

    # `iat` for an issuer that does not say when; a token that was renewed without the person looks as fresh then.
    time: Literal["auth_time", "iat"] = "auth_time"
    # Where given, one of these must be among the token's `amr` (RFC 8176), and its `acr` one of those.
    amr: tuple[str, ...] = ()
    acr: tuple[str, ...] = ()


class SubjectClaims(StrictModel):
    """How an issuer's claims become a subject."""

    type: SubjectType
    id: str = "sub"
    groups: str | None = None
    # Claims that policies may read as subject.properties.claims.
    claims: tuple[str, ...] = ()
    # The type of the party in `act`, where a token has one.
    actor: SubjectType = "agent"
    sign_in: SignIn = SignIn()


class Login(StrictModel):
    """How people sign in with this issuer at the command line (RFC 8628); its endpoints come by discovery."""

    # Of a client that the issuer knows and that has no secret.
    client_id: Annotated[str, Field(min_length=1)]
    scopes: Annotated[tuple[str, ...], Field(min_length=1)] = ("openid",)
    # Which of the tokens is shown to this service; its audience has to be the issuer's `audience` here.
    token: Literal["access_token", "id_token"] = "access_token"


class Issuer(StrictModel):
    """Whose tokens are accepted: another's, or with `self: true` this service's own."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    name: Name
    own: bool = Field(default=False, alias="self")
    token_ttl: Span | None = None
    # PEM (Ed25519), for replicas that accept one another's tokens; without it the state folder has one.
    key: Secret | None = None
    issuer: str | None = None
    # Without it a token's audience is the resource that it opens.
    audience: str | None = None
    algorithms: tuple[Algorithm, ...] = ()
    jwks: Jwks = Jwks()
    subject: SubjectClaims | None = None
    login: Login | None = None
    # Each token opens one session: its `jti` is remembered until it ends. Tokens without one are refused.
    one_time: bool = False

    @model_validator(mode="after")
    def _whole(self) -> Issuer:
        if self.own and self.login is not None:
            raise ValueError("login goes with another's issuer; for this service's own there is `pdp token`")
        if self.own:
            if self.issuer or self.audience or self.algorithms or self.subject or self.jwks != Jwks() or self.one_time:
                raise ValueError("an issuer with self: true takes name, token_ttl and key only")
            return self
        if self.token_ttl is not None or self.key is not None:
            raise ValueError(f"{'key' if self.token_ttl is None else 'token_ttl'} goes with self: true only")
        if not self.issuer or not self.algorithms or self.subject is None:
            raise ValueError("needs issuer, algorithms and subject (or self: true)")
        if self.jwks.url is None and self.jwks.file is None:
            check_url(self.issuer)
        return self


def check_url(url: str) -> None:
    """ValueError unless the keys behind this URL cannot be replaced on the way."""
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"}):
        return
    raise ValueError("must be an https URL (plain http on this machine only)")


class KeySubject(StrictModel):
    """Who a static key stands for."""

    type: SubjectType
    id: Annotated[str, Field(min_length=1, max_length=255)]
    groups: tuple[str, ...] = ()
    # What the claim of identity.people.same says of this person.
    same: Annotated[str, Field(min_length=1, max_length=255)] | None = None


class StaticKey(StrictModel):
    """A key `ck_<id>_<secret>`, known here by the hash of its secret alone."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,63}$")]
    # SHA-256 in hex. The secret has 256 random bits, so a slow hash would protect nothing.
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    subject: KeySubject
    # The one resource that the key is good for.
    audience: str
    expires: datetime.datetime | None = None

    @field_validator("expires")
    @classmethod
    def _with_zone(cls, value: datetime.datetime | None) -> datetime.datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("needs a time zone, like 2030-01-31T00:00:00Z")
        return value


class CertificateSubject(StrictModel):
    """Who stands behind the names of one part of a trust domain: `under` and one more segment, which is the id."""

    under: Annotated[str, Field(pattern=r"^/([A-Za-z0-9._-]+/)+$")]
    type: SubjectType
    groups: tuple[str, ...] = ()


_USUAL_SUBJECTS: Final = (
    CertificateSubject(under="/agent/", type="agent"),
    CertificateSubject(under="/service/", type="service"),
    CertificateSubject(under="/user/", type="user"),
)


class Certificates(StrictModel):
    """Certificates of one SPIFFE trust domain as identity.

    The service verifies them itself; that a client has the key of one, it knows from the proxy alone.
    """

    # Whose word is taken for that: names, or whole URIs, as in pdp.proxies.
    proxies: Annotated[tuple[str, ...], Field(min_length=1)]
    # The domain's authorities, those in between included; read again when the file changes.
    ca: FilePath
    domain: Annotated[str, Field(pattern=r"^[a-z0-9._-]{1,255}$")]
    subjects: Annotated[tuple[CertificateSubject, ...], Field(min_length=1)] = _USUAL_SUBJECTS

    @model_validator(mode="after")
    def _distinct(self) -> Certificates:
        _no_twice("subjects under", [each.under for each in self.subjects])
        return self


class People(StrictModel):
    """What makes two identities one human, who then does not approve what the other asks for."""

    # A claim that an issuer's tokens of people carry, with the same value wherever it is the same human.
    same: Annotated[str, Field(min_length=1, max_length=63)]


class Identity(StrictModel):
    """Whom the service believes."""

    clock_skew: Duration = datetime.timedelta(seconds=30)
    issuers: tuple[Issuer, ...] = ()
    keys: tuple[StaticKey, ...] = ()
    certificates: tuple[Certificates, ...] = ()
    people: People | None = None

    @model_validator(mode="after")
    def _distinct(self) -> Identity:
        if self.people is not None:
            for key in self.keys:
                if key.subject.type == "user" and key.subject.same is None:
                    raise ValueError(f"key {key.id} stands for a person and needs subject.same: people.same is given")
        _no_twice("issuer name", [each.name for each in self.issuers])
        _no_twice("issuer", [each.issuer or each.name for each in self.issuers])
        _no_twice("issuer with self: true", ["it" for each in self.issuers if each.own])
        _no_twice("key id", [each.id for each in self.keys])
        _no_twice("trust domain", [each.domain for each in self.certificates])
        return self


def _no_twice(what: str, values: list[str]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{what} {value} is given twice")


class Webhook(StrictModel):
    """Where a notification is posted, signed with a secret that the receiver has as well."""

    url: str
    secret: Secret
    # The authority of its certificate, if not one that the machine trusts.
    ca: FilePath | None = None

    @field_validator("url")
    @classmethod
    def _safe(cls, value: str) -> str:
        check_url(value)
        if urlsplit(value).username is not None:
            raise ValueError("holds no user and no password: the signature says who sends")
        return value


class Destination(StrictModel):
    """Who is told, and of what: questions to one of these groups, or with "*" all of them."""

    webhook: Webhook
    groups: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]


class Approvals(StrictModel):
    """How people are asked."""

    # Where people answer; shown to the client with the approval's id behind it.
    address: str | None = None
    # The longest that a statement is held inside an open transaction, where it keeps locks.
    max_in_transaction: Span = datetime.timedelta(seconds=30)
    # How long ago an approver may have signed in.
    max_sign_in_age: Span = datetime.timedelta(hours=12)
    # Who is told that something waits, by a name of the operator's.
    notify: Mapping[Name, Destination] = Field(default_factory=dict)


def _store_url(value: str, info: ValidationInfo) -> str:
    """A URL without a secret in it. A relative file is relative to the configuration's folder, as everywhere."""
    # Imported here, so that commands of an installation without this section start without what a store is made of.
    from pdp.store.url import holds_secret, read_url

    try:
        if holds_secret(value):
            raise ValueError(
                "a password never stands in this file; say where the whole URL is: {env: NAME}, {file: PATH} or"
                " {command: [...]}"
            )
        read_url(value)
    except ConfigError as error:
        raise ValueError(str(error).removeprefix("pdp.store.url: ")) from None
    base: Path | None = (info.context or {}).get("base")
    if base is not None and value.startswith(_FILE):
        return f"{_FILE}{base / value.removeprefix(_FILE)}"
    return value


class Store(StrictModel):
    """Where sessions, approvals and records are kept: a URL, or where a URL with a password is to be found."""

    url: Annotated[
        Annotated[str, AfterValidator(_store_url), Tag("literal")] | Annotated[Secret, Tag("reference")],
        Discriminator(lambda value: "literal" if isinstance(value, str) else "reference"),
    ]


class DecisionLog(StrictModel):
    """Where the decision log goes, in the format of OPA's own. Without this section: to the service's own log."""

    console: bool = False
    file: FilePath | None = None
    # How large the file gets before a new one is begun, and how many older ones stay.
    rotate: Annotated[Size, Field(ge=1 << 12)] = 100 << 20
    files: Annotated[int, Field(ge=1, le=1000)] = 5
    # A receiver of OPA's decision logs.
    url: str | None = None
    batch: Span = datetime.timedelta(seconds=5)
    token: Secret | None = None
    ca: FilePath | None = None
    # Of the input only who, what and on what; or all of it but statements, parameters and bodies.
    input: Literal["short", "whole"] = "short"

    @model_validator(mode="after")
    def _somewhere(self) -> DecisionLog:
        if self.url is not None:
            check_url(self.url)
        elif self.token is not None or self.ca is not None:
            raise ValueError("token and ca go with url")
        if not self.console and self.file is None and self.url is None:
            raise ValueError("needs at least one of console, file and url")
        return self


class KeptDecisions(StrictModel):
    """How long decisions can be looked up, and how long explained: for that their inputs are needed."""

    keep: Span = datetime.timedelta(days=30)
    inputs: Span = datetime.timedelta(days=7)
    most: Annotated[int, Field(ge=1000)] = 500_000


class Checkpoints(StrictModel):
    """How soon what a running session has on record comes under a signature: whichever is reached first."""

    every: Span = datetime.timedelta(seconds=60)
    events: Annotated[int, Field(ge=1)] = 1000
    # PEM (Ed25519), the same for all replicas. Without it a file of the state folder, or of several replicas the store.
    key: Secret | None = None


class Anchor(StrictModel):
    """Where the log of checkpoints is brought, so that this service cannot change it afterwards: one of the three."""

    # Lines are appended; best on storage that only appends.
    file: FilePath | None = None
    # Gets the lines on its standard input; 0 means that it has them.
    command: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    url: Annotated[str, Field(pattern=r"^(https://|http://(localhost|127\.0\.0\.1|\[::1\])[:/]).+$")] | None = None

    @model_validator(mode="after")
    def _one(self) -> Anchor:
        if sum(each is not None for each in (self.file, self.command, self.url)) != 1:
            raise ValueError("needs exactly one of file, command and url")
        return self

    @property
    def name(self) -> str:
        """For people and logs: of a URL no more than its host, of a command its program."""
        if self.url is not None:
            return str(urlsplit(self.url).hostname)
        return str(self.file or (self.command or ("",))[0])


class Retain(StrictModel):
    """How long what is on record is kept; without a time, for ever."""

    # Statements, parameters, results; what people were asked to approve.
    bodies: Span | None = None
    # Whole sessions, after their end; and of proxies' processes that have ended and left none, what is said of them.
    index: Span | None = None
    # Questions to people, after they are over. Their records are the sessions'.
    approvals: Span | None = None
    # What people were sent about them.
    notifications: Span = datetime.timedelta(days=30)

    @model_validator(mode="after")
    def _in_order(self) -> Retain:
        if self.index is not None and self.bodies is not None and self.index < self.bodies:
            raise ValueError("index: a session is kept at least as long as its bodies")
        return self


class Records(StrictModel):
    """What is kept of what happened."""

    retain: Retain = Retain()
    checkpoints: Checkpoints = Checkpoints()
    anchors: tuple[Anchor, ...] = ()
    decision_log: DecisionLog | None = None
    decisions: KeptDecisions = KeptDecisions()


class Limits(StrictModel):
    """Shares, each for the person or workload at the end of a chain."""

    sessions_per_subject: Annotated[int, Field(ge=1)] = 500
    pending_approvals_per_subject: Annotated[int, Field(ge=1)] = 50
    # At each replica.
    decisions_per_second_per_subject: Annotated[int, Field(ge=1)] = 1000
    # At each replica; those above it wait, each subject's for its turn.
    decisions_at_once: Annotated[int, Field(ge=1)] = 64
    decisions_at_once_per_subject: Annotated[int, Field(ge=1)] = 8


class Service(StrictModel):
    """The section `pdp`."""

    listen: Address | None = None
    tls: Tls | None = None
    proxies: tuple[ProxyGrant, ...] | None = None
    session_tokens: SessionTokens = SessionTokens()
    opa: Opa = Opa()
    policies: Policies
    resources: Mapping[Name, Resource] = Field(default_factory=dict)
    identity: Identity = Identity()
    approvals: Approvals = Approvals()
    store: Store | None = None
    records: Records = Records()
    limits: Limits = Limits()
    # Where the service says whether it is alive and ready, and its metrics; nowhere without it.
    admin: Admin | None = None

    @field_validator("resources")
    @classmethod
    def _not_reserved(cls, value: Mapping[str, Resource]) -> Mapping[str, Resource]:
        if ADMINISTRATION in value:
            raise ValueError(f"{ADMINISTRATION} is this service itself")
        if any(resource.type == ADMINISTRATION for resource in value.values()):
            raise ValueError(f"the type {ADMINISTRATION} is this service itself")
        return value


class NamedProxy(StrictModel):
    """A proxy of the same file, as far as this service needs it; the proxy itself checks the rest."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, hide_input_in_errors=True)

    name: Name
    resource: str


class Log(StrictModel):
    """How the process speaks of itself."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


class Config(StrictModel):
    """The whole file."""

    version: Literal[1]
    # Authority, certificates, store, keys, sockets; made on first start, for this user alone.
    state: FilePath
    pdp: Service
    decisions: Any = None
    proxies: tuple[NamedProxy, ...] = ()
    log: Log = Log()
    telemetry: Telemetry = Telemetry()

    @model_validator(mode="after")
    def _whole(self) -> Config:
        _no_twice("proxy", [each.name for each in self.proxies])
        for proxy in self.proxies:
            if proxy.resource not in self.pdp.resources:
                raise ValueError(f"proxies: {proxy.name} serves {proxy.resource}, which pdp.resources does not name")
        # The last part of the URI is the name that a proxy's own chain of records has.
        _no_twice("pdp.proxies: the name", [each.certificate.rpartition("/")[2] for each in self.grants])
        return self

    @property
    def listen(self) -> SocketAddress:
        """Where the service listens."""
        return self.pdp.listen or UnixAddress(self.state / "pdp.sock")

    def store_url(self) -> str:
        """The store, as SQLAlchemy names it. Blocks where it has to be fetched; ConfigError says what to do."""
        if self.pdp.store is None:
            return f"{_FILE}{self.state / 'pdp.db'}"
        url = self.pdp.store.url
        return url if isinstance(url, str) else url.resolve()

    @property
    def grants(self) -> tuple[ProxyGrant, ...]:
        """Which proxy may serve which resources; by default each proxy of the file its own."""
        if self.pdp.proxies is not None:
            return self.pdp.proxies
        return tuple(ProxyGrant(certificate=each.name, resources=(each.resource,)) for each in self.proxies)


def load_config(path: Path) -> Config:
    """The file, or ConfigError with every mistake in it."""
    config = load(path, Config)
    try:
        socket_address(str(config.listen))
    except ValueError as error:
        raise ConfigError(f"{path}: pdp.listen: {config.listen} {error}") from None
    return config
