"""Every verdict through every client: allow, mask, require approval, deny; and the obligations of a grant."""

import asyncio
import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from pep.core.model import Action, Decision, LimitRows, ReadOnly, TimeLimit
from pep.postgres.messages import Bind, Execute, Parse, Query, Sync
from tests.fix_postgres import PostgresServer
from tests.pep.postgres.wire import Wire, codes, rows, shape
from tests.relay import Relay, allow, deny, masks_customers, relay, require_approval, touches

DATABASE = "verdicts"
TABLES = """
create table plain(id int primary key, v text);
insert into plain values (1, 'one'), (2, 'two');
create table customers(id int primary key, name text, email text, ssn text);
insert into customers values (1, 'Ada', 'ada@example.org', '111-22-3333'), (2, 'Bob', null, null);
create table forbidden(id int);
insert into forbidden values (1);
create table asks(id int);
create table few(id int);
insert into few select generate_series(1, 20);
create table slow(id int);
insert into slow values (1);
grant all on all tables in schema public to public;
grant all on schema public to public;
"""
FORBIDDEN = "nobody reads this table"


def policy(action: Action) -> Decision:
    """One table for each verdict and obligation; the rest is the shape of the shipped policies."""
    if touches(action, "public.forbidden"):
        return deny(FORBIDDEN, "no_forbidden")
    if action.name == "prepare":
        return allow()
    if touches(action, "public.asks"):
        return require_approval()
    if touches(action, "public.few"):
        return allow(LimitRows(5))
    if touches(action, "public.slow"):
        return allow(TimeLimit(0.3))
    return masks_customers(action)


@dataclass(frozen=True)
class Outcome:
    """What one statement came to: rows as text, or an error."""

    rows: tuple[tuple[str | None, ...], ...] = ()
    sqlstate: str = ""
    message: str = ""
    hint: str | None = None
    detail: str | None = None


Client = Callable[[Relay, Sequence[str]], list[Outcome]]


def _texts(found: Sequence[Any]) -> tuple[tuple[str | None, ...], ...]:
    return tuple(tuple(None if value is None else str(value) for value in row) for row in found)


def over_psycopg(relay: Relay, statements: Sequence[str], **options: Any) -> list[Outcome]:
    outcomes = []
    with relay.connect(autocommit=True, **options) as connection:
        for statement in statements:
            try:
                cursor = connection.execute(statement)
                outcomes.append(Outcome(_texts(cursor.fetchall()) if cursor.description else ()))
            except psycopg.Error as error:
                diag = error.diag
                outcomes.append(
                    Outcome((), diag.sqlstate or "", diag.message_primary or "", diag.message_hint, diag.message_detail)
                )
    return outcomes


def over_asyncpg(relay: Relay, statements: Sequence[str]) -> list[Outcome]:
    async def run() -> list[Outcome]:
        outcomes = []
        connection = await asyncpg.connect(relay.url)
        for statement in statements:
            try:
                outcomes.append(Outcome(_texts(await connection.fetch(statement))))
            except asyncpg.PostgresError as error:
                fields = error.as_dict()
                outcomes.append(
                    Outcome((), fields["sqlstate"], fields["message"], fields.get("hint"), fields.get("detail"))
                )
        await connection.close()
        return outcomes

    return asyncio.run(run())


def over_sqlalchemy(relay: Relay, statements: Sequence[str], driver: str) -> list[Outcome]:
    def run(connection: sa.Connection) -> list[Outcome]:
        outcomes = []
        for statement in statements:
            try:
                result = connection.execute(sa.text(statement))
                outcomes.append(Outcome(_texts(result.fetchall()) if result.returns_rows else ()))
            except sa.exc.DBAPIError as error:
                original: Any = error.orig
                # One line of the whole message is all that an agent sees through here, so it says everything.
                outcomes.append(Outcome((), original.sqlstate, str(original).split("\n")[0].split("'>: ")[-1]))
        return outcomes

    async def run_async(url: str) -> list[Outcome]:
        engine = create_async_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        try:
            async with engine.connect() as connection:
                return await connection.run_sync(run)
        finally:
            await engine.dispose()

    url = relay.url.replace("postgresql://", f"postgresql+{driver}://")
    if driver == "asyncpg":
        return asyncio.run(run_async(url))
    engine = sa.create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        return run(connection)


