"""Requests fit for records, approvals and the decision service: what stands in a secret position becomes '***'.

A position is secret by its name (password, client_secret, accessToken, api-key: a member of a document, a field of a
form, a parameter of a query, an argument of a tool, a header field), or by what the text there looks like (a token, a
URL with credentials, a private key, an assignment to such a name in a text of another language). All below a secret
name goes, but for true, false and null. Policies see that it is there, and not what it is; an approval is bound to it
by `bound`.

It is not a detector of secrets in data: a password in a member called `note` stays, and so does one in a path.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

HIDDEN: Final = "***"

# Names are compared in lower case and without what parts their words.
_PARTING: Final = re.compile(r"[\s._\-\[\]$@]+")
_NAME: Final = re.compile(
    r"passw(?:or)?d|pasword|passphrase|passcode|secret(?!ar)|credential"
    r"|(?:api|access|private|auth|signing|encryption|subscription|account)key"
    r"|^(?:pass|pwd|jwt|otp|sig|phpsessid|jsessionid|(?:proxy)?authorization|xauth|(?:set)?cookie)$"
    r"|(?:signature|sessionkey|authcode|clientassertion|pwd)$"
    # Not where the next page begins, nor what a model counts or stops at.
    r"|(?<!page)(?<!next)(?<!continuation)(?<!progress)(?<!sync)(?<!start)(?<!stop)(?<!sort)(?<!prev)(?<!eos)token$"
)
# What is said about a secret is none: how it is called, how long it is.
_ABOUT: Final = re.compile(r"(?:id|name|arn|type|count|length|policy|version)$")
_OF_THEIR_OWN: Final = frozenset({"phpsessid", "jsessionid"})

# No alternative begins with a repetition, and starts of one kind never share a run: the search is linear in the text.
_CONTENT: Final = re.compile(
    r"""
    (?P<named>
        (?:passw(?:or)?d|passphrase|secret|credential|(?:api|access|private|auth)[_-]?key
           |(?:access|refresh|auth|id|session|bearer)[_-]?token)
        \w{0,20}\\?["']?\s{0,8}(?:[:=]|=>)\s{0,8}
    )
    (?:\\?"[^"]*"|'[^']*'|[^\s,;&"'(){}\[\]\\]+)
    | (?P<scheme>://)[^\s/@:]*:[^\s/@]+(?=@)                            # scheme://user:password@host
    | (?P<kind>\b(?:bearer|basic)\s{1,8})[\w+/=.~-]{8,}                 # an authorization header
    | (?<![\w-])eyJ[\w-]{8,}\.[\w-]+\.[\w-]*                            # a JWT
    | -----BEGIN[ ][A-Z ]{0,40}PRIVATE[ ]KEY.*?(?:-----END[A-Z ]*-----|\Z)
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
# Without one of these in it nothing is in a secret position, and most requests have none.
_SUSPICIOUS: Final = (
    "pass", "pwd", "pasword", "secret", "credential", "key", "jwt", "otp", "sig", "sess", "auth", "cookie",
    "assertion", "token", "://", "bearer", "basic", "eyj", "private",
)  # fmt: skip


def is_secret(name: str) -> bool:
    """Whether what has this name is a secret."""
    squeezed = _PARTING.sub("", name).lower()
    return _NAME.search(squeezed) is not None and (_ABOUT.search(squeezed) is None or squeezed in _OF_THEIR_OWN)


def text(value: str) -> str:
    """The text with '***' for what looks like a secret in it."""
    return _CONTENT.sub(_cover, value) if _may_hold(value) else value


def hidden(value: Any) -> Any:
    """The document with '***' for what stands in secret positions; the very same object where nothing does."""
    match value:
        case str():
            return text(value)
        case Mapping():
            members = {name: _below(each) if is_secret(name) else hidden(each) for name, each in value.items()}
            return members if any(members[name] is not each for name, each in value.items()) else value
        case list() | tuple():
            items = [hidden(each) for each in value]
            return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
        case _:
            return value


def suspicious(source: bytes) -> bool:
    """Whether it is worth while to look for secrets in the document that this is the text of."""
    return _may_hold(source.decode("utf-8", "replace"))


def bound(data: bytes) -> tuple[Any, ...]:
    """What an approval is bound to where something was hidden; made slow to guess from, for it is on record."""
    digest = hashlib.scrypt(hashlib.sha256(data).digest(), salt=b"checkrein.http.secrets.v1", n=1 << 10, r=8, p=1)
    return ({"hidden": digest[:32].hex()},)


def _may_hold(value: str) -> bool:
    lowered = value.lower()
    return any(word in lowered for word in _SUSPICIOUS)


def _below(value: Any) -> Any:
    """All that is below a secret name."""
    match value:
        case bool() | None:
            return value
        case {"$int": str()}:
            return HIDDEN
        case Mapping():
            return {name: _below(each) for name, each in value.items()}
        case list() | tuple():
            return [_below(each) for each in value]
        case _:
            return HIDDEN


def _cover(found: re.Match[str]) -> str:
    return next((kept for kept in found.groups() if kept), "") + HIDDEN
