"""Takes the target's own credential out of whatever comes back from the target.

A secret is found in clear, in base64 at any alignment, in hex and other lists of its bytes, in UTF-16, and with any of
its characters written as percent-encoding (RFC 3986), as escape of JSON and JavaScript, or as HTML entity, also nested
a few times. It cannot be found in what a target computed from it in another way: compressed inside a document,
reversed, cut into pieces.

Two readings are searched: the bytes as they are, and the bytes with every escape undone (only where there is one).
"""

from __future__ import annotations

import base64
import bisect
import html
import html.entities
import json
import re
import string
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, quote_plus

from pep.core.errors import ConfigError
from pep.http.messages import Field, Fields

REMOVED: Final = b"[removed]"
# A shorter one occurs by chance, and its absence would then tell what it is.
SHORTEST: Final = 8
# Secrets that were replaced meanwhile may still come back; so many are remembered.
_REMEMBERED: Final = 64

# Every repetition is bounded: what a target sends must not cost more than its length.
_ESCAPE: Final = (
    rb"%%(?:25){0,4}(?:(?P<percent>[0-9A-Fa-f]{2})|u(?P<percent_u>[0-9A-Fa-f]{4}))"
    rb"|\\{1,8}(?:u(?P<high>[dD][89abAB][0-9A-Fa-f]{2})\\{1,8}u(?P<low>[dD][c-fC-F][0-9A-Fa-f]{2})"
    rb"|u(?P<unit>[0-9A-Fa-f]{4})|u\{0{0,4}(?P<braced>[0-9A-Fa-f]{1,6})\}|x(?P<byte>[0-9A-Fa-f]{2})"
    rb"|(?P<line>[rn])|(?P<mark>[%b]))"
    rb"|&(?:amp;){0,4}(?:\#0{0,8}(?P<decimal>[0-9]{1,7});?|\#[xX]0{0,8}(?P<hex>[0-9A-Fa-f]{1,6});?"
    rb"|(?P<name>[A-Za-z][A-Za-z0-9]{1,30});?)"
)
# What may be the beginning of an escape, or of a longer one, at the end of what has arrived.
_UNFINISHED: Final = re.compile(
    rb"(?:%(?:25){0,4}(?:[0-9A-Fa-f]?|u[0-9A-Fa-f]{0,3})"
    rb"|\\{1,8}(?:u[dD][89abAB][0-9A-Fa-f]{2}(?:\\{1,8}(?:u[0-9A-Fa-f]{0,3})?)?"
    rb"|u[0-9A-Fa-f]{0,3}|u\{[0-9A-Fa-f]{0,10}|x[0-9A-Fa-f]?)?"
    rb"|&(?:amp;){0,4}(?:\#[0-9]{0,15}|\#[xX][0-9A-Fa-f]{0,14}|[A-Za-z][A-Za-z0-9]{0,30})?)\Z"
)
_LONGEST_ESCAPE: Final = 64
_INTRODUCERS: Final = (b"%", b"\\", b"&")
# Base64 is often broken into lines; wherever it is read, these are left out.
_LINE_ENDS: Final = b"\r\n"

Span = tuple[int, int]


# How many fields are remembered as harmless, and up to which length.
_HARMLESS: Final = 256
_SHORT_FIELD: Final = 128


