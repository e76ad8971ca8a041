"""The HTTP proxy's section of the configuration, read from files, and `pep check` on them."""

import datetime
import re
import socket
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from pydantic import BaseModel

from pdp.v1.config_values import Secret
from pdp.v1.strict_yaml import ConfigError
from pep.core import config
from pep.http.config import HttpProxy, Origin, Route
from pep.postgres.config import PostgresProxy
from pep.protocols import MODELS
from tests.certificates import make_authority

SMALL = """
version: 1
state: state
proxies:
  - name: pay
    resource: pay
    protocol: http
    listen: {address: "127.0.0.1:8443"}
    upstream: {addresses: ["https://api.pay.example"]}
    credentials: {default: {bearer: {env: PAY_KEY}}}
"""

SHOP = """
  - name: shop
    resource: shop
    protocol: postgres
    listen: {address: "127.0.0.1:6432"}
    upstream: {addresses: ["127.0.0.1:5432"], database: shop, tls: {mode: disable}}
    credentials: {default: {user: shop_proxy}}
"""

WHOLE = """
version: 1
state: state
proxies:
  - name: pay
    resource: pay
    protocol: http
    listen:
      address: "0.0.0.0:8443"
      tls: {cert: listen.crt, key: listen.key}
      login: [bearer, basic]
    upstream:
      addresses: ["https://api.pay.example", "https://[2001:db8::1]:9443/"]
      tls: {mode: verify-full, ca: ca.crt, cert: own.crt, key: own.key}
      connect_timeout: 2s
      openapi: pay.yaml
      base_path: /api/v2/
    credentials: {default: {header: X-Api-Key, value: {file: pay.key}, template: "Key {value}"}}
    http:
      headers_in_input: [X-Request-Purpose, idempotency-key]
      body_limit: 2MiB
      decoded_limit: 8MiB
      header_bytes: 32KiB
      mcp: [/mcp]
      graphql: [/graphql]
      mints_access: ["POST /v1/keys", "post /v1/users/*/tokens"]
      preserve_host: true
      websocket: false
    limits: {sessions: 9, connections: 99, head: 5s, idle: 30s, stalled: 20s, response: 1m, session_idle: 1m}
    approval: {hold: 30s, respond_async: false}
    masks: {hash_key: {env: HASH_KEY}}
    shutdown: {drain: 3s}
"""


def read(folder: Path, text: str) -> HttpProxy:
    file = folder / "checkrein.yaml"
    file.write_text(text)
    proxy = config.read(file, MODELS).proxies[0]
    assert isinstance(proxy, HttpProxy)
    return proxy


