from pathlib import Path

import pytest

from pep.core.owed import Owed
from pep.core.recorder import Recorder, SpoolError
from pep.core.records import Body, Event, EventType
from pep.core.spool import Spool
from tests.pep.core.test_spool import CLOSED, shipments

LONG = Event(EventType.SESSION_OPENED, bodies=(Body("labels", b"x" * 700),))


def test_an_end_that_does_not_fit_is_written_as_soon_as_there_is_room(tmp_path: Path):
    spool, owed = Spool.open(tmp_path, max_bytes=40_000, share=1.0, segment_bytes=10_000), Owed()
    recorders: list[Recorder] = []
    with pytest.raises(SpoolError, match="full"):  # noqa: PT012 - how many fit is not the point
        while True:
            recorder = Recorder(spool, f"s-{len(recorders)}", "user:ada")
            recorder.record(LONG)
            recorders.append(recorder)
    for recorder in recorders:
        owed.record(recorder, CLOSED)
    late = len(owed)
    assert 0 < late < len(recorders)
    assert not owed.settle()
    assert len(owed) == late

    for segment in spool.segments[:-1]:
        spool.remove(segment)
    assert owed.settle()
    assert len(owed) == 0
    assert sum(b"session.closed" in each.data for each in shipments(spool)) >= late
    spool.close()
