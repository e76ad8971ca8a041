"""Who calls on a service for people, and whether the policies allow them what they ask for.

The one way in for every such service: the caller's own token, and the same entrypoint that decides for proxies, on the
resource `checkrein`.
"""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import orjson
import structlog

from pdp.config import ADMINISTRATION
from pdp.identity.authenticator import Authenticator
from pdp.identity.subject import Authenticated, AuthenticationFailed
from pdp.service.decider import Asker, Decider, new_id
from pdp.service.refusal import Refused
from pdp.v1 import access_pb2

log = structlog.get_logger("pdp.people")

Context = grpc.aio.ServicerContext[Any, Any]


class People:
    """Asks the policies on behalf of whoever calls."""

    def __init__(self, authenticator: Authenticator, decider: Decider) -> None:
        self._authenticator = authenticator
        self._decider = decider

    async def permitted(self, context: Context, action: str, target: str = "") -> Authenticated:
        """Who calls, if the policies allow them this; Refused otherwise."""
        who, _ = await self.decided(context, action, target)
        return who

    async def decided(self, context: Context, action: str, target: str = "") -> tuple[Authenticated, str]:
        """The same, with the id of the decision, for whoever puts on record what was then done."""
        who = await self.caller(context, action)
        properties = {"target": target} if target else {}
        asked = access_pb2.Action(name=action, protocol=ADMINISTRATION, properties_json=orjson.dumps(properties))
        asker = Asker(who.subject, ADMINISTRATION, new_id("admin"))
        (answer,) = await self._decider.decide(asker, [asked])
        if answer.decision.WhichOneof("verdict") != "allow" or answer.decision.allow.obligations:
            said = "; ".join(reason.message for reason in answer.decision.reasons if reason.message)
            text = f"{said or 'the policies do not allow it'} ({answer.decision.decision_id})"
            raise Refused(grpc.StatusCode.PERMISSION_DENIED, text)
        return who, answer.decision.decision_id

    async def caller(self, context: Context, action: str = "") -> Authenticated:
        """Who calls, whatever the policies say; Refused if that cannot be known."""
        try:
            return await self._authenticator.bearer(_token(context), ADMINISTRATION)
        except AuthenticationFailed as error:
            log.warning("authentication failed", why=str(error), action=action)
            raise Refused(grpc.StatusCode.UNAUTHENTICATED, "the token was not accepted") from None


def _token(context: Context) -> str:
    for name, value in context.invocation_metadata() or ():
        if name == "authorization" and isinstance(value, str) and value[:7].lower() == "bearer ":
            return value[7:].strip()
    raise Refused(grpc.StatusCode.UNAUTHENTICATED, "no token; run `pdp token` or sign in, and send it")
