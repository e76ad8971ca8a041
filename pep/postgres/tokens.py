"""The tokens of a statement text, from PostgreSQL's own scanner, with the one bound that the scanner lacks.

It takes any bytes without dying, but a run of operator characters costs it the square of its length: `++++...` is cut
into single tokens, each of which looks at the whole rest, and so is `/*/*/*...`. 32 KiB of either take seconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from postgast import PgQueryError, scan
from postgast.pg_query_pb2 import Token as Kind

_OPERATOR_RUN = re.compile(rb"[-+*/<>=~!@#%^&|`?]{32,}")
MAX_RUN_COST = 100_000_000
"""Half a second, or a run of 10,000; for a caller that may not block, `parser.fits_in_process` asks for far less."""

_STRINGS = frozenset({Kind.SCONST, Kind.USCONST, Kind.XCONST, Kind.BCONST})
_NUMBERS = frozenset({Kind.ICONST, Kind.FCONST})
_COMMENTS = frozenset({Kind.SQL_COMMENT, Kind.C_COMMENT})


@dataclass(frozen=True, slots=True)
class Token:
    """`start` and `end` are offsets in bytes; `word` is the token in lower case, a quoted name without its quotes."""

    kind: int
    start: int
    end: int
    text: str

    @property
    def word(self) -> str:
        return self.text[1:-1].replace('""', '"') if self.text.startswith('"') else self.text.lower()

    @property
    def is_string(self) -> bool:
        return self.kind in _STRINGS

    @property
    def is_number(self) -> bool:
        return self.kind in _NUMBERS

    @property
    def is_comment(self) -> bool:
        return self.kind in _COMMENTS

    @property
    def is_name(self) -> bool:
        """An identifier or a keyword: all that begins like one."""
        return self.text[0] == '"' or self.text[0] == "_" or (self.text[0].isalpha() and not self.is_string)

    @property
    def parameter(self) -> int:
        """The number of `$n`, or 0."""
        return int(self.text[1:]) if self.kind == Kind.PARAM else 0


def run_cost(data: bytes) -> int:
    """What the scanner's work grows with: the sum of the squares of long runs of operator characters."""
    return sum((match.end() - match.start()) ** 2 for match in _OPERATOR_RUN.finditer(data))


def count_tokens(text: str) -> int:
    """How many tokens; 0 for what the scanner cannot take, which the parser then refuses in its own words."""
    try:
        return len(scan(text).tokens)
    except PgQueryError:
        return 0


def tokens_of(text: str) -> tuple[Token, ...] | None:
    """All tokens, comments included; None for what the scanner cannot take (an open quote, a NUL, no UTF-8)."""
    try:
        data = text.encode()
        if b"\0" in data or run_cost(data) > MAX_RUN_COST:
            return None
        found = scan(text).tokens
    except (PgQueryError, UnicodeEncodeError):
        return None
    return tuple(
        Token(token.token, token.start, token.end, data[token.start : token.end].decode("utf-8", "replace"))
        for token in found
    )
