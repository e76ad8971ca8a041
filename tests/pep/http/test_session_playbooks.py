"""The HTTP session as conversations, first half: what reaches the target, and what is answered in its place.

Each test is named after the sentence that it proves.
"""

import dataclasses
import hashlib

import orjson
import pytest

from pep.core import wire
from pep.core.decision_client import Bearer, ClientCertificate
from pep.core.model import Deny, ReadOnly, Reason, RemoveHeaders, SetHeaders, TimeLimit
from pep.core.records import EventType
from pep.core.wire import NEEDS_MORE
from pep.http.denial import AUTHENTICATION_FAILED
from pep.http.questions import Connect, HowStands, Known, Standing, TakesMore, WhoIs
from tests.pep.http.conversations import (
    BODY,
    CONNECTS,
    DONE,
    FAULT,
    GRANTED,
    HOW_STANDS,
    OK,
    REFUSED,
    RELEASED,
    SESSION,
    UNREACHABLE,
    UPSTREAM_GET,
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
    sent,
    talk,
    tells,
    told,
    upstream,
    who,
)
from tests.playbook import Match, Playbook, any_of, approved, asks, decided, denied, grant, held, looked_up, record

CONTINUE = told(b"HTTP/1.1 100 Continue\r\n\r\n")
HEAD_OK, BODY_OK = told(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"), told(b"ok")


@pytest.fixture
def session() -> Spoken:
    return talk()


# --- who --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields", [(), ("Authorization: Digest x",), ("X-Checkrein-Key: k",), ("Authorization: Bearer",)]
)
def test_a_request_without_a_credential_is_nobody_s_and_told_how_to_show_one(
    session: Spoken, fields: tuple[str, ...]
) -> None:
    assert (
        Playbook(session)
        >> client("GET /orders", *fields, token="")
        << FAULT
        << problem(401, "WWW-Authenticate: Bearer\r\n", close=False)
    )


@pytest.mark.parametrize(
    ("second", "why"),
    [("Authorization: Bearer other", "there twice"), ("X-Checkrein-Key: other", "more than one credential")],
)
def test_two_credentials_in_one_request_are_refused_and_the_connection_ends(
    session: Spoken, second: str, why: str
) -> None:
    assert Playbook(session) >> client("GET /orders", second) << FAULT << problem(400, why, close=True) << closes(why)


def test_a_credential_that_is_not_accepted_is_answered_with_401_and_the_next_one_may_be() -> None:
    session = talk()
    assert (
        Playbook(session)
        >> client("GET /orders")
        << who()
        >> looked_up(denied(code=AUTHENTICATION_FAILED))
        << problem(401, 'Bearer error="invalid_token"', close=False)
        >> client("GET /orders", token="another")
        << who("another")
    )


def test_a_login_that_cannot_be_decided_may_be_tried_again(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("GET /orders")
        << who()
        >> looked_up(denied(code="decision-unavailable", retry=True))
        << problem(503, "Retry-After")
    )


def test_a_certificate_counts_where_a_request_says_nothing_else() -> None:
    shown = ClientCertificate((b"der",))
    assert (
        Playbook(talk(certificate=shown))
        >> client("GET /orders", token="")
        << looks_up(WhoIs, credential=shown)
        >> looked_up(denied(code=AUTHENTICATION_FAILED))
        << problem(401)
        >> client("GET /orders")
        << looks_up(WhoIs, credential=Bearer("token-of-anna"))
    )


def test_each_request_of_a_connection_is_served_for_whoever_sent_it(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("GET /orders", token="one")
        << who("one")
        >> known("s-one")
        << asks("GET /orders", session="s-one")
        >> decided(denied())
        << problem(403)
        >> client("GET /orders", token="two")
        << who("two")
        >> known("s-two")
        << asks("GET /orders", session="s-two")
        >> decided(grant())
        << looks_up(Connect, session="s-two")
        >> session.connected()
        << sent(UPSTREAM_GET, GRANTED)
    )


