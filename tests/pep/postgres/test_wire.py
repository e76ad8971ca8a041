"""The wire, frame by frame, under a policy that allows everything: the answers of the server, or a refusal by name."""

import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from itertools import chain

import psycopg
import pytest

from pep.postgres.messages import (
    PROTOCOL_3_0,
    BackendTag,
    Bind,
    CancelRequest,
    Close,
    CopyData,
    CopyDone,
    CopyFail,
    Describe,
    Execute,
    Flush,
    Frame,
    FunctionCall,
    Kind,
    Parse,
    PasswordMessage,
    Query,
    StartupMessage,
    Sync,
    Terminate,
)
from tests.fix_postgres import TRUST_ROLE, PostgresServer
from tests.pep.postgres.compared import Both, both
from tests.pep.postgres.wire import Encodable, Wire, codes, errors, joined, plain, rows, shape
from tests.relay import PASSWORD, relay

DATABASE = "wire"
USABLE = Query("select 'usable'")

BEGIN, ROLLBACK = Query("begin"), Query("rollback")


def unnamed(text: str, *values: bytes | None, limit: int = 0) -> list[Encodable]:
    """Parse, Bind, Describe, Execute without names."""
    return [Parse("", text, ()), Bind("", "", (), values, ()), Describe(Kind.PORTAL, ""), Execute("", limit)]


@pytest.fixture(scope="module")
def pair(postgres18: PostgresServer) -> Iterator[Both]:
    with both(postgres18, DATABASE) as running:
        postgres18.sql(
            DATABASE,
            "create function turns(name text, value text) returns text language plpgsql as "
            "$$ begin return set_config(name, value, false); end $$",
        )
        yield running


@pytest.fixture
def wire(pair: Both) -> Iterator[Wire]:
    with Wire(pair.relay.port) as connection:
        yield connection.login(DATABASE)


def same(pair: Both, scenario: Callable[[Wire], list[Frame]]) -> list[Frame]:
    """The scenario's frames, which are those of the server itself."""
    with Wire(pair.server.port) as direct:
        expected = scenario(direct.login(DATABASE, user=TRUST_ROLE, password=None))
    with Wire(pair.relay.port) as through:
        got = scenario(through.login(DATABASE))
    assert plain(got) == plain(expected)
    return got


def usable(wire: Wire) -> bool:
    return rows(wire.ask(USABLE)) == [(b"usable",)]


# --- start-up ---------------------------------------------------------------------------------------------------------


def test_encryption_is_declined_where_there_is_none(pair: Both) -> None:
    with Wire(pair.relay.port) as wire:
        for request in (80877103, 80877104, 80877103):
            wire.send(struct.pack(">II", 8, request))
            assert wire.raw(1) == b"N"
        assert usable(wire.login(DATABASE))


@pytest.mark.parametrize("minor", [1, 2, 99])
def test_a_newer_protocol_is_negotiated_down(pair: Both, minor: int) -> None:
    with Wire(pair.relay.port) as wire:
        wire.hello(DATABASE, PROTOCOL_3_0 + minor, **{"_pq_.extra": "1"})
        first = wire.frame()
        assert first == Frame(ord("v"), struct.pack(">II", PROTOCOL_3_0, 1) + b"_pq_.extra\0")
        wire.until(BackendTag.AUTHENTICATION)
        wire.send(PasswordMessage(PASSWORD))
        assert shape(wire.until()).endswith("KZ")
        assert usable(wire)


@pytest.mark.parametrize("major", [1, 2, 4, 300])
def test_another_major_protocol_is_refused(pair: Both, major: int) -> None:
    with Wire(pair.relay.port) as wire:
        wire.hello(DATABASE, major << 16)
        assert codes(wire.rest()) == ["FATAL 0A000"]


