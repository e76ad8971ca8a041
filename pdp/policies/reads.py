"""Which parts of the statement a policy can read, from its syntax tree; pure and conservative.

A statement's text and parameters travel only where a bound policy can read them. Whatever is not plain to see, the
whole input handed to a function, a key that is computed, data that is walked, counts as read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

STATEMENT_PATHS: Final = ("action.properties.statement.text", "action.properties.statement.parameters")

_TARGETS: Final = {path: tuple(path.split(".")) for path in STATEMENT_PATHS}


@dataclass(frozen=True, slots=True)
class Reads:
    """What one module reads: paths of the statement, and the other policies it looks into (None: any of them)."""

    paths: frozenset[str]
    policies: frozenset[str] | None


def module_reads(ast: Mapping[str, Any]) -> Reads:
    """What can be read by the rules and imports of one module."""
    paths: set[str] = set()
    policies: set[str] = set()
    everywhere = False
    for root, steps in _references({"imports": ast.get("imports", []), "rules": ast.get("rules", [])}):
        if root == "input":
            paths.update(path for path, target in _TARGETS.items() if _overlap(steps, target))
        elif root == "data":
            match steps:
                case ["policies", str(name), *_]:
                    policies.add(name)
                case [] | [None, *_] | ["policies", *_]:
                    everywhere = True
                case _:
                    pass
    return Reads(frozenset(paths), None if everywhere else frozenset(policies))


def policy_paths(policies: Collection[str], modules: Mapping[str, Sequence[Reads]]) -> tuple[str, ...]:
    """The paths that these policies, and whatever they look into, can read. An unknown policy reads everything."""
    paths: set[str] = set()
    waiting = list(policies)
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name not in modules:
            return STATEMENT_PATHS
        for reads in modules[name]:
            paths |= reads.paths
            waiting += modules if reads.policies is None else reads.policies
    return tuple(path for path in STATEMENT_PATHS if path in paths)


def _overlap(steps: Sequence[str | None], target: Sequence[str]) -> bool:
    """Whether one is a beginning of the other; a step that is computed may be any."""
    return all(step is None or step == wanted for step, wanted in zip(steps, target, strict=False))


def _references(node: Any) -> Iterator[tuple[str, list[str | None]]]:
    """Root and steps of every reference below the node; a computed step is None."""
    if isinstance(node, Mapping):
        value = node.get("value")
        if node.get("type") == "ref" and isinstance(value, list) and value:
            root = value[0]
            if isinstance(root, Mapping) and root.get("type") == "var":
                yield str(root["value"]), [_step(term) for term in value[1:]]
            else:
                yield from _references(root)
            yield from _references(value[1:])
            return
        if node.get("type") == "var" and isinstance(value, str):
            yield value, []
            return
        for item in node.values():
            yield from _references(item)
    elif isinstance(node, list):
        for item in node:
            yield from _references(item)


def _step(term: Mapping[str, Any]) -> str | None:
    return str(term["value"]) if term.get("type") == "string" else None
