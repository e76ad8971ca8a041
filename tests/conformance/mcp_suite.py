"""The official conformance suite of MCP against the tests' server: the same score straight and through the proxy.

`make conformance` obtains the suite, with the Node it needs, and runs this.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.credentialed import credentialed
from tests.fix_mcp import McpServer
from tests.http_relay import PASSWORD, SECRET, HttpRelay, http_relay

MODULES = Path(os.environ.get("CONFORMANCE", ".checkrein/conformance")).resolve() / "node_modules"
COMMAND = (MODULES / ".bin" / "node", MODULES / "@modelcontextprotocol" / "conformance" / "dist" / "index.js")
LINE = f"Authorization: Bearer {PASSWORD}"

# Scenarios, by their names, with the status of each of their checks.
Score = dict[str, dict[str, str]]


@pytest.fixture
def relay(mcp_server: McpServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpRelay]:
    monkeypatch.setenv("CHECKREIN_TEST_UPSTREAM", SECRET)
    with http_relay(mcp_server.origin, http={"mcp": ["/mcp"]}) as running:
        yield running


def test_the_score_is_the_same_and_it_is_full(mcp_server: McpServer, relay: HttpRelay, tmp_path: Path) -> None:
    with credentialed(mcp_server.port, LINE) as direct, credentialed(relay.port, LINE) as through:
        alone = score(direct, tmp_path / "direct")
        proxied = score(through, tmp_path / "through")
    assert len(alone) >= 32
    # A warning is about what a client of a revision before 2025-11-25 is not sent.
    assert {status for checks in alone.values() for status in checks.values()} <= {"SUCCESS", "INFO", "WARNING"}
    assert sum(status == "SUCCESS" for checks in alone.values() for status in checks.values()) >= 44
    assert proxied == alone
    assert any(action.properties.get("tool") == "test_sampling" for action in relay.decisions.asked)


def score(port: int, folder: Path) -> Score:
    """Of the whole suite, at the MCP endpoint of this port."""
    folder.mkdir()
    url = f"http://127.0.0.1:{port}/mcp"
    command = [*COMMAND, "server", "--url", url, "--suite", "all", "--output-dir", folder]
    subprocess.run(command, check=True, timeout=100, stdout=subprocess.DEVNULL)
    found: Score = {}
    for file in folder.glob("**/checks.json"):
        scenario = file.parent.name.partition("-20")[0]
        found[scenario] = {check["id"]: check["status"] for check in json.loads(file.read_text())}
    return found
