"""The spool on real faults: files that go, folders that close, disks that fill, writes that tear, starts at once.

Whatever happens, an append that returned is on record, one that raised has left nothing behind that counts, and what
is on record comes out once.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from pep.core.recorder import Recorder, SpoolError
from pep.core.records import Body, Event, EventType
from pep.core.segments import decode
from pep.core.spool import Spool
from pep.core.spool_folder import Place
from tests.pep.core.test_spool import CLOSED, INTENT, OPENED, check_chain, record_many, shipments


def types(spool: Spool, session: str) -> list[str]:
    return [each["type"] for each in check_chain(shipments(spool), session)]


def deleted(folder: Path, _: Path) -> None:
    shutil.rmtree(folder)


def moved(folder: Path, aside: Path) -> None:
    folder.rename(aside / "elsewhere")


def segment_deleted(folder: Path, _: Path) -> None:
    for path in folder.glob("*.segment"):
        path.unlink()


def replaced(folder: Path, _: Path) -> None:
    """As a restored backup does it: a file of that name, and another one."""
    for path in folder.glob("*.segment"):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)


@pytest.mark.parametrize("harm", [deleted, moved, segment_deleted, replaced])
def test_what_would_be_written_to_a_file_that_nobody_finds_again_is_not_on_record(
    tmp_path: Path, harm: Callable[[Path, Path], None]
):
    """The open file takes it without an error, and no successor would ever see it."""
    spool = Spool.open(tmp_path / "spool")
    recorder = Recorder(spool, "s-1", "user:ada")
    recorder.record(OPENED)
    (folder,) = (tmp_path / "spool").iterdir()
    harm(folder, tmp_path)
    for _ in range(2):
        with pytest.raises(SpoolError, match="has been removed"):
            recorder.record(INTENT)
    assert recorder.last_seq == 0
    assert spool.failed == "a file of the spool has been removed"
    spool.close()


def test_a_segment_that_goes_before_it_is_shipped_is_found_when_it_is_read_and_nothing_more_is_taken(tmp_path: Path):
    spool = Spool.open(tmp_path, segment_bytes=1000)
    recorder = Recorder(spool, "s-1", "user:ada")
    record_many(recorder, INTENT)
    first = spool.segments[0]
    assert first.complete
    first.path.unlink()
    with pytest.raises(SpoolError, match="has been removed"):
        spool.read(first, 0)
    with pytest.raises(SpoolError, match="has been removed"):
        recorder.record(INTENT)
    spool.close()
    # The successor has the rest, and what it says of it shows the gap: no chain that begins anew.
    successor = Spool.open(tmp_path)
    found = [orjson.loads(each.data) for each in shipments(successor) if each.body is None]
    assert found[0]["seq"] > 0
    assert [each["seq"] for each in found] == list(range(found[0]["seq"], 21))
    assert found[-1]["type"] == "session.lost"
    successor.close()


def test_segments_that_were_shipped_may_be_gone_when_they_are_to_be_removed(tmp_path: Path):
    spool = Spool.open(tmp_path / "spool")
    Recorder(spool, "s-1", "user:ada").record(OPENED, CLOSED)
    spool.segments[-1].pending.clear()
    shutil.rmtree(tmp_path / "spool")
    spool.close()


def instead(spool: Spool, device: str) -> None:
    """Another file is open in the segment's place, under its name."""
    path = spool.segments[-1].path
    path.unlink()
    path.symlink_to(device)
    descriptor = os.open(device, os.O_WRONLY)
    os.dup2(descriptor, spool._file)
    os.close(descriptor)
    spool._place = Place(spool._file, path)


