"""Data files of a policy repository, read strictly; pure.

YAML means here what its core schema (YAML 1.2, chapter 10.3) says, so a country `NO` is text and a day is no date, and
a key that stands twice is an error: of two lists of labels for one table one would be lost, and its masks with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

import yaml

from pdp.policies.problems import PolicyError
from pdp.policies.snapshot import Source


class _Loader(yaml.SafeLoader):
    """Knows the core schema only: text unless it is one of the forms below."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own name


_NULL: Final = "tag:yaml.org,2002:null"
for _tag, _form, _first in (
    (_NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("tag:yaml.org,2002:int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    ("tag:yaml.org,2002:float", r"[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", list("-+0123456789")),
):
    _Loader.add_implicit_resolver(_tag, re.compile(rf"(?:{_form})\Z"), _first)


class _Wrong(Exception):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


def load_data(sources: Iterable[Source]) -> dict[str, Any]:
    """The files as one document, each below the folders of its name. Raises PolicyError."""
    document: dict[str, Any] = {}
    owners: dict[tuple[str, ...], Path] = {}
    for source in sources:
        value = load_value(source)
        if value is not None:  # an empty file
            _merge(document, PurePosixPath(source.name).parent.parts, value, source.path, owners, ())
    return document


def load_value(source: Source) -> Any:
    """What one file holds. Raises PolicyError with the line."""
    try:
        text = source.content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = source.content[: error.start].count(b"\n") + 1
        raise PolicyError.at(source.path, line, "is not UTF-8") from error
    try:
        if source.name.endswith(".json"):
            return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
        root = _compose(text)
        return None if root is None else _value(root)
    except json.JSONDecodeError as error:
        raise PolicyError.at(source.path, error.lineno, error.msg) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise PolicyError.at(source.path, mark.line + 1 if mark else 0, error.problem or str(error)) from error
    except yaml.YAMLError as error:
        raise PolicyError.at(source.path, 0, str(error)) from error
    except _Wrong as error:
        raise PolicyError.at(source.path, error.line, error.message) from error
    except RecursionError as error:
        raise PolicyError.at(source.path, 0, "is nested too deeply") from error
    except ValueError as error:  # a number of thousands of digits
        raise PolicyError.at(source.path, 0, str(error)) from error


def item_lines(source: Source) -> Sequence[int]:
    """The line of each item, for a YAML file that holds a list; empty for anything else."""
    if source.name.endswith(".json"):
        return ()
    root = _compose(source.content.decode("utf-8"))
    return [node.start_mark.line + 1 for node in root.value] if isinstance(root, yaml.SequenceNode) else ()


def _compose(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def _value(node: yaml.Node) -> Any:
    line = node.start_mark.line + 1
    match node:
        case yaml.MappingNode():
            found: dict[str, Any] = {}
            for key, item in node.value:
                name = _key(key)
                if name in found:
                    raise _Wrong(key.start_mark.line + 1, f"{name} stands here a second time")
                found[name] = _value(item)
            return found
        case yaml.SequenceNode():
            return [_value(item) for item in node.value]
        case yaml.ScalarNode():
            return _scalar(node.tag.removeprefix("tag:yaml.org,2002:"), node.value, line)
        case _:
            raise _Wrong(line, "is not JSON's kind of data")


def _key(node: yaml.Node) -> str:
    # A number or a word as a key is its own text: `2024: ...` is a fine name for a dataset.
    if not isinstance(node, yaml.ScalarNode) or node.value == "<<":
        raise _Wrong(node.start_mark.line + 1, "a key must be text")
    return str(node.value)


def _scalar(tag: str, text: str, line: int) -> Any:
    match tag:
        case "str":
            return text
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int" | "float":
            return _number(tag, text, line)
        case _:
            raise _Wrong(line, f"the tag {tag} is not known here")


def _number(tag: str, text: str, line: int) -> int | float:
    try:
        value = int(text) if tag == "int" else float(text)
    except ValueError as error:
        raise _Wrong(line, f"{text[:40]} is not a number") from error
    if value in {float("inf"), float("-inf")}:
        raise _Wrong(line, f"{text[:40]} is beyond every number")
    return value


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
        raise _Wrong(0, f"{twice} stands in one object twice")
    return found


def _no_constant(text: str) -> Any:
    raise _Wrong(0, f"{text} is not JSON")


def _merge(
    into: dict[str, Any],
    where: Sequence[str],
    value: Any,
    path: Path,
    owners: dict[tuple[str, ...], Path],
    at: tuple[str, ...],
) -> None:
    """Puts the value at the place; two files may fill one object, but not the same key of it."""
    value = _nested(where, value)
    if not isinstance(value, Mapping):
        raise PolicyError.at(path, 1, "must hold an object")
    for key, item in value.items():
        here = (*at, key)
        if key not in into:
            into[key] = item
            _own(item, here, path, owners)
        elif isinstance(into[key], dict) and isinstance(item, Mapping):
            _merge(into[key], (), item, path, owners, here)
        else:
            other = owners.get(here, path)
            raise PolicyError.at(path, 0, f"{'.'.join(here)} is in {other} as well")


def _nested(where: Sequence[str], value: Any) -> Any:
    for step in reversed(where):
        value = {step: value}
    return value


def _own(item: Any, here: tuple[str, ...], path: Path, owners: dict[tuple[str, ...], Path]) -> None:
    owners[here] = path
    if isinstance(item, Mapping):
        for key, inner in item.items():
            _own(inner, (*here, key), path, owners)
