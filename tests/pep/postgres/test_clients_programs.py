"""psql and pgbench as programs of their own, under a policy that allows everything."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_postgres import PostgresServer
from tests.pep.postgres.compared import Both, both

DESCRIBES = [
    r"\d",
    r"\d+",
    r"\dt",
    r"\dt+",
    r"\dv+",
    r"\dm",
    r"\di+",
    r"\ds+",
    r"\df",
    r"\df+",
    r"\da",
    r"\dT+",
    r"\dD+",
    r"\dn+",
    r"\dp",
    r"\ddp",
    r"\du+",
    r"\dg",
    r"\l",
    r"\db+",
    r"\dx+",
    r"\dC",
    r"\dc",
    r"\dy",
    r"\dL+",
    r"\dO",
    r"\do",
    r"\dF+",
    r"\dFd",
    r"\dFp",
    r"\dA+",
    r"\dAc",
    r"\dAf",
    r"\dRp",
    r"\dRs",
    r"\drds",
    r"\det",
    r"\des",
    r"\dew",
    r"\deu",
    r"\dE",
    r"\dX",
    r"\dP",
    r"\sf_shout",
    r"\sv_big",
    r"\d_people",
    r"\d+_people",
    r"\d+_orders",
    r"\d_big",
    r"\d+_big",
    r"\d_orders_person",
    r"\d+_orders_id_seq",
    r"\dt_*.pg_cl*",
    r"\df_*.shout",
    r"\dT_mood",
    r"\dn_public",
    r"\dd",
    r"\dl",
    r"\z_people",
    r"\dS_pg_class",
]

SCRIPT = r"""
\set who 'Ada'
select :'who' as who, id from people where name = :'who' \gset got_
\echo :got_who :got_id
select 1 as one \; select 2 as two;
select name, amount from people order by id \gx
select id, name, born, home from people \gdesc
select $1::int + $2::int as sum \bind 20 22 \g
select name from people where id = $1 \parse finder
\bind_named finder 3 \g
\close_prepared finder
select format('select %s as made', i) from generate_series(1, 3) i \gexec
select person, amount % 2 = 0 as even, count(*) from orders group by 1, 2 order by 1, 2 \crosstabview
\if true
select 'yes' as branch;
\else
select 'no' as branch;
\endif
\t on
select 'watched' \watch c=2 i=0.01
\t off
\set FETCH_COUNT 7
select id from orders order by id limit 20;
\unset FETCH_COUNT
\pset format csv
select * from people order by id;
\pset format aligned
copy copied from stdin;
1	one	\\x01
2	two	\N
\.
select * from copied order by i;
copy copied to stdout with (format csv);
truncate copied;
select 1/0;
\errverbose
select * from nowhere;
\echo :SQLSTATE :LAST_ERROR_MESSAGE
begin;
select 1/0;
select 1;
rollback;
\set ON_ERROR_ROLLBACK on
begin;
select 1/0;
select 'still here' as x;
commit;
\startpipeline
select $1::int \bind 1 \sendpipeline
select $1::int \bind 2 \sendpipeline
\syncpipeline
select $1::int / 0 \bind 3 \sendpipeline
select $1::int \bind 4 \sendpipeline
\endpipeline
select 'after' as x;
listen channel;
notify channel, 'nobody else';
select shout('ada');
\encoding
\set AUTOCOMMIT off
select 5 as x;
rollback;
prepare p(int) as select name from people where id = $1;
execute p(2);
deallocate p;
declare c cursor with hold for select id from orders order by id;
commit;
fetch 3 from c;
close c;
"""


@pytest.fixture(scope="module")
def pair(postgres18: PostgresServer) -> Iterator[Both]:
    with both(postgres18, "clients_programs") as running:
        yield running


def _psql(pair: Both, *arguments: str | Path, script: str = "", cwd: Path | None = None) -> tuple[int, str, str]:
    """Status, output and errors of psql, the same directly and through the proxy."""

    def run(dsn: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [pair.server.psql, "-X", dsn, *arguments],
            input=script,
            capture_output=True,
            text=True,
            check=False,
            timeout=25,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C.UTF-8", "PGTZ": "UTC"},
        )
        # The process that notifies is another in each run.
        errors, output = done.stderr, re.sub(r"with PID \d+", "with PID", done.stdout)
        return done.returncode, output, errors

    return pair.same(run)  # type: ignore[no-any-return]


def test_every_describing_command(pair: Both) -> None:
    commands = [f"-c{command.replace('_', ' ', 1) if '_' in command[:6] else command}" for command in DESCRIBES]
    status, output, errors = _psql(pair, *commands)
    # The role may not read the size of one tablespace; a list without entries is said there too.
    assert (status, errors.count("ERROR"), "refused" in errors) == (0, 1, False)
    assert 'Table "public.people"' in output
    assert 'View "public.big"' in output
    assert "RAISE NOTICE" in output.upper()


def test_hidden_queries_are_the_clients_own(pair: Both) -> None:
    status, output, _ = _psql(pair, "-E", "-c", r"\d people")
    assert status == 0
    assert "pg_catalog.pg_class" in output


def test_a_long_script(pair: Both) -> None:
    status, output, errors = _psql(pair, script=SCRIPT)
    assert status == 0
    assert "Ada 1" in output
    assert output.count("watched") == 2
    assert "still here" in output
    assert 'Asynchronous notification "channel" with payload "nobody else"' in output
    assert "LOCATION:" in errors


def test_a_file_stops_at_the_first_error(pair: Both, tmp_path: Path) -> None:
    file = tmp_path / "script.sql"
    file.write_text("select 1 as a;\nselect * from nowhere;\nselect 2 as b;\n")
    status, output, errors = _psql(pair, "-v", "ON_ERROR_STOP=1", "-f", "script.sql", cwd=tmp_path)
    assert (status, "b" in output) == (3, False)
    assert 'script.sql:2: ERROR:  relation "nowhere" does not exist' in errors
    status, output, _ = _psql(pair, "-f", "script.sql", cwd=tmp_path)
    assert (status, "b" in output) == (0, True)


def test_one_transaction_for_a_file(pair: Both, tmp_path: Path) -> None:
    (tmp_path / "script.sql").write_text("insert into copied values (1);\nselect 1/0;\n")
    status, _, errors = _psql(pair, "-1", "-v", "ON_ERROR_STOP=1", "-f", "script.sql", cwd=tmp_path)
    assert (status, "division by zero" in errors) == (3, True)
    assert _psql(pair, "-Atc", "select count(*) from copied") == (0, "0\n", "")


def test_several_statements_of_one_command(pair: Both) -> None:
    command = "insert into copied values (1); select count(*) from copied; select 1/0; select 2"
    status, output, errors = _psql(pair, "-Atc", command)
    assert (status, output) == (1, "INSERT 0 1\n1\n")
    assert "division by zero" in errors
    assert _psql(pair, "-Atc", "select count(*) from copied") == (0, "0\n", "")


def test_copy_to_and_from_files(pair: Both, tmp_path: Path) -> None:
    status, _, errors = _psql(
        pair,
        *("-c", r"\copy (select i, repeat('x', i), null from generate_series(1, 500) i) to 'out.csv' csv header"),
        *("-c", r"\copy copied from 'out.csv' csv header"),
        *("-c", "select count(*), sum(length(t)) from copied"),
        *("-c", r"\copy copied to 'out.bin' binary"),
        *("-c", "truncate copied"),
        *("-c", r"\copy copied from 'out.bin' binary"),
        *("-c", "select count(*), sum(length(t)) from copied"),
        *("-c", r"\copy copied(i) from program 'seq 1 10'"),
        *("-c", r"\copy (select count(*) from copied) to stdout"),
        *("-c", "truncate copied"),
        cwd=tmp_path,
    )
    assert (status, errors) == (0, "")
    assert (tmp_path / "out.csv").read_text().count("\n") == 501


def test_refused_data_of_a_copy(pair: Both) -> None:
    status, _, errors = _psql(pair, script="copy copied from stdin;\nx\ty\tz\n\\.\nselect 1 as after;\n")
    assert status == 0
    assert 'invalid input syntax for type integer: "x"' in errors


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbench(pair: Both, mode: str) -> None:
    def run(*arguments: str) -> str:
        command = [pair.server.pgbench, *arguments, pair.relay.dsn]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("-i", "-q", "--foreign-keys")
    output = run("-M", mode, "-c", "4", "-j", "2", "-t", "30")
    assert "number of transactions actually processed: 120/120" in output
    assert "number of failed transactions: 0" in output
    history, accounts, branches = pair.server.sql(
        pair.relay.database,
        "select (select count(*) from pgbench_history), (select sum(abalance) from pgbench_accounts), "
        "(select sum(bbalance) from pgbench_branches)",
    )[0]
    assert history == 120
    assert accounts == branches
    output = run("-M", mode, "-S", "-c", "2", "-t", "50")
    assert "number of transactions actually processed: 100/100" in output


def test_pgbench_with_pipelines(pair: Both, tmp_path: Path) -> None:
    script = tmp_path / "pipeline.sql"
    script.write_text("\\startpipeline\nbegin;\nselect 1;\nselect count(*) from people;\ncommit;\n\\endpipeline\n")
    command = [pair.server.pgbench, "-n", "-M", "extended", "-f", script, "-c", "3", "-t", "20", pair.relay.dsn]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=25)
    assert done.returncode == 0, done.stderr
    assert "number of failed transactions: 0" in done.stdout


@pytest.mark.parametrize(
    "options", [("--format=plain",), ("--data-only", "--rows-per-insert=7", "--enable-row-security")]
)
def test_pg_dump(pair: Both, options: tuple[str, ...]) -> None:
    pair.server.sql("clients_programs", "grant all on all sequences in schema public to public")

    def run(dsn: str) -> tuple[int, str, str]:
        command = [pair.server.psql.with_name("pg_dump"), "--restrict-key=same", *options, dsn]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
        return done.returncode, done.stdout, done.stderr

    status, output, errors = pair.same(run)
    assert (status, errors) == (0, "")
    assert "Zoë" in output
