"""What a response showed, for the record: fields are places in its documents, the dataset is what was asked for.

Only documents that were looked into, because something had to be masked, limited or redacted, are known by their
places; of all others it is said that any field may have come back in clear. Of bodies alone: fields of the head are not
counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pep.core.disclosed import ANY, Disclosed, disclosure
from pep.core.model import Grant
from pep.http.classify import Request
from pep.http.places import Seen, labels_at

# A word, or a version. Whatever else stands in a path is mostly somebody's or something's number.
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z_.-]{0,47}|v[0-9]{1,3}")
_LONGEST: Final = 400


def dataset(request: Request) -> str:
    """METHOD host/path, the path as the API's description has it, or with `{}` for what is no word."""
    properties = request.actions[0].properties
    segments: Iterable[str] = properties["segments"]
    path = properties.get("route") or "/" + "/".join(each if _WORD.fullmatch(each) else "{}" for each in segments)
    return f"{properties['method']} {properties['host'].lower()}{path}"[:_LONGEST]


def disclosed(
    of: str, grant: Grant, seen: Iterable[Seen], rows: int, aliases: Mapping[str, frozenset[str]]
) -> Mapping[str, Any]:
    """The facts of a response, of that dataset, of which something came back; `seen` empty: it was not looked into."""
    found = tuple(seen)
    if not found and not grant.labels:
        return {"disclosed": {"rows": rows, "clear": {of: {ANY: []}}}}
    found = found or ((ANY, True, False),)
    labels = labels_at([place for place, _, _ in found], grant.labels, aliases)
    said = Disclosed(
        frozenset((of, place) for place, clear, _ in found if clear),
        frozenset((of, place) for place, _, masked in found if masked),
        rows,
        {(of, place): names for place, names in labels.items()},
    )
    return disclosure(grant, said)
