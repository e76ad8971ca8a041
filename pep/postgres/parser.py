"""PostgreSQL's own parser (libpg_query) behind limits that keep it from taking the proxy down.

Whatever it cannot take comes out as `Unparsable`, which is a denial further on; nothing here raises for a statement.
Short statements are parsed in process. Longer ones go to child processes with limits on processor time and memory,
because libpg_query writes its JSON by recursion: about 67,000 chained operators overflow its stack.

What is known of the scanner and the parser, and bounded here before they see a text:
- a run of operator characters costs the square of its length (`++++` and `/*/*/*`: 32 KiB take seconds);
- nesting costs a JSON level or more each; the decoder stops at 1,024 levels and the grammar at 10,000 open brackets.
Do not parse in a thread: its stack may be a fraction of the main thread's.

The tree is libpg_query's JSON as plain dicts and lists, members with default values left out.
"""

from __future__ import annotations

import asyncio
import os
import re
import struct
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import orjson
from postgast.native import lib

from pep.core.turns import NoTurn, Turns
from pep.postgres.secrets import examine, redact, redact_tokens
from pep.postgres.tokens import MAX_RUN_COST, run_cost

SYNTAX_ERROR = "42601"
PROGRAM_LIMIT_EXCEEDED = "54000"
STATEMENT_TOO_COMPLEX = "54001"
CHARACTER_NOT_IN_REPERTOIRE = "22021"

_TOKEN = re.compile(rb"\w+|[^\w\s]")
_QUOTING = re.compile(r' at or near | at end of input|:? *"')
_FRAME = struct.Struct("!I")
_MAX_FRAME = 16 << 20
_GRACE = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class ParserLimits:
    """Bytes of UTF-8, tokens, seconds. `*_json` are sizes of the tree as JSON.

    `max_statements` bounds what one text makes the event loop classify at once, at a tenth of a millisecond each.

    `in_process_tokens` is what decodes in about 20 ms, and so is `max_statement_json`, which bounds what the event loop
    decodes at once of a tree that a child has made.
    """

    max_bytes: int = 1 << 20
    max_tokens: int = 400_000
    max_statements: int = 500
    in_process_bytes: int = 32 << 10
    in_process_tokens: int = 6144
    max_raw_json: int = 24 << 20
    max_statement_json: int = 640 << 10
    max_json: int = 8 << 20
    in_process_run_cost: int = 1_000_000
    max_run_cost: int = MAX_RUN_COST
    child_cpu_seconds: int = 5
    child_memory: int = 1 << 30
    timeout: float = 10.0
    # Of one share (the person or workload at the end of a chain): children at once, and statements that wait for one.
    per_share: int = 1
    waiting: int = 256


DEFAULT_LIMITS = ParserLimits()


@dataclass(frozen=True, slots=True)
class ParsedStatement:
    """`text` is the exact slice of the query, `location` its offset in bytes. `reduced` says that lists of constants
    were shortened: what remains references the same objects, but not every literal is there. `redacted` is the text fit
    for records, and `hidden_parameters` are the numbers of the parameters whose values are not (see `secrets`)."""

    node: dict[str, Any]
    text: str
    location: int
    reduced: bool = False
    redacted: str = ""
    hidden_parameters: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ParseTree:
    """`redacted` is the whole text, fit for records: literals in secret positions are replaced."""

    statements: tuple[ParsedStatement, ...]
    redacted: str


@dataclass(frozen=True, slots=True)
class Unparsable:
    """`reason` repeats nothing of the statement. `message` is the parser's own words, which quote the text: for nobody
    but the client. `position` counts characters from 1, and is 0 where unknown. `redacted` has no literals at all."""

    reason: str
    redacted: str
    sqlstate: str = SYNTAX_ERROR
    message: str = ""
    position: int = 0


