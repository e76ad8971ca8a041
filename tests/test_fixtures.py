"""The fixtures give what they promise: real servers and the real engine, reached the way a proxy reaches them."""

import subprocess
from pathlib import Path

import psycopg
import pytest

from tests.fix_postgres import CLEARTEXT_PASSWORD, CLEARTEXT_ROLE, TRUST_ROLE, PostgresServer


def test_opa_evaluates_a_query(opa_path: Path):
    answer = subprocess.run([opa_path, "eval", "--format=raw", "1 + 1"], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "2"


def test_postgres18_answers_the_proxys_role_which_is_no_superuser(postgres18: PostgresServer):
    dsn = postgres18.dsn("postgres", postgres18.proxy_role, postgres18.proxy_password)
    with psycopg.connect(dsn) as connection:
        assert connection.info.server_version // 10000 == 18
        assert connection.pgconn.used_password
        query = "select current_user, usesuper from pg_user where usename = current_user"
        assert connection.execute(query).fetchone() == (postgres18.proxy_role, False)


def test_the_proxys_role_needs_its_password(postgres18: PostgresServer):
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres18.dsn("postgres", postgres18.proxy_role, "wrong"))


def test_postgres15_speaks_tls_with_a_certificate_that_verifies(postgres15_tls: PostgresServer):
    dsn = postgres15_tls.dsn("postgres", postgres15_tls.proxy_role, postgres15_tls.proxy_password)
    with psycopg.connect(dsn, sslmode="verify-full", sslrootcert=str(postgres15_tls.ca)) as connection:
        assert connection.info.server_version // 10000 >= 15
        assert connection.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()").fetchone() == (True,)


def test_postgres15_takes_no_password_without_tls(postgres15_tls: PostgresServer):
    dsn = postgres15_tls.dsn("postgres", postgres15_tls.proxy_role, postgres15_tls.proxy_password)
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
        psycopg.connect(dsn, sslmode="disable")


@pytest.mark.parametrize(("role", "password"), [(CLEARTEXT_ROLE, CLEARTEXT_PASSWORD), (TRUST_ROLE, None)])
def test_the_other_ways_of_logging_in_work(postgres15_tls: PostgresServer, role: str, password: str | None):
    with psycopg.connect(postgres15_tls.dsn("postgres", role, password), sslmode="require") as connection:
        assert connection.execute("select current_user").fetchone() == (role,)


def test_a_database_is_made_afresh_and_the_log_names_what_reached_it(postgres18: PostgresServer):
    postgres18.create_database("fixture")
    postgres18.sql("fixture", "create table kept (n int)")
    postgres18.create_database("fixture")
    assert postgres18.sql("fixture", "select 1; select to_regclass('kept'); set search_path = public") == [(None,)]
    position = postgres18.log_position()
    postgres18.sql("fixture", "select 'a statement to find'")
    assert "fixture postgres LOG:  statement: select 'a statement to find'" in postgres18.log_after(position)


def test_psql_and_pgbench_are_there(postgres18: PostgresServer):
    for program in (postgres18.psql, postgres18.pgbench):
        assert "18." in subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