class Scrub:
    """The secrets that must not come back. False where there is none. Raises ConfigError for a secret too short."""

    def __init__(self, secrets: Iterable[bytes]) -> None:
        self._secrets: tuple[bytes, ...] = ()
        self._forms: tuple[bytes, ...] = ()
        self._folded: tuple[bytes, ...] = ()
        self._plain: tuple[bytes, ...] = ()
        self._escape = _escape(())
        self._harmless: set[Field] = set()  # fields that were looked at: most of them come with every response
        self.learn(secrets)

    def __bool__(self) -> bool:
        return bool(self._secrets)

    def __repr__(self) -> str:
        return f"Scrub({len(self._secrets)} secrets)"

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """Those that are looked for; the same object as long as they are the same."""
        return self._secrets

    def learn(self, secrets: Iterable[bytes]) -> None:
        """Look for these from now on, also in streams that have begun. Those known before still count."""
        fresh = tuple(secret for secret in dict.fromkeys(secrets) if secret not in self._secrets)
        if not fresh:
            return
        if any(len(secret) < SHORTEST for secret in fresh):
            raise ConfigError(
                f"a secret of fewer than {SHORTEST} bytes cannot be kept out of responses; use a longer one"
            )
        self._harmless.clear()
        self._secrets = (*self._secrets, *fresh)[-_REMEMBERED:]
        self._forms = tuple(dict.fromkeys(form for secret in self._secrets for form in _forms(secret)))
        self._folded = tuple(dict.fromkeys(form for secret in self._secrets for form in _base64(secret)))
        # Of marks that a backslash may precede those alone that matter: in JSON it precedes each quotation mark.
        self._escape = _escape(self._forms)
        self._plain = tuple(dict.fromkeys(self._unescaped(form).data for form in self._forms))

    def clean(self, data: bytes) -> bytes:
        """All of it, without the secrets."""
        return _cut(data, self.spans(data)) if self._secrets else data

    def in_fields(self, fields: Fields) -> Fields:
        """A header section without the secrets; a field whose very name holds one is left out."""
        if not self._secrets:
            return fields
        return Fields(tuple(kept for field in fields if (kept := self._field(field)) is not None))

    def _field(self, field: Field) -> Field | None:
        if field in self._harmless:
            return field
        name, value = field
        if self.spans(name.encode("latin-1")) or self._names(name.lower().encode("latin-1")):
            return None
        kept = (name, self.clean(value.encode("latin-1")).decode("latin-1"))
        if kept == field and len(name) + len(value) <= _SHORT_FIELD:
            if len(self._harmless) >= _HARMLESS:
                self._harmless.clear()
            self._harmless.add(field)
        return kept

    def _names(self, name: bytes) -> bool:
        """Names of fields have no case of their own, so a secret among them may have lost its."""
        return any(secret.lower() in name for secret in self._secrets)

    def stream(self) -> Stream:
        return Stream(self)

    def watch(self) -> Watch:
        return Watch(self)

    def spans(self, data: bytes) -> tuple[Span, ...]:
        """Where secrets are, from left to right, none over another."""
        found = [span for form in self._forms if form in data for span in _occurrences(data, form)]
        if any(introducer in data for introducer in _INTRODUCERS):
            plain = self._unescaped(data)
            found += [
                (plain.position(begin), plain.position(end - 1, after=True))
                for form in self._plain
                for begin, end in _occurrences(plain.data, form)
            ]
        if b"\n" in data:
            found += self._in_lines(data)
        if not found:
            return ()
        found.sort(key=lambda span: (span[0], -span[1]))
        taken: list[Span] = []
        for span in found:
            if not taken or span[0] >= taken[-1][1]:
                taken.append(span)
        return tuple(taken)

    def _in_lines(self, data: bytes) -> Iterator[Span]:
        """Secrets in base64 that line ends go through."""
        joined = data.translate(None, _LINE_ENDS)
        places: list[int] = []
        for form in self._folded:
            for begin, end in _occurrences(joined, form):
                places = places or [at for at, byte in enumerate(data) if byte not in _LINE_ENDS]
                yield places[begin], places[end - 1] + 1

    def _pending_in_lines(self, data: bytes) -> int:
        begin = max(0, len(data) - 3 * max(map(len, self._folded), default=0))
        tail = data[begin:]
        if b"\n" not in tail and b"\r" not in tail:
            return len(data)
        joined = tail.translate(None, _LINE_ENDS)
        first = min((_pending(joined, form) for form in self._folded), default=len(joined))
        if first == len(joined):
            return len(data)
        places = [at for at, byte in enumerate(tail) if byte not in _LINE_ENDS]
        return begin + places[first]

    def begun(self, data: bytes) -> int:
        """How many characters of a secret stand at the end of the data, without the rest of it; escapes undone."""
        unfinished = _UNFINISHED.search(data, max(0, len(data) - _LONGEST_ESCAPE))
        plain = self._unescaped(data if unfinished is None else data[: unfinished.start()]).data
        readings = (plain, plain.translate(None, _LINE_ENDS))
        return max(
            (len(each) - _pending(each, form) for each in readings for form in (*self._forms, *self._plain)), default=0
        )

    def pending(self, data: bytes) -> int:
        """Where the longest end of the data begins that may be the beginning of a secret; its length if none does."""
        first = min((_pending(data, form) for form in self._forms), default=len(data))
        first = min(first, self._pending_in_lines(data))
        unfinished = _UNFINISHED.search(data, max(0, len(data) - _LONGEST_ESCAPE))
        whole = data if unfinished is None else data[: unfinished.start()]
        first = min(first, len(whole))
        if any(introducer in whole for introducer in _INTRODUCERS):
            plain = self._unescaped(whole)
            ends = (_pending(plain.data, form) for form in self._plain)
            return min(first, *(plain.position(end) for end in ends))
        if unfinished is not None:
            return min(first, *(_pending(whole, form) for form in self._plain))
        return first

    def _unescaped(self, data: bytes) -> _Unescaped:
        return _Unescaped(data, self._escape)


class Stream:
    """Bytes that come in pieces. Only what may be the beginning of a secret is held back."""

    def __init__(self, scrub: Scrub) -> None:
        self._scrub = scrub
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        data = self._held + data
        spans = self._scrub.spans(data)
        begin = 0
        until = self._scrub.pending(data)
        for start, end in spans:
            if until <= start:
                break
            if until < end:
                # It is inside of what is taken out; what counts is behind.
                until = end + self._scrub.pending(data[end:])
            begin = end
        self._held = data[until:]
        return _cut(data[:until], [span for span in spans if span[1] <= begin])

    def finish(self) -> bytes:
        held, self._held = self._held, b""
        return self._scrub.clean(held)

    def clean(self, data: bytes) -> bytes:
        """All of it at once, where nothing came before and nothing comes behind."""
        return self._scrub.clean(data)