@pytest.fixture(scope="module")
def over_psql(postgres18: PostgresServer) -> Client:
    def run(relay: Relay, statements: Sequence[str]) -> list[Outcome]:
        script = "".join(f"{statement};\n\\echo == :SQLSTATE :LAST_ERROR_MESSAGE\n" for statement in statements)
        command = [postgres18.psql, "-X", "-q", "-At", "-P", "null=NULL", relay.dsn]
        done = subprocess.run(command, input=script, capture_output=True, text=True, check=False, timeout=25)
        assert done.returncode == 0, done.stderr
        outcomes, found = [], []
        for line in done.stdout.splitlines():
            mark = re.match(r"== (\w{5}) (.*)", line)
            if mark is None:
                found.append(tuple(None if value == "NULL" else value for value in line.split("|")))
                continue
            failed = mark[1] != "00000"
            outcomes.append(
                Outcome(() if failed else tuple(found), mark[1] if failed else "", mark[2] if failed else "")
            )
            found = []
        return outcomes

    return run


CLIENTS: dict[str, Client] = {
    "psycopg simple": partial(over_psycopg, cursor_factory=psycopg.ClientCursor),
    "psycopg extended": over_psycopg,
    "psycopg prepared": partial(over_psycopg, prepare_threshold=0),
    "asyncpg": over_asyncpg,
    "sqlalchemy psycopg": partial(over_sqlalchemy, driver="psycopg"),
    "sqlalchemy asyncpg": partial(over_sqlalchemy, driver="asyncpg"),
}


@pytest.fixture(params=[*CLIENTS, "psql"])
def client(request: pytest.FixtureRequest, over_psql: Client) -> Client:
    return CLIENTS.get(request.param, over_psql)


@pytest.fixture(scope="module")
def running(postgres18: PostgresServer) -> Iterator[Relay]:
    postgres18.create_database(DATABASE)
    postgres18.sql(DATABASE, TABLES)
    with relay(postgres18, DATABASE, policy) as found:
        yield found


@pytest.fixture(autouse=True)
def _afresh(postgres18: PostgresServer, running: Relay) -> None:
    postgres18.sql(DATABASE, "delete from asks; delete from plain where id > 2")
    # What an earlier test has left unanswered.
    running.decisions.approvals.clear()
    running.decisions.cancelled.clear()
    running.decisions.redeemed.clear()


def _count(server: PostgresServer, table: str) -> object:
    return server.sql(DATABASE, f"select count(*) from {table}")[0][0]


@contextmanager
def answered(running: Relay, state: str, comment: str = "") -> Iterator[None]:
    """People who answer the next approval."""
    people = threading.Thread(target=running.resolve, args=(state, comment, 10.0))
    people.start()
    try:
        yield
    finally:
        people.join()


# --- allow and mask ---------------------------------------------------------------------------------------------------


def test_allow(running: Relay, client: Client, postgres18: PostgresServer) -> None:
    outcomes = client(
        running,
        ["select * from plain order by id", "insert into plain values (3, 'three')", "select count(*) from plain"],
    )
    assert outcomes == [Outcome((("1", "one"), ("2", "two"))), Outcome(), Outcome((("3",),))]
    assert _count(postgres18, "plain") == 3


def test_mask(running: Relay, client: Client) -> None:
    outcomes = client(
        running,
        [
            "select * from customers order by id",
            "select ssn as other, email from customers c order by id",
            "begin",
            "select email from customers order by id",
            "commit",
            "select name from customers order by id",
        ],
    )
    assert [outcome.sqlstate for outcome in outcomes] == [""] * 6
    assert outcomes[0].rows == (("1", "Ada", outcomes[0].rows[0][2], None), ("2", "Bob", None, None))
    shown = outcomes[0].rows[0][2]
    assert shown is not None
    assert "@" in shown
    assert "ada@" not in shown
    assert outcomes[1].rows == ((None, shown), (None, None))
    assert outcomes[3].rows == ((shown,), (None,))
    assert outcomes[5].rows == (("Ada",), ("Bob",))


