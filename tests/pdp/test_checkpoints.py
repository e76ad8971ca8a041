"""Chains come under signed checkpoints: at their beginning, at intervals, at their end, by one replica or two."""

import asyncio
import datetime
import json
from pathlib import Path

import grpc
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, select, update

from pdp.audit import checkpoints
from pdp.audit.checkpoints import FIRST, Checkpoint
from pdp.audit.notary import Notary
from pdp.store import checkpoints as stored
from pdp.store import records, tables
from pdp.store.database import Database
from pdp.v1 import audit_service_pb2 as pb
from pdp.v1.digests import GENESIS, chain_hash
from pep.core.records import Chain, Event, EventType
from tests.pdp.commanding import record, signature
from tests.pdp.serving import Proxy, Service, folder, serving, status_of
from tests.pdp.test_records import event_of, last, refusals, sealed, ship, shipped

pytestmark = pytest.mark.usefixtures("each_store")

NOW = datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
MINUTE = datetime.timedelta(minutes=1)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime.datetime:
        return self.now


def grow(connection: Connection, chain: str, count: int, *, ended: bool = False) -> None:
    """So many more events, as the intake stores them."""
    seq, digest = records.last(connection, chain) or (-1, GENESIS)
    for _ in range(count):
        seq += 1
        data = b'{"seq":%d}' % seq
        digest = chain_hash(digest, chain, seq, data)
        records.add(connection, chain, seq, data, digest)
    stored.note(connection, chain, proxy="shop", seq=seq, ended=ended)


async def log_of(database: Database) -> list[Checkpoint]:
    entries = await database.bulk.run(lambda connection: stored.entries(connection, 0, 10_000))
    return [checkpoints.read(each.document, each.signature) for each in entries]


async def a_store(path: Path) -> Database:
    return Database(f"sqlite:///{path}/pdp.db")


def in_short(log: list[Checkpoint]) -> list[tuple[str, int, bool]]:
    return [(each.session, each.seq, each.ended) for each in log]


def test_a_chain_is_signed_when_it_begins_when_it_has_grown_and_when_it_ends(tmp_path: Path):
    async def scenario() -> None:
        clock = Clock()
        async with await a_store(tmp_path) as database:
            notary = await Notary.open(database, clock, every=MINUTE, events=10)

            async def after(count: int, *, ended: bool = False) -> list[tuple[str, int, bool]]:
                await database.bulk.run(lambda connection: grow(connection, "c", count, ended=ended))
                await notary.round()
                return in_short(await log_of(database))

            assert await after(2) == [("c", 1, False)]
            # Neither so many nor so long ago.
            assert len(await after(9)) == 1
            assert (await after(1))[1:] == [("c", 11, False)]
            assert len(await after(1)) == 2
            clock.now += MINUTE
            await notary.round()
            assert in_short(await log_of(database))[2:] == [("c", 12, False)]
            assert (await after(1, ended=True))[3:] == [("c", 13, True)]
            clock.now += MINUTE
            await notary.round()
            log = await log_of(database)
            assert len(log) == 4
            assert [each.number for each in log] == [1, 2, 3, 4]
            assert [each.previous for each in log] == [FIRST, *(each.digest for each in log[:-1])]
            hashes = [await database.bulk.run(lambda c, n=each.seq: records.hash_at(c, "c", n)) for each in log]
            assert [each.hash for each in log] == hashes
            keys = {name: key.public_key() for name, key in [notary.keys.signing]}
            assert all(checkpoints.is_signed(each, keys) for each in log)

    asyncio.run(scenario())


def test_a_long_way_is_gone_in_steps(tmp_path: Path):
    async def scenario() -> None:
        async with await a_store(tmp_path) as database:
            notary = await Notary.open(database, Clock(), every=MINUTE, events=100)
            await database.bulk.run(lambda connection: grow(connection, "c", 1203, ended=True))
            await notary.round()
            log = await log_of(database)
            assert [(each.seq, each.ended) for each in log] == [(499, False), (999, False), (1202, True)]

    asyncio.run(scenario())


def test_a_checkpoint_names_a_signature_of_the_proxy_that_is_there(tmp_path: Path):
    """Not one for a later event, where the checkpoint is on the way there."""

    async def scenario() -> None:
        def signed(connection: Connection) -> None:
            grow(connection, "c", 1203)
            for seq in (7, 1202):
                stored.sign(connection, "c", seq, "f", b"s")

        async with await a_store(tmp_path) as database:
            notary = await Notary.open(database, Clock(), every=MINUTE, events=10)
            await database.bulk.run(signed)
            await notary.round()
            log = await log_of(database)
        assert [(each.seq, each.signed) for each in log] == [(499, 7), (999, 7), (1202, 1202)]

    asyncio.run(scenario())


