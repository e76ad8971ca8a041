"""Which fields an execution showed, for the record: every column that it read, as its tree says.

A sound superset: a column that only an expression or a condition reads counts as shown, because what came back follows
from it. Masked is what the grant masks; under a mask nothing that is computed from such a column is shown at all. What
is not understood in full may have shown anything.
"""

from __future__ import annotations

from collections.abc import Iterable

from pep.core.disclosed import ANY, Disclosed, Field
from pep.postgres.classification import Classification


def shown(statements: Iterable[Classification], masked: frozenset[Field], rows: int) -> Disclosed:
    """Of an execution of these statements that something came back of."""
    read: set[Field] = set()
    for statement in statements:
        if statement.opaque:
            read.add((ANY, ANY))
        read.update((column["dataset"], column["field"]) for column in statement.properties["columns"])
    return Disclosed(frozenset(read - masked), frozenset(read & masked), rows)