def test_a_masked_column_in_an_expression_is_denied(running: Relay, client: Client) -> None:
    refused, usable = client(running, ["select ssn || '' from customers", "select 1"])
    assert refused.sqlstate == "42501"
    assert "111-22-3333" not in str(refused)
    assert usable.rows == (("1",),)


# --- deny -------------------------------------------------------------------------------------------------------------


def test_deny(running: Relay, client: Client, postgres18: PostgresServer) -> None:
    position = postgres18.log_position()
    statements = ["select 'marker', * from forbidden", "delete from forbidden where 'marker' = 'marker'", "select 5"]
    first, second, usable = client(running, statements)
    for refused in (first, second):
        assert refused.sqlstate == "42501"
        line = refused.message.split("\n")[0]
        assert line.startswith(f"this statement is refused by policy test: {FORBIDDEN}; do not repeat it unchanged")
        assert re.search(r"\[decision d-\d+\]", line)
    assert usable.rows == (("5",),)
    assert "marker" not in postgres18.log_after(position)


@pytest.mark.parametrize("name", ["psycopg simple", "psycopg extended", "psycopg prepared", "asyncpg"])
def test_what_a_denial_says(running: Relay, name: str) -> None:
    (refused,) = CLIENTS[name](running, ["select * from forbidden"])
    decision = re.search(r"\[decision (d-\d+)\]", refused.message)
    assert decision is not None
    assert refused.hint == f"To ask for access, tell the owners of the policy the decision id {decision[1]}."
    assert json.loads(refused.detail or "")["checkrein"] == {
        "v": 1,
        "verdict": "deny",
        "id": decision[1],
        "policy": "test",
        "code": "no_forbidden",
        "allowed": [],
        "retry": False,
    }


def test_what_psql_prints(running: Relay, postgres18: PostgresServer) -> None:
    command = [postgres18.psql, "-X", "-v", "VERBOSITY=verbose", "-c", "table forbidden", running.dsn]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=25)
    lines = done.stderr.splitlines()
    assert lines[0].startswith("ERROR:  42501: this statement is refused by policy test: nobody reads this table")
    assert json.loads(lines[1].removeprefix("DETAIL:  "))["checkrein"]["verdict"] == "deny"
    assert lines[2].startswith("HINT:  To ask for access")


def test_deny_inside_a_transaction(running: Relay, client: Client, postgres18: PostgresServer) -> None:
    position = postgres18.log_position()
    outcomes = client(
        running,
        [
            "begin",
            "insert into plain values (3, 'three')",
            "select 'marker', * from forbidden",
            "select 1",
            "commit",
            "select count(*) from plain",
        ],
    )
    assert [outcome.sqlstate for outcome in outcomes] == ["", "", "42501", "25P02", "", ""]
    assert FORBIDDEN in outcomes[2].message
    assert outcomes[5].rows == (("2",),)
    assert _count(postgres18, "plain") == 2
    assert "marker" not in postgres18.log_after(position)


def test_deny_behind_a_savepoint(running: Relay, client: Client, postgres18: PostgresServer) -> None:
    outcomes = client(
        running,
        [
            "begin",
            "insert into plain values (3, 'three')",
            "savepoint here",
            "insert into plain values (4, 'four')",
            "select * from forbidden",
            "rollback to savepoint here",
            "insert into plain values (5, 'five')",
            "commit",
        ],
    )
    assert [outcome.sqlstate for outcome in outcomes] == ["", "", "", "", "42501", "", "", ""]
    assert postgres18.sql(DATABASE, "select id from plain order by id") == [(1,), (2,), (3,), (5,)]


def test_one_denied_statement_of_a_query_denies_it_whole(running: Relay, postgres18: PostgresServer) -> None:
    position = postgres18.log_position()
    statement = (
        "insert into plain values (3, 'marker'); select * from forbidden; insert into plain values (4, 'marker')"
    )
    refused, usable = over_psycopg(running, [statement, "select 1"], cursor_factory=psycopg.ClientCursor)
    assert (refused.sqlstate, usable.rows) == ("42501", (("1",),))
    assert "marker" not in postgres18.log_after(position)
    assert _count(postgres18, "plain") == 2


