"""Does a verdict become weaker when a field of the input is absent or null? The pure part of `policy test --absent`.

A rule that reads a field without asking for it fails open where the field is missing, and no coverage shows it. The
decision service refuses such an input before it asks; this holds the policies to deny it all the same. Nothing here
runs Open Policy Agent: the caller evaluates the variants and hands the answers back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Json = Any
Step = str | int

_STRENGTH: Final[Mapping[str, int]] = {"allow": 0, "mask": 1, "require_approval": 2, "incomplete": 3, "deny": 4}
# As in rego/checkrein/masks: how much a method hides.
_HIDES: Final[Mapping[str, int]] = {
    "null": 6,
    "constant": 5,
    "hash": 4,
    "generalize": 3,
    "partial": 2,
    "partial_email": 2,
}


@dataclass(frozen=True, slots=True)
class Variant:
    """The document with the one place at `path` deleted or set to null."""

    path: tuple[Step, ...]
    change: Literal["absent", "null"]
    document: Json

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.path))} {self.change}"


def variants(document: Mapping[str, Json]) -> Iterator[Variant]:
    """Each field at every depth, once absent and once null, and each item of a list null. The document is not changed.

    An item of a list is never left out: a statement with one relation fewer is another statement, and no policy can
    see that. Items of `context.approval.requirements` are taken whole: the entrypoint built them and compares them.
    """
    for path in _places(document, ()):
        if isinstance(path[-1], str):
            yield Variant(path, "absent", _without(document, path))
        if _at(document, path) is not None:
            yield Variant(path, "null", _with_null(document, path))


def weaker(base: Mapping[str, Json], answer: Json) -> str | None:
    """How `answer` grants more than `base`, or None. Both are the entrypoint's answer, `rego/schemas/decision.json`.

    A weaker verdict; and under an equally strong one a mask, a requirement or an obligation that has gone or become
    milder. Whatever is no answer is a deny to the decision service, so it is not weaker.
    """
    if not isinstance(answer, Mapping) or answer.get("verdict") not in _STRENGTH:
        return None
    before, after = base["verdict"], answer["verdict"]
    if _STRENGTH[after] != _STRENGTH[before]:
        return f"{before} becomes {after}" if _STRENGTH[after] < _STRENGTH[before] else None
    if before in {"deny", "incomplete"}:
        return None
    if _unmasked(base["masks"], answer["masks"]):
        return "a field is shown, or more of it"
    if any(each not in answer["requirements"] for each in base["requirements"]):
        return "a requirement is gone or another"
    for duty, body in base["obligations"].items():
        if not _as_strict(body, answer["obligations"].get(duty)):
            return f"{duty} is gone or milder"
    return None


def _unmasked(before: list[Json], after: list[Json]) -> bool:
    hides = {(mask["dataset"], mask["field"]): mask for mask in after}
    for mask in before:
        other = hides.get((mask["dataset"], mask["field"]))
        if other is None or (other != mask and _HIDES[other["method"]] <= _HIDES[mask["method"]]):
            return True
    return False


def _as_strict(before: Json, after: Json) -> bool:
    """A duty of the same words, with no limit that is higher."""
    if isinstance(before, Mapping) and isinstance(after, Mapping) and before.keys() == after.keys():
        return all(_as_strict(before[key], after[key]) for key in before)
    if isinstance(before, int | float) and isinstance(after, int | float):
        return after <= before
    return bool(before == after)


def _places(node: Json, path: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    if path:
        yield path
    if path[:3] == ("context", "approval", "requirements") and len(path) > 3:
        return
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _places(value, (*path, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _places(value, (*path, index))


def _at(node: Json, path: tuple[Step, ...]) -> Json:
    for step in path:
        node = node[step]
    return node


def _without(node: Json, path: tuple[Step, ...]) -> Json:
    first, *rest = path
    if not rest:
        return {key: value for key, value in node.items() if key != first}
    if isinstance(node, Mapping):
        return {key: _without(value, tuple(rest)) if key == first else value for key, value in node.items()}
    return [_without(value, tuple(rest)) if index == first else value for index, value in enumerate(node)]


def _with_null(node: Json, path: tuple[Step, ...]) -> Json:
    if not path:
        return None
    first, *rest = path
    if isinstance(node, Mapping):
        return {key: _with_null(value, tuple(rest)) if key == first else value for key, value in node.items()}
    return [_with_null(value, tuple(rest)) if index == first else value for index, value in enumerate(node)]
