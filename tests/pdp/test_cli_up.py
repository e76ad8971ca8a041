"""`pdp up`: everything starts, everything ends, and nothing is left behind."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pdp.commands.children import Children, Ended, Interrupted
from tests.pdp.commanding import environment, pdp
from tests.pdp.serving import folder
from tests.pdp.test_cli_check import write
from tests.ports import free_port


@dataclass
class Up:
    """A running `pdp up`, and what it has printed."""

    process: asyncio.subprocess.Process
    file: Path
    log: list[str] = field(default_factory=list)

    async def ready(self) -> str:
        """Everything that it prints when it is ready."""
        assert self.process.stdout is not None
        lines = []
        while not lines or not lines[-1].startswith("what happens:"):
            raw = await self.process.stdout.readline()
            assert raw, "".join(self.log)
            lines.append(raw.decode())
        return "".join(lines)

    async def read_log(self) -> None:
        assert self.process.stderr is not None
        async for raw in self.process.stderr:
            self.log.append(raw.decode())

    def below(self) -> set[int]:
        """Every process below it."""
        found: set[int] = set()
        waiting = [self.process.pid]
        while waiting:
            pid = waiting.pop()
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
                found.update(children)
                waiting += children
        return found

    def named(self, *words: str) -> int:
        """The process below it whose arguments hold these words."""
        (pid,) = [pid for pid in self.below() if set(words) <= set(arguments(pid))]
        return pid


def arguments(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def gone(pids: set[int]) -> None:
    """Until none of them runs any more; they need not be children of this process."""
    async with asyncio.timeout(20):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                await ended(os.pidfd_open(pid))


async def ended(process: int) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(process, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(process)
        os.close(process)


@contextlib.asynccontextmanager
async def up(path: Path, opa: Path, port: int | None = None) -> AsyncIterator[Up]:
    file = write(path, opa)
    file.write_text(file.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port or free_port()}"))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "pdp", "up", "-c", str(file)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    running = Up(process, file)
    log = asyncio.create_task(running.read_log())
    try:
        yield running
    finally:
        # What it began ends a moment after it, and until then writes into the folder that is about to go.
        if process.returncode is None:
            below = running.below()
            process.kill()
            await gone(below)
        await process.wait()
        await log


def test_it_starts_says_where_everything_is_and_ends_without_a_trace(opa_path: Path):
    async def scenario():
        with folder() as path:
            async with up(path, opa_path) as running:
                # Asked before there is even a state folder.
                early = asyncio.create_task(pdp("status", "--wait", "--timeout", "60s", "-c", str(running.file)))
                said = await running.ready()
                waited = await early
                assert waited.status == 0, waited.err
                assert said.startswith("ready\n")
                assert f"unix:{path / 'state' / 'pdp.sock'}" in said
                assert "postgres proxy" in said
                assert "pdp token -c" in said
                below = running.below()
                assert len(below) >= 3
                running.process.send_signal(signal.SIGINT)
                async with asyncio.timeout(30):
                    assert await running.process.wait() == 0
                assert not any(map(alive, below))
            log = "".join(running.log)
            assert "pdp  | " in log
            assert "shop | " in log
            assert log.index("shop | ") < log.index("stopping")
            assert all(line.rstrip("\n").isprintable() for line in running.log)

    asyncio.run(scenario())


def test_a_child_that_dies_ends_everything_and_is_named(opa_path: Path):
    async def scenario():
        with folder() as path:
            async with up(path, opa_path) as running:
                await running.ready()
                below = running.below()
                os.kill(running.named("pep", "serve"), signal.SIGKILL)
                async with asyncio.timeout(30):
                    assert await running.process.wait() == 128 + signal.SIGKILL
                await gone(below)
            assert "shop was ended by SIGKILL, so everything stops\n" in running.log

    asyncio.run(scenario())


def test_when_it_is_killed_its_children_end(opa_path: Path):
    async def scenario():
        with folder() as path:
            async with up(path, opa_path) as running:
                await running.ready()
                below = running.below()
                running.process.kill()
                await running.process.wait()
                await gone(below)

    asyncio.run(scenario())


def test_what_cannot_start_ends_with_the_reason(opa_path: Path):
    async def scenario():
        with folder() as path:
            async with up(path, opa_path) as first:
                await first.ready()
                again = await pdp("up", "-c", str(first.file))
                assert again.status == 1
                assert "another decision service runs with the state folder" in again.err
                assert "pdp ended with status 1, so everything stops" in again.err

    asyncio.run(scenario())


def test_a_stranger_at_a_proxys_address_is_not_taken_for_the_proxy(opa_path: Path):
    async def scenario():
        with folder() as path, socket.create_server(("127.0.0.1", 0)) as stranger:
            port = stranger.getsockname()[1]
            async with up(path, opa_path, port) as running:
                assert running.process.stdout is not None
                async with asyncio.timeout(60):
                    assert await running.process.stdout.read() == b""
                    assert await running.process.wait() != 0
            log = "".join(running.log)
            assert f"shop | cannot listen on 127.0.0.1:{port}: " in log
            assert "shop ended with status" in log

    asyncio.run(scenario())


def test_a_service_that_can_write_nothing_says_so_and_ends(opa_path: Path):
    async def scenario():
        with folder() as path:
            command = (sys.executable, "-m", "pdp", "serve", "-c", str(write(path, opa_path)))
            process = await asyncio.create_subprocess_exec(
                *("/bin/sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *command),
                stderr=asyncio.subprocess.PIPE,
                env=environment(),
            )
            _, said = await process.communicate()
            assert process.returncode == 1
            # What measures coverage has something to say of it too, behind.
            assert said.startswith(b"pdp: the service cannot start: [Errno 27] File too large\n")

    asyncio.run(scenario())


# ---- children, without a service ----

WAITING = "import signal, sys; print('here', flush=True); signal.pause()"
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('here', flush=True)
while True:
    signal.pause()
"""


