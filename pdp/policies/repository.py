"""The policy repository: a folder of files on one side, one checked bundle on the other.

Nothing is loaded that was not read, checked and tested in this one pass; what is wrong is said with file and line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pdp.input import Resource
from pdp.library import library_dir
from pdp.policies import bindings, snapshot
from pdp.policies.bundle import Bundle, build
from pdp.policies.checks import Checked, Checks
from pdp.policies.data import item_lines, load_data
from pdp.policies.problems import PolicyError
from pdp.policies.snapshot import Snapshot, Source
from pdp.policies.watch import QUIET

_ATTEMPTS: Final = 25


@dataclass(frozen=True, slots=True)
class Files:
    """What was read in one moment: Rego, data without bindings, and the bindings twice, as written and expanded."""

    snapshot: Snapshot
    data: Mapping[str, Any]
    bindings: Any
    expanded: Mapping[str, Any]

    @property
    def document(self) -> dict[str, Any]:
        """The data as policies see it."""
        return {**self.data, "bindings": self.expanded}


class PolicyRepository:
    """One folder, for the resources that the decision service serves."""

    def __init__(self, directory: Path, resources: Sequence[Resource], checks: Checks) -> None:
        self._directory = directory
        self._resources = tuple(resources)
        self._checks = checks

    def state(self) -> snapshot.State:
        """What changes when a file does."""
        return snapshot.state(self._directory)

    def contents(self) -> str:
        """The same for contents alone: equal after a restart, and on every machine with these files."""
        return snapshot.contents(self._directory)

    async def bundle(self) -> Bundle:
        """Reads, checks, tests and builds. Raises PolicyError; OpaFailed when OPA does not run."""
        files, checked = await self.check()
        return build(files.snapshot, files.data, files.bindings, checked, self._resources)

    async def check(self) -> tuple[Files, Checked]:
        """Reads, checks and tests."""
        files = await self._read_whole()
        return files, await self._checks.run(files.snapshot, files.document)

    async def _read_whole(self) -> Files:
        """Reads again while the files change under the reading: a mixture of two moments may lack a rule of both."""
        for _ in range(_ATTEMPTS):
            before = await asyncio.to_thread(self.state)
            outcome: Files | PolicyError
            try:
                outcome = await asyncio.to_thread(read, self._directory, self._resources)
            except PolicyError as error:
                outcome = error
            if await asyncio.to_thread(self.state) == before:
                if isinstance(outcome, PolicyError):
                    raise outcome
                return outcome
            await asyncio.sleep(QUIET)
        raise PolicyError.at(self._directory, 0, "the files do not stop changing")


def read(directory: Path, resources: Sequence[Resource]) -> Files:
    """Everything in the folder, read once, without asking OPA. Raises PolicyError."""
    taken = snapshot.take(directory, library_dir())
    is_binding = [each.name.startswith("bindings/") for each in taken.data]
    data = load_data(each for each, bound in zip(taken.data, is_binding, strict=True) if not bound)
    written = [each for each, bound in zip(taken.data, is_binding, strict=True) if bound]
    raw, expanded = _bindings(written, directory, taken, resources)
    return Files(taken, data, raw, expanded)


def _bindings(
    written: Sequence[Source], directory: Path, taken: Snapshot, resources: Sequence[Resource]
) -> tuple[Any, Mapping[str, Any]]:
    if len(written) != 1 or written[0].name.count("/") != 1:
        raise PolicyError.at(directory / "bindings", 0, "the bindings are one file, bindings/data.yaml")
    source = written[0]
    raw = load_data([source]).get("bindings", [])
    found, problems = bindings.read(raw, path=source.path, lines=item_lines(source), known=taken.names)
    if problems:
        raise PolicyError(problems)
    return raw, bindings.expand(found, resources)
