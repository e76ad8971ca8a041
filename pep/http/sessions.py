"""The sessions of HTTP clients: one for each credential, whatever connections its requests come on.

A session is opened when its credential is first seen and closed when it was not used for a while (DESIGN, Identity);
each has its own chain of records. What happens to one is told to every connection, because any may be serving it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, assert_never

from pep.core.decision_client import Bearer, ClientCertificate, Credential, Jwt, StaticKey
from pep.core.driver import Gate
from pep.core.keeping import Keeping
from pep.core.model import Deny
from pep.core.runtime import Admitted, Runtime
from pep.core.wire import PolicyChanged, Revoked
from pep.http.questions import Known

_LOOK_SECONDS: Final = 1.0
# A request that has just found its session is not served yet for all that is known here.
_GRACE_SECONDS: Final = 1.0
# Read by a policy that is newer than the session, for all it knows.
_EVERYTHING: Final = frozenset({"action.properties"})


@dataclass(slots=True)
class _Entry:
    admitted: Admitted
    digest: bytes
    known: Known
    gate: Gate
    used: float = field(default_factory=time.monotonic)
    outdated: bool = False  # the policies have changed, and an approval keeps it open


@dataclass(slots=True)
class _Opening:
    """A session that is being opened, and how many requests wait for it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


Post = Callable[[Revoked], None]


