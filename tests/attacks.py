# ruff: noqa: PT018 - both halves of what is compared are shown when either fails
"""What attacks on the PostgreSQL proxy share: a shop full of markers, a client that keeps every byte, outcomes.

An attacker here has a valid login, may send any bytes and keeps every byte that comes back. The shop's secrets are
random words, so any six characters of one among those bytes are a leak, whatever message carried them.

Two policies stand behind the proxy. `ShippedPolicies` are the real ones of `rego/`, asked through the real engine, for
a node that may read and write nearly everything, so that only masks stand between it and the markers.
`relay.masks_customers` is a team's own, which lets DDL, temporary tables and more pass.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import struct
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from pdp.decision_message import to_proto
from pdp.input import Context, Resource, build_input
from pdp.library import library_dir
from pdp.opa.engine import PolicyEngine
from pep.core import translate
from pep.core.model import Action, Decision, FieldMask, NullMask, PartialEmailMask
from pep.postgres.messages import (
    Bind,
    CopyDone,
    Describe,
    ErrorResponse,
    Execute,
    FrontendMessage,
    Kind,
    Parse,
    PasswordMessage,
    Query,
    StartupMessage,
    Sync,
)
from tests.fix_postgres import PostgresServer
from tests.relay import PASSWORD, Relay, allow, deny, mask

# Random words: nothing else that a server says has six characters in common with one of them.
SSNS = ("QZX7KV-WJ4HP9", "BF3MGT-XQ8YVD", "HW6ZRJ-PK2XBN")
EMAILS = ("vrbqlx.wjzk@kjwzpd-xq.io", "hgfzqt.mxvw@zpxqnb-wr.io", "tkwzvj.qbxp@fqzjwm-hd.io")
SALARIES = (739184625, 918273645, 627485913)
MARKERS = (*SSNS, *EMAILS)

LARGE_OBJECT = 424242
DATABASE = "attacked"


def shop(server: PostgresServer, name: str = DATABASE) -> None:
    """Make the database. Everybody may do everything with its objects: the target's own rights protect nothing."""
    server.create_database(name)
    server.sql(name, f"ALTER DATABASE {name} SET log_min_duration_statement = 0")
    server.sql(name, _TABLES)
    for number, (ssn, email, salary) in enumerate(zip(SSNS, EMAILS, SALARIES, strict=True), start=1):
        row = f"{number}, 'name {number}', '{email}', '{ssn}', {salary}"
        server.sql(name, f"INSERT INTO customers VALUES ({row}); INSERT INTO orders VALUES ({number}, {number}, 'new')")
        vip = row.replace("name", "vip")
        server.sql(name, f"INSERT INTO vips (id, name, email, ssn, salary, level) VALUES ({vip}, 1)")
        server.sql(name, f"INSERT INTO people VALUES ('eu', {number}, '{ssn}')")
        server.sql(name, f"INSERT INTO cards VALUES ({number}, '{ssn}')")
    server.sql(name, _BEHIND)
    server.sql(name, f"SELECT lo_from_bytea({LARGE_OBJECT}, '{SSNS[0]}'::bytea)")
    server.sql(name, f"GRANT ALL ON LARGE OBJECT {LARGE_OBJECT} TO PUBLIC")
    server.sql(name, _RIGHTS)


_TABLES = """
CREATE TABLE customers (
    id int PRIMARY KEY, name text, email text UNIQUE, ssn text UNIQUE, salary int
);
CREATE INDEX by_lower ON customers (lower(ssn));
CREATE TABLE vips (level int) INHERITS (customers);
CREATE TABLE people (region text, id int, ssn text) PARTITION BY LIST (region);
CREATE TABLE people_eu (ssn text, gone int, id int, region text);
ALTER TABLE people_eu DROP COLUMN gone;
ALTER TABLE people ATTACH PARTITION people_eu FOR VALUES IN ('eu');
CREATE TABLE cards (id int, ssn text, tail text GENERATED ALWAYS AS (right(ssn, 8)) STORED);
CREATE TABLE orders (id int PRIMARY KEY, customer_id int, note text);
CREATE TABLE notes (id int, body text);
CREATE TABLE claims (ssn text REFERENCES customers (ssn));
CREATE SEQUENCE numbers;
"""

