"""What the policies bound to a target can read of what travels on demand, from their syntax trees; pure, conservative.

The input's schema marks what a proxy sends only where a bound policy can read it: a statement's text, a request's body.
Rules are followed into the library one by one, so that a policy reads what the rules it calls read, and not what stands
beside them. Whatever is not plain to see, the whole input handed to a function, a key that is computed, a package
taken as a whole, counts as read.
"""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pdp.library import library_dir

# A way down from `input` or `data`; a step that is computed is None.
Steps = tuple[str | None, ...]

_MARK: Final = "on demand"
_ENTRYPOINT: Final = ("checkrein", "decision", "result")


@functools.cache
def on_demand() -> tuple[str, ...]:
    """The paths below `input` that the schema of the input marks, in its order."""
    schema = json.loads((library_dir() / "schemas" / "input.json").read_bytes())
    return tuple(marked_paths(schema))


def marked_paths(schema: Mapping[str, Any]) -> Iterator[str]:
    """The marked paths of a schema without loops. Below a mark nothing more is looked for: it covers all of it."""

    def below(part: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
        while isinstance(part.get("$ref"), str):
            part = functools.reduce(lambda at, step: at[step], part["$ref"].removeprefix("#/").split("/"), schema)
        if part.get("$comment") == _MARK:
            yield ".".join(path)
            return
        for name, each in part.get("properties", {}).items():
            if isinstance(each, Mapping):
                yield from below(each, (*path, name))

    return below(schema, ())


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: where it stands below `data`, what it reads below `input`, what it refers to below `data`."""

    place: tuple[str, ...]
    inputs: frozenset[Steps]
    references: frozenset[Steps]


def module_rules(ast: Mapping[str, Any]) -> list[Rule]:
    """The rules of one module; several with one name are several rules."""
    package = tuple(str(term["value"]) for term in ast["package"]["path"][1:])
    imports = dict(_imports(ast.get("imports", ())))
    rules = ast.get("rules", ())
    places = [(*package, str(rule["head"]["ref"][0]["value"])) for rule in rules]
    own = {place[-1]: ("data", place) for place in places}
    # An import of a part of the input is read by whatever stands in the file.
    everywhere = {steps for root, steps in imports.values() if root == "input"}
    found = []
    for rule, place in zip(rules, places, strict=True):
        inputs: set[Steps] = set(everywhere)
        references: set[Steps] = set()
        for name, steps in _references(rule):
            # A local variable may have the name of an import or a rule: it counts as that.
            for root, above in (known[name] for known in (imports, own) if name in known):
                (inputs if root == "input" else references).add((*above, *steps))
            if name == "input":
                inputs.add(steps)
            elif name == "data":
                references.add(steps)
        found.append(Rule(place, frozenset(inputs), frozenset(references)))
    return found


def policy_paths(modules: Iterable[Mapping[str, Any]], paths: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Which of the paths the rules of each policy can read, with those of the entrypoint; in the order of `paths`."""
    rules = _Rules([rule for ast in modules for rule in module_rules(ast)])
    targets = {path: tuple(path.split(".")) for path in paths}
    shared = rules.reached([_ENTRYPOINT])
    found = {}
    for name in sorted({rule.place[1] for rule in rules.all if rule.place[0] == "policies"}):
        inputs = {steps for rule in shared | rules.reached([("policies", name)]) for steps in rule.inputs}
        found[name] = tuple(
            path for path, target in targets.items() if any(_overlap(steps, target) for steps in inputs)
        )
    return found


class _Rules:
    """The rules of all modules, and which of them a reference can mean."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.all = rules
        self._packages: dict[tuple[str, ...], list[Rule]] = defaultdict(list)
        for rule in rules:
            self._packages[rule.place[:2]].append(rule)
        self._meant: dict[Steps, list[Rule]] = {}

    def reached(self, starts: Iterable[Steps]) -> set[Rule]:
        """The rules that are looked at from these places on."""
        waiting = list(starts)
        found: set[Rule] = set()
        while waiting:
            for rule in self._means(waiting.pop()):
                if rule not in found:
                    found.add(rule)
                    waiting += [steps for steps in rule.references if not _looks_at_the_bound(rule, steps)]
        return found

    def _means(self, steps: Steps) -> list[Rule]:
        if steps not in self._meant:
            package = tuple(step for step in steps[:2] if step is not None)
            among = self._packages.get(package, []) if len(package) == 2 else self.all
            self._meant[steps] = [rule for rule in among if _overlap(steps, rule.place)]
        return self._meant[steps]


def _looks_at_the_bound(rule: Rule, steps: Steps) -> bool:
    # The library reads the policies that are bound, and what those read is counted for each of them.
    return rule.place[0] == "checkrein" and steps[:1] == ("policies",)


def _overlap(steps: Steps, target: Sequence[str]) -> bool:
    """Whether one is a beginning of the other; a step that is computed may be any."""
    return all(step is None or step == wanted for step, wanted in zip(steps, target, strict=False))


def _imports(imports: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, tuple[str, Steps]]]:
    for each in imports:
        root, *steps = each["path"]["value"]
        if root["value"] in {"input", "data"}:
            last = str(steps[-1]["value"] if steps else root["value"])
            yield str(each.get("alias") or last), (str(root["value"]), tuple(_step(term) for term in steps))


def _references(node: Any) -> Iterator[tuple[str, Steps]]:
    """Root and steps of every reference below the node."""
    if isinstance(node, Mapping):
        value = node.get("value")
        if node.get("type") == "ref" and isinstance(value, list) and value:
            root = value[0]
            if isinstance(root, Mapping) and root.get("type") == "var":
                yield str(root["value"]), tuple(_step(term) for term in value[1:])
            else:
                yield from _references(root)
            yield from _references(value[1:])
            return
        if node.get("type") == "var" and isinstance(value, str):
            yield value, ()
            return
        for item in node.values():
            yield from _references(item)
    elif isinstance(node, list):
        for item in node:
            yield from _references(item)


def _step(term: Mapping[str, Any]) -> str | None:
    return str(term["value"]) if term.get("type") == "string" else None