@pytest.mark.parametrize(
    ("device", "said"),
    [
        # Takes everything and cannot be synced.
        ("/dev/null", "the spool could not be synced: Invalid argument"),
        # Takes nothing, and what a write left there could not be undone.
        ("/dev/full", "the spool is damaged: No space left on device"),
    ],
)
def test_what_cannot_be_known_to_be_on_the_disk_ends_it(tmp_path: Path, device: str, said: str):
    spool = Spool.open(tmp_path, fsync_seconds=0)
    recorder = Recorder(spool, "s-1", "user:ada")
    recorder.record(OPENED)
    instead(spool, device)
    for _ in range(2):
        with pytest.raises(SpoolError):
            recorder.record(INTENT)
    assert (spool.failed, recorder.last_seq) == (said, 0)
    spool.close()


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Which file was synced, and how long it was then; they are synced all the same."""
    seen: list[tuple[int, int]] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        of = os.fstat(descriptor)
        seen.append((of.st_ino, of.st_size))

    monkeypatch.setattr(os, "fsync", noted)
    return seen


def length(spool: Spool) -> tuple[int, int]:
    of = spool.segments[-1].path.stat()
    return of.st_ino, of.st_size


def test_always_means_that_a_record_is_synced_before_it_is_said_to_be_one(tmp_path: Path, syncs: list[tuple[int, int]]):
    spool = Spool.open(tmp_path, fsync_seconds=0, segment_bytes=1000)
    recorder = Recorder(spool, "s-1", "user:ada")
    for number in range(12):
        recorder.record(INTENT)
        assert syncs[-1] == length(spool), number
    assert len(spool.segments) > 2
    spool.close()


def test_in_groups_a_record_is_synced_later_and_a_segment_that_is_full_with_its_end(
    tmp_path: Path, syncs: list[tuple[int, int]]
):
    async def scenario() -> None:
        spool = Spool.open(tmp_path, fsync_seconds=0.01, segment_bytes=5000)
        recorder = Recorder(spool, "s-1", "user:ada")
        syncs.clear()
        for _ in range(3):
            recorder.record(INTENT)
        # Nobody has waited for the disk.
        assert syncs == []
        running = asyncio.create_task(spool.run())
        async with asyncio.timeout(60):
            while length(spool) not in syncs:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        full = spool.segments[-1]
        while spool.segments[-1] is full:
            last = length(spool)
            recorder.record(INTENT)
        assert last in syncs
        spool.close()

    asyncio.run(scenario())


def test_a_write_that_a_death_tore_is_cut_off_wherever_it_tore_and_the_chain_ends_once(tmp_path: Path):
    spool = Spool.open(tmp_path)
    recorder = Recorder(spool, "s-1", "user:ada")
    recorder.record(OPENED)
    before = spool.segments[-1].size
    recorder.record(Event(EventType.DECISION, "d-1"), INTENT)
    spool.close()
    (path,) = tmp_path.glob("*/*.segment")
    whole = path.read_bytes()
    ends = [end for end, _ in decode(whole)]
    cuts = sorted({*range(before, len(whole), 37), *ends, *(end - 1 for end in ends if end > before)})
    for cut in cuts:
        directory = tmp_path / f"cut-{cut}"
        shutil.copytree(path.parent, directory / "orphan")
        (directory / "orphan" / path.name).write_bytes(whole[:cut])
        # An event is on record with its body, or not at all: the service would take nothing behind it alone.
        kept = ["session.opened", "decision", "intent"][: sum(end <= cut for end in (*ends[:2], ends[3]))]
        for _ in range(2):
            successor = Spool.open(directory)
            assert types(successor, "s-1") == [*kept, "session.lost"]
            successor.close()


def test_what_two_deaths_tore_off_one_segment_is_kept_aside_both_times(tmp_path: Path):
    spool = Spool.open(tmp_path)
    Recorder(spool, "s-1", "user:ada").record(OPENED)
    spool.close()
    (path,) = tmp_path.glob("*/*.segment")
    for tail in (b"the first", b"the second"):
        with path.open("ab") as file:
            file.write(tail)
        successor = Spool.open(tmp_path)
        assert types(successor, "s-1") == ["session.opened", "session.lost"]
        successor.close()
    assert sorted(each.read_bytes() for each in (tmp_path / "damaged").iterdir()) == [b"the first", b"the second"]


FULL = """
import asyncio, resource, sys
from pathlib import Path
from pep.core.recorder import Recorder, SpoolError
from pep.core.records import Body, Event, EventType
from pep.core.spool import Spool
from pep.core.spool_folder import Place

