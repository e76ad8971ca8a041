"""What is too large for the event loop as a message to a child process, and what comes back.

A request is a pickle: it is the proxy that the child trusts. An answer is JSON and bytes, because what the child has
read is not trusted: a length, a JSON head, and behind it the body. The program of the child is `large_child`.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from pep.core.model import Action, Statement
from pep.core.records import written as as_written
from pep.http import graphql, mcp
from pep.http.classify import ClassifySettings, Content, Unclassifiable, content_of, is_graphql, overriding
from pep.http.coding import CannotMask
from pep.http.masking import Counts, Rewriter, Rule
from pep.http.messages import RequestHead
from pep.http.paths import Ambiguous, Path
from pep.http.work import LARGE, Rewrite, done

CHILD: Final = "pep.http.large_child"
# A document in GraphQL takes ten times as long to be read.
_LARGE_GRAPHQL: Final = 4 * 1024
# A property that is longer is not made objects of.
_SHORT: Final = 1024
_LENGTH: Final = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Failed:
    """It was not done. The reason is fit for the client."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Read:
    """Read a request's body."""

    head: RequestHead
    path: Path
    body: bytes | None
    settings: ClassifySettings


@dataclass(frozen=True, slots=True)
class _Rewrite:
    """Rewrite a document of a response."""

    rule: Rule
    counts: Counts
    data: bytes
    text: bool


def is_large(head: RequestHead, path: Path, body: bytes | None, settings: ClassifySettings) -> bool:
    """Whether what the request says is read somewhere else."""
    size = 0 if body is None else len(body)
    return size > LARGE or (is_graphql(path, settings) and size + len(head.query or "") > _LARGE_GRAPHQL)


def reading(head: RequestHead, path: Path, body: bytes | None, settings: ClassifySettings) -> bytes:
    """The request to read what an HTTP request says; for `content`."""
    # What an operation is and what it mints is told by the head alone.
    return pickle.dumps(_Read(head, path, body, replace(settings, openapi=None, mints_access=())))


def content(answer: bytes) -> Content | Failed:
    """What was read."""
    found, data = _parted(answer)
    if "failed" in found:
        return Failed(found["failed"])
    document = found["graphql"]
    forward = data[found["written"] :]
    return Content(
        _properties(found["properties"], found["raw"], data),
        forward if found["forwards"] else None,
        found["opaque"],
        tuple(found["names"]),
        tuple(found["bound"]),
        tuple(_call(said, raw, data) for said, raw in zip(found["calls"], found["calls_raw"], strict=True)),
        None if document is None else graphql.Document(**document | {"fields": tuple(document["fields"])}),
    )


def rewriting(wanted: Rewrite) -> bytes:
    """The request to rewrite a document; for `rewritten`."""
    rewriter = wanted.rewriter
    return pickle.dumps(_Rewrite(rewriter.rule, rewriter.counts, wanted.data, wanted.text))


def rewritten(answer: bytes, rewriter: Rewriter) -> bytes | Failed:
    """The document; the rewriter goes on from there."""
    found, data = _parted(answer)
    if "failed" in found:
        return Failed(found["failed"])
    used = tuple((number, place, count) for number, place, count in found.pop("used"))
    seen = tuple((path, clear, masked) for path, clear, masked in found.pop("seen"))
    rewriter.resume(Counts(**found, used=used, seen=seen))
    return data


# --- in the child -----------------------------------------------------------------------------------------------------


def answer(request: bytes) -> bytes:
    """The answer to a request of `reading` or `rewriting`."""
    wanted = pickle.loads(request)  # noqa: S301 - the proxy's own
    try:
        match wanted:
            case _Read(head, path, body, settings):
                return _read(content_of(head, path, body, settings))
            case _Rewrite(rule, counts, data, text):
                rewriter = Rewriter(rule)
                rewriter.resume(counts)
                return _whole(rewriter, done(Rewrite(rewriter, data, text)))
            case other:
                raise TypeError(type(other))
    except (Ambiguous, CannotMask, Unclassifiable) as error:
        return _joined({"failed": str(error)}, b"")
    except (MemoryError, RecursionError):
        return _joined({"failed": "it is more than what is looked at"}, b"")


def _read(found: Content) -> bytes:
    written = bytearray()
    properties, raw = _outlined(found.properties, written)
    calls, calls_raw = [], []
    for call in found.calls:
        outline, places = _outlined(call.action.properties, written)
        calls.append(replace(call, action=replace(call.action, properties=outline)))
        calls_raw.append(places)
    head = {
        "properties": properties,
        "raw": raw,
        "written": len(written),
        "forwards": found.forward is not None,
        "opaque": found.opaque,
        # Of a million names those alone that are looked at.
        "names": overriding(found.names),
        "bound": found.bound,
        "calls": calls,
        "calls_raw": calls_raw,
        "graphql": found.graphql,
    }
    return _joined(head, bytes(written) + (found.forward or b""))


def _outlined(properties: Mapping[str, Any], written: bytearray) -> tuple[dict[str, Any], dict[str, tuple[int, int]]]:
    """The properties without those that are long, and where these are: as canonical JSON in what is written."""
    outline: dict[str, Any] = {}
    raw: dict[str, tuple[int, int]] = {}
    for name, value in properties.items():
        text = as_written(value)
        if len(text) <= _SHORT:
            outline[name] = value
        else:
            raw[name] = len(written), len(written) + len(text)
            written += text
    return outline, raw


def _whole(rewriter: Rewriter, data: bytes) -> bytes:
    counts = rewriter.counts
    head = {
        "masked": counts.masked,
        "rows": counts.rows,
        "arrays": counts.arrays,
        "truncated": counts.truncated,
        "redacted": counts.redacted,
        "used": counts.used,
        "seen": counts.seen,
    }
    return _joined(head, data)


def _properties(outline: dict[str, Any], raw: Mapping[str, Sequence[int]], data: bytes) -> dict[str, Any]:
    """With what is long as it was written: to make objects of a million bytes takes the loop longer than it has."""
    return outline | {name: orjson.Fragment(data[begin:end]) for name, (begin, end) in raw.items()}


def _call(said: Mapping[str, Any], raw: Mapping[str, Sequence[int]], data: bytes) -> mcp.Call:
    action = said["action"]
    statement = action["statement"]
    made = Action(
        action["name"],
        action["protocol"],
        _properties(action["properties"], raw, data),
        Statement(statement["text"], tuple(statement["parameters"])),
    )
    return mcp.Call(said["method"], made, said["id"], said["tool"], said["batched"])


def _joined(head: Mapping[str, Any], data: bytes) -> bytes:
    said = orjson.dumps(head)
    return b"".join((_LENGTH.pack(len(said)), said, data))


def _parted(answer: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = _LENGTH.unpack_from(answer)
    end = _LENGTH.size + length
    return orjson.loads(answer[_LENGTH.size : end]), answer[end:]
