"""The catalog that all sessions of one proxy share, and the answers to a session's look-ups.

Does I/O, on the proxy's own connection. A catalog is used for `max_age` seconds; then a fingerprint tells whether it
has changed, and only then is it read again.
"""

from __future__ import annotations

import asyncio
import time
from typing import assert_never

import structlog

from pep.postgres.catalog import Builtins, Catalog
from pep.postgres.catalog_sql import BUILTIN_QUERY, FINGERPRINT_QUERY, USER_QUERY
from pep.postgres.parser import ParserProcess, ParseTree, Unparsable
from pep.postgres.resolution import BuildCatalog, CatalogUnavailable, FreshCatalog, ParseText, SharedCatalog
from pep.postgres.upstream import OwnConnection, UpstreamUnavailable

Question = FreshCatalog | BuildCatalog | ParseText


class Catalogs:
    """`pep.core.wire.LookUps` for PostgreSQL."""

    def __init__(self, connection: OwnConnection, parser: ParserProcess, max_age: float) -> None:
        self._connection = connection
        self._parser = parser
        self._max_age = max_age
        self._lock = asyncio.Lock()
        self._builtins: Builtins | None = None
        self._catalog: Catalog | None = None
        self._checked_at = 0.0
        self._log = structlog.get_logger("pep.postgres.catalogs")

    async def answer(self, question: Question) -> SharedCatalog | CatalogUnavailable | Catalog | ParseTree | Unparsable:
        """See `pep.core.wire.LookUps`."""
        match question:
            case FreshCatalog(force):
                try:
                    return await self._fresh(force=force)
                except UpstreamUnavailable as error:
                    self._log.error("the catalog cannot be read", error=str(error))
                    return CatalogUnavailable()
            case BuildCatalog(rows, builtins, previous):
                return await asyncio.to_thread(Catalog.build, rows, builtins, previous)
            case ParseText(text):
                return await self._parser.parse(text)
            case never:
                assert_never(never)

    async def _fresh(self, *, force: bool) -> SharedCatalog:
        asked_at = time.monotonic()
        async with self._lock:
            # Somebody else's check that began after this question was asked answers it too.
            needed = asked_at if force else asked_at - self._max_age
            if self._catalog is None or self._builtins is None or self._checked_at < needed:
                await self._check()
            assert self._catalog is not None
            assert self._builtins is not None
            return SharedCatalog(self._catalog, self._builtins, self._max_age)

    async def _check(self) -> None:
        began = time.monotonic()
        if self._builtins is None:
            rows = await self._connection.rows(BUILTIN_QUERY)
            self._builtins = await asyncio.to_thread(Builtins.build, [(row[0], row[1]) for row in rows])
        if self._catalog is not None:
            ((fingerprint,),) = await self._connection.rows(FINGERPRINT_QUERY)
            if fingerprint == self._catalog.version:
                self._checked_at = began
                return
        rows = await self._connection.rows(USER_QUERY)
        pairs = [(row[0], row[1]) for row in rows]
        self._catalog = await asyncio.to_thread(Catalog.build, pairs, self._builtins, self._catalog)
        self._checked_at = began
