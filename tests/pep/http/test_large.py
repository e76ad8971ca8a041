"""What is large is read and rewritten in another process: the same comes of it, or nothing, and the others go on."""

import contextlib
import gzip
import http.client
import json
import os
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path as FilePath

import pytest

from pep.core.children import Children
from pep.core.model import FieldMask, LimitRows, NullMask, OnExcess, digest_of
from pep.core.translate import action_message, action_size
from pep.http import large
from pep.http.classify import ClassifySettings, Unclassifiable, classify, content_of, overriding
from pep.http.masking import Rewriter, Rule
from pep.http.messages import Fields, Length, RequestHead
from pep.http.paths import normalise
from pep.http.redaction import Redactor
from pep.http.work import LARGE, Rewrite, at_once, document
from tests.http_relay import SECRET, allow, http_relay, mask
from tests.stub_service import eventually

MARKER = "111-22-3333"
ROWS = [{"id": number, "ssn": MARKER, "name": "Ada"} for number in range(2_000)]
LARGE_JSON = json.dumps(ROWS).encode()
MASKED_JSON = json.dumps([{**row, "ssn": None} for row in ROWS], separators=(",", ":")).encode()
SSN = FieldMask("customers", "$..ssn", NullMask())
LIMIT = 60.0

SETTINGS = ClassifySettings("https", mcp_paths=("/mcp",), graphql_paths=("/graphql",), server="pay")


def head(target, content_type, size):
    path, mark, query = target.partition("?")
    fields = Fields((("Content-Type", content_type),))
    return RequestHead("POST", target, path, query if mark else None, "pay.example", 1, fields, Length(size), True)


BODIES = [
    ("/x", "application/json", b'{"a": [1, 2.5, 9007199254740993, {"_method": 1}], "_METHOD": "x", "\xc3\xa9": null}'),
    ("/x", "application/x-www-form-urlencoded", b"_method=delete&a=1&b=%C3%A9&a=2"),
    ("/x", "multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--b--\r\n'),
    ("/x", "text/plain", b"hello"),
    ("/x", "application/octet-stream", b"_method=put"),
    ("/graphql", "application/json", b'{"query": "query Q { a: user { ssn } b }", "variables": {"x": [1]}}'),
    ("/graphql", "application/json", b'{"id": "kept elsewhere"}'),
    ("/graphql?query={a}", "application/json", b""),
    ("/mcp", "application/json", b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}'),
    ("/mcp", "application/json", b'[{"jsonrpc":"2.0","method":"x"},{"jsonrpc":"2.0","id":"a","method":"tools/list"}]'),
    ("/mcp", "application/json", b'{"jsonrpc":"1.0"}'),
]  # fmt: skip
REFUSED = [
    ("/x", "application/json", b'{"a": 1, "A": 2}'),
    ("/x", "application/json", b"[" * 100),
    ("/graphql?query={a", "application/json", b""),
]


@pytest.mark.parametrize(("target", "content_type", "body"), BODIES)
def test_the_child_reads_what_the_loop_reads(target, content_type, body):
    asked = head(target, content_type, len(body))
    path = normalise(asked.path)
    found = large.content(large.answer(large.reading(asked, path, body, SETTINGS)))
    expected = content_of(asked, path, body, SETTINGS)
    assert isinstance(found, type(expected))
    assert found.names == overriding(expected.names)
    for name in ("properties", "forward", "opaque", "bound", "calls", "graphql"):
        assert getattr(found, name) == getattr(expected, name)


@pytest.mark.parametrize(("target", "content_type", "body"), REFUSED)
def test_the_child_refuses_what_the_loop_refuses(target, content_type, body):
    asked = head(target, content_type, len(body))
    path = normalise(asked.path)
    found = large.content(large.answer(large.reading(asked, path, body, SETTINGS)))
    with pytest.raises(Unclassifiable) as refused:
        content_of(asked, path, body, SETTINGS)
    assert found == large.Failed(str(refused.value))


def long_bodies():
    yield "/x", "application/json", json.dumps({"z": [1.5, "\u00e9"] * 400, "a": {"c": 9007199254740993, "b": None}})
    yield "/x", "application/x-www-form-urlencoded", "&".join(f"name{number}=x" for number in range(200))
    call = {"name": "t", "arguments": {"z": "y" * 2000, "a": [1]}}
    yield "/mcp", "application/json", json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call})


