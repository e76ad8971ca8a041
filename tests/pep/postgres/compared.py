"""The same scenario directly and through the proxy: what a client sees must be the same.

A scenario gets a way to connect and returns everything it saw as plain values. `Both.same` runs it twice, compares, and
hands the result to the test, which says what it must have been: two equal failures prove nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import unified_diff
from pprint import pformat
from typing import Any

import psycopg

from tests.fix_postgres import TRUST_ROLE, PostgresServer
from tests.relay import Relay, relay

TABLES = """
create type mood as enum ('sad', 'ok', 'happy');
create type place as (street text, number int);
create domain positive as int check (value > 0);
create table people(
    id int primary key, name text not null unique, born date, tags text[], doc jsonb, size numeric(8,2), feels mood,
    home place, amount positive, raw bytea, seen timestamptz);
insert into people values
    (1, 'Ada', '1815-12-10', '{a,b}', '{"k": [1, null]}', 1.50, 'happy', ('Row', 1), 7, '\\x00ff',
        '2020-01-02 03:04:05Z'),
    (2, 'Bob', null, '{}', 'null', null, null, null, null, null, null),
    (3, 'Zoë', '2000-02-29', '{NULL,"x y"}', '"s"', -3.00, 'sad', ('', null), 1, '', '1999-12-31 23:59:59Z');
create table orders(
    id int generated always as identity primary key, person int not null references people,
    amount int check (amount > 0));
insert into orders(person, amount) select 1 + i % 3, i from generate_series(1, 60) i;
create index orders_person on orders(person);
create view big as select id, amount from orders where amount > 50;
comment on table people is 'who';
comment on column people.born is 'when';
create table copied(i int, t text, b bytea);
create function shout(who text) returns text language plpgsql as $$
begin raise notice 'hello %', who using detail = 'loud', hint = 'quiet'; return upper(who); end $$;
create function fail(code text) returns void language plpgsql as $$
begin raise exception 'it failed' using errcode = code, detail = 'the detail', hint = 'the hint', column = 'c',
    constraint = 'k', datatype = 'd', table = 't', schema = 's'; end $$;
grant all on all tables in schema public to public;
grant all on schema public to public;
"""

# What a client is told about an error; where in the server's source it arose is not among them, because a statement
# that is no SQL is answered by the same grammar in the proxy.
_FIELDS = [
    "severity",
    "severity_nonlocalized",
    "sqlstate",
    "message_primary",
    "message_detail",
    "message_hint",
    "statement_position",
    "internal_position",
    "internal_query",
    "context",
    "schema_name",
    "table_name",
    "column_name",
    "datatype_name",
    "constraint_name",
]


@dataclass(frozen=True)
class Both:
    """A direct connection string and one through the proxy, for the same role and database."""

    server: PostgresServer
    relay: Relay

    @property
    def direct(self) -> str:
        return self.server.dsn(self.relay.database, TRUST_ROLE)

    @property
    def direct_url(self) -> str:
        return f"postgresql://{TRUST_ROLE}@{self.server.host}:{self.server.port}/{self.relay.database}"

    def same(self, scenario: Callable[[str], Any]) -> Any:
        """`scenario(dsn)`; returns what both runs saw."""
        expected, got = scenario(self.direct), scenario(self.relay.dsn)
        _compare(got, expected)
        return got

    def same_url(self, scenario: Callable[[str], Any]) -> Any:
        """`scenario(url)`."""
        expected, got = scenario(self.direct_url), scenario(self.relay.url)
        _compare(got, expected)
        return got

    def same_async(self, scenario: Callable[[str], Awaitable[Any]]) -> Any:
        """`await scenario(url)`."""

        async def run(url: str) -> Any:
            return await scenario(url)

        return self.same_url(lambda url: asyncio.run(run(url)))


def _compare(got: object, expected: object) -> None:
    lines = (pformat(value, width=120).splitlines() for value in (expected, got))
    assert got == expected, "\n".join(unified_diff(*lines, "directly", "through the proxy", n=0, lineterm=""))


@contextmanager
def both(server: PostgresServer, database: str) -> Iterator[Both]:
    """A database of this name with `TABLES`, and a proxy before it that allows everything."""
    server.create_database(database)
    server.sql(database, TABLES)
    with relay(server, database) as running:
        yield Both(server, running)


def told(error: psycopg.Error) -> dict[str, str | None]:
    """Everything an error says to people and programs."""
    return {field: getattr(error.diag, field) for field in _FIELDS}


def attempt(run: Callable[[], Any]) -> Any:
    """What it returns, or what the error says."""
    try:
        return run()
    except psycopg.Error as error:
        return type(error).__name__, told(error)


def seen(cursor: Any) -> list[tuple[Any, ...]]:
    """Every result of a cursor: columns, rows, the command's tag, the count of rows."""
    results = []
    while True:
        columns = None
        rows = None
        if cursor.description is not None:
            columns = [
                (c.name, c.type_code if c.type_code < 16384 else "own", c.internal_size) for c in cursor.description
            ]
            rows = cursor.fetchall()
        results.append((columns, rows, cursor.statusmessage, cursor.rowcount))
        if not cursor.nextset():
            return results
