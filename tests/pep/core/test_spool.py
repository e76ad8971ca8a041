import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdp.v1.digests import GENESIS, body_digest, chain_hash
from pep.core.recorder import Recorder, SpoolError, process_chain
from pep.core.records import Body, Event, EventType
from pep.core.segments import BodyEntry, EventEntry, OpenEntry, decode, encode
from pep.core.shipments import Shipment
from pep.core.spool import Spool

OPENED = Event(EventType.SESSION_OPENED)
INTENT = Event(EventType.INTENT, "d-1", "r-1", {"execution_id": "e-1"}, (Body("statement", b"select 1"),))
CLOSED = Event(EventType.SESSION_CLOSED, facts={"reason": "done"})


def shipments(spool: Spool) -> list[Shipment]:
    found = []
    for segment in spool.segments:
        offset = 0
        while offset < segment.size:
            read = spool.read(segment, offset, limit=100)
            offset = read[-1][0]
            found += [shipment for _, shipment in read]
    return [shipment for shipment in found if shipment.seq >= 0]


def record_many(recorder: Recorder, event: Event) -> None:
    for _ in range(20):
        recorder.record(event)


def check_chain(found: list[Shipment], session: str) -> list[dict]:
    """The session's events, after its numbers, its hashes and its bodies have been checked."""
    digest, documents, bodies = GENESIS, [], {}
    for shipment in found:
        if shipment.session != session:
            continue
        if shipment.body is not None:
            bodies[shipment.seq, shipment.body] = body_digest(shipment.salt, shipment.data)
            continue
        document = orjson.loads(shipment.data)
        assert shipment.seq == document["seq"] == len(documents)
        digest = chain_hash(digest, session, shipment.seq, shipment.data)
        documents.append(document)
    named = {
        (document["seq"], index): bytes.fromhex(body["sha256"])
        for document in documents
        for index, body in enumerate(document.get("bodies", []))
    }
    assert bodies == named
    return documents


entries = st.one_of(
    st.builds(
        EventEntry, st.text(max_size=20), st.integers(0, 2**63), st.binary(min_size=32, max_size=32), st.binary()
    ),
    st.builds(
        BodyEntry,
        st.text(max_size=20),
        st.integers(0, 2**63),
        st.integers(0, 2**31),
        st.binary(min_size=32, max_size=32),
        st.binary(),
    ),
    st.builds(OpenEntry, st.text(max_size=20), st.integers(0, 2**63), st.binary(min_size=32, max_size=32)),
)


@given(st.lists(entries, max_size=4), st.data())
def test_a_torn_file_is_read_up_to_its_last_whole_entry(written, data):
    encoded = [encode(entry) for entry in written]
    whole = b"".join(encoded)
    cut = data.draw(st.integers(0, len(whole)))
    ends = [sum(map(len, encoded[: index + 1])) for index in range(len(encoded))]
    expected = [(end, entry) for end, entry in zip(ends, written, strict=True) if end <= cut]
    assert list(decode(whole[:cut])) == expected


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_read_without_an_error(data):
    assert all(end <= len(data) for end, _ in decode(data))


@given(entries, st.integers(0), st.integers(1, 255))
def test_a_flipped_byte_is_not_taken_for_an_entry(entry, position, flip):
    data = bytearray(encode(entry))
    data[position % len(data)] ^= flip
    assert [found for _, found in decode(bytes(data))] in ([], [entry])
    assert list(decode(bytes(data))) == []


def test_records_are_read_back_in_order_with_their_bodies(tmp_path: Path):
    spool = Spool.open(tmp_path)
    first, second = Recorder(spool, "s-1", "user:ada"), Recorder(spool, "s-2", "user:bob")
    first.record(OPENED)
    second.record(OPENED)
    first.record(Event(EventType.DECISION, "d-1"), INTENT)
    first.record(CLOSED)
    found = shipments(spool)
    assert [event["type"] for event in check_chain(found, "s-1")] == [
        "session.opened",
        "decision",
        "intent",
        "session.closed",
    ]
    assert len(check_chain(found, "s-2")) == 1
    assert first.last_seq == 3
    spool.close()