# --- what -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/a%2fb", "/a/..;/b", "/a%00", "/a//b", "/a\\b", "/%252e"])
def test_a_path_that_can_be_read_in_two_ways_is_refused_unasked(session: Spoken, path: str) -> None:
    book = Playbook(session) >> client(f"GET {path}")
    effects = book.take()
    if isinstance(effects[0], wire.LookUp):
        book = book >> known()
        effects = book.take()
    assert book
    assert [type(effect) for effect in effects][:2] == [wire.Record, wire.SendClient]
    assert effects[1].data.startswith(b"HTTP/1.1 400 ")


def test_a_query_that_can_be_read_in_two_ways_is_refused_unasked(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("GET /orders?a=%zz")
        << who()
        >> known()
        << FAULT
        << problem(400, "more than one way", close=False)
    )


def test_a_body_that_cannot_be_told_is_denied_unasked_and_on_record(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> posted(b'{"a": 1, "a": 2}')
        << who()
        >> known(paths=BODY)
        << asks("POST /orders", execution=False)
        >> decided(grant())
        << REFUSED
        << problem(403, "not-understood", close=False)
    )


def test_a_denied_request_never_reaches_the_target(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("DELETE /orders/7")
        << who()
        >> known()
        << asks("DELETE /orders/7", execution=True, session=SESSION, hold=600.0, detached=False, whole=True)
        >> decided(denied("not on my watch"))
        << problem(403, "not on my watch", close=False)
    )


def test_what_no_decision_could_be_made_of_may_be_tried_again(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("GET /orders")
        << who()
        >> known()
        << asks("GET /orders")
        >> decided(denied(retry=True))
        << problem(503, "Retry-After")
    )


def test_a_body_that_newer_policies_read_is_read_and_asked_about_before_it_goes_anywhere(session: Spoken) -> None:
    more = Deny("d-1", "r-2", (Reason(NEEDS_MORE),), retry=True)
    assert (
        Playbook(session)
        >> posted(b'{"total":7}')
        << who()
        >> known()
        << asks("POST /orders", paths=frozenset())
        >> decided(more)
        << asks("POST /orders", execution=False, paths=None)
        >> decided(grant())
        << asks("POST /orders", execution=True, paths=None)
        >> decided(denied("seven is too much"))
        << problem(403, "seven is too much", close=False)
    )


def test_a_session_that_may_only_read_is_not_asked_about_a_write(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("DELETE /orders/7")
        << who()
        >> known(SESSION, ReadOnly())
        << REFUSED
        << problem(403, "read-only", close=False)
        >> client("GET /orders")
        << who()
        >> known(SESSION, ReadOnly())
        << asks("GET /orders")
    )


def test_a_denial_of_a_head_request_has_no_body(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("HEAD /orders")
        << who()
        >> known()
        << asks("HEAD /orders")
        >> decided(denied())
        << Match("a head alone", lambda e: e.data.startswith(b"HTTP/1.1 403 ") and e.data.endswith(b"\r\n\r\n"))
    )


# --- granted ----------------------------------------------------------------------------------------------------------


def test_the_target_gets_what_was_granted_and_nothing_that_is_the_client_s_own(session: Spoken) -> None:
    fields = (
        "User-Agent: x",
        "Cookie: c=1",
        "X-Forwarded-For: 10.0.0.1",
        "Connection: keep-alive, x-hop",
        "X-Hop: 1",
        "Proxy-Authorization: Basic eDp5",
        "TE: trailers",
        "Accept-Encoding: gzip;q=0.5, zstd-of-mine",
    )
    for_target = (
        b"GET /orders?b=2&a=1 HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: x\r\nCookie: c=1\r\n"
        b"Accept-Encoding: gzip\r\nX-Api-Key: ours\r\n\r\n"
    )
    assert (
        Playbook(session)
        >> client("GET /orders?b=2&a=%31", *fields)
        << who()
        >> known()
        << asks("GET /orders?b=2&a=1")
        >> decided(grant())
        << looks_up(Connect, session=SESSION, body=b"")
        >> session.connected(("X-Api-Key", "ours"))
        << sent(for_target, GRANTED)
        >> upstream(OK)
        << HEAD_OK
        << DONE
        << BODY_OK
        << releases(True)
        >> RELEASED
    )


