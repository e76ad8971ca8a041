"""Texts and prepared statements, resolved as the server will resolve them when it gets there.

Steps that parse, wait for barriers, read the session's own view where it may have changed, and classify. They send
nothing of the client's; their own frames are the look-ups of `pep.core.wire.Own`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final

from pep.core.model import Obligation
from pep.core.records import Body, Event, EventType
from pep.core.wire import LookUp, Own, Record, SetTimer
from pep.postgres import denial
from pep.postgres.backend import TransactionStatus
from pep.postgres.catalog import SessionState
from pep.postgres.catalog_sql import FINGERPRINT_QUERY, SESSION_QUERY, USER_QUERY
from pep.postgres.classification import RESERVED_PREFIX, Classification, merge
from pep.postgres.conversation import Conversation
from pep.postgres.frontend import Bind, Describe, Execute, Kind, Parse
from pep.postgres.frontend import Close as CloseMessage
from pep.postgres.names import Names, Portal, Prepared
from pep.postgres.obligations import objection_before
from pep.postgres.parser import ParseTree, Unparsable, fits_in_process, parse
from pep.postgres.planner import Planned, node_type, plan
from pep.postgres.replies import Capture, Expected, Owed
from pep.postgres.resolution import (
    BEFORE_SNAPSHOT,
    NON_RESOLVING,
    BuildCatalog,
    FreshCatalog,
    ParseText,
    Resolution,
    SharedCatalog,
)
from pep.postgres.stepping import Exchanges, Refused, Step, Wait

FACTS_NAME: Final = f"{RESERVED_PREFIX}facts"

# A tree takes some 400 times the memory of its text, so it is the characters that are counted.
_CACHED_CHARACTERS: Final = 128 * 1024
_LONGEST_CACHED: Final = 4096
# What a server in an aborted transaction still carries out: only how the transaction ends.
_IN_FAILED: Final = frozenset({"TransactionStmt"})
# Isolation levels in which a query sees the database as it was when the transaction began.
_OLD_SNAPSHOT: Final = frozenset({"repeatable read", "serializable"})
# Statements that no change of a prepared statement or a cursor can mean.
_NAMELESS: Final = frozenset({"TransactionStmt"})


class Resolver:
    """The steps, for one session. It is the classifier's `Names` as well."""

    def __init__(
        self,
        talk: Conversation,
        names: Names,
        resolution: Resolution,
        exchanges: Exchanges,
        duties: Sequence[Obligation],
    ) -> None:
        self._talk = talk
        self._names = names
        self._resolution = resolution
        self._exchanges = exchanges
        self._duties = tuple(duties)
        self._trees: dict[str, ParseTree | Unparsable] = {}
        self._plans: dict[tuple[tuple[str, ...], tuple[int, ...], tuple[int, str]], Planned] = {}
        self._characters = 0

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, or may be by the time the server gets to the next message."""
        return self._talk.status is not TransactionStatus.IDLE or not self._talk.idle

    def plan(self, text: str, parameters: tuple[int, ...] = ()) -> Generator[Wait, Any, Planned]:
        """The statements of a text, resolved as the server will resolve them when it gets there.

        `parameters` are the types that a Parse declares, 0 for one that it leaves to the server.
        """
        tree = yield from self._tree(text)
        if isinstance(tree, Unparsable):
            raise self._unparsable(tree)
        unresolvable = yield from self._ready([node_type(statement) for statement in tree.statements])
        return self._checked(self._planned(tree, parameters, unresolvable))

    def plan_prepared(self, prepared: Prepared) -> Generator[Wait, Any, Planned]:
        """A prepared statement as it would be resolved now, and as it ever was: the server may use an older plan."""
        tree = _tree_of(prepared)
        unresolvable = yield from self._ready([node_type(statement) for statement in tree.statements])
        planned = self._planned(tree, prepared.declared, unresolvable)
        if unresolvable is None:
            prepared.resolved(planned.statements[0], self._resolution.key)
        union = merge([prepared.union, planned.statements[0]])
        return self._checked(Planned((union,), planned.texts, planned.parsed, planned.path))

    def _ready(self, kinds: Sequence[str]) -> Generator[Wait, Any, str | None]:
        """Wait until statements of these kinds can be classified; or why what they name cannot be resolved."""
        nodes = frozenset(kinds)
        while nodes - _NAMELESS and self._names.named_change_before(self._talk.group):
            yield Wait.UPSTREAM
        # In a failed transaction the answers of earlier groups may have ended it.
        if self._talk.status is TransactionStatus.FAILED and self._talk.replies:
            # Nothing answers what stands before this message in its own group unless it is asked to.
            self._talk.flush()
        while self._talk.status is TransactionStatus.FAILED and self._talk.replies:
            yield Wait.UPSTREAM
        # The server goes through the statements of a text in order: what follows a ROLLBACK is carried out.
        if self._talk.status is TransactionStatus.FAILED and nodes and kinds[0] not in _IN_FAILED:
            raise Refused(denial.failed_transaction())
        if nodes - NON_RESOLVING:
            return (yield from self.settle(before_snapshot=bool(nodes & BEFORE_SNAPSHOT)))
        if nodes & _IN_FAILED and self._resolution.stale and self._talk.idle and not self.in_transaction:
            # A BEGIN is often sent in one group with what it is for, and then it would be too late to look.
            yield from self.settle()
        return None

    def _planned(self, tree: ParseTree, parameters: tuple[int, ...], unresolvable: str | None) -> Planned:
        # The kind beside the text: what a PREPARE prepares has the text of the whole.
        texts = tuple(f"{node_type(statement)} {statement.text}" for statement in tree.statements)
        key = texts, parameters, self._resolution.key
        known = self._plans.get(key)
        if known is not None and unresolvable is None:
            return known
        facts = self._resolution.facts(self.in_transaction)
        planned = plan(tree, self._resolution.catalog, facts, self, parameters=parameters, unresolvable=unresolvable)
        size = sum(map(len, texts))
        # What a name of a statement or cursor means is not part of the key.
        named = any(statement.uses for statement in planned.statements)
        if unresolvable is None and not named and size < _LONGEST_CACHED:
            self._make_room(size)
            self._plans[key] = planned
        return planned

    def _make_room(self, size: int) -> None:
        """For one more tree or plan of so many characters."""
        self._characters += size + 64
        if self._characters > _CACHED_CHARACTERS:
            self._trees.clear()
            self._plans.clear()
            self._characters = size + 64

    def _checked(self, planned: Planned) -> Planned:
        for statement in planned.statements:
            if statement.refused is not None:
                raise Refused(denial.error(statement.refused.sqlstate, statement.refused.message))
            reason = objection_before(self._duties, (), statement)
            if reason is not None:
                raise Refused(denial.error(denial.INSUFFICIENT_PRIVILEGE, reason))
        return planned

    def _unparsable(self, found: Unparsable) -> Refused:
        """PostgreSQL's own parser does not take it: nobody is asked, and the client hears what the server would say."""
        facts = {"verdict": "deny", "code": "not-parsable", "message": found.reason}
        body = Body("statement", found.redacted.encode())
        self._talk.emit(Record(Event(EventType.DECISION, facts=facts, bodies=(body,))))
        message = found.message or f"this statement is refused: {found.reason}"
        error = denial.error(found.sqlstate, message)
        if found.position:
            error.fields["P"] = str(found.position)
        return Refused(error)

    def _tree(self, text: str) -> Generator[Wait, Any, ParseTree | Unparsable]:
        known = self._trees.get(text)
        if known is not None:
            return known
        if fits_in_process(text):
            tree = parse(text)
        else:
            tree = yield from self._look_up(ParseText(text))
        if len(text) < _LONGEST_CACHED:
            self._make_room(len(text))
            self._trees[text] = tree
        return tree

    def prepared(self, name: str) -> Classification | None:
        """`classification.Names`: what SQL EXECUTE may mean here."""
        found = self._names.statement(name, self._talk.group)
        if not isinstance(found, Prepared):
            return None
        if self._resolution.key != found.key:
            again = self._planned(_tree_of(found), found.declared, None)
            found.resolved(again.statements[0], self._resolution.key)
        return found.union

    def cursor(self, name: str) -> Classification | None:
        """`classification.Names`: what FETCH may mean here."""
        found = self._names.portal(name, self._talk.group)
        return found.classification if isinstance(found, Portal) else None

    # --- reading the session ------------------------------------------------------------------------------------------

    def settle(self, *, before_snapshot: bool = False) -> Generator[Wait, Any, str | None]:
        """Wait until names can be resolved, reading the session's view again if needed; or why they cannot be."""
        group = self._talk.group
        while self._talk.replies.barrier_before(group):
            yield Wait.UPSTREAM
        if self._talk.replies.barrier_in(group):
            return "behind a barrier in one group of messages; send Sync first"
        self._resolution.listen()
        # The session's own objects cannot be read inside a group. While the shared catalog has not changed, they are
        # what they were: its own changes are barriers.
        alone = self._resolution.private is None or self._talk.dirty
        if not self._resolution.stale and self._resolution.catalog_due and alone:
            yield from self._read_catalog()
        if self._resolution.stale or self._resolution.catalog_due:
            if self._talk.dirty:
                return "behind a barrier in one group of messages; send Sync first"
            while self._talk.replies:
                yield Wait.UPSTREAM
            if self._talk.status is TransactionStatus.FAILED:
                return "names cannot be resolved in a failed transaction"
            if before_snapshot and self._talk.status is TransactionStatus.IN_TRANSACTION:
                return "names have changed in this transaction, and reading them now would take its snapshot too early"
            return (yield from self._read_session())
        return None

    def _read_session(self) -> Generator[Wait, Any, str | None]:
        rows = yield from self._own_rows(SESSION_QUERY)
        state = SessionState.parse(rows[0][0])
        yield from self._read_catalog()
        shared = self._resolution.shared
        assert shared is not None
        in_transaction = self._talk.status is TransactionStatus.IN_TRANSACTION
        if not state.temp_schema and not (state.transaction and in_transaction):
            self._resolution.private = None
        elif in_transaction and state.settings["transaction_isolation"] in _OLD_SNAPSHOT:
            # The server resolves names as they are now, and here they would be read as they were.
            return f"own objects cannot be read in a {state.settings['transaction_isolation']} transaction"
        else:
            yield from self._read_private(shared)
        self._resolution.read(state)
        return None

    def _read_private(self, shared: SharedCatalog) -> Step:
        """Objects that only this session sees: temporary ones, and its own DDL before it is committed."""
        private = self._resolution.private
        if private is not None:
            fingerprint = yield from self._own_rows(FINGERPRINT_QUERY)
            if fingerprint[0][0] == private.version:
                return
        own = yield from self._own_rows(USER_QUERY)
        rows = tuple((row[0], row[1]) for row in own)
        self._resolution.private = yield from self._look_up(
            BuildCatalog(rows, shared.builtins, private or shared.catalog)
        )

    def _read_catalog(self) -> Step:
        before = self._resolution.shared
        shared = yield from self._look_up(FreshCatalog(force=self._resolution.force))
        if not isinstance(shared, SharedCatalog):
            raise Refused(
                denial.error(denial.SYSTEM_ERROR, "this statement is refused: the catalog cannot be read now")
            )
        self._resolution.shared = shared
        self._resolution.force = self._resolution.catalog_due = False
        if before is not None and before.catalog.version != shared.catalog.version:
            # A schema of the search path, or of the name of the role, may exist only now.
            self._resolution.stale = True
        self._talk.emit(SetTimer("catalog", shared.max_age))

    def _look_up(self, question: object) -> Step:
        self._talk.emit(LookUp(self._exchanges.next(), question))
        return (yield Wait.ANSWER)

    def _own_rows(self, text: str) -> Generator[Wait, Any, list[tuple[str, ...]]]:
        """Rows of the proxy's own statement on this connection; only while it is idle between groups.

        The extended protocol under reserved names leaves the client's unnamed statement alone; nothing stays behind.
        """
        capture = Capture()
        group = self._talk.group
        why = Own("look-up")
        self._talk.forward(Parse(FACTS_NAME, text, ()).encode(), why, Expected(Owed.PARSE, group, capture=capture))
        bind = Bind(FACTS_NAME, FACTS_NAME, (), (), ())
        self._talk.forward(bind.encode(), why, Expected(Owed.BIND, group, capture=capture))
        self._talk.forward(Execute(FACTS_NAME, 0).encode(), why, Expected(Owed.EXECUTE, group, capture=capture))
        self._close_own(capture)
        yield from self._captured(capture)
        if capture.error is not None and capture.error.fields.get("C") == denial.QUERY_CANCELED:
            # The client's cancel request, or its own time limit, met this statement instead of the client's.
            raise Refused(self._talk.redacted(capture.error))
        if capture.error is not None or not capture.rows:
            code = "" if capture.error is None else f" ({capture.error.fields.get('C', '')})"
            raise Refused(
                denial.error(denial.SYSTEM_ERROR, f"this statement is refused: the session cannot be read{code}")
            )
        return [tuple((value or b"").decode() for value in row) for row in capture.rows]

    def own_describe(self, text: str) -> Generator[Wait, Any, Capture]:
        """What the server says about a statement's output, without executing it."""
        capture = Capture()
        group = self._talk.group
        why = Own("describe")
        self._talk.forward(Parse(FACTS_NAME, text, ()).encode(), why, Expected(Owed.PARSE, group, capture=capture))
        describe = Describe(Kind.STATEMENT, FACTS_NAME).encode()
        self._talk.forward(describe, why, Expected(Owed.DESCRIBE_STATEMENT, group, capture=capture))
        self._close_own(capture)
        yield from self._captured(capture)
        return capture

    def _close_own(self, capture: Capture) -> None:
        why = Own("look-up")
        for kind in (Kind.PORTAL, Kind.STATEMENT):
            close = CloseMessage(kind, FACTS_NAME).encode()
            self._talk.forward(close, why, Expected(Owed.CLOSE, self._talk.group, capture=capture))
        self._talk.sync(capture, own="look-up")

    def _captured(self, capture: Capture) -> Step:
        while not capture.done:
            yield Wait.UPSTREAM


def _tree_of(prepared: Prepared) -> ParseTree:
    parsed = prepared.parsed
    return ParseTree((), "") if parsed is None else ParseTree((parsed,), parsed.redacted)
