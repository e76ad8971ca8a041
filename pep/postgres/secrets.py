"""Statement texts fit for records, approvals and the decision service: literals in secret positions become '***'.

It works on the scanner's tokens, whatever the statement is, and keeps every other byte. A position is secret by the
word before it (PASSWORD, a name like api_key in OPTIONS, SET, a comparison or a named argument), by the statement
(CONNECTION, OPTIONS of a user mapping), by the function (dblink, crypt), or by what the literal looks like (a
connection string with a password, a URL with credentials, a stored verifier, SQL that sets a password).

It is not a detector of secrets in data: a password inserted into a column called `note` stays. Where the scanner gives
up, nothing of the text is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from pep.postgres.tokens import Token, tokens_of

HIDDEN = "'***'"
_CONSTANT = "?"

_SECRET_WORD = (
    r"(?:\w*(?:password|passwd|passphrase|pasword|pwd|secret|credential|api_?key|access_?key|private_?key|auth_?key"
    r"|encryption_?key|signing_?key)s?\w*|pass|(?:\w*_)?token)"
)
_SECRET_NAME = re.compile(rf"(?:[\w$]+\.)*{_SECRET_WORD}", re.IGNORECASE)
# No alternative begins with a repetition, and starts of one kind never share a run: the search is linear in the text.
_SECRET_CONTENT = re.compile(
    r"""
    pass(?:word|wd|phrase)?\s*=\s*\S                # conninfo, ODBC, URL query
    | \bpwd\s*=\s*\S
    | ://[^\s/@:]*:[^\s/@]+@                         # scheme://user:password@host
    | \bpassword\s+(?:E|U&)?['"]                     # SQL in a string
    | "(?:\w*password|passwd|\w*secret)"\s*:\s*"      # JSON
    | \b(?:bearer|basic)\s+[\w+/=.~-]{8,}            # an authorization header
    | SCRAM-SHA-256\$ | \bmd5[0-9a-f]{32}\b
    | -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY
    | (?<![\w-])eyJ[\w-]{8,}\.[\w-]+\.              # a JWT
    """,
    re.IGNORECASE | re.VERBOSE,
)
_CONNINFO = re.compile(r"\b(?:host|hostaddr|port|user|dbname|service|sslmode)\s*=|://", re.IGNORECASE)
_OPTION_NAME = re.compile(rf"(?:{_SECRET_WORD}|\w*key\w*|\w*auth\w*|\w*cert\w*)", re.IGNORECASE)
_CONNECTION_STRING = re.compile(r"\b(?:host|hostaddr|port|user|dbname|service|sslmode)\s*=|://", re.IGNORECASE)
_KEYED_FUNCTION = re.compile(r"crypt|pgp_\w+|encrypt\w*|decrypt\w*|hmac")

# Without one of these in it no rule below can fire, and most statements have none.
_SUSPICIOUS = (
    "pass", "pwd", "secret", "token", "_key", "apikey", "accesskey", "privatekey", "authkey", "encryptionkey",
    "signingkey", "credential", "connection", "mapping", "dblink", "crypt", "hmac", "pgp_", "://", "bearer", "basic",
    "scram-sha", "md5", "private", "eyj", "options", "gen_salt",
)  # fmt: skip

# What may stand between a name and the literal that belongs to it.
_BETWEEN = frozenset(
    ("(", "=", "to", ":=", "=>", "<>", "!=", "in", "like", "ilike", "not", "n", "is", "distinct", "from")
)
_FURTHEST = 6
_DEEPEST = 3


def redact(text: str) -> str:
    """The text with '***' for each literal in a secret position; an empty text where it cannot be scanned."""
    return _examine(text, 0)[0]


def secret_parameters(text: str) -> frozenset[int]:
    """The numbers of the parameters ($1 is 1) in secret positions, so that their values can be withheld too."""
    return _examine(text, 0)[1]


def examine(text: str) -> tuple[str, frozenset[int]]:
    """`redact` and `secret_parameters` in one pass."""
    return _examine(text, 0)


def _examine(text: str, depth: int) -> tuple[str, frozenset[int]]:
    lowered = text.lower()
    if not any(word in lowered for word in _SUSPICIOUS):
        return text, frozenset()
    tokens = tokens_of(text)
    if tokens is None:
        return "", frozenset()
    found = list(_secrets(tokens))
    covers = [(token, _cover(token, depth)) for token in found if not token.parameter]
    return _replaced(text.encode(), covers), frozenset(token.parameter for token in found if token.parameter)


def redact_value(value: str) -> str:
    """A parameter's value or another text from outside a statement: *** if it looks like a secret."""
    return "***" if _SECRET_CONTENT.search(value) else value


def redact_tokens(text: str) -> str:
    """For a text that no tree explains: every constant, comment and quoted name, and whatever follows a secret word, is
    replaced by ?; empty where even the scanner gives up."""
    tokens = tokens_of(text)
    if tokens is None:
        return ""
    covered = [
        (token, _CONSTANT)
        for index, token in enumerate(tokens)
        if token.is_string
        or token.is_number
        or token.is_comment
        or token.text.startswith('"')
        or (token.is_name and _follows_secret_name(tokens, index))
    ]
    return _replaced(text.encode(), covered)


def _replaced(data: bytes, covers: Iterable[tuple[Token, str]]) -> str:
    parts = []
    position = 0
    for token, cover in covers:
        parts += [data[position : token.start], cover.encode()]
        position = token.end
    return b"".join((*parts, data[position:])).decode("utf-8", "replace")


def _cover(token: Token, depth: int) -> str:
    """A dollar-quoted body is kept but for its own secrets: it is the text of a function or of DO."""
    if token.is_comment:
        return "/* *** */" if token.text.startswith("/*") else "-- ***"
    tag, body = _dollar_quoted(token)
    if not tag or depth >= _DEEPEST:
        return HIDDEN
    inner, _ = _examine(body, depth + 1)
    # A body whose own tokens show no secret, or that is not SQL at all, looks like one as a whole: hide it whole.
    return f"{tag}{inner}{tag}" if inner not in ("", body) else HIDDEN


def _dollar_quoted(token: Token) -> tuple[str, str]:
    if not token.text.startswith("$"):
        return "", ""
    tag = token.text[: token.text.index("$", 1) + 1]
    return tag, token.text[len(tag) : -len(tag)]


def _secrets(tokens: Iterable[Token]) -> Iterator[Token]:
    """In order, the tokens that have to go: strings, parameters, and comments that hold what looks like a secret."""
    reading = _Reading()
    for token in tokens:
        if token.is_comment:
            if _SECRET_CONTENT.search(token.text):
                yield token
            continue
        if (token.is_string or token.parameter) and reading.is_secret(token):
            yield token
        if token.text == ";" and not reading.open:
            reading = _Reading()
        else:
            reading.advance(token)


class _Reading:
    """Where in a statement we are: the tokens so far, the open parentheses, the columns of an INSERT."""

    def __init__(self) -> None:
        self._before: list[Token] = []
        self.open: list[str] = []  # the word before each open parenthesis
        self._list_is_secret: list[bool] = []
        self._columns: list[str] = []
        self._position = 0  # in a row of VALUES
        self._in_values = False
        self._is_mapping = False

    def is_secret(self, token: Token) -> bool:
        if token.is_string and _SECRET_CONTENT.search(token.text):
            return True
        around = self.open[-1] if self.open else ""
        if around == "options" and self._in_options():
            return True
        if _KEYED_FUNCTION.fullmatch(around):
            return True
        if around.startswith("dblink") and _CONNECTION_STRING.search(token.text):
            return True
        if _follows_secret_name([*self._before[-_FURTHEST:], token], min(len(self._before), _FURTHEST)):
            if self._list_is_secret:
                self._list_is_secret[-1] = True
            return True
        if around == "in" and self._list_is_secret[-1]:
            return True
        return self._is_value_of_secret_column() or self._follows_secret_string()

    def _in_options(self) -> bool:
        name = self._before[-1].word
        return bool(_OPTION_NAME.fullmatch(name)) or (self._is_mapping and name not in ("user", "username"))

    def _is_value_of_secret_column(self) -> bool:
        return (
            self._in_values
            and len(self.open) >= 1
            and self._position < len(self._columns)
            and bool(_SECRET_NAME.fullmatch(self._columns[self._position]))
        )

    def _follows_secret_string(self) -> bool:
        """set_config('app.password', 'x', false), json_build_object('token', 'x')"""
        if len(self._before) < 2 or self._before[-1].text != "," or not self._before[-2].is_string:
            return False
        return bool(_SECRET_NAME.fullmatch(self._before[-2].text.strip("'")))

    def advance(self, token: Token) -> None:
        word = token.word
        if token.text == "(":
            self.open.append(self._before[-1].word if self._before else "")
            self._list_is_secret.append(False)
            if len(self.open) == 1:
                self._position = 0
        elif token.text == ")" and self.open:
            self.open.pop()
            self._list_is_secret.pop()
        elif token.text == "," and len(self.open) == 1:
            self._position += 1
        elif word == "values" and not self.open:
            self._in_values = True
            self._columns = self._insert_columns()
        elif word in ("select", "on", "returning", "set") and not self.open:
            self._in_values = False
        if word == "mapping" and self._before and self._before[-1].word == "user":
            self._is_mapping = True
        self._before.append(token)

    def _insert_columns(self) -> list[str]:
        """The names in the parentheses right before VALUES (after OVERRIDING .. VALUE, if that is there)."""
        names: list[str] = []
        for token in reversed(self._before):
            if token.text == "(":
                break
            if token.is_name:
                names.append(token.word)
        else:
            return []
        return [name for name in reversed(names) if name not in ("overriding", "system", "user", "value")]


def _follows_secret_name(tokens: list[Token] | tuple[Token, ...], index: int) -> bool:
    """Whether the literal at `index` belongs to the name of a secret: PASSWORD 'x', app.token = 'x', pwd => $1."""
    for back in range(index - 1, max(index - 1 - _FURTHEST, -1), -1):
        token = tokens[back]
        if token.word in _BETWEEN:
            continue
        return token.is_name and (token.word == "connection" or bool(_SECRET_NAME.fullmatch(token.word)))
    return False