@pytest.mark.parametrize("packet", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", struct.pack(">I", 7)])
def test_what_is_no_start_up_packet_is_refused(pair: Both, packet: bytes) -> None:
    with Wire(pair.relay.port) as wire:
        wire.send(packet)
        assert codes(wire.rest()) == ["FATAL 08P01"]


def test_a_wrong_password(pair: Both, postgres18: PostgresServer) -> None:
    position = postgres18.log_position()
    with Wire(pair.relay.port) as wire:
        wire.hello(DATABASE)
        wire.until(BackendTag.AUTHENTICATION)
        wire.send(PasswordMessage("wrong"))
        assert codes(wire.rest()) == ["FATAL 28P01"]
    assert "connection" not in postgres18.log_after(position)


def test_a_message_other_than_the_password(pair: Both) -> None:
    with Wire(pair.relay.port) as wire:
        wire.hello(DATABASE)
        wire.send(Query("select 1"))
        assert codes(wire.rest()) == ["FATAL 08P01"]


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"database": "postgres"}, "3D000"),
        ({"database": ""}, "3D000"),
        ({"user": ""}, "28000"),
        ({"replication": "database"}, "0A000"),
        ({"replication": "true"}, "0A000"),
        ({"client_encoding": "LATIN1"}, "0A000"),
        ({"options": "-c client_encoding=latin1"}, "0A000"),
        ({"standard_conforming_strings": "off"}, "0A000"),
        ({"options": "--standard-conforming-strings=off"}, "0A000"),
        ({"role": "postgres"}, "42501"),
        ({"session_authorization": "postgres"}, "42501"),
        ({"options": "-c role=postgres"}, "42501"),
        ({"options": "-crole=postgres"}, "42501"),
        ({"options": "-c ro\\le=postgres"}, "42501"),
        ({"options": "--session-preload-libraries=x"}, "42501"),
        ({"local_preload_libraries": "x"}, "42501"),
        ({"log_statement": "none"}, "42501"),
        ({"options": "-d 5"}, "0A000"),
        ({"options": "-c work_mem"}, "42601"),
    ],
)
def test_what_a_start_up_packet_must_not_ask(pair: Both, parameters: dict[str, str], code: str) -> None:
    with Wire(pair.relay.port) as wire:
        wire.hello(**{"database": DATABASE, **parameters})
        frame = wire.frame()
        while frame is not None and frame.tag == BackendTag.AUTHENTICATION:
            wire.send(PasswordMessage(PASSWORD))
            frame = wire.frame()
        assert frame is not None
        assert codes([frame]) == [f"FATAL {code}"]
        assert wire.rest() == []


def test_what_a_start_up_packet_may_ask(pair: Both) -> None:
    def scenario(wire: Wire) -> list[Frame]:
        names = "{statement_timeout,work_mem,search_path,app.tenant,geqo}"
        return wire.ask(Query(f"select current_setting(s) from unnest('{names}'::text[]) s"))

    asked = {
        "options": '-c statement_timeout=7s --work-mem=1MB  -csearch_path="a\\ b",public',
        "app.tenant": "acme",
        "geqo": "off",
        "client_encoding": "utf-8",
        "replication": "off",
        "DateStyle": "German",
    }
    with Wire(pair.server.port) as direct, Wire(pair.relay.port) as through:
        direct.login(DATABASE, user=TRUST_ROLE, password=None, **asked)
        through.login(DATABASE, **asked)
        got = scenario(through)
        assert rows(got) == [(b"7s",), (b"1MB",), (b'"a b",public',), (b"acme",), (b"off",)]
        assert plain(got) == plain(scenario(direct))
        assert through.parameters == direct.parameters
        assert through.parameters["DateStyle"] == "German, DMY"


def test_no_conversion_is_utf8_where_the_database_is(pair: Both, postgres18: PostgresServer) -> None:
    """What psql asks for in the C locale."""
    with Wire(pair.server.port) as direct, Wire(pair.relay.port) as through:
        direct.login(DATABASE, user=TRUST_ROLE, password=None, client_encoding="SQL_ASCII")
        through.login(DATABASE, client_encoding="sql_ascii")
        for query in ("select 'Zoë' as é, pg_client_encoding()", "select 1/0", "selec"):
            assert plain(through.ask(Query(query))) == plain(direct.ask(Query(query)))
        assert through.parameters["client_encoding"] == "SQL_ASCII"
        # The server refuses what is not its own encoding, and so does the proxy, before it.
        assert codes(through.ask(Frame(ord("Q"), b"select '\xe9'\0"))) == ["ERROR 22021"]
        assert codes(through.ask(Query("set client_encoding = latin1"))) == ["ERROR 0A000"]
        through.ask(Query("set client_encoding = utf8"), Query("discard all"))
        through.until()
        assert usable(through)
    environment = {**os.environ, "PGCLIENTENCODING": "SQL_ASCII"}
    command = [str(postgres18.psql), "-X", "-A", "-t", pair.relay.dsn, "-c", "select 'Zoë'"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60, env=environment)
    assert (done.returncode, done.stdout) == (0, "Zoë\n".encode())