class Watch:
    """Whether secrets are in bytes that come in pieces. `begun`: how much of one may be at the end of what came."""

    def __init__(self, scrub: Scrub) -> None:
        self._scrub = scrub
        self._held = b""
        self.begun = 0

    def found(self, data: bytes) -> bool:
        if not self._scrub:
            return False
        data = self._held + data
        if self._scrub.spans(data):
            return True
        self._held = data[self._scrub.pending(data) :]
        self.begun = self._scrub.begun(self._held) if self._held else 0
        return False


class _Unescaped:
    """Bytes with their escapes undone, and the way back."""

    def __init__(self, data: bytes, escape: re.Pattern[bytes]) -> None:
        pieces: list[bytes] = []
        # For each escape: where its meaning begins in the plain bytes and ends there, where it stands in the others.
        self._begins: list[int] = []
        self._places: list[tuple[int, int, int]] = []
        at = size = 0
        for found in escape.finditer(data):
            meaning = _meaning(found)
            if meaning is None:
                continue
            start, end = found.span()
            pieces += (data[at:start], meaning)
            size += start - at
            self._begins.append(size)
            size += len(meaning)
            self._places.append((size, start, end))
            at = end
        pieces.append(data[at:])
        self.data = b"".join(pieces)

    def position(self, plain: int, *, after: bool = False) -> int:
        """Where a plain byte stands in the original: its beginning, or the place after it."""
        index = bisect.bisect_right(self._begins, plain) - 1
        if index < 0:
            return plain + after
        until, start, end = self._places[index]
        if plain < until:
            return end if after else start
        return end + plain - until + after


def _escape(forms: Iterable[bytes]) -> re.Pattern[bytes]:
    marks = sorted({chr(byte) for form in forms for byte in form if chr(byte) in string.punctuation})
    # A class must not be empty; what it holds then is undone and matters to nobody.
    return re.compile(_ESCAPE % re.escape("".join(marks) or "~").encode())


def _meaning(found: re.Match[bytes]) -> bytes | None:
    kind, value = found.lastgroup, found[found.lastgroup or 0]
    match kind:
        case "line":
            return b""
        case "percent" | "byte":
            return bytes((int(value, 16),)).strip(_LINE_ENDS)
        case "percent_u" | "unit" | "hex" | "braced":
            return _character(int(value, 16))
        case "decimal":
            return _character(int(value))
        case "low":
            return _character(0x10000 + ((int(found["high"], 16) - 0xD800) << 10) + int(value, 16) - 0xDC00)
        case "mark":
            return value
        case _:
            name = html.entities.html5.get(value.decode() + ";")
            return None if name is None else name.encode()


def _character(code: int) -> bytes | None:
    if code in (0x0A, 0x0D):
        return b""
    return None if code > 0x10FFFF or 0xD800 <= code < 0xE000 else chr(code).encode()


def _forms(secret: bytes) -> Iterator[bytes]:
    """The byte strings that a secret may appear as, before any escaping."""
    text = secret.decode("utf-8", "replace")
    yield secret
    yield from _base64(secret)
    yield from (secret.hex().encode(), secret.hex().upper().encode())
    # As bytes are shown to people and by Node; in mail; with octal numbers.
    for between in (" ", ":", "-"):
        yield from (secret.hex(between).encode(), secret.hex(between).upper().encode())
    for between in (",", ", ", " "):
        yield between.join(map(str, secret)).encode()
    yield from (
        "".join(f"={byte:02X}" for byte in secret).encode(),
        "".join(f"\\{byte:03o}" for byte in secret).encode(),
    )
    # Base64 of what is base64 already, as it is where nothing stands before it.
    yield base64.b64encode(base64.b64encode(secret)).rstrip(b"=")[:-1]
    # The first byte of big endian and the last of little endian is left out: this is in both.
    yield text.encode("utf-16-be")[1:]
    # Whoever searches a secret that itself looks like an escape must not undo it.
    for written in (
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        html.escape(text),
        json.dumps(text)[1:-1],
    ):
        yield written.encode()
    yield secret.replace(b" ", b"+")


def _base64(secret: bytes) -> Iterator[bytes]:
    """The characters that stand for nothing but bits of the secret, for each place that it may have in a text."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret)
        first, last = -(-before * 8 // 6), (before + len(secret)) * 8 // 6
        core = encoded[first:last]
        yield core
        yield core.translate(bytes.maketrans(b"+/", b"-_"))


def _occurrences(data: bytes, form: bytes) -> Iterator[Span]:
    at = data.find(form)
    while at >= 0:
        yield at, at + len(form)
        at = data.find(form, at + len(form))


def _pending(data: bytes, form: bytes) -> int:
    """Where the longest end of the data begins that is a beginning of the form, and not all of it."""
    first = form[:1]
    at = data.find(first, max(0, len(data) - len(form) + 1))
    while at >= 0 and not form.startswith(data[at:]):
        at = data.find(first, at + 1)
    return len(data) if at < 0 else at


def _cut(data: bytes, spans: Iterable[Span]) -> bytes:
    pieces: list[bytes] = []
    at = 0
    for begin, end in spans:
        pieces += (data[at:begin], REMOVED)
        at = end
    return b"".join((*pieces, data[at:])) if pieces else data
