"""The decision log: every decision goes through here once, to the sinks under masks, and whole into the store.

A decision waits for nothing of this. Each destination has a bounded buffer of its own (`outlet`), so that a slow one
does not hold up the others; what is dropped is counted and said by `pdp status`.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol
from uuid import uuid4

import orjson
import structlog
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from pdp.config import DecisionLog as Settings
from pdp.config import Records
from pdp.decisions import entry
from pdp.decisions.decided import Decided
from pdp.decisions.outlet import Bounds, Outlet, Undeliverable
from pdp.decisions.sinks import ConsoleSink, FileSink, UploadSink
from pdp.identity.tokens import Clock
from pdp.policies.reads import on_demand
from pdp.store import decisions as stored
from pdp.store.database import Database, StoreUnavailable

log = structlog.get_logger("pdp.decisions")

_ABREAST: Final = 16
_FLUSH: Final = 5.0
# How long the first of a batch waits for more, so that a commit is of several.
_GATHER: Final = 0.05
# What a decision weighs beside what was asked.
_AROUND: Final = 1000


class Masks(Protocol):
    """Whoever knows the mask policy in force."""

    async def log_masks(self, event: Any) -> Any:
        """The rules for this event; None where there is no mask policy. Raises where they cannot be found out."""


class DecisionLog:
    """The log; `add` as often as decisions are made, `run` as long as the service runs, `close` at its end."""

    def __init__(self, settings: Records, masks: Masks, database: Database, now: Clock) -> None:
        self._settings = settings.decision_log or Settings(console=True)
        self._settings_of_kept = settings.decisions
        self._now = now
        self._masks = masks
        self._database = database
        self._labels = {"app": "checkrein", "id": str(uuid4()), "version": _version()}
        self._said = ""
        self._sinks = list(_sinks(self._settings))
        self._masking: Outlet[Decided] = Outlet("masks", self._mask, weigh=_weight, bounds=Bounds(batch=200))
        self._store: Outlet[Decided] = Outlet(
            "the store",
            self._insert,
            weigh=_weight,
            bounds=Bounds(every=_GATHER),
            again=(DBAPIError, StoreUnavailable),
        )

    def add(self, decided: Decided) -> None:
        """Takes a decision; never waits."""
        self._store.put(decided)
        self._masking.put(decided)

    async def stored(self) -> None:
        """Returns when every decision so far is in the store."""
        await self._store.settled()

    async def forget(self) -> None:
        """Erases what is kept no longer."""
        kept, now = self._settings_of_kept, self._now()
        await self._database.bulk.run(
            lambda connection: stored.forget(
                connection, decisions_before=now - kept.keep, inputs_before=now - kept.inputs, most=kept.most
            )
        )

    def notes(self) -> Sequence[str]:
        """What is wrong with it, for people."""
        found = []
        for each in self._outlets():
            if each.dropped:
                found.append(f"{each.dropped} decisions were dropped on their way to {each.name}")
            if each.trouble:
                found.append(f"the decision log does not reach {each.name}: {each.trouble}; {each.waiting} wait")
        return found

    async def run(self) -> None:
        """Until `close`."""
        async with asyncio.TaskGroup() as tasks:
            for each in self._outlets():
                tasks.create_task(each.run(), name=f"decision log to {each.name}")

    async def close(self) -> None:
        """Delivers what waits, as far as that goes within a few seconds."""
        try:
            async with asyncio.timeout(_FLUSH):
                # The sinks last: they are filled by the masks.
                for each in self._outlets():
                    each.close()
                    await each.settled()
        except TimeoutError:
            log.error("decisions were not logged at the end", left={e.name: e.waiting for e in self._outlets()})  # noqa: TRY400 - there is no trace

    def _outlets(self) -> Iterator[Outlet[Any]]:
        yield self._store
        yield self._masking
        yield from self._sinks

    async def _insert(self, batch: list[Decided]) -> None:
        try:
            await self._database.bulk.run(lambda connection: stored.insert(connection, batch))
        except (DataError, IntegrityError) as error:
            raise Undeliverable(type(error).__name__) from error
        except DBAPIError:
            raise
        except SQLAlchemyError as error:
            raise Undeliverable(type(error).__name__) from error

    async def _mask(self, batch: list[Decided]) -> None:
        for start in range(0, len(batch), _ABREAST):
            some = batch[start : start + _ABREAST]
            for line in await asyncio.gather(*map(self._line, some)):
                for sink in self._sinks:
                    sink.put(line)

    async def _line(self, decided: Decided) -> bytes:
        event = entry.event(decided, self._labels)
        try:
            rules = await self._masks.log_masks(event)
            if rules is not None:
                event = entry.masked(event, rules)
            self._said = ""
        except Exception as error:  # noqa: BLE001 - whatever goes wrong: never without its masks
            if not self._said:
                log.warning("the mask policy fails; decisions are logged without input and result", error=str(error))
                self._said = "said"
            event = entry.without_contents(event)
        if self._settings.input == "short":
            event = entry.shortened(event)
        else:
            event = entry.without_statements(event, on_demand())
        return orjson.dumps(event)


def _weight(decided: Decided) -> int:
    """Whoever asks about large statements must not fill this service's memory while the store is slow."""
    return _AROUND + decided.size


def _sinks(settings: Settings) -> Iterator[Outlet[bytes]]:
    if settings.console:
        yield Outlet("the console", ConsoleSink().deliver, weigh=len)
    if settings.file is not None:
        sink = FileSink(settings.file, size=settings.rotate, files=settings.files)
        yield Outlet(str(settings.file), sink.deliver, weigh=len)
    if settings.url is not None:
        upload = UploadSink(settings.url, token=settings.token, authority=settings.ca)
        yield Outlet(settings.url, upload.deliver, weigh=len, bounds=Bounds(every=settings.batch.total_seconds()))


def _version() -> str:
    try:
        return importlib.metadata.version("checkrein")
    except importlib.metadata.PackageNotFoundError:
        return "unreleased"