def test_no_conversion_from_another_encoding_is_refused(postgres18: PostgresServer) -> None:
    postgres18.sql("postgres", "create database wire_latin1 encoding latin1 template template0 locale 'C'")
    with relay(postgres18, "wire_latin1") as running:
        with Wire(running.port) as wire:
            wire.hello("wire_latin1", client_encoding="SQL_ASCII")
            wire.until(BackendTag.AUTHENTICATION)
            wire.send(PasswordMessage(PASSWORD))
            assert codes(wire.rest()) == ["FATAL 0A000"]
        with Wire(running.port) as wire:
            assert rows(wire.login("wire_latin1").ask(Query("select 'Zoë'"))) == [("Zoë".encode(),)]


# --- settings that would change how texts are read --------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "set client_encoding to 'LATIN1'",
        "set names 'latin1'",
        "set local client_encoding = sql_ascii",
        "set standard_conforming_strings = off",
        "set session standard_conforming_strings to 'false'",
        "select 1; set standard_conforming_strings = off",
    ],
)
def test_settings_that_change_how_texts_are_read(wire: Wire, statement: str) -> None:
    assert codes(wire.ask(Query(statement))) == ["ERROR 0A000"]
    assert codes(wire.ask(*unnamed(statement.rpartition("; ")[2]), Sync())) == ["ERROR 0A000"]
    assert usable(wire)


@pytest.mark.parametrize(("name", "value"), [("client_encoding", "latin1"), ("standard_conforming_strings", "off")])
def test_such_a_setting_that_was_hidden_ends_the_session(wire: Wire, name: str, value: str) -> None:
    wire.send(Query(f"select turns('{name}', '{value}')"))
    assert codes(wire.rest()) == ["FATAL 0A000"]


def test_harmless_values_of_them(pair: Both) -> None:
    statements = "set client_encoding to 'utf8'; set names 'UNICODE'; set standard_conforming_strings to on"
    frames = same(pair, lambda wire: wire.ask(Query(statements)))
    assert shape(frames).replace("S", "") == "CCCZ"


# --- messages that are refused ----------------------------------------------------------------------------------------


def test_a_function_call_that_is_none_of_large_objects_is_refused_by_name(wire: Wire) -> None:
    call = FunctionCall(1598)
    assert codes(wire.ask(call)) == ["ERROR 0A000"]
    assert usable(wire)
    wire.ask(BEGIN)
    frames = wire.ask(call)
    assert (codes(frames), frames[-1].payload) == (["ERROR 0A000"], b"E")
    assert codes(wire.ask(USABLE)) == ["ERROR 25P02"]
    wire.ask(ROLLBACK)
    assert usable(wire)


@pytest.mark.parametrize("tag", [b"!", b"\0", b"\xff", b"p", b"R", b"Z", b"T"])
def test_an_unknown_message_type_ends_the_session(wire: Wire, tag: bytes) -> None:
    wire.send(tag + struct.pack(">I", 4))
    assert codes(wire.rest()) == ["FATAL 08P01"]


@pytest.mark.parametrize("length", [0, 3, 0x7FFFFFFF, 0xFFFFFFFF])
def test_an_impossible_length_ends_the_session(wire: Wire, length: int) -> None:
    wire.send(b"Q" + struct.pack(">I", length))
    assert codes(wire.rest()) == ["FATAL 08P01"]


LONG = "x" * (2 << 20)


@pytest.mark.parametrize("in_transaction", [False, True])
def test_a_statement_over_the_limit_is_refused(wire: Wire, in_transaction: bool) -> None:
    oversized: list[list[Encodable]] = [
        [Query(f"select '{LONG}'")],
        [*unnamed(f"select '{LONG}'"), Sync()],
        [*unnamed("select $1::text", LONG.encode()), Sync()],
        [Parse("late", "select 1", ()), Sync()],
    ]
    for messages in oversized:
        if in_transaction:
            wire.ask(BEGIN)
        found = codes(wire.ask(*messages))
        assert found == ([] if isinstance(messages[0], Parse) and messages[0].name else ["ERROR 54000"])
        if in_transaction:
            wire.ask(ROLLBACK)
        assert usable(wire)


def test_a_nul_inside_a_statement(wire: Wire, postgres18: PostgresServer) -> None:
    position = postgres18.log_position()
    wire.send(Frame(ord("Q"), b"select 1\0; select 'hidden'\0"))
    assert [code.split()[1] for code in codes(wire.rest())] == ["08P01"]
    assert "hidden" not in postgres18.log_after(position)


