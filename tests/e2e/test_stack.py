"""Each of the four verdicts, through every client that people use, on the shipped policies; and how one gets in."""

import asyncio
import hashlib
import json
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy
from langchain_community.utilities import SQLDatabase

from tests.certificates import make_authority
from tests.e2e.clients import Waiting, refusal
from tests.fix_stack import ADMINISTRATION, AGENT, APPROVER, PERSON, ROOT, Done, Stack

ORDERS = "select id, status, total from orders order by id limit 3"
CUSTOMERS = "select id, name, email, ssn from customers order by id limit 1"
MASKED = (1, "Bruno Brandt", "br****@ex****.com", None)
DELETE = "delete from orders where status = 'stale' and id = {}"
DROP = "drop table payments"


@pytest.fixture(scope="module", autouse=True)
def shop_is_whole(stack: Stack):
    """Whatever was allowed or denied here, what was denied is still there."""
    before = stack.truth("select count(*) from payments")
    yield
    assert stack.truth("select count(*) from payments") == before


# --- psycopg ----------------------------------------------------------------------------------------------------------


def test_psycopg_is_allowed_what_its_node_may_read(stack: Stack):
    assert stack.ask(stack.node("read_orders"), ORDERS) == stack.truth(ORDERS)


@pytest.mark.parametrize("binary", [False, True])
def test_psycopg_gets_masks_in_text_and_in_binary(stack: Stack, binary: bool):
    with stack.connect(stack.node("read_customers")) as connection:
        assert connection.execute(CUSTOMERS, binary=binary).fetchall() == [MASKED]
        prepared = [connection.execute(CUSTOMERS, prepare=True, binary=binary).fetchall() for _ in range(3)]
        assert prepared == [[MASKED]] * 3


def test_psycopg_waits_for_a_yes_and_then_its_delete_is_done(stack: Stack):
    with stack.connect(stack.node("delete_stale")) as connection:
        waiting = Waiting(connection, DELETE.format(50))
        assert waiting.waits
        assert stack.truth("select count(*) from orders where id = 50") == [(1,)]
        stack.as_(APPROVER, "approvals", "approve", waiting.approval, "--yes")
        assert waiting.outcome() == "DELETE 1"
        assert stack.truth("select count(*) from orders where id = 50") == [(0,)]


def test_psycopg_is_told_why_and_what_instead_and_goes_on_with_the_same_connection(stack: Stack):
    with stack.connect(stack.node("drop_table")) as connection:
        told = refusal(connection, DROP)
        assert told.sqlstate == "42501"
        assert told.message.startswith("this statement is refused by policy no_ddl: Agents do not change the schema;")
        assert "do not repeat it unchanged" in told.message
        assert told.detail["verdict"] == "deny"
        assert told.detail["retry"] is False
        assert told.detail["allowed"] == ["Ask the people who own the database for a migration."]
        assert told.detail["id"] in told.message
        assert connection.execute("select 1").fetchone() == (1,)


def test_what_is_refused_in_a_transaction_is_rolled_back_with_it(stack: Stack):
    with stack.connect(stack.node("read_orders"), autocommit=False) as connection:
        connection.execute(ORDERS)
        refusal(connection, DROP)
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("select 1")
        connection.rollback()
        assert connection.execute("select 1").fetchone() == (1,)


def test_an_agent_at_no_node_is_denied_and_one_at_another_is_told_what_it_may_read(stack: Stack):
    with stack.connect(stack.token(AGENT, ("support-agents",), on_behalf_of=PERSON)) as connection:
        told = refusal(connection, ORDERS)
        assert told.message.startswith("this statement is refused: No policy allows this")
    with stack.connect(stack.node("read_orders")) as connection:
        told = refusal(connection, CUSTOMERS)
        assert told.sqlstate == "42501"
        assert "support/read_orders may read public.orders" in told.message + told.hint
        assert connection.execute(ORDERS).fetchall() == stack.truth(ORDERS)


# --- asyncpg ----------------------------------------------------------------------------------------------------------


def with_asyncpg(stack: Stack, node: str, work: Callable[[asyncpg.Connection], Any]) -> Any:
    async def scenario() -> Any:
        connection = await asyncpg.connect(stack.url(stack.node(node)), ssl=False, timeout=20)
        try:
            return await work(connection)
        finally:
            await connection.close(timeout=10)

    return asyncio.run(scenario())


