"""One request: who sends it, what is decided of it, and how it goes to the target.

The order is fixed: strict reading (`codec`), identity, the head's decision where a policy reads the body, the body, the
decision, people, the connection, the first byte. What a decision has read is forwarded as this proxy writes it, never
as it came, so that the target reads what was decided.
"""

from __future__ import annotations

import dataclasses
from typing import Final, NoReturn
from urllib.parse import quote

from pep.core.model import Action, Deny, Grant, Held, ReadOnly, RecordSession, local_deny
from pep.core.wire import NEEDS_MORE, NEEDS_WHOLE, Approved, Continuation
from pep.http import denial, mcp, mcp_fields, overriding
from pep.http.binding import bound, digest, said
from pep.http.classify import BODY_PATH, STRIPPED_UPSTREAM, Request, Unclassifiable, classify, is_mcp, needs_body
from pep.http.codec import encode_request
from pep.http.connection import Connection
from pep.http.identity import presented, repeats
from pep.http.large import Failed, is_large
from pep.http.mcp_sessions import Place
from pep.http.messages import Framing, Length, RequestHead
from pep.http.obligations import NO_DUTIES, CannotMask, Duties, duties_of
from pep.http.outgoing import outgoing, with_connection
from pep.http.paths import Ambiguous, Path, normalise
from pep.http.questions import Connect, Connected, HowStands, Known, Outgoing, Read, Unreachable, WhoIs
from pep.http.responses import relay
from pep.http.stepping import SAFE, Cut, Pending, Refused, Stale, Step, TargetStalls

OWN_PREFIX: Final = "/.checkrein/"
APPROVALS: Final = OWN_PREFIX + "approvals/"
_LABEL_LENGTH: Final = 200


def serve_request(connection: Connection, head: RequestHead) -> Step[None]:
    """Serves one request to its end; `connection.closing` then says whether another may follow."""
    if head.upgrade and not (head.upgrade == "websocket" and connection.settings.websocket):
        # A client that asks for another protocol is served in this one (RFC 9110, section 7.8).
        head = dataclasses.replace(head, upgrade="")
    if not head.keep_alive:
        connection.closing = "the client keeps no connection"
    try:
        yield from _Exchange(connection, head).run()
        return
    except Refused as refused:
        if refused.deny is not None:
            connection.record_denial(refused.deny)
        answer = refused.answer
    except Pending as pending:
        location = APPROVALS + quote(pending.held.approval_id, safe="")
        answer = denial.pending(pending.held, _what(head), location)
    except TimeoutError:
        answer = _late(connection, 408, "the request's body did not arrive in time")
    except TargetStalls:
        answer = _late(connection, 504, "the target did not take the request's body in time")
    yield from _refuse(connection, head, answer)


def _late(connection: Connection, status: int, why: str) -> denial.Answer:
    connection.closing = why
    connection.record_fault(status, why)
    if connection.answered:
        # The target answers already, and nothing else may stand in its answer.
        raise Cut(why) from None
    return denial.problem(status, why)


def _refuse(connection: Connection, head: RequestHead, answer: denial.Answer) -> Step[None]:
    connection.cut(connection.closing or f"answered with {answer.status} in its place")
    match head.framing:
        case Length(size) if size <= connection.settings.head_bytes and not head.expects_continue:
            pass
        case _ if not connection.body_read:
            connection.closing = connection.closing or "the rest of a refused request is not read"
        case _:
            pass
    connection.answer(answer)
    if connection.closing:
        # What the client still sends is looked after while its connection ends.
        return
    ended = yield from connection.drain()
    if not ended:
        connection.closing = "the rest of a refused request is not read"


