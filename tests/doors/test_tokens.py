"""Identities at the door: what a token may not try. Each line has its check in `mutations.py`."""

import asyncio
import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from pdp.identity.authenticator import Authenticator
from pdp.identity.key_sets import parse_keys
from pdp.identity.subject import AuthenticationFailed, OneTime, Party
from pdp.identity.tokens import TokenRequest
from tests.pdp.identity.test_authenticator import (
    EC_KEY,
    OTHER_KEY,
    OWN,
    RSA_KEY,
    authenticate,
    claims,
    ec_signature,
    jwk,
    raw,
    refused,
    settings,
    signed,
)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [jwk(EC_KEY, kid="e1")]}))
    return file


def part(text: str) -> bytes:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=")


def written(header: str, said: str) -> str:
    """A token of exactly these two texts, correctly signed."""
    text = part(header) + b"." + part(said)
    return (text + b"." + base64.urlsafe_b64encode(ec_signature(EC_KEY, text)).rstrip(b"=")).decode()


HEADER = '{"alg":"ES256","kid":"e1"}'


def test_what_these_tests_write_is_accepted_where_nothing_is_wrong(keys: Path):
    assert authenticate(keys, written(HEADER, json.dumps(claims()))).subject.id == "alice@example.org"


@pytest.mark.parametrize("name", ["email", "aud", "exp", "iss", "groups", "sub"])
def test_a_claim_that_is_given_twice_is_refused(keys: Path, name: str):
    said = json.dumps(claims())
    assert refused(keys, written(HEADER, said[:-1] + f',"{name}":{json.dumps(claims().get(name))}' + "}"))


def test_a_member_that_is_given_twice_further_in_is_refused(keys: Path):
    refused(keys, written(HEADER, json.dumps(claims())[:-1] + ',"act":{"sub":"planner","sub":"other"}}'))


def test_a_header_member_that_is_given_twice_is_refused(keys: Path):
    refused(keys, written('{"alg":"none","alg":"ES256","kid":"e1"}', json.dumps(claims())))
    refused(keys, written('{"alg":"ES256","kid":"e1","kid":"e1"}', json.dumps(claims())))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_none_is_refused(keys: Path, number: str):
    refused(keys, written(HEADER, json.dumps(claims())[:-1] + f',"department":{number}' + "}"))


@pytest.mark.parametrize("content", ["JWT", "jwt", "application/jwt", "", None])
def test_a_token_inside_a_token_is_refused(keys: Path, content: Any):
    assert refused(keys, signed(claims(), cty=content)) == "the token holds another token"


@pytest.mark.parametrize(
    "kind", ["logout+jwt", "secevent+jwt", "dpop+jwt", "checkrein-identity+jwt", "checkrein-session+jwt", "JOSE", "", 1]
)
def test_a_token_of_another_kind_by_the_same_issuer_is_refused(keys: Path, kind: Any):
    token = raw({"alg": "ES256", "kid": "e1", "typ": kind}, claims(), lambda text: ec_signature(EC_KEY, text))
    assert refused(keys, token) == "the token is of another kind"


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "application/at+JWT"])
def test_the_usual_kinds_are_accepted(keys: Path, kind: str):
    authenticate(keys, signed(claims(), typ=kind))


def test_a_huge_key_id_and_a_huge_token_are_refused_before_anything_is_looked_up(keys: Path):
    assert refused(keys, signed(claims(), kid="k" * 257)) == "the token's key id is too long"
    assert refused(keys, signed(claims(filler="x" * 20_000))) == "the token is too long"


@pytest.mark.parametrize("change", [lambda t: t + "=", lambda t: t + "\n", lambda t: t + ".", lambda t: " " + t])
def test_another_spelling_of_a_token_is_refused(keys: Path, change: Any):
    assert refused(keys, change(signed(claims()))) == "not a token"


@pytest.mark.parametrize("kid", ["../../../dev/null", "https://evil.example.org/keys", "file:///etc/passwd", "e1\x00"])
def test_a_key_id_is_a_name_and_no_place(keys: Path, kid: str):
    assert refused(keys, signed(claims(), OTHER_KEY, kid=kid)) == "no key of the issuer fits the token"


