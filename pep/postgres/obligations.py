"""What the obligations of a grant mean for one PostgreSQL execution.

Pure: from the obligations, the classification and the catalog come `Duties`, which say whether the execution may start
at all, whether a RowDescription keeps to what was granted, and which output columns are masked. Columns are found by
table OID and attribute number, as the server itself names the origin of an output column. In this version an output
column without such an origin is refused while a mask is in force: what it is computed from is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

from pep.core.model import (
    FieldMask,
    LimitAffected,
    LimitRows,
    MaskFields,
    MaskMethod,
    NullMask,
    Obligation,
    OnExcess,
    ReadOnly,
    RecordSession,
    RedactText,
    RemoveHeaders,
    SetHeaders,
    TimeLimit,
    Unsupported,
)
from pep.postgres.affected import objection
from pep.postgres.backend import Column
from pep.postgres.catalog import Catalog, Relation
from pep.postgres.classification import Classification
from pep.postgres.masks import Cell, cell_mask

SUPPORTED: Final = frozenset({"mask", "limit_rows", "limit_affected", "time_limit", "read_only", "record"})

_READING: Final = frozenset({"read", "catalog", "transaction", "setting"})


@dataclass(frozen=True, slots=True)
class Duties:
    """The obligations of one execution, resolved against the catalog."""

    masks: Mapping[tuple[int, int], MaskMethod] = field(default_factory=dict)
    masked_names: frozenset[str] = frozenset()
    # The same as what they mean here: a dataset and a field of it, of parents and children too.
    masked_fields: frozenset[tuple[str, str]] = frozenset()
    masking: bool = False
    limit: int | None = None
    affected: int | None = None
    seconds: float | None = None

    def strangers(self, columns: Sequence[Column], statement: Classification) -> set[int]:
        """Tables that the server says these columns are of, and the statement's tree does not."""
        if statement.opaque:
            return set()
        return {column.table_oid for column in columns if column.table_oid} - statement.reached

    def objection(self, columns: Sequence[Column], statement: Classification) -> str | None:
        """Why a result with these columns must not be shown, in words for the client; None if it may."""
        if self.strangers(columns, statement):
            return "this statement is refused: its result comes from another table than the one that was decided about"
        if not self.masking:
            return None
        for column in columns:
            if column.table_oid not in statement.origins or column.attribute == 0:
                return (
                    f'this statement is refused: output column "{_printable(column.name)}" is not a plain column of a '
                    "table, and the statement touches masked columns; name plain columns of the tables themselves, "
                    "do not repeat it unchanged"
                )
        return None

    def cells(self, columns: Sequence[Column], keys: Mapping[str, bytes]) -> dict[int, Cell]:
        """The masked columns of a result by index."""
        return {
            index: cell_mask(method, column.type_oid, column.format, keys)
            for index, column in enumerate(columns)
            if (method := self.masks.get((column.table_oid, column.attribute))) is not None
        }


def duties(obligations: Iterable[Obligation], statements: Sequence[Classification], catalog: Catalog) -> Duties:
    """The union over all obligations: the smallest limits, every mask."""
    masks: dict[tuple[int, int], MaskMethod] = {}
    names: set[str] = set()
    limits: list[int] = []
    affected: list[int] = []
    seconds: list[float] = []
    masking = False
    for obligation in obligations:
        match obligation:
            case MaskFields(fields):
                masking = True
                for mask in fields:
                    _resolve(mask, statements, catalog, masks)
                    names.add(f"{mask.dataset}.{mask.field}")
            case LimitRows(maximum):
                limits.append(maximum)
            case LimitAffected(maximum):
                affected.append(maximum)
            case TimeLimit(limit):
                seconds.append(limit)
            case ReadOnly() | RecordSession() | RedactText() | SetHeaders() | RemoveHeaders() | Unsupported():
                # ReadOnly is a session's (see `objection_before`), RecordSession the record's; of the others, none ever
                # comes with a grant here.
                pass
            case never:
                assert_never(never)
    named = frozenset(_fields(masks, catalog))
    return Duties(
        masks,
        frozenset(names),
        named,
        masking,
        min(limits, default=None),
        min(affected, default=None),
        min(seconds, default=None),
    )


def _fields(masks: Iterable[tuple[int, int]], catalog: Catalog) -> Iterable[tuple[str, str]]:
    for oid, attribute in masks:
        relation = catalog.by_oid(oid)
        if relation is not None:
            names = (column.name for column in relation.columns if column.attnum == attribute)
            yield from ((catalog.dataset(relation), name) for name in names)


def _resolve(
    mask: FieldMask,
    statements: Sequence[Classification],
    catalog: Catalog,
    masks: dict[tuple[int, int], MaskMethod],
) -> None:
    """Every (table, attribute) that carries the field: of the dataset itself, of its parents and of its children."""
    reached = frozenset().union(*(statement.reached for statement in statements))
    for oid in reached:
        relation = catalog.by_oid(oid)
        if relation is None or catalog.dataset(relation) != mask.dataset:
            continue
        family = {oid, *catalog.descendants(oid), *catalog.ancestors(oid)}
        for member in filter(None, map(catalog.by_oid, family)):
            for attribute in _attributes(mask, member):
                # Two policies' words for one attribute that do not agree: nothing of it is shown.
                before = masks.setdefault((member.oid, attribute), mask.method)
                if before != mask.method:
                    masks[member.oid, attribute] = NullMask()


def _attributes(mask: FieldMask, relation: Relation) -> Iterable[int]:
    return (
        column.attnum
        for column in relation.columns
        if (column.name == mask.field or mask.field == "*") and column.name not in mask.except_
    )


def objection_before(
    session: Sequence[Obligation], granted: Sequence[Obligation], statement: Classification
) -> str | None:
    """Why a statement must not start under these obligations, in words for the client; None if it may."""
    if any(isinstance(o, ReadOnly) for o in (*session, *granted)) and not _only_reads(statement):
        return "this statement is refused: this session may only read"
    for obligation in granted:
        match obligation:
            case MaskFields() if statement.opaque:
                return "this statement is refused: it is not understood in full, so its result cannot be masked"
            case MaskFields() if statement.copy == "out":
                return "this statement is refused: COPY of masked columns; use SELECT with plain columns"
            case LimitRows(path=path) if path:
                return "this statement is refused: policy limits a list inside of an answer, and this answers with rows"
            case LimitRows(on_excess=OnExcess.TRUNCATE):
                return "this statement is refused: policy asks to cut its result short, which this proxy cannot do yet"
            case LimitRows() if statement.copy == "out":
                return "this statement is refused: COPY under a limit of rows; use SELECT with LIMIT"
            case LimitRows() if statement.collecting:
                return "this statement is refused: it collects rows into one value under a limit of rows"
            case LimitRows() if statement.writes and statement.returns_rows:
                return "this statement is refused: it writes and returns rows under a limit of rows"
            case LimitAffected() if (reason := objection(statement)) is not None:
                return reason
            case _:
                continue
    return None


def _only_reads(statement: Classification) -> bool:
    beyond = statement.properties["reaches_beyond"]
    return statement.class_ in _READING and not statement.writes and not statement.opaque and not beyond


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:63]
