"""Who calls on a service for people, and whether the policies allow them what they ask for.

The one way in for every such service: the caller's own token, and the same entrypoint that decides for proxies, on the
resource `checkrein`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import grpc.aio
import orjson
import structlog

from pdp.config import ADMINISTRATION
from pdp.identity.authenticator import Authenticator
from pdp.identity.subject import Authenticated, AuthenticationFailed
from pdp.service.decider import Answer, Asker, Decider, new_id
from pdp.service.refusal import Refused
from pdp.v1 import access_pb2, decision_pb2

log = structlog.get_logger("pdp.people")

Context = grpc.aio.ServicerContext[Any, Any]


class People:
    """Asks the policies on behalf of whoever calls."""

    def __init__(self, authenticator: Authenticator, decider: Decider) -> None:
        self._authenticator = authenticator
        self._decider = decider

    async def seeing(
        self, context: Context, action: str, target: str, *, resource: str, datasets: Sequence[str]
    ) -> tuple[Authenticated, str]:
        """Who calls, and why they see it without its values: empty if they see it all. Refused if not at all.

        Whatever is to be masked, all values are: which of them are of a masked field is not known.
        """
        who = await self.caller(context, action)
        about = {"target": target, "resource": resource, "datasets": list(datasets)}
        answer = await self._ask(who, action, about)
        decision = answer.decision
        match decision.WhichOneof("verdict"):
            case "allow" if not decision.allow.obligations:
                return who, ""
            case "mask" if all(each.HasField("mask_fields") for each in decision.mask.obligations):
                return who, f"the policies show you no values ({decision.decision_id})"
            case _:
                raise _refused(decision)

    async def permitted(self, context: Context, action: str, target: str = "") -> Authenticated:
        """Who calls, if the policies allow them this; Refused otherwise."""
        who, _ = await self.decided(context, action, target)
        return who

    async def decided(self, context: Context, action: str, target: str = "") -> tuple[Authenticated, str]:
        """The same, with the id of the decision, for whoever puts on record what was then done."""
        who = await self.caller(context, action)
        answer = await self._ask(who, action, {"target": target} if target else {})
        if answer.decision.WhichOneof("verdict") != "allow" or answer.decision.allow.obligations:
            raise _refused(answer.decision)
        return who, answer.decision.decision_id

    async def _ask(self, who: Authenticated, action: str, properties: Mapping[str, Any]) -> Answer:
        asked = access_pb2.Action(name=action, protocol=ADMINISTRATION, properties_json=orjson.dumps(properties))
        asker = Asker(who.subject, ADMINISTRATION, new_id("admin"))
        (answer,) = await self._decider.decide(asker, [asked])
        return answer

    async def caller(self, context: Context, action: str = "") -> Authenticated:
        """Who calls, whatever the policies say; Refused if that cannot be known."""
        try:
            return await self._authenticator.bearer(_token(context), ADMINISTRATION)
        except AuthenticationFailed as error:
            log.warning("authentication failed", why=str(error), action=action)
            raise Refused(grpc.StatusCode.UNAUTHENTICATED, "the token was not accepted") from None


def _refused(decision: decision_pb2.Decision) -> Refused:
    said = "; ".join(reason.message for reason in decision.reasons if reason.message)
    text = f"{said or 'the policies do not allow it'} ({decision.decision_id})"
    return Refused(grpc.StatusCode.PERMISSION_DENIED, text)


def _token(context: Context) -> str:
    for name, value in context.invocation_metadata() or ():
        if name == "authorization" and isinstance(value, str) and value[:7].lower() == "bearer ":
            return value[7:].strip()
    raise Refused(grpc.StatusCode.UNAUTHENTICATED, "no token; run `pdp token` or sign in, and send it")