def fits_in_process(text: str, limits: ParserLimits = DEFAULT_LIMITS) -> bool:
    """Whether parsing it here takes at most some 30 ms and cannot overflow a stack."""
    if len(text) > limits.in_process_bytes:
        return False
    data = text.encode("utf-8", "replace")
    if len(data) > limits.in_process_bytes or run_cost(data) > limits.in_process_run_cost:
        return False
    return len(data) <= limits.in_process_tokens or len(_TOKEN.findall(data)) <= limits.in_process_tokens


def parse(text: str, limits: ParserLimits = DEFAULT_LIMITS) -> ParseTree | Unparsable:
    """Parse in process. A text that does not fit (`fits_in_process`) is Unparsable: use `ParserProcess`."""
    refused = refuse(text, limits)
    if refused is not None:
        return refused
    if not fits_in_process(text, limits):
        return unparsable("the statement is too long to be parsed in process", sqlstate=PROGRAM_LIMIT_EXCEEDED)
    found = raw_parse(text, limits)
    if isinstance(found, Unparsable):
        return found
    data = text.encode()
    statements = tuple(statement(data, raw) for raw in found.get("stmts", ()) if raw.get("stmt"))
    return ParseTree(statements, redacted_whole(text, statements))


def refuse(text: str, limits: ParserLimits) -> Unparsable | None:
    """What no parser gets to see. No scanner either: the record of it is its length."""
    if len(text) > limits.max_bytes:
        return unparsable(f"the statement is longer than {limits.max_bytes} bytes", sqlstate=PROGRAM_LIMIT_EXCEEDED)
    if "\0" in text:
        return unparsable("the statement contains a NUL character", sqlstate=CHARACTER_NOT_IN_REPERTOIRE)
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return unparsable("the statement is not valid UTF-8", sqlstate=CHARACTER_NOT_IN_REPERTOIRE)
    if len(data) > limits.max_bytes:
        return unparsable(f"the statement is longer than {limits.max_bytes} bytes", sqlstate=PROGRAM_LIMIT_EXCEEDED)
    if run_cost(data) > limits.max_run_cost:
        return unparsable("the statement has too long a run of operator characters", sqlstate=STATEMENT_TOO_COMPLEX)
    return None


def raw_parse(text: str, limits: ParserLimits) -> dict[str, Any] | Unparsable:
    """The parser's whole answer as it comes. The text has passed `refuse`."""
    data = text.encode()
    result = lib.pg_query_parse(data)
    try:
        if result.error:
            error = result.error.contents
            message = (error.message or b"").decode("utf-8", "replace")
            # What the message quotes of the statement comes last in it.
            reason = _QUOTING.split(message, maxsplit=1)[0] or "the statement cannot be parsed"
            return unparsable(reason, text, message=message, position=max(error.cursorpos, 0))
        tree: bytes = result.parse_tree or b"{}"
    finally:
        lib.pg_query_free_parse_result(result)
    if len(tree) > limits.max_raw_json:
        return unparsable("the statement has too many parts", text, sqlstate=STATEMENT_TOO_COMPLEX)
    try:
        decoded: dict[str, Any] = orjson.loads(tree)
    except orjson.JSONDecodeError:
        return unparsable("the statement is nested too deeply", text, sqlstate=STATEMENT_TOO_COMPLEX)
    if len(decoded.get("stmts", ())) > limits.max_statements:
        reason = f"a query has at most {limits.max_statements} statements here; send them in several"
        return unparsable(reason, text, sqlstate=STATEMENT_TOO_COMPLEX)
    return decoded


def unparsable(
    reason: str, text: str = "", *, sqlstate: str = SYNTAX_ERROR, message: str = "", position: int = 0
) -> Unparsable:
    return Unparsable(reason, redact_tokens(text) if text else "", sqlstate, message, position)


def statement(data: bytes, raw: dict[str, Any], *, reduced: bool = False) -> ParsedStatement:
    """One RawStmt of the parser's answer to the text `data`. A length of 0 means: up to the end."""
    start = raw.get("stmt_location", 0)
    length = raw.get("stmt_len", 0)
    text = data[start : start + length if length else None].decode()
    redacted, hidden_parameters = examine(text)
    return ParsedStatement(raw["stmt"], text, start, reduced, redacted, tuple(sorted(hidden_parameters)))