def wrong(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    assert re.match(r".*checkrein\.yaml:\d+: ", str(caught.value))
    return str(caught.value)


def test_what_is_not_said_has_a_safe_default(tmp_path: Path):
    proxy = read(tmp_path, SMALL)
    assert proxy.upstream.addresses == (Origin("api.pay.example", 443, "https"),)
    assert proxy.upstream.tls.mode == "verify-full"
    assert proxy.listen.login == ("bearer", "key")
    assert (proxy.http.body_limit, proxy.http.decoded_limit, proxy.http.header_bytes) == (1 << 20, 64 << 20, 64 << 10)
    assert not proxy.http.preserve_host
    assert proxy.limits.head.total_seconds() == 10
    assert proxy.limits.response is None
    assert proxy.approval.hold.total_seconds() == 60
    assert list(proxy.secrets()) == ["secret bearer of the credential default"]
    assert proxy.files() == {}


def test_everything_that_can_be_said_is_read(tmp_path: Path):
    proxy = read(tmp_path, WHOLE)
    assert [str(origin) for origin in proxy.upstream.addresses] == [
        "https://api.pay.example",
        "https://[2001:db8::1]:9443",
    ]
    assert proxy.upstream.scheme == "https"
    assert proxy.upstream.base_path == "/api/v2"
    assert proxy.http.headers_in_input == ("x-request-purpose", "idempotency-key")
    assert [str(route) for route in proxy.http.mints_access] == ["POST /v1/keys", "POST /v1/users/*/tokens"]
    assert proxy.limits.most_connections == 99
    assert proxy.limits.response == datetime.timedelta(minutes=1)
    assert not proxy.approval.respond_async
    assert list(proxy.secrets()) == ["secret value of the credential default", "secret of the hash key"]
    assert proxy.files() == {"OpenAPI document": tmp_path / "pay.yaml"}


def test_one_file_has_proxies_of_both_protocols(tmp_path: Path):
    read(tmp_path, SMALL + SHOP)
    kinds = [type(proxy) for proxy in config.read(tmp_path / "checkrein.yaml", MODELS).proxies]
    assert kinds == [HttpProxy, PostgresProxy]
    told = wrong(tmp_path, SMALL.replace("upstream: {", "upstream: {database: x, ") + SHOP.replace("{user:", "{usr:"))
    assert 'unknown key "database" in proxies[0].upstream; known: addresses, base_path' in told
    assert 'unknown key "usr" in proxies[1].credentials.default; did you mean "user"?' in told


def test_a_mistake_under_the_key_that_is_called_like_the_protocol_is_found_there(tmp_path: Path):
    told = wrong(tmp_path, SMALL + "    http:\n      body_limt: 1MiB\n")
    assert 'checkrein.yaml:12: unknown key "body_limt" in proxies[0].http; did you mean "body_limit"?' in told


@pytest.mark.parametrize(
    ("upstream", "said"),
    [
        ('addresses: ["http://api.pay.example"]', "http://api.pay.example is not on this machine"),
        ('addresses: ["http://localhost", "http://10.0.0.1"]', "http://10.0.0.1 is not on this machine"),
        ('addresses: ["https://a.example", "http://127.0.0.1"]', "addresses must all be https or all http"),
        ('addresses: ["https://a.example"], tls: {mode: disable}', "tls must not be disabled"),
        ('addresses: ["http://127.0.0.1"], tls: {mode: verify-full}', "tls does not go with http"),
        ('addresses: ["api.pay.example:443"]', 'must be "https://HOST"'),
        ('addresses: ["https://api.pay.example/v1"]', "a path is base_path"),
        ('addresses: ["https://user:hunter2@api.pay.example"]', 'must be "https://HOST"'),
        ('addresses: ["https://a.example:0"]', "a port between 1 and 65535"),
        ('addresses: ["https://a.example:65536"]', "a port between 1 and 65535"),
        ("addresses: []", "upstream.addresses"),
        ('addresses: ["https://a.example"], base_path: v1', "must be a path"),
        ('addresses: ["https://a.example"], base_path: /v1/../v2', "must be a path"),
        ('addresses: ["https://a.example"], base_path: /v1//v2', "must be a path"),
        ('addresses: ["https://a.example"], base_path: "/v1?x=1"', "must be a path"),
        ('addresses: ["https://a.example"], base_path: /v%31', "must be a path"),
        ('addresses: ["https://a.example"], tls: {cert: own.crt}', "needs cert and key together"),
    ],
)
def test_a_target_that_would_not_be_safe_or_could_be_misread_is_a_mistake(tmp_path: Path, upstream: str, said: str):
    told = wrong(tmp_path, SMALL.replace('addresses: ["https://api.pay.example"]', upstream))
    assert said in told
    assert "hunter2" not in told


@pytest.mark.parametrize(
    ("upstream", "authority"),
    [
        ('addresses: ["http://127.0.0.1:8080"]', "127.0.0.1:8080"),
        ('addresses: ["http://127.0.0.1:8080"], tls: {mode: disable}', "127.0.0.1:8080"),
        ('addresses: ["http://localhost"]', "localhost"),
        ('addresses: ["http://[::1]:8080"]', "[::1]:8080"),
        ('addresses: ["https://API.pay.example:443"]', "api.pay.example"),
        ('addresses: ["http://api.pay.example:443"], plaintext: true', "api.pay.example:443"),
    ],
)
def test_clear_text_is_for_this_machine_or_vouched_for(tmp_path: Path, upstream: str, authority: str):
    text = SMALL.replace('addresses: ["https://api.pay.example"]', upstream)
    assert read(tmp_path, text).upstream.addresses[0].authority == authority


@pytest.mark.parametrize(
    ("credential", "secrets"),
    [
        ("{header: Authorization, value: {env: A}}", ["value"]),
        ("{query: api_key, value: {env: A}}", ["value"]),
        ("{bearer: {env: A}}", ["bearer"]),
        ("{basic: {user: me, password: {env: A}}}", ["password"]),
        (
            "{sigv4: {region: eu-west-1, service: s3, access_key: {env: A}, secret_key: {env: B}}}",
            ["access_key", "secret_key"],
        ),
        (
            "{sigv4: {region: r, service: s3, access_key: {env: A}, secret_key: {env: B}, session_token: {env: C}}}",
            ["access_key", "secret_key", "session_token"],
        ),
        ("{none: true}", []),
    ],
)
def test_each_kind_of_credential_says_which_secrets_it_needs(tmp_path: Path, credential: str, secrets: list[str]):
    proxy = read(tmp_path, SMALL.replace("{bearer: {env: PAY_KEY}}", credential))
    assert list(proxy.credential.secrets()) == secrets
    assert list(proxy.secrets()) == [f"secret {name} of the credential default" for name in secrets]


@pytest.mark.parametrize(
    ("credential", "said"),
    [
        ("{}", "needs exactly one of header"),
        ("{bearer: {env: A}, none: true}", "needs exactly one of header"),
        ("{header: X-Key, query: key, value: {env: A}}", "needs exactly one of header"),
        ("{none: false}", "none"),
        ("{header: X-Key}", "value goes with header"),
        ("{bearer: {env: A}, value: {env: B}}", "value goes with header"),
        ("{query: key, value: {env: A}, template: 'K {value}'}", "template goes with header only"),
        ("{header: X-Key, value: {env: A}, template: Bearer}", 'template must hold "{value}" once'),
        ('{header: X-Key, value: {env: A}, template: "a\\r\\nb {value}"}', "no control character"),
        ('{header: "X Key", value: {env: A}}', "must be the name of a header field"),
        ("{header: Content-Length, value: {env: A}}", "no credential goes there"),
        ("{header: host, value: {env: A}}", "no credential goes there"),
        ("{bearer: hunter2}", "a secret never stands in this file"),
        ("{basic: {user: me, password: hunter2}}", "a secret never stands in this file"),
        ('{basic: {user: "me:you", password: {env: A}}}', "credentials.default.basic.user"),
        ("{sigv4: {region: r, service: s3, access_key: {env: A}}}", "sigv4.secret_key is missing"),
        ("{bearr: {env: A}}", 'unknown key "bearr" in proxies[0].credentials.default; did you mean "bearer"?'),
    ],
)
def test_a_credential_is_of_one_kind_and_whole_and_never_in_the_file(tmp_path: Path, credential: str, said: str):
    told = wrong(tmp_path, SMALL.replace("{bearer: {env: PAY_KEY}}", credential))
    assert said in told
    assert "hunter2" not in told


def test_there_is_one_credential_and_it_is_named_default(tmp_path: Path):
    for name in ("{other:", "{spare: {none: true}, default:"):
        assert 'credentials must have "default", and no other' in wrong(tmp_path, SMALL.replace("{default:", name))


@pytest.mark.parametrize(
    ("http", "said"),
    [
        ("{headers_in_input: [Authorization]}", "this field carries a credential"),
        ("{headers_in_input: [X-Checkrein-Key]}", "this field carries a credential"),
        ("{headers_in_input: [cookie]}", "this field carries a credential"),
        ('{headers_in_input: ["a b"]}', "must be the name of a header field"),
        ("{mcp: [mcp]}", "must be a path"),
        ("{mcp: [/a/./b]}", "must be a path"),
        ('{graphql: ["/graphql?x"]}', "must be a path"),
        ("{mcp: [/api], graphql: [/api]}", "/api cannot be an endpoint of mcp and of graphql"),
        ("{mints_access: [/v1/keys]}", "must be a method and a path"),
        ('{mints_access: ["POST v1/keys"]}', "must be a method and a path"),
        ('{mints_access: ["POST /v1/{id}/keys"]}', "must be a path"),
        ("{body_limit: 0}", "proxies[0].http.body_limit"),
        ("{header_bytes: 1GiB}", "proxies[0].http.header_bytes"),
    ],
)
def test_what_policies_are_told_is_said_without_ambiguity(tmp_path: Path, http: str, said: str):
    assert said in wrong(tmp_path, SMALL + f"    http: {http}\n")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("limits", "{statement_bytes: 1MiB}", 'unknown key "statement_bytes" in proxies[0].limits'),
        ("limits", "{connections: 0}", "proxies[0].limits.connections"),
        ("approval", "{hold_in_transaction: 1s}", 'unknown key "hold_in_transaction" in proxies[0].approval'),
        ("catalog", "{}", 'unknown key "catalog" in proxies[0]'),
    ],
)
def test_what_belongs_to_another_protocol_is_unknown_here(tmp_path: Path, key: str, value: str, said: str):
    assert said in wrong(tmp_path, SMALL + f"    {key}: {value}\n")


