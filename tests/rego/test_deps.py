"""`opa deps` says what a policy reads of the input, and is exact: no rule depends on the whole of anything.

A copy of `input.action` in a variable, or a function that is handed it, would make a policy depend on the statement's
text and parameters, and so on something that changes with every call.
"""

import json

import pytest

from .conftest import REGO, Opa

POLICIES = sorted(path.name for path in (REGO / "policies").iterdir())
# What is read whole on purpose: lists, which have no names inside.
WHOLE = {
    "input.action.properties.postgres.relations",
    "input.action.properties.postgres.columns",
    "input.action.properties.postgres.functions",
    "input.action.properties.postgres.mints_access",
    "input.action.properties.postgres.pins",
    "input.action.properties.postgres.settings",
    "input.context.approval.requirements",
    "input.context.facts.estimate",
    "input.subject.properties.groups",
    "input.subject.properties.on_behalf_of",
}
NEVER = ("input.action.properties.statement", "input.context.session", "input.context.time", "input.context.labels")


def paths(opa: Opa, reference: str) -> set[str]:
    library, policies = str(REGO / "checkrein"), str(REGO / "policies")
    answer = json.loads(opa("deps", "-f", "json", "-d", library, "-d", policies, "--ignore", "*_test.rego", reference))
    found: set[str] = set()
    for reference_parts in answer.get("base", []):
        parts = [part["value"] for part in reference_parts]
        if parts[0] != "input":
            continue
        names = ["input"]
        for part in parts[1:]:
            if not isinstance(part, str):
                break
            names.append(part)
        found.add(".".join(names))
    return found


def test_the_answer_is_read(opa: Opa) -> None:
    assert "input.action.name" in paths(opa, "data.checkrein.decision.result")


@pytest.mark.parametrize(
    "reference",
    [f"data.policies.{name}" for name in POLICIES]
    + [f"data.checkrein.{name}" for name in ("decision.result", "protocols", "postgres", "http", "mcp")],
)
def test_dependencies_are_exact(opa: Opa, reference: str) -> None:
    found = paths(opa, reference)
    assert found
    for path in found:
        assert not path.startswith(NEVER), path
        inner = {other for other in found if other.startswith(f"{path}.")}
        assert not inner or path in WHOLE, f"{path} is read whole, and so are parts of it: {sorted(inner)}"
        assert path not in {"input", "input.subject", "input.action", "input.resource", "input.context"}
        assert not path.endswith(".properties"), path
        assert path.removeprefix("input.action.properties.") not in {"postgres", "http", "mcp", "http.body"}, path
