"""The MCP server that the HTTP proxy's tests have for a target."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class McpServer:
    """The running server; its endpoint is at /mcp."""

    port: int

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/mcp"


@pytest.fixture(scope="session")
def mcp_server() -> Iterator[McpServer]:
    command = [sys.executable, "-m", "tests.mcp_server"]
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port = process.stdout.readline()
            assert port.strip().isdigit(), "the server did not start"
            yield McpServer(int(port))
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
