"""One bundle for OPA from checked files; building is pure, keeping the last good one is not.

The revision is a digest of everything that decides: library, policies, data, bindings. It stands in the bundle, so
that an answer can name it from the same evaluation. The bundle also carries what is needed to build it again for other
resources: the bindings as people wrote them.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib.metadata
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from pdp.input import Resource
from pdp.library import library_dir
from pdp.policies.bindings import expand, read
from pdp.policies.checks import Checked
from pdp.policies.problems import PolicyError
from pdp.policies.reads import on_demand
from pdp.policies.snapshot import DATA_FOLDERS, LOG_FOLDER, Snapshot, Source, digest, take

ROOTS: Final = ("checkrein", "policies", "system/log", *DATA_FOLDERS)

# One document for one evaluation: the decision, and what made it.
_ANSWER: Final = Source(
    "checkrein/answer/answer.rego",
    Path("checkrein/answer/answer.rego"),
    b"""package checkrein.answer

result := data.checkrein.decision.result

revision := data.checkrein.built.revision

version := data.checkrein.built.version
""",
)


@dataclass(frozen=True, slots=True)
class Bundle:
    """What OPA loads. `reads` names, for each policy, the paths that travel on demand and that it can read."""

    content: bytes
    revision: str
    version: str
    bindings: Mapping[str, Sequence[Mapping[str, str]]]
    reads: Mapping[str, Sequence[str]]
    # Whether it says what of the decision log is masked.
    masks_log: bool = False
    # Who answers for which data: by resource, then by dataset.
    owners: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    # How fields are classified: by resource, by dataset, by field.
    labels: Mapping[str, Mapping[str, Mapping[str, Sequence[str]]]] = field(default_factory=dict)

    def input_paths(self, resource_id: str) -> tuple[str, ...]:
        """What of it the policies bound to the resource can read; all for a resource that is not known."""
        if resource_id not in self.bindings:
            return on_demand()
        bound = [binding["policy"] for binding in self.bindings[resource_id]]
        found = {path for policy in bound for path in self.reads.get(policy, on_demand())}
        return tuple(path for path in on_demand() if path in found)


@functools.cache
def library_version() -> str:
    """Names the release and the library's content: a bundle of another one is not used."""
    library = library_dir()
    files = [each for each in take(library, library).library if not each.is_test]
    try:
        release = importlib.metadata.version("checkrein")
    except importlib.metadata.PackageNotFoundError:
        release = "unreleased"
    return f"{release}+{digest(files)[:16]}"


def build(
    snapshot: Snapshot, data: Mapping[str, Any], bindings: Any, checked: Checked, resources: Sequence[Resource]
) -> Bundle:
    """The bundle of checked files. `data` is without bindings, which are given as they were written."""
    sources = [each for each in snapshot.rego if not each.is_test]
    reads = {policy: list(paths) for policy, paths in checked.reads.items()}
    return _assemble([*sources, _ANSWER], data, bindings, reads, resources, library_version())


def _assemble(
    sources: Sequence[Source],
    data: Mapping[str, Any],
    bindings: Any,
    reads: Mapping[str, Sequence[str]],
    resources: Sequence[Resource],
    version: str,
) -> Bundle:
    known = {PurePosixPath(each.name).parts[1] for each in sources if each.name.startswith("policies/")}
    parsed, problems = read(bindings, path=Path("bindings"), lines=(), known=known)
    if problems:
        raise PolicyError(problems)
    expanded = expand(parsed, resources)
    document = {**data, "bindings": expanded}
    built = {"version": version, "reads": reads, "bindings": bindings}
    revision = _revision(sources, document, built)
    document["checkrein"] = {"built": {**built, "revision": revision}}
    manifest = {"revision": revision, "roots": list(ROOTS), "rego_version": 1}
    files = {each.name: each.content for each in sources}
    files[".manifest"] = json.dumps(manifest).encode()
    files["data.json"] = json.dumps(document, sort_keys=True).encode()
    masks_log = any(each.name.startswith(LOG_FOLDER) for each in sources)
    return Bundle(_pack(files), revision, version, expanded, reads, masks_log, _owners(data), _labels(data))