def test_a_statement_that_is_not_utf8(wire: Wire) -> None:
    assert codes(wire.ask(Frame(ord("Q"), b"select '\xff'\0"))) == ["ERROR 22021"]
    assert usable(wire)


# --- framing ----------------------------------------------------------------------------------------------------------

CONVERSATION: list[Encodable] = [
    Query("select 1; select 'zwei'"),
    *unnamed("select $1::int + 1", b"41"),
    Sync(),
    Parse("named", "select generate_series(1, 5)", ()),
    Describe(Kind.STATEMENT, "named"),
    Bind("portal", "named", (), (), ()),
    Execute("portal", 2),
    Execute("portal", 2),
    Close(Kind.PORTAL, "portal"),
    Sync(),
    Query("selec"),
    Query(""),
    Query("copy copied(i) from stdin"),
    CopyData(b"1\n2"),
    CopyData(b"\n"),
    CopyDone(),
    Query("copy copied(i) to stdout"),
    Query("truncate copied"),
    Sync(),
]
READIES = 9


def _whole(wire: Wire) -> list[Frame]:
    wire.send(*CONVERSATION)
    return list(chain.from_iterable(wire.until() for _ in range(READIES)))


def test_a_conversation_in_one_segment(pair: Both) -> None:
    frames = same(pair, _whole)
    assert codes(frames) == ["ERROR 42601"]
    assert (b"42",) in rows(frames)


def test_a_conversation_byte_by_byte(pair: Both) -> None:
    with Wire(pair.server.port) as direct:
        expected = _whole(direct.login(DATABASE, user=TRUST_ROLE, password=None))
    with Wire(pair.relay.port) as wire:
        wire.trickle(StartupMessage(PROTOCOL_3_0, {"user": "anybody", "database": DATABASE}).encode())
        wire.until(BackendTag.AUTHENTICATION)
        wire.trickle(PasswordMessage(PASSWORD).encode())
        wire.until()
        wire.trickle(joined(CONVERSATION))
        got = list(chain.from_iterable(wire.until() for _ in range(READIES)))
    assert plain(got) == plain(expected)


def test_every_split_of_a_group_in_two(pair: Both) -> None:
    data = joined([*unnamed("select $1::int", b"7"), Sync(), Query("select 8")])
    with Wire(pair.relay.port) as wire:
        wire.login(DATABASE)
        for position in range(len(data) + 1):
            wire.send(data[:position])
            wire.send(data[position:])
            assert rows([*wire.until(), *wire.until()]) == [(b"7",), (b"8",)]


def test_a_long_pipeline_in_one_segment(pair: Both) -> None:
    def scenario(wire: Wire) -> list[Frame]:
        wire.send(*chain.from_iterable([*unnamed("select $1::int", b"%d" % number), Sync()] for number in range(300)))
        return list(chain.from_iterable(wire.until() for _ in range(300)))

    assert rows(same(pair, scenario)) == [(b"%d" % number,) for number in range(300)]


# --- the extended protocol --------------------------------------------------------------------------------------------


def test_flush_without_sync(pair: Both) -> None:
    def scenario(wire: Wire) -> list[Frame]:
        wire.send(*unnamed("select $1::text", b"x"), Flush())
        first = wire.until(BackendTag.COMMAND_COMPLETE)
        wire.send(Parse("p", "select 2", ()), Flush())
        second = wire.until(BackendTag.PARSE_COMPLETE)
        return [*first, *second, *wire.ask(Sync())]

    assert shape(same(pair, scenario)) == "12TDC1Z"


def test_sync_alone(pair: Both) -> None:
    def scenario(wire: Wire) -> list[Frame]:
        wire.send(Flush(), Sync(), Sync(), Flush(), Sync())
        return [*wire.until(), *wire.until(), *wire.until()]

    assert shape(same(pair, scenario)) == "ZZZ"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (Describe(Kind.STATEMENT, "nothing"), "26000"),
        (Describe(Kind.STATEMENT, ""), "26000"),
        (Describe(Kind.PORTAL, "nothing"), "34000"),
        (Describe(Kind.PORTAL, ""), "34000"),
        (Bind("", "nothing", (), (), ()), "26000"),
        (Bind("", "", (), (), ()), "26000"),
        (Execute("nothing", 0), "34000"),
        (Execute("", 0), "34000"),
    ],
)
@pytest.mark.parametrize("in_transaction", [False, True])
def test_names_that_denote_nothing(pair: Both, message: Encodable, code: str, in_transaction: bool) -> None:
    def scenario(wire: Wire) -> list[Frame]:
        frames = wire.ask(BEGIN) if in_transaction else []
        frames += wire.ask(message, Parse("", "select 'skipped'", ()), Sync())
        frames += wire.ask(Query("rollback; select 1"))
        return frames

    assert codes(same(pair, scenario)) == [f"ERROR {code}"]