@pytest.mark.parametrize(("target", "content_type", "body"), list(long_bodies()), ids=["json", "form", "mcp"])
def test_what_is_long_is_asked_and_bound_alike(target, content_type, body):
    data = body.encode()
    asked, path = head(target, content_type, len(data)), normalise(target)
    content = large.content(large.answer(large.reading(asked, path, data, SETTINGS)))
    found = classify(asked, path, data, SETTINGS, content)
    expected = classify(asked, path, data, SETTINGS)
    assert found.forward == expected.forward
    assert len(found.actions) == len(expected.actions)
    for one, other in zip(found.actions, expected.actions, strict=True):
        assert digest_of(one, "agent:a", "pay") == digest_of(other, "agent:a", "pay")
        assert json.loads(action_message(one, ()).properties_json) == other.properties
        assert action_size(one) == action_size(other)


def test_the_childs_documents_count_like_the_loops():
    rows = LimitRows(3, OnExcess.TRUNCATE)

    def rule():
        return Rule((SSN,), (rows,), Redactor(["email"], ["Ada"]), {"tax": "user.ssn"}, keys={"": b"k"})

    documents = [
        b'[{"ssn":"1","m":"a@example.org"},{"tax":"2","n":"Ada"}]',
        b'[{"ssn":"3"},{"ssn":"4"}]',
        b'{"x":"a@b.example"}',
    ]
    here, there = Rewriter(rule()), Rewriter(rule())
    for each in documents:
        expected = here.document(each)
        answer = large.answer(large.rewriting(Rewrite(there, each)))
        assert large.rewritten(answer, there) == expected
        assert there.counts == here.counts
    text = large.answer(large.rewriting(Rewrite(there, b"Ada: a@example.org", text=True)))
    assert large.rewritten(text, there) == here.redacted(b"Ada: a@example.org")
    assert there.counts == here.counts


def test_what_cannot_be_masked_is_a_failure():
    rewriter = Rewriter(Rule((SSN,)))
    answer = large.answer(large.rewriting(Rewrite(rewriter, b'{"ssn":1,"ssn":2}')))
    assert isinstance(large.rewritten(answer, rewriter), large.Failed)


def test_a_document_is_large_by_its_bytes():
    small, long = (json.dumps({"ssn": "x" * size}).encode() for size in (10, LARGE))
    assert at_once(document(Rewriter(Rule((SSN,))), small)) == b'{"ssn":null}'
    assert next(document(Rewriter(Rule((SSN,))), long)).data == long


# --- through the proxy ------------------------------------------------------------------------------------------------


class Target(BaseHTTPRequestHandler):
    """GET gives what its path names, POST takes a body."""

    protocol_version = "HTTP/1.1"
    bodies: dict[str, tuple[str, bytes]]
    taken: list[bytes]

    def do_GET(self):
        content_type, body = self.bodies[self.path]
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        if body.startswith(b"\x1f\x8b"):
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.taken.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


NDJSON = b"".join(
    json.dumps({"ssn": MARKER, "n": size, "x": "y" * size}).encode() + b"\n" for size in (1, LARGE * 2, 2)
)
SSE = b"".join(b"data: " + line + b"\n\n" for line in NDJSON.split(b"\n") if line)
ESCAPES = ((b"\\u0041%41&amp;" * 20 + SECRET.encode()) * 5000)[:-8]


@pytest.fixture(scope="module")
def target():
    bodies = {
        "/small": ("application/json", b'{"ssn":"%s"}' % MARKER.encode()),
        "/large": ("application/json", LARGE_JSON),
        "/gzip": ("application/json", gzip.compress(LARGE_JSON, 1)),
        "/broken": ("application/json", LARGE_JSON[:-1]),
        "/lines": ("application/x-ndjson", NDJSON),
        "/events": ("text/event-stream", SSE),
        "/escapes": ("application/octet-stream", ESCAPES),
    }
    taken = []
    # As an attribute of the class: the library makes an object for each connection.
    serving = type("Serving", (Target,), {"bodies": bodies, "taken": taken})
    with ThreadingHTTPServer(("127.0.0.1", 0), serving) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", taken
        server.shutdown()
        thread.join()


@pytest.fixture
def relay(target, monkeypatch):
    monkeypatch.setenv("CHECKREIN_TEST_UPSTREAM", SECRET)
    url, taken = target
    taken.clear()
    with http_relay(url, lambda _: mask(SSN), input_paths=["action.properties.http.body"]) as running:
        yield running


