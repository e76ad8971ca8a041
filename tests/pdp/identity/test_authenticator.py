"""Which credentials are accepted, and what the ones that are not accepted try."""

import asyncio
import base64
import datetime
import hashlib
import hmac
import json
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from pdp.config import Identity
from pdp.identity.authenticator import Authenticator
from pdp.identity.subject import Authenticated, AuthenticationFailed, Party
from pdp.identity.tokens import OwnIssuer, TokenRequest, now_utc

ISSUER = "https://login.example.org"
EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
OWN = OwnIssuer("checkrein", ed25519.Ed25519PrivateKey.generate(), datetime.timedelta(minutes=10), now_utc)


def jwk(key: Any, **more: Any) -> dict[str, Any]:
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), **more}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [jwk(EC_KEY, kid="e1"), jwk(RSA_KEY, kid="r1", alg="RS256")]}))
    return file


def settings(keys: Path, **more: Any) -> Identity:
    issuer = {
        "name": "corp",
        "issuer": ISSUER,
        "algorithms": ["ES256", "RS256"],
        "jwks": {"file": str(keys)},
        "subject": {"type": "user", "id": "email", "groups": "groups", "claims": ["department"]},
    } | more
    document = {"clock_skew": "30s", "issuers": [issuer, {"name": "checkrein", "self": True}]}
    return Identity.model_validate_json(json.dumps(document))


# Made when the tests are collected, and the last of them may run many minutes later.
DAY = 86_400


def claims(**more: Any) -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": ISSUER,
        "aud": "shop",
        "sub": "17",
        "email": "alice@example.org",
        "groups": ["staff"],
        "iat": now,
        "exp": now + DAY,
    } | more


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in claims().items() if key != name}


def signed(said: Mapping[str, Any], key: Any = EC_KEY, algorithm: str = "ES256", **header: Any) -> str:
    # The lower layer, because the upper one does not sign claims that are wrong.
    return jwt.PyJWS().encode(json.dumps(said).encode(), key, algorithm=algorithm, headers={"kid": "e1"} | header)


def authenticate(keys: Path, token: str, resource: str = "shop", **more: Any) -> Authenticated:
    return asyncio.run(Authenticator(settings(keys, **more), OWN).bearer(token, resource))


def refused(keys: Path, token: str, resource: str = "shop", **more: Any) -> str:
    with pytest.raises(AuthenticationFailed) as error:
        authenticate(keys, token, resource, **more)
    return str(error.value)


def raw(header: Mapping[str, Any], said: Mapping[str, Any], sign: Callable[[bytes], bytes] = lambda _: b"") -> str:
    """A token that no library would make."""
    parts = [base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=") for each in (header, said)]
    text = b".".join(parts)
    return (text + b"." + base64.urlsafe_b64encode(sign(text)).rstrip(b"=")).decode()


def ec_signature(key: ec.EllipticCurvePrivateKey, text: bytes) -> bytes:
    return jwt.utils.der_to_raw_signature(key.sign(text, ec.ECDSA(hashes.SHA256())), key.curve)


def test_a_token_of_a_configured_issuer_becomes_a_subject(keys: Path):
    who = authenticate(keys, signed(claims(department="sales", secret="s")))
    assert who.subject.document() == {
        "type": "user",
        "id": "alice@example.org",
        "properties": {
            "groups": ["staff"],
            "issuer": "corp",
            "method": "jwt",
            "claims": {"department": "sales"},
        },
    }
    assert who.expires_at is not None
    assert who.subject.chain == {"alice@example.org"}


def test_the_agent_that_acts_is_the_subject_and_the_person_is_behind_it(keys: Path):
    act = {"sub": "planner", "groups": ["agents"], "act": {"sub": "scheduler"}}
    who = authenticate(keys, signed(claims(act=act))).subject
    assert (who.type, who.id, who.groups) == ("agent", "planner", ("agents",))
    assert who.on_behalf_of == Party("user", "alice@example.org", ("staff",))
    assert who.chain == {"planner", "scheduler", "alice@example.org"}


@pytest.mark.parametrize("act", ["planner", {}, {"sub": ""}, {"sub": "a", "act": 1}, {"sub": "a", "groups": "agents"}])
def test_a_chain_that_is_none_is_refused(keys: Path, act: Any):
    refused(keys, signed(claims(act=act)))


def test_rsa_and_a_token_without_key_id_work_where_only_one_key_fits(keys: Path):
    authenticate(keys, signed(claims(), RSA_KEY, "RS256", kid="r1"))
    token = jwt.encode(claims(), EC_KEY, algorithm="ES256")
    assert "kid" not in jwt.get_unverified_header(token)
    authenticate(keys, token)


def public_pem(key: Any) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None])
def test_an_unsigned_token_is_refused(keys: Path, algorithm: str | None):
    refused(keys, raw({"alg": algorithm, "kid": "e1"}, claims()))
    refused(keys, raw({"alg": algorithm, "kid": OWN.key_id, "typ": "checkrein-identity+jwt"}, own_claims()))


