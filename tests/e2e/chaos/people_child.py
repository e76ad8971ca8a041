"""The people who answer what is held, in a process of their own: by gRPC, each with a token of theirs.

A process of their own, because gRPC's threads and the test's many forks do not go together. The first line of the
standard input is JSON: where the service is, and the two tokens. Then each line is `MARKER WISH`, the wish being one of
`told.Wish`, or `MARKER left`. On the standard output each line is `agreed MARKER`, before a yes is sent, `answered
MARKER`, once the service has taken an answer, or `unknown TEXT`, of a statement whose line has not been read (yet, it
may be). The end of the input is the end.
"""

import asyncio
import json
import sys
import threading
from pathlib import Path
from typing import Any

from pdp.commands.connection import Connection, Reach, connected
from pdp.commands.failure import Failure
from pdp.v1 import admin_service_pb2 as pb
from tests.e2e.chaos.told import MARKER, Wish

_PAUSE = 0.3
LEFT = "left"

wishes: dict[str, Wish] = {}
left: set[str] = set()
over = threading.Event()


def say(*words: str) -> None:
    print(*words, flush=True)  # noqa: T201 - what it is for


def listen() -> None:
    for line in sys.stdin:
        marker, wish = line.rstrip("\n").split(" ", 1)
        if wish == LEFT:
            left.add(marker)
        else:
            wishes[marker] = Wish(wish)
    over.set()


async def answer(dana: Reach, dora: Reach) -> None:
    while not over.is_set():
        try:
            async with connected(dana) as first, connected(dora) as second:
                while not over.is_set():
                    await look(first, second)
                    await asyncio.sleep(_PAUSE)
        except Failure:
            # The service is away or does not decide: it is asked again.
            await asyncio.sleep(_PAUSE)


async def look(dana: Connection, dora: Connection) -> None:
    listed = await dana.call("ListApprovals", pb.ListApprovalsRequest(unfolded=True), action="approvals.read")
    for each in listed.approvals:
        # The values of a statement, its marker among them, are seen by who asks for this one.
        request = pb.GetApprovalRequest(approval_id=each.approval_id)
        approval = (await dana.call("GetApproval", request, action="approval.view")).approval
        found = MARKER.search(approval.action.statement.text)
        if found is None or found[0] not in wishes:
            # It is looked at again.
            say("unknown", repr(approval.action.statement.text))
        else:
            await resolve(found[0], approval, dana, dora)


async def resolve(marker: str, approval: Any, dana: Connection, dora: Connection) -> None:
    yes, no = pb.Yes(), pb.No(comment="not this one")
    match wishes[marker]:
        case Wish.YES:
            await send(dana, marker, approval, yes=yes)
        case Wish.NO:
            await send(dora, marker, approval, no=no)
        case Wish.RACE:
            await asyncio.gather(send(dana, marker, approval, yes=yes), send(dora, marker, approval, no=no))
        case Wish.LEAVE:
            if marker in left:
                await send(dana, marker, approval, yes=yes)
        case Wish.SILENCE:
            pass


async def send(who: Connection, marker: str, approval: Any, **said: Any) -> None:
    request = pb.ResolveApprovalRequest(approval_id=approval.approval_id, action_digest=approval.action_digest, **said)
    if "yes" in said:
        say("agreed", marker)
    try:
        await who.call("ResolveApproval", request, action="approve")
        say("answered", marker)
    except Failure:
        # Too late, or the service is away; what of it came about, the records say.
        pass


def main() -> None:
    given = json.loads(sys.stdin.readline())
    threading.Thread(target=listen, daemon=True).start()
    config = Path(given["config"])
    asyncio.run(answer(Reach(config, token=given["dana"]), Reach(config, token=given["dora"])))


if __name__ == "__main__":
    main()