class Client:
    """One keep-alive connection."""

    def __init__(self, relay):
        self._relay = relay
        self.connection = http.client.HTTPConnection("127.0.0.1", relay.port, timeout=LIMIT)

    def send(self, path, body=None):
        headers = dict(self._relay.headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        self.connection.request("GET" if body is None else "POST", path, body, headers)

    def receive(self):
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def get(self, path):
        self.send(path)
        return self.receive()

    @property
    def waits(self):
        """Whether nothing has come back yet."""
        sock: socket.socket = self.connection.sock
        sock.setblocking(False)
        try:
            sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        finally:
            sock.settimeout(LIMIT)
        return False


@pytest.fixture
def clients(relay):
    with contextlib.ExitStack() as stack:

        def make():
            client = Client(relay)
            stack.callback(client.connection.close)
            return client

        yield make


def the_child():
    """The one child that reads and rewrites for the proxy, which is a thread of this process."""
    found = []
    for entry in FilePath("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and large.CHILD.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    (pid,) = found
    return pid


@contextlib.contextmanager
def standing_still(client):
    """The child does nothing meanwhile; it has been started by a document that was one too many for the loop."""
    assert client.get("/large") == (200, MASKED_JSON)
    pid = the_child()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def given(monkeypatch):
    """Set when a child has been given something. Before that its death would only start another."""
    done = threading.Event()
    ask = Children._ask

    async def asked(self, child, request):
        done.set()
        return await ask(self, child, request)

    monkeypatch.setattr(Children, "_ask", asked)
    return done


def decided(relay, path):
    return lambda: any(action.statement.text.endswith(path) for action in relay.decisions.asked)


def test_others_are_served_while_a_large_document_is_masked(relay, clients):
    one, other = clients(), clients()
    with standing_still(one):
        relay.decisions.asked.clear()
        one.send("/large")
        eventually(decided(relay, "/large"), LIMIT)
        for _ in range(20):
            assert other.get("/small") == (200, b'{"ssn":null}')
        assert one.waits
    assert one.receive() == (200, MASKED_JSON)


def test_others_are_served_while_a_large_body_is_read(relay, clients, target):
    one, other = clients(), clients()
    body = json.dumps([[MARKER, number] for number in range(40_000)]).encode()
    assert 700_000 < len(body) < 1 << 20
    with standing_still(one):
        relay.decisions.asked.clear()
        one.send("/in", body)
        # The head alone is asked about first.
        eventually(decided(relay, "/in"), LIMIT)
        for _ in range(20):
            assert other.get("/small") == (200, b'{"ssn":null}')
        assert one.waits
        assert target[1] == []
        assert [a.name for a in relay.decisions.asked if a.statement.text == "POST /in"] == ["prepare"]
    assert one.receive()[0] == 204
    assert target[1] == [json.dumps(json.loads(body), separators=(",", ":")).encode()]


def test_a_document_whose_child_dies_is_withheld(relay, clients, given):
    one = clients()
    with standing_still(one) as child:
        given.clear()
        one.send("/large")
        assert given.wait(LIMIT)
        os.kill(child, signal.SIGKILL)
        status, body = one.receive()
    assert status == 403
    assert MARKER.encode() not in body
    assert b"cannot-mask" in body
    assert clients().get("/large") == (200, MASKED_JSON)


def test_a_body_whose_child_dies_reaches_nobody(relay, clients, target, given):
    one = clients()
    with standing_still(one) as child:
        relay.decisions.asked.clear()
        given.clear()
        one.send("/in", json.dumps(["x" * LARGE * 2]).encode())
        assert given.wait(LIMIT)
        os.kill(child, signal.SIGKILL)
        status, body = one.receive()
    assert status == 403
    assert b"not-understood" in body
    assert target[1] == []
    assert [action.name for action in relay.decisions.asked] == ["prepare"]


def test_a_client_that_leaves_leaves_its_turn(relay, clients):
    one = clients()
    with standing_still(one):
        relay.decisions.asked.clear()
        one.send("/large")
        eventually(decided(relay, "/large"), LIMIT)
        one.connection.close()
    assert clients().get("/large") == (200, MASKED_JSON)


def test_a_large_document_that_cannot_be_masked_is_withheld(clients):
    status, body = clients().get("/broken")
    assert status == 403
    assert MARKER.encode() not in body


def test_a_compressed_document_is_masked_all_the_same(clients):
    assert clients().get("/gzip") == (200, MASKED_JSON)


def test_a_large_record_of_a_stream_is_masked_in_its_place(clients):
    expected = [{"ssn": None, "n": size, "x": "y" * size} for size in (1, LARGE * 2, 2)]
    status, lines = clients().get("/lines")
    assert status == 200
    assert [json.loads(line) for line in lines.splitlines()] == expected
    status, events = clients().get("/events")
    assert [json.loads(event.removeprefix(b"data: ")) for event in events.split(b"\n\n") if event] == expected


def test_what_is_looked_through_in_turns_stays_what_it_is(relay, clients):
    relay.decisions.policy = lambda _: allow()
    status, body = clients().get("/escapes")
    assert status == 200
    assert body == ESCAPES.replace(SECRET.encode(), b"[removed]")
