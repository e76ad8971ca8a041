"""The input document of the policy entrypoint, from what a proxy says of an action and what the PDP knows; pure.

Everything but the action is the decision service's own. The document is checked against `rego/schemas/input.json`
before OPA sees it, because policies rely on the shape: a field of another type lets a comparison hold that should not
(`null <= 99` is true in Rego). What is not known is absent, never null.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from pdp.library import library_dir
from pdp.schema import Check, compile_schema
from pdp.v1 import access_pb2 as pb

LIMIT: Final = 1 << 20
_EXACT: Final = 1 << 53
_LONGEST_DECIMAL: Final = 400  # more than any number of 64 bits needs, and few enough to compare at once

Json = Mapping[str, Any]


class InvalidInput(ValueError):
    """The document is not of the agreed form, by the decision service's own doing."""


class InvalidAction(InvalidInput):
    """What the proxy says of the action is not of the agreed form."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A target, as configured."""

    id: str
    type: str
    labels: Mapping[str, str] = field(default_factory=dict)
    database: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """What the decision service alone says about the circumstances; empty means absent.

    `batch` is index and size. `facts` and `approval` are parts of the input document as its schema has them.
    """

    time: datetime
    session: str
    client_address: str = ""
    batch: tuple[int, int] | None = None
    supported_obligations: Sequence[str] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    facts: Json | None = None
    approval: Json | None = None


def build_input(action: pb.Action, subject: Json, resource: Resource, context: Context) -> dict[str, Any]:
    """The input document. `subject` is its part as the schema has it.

    An action without protocol says nothing of itself (`connect`); one of `checkrein` is administration.
    Raises InvalidAction for what the proxy got wrong, InvalidInput for what is wrong with the rest.
    """
    document = {
        "subject": dict(subject),
        "action": {"name": action.name, "properties": _properties(action)},
        "resource": _resource(resource),
        "context": _context(context),
    }
    if (wrong := _shape()(document)) is not None:
        raise (InvalidAction if str(wrong).startswith("action") else InvalidInput)(str(wrong))
    return document


def strict_json(text: bytes) -> Any:
    """One JSON document without loss: every key once, valid text, numbers that are the same on the way back.

    Raises InvalidAction.
    """
    try:
        document = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_once,
            parse_int=_integer,
            parse_float=_decimal,
            parse_constant=_no_constant,
        )
        if b"\\u" in text:
            json.dumps(document, ensure_ascii=False).encode("utf-8")  # half a surrogate pair has no UTF-8
    except InvalidAction:
        raise
    except UnicodeError as error:
        raise InvalidAction("the text is not valid UTF-8") from error
    except ValueError as error:
        raise InvalidAction(f"not JSON: {error}") from error
    except RecursionError as error:
        raise InvalidAction("nested too deeply") from error
    return document


@functools.cache
def _shape() -> Check:
    return compile_schema(json.loads((library_dir() / "schemas" / "input.json").read_bytes()))


def _properties(action: pb.Action) -> dict[str, Any]:
    statement = action.statement
    size = len(action.properties_json) + len(statement.text.encode()) + len(statement.parameters_json)
    if size > LIMIT:
        raise InvalidAction(f"the action has {size} bytes; {LIMIT} are the most")
    properties: dict[str, Any] = {}
    if action.protocol:
        if action.protocol == "statement":  # a name of the document beside the protocols, and not one of them
            raise InvalidAction("action.protocol: statement is not a protocol")
        properties[action.protocol] = strict_json(action.properties_json)
    elif action.properties_json:
        raise InvalidAction("action.properties: properties without a protocol")
    if action.HasField("statement"):
        said: dict[str, Any] = {"text": statement.text}
        if statement.parameters_json:
            said["parameters"] = strict_json(statement.parameters_json)
        properties["statement"] = said
    return properties


def _resource(resource: Resource) -> dict[str, Any]:
    properties: dict[str, Any] = {"labels": dict(resource.labels)}
    if resource.database:
        properties["database"] = resource.database
    return {"type": resource.type, "id": resource.id, "properties": properties}


def _context(context: Context) -> dict[str, Any]:
    if context.time.tzinfo is None:
        raise InvalidInput("context.time: without a time zone")
    time = context.time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    document: dict[str, Any] = {"time": time, "session": {"id": context.session}}
    if context.client_address:
        document["client"] = {"address": context.client_address}
    if context.batch is not None:
        index, size = context.batch
        document["batch"] = {"index": index, "size": size}
    if context.supported_obligations is not None:
        document["supported_obligations"] = list(context.supported_obligations)
    if context.labels:
        document["labels"] = dict(context.labels)
    if context.facts is not None:
        document["facts"] = context.facts
    if context.approval is not None:
        document["approval"] = context.approval
    return document


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidAction("a key stands in one object twice")
    return found


def _integer(text: str) -> int:
    if len(text) > 17 or abs(value := int(text)) > _EXACT:
        raise InvalidAction("an integer beyond 2^53 does not survive; say it as {$int: text}")
    return value


def _decimal(text: str) -> float:
    value = float(text)
    if len(text) <= _LONGEST_DECIMAL and value not in {float("inf"), float("-inf")}:
        with contextlib.suppress(InvalidOperation):  # an exponent beyond what decimals have
            if Decimal(repr(value)) == Decimal(text):
                return value
    raise InvalidAction("a number does not survive a round trip")


def _no_constant(text: str) -> Any:
    raise InvalidAction(f"{text} is not JSON")
