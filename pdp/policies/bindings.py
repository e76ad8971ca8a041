"""Which policies apply to which resource: the list that people write, expanded to one list for each resource; pure."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pdp.input import Resource
from pdp.policies.problems import Problem

# Administration of the product itself is decided like any other action, on this resource.
ADMINISTRATION: Final = Resource("checkrein", "checkrein", {})

_KEYS: Final = ("policy", "match", "mode")
_MATCH: Final = ("id", "type", "labels")
_ENFORCE: Final = "enforce"


@dataclass(frozen=True, slots=True)
class Binding:
    """One entry of the list. What is None matches every resource."""

    policy: str
    ids: tuple[str, ...] | None
    types: tuple[str, ...] | None
    labels: Mapping[str, tuple[str, ...]]

    def fits(self, resource: Resource) -> bool:
        """Whether everything that the match names holds for the resource."""
        return (
            (self.ids is None or any(fnmatch.fnmatchcase(resource.id, each) for each in self.ids))
            and (self.types is None or resource.type in self.types)
            and all(resource.labels.get(name) in values for name, values in self.labels.items())
        )


def expand(bindings: Sequence[Binding], resources: Sequence[Resource]) -> dict[str, list[dict[str, str]]]:
    """`data.bindings` of the bundle. A policy that is bound twice stands there once."""
    return {
        resource.id: [
            {"policy": policy, "mode": _ENFORCE}
            for policy in dict.fromkeys(binding.policy for binding in bindings if binding.fits(resource))
        ]
        for resource in (ADMINISTRATION, *resources)
    }


def read(raw: Any, *, path: Path, lines: Sequence[int], known: Collection[str]) -> tuple[list[Binding], list[Problem]]:
    """The list as types, with everything that is wrong with it."""
    if not isinstance(raw, list):
        return [], [Problem(path, 1, "the bindings must be a list of {policy, match, mode}")]
    bindings: list[Binding] = []
    problems: list[Problem] = []
    for index, entry in enumerate(raw):
        line = lines[index] if index < len(lines) else 0
        wrong = list(_wrong(entry, known))
        problems += [Problem(path, line, message) for message in wrong]
        if not wrong:
            bindings.append(_binding(entry))
    return bindings, problems


def _binding(entry: Mapping[str, Any]) -> Binding:
    match = entry["match"]
    return Binding(
        policy=entry["policy"],
        ids=_several(match["id"]) if "id" in match else None,
        types=_several(match["type"]) if "type" in match else None,
        labels={name: _several(value) for name, value in match.get("labels", {}).items()},
    )


def _several(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _wrong(entry: Any, known: Collection[str]) -> Iterator[str]:
    if not isinstance(entry, Mapping):
        yield "a binding is {policy, match, mode}"
        return
    yield from _unknown(entry, _KEYS)
    policy = entry.get("policy")
    if not isinstance(policy, str):
        yield "a binding names one policy"
    elif policy not in known:
        yield f"there is no policy {policy}{_meant(policy, known)}"
    if entry.get("mode") == "shadow":
        # Not left out in silence: whoever writes it waits for verdicts in a log that nobody would write.
        yield "mode: shadow is not there yet; a policy is bound and enforced, or it is not bound"
    elif entry.get("mode", _ENFORCE) != _ENFORCE:
        yield f"mode is {_ENFORCE}, or left out"
    match = entry.get("match")
    if not isinstance(match, Mapping) or not match:
        yield 'a binding has a match, for example {id: "*"}'
        return
    yield from _unknown(match, _MATCH)
    labels = match.get("labels", {})
    if not isinstance(labels, Mapping) or ("labels" in match and not labels):
        yield "match.labels is an object of names and values"
    elif not all(_is_names(value) for value in labels.values()):
        yield "a label in match is text, or a list of texts"
    for key in ("id", "type"):
        if key in match and not _is_names(match[key]):
            yield f"match.{key} is text, or a list of texts"


def _unknown(found: Mapping[str, Any], known: Collection[str]) -> Iterator[str]:
    for key in found:
        if key not in known:
            yield f"{key} is not known{_meant(key, known)}; known are {', '.join(known)}"


def _meant(word: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(word, sorted(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


def _is_names(value: Any) -> bool:
    if isinstance(value, str):
        return value != ""
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) and each for each in value)
