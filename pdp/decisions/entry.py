"""A decision as an event of Open Policy Agent's decision log, and what of it is masked; pure.

The format is that of OPA's documentation, "Decision Logs": a receiver that takes OPA's own events takes these. Masks
are those of `data.system.log.mask`, with OPA's own meaning ("Masking Sensitive Data"): a path to erase, or an object
with `op` (`remove`, `upsert`), `path` and `value`. Unlike OPA, which skips a rule that it does not understand, a mask
that cannot be applied is an error here, and the event is then logged without its input and result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from pdp.decisions.decided import Decided

PATH: Final = "checkrein/decision/result"
BUNDLE: Final = "checkrein"

Event = dict[str, Any]

_MASKABLE: Final = ("input", "result")
# What a short entry shows of the input.
_SHORT: Final = (
    ("subject", "type"),
    ("subject", "id"),
    ("resource", "id"),
    ("action", "name"),
    ("context", "session", "id"),
)
_NOT_IN_SHORT: Final = "/input/action/properties"


class MaskError(ValueError):
    """The mask policy's answer is no mask; the text holds no value."""


def event(decided: Decided, labels: Mapping[str, str]) -> Event:
    """The whole event: nothing is masked yet."""
    reasons = [{"policy": policy, "code": code} for policy, code in decided.reasons]
    found: Event = {
        "labels": dict(labels),
        "decision_id": decided.id,
        "bundles": {BUNDLE: {"revision": decided.revision}},
        "path": PATH,
        "input": decided.input,
        "result": decided.answer if decided.answer is not None else {"verdict": decided.verdict, "reasons": reasons},
        "timestamp": decided.at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "metrics": {"timer_server_handler_ns": decided.nanoseconds},
    }
    if decided.client_address:
        found["requested_by"] = decided.client_address
    return found


def masked(event: Event, rules: Any) -> Event:
    """The event under the rules of a mask policy; a copy of its own. Raises MaskError."""
    if not isinstance(rules, list):
        raise MaskError("the masks are not a set")
    # Whatever the order in which OPA lists a set, a removal is final.
    made: Event = orjson.loads(orjson.dumps(event))
    for op, path, value in sorted((_rule(each) for each in rules), key=lambda rule: (rule[0] == "remove", rule[1])):
        parts = path[1:].split("/")
        changed = _remove(made, parts) if op == "remove" else _upsert(made, parts, value)
        if changed:
            made.setdefault("erased" if op == "remove" else "masked", []).append(path)
    return made


def without_contents(event: Event) -> Event:
    """What is logged where the masks could not be found out."""
    left = {name: value for name, value in event.items() if name not in _MASKABLE}
    return left | {"erased": [f"/{name}" for name in _MASKABLE]}


def shortened(event: Event) -> Event:
    """The event without what a client wrote, and without what the proxy says of the action."""
    made = dict(event)
    if "input" in event:
        made["input"] = _picked(event["input"])
        made["erased"] = [_NOT_IN_SHORT, *event.get("erased", [])]
    if isinstance(result := event.get("result"), Mapping):
        made["result"] = {name: result[name] for name in ("verdict", "reasons") if name in result}
        if isinstance(reasons := result.get("reasons"), list):
            made["result"]["reasons"] = [
                {name: each[name] for name in ("policy", "code") if name in each}
                for each in reasons
                if isinstance(each, Mapping)
            ]
    return made


def without_statements(event: Event, paths: Iterable[str]) -> Event:
    """The event without what travels on demand: texts, parameters, bodies. `paths` as the schema names them."""
    return masked(event, ["/input/" + path.replace(".", "/") for path in paths])


def _rule(rule: Any) -> tuple[str, str, Any]:
    match rule:
        case str():
            op, path, value = "remove", rule, None
        case {"op": "remove" | "upsert" as op, "path": str(path)}:
            value = rule.get("value")
        case _:
            raise MaskError("a mask is neither a path nor an object of op and path")
    if not path.startswith("/") or path[1:].split("/", 1)[0] not in (*_MASKABLE, "nd_builtin_cache"):
        raise MaskError("a mask's path begins with neither /input nor /result")
    return op, path, value


def _remove(document: Any, parts: list[str]) -> bool:
    """Whether there was something at the path."""
    *above, last = parts
    for step in above:
        document = _below(document, step)
    match document:
        case dict() if last in document:
            del document[last]
        case list() if (index := _index(document, last)) is not None:
            del document[index]
        case _:
            return False
    return True


def _upsert(document: Any, parts: list[str], value: Any) -> bool:
    if parts[0] not in document:
        return False
    *above, last = parts
    for step in above:
        if isinstance(document, dict) and step not in document:
            document[step] = {}
        document = _below(document, step)
    match document:
        case dict():
            document[last] = value
        case list() if (index := _index(document, last)) is not None:
            document[index] = value
        case _:
            return False
    return True


def _below(document: Any, step: str) -> Any:
    match document:
        case dict():
            return document.get(step)
        case list() if (index := _index(document, step)) is not None:
            return document[index]
        case _:
            return None


def _index(items: list[Any], step: str) -> int | None:
    return int(step) if step.isascii() and step.isdigit() and int(step) < len(items) else None


def _picked(document: Any) -> Any:
    if not isinstance(document, Mapping):
        return document  # a mask has put something else in its place
    made: dict[str, Any] = {}
    for path in _SHORT:
        found: Any = document
        for step in path:
            found = found.get(step) if isinstance(found, Mapping) else None
        if found is not None:
            into = made
            for step in path[:-1]:
                into = into.setdefault(step, {})
            into[path[-1]] = found
    return made
