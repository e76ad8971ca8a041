"""Text fit for records and policies: '***' for what looks like a secret in it, whatever language it is of. Pure.

Found are values behind names of secrets (in JSON, YAML, forms, addresses, GraphQL, SQL, XML, on a command's line), URLs
with credentials, the values of Authorization and Cookie fields, JWTs, private keys. JSON inside a text is read as JSON.
Where a secret only shows once the escapes of the text are undone, or in JSON in base64, that reading is shown. As
little as can be is covered, and nothing that a shell would run: what is not shown no policy can judge.
"""

from __future__ import annotations

import base64
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, Final

from pep.http import documents
from pep.http.secret_names import HIDDEN, is_secret

_QUOTED: Final = (
    r"""\\{0,8}"{3}.*?(?:"{3}|\Z)|\\{1,8}"[^"]*"?|"(?:[^"\\]|\\.)*"?"""
    r"""|\\{1,8}'[^']*'?|'(?:[^'\\]|\\.|'')*'?|`[^`]*`?"""
)
# GraphQL and others say the type between the name and what it is set to.
_TYPE: Final = r"(?:\[{0,3}\w{1,64}[\]!]{0,6}\s{0,8}=\s{0,8}(?=[\"'\d\[{]))?"
# A block of YAML, and what is in brackets, are values as well.
_VALUE: Final = (
    rf"(?:{_QUOTED}|[|>][+-]?[ \t]{{0,8}}\r?\n(?:[ \t][^\n]*\n?)*|[\[{{][^\[\]{{}}]*[\]}}]?"
    r"|[^\s,;&\"'(){}\[\]\\<>]+)"
)
_SET: Final = r"""\\{0,8}["'`]?\s{0,8}(?:=>|:=|==?|:)\s{0,8}"""

# What a secret may stand behind; of those that end in `_name`, where that is the name of one. The group stays.
_HEADS: Final = (
    rf"""(?P<field>(?<![\w-])(?:proxy-)?authorization{_SET}\\{{0,8}}["']?)""",
    rf"""(?P<cookie>(?<![\w-])(?:set-)?cookie{_SET}\\{{0,8}}["']?)""",
    r"(?P<scheme>://)(?=[^\s/@:]*:[^\s/]*@|[^\s/@:]{16,}@)",
    r"(?P<kind>\b(?:bearer|basic)\s{1,8})(?=[\w+/=.~-]{8})",
    r"(?P<jwt>)(?<![\w-])(?=eyJ[\w-]{8})",
    r"(?P<pem>)(?=-----BEGIN[ ])",
    r"""(?P<curl>(?<![\w-])(?:-u|--user)[ =]{1,4}\\?["']?(?=[^\s:"']{1,64}:\S))""",
    r"""(?P<sql>\b(?:password|identified\s{1,8}(?:with\s{1,8}\w{1,40}\s{1,8})?(?:by|as))\s{1,8}(?=\\{0,8}['"]))""",
    r"(?P<option>(?<![\w-])--?(?P<option_name>[A-Za-z][\w-]{1,40})[ \t]{1,8})",
    r"(?P<tag><(?:[\w-]{1,40}:)?(?P<tag_name>[A-Za-z][\w.-]{0,63})(?:\s[^<>]{0,200})?>)",
    (
        r"(?P<line>(?:\A|(?<=\n))[ \t]{0,16}(?:-[ \t]{1,4})?(?P<line_name>[A-Za-z][\w.-]{0,63})[ \t]{0,4}:[ \t]{1,8}"
        r"(?=[^\s|>\"'{\[$]))"
    ),
    rf"(?P<setting>(?<![\w.$@-])(?P<setting_name>[A-Za-z_$@][\w.$@-]{{0,63}}(?:\[[\w.-]{{0,40}}\]){{0,4}}){_SET})",
    (
        r"(?P<inside>(?:passw(?:or)?d|passphrase|secret|credential|signature"
        r"|(?:api|access|private|auth|account)[ _-]?key"
        rf"|(?:access|refresh|auth|id|session|bearer)[_-]?token)\w{{0,20}}{_SET})"
    ),
)
_CONTENT: Final = re.compile("|".join(_HEADS), re.IGNORECASE | re.DOTALL)
# And what the secret is there.
_SECRETS: Final = {
    kind: re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for kind, pattern in {
        "field": r"""(?:[A-Za-z][\w-]{0,30}[ \t]{1,4})?[^\s;|&"'\\]+""",
        "cookie": r"""[^\s;=,"'\\]{1,128}=[^\s;,"'\\]*(?:;[ ]?[^\s;=,"'\\]{1,128}=[^\s;,"'\\]*)*""",
        "scheme": r"[^\s/@:]*:[^\s/]*(?=@)|[^\s/@:]+(?=@)",
        "kind": r"[\w+/=.~-]+",
        "jwt": r"eyJ[\w-]+\.[\w-]+\.[\w-]*",
        "pem": r"-----BEGIN[ ][A-Z0-9 ]{0,40}PRIVATE[ ]KEY.*?(?:-----END[A-Z0-9 ]*-----|\Z)",
        "curl": r"[^\s\"']+",
        "sql": _QUOTED,
        "option": rf"(?:{_QUOTED}|[^\s\"']+)",
        "tag": r"<!\[CDATA\[.*?(?:\]\]>|\Z)|[^<]+",
        "line": r"[^\r\n;&|<>]+",
        "setting": _TYPE + _VALUE,
        "inside": _TYPE + _VALUE,
    }.items()
}
_PACKED: Final = re.compile(r"(?<![\w+/-])(?:eyJ|eyA|ewo|W3s|WyJ)[\w+/-]{9,}={0,2}(?!\.)", re.ASCII)
_VARIABLE: Final = re.compile(r"\$(\w+)")

