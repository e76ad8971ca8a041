"""The program of a parser's child process: statements in, trees out, until its standard input ends.

Frames are a length (four bytes, network order) and a payload. In: the text. Out: a head (JSON), then one frame for each
statement that the head announces. It is started by `pep.postgres.parser.ParserProcess` with the limits as JSON.

Trees are reduced first, because a bulk INSERT is a few facts and a million constants: rows of VALUES and elements of IN
and ARRAY that consist of constants and parameters reference nothing, so a few of each shape stand for all. A constant
under a cast is dropped only where the type is one of PostgreSQL's plain scalars ('t'::regclass names a table).
"""

from __future__ import annotations

import dataclasses
import os
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

import orjson

from pep.postgres.parser import (
    STATEMENT_TOO_COMPLEX,
    ParserLimits,
    Unparsable,
    frame,
    frame_length,
    raw_parse,
    redacted_whole,
    statement,
    unparsable,
)
from pep.postgres.tokens import count_tokens

_KEPT = 3  # of each shape
_PLAIN_TYPES = frozenset(
    (
        *("int2", "int4", "int8", "float4", "float8", "numeric", "bool", "text", "varchar", "bpchar", "bytea", "uuid"),
        *("json", "jsonb", "date", "time", "timetz", "timestamp", "timestamptz", "interval"),
    )
)


def answer(text: str, limits: ParserLimits) -> Iterator[bytes]:
    """The payloads for one statement text."""
    if count_tokens(text) > limits.max_tokens:
        yield _refusal(unparsable("the statement has too many tokens", sqlstate=STATEMENT_TOO_COMPLEX))
        return
    found = raw_parse(text, limits)
    if isinstance(found, Unparsable):
        yield _refusal(found)
        return
    data = text.encode()
    payloads = []
    statements = []
    for raw in found.get("stmts", ()):
        if raw.get("stmt"):
            reduced = reduce_constants(raw["stmt"])
            # The texts decode at once, however long they are: only the tree counts.
            tree_size = len(orjson.dumps(raw["stmt"]))
            statements.append(statement(data, raw, reduced=reduced))
            payloads.append(orjson.dumps(statements[-1]))
            if tree_size > limits.max_statement_json:
                yield _refusal(unparsable("a statement has too many parts", text, sqlstate=STATEMENT_TOO_COMPLEX))
                return
    if sum(map(len, payloads)) > limits.max_json:
        yield _refusal(unparsable("the statements have too many parts", text, sqlstate=STATEMENT_TOO_COMPLEX))
        return
    yield orjson.dumps({"statements": len(payloads), "redacted": redacted_whole(text, statements)})
    yield from payloads


def _refusal(refused: Unparsable) -> bytes:
    return orjson.dumps({"unparsable": dataclasses.asdict(refused)})


def reduce_constants(tree: Any) -> bool:
    """Shorten, in place, the lists of which a few elements stand for all; says whether any was."""
    reduced = False
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(node)
        elif isinstance(node, dict):
            for holder, key in _lists_of(node):
                kept = _representatives(holder[key])
                reduced = reduced or len(kept) < len(holder[key])
                holder[key] = kept
            waiting.extend(node.values())
    return reduced


def _lists_of(node: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """The lists of this node on whose length nothing depends: rows of VALUES, elements of ARRAY[..] and of IN (..)."""
    if "valuesLists" in node:
        yield node, "valuesLists"
    if "elements" in node.get("A_ArrayExpr", ()):
        yield node["A_ArrayExpr"], "elements"
    if node.get("kind") == "AEXPR_IN" and "items" in node.get("rexpr", {}).get("List", ()):
        yield node["rexpr"]["List"], "items"


def _representatives(elements: list[Any]) -> list[Any]:
    counts: dict[tuple[str, ...], int] = {}
    kept = []
    for element in elements:
        shape = _shape(element)
        if shape is not None:
            counts[shape] = counts.get(shape, 0) + 1
            if counts[shape] > _KEPT:
                continue
        kept.append(element)
    return kept


def _shape(element: dict[str, Any]) -> tuple[str, ...] | None:
    """What an element is made of, if only of what references nothing; None otherwise."""
    items = element["List"].get("items", []) if "List" in element else [element]
    shapes = []
    for item in items:
        shape = _scalar(item)
        if shape is None:
            return None
        shapes.append(shape)
    return tuple(shapes)


def _scalar(item: dict[str, Any]) -> str | None:
    if "A_Const" in item:
        return "constant"
    if "ParamRef" in item:
        return "parameter"
    if "SetToDefault" in item:
        return "default"
    cast = item.get("TypeCast")
    if cast is None or _scalar(cast.get("arg", {})) not in ("constant", "parameter"):
        return None
    # The name may still be a user's type by the search_path: it is part of the shape, so one of each is kept.
    names = [name.get("String", {}).get("sval") for name in cast.get("typeName", {}).get("names", ())]
    return "cast " + ".".join(map(str, names)) if names and names[-1] in _PLAIN_TYPES else None


# --- the process ----------------------------------------------------------------------------------------------------


def _serve(requests: BinaryIO, answers: BinaryIO, limits: ParserLimits) -> None:
    while len(head := requests.read(4)) == 4:
        text = requests.read(frame_length(head)).decode()
        _allow_cpu(limits.child_cpu_seconds)
        answers.writelines(frame(payload) for payload in answer(text, limits))
        answers.flush()


def _allow_cpu(seconds: int) -> None:
    """RLIMIT_CPU counts the whole life of a process: each statement gets its own allowance on top of what is used."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + seconds + 1, hard))


def main(arguments: list[str]) -> None:
    limits = ParserLimits(**orjson.loads(arguments[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (limits.child_memory, limits.child_memory))
    # On a busy machine whoever has asked for little comes first.
    os.nice(5)
    _serve(sys.stdin.buffer, sys.stdout.buffer, limits)


if __name__ == "__main__":
    main(sys.argv)