@pytest.mark.parametrize(("start", "end"), [("", ""), ("begin", "commit")])
def test_deny_in_a_pipeline_commits_nothing(running: Relay, postgres18: PostgresServer, start: str, end: str) -> None:
    inserts = ["insert into plain values (3, 'three')", "insert into plain values (4, 'four')"]
    with running.connect(autocommit=True) as connection:

        def run() -> None:
            with connection.pipeline():
                for statement in filter(None, [start, *inserts, "select * from forbidden", end]):
                    connection.execute(statement)

        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=FORBIDDEN):
            run()
        connection.rollback()
        assert connection.execute("select count(*) from plain").fetchone() == (2,)
    assert _count(postgres18, "plain") == 2


def _extended(text: str) -> list[Any]:
    return [Parse("", text, ()), Bind("", "", (), (), ()), Execute("", 0)]


def test_deny_in_one_group_of_frames(running: Relay, postgres18: PostgresServer) -> None:
    with Wire(running.port) as wire:
        wire.login(DATABASE)
        frames = wire.ask(
            *_extended("insert into plain values (3)"),
            *_extended("insert into plain values (4)"),
            *_extended("select * from forbidden"),
            *_extended("insert into plain values (5)"),
            Sync(),
        )
        assert (shape(frames), codes(frames)) == ("12C12CEZ", ["ERROR 42501"])
        assert rows(wire.ask(Query("select count(*) from plain"))) == [(b"2",)]
    assert _count(postgres18, "plain") == 2


@pytest.mark.parametrize("simple", [True, False])
def test_begin_insert_denied_commit_in_one_segment(running: Relay, postgres18: PostgresServer, simple: bool) -> None:
    texts = ["begin", "insert into plain values (3)", "select * from forbidden", "commit"]
    with Wire(running.port) as wire:
        wire.login(DATABASE)
        wire.send(*([Query(text) for text in texts] if simple else [m for t in texts for m in (*_extended(t), Sync())]))
        frames = [frame for _ in texts for frame in wire.until()]
        assert codes(frames) == ["ERROR 42501"]
        assert frames[-1].payload == b"I"
        # The server says what became of it.
        assert b"ROLLBACK\0" in [frame.payload for frame in frames]
    assert _count(postgres18, "plain") == 2


def test_the_decision_service_is_down(running: Relay, client: Client, postgres18: PostgresServer) -> None:
    position = postgres18.log_position()
    running.decisions.down = False
    with running.connect(autocommit=True) as connection:
        running.decisions.down = True
        try:
            with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
                connection.execute("select 'marker'")
        finally:
            running.decisions.down = False
        assert json.loads(caught.value.diag.message_detail or "")["checkrein"]["retry"] is True
        assert connection.execute("select 'works'").fetchone() == ("works",)
    assert "marker" not in postgres18.log_after(position)


# --- require approval -------------------------------------------------------------------------------------------------


def test_approved(running: Relay, client: Client, postgres18: PostgresServer) -> None:
    with answered(running, "approved"):
        (done,) = client(running, ["insert into asks values (1)"])
    assert done == Outcome()
    assert _count(postgres18, "asks") == 1
    assert len(running.decisions.redeemed) == 1


def test_approved_inside_a_transaction(running: Relay, client: Client, postgres18: PostgresServer) -> None:
    with answered(running, "approved"):
        outcomes = client(
            running, ["begin", "insert into plain values (3)", "insert into asks values (1)", "commit", "select 1"]
        )
    assert [outcome.sqlstate for outcome in outcomes] == [""] * 5
    assert (_count(postgres18, "asks"), _count(postgres18, "plain")) == (1, 3)


@pytest.mark.parametrize("state", ["denied", "expired"])
def test_not_approved(running: Relay, client: Client, postgres18: PostgresServer, state: str) -> None:
    position = postgres18.log_position()
    with answered(running, state, "not today"):
        refused, usable = client(running, ["insert into asks values (1) returning 'marker'", "select 1"])
    assert refused.sqlstate == "42501"
    assert usable.rows == (("1",),)
    assert _count(postgres18, "asks") == 0
    # Where a client prepares first, the text reaches the server and nothing is executed under it.
    assert not re.search(r"(execute|statement).*marker", postgres18.log_after(position))


