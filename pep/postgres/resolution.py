"""What this session's names resolve to, and when that has to be asked again.

A *barrier* is a statement after which a name may mean something else: nothing that names a relation, function or
prepared statement is classified behind one before the server has answered it and the session's own view has been
read again.
Pure state; reading is the session's step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pep.postgres.catalog import Builtins, Catalog, SessionState
from pep.postgres.classification import Change, Classification, SessionFacts

_CATALOG_CHANGES: Final = frozenset({Change.SCHEMA, Change.TEMP, Change.UNKNOWN, Change.END})

# Statements that name nothing that could resolve differently, so they can be classified in any state.
NON_RESOLVING: Final = frozenset(
    {
        "TransactionStmt",
        "VariableSetStmt",
        "VariableShowStmt",
        "ListenStmt",
        "UnlistenStmt",
        "NotifyStmt",
        "DeallocateStmt",
        "ClosePortalStmt",
        "DiscardStmt",
        "CheckPointStmt",
    }
)

# Statements that take locks before a snapshot: reading anything before them would take it too early.
BEFORE_SNAPSHOT: Final = frozenset({"LockStmt"})


@dataclass(frozen=True, slots=True)
class FreshCatalog:
    """A look-up: the shared catalog, checked not longer ago than its `max_age`; `force`: checked after this moment."""

    force: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """A look-up of nothing: others go first. Answered by None."""


@dataclass(frozen=True, slots=True)
class ParseText:
    """A look-up: a statement too long to be parsed in this process."""

    text: str


@dataclass(frozen=True, slots=True)
class BuildCatalog:
    """A look-up: a catalog from rows that a session read itself; building one takes too long for the event loop."""

    rows: tuple[tuple[str, str], ...]
    builtins: Builtins
    previous: Catalog


@dataclass(frozen=True, slots=True)
class SharedCatalog:
    """The answer to FreshCatalog. `max_age` is how many seconds it may be used."""

    catalog: Catalog
    builtins: Builtins
    max_age: float


@dataclass(frozen=True, slots=True)
class CatalogUnavailable:
    """The other answer: it could not be read, so nothing can be resolved now."""


@dataclass(slots=True)
class SchemaNews:
    """How many changes of the schema the sessions of this process have carried out: what was read before is old."""

    count: int = 0


@dataclass(slots=True)
class Resolution:
    """The state. `epoch` rises with every barrier that was answered: classifications of another are out of date."""

    database: str
    server_version: int
    epoch: int = 0
    stale: bool = True
    catalog_due: bool = True
    force: bool = False
    state: SessionState | None = None
    shared: SharedCatalog | None = None
    private: Catalog | None = None
    in_transaction_changed: set[Change] = field(default_factory=set)
    news: SchemaNews = field(default_factory=SchemaNews)
    heard: int = 0

    @property
    def catalog(self) -> Catalog:
        if self.private is not None:
            return self.private
        return self.shared.catalog if self.shared is not None else EMPTY_CATALOG

    @property
    def key(self) -> tuple[int, str]:
        """What a classification depends on besides its text."""
        return self.epoch, self.catalog.version

    def facts(self, in_transaction: bool) -> SessionFacts:
        state = self.state or _NO_STATE
        return SessionFacts(
            search_path=tuple(state.path),
            user=state.user,
            session_user=state.session_user,
            temp_schema=state.temp_schema or None,
            database=self.database,
            server_version=self.server_version,
            in_transaction=in_transaction,
        )

    def barrier(self, statement: Classification) -> frozenset[Change]:
        """What an execution of it may change. The end of a transaction is a barrier only if something changed in it."""
        if statement.changes == {Change.END} and not self.in_transaction_changed:
            return frozenset()
        return statement.changes

    def changed(self, changes: frozenset[Change]) -> None:
        """A barrier was answered, whatever the answer."""
        if not changes:
            return
        self.epoch += 1
        self.stale = True
        self.in_transaction_changed |= changes
        if changes & _CATALOG_CHANGES:
            self.force = True
        if Change.SCHEMA in changes:
            self.news.count += 1

    def transaction_ended(self) -> None:
        """The server is idle again: what a transaction changed is committed or undone."""
        if self.in_transaction_changed:
            self.changed(frozenset(self.in_transaction_changed))
            self.in_transaction_changed.clear()
        if self.private is not None:
            self.private = None
            self.stale = self.force = True

    def listen(self) -> None:
        """Another session may have changed the schema: not all that a connection uses was made on it."""
        if self.private is None and self.heard != self.news.count:
            self.heard, self.catalog_due = self.news.count, True

    def read(self, state: SessionState) -> None:
        self.state = state
        self.stale = False


EMPTY_CATALOG: Final = Catalog("", {}, {}, {}, (), (), frozenset(), (), {}, {}, {})
_NO_STATE: Final = SessionState((), "", "", "", {}, "")
