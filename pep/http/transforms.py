"""What happens to the body of a response on its way to the client: nothing, or decoding, rewriting and scrubbing.

Every transform gives the same output however its input is cut. `held` says that nothing may be sent, not even the head,
before `finish`: what is refused at the end has shown nothing. The others cut the stream where they raise CannotMask.
NDJSON, RFC 7464 (JSON text sequences), the HTML standard's event streams.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, Protocol

from pep.http import documents
from pep.http.coding import CannotMask, Decoder
from pep.http.masking import Rewriter
from pep.http.redaction import RedactedStream, Redactor

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
# Names of events and their ids that go on to the client: words of a protocol, not values of a target.
_WORD: Final = re.compile(r"[A-Za-z0-9_.:/=+\-]{0,200}")
# How chat services end a stream of JSON.
_DONE: Final = "[DONE]"
_SEPARATOR: Final = b"\x1e"


class Transform(Protocol):
    """`feed` and `finish` raise CannotMask."""

    @property
    def held(self) -> bool: ...

    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...

    def summary(self) -> dict[str, Any]: ...


class Scrubbing(Protocol):
    """The part of `scrub.Scrub`'s stream that is used here."""

    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


class Body(Protocol):
    """A body without its content codings."""

    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


class Identity:
    held: Final = False

    def feed(self, data: bytes) -> bytes:
        return data

    def finish(self) -> bytes:
        return b""

    def summary(self) -> dict[str, Any]:
        return {}