def _owners(data: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    """As far as it has the shape that policies expect; it is for people to read, and decides nothing here."""
    found: dict[str, dict[str, list[str]]] = {}
    owners = data.get("owners")
    for resource, datasets in owners.items() if isinstance(owners, dict) else ():
        for dataset, names in datasets.items() if isinstance(datasets, dict) else ():
            if isinstance(names, list):
                found.setdefault(str(resource), {})[str(dataset)] = [name for name in names if isinstance(name, str)]
    return found


def _labels(data: Mapping[str, Any]) -> dict[str, dict[str, dict[str, list[str]]]]:
    """Likewise: it goes on record with what is shown."""
    found: dict[str, dict[str, dict[str, list[str]]]] = {}
    classification = data.get("classification")
    for resource, datasets in classification.items() if isinstance(classification, dict) else ():
        for dataset, fields in datasets.items() if isinstance(datasets, dict) else ():
            for name, labels in fields.items() if isinstance(fields, dict) else ():
                if isinstance(labels, list):
                    known = [label for label in labels if isinstance(label, str)]
                    found.setdefault(str(resource), {}).setdefault(str(dataset), {})[str(name)] = known
    return found


def _revision(sources: Sequence[Source], document: Mapping[str, Any], built: Mapping[str, Any]) -> str:
    canonical = json.dumps([document, built], sort_keys=True, ensure_ascii=True).encode()
    return "sha256:" + hashlib.sha256(digest(sources).encode() + canonical).hexdigest()


def is_of(content: bytes, revision: str) -> bool:
    """Whether a kept bundle is that of the revision: it says so, and its files have that digest."""
    try:
        files = unpacked(content)
        document = json.loads(files.pop("data.json"))
        built = document.pop("checkrein")["built"]
        manifest = json.loads(files.pop(".manifest"))
        sources = [Source(name, Path(name), text) for name, text in files.items()]
        said = {built.pop("revision"), manifest["revision"], _revision(sources, document, built)}
    except (OSError, EOFError, KeyError, TypeError, ValueError, tarfile.TarError):
        return False
    return said == {revision}


def _pack(files: Mapping[str, bytes]) -> bytes:
    """The same files give the same bytes: no times, no owners, one order."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size = len(files[name])
            entry.mode = 0o600
            archive.addfile(entry, io.BytesIO(files[name]))
    return packed.getvalue()


def keep(bundle: Bundle, path: Path) -> None:
    """Makes it the last good one: the whole of it or nothing, also when the power goes."""
    beside = path.with_suffix(".new")
    with beside.open("wb") as file:
        file.write(bundle.content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def last_good(path: Path, resources: Sequence[Resource]) -> Bundle | None:
    """The kept bundle with its bindings expanded for the present resources; None if there is none.

    Raises PolicyError if it is not readable or was built with another library.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    return reopened(content, resources, path)


def reopened(content: bytes, resources: Sequence[Resource], path: Path = Path("bundle")) -> Bundle:
    """A bundle that was kept, with its bindings expanded for the present resources; `path` names it in errors.

    Raises PolicyError if it is not readable or was built with another library.
    """
    try:
        files = unpacked(content)
        data = json.loads(files.pop("data.json"))
        built = data.pop("checkrein")["built"]
        version, reads, bindings = built["version"], built["reads"], built["bindings"]
        data.pop("bindings")
        files.pop(".manifest")
    except (OSError, EOFError, KeyError, TypeError, ValueError, tarfile.TarError) as error:
        raise PolicyError.at(path, 0, f"the kept bundle cannot be read: {error}") from error
    if version != library_version():
        raise PolicyError.at(path, 0, f"the kept bundle is of version {version}, this is {library_version()}")
    sources = [Source(name, path, content) for name, content in files.items()]
    return _assemble(sources, data, bindings, reads, resources, version)


def unpacked(content: bytes) -> dict[str, bytes]:
    """The files of a bundle by their names. ValueError for one that would lie outside of it."""
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        for entry in archive:
            if PurePosixPath(entry.name).is_absolute() or ".." in PurePosixPath(entry.name).parts:
                raise ValueError("a name leads out of the bundle")
            if (file := archive.extractfile(entry)) is not None:
                files[entry.name] = file.read()
    return files