def test_asyncpg_is_allowed_and_masked(stack: Stack):
    async def read(connection: asyncpg.Connection) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await connection.fetch("select id, status from orders where id = $1", 1)]

    async def read_customers(connection: asyncpg.Connection) -> list[tuple[Any, ...]]:
        return [tuple(row) for _ in range(2) for row in await connection.fetch(CUSTOMERS)]

    assert with_asyncpg(stack, "read_orders", read) == [(1, "paid")]
    assert with_asyncpg(stack, "read_customers", read_customers) == [MASKED, MASKED]


def test_asyncpg_is_denied_by_its_own_exception_and_goes_on(stack: Stack):
    async def drop(connection: asyncpg.Connection) -> Any:
        for _ in range(2):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="by policy no_ddl: Agents do not change"):
                await connection.execute(DROP)
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="by policy no_ddl: Agents do not change"):
                await connection.fetch(DROP)
        return await connection.fetchval("select 7")

    assert with_asyncpg(stack, "drop_table", drop) == 7


def test_asyncpg_waits_for_a_yes(stack: Stack):
    async def delete(connection: asyncpg.Connection) -> str:
        told: asyncio.Queue[Any] = asyncio.Queue()
        connection.add_log_listener(lambda _, notice: told.put_nowait(notice))
        waiting = asyncio.create_task(connection.execute("delete from orders where id = $1", 100))
        notice = await asyncio.wait_for(told.get(), 30)
        approval = json.loads(notice.detail)["checkrein"]["approval"]
        await asyncio.to_thread(stack.as_, APPROVER, "approvals", "approve", approval, "--yes")
        return str(await asyncio.wait_for(waiting, 30))

    assert with_asyncpg(stack, "delete_stale", delete) == "DELETE 1"
    assert stack.truth("select count(*) from orders where id = 100") == [(0,)]


# --- psql -------------------------------------------------------------------------------------------------------------


def test_psql_is_allowed_masked_and_denied(stack: Stack):
    done = stack.psql(stack.node("read_orders"), "-At", "-c", ORDERS)
    assert done.out.splitlines() == ["1|paid|17.37", "2|paid|29.74", "3|paid|42.11"]
    done = stack.psql(stack.node("read_customers"), "-At", "-P", "null=NULL", "-c", CUSTOMERS)
    assert done.out.splitlines() == ["1|Bruno Brandt|br****@ex****.com|NULL"]
    done = stack.psql(stack.node("drop_table"), "-At", stdin=f"{DROP};\nselect 'usable';\n")
    assert "ERROR:  this statement is refused by policy no_ddl: Agents do not change the schema" in done.err
    assert 'DETAIL:  {"checkrein":{"v":1,"verdict":"deny"' in done.err
    assert done.out.splitlines() == ["usable"]


def test_psql_describes_everything(stack: Stack):
    commands = ["\\d", "\\d orders", "\\d+ customers", "\\dt+", "\\dn+", "\\df", "\\di", "\\l", "\\du", "\\dp"]
    done = stack.psql(stack.node("read_orders"), "-v", "ON_ERROR_STOP=1", stdin="\n".join(commands) + "\n")
    assert done.status == 0, done.err
    assert done.err == ""
    assert "orders_customer_id_fkey" in done.out


# --- SQLAlchemy, LangChain --------------------------------------------------------------------------------------------


def test_sqlalchemy_is_allowed_masked_and_denied(stack: Stack):
    def rows(node: str, statement: str) -> list[tuple[Any, ...]]:
        engine = sqlalchemy.create_engine(stack.url(stack.node(node), "+psycopg"))
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in connection.execute(sqlalchemy.text(statement))]
        finally:
            engine.dispose()

    assert rows("read_orders", ORDERS) == stack.truth(ORDERS)
    assert rows("read_customers", CUSTOMERS) == [MASKED]
    with pytest.raises(sqlalchemy.exc.ProgrammingError, match="by policy no_ddl: Agents do not change the schema"):
        rows("drop_table", DROP)


def test_sqlalchemy_reflects_the_shop(stack: Stack):
    engine = sqlalchemy.create_engine(stack.url(stack.node("read_orders"), "+psycopg"))
    try:
        metadata = sqlalchemy.MetaData()
        metadata.reflect(engine)
        assert set(metadata.tables) == {"customers", "orders", "payments"}
        (key,) = metadata.tables["orders"].foreign_keys
        assert key.column.table.name == "customers"
    finally:
        engine.dispose()


