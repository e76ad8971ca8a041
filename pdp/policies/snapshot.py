"""One moment of the policy files: everything that is loaded, read into memory, with the library it goes with.

The folder holds `policies/<name>/<name>.rego` with tests beside them, and data in folders of known names. The library
`checkrein` always comes with the product: a folder of that name is accepted only if it is the library itself.
What is in the files is checked elsewhere.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from pdp.policies.problems import PolicyError, Problem

DATA_FOLDERS: Final = ("bindings", "classification", "exceptions", "hours", "owners", "parameters")

# The masks of the decision log: the package system.log, as OPA has it.
LOG_FOLDER: Final = "system/log/"

# They belong to the repository and are not loaded: documentation of inputs, schemas, cases for other tools.
_NOT_LOADED: Final = frozenset({"cases", "examples", "schemas"})
_DATA_FILES: Final = frozenset({"data.json", "data.yaml", "data.yml"})
_DEEPEST: Final = 12
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class Source:
    """One file: its name in the bundle, where it was read, what it held."""

    name: str
    path: Path
    content: bytes

    @property
    def is_test(self) -> bool:
        """Whether it is left out of bundles."""
        return self.name.endswith("_test.rego") or self.name.startswith("checkrein/testing/")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of one moment, by what they are."""

    root: Path
    library: tuple[Source, ...]
    policies: tuple[Source, ...]
    data: tuple[Source, ...]
    log: tuple[Source, ...] = ()

    @property
    def rego(self) -> tuple[Source, ...]:
        """Everything that is checked and tested."""
        return (*self.library, *self.policies, *self.log)

    @property
    def names(self) -> frozenset[str]:
        """The policies that can be bound."""
        return frozenset(PurePosixPath(each.name).parts[1] for each in self.policies if not each.is_test)


State = tuple[tuple[str, int, int, int], ...]
"""Name, time, size and inode of everything that would be loaded: equal states are equal files."""


def state(directory: Path) -> State:
    """What a watch compares. A file that vanishes meanwhile is not part of it."""
    found = []
    for entry, name in _walk(directory):
        try:
            status = entry.stat()
        except OSError:
            continue
        found.append((name, status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(sorted(found))


def contents(directory: Path) -> str:
    """A digest of everything that would be loaded, whole or broken. A file that cannot be read counts as empty."""
    sources = []
    for entry, name in _walk(directory):
        path = Path(entry.path)
        try:
            sources.append(_read(path, name))
        except PolicyError:
            sources.append(Source(name, path, b""))
    return digest(sources)


def take(directory: Path, library: Path) -> Snapshot:
    """Reads everything once. Raises PolicyError for what cannot be read or is not where it may be."""
    if not directory.is_dir():
        raise PolicyError.at(directory, 0, "is not a folder")
    sources = [_read(Path(entry.path), name) for entry, name in _walk(directory)]
    shipped = [_read(Path(entry.path), name) for entry, name in _walk(library)]
    own_library = [each for each in sources if each.name.startswith("checkrein/")]
    library_files = tuple(
        each for each in shipped if each.name.startswith("checkrein/") and each.name.endswith(".rego")
    )
    problems = [*_misplaced(sources), *_foreign_library(own_library, library_files, directory)]
    if problems:
        raise PolicyError(problems)
    policies = [each for each in sources if each.name.startswith("policies/") and each.name.endswith(".rego")]
    own = {PurePosixPath(each.name).parts[1] for each in policies}
    # A policy that ships with the product is there to be bound; a repository's own of that name takes its place.
    policies += [
        each
        for each in shipped
        if each.name.startswith("policies/")
        and each.name.endswith(".rego")
        and not each.is_test
        and PurePosixPath(each.name).parts[1] not in own
    ]
    return Snapshot(
        root=directory,
        # With the testing library, which the policies' tests use, and without the library's own tests.
        library=tuple(each for each in library_files if not each.name.endswith("_test.rego")),
        policies=tuple(policies),
        data=tuple(each for each in sources if each.name.split("/", 1)[0] in DATA_FOLDERS),
        log=tuple(each for each in sources if each.name.startswith(LOG_FOLDER) and each.name.endswith(".rego")),
    )


def digest(sources: Sequence[Source]) -> str:
    """Over names and contents, in the order of names."""
    total = hashlib.sha256()
    for each in sorted(sources, key=lambda source: source.name):
        for part in (each.name.encode(), each.content):
            total.update(len(part).to_bytes(8, "big"))
            total.update(part)
    return total.hexdigest()


def _walk(folder: Path | str, at: tuple[str, ...] = ()) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Every Rego and data file with its name; links are followed, because a mounted ConfigMap is made of them.

    A watch walks ten times a second, so nothing here makes an object for each file that it can do without.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        parts = (*at, entry.name)
        if entry.is_dir():
            if not (len(parts) == 1 and entry.name in _NOT_LOADED) and len(parts) < _DEEPEST:
                yield from _walk(entry.path, parts)
        elif entry.name.endswith(".rego") or entry.name in _DATA_FILES or _looks_like_data(parts):
            yield entry, "/".join(parts)


def _looks_like_data(parts: tuple[str, ...]) -> bool:
    return len(parts) > 1 and parts[0] != "checkrein" and PurePosixPath(parts[-1]).suffix in {".json", ".yaml", ".yml"}


def _read(path: Path, name: str) -> Source:
    try:
        return Source(name, path, path.read_bytes())
    except OSError as error:
        raise PolicyError.at(path, 0, f"cannot be read: {error.strerror}") from error


def _misplaced(sources: Sequence[Source]) -> Iterator[Problem]:
    """Files that nothing would load, or that would be loaded as something else: a misspelt folder loses its masks."""
    for each in sources:
        name = PurePosixPath(each.name)
        top = name.parts[0]
        if top == "checkrein":
            continue
        if each.name.startswith(LOG_FOLDER) and name.suffix == ".rego" and len(name.parts) == 3:
            continue
        if name.suffix == ".rego":
            if top != "policies" or len(name.parts) != 3:
                yield Problem(
                    each.path,
                    0,
                    "Rego is loaded from policies/NAME/ only, and masks of the decision log from system/log/",
                )
            elif not _NAME.match(name.parts[1]) or name.parts[1].endswith("_test"):
                yield Problem(each.path, 0, f"{name.parts[1]} is no name for a policy: small letters, digits and _,"
                              " a letter first, not ending in _test")  # fmt: skip
        elif top not in DATA_FOLDERS:
            near = difflib.get_close_matches(top, DATA_FOLDERS, 1)
            meant = f"; did you mean {near[0]}/?" if near else ""
            yield Problem(each.path, 0, f"data is loaded from {', '.join(DATA_FOLDERS)} only{meant}")
        elif name.name not in _DATA_FILES:
            yield Problem(each.path, 0, "a data file is called data.yaml or data.json")


def _foreign_library(own: Sequence[Source], library: Sequence[Source], directory: Path) -> Iterator[Problem]:
    if own and digest([each for each in own if each.name.endswith(".rego")]) != digest(library):
        differs = {(each.name, each.content) for each in library}
        first = next((each for each in own if (each.name, each.content) not in differs), None)
        yield Problem(
            first.path if first else directory / "checkrein",
            0,
            "belongs to checkrein, which comes with the product and cannot be defined or changed here",
        )
