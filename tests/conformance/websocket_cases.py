"""WebSocket through the proxy is what it is without: every case of Autobahn's, those of compression left to
`websocket_compression`, which takes minutes. Some cases are races against a clock: `make conformance` runs them.
"""

import pytest

from tests.conformance.autobahn import verdicts, ways
from tests.http_relay import SECRET

COMPRESSION = ["12.*", "13.*"]
# What the echo server's own library does otherwise: it takes no more than 4096 fragments, and looks into what came
# before a close.
NOT_PASSED = {"7.1.5", "9.3.1", "9.3.2", "9.4.1", "9.4.2"}


AGAIN = 3


def test_every_case_ends_as_it_does_without_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECKREIN_TEST_UPSTREAM", SECRET)
    with ways({"bearer": {"env": "CHECKREIN_TEST_UPSTREAM"}}) as ports:
        direct = verdicts(ports.direct, ["*"], COMPRESSION)
        through = verdicts(ports.through, ["*"], COMPRESSION)
        assert len(direct) == 301
        assert through.keys() == direct.keys()
        # The runner gives a close one second, and some cases are a race by nature: what differs has to be the same
        # each time when nothing else runs.
        if differing := [case for case in direct if through[case] != direct[case]]:
            for _ in range(AGAIN):
                assert verdicts(ports.through, differing, []) == verdicts(ports.direct, differing, [])
    failed = {case for case, verdict in direct.items() if not verdict.passed}
    assert failed - set(differing) == NOT_PASSED - set(differing)
