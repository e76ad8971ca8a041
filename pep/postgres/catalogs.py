"""The catalog that all sessions of one proxy share, and the answers to a session's look-ups.

Does I/O, on the proxy's own connection. A catalog is used for `max_age` seconds; then a fingerprint tells whether it
has changed, and only then is it read again.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, assert_never

import structlog

from pep.core.turns import Turns
from pep.postgres.catalog import Builtins, Catalog
from pep.postgres.catalog_sql import BUILTIN_QUERY, FINGERPRINT_QUERY, USER_QUERY
from pep.postgres.parser import ParserProcess, ParseTree, Unparsable
from pep.postgres.resolution import (
    BuildCatalog,
    CatalogUnavailable,
    FreshCatalog,
    ParseText,
    SchemaNews,
    SharedCatalog,
    Turn,
)
from pep.postgres.upstream import OwnConnection, UpstreamUnavailable

Question = FreshCatalog | BuildCatalog | ParseText | Turn
Answer = SharedCatalog | CatalogUnavailable | Catalog | ParseTree | Unparsable | None


# Catalogs with a session's own tables: each keeps a thread and the interpreter busy, so one client has one at a time.
_BUILDS: Final = 2
_BUILDS_PER_SHARE: Final = 1


class Catalogs:
    """What all sessions share. `of` gives one client's `pep.core.wire.LookUps`."""

    def __init__(self, connection: OwnConnection, parser: ParserProcess, max_age: float) -> None:
        self._connection = connection
        self._parser = parser
        self._max_age = max_age
        self._lock = asyncio.Lock()
        self._builtins: Builtins | None = None
        self._catalog: Catalog | None = None
        self._checked_at = 0.0
        self.news = SchemaNews()
        self._heard = 0
        self._builds = Turns(_BUILDS, _BUILDS_PER_SHARE)
        self._log = structlog.get_logger("pep.postgres.catalogs")

    def of(self, share: str) -> ClientLookUps:
        """For a client who pays with that share: the person or workload at the end of its chain."""
        return ClientLookUps(self, share)

    async def answer(self, question: Question, share: str = "") -> Answer:
        """The facts. What takes a child process or a thread waits for the share's turn."""
        match question:
            case FreshCatalog(force):
                try:
                    return await self._fresh(force=force)
                except UpstreamUnavailable as error:
                    self._log.error("the catalog cannot be read", error=str(error))
                    return CatalogUnavailable()
            case BuildCatalog(rows, builtins, previous):
                async with self._builds.of(share):
                    return await asyncio.to_thread(Catalog.build, rows, builtins, previous)
            case Turn():
                await asyncio.sleep(0)
                return None
            case ParseText(text):
                return await self._parser.parse(text, share)
            case never:
                assert_never(never)

    async def _fresh(self, *, force: bool) -> SharedCatalog:
        asked_at = time.monotonic()
        async with self._lock:
            # Somebody else's check that began after this question was asked answers it too.
            needed = asked_at if force or self._heard != self.news.count else asked_at - self._max_age
            if self._catalog is None or self._builtins is None or self._checked_at < needed:
                await self._check()
            assert self._catalog is not None
            assert self._builtins is not None
            return SharedCatalog(self._catalog, self._builtins, self._max_age)

    async def _check(self) -> None:
        began, heard = time.monotonic(), self.news.count
        if self._builtins is None:
            rows = await self._connection.rows(BUILTIN_QUERY)
            self._builtins = await asyncio.to_thread(Builtins.build, [(row[0], row[1]) for row in rows])
        if self._catalog is not None:
            ((fingerprint,),) = await self._connection.rows(FINGERPRINT_QUERY)
            if fingerprint == self._catalog.version:
                self._checked_at, self._heard = began, heard
                return
        rows = await self._connection.rows(USER_QUERY)
        pairs = [(row[0], row[1]) for row in rows]
        self._catalog = await asyncio.to_thread(Catalog.build, pairs, self._builtins, self._catalog)
        self._checked_at, self._heard = began, heard


class ClientLookUps:
    """`pep.core.wire.LookUps` of one client."""

    def __init__(self, catalogs: Catalogs, share: str) -> None:
        self._catalogs = catalogs
        self._share = share

    async def answer(self, question: Question) -> Answer:
        return await self._catalogs.answer(question, self._share)
