"""Runs the real command `pdp` as a child process, beside a service that runs in the test's own process."""

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pdp.identity.subject import Party
from pdp.v1 import audit_service_pb2
from pep.core.records import Chain, Event, EventType, Sealed
from pep.core.signer import Signer
from tests.pdp.serving import BEGINNINGS, Proxy, Service

OWNER = Party("user", "olga", ("owners",))


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PDP_", "CHECKREIN_"))}
    return {**kept, "NO_COLOR": "1", **more}


async def pdp(*arguments: str, stdin: str | None = None, cwd: Path | None = None, **more: str) -> Done:
    """Runs `pdp ARGUMENT...`; `more` is environment."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "pdp", *arguments),
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(**more),
        cwd=cwd,
    )
    out, err = await process.communicate(stdin.encode() if stdin is not None else None)
    assert process.returncode is not None
    assert b"Traceback" not in err, err.decode()
    return Done(process.returncode, out.decode(), err.decode())


async def as_(service: Service, who: Party, *arguments: str, stdin: str | None = None) -> Done:
    """The command with the configuration of this service and a token of this person."""
    file = service.config.state.parent / "checkrein.yaml"
    token = service.token(who, audience="checkrein")
    return await pdp(*arguments, stdin=stdin, CHECKREIN_CONFIG=str(file), PDP_TOKEN=token)


async def record(proxy: Proxy, session: str, events: Sequence[Event]) -> None:
    """Ships events as a proxy does, signed at the first and the last. Their times are a tenth of a second apart."""
    times = (f"2030-01-31T10:00:{number / 10:06.3f}+00:00" for number in range(10_000))
    chain = Chain(session, lambda: next(times))
    requests: list[Any] = []
    for event in events:
        if event.type is EventType.SESSION_OPENED:
            begun = BEGINNINGS[session]
            event = replace(event, **{**begun, "facts": {**event.facts, **begun["facts"]}})
        sealed = chain.seal(event)
        message = audit_service_pb2.RecordRequest(session_id=session, seq=sealed.seq, event=sealed.data)
        if event in (events[0], events[-1]) or sealed.seq == 0:
            message.checkpoint.CopyFrom(signature(proxy, sealed))
        requests.append(message)
        requests += [
            audit_service_pb2.RecordRequest(
                session_id=session,
                seq=sealed.seq,
                body=audit_service_pb2.Body(index=index, salt=body.salt, content=body.content),
            )
            for index, body in enumerate(sealed.bodies)
        ]
    answers = [each async for each in proxy.audit.Record(iter(requests))]
    assert not any(each.refused for each in answers)


def signature(proxy: Proxy, sealed: Sealed) -> audit_service_pb2.Checkpoint:
    """What the proxy signs after that event."""
    files = proxy.service.authority.issue(proxy.name)
    signed = Signer(files.certificate, files.key).sign(sealed.session, sealed.seq, sealed.hash)
    return audit_service_pb2.Checkpoint(hash=signed.hash, certificates=signed.certificates, signature=signed.signature)
