"""How many rows a statement may change: what the server's count says of it, and the words where that is too many.

Pure. The count comes with CommandComplete, when the rows have changed already, so a statement that is limited runs
where it can still be undone, and nothing of its result is shown before (`results.Execution`, `enclosure`). Only a
statement whose count says every row that it changes is let through under a limit: what triggers, rules and cascading
keys change besides, what WITH changes inside, and what COPY brings has no count that could be relied on.

Reference: PostgreSQL documentation, "Message Formats", CommandComplete.
"""

from __future__ import annotations

import re
from typing import Final

from pep.core.model import Deny, Grant, Reason
from pep.postgres import denial
from pep.postgres.backend import ErrorResponse
from pep.postgres.classification import Classification
from pep.postgres.findings import Findings

# Rows of RETURNING that are held back until the count is known.
MOST_HELD: Final = 1024 * 1024

_TAG: Final = re.compile(r"(?:INSERT \d+|UPDATE|DELETE|MERGE) (\d+)", re.ASCII)
_QUIET: Final = frozenset({"read", "catalog", "transaction", "setting"})
_LOCKS: Final = frozenset({"read", "lock"})


def count_of(tag: str) -> int | None:
    """The rows that a statement with this tag changed; None where the tag does not say."""
    found = _TAG.fullmatch(tag)
    return None if found is None else int(found[1])


def uncounted(found: Findings, *, query: bool) -> str:
    """Why the server's count does not say every row that the statement changes; "" where it does."""
    if query:
        return "it changes rows inside of a query, and the server does not count them"
    if found.modifications > 1:
        return "it changes rows in several places, and the server counts one of them"
    if found.followers:
        return f"rows of {min(found.followers)} change with it by keys, and are not counted"
    if found.reaches:
        return f"it does more than the server counts: {min(found.reaches)}"
    return ""


def objection(statement: Classification) -> str | None:
    """Why the statement must not start under a limit of changed rows, in words for the client; None if it may."""
    if statement.opaque:
        return _refused("it is not understood in full")
    if not statement.uncounted or _changes_nothing(statement):
        return None
    if statement.copy == "in":
        return _refused("COPY brings rows before they are counted; use INSERT")
    return _refused(statement.uncounted)


def _changes_nothing(statement: Classification) -> bool:
    if statement.properties["reaches_beyond"]:
        return False
    if statement.class_ in _QUIET:
        return not statement.writes
    # SELECT ... FOR UPDATE
    accesses = {relation["access"] for relation in statement.properties["relations"]}
    return statement.class_ == "write" and statement.kind == "select" and accesses <= _LOCKS


def _refused(why: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in why)[:160]
    return f"this statement is refused: policy limits how many rows it may change, and {printable}"


def too_many(grant: Grant, count: int | None, most: int) -> ErrorResponse:
    """The error in place of a result whose statement is undone."""
    rows = "one row" if most == 1 else f"{most} rows"
    done = "changes no number of rows that the server says" if count is None else f"changes {count} rows"
    words = f"it {done}, and may change at most {rows}; it had no effect"
    instead = (f"Change at most {rows} with one statement, for example by a narrower WHERE.",)
    reason = Reason("limit-affected", words, instead=instead)
    return denial.over_limit(Deny(grant.decision_ids[0], grant.policy_revision, (reason,)))


def too_long(grant: Grant) -> ErrorResponse:
    """What it returns cannot be held back until the count is known."""
    words = f"it returns more than {MOST_HELD} bytes, which must wait until its rows are counted; it had no effect"
    reason = Reason("limit-affected", words, instead=("Return fewer columns, or none.",))
    return denial.over_limit(Deny(grant.decision_ids[0], grant.policy_revision, (reason,)))


def in_slices(grant: Grant) -> ErrorResponse:
    """It would return rows before all of them are counted."""
    words = "its rows are counted before they are shown, so they cannot be fetched a few at a time; it had no effect"
    reason = Reason("limit-affected", words, instead=("Fetch all the rows that it returns at once.",))
    return denial.over_limit(Deny(grant.decision_ids[0], grant.policy_revision, (reason,)))
