"""`pdp check`: what is wrong, and where; and nothing is wrong that is not."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pdp.commands.check import Finding, findings
from tests.certificates import make_authority
from tests.pdp.commanding import pdp
from tests.pdp.serving import folder

ROOT = Path(__file__).parents[2]
CONFIG = """
version: 1
state: state
pdp:
  opa: {{path: {opa}}}
  policies: {{dir: rego}}
  resources:
    shop: {{type: postgres, labels: {{env: demo}}}}
  identity:
    issuers:
      - {{name: checkrein, self: true}}
{more}
proxies:
  - name: shop
    resource: shop
    protocol: postgres
    listen: {{address: "127.0.0.1:0"}}
    upstream: {{addresses: ["127.0.0.1:{port}"], database: shop, tls: {{mode: disable}}}}
    credentials: {{default: {{user: shop}}}}
"""
UNUSED = 1


def write(path: Path, opa: Path, *, port: int = UNUSED, more: str = "") -> Path:
    shutil.copytree(ROOT / "rego", path / "rego")
    file = path / "checkrein.yaml"
    file.write_text(CONFIG.format(opa=opa, port=port, more=more))
    return file


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def said(file: Path) -> dict[str, Finding]:
    async def all_of_it() -> list[Finding]:
        return [each async for each in findings(file)]

    return {f"{each.what}: {each.text}": each for each in asyncio.run(all_of_it())}


def wrong(file: Path) -> list[str]:
    return [text for text, finding in said(file).items() if finding.state == "WRONG"]


def test_an_installation_in_order_is_found_in_order_before_its_first_start(opa_path: Path):
    async def scenario():
        with folder() as path:
            async with listening() as port:
                file = write(path, opa_path, port=port)
                done = await pdp("check", "-c", str(file))
                assert done.status == 0, done.out
                assert "WRONG" not in done.out
                for text in (
                    f"ok     configuration: {file}",
                    "ok     bindings of shop: baseline, ",
                    "ok     bindings of checkrein: baseline, administration",
                    f"ok     proxy shop: upstream 127.0.0.1:{port}",
                    "note   decision service",
                ):
                    assert text in done.out, text
                assert not (path / "state").exists()

    asyncio.run(scenario())


def test_what_cannot_be_reached_and_what_cannot_be_loaded_is_said(opa_path: Path):
    with folder() as path:
        file = write(path, opa_path)
        policy = path / "rego" / "policies" / "baseline" / "baseline.rego"
        policy.write_text(policy.read_text() + "\ndney contains 1\n")
        lines = len(policy.read_text().splitlines())
        found = wrong(file)
        assert any(f"policies: {policy}:{lines}: " in each for each in found), found
        assert any(each.startswith("proxy shop: upstream 127.0.0.1:1: ") for each in found)
        assert len(found) == 2


def test_a_resource_without_a_policy_is_said_to_be_closed(opa_path: Path):
    with folder() as path:
        file = write(path, opa_path)
        (path / "rego" / "bindings" / "data.yaml").write_text("[{policy: baseline, match: {id: checkrein}}]\n")
        assert "bindings of shop: no policy is bound and enforced, so everything is denied" in wrong(file)


def test_certificates_are_looked_at(opa_path: Path):
    with folder() as path:
        authority = make_authority(path)
        one, other = authority.issue("one", dns=["pdp"]), authority.issue("other")
        tls = "  tls: {{cert: {}, key: {}, client_ca: {}}}"
        file = write(path, opa_path, more=tls.format(one.certificate, one.key, authority.certificate))
        assert any(text.startswith(f"certificate of the service: {one.certificate}, for pdp") for text in said(file))
        text = CONFIG.format(opa=opa_path, port=UNUSED, more=tls.format(one.certificate, other.key, path / "none"))
        file.write_text(text)
        found = wrong(file)
        assert f"certificate of the service: {other.key} is not the key of {one.certificate}" in found
        assert f"authority of the proxies: {path / 'none'}: No such file or directory" in found


def test_trust_domains_are_looked_at(opa_path: Path):
    with folder() as path:
        authority = make_authority(path)
        section = "    certificates: [{{proxies: [{}], ca: {}, domain: corp}}]"
        file = write(path, opa_path, more=section.format("shop", authority.certificate))
        assert any(text.startswith(f"trust domain corp: {authority.certificate}, good for") for text in said(file))
        more = section.format("'spiffe://checkrein/pep/shop', 'spiffe://corp/pep/shop', pay", path / "none")
        file.write_text(CONFIG.format(opa=opa_path, port=UNUSED, more=more))
        found = wrong(file)
        assert f"trust domain corp: {path / 'none'}: No such file or directory" in found
        for stranger in ("spiffe://corp/pep/shop", "pay"):
            assert f"trust domain corp: {stranger} is not a proxy that may call this service" in found
        assert not any("spiffe://checkrein/pep/shop" in each for each in found)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("version: 1\nstate: s\npdp:\n  policies: {dir: p}\n  lisen: x\n", ':5: unknown key "lisen" in pdp'),
        ("version: 2\nstate: s\npdp: {policies: {dir: p}}\n", ":1: version:"),
        ("version: [", ": not YAML"),
    ],
)
def test_a_broken_file_is_said_with_its_line(tmp_path: Path, text: str, problem: str):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    assert any(problem in each for each in wrong(file)), wrong(file)


def test_a_state_folder_that_others_can_read_is_wrong(opa_path: Path):
    with folder() as path:
        file = write(path, opa_path)
        (path / "state").mkdir(mode=0o755)
        assert f"state folder: {path / 'state'} is open to other users: chmod 700 it" in wrong(file)