def test_the_target_is_told_its_own_name_and_path() -> None:
    session = talk(host="10.0.0.9:8080", base_path="/api/v1")
    assert (
        Playbook(session)
        >> client("GET /orders")
        << who()
        >> known()
        << asks("GET /orders")
        >> decided(grant())
        << CONNECTS
        >> session.connected()
        << sent(b"GET /api/v1/orders HTTP/1.1\r\nHost: 10.0.0.9:8080\r\nAccept-Encoding: identity\r\n\r\n", GRANTED)
    )


def test_where_a_credential_is_shown_no_part_of_a_page_can_be_asked_for() -> None:
    session = talk(injected=True)
    book = Playbook(session) >> client("GET /orders", "Range: bytes=0-3", 'If-Range: "x"', "If-None-Match: y")
    book = book << who() >> known() << asks("GET /orders") >> decided(grant()) << CONNECTS >> session.connected()
    (effect,) = book.take()
    assert book
    assert isinstance(effect, wire.SendUpstream)
    assert b"Range" not in effect.data
    assert b"If-None-Match: y" in effect.data


def test_policy_sets_and_removes_fields_of_the_request(session: Spoken) -> None:
    given = grant(SetHeaders((("x-tenant", "t1"),)), RemoveHeaders(frozenset({"x-debug"})))
    target = b"GET /orders HTTP/1.1\r\nHost: shop.test\r\nAccept-Encoding: identity\r\nx-tenant: t1\r\n\r\n"
    assert (
        Playbook(session)
        >> client("GET /orders", "X-Tenant: mine", "X-Debug: 1")
        << who()
        >> known()
        << asks("GET /orders")
        >> decided(given)
        << CONNECTS
        >> session.connected()
        << sent(target, given)
    )


def test_duties_that_contradict_each_other_are_a_denial(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("GET /orders")
        << who()
        >> known()
        << asks("GET /orders")
        >> decided(grant(SetHeaders((("x-a", "1"),)), SetHeaders((("x-a", "2"),))))
        << REFUSED
        << not_forwarded()
        << problem(403, "obligations-conflict", close=False)
    )


def test_a_body_that_no_policy_reads_is_forwarded_as_it_comes(session: Spoken) -> None:
    first, second = b"POST /orders HTTP/1.1\r\n", b"Content-Type: text/x\r\n"
    assert (
        Playbook(session)
        >> client("POST /orders", "Content-Type: text/x", "Content-Length: 6", body=b"abc")
        << who()
        >> known()
        << asks("POST /orders", whole=False)
        >> decided(GRANTED)
        << looks_up(Connect, body=None)
        >> session.connected()
        << Match("the head", lambda e: e.data.startswith(first + b"Host: shop.test\r\n" + second) and e.by is GRANTED)
        << sent(b"abc", wire.Continuation(GRANTED))
        >> wire.ClientData(b"def")
        << sent(b"def", wire.Continuation(GRANTED))
        >> upstream(OK)
        << HEAD_OK
        << DONE
        << BODY_OK
        << releases(True)
    )


def test_a_chunked_body_is_forwarded_in_chunks_without_its_extensions_and_trailers(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("POST /orders", "Content-Type: text/x", "Transfer-Encoding: chunked", body=b"3;x=y\r\nabc\r\n")
        << who()
        >> known()
        << asks("POST /orders")
        >> decided(GRANTED)
        << CONNECTS
        >> session.connected()
        << Match("chunked", lambda e: b"Transfer-Encoding: chunked\r\n\r\n" in e.data and b"Length" not in e.data)
        << sent(b"3\r\nabc\r\n", wire.Continuation(GRANTED))
        >> wire.ClientData(b"2\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n")
        << sent(b"2\r\nde\r\n", wire.Continuation(GRANTED))
        << sent(b"0\r\n\r\n", wire.Continuation(GRANTED))
    )


def test_a_body_that_was_decided_is_forwarded_as_this_proxy_writes_it(session: Spoken) -> None:
    written = b'{"a":1,"b":"\xc3\xa4"}'
    head = (
        b"POST /orders HTTP/1.1\r\nHost: shop.test\r\nContent-Type: application/json\r\nAccept-Encoding: identity\r\n"
        b"Content-Length: 16\r\n\r\n"
    )
    reads = Match(
        "asks with the body",
        lambda e: isinstance(e, wire.Ask) and e.actions[0].properties["body"]["json"] == {"a": 1, "b": "ä"},
    )
    assert (
        Playbook(session)
        >> posted(b'{ "a" : 1,\n "b": "\\u00e4" }')
        << who()
        >> known(paths=BODY)
        << Match("prepares", lambda e: e.actions[0].name == "prepare" and not e.execution)
        >> decided(grant(execution_id="of the head"))
        << reads
        >> decided(GRANTED)
        << looks_up(Connect, body=written)
        >> session.connected()
        << sent(head, GRANTED)
        << sent(written, wire.Continuation(GRANTED))
    )


