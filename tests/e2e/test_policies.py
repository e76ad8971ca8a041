"""Policies that are edited while everything runs: in force within seconds if they are whole, and not at all if not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.e2e.clients import refusal
from tests.fix_postgres import PostgresServer
from tests.fix_stack import OPERATOR, Stack, installed, seed

ORDERS = "select id, status from orders order by id limit 3"
FREEZE = """package policies.freeze

import data.checkrein.postgres as pg

deny contains {"code": "freeze", "message": "Orders are being counted."} if "public.orders" in pg.touched
"""


@pytest.fixture(scope="module")
def edited(postgres18: PostgresServer, opa_path: Path) -> Iterator[Stack]:
    seed(postgres18, "policies_shop")
    with installed(postgres18, opa_path, "policies_shop") as stack:
        stack.serve()
        yield stack


def said(connection: psycopg.Connection[Any]) -> str:
    """What the agent gets: its rows, or the refusal."""
    try:
        return f"{len(connection.execute(ORDERS).fetchall())} rows"
    except psycopg.Error as error:
        return f"{error.sqlstate} {error}"


def test_an_edit_is_in_force_for_the_next_statement_of_an_open_session(edited: Stack):
    policy = edited.policies / "policies" / "freeze"
    bindings = edited.policies / "bindings" / "data.yaml"
    as_shipped = bindings.read_text()
    with edited.connect(edited.node("read_orders")) as connection:
        assert said(connection) == "3 rows"
        policy.mkdir()
        (policy / "freeze.rego").write_text(FREEZE)
        bindings.write_text(as_shipped + "- {policy: freeze, match: {id: shop}}\n")
        edited.until(lambda: said(connection).startswith("42501"), what="the new rule is in force")
        assert "by policy freeze: Orders are being counted" in said(connection)
        bindings.write_text(as_shipped)
        (policy / "freeze.rego").unlink()
        policy.rmdir()
        edited.until(lambda: said(connection) == "3 rows", what="the rule is out of force")


def test_a_parameter_is_edited_without_rego(edited: Stack):
    parameters = edited.policies / "parameters" / "data.yaml"
    as_shipped = parameters.read_text()
    with edited.connect(edited.node("read_orders")) as connection:
        parameters.write_text(as_shipped.replace("max_rows: 1000", "max_rows: 2"))
        edited.until(lambda: said(connection).startswith("54000"), what="the new limit is in force")
        assert "more than the 2 rows that policy allows" in said(connection)
        parameters.write_text(as_shipped)
        edited.until(lambda: said(connection) == "3 rows", what="the old limit is in force")


@pytest.mark.parametrize(
    ("mistake", "named"),
    [
        ('dney contains {"code": "typo", "message": "never"} if true\n', "dney is no contribution: did you mean deny?"),
        ('deny contains {"code" "typo"}\n', "agent_reads.rego"),
    ],
)
def test_a_broken_file_leaves_the_last_good_ones_in_force_and_is_named_with_its_line(
    edited: Stack, mistake: str, named: str
):
    file = edited.policies / "policies" / "agent_reads" / "agent_reads.rego"
    as_shipped = file.read_text()
    line = as_shipped.count("\n") + 1
    try:
        file.write_text(as_shipped + mistake)
        done = edited.until(lambda: wrong(edited), what="the file is found to be broken")
        assert f"agent_reads.rego:{line}" in done
        assert named in done
        checked = edited.pdp("policy", "check", str(edited.policies))
        assert checked.status == 1
        assert f"agent_reads.rego:{line}" in checked.err
        with edited.connect(edited.node("read_orders")) as connection:
            assert said(connection) == "3 rows"
    finally:
        file.write_text(as_shipped)
    edited.until(lambda: "in force everywhere" in edited.pdp("status", token=edited.person(OPERATOR)).out)


def wrong(stack: Stack) -> str:
    """What `pdp status` says of the newest files, if it finds them wrong."""
    done = stack.pdp("status", token=stack.person(OPERATOR))
    return done.out if done.status == 1 and "The newest policy files are not in force" in done.out else ""


def test_a_file_whose_tests_fail_is_not_put_in_force_not_even_by_a_restart(edited: Stack):
    file = edited.policies / "policies" / "no_ddl" / "no_ddl.rego"
    as_shipped = file.read_text()
    edited.end("service")
    try:
        file.write_text(as_shipped.replace("not subject.is_person", "subject.is_person"))
        edited.start_service()
        with edited.connect(edited.node("drop_table")) as connection:
            assert "Agents do not change the schema" in refusal(connection, "drop table payments").message
        assert "no_ddl_test" in wrong(edited)
    finally:
        file.write_text(as_shipped)


def test_the_repository_passes_its_own_tests_and_no_example_gets_weaker_when_something_is_absent(edited: Stack):
    tested = edited.pdp("policy", "test", "--absent", str(edited.policies))
    assert tested.status == 0, tested.err
    assert "PASS: " in tested.out
    assert "variants: none weaker" in tested.out
