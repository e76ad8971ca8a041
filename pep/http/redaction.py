"""Takes out of text what a detector or a pattern of the policy finds: addresses, numbers of cards, keys.

Best effort by nature: what is written in another way than a detector knows is not found, so masks name fields.
Text is UTF-8. A stream is looked at in steps whose borders depend on the text alone, never on how it arrived; a match
may be as long as `WINDOW`. Patterns are RE2's: their time is linear whatever text and pattern are.
"""

from __future__ import annotations

import codecs
import functools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import re2

from pep.http.coding import CannotMask

# The longest match that is found in a stream, and what one step of it hands out.
WINDOW: Final = 8 * 1024
_STEP: Final = 8 * 1024
# What a boundary (\b, ^) may look at before the place that a step begins at.
_CONTEXT: Final = 16

Span = tuple[int, int]

# As pages and addresses write it, too.
_AT: Final = rb"(?:@|%(?:25){0,4}40|&(?:amp;){0,4}(?:#0{0,7}64|#[xX]0{0,7}40|commat);?|\\{1,8}(?:u00|x)40)"
_EMAIL: Final = rb"[\pL\pN._%+'\-]+" + _AT + rb"(?:[\pL\pN\-]+\.)+\pL{2,}"
_SSN: Final = rb"\b\d{3}[\-. ]\d{2}[\-. ]\d{4}\b"
_CARD: Final = rb"\b\d(?:[ \-]?\d){12,40}\b"
_PHONE: Final = rb"\+\d{1,3}(?:[ .\-/()]{0,2}\d){6,14}\b|(?:\(\d{3}\) ?|\b\d{3}[ .\-])\d{3}[ .\-]\d{4}\b"
_IBAN: Final = rb"(?i)\b[A-Z]{2}\d{2}(?:[ \-]?[A-Z0-9]){11,40}\b"
_OCTET: Final = rb"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4: Final = rb"\b" + _OCTET + rb"(?:\." + _OCTET + rb"){3}\b"
_JWT: Final = rb"\beyJ[A-Za-z0-9_\-]{4,}\.[A-Za-z0-9_\-]{4,}\.[A-Za-z0-9_\-]*"
_AWS_KEY: Final = (
    rb"\b(?:AKIA|ASIA|AROA|AIDA|AGPA|ANPA)[A-Z0-9]{16}\b"
    rb"|(?i)aws.{0,20}secret.{0,20}[^A-Za-z0-9/+][A-Za-z0-9/+]{40}\b"
)
# Without an end in sight all that is in sight goes.
_PRIVATE_KEY: Final = (
    rb"(?s)-----BEGIN (?:[A-Z0-9]{1,16} ){0,4}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]{1,60}-----|\z)"
)

_GROUP: Final = re.compile(rb"\d+")
_IBAN_GROUP: Final = re.compile(rb"[A-Za-z0-9]+")
_CARD_LENGTHS: Final = range(13, 20)
_IBAN_LENGTHS: Final = range(15, 35)


def _luhn(digits: bytes) -> bool:
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = digit - 48
        if position % 2:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return total % 10 == 0


def _cards(text: bytes, start: int, end: int) -> Iterator[Span]:
    """The runs of whole groups of digits that are a card's number. A single long group is looked at in full only."""
    groups = [(start + group.start(), start + group.end()) for group in _GROUP.finditer(text[start:end])]
    for first, (begin, _) in enumerate(groups):
        digits = b""
        for left, right in groups[first:]:
            digits += text[left:right]
            if len(digits) in _CARD_LENGTHS and _luhn(digits):
                yield begin, right


def _ibans(text: bytes, start: int, end: int) -> Iterator[Span]:
    """The longest run of groups from the start that has the right check digits: words may follow it."""
    account, found = b"", None
    for group in _IBAN_GROUP.finditer(text[start:end]):
        account += group[0].upper()
        if len(account) in _IBAN_LENGTHS and _mod97(account):
            found = start + group.end()
    if found is not None:
        yield start, found


def _mod97(account: bytes) -> bool:
    return int("".join(str(int(chr(c), 36)) for c in account[4:] + account[:4])) % 97 == 1


def _all(_text: bytes, start: int, end: int) -> Iterator[Span]:
    yield start, end


Narrow = Callable[[bytes, int, int], Iterator[Span]]

_DETECTORS: Final[dict[str, tuple[bytes, Narrow]]] = {
    "email": (_EMAIL, _all),
    "ssn": (_SSN, _all),
    "credit_card": (_CARD, _cards),
    "phone": (_PHONE, _all),
    "iban": (_IBAN, _ibans),
    "ipv4": (_IPV4, _all),
    "jwt": (_JWT, _all),
    "aws_key": (_AWS_KEY, _all),
    "private_key": (_PRIVATE_KEY, _all),
}

