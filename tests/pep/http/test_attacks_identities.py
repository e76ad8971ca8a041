# ruff: noqa: E501 - a table reads best with one attempt to a line
"""Attempts to be somebody else, to get somebody else's answer, and to send what was not approved. See `tests.http_attacks`."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.http_attacks import (
    ALICE,
    BOB,
    DOCUMENT,
    EMAIL,
    SECRET,
    Attacked,
    Seen,
    ask,
    attacked,
    leaks,
    reply,
    rest,
    status_of,
    statuses,
)


@pytest.fixture(scope="module")
def proxy() -> Iterator[Attacked]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHECKREIN_TEST_UPSTREAM", SECRET)
        with attacked() as running:
            yield running


# --- a response that is not this request's ----------------------------------------------------------------------------


@pytest.mark.parametrize("second", ["/open/b", "/masked/b"])
@pytest.mark.parametrize("token", [ALICE, BOB])
def test_what_a_target_sends_too_much_answers_no_other_request(proxy: Attacked, token: str, second: str) -> None:
    planted = reply(DOCUMENT, "text/plain")
    proxy.target.follows(
        lambda seen: (reply(b'{"n":1}') + planted,) if seen.target == "/masked/a" else (reply(b'{"n":2}'),)
    )
    received = proxy.send(ask("/masked/a", close=False) + ask(second, token=token))
    assert leaks(received) == [], received


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_the_body_of_head_answers_no_other_request(proxy: Attacked, method: str) -> None:
    planted = reply(DOCUMENT, "text/plain")
    proxy.target.follows(lambda seen: (reply(planted),) if seen.method == "HEAD" else (reply(b'{"n":2}'),))
    received = proxy.send(ask("/open/a", method="HEAD", close=False) + ask("/open/b", method=method))
    assert leaks(received) == [], received


def test_what_arrives_between_requests_answers_none(proxy: Attacked) -> None:
    def script(seen: Seen) -> Iterator[bytes]:
        yield reply(b'{"n":1}')
        if seen.target == "/open/a":
            yield reply(DOCUMENT, "text/plain")

    proxy.target.follows(script)
    with proxy.connect() as connection:
        connection.sendall(ask("/open/a", close=False))
        first = rest(connection, b"}")
        connection.sendall(ask("/open/b"))
        assert leaks(first + rest(connection)) == []


# --- identities -------------------------------------------------------------------------------------------------------


def who(proxy: Attacked) -> dict[str, str]:
    return {action.properties["path"]: subject for subject, action in proxy.decisions.by}


@pytest.mark.parametrize("pipelined", [True, False])
def test_each_request_is_its_own_senders(proxy: Attacked, pipelined: bool) -> None:
    proxy.decisions.by.clear()
    proxy.target.follows(lambda seen: (reply(json.dumps({"path": seen.target})),))
    tokens = [ALICE, BOB, BOB, ALICE, BOB, ALICE]
    requests = [
        ask(f"/open/{number}", token=token, close=number == len(tokens) - 1) for number, token in enumerate(tokens)
    ]
    with proxy.connect() as connection:
        if pipelined:
            connection.sendall(b"".join(requests))
        else:
            for number, request in enumerate(requests[:-1]):
                connection.sendall(request)
                assert f'"/open/{number}"'.encode() in rest(connection, b"}")
            connection.sendall(requests[-1])
        rest(connection)
    names = {ALICE: "agent:alice", BOB: "agent:bob"}
    assert who(proxy) == {f"/open/{number}": names[token] for number, token in enumerate(tokens)}
    peers: dict[str, set[int]] = {ALICE: set(), BOB: set()}
    for seen, token in zip(proxy.target.seen, tokens, strict=True):
        peers[token].add(seen.peer)
    assert peers[ALICE].isdisjoint(peers[BOB]), "two clients shared a connection to the target"
    assert leaks(proxy.target.received, (ALICE, BOB)) == []


@pytest.mark.parametrize(
    "shown", ["", "Authorization: Bearer wrong", "Authorization: Bearer", "Authorization: Digest x"]
)
def test_a_request_without_its_own_credential_is_nobodys(proxy: Attacked, shown: str) -> None:
    """The one before it on the connection lends it none."""
    proxy.target.says(reply(DOCUMENT))
    lines = [line for line in ("GET /open/b HTTP/1.1", "Host: api.test", shown, "Connection: close") if line]
    received = proxy.send(ask("/open/a", close=False) + "\r\n".join([*lines, "", ""]).encode())
    assert statuses(received) == [200, 401], received
    assert len(proxy.target.seen) == 1


@pytest.mark.parametrize(
    "field", [f"X-Copy: Bearer {ALICE}", f"Cookie: a=1; t={ALICE}", f"Sec-WebSocket-Protocol: x, {ALICE}", f"X-Api-Key: {ALICE.replace('-', '%2D')}"]
)  # fmt: skip
def test_a_credential_in_another_field_does_not_reach_the_target(proxy: Attacked, field: str) -> None:
    proxy.target.says(reply(DOCUMENT))
    received = proxy.send(ask("/open/x", field))
    assert status_of(received) == 400, received
    assert leaks(received, (ALICE,)) == []
    assert proxy.target.seen == []


@pytest.mark.parametrize("query", [f"access_token={ALICE}", f"a=%6B{ALICE[1:]}"])
def test_a_credential_in_the_address_does_not_reach_the_target(proxy: Attacked, query: str) -> None:
    proxy.target.says(reply(DOCUMENT))
    assert status_of(proxy.send(ask(f"/open/x?{query}"))) == 400
    assert proxy.target.seen == []


def test_an_answer_is_not_kept_for_another(proxy: Attacked) -> None:
    numbers = iter(range(100, 200))
    fields = ("Cache-Control: public, max-age=600", 'ETag: "a"')
    proxy.target.follows(lambda _seen: (reply(json.dumps({"n": next(numbers)}), "application/json", *fields),))
    answers = {proxy.send(ask("/open/same", token=token))[-5:] for token in (ALICE, BOB, ALICE)}
    assert len(answers) == 3
    assert len(proxy.target.seen) == 3


# --- approvals --------------------------------------------------------------------------------------------------------

ASYNC = "Prefer: respond-async"
JSON = "Content-Type: application/json"
ORDER = b'{"amount":10}'


def asked_for(proxy: Attacked, path: str, *fields: str, method: str = "POST", body: bytes | None = ORDER) -> str:
    """Alice asks for it, and comes back later: the place where it stands."""
    proxy.target.says(reply(b'{"done":true}'))
    received = proxy.send(ask(path, ASYNC, *(fields or (JSON,)), method=method, body=body))
    assert status_of(received) == 202, received
    assert proxy.target.seen == []
    return next(line[10:] for line in received.decode().split("\r\n") if line.startswith("Location: "))


def again(path: str, *fields: str, token: str = ALICE, method: str = "POST", body: bytes | None = ORDER) -> bytes:
    return ask(path, ASYNC, *(fields or (JSON,)), token=token, method=method, body=body)


def test_nobody_else_learns_how_an_approval_stands(proxy: Attacked) -> None:
    place = asked_for(proxy, "/held/poll")
    assert status_of(proxy.send(ask(place))) == 202
    assert status_of(proxy.send(ask(place, token=BOB))) == 404
    assert status_of(proxy.send(ask("/.checkrein/approvals/A-0"))) == 404
    proxy.proxy.resolve("approved")
    assert status_of(proxy.send(ask(place, token=BOB))) == 404


@pytest.mark.parametrize(
    "tried", ["another client", "body", "longer body", "query", "path", "method", "no body", "type", "fields"]
)
def test_only_what_was_approved_is_sent(proxy: Attacked, tried: str) -> None:
    path = f"/held/{tried.replace(' ', '-')}"
    asked_for(proxy, path)
    proxy.proxy.resolve("approved")
    other = {
        "another client": again(path, token=BOB),
        "body": again(path, body=b'{"amount":99}'),
        "longer body": again(path, body=ORDER + b" " * 8),
        "query": again(path + "?amount=99"),
        "path": again(path + "/more"),
        "method": again(path, method="PUT"),
        "no body": again(path, body=b""),
        "type": again(path, "Content-Type: application/xml"),
        "fields": again(path, JSON, "X-Dry-Run: no"),
    }[tried]
    received = proxy.send(other)
    if tried == "longer body" and proxy.target.seen:
        # It is the same document.
        assert [seen.body for seen in proxy.target.seen] == [ORDER]
        return
    assert status_of(received) in (202, 403), received
    assert proxy.target.seen == []
    assert status_of(proxy.send(again(path))) == 200
    assert [(seen.target, seen.body) for seen in proxy.target.seen] == [(path, ORDER)]


def test_an_approval_is_good_for_one_request(proxy: Attacked) -> None:
    asked_for(proxy, "/held/once")
    proxy.proxy.resolve("approved")
    assert status_of(proxy.send(again("/held/once"))) == 200
    assert status_of(proxy.send(again("/held/once"))) == 202
    assert len(proxy.target.seen) == 1


def test_an_approval_is_good_for_one_of_many_at_once(proxy: Attacked) -> None:
    asked_for(proxy, "/held/race")
    proxy.proxy.resolve("approved")
    answers: list[int] = []
    start = threading.Barrier(8)

    def replay() -> None:
        start.wait()
        answers.append(status_of(proxy.send(again("/held/race"))))

    threads = [threading.Thread(target=replay) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count(200) == len(proxy.target.seen) == 1, answers


def test_what_is_denied_is_not_sent(proxy: Attacked) -> None:
    asked_for(proxy, "/held/denied")
    proxy.proxy.resolve("denied", "no")
    assert status_of(proxy.send(again("/held/denied"))) == 403
    assert proxy.target.seen == []


def test_the_request_of_a_client_that_left_is_never_sent(proxy: Attacked) -> None:
    proxy.target.says(reply(b"{}"))
    asked, cancelled = len(proxy.decisions.requested), len(proxy.decisions.cancelled)
    connection = proxy.connect()
    connection.sendall(ask("/held/left", JSON, method="POST", body=ORDER))
    until(lambda: len(proxy.decisions.requested) > asked)
    connection.close()
    until(lambda: len(proxy.decisions.cancelled) > cancelled)
    proxy.proxy.resolve("approved")
    assert status_of(proxy.send(ask("/denied/behind"))) == 403
    assert proxy.target.seen == []


def test_what_follows_a_held_request_waits(proxy: Attacked) -> None:
    proxy.target.follows(lambda seen: (reply(json.dumps({"path": seen.target})),))
    asked = len(proxy.decisions.requested)
    with proxy.connect() as connection:
        connection.sendall(ask("/held/first", close=False) + ask("/open/second"))
        until(lambda: len(proxy.decisions.requested) > asked)
        assert proxy.target.seen == []
        proxy.proxy.resolve("approved")
        received = rest(connection)
    assert statuses(received) == [200, 200]
    assert [seen.target for seen in proxy.target.seen] == ["/held/first", "/open/second"]


def until(true: Callable[[], bool], seconds: float = 5.0) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.005)


def test_the_length_of_what_is_sent_is_the_targets_to_know(proxy: Attacked) -> None:
    """A client that stops in the middle of a body leaves nothing whole behind."""
    proxy.target.says(reply(b"{}"))
    sent = ask("/open/x", JSON, "Content-Length: 100", method="POST", close=False) + ORDER
    with proxy.connect() as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        rest(connection)
    assert all(len(seen.body) < 100 for seen in proxy.target.seen)
    assert EMAIL.encode() not in proxy.target.received
