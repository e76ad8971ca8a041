import re
from pathlib import Path

import pytest

from pdp.v1.strict_yaml import ConfigError
from pep.core import config
from pep.core.serve import decision_route, target
from pep.postgres.config import PostgresProxy
from pep.protocols import MODELS

GOOD = """
version: 1
state: .checkrein
pdp:
  listen: unix:.checkrein/pdp.sock
  anything: {the: other, side: checks}
proxies:
  - name: shop
    resource: shop
    protocol: postgres
    listen: {address: "127.0.0.1:6432"}
    upstream:
      addresses: ["127.0.0.1:5432"]
      database: shop
      tls: {mode: disable}
    credentials:
      default: {user: shop_proxy, password: {file: .checkrein/pg.password}}
"""


def read(folder: Path, text: str, only: str | None = None) -> config.Config:
    file = folder / "checkrein.yaml"
    file.write_text(text)
    return config.read(file, MODELS, only)


def wrong(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    return str(caught.value)


def test_what_is_not_said_has_a_safe_default(tmp_path: Path):
    read_config = read(tmp_path, GOOD)
    (proxy,) = read_config.proxies
    assert isinstance(proxy, PostgresProxy)
    assert proxy.limits.statement_bytes == 1 << 20
    assert proxy.limits.client_buffer == 64 << 10
    assert proxy.approval.hold_in_transaction.total_seconds() == 30
    assert read_config.decisions.timeout.decide.total_seconds() == 1
    assert read_config.spool_dir == tmp_path / ".checkrein/spool"
    assert config.UpstreamTls().mode == "verify-full"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ("limits: {}", "limits: {sesions: 5}"),
            'unknown key "sesions" in proxies[0].limits; did you mean "sessions"?',
        ),
        (('address: "127.0.0.1:6432"', 'address: "0.0.0.0:6432"'), "credentials travel in clear"),
        (('address: "127.0.0.1:6432"', 'address: "db.corp:6432"'), "credentials travel in clear"),
        (('addresses: ["127.0.0.1:5432"]', 'addresses: ["db.corp:5432"]'), "db.corp:5432 is not on this machine"),
        (("password: {file: .checkrein/pg.password}", "password: hunter2"), "a secret never stands in this file"),
        (("default: {user", "other: {user"), 'credentials has no "default"'),
        (
            ('address: "127.0.0.1:6432"', 'address: "127.0.0.1:6432", tls: {cert: a, key: b, client_ca: c}'),
            "listen.tls.client_ca",
        ),
        (("name: shop", "name: ../shop"), "name"),
    ],
)
def test_a_mistake_is_named_and_no_value_repeated(tmp_path: Path, change: tuple[str, str], said: str):
    text = GOOD.replace("    credentials:", "    limits: {}\n    credentials:")
    told = wrong(tmp_path, text.replace(*change))
    assert said in told
    assert re.search(r"checkrein\.yaml:\d+: ", told)
    assert "hunter2" not in told


def test_clear_text_may_be_allowed_in_so_many_words(tmp_path: Path):
    text = GOOD.replace('{address: "127.0.0.1:6432"}', '{address: "0.0.0.0:6432", plaintext: true}')
    assert read(tmp_path, text).proxies[0].listen.plaintext


def test_two_proxies_of_one_name_are_a_mistake(tmp_path: Path):
    second = GOOD[GOOD.index("  - name: shop") :]
    assert "more than one proxy is named shop" in wrong(tmp_path, GOOD + second)


def test_only_the_named_proxy_is_served(tmp_path: Path):
    second = GOOD[GOOD.index("  - name: shop") :].replace("name: shop\n", "name: pay\n").replace("6432", "6433")
    assert [proxy.name for proxy in read(tmp_path, GOOD + second, "pay").proxies] == ["pay"]
    with pytest.raises(ConfigError, match='no proxy is named "web"; known: shop, pay'):
        read(tmp_path, GOOD + second, "web")


