"""The sessions that proxies hold: who they are of, whether they still live, and how they end.

Kept in memory so that a decision waits for no disk, and in the store so that they outlive this process and other
replicas can decide for them. What is in memory follows the store: a session that another replica opened is taken up
when its token is first presented here, and one that another replica ended is looked for several times a second. Leases
are the store's: a session that no proxy has named to any replica for a minute is lost.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import grpc
import structlog
from sqlalchemy import Connection

from pdp.config import Limits
from pdp.identity.subject import Authenticated, same_person
from pdp.identity.tokens import Clock
from pdp.service.decider import Asker
from pdp.service.peers import Peer
from pdp.service.refusal import Refused
from pdp.service.session_tokens import REFRESH_GRACE, SessionClaims, SessionTokens, TokenRefused
from pdp.store import sessions as stored
from pdp.store.database import Database, StoreUnavailable
from pdp.store.sessions import SessionState, StoredSession

log = structlog.get_logger("pdp.sessions")

LEASE: Final = datetime.timedelta(seconds=60)
_HELD_DECISIONS: Final = 256
_LONGEST_REASON: Final = 500
_NOT_KEPT: Final = "its proxy no longer keeps it"
# Clocks of two replicas differ, and a transaction is seen only at its end.
_LOOK_BACK: Final = datetime.timedelta(seconds=30)
# What other replicas have ended has not been read for so many seconds that nothing is decided any more.
_TRUSTED: Final = 60.0

# Told of every session that ends from this side or from the proxy's.
OnEnd = Callable[["LiveSession"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Held:
    """A decision that required approval: what it was about, and its place in the exchange."""

    fingerprint: bytes
    batch: tuple[int, int]


@dataclass(slots=True)
class LiveSession:
    """A session in memory. `verdicts` are those that the store has not been told."""

    stored: StoredSession
    state: SessionState = SessionState.OPEN
    ended_because: str = ""
    verdicts: Counter[str] = field(default_factory=Counter)
    # Whether the store has it: not yet, while it is being opened.
    kept: bool = True
    # It ended, and the store or somebody who must hear of it has not been told: tried again until they are.
    end_unfinished: bool = False
    held: OrderedDict[str, Held] = field(default_factory=OrderedDict)
    # Computed once: every call compares it with what its token says.
    subject_digest: str = field(init=False)

    def __post_init__(self) -> None:
        self.subject_digest = self.stored.subject.digest()

    @property
    def id(self) -> str:
        return self.stored.id

    def hold(self, decision_id: str, held: Held) -> None:
        """Remembers a decision for which an approval may be asked."""
        self.held[decision_id] = held
        if len(self.held) > _HELD_DECISIONS:
            self.held.popitem(last=False)

    def count(self, verdict: str | None) -> None:
        self.verdicts[verdict or "deny"] += 1

    def asker(self) -> Asker:
        kept = self.stored
        return Asker(kept.subject, kept.resource, kept.id, kept.client_address, kept.labels, kept.supported)


@dataclass(frozen=True, slots=True)
class Opening:
    """What a proxy says about a client that connects."""

    resource: str
    protocol: str
    client_address: str
    labels: Mapping[str, str]
    supported: tuple[str, ...]
    decision_id: str = ""
    policy_revision: str = ""


class Sessions:
    """All of them."""

    def __init__(
        self,
        database: Database,
        tokens: SessionTokens,
        limits: Limits,
        now: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._monotonic = monotonic
        self._looked_at = monotonic()
        self._tokens = tokens
        self._limits = limits
        self._now = now
        self._live: dict[str, LiveSession] = {}
        self._flushing = asyncio.Lock()
        self._on_end: list[OnEnd] = []
        # Before, nobody could renew a lease: this process did not run, or the store did not answer.
        self._leases_from = now()

    def on_end(self, told: OnEnd) -> None:
        self._on_end.append(told)

    async def load(self) -> None:
        """Takes up the sessions that were open when the service last ran; their leases start now."""
        self._leases_from = self._now()
        for each in await self._database.short.run(stored.open_sessions):
            self._live[each.id] = self._revived(each)

    def _revived(self, kept: StoredSession) -> LiveSession:
        return LiveSession(kept, kept.state, kept.close_reason)

    def full(self, root: str) -> bool:
        """Whether the person or workload has used up its share, as far as is known here; `open` has the last word."""
        person = same_person(root)
        roots = (same_person(each.stored.subject.root.id) for each in self._live.values())
        return sum(each == person for each in roots) >= self._limits.sessions_per_subject

    async def open(self, peer: Peer, who: Authenticated, opening: Opening, id: str) -> LiveSession:
        """Stores and remembers a session that was granted. Refused where others have used up the share meanwhile."""
        if self.full(who.subject.root.id):
            raise _too_many()
        kept = StoredSession(
            id=id,
            proxy=peer.uri,
            resource=opening.resource,
            protocol=opening.protocol,
            client_address=opening.client_address,
            labels=opening.labels,
            supported=opening.supported,
            subject=who.subject,
            credential_expires_at=who.expires_at,
            opened_at=self._now(),
            decision_id=opening.decision_id,
            policy_revision=opening.policy_revision,
            credential=who.credential,
        )
        # It counts from here on: many that open at once must not each find the share free.
        session = self._live[id] = LiveSession(kept, kept=False)
        try:
            await self._database.short.run(lambda connection: self._insert(connection, kept), who.subject.share)
        except BaseException:
            del self._live[id]
            raise
        session.kept = True
        log.info("session opened", session=id, subject=who.subject.key, resource=opening.resource, proxy=peer.name)
        return session

    def _insert(self, connection: Connection, session: StoredSession) -> None:
        root = same_person(session.subject.root.id)
        if stored.count_open(connection, root) >= self._limits.sessions_per_subject:
            raise _too_many()
        stored.insert(connection, session)

    def token(self, session: LiveSession) -> tuple[str, datetime.datetime]:
        """A fresh token for the session, and its end."""
        kept = session.stored
        return self._tokens.make(
            session=kept.id,
            proxy=kept.proxy,
            resource=kept.resource,
            subject=session.subject_digest,
            not_after=kept.credential_expires_at,
        )

    async def authorize(self, token: str, peer: Peer) -> LiveSession:
        """The open session of a token that this very proxy presents; Refused otherwise."""
        session = await self._presented(token, peer, datetime.timedelta(0))
        if self._database.shared and self._monotonic() - self._looked_at > _TRUSTED:
            # Cut off from the store, it would go on for whom another replica has shut out; that one may be asked.
            raise Refused(grpc.StatusCode.UNAVAILABLE, "which sessions have ended cannot be read from the store")
        if session.state is not SessionState.OPEN:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, f"the session has ended: {session.ended_because}")
        return session

    async def refreshable(self, token: str, peer: Peer) -> LiveSession:
        """The session of a token that may have run out just now, whether it is open or not."""
        return await self._presented(token, peer, REFRESH_GRACE)

    def check(self, token: str, peer: Peer, grace: datetime.timedelta = datetime.timedelta(0)) -> SessionClaims:
        """What the token says. Refused where it is good no more, or was given to another proxy."""
        try:
            claims = self._tokens.verify(token, grace=grace)
        except TokenRefused as error:
            raise Refused(grpc.StatusCode.UNAUTHENTICATED, str(error)) from None
        if claims.proxy != peer.uri or not peer.serves(claims.resource):
            log.warning("token of another proxy presented", session=claims.session, proxy=peer.uri)
            raise Refused(grpc.StatusCode.PERMISSION_DENIED, "the session's token was not given to this proxy")
        return claims

    async def _presented(self, token: str, peer: Peer, grace: datetime.timedelta) -> LiveSession:
        claims = self.check(token, peer, grace)
        session = await self._find(claims.session)
        if session is None:
            raise Refused(grpc.StatusCode.UNAUTHENTICATED, "the session is not known")
        kept = session.stored
        if (kept.proxy, kept.resource, session.subject_digest) != (claims.proxy, claims.resource, claims.subject):
            raise Refused(grpc.StatusCode.UNAUTHENTICATED, "the session's token is of another session")
        return session

    async def _find(self, id: str) -> LiveSession | None:
        if (session := self._live.get(id)) is not None:
            return session
        kept = await self._database.short.run(lambda connection: stored.find(connection, id))
        if kept is None:
            return None
        if kept.state is not SessionState.OPEN:
            return self._revived(kept)
        # Opened by another replica. If it was ended since it was read, `look` finds that.
        return self._live.setdefault(id, self._revived(kept))

    async def keep(self, ids: Sequence[str], peer: Peer) -> list[str]:
        """Renews the leases of this proxy's open sessions; returns those that are not open or not its own."""
        now = self._now()
        kept = await self._database.short.run(lambda connection: stored.keep(connection, ids, peer.uri, now))
        over = {each for each in kept if (live := self._live.get(each)) and live.state is not SessionState.OPEN}
        return [each for each in ids if each not in kept or each in over]

    async def end(self, session_id: str, state: SessionState, reason: str, last_seq: int | None = None) -> bool:
        """Ends an open session, here and for everybody who is told; False if it was not open.

        If that breaks off, the session stays ended here and the rest is tried again: a session that was killed must not
        be open again because the store was busy, nor an approval live on that it waited for.
        """
        text = reason[:_LONGEST_REASON]
        session = self._live.get(session_id)
        if session is None:
            return await self._end_elsewhere(session_id, state, text, last_seq)
        if session.state is not SessionState.OPEN:
            return False
        # First in memory: nothing is decided for it while the store still writes.
        session.state, session.ended_because = state, text
        await self._finish(session, last_seq)
        return True

    async def _finish(self, session: LiveSession, last_seq: int | None = None) -> None:
        session.end_unfinished = False
        now = self._now()
        try:
            await self._flush([session])
            await self._database.short.run(
                lambda connection: stored.end(
                    connection, session.id, session.state, session.ended_because, now, last_seq
                ),
                session.stored.subject.share,
            )
            await self._tell(session)
        except BaseException:
            session.end_unfinished = True
            raise
        self._live.pop(session.id, None)

    async def _end_elsewhere(self, session_id: str, state: SessionState, reason: str, last_seq: int | None) -> bool:
        """Ends one that only the store knows."""
        now = self._now()
        ended = await self._database.short.run(
            lambda connection: stored.end(connection, session_id, state, reason, now, last_seq)
        )
        kept = await self._database.short.run(lambda connection: stored.find(connection, session_id))
        if not ended or kept is None:
            return False
        await self._tell(self._revived(kept))
        return True

    async def _tell(self, session: LiveSession) -> None:
        log.info("session ended", session=session.id, state=session.state.value, reason=session.ended_because)
        for told in self._on_end:
            await told(session)

    async def look(self) -> None:
        """Takes up what other replicas have ended since: nothing more is decided for it here, and its proxy is told."""
        since, started = self._now() - _LOOK_BACK, self._monotonic()
        self._ended_elsewhere(await self._database.short.run(lambda connection: stored.ended_after(connection, since)))
        self._looked_at = started
        await self._finish_all()

    async def sweep(self) -> None:
        """Marks as lost what no proxy keeps, finishes ends that broke off, and writes down what was counted."""
        await self._finish_all()
        now = self._now()
        before = now - LEASE
        try:
            if before >= self._leases_from:
                await self._lose(before, now)
            if self._database.shared:
                await self._follow()
            await self._flush(self._live.values())
        except StoreUnavailable:
            # Proxies could not renew their leases either.
            self._leases_from = self._now()
            raise
        await self._finish_all()

    async def _lose(self, before: datetime.datetime, now: datetime.datetime) -> None:
        for each in await self._database.short.run(lambda connection: stored.lose(connection, before, _NOT_KEPT, now)):
            # It may be one of a replica that is gone: then it is for this one to tell of its end.
            session = self._live.setdefault(each.id, self._revived(each))
            if session.state is SessionState.OPEN:
                session.state, session.ended_because, session.end_unfinished = SessionState.LOST, _NOT_KEPT, True

    async def _follow(self) -> None:
        """Ends here what the store says has ended, however long ago."""
        known = [each.id for each in self._live.values() if each.kept and each.state is SessionState.OPEN]
        still_open = await self._database.short.run(stored.open_ids)
        gone = [each for each in known if each not in still_open]
        if gone:
            self._ended_elsewhere(await self._database.short.run(lambda connection: stored.find_all(connection, gone)))

    def _ended_elsewhere(self, ended: Iterable[StoredSession]) -> None:
        """In memory, at once; `_finish_all` tells the others. What is not known here is for whoever ended it."""
        for each in ended:
            session = self._live.get(each.id)
            if session is not None and session.kept and session.state is SessionState.OPEN:
                session.state, session.ended_because, session.end_unfinished = each.state, each.close_reason, True

    async def _finish_all(self) -> None:
        failed: Exception | None = None
        for session in [each for each in self._live.values() if each.end_unfinished]:
            try:
                await self._finish(session)
            except Exception as error:  # noqa: BLE001 - raised below: one that cannot be finished holds up no other
                failed = error
        if failed is not None:
            raise failed

    async def _flush(self, sessions: Iterable[LiveSession]) -> None:
        """Adds to the store what was counted. A store that fails gets it next time."""
        # One after the other: of two at once each would add what both have counted.
        async with self._flushing:
            told = [(each, Counter(each.verdicts)) for each in sessions if each.verdicts and each.kept]
            if not told:
                return
            counts = {session.id: added for session, added in told}
            await self._database.short.run(lambda connection: stored.add_verdicts(connection, counts))
            for session, added in told:
                session.verdicts -= added

    def all_open(self) -> Sequence[LiveSession]:
        """Those that are open now."""
        return [each for each in self._live.values() if each.state is SessionState.OPEN]

    def verdicts(self, session_id: str) -> Mapping[str, int]:
        """What was counted here and is not in the store's counts yet."""
        session = self._live.get(session_id)
        return {} if session is None else session.verdicts

    async def count_open(self) -> int:
        """How many are open, here and at other replicas."""
        return await self._database.short.run(stored.count_open)

    @property
    def open_count(self) -> int:
        """How many are known here."""
        return len(self._live)


def _too_many() -> Refused:
    return Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many sessions are open for this person or workload")


async def every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Does the work again and again. An error is logged, and the work is tried again next time."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except StoreUnavailable as error:
            # Said once, by who probes the store.
            log.debug("background work waits", work=repr(work), why=str(error))
        except Exception:
            log.exception("background work failed", work=repr(work))