# Without one of these in it nothing is in a secret position, and most requests have none.
_SUSPICIOUS: Final = (
    "pass", "pwd", "psw", "secret", "credential", "key", "jwt", "otp", "sig", "sess", "auth", "cookie", "assertion",
    "token", "://", "bearer", "basic", "private", "mnemonic", "seedphrase", "seed_phrase", "connection", "code",
    "identified by", "curl", "--user", "eyj", "eya", "ewo", "w3s", "wyj",
)  # fmt: skip
_ESCAPES: Final = ("\\", "%", "&")
_MOST_NESTED: Final = 6

Hiding = Callable[[Any, int], Any]


def may_hold(value: str) -> bool:
    """False only where `cover` finds nothing."""
    lowered = (value if value.isascii() else unicodedata.normalize("NFKC", value)).casefold()
    return any(word in lowered for word in _SUSPICIOUS) or any(each in value for each in _ESCAPES)


def cover(value: str, depth: int, hiding: Hiding) -> str:
    """The text with '***' for what looks like a secret in it; the very same object where nothing does.

    `hiding` does the same with a document; `depth` is how deep the text stands in others.
    """
    if not may_hold(value):
        return value
    if depth > _MOST_NESTED:
        return HIDDEN
    if documents.begins_like_json(value) and (read := _json(value, depth, hiding)) is not None:
        return read
    covered = _packed(_plainly(value), depth, hiding)
    plain = documents.unescaped(covered if covered.isascii() else unicodedata.normalize("NFKC", covered))
    if plain != covered and (shown := cover(plain, depth + 1, hiding)) != plain:
        return shown
    return value if covered == value else covered


def variables(document: str) -> frozenset[str]:
    """The variables that stand in secret positions of a GraphQL document."""
    if "$" not in document or not may_hold(document):
        return frozenset()
    return frozenset(name for begin, end in _places(document) for name in _VARIABLE.findall(document, begin, end))


def _plainly(text: str) -> str:
    """The text without what stands behind the names of secrets, and what is one by its looks."""
    pieces: list[str] = []
    at = 0
    for begin, end in _places(text):
        pieces += (text[at:begin], HIDDEN)
        at = end
    return "".join((*pieces, text[at:])) if pieces else text


def _places(text: str) -> Iterator[tuple[int, int]]:
    at = 0
    while (found := _CONTENT.search(text, at)) is not None:
        kind = found.lastgroup or ""
        name = found.groupdict().get(f"{kind}_name")
        if name is not None and not is_secret(name):
            at = found.end(f"{kind}_name")
            continue
        secret = _SECRETS[kind].match(text, found.end(kind))
        if secret is None or not secret[0] or _runs(secret[0]):
            at = max(found.end(kind), found.start() + 1)
            continue
        yield secret.span()
        at = secret.end()


def _runs(value: str) -> bool:
    """Whether a shell would run some of it, even where it is quoted."""
    return "$(" in value or "`" in value.strip("`")


def _json(value: str, depth: int, hiding: Hiding) -> str | None:
    """JSON that is the whole text; None where it is none, or nothing of it was hidden by where it stands."""
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        return None
    if isinstance(document, str):
        covered = cover(document, depth + 1, hiding)
        return None if covered is document else json.dumps(covered, ensure_ascii=False)
    kept = hiding(document, depth + 1)
    return None if kept is document else json.dumps(kept, ensure_ascii=False)


def _packed(text: str, depth: int, hiding: Hiding) -> str:
    """With JSON in base64 that holds a secret read."""

    def covered(found: re.Match[str]) -> str:
        whole = found[0].rstrip("=").replace("-", "+").replace("_", "/")
        meant = base64.b64decode(whole[: len(whole) - (len(whole) % 4 == 1)] + "==").decode("utf-8", "replace")
        shown = cover(meant, depth + 1, hiding)
        return found[0] if shown == meant else shown

    return _PACKED.sub(covered, text)