def test_not_approved_inside_a_transaction(running: Relay, client: Client, postgres18: PostgresServer) -> None:
    with answered(running, "denied"):
        outcomes = client(
            running, ["begin", "insert into plain values (3)", "insert into asks values (1)", "select 1", "rollback"]
        )
    assert [outcome.sqlstate for outcome in outcomes] == ["", "", "42501", "25P02", ""]
    assert (_count(postgres18, "asks"), _count(postgres18, "plain")) == (0, 2)


@pytest.mark.parametrize("cursor", [psycopg.Cursor, psycopg.ClientCursor])
def test_what_a_held_client_is_told(running: Relay, cursor: type) -> None:
    notices: list[Any] = []
    with running.connect(autocommit=True, cursor_factory=cursor) as connection:
        connection.add_notice_handler(
            lambda d: notices.append((d.severity, d.message_primary, d.message_hint, d.message_detail))
        )
        with answered(running, "approved"):
            connection.execute("insert into asks values (1)")
    ((severity, message, hint, detail),) = notices
    assert severity == "NOTICE"
    assert "waits for approval" in message
    assert "http://approve" in hint
    assert json.loads(detail)["checkrein"]["verdict"] == "require_approval"


def _until_held(running: Relay, before: int) -> None:
    """Until an approval has been asked for: the stub is told so by the proxy."""
    waiting = threading.Event()
    while len(running.decisions.requested) <= before:
        waiting.wait(0.01)


@pytest.mark.parametrize("cursor", [psycopg.Cursor, psycopg.ClientCursor])
@pytest.mark.parametrize("in_transaction", [False, True])
def test_cancelled_by_the_client(
    running: Relay, postgres18: PostgresServer, cursor: type, in_transaction: bool
) -> None:
    before = len(running.decisions.requested)
    with running.connect(autocommit=not in_transaction, cursor_factory=cursor) as connection:
        connection.execute("select 1")

        def give_up() -> None:
            _until_held(running, before)
            connection.cancel_safe(timeout=5)

        thread = threading.Thread(target=give_up)
        thread.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("insert into asks values (1)")
        thread.join()
        if in_transaction:
            with pytest.raises(psycopg.errors.InFailedSqlTransaction):
                connection.execute("select 1")
            connection.rollback()
        assert connection.execute("select 2").fetchone() == (2,)
    assert running.decisions.cancelled
    assert _count(postgres18, "asks") == 0


def test_a_client_that_times_out_while_held(running: Relay, postgres18: PostgresServer) -> None:
    async def run() -> Any:
        connection = await asyncpg.connect(running.url)
        with pytest.raises(TimeoutError):
            await connection.execute("insert into asks values (1)", timeout=0.3)
        got = await connection.fetchval("select 7")
        await connection.close()
        return got

    assert asyncio.run(run()) == 7
    assert running.decisions.cancelled
    assert _count(postgres18, "asks") == 0


def test_a_client_that_goes_away_while_held(running: Relay, postgres18: PostgresServer) -> None:
    before = len(running.decisions.requested)
    with Wire(running.port) as wire:
        wire.login(DATABASE).send(Query("insert into asks values (1)"))
        _until_held(running, before)
    with psycopg.connect(postgres18.dsn(DATABASE), autocommit=True) as watcher:
        while watcher.execute("select 1 from pg_stat_activity where pid = %s", (wire.pid,)).fetchone():
            watcher.execute("select pg_sleep(0.01)")
    assert running.decisions.cancelled
    # Approved too late.
    running.resolve("approved")
    with running.connect(autocommit=True) as connection:
        connection.execute("select 1")
    assert (_count(postgres18, "asks"), running.decisions.redeemed) == (0, [])


def test_an_approval_is_for_one_execution(running: Relay, postgres18: PostgresServer) -> None:
    with Wire(running.port) as wire:
        wire.login(DATABASE).ask(Parse("p", "insert into asks values (1)", ()), Sync())
        again = [Bind("", "p", (), (), ()), Execute("", 0)]
        before = len(running.decisions.requested)
        with answered(running, "approved"):
            wire.send(*again, *again, Sync())
        _until_held(running, before + 1)
        with answered(running, "denied"):
            frames = wire.until()
        assert codes(frames) == ["ERROR 42501"]
    # One implicit transaction: what was approved is rolled back with what was not.
    assert _count(postgres18, "asks") == 0
    assert len(running.decisions.redeemed) == 1


