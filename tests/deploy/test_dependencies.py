"""What `pdp` and `pep` load is under licences that go with Apache-2.0, and what is installed is what the lock pins."""

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.syntax import parse

ROOT = Path(__file__).parent.parent.parent
LOCKS = ROOT / "deploy" / "lock"
PART_OF = {"pydantic-core": "pydantic"}  # released together, each version for one version of the other
PERMISSIVE = re.compile(
    r"apache|\bMIT\b|\bBSD\b|0BSD|\bISC\b|\bPSF\b|Python Software Foundation|MPL|Mozilla|Unlicense|\bCC0\b|zlib",
    re.IGNORECASE,
)
COPYLEFT = re.compile(r"GPL|General Public", re.IGNORECASE)


def closure(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """Every distribution that an installation brings along on this machine, itself left out."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(name, extras)]
    while waiting:
        if (current := waiting.pop()) in seen:
            continue
        seen.add(current)
        for text in importlib.metadata.requires(current[0]) or ():
            wanted = Requirement(text)
            if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in current[1] | {""}):
                waiting.append((wanted.name, frozenset(wanted.extras)))
    return {normal(found) for found, _ in seen} - {name}


def normal(name: str) -> str:
    return name.lower().replace("_", "-")


def licence(name: str) -> str:
    """What the distribution says of itself: the SPDX expression, else classifiers, else the free text's first line."""
    metadata = importlib.metadata.metadata(name)
    if expression := metadata.get("License-Expression"):
        return expression
    classifiers = [text for text in metadata.get_all("Classifier", ()) if text.startswith("License ::")]
    return "; ".join(classifiers) or (metadata.get("License") or "").partition("\n")[0]


RUN_TIME = sorted(closure("checkrein"))


def imports() -> Iterator[tuple[str, Path]]:
    """The top-level name of everything that the product imports, and where."""
    for path in [*(ROOT / "pdp").rglob("*.py"), *(ROOT / "pep").rglob("*.py")]:
        for node in ast.walk(parse(path.read_text("utf-8"))):
            match node:
                case ast.Import(names=names):
                    yield from ((name.name.partition(".")[0], path) for name in names)
                case ast.ImportFrom(module=str(module), level=0):
                    yield module.partition(".")[0], path
                case _:
                    pass


def is_optional(wanted: Requirement) -> bool:
    """Whether it is of an extra with which the product does more; the others are for the demonstration and tests."""
    assert wanted.marker is not None
    return any(wanted.marker.evaluate({"extra": extra}) for extra in ("aws", "postgres", "telemetry"))


def test_what_the_product_imports_it_declares():
    requirements = map(Requirement, importlib.metadata.requires("checkrein") or ())
    declared = {wanted.name for wanted in requirements if wanted.marker is None or is_optional(wanted)}
    providers = importlib.metadata.packages_distributions()
    undeclared = {
        f"{path.relative_to(ROOT)} imports {name}"
        for name, path in imports()
        if name not in sys.stdlib_module_names | {"pdp", "pep"}
        and not {PART_OF.get(provider, provider) for provider in map(normal, providers.get(name, ()))} & declared
    }
    assert undeclared == set()


def test_the_run_time_is_known():
    assert {"grpcio", "postgast", "opa-python-client", "sqlalchemy"} <= set(RUN_TIME)
    assert not {"pytest", "langgraph", "pglast"} & set(RUN_TIME)


@pytest.mark.parametrize("name", RUN_TIME)
def test_a_run_time_dependency_is_under_a_permissive_licence(name: str):
    found = licence(name)
    assert PERMISSIVE.search(found), f"{name} says {found!r}"
    assert not COPYLEFT.search(found), f"{name} says {found!r}"


@pytest.mark.parametrize("lock", ["demo.txt", "dev.txt"])
def test_a_lock_pins_every_distribution_by_digest_and_names_no_host(lock: str):
    text = (LOCKS / lock).read_text("utf-8")
    pins = re.split(r"\n(?=\S)", re.sub(r"(?m)^#.*\n", "", text).strip())
    assert [pin for pin in pins if not re.match(r"\S+==\S+ .*\\\n {4}--hash=sha256:[0-9a-f]{64}", pin)] == []
    assert "://" not in text


def test_the_locks_agree():
    def versions(lock: str) -> set[str]:
        return set(re.findall(r"(?m)^\S+==\S+", (LOCKS / lock).read_text("utf-8")))

    assert versions("demo.txt") < versions("dev.txt")


def test_the_environment_of_the_tests_is_the_locked_one():
    locked = map(Requirement, re.findall(r"(?m)^[^\s#].*?(?= \\$)", (LOCKS / "dev.txt").read_text("utf-8")))
    here = [pin for pin in locked if pin.marker is None or pin.marker.evaluate()]
    assert len(here) > len(RUN_TIME)
    installed = {pin.name: importlib.metadata.version(pin.name) for pin in here}
    assert [
        f"{pin}, installed is {installed[pin.name]}" for pin in here if installed[pin.name] not in pin.specifier
    ] == []
