"""What each node of the demonstration should have got, and whether it did: pure, but for `truth`."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import workflow
from api import Api
from target import Target
from workflow import Step

STALE = "select count(*) from orders where status = 'stale' and created_at < '2025-01-01'"
INSUFFICIENT_PRIVILEGE = "42501"

TOKEN_OPTIONS = (
    "--subject agent:support-bot --group support-agents --on-behalf-of user:sam "
    "--graph support --node read_customers --audience shop"
)
API_TOKEN_OPTIONS = TOKEN_OPTIONS.replace("read_customers", "read_api_customers").replace("shop", "pay")
EXTRA_RULE = """\
deny contains {"code": "closed", "message": "Customers are closed today."} if {
	subject.node == "support/read_customers"
	"public.customers" in pg.touched
}
"""


@dataclass(frozen=True)
class Truth:
    """The shop and the API past the proxies."""

    orders: tuple[tuple[Any, ...], ...]
    customers: tuple[tuple[Any, ...], ...]
    stale: int
    tables: int
    api_orders: Any
    api_customers: Any
    # What the API was asked, refunded and deleted so far.
    asked: tuple[str, ...]
    refunds: tuple[Any, ...]
    deleted: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """A row of the table. `problem` says what is not as it should be; empty if all is well."""

    node: str
    statement: str
    verdict: str
    came_back: str
    problem: str


def truth(shop: Target, api: Api) -> Truth:
    """The same statements, asked past the proxies."""
    (stale,), (tables,) = (
        shop.ask(STALE)[0],
        shop.ask("select count(*) from pg_tables where schemaname = 'public'")[0],
    )
    assert isinstance(stale, int)
    assert isinstance(tables, int)
    return Truth(
        tuple(shop.ask(workflow.READ_ORDERS)),
        tuple(shop.ask(workflow.READ_CUSTOMERS)),
        stale,
        tables,
        api.read("/orders", 3),
        api.read("/customers", 3),
        tuple(api.asked),
        tuple(api.refunds),
        tuple(api.deleted),
    )


def judge(
    steps: Sequence[Step],
    before: Truth,
    after: Truth,
    *,
    answered: Collection[str],
    ports: Mapping[str, Sequence[int]],
) -> list[Outcome]:
    """One outcome for each node, in the workflow's order.

    `answered` are the nodes for which somebody said yes; `ports`, by node, the client's port of each answer of the API.
    """
    if [step.node for step in steps] != list(workflow.NODES):
        raise AssertionError("the workflow did not go through its nodes in order")
    orders, customers, delete, drop, api_orders, api_customers, refund, api_delete = steps
    return [
        _read(orders, before),
        _masked(customers, before),
        _deleted(delete, before, after, answered=delete.node in answered),
        _denied(drop, before, after),
        _api_read(api_orders, before),
        _api_masked(api_customers, before),
        _refunded(refund, before, after, answered=refund.node in answered),
        _api_denied(api_delete, before, after, ports[api_delete.node]),
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


def _api_read(step: Step, before: Truth) -> Outcome:
    problem = "" if (step.status, step.answer) == (200, before.api_orders) else "the answer is not the API's"
    return Outcome(step.node, step.statement, "allowed", f"{_records(step, 'orders')}\nas the API sent it", problem)


def _api_masked(step: Step, before: Truth) -> Outcome:
    problems = []
    clear = before.api_customers["customers"]
    shown = _listed(step, "customers")
    if [(row.get("id"), row.get("name")) for row in shown] != [(row["id"], row["name"]) for row in clear]:
        problems.append("ids and names are not those of the API")
    for row, true in zip(shown, clear, strict=False):
        email = str(row.get("email"))
        if email == true["email"] or "@" not in email or "*" not in email:
            problems.append("an e-mail address is not masked")
        if row.get("ssn") is not None or true["ssn"] is None:
            problems.append("an SSN came through")
    return Outcome(step.node, step.statement, "masked", _records(step, "customers"), "; ".join(dict.fromkeys(problems)))


def _refunded(step: Step, before: Truth, after: Truth, *, answered: bool) -> Outcome:
    problems = []
    if not answered:
        problems.append("nobody was asked for approval")
    new = [{name: row[name] for name in workflow.REFUND} for row in after.refunds[len(before.refunds) :]]
    if new != [workflow.REFUND] or step.status != 201:
        problems.append(f"the API answered {step.status} and made {len(new)} refunds")
    came_back = f"waited {step.seconds:.1f} s for petra's yes,\nthen {step.status} {json.dumps(step.answer)}"
    return Outcome(step.node, step.statement, "approved" if answered else "allowed", came_back, "; ".join(problems))


def _api_denied(step: Step, before: Truth, after: Truth, ports: Sequence[int]) -> Outcome:
    problems = []
    if step.status != 403:
        problems.append(f"it was answered with {step.status}")
    if after.deleted or any(line.startswith("DELETE") for line in after.asked[len(before.asked) :]):
        problems.append("it reached the API")
    if step.then != 200 or len(ports) != 2 or len(set(ports)) != 1:
        problems.append("the connection is not usable any more")
    said = step.answer.get("detail", "") if isinstance(step.answer, dict) else step.answer
    came_back = f"{step.status}: {said}\nnext request on the same connection: {step.then}"
    return Outcome(
        step.node, step.statement, "denied" if step.status == 403 else "allowed", came_back, "; ".join(problems)
    )


def _listed(step: Step, name: str) -> list[dict[str, Any]]:
    return list(step.answer[name]) if step.status == 200 else []


def _records(step: Step, name: str) -> str:
    return _rows([tuple(row.values()) for row in _listed(step, name)]) if step.status == 200 else str(step.answer)


def _rows(rows: Sequence[tuple[Any, ...]]) -> str:
    return "\n".join("  ".join("NULL" if value is None else str(value) for value in row) for row in rows)
