"""Rewrites JSON documents: masks fields, redacts text, counts the rows of arrays, in one walk.

A field is where a JSONPath leads (see `jsonpaths`), or every scalar whose name is not excepted ("*"). JSON inside a
string is looked at as well: masks find it by the names they end with, because its place is not the document's. A string
that cannot be read but names a masked field with a value behind it becomes null.

One `Rewriter` serves all documents of one response: its counts run over all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from pep.core.model import FieldMask, LimitRows, MaskMethod, NullMask, OnExcess
from pep.http import documents
from pep.http.coding import CannotMask
from pep.http.documents import MOST_NESTED, Number, Value
from pep.http.jsonpaths import AnyMember, Name, Path, Paths, Segment, States, Step, floating, parse
from pep.http.mentions import Mentions, folded
from pep.http.named_values import NamedValues
from pep.http.places import Place, Places, Seen
from pep.http.redaction import Redactor
from pep.http.scalars import Scalar, scalar_mask

# The member of a GraphQL result that its root fields are in.
_GRAPHQL_ROOT: Final = Segment((Name("data"),))


_WORDS: Final[Mapping[bool | None, str]] = {None: "null", True: "true", False: "false"}


@dataclass(frozen=True, slots=True)
class Rule:
    """What a grant says about one response.

    `aliases` is GraphQL's response path -> schema path, None where the response is not GraphQL's. `records`: the body
    is a sequence of documents of which each is a row.
    """

    masks: tuple[FieldMask, ...] = ()
    limits: tuple[LimitRows, ...] = ()
    redactor: Redactor | None = None
    aliases: Mapping[str, str] | None = None
    records: bool = False
    keys: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a rewriter has done so far, on which depends what it goes on to do. `used` is rows by limit and place."""

    masked: int = 0
    rows: int = 0
    arrays: int = 0
    truncated: bool = False
    redacted: int = 0
    used: tuple[tuple[int, str, int], ...] = ()
    seen: tuple[Seen, ...] = ()


@dataclass(frozen=True, slots=True)
class _Everything:
    """A mask of the field "*"."""

    method: MaskMethod
    except_: frozenset[str]


