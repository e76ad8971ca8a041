"""Large objects by the protocol's function calls, which libpq and JDBC use: decided, recorded, refused."""

import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pep.core.model import Action, Decision, NullMask
from pep.postgres.messages import DataRow, Frame, FunctionCall, FunctionCallResponse, Query
from tests.fix_postgres import PostgresServer
from tests.pep.postgres.wire import Wire, codes, joined, shape
from tests.relay import Relay, allow, deny, mask, relay
from tests.stub_service import FieldMask

NAME = "large_objects"
INV_READ_WRITE = 0x60000
LO_CREAT, LO_OPEN, LO_WRITE, LO_READ, LO_UNLINK, LO_SEEK = 957, 952, 955, 954, 964, 956


@pytest.fixture(scope="module")
def database(postgres18: PostgresServer) -> str:
    postgres18.create_database(NAME)
    return NAME


@pytest.fixture
def proxy(postgres18: PostgresServer, database: str) -> Iterator[Relay]:
    with relay(postgres18, database) as running:
        yield running


def call(function: int, *arguments: int | bytes) -> FunctionCall:
    cells = tuple(a if isinstance(a, bytes) else struct.pack(">i", a) for a in arguments)
    return FunctionCall(function, (1,), cells, 1)


def value(frames: list[Frame]) -> bytes | None:
    answers = [f for f in frames if f.tag == ord("V")]
    assert len(answers) == 1
    return FunctionCallResponse.decode(answers[0].payload).value


def number(frames: list[Frame]) -> int:
    return int.from_bytes(value(frames) or b"")


