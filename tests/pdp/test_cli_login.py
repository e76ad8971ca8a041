"""`pdp login` against an issuer that speaks the device flow: a real HTTP server with a real key set."""

import asyncio
import contextlib
import json
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from pdp.commands import kept_token
from pdp.identity.device_flow import Client, LoginFailed, login
from tests.pdp.commanding import Done, pdp
from tests.pdp.serving import Service, folder, serving
from tests.pdp.test_approvals import Asked

KEY = ec.generate_private_key(ec.SECP256R1())


@dataclass
class IdentityProvider:
    """What it answers to those who ask for the token, in order; then the token."""

    url: str = ""
    answers: list[dict[str, Any]] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    changed: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)

    def answer(self, path: str, form: dict[str, str]) -> tuple[int, Any]:
        match path:
            case "/.well-known/openid-configuration":
                return 200, {
                    "issuer": self.url,
                    "jwks_uri": f"{self.url}/keys",
                    "device_authorization_endpoint": f"{self.url}/device",
                    "token_endpoint": f"{self.url}/token",
                } | self.changed
            case "/keys":
                public = jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
                return 200, {"keys": [public | {"kid": "k1", "alg": "ES256", "use": "sig"}]}
            case "/device":
                self.asked.append(form)
                return 200, {
                    "device_code": "d-code",
                    "user_code": "ABCD-EFGH",
                    "verification_uri": f"{self.url}/enter\x1b[31m",
                    "expires_in": 600,
                    "interval": 0,
                }
            case "/token":
                self.asked.append(form)
                if self.answers:
                    return 400, self.answers.pop(0)
                return 200, {"access_token": self.token(), "token_type": "Bearer", "id_token": "none"}
        return 404, {}

    def token(self) -> str:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": "checkrein",
            "sub": "olivia",
            "groups": ["owners"],
            "iat": now,
            "exp": now + 600,
            "auth_time": now,
            "amr": ["pwd", "otp"],
        }
        claims |= self.claims
        return jwt.encode(claims, KEY, algorithm="ES256", headers={"kid": "k1"})


@contextlib.contextmanager
def provider() -> Iterator[IdentityProvider]:
    idp = IdentityProvider()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            size = int(self.headers.get("Content-Length", 0))
            form = {name: values[0] for name, values in parse_qs(self.rfile.read(size).decode()).items()}
            status, document = idp.answer(self.path, form)
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def log_message(self, *_: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    idp.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield idp
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def issuer(idp: IdentityProvider) -> str:
    return f"""
      - name: corp
        issuer: "{idp.url}"
        audience: checkrein
        algorithms: [ES256]
        subject: {{type: user, groups: groups, sign_in: {{amr: [otp]}}}}
        login: {{client_id: pdp-cli}}
"""


def test_who_signs_in_approves_with_a_token_of_their_own():
    async def scenario(idp: IdentityProvider):
        idp.answers = [{"error": "authorization_pending"}, {"error": "authorization_pending"}]
        with folder() as path:
            state = path / "xdg"

            async def run(service: Service, *arguments: str) -> Done:
                file = service.config.state.parent / "checkrein.yaml"
                return await pdp(*arguments, CHECKREIN_CONFIG=str(file), XDG_STATE_HOME=str(state))

            async with serving(path, identity=issuer(idp)) as service:
                without = await run(service, "approvals", "approve", "a-2345672345672345", "--yes")
                assert without.status == 4
                assert "pdp login" in without.err
                done = await run(service, "login")
                assert done.status == 0, done.err
                assert "ABCD-EFGH" in done.out
                assert "\x1b" not in done.out
                assert [each.get("client_id") for each in idp.asked] == ["pdp-cli"] * 4
                (kept,) = (state / "checkrein").iterdir()
                assert stat.S_IMODE(kept.stat().st_mode) == 0o600
                assert kept.read_text() not in done.out + done.err

                who = await run(service, "whoami")
                assert "user:olivia" in who.out
                assert "owners" in who.out
                # Not before: the session lives as long as its proxy says so, which nobody does here.
                asked = await Asked.by(service)
                said = await run(service, "approvals", "approve", asked.id, "--yes")
                assert said.status == 0, said.err
                assert (await asked.redeem()).WhichOneof("verdict") == "allow"

                kept.chmod(0o644)
                open_to_all = await run(service, "whoami")
                assert open_to_all.status == 4
                assert "can be read by others" in open_to_all.err
                assert (await run(service, "logout")).status == 0
                assert list((state / "checkrein").iterdir()) == []
                assert (await run(service, "whoami")).status == 4

    with provider() as idp:
        asyncio.run(scenario(idp))


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"amr": ["pwd"]}, "a key does not approve; sign in"),
        ({"auth_time": None}, "a key does not approve; sign in"),
        ({"auth_time": int(time.time()) - 13 * 3600}, "you signed in too long ago; sign in again"),
    ],
)
def test_a_token_that_is_no_fresh_sign_in_of_a_person_approves_nothing(claims: dict[str, Any], why: str):
    async def scenario(idp: IdentityProvider):
        idp.claims = claims
        with folder() as path:
            async with serving(path, identity=issuer(idp)) as service:
                file = service.config.state.parent / "checkrein.yaml"
                asked = await Asked.by(service)
                token = idp.token()
                more = {"CHECKREIN_CONFIG": str(file), "PDP_TOKEN": token}
                assert why in (await pdp("whoami", **more)).out
                done = await pdp("approvals", "approve", asked.id, "--yes", **more)
                assert done.status == 4
                assert why in done.err

    with provider() as idp:
        asyncio.run(scenario(idp))


def signed_in(idp: IdentityProvider, pauses: list[float], clock: Iterator[float] | None = None) -> str:
    client = Client(idp.url, "pdp-cli", "openid", "access_token")
    ticks = clock or iter(range(10_000))
    return login(client, lambda _: None, pause=pauses.append, clock=lambda: float(next(ticks)))


def test_the_issuer_says_how_often_it_is_asked():
    with provider() as idp:
        idp.answers = [{"error": "slow_down"}, {"error": "authorization_pending"}, {"error": "slow_down"}]
        pauses: list[float] = []
        assert signed_in(idp, pauses).count(".") == 2
        assert pauses == [0.0, 5.0, 5.0, 10.0]


@pytest.mark.parametrize(
    ("answers", "changed", "why"),
    [
        ([{"error": "access_denied"}], {}, "refused"),
        ([{"error": "expired_token"}], {}, "in time"),
        ([{"error": "invalid_client"}], {}, "invalid_client"),
        ([{"error": "authorization_pending"}] * 5, {}, "in time"),
        ([], {"issuer": "https://other.example"}, "not this issuer's"),
        ([], {"token_endpoint": "http://other.example/token"}, "must be an https URL"),
        ([], {"device_authorization_endpoint": None}, "has no device_authorization_endpoint"),
    ],
)
def test_without_a_sign_in_there_is_no_token(answers: list[dict[str, Any]], changed: dict[str, Any], why: str):
    with provider() as idp:
        idp.answers, idp.changed = list(answers), changed
        with pytest.raises(LoginFailed, match=why):
            signed_in(idp, [], iter(range(0, 10_000, 200)))


def test_a_token_is_kept_for_one_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    kept_token.keep("unix:/a.sock", "one")
    assert (kept_token.kept("unix:/a.sock"), kept_token.kept("unix:/b.sock")) == ("one", "")
    kept_token.file_of("unix:/b.sock").symlink_to(kept_token.file_of("unix:/a.sock"))
    with pytest.raises(kept_token.Failure, match="cannot read the token"):
        kept_token.kept("unix:/b.sock")
