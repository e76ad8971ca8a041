"""The trace of one evaluation, as `opa eval --explain=full --format=pretty` prints it, read for what matters; pure.

Each line names a place, and with bars how deep it is: a rule is entered, its conditions are evaluated, one fails or the
rule is left with a value. A rule of a policy that was left contributed; of one that was entered and never left, the
conditions that failed are what was missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from pdp.policies.contract import CONTRIBUTIONS

_LINE: Final = re.compile(r"(?P<file>\S+):(?P<line>\d+)\s+(?P<bars>(?:\| )*)(?P<op>[A-Z][a-z]+) (?P<text>.*)")
_CONTRIBUTION: Final = re.compile(rf"data\.policies\.(?P<policy>\w+)\.(?P<kind>{'|'.join(CONTRIBUTIONS)})\b")
_CODE: Final = re.compile(r'"code":\s*"([^"]*)"')
_END_OF_RULE: Final = re.compile(r"\n(?=\}|\n)")


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file, with its text."""

    file: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that could contribute; where it stopped, from its own condition inwards."""

    policy: str
    kind: str
    code: str
    file: str
    line: int
    stopped_at: tuple[Place, ...] = ()


@dataclass(slots=True)
class _Entered:
    depth: int
    rule: Rule | None
    # What failed since the rule's own condition was begun, with its depth; and where the rule stopped last.
    below: list[tuple[int, str, int]] = field(default_factory=list)
    stopped: tuple[tuple[str, int], ...] = ()

    def fail(self, depth: int, file: str, line: int) -> None:
        if depth > self.depth + 1:
            self.below.append((depth, file, line))
            return
        inwards = sorted(self.below, key=lambda each: each[0])
        self.stopped = tuple(dict.fromkeys([(file, line), *((file, line) for _, file, line in inwards)]))


def read(trace: Iterable[str], sources: Mapping[str, str]) -> tuple[list[Rule], list[Rule]]:
    """Rules that contributed, and rules that did not, in the order of their places; `sources` by name of file."""
    reading = _Reading(sources)
    for text in trace:
        if (found := _LINE.match(text)) is not None:
            reading.event(found["op"], found["text"], found["file"], int(found["line"]), len(found["bars"]) // 2)
    return reading.end()


class _Reading:
    """What was entered and not left yet, and what is known of the rules so far."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = sources
        self._open: list[_Entered] = []
        self._contributed: dict[tuple[str, int], Rule] = {}
        self._missed: dict[tuple[str, int], Rule] = {}

    def event(self, op: str, text: str, file: str, line: int, depth: int) -> None:
        match op:
            case "Enter":
                self._close(depth)
                self._open.append(_Entered(depth, _rule(text, file, line, self._sources)))
            case "Eval":
                for each in self._open:
                    if each.depth + 1 == depth:
                        each.below.clear()
            case "Fail":
                for each in self._open:
                    if each.rule is not None and each.depth < depth:
                        each.fail(depth, file, line)
            case "Exit":
                if (rule := _rule(text, file, line, self._sources)) is not None:
                    self._contributed[file, line] = rule
            case _:
                pass

    def end(self) -> tuple[list[Rule], list[Rule]]:
        self._close(0)
        missed = [rule for place, rule in self._missed.items() if place not in self._contributed]
        return sorted(self._contributed.values(), key=_place), sorted(missed, key=_place)

    def _close(self, depth: int) -> None:
        """Takes leave of everything that is not above this depth."""
        while self._open and self._open[-1].depth >= depth:
            entered = self._open.pop()
            if entered.rule is not None and entered.stopped:
                stopped = tuple(Place(file, line, _text(self._sources, file, line)) for file, line in entered.stopped)
                self._missed[entered.rule.file, entered.rule.line] = replace(entered.rule, stopped_at=stopped)


def _rule(text: str, file: str, line: int, sources: Mapping[str, str]) -> Rule | None:
    found = _CONTRIBUTION.match(text)
    if found is None:
        return None
    return Rule(found["policy"], found["kind"], _code(sources.get(file, ""), line), file, line)


def _code(source: str, line: int) -> str:
    below = "\n".join(source.splitlines()[line - 1 :])
    found = _CODE.search(_END_OF_RULE.split(below, maxsplit=1)[0])
    return found[1] if found else ""


def _text(sources: Mapping[str, str], file: str, line: int) -> str:
    lines = sources.get(file, "").splitlines()
    return lines[line - 1].strip() if 0 < line <= len(lines) else ""


def _place(rule: Rule) -> tuple[str, int]:
    return rule.file, rule.line
