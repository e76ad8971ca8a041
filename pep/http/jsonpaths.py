"""JSONPath, the part of it that says *where*: names, indices, slices, wildcards, descendants. RFC 9535.

Filters (`?`) are not here: a mask whose place depends on a value can be evaded with the value. Names compare without
case, because many a client reads them so, and however their characters are composed. Paths are not evaluated one by
one: all paths of a response are followed together while its document is walked once (`Paths`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pep.http.coding import CannotMask
from pep.http.mentions import folded

_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "/": "/", "\\": "\\", "'": "'", '"': '"'}
_BARE: Final = re.compile(r"[^\s$.\[\]*'\"()?@,:]+")
_SHORT: Final = re.compile(r"(?:[A-Za-z_]|[^\x00-\x7f])(?:\w|[^\x00-\x7f])*", re.ASCII)
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,15}")
_SPACE: Final = re.compile(r"[ \t\r\n]*")
# Names come from the upstream; what is remembered of them is bounded.
_MOST_REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class Name:
    folded: str


@dataclass(frozen=True, slots=True)
class Index:
    at: int


@dataclass(frozen=True, slots=True)
class Slice:
    start: int | None
    stop: int | None
    step: int | None


@dataclass(frozen=True, slots=True)
class Wildcard:
    pass


@dataclass(frozen=True, slots=True)
class AnyMember:
    """Every member of an object, no element of an array. No path can say this; limits of rows do."""


Selector = Name | Index | Slice | Wildcard | AnyMember


@dataclass(frozen=True, slots=True)
class Segment:
    selectors: tuple[Selector, ...]
    descendant: bool = False


Path = tuple[Segment, ...]


def parse(text: str) -> Path:
    """The path in `text`; a bare name stands for that name anywhere. Raises CannotMask for all else."""
    if _BARE.fullmatch(text):
        return (Segment((Name(folded(text)),), descendant=True),)
    return _Parser(text).path()


def floating(path: Path) -> Path:
    """The path for a document whose place is not known, one inside a string: from its last name on, anywhere."""
    for position in range(len(path) - 1, -1, -1):
        if any(isinstance(selector, Name) for selector in path[position].selectors):
            return (Segment(path[position].selectors, descendant=True), *path[position + 1 :])
    return path


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def path(self) -> Path:
        if not self._take("$"):
            raise self._wrong()
        segments: list[Segment] = []
        while self._at < len(self._text):
            self._skip()
            if self._take(".."):
                segments.append(Segment(self._bracketed() if self._take("[") else (self._short(),), descendant=True))
            elif self._take("."):
                segments.append(Segment((self._short(),)))
            elif self._take("["):
                segments.append(Segment(self._bracketed()))
            else:
                raise self._wrong()
        return tuple(segments)

    def _wrong(self) -> CannotMask:
        return CannotMask("an obligation names a field by a JSONPath that is not understood")

    def _take(self, token: str) -> bool:
        if self._text.startswith(token, self._at):
            self._at += len(token)
            return True
        return False

    def _skip(self) -> None:
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at

    def _match(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        return found[0]

    def _short(self) -> Selector:
        if self._take("*"):
            return Wildcard()
        name = self._match(_SHORT)
        if name is None:
            raise self._wrong()
        return Name(folded(name))

    def _bracketed(self) -> tuple[Selector, ...]:
        selectors: list[Selector] = []
        while True:
            self._skip()
            selectors.append(self._selector())
            self._skip()
            if self._take("]"):
                return tuple(selectors)
            if not self._take(","):
                raise self._wrong()

    def _selector(self) -> Selector:
        if self._take("*"):
            return Wildcard()
        for quote in ("'", '"'):
            if self._take(quote):
                return Name(folded(self._quoted(quote)))
        start = self._number()
        self._skip()
        if not self._take(":"):
            if start is None:
                raise self._wrong()
            return Index(start)
        self._skip()
        stop = self._number()
        self._skip()
        step: int | None = None
        if self._take(":"):
            self._skip()
            step = self._number()
        return Slice(start, stop, step)

    def _number(self) -> int | None:
        digits = self._match(_INTEGER)
        return None if digits is None else int(digits)

    def _quoted(self, quote: str) -> str:
        pieces: list[str] = []
        while self._at < len(self._text):
            character = self._text[self._at]
            self._at += 1
            if character == quote:
                # The two halves of a pair of surrogates make one character.
                try:
                    return "".join(pieces).encode("utf-16", "surrogatepass").decode("utf-16")
                except UnicodeDecodeError:
                    break
            if character < " ":
                break
            if character != "\\":
                pieces.append(character)
                continue
            escape = self._text[self._at : self._at + 1]
            self._at += 1
            if escape == "u":
                digits = self._match(re.compile(r"[0-9A-Fa-f]{4}"))
                if digits is None:
                    break
                pieces.append(chr(int(digits, 16)))
            elif escape in _ESCAPES:
                pieces.append(_ESCAPES[escape])
            else:
                break
        raise self._wrong()


# Where each path has got to: (which path, how many of its segments are behind).
States = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One step down: the paths that go on, and those that end here."""

    states: States
    ended: frozenset[int]