DETECTORS: Final = frozenset(_DETECTORS)

# What one compiled pattern may take, in bytes.
_PATTERN_MEMORY: Final = 8 * 1024 * 1024


@functools.lru_cache(maxsize=256)
def _compile(pattern: bytes) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _PATTERN_MEMORY
    try:
        return re2.compile(pattern, options)
    except re2.error:
        raise CannotMask("a pattern that text has to be redacted by is not understood") from None


class Redactor:
    """The detectors and patterns of one grant. `count` is how many places have been redacted."""

    def __init__(self, detectors: Iterable[str], patterns: Iterable[str]) -> None:
        names = sorted(set(detectors))
        self._made_of = tuple(names), tuple(patterns)
        patterns = self._made_of[1]
        if not DETECTORS.issuperset(names):
            raise CannotMask("text has to be redacted by a detector that is not known here")
        finders = [(f"[redacted {name}]".encode(), *_DETECTORS[name]) for name in names]
        finders += [(b"[redacted]", pattern.encode(), _all) for pattern in patterns]
        self._finders = [(label, _compile(pattern), narrow) for label, pattern, narrow in finders]
        # Most text has nothing in it, and most of the time goes into one call for each pattern.
        self._any = _compile(b"|".join(b"(?:%s)" % pattern for _, pattern, _ in finders)) if finders else None
        self.count = 0

    def __reduce__(self) -> tuple[type[Redactor], tuple[tuple[str, ...], tuple[str, ...]]]:
        """Compiled patterns do not travel; what they are made of does."""
        return Redactor, self._made_of

    def text(self, text: str) -> str:
        """A whole text. A lone half of a surrogate pair, which is no character, is left out."""
        raw = text.encode("utf-8", "ignore")
        spans = self.spans(raw, 0)
        return self.replaced(raw, spans, 0, len(raw)).decode() if spans else text

    def stream(self) -> RedactedStream:
        return RedactedStream(self)

    def spans(self, raw: bytes, start: int) -> list[tuple[int, int, bytes]]:
        """What is found from `start` on, with what will stand for it, in order; spans may overlap."""
        found: list[tuple[int, int, bytes]] = []
        if self._any is None or self._any.search(raw, start) is None:
            return found
        for label, pattern, narrow in self._finders:
            for match in pattern.finditer(raw, start):
                left, right = match.span()
                found += ((a, b, label) for a, b in narrow(raw, left, right) if a < b)
        found.sort(key=lambda span: (span[0], -span[1]))
        return found

    def replaced(self, raw: bytes, spans: list[tuple[int, int, bytes]], start: int, end: int) -> bytes:
        """The bytes from `start` to `end`. Spans may begin before, where they are replaced already, and end behind."""
        pieces: list[bytes] = []
        for left, right, label in spans:
            if left >= start:
                pieces += (raw[start:left], label)
                self.count += 1
            start = max(start, right)
        pieces.append(raw[start:end])
        return b"".join(pieces)


class RedactedStream:
    """The same for text that arrives in pieces. Raises CannotMask for what is no UTF-8 text."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._check = codecs.getincrementaldecoder("utf-8")()
        self._buffer = bytearray()
        # The bytes before this have been handed out; from here to `_covered` is what a replacement already stands for.
        self._begin = 0
        self._covered = 0

    def feed(self, data: bytes) -> bytes:
        self._validate(data, final=False)
        self._buffer += data
        pieces: list[bytes] = []
        while len(self._buffer) - self._begin >= _STEP + WINDOW:
            pieces.append(self._step(_STEP))
        return b"".join(pieces)

    def finish(self) -> bytes:
        self._validate(b"", final=True)
        return self._step(len(self._buffer) - self._begin)

    def _validate(self, data: bytes, *, final: bool) -> None:
        if b"\0" in data:
            raise CannotMask("text with NUL in it, perhaps UTF-16, cannot be redacted")
        try:
            self._check.decode(data, final)
        except UnicodeDecodeError:
            raise CannotMask("text that is not in UTF-8 cannot be redacted") from None

    def _step(self, size: int) -> bytes:
        """Hands out the next `size` bytes, having looked at no more and no less than a window behind them."""
        begin, end = self._begin, self._begin + size
        view = bytes(self._buffer[: end + WINDOW])
        spans = [span for span in self._redactor.spans(view, begin) if span[0] < end]
        start = self._covered
        self._covered = max(end, start, *(right for _, right, _ in spans)) if spans else max(end, start)
        out = self._redactor.replaced(view, spans, start, end)
        kept = max(0, end - _CONTEXT)
        del self._buffer[:kept]
        self._begin = end - kept
        self._covered -= kept
        return out