def test_a_way_to_say_who_one_is_must_be_left(tmp_path: Path):
    for login in ("[]", "[cookie]"):
        text = SMALL.replace('{address: "127.0.0.1:8443"}', f'{{address: "127.0.0.1:8443", login: {login}}}')
        assert "proxies[0].listen.login" in wrong(tmp_path, text)


@pytest.mark.parametrize(
    ("method", "segments", "matches"),
    [
        ("POST", ("v1", "users", "7", "keys"), True),
        ("post", ("v1", "users", "7", "keys"), True),
        ("POST", ("V1", "Users", "7", "KEYS", ""), True),
        ("POST", ("v1", "users", "*", "keys"), True),
        ("GET", ("v1", "users", "7", "keys"), False),
        ("POST", ("v1", "users", "keys"), False),
        ("POST", ("v1", "users", "7", "8", "keys"), False),
        ("POST", ("v1", "users", "7"), False),
        ("POST", (), False),
    ],
)
def test_a_route_is_read_as_the_most_lenient_server_would(method: str, segments: tuple[str, ...], matches: bool):
    assert Route("POST", ("v1", "users", "*", "keys")).matches(method, segments) is matches


PAGE = (Path(__file__).parents[3] / "README.md").read_text("utf-8")


def test_the_example_in_the_page_is_read(tmp_path: Path):
    (example,) = re.findall(r"```yaml\n(# An API of .*?)```", PAGE, re.DOTALL)
    proxy = read(tmp_path, "version: 1\nstate: state\n" + example)
    assert (proxy.credential.header, proxy.credential.template) == ("Authorization", "Token {value}")
    assert proxy.http.mcp == ("/mcp",)