def redacted_whole(text: str, statements: Sequence[ParsedStatement]) -> str:
    """The whole text for records; one statement that is all of it has been looked at already."""
    if len(statements) == 1 and statements[0].text == text:
        return statements[0].redacted
    return redact(text)


# --- the child processes --------------------------------------------------------------------------------------------


class ParserProcess:
    """Parses whatever does not fit in process in children, one statement at a time each; both kinds through `parse`.

    A child is started when it is first needed, and again after it died: of a stack overflow, of its processor time, of
    its memory, or killed when `timeout` ran out. Each of these is `Unparsable` for the statement that caused it.
    """

    def __init__(self, limits: ParserLimits = DEFAULT_LIMITS, children: int = 2) -> None:
        self._limits = limits
        self._idle: list[asyncio.subprocess.Process] = []
        self._turns = Turns(children, limits.per_share, limits.waiting)
        self._closed = False

    async def parse(self, text: str, share: str = "") -> ParseTree | Unparsable:
        """`share` is who pays for it: nobody takes every child."""
        if fits_in_process(text, self._limits):
            return parse(text, self._limits)
        refused = refuse(text, self._limits)
        if refused is not None:
            return refused
        try:
            async with self._turns.of(share), asyncio.timeout(self._limits.timeout), self._child() as child:
                return await self._ask(child, text)
        except NoTurn:
            reason = "too many long statements of this client wait to be parsed already; send it again later"
            return unparsable(reason, sqlstate=PROGRAM_LIMIT_EXCEEDED)
        except TimeoutError:
            reason = "the statement took too long to parse"
        except (asyncio.IncompleteReadError, ConnectionError):
            reason = "the parser did not survive the statement"
        return unparsable(reason, sqlstate=STATEMENT_TOO_COMPLEX)

    async def close(self) -> None:
        self._closed = True
        while self._idle:
            await _end(self._idle.pop())

    @asynccontextmanager
    async def _child(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """A child of one's own. It is used again only if the whole exchange went well."""
        child = self._idle.pop() if self._idle else None
        if child is None or child.returncode is not None:
            child = await self._start()
        completed = False
        try:
            yield child
            completed = not self._closed
        finally:
            if completed:
                self._idle.append(child)
            else:
                await _end(child)

    async def _start(self) -> asyncio.subprocess.Process:
        """The child gets no environment but where its modules are: the proxy's may hold credentials."""
        limits = self._limits
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "pep.postgres.parser_child",
            orjson.dumps(limits).decode(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
        )

    async def _ask(self, child: asyncio.subprocess.Process, text: str) -> ParseTree | Unparsable:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(frame(text.encode()))
        await child.stdin.drain()
        head = orjson.loads(await _read_frame(child.stdout))
        if "unparsable" in head:
            return Unparsable(**head["unparsable"])
        statements = []
        for _ in range(head["statements"]):
            # Each read gives the event loop a turn, so one statement is the most that is decoded at once.
            fields = orjson.loads(await _read_frame(child.stdout))
            statements.append(ParsedStatement(**fields | {"hidden_parameters": tuple(fields["hidden_parameters"])}))
            await asyncio.sleep(0)
        return ParseTree(tuple(statements), head["redacted"])


def frame(payload: bytes) -> bytes:
    return _FRAME.pack(len(payload)) + payload


def frame_length(head: bytes) -> int:
    length: int = _FRAME.unpack(head)[0]
    if length > _MAX_FRAME:
        raise ConnectionError("a frame between parser and proxy is too long")
    return length


async def _read_frame(stream: asyncio.StreamReader) -> bytes:
    return await stream.readexactly(frame_length(await stream.readexactly(_FRAME.size)))


async def _end(child: asyncio.subprocess.Process) -> None:
    """A child that has closed its output is on its way out: a kill would race the event loop for its exit status."""
    assert child.stdout is not None
    if child.stdout.at_eof():
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE):
                await child.wait()
    if child.returncode is None:
        with suppress(ProcessLookupError):
            child.kill()
    await child.wait()
