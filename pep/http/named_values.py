"""Masked fields whose names stand in a document as values: a table with its columns beside it, a name with its value.

An API may write the same rows as objects, as a table (`columns` and `rows`), as changes (`path` and `value`) or as
pairs, and many let the client choose by a parameter. A mask goes by names, so what such a name stands for is masked as
well, with nothing in its place. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from pep.http.documents import Value
from pep.http.mentions import folded

# Members in which the value of a field is, where another member has the field's name.
_VALUES: Final = frozenset({
    "after", "before", "content", "current", "data", "from", "input", "new", "newValue", "new_value", "old", "oldValue",
    "old_value", "previous", "raw", "text", "to", "val", "value", "values",
})  # fmt: skip
_LONGEST_NAME: Final = 256
_MOST_COLUMNS: Final = 4096


class NamedValues:
    """Of fields with these names, folded. `count` is how many values have been taken out."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)
        self.count = 0

    def members(self, members: Mapping[str, Value]) -> Mapping[str, Value]:
        """The members of an object, without what one of them names."""
        if not _VALUES.isdisjoint(members) and any(self._is_name(value) for value in members.values()):
            members = {
                name: self._without(value) if name in _VALUES and not self._is_name(value) else value
                for name, value in members.items()
            }
        for name, value in members.items():
            if type(value) is list and value and (places := self._columns(value)):
                members = {
                    other: self._table(each, len(value), places) if other != name else each
                    for other, each in members.items()
                }
        return members

    def pair(self, values: list[Value]) -> list[Value]:
        """An element of an array that is an array itself: a name and its value."""
        if len(values) == 2 and self._is_name(values[0]) and not self._is_name(values[1]):
            return [values[0], self._without(values[1])]
        return values

    def _without(self, value: Value) -> Value:
        self.count += value is not None
        return None

    def _is_name(self, value: Value) -> bool:
        """Also behind the steps of a path, as in /customer/ssn and customer.ssn."""
        if not isinstance(value, str) or len(value) > _LONGEST_NAME:
            return False
        return folded(value.rpartition("/")[2].rpartition(".")[2]) in self._names

    def _columns(self, values: list[Value]) -> list[int]:
        """The places of those names in what may be a table's columns: names, or objects that have them."""
        first = values[0]
        # Rows have no name, and columns are all of one kind.
        if len(values) > _MOST_COLUMNS or not (type(first) is str or self._is_column(first)):
            return []
        return [
            at
            for at, each in enumerate(values)
            if self._is_name(each) or (isinstance(each, dict) and self._is_name(each.get("name")))
        ]

    def _is_column(self, value: Value) -> bool:
        return isinstance(value, dict) and isinstance(value.get("name"), str)

    def _table(self, value: Value, width: int, places: list[int]) -> Value:
        """Rows of that many cells without those at the places."""
        if not isinstance(value, list):
            return value
        return [
            [self._without(cell) if at in places else cell for at, cell in enumerate(row)]
            if isinstance(row, list) and len(row) == width
            else row
            for row in value
        ]