class Rewritten:
    """Decoded, rewritten by `body`, and with the secrets taken out, in this order."""

    def __init__(
        self,
        decoder: Decoder,
        body: Body,
        scrubbing: Scrubbing | None,
        *,
        held: bool,
        rewriter: Rewriter | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        self._decoder = decoder
        self._body = body
        self._scrubbing = scrubbing
        self._held = held
        self._rewriter = rewriter
        self._redactor = redactor

    @property
    def held(self) -> bool:
        return self._held

    def feed(self, data: bytes) -> bytes:
        decoded = self._decoder.feed(data)
        out = self._body.feed(decoded) if decoded else b""
        return self._scrubbing.feed(out) if self._scrubbing else out

    def finish(self) -> bytes:
        self._decoder.finish()
        out = self._body.finish()
        return self._scrubbing.feed(out) + self._scrubbing.finish() if self._scrubbing else out

    def summary(self) -> dict[str, Any]:
        """For the record: how much was done, never what with."""
        facts: dict[str, Any] = {}
        if self._rewriter is not None:
            facts |= {"masked": self._rewriter.masked, "rows": self._rewriter.rows}
            facts |= {"truncated": True} if self._rewriter.truncated else {}
        if self._redactor is not None:
            facts["redacted"] = self._redactor.count
        return facts


class Plain:
    """Nothing is due but what comes before and after."""

    def feed(self, data: bytes) -> bytes:
        return data

    def finish(self) -> bytes:
        return b""


class RedactedText:
    def __init__(self, redactor: Redactor) -> None:
        self._stream: RedactedStream = redactor.stream()

    def feed(self, data: bytes) -> bytes:
        return self._stream.feed(data)

    def finish(self) -> bytes:
        return self._stream.finish()


class Whole:
    """One JSON document. Its size is bounded by the decoder."""

    def __init__(self, rewriter: Rewriter) -> None:
        self._rewriter = rewriter
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        self._pieces.append(data)
        return b""

    def finish(self) -> bytes:
        whole = b"".join(self._pieces)
        return self._rewriter.document(whole) if whole else b""


class _Buffer:
    """What has arrived and is not complete, up to a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self._searched = 0

    def until(self, data: bytes, separator: bytes) -> Iterator[bytes]:
        """The pieces that the separator ends."""
        self._data += data
        begin = 0
        while (end := self._data.find(separator, max(begin, self._searched))) >= 0:
            self._check(end - begin)
            yield bytes(self._data[begin:end])
            begin = self._searched = end + 1
        self._keep(begin)

    def lines(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Lines and what ended them. A CR at the very end has ended its line; an LF behind it is an empty one's end."""
        self._data += data
        begin = 0
        while found := _LINE_END.search(self._data, max(begin, self._searched)):
            end, ending = found.start(), found[0]
            self._check(end - begin)
            line = bytes(self._data[begin:end])
            begin = self._searched = found.end()
            yield line, bytes(ending)
        self._keep(begin)

    def rest(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data

    def _keep(self, begin: int) -> None:
        del self._data[:begin]
        self._searched = len(self._data)
        self._check(self._searched)

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise CannotMask("a record of the response is larger than what is looked at")


class Lines:
    """NDJSON: one document on each line, and each is a row."""

    def __init__(self, rewriter: Rewriter, limit: int) -> None:
        self._rewriter = rewriter
        self._buffer = _Buffer(limit)

    def feed(self, data: bytes) -> bytes:
        return b"".join(self._record(line, b"\n") for line in self._buffer.until(data, b"\n"))

    def finish(self) -> bytes:
        rest = self._buffer.rest()
        return self._record(rest, b"") if rest else b""

    def _record(self, line: bytes, end: bytes) -> bytes:
        if not line.strip(b" \t\r"):
            return end
        shown = self._rewriter.document(line) if self._rewriter.admits_record() else None
        return b"" if shown is None else shown + end


class Sequence:
    """A JSON text sequence: each document begins with a record separator, and each is a row."""

    def __init__(self, rewriter: Rewriter, limit: int) -> None:
        self._rewriter = rewriter
        self._buffer = _Buffer(limit)
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        return b"".join(self._record(piece) for piece in self._buffer.until(data, _SEPARATOR))

    def finish(self) -> bytes:
        return self._record(self._buffer.rest())

    def _record(self, piece: bytes) -> bytes:
        if not self._begun and piece.strip():
            # Nothing stands before the first separator.
            raise CannotMask("the body is no sequence of JSON texts, though it says so, and cannot be masked")
        self._begun = True
        if not piece.strip() or not self._rewriter.admits_record():
            return b""
        return _SEPARATOR + self._rewriter.document(piece) + b"\n"


class Events:
    """An event stream. The data of each event is JSON; where only text is redacted it may be any text.

    Comments and fields that the standard does not know carry nothing on; names and ids go on if they are words.
    """

    def __init__(self, rewriter: Rewriter, redactor: Redactor | None, limit: int, *, json_only: bool) -> None:
        self._rewriter = rewriter
        self._redactor = redactor
        self._limit = limit
        self._json_only = json_only
        self._buffer = _Buffer(limit)
        self._fields: list[tuple[str, str]] = []
        self._size = 0
        self._after_cr = False
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        if not data:
            return b""
        if self._after_cr:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        pieces: list[bytes] = []
        for line, ending in self._buffer.lines(data):
            pieces.append(self._line(line))
            self._after_cr = ending == b"\r"
        # An LF that follows later belongs to the CR only if nothing came between.
        self._after_cr = self._after_cr and data.endswith(b"\r")
        return b"".join(pieces)

    def finish(self) -> bytes:
        """An event that no empty line has ended: clients differ about it, so it is treated as one, and not ended."""
        rest = self._buffer.rest()
        out = self._line(rest) if rest else b""
        return out + self._event()

    def _line(self, line: bytes) -> bytes:
        if not self._begun and line.startswith(b"\xef\xbb\xbf"):
            raise CannotMask("an event stream with a byte order mark is not looked at")
        self._begun = True
        if not line:
            out = self._event()
            return out + b"\n" if out else b""
        if line.startswith(b":"):
            return b":\n"
        try:
            name, _, value = line.decode().partition(":")
        except UnicodeDecodeError:
            raise CannotMask("an event stream that is not in UTF-8 cannot be masked") from None
        self._size += len(line)
        if self._size > self._limit:
            raise CannotMask("an event of the response is larger than what is looked at")
        self._fields.append((name, value.removeprefix(" ")))
        return b""

    def _event(self) -> bytes:
        fields, self._fields, self._size = self._fields, [], 0
        data = [value for name, value in fields if name == "data"]
        shown = self._data("\n".join(data)) if data else ""
        if shown is None:
            return b""
        out: list[str] = []
        for name, value in fields:
            if (name in ("event", "id") and _WORD.fullmatch(value)) or (name == "retry" and value.isdecimal()):
                out.append(f"{name}: {self._redactor.text(value) if self._redactor else value}\n")
        if data:
            out += (f"data: {line}\n" for line in shown.split("\n"))
        return documents.encoded("".join(out))

    def _data(self, text: str) -> str | None:
        """The data of an event as it is shown; None where the event is one row too many."""
        if text in ("", _DONE):
            return text
        arrays = self._rewriter.arrays
        try:
            shown = self._rewriter.document(text.encode()).decode()
        except CannotMask:
            if self._json_only or self._redactor is None or documents.begins_like_json(text):
                raise
            return self._redactor.text(text)
        if self._rewriter.arrays == arrays and not self._rewriter.admits_record():
            return None
        return shown
