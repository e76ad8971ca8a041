"""OPA as a supervised child process that serves one bundle on a unix socket.

One `OpaChild` is one bundle for its whole life: another bundle is another child, so that nothing is ever activated by
halves. The child has nothing of the environment and answers only who holds a token that was made for it; it dies with
this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import sys
import tempfile
from collections import deque
from pathlib import Path
from typing import Any, Final

import structlog

from pdp.opa import launcher
from pdp.opa.client import OpaUnavailable, UnixOpaClient
from pdp.opa.program import OpaFailed

_SOCKET_PATH_LIMIT: Final = 107  # unix(7): sun_path has 108 bytes and ends with a zero
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 5.0
# A machine that starts everything at once may need as long; nothing else is to be had from waiting less.
_FIRST_START: Final = 45.0
_START_AGAIN: Final = 15.0
_STABLE_AFTER: Final = 10.0
_PROBE_EVERY: Final = 5.0
_PROBES_MISSED: Final = 2
_TERM_GRACE: Final = 2.0

log = structlog.get_logger("pdp.opa")

# OPA asks this policy about every request to itself. The token's digest stands in it, not the token.
_AUTHZ: Final = """package system.authz

default allow := false

allow if {
	crypto.sha256(input.identity) == "%s"
	_permitted
}

_permitted if {
	input.method == "POST"
	input.path in [
		["v1", "data", "checkrein", "answer"],
		["v1", "data", "checkrein", "built"],
		["v1", "data", "system", "log", "mask"],
	]
}

