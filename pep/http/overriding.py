"""A method that the body of a POST names for itself, in JSON that nobody reads: it is looked for as the body passes.

Some frameworks (Laravel, Slim) take the member `_method` of a JSON body, in small or in capital letters, for the
method. A form is always read for that; to read every JSON body would bound its length, and write it anew, where no
policy asks for it. So the bytes are searched, without their content coding and whatever they are escaped with, and a
body that has the name anywhere as a whole string never reaches its end at the target. A body that cannot be searched
(a coding or a charset that is not known here, one that grows beyond measure) does not either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pep.core.model import Deny, local_deny
from pep.http.coding import CannotMask, Decoder, codings
from pep.http.messages import Fields, RequestHead

_WORD: Final = "_method"


def _letter(letter: str) -> bytes:
    codes = b"|".join(b"%02x" % ord(each) for each in sorted({letter.lower(), letter.upper()}))
    return b"(?:%b|\\\\u00(?:%b))" % (re.escape(letter.encode()), codes)


_TOKEN: Final = re.compile(b'"' + b"".join(map(_letter, _WORD)) + b'"', re.IGNORECASE)
_LONGEST: Final = 2 + 6 * len(_WORD)

_CHARSET: Final = re.compile(r"charset\*?[ \t]*=[ \t]*\"?([^\";, \t]*)", re.IGNORECASE)
# In these each character of the name is the one byte that is searched for; in UTF-16 it is one, and zeros.
_CHARSETS: Final = frozenset(
    {"", "utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin1", "utf-16", "utf-16le", "utf-16be", "utf-32"}
)

# What a body may grow to when it is decoded: so much, and so many times what has come of it. JSON of logs packs well.
_FREE: Final = 1 << 20
_GROWTH: Final = 50
_ONE_STEP: Final = 16 << 20


NO_FIELDS: Final = Fields()


class CannotSearch(Exception):
    """Whether the body names a method cannot be told. The text is fit for the client."""


def may_name_a_method(head: RequestHead) -> bool:
    """Whether the body may be JSON to a framework that looks for a method in it."""
    said = head.fields.all("Content-Type")
    return head.method.upper() == "POST" and any("json" in value.lower() for value in said)


class Search:
    """Over the pieces of a body with these fields. Everything raises CannotSearch."""

    def __init__(self, fields: Fields = NO_FIELDS) -> None:
        self._tail = b""
        self._received = self._decoded = 0
        if any(
            charset.lower() not in _CHARSETS
            for value in fields.all("Content-Type")
            for charset in _CHARSET.findall(value)
        ):
            raise CannotSearch("its JSON is in a charset in which nobody here looks for it")
        try:
            names = codings(fields)
        except CannotMask:
            raise CannotSearch("its JSON is in a content coding that is not undone here") from None
        self._decoder = Decoder(names, _ONE_STEP, total=False) if names else None

    def looking(self, data: bytes) -> Iterator[bool]:
        """Whether the name was found, step by step: between two of them others may have their turns."""
        if self._decoder is None:
            yield self._in(data)
            return
        self._received += len(data)
        try:
            for piece in self._decoder.pieces(data):
                self._decoded += len(piece)
                if self._decoded > _FREE + _GROWTH * self._received:
                    raise CannotSearch("its JSON grows beyond measure when it is decoded")
                yield self._in(piece)
        except CannotMask:
            raise CannotSearch("its JSON is not in the content coding that it says, or grows beyond measure") from None

    def found(self, data: bytes) -> bool:
        return any(self.looking(data))

    def finish(self) -> None:
        """The body is whole. What is cut off may go on for a target that takes it as it is."""
        try:
            if self._decoder is not None:
                self._decoder.finish()
        except CannotMask:
            raise CannotSearch("its JSON is not whole in the content coding that it says") from None

    def _in(self, data: bytes) -> bool:
        # Without its zeros, UTF-16 and UTF-32 is what it is in ASCII.
        data = self._tail + data.replace(b"\0", b"")
        self._tail = data[-(_LONGEST - 1) :]
        return _TOKEN.search(data) is not None


def in_whole(fields: Fields, body: bytes) -> bool:
    """Whether a whole body names a method. Raises CannotSearch."""
    search = Search(fields)
    found = search.found(body)
    search.finish()
    return found


def denied(decision_id: str, why: str = "its JSON has _method") -> Deny:
    """Why such a body is refused."""
    rest = "some servers take _method in it for the method; a policy has to read the body to allow that"
    return local_deny(decision_id, "method-in-body", f"{why}: {rest}")
