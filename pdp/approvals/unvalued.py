"""An action without its values, for people to whom the policies do not show them; pure.

What it does and touches stays: kinds, relations, columns, operations, tools. Whatever may be a value goes: literals and
comments of a statement, parameters, and those parts of a description that hold what the client put in. What cannot be
told apart goes whole.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson
from postgast import PgQueryError, scan
from postgast.pg_query_pb2 import Token

from pdp.v1 import access_pb2

# Of a description: what clients put in rather than what the action is.
VALUES: Final = frozenset({"path", "segments", "query", "headers", "body", "arguments", "uri", "parameters", "limit"})
HIDDEN: Final = "?"

# Longer ones, and those that cost the scanner too much, are not taken apart.
_LONGEST: Final = 1 << 15
_OPERATORS: Final = re.compile(rb"[-+*/<>=~!@#%^&|`?]{32,}")
_KEPT: Final = re.compile(r'[A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*|"(?:[^"\x00]|"")*"|\$[0-9]+', re.ASCII)
_LITERALS: Final = frozenset(
    {Token.SCONST, Token.USCONST, Token.XCONST, Token.BCONST, Token.ICONST, Token.FCONST}
    | {Token.SQL_COMMENT, Token.C_COMMENT}
)


def without_values(action: access_pb2.Action) -> access_pb2.Action:
    """The same action with `?` where values stood. Its digest is another one."""
    bare = access_pb2.Action()
    bare.CopyFrom(action)
    bare.properties_json = _described(action.properties_json)
    statement = action.statement
    if action.HasField("statement"):
        bare.statement.text = _skeleton(statement.text) if action.protocol == "postgres" else ""
        bare.statement.parameters_json = _each_hidden(statement.parameters_json)
    return bare


def _described(raw: bytes) -> bytes:
    try:
        document = orjson.loads(raw)
    except ValueError:
        return b"{}"
    if not isinstance(document, dict):
        return b"{}"
    kept = {name: value for name, value in document.items() if name not in VALUES}
    pins = kept.get("pins")
    if isinstance(pins, list):
        kept["pins"] = [{**pin, "value": HIDDEN} for pin in pins if isinstance(pin, dict)]
    if isinstance(body := document.get("body"), dict) and isinstance(body.get("kind"), str):
        kept["body"] = {"kind": body["kind"]}
    return orjson.dumps(kept)


def _each_hidden(raw: bytes) -> bytes:
    try:
        values: Any = orjson.loads(raw or b"[]")
    except ValueError:
        values = [None]
    return orjson.dumps([HIDDEN for _ in values] if isinstance(values, list) else [HIDDEN])


def _skeleton(text: str) -> str:
    """The statement's words, names and signs; of a text that the scanner cannot take, nothing."""
    try:
        data = text.encode()
        if len(data) > _LONGEST or b"\0" in data or _OPERATORS.search(data):
            return ""
        tokens = scan(text).tokens
    except (PgQueryError, UnicodeEncodeError):
        return ""
    parts = []
    for token in tokens:
        written = data[token.start : token.end].decode("utf-8", "replace")
        # A word is kept for what it is, whatever the scanner calls it; so is a sign that is no value.
        is_word = _KEPT.fullmatch(written) is not None
        is_sign = not any(letter.isalnum() or letter in "'\"$_" for letter in written)
        parts.append(written if token.token not in _LITERALS and (is_word or is_sign) else HIDDEN)
    return " ".join(parts)
