"""Autobahn's cases against an echo server of the `websockets` library: straight, and through the HTTP proxy.

Both ways begin at a port that adds the credential, because the runner has no way to send one.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from kosoku import FailureError, run_fuzzingclient
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.credentialed import credentialed
from tests.http_relay import PASSWORD, http_relay

AT_ONCE = 4


@dataclass(frozen=True)
class Verdict:
    """What the runner says of a case: of the messages, of the closing, and the code that the server closed with."""

    behaviour: str
    closing: str
    code: int | None

    @property
    def passed(self) -> bool:
        return {self.behaviour, self.closing} <= {"OK", "NON-STRICT", "INFORMATIONAL"}


@dataclass(frozen=True)
class Ways:
    """The ports from which a client comes to the server."""

    direct: int
    through: int


@contextlib.contextmanager
def ways(credential: Mapping[str, object]) -> Iterator[Ways]:
    """The echo server, and the proxy before it with this credential for it."""
    line = f"Authorization: Bearer {PASSWORD}"
    with (
        _echo() as port,
        http_relay(f"http://127.0.0.1:{port}", credentials={"default": credential}) as relay,
        credentialed(port, line) as direct,
        credentialed(relay.port, line) as through,
    ):
        yield Ways(direct, through)


def verdicts(port: int, cases: list[str], without: list[str], seconds: float | None = None) -> dict[str, Verdict]:
    """By the cases' numbers. Raises TimeoutError where they take longer than that."""

    async def run() -> list[object]:
        try:
            async with asyncio.timeout(seconds):
                return await run_fuzzingclient(f"ws://127.0.0.1:{port}", cases, without, AT_ONCE)
        except FailureError as failed:
            return failed.results

    return {
        result.case_id: Verdict(result.behavior.value, result.behavior_close.value, result.remote_close_code)
        for result in asyncio.run(run())
    }


def each_verdict(port: int, cases: list[str], tell: Callable[[str], None], seconds: float) -> dict[str, Verdict]:
    """The same of cases that are named one by one; `tell` hears of a few what came of them, and when.

    One after the other: each has 20 seconds by the suite, which the longest need for themselves. Raises TimeoutError
    where one takes longer than `seconds`.
    """
    found: dict[str, Verdict] = {}
    for begin in range(0, len(cases), AT_ONCE):
        some, started = cases[begin : begin + AT_ONCE], time.monotonic()
        for case in some:
            found |= verdicts(port, [case], [], seconds)
        took = time.monotonic() - started
        tell("".join(f"{case} {found[case].behaviour}  " for case in some) + f"{took:.1f} s")
    return found


@contextlib.contextmanager
def _echo() -> Iterator[int]:
    ready = threading.Event()
    found: dict[str, object] = {}
    silent = logging.getLogger("tests.conformance.echo")
    silent.disabled = True  # most cases break the protocol, and the library says so

    async def echo(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                await connection.send(message)

    async def main() -> None:
        stop = asyncio.Event()
        found["loop"], found["stop"] = asyncio.get_running_loop(), stop
        async with serve(echo, "127.0.0.1", 0, max_size=None, logger=silent) as server:
            found["port"] = next(iter(server.sockets)).getsockname()[1]
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert ready.wait(10)
    try:
        yield found["port"]  # type: ignore[misc]
    finally:
        found["loop"].call_soon_threadsafe(found["stop"].set)  # type: ignore[attr-defined]
        thread.join(10)