class Rewriter:
    """Raises CannotMask on construction for an obligation that is not understood, later for a document."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.masked = 0
        self.rows = 0
        self.arrays = 0
        self.truncated = False
        self.places = Places()
        self._redactor = rule.redactor
        self._limits = rule.limits
        self._used: dict[tuple[int, str], int] = {}
        self._keys = rule.keys
        self._scalars: dict[MaskMethod, Scalar] = {}
        self.everything = tuple(_Everything(m.method, m.except_) for m in rule.masks if m.field == "*")
        self._aliases = _other_names(rule.aliases or {})
        named = [(parse(mask.field), mask.method) for mask in rule.masks if mask.field != "*"]
        self._methods = [method for _, method in named]
        # What ends a limit has a number too, behind those of the masks.
        self._limited: list[int] = []
        paths = [path for path, _ in named]
        for number, limit in enumerate(rule.limits):
            for path in _arrays(limit, rule):
                paths.append(path)
                self._limited.append(number)
        self._paths = Paths(paths, self._aliases)
        self._inner = Paths([floating(path) for path, _ in named], self._aliases)
        names = _named(paths[: len(named)], self._aliases)
        self._mentions = Mentions(names) if names else None
        self._named = NamedValues(names) if names else None
        self._looks_inside = bool(rule.masks or rule.redactor)

    def document(self, data: bytes) -> bytes:
        """One whole document, rewritten."""
        out: list[str] = []
        step = self._paths.start()
        try:
            _Walk(self, self._paths, out).value(documents.read(data), step, None, 0, self.places.root)
        except RecursionError:
            raise documents.too_deep() from None
        return documents.encoded("".join(out))

    def redacted(self, data: bytes) -> bytes:
        """A text without a structure, in which only a redactor finds anything."""
        self.places.anywhere().clear = True
        return data if self._redactor is None else documents.encoded(self._redactor.text(data.decode()))

    @property
    def counts(self) -> Counts:
        used = tuple((number, place, count) for (number, place), count in self._used.items())
        redacted = self._redactor.count if self._redactor else 0
        return Counts(self.masked, self.rows, self.arrays, self.truncated, redacted, used, self.places.seen())

    @property
    def aliases(self) -> Mapping[str, frozenset[str]]:
        """The other names of members, folded."""
        return self._aliases

    def resume(self, counts: Counts) -> None:
        """Goes on from what another rewriter of the same rule has done."""
        self.masked, self.rows, self.arrays = counts.masked, counts.rows, counts.arrays
        self.truncated = counts.truncated
        self._used = {(number, place): count for number, place, count in counts.used}
        if self._redactor is not None:
            self._redactor.count = counts.redacted
        self.places.add(counts.seen)

    def admits_record(self) -> bool:
        """Counts a record of a stream that is itself a row: whether it may be shown. Raises CannotMask."""
        counted = [self.allowed(number, "", 1) for number, limit in enumerate(self._limits) if limit.path == ""]
        if 0 in counted:
            return False
        self.rows += bool(counted)
        return True

    # --- what the walk asks ---

    def allowed(self, number: int, name: str, count: int) -> int:
        """How many of `count` rows more may be shown under that limit."""
        limit = self._limits[number]
        # Rows of a named place are added up wherever it occurs; without a path each array is on its own.
        place = (number, "" if limit.path else name)
        used = self._used.get(place, 0)
        if used + count > limit.maximum:
            if limit.on_excess is OnExcess.FAIL:
                raise CannotMask(f"the response has more than the {limit.maximum} rows that policy allows")
            count = max(0, limit.maximum - used)
            self.truncated = True
        self._used[place] = used + count
        return count

    def limits_ended(self, step: Step) -> set[int]:
        known = len(self._methods)
        return {self._limited[number - known] for number in step.ended if number >= known}

    def method(self, step: Step, name: str | None, *, scalar: bool) -> MaskMethod | None:
        """The one method for a value; of two that differ nothing is shown."""
        methods = {self._methods[number] for number in step.ended if number < len(self._methods)}
        if scalar:
            methods.update(every.method for every in self.everything if not self._excepted(every, name))
        if len(methods) > 1:
            return NullMask()
        return next(iter(methods), None)

    def _excepted(self, every: _Everything, name: str | None) -> bool:
        if name is None or name not in every.except_:
            return False
        # An alias does not make a field an excepted one.
        return all(other in every.except_ for other in self._aliases.get(folded(name), ()))

    def mask(self, method: MaskMethod, value: Value) -> Value:
        if value is None:
            return None
        self.masked += 1
        scalar = self._scalars.get(method)
        if scalar is None:
            scalar = self._scalars[method] = scalar_mask(method, self._keys)
        return None if isinstance(value, dict | list) else scalar(value)

    def text(self, text: str, name: str | None, depth: int, place: Place) -> str | None:
        """A string that no mask selects, with what stands inside it rewritten; None where it must not be shown."""
        if not self._looks_inside:
            return text
        rest = text
        if documents.begins_like_json(text):
            values, rest = documents.embedded(text)
            if values:
                pieces = [self._embedded(value, name, depth + 1, place) for value in values]
                if any(changed for _, changed in pieces):
                    # What follows the JSON was written by one who did not mean it as JSON: it is not known what it is.
                    return "\n".join(piece for piece, _ in pieces) if not rest else None
        if self._mentions is not None and self._mentions.within(rest):
            self.masked += 1
            return None
        return text if self._redactor is None else self._redactor.text(text)

    def members(self, members: Mapping[str, Value]) -> Mapping[str, Value]:
        """The members of an object, without the values of masked fields that one of them names."""
        if self._named is None:
            return members
        if (shown := self._named.members(members)) is not members:
            self._count_named()
        return shown

    def element(self, value: list[Value]) -> Value:
        """An element of an array, which may be the name of a masked field and its value."""
        if self._named is None:
            return value
        shown = self._named.pair(value)
        self._count_named()
        return shown

    def _count_named(self) -> None:
        if self._named is not None and self._named.count:
            self.masked += self._named.count
            self._named.count = 0

    def name(self, name: str) -> str:
        """The name of a member, which is text as well. Raises CannotMask where it holds a masked field itself."""
        mentions = self._mentions
        if mentions is not None and not name.isidentifier() and mentions.within(name):
            raise CannotMask("a document whose names of members hold other documents cannot be masked")
        return name if self._redactor is None else self._redactor.text(name)

    def _embedded(self, value: Value, name: str | None, depth: int, place: Place) -> tuple[str, bool]:
        before = self._changes()
        out: list[str] = []
        _Walk(self, self._inner, out).value(value, self._inner.start(), name, depth, place)
        return "".join(out), self._changes() != before

    def _changes(self) -> int:
        return self.masked + (self._redactor.count if self._redactor else 0)


class _Walk:
    """One walk down one document, writing as it goes."""

    __slots__ = ("_out", "_paths", "_rewriter")

    def __init__(self, rewriter: Rewriter, paths: Paths, out: list[str]) -> None:
        self._rewriter = rewriter
        self._paths = paths
        self._out = out

    def value(self, value: Value, step: Step, name: str | None, depth: int, place: Place) -> None:
        if depth > MOST_NESTED:
            raise documents.too_deep()
        rewriter = self._rewriter
        method: MaskMethod | None = None
        if step.ended or rewriter.everything:
            method = rewriter.method(step, name, scalar=not isinstance(value, dict | list))
            if method is not None:
                place.masked = True
                value = rewriter.mask(method, value)
        if isinstance(value, dict):
            self._object(value, step.states, depth, place)
            return
        if isinstance(value, list):
            self._array(value, step, name, depth, place)
            return
        shown: str | None = ""
        if isinstance(value, Number):
            self._out.append(value)
        elif isinstance(value, str):
            shown = value if method is not None else rewriter.text(value, name, depth, place)
            self._out.append("null" if shown is None else documents.string(shown))
        else:
            self._out.append(_WORDS[value])
        if shown is None:
            place.masked = True
        elif method is None:
            place.clear = True

    def _array(self, values: list[Value], step: Step, name: str | None, depth: int, place: Place) -> None:
        length = len(values)
        limits = self._rewriter.limits_ended(step) if step.ended else ()
        shown = min((self._rewriter.allowed(number, name or "", length) for number in limits), default=length)
        if limits:
            self._rewriter.rows += shown
            self._rewriter.arrays += 1
        out, descend, paired, before = self._out, self.value, self._rewriter.element, "["
        element = self._rewriter.places.element(place)
        for value, below in zip(values[:shown], self._paths.elements(step.states, length), strict=False):
            out.append(before)
            before = ","
            descend(paired(value) if isinstance(value, list) else value, below, name, depth + 1, element)
        if not shown:
            place.clear = True
        out.append("]" if shown else "[]")

    def _object(self, members: Mapping[str, Value], states: States, depth: int, place: Place) -> None:
        known = place.members
        rewriter, member, out, descend = self._rewriter, self._paths.member, self._out, self.value
        written: set[str] = set()
        members = rewriter.members(members)
        before = "{"
        for name, value in members.items():
            shown = rewriter.name(name)
            if shown != name:
                while shown in written or shown in members:
                    shown += "+"
                written.add(shown)
            out.append(f"{before}{documents.string(shown)}:")
            before = ","
            below = known.get(name) or rewriter.places.member(place, name)
            descend(value, member(states, name), name, depth + 1, below)
        if not members:
            place.clear = True
        out.append("}" if members else "{}")


def _arrays(limit: LimitRows, rule: Rule) -> Iterable[Path]:
    """Where the arrays of a limit are. Without a path: the document itself, or the members of the object that it is."""
    if limit.path:
        return (parse(limit.path),)
    if rule.records:
        return ()
    members = Segment((AnyMember(),))
    return ((), (members,)) if rule.aliases is None else ((), (members,), (_GRAPHQL_ROOT, members))


def _other_names(aliases: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """The schema's names of each response name that is an alias, folded.

    Where in the result it stands is left out: incremental and batched results put it elsewhere.
    """
    names: dict[str, frozenset[str]] = {}
    for shown, meant in aliases.items():
        alias, schema = folded(shown.rpartition(".")[2]), folded(meant.rpartition(".")[2])
        names[alias] = names.get(alias, frozenset()) | {schema}
    return names


def _named(paths: Iterable[Path], aliases: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The last names of the masks' paths, folded, and what else they are called."""
    lasts = (floating(path)[:1] for path in paths)
    names = {s.folded for last in lasts for segment in last for s in segment.selectors if isinstance(s, Name)}
    return frozenset(names | {alias for alias, meant in aliases.items() if meant & names})
