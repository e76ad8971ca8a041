"""The words in which conversations with an HTTP session are written, and the machines that they are held with."""

import itertools
from collections.abc import Sequence

import orjson

from pep.core import wire
from pep.core.decision_client import Bearer, Credential
from pep.core.model import Obligation
from pep.core.records import EventType
from pep.http.classify import ClassifySettings
from pep.http.messages import Fields
from pep.http.questions import Connect, Connected, HowStands, Known, Outgoing, Release, Unreachable, WhatIf, WhoIs
from pep.http.scrub import Scrub
from pep.http.session import HttpSession
from pep.http.stepping import Settings
from tests.playbook import Answer, Match, Playbook, any_of, asks, decided, grant, looked_up, record

TOKEN = "token-of-anna"
HOST = "shop.test"
SESSION = "s-1"
SECRET = b"the-target-s-own-credential"
BODY = frozenset({"action.properties.http.body"})
DONE = record(EventType.RESPONSE)
FAULT = record(EventType.ERROR)
REFUSED = record(EventType.DECISION)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def settings_for_tests(*, injected: bool = False, **changed: object) -> Settings:
    """Those of a proxy for http://shop.test with MCP at /mcp; `injected`: it shows the target a credential."""
    classify = {"scheme": "http", "body_limit": 200, "mcp_paths": ("/mcp",), "server": "shop"}
    classify |= {name: changed.pop(name) for name in tuple(changed) if name in ClassifySettings.__slots__}
    scrub = Scrub((SECRET,) if injected else ())
    given = {"login": frozenset({"bearer"}), "injects": injected, "hold": 600.0} | changed
    return Settings(ClassifySettings(**classify), scrub, **given)  # type: ignore[arg-type]


class Spoken:
    """A session machine that remembers what it asks; its timers are left out unless they are what it is about."""

    def __init__(self, settings: Settings, *, timers: bool = False, certificate: Credential | None = None) -> None:
        self.machine = HttpSession(settings, itertools.count(1), certificate)
        self._timers = timers
        self._wanted: Outgoing | None = None

    def receive(self, event: wire.Event) -> Sequence[wire.Effect]:
        effects = self.machine.receive(event)
        for effect in effects:
            if isinstance(effect, wire.LookUp) and isinstance(effect.question, Connect):
                self._wanted = effect.question.request
        return [effect for effect in effects if self._timers or not isinstance(effect, wire.SetTimer)]

    def connected(self, *more: tuple[str, str]) -> Answer:
        """There is a connection; the request is the one that was asked for, with these further fields."""

        def answer(exchange: int) -> wire.Event:
            wanted = self._wanted
            assert wanted is not None, "no connection was asked for"
            fields = Fields((*wanted.fields.items, *more))
            return wire.LookedUp(exchange, Connected(Outgoing(wanted.method, wanted.target, wanted.host, fields)))

        return answer


def talk(*, timers: bool = False, certificate: Credential | None = None, **settings: object) -> Spoken:
    return Spoken(settings_for_tests(**settings), timers=timers, certificate=certificate)  # type: ignore[arg-type]


def request(line: str, *fields: str, body: bytes = b"", token: str = TOKEN, version: str = "1.1") -> bytes:
    head = [f"{line} HTTP/{version}", f"Host: {HOST}"]
    if token:
        head.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*head, *fields, "", ""]).encode() + body


def client(*args: str, **more: object) -> wire.ClientData:
    return wire.ClientData(request(*args, **more))  # type: ignore[arg-type]


def posted(body: bytes, *fields: str, path: str = "/orders", type: str = "application/json") -> wire.ClientData:
    length = f"Content-Length: {len(body)}"
    return client(f"POST {path}", f"Content-Type: {type}", length, *fields, body=body)


def upstream(*parts: bytes) -> wire.UpstreamData:
    return wire.UpstreamData(b"".join(parts))


def response(body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(body)}", "", ""]).encode() + body


