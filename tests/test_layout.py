"""The lines that no import may cross, read from the source: a breach is found without running the module.

- `pep/<protocol>` knows the core and itself, never another protocol and never the decision service;
- `pep/core` knows no protocol;
- `pep` knows of `pdp` only the generated contract, `pdp.v1`;
- `pdp` knows nothing of `pep`.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.syntax import parse

ROOT = Path(__file__).parent.parent
CORE = "pep.core"
CONTRACT = "pdp.v1"
COMPUTED = "a name that it computes"


def imported(source: str, module: str) -> Iterator[str]:
    """The full name of everything that the source of `module` imports, relative imports resolved.

    `from a.b import c` counts as `a.b.c`: c may be a module, and as a name in a.b it is under a.b all the same.
    """
    package = module.split(".")[:-1]
    for node in ast.walk(parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=origin, names=names, level=level):
                base = package[: len(package) - level + 1] if level else []
                yield from (".".join([*base, *([origin] if origin else []), name.name]) for name in names)
            case ast.Call(func=ast.Name(id="__import__") | ast.Attribute(attr="import_module"), args=[argument, *_]):
                # A name that is computed cannot be checked: it is reported as such.
                yield argument.value if isinstance(argument, ast.Constant) else COMPUTED
            case _:
                pass


def under(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def permitted(importer: str, name: str) -> bool:
    """Whether a module of this tree may import that name. What belongs to other projects is always fine."""
    ours = under(name, "pep") or under(name, "pdp")
    match importer.split("."):
        case ["pdp", *_]:
            return not under(name, "pep") and name != COMPUTED
        case ["pep", "core", *_]:
            return under(name, CORE) or under(name, CONTRACT) or not (ours or name == COMPUTED)
        case ["pep", protocol, _, *_]:
            return under(name, f"pep.{protocol}") or under(name, CORE) or not (ours or name == COMPUTED)
        case _:  # the command line and its kin put the parts together, by a computed name if they like
            return not under(name, "pdp") or under(name, CONTRACT)


def modules() -> Iterator[tuple[str, Path]]:
    for package in ("pdp", "pep"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield module_name(path.relative_to(ROOT)), path


def module_name(path: Path) -> str:
    """A package's own file is named with its `__init__`, so that its rule and its relative imports hold."""
    return ".".join(path.with_suffix("").parts)


def breaches(importer: str, source: str) -> list[str]:
    return [f"{importer} imports {name}" for name in imported(source, importer) if not permitted(importer, name)]


def test_no_import_crosses_a_line():
    found = [breach for importer, path in modules() for breach in breaches(importer, path.read_text("utf-8"))]
    assert found == []


def test_the_source_is_where_the_rules_look():
    assert {importer.split(".")[0] for importer, _ in modules()} == {"pdp", "pep"}


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("pep.postgres.session", "import pep.mongodb.codec"),
        ("pep.postgres.session", "from pep import mongodb"),
        ("pep.postgres.session", "from .. import cli"),
        ("pep.postgres.session", "from ..ssh import codec"),
        ("pep.postgres.session", "from pdp.v1 import access_pb2"),
        ("pep.postgres.__init__", "from ..ssh import codec"),
        ("pep.core.enforcer", "from pep.postgres import codec"),
        ("pep.core.enforcer", "import pep.postgres"),
        ("pep.core.enforcer", "def late():\n    import pep.postgres"),
        ("pep.core.enforcer", "importlib.import_module('pep.postgres')"),
        ("pep.core.enforcer", "importlib.import_module(name)"),
        ("pep.core.decision_client", "from pdp import service"),
        ("pep.cli", "from pdp.service import Service"),
        ("pep.cli", "import pdp"),
        ("pdp.service", "from pep.core import model"),
        ("pdp.opa.client", "import pep"),
        ("pdp.opa.client", "importlib.import_module(name)"),
    ],
)
def test_a_breach_is_found(importer: str, source: str):
    assert len(breaches(importer, source)) == 1


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("pep.postgres.session", "from pep.core.model import Action"),
        ("pep.postgres.session", "from . import codec"),
        ("pep.postgres.session", "from ..core import wire"),
        ("pep.postgres.__init__", "from .server import serve"),
        ("pep.core.decision_client", "from pdp.v1 import access_pb2"),
        ("pep.core.enforcer", "import asyncio\nfrom . import model"),
        ("pep.cli", "from pep.postgres import server"),
        ("pdp.service", "from pdp.v1 import access_pb2\nimport grpc"),
        ("pep.cli", "importlib.import_module(f'pep.{protocol}.server')"),
        ("pdp.service", "import peppercorn"),
    ],
)
def test_what_is_needed_is_permitted(importer: str, source: str):
    assert breaches(importer, source) == []


def test_a_command_starts_without_what_only_some_need():
    """People wait for the start of each, and scripts call them often."""
    loaded = "import pdp.cli, sys; print(*{'alembic', 'opa_client', 'requests', 'sqlalchemy'} & set(sys.modules))"
    started = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, capture_output=True, text=True, check=True)
    assert started.stdout == "\n"
