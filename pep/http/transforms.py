"""What happens to the body of a response on its way to the client: nothing, or decoding, rewriting and scrubbing.

Every transform gives the same output however its input is cut. `held` says that nothing may be sent, not even the head,
before `finish`: what is refused at the end has shown nothing. The others cut the stream where they raise CannotMask.
What takes long is `work`: it pauses after so much of it, and asks for another process for a large document.
NDJSON, RFC 7464 (JSON text sequences), the HTML standard's event streams.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from pep.http import documents
from pep.http.buffer import Buffer
from pep.http.coding import CannotMask, Decoder
from pep.http.event_words import goes_on
from pep.http.masking import Rewriter
from pep.http.redaction import RedactedStream, Redactor
from pep.http.work import Pause, Work, at_once, document, text

# How chat services end a stream of JSON.
_DONE: Final = "[DONE]"
_SEPARATOR: Final = b"\x1e"


# What is done at once, and how much is done before others have their turn: bytes of what is looked at one by one.
_STEP: Final = 16 * 1024
AT_ONCE: Final = _STEP
_TURN: Final = 32 * 1024
# Where nothing but the beginning of a secret is looked for, so many times as much takes as long.
_LIGHT: Final = 32
_ESCAPES: Final = (b"%", b"\\", b"&")


class Transform(Protocol):
    """`feeding` and `finishing` raise CannotMask, and so do `feed` and `finish`, which are all of it at once.

    `quick`: these two take no time that others would wait for, and may be called in the place of the others.
    """

    @property
    def held(self) -> bool: ...

    @property
    def quick(self) -> bool: ...

    @property
    def holding(self) -> int:
        """How many bytes it holds until it is finished."""

    def feeding(self, data: bytes) -> Work[bytes]: ...

    def finishing(self) -> Work[bytes]: ...

    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...

    def summary(self) -> dict[str, Any]: ...

    @property
    def rewriter(self) -> Rewriter | None:
        """What looks into the documents, where anything does."""


class Cleaning(Protocol):
    """The part of `scrub.Scrub` that is used here."""

    def clean(self, data: bytes) -> bytes:
        """All there is, without the secrets."""


class Scrubbing(Cleaning, Protocol):
    """The part of its stream: `clean` is what `feed` and then `finish` would give."""

    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


class Body(Protocol):
    """A body without its content codings. `light`: `feed` does not look at the data."""

    @property
    def light(self) -> bool: ...

    def feed(self, data: bytes) -> Work[bytes]: ...

    def finish(self) -> Work[bytes]: ...


class Identity:
    held: Final = False
    quick: Final = True
    holding: Final = 0

    def feeding(self, data: bytes) -> Work[bytes]:
        yield from ()
        return data

    def finishing(self) -> Work[bytes]:
        yield from ()
        return b""

    def feed(self, data: bytes) -> bytes:
        return data

    def finish(self) -> bytes:
        return b""

    def summary(self) -> dict[str, Any]:
        return {}

    @property
    def rewriter(self) -> None:
        return None


class Searched:
    """A body without codings and of no more than `AT_ONCE` bytes: as it is, with the secrets taken out."""

    held: Final = True
    quick: Final = True
    holding: Final = 0  # little

    def __init__(self, scrubbing: Cleaning) -> None:
        self._scrubbing = scrubbing
        self._pieces: list[bytes] = []

    def feeding(self, data: bytes) -> Work[bytes]:
        yield from ()
        return self.feed(data)

    def finishing(self) -> Work[bytes]:
        yield from ()
        return self.finish()

    def feed(self, data: bytes) -> bytes:
        self._pieces.append(data)
        return b""

    def finish(self) -> bytes:
        return self._scrubbing.clean(b"".join(self._pieces))

    def summary(self) -> dict[str, Any]:
        return {}

    @property
    def rewriter(self) -> None:
        return None


class Rewritten:
    """Decoded, rewritten by `body`, and with the secrets taken out, in this order."""

    quick: Final = False

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
        # What comes of the body, where it is looked at as a whole.
        self._whole: list[bytes] = []
        self._rewriter = rewriter
        self._redactor = redactor

    @property
    def held(self) -> bool:
        return self._held

    @property
    def holding(self) -> int:
        return self._decoder.size if self._held else 0

    def feed(self, data: bytes) -> bytes:
        return at_once(self.feeding(data))

    def finish(self) -> bytes:
        return at_once(self.finishing())

    def feeding(self, data: bytes) -> Work[bytes]:
        out: list[bytes] = []
        spent = 0
        for decoded in self._decoder.pieces(data):
            size = max(_STEP, len(decoded)) if self._body.light else _STEP
            for at in range(0, len(decoded), size):
                if spent >= _TURN:
                    spent = 0
                    yield Pause()
                piece = decoded[at : at + size]
                rewritten = yield from self._body.feed(piece)
                spent += len(piece) // _LIGHT if self._body.light else len(piece)
                if self._held:
                    self._whole.append(rewritten)
                elif rewritten:
                    out.append((yield from self._scrubbed(rewritten)))
        return b"".join(out)

    def finishing(self) -> Work[bytes]:
        self._decoder.finish()
        self._whole.append((yield from self._body.finish()))
        whole = b"".join(self._whole)
        self._whole.clear()
        if self._scrubbing is None:
            return whole
        if self._held and len(whole) <= _STEP:
            return self._scrubbing.clean(whole)
        out = yield from self._scrubbed(whole)
        return out + self._scrubbing.finish()

    def _scrubbed(self, data: bytes) -> Work[bytes]:
        scrubbing = self._scrubbing
        if scrubbing is None or not data:
            return data
        out: list[bytes] = []
        spent = 0
        for at in range(0, len(data), _STEP):
            if spent >= _TURN:
                spent = 0
                yield Pause()
            piece = data[at : at + _STEP]
            # Escapes have to be undone, and that is what takes its time.
            spent += len(piece) if any(each in piece for each in _ESCAPES) else len(piece) // _LIGHT
            out.append(scrubbing.feed(piece))
        return b"".join(out)

    @property
    def rewriter(self) -> Rewriter | None:
        return self._rewriter

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

    light: Final = True

    def feed(self, data: bytes) -> Work[bytes]:
        yield from ()
        return data

    def finish(self) -> Work[bytes]:
        yield from ()
        return b""


class RedactedText:
    light: Final = False

    def __init__(self, redactor: Redactor) -> None:
        self._stream: RedactedStream = redactor.stream()

    def feed(self, data: bytes) -> Work[bytes]:
        yield from ()
        return self._stream.feed(data)

    def finish(self) -> Work[bytes]:
        yield from ()
        return self._stream.finish()


class Whole:
    """One JSON document. Its size is bounded by the decoder."""

    light: Final = True

    def __init__(self, rewriter: Rewriter) -> None:
        self._rewriter = rewriter
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> Work[bytes]:
        yield from ()
        self._pieces.append(data)
        return b""

    def finish(self) -> Work[bytes]:
        whole = b"".join(self._pieces)
        self._pieces.clear()
        return (yield from document(self._rewriter, whole)) if whole else b""


class Lines:
    """NDJSON: one document on each line, and each is a row."""

    light: Final = False

    def __init__(self, rewriter: Rewriter, limit: int) -> None:
        self._rewriter = rewriter
        self._buffer = Buffer(limit)

    def feed(self, data: bytes) -> Work[bytes]:
        out = bytearray()
        for line in self._buffer.until(data, b"\n"):
            out += yield from self._record(line, b"\n")
        return bytes(out)

    def finish(self) -> Work[bytes]:
        rest = self._buffer.rest()
        return (yield from self._record(rest, b"")) if rest else b""

    def _record(self, line: bytes, end: bytes) -> Work[bytes]:
        if not line.strip(b" \t\r"):
            return end
        if not self._rewriter.admits_record():
            return b""
        return (yield from document(self._rewriter, line)) + end


class Sequence:
    """A JSON text sequence: each document begins with a record separator, and each is a row."""

    light: Final = False

    def __init__(self, rewriter: Rewriter, limit: int) -> None:
        self._rewriter = rewriter
        self._buffer = Buffer(limit)
        self._begun = False

    def feed(self, data: bytes) -> Work[bytes]:
        out = bytearray()
        for piece in self._buffer.until(data, _SEPARATOR):
            out += yield from self._record(piece)
        return bytes(out)

    def finish(self) -> Work[bytes]:
        return (yield from self._record(self._buffer.rest()))

    def _record(self, piece: bytes) -> Work[bytes]:
        if not self._begun and piece.strip():
            # Nothing stands before the first separator.
            raise CannotMask("the body is no sequence of JSON texts, though it says so, and cannot be masked")
        self._begun = True
        if not piece.strip() or not self._rewriter.admits_record():
            return b""
        return _SEPARATOR + (yield from document(self._rewriter, piece)) + b"\n"


class Events:
    """An event stream. The data of each event is JSON; where only text is redacted it may be any text.

    Comments and fields that the standard does not know carry nothing on; names and ids go on as `event_words` says.
    """

    light: Final = False

    def __init__(
        self, rewriter: Rewriter, redactor: Redactor | None, limit: int, *, json_only: bool, masked: bool
    ) -> None:
        self._rewriter = rewriter
        self._redactor = redactor
        self._limit = limit
        self._json_only = json_only
        self._masked = masked
        self._buffer = Buffer(limit)
        self._fields: list[tuple[str, str]] = []
        self._size = 0
        self._after_cr = False
        self._begun = False

    def feed(self, data: bytes) -> Work[bytes]:
        if not data:
            return b""
        if self._after_cr:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        pieces: list[bytes] = []
        for line, ending in self._buffer.lines(data):
            pieces.append((yield from self._line(line)))
            self._after_cr = ending == b"\r"
        # An LF that follows later belongs to the CR only if nothing came between.
        self._after_cr = self._after_cr and data.endswith(b"\r")
        return b"".join(pieces)

    def finish(self) -> Work[bytes]:
        """An event that no empty line has ended: clients differ about it, so it is treated as one, and not ended."""
        rest = self._buffer.rest()
        out = (yield from self._line(rest)) if rest else b""
        return out + (yield from self._event())

    def _line(self, line: bytes) -> Work[bytes]:
        if not self._begun and line.startswith(b"\xef\xbb\xbf"):
            raise CannotMask("an event stream with a byte order mark is not looked at")
        self._begun = True
        if not line:
            out = yield from self._event()
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

    def _event(self) -> Work[bytes]:
        fields, self._fields, self._size = self._fields, [], 0
        data = [value for name, value in fields if name == "data"]
        said = "\n".join(data)
        shown = (yield from self._data(said)) if data else ""
        if shown is None:
            return b""
        out: list[str] = []
        for name, value in fields:
            if goes_on(name, value, masked=self._masked, data=said, shown=shown):
                out.append(f"{name}: {self._redactor.text(value) if self._redactor else value}\n")
        if data:
            out += (f"data: {line}\n" for line in shown.split("\n"))
        return documents.encoded("".join(out))

    def _data(self, data: str) -> Work[str | None]:
        """The data of an event as it is shown; None where the event is one row too many."""
        if data in ("", _DONE):
            return data
        arrays = self._rewriter.arrays
        try:
            shown = (yield from document(self._rewriter, data.encode())).decode()
        except CannotMask:
            if self._json_only or self._redactor is None or documents.begins_like_json(data):
                raise
            return (yield from text(self._rewriter, data.encode())).decode()
        if self._rewriter.arrays == arrays and not self._rewriter.admits_record():
            return None
        return shown
