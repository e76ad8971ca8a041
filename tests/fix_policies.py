"""A policy repository to write to, and a state folder whose path is short enough for sockets."""

import shutil
import tempfile
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pdp.input import Context, Resource, build_input
from pdp.v1 import access_pb2 as pb

SHOP = Resource("shop", "postgres", {"env": "prod"})

OPEN = """package policies.open

allow contains {"code": "connect"} if input.action.name == "connect"
"""

GUARD = """package policies.guard

deny contains {"code": "guarded", "message": "Not this one."} if input.subject.id == "bad"
"""

# A second home for the rule of GUARD.
BOTH = """package policies.open

allow contains {"code": "connect"} if input.action.name == "connect"

deny contains {"code": "guarded", "message": "Not this one."} if input.subject.id == "bad"
"""


class Repository:
    """A policy repository: `open` allows to connect, `guard` denies one subject; both are bound to everything."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("policies/open/open.rego", OPEN)
        self.write("policies/guard/guard.rego", GUARD)
        self.bind("open", "guard")

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def bind(self, *policies: str) -> None:
        self.write("bindings/data.yaml", "".join(f'- {{policy: {each}, match: {{id: "*"}}}}\n' for each in policies))


def connect(subject: str = "agent-1", resource: Resource = SHOP) -> dict[str, Any]:
    """The input document for a connection."""
    return build_input(
        pb.Action(name="connect"),
        {"type": "agent", "id": subject, "properties": {"groups": []}},
        resource,
        Context(datetime(2026, 11, 24, 10, tzinfo=UTC), "session-1"),
    )


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "policy files")


@pytest.fixture
def state() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="cr-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
