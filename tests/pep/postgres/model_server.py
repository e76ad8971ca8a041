"""A small PostgreSQL server without I/O, for tests of the session machine: bytes in, bytes out.

It keeps to "Message Flow" of the PostgreSQL documentation where it matters to a proxy: skip-to-Sync, the transaction's
status, one name space for portals and cursors, the life of unnamed things, output that waits for Flush or Sync, COPY.
It knows no SQL but the texts of its script, each with its meaning written beside it (`Statement`), and it says what
every execution really touched. It is not a mock of the proxy's expectations: it takes any frames in any order.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pep.postgres import messages as m
from pep.postgres.catalog_sql import SESSION_QUERY, USER_QUERY
from pep.postgres.codec import FrontendCodec
from pep.postgres.frames import Frame, FrontendTag

_INT4, _TEXT = 23, 25

Kind = Literal[
    "select", "insert", "fail", "begin", "commit", "rollback", "savepoint", "rollback_to", "release", "set_path",
    "create_temp", "prepare", "execute", "deallocate", "declare", "fetch", "move", "close", "copy_in", "copy_out",
    "session", "user_catalog", "delete",
]  # fmt: skip


@dataclass(frozen=True)
class Statement:
    """One statement of the script. `table` and `columns` are what it reads; `name` and `inner` what it names.

    `count` is how many rows a FETCH wants, or how many a DELETE changes; the latter's `columns` are those of RETURNING.
    """

    text: str
    kind: Kind
    table: str = ""
    columns: tuple[str, ...] = ()
    name: str | None = ""
    inner: Statement | None = None
    count: int = 0

    @property
    def returns_rows(self) -> bool:
        if self.kind == "delete":
            return bool(self.columns)
        return self.kind in ("select", "execute", "fetch", "session", "user_catalog")


@dataclass(frozen=True)
class Table:
    """A table of the server; a column's attribute number is its place."""

    oid: int
    dataset: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class World:
    """What does not change: the script, the tables by schema and name, the answers to the proxy's look-ups."""

    script: Mapping[str, tuple[Statement, ...]]
    tables: Mapping[tuple[str, str], Table]
    temporary: Table
    temp_schema: str
    catalog_rows: Sequence[tuple[str, str]] = ()
    catalog_rows_with_temporary: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Executed:
    """What one execution did: the statement as sent, and the datasets that were touched on its behalf."""

    statement: Statement
    touched: frozenset[str]


@dataclass
class _Prepared:
    statement: Statement | None  # None: an empty one
    path: str
    table: Table | None


@dataclass
class _Portal:
    statement: Statement | None
    rows: list[tuple[str, ...]] | None = None
    table: Table | None = None
    position: int = 0
    scroll: bool = False
    done: bool = False