@pytest.mark.parametrize("protocol", sorted(MODELS))
def test_every_key_is_in_the_page(protocol: str):
    reference = PAGE[PAGE.index("**`proxies[]`: one for each target**") : PAGE.index("## How it works")]
    named = set(re.findall(r"[a-z0-9_]+", " ".join(re.findall(r"`([^`]+)`", reference))))
    assert keys(MODELS[protocol]()) - named == set()


def keys(annotation: object) -> set[str]:
    """Every key that may stand somewhere in a section; not those within a secret, which the page explains once."""
    if isinstance(annotation, type) and issubclass(annotation, Secret):
        return set()
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields
        return set(fields).union(*(keys(field.annotation) for field in fields.values()))
    return set().union(*map(keys, typing.get_args(annotation)))


def check(file: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pep", "check", "-c", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


def test_what_a_file_with_both_protocols_names_is_checked(tmp_path: Path):
    authority = make_authority(tmp_path)
    own = authority.issue("own")
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_server(("127.0.0.1", 0)) as service:
        port, decisions = (each.getsockname()[1] for each in (listening, service))
        text = (
            WHOLE.replace("https://[2001:db8::1]:9443/", f"https://127.0.0.1:{port}")
            .replace('"https://api.pay.example", ', "")
            .replace("listen.", "own.")
            .replace("ca: ca.crt", "ca: test-ca.crt")
        )
        text += SHOP.replace("127.0.0.1:5432", f"127.0.0.1:{port}")
        text += (
            f'decisions: {{addresses: ["127.0.0.1:{decisions}"], '
            f"tls: {{cert: {own.certificate}, key: {own.key}, ca: {authority.certificate}}}}}\n"
        )
        file = tmp_path / "checkrein.yaml"
        file.write_text(text)
        done = check(file)
        assert done.returncode == 1
        assert f"pay: ok    upstream https://127.0.0.1:{port}" in done.stdout
        assert "pay: ok    trust in the upstream" in done.stdout
        assert f"pay: WRONG OpenAPI document: cannot read {tmp_path}/pay.yaml" in done.stdout
        assert f"pay: WRONG secret value of the credential default: cannot read the secret in {tmp_path}" in done.stdout
        assert "pay: WRONG secret of the hash key: the environment variable HASH_KEY is not set" in done.stdout
        assert f"shop: ok    upstream 127.0.0.1:{port}" in done.stdout
        (tmp_path / "pay.yaml").write_text("openapi: 3.1.0\n")
        (tmp_path / "pay.key").write_text("s3cret\n")
        done = check(file, HASH_KEY="k")
        assert "WRONG" not in done.stdout
        assert done.returncode == 0, done.stdout + done.stderr
        assert "s3cret" not in done.stdout
