# ruff: noqa: E501 - a table reads best with one attempt to a line
"""Changes that the server does not count, hidden where a limit of changed rows has to find them: refused, or counted."""

from collections.abc import Iterator

import pytest

from pep.core.model import Action, Decision, LimitAffected
from pep.postgres.messages import Bind, Execute, Parse, Query, Sync
from tests.fix_postgres import PostgresServer
from tests.pep.postgres.wire import Wire, codes, errors
from tests.relay import Relay, allow, relay

NAME = "affected_hidden"
SCHEMA = """
create table victims (id int primary key);
create function wipe() returns int language plpgsql as 'begin delete from victims; return 1; end';
create function wipe_bool(int) returns boolean language plpgsql immutable as 'begin delete from victims; return true; end';
create function wipe_int(int) returns int language plpgsql immutable as 'begin delete from victims; return $1; end';
create table defaulted (id int default wipe(), n int);
create table checked (id int check (wipe_bool(id)));
create domain guarded_int as int check (wipe_bool(value));
create table of_domain (id guarded_int);
create table of_array (ids guarded_int[]);
create type pair as (a guarded_int, b int);
create table of_pair (p pair);
create table computed (id int, twice int generated always as (wipe_int(id)) stored);
create table indexed (id int);
create index by_call on indexed (wipe_int(id));
create table partial (id int);
create index by_condition on partial (id) where wipe_bool(id);
create table filtered (id int);
alter table filtered enable row level security;
create policy p on filtered using (wipe_bool(id)) with check (wipe_bool(id));
create table tree (id int primary key, parent int references tree on delete cascade on update cascade);
create table parents (id int primary key);
create table nulled (id int, parent int references parents on delete set null);
create table moved (id int primary key);
create table follows (id int references moved on update cascade);
create table whole (id int primary key) partition by range (id);
create table part partition of whole for values from (0) to (100);
create table of_whole (id int references whole on delete cascade);
create table base (id int primary key);
create table heir () inherits (base);
alter table heir add primary key (id);
create table of_heir (id int references heir on delete cascade);
create view over_parents as select id from parents;
create view over_defaulted as select id, n from defaulted;
create function instead() returns trigger language plpgsql as 'begin delete from victims; return old; end';
create view replaced as select id from victims;
create trigger t instead of delete on replaced for each row execute function instead();
create table once (id int primary key);
create table behind_once (id int references once on update cascade on delete cascade);
create table logged (id int);
create function log_it() returns trigger language plpgsql as 'begin delete from victims; return null; end';
create trigger all_of_it after truncate or update or delete or insert on logged for each statement execute function log_it();
create procedure wipes() language plpgsql as 'begin delete from victims; end';
create function pg_temp_like() returns setof int language sql as 'delete from victims returning id';
create operator ### (function = wipe_int, rightarg = int);
create cast (text as pair) with inout;
grant all on all tables in schema public to public;
alter table filtered owner to checkrein_trust;
alter table filtered force row level security;
"""
HIDDEN = [
    "insert into defaulted (n) values (1)",
    "insert into defaulted default values",
    "insert into over_defaulted (n) values (1)",
    "update defaulted set id = default",
    "merge into defaulted d using (values (1)) v(n) on false when not matched then insert (n) values (v.n)",
    "insert into checked values (1)",
    "insert into of_domain values (1)",
    "insert into of_array values ('{1,2}')",
    "insert into of_pair values (row(1, 2))",
    "insert into of_pair values ('(1,2)')",
    "select '{1,2}'::guarded_int[]",
    "select count(*) from of_array where ids = '{1,2}'",
    "select coalesce(ids, '{1,2}') from of_array",
    "select ids from of_array union select '{1,2}'",
    "select case when true then '{1,2}' else ids end from of_array",
    "select count(*) from of_pair where p = '(1,2)'",
    "select greatest(p, '(1,2)') from of_pair",
    "delete from of_array where ids in ('{1,2}', '{3,4}')",
    "insert into computed values (1)",
    "insert into indexed values (1)",
    "insert into partial values (1)",
    "update partial set id = 2",
    "insert into filtered values (1)",
    "update filtered set id = 2",
    "delete from filtered",
    "delete from tree where id = 1",
    "update tree set id = 100 where id = 1",
    "delete from parents where id = 1",
    "delete from only parents where id = 1",
    "delete from over_parents where id = 1",
    "merge into parents p using (values (1)) v(id) on p.id = v.id when matched then delete",
    "update moved set id = id + 100",
    "merge into moved m using (values (1)) v(id) on m.id = v.id when matched then update set id = 7",
    "insert into moved values (1) on conflict (id) do update set id = 100",
    "insert into once values (1) on conflict (id) do update set id = 100",
    "delete from whole where id = 1",
    "delete from part where id = 1",
    "delete from base where id = 1",
    "delete from heir where id = 1",
    "delete from replaced where id = 1",
    "delete from logged",
    "insert into logged values (1)",
    "insert into victims select wipe()",
    "insert into victims values (99) returning wipe()",
    "delete from victims where wipe_bool(id)",
    "delete from victims where ### id = 1",
    "delete from victims where id in (select pg_temp_like())",
    "with gone as (delete from victims returning id) delete from victims where id = (select max(id) from gone)",
    "with more as (insert into victims select generate_series(100, 200)) select 1",
    "call wipes()",
    "select wipe()",
    "select * from pg_temp_like()",
    "values (wipe())",
    "declare c cursor with hold for select wipe()",
    "execute nothing",
    "create table copied as select wipe()",
    "select lo_unlink(1)",
    "select query_to_xml('delete from victims returning id', true, true, '')",
    "explain (analyze) delete from victims",
    "copy (delete from victims returning id) to stdout",
    "lock victims; delete from victims",
    "set application_name = 'x'; delete from victims where id = 1",
    "begin; delete from victims where id = 1; commit",
    "delete from victims where id = 1; commit; delete from victims",
    "prepare p as delete from victims",
    "truncate victims",
]