@pytest.mark.parametrize(
    "header",
    [
        {"jku": "https://evil.example.org/keys"},
        {"x5u": "https://evil.example.org/chain"},
        {"jwk": jwk(OTHER_KEY)},
        {"x5c": ["AAAA"]},
    ],
)
def test_where_a_key_comes_from_is_not_the_tokens_to_say(keys: Path, header: Mapping[str, Any]):
    refused(keys, signed(claims(), OTHER_KEY, **header))
    # And it does not disturb either.
    authenticate(keys, signed(claims(), **header))


def test_a_key_serves_the_algorithm_that_the_set_names_for_it(tmp_path: Path):
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [jwk(RSA_KEY, kid="r1", alg="RS256")]}))
    both = ["RS256", "PS256"]
    authenticate(file, signed(claims(), RSA_KEY, "RS256", kid="r1"), algorithms=both)
    # The same key, and an algorithm of the issuer's: the header does not make the key serve it.
    refused(file, signed(claims(), RSA_KEY, "PS256", kid="r1"), algorithms=both)


def test_two_keys_of_one_id_are_none(tmp_path: Path):
    document = {"keys": [jwk(EC_KEY, kid="e1"), jwk(OTHER_KEY, kid="e1")]}
    assert len(parse_keys(document, ("ES256",))) == 2

    file = tmp_path / "keys.json"
    file.write_text(json.dumps(document))
    for key in (EC_KEY, OTHER_KEY):
        assert refused(file, signed(claims(), key)) == "no key of the issuer fits the token"


class Memory:
    """Doors that remember in the test's own process; the store has its test in `test_one_time.py`."""

    def __init__(self) -> None:
        self.used: dict[tuple[str, str], str] = {}

    def revoked(self, who: Any) -> str | None:
        return None

    async def spend(self, once: OneTime, use: str) -> bool:
        key = (once.issuer, once.token_id)
        if key in self.used:
            return bool(use) and self.used[key] == use
        self.used[key] = use
        return True


def test_a_token_for_one_use_has_one(keys: Path):
    async def scenario():
        judge = Authenticator(settings(keys, one_time=True), OWN, doors=Memory())
        token = signed(claims(jti="j1"))
        await judge.bearer(token, "shop")
        with pytest.raises(AuthenticationFailed, match="has been used"):
            await judge.bearer(token, "shop")
        # Another spelling of the same token is the same id.
        with pytest.raises(AuthenticationFailed, match="has been used"):
            await judge.bearer(signed(claims(jti="j1")), "shop")
        await judge.bearer(signed(claims(jti="j2")), "shop")
        # What is refused for another reason has not been used.
        with pytest.raises(AuthenticationFailed, match="this resource"):
            await judge.bearer(signed(claims(jti="j3", aud="pay")), "shop")
        await judge.bearer(signed(claims(jti="j3")), "shop")

    asyncio.run(scenario())


@pytest.mark.parametrize("said", [{}, {"jti": ""}, {"jti": "x" * 256}])
def test_a_token_for_one_use_needs_an_id(keys: Path, said: Mapping[str, Any]):
    token = signed(claims(**said))
    with pytest.raises(AuthenticationFailed, match="needs an id"):
        asyncio.run(Authenticator(settings(keys, one_time=True), OWN, doors=Memory()).bearer(token, "shop"))


def test_a_token_for_one_use_has_none_where_nothing_remembers_it(keys: Path):
    refused(keys, signed(claims(jti="j1")), one_time=True)


def test_an_own_token_may_be_for_one_use(keys: Path):
    async def scenario():
        judge = Authenticator(settings(keys), OWN, doors=Memory())
        token = OWN.mint(TokenRequest(Party("user", "ana"), "shop", once=True)).token
        await judge.bearer(token, "shop")
        with pytest.raises(AuthenticationFailed, match="has been used"):
            await judge.bearer(token, "shop")
        often = OWN.mint(TokenRequest(Party("user", "ana"), "shop")).token
        await judge.bearer(often, "shop")
        await judge.bearer(often, "shop")

    asyncio.run(scenario())


def test_a_key_of_another_curve_is_no_key_of_the_algorithm(tmp_path: Path):
    other = ec.generate_private_key(ec.SECP384R1())
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [jwk(other, kid="e1")]}))
    token = jwt.PyJWS().encode(json.dumps(claims()).encode(), other, algorithm="ES384", headers={"kid": "e1"})
    assert refused(file, token) == "the token's algorithm is not one of its issuer's"