# --- bodies that are read ---------------------------------------------------------------------------------------------


def test_a_head_that_is_denied_is_denied_before_its_body_is_read(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("POST /orders", "Content-Type: application/json", "Content-Length: 4")
        << who()
        >> known(paths=BODY)
        << asks("POST /orders", execution=False)
        >> decided(denied())
        << problem(403, close=False)
        >> wire.ClientData(b"true" + request("GET /orders"))
        << who()
    )


def test_the_body_is_called_for_only_once_the_head_was_allowed(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("POST /orders", "Content-Type: application/json", "Content-Length: 4", "Expect: 100-continue")
        << who()
        >> known(paths=BODY)
        << asks("POST /orders", execution=False)
        >> decided(grant())
        << CONTINUE
        >> wire.ClientData(b"true")
        << asks("POST /orders", execution=True)
    )


def test_the_body_is_not_called_for_where_the_head_is_denied(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("POST /orders", "Content-Type: application/json", "Content-Length: 4", "Expect: 100-continue")
        << who()
        >> known(paths=BODY)
        << asks("POST /orders", execution=False)
        >> decided(denied())
        << problem(403, close=True)
        << closes("is not read", wire.Ending.LINGERING)
    )


def test_a_body_that_nobody_reads_is_called_for_once_the_target_is_there(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("POST /orders", "Content-Type: text/x", "Content-Length: 4", "Expect: 100-continue")
        << who()
        >> known()
        << asks("POST /orders")
        >> decided(grant())
        << CONNECTS
        >> session.connected()
        << CONTINUE
        << Match("no Expect", lambda e: isinstance(e, wire.SendUpstream) and b"Expect" not in e.data)
    )


def test_a_body_past_the_limit_is_refused_and_the_rest_is_read_no_further_than_it_must(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> posted(b"1" * 300)
        << who()
        >> known(paths=BODY)
        << asks("POST /orders", execution=False)
        >> decided(grant())
        << REFUSED
        << problem(413, "body-too-large")
    )


def test_the_client_of_a_long_refused_body_is_given_time_to_read_why(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("POST /orders", "Content-Type: text/x", "Content-Length: 1000000")
        << who()
        >> known()
        << asks("POST /orders")
        >> decided(denied())
        << problem(403, close=True)
        << closes("is not read", wire.Ending.LINGERING)
    )


# --- people -----------------------------------------------------------------------------------------------------------


def test_an_approved_request_is_asked_again_with_the_same_action_and_redeems_its_approval(session: Spoken) -> None:
    book = Playbook(session) >> client("DELETE /orders/7") << who() >> known()
    (first,) = book.take()
    assert isinstance(first, wire.Ask)
    book = book >> decided(held("a-7")) >> approved("a-7")
    assert (
        book
        << dataclasses.replace(first, redeem="a-7")
        >> decided(GRANTED)
        << CONNECTS
        >> session.connected()
        << Match("the request", lambda e: e.by is GRANTED and e.data.startswith(b"DELETE /orders/7 HTTP/1.1\r\n"))
    )


def test_a_request_that_people_refuse_is_denied_with_their_words(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("DELETE /orders/7")
        << who()
        >> known()
        << asks("DELETE /orders/7")
        >> decided(held())
        >> decided(denied("the owners say no"))
        << problem(403, "the owners say no", close=False)
    )


def test_a_client_that_leaves_while_it_is_held_withdraws_and_nothing_is_sent(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("DELETE /orders/7")
        << who()
        >> known()
        << asks("DELETE /orders/7")
        >> decided(held())
        >> wire.ClientClosed()
        << wire.CancelAsk(2, "the client left")
        << closes("left")
        >> wire.Approved(2, "a-1")
        >> wire.Decided(2, GRANTED)
    )


