"""The service's part of the configuration: every mistake in words, with its line."""

import re
import typing
from pathlib import Path

import pytest
from pydantic import BaseModel

from pdp.config import Config, ProxyGrant, Service, load_config
from pdp.v1.addresses import TcpAddress, UnixAddress
from pdp.v1.config_values import Secret
from pdp.v1.operations_config import Telemetry
from pdp.v1.strict_yaml import ConfigError

GOOD = """
version: 1
state: state
pdp:
  policies: {dir: rego/policies}
  resources:
    shop: {type: postgres, labels: {env: demo}}
  identity:
    issuers:
      - {name: checkrein, self: true, token_ttl: 10m}
proxies:
  - {name: shop-1, resource: shop, protocol: postgres, whatever: {the: proxy, knows: 1}}
decisions: {timeout: {decide: 2s}}
"""


def read(folder: Path, text: str) -> Config:
    (folder / "c.yaml").write_text(text)
    return load_config(folder / "c.yaml")


def test_a_small_file_is_enough(tmp_path: Path):
    config = read(tmp_path, GOOD)
    assert config.listen == UnixAddress(tmp_path / "state" / "pdp.sock")
    assert config.store_url() == f"sqlite:///{tmp_path}/state/pdp.db"
    assert config.pdp.policies.dir == tmp_path / "rego/policies"
    assert config.grants == (ProxyGrant(certificate="shop-1", resources=("shop",)),)


def test_what_is_given_replaces_the_defaults(tmp_path: Path):
    more = "  listen: '127.0.0.1:7443'\n  store: {url: 'sqlite:///x.db'}\n  proxies: []\n"
    config = read(tmp_path, GOOD.replace("  resources:", more + "  resources:", 1))
    assert config.listen == TcpAddress("127.0.0.1", 7443)
    assert config.store_url() == f"sqlite:///{tmp_path}/x.db"
    assert config.grants == ()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("  resources:", "  resorces:"), '6: unknown key "resorces" in pdp; did you mean "resources"?'),
        (("labels:", "lables:"), '7: unknown key "lables" in pdp.resources.shop; did you mean "labels"?'),
        (("token_ttl", "tokn_ttl"), 'unknown key "tokn_ttl" in pdp.identity.issuers[0]; did you mean "token_ttl"?'),
        (("10m", "10"), "10: pdp.identity.issuers[0].token_ttl: must be a duration with its unit"),
        (("10m", "0s"), "must be longer than nothing"),
        (("version: 1", "version: 2"), "2: version: should be 1"),
        (("shop-1", "shop/1"), "must be a name of letters, digits"),
        (("resource: shop,", "resource: shoe,"), "shop-1 serves shoe, which pdp.resources does not name"),
        (("    shop: {", "    checkrein: {"), "checkrein is this service itself"),
        (("{type: postgres", "{type: checkrein"), "the type checkrein is this service itself"),
        (("self: true", "self: false"), "token_ttl goes with self: true only"),
        (("policies: {dir: rego/policies}", "opa: {}"), "pdp.policies is missing"),
        (("policies: {dir: rego/policies}", "policies: {dir: a}\n  opa: {url: x}"), 'unknown key "url" in pdp.opa'),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, change: tuple[str, str], expected: str):
    assert change[0] in GOOD
    with pytest.raises(ConfigError) as error:
        read(tmp_path, GOOD.replace(*change))
    assert expected in str(error.value)


