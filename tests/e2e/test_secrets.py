"""No secret leaves its place: not into a log, a record, the store, what OPA sees, a file, or an error."""

import contextlib
import hashlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from tests.e2e.clients import Waiting
from tests.fix_postgres import PROXY_PASSWORD
from tests.fix_stack import APPROVER, OPERATOR, Stack

PLANTED = "S3cret-planted"
# A number that stands nowhere else: no port, id or time.
ORDINARY = 1987654321
STATEMENTS = [
    "alter role checkrein_proxy password '{0}-1'",
    "alter role checkrein_proxy pasword '{0}-2'",
    "create role other login encrypted password '{0}-3'",
    "create user mapping for public server s options (user 'u', password '{0}-4')",
    "select * from dblink('host=elsewhere password={0}-5', 'select 1') as t(a int)",
    "create subscription s connection 'host=elsewhere password={0}-6' publication p",
    "alter role checkrein_proxy password '{0}-7",
    "/* it begins */ select 1; alter role checkrein_proxy password '{0}-8'",
    "do $$ begin execute 'alter role checkrein_proxy password ''{0}-9'''; end $$",
    "select set_config('my.password', '{0}-10', false)",
]


def files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Everything that a process keeps or says; not the files that are given to it to hold a secret."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".password":
            yield path, path.read_bytes()


def found(stack: Stack, planted: dict[str, bytes]) -> list[str]:
    """Which of the secrets stand where."""
    kept = files(stack.folder)
    places = [f"{name} in {path}" for path, data in kept for name, secret in planted.items() if secret in data]
    return places + [
        f"{name} in an argument of {pid}"
        for pid, words in stack.processes().items()
        for name, secret in planted.items()
        if secret in words
    ]


def test_what_is_secret_stays_where_it_is(private_stack):
    key, hash_key = secrets.token_hex(32), secrets.token_hex(32)

    def edit(document: dict[str, Any]) -> None:
        document["log"] = {"level": "debug", "format": "json"}
        document["pdp"]["identity"]["keys"] = [
            {
                "id": "nightly",
                "hash": hashlib.sha256(key.encode()).hexdigest(),
                "subject": {"type": "service", "id": "nightly"},
                "audience": "shop",
            }
        ]
        hidden = Path(document["state"]).with_name("hash.password")
        hidden.write_text(hash_key)
        document["proxies"][0]["masks"] = {"hash_key": {"file": str(hidden)}}

    stack = private_stack(edit)
    stack.serve()
    tokens = [stack.node("read_customers", "secret-run"), stack.node("delete_stale"), stack.person(OPERATOR)]
    # What the client is told may repeat its own words, as the server's syntax errors do; nobody else's secret.
    told_to_clients: list[str] = []
    with (
        psycopg.connect(stack.dsn(tokens[0]), autocommit=True) as agent,
        psycopg.connect(stack.dsn(f"ck_nightly_{key}"), autocommit=True) as service,
    ):
        for connection in (agent, service):
            for statement in STATEMENTS:
                try:
                    connection.execute(statement.format(PLANTED).encode())
                except psycopg.Error as error:
                    told_to_clients += [str(error), str(error.diag.message_detail), str(error.diag.message_hint)]
                    connection.rollback()
        agent.execute("select id, email from customers limit 1", prepare=True)
        # Values that are no secret: on record, and in no log.
        agent.execute("select id from customers where name = 'written-value' and id = %s", (ORDINARY,))
        with contextlib.suppress(psycopg.Error):
            agent.execute("select id from customers where id = 'wrong-value'::int and name = %s", (f"{ORDINARY}-text",))
        try:
            agent.execute("select %s::text from customers where ssn = %s", ("x", PLANTED))
        except psycopg.Error as error:
            told_to_clients.append(str(error))
    # Closed without a commit: the statement still waits.
    with contextlib.closing(stack.connect(tokens[1])) as connection:
        waiting = Waiting(connection, "delete from orders where id = 50")
        told_to_people = stack.as_(APPROVER, "approvals", "show", waiting.approval)
    (session,) = stack.until(lambda: stack.sessions("secret-run"))
    told_to_people += stack.recorded(session, "session closed")
    # At the level that says most, of every process: no statement's words and no value, also where it failed.
    values = ["written-value", "wrong-value", str(ORDINARY), PLANTED]
    assert [value for value in values if value in stack.logs()] == []
    assert [value for value in values[:3] if value not in told_to_people] == []

    planted = {
        "the upstream's password": PROXY_PASSWORD.encode(),
        "the static key": key.encode(),
        "the hash key": hash_key.encode(),
        **{f"token {number}": each.encode() for number, each in enumerate(tokens)},
        **{f"signature {number}": each.rsplit(".", 1)[1].encode() for number, each in enumerate(tokens)},
    }
    in_statements = {f"{PLANTED}-{number}": f"{PLANTED}-{number}".encode() for number in range(1, 11)}
    assert found(stack, planted | in_statements) == []
    assert [name for name, secret in (planted | in_statements).items() if secret in told_to_people.encode()] == []
    assert [name for name, secret in planted.items() if secret in "\n".join(told_to_clients).encode()] == []
    stack.end("proxy")
    stack.end("service")
    assert found(stack, planted | in_statements) == []
    # That they would be found if they were there: what is no secret is on record.
    assert found(stack, {"a statement": b"delete from orders where id = 50"})
