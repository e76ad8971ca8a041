"""What is wrong with policy files, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake; line 0 where the whole file or folder is meant."""

    path: Path
    line: int
    message: str

    @property
    def place(self) -> str:
        """Where, without what: the words may hold what stands in the file."""
        return f"{self.path}:{self.line}" if self.line else f"{self.path}"

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class PolicyError(Exception):
    """The policy files cannot be put in force; holds at least one problem, in the order of files and lines."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))

    @property
    def places(self) -> tuple[str, ...]:
        """Where they are, each place once."""
        return tuple(dict.fromkeys(each.place for each in self.problems))

    @classmethod
    def at(cls, path: Path, line: int, message: str) -> PolicyError:
        """One problem."""
        return cls([Problem(path, line, message)])
