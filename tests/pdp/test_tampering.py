"""Records that were tampered with: whoever can write the store, with or without hashing anew, is found out.

A whole session is recorded through the real service, with the proxy's signatures and the service's checkpoints; each
test harms a copy of its store, and reads what `pdp records verify --store` is made of.
"""

import asyncio
import datetime
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from pdp.audit import checkpoints
from pdp.commands.copies import StoreCopy
from pdp.commands.proof import ChainProof, Facts, Finding
from pdp.commands.records import Trusted, prove
from pdp.v1.digests import GENESIS, chain_hash
from tests.certificates import make_authority
from tests.pdp.commanding import record
from tests.pdp.serving import folder, serving
from tests.pdp.test_cli_sessions import STORY

EVENTS = range(len(STORY))
END = len(STORY) - 1
NOW = datetime.datetime(2030, 2, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Original:
    """A store with two whole sessions, and what an auditor has of it."""

    file: Path
    session: str
    other: str
    anchor: Path
    keys: dict[str, Ed25519PublicKey]
    authority: Path


@pytest.fixture(scope="module")
def original() -> Iterator[Original]:
    with folder() as path:
        yield asyncio.run(recorded(path))


async def recorded(path: Path) -> Original:
    async with serving(path) as service:
        proxy = await service.proxy()
        sessions = [(await proxy.open()).session_id for _ in range(2)]
        for session in sessions:
            await record(proxy, session, STORY)
        await service.inside.notary.round()
        authority = service.authority.issue("shop").authority
    file = path / "state" / "pdp.db"
    with closing(sqlite3.connect(file)) as rows:
        rows.execute("pragma wal_checkpoint(truncate)")
        log = [checkpoints.read(*each) for each in rows.execute("select document, signature from checkpoints")]
    anchor = path / "anchor"
    anchor.write_bytes(b"".join(each.line for each in log))
    keys = dict((await StoreCopy(f"sqlite:///{file}", NOW).ledger()).keys)
    return Original(file, sessions[0], sessions[1], anchor, keys, authority)


@dataclass
class Harmed:
    """A copy of the store that a test may write to."""

    original: Original
    file: Path

    def run(self, *statements: str, **values: object) -> None:
        with closing(sqlite3.connect(self.file)) as rows, rows:
            for statement in statements:
                rows.execute(statement, {"s": self.original.session, "o": self.original.other, **values})

    def chain(self) -> list[bytes]:
        with closing(sqlite3.connect(self.file)) as rows:
            return [
                row[0]
                for row in rows.execute(
                    "select event from records where session_id = ? order by seq", (self.original.session,)
                )
            ]

    def replace(self, events: list[bytes], *, hashes: bool) -> None:
        """Writes these events as the chain, each in its place; with hashes, the whole chain computed anew."""
        session, digest = self.original.session, GENESIS
        with closing(sqlite3.connect(self.file)) as rows, rows:
            kept = [
                row[0] for row in rows.execute("select hash from records where session_id = ? order by seq", (session,))
            ]
            rows.execute("delete from records where session_id = ?", (session,))
            for seq, data in enumerate(events):
                digest = chain_hash(digest, session, seq, data) if hashes else kept[min(seq, len(kept) - 1)]
                rows.execute("insert into records values (?, ?, ?, ?)", (session, seq, data, digest))

    def findings(self, *, anchored: bool = False, keys: bool = True, only: str = "") -> list[Finding]:
        found: list[Finding] = []
        authorities = x509.load_pem_x509_certificates(self.original.authority.read_bytes())
        anchors = [self.original.anchor] if anchored else []
        trusted = Trusted(self.original.keys if keys else None, anchors, authorities)
        asyncio.run(prove(StoreCopy(f"sqlite:///{self.file}", NOW), trusted, found.append, only))
        return found

    def wrong(self, **how: bool) -> set[int | None]:
        """Which events of the session are said to be wrong; everything that is wrong is about it."""
        found = self.findings(**how)  # type: ignore[arg-type]
        assert {each.chain for each in found} <= {self.original.session}
        assert self.findings(only=self.original.session)
        return {each.seq for each in found}


@pytest.fixture
def harmed(original: Original, tmp_path: Path) -> Harmed:
    return Harmed(original, Path(shutil.copy(original.file, tmp_path / "copy.db")))


def renumbered(data: bytes, seq: int) -> bytes:
    return json.dumps({**json.loads(data), "seq": seq}, sort_keys=True, separators=(",", ":")).encode()


def test_what_nobody_touched_holds(harmed: Harmed):
    assert harmed.findings() == []
    assert harmed.findings(anchored=True) == []
    assert harmed.findings(only=harmed.original.session) == []


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "first byte": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "last byte": lambda data: data[:-1] + b" ",
    "a byte more": lambda data: data + b" ",
    "a byte less": lambda data: data[:-1],
    "time": lambda data: data.replace(b'"time":"2030', b'"time":"2031'),
    "type": lambda data: data.replace(b'"type":"', b'"type":"x'),
    "version": lambda data: data.replace(b'"v":1', b'"v":2'),
    "emptied": lambda _: b"",
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("seq", EVENTS)
def test_a_changed_event_is_named(harmed: Harmed, seq: int, change: str):
    events = harmed.chain()
    events[seq] = CHANGES[change](events[seq])
    assert events[seq] != harmed.chain()[seq]
    harmed.replace(events, hashes=False)
    assert seq in harmed.wrong()


@pytest.mark.parametrize("seq", EVENTS)
def test_a_changed_event_in_a_chain_that_was_computed_anew_is_found(harmed: Harmed, seq: int):
    events = harmed.chain()
    events[seq] = CHANGES["time"](events[seq])
    harmed.replace(events, hashes=True)
    found = harmed.findings()
    assert any("the service signed" in each.why for each in found)
    assert any("its proxy signed" in each.why for each in found)
    # With the service's own key, or no checkpoint at all, the proxy's signature is left.
    harmed.run("delete from checkpoints where session_id = :s")
    assert any("its proxy signed" in each.why for each in harmed.findings(only=harmed.original.session))


@pytest.mark.parametrize("seq", EVENTS)
def test_an_event_that_was_taken_out_is_missed(harmed: Harmed, seq: int):
    harmed.run("delete from records where session_id = :s and seq = :n", n=seq)
    assert harmed.wrong() & {seq - 1, seq, seq + 1}
    whole = harmed.chain()
    harmed.replace([renumbered(data, number) for number, data in enumerate(whole)], hashes=True)
    assert harmed.wrong()


@pytest.mark.parametrize("seq", EVENTS[:-1])
@pytest.mark.parametrize("hashes", [False, True])
def test_events_that_changed_places_are_found(harmed: Harmed, seq: int, hashes: bool):
    events = harmed.chain()
    events[seq], events[seq + 1] = renumbered(events[seq + 1], seq), renumbered(events[seq], seq + 1)
    harmed.replace(events, hashes=hashes)
    assert harmed.wrong()


@pytest.mark.parametrize("seq", EVENTS)
@pytest.mark.parametrize("hashes", [False, True])
def test_an_event_that_stands_twice_is_found(harmed: Harmed, seq: int, hashes: bool):
    events = harmed.chain()
    events.insert(seq, events[seq])
    harmed.replace([renumbered(data, number) for number, data in enumerate(events)], hashes=hashes)
    assert harmed.wrong()


@pytest.mark.parametrize("left", EVENTS)
def test_an_end_that_was_cut_off_is_missed(harmed: Harmed, left: int):
    harmed.run("delete from records where session_id = :s and seq >= :n", n=left)
    assert any("signed up to number" in each.why for each in harmed.findings())
    # Nor does it help to take the checkpoints of the end away, or what the proxy signed.
    harmed.run("delete from checkpoints where session_id = :s")
    assert harmed.findings()
    harmed.run("delete from proxy_signatures where session_id = :s")
    assert harmed.findings()


def test_an_event_that_was_added_behind_the_end_is_found(harmed: Harmed):
    added = renumbered(harmed.chain()[1], END + 1)
    harmed.replace([*harmed.chain(), added], hashes=True)
    assert any("comes after the end" in each.why for each in harmed.findings())


@pytest.mark.parametrize("how", ["exchanged", "changed", "other salt", "moved"])
def test_bodies_that_are_not_their_events_are_found(harmed: Harmed, how: str):
    body = "update bodies set {} where session_id = :s and seq = 4"
    match how:
        case "exchanged":
            harmed.run(
                body.format("seq = -1"),
                "update bodies set seq = 4 where session_id = :s and seq = 5",
                "update bodies set seq = 5 where session_id = :s and seq = -1",
            )
            assert harmed.wrong() == {4, 5}
        case "changed":
            harmed.run(body.format("content = x'00' || substr(content, 2)"))
            assert harmed.wrong() == {4}
        case "other salt":
            harmed.run(body.format("salt = zeroblob(32)"))
            assert harmed.wrong() == {4}
        case _:
            harmed.run(body.format('"index" = 7'))
            assert harmed.wrong() == {4}


def test_an_erased_body_is_no_harm(harmed: Harmed):
    harmed.run("delete from bodies where session_id = :s")
    assert harmed.findings() == []


EVERYTHING = tuple(
    f"delete from {table} where session_id = :s" for table in ("records", "bodies", "chains", "proxy_signatures")
)


def test_a_session_that_was_taken_away_is_missed(harmed: Harmed):
    harmed.run(*EVERYTHING, "delete from sessions where id = :s")
    (found,) = harmed.findings()
    assert (found.chain, found.why) == (
        harmed.original.session,
        f"the whole record is gone: it was signed up to number {END}",
    )


def test_a_session_that_was_taken_away_with_its_checkpoints_leaves_a_gap(harmed: Harmed):
    harmed.run(*EVERYTHING, "delete from checkpoints where session_id = :s", "delete from sessions where id = :s")
    assert any("entries of the log are missing" in each.why for each in harmed.findings())
    assert any(each.chain == harmed.original.session for each in harmed.findings(anchored=True))


def test_a_log_whose_numbers_were_closed_up_is_found(harmed: Harmed):
    harmed.run(
        *EVERYTHING,
        "delete from checkpoints where session_id = :s",
        "update checkpoints set number = (select count(*) from checkpoints c where c.number <= checkpoints.number)",
    )
    assert any("stands in another's place" in each.why for each in harmed.findings())


def test_a_log_that_was_rolled_back_is_found_by_what_was_anchored(harmed: Harmed):
    harmed.run("delete from checkpoints where number >= (select min(number) from checkpoints where session_id = :o)")
    harmed.run(*(each.replace(":s", ":o") for each in EVERYTHING))
    found = harmed.findings(anchored=True)
    assert any("it was cut off" in each.why for each in found)
    assert any(each.chain == harmed.original.other for each in found)


@pytest.mark.parametrize("keys", [True, False])
def test_a_log_that_was_written_anew_with_another_key_is_found(harmed: Harmed, keys: bool):
    """An attacker who makes a key of his own, and puts it into the store, is found by what an auditor brings along."""
    with closing(sqlite3.connect(harmed.file)) as rows, rows:
        old = [checkpoints.read(*each) for each in rows.execute("select document, signature from checkpoints")]
        forger = checkpoints.Ed25519PrivateKey.generate()
        rows.execute(
            "update keys set public = ? where purpose = 'checkpoint'", (forger.public_key().public_bytes_raw(),)
        )
        last = checkpoints.FIRST
        for each in old:
            made = checkpoints.make(
                number=each.number,
                previous=last,
                key=(each.key, forger),
                time=each.time,
                session=each.session,
                seq=each.seq,
                hash=each.hash,
                ended=each.ended,
                signed=each.signed,
            )
            last = made.digest
            rows.execute(
                "update checkpoints set document = ?, signature = ? where number = ?",
                (made.document, made.signature, made.number),
            )
    if keys:
        assert any("is not signed by a key of the service" in each.why for each in harmed.findings())
    else:
        assert any("of the anchor is not signed" in each.why for each in harmed.findings(keys=False, anchored=True))


@pytest.mark.parametrize("column", ["document", "signature", "session_id", "number"])
def test_a_checkpoint_that_was_changed_is_found(harmed: Harmed, column: str):
    value = {
        "document": "replace(document, '\"ended\":true', '\"ended\":false')",
        "signature": "zeroblob(64)",
        "session_id": ":o",
        "number": "number + 1000",
    }[column]
    harmed.run(f"update checkpoints set {column} = {value} where session_id = :s")
    assert harmed.findings()


@pytest.mark.parametrize("harm", ["gone", "forged", "moved", "certificate gone", "certificate forged"])
def test_a_proxys_signature_that_is_not_its_own_is_found(harmed: Harmed, harm: str, tmp_path: Path):
    mine = "where session_id = :s and seq = (select max(seq) from proxy_signatures where session_id = :s)"
    match harm:
        case "gone":
            harmed.run(f"delete from proxy_signatures {mine}")
        case "forged":
            harmed.run(f"update proxy_signatures set signature = zeroblob(70) {mine}")
        case "moved":
            harmed.run(f"update proxy_signatures set seq = seq - 1 {mine}")
        case "certificate gone":
            harmed.run("delete from proxy_certificates")
        case _:
            other = make_authority(tmp_path).issue("x", uris=["spiffe://checkrein/pep/shop"])
            harmed.run("update proxy_certificates set chain = :c", c=other.certificate.read_bytes())
    assert harmed.findings()
    assert harmed.findings(only=harmed.original.session)


@pytest.mark.parametrize("fact", ["agent:planner", "postgres"])
def test_a_session_that_is_said_to_be_another_ones_is_found(harmed: Harmed, fact: str):
    if fact == "postgres":
        harmed.run("update sessions set protocol = 'http' where id = :s")
    else:
        harmed.run("update sessions set subject = replace(subject, 'planner', 'somebody') where id = :s")
    assert harmed.wrong() == {0}


def test_a_session_said_to_be_open_whose_record_was_cut_is_found(harmed: Harmed):
    harmed.run(
        "update sessions set state = 'open' where id = :s", "delete from records where session_id = :s and seq > 5"
    )
    assert harmed.wrong() == {5}


def test_an_event_behind_the_one_that_ends_it_is_found_before_anything_is_signed(harmed: Harmed):
    """No checkpoint and no signature of the end: the record itself says where it ends."""
    harmed.run("delete from checkpoints where session_id = :s", "delete from proxy_signatures where session_id = :s")
    added = renumbered(harmed.chain()[1], END + 1)
    harmed.replace([*harmed.chain(), added], hashes=True)
    assert (END + 1, "comes after the event that ends the record: it was added") in {
        (each.seq, each.why) for each in harmed.findings() if each.chain == harmed.original.session
    }


def test_a_whole_session_that_was_put_in_is_found_also_while_it_is_said_to_be_open(harmed: Harmed):
    """Whoever writes to the store can make up a session; no proxy has signed its beginning."""
    session, digest = "s-madeup", GENESIS
    with closing(sqlite3.connect(harmed.file)) as rows, rows:
        columns = [row[1] for row in rows.execute("pragma table_info(sessions)")]
        taken = ", ".join({"id": "'s-madeup'", "state": "'open'"}.get(name, f'"{name}"') for name in columns)
        rows.execute(f"insert into sessions select {taken} from sessions where id = ?", (harmed.original.session,))
        for seq, data in enumerate(harmed.chain()[:END]):
            made = data.replace(harmed.original.session.encode(), session.encode())
            digest = chain_hash(digest, session, seq, made)
            rows.execute("insert into records values (?, ?, ?, ?)", (session, seq, made, digest))
    unsigned = Finding("the beginning is not signed by the proxy that recorded it", session, 0)
    assert harmed.findings() == [unsigned]
    harmed.run("delete from sessions where id = 's-madeup'")
    assert harmed.findings() == [
        Finding("no session of this name was opened, or it was taken away", session, 0),
        unsigned,
    ]


def test_a_record_that_was_never_put_under_a_checkpoint_is_found(harmed: Harmed):
    async def judged(at: datetime.datetime) -> list[str]:
        kept = await StoreCopy(f"sqlite:///{harmed.file}", NOW).chain(harmed.original.session)
        proof = ChainProof(harmed.original.session, Facts(), (), kept.signatures, authorities=None, now=at)
        async for event in kept.events:
            if event.seq < END:
                list(proof.feed(event))
        return [each.why for each in proof.end() if "checkpoint" in each.why]

    began = datetime.datetime(2030, 1, 31, 10, tzinfo=datetime.UTC)
    assert asyncio.run(judged(began + datetime.timedelta(minutes=4))) == []
    assert asyncio.run(judged(NOW)) == ["no checkpoint covers any of it"]