def test_closing_what_does_not_exist(pair: Both) -> None:
    frames = same(pair, lambda wire: wire.ask(Close(Kind.STATEMENT, "no"), Close(Kind.PORTAL, "no"), Sync()))
    assert shape(frames) == "33Z"


def test_a_closed_statement_is_gone(pair: Both) -> None:
    def scenario(wire: Wire) -> list[Frame]:
        frames = wire.ask(Parse("p", "select 1", ()), Sync())
        frames += wire.ask(Parse("p", "select 2", ()), Sync())
        frames += wire.ask(Close(Kind.STATEMENT, "p"), Parse("p", "select 3", ()), Bind("", "p", (), (), ()), Sync())
        frames += wire.ask(Close(Kind.STATEMENT, "p"), Bind("", "p", (), (), ()), Sync())
        return frames

    assert codes(same(pair, scenario)) == ["ERROR 42P05", "ERROR 26000"]


@pytest.mark.parametrize("in_transaction", [False, True])
def test_a_portal_in_slices(pair: Both, in_transaction: bool) -> None:
    def scenario(wire: Wire) -> list[Frame]:
        frames = wire.ask(BEGIN) if in_transaction else []
        bound = [Parse("", "select generate_series(1, 10)", ()), Bind("p", "", (), (), ())]
        frames += wire.ask(*bound, Describe(Kind.PORTAL, "p"), Execute("p", 3), Execute("p", 3), Sync())
        frames += wire.ask(Execute("p", 2), Flush(), Execute("p", 0), Sync())
        frames += wire.ask(Execute("p", 0), Sync())
        return frames

    frames = same(pair, scenario)
    assert len(rows(frames)) == (10 if in_transaction else 6)
    assert codes(frames) == ([] if in_transaction else ["ERROR 34000"] * 2)


def test_a_simple_query_ends_the_unnamed_statement(pair: Both) -> None:
    def scenario(wire: Wire) -> list[Frame]:
        frames = wire.ask(Parse("", "select 'kept'", ()), Sync())
        frames += wire.ask(Bind("", "", (), (), ()), Execute("", 0), Sync())
        frames += wire.ask(Query("set timezone to 'UTC'"))
        frames += wire.ask(Bind("", "", (), (), ()), Execute("", 0), Sync())
        return frames

    frames = same(pair, scenario)
    assert (rows(frames), codes(frames)) == ([(b"kept",)], ["ERROR 26000"])


def test_the_proxys_own_statements_leave_the_unnamed_one_alone(pair: Both) -> None:
    def scenario(wire: Wire) -> list[Frame]:
        frames = wire.ask(Parse("made", "create temp table own(x int)", ()), Sync())
        frames += wire.ask(Parse("", "select 'kept'", ()), Sync())
        frames += wire.ask(Bind("m", "made", (), (), ()), Execute("m", 0), Sync())
        # A name may mean something else now, so the session is read before this one.
        frames += wire.ask(
            Parse("read", "select * from own", ()), Bind("r", "read", (), (), ()), Execute("r", 0), Sync()
        )
        frames += wire.ask(Bind("", "", (), (), ()), Execute("", 0), Sync())
        return frames

    frames = same(pair, scenario)
    assert (rows(frames), codes(frames)) == ([(b"kept",)], [])


def test_no_trace_of_the_proxys_own_statements(wire: Wire) -> None:
    wire.ask(Query("create temp table x(y int)"))
    wire.ask(Query("select * from x"))
    frames = wire.ask(Query("select name from pg_prepared_statements union all select name from pg_cursors"))
    assert rows(frames) == []


@pytest.mark.parametrize("name", ["checkrein_facts", "checkrein_refusal"])
def test_reserved_names_are_refused(wire: Wire, name: str) -> None:
    assert codes(wire.ask(Parse(name, "select 1", ()), Sync())) == ["ERROR 42939"]
    assert codes(wire.ask(Close(Kind.STATEMENT, name), Sync())) == ["ERROR 42939"]
    assert usable(wire)