class Directory:
    """The open sessions. `serving` says whose requests are served at the moment."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        supported: frozenset[type],
        idle: float,
        serving: Callable[[], set[str]],
        tell: Post,
    ) -> None:
        self._runtime = runtime
        self._supported = supported
        self._idle = idle
        self._serving = serving
        self._tell = tell
        self._own_gate = Gate(runtime.process)
        self._by_digest: dict[bytes, _Entry] = {}
        self._by_session: dict[str, _Entry] = {}
        self._ending: dict[str, str] = {}
        self._opening: dict[bytes, _Opening] = {}
        self._closing = asyncio.Event()
        # What is said to the decision service of sessions that end, each by itself: one that is slow delays no other.
        self._work: set[asyncio.Task[None]] = set()

    async def find(self, credential: Credential, labels: Mapping[str, str], address: str) -> Known | Deny:
        """Whose credential it is; opens the session where there is none. Two at once open one."""
        digest = digest_of(credential)
        entry = self._by_digest.get(digest)
        if entry is None:
            opening = self._opening.setdefault(digest, _Opening())
            opening.waiting += 1
            try:
                async with opening.lock:
                    found = self._by_digest.get(digest) or await self._open(credential, labels, address, digest)
            finally:
                opening.waiting -= 1
                if not opening.waiting:
                    # As long as somebody waits, whoever comes waits too.
                    del self._opening[digest]
            if isinstance(found, Deny):
                return found
            entry = found
        entry.used = time.monotonic()
        return entry.known

    def known(self, digest: bytes) -> Known | None:
        """Whose credential it is that has this `digest_of`, if its session is open."""
        entry = self._by_digest.get(digest)
        if entry is None:
            return None
        entry.used = time.monotonic()
        return entry.known

    def gate(self, session: str) -> Gate:
        """Where the session's commands are decided and recorded; without a name, the proxy's own chain.

        A session that has ended here meanwhile still has its gate for as long as it is served.
        """
        entry = self._by_session.get(session)
        return self._own_gate if entry is None else entry.gate

    def share(self, session: str) -> str:
        """Who pays for what the session takes of what all share: the one at the end of its chain."""
        entry = self._by_session.get(session)
        return session if entry is None else entry.admitted.handle.subject.root.name

    def __contains__(self, session: str) -> bool:
        return session in self._by_session

    async def run(self) -> None:
        """Closes what is over or was not used, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._closing.wait()
            self._closing.clear()
            self._sweep()

    async def close(self, reason: str) -> None:
        """Ends every session."""
        for entry in tuple(self._by_session.values()):
            self._dismiss(entry, reason)
        await self.swept()

    async def swept(self) -> None:
        """Until everything that was begun here has been done."""
        while self._work:
            await asyncio.wait(self._work)

    def settled(self) -> None:
        """A request is over; a session that waited for that may end."""
        if self._ending:
            self._closing.set()

    async def _open(
        self, credential: Credential, labels: Mapping[str, str], address: str, digest: bytes
    ) -> _Entry | Deny:
        name = ""

        def post(event: Revoked | PolicyChanged) -> None:
            self._happened(name, event)

        admitted = await self._runtime.admit(credential, address, supported=self._supported, labels=labels, post=post)
        if isinstance(admitted, Deny):
            return admitted
        handle = admitted.handle
        name = handle.session_id
        who = f"{handle.subject.name} for {handle.subject.root.name}"
        keeping = Keeping(handle.obligations, self._runtime.proxy.limits.recorded)
        known = Known(name, handle.obligations, handle.input_paths, who, handle.subject.root.name, keeping)
        entry = _Entry(admitted, digest, known, Gate(admitted.recorder, admitted.enforcer))
        self._by_digest[digest] = self._by_session[name] = entry
        if self._runtime.stopping.is_set():
            self._happened(name, Revoked("the proxy is stopping", at_once=False))
        return entry

    def _happened(self, name: str, event: Revoked | PolicyChanged) -> None:
        entry = self._by_session.get(name)
        if entry is None:
            return
        match event:
            case PolicyChanged():
                # Which parts of a request its policies read was said when it was opened.
                if entry.admitted.enforcer.has_detached:
                    entry.outdated = True
                    entry.known = dataclasses.replace(entry.known, input_paths=_EVERYTHING)
                else:
                    self._forget(entry, "the policies have changed")
            case Revoked(reason, at_once):
                self._forget(entry, reason)
                everybody = self._runtime.stopping.is_set()
                self._tell(Revoked(reason, at_once, "" if everybody else name))

    def _forget(self, entry: _Entry, reason: str) -> None:
        """The next request with this credential opens another session; this one ends when nothing is served for it."""
        if self._by_digest.get(entry.digest) is entry:
            del self._by_digest[entry.digest]
        self._ending.setdefault(entry.known.session, reason)
        self._closing.set()

    def _sweep(self) -> None:
        serving, now = self._serving(), time.monotonic()
        for entry in tuple(self._by_session.values()):
            enforcer = entry.admitted.enforcer
            if enforcer.has_overdue:
                self._begin(enforcer.forget_overdue())
            elif entry.outdated and not enforcer.has_detached:
                self._forget(entry, "the policies have changed")
            unused = now - entry.used > self._idle and entry.known.session not in serving
            if unused and not enforcer.has_detached:
                self._dismiss(entry, "it was not used")
        grace = 0.0 if self._runtime.stopping.is_set() else _GRACE_SECONDS
        for name, reason in tuple(self._ending.items()):
            entry = self._by_session[name]
            if name not in serving and now - entry.used >= grace:
                self._dismiss(entry, reason)

    def _dismiss(self, entry: _Entry, reason: str) -> None:
        name = entry.known.session
        self._ending.pop(name, None)
        if self._by_session.pop(name, None) is None:
            return
        if self._by_digest.get(entry.digest) is entry:
            del self._by_digest[entry.digest]
        self._begin(self._runtime.dismiss(entry.admitted, reason))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._runtime.log.error("a session could not be ended in order", error=type(error).__name__)


def digest_of(credential: Credential) -> bytes:
    """A name for a credential that is not the credential, and no other one's."""
    match credential:
        case Jwt(secret) | StaticKey(secret) | Bearer(secret):
            parts = [secret.encode("utf-8", "surrogateescape")]
        case ClientCertificate(chain):
            parts = list(chain)
        case never:
            assert_never(never)
    lengths = ",".join(str(len(part)) for part in parts)
    return hashlib.sha256(b"".join((f"{type(credential).__name__} {lengths}\n".encode(), *parts))).digest()
