"""`pdp status`: what is in force, and what is wrong."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Final, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from pdp.commands.connection import Reach, connected, reaching
from pdp.commands.failure import Failure, Status
from pdp.commands.screen import clock, console, facts, line, show, span
from pdp.shown import shown
from pdp.v1 import admin_service_pb2 as pb
from pdp.v1.config_values import parse_duration
from pdp.v1.decision_service_pb2 import SpoolState

T = TypeVar("T")

_AGAIN_SECONDS: Final = 0.2
_MIB: Final = 1 << 20
_NEARLY_FULL: Final = 0.8
_BEHIND: Final = datetime.timedelta(minutes=1)


@reaching
async def status(
    reach: Reach,
    wait: Annotated[bool, typer.Option("--wait", help="Until it decides and its policies are in force.")] = False,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="How long --wait waits at most.")] = "30s",
) -> None:
    """Say which policies are in force, whether OPA answers, which proxies are connected.

    With a token (audience checkrein, action status.read) everything; without one only whether the service decides.
    --wait ends at once if the newest policy files are wrong: they then stay out of force until they are mended.
    """
    try:
        patience = parse_duration(timeout).total_seconds() if wait else 0.0
    except ValueError as error:
        raise Failure(f"--timeout {error}", Status.USAGE) from None
    end = time.monotonic() + patience
    screen = console()
    if not reach.has_token:
        await _plain(reach, screen, end)
        return
    address, answer = await _until(lambda: _ask(reach), lambda given: _settled(given[1]), end)
    show(screen, facts(_pairs(address, answer)))
    if answer.policy_error:
        line(screen, "The newest policy files are not in force:", "bold red")
        line(screen, shown(answer.policy_error, limit=None, gutter="  "))
    for note in answer.notes:
        line(screen, shown(note), "yellow")
    if not _fine(answer) or any(proxy.spool.trouble for proxy in answer.proxies):
        raise typer.Exit(Status.WRONG)


async def _ask(reach: Reach) -> tuple[str, pb.GetStatusResponse]:
    async with connected(reach) as connection:
        answer = await connection.call("GetStatus", pb.GetStatusRequest(), action="status.read")
        return connection.address, answer


async def _serving(reach: Reach) -> tuple[str, bool]:
    async with connected(reach) as connection:
        return connection.address, await connection.serving()


async def _until(ask: Callable[[], Awaitable[T]], settled: Callable[[T], bool], end: float) -> T:
    """The first answer that settles it, or the last there is at the end. A service that is not up is asked again.

    Each time over a new connection: one that has failed waits before it tries again, and before the first start there
    is no certificate to make one with.
    """
    while True:
        late = time.monotonic() >= end
        try:
            answer = await ask()
        except Failure as failure:
            if late or failure.status is not Status.UNREACHABLE:
                raise
        else:
            if late or settled(answer):
                return answer
        await asyncio.sleep(_AGAIN_SECONDS)


async def _plain(reach: Reach, screen: Console, end: float) -> None:
    """What can be said without a token."""
    address, serving = await _until(lambda: _serving(reach), lambda given: given[1], end)
    said = "decides" if serving else "answers, but has no policies in force and denies everything"
    line(screen, f"the decision service at {shown(address)} {said}")
    line(screen, "(with a token in $PDP_TOKEN this says more: revision, proxies, sessions, approvals)")
    if not serving:
        raise typer.Exit(Status.WRONG)


def _fine(answer: pb.GetStatusResponse) -> bool:
    return bool(answer.opa_ready and answer.policy_revision and answer.in_force and not answer.policy_error)


def _settled(answer: pb.GetStatusResponse) -> bool:
    """Whether waiting longer would change nothing: the files as they are now are in force, or known to be wrong."""
    return not answer.policies_changing and (_fine(answer) or bool(answer.policy_error))


def in_words(spool: SpoolState) -> Text | None:
    """What is to be said of a proxy's records that are not here yet; None where they are on their way."""
    age = spool.age.ToTimedelta()
    depth = f"{spool.bytes / _MIB:,.1f} of {spool.limit / _MIB:,.1f} MiB in its spool, the oldest for {span(age)}"
    if spool.trouble:
        what = "can put nothing on record until it is restarted" if spool.failed else "could not write its last record"
        return Text(f"{what}: {shown(spool.trouble)}; {depth}", "bold red")
    if spool.bytes > spool.limit * _NEARLY_FULL:
        return Text(f"its spool is nearly full: {depth}", "yellow")
    if age > _BEHIND:
        return Text(f"its records are behind: {depth}", "yellow")
    return None


def _force(answer: pb.GetStatusResponse) -> Text:
    if answer.policies_changing:
        return Text("but the files have just changed and are being looked at", "yellow")
    if not answer.in_force:
        return Text("not yet acknowledged by every proxy", "yellow")
    return Text("in force everywhere", "green")


def _pairs(address: str, answer: pb.GetStatusResponse) -> Iterator[tuple[str, str | Text]]:
    yield "Service", shown(address)
    if not answer.policy_revision:
        yield "Policies", Text("none: everything is denied", "bold red")
    else:
        since = (
            f" since {clock(answer.activated_at.ToDatetime(datetime.UTC))}" if answer.HasField("activated_at") else ""
        )
        yield "Policies", Text(f"{shown(answer.policy_revision)}{since}, ") + _force(answer)
    if answer.rolled_back:
        yield "", Text(f"{shown(answer.rolled_back)}; until the files change, or: pdp policy resume", "yellow")
    restarts = f", restarted {answer.opa_restarts} times" if answer.opa_restarts else ""
    ready = Text("answers", "green") if answer.opa_ready else Text("does not answer", "bold red")
    yield "OPA", ready + Text(restarts)
    for proxy in answer.proxies:
        current = proxy.policy_revision == answer.policy_revision
        place = "current" if current else f"at {shown(proxy.policy_revision or 'no revision')}"
        yield "Proxy", f"{shown(proxy.name)}, {place}"
        if proxy.HasField("spool") and (said := in_words(proxy.spool)) is not None:
            yield "", said
    if not answer.proxies:
        yield "Proxies", "none is connected"
    yield "Sessions", f"{answer.open_sessions} open"
    yield "Approvals", f"{answer.pending_approvals} pending"