class _ServerError(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.response = m.ErrorResponse({"S": "ERROR", "V": "ERROR", "C": code, "M": message})


class ModelServer:
    """One backend. `receive` carries a frame out at once; its answers stand in `output` when they would be flushed."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.status = m.TransactionStatus.IDLE
        self.output = bytearray()
        self.executed: list[Executed] = []
        self.ended = False
        self._codec = FrontendCodec()
        self._buffer = bytearray()
        self._skipping = False
        self._implicit = False
        self._prepared: dict[str, _Prepared] = {}
        self._portals: dict[str, _Portal] = {}
        self._path = self._committed_path = "public"
        self._has_temporary = self._committed_temporary = False
        self._savepoints: list[tuple[str, str, bool, int]] = []
        # Of each DELETE the number of rows: in the open transaction, and for good.
        self._changed: list[int] = []
        self.committed: list[int] = []
        self._copying: Callable[[str | None], None] | None = None
        self._rest: deque[Statement] = deque()

    # --- frames -------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        for item in self._codec.feed(data):
            assert isinstance(item, Frame)
            if not self.ended:
                self._frame(item)

    def _frame(self, frame: Frame) -> None:
        tag = FrontendTag(frame.tag)
        if tag is FrontendTag.TERMINATE:
            self.ended = True
        elif self._copying is not None:
            self._in_copy(frame)
        elif tag is FrontendTag.SYNC:
            self._sync()
        elif self._skipping or tag in (FrontendTag.COPY_DATA, FrontendTag.COPY_DONE, FrontendTag.COPY_FAIL):
            return
        elif tag is FrontendTag.FLUSH:
            self._flush()
        elif tag is FrontendTag.QUERY:
            self._query(m.Query.decode(frame.payload).text)
        else:
            self._extended(tag, frame.payload)

    def _extended(self, tag: FrontendTag, payload: bytes) -> None:
        self._implicit = True
        try:
            match tag:
                case FrontendTag.PARSE:
                    self._parse(m.Parse.decode(payload))
                case FrontendTag.BIND:
                    self._bind(m.Bind.decode(payload))
                case FrontendTag.DESCRIBE:
                    self._describe(m.Describe.decode(payload))
                case FrontendTag.EXECUTE:
                    self._execute(m.Execute.decode(payload))
                case FrontendTag.CLOSE:
                    close = m.Close.decode(payload)
                    (self._prepared if close.kind is m.Kind.STATEMENT else self._portals).pop(close.name, None)
                    self._say(m.CloseComplete())
                case _:
                    raise AssertionError(f"{tag!r} must never get here")
        except _ServerError as error:
            self._fail(error)
            self._skipping = True

    def _sync(self) -> None:
        self._skipping = False
        self._finish_implicit()
        self._ready()

    def _finish_implicit(self) -> None:
        self._implicit = False
        if self.status is m.TransactionStatus.IDLE:
            self._end_transaction(commit=True)

    def _ready(self) -> None:
        self._say(m.ReadyForQuery(self.status))
        self._flush()

    def _say(self, *answers: m.BackendMessage) -> None:
        for answer in answers:
            self._buffer += answer.encode()

    def _flush(self) -> None:
        self.output += self._buffer
        self._buffer.clear()

    def _fail(self, error: _ServerError) -> None:
        self._say(error.response)
        self._flush()
        if self.status is m.TransactionStatus.IDLE:
            self._end_transaction(commit=False)
        else:
            self.status = m.TransactionStatus.FAILED
            self._portals.clear()

    # --- transactions -------------------------------------------------------------------------------------------------

    def _end_transaction(self, *, commit: bool) -> None:
        if commit:
            self.committed += self._changed
            self._committed_path, self._committed_temporary = self._path, self._has_temporary
        else:
            self._path, self._has_temporary = self._committed_path, self._committed_temporary
        self._changed.clear()
        self._portals.clear()
        self._savepoints.clear()
        self.status = m.TransactionStatus.IDLE

    def _check_transaction(self, statement: Statement | None) -> None:
        ends = statement is None or statement.kind in ("commit", "rollback", "rollback_to")
        if self.status is m.TransactionStatus.FAILED and not ends:
            raise _ServerError(
                "25P02", "current transaction is aborted, commands ignored until end of transaction block"
            )

    def _transaction(self, statement: Statement) -> str:
        """Carries out a statement about the transaction; its tag."""
        failed = self.status is m.TransactionStatus.FAILED
        match statement.kind:
            case "begin":
                self.status = m.TransactionStatus.IN_TRANSACTION
                return "BEGIN"
            case "commit":
                self._end_transaction(commit=not failed)
                return "ROLLBACK" if failed else "COMMIT"
            case "rollback":
                self._end_transaction(commit=False)
                return "ROLLBACK"
        if self.status is m.TransactionStatus.IDLE:
            raise _ServerError("25P01", "SAVEPOINT can only be used in transaction blocks")
        if statement.kind == "savepoint":
            self._savepoints.append((str(statement.name), self._path, self._has_temporary, len(self._changed)))
            return "SAVEPOINT"
        found = next((i for i, s in reversed(list(enumerate(self._savepoints))) if s[0] == statement.name), None)
        if found is None:
            raise _ServerError("3B001", "savepoint does not exist")
        if statement.kind == "release":
            del self._savepoints[found:]
            return "RELEASE"
        _, self._path, self._has_temporary, changes = self._savepoints[found]
        del self._changed[changes:]
        del self._savepoints[found + 1 :]
        self.status = m.TransactionStatus.IN_TRANSACTION
        return "ROLLBACK"

    # --- the simple protocol ------------------------------------------------------------------------------------------

    def _query(self, text: str) -> None:
        self._prepared.pop("", None)
        try:
            statements = self._statements(text)
        except _ServerError as error:
            self._fail(error)
            self._finish_implicit()
            self._ready()
            return
        if not statements:
            self._say(m.EmptyQueryResponse())
        self._rest = deque(statements)
        self._several = len(statements) > 1
        self._go_on()

    def _statements(self, text: str) -> tuple[Statement, ...]:
        if text == SESSION_QUERY:
            return (Statement(text, "session"),)
        if text == USER_QUERY:
            return (Statement(text, "user_catalog"),)
        if text not in self.world.script:
            raise _ServerError("42601", "syntax error")
        return self.world.script[text]

    def _go_on(self) -> None:
        """The statements of a simple Query that are left."""
        while self._rest:
            statement = self._rest.popleft()
            try:
                self._check_transaction(statement)
                self._portals.pop("", None)
                if statement.kind == "copy_in":
                    self._begin_copy(statement, self._go_on_after_copy)
                    return
                portal = self._opened(statement)
                if isinstance(described := self._description(portal), m.RowDescription):
                    self._say(described)
                self._run(portal, 0, several=self._several)
            except _ServerError as error:
                self._rest.clear()
                self._fail(error)
        self._finish_implicit()
        self._ready()

    def _go_on_after_copy(self, failure: str | None) -> None:
        if failure is None:
            self._say(m.CommandComplete("COPY 1"))
        else:
            self._rest.clear()
            self._fail(_ServerError("57014", failure))
        self._go_on()

    # --- the extended protocol ----------------------------------------------------------------------------------------

    def _parse(self, message: m.Parse) -> None:
        if message.name == "":
            self._prepared.pop("", None)
        statements = self._statements(message.text)
        if len(statements) > 1:
            raise _ServerError("42601", "cannot insert multiple commands into a prepared statement")
        statement = statements[0] if statements else None
        self._check_transaction(statement)
        entry = self._resolved(statement)
        if message.name in self._prepared:
            raise _ServerError("42P05", "prepared statement already exists")
        self._prepared[message.name] = entry
        self._say(m.ParseComplete())

    def _resolved(self, statement: Statement | None) -> _Prepared:
        table = None if statement is None or not statement.table else self._table(statement.table)
        return _Prepared(statement, self._path, table)

    def _bind(self, message: m.Bind) -> None:
        prepared = self._named(message.statement)
        self._check_transaction(prepared.statement)
        if message.portal in self._portals and message.portal != "":
            raise _ServerError("42P03", "cursor already exists")
        portal = self._opened(prepared.statement, self._revalidated(prepared))
        self._portals[message.portal] = portal
        self._say(m.BindComplete())

    def _revalidated(self, prepared: _Prepared) -> Table | None:
        """A cached plan is made again when the path has changed, and not when a temporary table hides the old one."""
        if prepared.path != self._path and prepared.statement is not None and prepared.statement.table:
            prepared.path, prepared.table = self._path, self._table(prepared.statement.table)
        return prepared.table

    def _named(self, name: str) -> _Prepared:
        if name not in self._prepared:
            raise _ServerError("26000", "prepared statement does not exist")
        return self._prepared[name]

    def _portal(self, name: str) -> _Portal:
        if name not in self._portals:
            raise _ServerError("34000", "portal does not exist")
        return self._portals[name]

    def _describe(self, message: m.Describe) -> None:
        if message.kind is m.Kind.STATEMENT:
            prepared = self._named(message.name)
            portal = self._opened(prepared.statement, self._revalidated(prepared))
        else:
            portal = self._portal(message.name)
        if portal.statement is not None and portal.statement.returns_rows:
            self._check_transaction(portal.statement)
        described = self._description(portal)
        if message.kind is m.Kind.STATEMENT:
            self._say(m.ParameterDescription(()))
        self._say(described)

    def _execute(self, message: m.Execute) -> None:
        portal = self._portal(message.portal)
        if portal.statement is None:
            self._say(m.EmptyQueryResponse())
            return
        self._check_transaction(portal.statement)
        again = portal.statement.returns_rows and portal.statement.kind != "delete"
        if portal.done and not (again or portal.statement.kind == "declare"):
            raise _ServerError("55000", "portal cannot be run")
        if portal.statement.kind == "copy_in":
            portal.done = True
            self._begin_copy(portal.statement, self._extended_copy_over)
            return
        self._run(portal, message.max_rows, several=False)

    def _extended_copy_over(self, failure: str | None) -> None:
        if failure is None:
            self._say(m.CommandComplete("COPY 1"))
        else:
            self._fail(_ServerError("57014", failure))
            self._skipping = True

    # --- COPY in ------------------------------------------------------------------------------------------------------

    def _begin_copy(self, statement: Statement, over: Callable[[str | None], None]) -> None:
        self._log(statement, {self._table(statement.table).dataset})
        self._copying = over
        self._say(m.CopyInResponse(0, (0, 0)))
        self._flush()

    def _in_copy(self, frame: Frame) -> None:
        over = self._copying
        assert over is not None
        if frame.tag in (FrontendTag.COPY_DATA, FrontendTag.SYNC, FrontendTag.FLUSH):
            return
        self._copying = None
        if frame.tag == FrontendTag.COPY_DONE:
            over(None)
        elif frame.tag == FrontendTag.COPY_FAIL:
            over("COPY from stdin failed")
        else:
            over(f"unexpected message type 0x{frame.tag:02X} during COPY from stdin")

    # --- what statements do -------------------------------------------------------------------------------------------

    def _table(self, name: str) -> Table:
        if self._has_temporary and name == "customers":
            return self.world.temporary
        schema, _, bare = name.rpartition(".")
        found = self.world.tables.get((schema or self._path, bare))
        if found is None:
            raise _ServerError("42P01", f'relation "{name}" does not exist')
        return found

    def _log(self, statement: Statement, touched: Iterable[str]) -> None:
        self.executed.append(Executed(statement, frozenset(touched)))

    def _opened(self, statement: Statement | None, table: Table | None = None) -> _Portal:
        if statement is not None and statement.table and table is None:
            table = self._table(statement.table)
        if statement is not None and statement.kind == "execute":
            self._named(str(statement.name))
        if statement is not None and statement.kind == "fetch":
            self._portal(str(statement.name))
        return _Portal(statement, table=table)

    def _source(self, portal: _Portal, depth: int = 0) -> tuple[Statement | None, Table | None]:
        """What the rows of a portal come from now: EXECUTE and FETCH name something else."""
        statement = portal.statement
        if statement is not None and statement.kind == "execute":
            prepared = self._named(str(statement.name))
            if depth > 9:
                raise _ServerError("54001", "stack depth limit exceeded")
            return self._source(self._opened(prepared.statement, self._revalidated(prepared)), depth + 1)
        if statement is not None and statement.kind in ("fetch", "declare"):
            cursor = self._portal(str(statement.name)) if statement.kind == "fetch" else portal
            inner = (
                cursor.statement.inner if cursor.statement and cursor.statement.kind == "declare" else cursor.statement
            )
            return inner, cursor.table
        return statement, portal.table

    def _description(self, portal: _Portal) -> m.BackendMessage:
        source, table = self._source(portal)
        cursor = portal.rows is not None and portal.statement is not None and portal.statement.kind == "declare"
        if source is None or portal.statement is None or not source.returns_rows:
            return m.NoData()
        if not cursor and not portal.statement.returns_rows:
            return m.NoData()
        if source.kind in ("session", "user_catalog"):
            names = ("session",) if source.kind == "session" else ("section", "document")
            return m.RowDescription(tuple(m.Column(name, 0, 0, _TEXT, -1, -1, 0) for name in names))
        return m.RowDescription(tuple(_column(name, table) for name in source.columns))

    def _run(self, portal: _Portal, maximum: int, *, several: bool) -> None:
        statement = portal.statement
        assert statement is not None
        if statement.kind == "delete":
            portal.done = True
            tag = self._plain(statement, portal, several=several)
            shown = statement.count if statement.columns else 0
            self._say(*(m.DataRow((f"gone {statement.count}".encode(),)) for _ in range(shown)))
            self._say(m.CommandComplete(tag))
            return
        if statement.returns_rows or portal.rows is not None:
            if portal.rows is None:
                portal.rows = self._rows(portal)
            self._rows_out(portal, maximum, statement)
            return
        portal.done = True
        if statement.kind in ("begin", "commit", "rollback", "savepoint", "rollback_to", "release"):
            self._log(statement, ())
            self._say(m.CommandComplete(self._transaction(statement)))
        else:
            self._say(m.CommandComplete(self._plain(statement, portal, several=several)))

    def _rows_out(self, portal: _Portal, maximum: int, statement: Statement) -> None:
        rows = portal.rows
        assert rows is not None
        if statement.kind == "declare":
            self._log(statement, {portal.table.dataset} if portal.table is not None else ())
        left = rows[portal.position :]
        sent = left[:maximum] if maximum > 0 else left
        portal.position += len(sent)
        for row in sent:
            self._say(m.DataRow(tuple(value.encode() for value in row)))
        if maximum > 0 and len(sent) == maximum:
            self._say(m.PortalSuspended())
        else:
            self._say(m.CommandComplete(f"SELECT {len(sent)}"))

    def _rows(self, portal: _Portal) -> list[tuple[str, ...]]:
        statement = portal.statement
        assert statement is not None
        if statement.kind == "fetch":
            cursor = self._portal(str(statement.name))
            source, table = self._source(portal)
            if source is None or not source.returns_rows:
                raise _ServerError("XX000", "unsupported portal strategy")
            if cursor.rows is None:
                cursor.rows = self._selected(source, table)
            rows = cursor.rows[cursor.position :]
            rows = rows[: statement.count] if statement.count else rows
            cursor.position += len(rows)
            self._log(statement, {table.dataset} if table is not None else ())
            return rows
        source, table = self._source(portal)
        if source is not None and source.kind not in ("select", "session", "user_catalog"):
            # EXECUTE of what Parse has prepared and is no query.
            inner = self._opened(source, table)
            self._log(statement, {inner.table.dataset} if inner.table is not None else ())
            if source.kind in ("begin", "commit", "rollback", "savepoint", "rollback_to", "release"):
                self._transaction(source)
            else:
                self._carry_out(source, inner, several=False)
            return []
        self._log(statement, {table.dataset} if table is not None else ())
        return self._selected(source, table)

    def _selected(self, source: Statement | None, table: Table | None) -> list[tuple[str, ...]]:
        if source is None:
            return []
        if source.kind == "session":
            return [(self._session_document(),)]
        if source.kind == "user_catalog":
            rows = self.world.catalog_rows_with_temporary if self._has_temporary else self.world.catalog_rows
            return list(rows)
        if table is None:
            return [tuple("1" for _ in source.columns)]
        if "count(*)" in source.columns:
            return [(str(len(table.rows)),)]
        places = [table.columns.index(name) for name in source.columns]
        return [tuple(row[place] for place in places) for row in table.rows]

    def _session_document(self) -> str:
        temporary = self.world.temp_schema if self._has_temporary else ""
        path = [temporary] if temporary else []
        return json.dumps(
            {
                "path": [*path, "pg_catalog", self._path],
                "user": "bot",
                "session_user": "bot",
                "temp_schema": temporary,
                "settings": {
                    "search_path": self._path,
                    "standard_conforming_strings": "on",
                    "client_encoding": "UTF8",
                    "transaction_isolation": "read committed",
                    "row_security": "on",
                },
                "transaction": "",
            }
        )

    def _plain(self, statement: Statement, portal: _Portal, *, several: bool) -> str:
        """Carries out what returns no rows; its tag."""
        self._log(statement, {portal.table.dataset} if portal.table is not None else ())
        return self._carry_out(statement, portal, several=several)

    def _carry_out(self, statement: Statement, portal: _Portal, *, several: bool) -> str:
        match statement.kind:
            case "fail":
                raise _ServerError("22012", "division by zero")
            case "set_path":
                self._path = str(statement.name)
                return "SET"
            case "create_temp":
                if self._has_temporary:
                    raise _ServerError("42P07", "relation already exists")
                self._has_temporary = True
                return "CREATE TABLE"
            case "copy_out":
                assert portal.table is not None
                lines = [m.CopyData(("\t".join(row) + "\n").encode()) for row in portal.table.rows]
                self._say(m.CopyOutResponse(0, (0, 0)), *lines, m.CopyDone())
                return f"COPY {len(lines)}"
            case "insert":
                return "INSERT 0 1"
            case "delete":
                self._changed.append(statement.count)
                return f"DELETE {statement.count}"
            case _:
                return self._about_names(statement, several=several)

    def _about_names(self, statement: Statement, *, several: bool) -> str:
        name = statement.name
        match statement.kind:
            case "prepare":
                if name in self._prepared:
                    raise _ServerError("42P05", "prepared statement already exists")
                self._prepared[str(name)] = self._resolved(statement.inner)
                return "PREPARE"
            case "deallocate":
                if name is None:
                    self._prepared.clear()
                else:
                    self._named(name)
                    del self._prepared[name]
                return "DEALLOCATE"
            case "declare":
                if self.status is m.TransactionStatus.IDLE and not several:
                    raise _ServerError("25P01", "DECLARE CURSOR can only be used in transaction blocks")
                if name in self._portals:
                    raise _ServerError("42P03", "cursor already exists")
                assert statement.inner is not None
                table = self._table(statement.inner.table)
                rows = self._selected(statement.inner, table)
                self._portals[str(name)] = _Portal(statement, rows, table, scroll=" scroll " in statement.text)
                return "DECLARE CURSOR"
            case "move":
                cursor = self._portal(str(name))
                if not cursor.scroll:
                    raise _ServerError("55000", "cursor can only scan forward")
                cursor.position = 0
                return "MOVE 0"
            case "close":
                self._portal(str(name))
                del self._portals[str(name)]
                return "CLOSE CURSOR"
            case kind:
                raise AssertionError(f"{kind} is not in this model")


def _column(name: str, table: Table | None) -> m.Column:
    if table is None or name not in table.columns:
        return m.Column(name, 0, 0, _INT4, 4, -1, 0)
    kind = _INT4 if name == "id" else _TEXT
    return m.Column(name, table.oid, table.columns.index(name) + 1, kind, 4 if name == "id" else -1, -1, 0)


def script(*texts: tuple[Statement, ...]) -> dict[str, tuple[Statement, ...]]:
    """Statements by the text of the message that carries them; several are joined with "; "."""
    return {"; ".join(statement.text for statement in statements): statements for statements in texts}


def select(table: str, *columns: str) -> Statement:
    return Statement(f"select {', '.join(columns)} from {table}", "select", table, columns)


def prepare(name: str, inner: Statement) -> Statement:
    return Statement(f"prepare {name} as {inner.text}", "prepare", name=name, inner=inner)


def declare(name: str, inner: Statement, *, scroll: bool = False) -> Statement:
    word = "scroll " if scroll else ""
    return Statement(f"declare {name} {word}cursor for {inner.text}", "declare", name=name, inner=inner)
