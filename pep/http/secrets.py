"""Requests fit for records, approvals and the decision service: what stands in a secret position becomes '***'.

A position is secret by its name (password, client_secret, accessToken, api-key: a member of a document, a field of a
form, a parameter of a query, an argument of a tool or of GraphQL, a header field), in a list also where the name is a
value beside it ({"name": "DB_PASSWORD", "value": ...}; "--password" among words), or by what the text there looks like
(see `secret_texts`). All below a secret name goes, but for true, false and null. Policies see that it is there, and not
what it is; an approval is bound to it by `bound`.

It is not a detector of secrets in data: a password in a member called `note` stays, and so does one in a path.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from pep.http import secret_texts
from pep.http.secret_names import HIDDEN, is_secret

__all__ = ["HIDDEN", "bound", "hidden", "is_secret", "suspicious", "text"]

# Of an object in a list: members that name what another one holds, and those that hold it. Nowhere else, and no other
# members: who asks could else hide from policy what a target reads, by a member that it does not read.
_NAMING: Final = frozenset({"field", "header", "key", "name", "param", "parameter", "path", "property", "variable"})
_HOLDING: Final = frozenset({"newvalue", "oldvalue", "val", "value", "values"})
_NAME_LIKE: Final = re.compile(r"[\w.\-\[\]$@/]{1,80}")
_OPTION: Final = re.compile(r"--?([A-Za-z][\w-]{1,40})")
# Below a secret name a member's own name stays where it is a word; a key may be the name of what it may do.
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z_ .\-]{0,39}")


def text(value: str) -> str:
    """The text with '***' for what looks like a secret in it; the very same object where nothing does."""
    return secret_texts.cover(value, 0, _hidden)


def hidden(value: Any) -> Any:
    """The document with '***' for what stands in secret positions; the very same object where nothing does."""
    return _hidden(value, 0)


def suspicious(source: bytes) -> bool:
    """Whether it is worth while to look for secrets in the document that this is the text of."""
    return secret_texts.may_hold(source.decode("utf-8", "replace"))


def bound(data: bytes) -> tuple[Any, ...]:
    """What an approval is bound to where something was hidden; made slow to guess from, for it is on record."""
    digest = hashlib.scrypt(hashlib.sha256(data).digest(), salt=b"checkrein.http.secrets.v1", n=1 << 10, r=8, p=1)
    return ({"hidden": digest[:32].hex()},)


def _hidden(value: Any, depth: int) -> Any:
    """`depth` is how many texts this is JSON in."""
    match value:
        case str():
            return secret_texts.cover(value, depth, _hidden)
        case Mapping():
            return _members(value, depth)
        case list() | tuple():
            items = _items(value, depth)
            return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
        case _:
            return value


def _members(members: Mapping[str, Any], depth: int, beside: Collection[str] = ()) -> Mapping[str, Any]:
    # A GraphQL document may put its variables in secret positions.
    document = members.get("query") if "variables" in members else None
    variables = secret_texts.variables(document) if isinstance(document, str) else frozenset[str]()
    found: dict[str, Any] = {}
    changed = False
    for name, value in members.items():
        if is_secret(name) or name in beside:
            kept = _below(value)
        elif variables and name == "variables" and isinstance(value, Mapping):
            kept = {one: _below(held) if one in variables else _hidden(held, depth) for one, held in value.items()}
        else:
            kept = _hidden(value, depth)
        # A name is text as well.
        shown = _free(text(name), found)
        changed = changed or kept is not value or shown != name
        found[shown] = kept
    return found if changed else members


def _named_beside(members: Mapping[str, Any]) -> Collection[str]:
    """The members whose value is a secret by a name that another member says."""
    if any(name.lower() in _NAMING and _names_secret(value) for name, value in members.items()):
        return [name for name in members if name.lower().replace("_", "") in _HOLDING]
    return ()


def _names_secret(value: Any) -> bool:
    return isinstance(value, str) and _NAME_LIKE.fullmatch(value) is not None and is_secret(_last(value))


def _last(path: str) -> str:
    """The name that a path ends with, as in /users/1/password."""
    return path.rstrip("/").rpartition("/")[2]


def _items(values: list[Any] | tuple[Any, ...], depth: int) -> list[Any]:
    items: list[Any] = []
    before: Any = None
    paired = all(isinstance(each, list | tuple) and len(each) == 2 for each in values)
    for each in values:
        # Words of a command: the option and what it is set to.
        option = _OPTION.fullmatch(before) if isinstance(before, str) else None
        if option is not None and is_secret(option[1]):
            items.append(_below(each))
        elif isinstance(each, Mapping):
            items.append(_members(each, depth, _named_beside(each)))
        elif paired and _names_secret(each[0]):
            # Pairs of a name and a value, as header fields are listed.
            items.append([each[0], _below(each[1])])
        else:
            items.append(_hidden(each, depth))
        before = each
    return items


def _below(value: Any) -> Any:
    """All that is below a secret name."""
    match value:
        case bool() | None:
            return value
        case {"$int": str()}:
            return HIDDEN
        case Mapping():
            found: dict[str, Any] = {}
            for each, held in value.items():
                found[_free(each if _WORD.fullmatch(each) else HIDDEN, found)] = _below(held)
            return found
        case list() | tuple():
            return [_below(each) for each in value]
        case _:
            return HIDDEN


def _free(wanted: str, taken: Collection[str]) -> str:
    """The name, or one that is not taken."""
    if wanted not in taken:
        return wanted
    return next(other for number in itertools.count(2) if (other := f"{wanted}{number}") not in taken)