@pytest.mark.parametrize("key", [RSA_KEY, EC_KEY])
@pytest.mark.parametrize("kid", ["e1", "r1"])
def test_a_public_key_is_no_shared_secret(keys: Path, key: Any, kid: str):
    def sign(text: bytes) -> bytes:
        return hmac.new(public_pem(key), text, hashlib.sha256).digest()

    refused(keys, raw({"alg": "HS256", "kid": kid}, claims(), sign))
    # Nor if somebody had it pinned, which the configuration does not accept.
    with pytest.raises(ValueError, match="algorithms"):
        settings(keys, algorithms=["HS256"])


def test_an_own_token_signed_with_its_public_key_as_secret_is_refused(keys: Path):
    secret = OWN.public_key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    header = {"alg": "HS256", "kid": OWN.key_id, "typ": "checkrein-identity+jwt"}
    refused(keys, raw(header, own_claims(), lambda text: hmac.new(secret, text, hashlib.sha256).digest()))


@pytest.mark.parametrize("kid", ["", "e2", "../../dev/null", "e1' or '1'='1", "0/ES256", 1, None, ["e1"], {"a": 1}])
def test_a_key_id_chooses_among_the_issuers_keys_and_nothing_else(keys: Path, kid: Any):
    def sign(text: bytes) -> bytes:
        return ec_signature(OTHER_KEY, text)

    refused(keys, raw({"alg": "ES256", "kid": kid}, claims(), sign))


@pytest.mark.parametrize(
    "header",
    [
        {"jwk": jwk(OTHER_KEY, kid="e1")},
        {"jku": "https://evil.example.org/keys"},
        {"x5u": "https://evil.example.org/cert"},
        {"x5c": ["AAAA"]},
    ],
)
def test_a_token_does_not_bring_its_own_key(keys: Path, header: Mapping[str, Any]):
    refused(keys, signed(claims(), OTHER_KEY, **header))
    # And these headers do not matter where the signature is good.
    authenticate(keys, signed(claims(), **header))


@pytest.mark.parametrize("header", [{"crit": ["exp"]}, {"b64": False, "crit": ["b64"]}])
def test_a_token_that_asks_for_extensions_is_refused(keys: Path, header: Mapping[str, Any]):
    def sign(text: bytes) -> bytes:
        return ec_signature(EC_KEY, text)

    authenticate(keys, raw({"alg": "ES256", "kid": "e1"}, claims(), sign))
    refused(keys, raw({"alg": "ES256", "kid": "e1", **header}, claims(), sign))


def test_a_key_serves_its_own_algorithm_only(keys: Path):
    # The RSA key is for RS256; the same key under another padding is another key.
    refused(keys, signed(claims(), RSA_KEY, "PS256", kid="r1"), algorithms=["PS256", "RS256"])
    refused(keys, signed(claims(), RSA_KEY, "RS256", kid="r1"), algorithms=["ES256"])


@pytest.mark.parametrize(
    "said",
    [
        claims(aud="pay"),
        claims(aud=["shop", "pay"]),
        claims(aud=[]),
        claims(aud=None),
        claims(aud={"shop": 1}),
        without("aud"),
        claims(exp=int(time.time()) - 60),
        claims(exp=1),
        claims(exp="9999999999999"),
        claims(exp=1e400),
        claims(exp=10**30),
        without("exp"),
        without("iat"),
        claims(iat=int(time.time()) + DAY),
        claims(nbf=int(time.time()) + DAY),
        claims(iss="https://login.example.org/"),
        claims(iss="https://evil.example.org"),
        claims(iss=None),
        claims(iss=["https://login.example.org"]),
        without("iss"),
        without("email"),
        claims(email=""),
        claims(email=7),
        claims(email="a\nb"),
        claims(email="x" * 256),
        claims(email_verified=False),
        claims(email_verified="false"),
        claims(groups="staff"),
        claims(groups=[1]),
        claims(iss="checkrein"),
    ],
)
def test_claims_that_do_not_fit_are_refused(keys: Path, said: Mapping[str, Any]):
    refused(keys, signed(said))


def test_a_configured_audience_replaces_the_resource(keys: Path):
    authenticate(keys, signed(claims(aud=["account", "checkrein-api"])), audience="checkrein-api")
    refused(keys, signed(claims()), audience="checkrein-api")


def test_clocks_may_differ_a_little(keys: Path):
    now = int(time.time())
    authenticate(keys, signed(claims(exp=now - 10)))
    authenticate(keys, signed(claims(iat=now + 10, nbf=now + 10)))


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "x" * 20000, "eyJhbGciOiJFUzI1NiJ9..", "\x00", "ey.ey.ey"])
def test_what_is_no_token_is_refused(keys: Path, token: str):
    refused(keys, token)


def test_a_signature_of_another_key_or_text_is_refused(keys: Path):
    refused(keys, signed(claims(), OTHER_KEY))
    head, body, signature = signed(claims()).split(".")
    other = signed(claims(email="mallory@example.org")).split(".")[1]
    refused(keys, f"{head}.{other}.{signature}")
    refused(keys, f"{head}.{body}.")


