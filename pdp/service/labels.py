"""How the policies' data classify the fields that an action touches: told with a grant, for the record.

Pure. Nothing is decided by it: that the policies do, with the same data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from pdp.v1 import decision_pb2

Classification = Mapping[str, Mapping[str, Sequence[str]]]
"""Dataset -> field -> labels, of one resource."""

_ANY: Final = "*"
# With one decision. Where there are more, every field may be any of them.
MOST: Final = 512


def labels_of(properties: Mapping[str, Any], classified: Classification) -> list[decision_pb2.FieldLabels]:
    """Of the fields that `properties`, a protocol's own, name; of all where they name none, or not all of them."""
    if not classified:
        return []
    named = properties.get("columns", properties.get("fields"))
    if named is None or properties.get("opaque") is not False:
        found = [(dataset, field, labels) for dataset, fields in classified.items() for field, labels in fields.items()]
    else:
        found = list(_named(named, classified))
    if len(found) > MOST:
        found = [(_ANY, _ANY, sorted({label for *_, labels in found for label in labels}))]
    return [decision_pb2.FieldLabels(dataset=each[0], field=each[1], labels=each[2]) for each in found]


def _named(named: Iterable[Mapping[str, Any]], classified: Classification) -> Iterator[tuple[str, str, Sequence[str]]]:
    for each in named:
        labels = classified.get(each["dataset"], {}).get(each["field"])
        if labels:
            yield each["dataset"], each["field"], labels