ISSUER = "{name: corp, issuer: 'https://a.example', algorithms: [ES256], subject: {type: user}}"


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        (f"issuers: [{ISSUER.replace('ES256', 'HS256')}]", "algorithms[0]: should be 'ES256'"),
        (f"issuers: [{ISSUER.replace('ES256', 'none')}]", "algorithms[0]: should be 'ES256'"),
        (f"issuers: [{ISSUER.replace('[ES256]', '[]')}]", "needs issuer, algorithms and subject"),
        (f"issuers: [{ISSUER.replace('https', 'http')}]", "must be an https URL"),
        (f"issuers: [{ISSUER}, {ISSUER.replace('corp', 'other')}]", "issuer https://a.example is given twice"),
        ("issuers: [{name: a, self: true}, {name: b, self: true}]", "issuer with self: true it is given twice"),
        ("issuers: [{name: a, self: true, issuer: x}]", "takes name, token_ttl and key only"),
        ("keys: [{id: k, hash: abc, subject: {type: user, id: a}, audience: shop}]", "keys[0].hash: "),
    ],
)
def test_an_identity_that_cannot_be_trusted_is_refused(tmp_path: Path, identity: str, expected: str):
    head, _, tail = GOOD.partition("    issuers:")
    rest = tail.partition("\n      - {name: checkrein, self: true, token_ttl: 10m}")[2]
    with pytest.raises(ConfigError) as error:
        read(tmp_path, f"{head}    {identity}{rest}")
    assert expected in str(error.value)


def test_a_socket_that_the_system_cannot_have_is_named_before_the_start(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"pdp\.listen: .* is a socket path of \d+ bytes"):
        read(tmp_path, GOOD.replace("state: state", f"state: {'x' * 100}"))


def with_store(folder: Path, store: str) -> Config:
    return read(folder, GOOD.replace("  resources:", f"  store: {{url: {store}}}\n  resources:", 1))


def test_a_store_with_a_password_is_named_by_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    url = "postgresql+psycopg://checkrein:hunter2@127.0.0.1/checkrein"
    (tmp_path / "url").write_text(f"{url}\n")
    monkeypatch.setenv("STORE_URL", url)
    for reference in ("{env: STORE_URL}", "{file: url}", "{command: [cat, url]}"):
        monkeypatch.chdir(tmp_path)
        assert with_store(tmp_path, reference).store_url() == url
    monkeypatch.delenv("STORE_URL")
    with pytest.raises(ConfigError, match="STORE_URL is not set"):
        with_store(tmp_path, "{env: STORE_URL}").store_url()


def test_a_store_without_a_password_may_stand_in_the_file(tmp_path: Path):
    url = "postgresql+psycopg://checkrein@/checkrein?host=/run/postgresql"
    assert with_store(tmp_path, f"'{url}'").store_url() == url


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        ("'postgresql://me:hunter2@127.0.0.1/b'", "pdp.store.url: a password never stands in this file"),
        ("'postgresql://me@127.0.0.1/b?password=hunter2'", "pdp.store.url: a password never stands in this file"),
        ("'postgresql://me@hunter2.corp/b'", "so the URL needs sslmode=verify-full"),
        ("'hunter2'", "pdp.store.url: must be sqlite:///PATH or postgresql"),
        ("{vault: hunter2}", 'unknown key "vault" in pdp.store.url'),
        ("{}", "needs exactly one of env, file and command"),
    ],
)
def test_what_is_wrong_with_a_store_is_said_and_no_secret_with_it(tmp_path: Path, store: str, expected: str):
    with pytest.raises(ConfigError) as raised:
        with_store(tmp_path, store)
    assert expected in str(raised.value)
    assert "hunter2@" not in str(raised.value)
    assert "=hunter2" not in str(raised.value)
    assert "c.yaml:6: " in str(raised.value)


def test_every_key_is_in_the_page():
    page = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    reference = page[page.index("| `version` |") : page.index("**`decisions`: how proxies reach")]
    named = set(re.findall(r"[a-z0-9_]+", " ".join(re.findall(r"`([^`]+)`", reference))))
    assert (keys(Service) | keys(Telemetry)) - named == set()


def keys(annotation: object) -> set[str]:
    """Every key that may stand somewhere in a section; not those within a secret, which the page explains once."""
    if isinstance(annotation, type) and issubclass(annotation, Secret):
        return set()
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields
        own = {field.alias or name for name, field in fields.items()}
        return own.union(*(keys(field.annotation) for field in fields.values()))
    return set().union(*map(keys, typing.get_args(annotation)))
