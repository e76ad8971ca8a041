"""`pdp.identity`: whom the service believes. Issuers of tokens, static keys, certificates, and who is the same human.

What is read here is carried out in the package `pdp.identity`.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from pdp.config.values import Algorithm, Name, Span, SubjectType, check_url, no_twice
from pdp.v1.config_values import Duration, FilePath, Secret
from pdp.v1.strict_yaml import StrictModel


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
        no_twice("subjects under", [each.under for each in self.subjects])
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
        no_twice("issuer name", [each.name for each in self.issuers])
        no_twice("issuer", [each.issuer or each.name for each in self.issuers])
        no_twice("issuer with self: true", ["it" for each in self.issuers if each.own])
        no_twice("key id", [each.id for each in self.keys])
        no_twice("trust domain", [each.domain for each in self.certificates])
        return self
