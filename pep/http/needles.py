"""Many byte strings searched for in one pass, and words that may be base64. Pure.

The search is RE2's: it costs what the text is long, however many strings there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import re2

Span = tuple[int, int]

# What base64 is made of, in either of its alphabets; all else is made a blank.
_WORD: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_-"
_PARTED: Final = bytes(at if at in _WORD else 32 for at in range(256))
_MARKED: Final = bytes(97 if at in _WORD else 32 for at in range(256))
# What one program may take, in bytes.
_MEMORY: Final = 64 * 1024 * 1024
_ENOUGH: Final = 64
# Beginnings at the end of a text are searched for by so many bytes.
_HEAD: Final = 4


class Needles:
    """These byte strings, and words of `word` characters and more."""

    def __init__(self, forms: Iterable[bytes], word: int) -> None:
        self.forms = tuple(dict.fromkeys(forms))
        # Whether the beginning of one is there; where all of it is, if it is, is looked for then.
        self._forms = _program(form[:_ENOUGH] for form in self.forms)
        self._word = word
        self._words_alone = not any(form.translate(None, _WORD) for form in self.forms)
        self._run = b"a" * min((word, *map(len, self.forms)) if self._words_alone else (word,))
        self._heads: dict[bytes, list[bytes]] = {}
        for form in self.forms:
            self._heads.setdefault(form[:_HEAD], []).append(form)
        self._begun = _program(self._heads) if self._heads else None
        self._beginnings = frozenset(form[:size] for form in self.forms for size in range(1, min(_HEAD, len(form))))
        self._longest = max(map(len, self.forms), default=1)

    def spans(self, data: bytes) -> list[Span]:
        """Where the strings are."""
        if not self.forms or self._forms.search(data) is None:
            return []
        return [span for form in self.forms for span in _occurrences(data, form)]

    def look(self, data: bytes) -> tuple[list[Span], list[Span]]:
        """Where the strings are, and the words that have letters of both cases, the whole of each."""
        marked = data.translate(_MARKED)
        if self._run not in marked:
            # Strings that are words alone are not there either.
            return ([], []) if self._words_alone else (self.spans(data), [])
        return self.spans(data), self._words(data, marked)

    def _words(self, data: bytes, marked: bytes) -> list[Span]:
        long = [each for each in data.translate(_PARTED).split() if len(each) >= self._word]
        if not long or not _mixed(b"".join(long)):
            return []
        found: list[Span] = []
        run = b"a" * self._word
        begin = marked.find(run)
        while begin >= 0:
            end = marked.find(b" ", begin)
            end = len(data) if end < 0 else end
            if _mixed(data[begin:end]):
                found.append((begin, end))
            begin = marked.find(run, end)
        return found

    def pending(self, data: bytes) -> int:
        """Where the longest end of the data begins that is a beginning of one of them, and not all of it."""
        begin = max(0, len(data) - self._longest + 1)
        tail = data[begin:]
        if self._begun is not None:
            at = 0
            while (found := self._begun.search(tail, at)) is not None:
                rest = tail[found.start() :]
                if any(form.startswith(rest) and form != rest for form in self._heads.get(rest[:_HEAD], ())):
                    return begin + int(found.start())
                at = found.start() + 1
        for size in range(min(_HEAD - 1, len(data)), 0, -1):
            if data[-size:] in self._beginnings:
                return len(data) - size
        return len(data)


def _mixed(word: bytes) -> bool:
    return not (word.islower() or word.isupper())


def _program(strings: Iterable[bytes]) -> Any:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    options.max_mem = _MEMORY
    options.never_capture = True
    return re2.compile(b"|".join(map(re2.escape, dict.fromkeys(strings))), options)


def _occurrences(data: bytes, form: bytes) -> Iterator[Span]:
    at = data.find(form)
    while at >= 0:
        yield at, at + len(form)
        at = data.find(form, at + len(form))
