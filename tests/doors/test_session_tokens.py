"""Tokens of sessions: signed, bound to a proxy, short-lived, renewed; and the keys that sign them come and go."""

import asyncio
import base64
import datetime
import json

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pdp.service.session_tokens import PURPOSE, SessionTokens, TokenRefused
from pdp.store.database import Database
from pdp.store.keys import AHEAD, SigningKey, rotate, signing_keys
from pdp.v1 import decision_service_pb2 as pb
from tests.doors.calling import Guard
from tests.pdp.serving import SELECT, Clock, action, folder, result, serving, status_of

MINUTE = datetime.timedelta(minutes=1)
DAY = datetime.timedelta(days=1)


def make(tokens: SessionTokens) -> str:
    token, _ = tokens.make(session="s", proxy="p", resource="r", subject="d", not_after=None)
    return token


def key(clock: Clock, name: str = "k1") -> SigningKey:
    return SigningKey(name, Ed25519PrivateKey.generate(), clock())


def test_a_token_is_signed_with_ed25519_and_nothing_of_it_can_be_changed():
    tokens = SessionTokens([key(Clock())], MINUTE, Clock())
    token = make(tokens)
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "kid": "k1", "typ": "checkrein-session+jwt"}
    header, claims, signature = token.split(".")
    said = json.loads(base64.urlsafe_b64decode(claims + "=="))
    for name in said:
        changed = said | {name: said[name] + 1 if name == "exp" else "other"}
        text = base64.urlsafe_b64encode(json.dumps(changed).encode()).rstrip(b"=").decode()
        with pytest.raises(TokenRefused):
            tokens.verify(f"{header}.{text}.{signature}")


def test_an_unsigned_token_and_one_of_another_key_are_refused():
    mine = key(Clock())
    tokens = SessionTokens([mine], MINUTE, Clock())
    claims = jwt.decode(make(tokens), options={"verify_signature": False})
    headers = {"kid": "k1", "typ": "checkrein-session+jwt"}
    public = mine.private.public_key().public_bytes_raw()
    for secret, algorithm in ((Ed25519PrivateKey.generate(), "EdDSA"), (public, "HS256"), (None, "none")):
        with pytest.raises(TokenRefused):
            tokens.verify(jwt.encode(claims, secret, algorithm=algorithm, headers=headers))
    for more in ({"typ": "checkrein-identity+jwt"}, {"typ": "JWT"}, {"kid": "k2"}, {"kid": "../k1"}):
        with pytest.raises(TokenRefused):
            tokens.verify(jwt.encode(claims, mine.private, algorithm="EdDSA", headers=headers | more))
    tokens.verify(jwt.encode(claims, mine.private, algorithm="EdDSA", headers=headers))


def test_a_token_ends_by_itself_though_it_verified_before():
    clock = Clock()
    tokens = SessionTokens([key(clock)], MINUTE, clock)
    token = make(tokens)
    tokens.verify(token)
    clock.pass_(minutes=1)
    with pytest.raises(TokenRefused):
        tokens.verify(token)
    tokens.verify(token, grace=MINUTE)


def test_a_token_does_not_outlive_the_clients_credential():
    clock = Clock()
    tokens = SessionTokens([key(clock)], DAY, clock)
    _, end = tokens.make(session="s", proxy="p", resource="r", subject="d", not_after=clock() + MINUTE)
    assert end <= clock() + MINUTE


def test_a_key_that_is_gone_verifies_no_more_though_its_token_verified_before():
    clock = Clock()
    old, new = key(clock, "k1"), key(clock, "k2")
    tokens = SessionTokens([old], MINUTE, clock)
    token = make(tokens)
    tokens.verify(token)
    tokens.use([new, old])
    tokens.verify(token)
    assert jwt.get_unverified_header(make(tokens))["kid"] == "k2"
    tokens.use([new])
    with pytest.raises(TokenRefused):
        tokens.verify(token)


def test_keys_come_by_age_and_go_when_nothing_they_signed_is_good(tmp_path):
    async def scenario():
        clock = Clock()
        async with Database(f"sqlite:///{tmp_path / 'store.db'}") as database:

            async def due() -> list[str]:
                keys = await database.short.run(lambda c: rotate(c, PURPOSE, clock(), after=DAY, keep=15 * MINUTE))
                return [each.id for each in keys]

            (first,) = await due()
            assert await due() == [first]
            clock.pass_(days=1)
            second, *others = await due()
            assert others == [first]
            # Known to every replica before it signs, and so long the old one does.
            tokens = SessionTokens(await database.short.run(lambda c: signing_keys(c, PURPOSE, clock())), MINUTE, clock)
            assert jwt.get_unverified_header(make(tokens))["kid"] == first
            clock.pass_(seconds=AHEAD.total_seconds())
            assert jwt.get_unverified_header(make(tokens))["kid"] == second
            clock.pass_(minutes=14)
            assert await due() == [second, first]
            clock.pass_(minutes=1)
            assert await due() == [second]

    asyncio.run(scenario())


def test_sessions_go_on_over_a_new_key():
    async def scenario():
        clock = Clock()
        with folder() as path:
            async with serving(path, clock=clock) as service:
                proxy, guard = await service.proxy(), await Guard.of(service)
                opened = await proxy.open()
                made = await guard.rotate()
                clock.pass_(seconds=AHEAD.total_seconds())
                await proxy.decide(opened.token, action(SELECT))
                renewed = await proxy.decisions.RefreshSession(pb.RefreshSessionRequest(token=opened.token))
                assert jwt.get_unverified_header(renewed.token)["kid"] == made.key_id
                await proxy.decide(renewed.token, action(SELECT))
                # What was signed before is good to its own end, and no longer.
                await proxy.decide(opened.token, action(SELECT))
                clock.pass_(minutes=16)
                code, _ = await status_of(proxy.decide(opened.token, action(SELECT)))
                assert code is grpc.StatusCode.UNAUTHENTICATED

    asyncio.run(scenario())


def test_a_key_of_the_identities_signs_no_session():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                claims = jwt.decode(opened.token, options={"verify_signature": False})
                header = jwt.get_unverified_header(opened.token)
                forged = jwt.encode(claims, service.issuer._key, algorithm="EdDSA", headers=header)
                code, _ = await status_of(proxy.decide(forged, action(SELECT)))
                assert code is grpc.StatusCode.UNAUTHENTICATED

    asyncio.run(scenario())


def test_a_session_is_not_renewed_for_whom_policy_lets_in_no_more():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                service.engine.policy = lambda _: result("deny")
                answer = await proxy.decisions.RefreshSession(pb.RefreshSessionRequest(token=opened.token))
                assert (answer.token, answer.ended_because) == ("", "the policy no longer lets it connect")
                code, _ = await status_of(proxy.decide(opened.token, action(SELECT)))
                assert code is grpc.StatusCode.FAILED_PRECONDITION

    asyncio.run(scenario())


def test_nobody_is_asked_for_a_session_that_was_ended():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                await proxy.decisions.CloseSession(
                    pb.CloseSessionRequest(token=opened.token, reason="done", last_seq=0)
                )
                asked = len(service.engine.asked)
                code, _ = await status_of(proxy.decide(opened.token, action(SELECT)))
                assert code is grpc.StatusCode.FAILED_PRECONDITION
                assert len(service.engine.asked) == asked

    asyncio.run(scenario())
