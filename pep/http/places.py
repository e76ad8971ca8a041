"""Where values stood in the documents of one response, and whether they were masked there: names alone, never a value.

A place is a JSONPath in which every element of an array is `[*]`. A member's name that does not look like one (an id,
an address: such a map has data for names) is `*`, and so is what there is no room for; then it stands for any.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from pep.core.model import FieldLabels
from pep.http.coding import CannotMask
from pep.http.jsonpaths import Index, Name, Paths, Segment, Selector, Slice, States, Wildcard, parse

MOST_PLACES: Final = 200
"""Of one response, with those above them."""

Seen = tuple[str, bool, bool]
"""A place, whether something of it was shown, whether something of it was masked."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,47}")
_STEP: Final = re.compile(r"\.([A-Za-z0-9_-]+|\*)|(\[\*\])")


class Place:
    """One place; `members` are those below it by the names that were met."""

    __slots__ = ("clear", "masked", "members", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.clear = False
        self.masked = False
        self.members: dict[str, Place] = {}


class Places:
    """All places of one response."""

    def __init__(self) -> None:
        self.root = Place("$")
        self._all = {"$": self.root}
        self._rest = Place("*")

    def anywhere(self) -> Place:
        """For what is shown without being looked into."""
        return self._rest

    def member(self, above: Place, name: str) -> Place:
        """The place of a member; the caller has looked into `members`."""
        known = _NAME.fullmatch(name) is not None
        place = self._at(above, f"{above.path}.{name if known else '*'}")
        if known:
            above.members[name] = place
        return place

    def element(self, above: Place) -> Place:
        """The place of the elements of an array."""
        return self._at(above, f"{above.path}[*]")

    def _at(self, above: Place, path: str) -> Place:
        if above is self._rest:
            return above
        place = self._all.get(path)
        if place is None:
            if len(self._all) >= MOST_PLACES:
                return self._rest
            place = self._all[path] = Place(path)
        return place

    def seen(self) -> tuple[Seen, ...]:
        every = (*self._all.values(), self._rest)
        return tuple((each.path, each.clear, each.masked) for each in every if each.clear or each.masked)

    def add(self, seen: Iterable[Seen]) -> None:
        """What another process has seen of the same response."""
        for path, clear, masked in seen:
            place = self._rest if path == "*" else self._at(self.root, path)
            place.clear |= clear
            place.masked |= masked


def labels_at(
    places: Iterable[str], told: Iterable[FieldLabels], aliases: Mapping[str, frozenset[str]]
) -> dict[str, frozenset[str]]:
    """The labels of each place: of every JSONPath that selects it, or may; of all where the place may be any."""
    places, told = tuple(places), tuple(told)
    every = {label for each in told for label in each.labels}
    if not every or not any(place != "*" for place in places):
        return dict.fromkeys(places, frozenset(every))
    known, labels = [], []
    anywhere: set[str] = set()
    for each in told:
        try:
            # Which element of an array it was is not kept.
            known.append(tuple(Segment(tuple(map(_any, s.selectors)), s.descendant) for s in parse(each.field)))
            labels.append(each.labels)
        except CannotMask:
            anywhere.update(each.labels)
    paths = Paths(known, aliases)
    names = {each.folded for path in known for segment in path for each in segment.selectors if isinstance(each, Name)}
    return {
        place: frozenset(every if place == "*" else _selected(place, paths, names, labels) | anywhere)
        for place in places
    }


def _any(selector: Selector) -> Selector:
    return Wildcard() if isinstance(selector, Index | Slice) else selector


def _selected(place: str, paths: Paths, names: set[str], labels: list[tuple[str, ...]]) -> set[str]:
    step = paths.start()
    states: States = step.states
    ended = step.ended
    for found in _STEP.finditer(place):
        if found[2]:
            steps = [next(iter(paths.elements(states, 1)))]
        else:
            steps = [paths.member(states, name) for name in (names | {"*"} if found[1] == "*" else {found[1]})]
        states = tuple(sorted({state for each in steps for state in each.states}))
        ended = frozenset(number for each in steps for number in each.ended)
    return {label for number in ended for label in labels[number]}