def test_an_adopted_folder_ends_the_sessions_that_never_ended(tmp_path: Path):
    dead = Spool.open(tmp_path)
    chain = process_chain("shop")
    Recorder(dead, chain, "").record(Event(EventType.PROCESS, facts={"what": "started"}))
    Recorder(dead, "s-1", "user:ada").record(OPENED, INTENT)
    done = Recorder(dead, "s-2", "user:ada")
    done.record(OPENED)
    done.record(CLOSED)
    dead.close()
    (segment,) = tmp_path.glob("*/*.segment")
    with segment.open("ab") as file:
        file.write(b"torn tail")

    spool = Spool.open(tmp_path)
    found = shipments(spool)
    assert [event["type"] for event in check_chain(found, "s-1")] == ["session.opened", "intent", "session.lost"]
    assert [event["type"] for event in check_chain(found, "s-2")] == ["session.opened", "session.closed"]
    assert check_chain(found, chain)[-1]["facts"]["what"] == "lost"
    spool.close()

    again = Spool.open(tmp_path)
    assert len(check_chain(shipments(again), "s-1")) == 3
    again.close()


def test_the_folder_of_a_living_process_is_left_alone(tmp_path: Path):
    living = Spool.open(tmp_path)
    recorder = Recorder(living, "s-1", "user:ada")
    recorder.record(OPENED)
    other = Spool.open(tmp_path)
    assert shipments(other) == []
    recorder.record(INTENT)
    assert len(check_chain(shipments(living), "s-1")) == 2
    other.close()
    living.close()


def test_an_empty_folder_leaves_nothing_behind(tmp_path: Path):
    Spool.open(tmp_path).close()
    assert list(tmp_path.iterdir()) == []


def test_a_session_is_known_after_its_older_segments_are_gone(tmp_path: Path):
    spool = Spool.open(tmp_path, segment_bytes=2000)
    idle, busy = Recorder(spool, "s-idle", "user:ada"), Recorder(spool, "s-busy", "user:ada")
    idle.record(OPENED)
    for _ in range(40):
        busy.record(INTENT)
    assert len(spool.segments) > 2
    for segment in spool.segments[:-1]:
        spool.remove(segment)
    spool.close()

    successor = Spool.open(tmp_path)
    lost = [orjson.loads(each.data) for each in shipments(successor) if each.session == "s-idle"]
    assert [(event["type"], event["seq"]) for event in lost] == [("session.lost", 1)]
    sealed = [
        orjson.loads(each.data) for each in shipments(successor) if each.session == "s-busy" and each.body is None
    ]
    assert sealed[-1]["type"] == "session.lost"
    assert sealed[-1]["seq"] == 40
    successor.close()


def test_a_chain_without_an_end_is_ended_by_the_successor_though_everything_was_shipped(tmp_path: Path):
    spool = Spool.open(tmp_path)
    recorder = Recorder(spool, "s-1", "user:ada")
    recorder.record(OPENED)
    # Everything is acknowledged, and then the end could not be put on record.
    spool.segments[-1].pending.clear()
    spool.close()

    successor = Spool.open(tmp_path)
    assert [each["type"] for each in check_chain(shipments(successor), "s-1")] == ["session.opened", "session.lost"]
    successor.close()


def test_a_full_disk_where_a_segment_is_to_begin_denies_and_nothing_is_forgotten(tmp_path: Path):
    done = subprocess.run([sys.executable, "-c", NO_SEGMENT, tmp_path], stdout=subprocess.PIPE, text=True, check=True)
    first, second, third = done.stdout.splitlines()
    assert first == second == "the spool could not begin a new segment: No space left on device 3 1"
    assert third == "went on 4 2"
    successor = Spool.open(tmp_path)
    assert [each["type"] for each in check_chain(shipments(successor), "s-idle")] == ["intent", "session.lost"]
    assert len(check_chain(shipments(successor), "s-busy")) == 6
    # The new segment alone knows both.
    known = [entry for _, entry in decode(successor.segments[1].path.read_bytes()) if isinstance(entry, OpenEntry)]
    assert [entry.session for entry in known] == ["s-idle", "s-busy"]
    successor.close()