@pytest.mark.parametrize("at_once", [True, False])
def test_a_request_that_waits_for_people_ends_with_its_session(session: Spoken, at_once: bool) -> None:
    assert (
        Playbook(session)
        >> client("DELETE /orders/7")
        << who()
        >> known()
        << asks("DELETE /orders/7")
        >> decided(held())
        >> wire.Revoked("the credential has expired", at_once, SESSION)
        << FAULT
        << problem(403 if at_once else 503, "the credential has expired", close=True)
        << any_of(wire.CancelAsk)
        << closes("expired")
        >> approved("a-1")
    )


def test_a_client_that_leaves_while_its_connection_is_made_sends_nothing(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("DELETE /orders/7")
        << who()
        >> known()
        << asks("DELETE /orders/7")
        >> decided(grant())
        << CONNECTS
        >> wire.ClientClosed()
        << not_forwarded()
        << wire.CancelAsk(3, "the client left")
        << closes("left")
        >> session.connected()
    )


def test_an_approval_binds_a_body_that_no_policy_reads(session: Spoken) -> None:
    whole = {"body": {"bytes": 4, "sha256": hashlib.sha256(b"true").hexdigest()}}
    bound = Match(
        "asks with the body's digest",
        lambda e: isinstance(e, wire.Ask) and e.whole and e.actions[0].statement.parameters[-1] == whole,
    )
    assert (
        Playbook(session)
        >> client("POST /orders", "Content-Type: text/x", "Content-Length: 4", "Expect: 100-continue")
        << who()
        >> known()
        << asks("POST /orders", whole=False)
        >> decided(denied(code=wire.NEEDS_WHOLE))
        << CONTINUE
        >> wire.ClientData(b"true")
        << bound
        >> decided(held())
        >> approved("a-1")
        << asks("POST /orders", redeem="a-1")
        >> decided(GRANTED)
        << looks_up(Connect, body=b"true")
        >> session.connected()
        << Match("the head", lambda e: e.by is GRANTED and e.data.endswith(b"Content-Length: 4\r\n\r\n"))
        << sent(b"true", wire.Continuation(GRANTED))
    )


def test_a_client_that_does_not_wait_is_told_where_to_ask(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("DELETE /orders/7", "Prefer: respond-async")
        << who()
        >> known()
        << asks("DELETE /orders/7", detached=True)
        >> (lambda exchange: wire.Decided(exchange, held("a-7"), final=True))
        << tells(
            b"HTTP/1.1 202 Accepted", b"Location: /.checkrein/approvals/a-7\r\n", b"Retry-After: ", b"respond-async"
        )
        >> client("GET /.checkrein/approvals/a-7")
        << who()
        >> known()
        << looks_up(HowStands, session=SESSION, approval_id="a-7")
        >> looked_up(Standing(held("a-7"), "pending"))
        << tells(b"HTTP/1.1 202 ", b'"state":"pending"')
        >> client("GET /.checkrein/approvals/a-7")
        << who()
        >> known()
        << HOW_STANDS
        >> looked_up(Standing(held("a-7"), "approved", "fine"))
        << tells(b"HTTP/1.1 200 ", b'"comment":"fine"')
        >> client("DELETE /orders/7", "Prefer: respond-async")
        << who()
        >> known()
        << asks("DELETE /orders/7", detached=True)
        >> decided(GRANTED)
        << CONNECTS
    )


def test_an_approval_of_somebody_else_is_unknown_here(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("GET /.checkrein/approvals/a-7")
        << who()
        >> known()
        << HOW_STANDS
        >> looked_up(None)
        << problem(404, close=False)
        >> client("POST /.checkrein/approvals/a-7", "Content-Length: 0")
        << who()
        >> known()
        << problem(404, close=False)
        >> client("GET /.checkrein/elsewhere")
        << who()
        >> known()
        << problem(404, close=False)
    )


# --- MCP --------------------------------------------------------------------------------------------------------------