async def main():
    spool = Spool.open(Path(sys.argv[1]), fsync_seconds=float(sys.argv[2]))
    recorder = Recorder(spool, "s-1", "user:ada")
    event = Event(EventType.INTENT, bodies=(Body("statement", b"x" * 700),))
    recorder.record(event)
    running = asyncio.create_task(spool.run())
    resource.setrlimit(resource.RLIMIT_FSIZE, (spool.segments[-1].size + 20, resource.RLIM_INFINITY))
    try:
        recorder.record(event)
    except SpoolError as error:
        print(error, "/", spool.trouble)
    tried = asyncio.get_running_loop().time() + 3 * (spool._fsync_seconds or 1)
    while asyncio.get_running_loop().time() < tried:
        await asyncio.sleep(0.01)
    print(spool.trouble, recorder.last_seq)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    async with asyncio.timeout(60):
        while spool.trouble:
            await asyncio.sleep(0.01)
    print("well again", recorder.last_seq)
    recorder.record(event)
    running.cancel()
    spool.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("fsync", ["0", "0.1"])
def test_a_full_disk_is_said_until_there_is_room_though_no_client_asks(tmp_path: Path, fsync: str):
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path, fsync], stdout=subprocess.PIPE, text=True, check=True)
    first, meanwhile, after = done.stdout.splitlines()
    assert first == "the spool could not be written: the disk is full / the disk is full"
    # What is tried may not fit in part or not at all, which the system says in other words.
    assert meanwhile in ("the disk is full 0", "File too large 0")
    assert after == "well again 0"
    # What was tried meanwhile changes nothing of the chain.
    successor = Spool.open(tmp_path)
    assert types(successor, "s-1") == ["intent", "intent", "session.lost"]
    successor.close()


NO_DESCRIPTOR = """
import asyncio, os, resource, sys
from pathlib import Path
from pep.core.recorder import Recorder
from pep.core.records import Event, EventType
from pep.core.spool import Spool

async def main():
    spool = Spool.open(Path(sys.argv[1]), fsync_seconds=0.001)
    recorder = Recorder(spool, "s-1", "user:ada")
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        print(error.strerror)
    recorder.record(Event(EventType.INTENT))
    running = asyncio.create_task(spool.run())
    async with asyncio.timeout(60):
        while spool._unsynced and not spool.failed:
            await asyncio.sleep(0.001)
    for each in taken:
        os.close(each)
    print("failed:", spool.failed)
    recorder.record(Event(EventType.INTENT))
    running.cancel()
    spool.close()

asyncio.run(main())
"""


def test_that_no_descriptor_is_free_does_not_end_all_recording(tmp_path: Path):
    program = [sys.executable, "-c", NO_DESCRIPTOR, tmp_path]
    done = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.splitlines() == ["Too many open files", "failed: "]
    successor = Spool.open(tmp_path)
    assert types(successor, "s-1") == ["intent", "intent", "session.lost"]
    successor.close()