def test_two_replicas_write_one_log(tmp_path: Path):
    async def scenario() -> None:
        async with await a_store(tmp_path) as first, await a_store(tmp_path) as second:
            notaries = [await Notary.open(each, Clock(), every=MINUTE, events=3) for each in (first, second)]
            assert notaries[0].keys.signing[0] == notaries[1].keys.signing[0]
            for number in range(8):
                chain = f"c{number % 3}"
                await first.bulk.run(lambda connection, chain=chain: grow(connection, chain, 4))
                await asyncio.gather(*(each.round() for each in notaries))
            log = await log_of(first)
            assert [each.number for each in log] == list(range(1, len(log) + 1))
            assert [each.previous for each in log] == [FIRST, *(each.digest for each in log[:-1])]
            assert {each.session for each in log} == {"c0", "c1", "c2"}

    asyncio.run(scenario())


def test_a_number_that_is_taken_is_not_written_again(tmp_path: Path):
    async def scenario() -> None:
        async with await a_store(tmp_path) as database:
            notary = await Notary.open(database, Clock(), every=MINUTE, events=3)
            await database.bulk.run(lambda connection: grow(connection, "c", 1))
            await notary.round()
            (entry,) = await log_of(database)
            with pytest.raises(Exception, match="UNIQUE"):
                await database.bulk.run(lambda connection: stored.add(connection, entry))
            # As the other replica's view of a store whose transactions do not exclude one another.
            await database.bulk.run(lambda connection: grow(connection, "c", 3))
            behind = tables.checkpoints.insert().values(
                number=2, session_id="x", document=entry.document, signature=entry.signature
            )
            await database.bulk.run(lambda connection: connection.execute(behind))
            # The log's end, which is not of this number: the next is taken, so nothing is written.
            await notary.round()
            numbers = await database.bulk.run(
                lambda connection: list(connection.execute(select(tables.checkpoints.c.number)).scalars())
            )
            assert sorted(numbers) == [1, 2]

    asyncio.run(scenario())


@pytest.mark.parametrize("harm", ["changed", "cut", "missing", "log forged", "log gone"])
def test_what_does_not_hold_is_not_signed_but_raises_an_alarm(tmp_path: Path, harm: str):
    async def scenario() -> None:
        clock = Clock()
        async with await a_store(tmp_path) as database:
            notary = await Notary.open(database, clock, every=MINUTE, events=3)
            await database.bulk.run(lambda connection: grow(connection, "c", 3))
            await notary.round()
            await database.bulk.run(lambda connection: grow(connection, "c", 3))
            at = tables.records.c
            wanted = {
                "changed": update(tables.records).where(at.seq == 4).values(event=b"{}"),
                "cut": tables.records.delete().where(at.seq > 1),
                "missing": tables.records.delete().where(at.seq == 4),
                "log forged": update(tables.checkpoints).values(signature=bytes(64)),
                "log gone": tables.checkpoints.delete(),
            }
            await database.bulk.run(lambda connection: connection.execute(wanted[harm]))
            with structlog.testing.capture_logs() as logs:
                await notary.round()
                await notary.round()
            alarms = [each for each in logs if each.get("alarm")]
            assert [each["session"] for each in alarms] == ["c"]
            assert len(await log_of(database)) == (0 if harm == "log gone" else 1)
            # And nothing else waits for it.
            await database.bulk.run(lambda connection: grow(connection, "other", 1))
            await notary.round()
            assert [each.session for each in await log_of(database)][-1] == "other"

    asyncio.run(scenario())


def test_a_key_signs_nothing_but_what_it_says():
    key = Ed25519PrivateKey.generate()
    made = checkpoints.make(
        number=1,
        previous=FIRST,
        key=("k", key),
        time=NOW,
        session="s",
        seq=0,
        hash=bytes(32),
        ended=False,
        signed=-1,
    )
    public = key.public_key()
    assert checkpoints.is_signed(made, {"k": public})
    assert not checkpoints.is_signed(made, {"other": public})
    assert not checkpoints.is_signed(made, {"k": Ed25519PrivateKey.generate().public_key()})
    changed = checkpoints.read(made.document.replace(b'"seq":0', b'"seq":1'), made.signature)
    assert not checkpoints.is_signed(changed, {"k": public})
    assert not checkpoints.is_signed(checkpoints.read(made.document, key.sign(made.document)), {"k": public})
    assert checkpoints.read_line(made.line) == made


