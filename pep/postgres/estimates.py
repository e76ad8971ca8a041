"""How many rows a statement would touch, as the target's planner guesses: EXPLAIN, never with ANALYZE.

Asked on a connection of its own, which reads only and is given up after a short time; a client's connection, its locks
and its prepared statements are not touched. The planner runs functions where their arguments are constants, so only
statements are planned of which everything is known to be the server's own: functions, defaults, checks, policies.
Does I/O. Reference: PostgreSQL documentation, "EXPLAIN", "Extended Query".
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson
import structlog

from pep.core.errors import UpstreamProtocolError
from pep.core.estimates import Estimate
from pep.core.model import Action
from pep.postgres.backend import DataRow, ErrorResponse
from pep.postgres.catalog import Catalog
from pep.postgres.catalogs import Catalogs
from pep.postgres.codec import Run
from pep.postgres.frames import BackendTag, Frame
from pep.postgres.frontend import Bind, Execute, Parse, Query, Sync, Terminate
from pep.postgres.functions import Effect, effect
from pep.postgres.resolution import FreshCatalog, SharedCatalog
from pep.postgres.upstream import Account, Connected, Target, UpstreamUnavailable, frames, version_number

_KINDS: Final = frozenset({"select", "insert", "update", "delete", "merge"})
# Plain tables, partitioned ones, views: the planner of another kind may ask another server.
_RELATIONS: Final = frozenset({"r", "p", "v", "m"})
_GENERIC_PLAN: Final = 160000
_AT_ONCE: Final = 4
_LONGEST: Final = 1 << 20


class _Refused(Exception):
    """The target does not plan it; the text is for the approver, and holds nothing that the target said but a code."""


class PlannerEstimates:
    """`pep.core.estimates.Estimates` for PostgreSQL; `seconds` is the longest that one may take."""

    def __init__(self, target: Target, account: Account, catalogs: Catalogs, seconds: float) -> None:
        self._target = target
        self._account = account
        self._catalogs = catalogs
        self._seconds = seconds
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._log = structlog.get_logger("pep.postgres.estimates")

    async def of(self, action: Action) -> Estimate:
        """See `pep.core.estimates`."""
        try:
            async with asyncio.timeout(self._seconds), self._places:
                shared = await self._catalogs.answer(FreshCatalog())
                if not isinstance(shared, SharedCatalog):
                    return Estimate(None, "the target's catalog cannot be read")
                if (why := unfit(action, shared.catalog)) is not None:
                    return Estimate(None, why)
                return await self._planned(action)
        except TimeoutError:
            return Estimate(None, "the target's planner took too long")
        except _Refused as refused:
            return Estimate(None, str(refused))
        except (OSError, UpstreamUnavailable, UpstreamProtocolError) as error:
            self._log.warning("no estimate", error=type(error).__name__)
            return Estimate(None, "the target's planner could not be asked")

    async def _planned(self, action: Action) -> Estimate:
        milliseconds = str(max(1, int(self._seconds * 1000)))
        connected = await self._target.connect(
            self._account,
            {
                "application_name": "checkrein estimate",
                "client_encoding": "UTF8",
                "default_transaction_read_only": "on",
                "lock_timeout": milliseconds,
                "search_path": _path(action.binding.path),
                "statement_timeout": milliseconds,
            },
        )
        try:
            plan = await _explained(connected, action)
            connected.leg.write(Terminate().encode())
        finally:
            connected.leg.abort()
        rows = expected(plan, str(action.properties["kind"]))
        return Estimate(rows) if rows is not None else Estimate(None, "the target's plan names no number of rows")


def unfit(action: Action, catalog: Catalog) -> str | None:
    """Why the statement is not planned: something of it may be code of the target's users. None if all is known."""
    known = action.properties
    if action.name != "query" or known.get("opaque") is not False:
        return "the statement was not understood in full"
    if known.get("kind") not in _KINDS or known.get("class") not in ("read", "write"):
        return "only queries and changes of rows are planned"
    for function in known["functions"]:
        schema, _, name = function.partition(".")
        if schema != "pg_catalog" or effect(name) not in (Effect.HARMLESS, Effect.COLLECTING):
            return "it calls functions that are not known to be harmless"
    # Triggers run when rows change, which no plan does.
    if any(not each.startswith("trigger ") for each in known["reaches_beyond"]):
        return "it reaches beyond the tables that it names"
    return next(filter(None, (_own_code(relation, catalog) for relation in known["relations"])), None)


