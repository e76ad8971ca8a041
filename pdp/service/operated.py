"""What the decision service tells operators: whether it can decide, what is wrong, and how it stands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from pdp.approvals.approvals import Approvals
from pdp.certificates import ServerCertificate
from pdp.meters import Meters, Standing
from pdp.opa.engine import PolicyEngine
from pdp.service.sessions import Sessions
from pdp.service.watch import Watchers
from pdp.store.database import Database, StoreUnavailable
from pdp.v1.operations import Readiness, endpoint
from pdp.v1.operations_config import Admin

log = structlog.get_logger("pdp")


class Operated:
    """The service as operators see it."""

    def __init__(
        self,
        meters: Meters,
        *,
        engine: PolicyEngine,
        database: Database,
        sessions: Sessions,
        approvals: Approvals,
        watchers: Watchers,
        certificate: ServerCertificate,
    ) -> None:
        self._meters = meters
        self._engine = engine
        self._database = database
        self._sessions = sessions
        self._approvals = approvals
        self._watchers = watchers
        self._certificate = certificate
        self.stopping = False

    async def readiness(self) -> Readiness:
        """It is ready while OPA answers with a loaded policy and the store can be used."""
        reasons, warnings = [], []
        if self.stopping:
            reasons.append("it is stopping")
        if self._database.problem:
            reasons.append(f"the store cannot be used: {self._database.problem}")
        if not self._engine.ready:
            reasons.append("OPA does not answer with a loaded policy")
        if self._engine.policy_error:
            # The words about it may hold a line of a policy; whoever reaches this address has shown no token.
            warnings.append(f"the newest policy files are not in force: {', '.join(self._engine.policy_error_places)}")
        if why := self._certificate.why_not_used():
            warnings.append(f"the new certificate is not used: {why}")
        return Readiness(tuple(reasons), tuple(warnings))

    async def refresh(self) -> None:
        """The gauges as they are now; what the store cannot say stays as it was said last."""
        try:
            pending = await self._approvals.pending_count()
        except StoreUnavailable:
            return
        self._meters.show(
            Standing(
                revision=self._engine.revision,
                opa_ready=self._engine.ready,
                opa_restarts=self._engine.restarts,
                policies_broken=bool(self._engine.policy_error),
                sessions=self._sessions.open_count,
                approvals_pending=pending,
                proxies=len(self._watchers.leases()),
            )
        )

    @asynccontextmanager
    async def answering(self, admin: Admin | None) -> AsyncIterator[None]:
        """Answers at the configured address, if there is one. Raises ConfigError."""
        if admin is None:
            yield
            return
        async with endpoint(admin.listen, self._meters.registry, self.readiness, self.refresh) as address:
            log.info("answering operators", address=str(address))
            try:
                yield
            finally:
                self.stopping = True