@pytest.mark.parametrize("bytes_", [b"", b"[]", b"{}", b'{"v":1}', b'{"v":2,"number":1}', b"\xff"])
def test_what_is_no_checkpoint_is_said_to_be_none(bytes_: bytes):
    with pytest.raises(ValueError, match="not a"):
        checkpoints.read(bytes_, b"")
    with pytest.raises(ValueError, match="not a"):
        checkpoints.read_line(bytes_)


# ---- what comes from proxies ----


async def signatures_of(service: Service, session: str) -> list[stored.Signature]:
    return await service.inside.database.bulk.run(lambda connection: stored.signatures(connection, session))


@pytest.mark.parametrize("fact", ["subject", "resource", "protocol", "proxy", "decision_id", "policy_revision", "type"])
def test_a_chain_that_begins_otherwise_than_its_session_is_refused(fact: str):
    async def scenario() -> None:
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                session = (await proxy.open()).session_id
                good = sealed(session, 1)[0]
                document = json.loads(good.data)
                (document if fact in document else document["facts"])[fact] = "another"
                bad = pb.RecordRequest(session_id=session, seq=0, event=json.dumps(document).encode())
                (why,) = refusals(await ship(proxy, [bad]))
                assert why.startswith("the first event is not of the session that was opened: another ")
                assert last(await ship(proxy, shipped([good]))) == 0

    asyncio.run(scenario())


def test_a_proxys_signature_is_kept_with_its_certificate():
    async def scenario() -> None:
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                session = (await proxy.open()).session_id
                events = [Event(EventType.SESSION_OPENED), Event(EventType.ERROR), Event(EventType.SESSION_CLOSED)]
                await record(proxy, session, events)
                kept = await signatures_of(service, session)
                assert [each.seq for each in kept] == [0, 2]
                issued = service.authority.issue("shop").certificate.read_bytes()
                assert kept[0].certificates.strip() == issued.strip()
                await service.inside.notary.round()
                mine = [each for each in await log_of(service.inside.database) if each.session == session]
                assert [(each.seq, each.ended, each.signed) for each in mine][-1] == (2, True, 2)

    asyncio.run(scenario())


async def signed_event(proxy: Proxy, signer: Proxy) -> tuple[str, pb.RecordRequest]:
    """The first event of a new session, signed by another proxy or the same one."""
    session = (await proxy.open()).session_id
    event = sealed(session, 1)[0]
    chain = Chain(session, lambda: "")
    made = chain.seal(Event(EventType.ERROR))
    object.__setattr__(made, "hash", event.hash)
    request = event_of(event)
    request.checkpoint.CopyFrom(signature(signer, made))
    return session, request


def test_a_signature_that_is_not_this_proxys_is_not_kept():
    async def scenario() -> None:
        with folder() as path:
            async with serving(path) as service:
                shop, pay = await service.proxy("shop"), await service.proxy("pay")
                for harm in ("another proxy", "no certificate", "not this key", "altered"):
                    session, request = await signed_event(shop, pay if harm == "another proxy" else shop)
                    if harm == "no certificate":
                        del request.checkpoint.certificates[:]
                    if harm == "not this key":
                        request.checkpoint.certificates[:] = (await signed_event(shop, pay))[1].checkpoint.certificates
                    if harm == "altered":
                        request.checkpoint.signature = request.checkpoint.signature[:-1] + b"\0"
                    with structlog.testing.capture_logs() as logs:
                        assert refusals(await ship(shop, [request])) == []
                    assert [each["event"] for each in logs if each.get("alarm")] == ["signature refused"], harm
                    assert await signatures_of(service, session) == []

    asyncio.run(scenario())


def test_a_proxy_that_signed_another_chain_than_it_ships_is_refused():
    async def scenario() -> None:
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                session, request = await signed_event(proxy, proxy)
                request.checkpoint.hash = bytes(32)
                assert refusals(await ship(proxy, [request])) == [
                    "the proxy signed another chain than the one that it ships"
                ]
                events = sealed(session, 2)
                await ship(proxy, shipped(events))
                late = pb.RecordRequest(session_id=session, seq=1)
                late.checkpoint.hash = events[0].hash
                assert refusals(await ship(proxy, [late])) == [
                    "the proxy signed another chain than the one that is stored"
                ]
                late.seq = 9
                assert refusals(await ship(proxy, [late])) == ["the event that is signed has not come"]
                code, _ = await status_of(ship(proxy, [pb.RecordRequest(session_id=session)]))
                assert code is grpc.StatusCode.INVALID_ARGUMENT

    asyncio.run(scenario())