_BEHIND = """
CREATE VIEW v_customers AS SELECT * FROM customers;
CREATE VIEW v_tails AS SELECT id, ssn || '' AS tail FROM customers;
CREATE MATERIALIZED VIEW m_customers AS SELECT id, ssn FROM customers;
CREATE DOMAIN nine AS text CHECK (VALUE ~ '^9');

CREATE FUNCTION ssn_of(int) RETURNS text LANGUAGE sql STABLE AS 'SELECT ssn FROM public.customers WHERE id = $1';
CREATE FUNCTION known(text) RETURNS boolean LANGUAGE sql STABLE
    AS 'SELECT EXISTS (SELECT FROM public.customers WHERE ssn LIKE $1)';
CREATE FUNCTION all_of() RETURNS SETOF public.customers LANGUAGE sql STABLE AS 'SELECT * FROM public.customers';
CREATE FUNCTION in_notice() RETURNS int LANGUAGE plpgsql AS $$
    BEGIN RAISE NOTICE '%', public.ssn_of(1); RETURN 1; END $$;
CREATE FUNCTION in_error(int) RETURNS int LANGUAGE plpgsql AS $$
    BEGIN RAISE 'x' USING COLUMN = public.ssn_of($1), TABLE = public.ssn_of($1), CONSTRAINT = public.ssn_of($1),
        SCHEMA = public.ssn_of($1), DATATYPE = public.ssn_of($1), HINT = public.ssn_of($1); END $$;
CREATE FUNCTION in_sqlstate(int) RETURNS int LANGUAGE plpgsql AS $$
    BEGIN RAISE 'x' USING ERRCODE = upper(substr(translate(public.ssn_of($1), '-', ''), 1, 5)); END $$;
CREATE FUNCTION in_setting() RETURNS int LANGUAGE plpgsql AS $$
    BEGIN PERFORM set_config('application_name', public.ssn_of(1), false); RETURN 1; END $$;
CREATE FUNCTION in_notify() RETURNS int LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_notify('news', public.ssn_of(1)); RETURN 1; END $$;
CREATE PROCEDURE in_argument(INOUT x text) LANGUAGE plpgsql AS $$ BEGIN x := public.ssn_of(1); END $$;
CREATE FUNCTION raise_it() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE 'refused for %', public.ssn_of(1) USING DETAIL = public.ssn_of(2); END $$;

CREATE TABLE audited (id int, what text);
CREATE TRIGGER watch BEFORE INSERT ON audited FOR EACH ROW EXECUTE FUNCTION raise_it();
CREATE TABLE at_commit (id int);
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON at_commit DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION raise_it();
CREATE TABLE inbox (id int);
CREATE RULE instead AS ON INSERT TO inbox DO INSTEAD SELECT ssn FROM customers;
CREATE TABLE defaulted (id int, v text DEFAULT ssn_of(1));
CREATE TABLE checked (v text CHECK (known(v)));
CREATE DOMAIN known_one AS text CHECK (known(VALUE));
CREATE TABLE guarded (id int, v text);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY guard ON guarded USING (known(v));
CREATE TABLE looked_up (id int, v text);
ALTER TABLE looked_up ENABLE ROW LEVEL SECURITY;
CREATE POLICY look_up ON looked_up USING (v IN (SELECT ssn FROM customers));
CREATE TABLE moving (id int, k int) PARTITION BY LIST (k);
CREATE TABLE moving_from PARTITION OF moving FOR VALUES IN (1);
CREATE TABLE moving_to PARTITION OF moving FOR VALUES IN (2);
INSERT INTO moving VALUES (1, 1);
CREATE TRIGGER arrives BEFORE INSERT ON moving_to FOR EACH ROW EXECUTE FUNCTION raise_it();
CREATE TABLE indexed (v text);
CREATE FUNCTION spelt(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN public.ssn_of(1); END $$;
CREATE INDEX by_spelling ON indexed (spelt(v));
CREATE OPERATOR public.@@@ (FUNCTION = known, RIGHTARG = text);
CREATE FUNCTION more(text, text) RETURNS text LANGUAGE sql AS 'SELECT $1 || public.ssn_of(1)';
CREATE AGGREGATE gather (text) (SFUNC = more, STYPE = text, INITCOND = '');
CREATE TYPE boxed AS (v text);
CREATE FUNCTION box(int) RETURNS boxed LANGUAGE sql AS 'SELECT ROW(public.ssn_of($1))::public.boxed';
CREATE CAST (int AS boxed) WITH FUNCTION box(int) AS ASSIGNMENT;

CREATE TABLE rep (v text);
INSERT INTO rep VALUES ('nothing here');
CREATE SCHEMA evil;
CREATE VIEW evil.rep AS SELECT ssn AS v FROM public.customers;
CREATE FUNCTION evil.upper(varchar) RETURNS text LANGUAGE sql AS 'SELECT public.ssn_of(1)';
CREATE FUNCTION evil.lower(varchar) RETURNS text LANGUAGE sql AS 'SELECT public.ssn_of(1)';
CREATE FUNCTION evil.same(varchar, varchar) RETURNS boolean LANGUAGE sql AS 'SELECT public.known($2)';
CREATE OPERATOR evil.= (FUNCTION = evil.same, LEFTARG = varchar, RIGHTARG = varchar);
CREATE TABLE words (v varchar);
INSERT INTO words VALUES ('a');
"""