class Lines:
    """What children print."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []
        self.came = asyncio.Event()

    def __call__(self, name: str, text: str) -> None:
        self.all.append((name, text))
        self.came.set()

    async def wait(self) -> None:
        await self.came.wait()


def test_a_child_that_does_not_end_is_killed():
    async def scenario():
        lines = Lines()
        async with Children(lines, grace=0.1) as children:
            pid = await children.start("stubborn", "-c", STUBBORN)
            await children.until(lines.wait())
        assert not alive(pid)
        assert ("stubborn", "does not end, so it is killed") in lines.all

    asyncio.run(scenario())


def test_a_second_signal_kills_at_once():
    async def scenario():
        lines = Lines()
        async with asyncio.timeout(30):
            async with Children(lines, grace=600) as children:
                await children.start("stubborn", "-c", STUBBORN)
                await children.until(lines.wait())
                os.kill(os.getpid(), signal.SIGINT)
                with pytest.raises(Interrupted):
                    await children.until()
                os.kill(os.getpid(), signal.SIGINT)
        assert ("stubborn", "does not end, so it is killed") in lines.all

    asyncio.run(scenario())


@pytest.mark.parametrize(("code", "status"), [("raise SystemExit(7)", 7), ("pass", 1)])
def test_the_status_of_the_child_that_ended_is_handed_on(code: str, status: int):
    async def scenario():
        async with Children(Lines(), grace=5) as children:
            await children.start("waiting", "-c", WAITING)
            await children.start("short", "-c", code)
            with pytest.raises(Ended) as ended:
                await children.until()
        assert (ended.value.name, ended.value.status) == ("short", status)

    asyncio.run(scenario())


def test_what_a_child_prints_has_no_power_over_the_terminal():
    async def scenario():
        lines = Lines()
        code = r"import sys; sys.stdout.write('a\x1b[2Kb\rc\n' + 'x' * 200_000 + '\nno end')"
        async with Children(lines, grace=5) as children:
            await children.start("foul", "-c", code)
            with pytest.raises(Ended):
                await children.until()
        assert lines.all[0] == ("foul", "a␛[2Kb␍c")
        assert lines.all[-1] == ("foul", "no end")
        assert sum(text.count("x") for _, text in lines.all) == 200_000
        assert all(text.isprintable() for _, text in lines.all)

    asyncio.run(scenario())