def test_an_error_skips_up_to_the_sync(pair: Both) -> None:
    def scenario(wire: Wire) -> list[Frame]:
        wire.send(
            *unnamed("insert into copied values (1)"),
            *unnamed("select 1/0"),
            *unnamed("insert into copied values (2)"),
            Sync(),
            *unnamed("select count(*) from copied"),
            Sync(),
        )
        return [*wire.until(), *wire.until()]

    frames = same(pair, scenario)
    assert (rows(frames), codes(frames)) == ([(b"0",)], ["ERROR 22012"])


def test_a_statement_behind_the_rollback_of_its_own_group(pair: Both) -> None:
    def scenario(wire: Wire) -> list[Frame]:
        frames = wire.ask(Query("begin"))
        frames += wire.ask(Query("select 1/0"))
        frames += wire.ask(*unnamed("rollback"), Sync())
        frames += wire.ask(*unnamed("select 5"), Sync())
        return frames

    frames = same(pair, scenario)
    assert (rows(frames), codes(frames)) == ([(b"5",)], ["ERROR 22012"])


def test_a_name_behind_a_rollback_is_not_what_was_rolled_back(pair: Both) -> None:
    def scenario(wire: Wire) -> list[Frame]:
        wire.ask(Query("begin; create temp table people(x int)"))
        wire.ask(Query("select * from people; select 1/0"))
        return wire.ask(Query("rollback; select id from people"))

    frames = same(pair, scenario)
    assert rows(frames) == [(b"1",), (b"2",), (b"3",)]
    last = pair.relay.decisions.asked[-1].properties
    assert last["opaque"] or [relation["dataset"] for relation in last["relations"]] == ["public.people"]


def test_begin_and_what_it_is_for_in_one_group(pair: Both) -> None:
    begun = [*unnamed("begin"), *unnamed("select id from people"), *unnamed("commit"), Sync()]
    with Wire(pair.relay.port) as wire:
        # The very first thing that the session does.
        assert len(rows(wire.login(DATABASE).ask(*begun))) == 3
        assert [action.properties["opaque"] for action in pair.relay.decisions.asked[-6:]] == [False] * 6
        wire.ask(Query("set search_path to public"))
        assert len(rows(wire.ask(*begun))) == 3
        assert [action.properties["opaque"] for action in pair.relay.decisions.asked[-6:]] == [False] * 6


def test_binary_parameters_and_results(pair: Both) -> None:
    def scenario(wire: Wire) -> list[Frame]:
        bind = Bind("", "", (1, 0), (struct.pack(">q", 1 << 40), b"text"), (1, 0, 1))
        return wire.ask(Parse("", "select $1::int8 + 1, $2::text, null", (20, 25)), bind, Execute("", 0), Sync())

    frames = same(pair, scenario)
    assert rows(frames) == [(struct.pack(">q", (1 << 40) + 1), b"text", None)]


# --- COPY -------------------------------------------------------------------------------------------------------------


def test_copy_in_that_the_client_gives_up(pair: Both) -> None:
    def scenario(wire: Wire) -> list[Frame]:
        wire.send(Query("copy copied(i) from stdin"))
        frames = wire.until(BackendTag.COPY_IN_RESPONSE)
        frames += wire.ask(CopyData(b"1\n"), CopyFail("no more"))
        # Late data of a COPY that has ended is ignored.
        frames += wire.ask(CopyData(b"2\n"), CopyDone(), Query("select count(*) from copied"))
        return frames

    frames = same(pair, scenario)
    assert (rows(frames), codes(frames)) == ([(b"0",)], ["ERROR 57014"])


def test_copy_in_by_the_extended_protocol(pair: Both) -> None:
    def scenario(wire: Wire) -> list[Frame]:
        wire.send(Parse("", "copy copied(i) from stdin", ()), Bind("", "", (), (), ()), Execute("", 0), Flush())
        frames = wire.until(BackendTag.COPY_IN_RESPONSE)
        frames += wire.ask(CopyData(b"1\n"), CopyData(b"2\n"), Sync(), Flush(), CopyDone(), Sync())
        frames += wire.ask(Query("delete from copied"))
        return frames

    assert shape(same(pair, scenario)) == "12GCZCZ"


