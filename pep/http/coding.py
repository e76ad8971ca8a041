"""Content codings of responses: gzip, deflate, br, zstd, undone with a bound on what comes out.

Only codings that can be undone here are asked of the upstream (`accept_encoding`). What is damaged, cut off, followed
by something else or grows past its limit raises CannotMask: half a body was perhaps not looked at. RFC 9110 section
8.4; RFC 1950 to 1952, 7932 and 8878.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

import brotli
import zstandard

from pep.http.messages import Fields

# Each coding doubles the ways in which a body can be read; nobody needs a third.
_MOST_CODINGS: Final = 2

# A step of input to zstd, whose output has no limit of its own: in so many bytes are at most 32 run-length blocks, each
# of at most 128 KiB.
_ZSTD_STEP: Final = 128
_ZSTD_WINDOW: Final = 8 * 1024 * 1024

_OUTPUT_STEP: Final = 256 * 1024

_OFFERED: Final = ("gzip", "br", "zstd")


class CannotMask(Exception):
    """A response that an obligation or a secret concerns cannot be rewritten. The reason is for the client."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def accept_encoding(asked: str | None) -> str:
    """What the upstream is told in Accept-Encoding, from what the client said: what both can undo.

    Not deflate: servers do not agree on what it is.
    """
    refused = re.compile(r"q\s*=\s*0(?:\.0*)?", re.IGNORECASE)
    wanted: dict[str, bool] = {}
    for member in (asked or "").split(","):
        name, *parameters = (part.strip() for part in member.split(";"))
        wanted[name.lower().removeprefix("x-")] = not any(refused.fullmatch(parameter) for parameter in parameters)
    offered = [name for name in _OFFERED if wanted.get(name, wanted.get("*", False))]
    return ", ".join(offered) or "identity"


def codings(fields: Fields) -> tuple[str, ...]:
    """The codings of a body in the order in which they were applied; raises CannotMask for what cannot be undone."""
    found = tuple(name.removeprefix("x-") for name in fields.tokens("content-encoding") if name != "identity")
    if len(found) > _MOST_CODINGS:
        raise CannotMask("a body with so many content codings cannot be looked at")
    if any(name not in _CODINGS for name in found):
        raise CannotMask("a body with this content coding cannot be looked at")
    return found


class Decoding(Protocol):
    """One coding being undone. `feed` yields pieces of a bounded size; `finish` raises if the end is not reached."""

    def feed(self, data: bytes) -> Iterator[bytes]: ...

    def finish(self) -> None: ...


class _Zlib:
    """gzip, of which there may be several members in a row, and deflate, with its zlib wrapper as RFC 9110 has it."""

    def __init__(self, window: int, *, members: bool) -> None:
        self._window = window
        self._members = members
        self._inner = zlib.decompressobj(window)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inner.eof:
                if not self._members:
                    raise CannotMask("something follows the end of the compressed body")
                # What follows a member is another one; anything else has no header, which zlib objects to.
                self._inner = zlib.decompressobj(self._window)
            self._begun = True
            try:
                piece = self._inner.decompress(data, _OUTPUT_STEP)
            except zlib.error:
                raise CannotMask("the compressed body is damaged") from None
            if piece:
                yield piece
            data = self._inner.unused_data if self._inner.eof else self._inner.unconsumed_tail
            if not data and len(piece) == _OUTPUT_STEP:
                yield from self._rest()

    def _rest(self) -> Iterator[bytes]:
        """What zlib still has to give where it has taken all its input in."""
        while not self._inner.eof:
            try:
                piece = self._inner.decompress(b"", _OUTPUT_STEP)
            except zlib.error:
                raise CannotMask("the compressed body is damaged") from None
            if not piece:
                return
            yield piece

    def finish(self) -> None:
        if self._begun and not self._inner.eof:
            raise CannotMask("the compressed body is cut off")


class _Brotli:
    def __init__(self) -> None:
        self._inner = brotli.Decompressor()
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        if not data:
            return
        if self._inner.is_finished():
            raise CannotMask("something follows the end of the compressed body")
        self._begun = True
        try:
            piece = self._inner.process(data, output_buffer_limit=_OUTPUT_STEP)
            while piece:
                yield piece
                if self._inner.can_accept_more_data():
                    return
                piece = self._inner.process(b"", output_buffer_limit=_OUTPUT_STEP)
        except brotli.error:
            raise CannotMask("the compressed body is damaged") from None

    def finish(self) -> None:
        if self._begun and not self._inner.is_finished():
            raise CannotMask("the compressed body is cut off")


class _Zstd:
    def __init__(self) -> None:
        self._inner = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZSTD_STEP):
            if self._inner.eof:
                raise CannotMask("something follows the end of the compressed body")
            self._begun = True
            try:
                piece = self._inner.decompress(data[start : start + _ZSTD_STEP])
            except zstandard.ZstdError:
                raise CannotMask("the compressed body is damaged") from None
            if self._inner.unused_data:
                raise CannotMask("something follows the end of the compressed body")
            if piece:
                yield piece

    def finish(self) -> None:
        if self._begun and not self._inner.eof:
            raise CannotMask("the compressed body is cut off")


_CODINGS: Final[Mapping[str, Callable[[], Decoding]]] = {
    "gzip": lambda: _Zlib(16 + zlib.MAX_WBITS, members=True),
    "deflate": lambda: _Zlib(zlib.MAX_WBITS, members=False),
    "br": _Brotli,
    "zstd": _Zstd,
}


class Decoder:
    """All codings of one body undone. `limit` bounds what one `feed` may grow to, and `total` everything."""

    def __init__(self, names: tuple[str, ...], limit: int, *, total: bool) -> None:
        self._stages: tuple[Decoding, ...] = tuple(_CODINGS[name]() for name in reversed(names))
        self._limit = limit
        self._total = total
        self._size = 0

    @property
    def size(self) -> int:
        """How much came out: of everything where that is bounded, else of the last piece that was fed."""
        return self._size

    def feed(self, data: bytes) -> bytes:
        return b"".join(self.pieces(data))

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What the data decodes to, in pieces of a bounded size; what is not coded is one piece."""
        if not self._total:
            if not self._stages:
                yield data
                return
            self._size = 0
        for piece in self._through(data, self._stages):
            self._size += len(piece)
            if self._size > self._limit:
                raise CannotMask("the body is larger than what is looked at")
            yield piece

    def finish(self) -> None:
        for stage in self._stages:
            stage.finish()

    def _through(self, data: bytes, stages: tuple[Decoding, ...]) -> Iterator[bytes]:
        if not stages:
            yield data
            return
        grown = 0
        for piece in stages[0].feed(data):
            grown += len(piece)
            if grown > self._limit:
                # Between two codings there is a bomb too: it may come out small.
                raise CannotMask("the body is larger than what is looked at")
            yield from self._through(piece, stages[1:])