class Paths:
    """Follows several paths down one document.

    `aliases` has the other names that a member's name stands for, both folded: what selects one of those selects it.
    """

    def __init__(self, paths: Sequence[Path], aliases: Mapping[str, frozenset[str]]) -> None:
        self._paths = tuple(paths)
        self._aliases = aliases
        self._members: dict[tuple[States, str], Step] = {}
        # Whether an element's place in its array matters, by path and segment.
        self._placed = tuple(
            tuple(any(isinstance(s, Index | Slice) for s in segment.selectors) for segment in path) for path in paths
        )
        self._elements: dict[States, Step] = {}

    def start(self) -> Step:
        states = tuple((number, 0) for number, path in enumerate(self._paths) if path)
        return Step(states, frozenset(number for number, path in enumerate(self._paths) if not path))

    def member(self, states: States, name: str) -> Step:
        key = (states, name)
        step = self._members.get(key)
        if step is None:
            if len(self._members) >= _MOST_REMEMBERED:
                self._members.clear()
            called = folded(name)
            step = self._members[key] = self._step(states, self._aliases.get(called, frozenset()) | {called}, -1, 0)
        return step

    def elements(self, states: States, length: int) -> Iterator[Step]:
        """The step to each element of an array, in order."""
        if any(self._placed[number][position] for number, position in states):
            return (self._step(states, None, index, length) for index in range(length))
        step = self._elements.get(states)
        if step is None:
            if len(self._elements) >= _MOST_REMEMBERED:
                self._elements.clear()
            step = self._elements[states] = self._step(states, None, 0, 1)
        return itertools.repeat(step, length)

    def _step(self, states: States, names: frozenset[str] | None, index: int, length: int) -> Step:
        going: set[tuple[int, int]] = set()
        ended: set[int] = set()
        for number, position in states:
            path = self._paths[number]
            segment = path[position]
            if segment.descendant:
                going.add((number, position))
            if any(_selects(selector, names, index, length) for selector in segment.selectors):
                if position + 1 == len(path):
                    ended.add(number)
                else:
                    going.add((number, position + 1))
        return Step(tuple(sorted(going)), frozenset(ended))


def _selects(selector: Selector, names: frozenset[str] | None, index: int, length: int) -> bool:
    """Of a member `names` are all the names it has; of an element they are None."""
    match selector:
        case Name(folded):
            return names is not None and folded in names
        case Wildcard():
            return True
        case AnyMember():
            return names is not None
        case Index(at):
            return names is None and index == (at if at >= 0 else length + at)
        case Slice(start, stop, step):
            # RFC 9535 selects nothing with a step of 0.
            return names is None and step != 0 and index in range(*slice(start, stop, step).indices(length))