class _Exchange:
    """What one request needs, in order."""

    def __init__(self, connection: Connection, head: RequestHead) -> None:
        self._connection = connection
        self._settings = connection.settings
        self._head = head
        self._detached = connection.settings.respond_async and "respond-async" in head.fields.tokens("Prefer")
        # The paths that policies were known to read when the body was left unread; None where nothing was left out.
        self._left_out: frozenset[str] | None = None

    @property
    def _what(self) -> str:
        return _what(self._head)

    def run(self) -> Step[None]:
        if (preflight := self._settings.cors.preflight(self._head)) is not None:
            raise Refused(preflight)
        known = yield from self._identify()
        if self._head.path.startswith(OWN_PREFIX):
            yield from self._own(known)
            return
        path = self._path()
        if is_mcp(path, self._settings.classify):
            self._own_mcp_session(known)
        request, body, grants = yield from self._granted(known, path)
        duties = self._duties(grants, request)
        if request.calls and duties.rewrites:
            self._settings.mcp_sessions.rewrote(self._mcp_session, known.subject)
        if self._head.upgrade and duties.rewrites:
            self._deny("cannot-mask", "what an upgraded connection carries cannot be masked, and policy masks it here")
        forward = body if request.forward is None else request.forward
        if body is None or request.actions[0].properties["body"]["kind"] == "unread":
            # It goes on as it comes, or as it came where it was read for the approval alone.
            self._without_method(body)
        sending = (known, path, request, grants[-1], duties, forward)
        try:
            yield from self._forward(*sending)
        except Stale:
            # The target may close a kept connection at any time. What has no effect is tried again, once.
            if self._head.method not in SAFE or forward or not self._connection.body_read:
                raise
            yield from self._connection.start_over()
            yield from self._forward(*sending)

    def _forward(
        self, known: Known, path: Path, request: Request, grant: Grant, duties: Duties, body: bytes | None
    ) -> Step[None]:
        """To the target and back; `body` None where it is still to come from the client."""
        connection, limit = self._connection, duties.seconds
        wanted = self._outgoing(path, duties, request)
        ready = yield from self._connect(known, wanted, b"" if connection.body_read and not body else body)
        framing = self._head.framing if body is None else Length(len(body))
        if self._head.expects_continue and not connection.body_read:
            connection.go_on()
        if limit is not None:
            connection.timer("limit", limit)
        connection.forward(connection.known("encoded", _encoded, ready, self._head.upgrade, framing), grant)
        if body:
            connection.forward(body, Continuation(grant))
        kept = known.keeping.begin(each for action in grant.obligations for each in action)
        try:
            place = Place(known.subject, self._mcp_session, path.text) if request.mcp else None
            yield from relay(connection, self._head, request, grant, duties, kept, place, streams=body is None)
        finally:
            if limit is not None:
                connection.timer("limit", None)

    # --- who ----------------------------------------------------------------------------------------------------------

    def _identify(self) -> Step[Known]:
        connection, fields = self._connection, self._head.fields
        credential = connection.known("credential", presented, fields, self._settings.login, connection.certificate)
        if credential is None:
            self._connection.record_fault(401, "the request shows no credential")
            raise Refused(denial.unauthenticated(None))
        if self._connection.known("repeats", repeats, self._head, credential):
            why = "its credential stands in another field or in its address as well, where the target would see it"
            self._connection.record_fault(400, why)
            raise Refused(denial.problem(400, f"the request is refused: {why}"))
        agent = self._head.fields.first("User-Agent")
        labels = {"user_agent": agent[:_LABEL_LENGTH]} if agent else {}
        known = yield from self._connection.look_up(WhoIs(credential, labels))
        if isinstance(known, Deny):
            raise Refused(denial.unauthenticated(known))
        self._connection.session, self._connection.subject = known.session, known.subject
        self._connection.payer = known.payer
        return known  # type: ignore[no-any-return]

    def _own(self, known: Known) -> Step[None]:
        """What the proxy itself answers: how an approval stands."""
        if self._head.method not in SAFE or not self._head.path.startswith(APPROVALS):
            raise Refused(denial.problem(404, "this proxy answers GET /.checkrein/approvals/ID and nothing else here"))
        standing = yield from self._connection.look_up(
            HowStands(known.session, self._head.path.removeprefix(APPROVALS))
        )
        if standing is None:
            raise Refused(denial.problem(404, "no request of this session waits for such an approval"))
        raise Refused(denial.standing(standing.held, standing.state, standing.comment))

    @property
    def _mcp_session(self) -> str:
        return self._head.fields.first("Mcp-Session-Id") or ""

    def _own_mcp_session(self, known: Known) -> None:
        """Refuses the MCP session of somebody else, and a stream that would bring what was to be rewritten."""
        sessions = self._settings.mcp_sessions
        if self._mcp_session and not sessions.is_of(self._mcp_session, known.subject):
            # As the target says it of a session that it does not know: the client begins a new one.
            self._connection.record_fault(404, "no MCP session of this client has that name")
            raise Refused(denial.problem(404, "no MCP session of this client has that name; begin a new one"))
        if self._head.fields.first("Last-Event-ID") and not sessions.may_resume(self._mcp_session, known.subject):
            self._deny("cannot-mask", "a stream of this session cannot be resumed: policy rewrites answers in it")

    # --- what ---------------------------------------------------------------------------------------------------------

    def _path(self) -> Path:
        try:
            return self._connection.known("path", normalise, self._head.path)
        except Ambiguous as ambiguous:
            self._connection.record_fault(400, str(ambiguous))
            raise Refused(denial.problem(400, f"the path can be read in more than one way: {ambiguous}")) from None

    def _body(self, path: Path) -> Step[bytes]:
        """The whole body, after the head alone was not denied."""
        outline = yield from self._classified(path, None)
        action = outline.actions[0]
        prepare = dataclasses.replace(action, name="prepare", properties={**action.properties, "awaits": [BODY_PATH]})
        outcome = yield from self._connection.ask((prepare,), execution=False)
        if isinstance(outcome, Deny):
            raise Refused(denial.refused(outcome, self._what))
        return (yield from self._rest())

    def _rest(self) -> Step[bytes]:
        """The whole body, as it came."""
        if self._head.expects_continue:
            self._connection.go_on()
        limit = self._settings.classify.body_limit
        body = yield from self._connection.read_body(limit)
        if body is None:
            self._deny("body-too-large", f"its body has to be read whole, and is longer than {limit} bytes", 413)
        return body

    def _classified(self, path: Path, body: bytes | None) -> Step[Request]:
        settings = self._settings.classify
        content = None
        if is_large(self._head, path, body, settings):
            session = self._connection.session
            content = yield from self._connection.look_up(Read(session, self._head, path, body))
            if isinstance(content, Failed):
                self._deny("not-understood", f"it was not understood in full: {content.reason}")
        try:
            if body is None and content is None:
                return self._connection.known("request", classify, self._head, path, None, settings)
            return classify(self._head, path, body, settings, content)
        except Ambiguous as ambiguous:
            self._connection.record_fault(400, str(ambiguous))
            raise Refused(denial.problem(400, f"the request can be read in more than one way: {ambiguous}")) from None
        except Unclassifiable as unclassifiable:
            self._deny("not-understood", f"it was not understood in full: {unclassifiable}")

    def _without_method(self, body: bytes | None) -> None:
        """Refuses a body that names a method, or in which that could not be found; `body` None where it is to come."""
        if not overriding.may_name_a_method(self._head) or (body is None and self._connection.body_read):
            return
        decision_id = f"local-{self._connection.exchange}"
        try:
            named = overriding.in_whole(self._head.fields, body or b"")
            deny = overriding.denied(decision_id) if named else None
        except overriding.CannotSearch as cannot:
            deny = overriding.denied(decision_id, str(cannot))
        if deny is not None:
            raise Refused(denial.refused(deny, self._what), deny)

    def _described(self, known: Known, path: Path, body: bytes | None) -> Step[Request]:
        """The request as it is asked about; `body` None where it was not read."""
        request = yield from self._classified(path, body)
        if request.calls and mcp_fields.repeats_arguments(self._head.fields):
            self._repeats(request.calls[0], Place(known.subject, self._mcp_session, path.text))
        if any(isinstance(duty, ReadOnly) for duty in known.duties):
            self._only_reads(request)
        # The one that is sent once it is approved is another message, so its fields count too.
        return bound(request, said(self._head)) if self._detached else request

    def _repeats(self, call: mcp.Call, place: Place) -> None:
        """Refuses a call whose fields do not repeat the arguments that the tool's schema says; there is one call."""
        mirrored = self._settings.mcp_sessions.mirrored(place, call.tool)
        if not (why := mcp_fields.differs(self._head.fields, call, mirrored)):
            return
        deny = local_deny(f"local-{self._connection.exchange}", "fields-differ", why)
        answer = denial.refused(deny, self._what, 400)
        document = mcp.mismatched(call, deny)
        raise Refused(answer if document is None else denial.Answer(400, document, (), "application/json"), deny)

    def _deny(self, code: str, message: str, status: int = 403) -> NoReturn:
        deny = local_deny(f"local-{self._connection.exchange}", code, message)
        raise Refused(denial.refused(deny, self._what, status), deny)

    # --- whether ------------------------------------------------------------------------------------------------------

    def _granted(self, known: Known, path: Path) -> Step[tuple[Request, bytes | None, list[Grant]]]:
        """What is asked about, what of its body was read for that, and the grants."""
        body = None
        if needs_body(self._head, self._settings.classify, known.input_paths):
            body = yield from self._body(path)
        elif not self._connection.body_read:
            self._left_out = known.input_paths
        request = yield from self._described(known, path, body)
        grants: list[Grant] = []
        while not grants:
            try:
                grants = yield from self._permitted(request, detached=self._detached)
            except _NeedsWhole:
                body = yield from self._rest()
                request = bound(request, digest("body", body))
            except _NeedsMore:
                self._left_out = None
                body = (yield from self._body(path)) if body is None else body
                request = yield from self._described(known, path, body)
        return request, body, grants

    def _permitted(self, request: Request, *, detached: bool) -> Step[list[Grant]]:
        """The transport's grant, then that of what it carries, where it carries calls."""
        grants = [(yield from self._grant(request.actions[:1], detached=detached and not request.calls))]
        if request.calls:
            try:
                grants.append((yield from self._grant(request.actions[1:], detached=False)))
            except _Denied as denied:
                document = mcp.refused(request.calls, denied.deny)
                if document is None:
                    raise Refused(denial.refused(denied.deny, self._what)) from None
                raise Refused(denial.Answer(200, document, (), "application/json")) from None
        return grants

    def _grant(self, actions: tuple[Action, ...], *, detached: bool) -> Step[Grant]:
        carried = actions[0].protocol != "http"
        whole = self._connection.body_read
        # An approval that nobody waits for on the wire lasts as long as policy says.
        hold = None if detached else self._settings.hold
        outcome = yield from self._connection.ask(
            actions, hold=hold, detached=detached, whole=whole, paths=self._left_out
        )
        exchange = self._connection.exchange
        if isinstance(outcome, Held):
            if detached:
                raise Pending(outcome)
            # The answer to the same question: nothing is sent to the client meanwhile.
            outcome = yield from self._connection.wait_on()
        if isinstance(outcome, Approved):
            redeem = outcome.approval_id
            outcome = yield from self._connection.ask(
                actions, exchange=exchange, hold=self._settings.hold, redeem=redeem, paths=self._left_out
            )
        match outcome:
            case Grant():
                self._connection.grants.append(outcome)
                return outcome
            case Deny(reasons=reasons) if not whole and any(reason.code == NEEDS_WHOLE for reason in reasons):
                raise _NeedsWhole
            case Deny(reasons=reasons) if self._left_out is not None and any(r.code == NEEDS_MORE for r in reasons):
                raise _NeedsMore
            case Deny() as deny if carried:
                raise _Denied(deny)
            case Deny() as deny:
                raise Refused(denial.refused(deny, self._what))
            case other:
                raise TypeError(type(other))

    def _only_reads(self, request: Request) -> None:
        """Denies what may change something: by its method, by another one that it names, in an upgraded connection."""
        overrides = set(request.actions[0].properties["overrides"]) - STRIPPED_UPSTREAM
        if self._head.method not in SAFE or self._head.upgrade or overrides:
            self._deny("read-only", "this session may only read")

    def _duties(self, grants: list[Grant], request: Request) -> Duties:
        """What the grants oblige to. A session's ReadOnly was seen to before it was asked; a decision's is here."""
        if not any(action for one in grants for action in one.obligations):
            return NO_DUTIES
        if any(isinstance(each, ReadOnly) for one in grants for action in one.obligations for each in action):
            self._only_reads(request)
        obligations = tuple(
            tuple(each for each in action if not isinstance(each, ReadOnly | RecordSession))
            for one in grants
            for action in one.obligations
        )
        if not any(obligations):
            return NO_DUTIES
        try:
            return duties_of(obligations)
        except CannotMask as error:
            self._deny("obligations-conflict", str(error))

    # --- where --------------------------------------------------------------------------------------------------------

    def _outgoing(self, path: Path, duties: Duties, request: Request) -> Outgoing:
        try:
            return self._connection.known("outgoing", outgoing, self._head, path, duties, self._settings, request.mcp)
        except CannotMask as error:
            self._deny("cannot-mask", str(error))

    def _connect(self, known: Known, wanted: Outgoing, body: bytes | None) -> Step[Outgoing]:
        answer = yield from self._connection.look_up(Connect(known.session, wanted, body))
        match answer:
            case Connected(request=ready):
                return ready
            case Unreachable(reason):
                self._connection.record_fault(502, reason)
                raise Refused(denial.problem(502, reason))
            case other:
                raise TypeError(type(other))


class _NeedsWhole(Exception):
    """The request needs approval, and its body was not read: that is part of what is approved."""


class _NeedsMore(Exception):
    """Policies have changed, and read of the request what was not read for them."""


class _Denied(Exception):
    """What the request carries is denied; its own protocol says so."""

    def __init__(self, deny: Deny) -> None:
        super().__init__(deny.decision_id)
        self.deny = deny


def _encoded(ready: Outgoing, upgrade: str, framing: Framing) -> bytes:
    return encode_request(ready.method, ready.target, with_connection(ready.fields, upgrade), framing)


def _what(head: RequestHead) -> str:
    """The request in a few words, for a refusal: no query, which may hold anything."""
    return f"{head.method} {head.path}"[:120]
