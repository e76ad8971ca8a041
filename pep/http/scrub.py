"""Takes the target's own credential out of whatever comes back from the target.

A secret is found in the forms of `written` (in clear, in base64 and base32 at any alignment, in hex and other lists of
its bytes, in UTF-16, backwards), and with any of its characters written as percent-encoding (RFC 3986), as escape of
JSON and JavaScript, or as HTML entity, also nested a few times. Words of base64 are looked into as well: what they
stand for, also unpacked (`packed`), is searched like a text of its own, and a word that holds a secret goes as a whole.
It cannot be found in what a target computed from it in another way: encrypted, hashed, cut into pieces.

Three readings are searched: the bytes as they are, the bytes with every escape undone (only where there is one), and
without their line ends (only where there is one).
"""

from __future__ import annotations

import bisect
import html.entities
import re
import string
from collections.abc import Iterable
from typing import Final

from pep.core.errors import ConfigError
from pep.http import packed, written
from pep.http.messages import Field, Fields
from pep.http.needles import Needles, Span

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

# A word is looked into that could be base64 of a secret, and of more than a few characters.
_SHORTEST_WORD: Final = 16
_MOST_NESTED: Final = 3

_EMPTY_LINE: Final = re.compile(rb"\r?\n\r?\n")

# How many fields are remembered as harmless, and up to which length.
_HARMLESS: Final = 256
_SHORT_FIELD: Final = 128


class Scrub:
    """The secrets that must not come back. False where there is none. Raises ConfigError for a secret too short."""

    def __init__(self, secrets: Iterable[bytes]) -> None:
        self._secrets: tuple[bytes, ...] = ()
        self._forms = self._plain = self._folded = Needles((), _SHORTEST_WORD)
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
        word = max(_SHORTEST_WORD, -(-4 * min(map(len, self._secrets)) // 3))
        self._forms = Needles((form for secret in self._secrets for form in written.forms(secret)), word)
        self._folded = Needles((form for secret in self._secrets for form in written.in_lines(secret)), word)
        # Of marks that a backslash may precede those alone that matter: in JSON it precedes each quotation mark.
        self._escape = _escape(self._forms.forms)
        self._plain = Needles((self._unescaped(form).data for form in self._forms.forms), word)

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
        found = self._spans(data, packed.Unpacking(), _MOST_NESTED)
        if not found:
            return ()
        found.sort(key=lambda span: (span[0], -span[1]))
        taken: list[Span] = []
        for span in found:
            if not taken or span[0] >= taken[-1][1]:
                taken.append(span)
        return tuple(taken)

    def _spans(self, data: bytes, unpacking: packed.Unpacking, depth: int) -> list[Span]:
        """Where secrets are in each reading of the data."""
        shown, words = self._found(data, self._forms, unpacking, depth)
        found = [*shown, *words]
        if any(introducer in data for introducer in _INTRODUCERS):
            plain = self._unescaped(data)
            shown, words = self._found(plain.data, self._plain, unpacking, depth)
            found += [(plain.position(begin), plain.position(end - 1, after=True)) for begin, end in (*shown, *words)]
        if b"\n" in data:
            shown, words = self._found(data.translate(None, _LINE_ENDS), self._folded, unpacking, depth)
            if shown or words:
                places = [at for at, byte in enumerate(data) if byte not in _LINE_ENDS]
                found += [(places[begin], places[end - 1] + 1) for begin, end in shown]
                found += [_in_one_block(data, places[begin], places[end - 1] + 1) for begin, end in words]
        return found

    def _found(
        self, data: bytes, needles: Needles, unpacking: packed.Unpacking, depth: int
    ) -> tuple[list[Span], list[Span]]:
        """Where secrets are in one reading, and the words that hold one and do not show it."""
        found, words = needles.look(data)
        if not depth:
            return found, []
        return found, [
            (begin, end)
            for begin, end in words
            if not any(begin < last and first < end for first, last in found)
            and any(self._holds(meant, unpacking, depth - 1) for meant in unpacking.of(data[begin:end]))
        ]

    def _holds(self, data: bytes, unpacking: packed.Unpacking, depth: int) -> bool:
        if packed.is_text(data):
            return bool(self._spans(data, unpacking, depth))
        return bool(self._forms.spans(data))

    def _pending_in_lines(self, data: bytes) -> int:
        begin = max(0, len(data) - 3 * max(map(len, self._folded.forms), default=0))
        tail = data[begin:]
        if b"\n" not in tail and b"\r" not in tail:
            return len(data)
        joined = tail.translate(None, _LINE_ENDS)
        first = self._folded.pending(joined)
        if first == len(joined):
            return len(data)
        places = [at for at, byte in enumerate(tail) if byte not in _LINE_ENDS]
        return begin + places[first]

    def begun(self, data: bytes) -> int:
        """How many characters of a secret stand at the end of the data, without the rest of it; escapes undone."""
        unfinished = _UNFINISHED.search(data, max(0, len(data) - _LONGEST_ESCAPE))
        plain = self._unescaped(data if unfinished is None else data[: unfinished.start()]).data
        readings = (plain, plain.translate(None, _LINE_ENDS))
        return max(len(each) - needles.pending(each) for each in readings for needles in (self._forms, self._plain))

    def pending(self, data: bytes) -> int:
        """Where the longest end of the data begins that may be the beginning of a secret; its length if none does."""
        first = min(self._forms.pending(data), self._pending_in_lines(data), packed.unfinished(data))
        unfinished = _UNFINISHED.search(data, max(0, len(data) - _LONGEST_ESCAPE))
        whole = data if unfinished is None else data[: unfinished.start()]
        first = min(first, len(whole))
        if any(introducer in whole for introducer in _INTRODUCERS):
            plain = self._unescaped(whole)
            return min(first, plain.position(self._plain.pending(plain.data)))
        if unfinished is not None:
            return min(first, self._plain.pending(whole))
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


def _in_one_block(data: bytes, begin: int, end: int) -> Span:
    """A word in lines, up to an empty one: what follows that is another matter."""
    empty = _EMPTY_LINE.search(data, begin, end)
    return begin, end if empty is None else empty.start()


def _cut(data: bytes, spans: Iterable[Span]) -> bytes:
    pieces: list[bytes] = []
    at = 0
    for begin, end in spans:
        pieces += (data[at:begin], REMOVED)
        at = end
    return b"".join((*pieces, data[at:])) if pieces else data
