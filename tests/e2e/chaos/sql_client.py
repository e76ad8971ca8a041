"""Clients of the PostgreSQL proxy: single statements, transactions, pipelines, held ones, on long-lived connections."""

import contextlib
import json
import os
import random
import select
import socket
import threading
import time
from typing import Any

import psycopg

from tests.e2e.chaos.told import Ledger, Outcome, Statement, Wish
from tests.fix_stack import Stack

INSERT = "insert into entries (marker, note) values ('{}', 'n')"
CLOSED = "insert into closed (marker) values ('{}')"
HELD = "insert into held (marker) values ('{}')"
READ = "select marker, note from entries limit 3 /* {} */"
FAILS = "insert into entries (marker, note) values ('{}', ('x' || 1)::int::text)"
# Too long to be parsed where all sessions are served: a child process of the proxy does it.
LONG = INSERT.replace("'n'", f"'{'n' * 40_000}'")
_GLANCE = 0.2
_SHOWN = 200


class SqlClient(threading.Thread):
    """Works until `stopping` is set; then its last connection, if it has one, is still open in `connection`."""

    def __init__(
        self, name: str, stack: Stack, token: str, ledger: Ledger, seed: str, stopping: threading.Event
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.connection: psycopg.Connection[Any] | None = None
        self._stack, self._token, self._ledger, self._stopping = stack, token, ledger, stopping
        self._random = random.Random(seed)
        self._noticed = threading.Event()

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                if self.connection is not None and self.connected:
                    self._work(self.connection)
                else:
                    self._log_in()
                self._stopping.wait(self._random.uniform(0, 0.12))
        except BaseException as error:
            self._ledger.surprise(f"{self.name}: {error!r}")
            raise

    @property
    def connected(self) -> bool:
        return self.connection is not None and not self.connection.closed

    def goes_on(self) -> bool:
        """Asks once more. A connection that was cut, and whose client is told now that it asks, is over."""
        assert self.connection is not None
        statement = self._ledger.new("sql", "insert")
        text = "insert into entries (marker, note) values (%s, 'after')"
        return self._send(self.connection, statement, text, [statement.marker]) or not self.connected

    def unblock(self) -> None:
        """Called from outside for a call that hangs."""
        connection = self.connection
        # It may be closed just now.
        with contextlib.suppress(psycopg.Error, OSError):
            if connection is not None:
                with socket.socket(fileno=os.dup(connection.fileno())) as copy:
                    copy.shutdown(socket.SHUT_RDWR)

    def _log_in(self) -> None:
        with self._ledger.call(self.name, "log in"):
            try:
                self.connection = self._stack.connect(self._token, prepare_threshold=3)
            except psycopg.OperationalError as error:
                self._ledger.login("refused or cut")
                self.connection = None
                if "do not repeat it unchanged" in str(error):
                    self._ledger.surprise(f"a login was refused for good: {error}")
                self._stopping.wait(self._random.uniform(0.05, 0.5))
                return
        self._ledger.login("let in")

    def _work(self, connection: psycopg.Connection[Any]) -> None:
        kinds = [self._single] * 9 + [self._transaction, self._pipeline, self._held, self._leave_the_connection]
        self._random.choice(kinds)(connection)

    def _leave_the_connection(self, connection: psycopg.Connection[Any]) -> None:
        if self._random.random() < 0.3:
            connection.close()

    # --- one statement ------------------------------------------------------------------------------------------------

    def _single(self, connection: psycopg.Connection[Any]) -> None:
        kind, text = self._random.choice(
            [("insert", INSERT)] * 4
            + [("read", READ)] * 2
            + [("denied", CLOSED), ("fails", FAILS), ("long insert", LONG)]
        )
        statement = self._ledger.new("sql", kind)
        if "'{}'" in text and self._random.random() < 0.4:
            self._send(connection, statement, text.replace("'{}'", "%s"), [statement.marker])
        else:
            self._send(connection, statement, text.format(statement.marker))

    def _send(self, connection: psycopg.Connection[Any], statement: Statement, text: str, values: Any = None) -> bool:
        statement.text = text[:_SHOWN]
        with self._ledger.call(self.name, f"{statement.marker} {statement.text}"):
            try:
                cursor = connection.execute(text, values)  # type: ignore[arg-type]
                if cursor.description is not None:
                    cursor.fetchall()
                statement.tell(Outcome.SUCCEEDED, cursor.statusmessage or "")
            except psycopg.Error as error:
                statement.tell(*told(error))
        return statement.outcome is Outcome.SUCCEEDED

    # --- several ------------------------------------------------------------------------------------------------------

    def _transaction(self, connection: psycopg.Connection[Any]) -> None:
        group = self._ledger.group()
        statements = [self._ledger.new("sql", "in transaction", group=group) for _ in range(self._random.randint(1, 3))]
        ends = self._ledger.new("sql", "commit", group=group)
        try:
            self._call(connection, "begin")
            for each in statements:
                each.text = INSERT.format(each.marker)
                self._call(connection, each.text)
                each.tell(Outcome.SUCCEEDED)
            ends.text = f"commit /* {ends.marker} */"
            self._call(connection, ends.text)
            ends.tell(Outcome.SUCCEEDED)
        except psycopg.Error as error:
            started = [each for each in [*statements, ends] if each.text]
            if started and started[-1].outcome is not Outcome.SUCCEEDED:
                started[-1].tell(*told(error))
            for each in [*statements, ends]:
                if not each.text:
                    self._ledger.statements.pop(each.marker)
        self._roll_back(connection)

    def _call(self, connection: psycopg.Connection[Any], text: str) -> None:
        with self._ledger.call(self.name, text):
            connection.execute(text.encode())

    def _pipeline(self, connection: psycopg.Connection[Any]) -> None:
        statements = [self._ledger.new("sql", "in pipeline") for _ in range(3)]
        with self._ledger.call(self.name, "pipeline"):
            try:
                with connection.pipeline():
                    for each in statements:
                        each.text = INSERT.replace("'{}'", "%s")
                        connection.execute(each.text, [each.marker])  # type: ignore[arg-type]
                for each in statements:
                    each.tell(Outcome.SUCCEEDED)
            except psycopg.Error as error:
                for each in statements:
                    each.tell(Outcome.UNKNOWN, error)
        self._roll_back(connection)

    def _roll_back(self, connection: psycopg.Connection[Any]) -> None:
        with self._ledger.call(self.name, "rollback"):
            try:
                if not connection.closed and connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                    connection.rollback()
            except psycopg.Error:
                connection.close()

    # --- what waits for people ----------------------------------------------------------------------------------------

    def _held(self, connection: psycopg.Connection[Any]) -> None:
        wish = self._random.choice([Wish.YES, Wish.YES, Wish.NO, Wish.RACE, Wish.LEAVE, Wish.SILENCE])
        statement = self._ledger.new("sql", "held", wish)
        statement.text = HELD.format(statement.marker)
        if wish is Wish.LEAVE:
            self._ask_and_leave(connection, statement)
        else:
            self._send(connection, statement, statement.text)

    def _ask_and_leave(self, connection: psycopg.Connection[Any], statement: Statement) -> None:
        noticed: list[bool] = []
        connection.add_notice_handler(lambda notice: noticed.append(True))
        pgconn = connection.pgconn
        until = time.monotonic() + self._random.uniform(1, 5)
        with self._ledger.call(self.name, f"{statement.marker} to be left"):
            try:
                pgconn.send_query(statement.text.encode())
                while not noticed and time.monotonic() < until and pgconn.is_busy():
                    if select.select([pgconn.socket], [], [], _GLANCE)[0]:
                        pgconn.consume_input()
            except psycopg.Error as error:
                statement.tell(Outcome.UNKNOWN, error)
                connection.close()
                self._ledger.left(statement)
                return
            connection.close()
        statement.tell(Outcome.LEFT, "was told that it waits" if noticed else "")
        self._ledger.left(statement)


def told(error: psycopg.Error) -> tuple[Outcome, object]:
    """What an error says about the statement that it answers."""
    detail = error.diag.message_detail or ""
    if error.sqlstate == "42501" and detail.startswith('{"checkrein"'):
        parts = json.loads(detail)["checkrein"]
        return (Outcome.LATER if parts["retry"] else Outcome.DENIED), error.diag.message_primary
    if (error.sqlstate or "").startswith("54"):
        # Too long, too complex: it need not come again.
        return Outcome.DENIED, f"{error.sqlstate} {error}"
    if error.sqlstate is None or isinstance(error, psycopg.OperationalError):
        return Outcome.UNKNOWN, error
    return Outcome.FAILED, f"{error.sqlstate} {error}"
