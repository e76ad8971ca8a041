"""What each node of the demonstration should have got, and whether it did: pure, but for `truth`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import workflow
from target import Target
from workflow import Step

STALE = "select count(*) from orders where status = 'stale' and created_at < '2025-01-01'"
INSUFFICIENT_PRIVILEGE = "42501"

TOKEN_OPTIONS = (
    "--subject agent:support-bot --group support-agents --on-behalf-of user:sam "
    "--graph support --node read_customers --audience shop"
)
EXTRA_RULE = """\
deny contains {"code": "closed", "message": "Customers are closed today."} if {
	subject.node == "support/read_customers"
	"public.customers" in pg.touched
}
"""


@dataclass(frozen=True)
class Truth:
    """The shop past the proxy."""

    orders: tuple[tuple[Any, ...], ...]
    customers: tuple[tuple[Any, ...], ...]
    stale: int
    tables: int


@dataclass(frozen=True)
class Outcome:
    """A row of the table. `problem` says what is not as it should be; empty if all is well."""

    node: str
    statement: str
    verdict: str
    came_back: str
    problem: str


def truth(shop: Target) -> Truth:
    """The same statements, asked past the proxy."""
    (stale,), (tables,) = (
        shop.ask(STALE)[0],
        shop.ask("select count(*) from pg_tables where schemaname = 'public'")[0],
    )
    assert isinstance(stale, int)
    assert isinstance(tables, int)
    return Truth(tuple(shop.ask(workflow.READ_ORDERS)), tuple(shop.ask(workflow.READ_CUSTOMERS)), stale, tables)


def judge(steps: Sequence[Step], before: Truth, after: Truth, *, answered: bool) -> list[Outcome]:
    """One outcome for each node, in the workflow's order."""
    if [step.node for step in steps] != list(workflow.NODES):
        raise AssertionError("the workflow did not go through its nodes in order")
    orders, customers, delete, drop = steps
    return [
        _read(orders, before),
        _masked(customers, before),
        _deleted(delete, before, after, answered=answered),
        _denied(drop, before, after),
    ]


def _read(step: Step, before: Truth) -> Outcome:
    problem = "" if step.rows == before.orders else "the rows are not those of the table"
    return Outcome(step.node, step.statement, "allowed", _rows(step.rows), problem)


def _masked(step: Step, before: Truth) -> Outcome:
    problems = []
    if [row[:2] for row in step.rows] != [row[:2] for row in before.customers]:
        problems.append("ids and names are not those of the table")
    for (_, _, email, ssn), (_, _, true_email, true_ssn) in zip(step.rows, before.customers, strict=False):
        if email == true_email or "@" not in str(email) or "*" not in str(email):
            problems.append("an e-mail address is not masked")
        if ssn is not None or true_ssn is None:
            problems.append("an SSN came through")
    return Outcome(step.node, step.statement, "masked", _rows(step.rows), "; ".join(dict.fromkeys(problems)))


def _deleted(step: Step, before: Truth, after: Truth, *, answered: bool) -> Outcome:
    problems = []
    if not answered:
        problems.append("nobody was asked for approval")
    if before.stale == 0 or step.changed != before.stale or after.stale != 0:
        problems.append(f"{step.changed} rows were deleted of {before.stale}, and {after.stale} are left")
    came_back = f"waited {step.seconds:.1f} s for dana's yes,\nthen DELETE {step.changed}"
    return Outcome(step.node, step.statement, "approved" if answered else "allowed", came_back, "; ".join(problems))


def _denied(step: Step, before: Truth, after: Truth) -> Outcome:
    problems = []
    if step.refusal is None:
        problems.append("it was not refused")
    elif step.refusal.sqlstate != INSUFFICIENT_PRIVILEGE:
        problems.append(f"it was refused with SQLSTATE {step.refusal.sqlstate}")
    if after.tables != before.tables:
        problems.append("a table is gone")
    if step.then != "still usable":
        problems.append("the connection is not usable any more")
    said = "" if step.refusal is None else f"{step.refusal.sqlstate}: {step.refusal.diag.message_primary}"
    came_back = f"{said}\nnext statement on the same connection: {step.then}"
    return Outcome(step.node, step.statement, "denied" if step.refusal else "allowed", came_back, "; ".join(problems))


def _rows(rows: Sequence[tuple[Any, ...]]) -> str:
    return "\n".join("  ".join("NULL" if value is None else str(value) for value in row) for row in rows)