def test_langchain_sees_the_tables_and_masked_samples_of_one(stack: Stack):
    database = SQLDatabase.from_uri(
        stack.url(stack.node("read_customers"), "+psycopg"), include_tables=["customers"], sample_rows_in_table_info=2
    )
    try:
        said = database.get_table_info()
        assert "CREATE TABLE customers" in said
        assert "br****@ex****.com" in said
        assert "@example.com" not in said
        with pytest.raises(sqlalchemy.exc.ProgrammingError, match="refused"):
            database.run("select max(ssn) from customers")
    finally:
        database._engine.dispose()


# --- who gets in ------------------------------------------------------------------------------------------------------


def login_refused(stack: Stack, token: str, **more: object) -> str:
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(stack.dsn(token, **more)).close()
    return str(caught.value)


def test_who_is_not_known_is_not_let_in_and_the_target_hears_nothing(stack: Stack):
    position = stack.server.log_position()
    good = stack.node("read_orders")
    head, body, signature = good.split(".")
    for bad in ("", "secret", "ck_x_y", good[:-8] + "AAAAAAAA", f"{head}.{body}.", f"{body}.{head}.{signature}"):
        said = login_refused(stack, bad or "''")
        assert "FATAL" in said
        assert bad == "" or bad not in said
    assert "connection received" not in stack.server.log_after(position)


def test_a_token_of_another_resource_or_of_the_service_itself_is_not_let_in(stack: Stack):
    for audience in ("warehouse", ADMINISTRATION):
        said = login_refused(stack, stack.token(AGENT, node="read_orders", audience=audience))
        assert "FATAL" in said
    done = stack.pdp("approvals", "list", token=stack.node("read_orders"))
    assert done.status == 4
    assert done.out == ""


def test_a_token_whose_time_is_over_is_not_let_in(stack: Stack):
    token = stack.token(AGENT, node="read_orders", ttl="1s")

    def refused() -> str:
        try:
            psycopg.connect(stack.dsn(token)).close()
        except psycopg.OperationalError as error:
            return str(error)
        return ""

    assert "FATAL" in stack.until(refused)


def test_another_database_than_the_proxys_is_refused_by_name(stack: Stack):
    said = login_refused(stack, stack.node("read_orders"), dbname="postgres")
    assert f'this proxy serves the database "{stack.database}" and no other' in said


@pytest.fixture(scope="module")
def psql_with_tls() -> Path:
    """The distribution's; the one of the wheel is built without TLS."""
    setup = [sys.executable, str(ROOT / "deploy" / "tools" / "setup"), "postgres"]
    found = subprocess.run(setup, capture_output=True, text=True, check=True)
    return Path(found.stdout.strip()) / "psql"


def test_a_static_key_over_tls_that_the_client_checks_in_full(private_stack, psql_with_tls: Path, tmp_path: Path):
    secret = secrets.token_hex(32)
    authority = make_authority(tmp_path)
    strange = make_authority(tmp_path, "strange-ca")
    pair = authority.issue("proxy", dns=["localhost"])

    def edit(document: dict[str, Any]) -> None:
        document["pdp"]["identity"]["keys"] = [
            {
                "id": "nightly",
                "hash": hashlib.sha256(secret.encode()).hexdigest(),
                "subject": {"type": "user", "id": "ana", "groups": ["analysts"]},
                "audience": "shop",
            }
        ]
        document["proxies"][0]["listen"]["tls"] = {"cert": str(pair.certificate), "key": str(pair.key)}

    stack = private_stack(edit)
    stack.serve()
    key = f"ck_nightly_{secret}"

    def psql(password: str, *, ca: Path, host: str = "localhost") -> Done:
        more = {"host": host, "sslmode": "verify-full", "sslrootcert": str(ca)}
        return stack.psql(password, "-At", "-c", ORDERS, "-c", DROP, program=psql_with_tls, **more)

    done = psql(key, ca=authority.certificate)
    assert done.out.splitlines() == ["1|paid|17.37", "2|paid|29.74", "3|paid|42.11"]
    assert "this statement is refused: No policy allows this" in done.err
    assert "certificate verify failed" in psql(key, ca=strange.certificate).err
    # The certificate is for the name, not for the address.
    assert "does not match host name" in psql(key, ca=authority.certificate, host="127.0.0.1").err
    assert "FATAL" in psql(f"ck_nightly_{'0' * 64}", ca=authority.certificate).err
    assert "FATAL" in login_refused(stack, key)
    assert secret not in stack.logs()
