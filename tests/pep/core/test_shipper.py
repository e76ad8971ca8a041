"""Which records go on their way signed, also when they have to go twice."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from pep.core.errors import DecisionUnavailable
from pep.core.recorder import Recorder
from pep.core.records import Event, EventType
from pep.core.shipments import Acknowledged, Countersign, Mark, Shipment
from pep.core.shipper import Shipper, Signing
from pep.core.signer import Signer
from pep.core.spool import Spool
from tests.certificates import make_authority


class Receiving:
    """The part of a decision client that a shipper uses: the first stream breaks before anything is stored."""

    def __init__(self, until: int) -> None:
        self.until = until
        self.streams: list[list[Shipment]] = []

    async def ship(
        self, shipments: AsyncIterator[Shipment | Countersign | Mark], acknowledge: Callable[[Acknowledged], None]
    ) -> None:
        taken: list[Shipment] = []
        self.streams.append(taken)
        async for each in shipments:
            if isinstance(each, Shipment):
                taken.append(each)
                if len(self.streams) > 1:
                    acknowledge(Acknowledged(each.session, each.seq, ""))
            if len(taken) == self.until:
                break
        raise DecisionUnavailable("the stream broke")


def test_a_beginning_that_is_shipped_again_is_signed_again(tmp_path: Path):
    """A later event of the chain was signed as well, and neither had arrived when the stream broke."""

    async def scenario() -> None:
        issued = make_authority(tmp_path).issue("shop", uris=["spiffe://checkrein/pep/shop"])
        spool = Spool.open(tmp_path / "spool")
        recorder = Recorder(spool, "s-1", "agent:a")
        recorder.record(Event(EventType.SESSION_OPENED))
        for _ in range(6):
            recorder.record(Event(EventType.ERROR))
        received = Receiving(until=7)
        signing = Signing(Signer(issued.certificate, issued.key), "process-shop", lambda: 1, events=3)
        shipper = Shipper(spool, received, signing=signing)  # type: ignore[arg-type]
        running = asyncio.create_task(shipper.run())
        assert await shipper.drained(60)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        spool.close()
        first, again = received.streams[:2]
        assert [each.seq for each in first if each.signed] == [0, 3, 6]
        assert [each.seq for each in again if each.signed] == [0, 3, 6]

    asyncio.run(scenario())
