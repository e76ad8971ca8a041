"""The HTTP session as conversations, second half: what comes back, and how a connection ends.

Each test is named after the sentence that it proves.
"""

import orjson
import pytest

from pep.core import wire
from pep.core.model import (
    Allow,
    ConstantMask,
    Deny,
    FieldMask,
    LimitRows,
    MaskFields,
    Obligation,
    OnExcess,
    RequireApproval,
)
from pep.core.records import EventType
from pep.http.questions import Connect
from tests.pep.http.conversations import (
    CONNECTS,
    DONE,
    FAULT,
    GRANTED,
    OK,
    RELEASED,
    SECRET,
    UPSTREAM_GET,
    WHAT_IF,
    Spoken,
    client,
    closes,
    granted,
    known,
    looks_up,
    not_forwarded,
    posted,
    problem,
    releases,
    request,
    response,
    response_facts,
    sent,
    served,
    talk,
    tells,
    told,
    upstream,
    who,
)
from tests.playbook import Match, Playbook, any_of, asks, decided, denied, grant, held, looked_up, record

JSON = "Content-Type: application/json"
MASK = MaskFields((FieldMask("/orders", "$.ssn", ConstantMask("hidden")),))
GONE = wire.UpstreamClosed()


@pytest.fixture
def session() -> Spoken:
    return talk()


# --- framing ----------------------------------------------------------------------------------------------------------