def test_a_subject_fills_only_its_own_share(tmp_path: Path):
    spool = Spool.open(tmp_path, max_bytes=100_000, share=0.25)
    greedy, modest = Recorder(spool, "s-1", "user:ada"), Recorder(spool, "s-2", "user:bob")
    big = Event(EventType.DECISION, bodies=(Body("statement", b"x" * 5_000),))
    with pytest.raises(SpoolError, match="share"):
        record_many(greedy, big)
    modest.record(big)
    greedy.record(CLOSED)
    documents = check_chain(shipments(spool), "s-1")
    assert documents[-1]["type"] == "session.closed"
    assert len(documents) < 7
    spool.close()


def test_a_full_spool_denies_but_takes_the_ends_of_sessions(tmp_path: Path):
    spool = Spool.open(tmp_path, max_bytes=20_000, share=1.0, segment_bytes=5_000)
    recorder = Recorder(spool, "s-1", "user:ada")
    big = Event(EventType.DECISION, bodies=(Body("statement", b"x" * 3_000),))
    with pytest.raises(SpoolError, match="full"):
        record_many(recorder, big)
    recorder.record(CLOSED)
    first = spool.segments[0]
    spool.remove(first)
    Recorder(spool, "s-2", "user:ada").record(big)
    spool.close()


@pytest.mark.parametrize(("share", "word"), [(1.0, "the spool is full"), (0.25, "share")])
def test_what_is_stored_elsewhere_makes_room_also_where_it_is_all_in_the_last_segment(
    tmp_path: Path, share: float, word: str
):
    spool = Spool.open(tmp_path, max_bytes=40_000, share=share)
    recorder = Recorder(spool, "s-1", "user:ada")
    big = Event(EventType.DECISION, bodies=(Body("statement", b"x" * 3_000),))
    with pytest.raises(SpoolError, match=word):
        record_many(recorder, big)
    (segment,) = spool.segments
    segment.pending.clear()  # as when the service has acknowledged all of it
    recorder.record(big)
    assert [each.ordinal for each in spool.segments] == [1]
    assert spool.size < 8_000
    with pytest.raises(SpoolError, match=word):
        record_many(recorder, big)
    # Still to be sent: nothing of it goes.
    assert [each.ordinal for each in spool.segments] == [1]
    spool.close()


def test_what_cannot_be_written_down_is_an_error_and_the_chain_stays_whole(tmp_path: Path):
    spool = Spool.open(tmp_path)
    recorder = Recorder(spool, "s-1", "user:ada")
    with pytest.raises(SpoolError):
        recorder.record(OPENED, Event(EventType.DECISION, facts={"value": object()}))
    recorder.record(OPENED)
    assert len(check_chain(shipments(spool), "s-1")) == 1
    spool.close()


def test_nothing_comes_behind_the_end_of_a_chain(tmp_path: Path):
    spool = Spool.open(tmp_path)
    recorder = Recorder(spool, "s-1", "user:ada")
    recorder.record(OPENED, CLOSED)
    with pytest.raises(SpoolError, match="ended"):
        recorder.record(INTENT)
    assert [each["type"] for each in check_chain(shipments(spool), "s-1")] == ["session.opened", "session.closed"]
    spool.close()


def test_a_failed_sync_is_final(tmp_path: Path):
    spool = Spool.open(tmp_path, fsync_seconds=0.001)
    recorder = Recorder(spool, "s-1", "user:ada")
    recorder.record(OPENED)
    # The kernel refuses to sync a pipe, as it would a disk that has failed.
    reading, writing = os.pipe()
    os.dup2(writing, spool._file)
    asyncio.run(asyncio.wait_for(spool.run(), 5))
    with pytest.raises(SpoolError, match="synced"):
        recorder.record(INTENT)
    os.close(reading)
    os.close(writing)
    os.close(spool._file)
    os.close(spool._lock)


WRITER = """
import sys
from pathlib import Path
from pep.core.recorder import Recorder
from pep.core.records import Body, Event, EventType
from pep.core.spool import Spool
spool = Spool.open(Path(sys.argv[1]), segment_bytes=20_000)
recorders = [Recorder(spool, f"s-{number}", "user:ada") for number in range(3)]
for count in range(100_000):
    recorder = recorders[count % 3]
    recorder.record(
        Event(EventType.DECISION, f"d-{count}"),
        Event(EventType.INTENT, f"d-{count}", bodies=(Body("statement", b"x" * (count % 700)),)),
    )
    print(recorder.session, recorder.last_seq, flush=True)
"""