_permitted if {
	input.method == "GET"
	input.path == ["health"]
}
"""


class OpaChild:
    """One OPA over one bundle, started again with a growing pause whenever it ends."""

    def __init__(self, *, program: Path, folder: Path, bundle: Path, timeout: float) -> None:
        self._program = program
        self._folder = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
        self._socket = self._folder / "s"
        length = len(os.fsencode(self._socket.absolute()))
        if length > _SOCKET_PATH_LIMIT:
            shutil.rmtree(self._folder)
            raise OpaFailed(
                f"the socket's path {self._socket} has {length} bytes and a unix socket can have"
                f" {_SOCKET_PATH_LIMIT}: choose a shorter state folder"
            )
        # The child goes on with the bundle it began with, whatever becomes the last good one meanwhile.
        self._bundle = self._folder / "bundle.tar.gz"
        shutil.copyfile(bundle, self._bundle)
        token = secrets.token_urlsafe(32)
        authz = self._folder / "authz"
        authz.mkdir()
        (authz / ".manifest").write_text(json.dumps({"roots": ["system/authz"], "rego_version": 1}), "utf-8")
        (authz / "authz.rego").write_text(_AUTHZ % hashlib.sha256(token.encode()).hexdigest(), "utf-8")
        self.client = UnixOpaClient(self._socket, token=token, timeout=timeout)
        self._said: deque[str] = deque(maxlen=5)
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._supervision: asyncio.Task[None] | None = None
        self.up = False
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """The process; None between two of them."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self._socket

    async def start(self, tasks: asyncio.TaskGroup, *, timeout: float = _FIRST_START) -> None:
        """Returns when it answers, and keeps it answering from then on. Raises OpaFailed, and is stopped then."""
        await self.client.__aenter__()
        try:
            async with asyncio.timeout(timeout):
                while not await self._spawned(tasks):  # noqa: ASYNC110 - there is no event to wait for
                    await asyncio.sleep(_FIRST_PAUSE)
        except TimeoutError as error:
            await self.stop()
            raise OpaFailed(f"OPA did not answer within {timeout:g} s{self._last_words()}") from error
        except BaseException:
            await self.stop()
            raise
        self.up = True
        self._supervision = tasks.create_task(self._supervise(tasks), name="opa supervision")

    async def value(self, rule: str, *, timeout: float = _FIRST_START) -> Any:
        """Of a rule, for which no client waits: it is asked again while this is killed, stopped or slow."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while True:
            try:
                return await self.client.ask(rule)
            except OpaUnavailable:
                if loop.time() > end:
                    raise
            await asyncio.sleep(_FIRST_PAUSE)

    async def stop(self) -> None:
        """Ends the supervision and the process: first asked, then made to."""
        self.up = False
        if self._supervision is not None:
            self._supervision.cancel()
            await asyncio.wait([self._supervision])
        await self.client.close_connection()
        if (process := self._process) is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(_TERM_GRACE):
                    await process.wait()
            except TimeoutError:
                await _kill(process)
        if self._listening is not None:
            await asyncio.wait([self._listening])  # ends with the process
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _spawned(self, tasks: asyncio.TaskGroup) -> bool:
        """Whether it answers; not where somebody has killed it, which says nothing about the next one."""
        try:
            await self._spawn(tasks)
        except OpaFailed as error:
            if self._process is None or (self._process.returncode or 0) >= 0:
                raise
            log.warning("OPA ended while it started", error=str(error))
            return False
        return True

    async def _spawn(self, tasks: asyncio.TaskGroup) -> None:
        """Starts a process and returns when it answers. Raises OpaFailed when it ends instead."""
        self._socket.unlink(missing_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", launcher.__file__, str(os.getpid())),
            str(self._program),
            *("run", "--server", "--addr", f"unix://{self._socket.absolute()}", "--unix-socket-perm", "600"),
            *("--authentication=token", "--authorization=basic", "--skip-version-check"),
            # Access logs would show what is asked; the decision log is this service's own.
            *("--log-level", "error", "--log-format", "json", "--shutdown-grace-period", "1"),
            *("--bundle", str(self._bundle.absolute()), "--bundle", str((self._folder / "authz").absolute())),
            env={},
            cwd=self._folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            # Ctrl-C at a terminal is for the parent, which first finishes what it has begun.
            start_new_session=True,
        )

        process = self._process
        assert process.stderr is not None
        self._listening = listening = tasks.create_task(self._listen(process.stderr), name="opa messages")
        while not await self._answers():
            if process.returncode is not None:
                await listening
                raise OpaFailed(f"OPA ended with status {process.returncode}{self._last_words()}")
            await asyncio.sleep(0.01)

    async def _answers(self) -> bool:
        return self._socket.exists() and bool(await self.client.check_health())

    async def _supervise(self, tasks: asyncio.TaskGroup) -> None:
        pause = _FIRST_PAUSE
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            await self._until_dead()
            self.up = False
            if clock() - began > _STABLE_AFTER:
                pause = _FIRST_PAUSE
            status = self._process.returncode if self._process is not None else None
            log.error("OPA ended and is started again", status=status, pause=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            self.restarts += 1
            try:
                async with asyncio.timeout(_START_AGAIN):
                    await self._spawn(tasks)
                self.up = True
            except (OpaFailed, OSError, TimeoutError) as error:
                log.error("OPA does not start", error=str(error))  # noqa: TRY400 - the trace says nothing more
                if self._process is not None and self._process.returncode is None:
                    await _kill(self._process)

    async def _until_dead(self) -> None:
        """Returns when the process has ended, having killed it if it stopped answering."""
        process = self._process
        assert process is not None
        missed = 0
        while missed < _PROBES_MISSED:
            try:
                async with asyncio.timeout(_PROBE_EVERY):
                    await process.wait()
            except TimeoutError:
                missed = 0 if await self.client.check_health() else missed + 1
                self.up = missed == 0
            else:
                return
        log.error("OPA does not answer and is killed", pid=process.pid)
        await _kill(process)

    async def _listen(self, stream: asyncio.StreamReader) -> None:
        """Passes OPA's errors on. Only the message and the error: the other fields may hold what was asked."""
        async for line in stream:
            level, text = _message(line)
            if level == "error":
                self._said.append(text)
                log.warning("OPA says", message=text)
            else:
                log.debug("OPA says", message=text)

    def _last_words(self) -> str:
        return f": {' / '.join(self._said)}" if self._said else ""


async def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def _message(line: bytes) -> tuple[str, str]:
    """Level and words of one line of OPA's log; what is not of its form is an error, like a Go trace."""
    try:
        entry: Any = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        return "error", line.decode(errors="replace").strip()[:500]
    words = " ".join(str(entry[key]) for key in ("msg", "err", "error") if key in entry)
    return str(entry.get("level", "error")), words[:500]
