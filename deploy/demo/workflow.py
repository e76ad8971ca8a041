"""The workflow of the demonstration: LangGraph, eight nodes with one statement or request each, and no model.

This is the part that an agent's author writes. All that Checkrein asks of it is another connection string, whose
password is a token for the node that connects, and for an API another base URL, with such a token as the bearer. How
the token comes about is the caller's (`Connect`, `Open`).
"""

from __future__ import annotations

import json
import operator
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import psycopg
import requests
from langgraph.graph import END, START, StateGraph

Connect = Callable[[str], psycopg.Connection]


@dataclass(frozen=True)
class Api:
    """An API: its base URL, and a session that says who asks."""

    url: str
    session: requests.Session

    def ask(self, method: str, path: str, body: Any = None) -> requests.Response:
        return self.session.request(method, self.url + path, json=body, timeout=60)


Open = Callable[[str], Api]

READ_ORDERS = "select id, status, total from orders order by id limit 3"
READ_CUSTOMERS = "select id, name, email, ssn from customers order by id limit 3"
DELETE_STALE = "delete from orders where status = 'stale' and created_at < '2025-01-01'"
DROP_TABLE = "drop table payments"
API_ORDERS = "/orders?limit=3"
API_CUSTOMERS = "/customers?limit=3"
REFUND = {"order": 7, "amount": 200}
API_CUSTOMER = "/customers/1"
DATABASE_NODES = ("read_orders", "read_customers", "delete_stale", "drop_table")
API_NODES = ("read_api_orders", "read_api_customers", "refund", "delete_api_customer")
NODES = (*DATABASE_NODES, *API_NODES)


@dataclass(frozen=True)
class Step:
    """What a node asked for and what it got."""

    node: str
    statement: str
    seconds: float
    rows: tuple[tuple[Any, ...], ...] = ()
    changed: int = 0
    refusal: psycopg.Error | None = None
    # What an API answered.
    status: int = 0
    answer: Any = None
    # Asked on the same connection afterwards.
    then: Any = None


class State(TypedDict):
    """What goes from node to node."""

    steps: Annotated[list[Step], operator.add]


def run(connect: Connect, open_api: Open, seen: Callable[[str], None]) -> list[Step]:
    """The eight nodes, one after the other; `seen` is told which one begins."""

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

    def read_api_orders(_: State) -> State:
        seen("read_api_orders")
        return {"steps": [_ask(open_api, "read_api_orders", "GET", API_ORDERS)]}

    def read_api_customers(_: State) -> State:
        seen("read_api_customers")
        return {"steps": [_ask(open_api, "read_api_customers", "GET", API_CUSTOMERS)]}

    def refund(_: State) -> State:
        seen("refund")
        # As with a statement: the answer comes once somebody has said yes.
        return {"steps": [_ask(open_api, "refund", "POST", "/refunds", REFUND)]}

    def delete_api_customer(_: State) -> State:
        seen("delete_api_customer")
        return {"steps": [_ask(open_api, "delete_api_customer", "DELETE", API_CUSTOMER, then=API_ORDERS)]}

    graph = StateGraph(State)
    nodes = (
        *(read_orders, read_customers, delete_stale, drop_table),
        *(read_api_orders, read_api_customers, refund, delete_api_customer),
    )
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


def _ask(open_api: Open, node: str, method: str, path: str, body: Any = None, *, then: str = "") -> Step:
    """One request, and on the same connection afterwards another one, if `then` names it."""
    began = time.monotonic()
    api = open_api(node)
    with api.session:
        answer = api.ask(method, path, body)
        seconds = time.monotonic() - began
        after = api.ask("GET", then).status_code if then else None
    statement = f"{method} {path}" + (f"\n{json.dumps(body)}" if body else "")
    return Step(node, statement, seconds, status=answer.status_code, answer=answer.json(), then=after)
