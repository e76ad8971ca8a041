"""What is no attack passes: equal but for the masked cells, in the order and the spelling that it came in."""

import hashlib
import json
import random
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.http_attacks import SECRET, Attacked, ask, attacked, chunked, packed, reply

MASKED_EMAIL = "ad****@ex****.org"


@pytest.fixture(scope="module")
def proxy() -> Iterator[Attacked]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHECKREIN_TEST_UPSTREAM", SECRET)
        with attacked() as running:
            yield running


def body_of(received: bytes) -> bytes:
    head, _, body = received.partition(b"\r\n\r\n")
    if b"\r\nTransfer-Encoding: chunked" not in head:
        return body
    whole = b""
    while size := int(body.partition(b"\r\n")[0], 16):
        start = body.index(b"\r\n") + 2
        whole += body[start : start + size]
        body = body[start + size + 2 :]
    return whole


def fields_of(received: bytes) -> dict[str, str]:
    lines = received.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return dict(line.split(": ", 1) for line in lines)


class Spelling(str):
    """A number as it was written."""

    __slots__ = ()


def read(text: str | bytes) -> Any:
    return json.loads(text, parse_int=Spelling, parse_float=Spelling, object_pairs_hook=list)


def expected(value: Any) -> Any:
    """The masks, said once more in the simplest way. An object is the list of its members, in order."""
    if isinstance(value, list):
        return [expected(item) for item in value]
    if isinstance(value, tuple):
        name, held = value
        if name.lower() == "ssn":
            return name, None
        if name.lower() == "email":
            return name, MASKED_EMAIL if isinstance(held, str) and not isinstance(held, Spelling) else None
        return name, expected(held)
    return value


WHOLE = '"ssn": "111-22-3333", "email": "ada@example.org"'
DOCUMENTS = {
    "plain": f'{{"id": 1, {WHOLE}, "name": "Ada"}}',
    "big integers": f'{{"id": 900719925474099312345678901234567890, {WHOLE}}}',
    "fractions as written": f'[1.0, 0.10, 1e3, 1E-7, -0, -0.0, 1e400, 3.141592653589793238462643, {{{WHOLE}}}]',
    "other alphabets": f'{{"name": "Zoë Ωμέγα 李四 🎉", "schlüssel": "ä", {WHOLE}}}',
    "escapes": f'{{"a": "tab\\t quote\\" slash\\/ \\u00e9 \\ud83c\\udf89 back\\\\slash \\u0001", {WHOLE}}}',
    "half a pair": f'{{"a": "\\ud83c", {WHOLE}}}',
    "nothing in it": f'{{"a": {{}}, "b": [], "c": "", "": 0, {WHOLE}}}',
    "nested": f'{{"a": [[{{"b": {{"c": [{{{WHOLE}}}, 1, [2]]}}}}]]}}',
    "no masked field": '{"a": true, "b": false, "c": null, "d": [1, "two"]}',
    "null under the mask": '{"ssn": null, "SSN": 5, "Email": null, "x": 1}',
    "names that are alike": '{"ssns": 1, "my_ssn": "a", "ssn_hint": "b", "emails": "c", "e-mail": "d"}',
    "words about the fields": '{"text": "Your ssn is needed, and an email too. ssn? email!"}',
    "percent and ampersand": '{"text": "100% of R&D; 5 &lt; 6 &amp; %41 a=1&b=2 C:\\\\new\\\\users \\\\n"}',
    "HTML in a string": '{"text": "<p class=\\"a\\">fish &amp; chips</p><script>var a = {b: 1};</script>"}',
    "JSON in a string": '{"text": "{\\"b\\" : 1.0,\\"a\\": [ 1 ]}", "more": "[1, 2] and so on", "odd": "{not json"}',
    "an array at the top": f'[{{{WHOLE}}}, {{"id": 2}}, 3, "x", null]',
    "a number at the top": "42.50",
    "a word at the top": '"just text"',
    "an empty array": "[]",
    "long": json.dumps({"text": "lorem ipsum " * 20000, "n": list(range(2000))}),
    "many rows": "[" + ",".join(f'{{"id":{number},{WHOLE}}}' for number in range(500)) + "]",
}  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_document_is_equal_but_for_its_masked_cells(proxy: Attacked, name: str, framing: str) -> None:
    proxy.target.says(reply(DOCUMENTS[name], framing=framing, step=100 if framing == "chunked" else 0))
    received = proxy.send(ask("/named/x"))
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert read(body_of(received)) == expected(read(DOCUMENTS[name]))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_where_nothing_is_due_not_a_byte_changes(proxy: Attacked, name: str) -> None:
    proxy.target.says(reply(DOCUMENTS[name], "application/json", 'ETag: "a"', "X-A: 1", "Set-Cookie: a=b; Path=/"))
    received = proxy.send(ask("/open/x"))
    assert body_of(received) == DOCUMENTS[name].encode()
    assert fields_of(received).items() >= {"X-A": "1", "Set-Cookie": "a=b; Path=/"}.items()


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("path", ["/named/x", "/open/x"])
def test_a_packed_document_arrives(proxy: Attacked, coding: str, path: str) -> None:
    text = DOCUMENTS["many rows"]
    proxy.target.says(reply(packed(text.encode(), coding), "application/json", f"Content-Encoding: {coding}"))
    received = proxy.send(ask(path, f"Accept-Encoding: {coding}"))
    assert "Content-Encoding" not in fields_of(received)
    assert read(body_of(received)) == (expected(read(text)) if path == "/named/x" else read(text))


