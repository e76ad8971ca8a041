import re
from pathlib import Path

import pytest

from pdp.v1.strict_yaml import ConfigError
from pep.core import config
from pep.core.serve import decision_route, target

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
    return config.read(file, only)


def wrong(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    return str(caught.value)


def test_what_is_not_said_has_a_safe_default(tmp_path: Path):
    read_config = read(tmp_path, GOOD)
    (proxy,) = read_config.proxies
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
    from pdp.v1.strict_yaml import socket_address

    assert target(socket_address(address)) == expected