def told(data: bytes) -> wire.SendClient:
    return wire.SendClient(data)


def tells(*parts: bytes) -> Match:
    """Something for the client in which these parts are."""

    def matches(effect: wire.Effect) -> bool:
        return isinstance(effect, wire.SendClient) and all(part in effect.data for part in parts)

    return Match(f"tells {parts}", matches)


def problem(status: int, *parts: str, close: bool | None = None) -> Match:
    """A problem document of this status; `close` says whether it announces the connection's end."""

    def matches(effect: wire.Effect) -> bool:
        if not isinstance(effect, wire.SendClient) or not effect.data.startswith(b"HTTP/1.1 %d " % status):
            return False
        head, _, body = effect.data.partition(b"\r\n\r\n")
        whole = b"Content-Length: %d" % len(body) in head and orjson.loads(body)["status"] == status
        closes = close is None or (b"Connection: close" in head) == close
        return whole and closes and all(part.encode() in effect.data for part in parts)

    return Match(f"problem {status} {parts} close={close}", matches)


def sent(data: bytes, by: wire.By) -> wire.SendUpstream:
    return wire.SendUpstream(data, by)


def closes(part: str = "", ending: wire.Ending | None = None) -> Match:
    def matches(effect: wire.Effect) -> bool:
        return isinstance(effect, wire.Close) and part in effect.reason and ending in (None, effect.ending)

    return Match(f"close: {part} {ending or ''}", matches)


def response_facts(**wanted: object) -> Match:
    """A response on record, with these facts."""

    def matches(effect: wire.Effect) -> bool:
        if not isinstance(effect, wire.Record) or effect.event.type is not EventType.RESPONSE:
            return False
        return all(effect.event.facts.get(name) == value for name, value in wanted.items())

    return Match(f"a response on record {wanted}", matches)


def not_forwarded(execution_id: str = "e-1") -> Match:
    """On record that of what was granted nothing went to the target."""
    return response_facts(execution_id=execution_id, forwarded=False)


# --- look-ups ---------------------------------------------------------------------------------------------------------


def looks_up(kind: type, **fields: object) -> Match:
    def matches(effect: wire.Effect) -> bool:
        if not isinstance(effect, wire.LookUp) or not isinstance(effect.question, kind):
            return False
        return all(getattr(effect.question, name) == value for name, value in fields.items())

    return Match(f"looks up {kind.__name__} {fields}", matches)


def who(token: str = TOKEN) -> Match:
    return looks_up(WhoIs, credential=Bearer(token))


def known(session: str = SESSION, *duties: Obligation, paths: frozenset[str] = frozenset()) -> Answer:
    return looked_up(Known(session, duties, paths))


CONNECTS = looks_up(Connect)
RELEASED = looked_up(None)
WHAT_IF = looks_up(WhatIf)
HOW_STANDS = looks_up(HowStands)
UNREACHABLE = looked_up(Unreachable("the target cannot be reached: ConnectionRefusedError"))


def releases(reusable: bool = True) -> Match:
    return looks_up(Release, reusable=reusable)


# --- beginnings that many conversations share -------------------------------------------------------------------------

GRANTED = grant()
UPSTREAM_GET = b"GET /orders HTTP/1.1\r\nHost: shop.test\r\nAccept-Encoding: identity\r\n\r\n"


def granted(session: Spoken, said: wire.Event, *duties: Obligation, text: str = "GET /orders") -> Playbook:
    """A request without a body up to its bytes for the target, by GRANTED with these duties."""
    book = Playbook(session) >> said << who() >> known() << asks(text, session=SESSION)
    return book >> decided(grant(*duties)) << CONNECTS >> session.connected() << any_of(wire.SendUpstream)


def served(session: Spoken) -> Playbook:
    """A connection that has served one GET and waits for another request."""
    book = granted(session, client("GET /orders")) >> upstream(OK)
    return book << tells(b"200 OK") << DONE << told(b"ok") << releases() >> RELEASED
