"""Clients of a stack in the states that a test needs: refused, waiting for people, running at the target."""

import json
import select
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from tests.fix_stack import PATIENCE, Stack


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a client has been told, taken apart."""

    sqlstate: str
    message: str
    hint: str
    detail: Mapping[str, Any]

    @classmethod
    def of(cls, error: psycopg.Error) -> "Refusal":
        said = error.diag
        assert said.message_detail is not None, error
        detail = json.loads(said.message_detail)["checkrein"]
        return cls(said.sqlstate or "", said.message_primary or "", said.message_hint or "", detail)


def refusal(connection: psycopg.Connection[Any], statement: str) -> Refusal:
    """Of a statement that has to be refused."""
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(statement.encode())
    assert caught.value.diag.message_primary is not None, caught.value
    return Refusal.of(caught.value)


class Waiting:
    """A statement that waits for people, as a real client in a thread of its own would send it.

    The connection works without blocking, because the notice that names the approval arrives before the answer.
    """

    def __init__(self, connection: psycopg.Connection[Any], statement: str) -> None:
        self.connection = connection
        self._notices: list[dict[str, Any]] = []
        connection.add_notice_handler(self._noticed)
        self._pgconn = connection.pgconn
        self._pgconn.send_query(statement.encode())
        self.approval = self._first_notice()

    def _noticed(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.message_detail:
            self._notices.append(json.loads(notice.message_detail)["checkrein"])

    def _first_notice(self) -> str:
        self._read(lambda: bool(self._notices))
        assert self._notices, self._outcome()
        return str(self._notices[0]["approval"])

    @property
    def waits(self) -> bool:
        self._pgconn.consume_input()
        return bool(self._pgconn.is_busy())

    def outcome(self) -> str:
        """The command tag, or the refusal's first line."""
        self._read(lambda: False)
        return self._outcome()

    def _outcome(self) -> str:
        said = ""
        while (result := self._pgconn.get_result()) is not None:
            said = (result.command_status or b"").decode() or result.error_message.decode()
        return said

    def _read(self, enough: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while self._pgconn.is_busy() and not enough():
            assert time.monotonic() < end, "nothing comes back"
            if select.select([self._pgconn.socket], [], [], 0.5)[0]:
                self._pgconn.consume_input()


class OnLock:
    """A statement about orders that has reached the target, where it waits for a lock that the test holds."""

    def __init__(self, stack: Stack, connection: psycopg.Connection[Any], statement: str) -> None:
        self.got: list[Any] = []
        self._connection, self._statement = connection, statement.encode()
        self._client = threading.Thread(target=self._run)
        self._owner = psycopg.connect(stack.server.dsn(stack.database))
        self._owner.execute("lock table orders in access exclusive mode")
        self._client.start()
        waits = "select 1 from pg_locks where not granted and relation = 'orders'::regclass"
        self.reached = stack.until(lambda: self._owner.execute(waits).fetchall() or not self._client.is_alive())

    def _run(self) -> None:
        try:
            self.got.extend(self._connection.execute(self._statement).fetchall())
        except psycopg.Error as error:
            self.got.append(error)

    def let_go(self) -> None:
        self._owner.rollback()
        self._owner.close()

    def outcome(self) -> list[Any]:
        self._client.join()
        return self.got
