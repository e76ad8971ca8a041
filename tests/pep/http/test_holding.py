"""What is held of responses is bounded, for one client and for all: too many at once refuse only their own client."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed

import pytest

from pep.http.holding import MOST, SHARE, Holding, TooMuchHeld
from tests.http_attacks import (
    ALICE,
    BOB,
    CUSTOMER,
    SECRET,
    Attacked,
    Seen,
    ask,
    attacked,
    leaks,
    reply,
    rest,
    status_of,
)

LARGEST = 20_000
AT_ONCE = SHARE + 3


def test_one_has_a_share_and_all_have_a_bound() -> None:
    holding = Holding(10)
    holding.change("a", 10 * SHARE)
    with pytest.raises(TooMuchHeld):
        holding.change("a", 1)
    for number in range(MOST // SHARE - 1):
        holding.change(f"b{number}", 10 * SHARE)
    with pytest.raises(TooMuchHeld):
        holding.change("c", 1)
    holding.change("a", -1)
    holding.change("c", 1)


@pytest.fixture(scope="module")
def proxy() -> Iterator[Attacked]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHECKREIN_TEST_UPSTREAM", SECRET)
        with attacked(http={"decoded_limit": LARGEST}) as running:
            yield running


def send(proxy: Attacked, request: bytes) -> bytes:
    """As `Attacked.send`; others may have much to do."""
    with proxy.connect() as connection:
        connection.settimeout(60)
        connection.sendall(request)
        return rest(connection)


def test_documents_beyond_a_share_refuse_their_own_client_alone(proxy: Attacked) -> None:
    whole = reply(json.dumps([CUSTOMER] * 180))
    assert 0.75 * LARGEST < len(whole) < LARGEST
    goes_on = threading.Event()

    def script(seen: Seen) -> Iterator[bytes]:
        yield whole[:-10]
        if seen.target == "/masked/slow":
            goes_on.wait(60)
        yield whole[-10:]

    proxy.target.follows(script)
    with ThreadPoolExecutor(AT_ONCE) as clients:
        asked = [clients.submit(send, proxy, ask("/masked/slow")) for _ in range(AT_ONCE)]
        try:
            first = next(as_completed(asked, timeout=60)).result()
            assert status_of(first) == 503, first[:200]
            assert b"Retry-After" in first
            other = send(proxy, ask("/masked/quick", token=BOB))
            assert status_of(other) == 200, other[:200]
        finally:
            goes_on.set()
        received = [each.result(60) for each in asked]
    assert {status_of(each) for each in received} == {200, 503}
    assert sum(status_of(each) == 200 for each in received) <= SHARE * LARGEST // len(whole)
    assert all(leaks(each[:5000]) == [] for each in received)
    assert status_of(send(proxy, ask("/masked/quick", token=ALICE))) == 200
