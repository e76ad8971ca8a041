"""Every verdict through pgbench in its three modes, and through psql in the extended protocol."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pep.core.model import Action, Decision
from tests.fix_postgres import PostgresServer
from tests.relay import Relay, deny, masks_customers, relay, require_approval, touches

DATABASE = "verdicts_programs"
MODES = ("simple", "extended", "prepared")
TABLES = """
create table plain(id int);
create table customers(id int primary key, name text, email text, ssn text);
insert into customers values (1, 'Ada', 'ada@example.org', '111-22-3333');
create table seen(email text);
create table forbidden(id int);
create table asks(id int);
grant all on all tables in schema public to public;
"""


def policy(action: Action) -> Decision:
    if touches(action, "public.forbidden"):
        return deny("nobody reads this table", "no_forbidden")
    if action.name != "prepare" and touches(action, "public.asks"):
        return require_approval()
    return masks_customers(action)


@pytest.fixture(scope="module")
def running(postgres18: PostgresServer) -> Iterator[Relay]:
    postgres18.create_database(DATABASE)
    postgres18.sql(DATABASE, TABLES)
    with relay(postgres18, DATABASE, policy) as found:
        yield found


@pytest.fixture(autouse=True)
def _afresh(postgres18: PostgresServer, running: Relay) -> None:
    postgres18.sql(DATABASE, "truncate plain, seen, asks")
    running.decisions.approvals.clear()
    running.decisions.redeemed.clear()


@contextmanager
def answered(running: Relay, state: str) -> Iterator[None]:
    """People who answer the next approval."""
    people = threading.Thread(target=running.resolve, args=(state, "", 60.0))
    people.start()
    try:
        yield
    finally:
        people.join()


def bench(server: PostgresServer, running: Relay, folder: Path, mode: str, script: str, *more: str) -> tuple[int, str]:
    """The exit status, and what was printed, of a script that each of the clients runs."""
    file = folder / "script.sql"
    file.write_text(script)
    command = [server.pgbench, "-n", "-M", mode, "-f", file, *more, running.dsn]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("mode", MODES)
def test_pgbench_is_allowed(running: Relay, postgres18: PostgresServer, tmp_path: Path, mode: str) -> None:
    script = "\\set id random(1, 9)\ninsert into plain values (:id);\n"
    status, said = bench(postgres18, running, tmp_path, mode, script, "-c", "2", "-t", "5")
    assert status == 0, said
    assert postgres18.sql(DATABASE, "select count(*) from plain") == [(10,)]


@pytest.mark.parametrize("mode", MODES)
def test_pgbench_sees_masks(running: Relay, postgres18: PostgresServer, tmp_path: Path, mode: str) -> None:
    """What it has seen it writes to another table: its variables are texts without quotes in the simple protocol."""
    value = "':email'" if mode == "simple" else ":email"
    script = f"select email, ssn from customers where id = 1 \\gset\ninsert into seen values ({value});\n"
    status, said = bench(postgres18, running, tmp_path, mode, script, "-t", "2")
    assert status == 0, said
    ((first,), (second,)) = postgres18.sql(DATABASE, "select email from seen")
    assert first == second
    assert "@" in str(first)
    assert "ada@" not in str(first)


@pytest.mark.parametrize("mode", MODES)
def test_pgbench_is_denied(running: Relay, postgres18: PostgresServer, tmp_path: Path, mode: str) -> None:
    position = postgres18.log_position()
    script = "insert into plain values (1);\ninsert into forbidden values (7654321);\n"
    status, said = bench(postgres18, running, tmp_path, mode, script, "-t", "1")
    assert status != 0
    assert "this statement is refused by policy test: nobody reads this table" in said
    assert "7654321" not in postgres18.log_after(position)
    assert postgres18.sql(DATABASE, "select count(*) from plain") == [(1,)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("state", ["approved", "denied"])
def test_pgbench_waits_for_a_yes(
    running: Relay, postgres18: PostgresServer, tmp_path: Path, mode: str, state: str
) -> None:
    with answered(running, state):
        status, said = bench(postgres18, running, tmp_path, mode, "insert into asks values (1);\n", "-t", "1")
    assert (status == 0) is (state == "approved"), said
    assert postgres18.sql(DATABASE, "select count(*) from asks") == [(1 if state == "approved" else 0,)]


def test_psql_in_the_extended_protocol(running: Relay, postgres18: PostgresServer) -> None:
    statements = [
        "insert into plain values ($1) \\bind 5",
        "select id from plain where id = $1 \\bind 5",
        "select name, email, ssn from customers where id = $1 \\bind 1",
        "select ssn || $1 from customers \\bind x",
        "select * from forbidden where id = $1 \\bind 1",
        "insert into asks values ($1) \\bind 1",
        "select 'usable' \\bind",
    ]
    script = "".join(f"{statement} \\g\n\\echo == :SQLSTATE\n" for statement in statements)
    command = [postgres18.psql, "-X", "-q", "-At", "-P", "null=NULL", running.dsn]
    with answered(running, "approved"):
        done = subprocess.run(command, input=script, capture_output=True, text=True, check=False, timeout=50)
    inserted, read, masked, expression, denied, approved, usable = done.stdout.split("== ")[1:]
    # What a statement returned stands before its own mark, so behind the one before.
    assert inserted.split() == ["00000", "5"], done.stderr
    assert read.splitlines()[0] == "00000"
    name, email, ssn = read.splitlines()[1].split("|")
    assert (name, ssn) == ("Ada", "NULL")
    assert "@" in email
    assert "ada@" not in email
    assert masked.split() == ["00000"]
    assert [each.split()[0] for each in (expression, denied, approved)] == ["42501", "42501", "00000"]
    assert usable.split() == ["00000"]
    assert "usable" in approved
    assert "111-22-3333" not in done.stdout + done.stderr
    assert postgres18.sql(DATABASE, "select count(*) from asks") == [(1,)]