def test_a_response_of_a_known_length_passes_as_it_comes(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders"))
        >> upstream(b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 4\r\n\r\nab")
        << told(b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 4\r\n\r\n")
        << told(b"ab")
        >> upstream(b"cd")
        << response_facts(status=200, bytes=4, execution_id="e-1")
        << told(b"cd")
        << releases()
    )


def test_a_chunked_response_passes_in_chunks(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders"))
        >> upstream(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        << told(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        << told(b"2\r\nab\r\n")
        >> upstream(b"0\r\n\r\n")
        << DONE
        << told(b"0\r\n\r\n")
        << releases()
    )


def test_the_end_of_a_chunked_response_is_told_only_once_it_is_on_record(session: Spoken) -> None:
    book = granted(session, client("GET /orders"))
    book = book >> upstream(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n")
    kinds = [type(effect) for effect in book.take()]
    assert book
    assert kinds.index(wire.Record) < len(kinds) - 1 - kinds[::-1].index(wire.SendClient)


def test_a_response_that_ends_with_its_connection_becomes_chunked(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders"))
        >> upstream(b"HTTP/1.1 200 OK\r\n\r\nab")
        << told(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        << told(b"2\r\nab\r\n")
        >> GONE
        << DONE
        << told(b"0\r\n\r\n")
        << releases(False)
        >> RELEASED
        >> client("GET /orders")
        << who()
    )


def test_an_old_client_gets_a_chunked_response_until_the_connection_ends(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders", "Connection: keep-alive", version="1.0"))
        >> upstream(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n")
        << told(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        << told(b"ab")
        << DONE
        << releases()
        >> RELEASED
        << closes("ends with the connection")
    )


def test_an_old_client_keeps_its_connection_where_it_asks_for_it(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders", "Connection: keep-alive", version="1.0"))
        >> upstream(OK)
        << tells(b"Connection: keep-alive\r\n", b"Content-Length: 2")
        << DONE
        << told(b"ok")
        << releases()
        >> RELEASED
        >> client("GET /orders")
        << who()
    )


def test_an_old_client_that_says_nothing_keeps_no_connection(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders", version="1.0"))
        >> upstream(OK)
        << tells(b"Connection: close\r\n")
        << DONE
        << told(b"ok")
        << releases()
        >> RELEASED
        << closes("keeps no connection")
    )


def test_the_answer_to_head_says_the_length_and_has_no_body(session: Spoken) -> None:
    assert (
        granted(session, client("HEAD /orders"), text="HEAD /orders")
        >> upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 700\r\n\r\n")
        << response_facts(bytes=0)
        << told(b"HTTP/1.1 200 OK\r\nContent-Length: 700\r\n\r\n")
        << releases()
    )


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_a_response_without_a_body_ends_with_its_head(session: Spoken, status: str) -> None:
    head = f"HTTP/1.1 {status}\r\n\r\n".encode()
    assert (
        granted(session, client("GET /orders")) >> upstream(head) << response_facts(bytes=0) << told(head) << releases()
    )


HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n"


def test_what_comes_before_the_response_is_passed_on_and_on_record() -> None:
    session = talk(injected=True)
    assert (
        granted(session, client("GET /orders"))
        >> upstream(HINTS, b"HTTP/1.1 102 Processing\r\nX-Echo: " + SECRET + b"\r\n\r\n")
        << told(b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n")
        << told(b"HTTP/1.1 102 Processing\r\nX-Echo: [removed]\r\n\r\n")
        >> upstream(OK)
        << tells(b"200 OK")
        << response_facts(interim=[103, 102])
        << told(b"ok")
        << releases()
    )


@pytest.mark.parametrize(
    ("interim", "version", "duties"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\n", "1.1", ()),
        (HINTS, "1.0", ()),
        (HINTS, "1.1", (LimitRows(2, OnExcess.TRUNCATE),)),
    ],
    ids=["continue", "HTTP/1.0", "rewritten"],
)
def test_what_comes_before_the_response_is_not_told_where_it_cannot_be(
    session: Spoken, interim: bytes, version: str, duties: tuple[Obligation, ...]
) -> None:
    assert (
        granted(session, client("GET /orders", version=version), *duties)
        >> upstream(interim)
        >> upstream(response(b"[1]", JSON))
        << tells(b"200 OK")
        << DONE
        << told(b"[1]")
        << any_of(wire.LookUp)
    )


def test_a_refusal_is_told_behind_what_came_before_the_response(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders"))
        >> upstream(HINTS)
        << tells(b"103 Early Hints")
        >> upstream(b"nonsense\r\n\r\n")
        << FAULT
        << problem(502, close=True)
        << DONE
        << closes()
    )


def test_of_a_response_without_a_known_end_nothing_looks_whole_that_is_not(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders", version="1.0"))
        >> upstream(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        << tells(b"200 OK")
        << told(b"ab")
        >> wire.UpstreamClosed()
        << FAULT
        << response_facts(bytes=2)
        << closes("broke the protocol", wire.Ending.CUT)
    )


def test_without_its_record_a_response_is_never_whole(session: Spoken) -> None:
    book = granted(session, client("GET /orders")) >> upstream(OK)
    # The driver leaves out what stands behind a record that failed.
    book = book << tells(b"200 OK") << DONE << told(b"ok") << releases()
    assert book >> wire.RecordFailed("full") << FAULT << any_of(wire.CancelAsk) << closes("its record cannot")


def test_pipelined_requests_are_decided_and_answered_one_after_the_other(session: Spoken) -> None:
    two = wire.ClientData(request("GET /orders") + request("GET /secrets", token="other"))
    assert (
        granted(session, two)
        >> upstream(OK)
        << tells(b"200 OK")
        << DONE
        << told(b"ok")
        << releases()
        >> RELEASED
        << who("other")
        >> known("s-2")
        << asks("GET /secrets", session="s-2")
        >> decided(denied())
        << problem(403, close=False)
    )


def test_a_pipelined_request_counts_as_backlog_while_the_one_before_is_served(session: Spoken) -> None:
    second = request("GET /secrets")
    book = granted(session, wire.ClientData(request("GET /orders") + second))
    assert session.machine.backlog == len(second)
    assert book >> upstream(OK) << tells(b"200 OK") << DONE << told(b"ok") << releases() >> RELEASED << who()
    assert session.machine.backlog == 0


# --- the target fails -------------------------------------------------------------------------------------------------


def test_a_kept_connection_that_was_over_is_replaced_once(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders"))
        >> GONE
        << releases(False)
        >> RELEASED
        << CONNECTS
        >> session.connected()
        << sent(UPSTREAM_GET, GRANTED)
        >> GONE
        << FAULT
        << problem(502, "closed the connection", close=True)
        << response_facts(cut="the target did not answer: it closed the connection before it answered", status=0)
        << closes("did not answer")
    )


def test_the_second_connection_answers_like_the_first_one_would_have(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders"))
        >> GONE
        << releases(False)
        >> RELEASED
        << CONNECTS
        >> session.connected()
        << sent(UPSTREAM_GET, GRANTED)
        >> upstream(OK)
        << tells(b"200 OK")
        << DONE
        << told(b"ok")
        << releases()
    )


@pytest.mark.parametrize("said", [client("DELETE /orders"), posted(b"true")])
def test_what_may_have_had_an_effect_is_not_tried_again(session: Spoken, said: wire.ClientData) -> None:
    book = Playbook(session) >> said << who() >> known() << any_of(wire.Ask) >> decided(grant()) << CONNECTS
    book = book >> session.connected()
    book.take()
    assert book >> GONE << FAULT << problem(502, close=True) << response_facts(status=0) << closes()


def test_a_response_that_has_begun_is_not_asked_for_again(session: Spoken) -> None:
    book = granted(session, client("GET /orders")) >> upstream(b"HTTP/1.1 20")
    assert (
        book >> GONE << FAULT << problem(502, "broke the protocol", close=True) << response_facts(status=0) << closes()
    )


def test_a_response_that_is_cut_is_cut_for_the_client_too_and_on_record(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders"))
        >> upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        << tells(b"200 OK")
        << told(b"ab")
        >> GONE
        << FAULT
        << response_facts(status=200, bytes=2, cut="the target broke the protocol: the message was cut")
        << closes("the message was cut")
    )


def test_a_target_that_breaks_the_protocol_is_a_bad_gateway(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders"))
        >> upstream(b"220 ready\r\n")
        << FAULT
        << problem(502, "broke the protocol", close=True)
        << response_facts(status=0)
        << closes("broke the protocol")
    )


def test_a_target_that_changes_the_protocol_unasked_is_a_bad_gateway(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders"))
        >> upstream(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        << FAULT
        << problem(502, "nobody asked for", close=True)
        << response_facts(status=0)
        << closes("nobody asked for")
    )


def test_a_target_that_does_not_begin_to_answer_is_not_waited_for(session: Spoken) -> None:
    book = granted(session, client("GET /orders")) >> wire.TimerFired("response")
    assert book << FAULT << problem(504, close=True) << response_facts(status=0) << closes("in time")


def test_bytes_behind_a_response_answer_nothing_and_end_their_connection(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders"))
        >> upstream(OK, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        << tells(b"200 OK")
        << DONE
        << told(b"ok")
        << releases(False)
        >> RELEASED
        >> client("GET /orders")
        << who()
        >> known()
        << asks("GET /orders")
        >> decided(grant())
        << CONNECTS
        >> session.connected()
        << sent(UPSTREAM_GET, GRANTED)
        >> upstream(response(b"mine"))
        << tells(b"200 OK")
        << DONE
        << told(b"mine")
        << releases()
    )


def test_an_answer_before_the_whole_request_ends_both_connections(session: Spoken) -> None:
    book = Playbook(session) >> client("POST /orders", "Content-Type: text/x", "Content-Length: 9", body=b"abc")
    book = book << who() >> known() << asks("POST /orders") >> decided(grant()) << CONNECTS >> session.connected()
    assert (
        book
        << any_of(wire.SendUpstream)
        << any_of(wire.SendUpstream)
        >> upstream(OK)
        << tells(b"200 OK")
        << DONE
        << told(b"ok")
        << releases(False)
        >> RELEASED
        << closes("answered before")
    )


# --- masks and limits -------------------------------------------------------------------------------------------------


def test_a_response_that_is_masked_is_held_until_it_is_complete(session: Spoken) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: x\r\nContent-Length: 22\r\n\r\n"
    assert (
        granted(session, client("GET /orders"), MASK)
        >> upstream(head + b'{"id": 1, ')
        >> upstream(b'"ssn": "77"}')
        << told(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 23\r\n\r\n")
        << response_facts(masked=1, bytes=23)
        << told(b'{"id":1,"ssn":"hidden"}')
        << releases()
    )


def test_what_cannot_be_masked_is_withheld(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders"), MASK)
        >> upstream(response(b"77", "Content-Type: text/plain"))
        << Match("withheld", lambda e: isinstance(e, wire.Record) and "withheld" in e.event.facts)
        << problem(403, "cannot-mask", close=True)
        << closes("could not be relayed")
    )


def test_what_turns_out_not_to_be_what_it_says_is_withheld(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders"), MASK)
        >> upstream(response(b'{"ssn": "77"', JSON))
        << response_facts(status=200)
        << problem(403, "cannot-mask", close=True)
        << closes("could not be relayed")
    )


def test_what_cannot_be_masked_behind_a_head_that_was_sent_is_cut(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders"), MASK)
        >> upstream(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n")
        << tells(b"200 OK", b"chunked")
        >> upstream(b'd\r\n{"ssn": "1"}\n\r\n')
        << tells(b'{"ssn":"hidden"}')
        >> upstream(b"4\r\n{xx\n\r\n")
        << response_facts(status=200)
        << closes("the response was cut")
    )


def test_rows_past_the_limit_are_left_out(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders"), LimitRows(2, OnExcess.TRUNCATE))
        >> upstream(response(b"[1,2,3]", JSON))
        << tells(b"Content-Length: 5")
        << response_facts(rows=2, truncated=True)
        << told(b"[1,2]")
        << releases()
    )


def test_rows_past_the_limit_are_refused_where_policy_says_so(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders"), LimitRows(2, OnExcess.FAIL))
        >> upstream(response(b"[1,2,3]", JSON))
        << response_facts(status=200)
        << problem(403, close=True)
        << closes()
    )


def test_the_target_s_credential_does_not_come_back() -> None:
    assert (
        granted(talk(injected=True), client("GET /orders"))
        >> upstream(response(b"you are " + SECRET, f"X-Echo: {SECRET.decode()}"))
        << tells(b"X-Echo: [removed]", b"Content-Length: 17")
        << DONE
        << told(b"you are [removed]")
        << releases()
    )


# --- MCP --------------------------------------------------------------------------------------------------------------

LIST = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'


def listed(session: Spoken) -> Playbook:
    book = Playbook(session) >> posted(LIST, "Accept-Encoding: gzip", path="/mcp") << who() >> known()
    book = book << asks("POST /mcp", execution=False) >> decided(grant()) << asks("POST /mcp") >> decided(grant())
    book = book << asks("tools/list") >> decided(GRANTED) << CONNECTS >> session.connected()
    plain = Match("asks for no coding", lambda e: b"Accept-Encoding: identity\r\n" in e.data)
    return book << plain << any_of(wire.SendUpstream)


def test_a_list_of_tools_shows_those_that_policy_lets_be_called(session: Spoken) -> None:
    tools = [{"name": name} for name in ("read", "drop", "pay")]
    answer = {"jsonrpc": "2.0", "id": 1, "result": {"tools": tools}}
    approval = held().decision
    assert isinstance(approval, RequireApproval)
    verdicts = (Allow("d", "r"), Deny("d", "r", ()), approval)
    assert (
        listed(session)
        >> upstream(response(orjson.dumps(answer), JSON))
        << WHAT_IF
        >> looked_up(verdicts)
        << tells(b"200 OK")
        << DONE
        << told(orjson.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": [tools[0], tools[2]]}}))
        << releases()
    )


def test_a_list_of_tools_that_is_not_understood_is_withheld(session: Spoken) -> None:
    assert (
        listed(session)
        >> upstream(response(b'{"result": {"tools": 7}}', JSON))
        << response_facts(status=200)
        << problem(403, "not understood", close=True)
        << closes()
    )


# --- other protocols --------------------------------------------------------------------------------------------------

UPGRADE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: k")
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def test_an_upgrade_is_an_action_of_its_own_and_then_both_sides_pass(session: Spoken) -> None:
    upgrades = Match("asks to upgrade", lambda e: isinstance(e, wire.Ask) and e.actions[0].name == "upgrade")
    assert (
        Playbook(session)
        >> client("GET /socket", *UPGRADE)
        << who()
        >> known()
        << upgrades
        >> decided(GRANTED)
        << CONNECTS
        >> session.connected()
        << Match("upgrades", lambda e: b"Connection: Upgrade\r\nUpgrade: websocket\r\n" in e.data)
        >> upstream(SWITCHED, b"\x81\x02hi")
        << tells(b"101 Switching", b"Upgrade: websocket")
        << told(b"\x81\x02hi")
        >> wire.ClientData(b"\x81\x80GET / HTTP/1.1\r\n\r\n")
        << sent(b"\x81\x80GET / HTTP/1.1\r\n\r\n", wire.Continuation(GRANTED))
        >> upstream(b"\x88\x00")
        << told(b"\x88\x00")
        >> GONE
        << response_facts(bytes=6, bytes_sent=20, tags=["websocket"])
        << closes("target closed")
    )


def test_an_upgraded_connection_is_not_bound_to_the_time_for_an_answer() -> None:
    session = talk(timers=True, response=5.0)
    book = Playbook(session) >> client("GET /socket", *UPGRADE)
    book.take()
    book = book >> known()
    book.take()
    book = book >> decided(grant())
    book.take()
    book = book >> session.connected()
    assert wire.SetTimer("response", 5.0) in book.take()
    book = book >> upstream(SWITCHED)
    assert wire.SetTimer("response", None) in book.take()
    assert book


def test_where_a_mask_is_due_nothing_is_upgraded(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("GET /socket", *UPGRADE)
        << who()
        >> known()
        << asks("GET /socket")
        >> decided(grant(MASK))
        << record(EventType.DECISION)
        << not_forwarded()
        << problem(403, "cannot-mask", close=False)
    )


def tunnelled(session: Spoken, *behind: bytes) -> Playbook:
    book = granted(session, client("GET /socket", *UPGRADE), text="GET /socket")
    return book >> upstream(SWITCHED, *behind) << tells(b"101 Switching")


def test_a_target_that_shows_its_credential_in_a_tunnel_is_cut() -> None:
    assert (
        tunnelled(talk(injected=True))
        >> upstream(b"\x81\x1b" + SECRET[:3])
        << told(b"\x81\x1b" + SECRET[:3])
        >> upstream(SECRET[3:12])
        >> upstream(SECRET[12:])
        << response_facts(tags=["websocket"])
        << closes("showed its credential")
    )


def test_a_target_that_shows_its_credential_with_the_upgrade_is_cut_and_on_record() -> None:
    book = tunnelled(talk(injected=True), b"\x81\x1b" + SECRET)
    assert book << response_facts(tags=["websocket"]) << closes("showed its credential")


def test_a_client_that_leaves_its_tunnel_leaves_a_record(session: Spoken) -> None:
    assert tunnelled(session) >> wire.ClientClosed() << response_facts(tags=["websocket"]) << closes("left")


def test_an_upgrade_that_is_not_to_be_is_served_as_a_request() -> None:
    session = talk(websocket=False)
    assert (
        granted(session, client("GET /orders", *UPGRADE))
        >> upstream(OK)
        << tells(b"200 OK")
        << DONE
        << told(b"ok")
        << releases()
    )


def test_an_upgrade_that_the_target_does_not_want_is_answered_like_a_request(session: Spoken) -> None:
    assert (
        granted(session, client("GET /socket", *UPGRADE), text="GET /socket")
        >> upstream(response(b"no", status="426 Upgrade Required"))
        << tells(b"426 Upgrade Required")
        << DONE
        << told(b"no")
        << releases()
        >> RELEASED
        >> client("GET /orders")
        << who()
    )


# --- the end ----------------------------------------------------------------------------------------------------------

BEGUN = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab"


def test_a_session_that_is_revoked_at_once_is_cut_in_its_response(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders"))
        >> upstream(BEGUN)
        << tells(b"200 OK")
        << told(b"ab")
        >> wire.Revoked("killed", session="s-1")
        << FAULT
        << response_facts(cut="killed", bytes=2)
        << closes("killed")
    )


def test_a_session_that_is_revoked_before_its_response_is_told_why(session: Spoken) -> None:
    book = granted(session, client("GET /orders")) >> wire.Revoked("killed", session="s-1")
    assert book << FAULT << problem(403, "killed", close=True) << response_facts(cut="killed") << closes("killed")


def test_a_held_request_of_a_session_that_is_revoked_is_withdrawn(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("GET /orders")
        << who()
        >> known()
        << asks("GET /orders")
        >> decided(held())
        >> wire.Revoked("killed", session="s-1")
        << FAULT
        << problem(403, "killed", close=True)
        << wire.CancelAsk(2, "killed")
        << closes("killed")
        >> wire.Approved(2, "a-1")
    )


def test_a_session_that_ends_leaves_what_the_target_works_on_to_its_end(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders"))
        >> wire.Revoked("expired", at_once=False, session="s-1")
        >> upstream(OK)
        << tells(b"200 OK", b"Connection: close\r\n")
        << DONE
        << told(b"ok")
        << releases()
        >> RELEASED
        << closes("expired")
    )


def test_the_end_of_another_session_of_the_same_connection_leaves_this_one_alone(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders"))
        >> wire.Revoked("killed", session="s-2")
        >> wire.Revoked("expired", at_once=False, session="s-2")
        >> upstream(OK)
        << told(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        << DONE
        << told(b"ok")
        << releases()
        >> RELEASED
        >> client("GET /orders")
        << who()
    )


def test_an_idle_connection_ends_when_the_proxy_stops(session: Spoken) -> None:
    assert served(session) >> wire.Revoked("the proxy is stopping", at_once=False) << closes("stopping")


def test_the_end_of_a_session_leaves_an_idle_connection_to_others(session: Spoken) -> None:
    assert served(session) >> wire.Revoked("killed", session="s-1") >> client("GET /orders", token="b") << who("b")


def test_another_policy_changes_nothing_of_what_was_decided(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders"))
        >> wire.PolicyChanged("r-2")
        >> upstream(OK)
        << tells(b"200 OK")
        << DONE
        << told(b"ok")
        << releases()
    )


def test_what_cannot_be_put_on_record_ends_the_connection(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders"))
        >> wire.RecordFailed("disk full")
        << FAULT
        << problem(503, "record cannot be written", close=True)
        << response_facts(status=0)
        << closes("record")
        >> upstream(OK)
        >> client("GET /orders")
    )


def test_an_idle_connection_is_told_nothing_when_records_fail(session: Spoken) -> None:
    assert served(session) >> wire.RecordFailed("disk full") << closes("record")


def test_a_client_that_leaves_its_response_leaves_a_record(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders"))
        >> upstream(BEGUN)
        << tells(b"200 OK")
        << told(b"ab")
        >> wire.ClientClosed()
        << response_facts(bytes=2, cut="the client left")
        << closes("left")
    )


def test_a_malformed_request_behind_a_good_one_is_told_so(session: Spoken) -> None:
    assert (
        served(session)
        >> wire.ClientData(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        << FAULT
        << problem(400, close=True)
        << closes()
    )


def test_a_response_that_fails_under_another_request_s_body_says_nothing_of_it(session: Spoken) -> None:
    """The chunked body breaks the protocol after the answer began: nothing is added to the answer."""
    book = Playbook(session) >> client("POST /orders", "Content-Type: text/x", "Transfer-Encoding: chunked")
    book = book << who() >> known() << asks("POST /orders") >> decided(grant()) << CONNECTS >> session.connected()
    assert (
        book
        << any_of(wire.SendUpstream)
        >> upstream(BEGUN)
        << tells(b"200 OK")
        << told(b"ab")
        >> wire.ClientData(b"zz\r\n")
        << FAULT
        << response_facts(bytes=2)
        << closes("chunk")
    )


def test_connections_are_asked_for_by_the_session_that_was_granted(session: Spoken) -> None:
    assert (
        served(session)
        >> client("GET /orders", token="b")
        << who("b")
        >> known("s-2")
        << asks("GET /orders")
        >> decided(grant())
        << looks_up(Connect, session="s-2")
    )