def _own_code(described: Mapping[str, Any], catalog: Catalog) -> str | None:
    relation = catalog.relation(described["schema"], described["name"])
    if described.get("temporary") or relation is None:
        return "it names a table that other sessions do not see"
    under = (catalog.by_oid(oid) for oid in (relation.oid, *catalog.descendants(relation.oid)))
    for each in under:
        if each is None or each.kind not in _RELATIONS:
            return "it touches a table that is kept elsewhere"
        if each.hidden_calls:
            return "it touches a table with functions of its own"
    return None


def _path(schemas: tuple[str, ...]) -> str:
    """The same path, for a session that has no temporary tables."""
    quoted = ('"' + schema.replace('"', '""') + '"' for schema in schemas if not schema.startswith("pg_temp"))
    return ", ".join(quoted)


async def _explained(connected: Connected, action: Action) -> bytes:
    """The plan. Raises _Refused."""
    if not action.statement.parameters:
        # Parse takes one statement and no more, whatever the text is.
        text = f"EXPLAIN (FORMAT JSON) {action.statement.text}"
        return await _asked(connected, Parse("", text), Bind("", ""), Execute(""), Sync())
    if version_number(connected.parameters.get("server_version", "")) < _GENERIC_PLAN:
        raise _Refused("this server plans no statement whose values come apart from it")
    # A plan for whatever values can only be had by a simple query, which would take several statements: so the server
    # itself says first, by Parse, that this text is one.
    text = f"EXPLAIN (FORMAT JSON, GENERIC_PLAN) {action.statement.text}"
    await _asked(connected, Parse("", text), Sync())
    return await _asked(connected, Query(text))


async def _asked(connected: Connected, *messages: Parse | Bind | Execute | Sync | Query) -> bytes:
    connected.leg.write(b"".join(message.encode() for message in messages))
    return await _answer(connected)


async def _answer(connected: Connected) -> bytes:
    """The plan. Raises _Refused."""
    plan = bytearray()
    refused = ""
    async for item in frames(connected.leg, connected.codec):
        if isinstance(item, Run):
            for row in item.frames():
                plan += b"".join(value or b"" for value in DataRow.decode(row.payload).values)
                if len(plan) > _LONGEST:
                    raise _Refused("the target's plan is too long")
        elif item.tag == BackendTag.ERROR_RESPONSE and isinstance(item, Frame):
            refused = ErrorResponse.decode(item.payload).fields.get("C", "no code")
        elif item.tag == BackendTag.READY_FOR_QUERY:
            break
    if refused:
        raise _Refused(f"the target did not plan it for the proxy's own account ({refused[:5]})")
    return bytes(plan)


def expected(plan: bytes, kind: str) -> float | None:
    """The rows that a plan in JSON expects to return or, of a change, to change; None if it does not say."""
    try:
        document = orjson.loads(plan)
        top = document[0]["Plan"]
        if kind == "select":
            return _number(top["Plan Rows"])
        changes = [each for node in _nodes(top) if node["Node Type"] == "ModifyTable" for each in _sources(node)]
        numbers = [_number(each["Plan Rows"]) for each in changes]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    known = [number for number in numbers if number is not None]
    return sum(known) if known and len(known) == len(numbers) else None


def _nodes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for each in node.get("Plans", ()):
        yield from _nodes(each)


def _sources(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each for each in node.get("Plans", ()) if each.get("Parent Relationship") in ("Outer", "Member")]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None