_RIGHTS = """
GRANT ALL ON ALL TABLES IN SCHEMA public, evil TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO PUBLIC;
GRANT ALL ON SCHEMA public, evil TO PUBLIC;
ALTER TABLE customers OWNER TO checkrein_trust;
ALTER TABLE notes OWNER TO checkrein_trust;
ANALYZE;
"""

_READABLE = (
    "customers vips people people_eu cards orders notes claims rep words audited at_commit inbox defaulted checked "
    "guarded looked_up moving moving_from moving_to indexed v_customers v_tails m_customers"
)
_WRITABLE = (
    "customers vips orders notes claims audited at_commit inbox defaulted checked guarded looked_up moving moving_from "
    "moving_to indexed rep words"
)


# --- leaks ------------------------------------------------------------------------------------------------------------


def _grams() -> frozenset[bytes]:
    """Every six characters of every marker, as they are, reversed and in hexadecimal; all in lower case."""
    found: set[bytes] = set()
    for marker in MARKERS:
        for text in (marker.lower(), marker.lower()[::-1], marker.replace("-", "").lower()):
            grams = {text[at : at + 6] for at in range(len(text) - 5)}
            found |= {gram.encode() for gram in grams} | {gram.encode().hex().encode() for gram in grams}
    upper = {gram.encode().hex().encode() for m in MARKERS for at in range(len(m) - 5) for gram in [m[at : at + 6]]}
    numbers = {text.encode() for salary in SALARIES for text in (str(salary), str(salary)[:6], str(salary)[3:])}
    return frozenset(found | upper | numbers)


_LEAK = re.compile(b"|".join(map(re.escape, sorted(_grams()))))
_BINARY = tuple(struct.pack(">i", salary) for salary in SALARIES)


def leaks(received: bytes) -> list[bytes]:
    """Pieces of markers among the bytes."""
    return [match.group() for match in _LEAK.finditer(received.lower())] + [b for b in _BINARY if b in received]


# --- the shipped policies ---------------------------------------------------------------------------------------------