def call(method: str, number: int = 1, **params: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def mcp(session: Spoken, *texts: str, message: object) -> Playbook:
    """A POST of MCP up to the question about what it carries; what carries it is granted."""
    book = Playbook(session) >> posted(orjson.dumps(message), path="/mcp") << who() >> known()
    book = book << asks("POST /mcp", execution=False) >> decided(grant())
    return book << asks("POST /mcp", execution=True) >> decided(grant(execution_id="carrier")) << asks(*texts)


def test_a_tool_that_is_denied_is_answered_in_its_own_protocol(session: Spoken) -> None:
    book = mcp(session, "tools/call drop", message=call("tools/call", 7, name="drop", arguments={}))
    book = book >> decided(denied("no dropping"))
    book = book << not_forwarded("carrier")
    (effect,) = book.take()
    assert book
    assert isinstance(effect, wire.SendClient)
    head, _, body = effect.data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
    answer = orjson.loads(body)
    assert answer["id"] == 7
    assert answer["result"]["isError"] is True
    assert "no dropping" in answer["result"]["content"][0]["text"]


def test_another_call_that_is_denied_is_an_error_of_its_protocol(session: Spoken) -> None:
    assert (
        mcp(session, "resources/read file:///etc", message=call("resources/read", uri="file:///etc"))
        >> decided(denied("not that file"))
        << not_forwarded("carrier")
        << tells(b"HTTP/1.1 200 OK", b'"code":-32003', b"not that file")
    )


def test_a_notification_that_is_denied_is_a_refusal_of_the_request(session: Spoken) -> None:
    message = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
    book = mcp(session, "notifications/cancelled", message=message) >> decided(denied())
    assert book << not_forwarded("carrier") << problem(403, close=False)


def test_a_tool_waits_for_people_and_is_forwarded_by_its_own_grant(session: Spoken) -> None:
    assert (
        mcp(session, "tools/call drop", message=call("tools/call", name="drop", arguments={}))
        >> decided(held())
        >> approved("a-1")
        << asks("tools/call drop", redeem="a-1")
        >> decided(GRANTED)
        << CONNECTS
        >> session.connected()
        << Match("the head", lambda e: e.by is GRANTED)
        << any_of(wire.SendUpstream)
    )


# --- where ------------------------------------------------------------------------------------------------------------


def test_a_target_that_cannot_be_reached_is_a_bad_gateway_and_the_connection_goes_on(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("GET /orders")
        << who()
        >> known()
        << asks("GET /orders")
        >> decided(grant())
        << CONNECTS
        >> UNREACHABLE
        << FAULT
        << not_forwarded()
        << problem(502, "cannot be reached", close=False)
        >> client("GET /orders")
        << who()
    )


# --- time -------------------------------------------------------------------------------------------------------------


def timed(**settings: object) -> Playbook:
    return Playbook(talk(timers=True, head=10.0, idle=60.0, stalled=30.0, **settings))


HEAD, NO_HEAD = wire.SetTimer("head", 10.0), wire.SetTimer("head", None)
STALLED, NOT_STALLED = wire.SetTimer("stalled", 30.0), wire.SetTimer("stalled", None)


def test_a_connection_on_which_nothing_comes_is_closed() -> None:
    book = timed() >> wire.ClientData(b"") << HEAD
    assert book >> wire.TimerFired("head") << NO_HEAD << closes("no request came")


def test_a_head_that_does_not_arrive_in_time_is_answered_with_408() -> None:
    assert (
        timed()
        >> wire.ClientData(b"GET / HT")
        << HEAD
        << HEAD
        >> wire.ClientData(b"TP/1.1\r\n")
        >> wire.TimerFired("head")
        << FAULT
        << problem(408, close=True)
        << NO_HEAD
        << closes("did not arrive in time")
    )


def test_the_time_between_two_requests_is_limited_too() -> None:
    book = timed() >> client("GET /orders", token="") << HEAD << NO_HEAD << FAULT << problem(401)
    book = book << wire.SetTimer("drain", 2.0) << wire.SetTimer("drain", None) << wire.SetTimer("idle", 60.0)
    assert book >> wire.TimerFired("idle") << NO_HEAD << closes("idle")


def test_a_second_head_that_does_not_arrive_in_time_is_answered_as_well() -> None:
    session = talk()
    assert (
        Playbook(session)
        >> client("GET /orders", token="")
        << FAULT
        << problem(401)
        >> wire.ClientData(b"GET / HTTP/1.1\r\n")
        >> wire.TimerFired("head")
        << FAULT
        << problem(408)
        << closes("did not arrive in time")
    )


def test_a_body_of_which_nothing_comes_any_more_is_answered_with_408(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("POST /orders", "Content-Type: application/json", "Content-Length: 4")
        << who()
        >> known(paths=BODY)
        << asks("POST /orders", execution=False)
        >> decided(grant())
        >> wire.ClientData(b"tr")
        >> wire.TimerFired("stalled")
        >> wire.TimerFired("stalled")
        << FAULT
        << problem(408, close=True)
        << closes("did not arrive in time", wire.Ending.LINGERING)
    )


def test_a_forwarded_body_of_which_nothing_comes_any_more_is_answered_with_408(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("POST /orders", "Content-Type: text/x", "Content-Length: 4")
        << who()
        >> known()
        << asks("POST /orders")
        >> decided(grant())
        << CONNECTS
        >> session.connected()
        << any_of(wire.SendUpstream)
        >> wire.TimerFired("stalled")
        << looks_up(TakesMore)
        >> looked_up(True)
        << FAULT
        << record(EventType.RESPONSE)
        << problem(408, close=True)
        << closes("did not arrive in time", wire.Ending.LINGERING)
    )


def test_a_target_that_takes_no_more_of_a_body_is_answered_with_504(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("POST /orders", "Content-Type: text/x", "Content-Length: 9")
        << who()
        >> known()
        << asks("POST /orders")
        >> decided(grant())
        << CONNECTS
        >> session.connected()
        << any_of(wire.SendUpstream)
        >> wire.ClientData(b"begun")
        << any_of(wire.SendUpstream)
        >> wire.TimerFired("stalled")
        >> wire.TimerFired("stalled")
        << looks_up(TakesMore)
        >> looked_up(False)
        << FAULT
        << record(EventType.RESPONSE)
        << problem(504, "the target did not take", close=True)
        << closes("the target did not take", wire.Ending.LINGERING)
    )


def test_a_body_that_stalls_under_an_answer_cuts_it_and_adds_nothing(session: Spoken) -> None:
    assert (
        Playbook(session)
        >> client("POST /orders", "Content-Type: text/x", "Content-Length: 4")
        << who()
        >> known()
        << asks("POST /orders")
        >> decided(grant())
        << CONNECTS
        >> session.connected()
        << any_of(wire.SendUpstream)
        >> upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegun")
        << tells(b"200 OK")
        << told(b"begun")
        >> wire.TimerFired("stalled")
        << looks_up(TakesMore)
        >> looked_up(True)
        << FAULT
        << record(EventType.RESPONSE)
        << closes("did not arrive in time")
    )


def test_a_policy_that_limits_the_time_ends_what_takes_longer(session: Spoken) -> None:
    assert (
        granted(session, client("GET /orders"), TimeLimit(5.0))
        >> wire.TimerFired("limit")
        << FAULT
        << problem(504, "longer than policy allows", close=True)
        << record(EventType.RESPONSE)
        << closes("longer")
    )


def test_the_session_of_a_known_answer_is_named_while_it_is_served(session: Spoken) -> None:
    machine = session.machine
    book = Playbook(session) >> client("GET /orders") << who()
    assert machine.serving == ""
    book = book >> looked_up(Known("s-9", (), frozenset())) << asks("GET /orders")
    assert machine.serving == "s-9"
    assert book >> decided(denied()) << problem(403)
    assert machine.serving == ""


def test_a_body_that_names_a_method_never_reaches_the_target_whole(session: Spoken) -> None:
    body = b'{"a": 1, "_method": "DELETE"}'
    assert (
        Playbook(session)
        >> client("POST /orders", "Content-Type: application/json", f"Content-Length: {len(body)}", body=body[:14])
        << who()
        >> known()
        << asks("POST /orders")
        >> decided(grant())
        << CONNECTS
        >> session.connected()
        << any_of(wire.SendUpstream)
        << any_of(wire.SendUpstream)
        >> wire.ClientData(body[14:])
        << REFUSED
        << record(EventType.RESPONSE)
        << problem(403, "method-in-body", close=True)
        << closes("names a method")
    )