def test_each_proxy_is_read_as_its_protocol_says_and_its_mistakes_are_its_own(tmp_path: Path):
    shop = GOOD[GOOD.index("  - name: shop") :]
    second = shop.replace("name: shop\n", "name: pay\n").replace("protocol: postgres", "protocol: postgrse")
    third = shop.replace("name: shop\n", "name: web\n").replace("database: shop", "databse: shop")
    told = wrong(tmp_path, GOOD + second + third).splitlines()
    known = ", ".join(sorted(MODELS))
    assert [line.removeprefix(f"{tmp_path}/checkrein.yaml:") for line in told] == [
        f'20: proxies[1].protocol: this protocol is not known; did you mean "postgres"? known: {known}',
        '34: unknown key "databse" in proxies[2].upstream; did you mean "database"?',
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("    protocol: postgres\n", ""), "proxies[0].protocol is missing"),
        (("protocol: postgres", "protocol: 5"), "proxies[0].protocol: should be a valid string"),
        ((GOOD[GOOD.index("  - name") :], "  - shop\n"), "proxies[0]: should be an object"),
        ((GOOD[GOOD.index("\n  - name") :], " 5\n"), "proxies: should be a valid array"),
    ],
)
def test_a_proxy_that_names_no_protocol_is_a_mistake(tmp_path: Path, change: tuple[str, str], said: str):
    assert said in wrong(tmp_path, GOOD.replace(*change))


def test_only_the_protocols_that_the_file_names_are_loaded(tmp_path: Path):
    loaded = []

    def postgres() -> type[config.ProxyConfig]:
        loaded.append("postgres")
        return PostgresProxy

    def gopher() -> type[config.ProxyConfig]:
        loaded.append("gopher")
        return config.ProxyConfig

    file = tmp_path / "checkrein.yaml"
    file.write_text(GOOD)
    (proxy,) = config.read(file, {"postgres": postgres, "gopher": gopher}).proxies
    assert isinstance(proxy, PostgresProxy)
    assert loaded == ["postgres"]


def test_a_proxy_says_itself_what_there_is_to_check(tmp_path: Path):
    (proxy,) = read(tmp_path, GOOD + "    masks: {hash_key: {env: KEY}}\n").proxies
    assert list(proxy.secrets()) == ["secret of the credential default", "secret of the hash key"]
    assert [str(target) for target in proxy.targets()] == ["127.0.0.1:5432"]


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        ("{cert: a.crt}", "needs cert and key together"),
        ("{mode: disable, cert: a.crt, key: a.key}", "without TLS there is nobody to show cert to"),
    ],
)
def test_what_is_shown_to_the_upstream_is_whole(tmp_path: Path, tls: str, said: str):
    assert said in wrong(tmp_path, GOOD.replace("tls: {mode: disable}", f"tls: {tls}"))


def test_nothing_to_serve_is_a_mistake(tmp_path: Path):
    assert "nothing to serve" in wrong(tmp_path, "version: 1\nstate: s\n")


def test_the_decision_service_of_the_same_file_is_reached_with_the_certificates_of_its_state(tmp_path: Path):
    read_config = read(tmp_path, GOOD)
    proxy = read_config.proxies[0]
    with pytest.raises(ConfigError, match="start the decision service of this file first"):
        decision_route(read_config, proxy)
    folder = tmp_path / ".checkrein" / "certificates"
    folder.mkdir(parents=True)
    for path in (folder / "pep-shop.crt", folder / "pep-shop.key", tmp_path / ".checkrein/ca.crt"):
        path.write_text("")
    addresses, tls = decision_route(read_config, proxy)
    assert addresses == [f"unix:{tmp_path}/.checkrein/pdp.sock"]
    assert (tls.cert, tls.ca) == (folder / "pep-shop.crt", tmp_path / ".checkrein/ca.crt")


def test_another_decision_service_needs_an_address_and_a_certificate(tmp_path: Path):
    assert "addresses and tls together" in wrong(tmp_path, GOOD + 'decisions: {addresses: ["pdp.corp:7443"]}\n')
    text = GOOD + (
        'decisions: {addresses: ["pdp.corp:7443"], tls: {cert: c, key: k, ca: a, server_name: pdp}, '
        "spool: {fsync: always}}\n"
    )
    read_config = read(tmp_path, text)
    assert decision_route(read_config, read_config.proxies[0])[0] == ["pdp.corp:7443"]
    assert read_config.decisions.spool.fsync_seconds == 0


@pytest.mark.parametrize(
    ("address", "expected"), [("0.0.0.0:7443", "localhost:7443"), ("pdp:7443", "pdp:7443"), ("[::1]:1", "[::1]:1")]
)
def test_addresses_are_spelt_for_grpc(address: str, expected: str):
    from pdp.v1.addresses import socket_address

    assert target(socket_address(address)) == expected
