"""Clients of the HTTP proxy, each with one connection that it keeps as long as it can."""

import contextlib
import http.client
import json
import random
import socket
import threading

from tests.e2e.chaos.told import Ledger, Outcome, Statement, Wish
from tests.fix_stack import HOST

_CONNECT = 10.0


class HttpClient(threading.Thread):
    """Works until `stopping` is set."""

    def __init__(self, name: str, port: int, token: str, ledger: Ledger, seed: str, stopping: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self._port, self._token, self._ledger, self._stopping = port, token, ledger, stopping
        self._random = random.Random(seed)
        self.connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                if self._reaches():
                    self._work()
                self._stopping.wait(self._random.uniform(0, 0.12))
        except BaseException as error:
            self._ledger.surprise(f"{self.name}: {error!r}")
            raise

    @property
    def connected(self) -> bool:
        return self.connection is not None

    def goes_on(self) -> bool:
        """Asks once more. A connection that was cut, and whose client is told now that it asks, is over."""
        statement = self._ledger.new("http", "post")
        statement.text = f"POST /entries/{statement.marker}"
        self.send(statement)
        return statement.outcome is Outcome.SUCCEEDED or not self.connected

    def unblock(self) -> None:
        """Called from outside for a call that hangs."""
        connection = self.connection
        # It may be closed just now.
        with contextlib.suppress(OSError, AttributeError):
            if connection is not None:
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _reaches(self) -> bool:
        """Whether somebody listens; nothing is asked of nobody."""
        try:
            self._connect()
        except OSError:
            self._drop()
            self._stopping.wait(self._random.uniform(0.1, 0.5))
            return False
        return True

    def _work(self) -> None:
        kind, method, path = self._random.choice(
            [("post", "POST", "/entries/{}")] * 4
            + [("long post", "POST", "/entries/{}")]
            + [("get", "GET", "/entries/{}")] * 3
            + [("denied", "POST", "/closed/{}"), ("held", "POST", "/held/{}"), ("async", "POST", "/held/{}")]
        )
        wish = None
        if kind == "held":
            wish = self._random.choice([Wish.YES, Wish.YES, Wish.NO, Wish.RACE, Wish.LEAVE])
        elif kind == "async":
            wish = self._random.choice([Wish.YES, Wish.YES, Wish.NO])
        statement = self._ledger.new("http", kind, wish)
        statement.text = f"{method} {path.format(statement.marker)}"
        if wish is Wish.LEAVE:
            self._ask_and_leave(statement)
        else:
            self.send(statement)

    def send(self, statement: Statement) -> None:
        method, path = statement.text.split(" ")
        status = self._once(statement, method, path)
        # Whoever does not wait comes back with the very same request.
        tries = 0
        while status == 202 and tries < 40 and not self._stopping.wait(0.5):
            tries += 1
            status = self._once(statement, method, path)
        if status == 202:
            statement.tell(Outcome.LATER, "still waits")

    def _once(self, statement: Statement, method: str, path: str) -> int:
        try:
            with self._ledger.call(self.name, statement.text):
                connection = self._connect()
                connection.request(method, path, body=self._body(statement, method), headers=self._fields(statement))
                answer = connection.getresponse()
                body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            statement.tell(Outcome.UNKNOWN, repr(error))
            return 0
        statement.tell(*_told(answer.status, body))
        return answer.status

    def _ask_and_leave(self, statement: Statement) -> None:
        method, path = statement.text.split(" ")
        with self._ledger.call(self.name, f"{statement.text} to be left"):
            try:
                connection = self._connect()
                connection.request(method, path, body=self._body(statement, method), headers=self._fields(statement))
                assert connection.sock is not None
                connection.sock.settimeout(self._random.uniform(0.5, 4))
                answer = connection.getresponse()
                statement.tell(*_told(answer.status, answer.read()))
            except TimeoutError:
                statement.tell(Outcome.LEFT)
            except (OSError, http.client.HTTPException) as error:
                statement.tell(Outcome.UNKNOWN, repr(error))
            self._drop()
        self._ledger.left(statement)

    def _connect(self) -> http.client.HTTPConnection:
        if self.connection is None:
            self.connection = http.client.HTTPConnection(HOST, self._port, timeout=_CONNECT)
        if self.connection.sock is None:
            self.connection.connect()
            # What takes too long from here on is found by who watches, and is not the client's to give up.
            self.connection.sock.settimeout(None)
        return self.connection

    def _drop(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def _fields(self, statement: Statement) -> dict[str, str]:
        fields = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        return fields | ({"Prefer": "respond-async"} if statement.kind == "async" else {})

    def _body(self, statement: Statement, method: str) -> bytes | None:
        # One that is read in a child process of the proxy, if it is read.
        pad = 40_000 if statement.kind == "long post" else 10
        return json.dumps({"pad": "y" * pad}).encode() if method == "POST" else None


def _told(status: int, body: bytes) -> tuple[Outcome, object]:
    if status == 200:
        return Outcome.SUCCEEDED, status
    said = f"{status} {body.decode('utf-8', 'replace')}"
    if status in (403, 503):
        with contextlib.suppress(ValueError, KeyError):
            parts = json.loads(body)["checkrein"]
            return (Outcome.LATER if parts["retry"] else Outcome.DENIED), said
    return Outcome.FAILED, said
