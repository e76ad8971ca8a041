"""Which client certificates are accepted as identity, from which proxies, and who they then stand for."""

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pdp.config import Identity
from pdp.identity.authenticator import Authenticator
from pdp.identity.subject import Authenticated, AuthenticationFailed
from pdp.identity.tokens import now_utc
from pdp.v1.strict_yaml import ConfigError

PAY = "spiffe://checkrein/pep/pay"
HOUR = datetime.timedelta(hours=1)
NAME = "spiffe://corp.example/agent/planner"
NOW = now_utc().replace(microsecond=0)


@dataclass(frozen=True)
class Signed:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def signed(
    name: str,
    uris: Sequence[str] = (),
    by: Signed | None = None,
    *,
    signs: bool = False,
    purpose: x509.ObjectIdentifier | None = None,
    life: datetime.timedelta = HOUR,
    path_length: int | None = None,
) -> Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = by or Signed(None, key)  # type: ignore[arg-type]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - HOUR)
        .not_valid_after(NOW + life)
        .add_extension(x509.BasicConstraints(signs, path_length), critical=True)
        .add_extension(x509.KeyUsage(not signs, False, False, False, False, signs, signs, False, False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
    )
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    return Signed(builder.sign(issuer.key, hashes.SHA256()), key)


CORP = signed("corp", signs=True)
OTHER = signed("corp", signs=True)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime.datetime:
        return self.now


@dataclass(frozen=True)
class Judge:
    """An authenticator of certificates in the trust domains corp.example and other.example."""

    folder: Path
    clock: Clock
    authenticator: Authenticator

    def who(self, *chain: bytes, proxy: str = PAY) -> Authenticated:
        return self.authenticator.certificate(chain, proxy)

    def refuses(self, *chain: bytes, proxy: str = PAY) -> str:
        with pytest.raises(AuthenticationFailed) as error:
            self.who(*chain, proxy=proxy)
        return str(error.value)


def judge(folder: Path, **more: Any) -> Judge:
    (folder / "corp.pem").write_bytes(CORP.pem)
    (folder / "other.pem").write_bytes(OTHER.pem)
    corp = {"proxies": ["pay"], "ca": str(folder / "corp.pem"), "domain": "corp.example"} | more
    other = {"proxies": ["pay"], "ca": str(folder / "other.pem"), "domain": "other.example"}
    settings = Identity.model_validate_json(json.dumps({"certificates": [corp, other]}))
    clock = Clock()
    return Judge(folder, clock, Authenticator(settings, None, clock))


@pytest.fixture
def corp(tmp_path: Path) -> Judge:
    return judge(tmp_path)


@pytest.mark.parametrize("type_", ["agent", "service", "user"])
def test_a_certificate_stands_for_the_name_in_it(corp: Judge, type_: str):
    who = corp.who(signed("anything", [f"spiffe://corp.example/{type_}/planner"], CORP).der)
    assert (who.subject.type, who.subject.id, who.subject.groups) == (type_, "planner", ())
    assert (who.subject.issuer, who.subject.method) == ("spiffe://corp.example", "certificate")
    # Nobody was there in person, so it approves nothing.
    assert who.signed_in_at is None
    assert who.expires_at == NOW + HOUR


def test_the_configuration_says_who_has_which_names(tmp_path: Path):
    subjects = [{"under": "/ns/prod/sa/", "type": "service", "groups": ["prod"]}, {"under": "/bots/", "type": "agent"}]
    corp = judge(tmp_path, subjects=subjects)
    found = corp.who(signed("x", ["spiffe://corp.example/ns/prod/sa/Billing_1.x"], CORP).der).subject
    assert (found.type, found.id, found.groups) == ("service", "Billing_1.x", ("prod",))
    assert corp.who(signed("x", ["spiffe://corp.example/bots/b"], CORP).der).subject.type == "agent"
    for path in ("/agent/planner", "/ns/prod/sa/a/b", "/ns/prod/sa", "/bots", "/ns/prod/", "/x/bots/b"):
        assert corp.refuses(signed("x", [f"spiffe://corp.example{path}"], CORP).der)


@pytest.mark.parametrize(
    "uris",
    [
        [],
        ["https://corp.example/agent/planner"],
        ["spiffe://corp.example/agent"],
        ["spiffe://corp.example/agent/"],
        ["spiffe://corp.example/admin/planner"],
        ["spiffe://corp.example/agent/a/b"],
        ["spiffe://corp.example/agent/.."],
        ["spiffe://corp.example/agent/."],
        ["spiffe://corp.example/./agent/a"],
        ["spiffe://corp.example//agent/a"],
        ["spiffe://corp.example/agent/a%2fb"],
        ["spiffe://corp.example/agent/a?b"],
        ["spiffe://corp.example/agent/a#b"],
        ["spiffe://corp.example/agent/a\n"],
        ["spiffe://corp.example:443/agent/a"],
        ["spiffe://bob@corp.example/agent/a"],
        ["spiffe://CORP.example/agent/a"],
        ["spiffe://unknown.example/agent/a"],
        ["spiffe://corp.example/agent/" + "a" * 256],
        [NAME, "spiffe://corp.example/agent/other"],
        [NAME, "https://corp.example"],
    ],
)
def test_whatever_is_not_exactly_one_name_of_the_domain_is_nobody(corp: Judge, uris: list[str]):
    assert corp.refuses(signed("planner", uris, CORP).der)


def test_only_the_domains_own_authority_vouches_for_its_names(corp: Judge):
    other = signed("x", ["spiffe://other.example/agent/planner"], OTHER)
    assert corp.who(other.der).subject.issuer == "spiffe://other.example"
    # The authorities have one name, but not one key.
    assert "does not verify" in corp.refuses(signed("x", [NAME], OTHER).der)
    assert "does not verify" in corp.refuses(signed("x", ["spiffe://other.example/agent/planner"], CORP).der)
    assert "does not verify" in corp.refuses(signed("x", [NAME]).der)
    # An authority that the client brings along is none.
    assert "does not verify" in corp.refuses(signed("x", [NAME], OTHER).der, OTHER.der)


def test_only_the_word_of_a_named_proxy_is_taken(tmp_path: Path):
    der = signed("x", [NAME], CORP).der
    for stranger in ("spiffe://checkrein/pep/shop", "spiffe://elsewhere/pep/pay", "pay", ""):
        assert "word" in judge(tmp_path).refuses(der, proxy=stranger)
    outside = judge(tmp_path, proxies=["spiffe://elsewhere/pep/pay", "shop"])
    assert outside.who(der, proxy="spiffe://elsewhere/pep/pay").subject.id == "planner"
    assert outside.who(der, proxy="spiffe://checkrein/pep/shop").subject.id == "planner"
    assert "word" in outside.refuses(der)


def test_a_certificate_is_good_while_it_lasts(corp: Judge):
    der = signed("x", [NAME], CORP, life=datetime.timedelta(minutes=10)).der
    corp.clock.now = NOW + datetime.timedelta(minutes=9)
    assert corp.who(der).expires_at == NOW + datetime.timedelta(minutes=10)
    corp.clock.now = NOW + datetime.timedelta(minutes=10, seconds=1)
    assert "does not verify" in corp.refuses(der)
    corp.clock.now = NOW - HOUR - datetime.timedelta(seconds=1)
    assert "does not verify" in corp.refuses(der)


def test_authorities_in_between_come_with_the_certificate_or_stand_in_the_file(corp: Judge):
    between = signed("between", by=CORP, signs=True, life=datetime.timedelta(minutes=30))
    leaf = signed("x", [NAME], between)
    assert corp.who(leaf.der, between.der).expires_at == NOW + datetime.timedelta(minutes=30)
    assert "does not verify" in corp.refuses(leaf.der)
    (corp.folder / "corp.pem").write_bytes(CORP.pem + between.pem)
    assert corp.who(leaf.der).subject.id == "planner"


def test_what_may_not_sign_or_is_for_something_else_is_refused(corp: Judge):
    plain = signed("plain", [NAME], CORP)
    assert "does not verify" in corp.refuses(signed("x", [NAME], plain).der, plain.der)
    assert "does not verify" in corp.refuses(signed("x", [NAME], CORP, signs=True).der)
    assert "does not verify" in corp.refuses(signed("x", [NAME], CORP, purpose=ExtendedKeyUsageOID.SERVER_AUTH).der)
    short = signed("short", by=CORP, signs=True, path_length=0)
    deep = signed("deep", by=short, signs=True)
    assert "does not verify" in corp.refuses(signed("x", [NAME], deep).der, deep.der, short.der)
    assert corp.who(signed("x", [NAME], CORP, purpose=ExtendedKeyUsageOID.CLIENT_AUTH).der).subject.id == "planner"


def test_what_is_no_chain_of_certificates_is_refused(corp: Judge):
    der = signed("x", [NAME], CORP).der
    for chain in ([], [b""], [b"x" * 20], [der[:-1]], [der + b"x"], [b"0" * (17 << 10)], [der] * 9, [der, b"x"]):
        assert corp.refuses(*chain)
    changed = bytearray(der)
    changed[-1] ^= 1
    assert corp.refuses(bytes(changed))


def test_an_authority_is_trusted_for_as_long_as_it_stands_in_the_file(corp: Judge):
    ours, theirs = signed("x", [NAME], CORP).der, signed("x", [NAME], OTHER).der
    assert corp.who(ours)
    file = corp.folder / "corp.pem"
    file.write_bytes(OTHER.pem + signed("third", signs=True).pem)
    assert corp.refuses(ours)
    assert corp.who(theirs)
    file.write_bytes(b"")
    with pytest.raises(AuthenticationFailed) as error:
        corp.who(theirs)
    assert error.value.retry
    file.unlink()
    assert corp.refuses(theirs)
    file.write_bytes(CORP.pem)
    assert corp.who(ours)


def test_an_authority_that_cannot_be_read_is_an_error_at_the_start(tmp_path: Path):
    for file in ("none.pem", "empty.pem"):
        (tmp_path / "empty.pem").write_text("nothing")
        with pytest.raises(ConfigError, match=file):
            judge(tmp_path, ca=str(tmp_path / file))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"proxies": []}, "proxies"),
        ({"domain": "Corp.example"}, "domain"),
        ({"domain": "other.example"}, "trust domain other.example is given twice"),
        ({"subjects": []}, "subjects"),
        ({"subjects": [{"under": "/agent", "type": "agent"}]}, "under"),
        ({"subjects": [{"under": "/", "type": "agent"}]}, "under"),
        ({"subjects": [{"under": "/a/", "type": "admin"}]}, "type"),
        ({"subjects": [{"under": "/a/", "type": "user"}, {"under": "/a/", "type": "agent"}]}, "is given twice"),
        ({"map": {}}, "map"),
    ],
)
def test_a_section_that_makes_no_sense_is_refused(tmp_path: Path, more: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        judge(tmp_path, **more)