TYPES = {
    "text/html; charset=utf-8": b"<p>fish &amp; chips %41 \\u0041</p>",
    "text/csv": b"a,b\r\n1,2\r\n",
    "text/plain; charset=utf-16": "ä".encode("utf-16"),
    "image/png": bytes(range(256)) * 40,
    "application/x-protobuf": b"\x0a\x03abc\x10\x96\x01",
    "multipart/mixed; boundary=b": b"--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n",
    "application/zip": packed(b"zip" * 50, "gzip"),
    "text/event-stream": b": hello\nid: 1\nevent: a\ndata: b\ndata: c\n\n",
}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_every_type_passes_where_nothing_is_due(proxy: Attacked, kind: str, framing: str) -> None:
    proxy.target.says(reply(TYPES[kind], kind, framing=framing, step=3 if framing == "chunked" else 0), b"")
    received = proxy.send(ask("/open/x"))
    assert body_of(received) == TYPES[kind]
    assert fields_of(received)["Content-Type"] == kind


@pytest.mark.parametrize(
    "status", ["200 OK", "201 Created", "404 Not Found", "409 Conflict", "503 Service Unavailable"]
)
def test_a_status_stays(proxy: Attacked, status: str) -> None:
    proxy.target.says(reply(DOCUMENTS["plain"], status=status))
    for path in ("/named/x", "/open/x"):
        assert proxy.send(ask(path)).startswith(f"HTTP/1.1 {status}\r\n".encode())


def test_fields_that_a_client_needs_stay_under_a_mask(proxy: Attacked) -> None:
    told = {
        "Date": "Tue, 24 Nov 2026 10:00:00 GMT",
        "Server": "nginx/1.26.1",
        "Cache-Control": "no-cache, max-age=0, must-revalidate",
        "Vary": "Accept, Accept-Encoding, Origin",
        "Retry-After": "120",
        "Allow": "GET, HEAD, OPTIONS",
        "Content-Language": "en-GB",
        "Access-Control-Allow-Origin": "https://app.example.org",
        "Access-Control-Expose-Headers": "X-Total, X-RateLimit-Limit",
        "Strict-Transport-Security": "max-age=63072000; includeSubDomains; preload",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "SAMEORIGIN",
        "Referrer-Policy": "strict-origin-when-cross-origin",
        "X-RateLimit-Limit": "5000",
        "X-RateLimit-Reset": "1763978400",
        "RateLimit": '"default";r=50;t=30',
        "RateLimit-Policy": "100;w=60",
        "Mcp-Session-Id": "1868a90c-2d4b",
        "Mcp-Protocol-Version": "2025-06-18",
        "WWW-Authenticate": 'Bearer realm="the shop"',
    }
    proxy.target.says(
        reply(DOCUMENTS["plain"], "application/json", *(f"{name}: {value}" for name, value in told.items()))
    )
    assert fields_of(proxy.send(ask("/named/x"))).items() >= told.items()


def test_streams_of_documents_are_equal_but_for_their_masked_cells(proxy: Attacked) -> None:
    lines = [DOCUMENTS[name] for name in ("plain", "big integers", "escapes", "nested")]
    proxy.target.says(reply("\n".join(lines), "application/x-ndjson", framing="chunked", step=50))
    shown = body_of(proxy.send(ask("/named/x"))).decode().split("\n")
    assert [read(line) for line in shown] == [expected(read(line)) for line in lines]
    events = "".join(f"id: {number}\nevent: row\ndata: {line}\n\n" for number, line in enumerate(lines))
    proxy.target.says(reply(events, "text/event-stream", framing="chunked", step=50))
    shown = body_of(proxy.send(ask("/named/x"))).decode().split("\n\n")[:-1]
    # The number of an event may be what is masked in it; its name is a plain word.
    assert [event.split("\n")[:-1] for event in shown] == [["event: row"]] * 4
    assert [read(event.partition("data: ")[2]) for event in shown] == [expected(read(line)) for line in lines]


def test_text_without_what_is_redacted_stays(proxy: Attacked) -> None:
    text = "Lines\nof text: 12-34, a@b, 1.2.3 und Zoë. " * 900
    proxy.target.says(reply(text, "text/plain; charset=utf-8", framing="chunked", step=777))
    assert body_of(proxy.send(ask("/redacted/x"))).decode() == text


def test_a_body_arrives_at_the_target_as_it_was_sent(proxy: Attacked) -> None:
    proxy.target.says(reply(b"{}"))
    body = bytes(random.Random(7).randbytes(300_000))
    kind = "Content-Type: application/octet-stream"
    proxy.send(ask("/open/x", kind, method="PUT", body=body))
    proxy.send(ask("/open/x", kind, "Transfer-Encoding: chunked", method="PUT") + chunked(body[:70_000], body[70_000:]))
    assert [seen.body for seen in proxy.target.seen] == [body, body]


def test_a_hundred_megabytes_pass_through_little_memory(proxy: Attacked) -> None:
    block = random.Random(1).randbytes(1 << 18)
    count = 400
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % (
        len(block) * count
    )

    def script(_seen: object) -> Iterator[bytes]:
        yield head
        for _ in range(count):
            yield block

    proxy.target.follows(script)
    sent = hashlib.sha256(block * count).hexdigest()
    before = _memory()
    got, size, most = hashlib.sha256(), 0, before
    with proxy.connect() as connection:
        connection.sendall(ask("/open/x"))
        stream = connection.makefile("rb")
        while stream.readline() != b"\r\n":
            pass
        while line := stream.readline():
            left = int(line, 16)
            size += left
            while left:
                piece = stream.read(min(left, 1 << 18))
                got.update(piece)
                left -= len(piece)
            stream.readline()
            most = max(most, _memory())
    assert size == len(block) * count
    assert got.hexdigest() == sent
    assert most - before < 24 << 20, f"{(most - before) >> 20} MB more"


def _memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
