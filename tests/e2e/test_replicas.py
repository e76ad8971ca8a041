"""Two replicas of the service with one database of PostgreSQL, and a proxy that knows both: one of them is killed."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pdp.certificates import SERVER_NAME, Authority, Certificate
from pdp.commands.connection import Reach, connected
from pdp.commands.failure import Failure
from tests.e2e.clients import Refusal, Waiting
from tests.fix_postgres import PostgresServer
from tests.fix_stack import APPROVER, OPERATOR, RESOURCE, Stack, installed, seed

STORE = "replicas_store"
ORDERS = "select id, status, total from orders order by id limit 3"
DELETE = "delete from orders where status = 'stale' and id = {}"


@dataclass
class Replicas:
    """An installation with two services; the stack's own names are `service-a`, `service-b` and `proxy`."""

    stack: Stack
    line: Certificate

    def config(self, name: str) -> Path:
        return self.stack.folder / f"{name}.yaml"

    def start(self, name: str) -> None:
        key = f"service-{name}"
        self.stack._start(key, "pdp", "serve", "-c", str(self.config(name)))
        self.stack.until(lambda: self.decides(name), key, f"replica {name} decides")

    def kill(self, name: str) -> None:
        self.stack.kill(f"service-{name}")

    def decides(self, name: str) -> bool:
        ready = self.stack.folder / f"state-{name}" / "pdp.ready"
        with contextlib.suppress(FileNotFoundError):
            if ready.read_text().split(" ", 1)[0] == str(self.stack.running[f"service-{name}"].pid):
                return asyncio.run(self._serving(name))
        return False

    async def _serving(self, name: str) -> bool:
        line = self.line
        reach = Reach(
            self.config(name),
            cert=line.certificate,
            key=line.key,
            ca=line.authority,
            server_name=SERVER_NAME,
        )
        async with connected(reach) as connection:
            with contextlib.suppress(Failure):
                return await connection.serving()
        return False

    def as_(self, name: str, who: Any, *words: str) -> str:
        """A command that replica `name` answers."""
        line = self.line
        reach = ["--cert", str(line.certificate), "--key", str(line.key), "--ca", str(line.authority)]
        return self.stack.as_(who, *words, *reach, "--server-name", SERVER_NAME, "-c", str(self.config(name)))


@pytest.fixture(scope="module")
def replicas(postgres18: PostgresServer, opa_path: Path) -> Iterator[Replicas]:
    """Running. Each test that kills a replica starts it again."""
    store = f"postgresql+psycopg://postgres@{postgres18.host}:{postgres18.port}/{STORE}"
    postgres18.create_database(STORE)
    seed(postgres18, "replicas_shop")
    with installed(postgres18, opa_path, "replicas_shop") as stack:
        authority = Authority.open(stack.folder / "authority")
        issuer = stack.folder / "issuer.key"
        issuer.write_bytes(
            Ed25519PrivateKey.generate().private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        found = Replicas(stack, authority.command_line())
        configure(found, authority, store, issuer)
        for name in "ab":
            found.start(name)
        stack.start_proxy()
        yield found


def configure(found: Replicas, authority: Authority, store: str, issuer: Path) -> None:
    stack, server, proxy = found.stack, authority.server(), authority.issue(RESOURCE)
    document = yaml.safe_load(stack.config.read_text())
    document["pdp"] |= {
        "store": {"url": store},
        "tls": {"cert": str(server.certificate), "key": str(server.key), "client_ca": str(server.authority)},
        "identity": {
            "issuers": [{"name": "checkrein", "self": True, "key": {"file": str(issuer)}}],
            "clock_skew": "0s",
        },
    }
    document["decisions"] |= {
        "addresses": [f"unix:{stack.folder / name}.sock" for name in "ab"],
        "tls": {
            "cert": str(proxy.certificate),
            "key": str(proxy.key),
            "ca": str(proxy.authority),
            "server_name": SERVER_NAME,
        },
    }
    # The proxy's file, and the one by which tokens are made.
    stack.config.write_text(yaml.safe_dump(document, sort_keys=False))
    for name in "ab":
        document["state"] = str(stack.folder / f"state-{name}")
        document["pdp"]["listen"] = f"unix:{stack.folder / name}.sock"
        found.config(name).write_text(yaml.safe_dump(document, sort_keys=False))


def rows(connection: psycopg.Connection[Any]) -> bool:
    """Whether the statement is answered; one that was being decided meanwhile may have to come again."""
    try:
        return len(connection.execute(ORDERS).fetchall()) == 3
    except psycopg.errors.InsufficientPrivilege as error:
        if Refusal.of(error).detail["retry"] is not True:
            raise
        return False


def test_what_was_begun_goes_on_whichever_replica_dies(replicas: Replicas):
    """Statements, new logins, an approval that waits; and the records of it all are whole chains."""
    stack = replicas.stack
    with (
        stack.connect(stack.node("read_orders", run="both")) as connection,
        stack.connect(stack.node("delete_stale", run="both")) as asking,
    ):
        assert rows(connection)
        waiting = Waiting(asking, DELETE.format(50))
        replicas.kill("a")
        stack.until(lambda: rows(connection), "proxy", "a statement is answered without a")
        with stack.connect(stack.node("read_orders", run="both")) as newcomer:
            stack.until(lambda: rows(newcomer), "proxy", "a newcomer is answered")
        said = replicas.as_("b", APPROVER, "approvals", "approve", waiting.approval, "--yes")
        assert "id = 50" in said
        assert waiting.outcome() == "DELETE 1"
        replicas.start("a")
        again = Waiting(asking, DELETE.format(100))
        replicas.kill("b")
        stack.until(lambda: rows(connection), "proxy", "a statement is answered without b")
        replicas.as_("a", APPROVER, "approvals", "approve", again.approval, "--yes")
        assert again.outcome() == "DELETE 1"
    assert stack.truth("select count(*) from orders where id in (50, 100)") == [(0,)]
    stack.until(lambda: chains(stack, "both") == [(True, True)] * 3, "proxy", "three records have come to their ends")
    replicas.start("b")


def chains(stack: Stack, run: str) -> list[tuple[object, ...]]:
    """Of each session of a run: whether its record has no gap, and whether it has come to its end."""
    return stack.server.sql(
        STORE,
        "select max(seq) = count(*) - 1, bool_or(convert_from(event, 'UTF8') like '%\"session.closed\"%')"
        f" from records where session_id in (select id from sessions where run = '{run}') group by session_id",
    )


def test_a_session_is_cut_by_either_replica(replicas: Replicas):
    stack = replicas.stack
    for name in "ab":
        run = f"cut-by-{name}"
        with stack.connect(stack.node("read_orders", run=run)) as connection:
            assert rows(connection)
            ((session,),) = stack.server.sql(STORE, f"select id from sessions where run = '{run}'")
            replicas.as_(name, OPERATOR, "sessions", "kill", str(session), "--reason", "looks wrong")
            stack.until(lambda connection=connection: cut(connection), "proxy", "the session is cut")


def cut(connection: psycopg.Connection[Any]) -> bool:
    try:
        connection.execute("select 1")
    except psycopg.OperationalError:
        return True
    except psycopg.errors.InsufficientPrivilege:
        return False
    return False