def test_large_pieces_of_a_copy(pair: Both) -> None:
    def scenario(wire: Wire) -> list[Frame]:
        wire.send(Query("copy copied(t) from stdin"))
        frames = wire.until(BackendTag.COPY_IN_RESPONSE)
        frames += wire.ask(CopyData(b"y" * (3 << 20) + b"\n"), CopyDone())
        frames += wire.ask(Query("select length(t) from copied"))
        frames += wire.ask(Query("copy copied to stdout; delete from copied"))
        return frames

    assert rows(same(pair, scenario)) == [(b"%d" % (3 << 20),)]


def test_a_query_inside_copy_in_never_reaches_the_server(wire: Wire, postgres18: PostgresServer) -> None:
    wire.send(Query("copy copied(i) from stdin"))
    wire.until(BackendTag.COPY_IN_RESPONSE)
    position = postgres18.log_position()
    wire.send(CopyData(b"1\n"), Query("select 'smuggled'"))
    assert codes(wire.rest()) == ["FATAL 08P01"]
    assert "smuggled" not in postgres18.log_after(position)


# --- keys, cancelling, leaving ----------------------------------------------------------------------------------------


def _cancel(port: int, pid: int, key: bytes) -> None:
    with Wire(port) as messenger:
        messenger.send(CancelRequest(pid, key))
        assert messenger.raw(1) == b""


def _asleep(pair: Both, wire: Wire) -> None:
    """Until the server says that it sleeps."""
    with psycopg.connect(pair.direct, autocommit=True) as watcher:
        query = "select count(*) from pg_stat_activity where pid = %s and wait_event = 'PgSleep'"
        while watcher.execute(query, (wire.pid,)).fetchone() == (0,):
            watcher.execute("select pg_sleep(0.01)")


def test_the_pid_is_the_servers(wire: Wire) -> None:
    assert rows(wire.ask(Query("select pg_backend_pid()"))) == [(b"%d" % wire.pid,)]


@pytest.mark.parametrize("messages", [[Query("select pg_sleep(20)")], [*unnamed("select pg_sleep(20)"), Sync()]])
def test_cancelling_with_the_right_key(pair: Both, wire: Wire, messages: list[Encodable]) -> None:
    wire.send(*messages)
    _asleep(pair, wire)
    _cancel(pair.relay.port, wire.pid, wire.key)
    frames = wire.until()
    assert codes(frames) == ["ERROR 57014"]
    assert errors(frames)[0]["M"] == "canceling statement due to user request"
    assert usable(wire)


def test_cancelling_with_another_key(pair: Both, wire: Wire) -> None:
    wire.send(Query("select pg_sleep(0.4)"))
    _asleep(pair, wire)
    _cancel(pair.relay.port, wire.pid, bytes(byte ^ 1 for byte in wire.key))
    _cancel(pair.relay.port, wire.pid + 1, wire.key)
    _cancel(pair.server.port, wire.pid, wire.key)
    assert codes(wire.until()) == []


def test_a_late_cancel_does_not_hit_the_next_statement(pair: Both, wire: Wire) -> None:
    for _ in range(5):
        wire.ask(Query("select 1"))
        _cancel(pair.relay.port, wire.pid, wire.key)
        assert codes(wire.ask(Query("select pg_sleep(0.05)"))) == []


def test_leaving(pair: Both, wire: Wire) -> None:
    wire.send(Terminate())
    assert wire.rest() == []
    with psycopg.connect(pair.direct, autocommit=True) as watcher:
        while watcher.execute("select 1 from pg_stat_activity where pid = %s", (wire.pid,)).fetchone():
            watcher.execute("select pg_sleep(0.01)")


def test_a_client_that_vanishes_is_cancelled(pair: Both, wire: Wire) -> None:
    wire.send(Query("select pg_sleep(20)"))
    _asleep(pair, wire)
    wire.socket.close()
    with psycopg.connect(pair.direct, autocommit=True) as watcher:
        while watcher.execute("select 1 from pg_stat_activity where pid = %s", (wire.pid,)).fetchone():
            watcher.execute("select pg_sleep(0.01)")


def test_a_server_process_that_is_ended(pair: Both, wire: Wire) -> None:
    wire.send(Query("select pg_sleep(20)"))
    _asleep(pair, wire)
    pair.server.sql(DATABASE, f"select pg_terminate_backend({wire.pid})")
    assert codes(wire.rest()) == ["FATAL 57P01"]
