"""What a word of base64 stands for: bytes, and what they are unpacked (gzip, zlib, raw deflate). Pure, and bounded.

Whoever looks for something in a text looks for it here as well. Nothing is said of a word that is no base64: it stands
for bytes all the same, in which nothing is found.
"""

from __future__ import annotations

import binascii
import zlib
from collections.abc import Iterator
from typing import Any, Final

import re2

_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_NO_ASCII: Final = bytes(range(128, 256))
_MAY_END: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_-\r\n"
_GZIP: Final = b"\x1f\x8b\x08"
_GZIPPED, _ZLIB, _RAW = 31, 15, -15
# Of a longer word it is taken that it begins where base64 does, and no more than this is looked at.
_SHORT: Final = 4 * 1024
_MOST_STARTS: Final = 12
_MOST_OF_A_WORD: Final = 64 * 1024
# So much is unpacked of one word, and unpacked or decoded for one text.
_MOST_UNPACKED: Final = 64 * 1024
_MOST_WORK: Final = 512 * 1024
# So much of a word that is not over is waited for.
_MOST_HELD: Final = 16 * 1024

# The end of a text that is the beginning of what is packed in base64, perhaps in lines, or may become it.
_SIGN: Final = rb"H4sI|eA[E-H]|eF[4-7]|eJ[w-z]|eN[o-r]"
_UNFINISHED: Final = (
    rb"(?:\A|[^A-Za-z0-9+/_-])("
    rb"(?:H(?:4s?)?|e[AFJN]?)\z"
    rb"|(?:" + _SIGN + rb")[A-Za-z0-9+/_-]*(?:\r?\n[A-Za-z0-9+/_-]+)*\r?\n?\z)"
)


def _compiled(pattern: bytes) -> Any:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    return re2.compile(pattern, options)


_UNFINISHED_WORD: Final = _compiled(_UNFINISHED)


def unfinished(data: bytes) -> int:
    """Where a word begins at the end of the data that looks like packed base64 and may go on; else its length."""
    # Few texts end in a word.
    if not data or (data[-1:] == b"\n" and data[-2:-1] == b"\n") or data[-1] not in _MAY_END:
        return len(data)
    begin = max(0, len(data) - _MOST_HELD)
    found = _UNFINISHED_WORD.search(data[begin:] if begin else data)
    return len(data) if found is None else begin + int(found.start(1))


def is_text(data: bytes) -> bool:
    """Whether most of it is ASCII: bytes that are no text have no escapes, no lines and no words."""
    return data.isascii() or 4 * len(data.translate(None, _NO_ASCII)) >= 3 * len(data)


def _starts(word: bytes) -> list[int]:
    """Where base64 may begin in a word: what stands before it, as the parts of an address do, may be of its letters."""
    if len(word) > _SHORT:
        return [0]
    starts = [0, 1, 2, 3]
    at = word.find(b"/")
    while at >= 0 and len(starts) < _MOST_STARTS:
        starts.append(at + 1)
        at = word.find(b"/", at + 1)
    return list(dict.fromkeys(starts))


class Unpacking:
    """Unpacks the words of one text; there is an end to it."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = _MOST_WORK

    def of(self, word: bytes) -> Iterator[bytes]:
        """What the word may stand for."""
        plain = word[:_MOST_OF_A_WORD].translate(_TO_STANDARD)
        for start in _starts(word):
            size = len(plain) - start
            if self._left <= 0 or size < 4:
                continue
            # One character alone behind the last four stands for nothing.
            decoded = binascii.a2b_base64(plain[start : len(plain) - (size % 4 == 1)] + b"==")
            self._left -= len(decoded)
            yield decoded
            yield from self._unpacked(decoded)

    def _unpacked(self, data: bytes) -> Iterator[bytes]:
        at = data.find(_GZIP)
        if at >= 0:
            yield from self._inflated(data[at:], _GZIPPED)
        if data[0] & 0x0F == 0x08 and int.from_bytes(data[:2]) % 31 == 0:
            yield from self._inflated(data, _ZLIB)
        if at:
            yield from self._inflated(data, _RAW)

    def _inflated(self, data: bytes, kind: int) -> Iterator[bytes]:
        try:
            found = zlib.decompressobj(kind).decompress(data, _MOST_UNPACKED)
        except zlib.error:
            return
        self._left -= len(found)
        if found:
            yield found