class ShippedPolicies:
    """`relay.Policy`: the policies of `rego/`, evaluated by Open Policy Agent in a thread of its own."""

    def __init__(self, engine: PolicyEngine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._loop = loop
        self._count = 0

    def __call__(self, action: Action) -> Decision:
        self._count += 1
        message = translate.action_message(action, translate.EVERYTHING)
        context = Context(datetime.now(UTC), "s-1", "127.0.0.1", (0, 1), _SUPPORTED)
        document = build_input(message, _AGENT, _SHOP, context)
        result = asyncio.run_coroutine_threadsafe(self._engine.decide(document), self._loop).result(20)
        return translate.decision(to_proto(result, f"d-shipped-{self._count}"))


_SUPPORTED = ("mask_fields", "limit_rows", "time_limit", "read_only")
_SHOP = Resource("shop", "postgres", {"env": "test"}, DATABASE)
_AGENT = {
    "type": "agent",
    "id": "mallory-bot",
    "properties": {
        "groups": ["support-agents"],
        "issuer": "checkrein",
        "method": "jwt",
        "on_behalf_of": {"type": "user", "id": "mallory", "groups": ["support"]},
        "workflow": {"graph": "support", "node": "attack", "path": ["start", "attack"], "thread": "t", "run": "r"},
    },
}


@contextmanager
def shipped_policies(opa: Path) -> Iterator[ShippedPolicies]:
    """The engine over a copy of the shipped repository whose data name the attacked shop."""
    with tempfile.TemporaryDirectory(prefix="cr-", dir="/tmp") as folder:
        policies = _repository(Path(folder))
        state = Path(folder, "state")
        state.mkdir()
        loop = asyncio.new_event_loop()
        ready: asyncio.Future[PolicyEngine] = loop.create_future()
        ended = asyncio.Event()

        async def main() -> None:
            engine = PolicyEngine(opa=opa, policies=policies, resources=[_SHOP], state=state, timeout=10.0, watch=False)
            async with engine:
                assert not engine.policy_error, engine.policy_error
                ready.set_result(engine)
                await ended.wait()

        failed: list[BaseException] = []

        def run() -> None:
            asyncio.set_event_loop(loop)
            try:
                loop.run_until_complete(main())
            except BaseException as error:  # noqa: BLE001 - handed to the test
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            while not ready.done():
                thread.join(0.02)
                if failed:
                    raise failed[0]
            yield ShippedPolicies(ready.result(), loop)
        finally:
            loop.call_soon_threadsafe(ended.set)
            thread.join(20)
            loop.close()


def _repository(folder: Path) -> Path:
    root = folder / "policies"
    for part in ("policies", "bindings", "owners", "hours"):
        shutil.copytree(library_dir() / part, root / part)
    labels = {
        "customers": {"id": ["public"], "name": ["public"], "email": ["email"], "ssn": ["pii", "ssn"]},
        "vips": {"id": ["public"], "name": ["public"], "email": ["email"], "ssn": ["pii"], "level": ["public"]},
        "people": {"region": ["public"], "id": ["public"], "ssn": ["pii", "ssn"]},
        "cards": {"id": ["public"], "ssn": ["pii"], "tail": ["public"]},
        "orders": {"id": ["public"], "customer_id": ["public"], "note": ["internal"]},
        "notes": {"id": ["public"], "body": ["internal"]},
        "rep": {"v": ["public"]},
        "words": {"v": ["public"]},
    }
    _data(root / "classification", {"shop": {f"public.{name}": fields for name, fields in labels.items()}})
    reads = [f"public.{name}" for name in _READABLE.split()] + ["evil.rep"]
    writes = {f"public.{name}": ["read", "insert", "update", "delete", "truncate"] for name in _WRITABLE.split()}
    node = {"agent_reads": {"nodes": {"support/attack": reads}}, "agent_writes": {"nodes": {"support/attack": writes}}}
    _data(root / "parameters", {"shop": node})
    return root


def _data(folder: Path, document: object) -> None:
    folder.mkdir()
    (folder / "data.yaml").write_text(json.dumps(document, indent=1))  # JSON is YAML


_MASKED = {
    "public.customers": ("email", "ssn", "salary"),
    "public.vips": ("email", "ssn", "salary"),
    "public.people": ("ssn",),
    "public.cards": ("ssn",),
}


def team_policy(action: Action) -> Decision:
    """Denies what was not understood, reaches beyond or mints access; masks; leaves everything else alone."""
    for code in ("opaque", "mints_access", "reaches_beyond"):
        if action.properties[code]:
            return deny(str(action.properties[code]), code)
    if action.name == "prepare":
        return allow()
    touched = {relation["dataset"] for relation in action.properties["relations"]}
    for column in action.properties["columns"]:
        if column["field"] in _MASKED.get(column["dataset"], ()) and column["usage"] != ["output"]:
            return deny(f"{column['field']} is masked for you", "masked-column-used")
    masks = [
        FieldMask(dataset, name, PartialEmailMask() if name == "email" else NullMask())
        for dataset in sorted(touched & _MASKED.keys())
        for name in _MASKED[dataset]
    ]
    return mask(*masks) if masks else allow()


# --- the client -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Reply:
    """What one batch brought back, up to ReadyForQuery or the end of the connection."""

    frames: list[tuple[str, bytes]] = field(default_factory=list)
    closed: bool = False

    @property
    def errors(self) -> list[dict[str, str]]:
        return [ErrorResponse.decode(payload).fields for tag, payload in self.frames if tag == "E"]

    @property
    def codes(self) -> list[str]:
        return [error["C"] for error in self.errors]

    @property
    def rows(self) -> int:
        return sum(tag in "Dd" for tag, _ in self.frames)

    @property
    def tags(self) -> str:
        return "".join(tag for tag, _ in self.frames)


class Attacker:
    """A client made of a socket. `received` is every byte that ever came."""

    def __init__(self, port: int, database: str = DATABASE, password: str = PASSWORD, **parameters: str) -> None:
        self.received = bytearray()
        self._at = 0
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        startup = {"user": "mallory", "database": database, **parameters}
        self.socket.sendall(StartupMessage(3 << 16, startup).encode() + PasswordMessage(password).encode())
        self.greeting = self.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *messages: FrontendMessage | bytes) -> None:
        parts = [message if isinstance(message, bytes) else message.encode() for message in messages]
        self.socket.sendall(b"".join(parts))

    def read(self, until: str = "Z") -> Reply:
        """Everything up to a message of one of these types (also COPY in, which waits for the client)."""
        reply = Reply()
        while True:
            frame = self._frame()
            if frame is None:
                reply.closed = True
                return reply
            reply.frames.append(frame)
            if frame[0] in until:
                return reply
            if frame[0] == "G":
                self.send(CopyDone())

    def _frame(self) -> tuple[str, bytes] | None:
        while len(self.received) < self._at + 5 or len(self.received) < self._at + 1 + self._length():
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionError:
                data = b""
            if not data:
                return None
            self.received += data
        end = self._at + 1 + self._length()
        frame = chr(self.received[self._at]), bytes(self.received[self._at + 5 : end])
        self._at = end
        return frame

    def _length(self) -> int:
        return int.from_bytes(self.received[self._at + 1 : self._at + 5])

    def query(self, text: str) -> Reply:
        self.send(Query(text))
        return self.read()

    def batch(self, *messages: FrontendMessage | bytes) -> Reply:
        """Messages in one write, with a Sync."""
        self.send(*messages, Sync())
        return self.read()

    def vanish(self, *, reset: bool) -> None:
        """Go away, with FIN or with RST."""
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def extended(text: str, *parameters: bytes | None, describe: bool = True, binary: bool = False) -> tuple[bytes, ...]:
    """Parse, Bind, perhaps Describe, Execute: the unnamed ones."""
    formats = (1,) if binary else ()
    described = (Describe(Kind.PORTAL, ""),) if describe else ()
    messages = (Parse("", text), Bind("", "", (), parameters, formats), *described, Execute(""))
    return tuple(message.encode() for message in messages)


