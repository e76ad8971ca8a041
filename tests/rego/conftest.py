"""The policy library as it stands in the tree, asked through the real OPA."""

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

REGO = Path(__file__).parent.parent.parent / "rego"

Opa = Callable[..., str]
Ask = Callable[[Mapping[str, "Question"]], dict[str, Any]]


@pytest.fixture(scope="session")
def opa(opa_path: Path) -> Opa:
    """Runs OPA with these arguments and gives back what it prints; a non-zero end fails the test."""

    def run(*arguments: str, stdin: str = "") -> str:
        done = subprocess.run([str(opa_path), *arguments], input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr or done.stdout
        return done.stdout

    return run


@dataclass(frozen=True)
class Question:
    """An input, and the resource whose policies decide: what is bound is no matter of the input."""

    request: Any
    resource: Any


@pytest.fixture(scope="session")
def ask(opa: Opa) -> Ask:
    """Decides many inputs in one evaluation, by name, under the policies that the tree binds to the resources.

    A name that is missing in the answer is an input that no answer was given for.
    """
    query = """{name: answer |
        some name, q in input
        answer := data.checkrein.testing.decide(q.request, data.checkrein.testing.bound(q.resource))
    }"""

    def ask(questions: Mapping[str, Question]) -> dict[str, Any]:
        stdin = json.dumps({name: asdict(question) for name, question in questions.items()})
        answer = opa("eval", "--strict-builtin-errors", "-f", "raw", "-I", "-d", str(REGO), query, stdin=stdin)
        return dict(json.loads(answer))

    return ask


@pytest.fixture(scope="session")
def examples() -> dict[str, Any]:
    """`{name: {input, expected}}` of rego/examples."""
    found: dict[str, Any] = {}
    for path in sorted((REGO / "examples").glob("*.json")):
        document = json.loads(path.read_text())
        assert list(document) == [path.stem], f"{path.name} holds exactly the example {path.stem}"
        found |= document
    assert found
    return found