@pytest.mark.parametrize(
    "document",
    [
        {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "e1", "alg": "HS256"}]},
        {"keys": [jwk(EC_KEY, kid="e1", use="enc")]},
        {"keys": [jwk(EC_KEY, kid="e1", alg="ES384")]},
        {"keys": "none"},
        [],
    ],
)
def test_keys_that_are_not_fit_are_not_used(keys: Path, document: Any):
    keys.write_text(json.dumps(document))
    refused(keys, signed(claims()))


def test_a_key_that_is_too_short_is_not_used_although_it_has_signed(keys: Path):
    short = rsa.generate_private_key(65537, 1024)
    keys.write_text(json.dumps({"keys": [jwk(short, kid="e1", alg="RS256")]}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", jwt.warnings.InsecureKeyLengthWarning)
        refused(keys, signed(claims(), short, "RS256"))


def own_claims(**more: Any) -> dict[str, Any]:
    return claims(iss="checkrein", sub="planner", sub_profile="agent", groups=["agents"]) | more


def own_signed(said: Mapping[str, Any], **header: Any) -> str:
    headers = {"kid": OWN.key_id, "typ": "checkrein-identity+jwt"} | header
    return jwt.encode(dict(said), OWN._key, algorithm="EdDSA", headers=headers)


def test_what_the_own_issuer_mints_is_read_back_whole(keys: Path):
    request = TokenRequest(
        Party("agent", "planner", ("agents",)),
        "shop",
        on_behalf_of=Party("user", "alice", ("staff",)),
        workflow={"graph": "g", "node": "n", "run": "r", "thread": "t"},
        purpose={"ticket": "T-1"},
        minted_by=("bob",),
    )
    who = authenticate(keys, OWN.mint(request).token).subject
    assert who.document() == {
        "type": "agent",
        "id": "planner",
        "properties": {
            "groups": ["agents"],
            "issuer": "checkrein",
            "method": "jwt",
            "purpose": {"ticket": "T-1"},
            "workflow": {"graph": "g", "node": "n", "run": "r", "thread": "t"},
            "on_behalf_of": {"type": "user", "id": "alice", "groups": ["staff"]},
        },
    }
    assert who.chain == {"planner", "alice", "bob"}


@pytest.mark.parametrize(
    ("said", "header"),
    [
        (own_claims(), {"typ": "JWT"}),
        (own_claims(), {"typ": "checkrein-session+jwt"}),
        (own_claims(), {"kid": "other"}),
        (own_claims(aud="pay"), {}),
        (own_claims(sub_profile="king"), {}),
        (own_claims(workflow={"graph": "g", "admin": "yes"}), {}),
        (own_claims(workflow={"graph": ["g"]}), {}),
        (own_claims(act={"sub": "x"}), {}),
        (own_claims(exp=1), {}),
    ],
)
def test_an_own_token_that_does_not_fit_is_refused(keys: Path, said: Mapping[str, Any], header: Mapping[str, Any]):
    authenticate(keys, own_signed(own_claims()))
    refused(keys, own_signed(said, **header))


def test_an_own_token_of_another_installation_is_refused(keys: Path):
    other = OwnIssuer("checkrein", ed25519.Ed25519PrivateKey.generate(), datetime.timedelta(minutes=1), now_utc)
    refused(keys, other.mint(TokenRequest(Party("user", "alice"), "shop")).token)


SECRET = "abcdefghijklmnopqrstuvwxyz_0123456789-ABCDEF"


def with_keys(**more: Any) -> Authenticator:
    key = {
        "id": "ci-1",
        "hash": hashlib.sha256(SECRET.encode()).hexdigest(),
        "subject": {"type": "service", "id": "ci", "groups": ["builders"]},
        "audience": "shop",
    } | more
    return Authenticator(Identity.model_validate_json(json.dumps({"keys": [key]})), None)


def test_a_static_key_stands_for_its_subject():
    who = asyncio.run(with_keys().bearer(f"ck_ci-1_{SECRET}", "shop"))
    assert (who.subject.type, who.subject.id, who.subject.groups) == ("service", "ci", ("builders",))
    assert who.subject.method == "static_key"
    assert who.signed_in_at is None


@pytest.mark.parametrize(
    ("key", "resource", "more"),
    [
        (f"ck_ci-1_{SECRET}x", "shop", {}),
        (f"ck_ci-2_{SECRET}", "shop", {}),
        (f"ck_ci-1_{SECRET}\n", "shop", {}),
        ("ck_ci-1_", "shop", {}),
        ("ck_ci-1", "shop", {}),
        (f"ck_ci-1_{SECRET}", "pay", {}),
        (f"ck_ci-1_{SECRET}", "shop", {"expires": "2020-01-01T00:00:00Z"}),
    ],
)
def test_a_key_that_does_not_fit_is_refused(key: str, resource: str, more: Mapping[str, Any]):
    with pytest.raises(AuthenticationFailed):
        with_keys(**more).static_key(key, resource)
