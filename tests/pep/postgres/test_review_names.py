"""Names that the server takes for the same, and what a name means when a portal runs. Real server, raw protocol."""

from collections.abc import Iterator

import psycopg
import pytest

from pep.postgres.frontend import Bind, Close, Execute, Kind, Parse
from tests.attacks import Attacker, Reply
from tests.fix_postgres import PostgresServer
from tests.relay import Relay, masks_customers, relay

SECRET = "123-45-6789"
READS = "select ssn from customers"
LONG = "n" * 63


@pytest.fixture(scope="module")
def proxy(postgres18: PostgresServer) -> Iterator[Relay]:
    with psycopg.connect(postgres18.create_database("review_names"), autocommit=True) as connection:
        connection.execute("create table customers (id int check (id > 0), email text, ssn text)")
        connection.execute("create table notes (id int, note text)")
        connection.execute(f"insert into customers values (1, 'a@example.com', '{SECRET}')")
        connection.execute("insert into notes values (1, 'harmless')")
        connection.execute("create schema other")
        connection.execute("create table other.notes (id int, note text)")
        connection.execute(f"insert into other.notes values (1, '{SECRET}')")
        connection.execute("grant usage on schema other to public")
        connection.execute("grant all on customers, notes, other.notes to public")
    with relay(postgres18, "review_names", masks_customers) as running:
        yield running


@pytest.fixture
def client(proxy: Relay) -> Iterator[Attacker]:
    with Attacker(proxy.port, "review_names") as attacker:
        yield attacker


def run(text: str, name: str = "") -> tuple[Parse | Bind | Execute, ...]:
    """Parse, Bind and Execute, under names of their own."""
    return Parse(name, text, ()), Bind(name, name, (), (), ()), Execute(name, 0)


def shown(reply: Reply) -> bytes:
    return b"".join(payload for _, payload in reply.frames)


def test_statements_whose_names_begin_with_the_same_63_bytes_are_one(client: Attacker) -> None:
    client.batch(Parse(LONG + "a", "select note from notes", ()))
    client.batch(Close(Kind.STATEMENT, LONG + "b"))
    client.batch(Parse(LONG + "b", READS, ()))
    reply = client.batch(Bind("", LONG + "a", (), (), ()), Execute("", 0))
    assert SECRET.encode() not in shown(reply)


def test_portals_whose_names_begin_with_the_same_63_bytes_are_one(client: Attacker) -> None:
    client.query("begin")
    client.batch(Parse("harmless", "select note from notes", ()), Bind(LONG + "a", "harmless", (), (), ()))
    client.batch(Close(Kind.PORTAL, LONG + "b"))
    client.batch(Parse("secret", READS, ()), Bind(LONG + "b", "secret", (), (), ()))
    reply = client.batch(Execute(LONG + "a", 0))
    assert SECRET.encode() not in shown(reply)
    client.query("rollback")


def test_a_long_name_works(client: Attacker) -> None:
    reply = client.batch(*run("select note from notes", LONG + "xyz"))
    assert reply.errors == []
    assert reply.rows == 1


def test_what_an_execute_runs_is_decided_when_it_runs(client: Attacker) -> None:
    client.query("prepare p as select note from notes")
    reply = client.batch(
        Parse("late", "execute p", ()),
        Bind("late", "late", (), (), ()),
        *run("deallocate p"),
        *run(f"prepare p as {READS}"),
        Execute("late", 0),
    )
    assert SECRET.encode() not in shown(reply)


def test_what_a_fetch_reads_is_decided_when_it_runs(client: Attacker) -> None:
    client.query("begin")
    client.query("declare c cursor for select note from notes")
    reply = client.batch(
        Parse("late", "fetch all from c", ()),
        Bind("late", "late", (), (), ()),
        *run("close c"),
        *run(f"declare c cursor for {READS}"),
        Execute("late", 0),
    )
    assert SECRET.encode() not in shown(reply)
    client.query("rollback")


def test_what_a_copy_reads_is_not_resolved_behind_a_barrier(client: Attacker) -> None:
    reply = client.batch(
        Parse("late", "copy (select note from notes) to stdout", ()),
        Bind("late", "late", (), (), ()),
        *run("set search_path = other"),
        Execute("late", 0),
    )
    assert SECRET.encode() not in shown(reply)
    client.query("reset search_path")


def test_a_cursor_may_be_fetched_from_in_the_group_that_declares_it(client: Attacker) -> None:
    client.query("select note from notes")
    reply = client.batch(*run("begin"), *run("declare c cursor for select note from notes"), *run("fetch all from c"))
    assert reply.errors == []
    assert reply.rows == 1
    client.query("rollback")


def test_an_unknown_name_is_looked_up_again(client: Attacker) -> None:
    assert client.query("execute later").codes == ["42501"]
    assert client.query("prepare later as select note from notes").codes == []
    assert client.query("execute later").rows == 1


def test_discard_plans_keeps_the_statements(client: Attacker) -> None:
    client.batch(Parse("kept", "select note from notes", ()))
    assert client.query("discard plans").codes == []
    assert client.batch(Bind("", "kept", (), (), ()), Execute("", 0)).rows == 1


def test_what_a_declared_cursor_is_recorded_as_has_no_secret(client: Attacker, proxy: Relay) -> None:
    client.query("begin")
    client.query("declare c cursor for select 'password=geheim host=x' as note from notes")
    client.batch(Execute("c", 0))
    client.query("rollback")
    told = [action.statement.text for action in proxy.decisions.asked if action.statement is not None]
    assert not any("geheim" in text for text in told)


def test_an_error_behind_the_check_of_origins_is_redacted(proxy: Relay) -> None:
    """The proxy's own Describe ends before the query begins, and must not end what redacts the query's error."""
    with proxy.connect(autocommit=True) as client:
        client.execute("select id from customers")
    with Attacker(proxy.port, "review_names") as client:
        reply = client.query("update customers set id = -1 returning id")
        assert reply.codes == ["23514"]
        assert SECRET.encode() not in shown(reply)


def test_what_was_prepared_is_told_apart_from_its_preparation(client: Attacker) -> None:
    """Both have one text; the first EXECUTE behind a barrier resolves what was prepared again."""
    prepare = "prepare twice as select note from notes"
    client.query(prepare)
    client.query("set search_path = public")
    assert client.query("execute twice").rows == 1
    client.query("deallocate twice")
    client.query(prepare)
    assert client.query("execute twice").rows == 1
