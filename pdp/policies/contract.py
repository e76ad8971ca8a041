"""What a policy's file may define, checked on its syntax tree; pure.

A file under `policies/NAME/` owns the package `policies.NAME` and nothing else; a test beside it is in `NAME_test`.
A policy's rules are the known contributions, each a set (`deny contains ... if`), and what they need, which starts with
`_` or is a function. Every form of rule that is refused here would be loaded without a word and contribute nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from pdp.policies.snapshot import LOG_FOLDER

CONTRIBUTIONS: Final = ("allow", "deny", "require_approval", "mask", "need", "exempt", "hint", "oblige")

Ast = Mapping[str, Any]


def wrong_package(name: str, ast: Ast) -> str | None:
    """Why the file may not define the package it names, or None. `name` is the file's name in the bundle."""
    owner = PurePosixPath(name).parts[1]
    if name.startswith(LOG_FOLDER):
        found = _package(ast)
        wanted = "log_test" if name.endswith("_test.rego") else "system.log"
        return None if found == wanted else f"defines the package {found}; a file here defines {wanted}"
    # A test asks the entrypoint, which reads all of data.policies: a test in there would depend on itself.
    wanted = f"{owner}_test" if name.endswith("_test.rego") else f"policies.{owner}"
    found = _package(ast)
    return None if found == wanted else f"defines the package {found}; a file here defines {wanted}"


def _package(ast: Ast) -> str:
    return ".".join(str(term["value"]) for term in ast["package"]["path"][1:])


def wrong_rules(ast: Ast) -> Iterator[tuple[int, str]]:
    """Index and reason of every rule that a policy may not have."""
    for index, rule in enumerate(ast.get("rules", ())):
        head = rule["head"]
        name = str(head["ref"][0]["value"])
        if name in CONTRIBUTIONS:
            if not _is_partial_set(rule):
                yield index, f"{name} must be a set: write `{name} contains {{...}} if {{...}}`"
        elif not name.startswith("_") and "args" not in head:
            near = difflib.get_close_matches(name, CONTRIBUTIONS, 1)
            meant = f"did you mean {near[0]}? " if near else ""
            yield index, f"{name} is no contribution: {meant}What only this policy needs starts with _"


def wrong_masks(ast: Ast) -> Iterator[tuple[int, str]]:
    """The same for a file of system/log: it says what is masked, and nothing may be left out of the log."""
    for index, rule in enumerate(ast.get("rules", ())):
        head = rule["head"]
        name = str(head["ref"][0]["value"])
        if name == "mask":
            if not _is_partial_set(rule):
                yield index, 'mask must be a set: write `mask contains "/input/..." if {...}`'
        elif not name.startswith("_") and "args" not in head:
            yield index, f"{name} is not known here: what is masked is said by mask, what only it needs starts with _"


def _is_partial_set(rule: Mapping[str, Any]) -> bool:
    head = rule["head"]
    return (
        "key" in head
        and "value" not in head
        and "args" not in head
        and len(head["ref"]) == 1
        and not rule.get("default", False)
        and "else" not in rule
    )