def policy(action: Action) -> Decision:
    return allow() if action.name == "prepare" else allow(LimitAffected(3))


@pytest.fixture(scope="module")
def running(postgres18: PostgresServer) -> Iterator[Relay]:
    postgres18.create_database(NAME)
    postgres18.sql(NAME, SCHEMA)
    postgres18.sql(NAME, "insert into victims select generate_series(1, 10); insert into moved select * from victims")
    postgres18.sql(NAME, "insert into tree select n, 1 from generate_series(1, 10) n; insert into parents values (1)")
    postgres18.sql(NAME, "insert into nulled select n, 1 from generate_series(1, 10) n; insert into follows values (1)")
    postgres18.sql(NAME, "insert into whole values (1); insert into of_whole select 1 from generate_series(1, 10)")
    postgres18.sql(NAME, "insert into heir values (1); insert into of_heir select 1 from generate_series(1, 10)")
    postgres18.sql(NAME, "insert into once values (1); insert into behind_once select 1 from generate_series(1, 10)")
    with relay(postgres18, NAME, policy) as found:
        yield found


TABLES = "victims tree nulled follows of_whole of_heir behind_once moved whole heir once parents"


def standing(server: PostgresServer) -> list[object]:
    return [server.sql(NAME, f"select * from {table} order by 1") for table in TABLES.split()]


@pytest.mark.parametrize(
    ("text", "protocol"),
    [
        (text, protocol)
        for text in HIDDEN
        for protocol in ("simple", "extended")
        if protocol == "simple" or ";" not in text
    ],
)
def test_it_is_refused_and_nothing_changes(
    running: Relay, postgres18: PostgresServer, protocol: str, text: str
) -> None:
    before = standing(postgres18)
    with Wire(running.port).login(NAME) as client:
        said = (
            client.ask(Query(text))
            if protocol == "simple"
            else client.ask(Parse("", text), Bind("", "", ()), Execute(""), Sync())
        )
        assert codes(said)[:1] == ["ERROR 42501"], [errors(said), said]
    assert standing(postgres18) == before
