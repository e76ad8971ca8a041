"""What a response showed: which fields came back as they are, which masked, how they are classified, how many rows.

Part of a response's event, for whoever asks later who was shown what. A protocol says which fields; it may name more
than there were, never fewer. A field that is not known by name is "*", and then stands for any. Names of fields alone:
no value is ever among them. Pure.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pep.core.model import FieldLabels, Grant

ANY: Final = "*"
MOST_FIELDS: Final = 256
"""Of one response; more are one field that stands for any."""

Field = tuple[str, str]
"""A dataset, and a field of it."""


@dataclass(frozen=True, slots=True)
class Disclosed:
    """The fields of one response. One that is in both came back in clear somewhere.

    `labels` are of fields that the decision's labels do not name as they are named here; others are found by their
    names.
    """

    clear: frozenset[Field] = frozenset()
    masked: frozenset[Field] = frozenset()
    rows: int = 0
    labels: Mapping[Field, frozenset[str]] = field(default_factory=dict)


def disclosure(grant: Grant, said: Disclosed) -> Mapping[str, Any]:
    """The facts of the response's event: {clear, masked} as dataset -> field -> labels, and rows."""
    labels = _Labels(grant.labels, said.labels)
    facts: dict[str, Any] = {"rows": said.rows}
    for name, fields in (("clear", said.clear), ("masked", said.masked - said.clear)):
        if len(fields) > MOST_FIELDS:
            fields = _shortened(fields)
        if fields:
            facts[name] = labels.of(fields)
    return {"disclosed": facts}


def _shortened(fields: Iterable[Field]) -> frozenset[Field]:
    datasets = {dataset for dataset, _ in fields}
    return frozenset({(ANY, ANY)} if len(datasets) > MOST_FIELDS else {(dataset, ANY) for dataset in datasets})


class _Labels:
    """What the decision said of the fields that it was about."""

    def __init__(self, told: Iterable[FieldLabels], found: Mapping[Field, frozenset[str]]) -> None:
        self._told = tuple(told)
        self._found = found
        self._named: dict[Field, set[str]] = {}
        for each in self._told:
            self._named.setdefault((each.dataset, each.field), set()).update(each.labels)

    def of(self, fields: Iterable[Field]) -> dict[str, dict[str, list[str]]]:
        found: dict[str, dict[str, list[str]]] = {}
        for dataset, name in sorted(fields):
            found.setdefault(dataset, {})[name] = sorted(self._field(dataset, name))
        return found

    def _field(self, dataset: str, name: str) -> Iterable[str]:
        if name == ANY:
            # Whatever labels any field has that it may stand for, those that were too many to be named among them.
            told = (each.labels for each in self._told if dataset == ANY or each.dataset in (dataset, ANY))
            found = (labels for (of, _), labels in self._found.items() if dataset in (of, ANY))
            return set(itertools.chain.from_iterable((*told, *found)))
        if (known := self._found.get((dataset, name))) is not None:
            return known
        return self._named.get((dataset, name), set()) | self._named.get((ANY, ANY), set())