# --- attempts ---------------------------------------------------------------------------------------------------------

Step = str | tuple[FrontendMessage | bytes, ...]


@dataclass(frozen=True, slots=True)
class Attack:
    """`steps`: a text is a simple query, a tuple one batch before a Sync. `outcome` is about the last step:

    `masked` (rows came), `allowed` (no error), `denied` (42501 by policy, and the server never saw the last step),
    `withheld` (42501 by the proxy once the server had said where the columns come from; nothing was executed),
    `refused` (42501 by policy or, where it would be prepared, by the proxy before policy is asked; nothing was
    executed), or the SQLSTATE with which it is refused, `closed:SQLSTATE` where the connection ends.
    """

    name: str
    steps: tuple[Step, ...]
    outcome: str


def attack(name: str, *steps: Step | str) -> Attack:
    """The last of `steps` is the outcome."""
    *done, outcome = steps
    assert isinstance(outcome, str)
    return Attack(name, tuple(done), outcome)


WAYS = ("simple", "extended", "undescribed", "binary")


def said(step: Step, way: str) -> Step:
    """The same step in another way of the protocol; a batch stays what it is."""
    if not isinstance(step, str) or way == "simple":
        return step
    return extended(step, describe=way == "extended", binary=way == "binary")


def ways(attacks: Iterable[Attack]) -> list[tuple[Attack, str]]:
    """The ways to send the last step: all four where rows come back, the two most different ones elsewhere."""
    return [
        (each, way)
        for each in attacks
        for way in WAYS
        if way == "simple"
        or (isinstance(s := each.steps[-1], str) and ";" not in s and (way == "binary" or each.outcome == "masked"))
    ]