CLOSED_FOLDER = """
import os, sys
from pathlib import Path
from pep.core.recorder import Recorder, SpoolError
from pep.core.records import Body, Event, EventType
from pep.core.spool import Spool
from pep.core.spool_folder import Place
if not os.geteuid():
    # Nothing is read-only for root.
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
spool = Spool.open(Path(sys.argv[1]), segment_bytes=2000)
recorder = Recorder(spool, "s-1", "user:ada")
event = Event(EventType.INTENT, bodies=(Body("statement", b"x" * 700),))
folder = spool.segments[-1].path.parent
recorder.record(event)
folder.chmod(0o500)
while spool.segments[-1].size < 2000:
    recorder.record(event)
for _ in range(2):
    try:
        recorder.record(event)
    except SpoolError as error:
        print(error, "/", spool.trouble, "/", recorder.last_seq)
spool._try()
print(spool.trouble)
folder.chmod(0o700)
spool._try()
print(spool.trouble or "well again")
recorder.record(event)
print(recorder.last_seq, len(spool.segments))
spool.close()
"""


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that a process without rights can reach and have."""
    folder = Path(tempfile.mkdtemp(prefix="cr-spool-", dir="/tmp"))
    if not os.geteuid():
        os.chown(folder, 65534, 65534)
    yield folder
    shutil.rmtree(folder)


def test_a_folder_that_becomes_read_only_denies_where_a_segment_is_to_begin_and_goes_on_when_it_opens(
    open_to_all: Path,
):
    program = [sys.executable, "-c", CLOSED_FOLDER, open_to_all]
    done = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True)
    denied = "the spool could not begin a new segment: Permission denied / Permission denied / 1"
    assert done.stdout.splitlines() == [denied, denied, "Permission denied", "well again", "2 2"]


STARTING = """
import json, sys
from pathlib import Path
from pep.core.spool import Spool
from pep.core.spool_folder import Place
print("imported", flush=True)
sys.stdin.readline()
spool = Spool.open(Path(sys.argv[1]))
print("taken", json.dumps(sorted({name for segment in spool.segments for name in segment.sessions})), flush=True)
sys.stdin.readline()
spool.close()
"""


def test_of_several_processes_that_start_at_once_each_folder_is_taken_over_by_one(tmp_path: Path):
    expected = {f"s-{number}" for number in range(20)}
    for session in expected:
        dead = Spool.open(tmp_path / session)
        Recorder(dead, session, "user:ada").record(OPENED)
        dead.close()
    directory = tmp_path / "spool"
    directory.mkdir()
    for session in expected:
        (folder,) = (tmp_path / session).iterdir()
        folder.rename(directory / folder.name)
        # Of a process that died with nothing to ship: whoever finds it first removes it.
        (directory / f"empty-{session}").mkdir()
        (directory / f"empty-{session}" / "lock").touch()
    command: list[Any] = [sys.executable, "-c", STARTING, directory]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    children = [subprocess.Popen(command, **pipes) for _ in range(4)]
    assert [each.stdout.readline() for each in children] == ["imported\n"] * 4
    for each in children:
        each.stdin.write("\n")
    # Before it come the lines of the log.
    said = [next((line for line in each.stdout if line.startswith("taken ")), "taken null") for each in children]
    taken = [orjson.loads(line.removeprefix("taken ")) for line in said]
    for each in children:
        each.communicate("\n")
    assert [each.returncode for each in children] == [0] * 4
    assert sorted(session for each in taken for session in each) == sorted(expected)
    assert not list(directory.glob("empty-*"))
    # Each chain was ended once, by whoever took it over.
    last = Spool.open(directory)
    for session in expected:
        assert types(last, session) == ["session.opened", "session.lost"]
    last.close()


def test_a_body_larger_than_a_segment_survives_a_successor(tmp_path: Path):
    spool = Spool.open(tmp_path, segment_bytes=1000)
    recorder = Recorder(spool, "s-1", "user:ada")
    recorder.record(OPENED)
    recorder.record(Event(EventType.RESPONSE, bodies=(Body("result", bytes(300_000)),)))
    spool.close()
    successor = Spool.open(tmp_path, segment_bytes=1000)
    assert types(successor, "s-1") == ["session.opened", "response", "session.lost"]
    successor.close()


def test_what_was_shipped_is_not_kept_because_nothing_else_comes(tmp_path: Path):
    def lies_here() -> bool:
        return any(b"select 1" in path.read_bytes() for path in tmp_path.glob("*/*.segment"))

    async def scenario() -> None:
        spool = Spool.open(tmp_path, fsync_seconds=0.01, idle_seconds=0.0)
        recorder = Recorder(spool, "s-1", "user:ada")
        recorder.record(OPENED, INTENT)
        running = asyncio.create_task(spool.run())
        # Nothing of it is stored elsewhere yet.
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert types(spool, "s-1") == ["session.opened", "intent"]
        spool.segments[-1].pending.clear()
        async with asyncio.timeout(60):
            while lies_here():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        recorder.record(CLOSED)
        # The chain goes on where it was.
        assert [each.seq for each in shipments(spool)] == [2]
        spool.close()

    asyncio.run(scenario())
