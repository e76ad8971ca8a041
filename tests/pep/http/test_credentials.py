"""The target's credential gets into each request, in place of whatever the client sent there."""

import asyncio
import base64
import hashlib
import hmac
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from pep.core.errors import ConfigError
from pep.http.config import HttpCredential
from pep.http.credentials import CredentialUnavailable, Injector, injector_of
from pep.http.messages import Fields

KEY = "sk_live_0123456789"
FIELDS = Fields(
    (("Host", "api.example"), ("authorization", "Bearer of-the-client"), ("X-Api-Key", "own"), ("x_api_key", "own"))
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", KEY)
    monkeypatch.setenv("SHORT", "1234567")
    monkeypatch.setenv("LINES", "first-line\r\nX-Injected: yes")
    monkeypatch.setenv("UMLAUT", "pässwörter")
    monkeypatch.setenv("AWS_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    monkeypatch.setenv("AWS_TOKEN", "a-session-token")


def injector(**credential: Any) -> Injector:
    return injector_of(HttpCredential.model_validate(credential))


def applied(
    one: Injector, method: str = "GET", target: str = "/v1/pay?a=1", fields: Fields = FIELDS, body: bytes | None = None
) -> tuple[str, Fields]:
    return asyncio.run(one.apply(method, target, fields, "api.example", body))


def secrets(one: Injector) -> tuple[bytes, ...]:
    return asyncio.run(one.secrets())


def test_a_bearer_token_replaces_the_clients() -> None:
    one = injector(bearer={"env": "API_KEY"})
    target, fields = applied(one)
    assert target == "/v1/pay?a=1"
    assert fields.all("authorization") == (f"Bearer {KEY}",)
    assert one.injects
    assert secrets(one) == (KEY.encode(),)


def test_a_header_replaces_every_spelling_of_its_name() -> None:
    one = injector(header="X-API-Key", value={"env": "API_KEY"}, template="Key {value}")
    _, fields = applied(one)
    assert [item for item in fields if item[0].lower().replace("_", "-") == "x-api-key"] == [
        ("X-API-Key", f"Key {KEY}")
    ]
    assert secrets(one) == (KEY.encode(),)


def test_basic_is_user_and_password_in_utf_8_and_both_forms_are_secret() -> None:
    one = injector(basic={"user": "shop", "password": {"env": "UMLAUT"}})
    pair = base64.b64encode("shop:pässwörter".encode())
    assert applied(one)[1].all("Authorization") == (f"Basic {pair.decode()}",)
    assert set(secrets(one)) == {"pässwörter".encode(), pair}


@pytest.mark.parametrize(
    ("sent", "forwarded"),
    [
        ("/v1", "/v1?api%20key=sk_live_0123456789"),
        ("/v1?", "/v1?api%20key=sk_live_0123456789"),
        ("/v1?a=1&b", "/v1?a=1&b&api%20key=sk_live_0123456789"),
        ("/v1?api%20key=own&a=1", "/v1?a=1&api%20key=sk_live_0123456789"),
        ("/v1?a=1&api+key=own&API%20%6bey=x&api%20key", "/v1?a=1&api%20key=sk_live_0123456789"),
    ],
)
def test_a_query_parameter_replaces_every_spelling_of_its_name(sent: str, forwarded: str) -> None:
    assert applied(injector(query="api key", value={"env": "API_KEY"}), target=sent) == (forwarded, FIELDS)


def test_none_changes_nothing() -> None:
    one = injector(none=True)
    assert applied(one) == ("/v1/pay?a=1", FIELDS)
    assert not one.injects
    assert secrets(one) == ()


@pytest.mark.parametrize("name", ["SHORT", "LINES", "UMLAUT"])
def test_a_value_that_cannot_be_sent_or_scrubbed_is_an_error_that_does_not_repeat_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = injector(bearer={"env": name})
    with pytest.raises(ConfigError, match="bearer token") as error:
        secrets(one)
    assert "first-line" not in str(error.value)
    assert "1234567" not in str(error.value)
    with pytest.raises(CredentialUnavailable):
        applied(one)
    monkeypatch.delenv(name)
    with pytest.raises(ConfigError, match=f"{name} is not set"):
        secrets(one)


def counting(folder: Path) -> Path:
    """A command that prints another secret each time, and fails once a file says so."""
    script = folder / "secret"
    script.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\n"
        f"runs = pathlib.Path({str(folder / 'runs')!r})\n"
        "count = len(runs.read_text()) if runs.exists() else 0\n"
        "runs.write_text('x' * (count + 1))\n"
        f"sys.exit(3) if pathlib.Path({str(folder / 'broken')!r}).exists() else print(f'the-secret-{{count}}')\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


def test_a_command_is_run_again_when_its_time_is_over(tmp_path: Path) -> None:
    one = injector(bearer={"command": (str(counting(tmp_path)),), "ttl": "0ms"})
    assert secrets(one) == (b"the-secret-0",)
    assert applied(one)[1].all("Authorization") == ("Bearer the-secret-1",)
    (tmp_path / "broken").touch()
    with pytest.raises(CredentialUnavailable, match="failed with status 3"):
        applied(one)


def test_a_command_within_its_time_is_run_once_for_all(tmp_path: Path) -> None:
    one = injector(bearer={"command": (str(counting(tmp_path)),), "ttl": "1h"})

    async def many() -> set[str | None]:
        answers = await asyncio.gather(*(one.apply("GET", "/", FIELDS, "api.example", None) for _ in range(20)))
        return {fields.first("Authorization") for _, fields in answers}

    assert asyncio.run(many()) == {"Bearer the-secret-0"}
    assert (tmp_path / "runs").read_text() == "x"


def aws(service: str, **more: Any) -> Injector:
    keys = {"access_key": {"env": "AWS_ID"}, "secret_key": {"env": "AWS_SECRET"}}
    return injector(sigv4={"region": "us-east-1", "service": service, **keys, **more})


def signature(fields: Fields, method: str, path: str, query: str, service: str, body_hash: str) -> str:
    """By the specification, apart from botocore: what the server computes from what it received."""
    names = (fields.first("Authorization") or "").split("SignedHeaders=")[1].split(",")[0].split(";")
    received = "".join(f"{name}:{','.join(fields.all(name))}\n" for name in names)
    request = "\n".join([method, path, query, received, ";".join(names), body_hash])
    moment = fields.first("X-Amz-Date") or ""
    scope = f"{moment[:8]}/us-east-1/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = b"AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


SENT = Fields(
    (
        ("Host", "api.example"),
        ("Content-Type", "application/json"),
        ("X-Amz-Target", "Pay.Now"),
        ("Authorization", "AWS4-HMAC-SHA256 Credential=own"),
        ("X-Amz-Security-Token", "own"),
        ("x-amz-content-sha256", "own"),
        ("Accept", "*/*"),
    )
)


@pytest.mark.parametrize(
    ("method", "body", "digest"),
    [
        ("POST", b"{}", hashlib.sha256(b"{}").hexdigest()),
        ("GET", None, hashlib.sha256(b"").hexdigest()),
        ("PUT", None, "UNSIGNED-PAYLOAD"),
        ("PUT", b"", hashlib.sha256(b"").hexdigest()),
    ],
)
@pytest.mark.parametrize(("service", "path"), [("execute-api", "/a%2520b"), ("s3", "/a%20b")])
def test_the_server_computes_the_same_signature(
    service: str, path: str, method: str, body: bytes | None, digest: str
) -> None:
    target, fields = applied(aws(service), method, "/a%20b?z=1&a=%20", SENT, body)
    assert target == "/a%20b?z=1&a=%20"
    found = fields.first("Authorization") or ""
    assert f"Signature={signature(fields, method, path, 'a=%20&z=1', service, digest)}" in found
    assert "Credential=AKIDEXAMPLE/" in found
    assert len(fields.all("Authorization")) == 1
    assert fields.all("X-Amz-Security-Token") == ()
    assert "own" not in [value for _, value in fields]
    assert {"host", "content-type", "x-amz-target", "x-amz-date"} <= set(
        found.split("SignedHeaders=")[1].split(",")[0].split(";")
    )


def test_a_session_token_is_sent_and_secret() -> None:
    one = aws("s3", session_token={"env": "AWS_TOKEN"})
    _, fields = applied(one, "GET", "/", SENT)
    assert fields.all("X-Amz-Security-Token") == ("a-session-token",)
    assert "x-amz-security-token" in (fields.first("Authorization") or "")
    assert b"a-session-token" in secrets(one)
    assert b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY" in secrets(one)