def run(relay: Relay, server: PostgresServer, attempt: Attack, way: str = "simple") -> Reply:
    """Carry an attack out and hold it against its outcome, what came back, the server's log, the connection."""
    with Attacker(relay.port, relay.database) as client:
        for step in attempt.steps[:-1]:
            _send(client, step)
        position = server.log_position()
        reply = _send(client, said(attempt.steps[-1], way))
        found = leaks(bytes(client.received))
        assert not found, f"{found} in {bytes(client.received)[-2000:]!r}"
        _compare(attempt, reply)
        if attempt.outcome in ("denied", "withheld", "refused"):
            assert_never_arrived(server.log_after(position), attempt)
        if not reply.closed:
            usable(client)
            assert not leaks(bytes(client.received))
        return reply


def _send(client: Attacker, step: Step) -> Reply:
    return client.query(step) if isinstance(step, str) else client.batch(*step)


def _compare(attempt: Attack, reply: Reply) -> None:
    seen = f"{reply.tags} {[(error['C'], error['M']) for error in reply.errors]}"
    match attempt.outcome.split(":"):
        case ["masked"]:
            assert reply.rows and not reply.codes, seen
        case ["allowed"]:
            assert not reply.codes and not reply.closed, seen
        case ["refused"]:
            assert reply.codes == ["42501"] and not reply.rows, seen
        case [("denied" | "withheld") as how]:
            assert reply.codes == ["42501"] and not (reply.rows and isinstance(attempt.steps[-1], str)), seen
            assert ("[decision " in reply.errors[0]["M"]) is (how == "denied"), seen
        case ["closed", code]:
            assert reply.closed and reply.codes[-1:] == [code], seen
        case [code]:
            assert reply.codes == [code] and not reply.rows, seen


def usable(client: Attacker) -> None:
    """Whatever happened, the connection still works."""
    client.batch()
    client.query("rollback")
    reply = client.query("select 1 as one")
    assert reply.rows == 1 and not reply.codes, reply.frames


_EXECUTED = re.compile(r"(?:LOG:  statement: |LOG: .*execute [^:]*: )(.*)")
_BOUND = re.compile(r"LOG: .*bind [^:]*: (.*)")


def assert_never_arrived(log: str, attempt: Attack) -> None:
    """Nothing of the last step was executed, nor bound if policy said no; a Parse decides nothing and may have come."""
    step = attempt.steps[-1]
    texts = [step] if isinstance(step, str) else [m.text for m in step if isinstance(m, Parse | Query)]
    seen = _EXECUTED.findall(log) + (_BOUND.findall(log) if attempt.outcome == "denied" else [])
    for text in texts:
        head = text.strip().splitlines()[0][:60]
        assert not [line for line in seen if line.startswith(head)], log
