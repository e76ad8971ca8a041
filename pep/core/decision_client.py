"""The decision service as an enforcement point knows it: what is asked of it and what it answers, as values.

`DecisionClient` is the seam; `grpc_client` has the real one. Whatever does not end in a whole answer in time is
`DecisionUnavailable`; what that means for a client is decided in `enforcer`. Nothing here knows how it is carried.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pep.core.model import Action, Answer, Decision, Deny, Estimate
from pep.core.sessions import SessionHandle, Token, WatchNews
from pep.core.shipments import Acknowledged, Countersign, Mark, Shipment


@dataclass(frozen=True, slots=True)
class Jwt:
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class StaticKey:
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token or a key whose kind the proxy cannot tell."""

    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """Whose key the client proved in TLS to have: certificates in DER, its own first. Who it is, is not read here."""

    chain: tuple[bytes, ...] = field(repr=False)


Credential = Jwt | StaticKey | Bearer | ClientCertificate


@dataclass(frozen=True, slots=True)
class Login:
    """What a client proved itself with, and for what. `labels` are its own words, never identity."""

    credential: Credential
    resource: str
    protocol: str
    client_address: str
    supported: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """A command that needs people. `key` makes a retry harmless; `hold` is None where policy alone says how long."""

    decision_id: str
    key: str
    action: Action
    digest: bytes
    in_transaction: bool
    hold: float | None
    # Nobody waits on the wire: the client comes back, perhaps through another session or another process.
    detached: bool = False
    # None where nobody asked the target.
    estimate: Estimate | None = None


@dataclass(frozen=True, slots=True)
class PendingApproval:
    """`expires_at` is in epoch seconds, None where the service did not say."""

    approval_id: str
    url: str
    expires_at: float | None
    approvers: tuple[str, ...]
    # It had been asked for before, and people have agreed meanwhile.
    approved: bool = False


@dataclass(frozen=True, slots=True)
class ApprovalUpdate:
    """`state` is "pending", "approved", "denied", "expired", "cancelled", "redeemed", "withdrawn" or "unknown"."""

    state: str
    comment: str = ""


class DecisionClient(Protocol):
    """Every method raises DecisionUnavailable where no whole answer came in time."""

    async def open_session(self, login: Login) -> SessionHandle | Deny: ...

    async def refresh_session(self, session: SessionHandle) -> Token | str:
        """The new token, or why the session has to end."""

    async def keep_sessions(self, session_ids: Sequence[str]) -> Sequence[str]:
        """Those among them that have to end."""

    async def close_session(self, session: SessionHandle, reason: str, last_seq: int) -> None: ...

    async def decide(self, session: SessionHandle, actions: Sequence[Action]) -> tuple[Answer, ...]:
        """One decision for each action, in order."""

    async def request_approval(self, session: SessionHandle, request: ApprovalRequest) -> PendingApproval: ...

    def await_approval(self, session: SessionHandle, approval_id: str) -> AsyncGenerator[ApprovalUpdate, None]:
        """The state now, then each change; ends with a final state."""

    async def cancel_approval(self, session: SessionHandle, approval_id: str, reason: str) -> None: ...

    async def redeem_approval(
        self, session: SessionHandle, approval_id: str, digest: bytes, execution_id: str
    ) -> Decision: ...

    def watch(self) -> AsyncGenerator[WatchNews, None]:
        """News, each acknowledged when the next one is asked for."""

    async def ship(
        self,
        shipments: AsyncIterator[Shipment | Countersign | Mark],
        acknowledged: Callable[[Acknowledged], None],
    ) -> None:
        """Sends records in order and says which are stored; ends only by an error."""