# --- obligations ------------------------------------------------------------------------------------------------------


def test_a_limit_of_rows(running: Relay, client: Client) -> None:
    outcomes = client(
        running,
        [
            "select * from few order by id limit 5",
            "select * from few order by id limit 6",
            "select * from few",
            "select 1",
            "begin",
            "select * from few",
            "select 1",
            "rollback",
            "select count(*) from few",
        ],
    )
    assert [o.sqlstate for o in outcomes] == ["", "54000", "54000", "", "", "54000", "25P02", "", ""]
    assert len(outcomes[0].rows) == 5
    assert outcomes[8].rows == (("20",),)


def test_what_is_denied_under_a_limit_of_rows(running: Relay, client: Client, postgres18: PostgresServer) -> None:
    statements = [
        "select json_agg(few) from few",
        "select array_agg(id) from few",
        "select string_agg(id::text, ',') from few",
        "delete from few returning id",
        "copy few to stdout",
        "copy (select * from few) to stdout",
    ]
    outcomes = client(running, [*statements, "update few set id = id where id > 100"])
    assert [outcome.sqlstate for outcome in outcomes] == ["42501"] * 6 + [""]
    assert _count(postgres18, "few") == 20


def test_a_limit_of_rows_over_slices_and_fetches(running: Relay) -> None:
    with Wire(running.port) as wire:
        wire.login(DATABASE).ask(Query("begin"))
        frames = wire.ask(Parse("", "select * from few", ()), Bind("p", "", (), (), ()), Execute("p", 3), Sync())
        assert (len(rows(frames)), codes(frames)) == (3, [])
        frames = wire.ask(Execute("p", 3), Sync())
        assert (rows(frames), codes(frames), frames[-1].payload) == ([], ["ERROR 54000"], b"E")
    (_, _, first, second, *_) = over_psycopg(
        running, ["begin", "declare c cursor for select * from few", "fetch 3 from c", "fetch 3 from c"]
    )
    assert (len(first.rows), first.sqlstate) == (3, "")
    assert (second.rows, second.sqlstate) == ((), "54000")


def test_a_limit_of_rows_on_a_long_result(running: Relay) -> None:
    first, second = over_psycopg(
        running, ["select repeat('x', 1000) from few, generate_series(1, 100000)", "select 'usable'"]
    )
    assert (first.rows, first.sqlstate, second.rows) == ((), "54000", (("usable",),))


def test_a_limit_of_time(running: Relay, client: Client) -> None:
    outcomes = client(
        running,
        ["set statement_timeout = 0", "select pg_sleep(20) from slow", "select 1", "select id from slow"],
    )
    assert [outcome.sqlstate for outcome in outcomes] == ["", "57014", "", ""]
    assert "longer than policy allows" in outcomes[1].message


def test_a_session_that_only_reads(postgres18: PostgresServer, over_psql: Client, running: Relay) -> None:
    position = postgres18.log_position()
    with relay(postgres18, DATABASE, lambda _: allow(), obligations=(ReadOnly(),)) as reading:
        for name, client in (*CLIENTS.items(), ("psql", over_psql)):
            outcomes = client(
                reading,
                [
                    "select id from plain order by id",
                    "show default_transaction_read_only",
                    "insert into plain values (9, 'marker')",
                    "begin transaction read write",
                    "select 1",
                    "rollback",
                    "set default_transaction_read_only = off",
                    "insert into plain values (9, 'marker')",
                    "create table marker(x int)",
                    "select nextval('pg_catalog.marker')",
                    "copy plain to program 'cat # marker'",
                    "with x as (delete from plain where v = 'marker' returning 1) select * from x",
                    "select 1",
                ],
            )
            found = [outcome.sqlstate for outcome in outcomes]
            assert outcomes[0].rows == (("1",), ("2",)), name
            assert outcomes[1].rows == (("on",),), name
            assert found[2] == found[7] == found[8] == found[10] == found[11] == "42501", (name, found)
            assert found[12] == "", name
    assert _count(postgres18, "plain") == 2
    assert not re.search(r"(insert|create|copy|delete).*marker", postgres18.log_after(position))
