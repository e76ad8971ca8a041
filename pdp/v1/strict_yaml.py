"""Configuration files, read strictly: what both sides of the contract use, and every mistake named with its line.

A file is YAML 1.2's core schema (`no` is a string, `12:30` is a string), without anchors, tags and duplicate keys. Its
shape is a pydantic model; a key that the model does not know is an error which names the nearest one that it does.
All mistakes are reported at once. A message never repeats a value, because a value may be a secret.

This module knows no section of the configuration: `pdp.config` and `pep.core.config` have the models.
"""

from __future__ import annotations

import datetime
import difflib
import json
import math
import os
import re
import subprocess
import time
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails

_COMMAND_TIMEOUT: Final = 30.0
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


# ---- types of values ----

_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB)")
_BYTES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def parse_duration(value: object) -> datetime.timedelta:
    """`500ms`, `30s`, `15m`, `12h` or `7d`; ValueError for anything else."""
    if isinstance(value, datetime.timedelta):
        return value
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('must be a duration with its unit, like "500ms", "30s", "15m", "12h" or "7d"')
    return datetime.timedelta(seconds=int(found[1]) * _SECONDS[found[2]])


def _size(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('must be a size with its unit, like "64KiB", "1MiB" or "2GiB"')
    return int(found[1]) * _BYTES[found[2]]


def _path(value: Path, info: ValidationInfo) -> Path:
    base: Path | None = (info.context or {}).get("base")
    return value.expanduser() if base is None else base / value.expanduser()


Duration = Annotated[datetime.timedelta, BeforeValidator(parse_duration)]
"""A length of time with its unit."""
Size = Annotated[int, BeforeValidator(_size)]
"""A number of bytes, with its unit or without."""
FilePath = Annotated[Path, AfterValidator(_path)]
"""A path; a relative one is relative to the folder of the configuration file."""


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket in the file system."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


SocketAddress: TypeAlias = TcpAddress | UnixAddress
# The kernel's sun_path holds 108 bytes with its terminating zero.
LONGEST_SOCKET_PATH: Final = 107
_TCP = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})")


def socket_address(text: str, base: Path | None = None) -> SocketAddress:
    """`HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`. ValueError says what is wrong."""
    if text.startswith("unix:"):
        path = Path(text.removeprefix("unix:")).expanduser()
        path = path if base is None else base / path
        if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
            raise ValueError(
                f"is a socket path of {len(os.fsencode(path))} bytes, and the system allows {LONGEST_SOCKET_PATH}; "
                "choose a shorter folder"
            )
        return UnixAddress(path)
    found = _TCP.fullmatch(text)
    if found is None or int(found[3]) > 65535:
        raise ValueError('must be "HOST:PORT" or "unix:PATH"')
    return TcpAddress(found[1] or found[2], int(found[3]))


def _address(value: object, info: ValidationInfo) -> object:
    if isinstance(value, TcpAddress | UnixAddress):
        return value
    if not isinstance(value, str):
        raise ValueError('must be "HOST:PORT" or "unix:PATH"')  # noqa: TRY004 - pydantic reports only ValueError
    return socket_address(value, (info.context or {}).get("base"))


Address = Annotated[TcpAddress | UnixAddress, BeforeValidator(_address)]
"""Where to listen or to connect."""


def _not_empty(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words:
        raise ValueError("needs at least the program's name")
    return words


class Secret(StrictModel):
    """Where a secret is to be found. The secret itself never stands in a configuration."""

    env: str | None = None
    file: FilePath | None = None
    command: Annotated[tuple[str, ...], AfterValidator(_not_empty)] | None = None
    # How long the answer of a command is used before it is asked again; without it, as long as the process runs.
    ttl: Duration | None = None

    _kept: tuple[str, float] | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _no_literal(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            raise ValueError(  # noqa: TRY004 - pydantic reports only ValueError
                "a secret never stands in this file; say where it is: {env: NAME}, {file: PATH} or {command: [...]}"
            )
        # Behind a validator like this one, a list is no longer taken for a tuple.
        command = value.get("command")
        return {**value, "command": tuple(command)} if isinstance(command, list) else value

    @model_validator(mode="after")
    def _one(self) -> Secret:
        if sum(place is not None for place in (self.env, self.file, self.command)) != 1:
            raise ValueError("needs exactly one of env, file and command")
        if self.ttl is not None and self.command is None:
            raise ValueError("ttl goes with command only")
        return self

    def resolve(self) -> str:
        """The secret, without one trailing newline. Blocks for a file or a command; ConfigError says what to do."""
        if self.env is not None:
            value = os.environ.get(self.env)
            if value is None:
                raise ConfigError(f"the environment variable {self.env} is not set; it must hold the secret")
            return value
        if self.file is not None:
            try:
                return _without_newline(self.file.read_text("utf-8"))
            except OSError as error:
                raise ConfigError(
                    f"cannot read the secret in {self.file}: {error.strerror}; create it, readable by this user alone"
                ) from None
            except UnicodeDecodeError:
                raise ConfigError(f"the secret in {self.file} is not UTF-8") from None
        if self._kept is None or self._kept[1] <= time.monotonic():
            lasts = math.inf if self.ttl is None else self.ttl.total_seconds()
            self._kept = (self._run(), time.monotonic() + lasts)
        return self._kept[0]

    def _run(self) -> str:
        assert self.command is not None
        name = self.command[0]
        try:
            # Its errors go to this process's own, so that whoever starts it sees why; its output is the secret.
            done = subprocess.run(self.command, stdout=subprocess.PIPE, timeout=_COMMAND_TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            raise ConfigError(f"the secret's command {name} did not end within {_COMMAND_TIMEOUT:.0f} s") from None
        except OSError as error:
            raise ConfigError(f"cannot run the secret's command {name}: {error.strerror}") from None
        if done.returncode != 0:
            raise ConfigError(f"the secret's command {name} failed with status {done.returncode}")
        try:
            return _without_newline(done.stdout.decode())
        except UnicodeDecodeError:
            raise ConfigError(f"the secret's command {name} printed what is not UTF-8") from None


def _without_newline(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r")


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
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(f"{name}:{event.start_mark.line + 1}: anchors and aliases are not read here")
            if getattr(event, "tag", None) is not None:
                raise ConfigError(f"{name}:{event.start_mark.line + 1}: tags are not read here")
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