def test_psql_imports_exports_and_unlinks(postgres18: PostgresServer, proxy: Relay, tmp_path: Path) -> None:
    """A real libpq; it asks for the functions by name, then calls them by number."""
    source, back = tmp_path / "in", tmp_path / "out"
    source.write_bytes(bytes(range(256)) * 200)
    script = f"\\lo_import '{source}'\n\\lo_export :LASTOID '{back}'\n\\lo_unlink :LASTOID\n\\lo_list\n"
    command = [postgres18.psql, "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", proxy.dsn]
    done = subprocess.run(
        list(map(str, command)), input=script, capture_output=True, text=True, check=False, timeout=60, env=os.environ
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert back.read_bytes() == source.read_bytes()
    decided = [a.statement.text for a in proxy.decisions.asked if a.statement is not None]
    for function in ("lo_creat($1)", "lo_open($1, $2)", "lowrite($1, $2)", "loread($1, $2)", "lo_unlink($1)"):
        assert f"SELECT pg_catalog.{function}" in decided


def test_a_policy_sees_the_function_its_arguments_and_what_it_reaches(proxy: Relay) -> None:
    with Wire(proxy.port).login(NAME) as wire:
        oid = number(wire.ask(call(LO_CREAT, INV_READ_WRITE)))
        wire.ask(Query("begin"))
        descriptor = number(wire.ask(call(LO_OPEN, oid, INV_READ_WRITE)))
        assert number(wire.ask(call(LO_WRITE, descriptor, b"\xffhorse"))) == 6
        asked = proxy.decisions.asked[-1]
        assert number(wire.ask(call(LO_SEEK, descriptor, 0, 0))) == 0
        assert value(wire.ask(call(LO_READ, descriptor, 100))) == b"\xffhorse"
        wire.ask(Query("rollback"))
    assert asked.name == "query"
    assert asked.statement is not None
    assert asked.statement.parameters == (descriptor, {"$bytes": "/2hvcnNl"})
    assert asked.properties["functions"] == ["pg_catalog.lowrite"]
    assert asked.properties["reaches_beyond"] == ["function lowrite"]
    assert asked.properties["opaque"] is False


def _no_unlink(action: Action) -> Decision:
    return deny() if "pg_catalog.lo_unlink" in action.properties["functions"] else allow()


def test_a_denied_call_does_not_reach_the_server_and_fails_its_transaction(
    postgres18: PostgresServer, database: str
) -> None:
    with relay(postgres18, database, _no_unlink) as proxy, Wire(proxy.port).login(NAME) as wire:
        oid = number(wire.ask(call(LO_CREAT, INV_READ_WRITE)))
        assert codes(wire.ask(call(LO_UNLINK, oid))) == ["ERROR 42501"]
        wire.ask(Query("begin"))
        frames = wire.ask(call(LO_UNLINK, oid))
        assert (codes(frames), frames[-1].payload) == (["ERROR 42501"], b"E")
        wire.ask(Query("rollback"))
        assert number(wire.ask(call(LO_OPEN, oid, INV_READ_WRITE))) == 0
        assert postgres18.sql(NAME, f"select lo_unlink({oid})") == [(1,)]


def test_calls_come_byte_by_byte(proxy: Relay) -> None:
    with Wire(proxy.port).login(NAME) as wire:
        made = call(LO_CREAT, INV_READ_WRITE).encode()
        wire.trickle(made)
        oid = number(wire.until())
        messages = [Query("begin"), call(LO_OPEN, oid, INV_READ_WRITE), call(LO_WRITE, 0, b"\0Q\0\0\0\x05" * 9)]
        wire.trickle(
            joined([*messages, call(LO_SEEK, 0, 1, 0), call(LO_READ, 0, 3), call(LO_UNLINK, oid), Query("end")])
        )
        wire.until()
        assert [number(wire.until()) for _ in range(3)] == [0, 54, 1]
        assert value(wire.until()) == b"Q\0\0"
        assert number(wire.until()) == 1
        assert shape(wire.until()) == "CZ"


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\0\0\x03",
        struct.pack(">IHH", LO_CREAT, 0, 1),
        struct.pack(">IHHHI", LO_CREAT, 1, 1, 1, 5) + b"\0\0\0\0",
        struct.pack(">IHHHI", LO_CREAT, 1, 1, 1, 4) + b"\0\0\0\0",
        struct.pack(">IHHHIIH", LO_CREAT, 1, 1, 1, 4, 0, 1) + b"more",
        struct.pack(">IHHHi", LO_CREAT, 1, 1, 1, -5),
        struct.pack(">IHHHH", LO_CREAT, 2, 1, 1, 1),
    ],
)
def test_a_broken_call_reaches_nobody(postgres18: PostgresServer, proxy: Relay, broken: bytes) -> None:
    position = postgres18.log_position()
    with Wire(proxy.port).login(NAME) as wire:
        wire.send(Frame(ord("F"), broken), Query("select 'behind it'"))
        assert codes([wire.frame() or Frame(0, b"")]) == ["FATAL 08P01"]
        assert wire.rest() == []
    assert "behind it" not in postgres18.log_after(position)


def test_an_error_of_the_server_passes_and_the_next_statement_goes_on(proxy: Relay) -> None:
    with Wire(proxy.port).login(NAME) as wire:
        assert codes(wire.ask(call(LO_UNLINK, 1))) == ["ERROR 42704"]
        assert codes(wire.ask(call(LO_UNLINK, 1, 2))) == ["ERROR 08P01"]
        rows = [f for f in wire.ask(Query("select 7")) if f.tag == ord("D")]
        assert DataRow.decode(rows[0].payload).values == (b"7",)


def test_under_a_mask_large_objects_are_closed(postgres18: PostgresServer, database: str) -> None:
    def masked(_action: Action) -> Decision:
        return mask(FieldMask("public.customers", "ssn", NullMask()))

    with relay(postgres18, database, masked) as proxy, Wire(proxy.port).login(NAME) as wire:
        position = postgres18.log_position()
        assert codes(wire.ask(call(LO_CREAT, INV_READ_WRITE))) == ["ERROR 42501"]
        assert "lo_creat" not in postgres18.log_after(position)
