"""The workflow of the demonstration: LangGraph, four nodes with one statement each, and no model.

This is the part that an agent's author writes. All that Checkrein asks of it is another connection string, whose
password is a token for the node that connects; how the token comes about is the caller's (`Connect`).
"""

from __future__ import annotations

import operator
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import psycopg
from langgraph.graph import END, START, StateGraph

Connect = Callable[[str], psycopg.Connection]

READ_ORDERS = "select id, status, total from orders order by id limit 3"
READ_CUSTOMERS = "select id, name, email, ssn from customers order by id limit 3"
DELETE_STALE = "delete from orders where status = 'stale' and created_at < '2025-01-01'"
DROP_TABLE = "drop table payments"
NODES = ("read_orders", "read_customers", "delete_stale", "drop_table")


@dataclass(frozen=True)
class Step:
    """What a node asked for and what it got."""

    node: str
    statement: str
    seconds: float
    rows: tuple[tuple[Any, ...], ...] = ()
    changed: int = 0
    refusal: psycopg.Error | None = None
    # Asked on the same connection afterwards.
    then: Any = None


class State(TypedDict):
    """What goes from node to node."""

    steps: Annotated[list[Step], operator.add]


def run(connect: Connect, seen: Callable[[str], None]) -> list[Step]:
    """The four nodes, one after the other; `seen` is told which one begins."""

    def read_orders(_: State) -> State:
        seen("read_orders")
        return {"steps": [_read(connect, "read_orders", READ_ORDERS)]}

    def read_customers(_: State) -> State:
        seen("read_customers")
        return {"steps": [_read(connect, "read_customers", READ_CUSTOMERS)]}

    def delete_stale(_: State) -> State:
        seen("delete_stale")
        began = time.monotonic()
        with connect("delete_stale") as database:
            # Returns once somebody has said yes; until then the statement waits on the wire.
            done = database.execute(DELETE_STALE)
            step = Step("delete_stale", DELETE_STALE, time.monotonic() - began, changed=done.rowcount)
        return {"steps": [step]}

    def drop_table(_: State) -> State:
        seen("drop_table")
        began = time.monotonic()
        refusal: psycopg.Error | None = None
        with connect("drop_table") as database:
            try:
                database.execute(DROP_TABLE)
            except psycopg.errors.InsufficientPrivilege as error:
                refusal = error
            seconds = time.monotonic() - began
            row = database.execute("select 'still usable'").fetchone()
        return {"steps": [Step("drop_table", DROP_TABLE, seconds, refusal=refusal, then=row and row[0])]}

    graph = StateGraph(State)
    nodes = (read_orders, read_customers, delete_stale, drop_table)
    for name, node in zip(NODES, nodes, strict=True):
        graph.add_node(name, node)
    for before, after in zip((START, *NODES), (*NODES, END), strict=True):
        graph.add_edge(before, after)
    steps: list[Step] = graph.compile(name="support").invoke({"steps": []})["steps"]
    return steps


def _read(connect: Connect, node: str, statement: str) -> Step:
    began = time.monotonic()
    with connect(node) as database:
        rows = database.execute(statement).fetchall()
    return Step(node, statement, time.monotonic() - began, rows=tuple(rows))
