"""Configuration files, read strictly: what both sides of the contract use, and every mistake named with its line.

A file is YAML 1.2's core schema (`no` is a string, `12:30` is a string), without anchors, tags and duplicate keys. Its
shape is a pydantic model; a key that the model does not know is an error which names the nearest one that it does.
All mistakes are reported at once. A message never repeats a value, because a value may be a secret.

This module knows no section of the configuration: `pdp.config` and `pep.core.config` have the models, `config_values`
and `addresses` what stands in them.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

_DEEPEST: Final = 64

Location: TypeAlias = tuple[str | int, ...]


class ConfigError(Exception):
    """The configuration is wrong. Raised while starting only; each argument is one problem, fit to be shown."""

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(self.problems)


class StrictModel(BaseModel):
    """A section of a configuration: no key but those named, no conversion of types, never changed afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


M = TypeVar("M", bound=BaseModel)


def load(path: Path, model: type[M]) -> M:
    """The file as the model says, or ConfigError with one line per mistake, in the file's order.

    Relative paths in the file are relative to the file's folder.
    """
    return load_shaped(path, lambda _: model)


def load_shaped(path: Path, shape: Callable[[object], type[M]]) -> M:
    """Like `load`, for a file whose own words say what else it may hold: `shape` makes the model of its content."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot read it: {error.strerror}; -c FILE names another configuration") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: it is not UTF-8") from None
    tree = _read(text, str(path))
    return _validated(tree, shape(tree.value), name=str(path), base=path.resolve().parent)


def parse(text: str, model: type[M], *, name: str, base: Path) -> M:
    """Like `load`, from a text; `name` is what messages call it."""
    return _validated(_read(text, name), model, name=name, base=base)


def _validated(tree: _Tree, model: type[M], *, name: str, base: Path) -> M:
    try:
        # By way of JSON: there an array fits a tuple and a string fits a path, and nothing else is converted.
        return model.model_validate_json(json.dumps(tree.value), strict=True, context={"base": base})
    except ValidationError as error:
        problems = [_problem(detail, tree, model, name) for detail in error.errors(include_input=False)]
        raise ConfigError(*(text for _, text in sorted(set(problems)))) from None


# ---- the tree, with lines ----


@dataclass(frozen=True, slots=True)
class _Tree:
    """A YAML node: its value as JSON has it, its line, and its children by key or index."""

    value: Any
    line: int
    children: Mapping[str | int, _Tree]
    key_lines: Mapping[str, int]


def _read(text: str, name: str) -> _Tree:
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(f"{name}:{line}: anchors and aliases are not read here")
            if getattr(event, "tag", None) is not None:
                raise ConfigError(f"{name}:{line}: tags are not read here")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{name}:{line}: not YAML: {error.problem}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{name}: not YAML: it holds a character that YAML does not allow") from None
    if root is None:
        return _Tree({}, 1, {}, {})
    problems: list[str] = []
    tree = _tree(root, name, problems, 0)
    if problems:
        raise ConfigError(*problems)
    return tree


def _tree(node: yaml.Node, name: str, problems: list[str], depth: int) -> _Tree:
    line = node.start_mark.line + 1
    if depth > _DEEPEST:
        raise ConfigError(f"{name}:{line}: nested more than {_DEEPEST} deep")
    children: dict[str | int, _Tree] = {}
    lines: dict[str, int] = {}
    match node:
        case yaml.MappingNode():
            for key_node, value_node in node.value:
                key_line = key_node.start_mark.line + 1
                if not isinstance(key_node, yaml.ScalarNode):
                    problems.append(f"{name}:{key_line}: a key must be one word")
                    continue
                key = str(key_node.value)
                if key in children:
                    problems.append(f'{name}:{key_line}: "{key}" is already given in line {lines[key]}')
                    continue
                children[key] = _tree(value_node, name, problems, depth + 1)
                lines[key] = key_line
            return _Tree({key: child.value for key, child in children.items()}, line, children, lines)
        case yaml.SequenceNode():
            items = [_tree(item, name, problems, depth + 1) for item in node.value]
            return _Tree([item.value for item in items], line, dict(enumerate(items)), {})
        case _:
            return _Tree(_scalar(node), line, {}, {})


_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")


def _scalar(node: yaml.Node) -> str | int | float | bool | None:
    """YAML 1.2's core schema: YAML 1.1 reads `no` as false and `7443:00` as a number of seconds."""
    text = str(node.value)
    if getattr(node, "style", None) is not None:
        return text
    match text:
        case "" | "~" | "null" | "Null" | "NULL":
            return None
        case "true" | "True" | "TRUE":
            return True
        case "false" | "False" | "FALSE":
            return False
        case _ if _INTEGER.fullmatch(text) and len(text) <= 20:
            return int(text)
        case _ if _FLOAT.fullmatch(text) and math.isfinite(float(text)):
            return float(text)
        case _:
            return text


# ---- mistakes, in words ----


def _problem(detail: ErrorDetails, tree: _Tree, model: type[BaseModel], name: str) -> tuple[int, str]:
    """The line and the whole text of one mistake."""
    line, where, missing = _place(tree, detail["loc"])
    dotted = _dotted(where)
    if detail["type"] == "extra_forbidden":
        key = str(where[-1])
        known = _known_keys(model, where[:-1])
        near = difflib.get_close_matches(key, known, n=1)
        advice = f'did you mean "{near[0]}"?' if near else f"known: {', '.join(sorted(known))}"
        place = f" in {_dotted(where[:-1])}" if len(where) > 1 else ""
        return line, f'{name}:{line}: unknown key "{key}"{place}; {advice}'
    if detail["type"] == "missing":
        return line, f"{name}:{line}: {_dotted((*where, *missing))} is missing"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return line, f"{name}:{line}: {dotted or 'the file'}: {message}"


def _place(tree: _Tree, location: Location) -> tuple[int, Location, Location]:
    """The line nearest to the location, the part of it that is in the file, and the part that is not.

    Pydantic puts names of its own (the arms of a union) into a location: they are in no file, and are passed over.
    """
    line, found, rest = tree.line, list[str | int](), list[str | int]()
    for step in location:
        child = tree.children.get(step)
        if child is None:
            rest.append(step)
            continue
        line = tree.key_lines.get(str(step), child.line)
        tree = child
        found.append(step)
    return line, tuple(found), tuple(rest[-1:])


def _dotted(location: Location) -> str:
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _known_keys(model: type[BaseModel], location: Location) -> list[str]:
    found: list[object] = [model]
    for step in location:
        found = [inner for annotation in found for inner in _inside(annotation, step)]
    models = [annotation for annotation in found if _is_model(annotation)]
    return [field.alias or name for each in models for name, field in each.model_fields.items()]  # type: ignore[attr-defined]


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _inside(annotation: object, step: str | int) -> list[object]:
    """What may stand at one step below a type, every arm of a union taken."""
    if _is_model(annotation):
        fields = annotation.model_fields.items()  # type: ignore[attr-defined]
        return [arm for name, field in fields if (field.alias or name) == step for arm in _arms(field.annotation)]
    arguments: Sequence[object] = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if isinstance(origin, type) and issubclass(origin, Mapping) and len(arguments) == 2:
        return _arms(arguments[1])
    if origin is tuple and isinstance(step, int) and ... not in arguments:
        return _arms(arguments[step]) if step < len(arguments) else []
    return [arm for argument in arguments for arm in _arms(argument)]


def _arms(annotation: object) -> list[object]:
    if typing.get_origin(annotation) is Annotated:
        return _arms(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [arm for argument in typing.get_args(annotation) for arm in _arms(argument)]
    return [annotation]