@pytest.mark.parametrize("seed", range(3))
def test_what_was_recorded_survives_the_death_of_the_process(tmp_path: Path, seed: int):
    child = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, text=True)
    said: dict[str, int] = {}
    for _ in range(random.Random(seed).randrange(1, 400)):
        session, seq = child.stdout.readline().split()
        said[session] = int(seq)
    child.send_signal(signal.SIGKILL)
    for line in child.stdout:
        if line.endswith("\n"):
            session, seq = line.split()
            said[session] = int(seq)
    child.stdout.close()
    child.wait()
    spool = Spool.open(tmp_path)
    found = shipments(spool)
    for session, seq in said.items():
        documents = check_chain(found, session)
        assert documents[-1]["type"] == "session.lost"
        assert len(documents) - 2 >= seq
    spool.close()


FULL_DISK = """
import resource, sys
from pathlib import Path
from pep.core.recorder import Recorder, SpoolError
from pep.core.records import Body, Event, EventType
from pep.core.spool import Spool
spool = Spool.open(Path(sys.argv[1]))
recorder = Recorder(spool, "s-1", "user:ada")
event = Event(EventType.INTENT, bodies=(Body("statement", b"x" * 700),))
recorder.record(event)
soft = spool.segments[-1].size + 300
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))
for _ in range(2):
    try:
        recorder.record(event)
    except SpoolError as error:
        print(error, recorder.last_seq, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
recorder.record(event)
print("went on", recorder.last_seq, flush=True)
spool.close()
"""


# A file may not even have the notes of the open chains that a segment begins with.
NO_SEGMENT = """
import resource, sys
from pathlib import Path
from pep.core.recorder import Recorder, SpoolError
from pep.core.records import Body, Event, EventType
from pep.core.spool import Spool
spool = Spool.open(Path(sys.argv[1]), segment_bytes=2000)
idle, busy = Recorder(spool, "s-idle", "user:ada"), Recorder(spool, "s-busy", "user:ada")
event = Event(EventType.INTENT, bodies=(Body("statement", b"x" * 100),))
idle.record(event)
while spool.segments[-1].size < 2000:
    busy.record(event)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
for _ in range(2):
    try:
        busy.record(event)
    except SpoolError as error:
        print(error, busy.last_seq, len(spool.segments), flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
busy.record(event)
print("went on", busy.last_seq, len(spool.segments), flush=True)
spool.close()
"""


def test_a_write_that_falls_short_is_undone_and_denies(tmp_path: Path):
    done = subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path], stdout=subprocess.PIPE, text=True, check=True)
    first, second, third = done.stdout.splitlines()
    assert first == second == "the spool could not be written: the disk is full 0"
    assert third == "went on 1"
    spool = Spool.open(tmp_path)
    assert [each["type"] for each in check_chain(shipments(spool), "s-1")] == ["intent", "intent", "session.lost"]
    spool.close()


@pytest.mark.parametrize("kind", [EventEntry, BodyEntry])
def test_what_a_flipped_bit_makes_unreadable_is_kept_aside_with_what_follows(tmp_path: Path, kind: type):
    spool = Spool.open(tmp_path)
    recorder = Recorder(spool, "s-1", "user:a")
    recorder.record(OPENED)
    recorder.record(INTENT)
    recorder.record(INTENT)
    spool.close()
    (path,) = tmp_path.glob("*/*.segment")
    whole = path.read_bytes()
    ends = [0, *(end for end, _ in decode(whole))]
    hit = [isinstance(entry, kind) for _, entry in decode(whole)].index(True)
    harmed = bytearray(whole)
    harmed[ends[hit] + (ends[hit + 1] - ends[hit]) // 2] ^= 1
    path.write_bytes(harmed)
    successor = Spool.open(tmp_path)
    (aside,) = (tmp_path / "damaged").iterdir()
    assert aside.read_bytes() == harmed[ends[hit] :]
    assert aside.stat().st_mode & 0o077 == 0
    # What followed it can be had from there.
    assert [entry for _, entry in decode(aside.read_bytes(), ends[hit + 1] - ends[hit])] == [
        entry for end, entry in decode(whole) if end > ends[hit + 1]
    ]
    successor.close()
