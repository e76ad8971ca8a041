"""The policy engine as the rest of the decision service sees it: policies in force, questions to them, their renewal.

A new bundle is served by a new OPA on a socket of its own. Questions go to it only once it has been seen to answer
with that bundle, and the old one ends when its last question is answered: there is no moment with half of a change.
Whatever goes wrong on the way to an answer is a deny that says so.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import structlog

from pdp.input import Resource
from pdp.opa.active import Active, started
from pdp.opa.client import ANSWER, LOG_MASKS, OpaUnavailable
from pdp.opa.program import OpaFailed
from pdp.policies.bundle import Bundle, keep, last_good, reopened
from pdp.policies.checks import Checks
from pdp.policies.history import Change, Pin, PolicyEvent
from pdp.policies.problems import PolicyError
from pdp.policies.reads import on_demand
from pdp.policies.repository import PolicyRepository
from pdp.policies.snapshot import State
from pdp.policies.watch import changes
from pdp.policy_result import PolicyResult, ResultError, denied, expired, parse_result

UNAVAILABLE: Final = "decision-unavailable"

log = structlog.get_logger("pdp.opa")


class PolicyEngine:
    """Decides by the policies in force; a context manager that owns OPA and the watch over the policy files.

    `state` is a folder that is private to this process, with a short path because sockets live in it. Without `watch`
    the files are read once. `granted` names builtins that policies may call although they are withheld.
    """

    def __init__(
        self,
        *,
        opa: Path,
        policies: Path,
        resources: Sequence[Resource],
        state: Path,
        timeout: float = 0.5,
        watch: bool = True,
        granted: Sequence[str] = (),
    ) -> None:
        self.opa: Final = opa
        self._resources = tuple(resources)
        self._folder = state / "opa"
        self._timeout = timeout
        self._watch = watch
        self._repository = PolicyRepository(policies, self._resources, Checks(opa, self._folder, granted=granted))
        self._tasks = asyncio.TaskGroup()
        self._watching: asyncio.Task[None] | None = None
        self._active: Active | None = None
        self._unkept: Bundle | None = None
        self._restarts_before = 0
        self._policy_error = ""
        self._places: tuple[str, ...] = ()
        self._looked_at: State = ()
        self._said = ""
        self._changed = asyncio.Event()
        self._pin: Pin | None = None
        self._one_change = asyncio.Lock()
        # Whoever keeps the history takes them from here, in order.
        self.events: asyncio.Queue[PolicyEvent] = asyncio.Queue()

    @property
    def revision(self) -> str:
        """The digest of what is in force; empty while nothing is."""
        return self._active.bundle.revision if self._active else ""

    @property
    def activated_at(self) -> datetime | None:
        """Since when the revision is in force."""
        return self._active.since if self._active else None

    @property
    def policy_error(self) -> str:
        """Why the newest files are not in force, one problem a line, with file and line; empty if they are."""
        return self._policy_error

    @property
    def policy_error_places(self) -> tuple[str, ...]:
        """Files and lines of the same, without the words about them: those may hold what stands in the files."""
        return self._places

    async def changing(self) -> bool:
        """Whether the policy files on disk are other ones than those last looked at: what they say is not known yet."""
        return self._watch and await asyncio.to_thread(self._repository.state) != self._looked_at

    @property
    def ready(self) -> bool:
        """Whether OPA answers with a loaded policy of this library."""
        return self._active is not None and self._active.child.up

    @property
    def restarts(self) -> int:
        """How often OPA had to be started again."""
        return self._restarts_before + (self._active.child.restarts if self._active else 0)

    @property
    def opa_pid(self) -> int | None:
        """The process that answers at the moment."""
        return self._active.child.pid if self._active else None

    async def __aenter__(self) -> Self:
        """Returns with policies in force, or with a policy error that says why there are none.

        Raises OpaFailed when OPA itself cannot be run.
        """
        await asyncio.to_thread(_make_folder, self._folder)
        await self._tasks.__aenter__()
        try:
            self._looked_at = self._repository.state()
            await self._load()
            if self._active is None:
                await self._fall_back()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        if self._watch:
            self._watching = self._tasks.create_task(self._follow(self._looked_at), name="policy watch")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the watch and OPA."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        active, self._active = self._active, None
        if active is not None:
            await active.retire()
        # The group must know of a cancellation, which may be its own; any other error is the caller's as it is.
        if isinstance(error, asyncio.CancelledError):
            await self._tasks.__aexit__(kind, error, trace)
        else:
            await self._tasks.__aexit__(None, None, None)

    async def decide(self, document: Mapping[str, Any]) -> PolicyResult:
        """One evaluation of the entrypoint. Never raises for a policy problem: that is a deny which says so."""
        return expired(await self.evaluate(document), datetime.now(UTC))

    async def evaluate(self, document: Mapping[str, Any]) -> PolicyResult:
        """The same, whatever the time is now: for documents that are examples."""
        active = self._active
        if active is None:
            return self._no_decision("no policies are in force")
        try:
            with active.question():
                answer = await active.child.client.ask(ANSWER, document)
        except OpaUnavailable as error:
            return self._no_decision(str(error), active.bundle.revision)
        return self._read(answer, active.bundle)

    def _read(self, answer: Any, bundle: Bundle) -> PolicyResult:
        if not isinstance(answer, dict) or "result" not in answer:
            return self._no_decision("the policies' answer is undefined", bundle.revision)
        if answer.get("revision") != bundle.revision or answer.get("version") != bundle.version:
            return self._no_decision("OPA answers with policies that are not in force", bundle.revision)
        try:
            result = parse_result(answer["result"], bundle.revision)
        except ResultError as error:
            return self._no_decision(f"the policies' answer is not of the agreed form: {error}", bundle.revision)
        self._said = ""
        return result

    def _no_decision(self, why: str, revision: str = "") -> PolicyResult:
        if why != self._said:  # once, not once for every statement while it lasts
            log.warning("no decision can be made", reason=why, revision=revision)
            self._said = why
        message = f"No decision could be made: {why}."
        return denied(UNAVAILABLE, message[:240], retry=True, revision=revision)

    async def log_masks(self, event: Mapping[str, Any]) -> Any:
        """What `data.system.log.mask` says of an event of the decision log; None where no such policy is in force.

        Raises OpaUnavailable where it cannot be found out.
        """
        active = self._active
        if active is None:
            raise OpaUnavailable("no policies are in force")
        if not active.bundle.masks_log:
            return None
        with active.question():
            rules = await active.child.client.ask(LOG_MASKS, event)
        return [] if rules is None else rules

    async def input_paths(self, resource_id: str) -> tuple[str, ...]:
        """What travels on demand and the policies bound to the resource can read; all while nothing is in force."""
        return self._active.bundle.input_paths(resource_id) if self._active else on_demand()

    def owners(self, resource_id: str) -> Mapping[str, Sequence[str]]:
        """Who answers for each dataset of the resource, as the data in force say."""
        return self._active.bundle.owners.get(resource_id, {}) if self._active else {}

    def classified(self, resource_id: str, revision: str) -> Mapping[str, Mapping[str, Sequence[str]]]:
        """The labels of the resource's fields by dataset, as that revision's data say; empty if another decides."""
        active = self._active
        return active.bundle.labels.get(resource_id, {}) if active and active.bundle.revision == revision else {}

    async def revisions(self) -> AsyncIterator[str]:
        """The revision in force, then each new one; a slow reader sees only the newest."""
        seen = ""
        while True:
            changed = self._changed
            if self.revision != seen:
                seen = self.revision
                yield seen
            else:
                await changed.wait()

    # How policies come into force

    async def _load(self) -> None:
        """Puts the files as they are in force, or keeps what is and says why."""
        async with self._one_change:
            await self._take_up()

    async def _take_up(self) -> None:
        """A pin ends when files that are whole have another content than those that it was set over."""
        contents = await asyncio.to_thread(self._repository.contents)
        bundle = await self._read_files()
        if self._pin is not None and bundle is not None and self._pin.files != contents:
            self._end_pin("the policy files have changed")
        if self._pin is not None and self._active is None:
            await self._begin_with_the_pin(self._pin)
        if self._pin is None and bundle is not None and bundle.revision != self.revision:
            await self._put_in_force(bundle)
            self._unkept = bundle
            self._tell(Change.ACTIVATED, bundle)
        if self._unkept is not None:
            # It is in force whether it can be kept or not; where not, the next change of the files tries again.
            await asyncio.to_thread(keep, self._unkept, self._folder / "bundle.tar.gz")
            self._unkept = None
        # Only now: whoever sees no error takes the files to be in force.
        if bundle is not None:
            self._policy_error, self._places = "", ()

    async def _read_files(self) -> Bundle | None:
        try:
            return await self._repository.bundle()
        except PolicyError as error:
            if str(error) != self._policy_error:
                self._tell(Change.REFUSED, None, problems=str(error))
            self._policy_error, self._places = str(error), error.places
            log.warning("the policy files are not in force", error=self._policy_error, revision=self.revision)
            return None

    async def _put_in_force(self, bundle: Bundle) -> None:
        await asyncio.to_thread((self._folder / "next.tar.gz").write_bytes, bundle.content)
        await self._activate(bundle, self._folder / "next.tar.gz")

    # Going back

    @property
    def pinned(self) -> Pin | None:
        """The earlier revision that is in force in place of the files."""
        return self._pin

    async def files(self) -> str:
        """A digest of the policy files as they are."""
        return await asyncio.to_thread(self._repository.contents)

    def begin_with(self, pin: Pin) -> None:
        """Before it is entered: what is in force from the first moment on, if the files are as they were."""
        self._pin = pin

    async def pin(self, pin: Pin) -> None:
        """Puts an earlier bundle in force until the files change.

        Raises PolicyError or OpaFailed; then everything is as it was.
        """
        async with self._one_change:
            if self._pin is not None and (self._pin.revision, self._pin.at) == (pin.revision, pin.at):
                return
            bundle = reopened(pin.content, self._resources)
            if bundle.revision != self.revision:
                await self._put_in_force(bundle)
            self._pin = pin
            self._tell(Change.ROLLED_BACK, bundle, by=pin.by)
            log.warning("an earlier revision is in force", revision=bundle.revision, by=pin.by)

    async def unpin(self, by: str) -> None:
        """The files are in force again, or the last good ones where they are broken."""
        async with self._one_change:
            if self._pin is None:
                return
            self._end_pin(by)
            pinned = self.revision
            await self._take_up()
            if self._policy_error and self.revision == pinned:
                await self._fall_back()

    def _end_pin(self, by: str) -> None:
        self._pin = None
        self._tell(Change.RESUMED, None, by=by)

    async def _begin_with_the_pin(self, pin: Pin) -> None:
        try:
            bundle = await asyncio.to_thread(reopened, pin.content, self._resources)
            await self._put_in_force(bundle)
        except PolicyError as error:
            # Of another library: there is no way back to it.
            log.warning("the earlier revision cannot be in force", revision=pin.revision, error=str(error))
            self._end_pin(str(error))

    def _tell(self, change: Change, bundle: Bundle | None, *, by: str = "", problems: str = "") -> None:
        revision = bundle.revision if bundle is not None else self.revision
        self.events.put_nowait(PolicyEvent(change, datetime.now(UTC), revision, by, problems, bundle))

    async def _fall_back(self) -> None:
        """Puts the last good bundle in force, if there is one of this library."""
        try:
            bundle = await asyncio.to_thread(last_good, self._folder / "bundle.tar.gz", self._resources)
        except PolicyError as error:
            self._policy_error += f"\n{error}"
            self._places += error.places
            return
        if bundle is not None:
            await self._put_in_force(bundle)
            self._tell(Change.LAST_GOOD, bundle)
            log.warning("the last good policies are in force", revision=bundle.revision)

    async def _activate(self, bundle: Bundle, path: Path) -> None:
        """Asks an OPA that has the bundle, and no other any more."""
        fresh = await started(
            bundle, path, program=self.opa, folder=self._folder, timeout=self._timeout, tasks=self._tasks
        )
        before, self._active = self._active, fresh
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        log.info("policies are in force", revision=bundle.revision)
        if before is not None:
            self._restarts_before += before.child.restarts
            self._tasks.create_task(before.retire(), name="opa retiring")

    async def _follow(self, seen: State) -> None:
        async for state in changes(self._repository.state, seen):
            try:
                await self._load()
            except (OpaFailed, OSError, RecursionError, ValueError) as error:
                # What is in force stays in force, whatever the files hold; the next change tries again.
                self._policy_error = f"the policy files could not be loaded: {error}"
                self._places = ("which one is not known",)
                log.warning("the policy files could not be loaded", error=str(error))
            self._looked_at = state


def _make_folder(folder: Path) -> None:
    """Makes the folder, or clears it of what a process that was killed has left: sockets, copies, checks half done."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for pattern in ("run-*", "check-*", "explain-*"):
        for left in folder.glob(pattern):
            shutil.rmtree(left, ignore_errors=True)
