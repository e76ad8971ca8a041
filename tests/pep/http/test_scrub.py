"""The target's credential does not come back, however it is written and however the response is cut."""

import base64
import html
import json
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.core.errors import ConfigError
from pep.http.messages import Fields
from pep.http.scrub import REMOVED, Scrub

SECRET: Final = b"sk_live_51H8-abc/XYZ+9=.~"
# The characters of keys and tokens, and those that every kind of escaping treats in its own way.
secrets = st.text(st.sampled_from("abcXYZ0189-._~+/=:%&\\\"'<> ;#"), min_size=8, max_size=40).map(str.encode)
texts = st.binary(max_size=30).filter(lambda data: not data or data[-1:] not in b"%\\&")


def each(write: Callable[[int], str]) -> Callable[[bytes], bytes]:
    return lambda secret: "".join(write(byte) for byte in secret).encode()


def turns(*writes: Callable[[int], str]) -> Callable[[bytes], bytes]:
    """A character in one way, the next one in another."""
    return lambda secret: "".join(writes[at % len(writes)](byte) for at, byte in enumerate(secret)).encode()


def quarters(data: bytes) -> list[bytes]:
    return [data[at : at + 4] for at in range(0, len(data), 4)]


WRITTEN: Final[dict[str, Callable[[bytes], bytes]]] = {
    "clear": bytes,
    "hex": lambda secret: secret.hex().encode(),
    "upper case hex": lambda secret: secret.hex().upper().encode(),
    "utf-16-le": lambda secret: secret.decode().encode("utf-16-le"),
    "utf-16-be": lambda secret: secret.decode().encode("utf-16-be"),
    "base64": base64.b64encode,
    "base64, one byte before": lambda secret: base64.b64encode(b"u" + secret),
    "base64, two bytes before": lambda secret: base64.b64encode(b"u:" + secret + b"x"),
    "base64url": base64.urlsafe_b64encode,
    "base64url, one byte before": lambda secret: base64.urlsafe_b64encode(b"u" + secret + b"yz"),
    "base64 in lines": lambda secret: base64.encodebytes(b"x" * 51 + secret),
    "base64 in lines of a few": lambda secret: b"\r\n".join(quarters(base64.b64encode(secret))),
    "base64 in lines, in JSON": lambda secret: json.dumps(base64.encodebytes(b"x" * 51 + secret).decode()).encode(),
    "base64 in lines, in a form": lambda secret: quote(base64.encodebytes(b"x" * 51 + secret), safe="").encode(),
    "base64 in JSON of PHP": lambda secret: base64.b64encode(secret).replace(b"/", b"\\/"),
    "base64 in a query": lambda secret: quote(base64.b64encode(secret), safe="").encode(),
    "percent": lambda secret: quote(secret).encode(),
    "percent, all reserved": lambda secret: quote(secret, safe="").encode(),
    "form": lambda secret: quote_plus(secret).encode(),
    "percent, each": each(lambda byte: f"%{byte:02x}"),
    "percent twice, each": each(lambda byte: f"%25{byte:02X}"),
    "json": lambda secret: json.dumps(secret.decode()).encode()[1:-1],
    "json, each": each(lambda byte: f"\\u{byte:04x}"),
    "json, each, upper case": each(lambda byte: f"\\u{byte:04X}"),
    "json in json, each": each(lambda byte: f"\\\\u{byte:04x}"),
    "javascript, each": each(lambda byte: f"\\x{byte:02x}"),
    "javascript, braces": each(lambda byte: f"\\u{{{byte:x}}}"),
    "html": lambda secret: html.escape(secret.decode()).encode(),
    "html, no quotes": lambda secret: html.escape(secret.decode(), quote=False).encode(),
    "html, decimal": each(lambda byte: f"&#{byte};"),
    "html, decimal with zeros": each(lambda byte: f"&#{byte:05};"),
    "html, hex": each(lambda byte: f"&#x{byte:X};"),
    "html twice": each(lambda byte: f"&amp;#{byte};"),
    "by turns": turns(chr, "%{:02x}".format, "\\u{:04x}".format, "&#{};".format),
}


# Where a secret holds what looks like an escape, only its usual spellings are promised.
ORDINARY: Final = st.text(st.sampled_from("abcXYZ0189-._~+/=: "), min_size=8, max_size=40).map(str.encode)


@pytest.mark.parametrize("name", WRITTEN)
@given(secret=ORDINARY, before=texts, after=st.binary(max_size=30))
def test_a_secret_never_comes_back_whole(name: str, secret: bytes, before: bytes, after: bytes) -> None:
    written = WRITTEN[name](secret)
    cleaned = Scrub([secret]).clean(before + written + after)
    assert REMOVED in cleaned
    assert written not in cleaned
    assert secret not in cleaned


@pytest.mark.parametrize("name", WRITTEN)
@given(data=st.data())
def test_a_secret_is_found_however_the_response_is_cut(name: str, data: st.DataObject) -> None:
    secret = data.draw(ORDINARY)
    written = WRITTEN[name](secret)
    whole = b"before " + written + b" between " + written + b" after"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    stream = Scrub([secret]).stream()
    pieces = [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    out = b"".join(stream.feed(piece) for piece in pieces) + stream.finish()
    assert written not in out
    assert out == Scrub([secret]).clean(whole)
    watch = Scrub([secret]).watch()
    assert any(watch.found(piece) for piece in pieces)


@pytest.mark.parametrize("name", WRITTEN)
def test_byte_by_byte(name: str) -> None:
    whole = b"<" + WRITTEN[name](SECRET) + b">"
    stream = Scrub([SECRET]).stream()
    out = b"".join(stream.feed(whole[at : at + 1]) for at in range(len(whole))) + stream.finish()
    assert out == Scrub([SECRET]).clean(whole)
    assert REMOVED in out


@given(secret=secrets, before=texts, after=st.binary(max_size=30))
def test_a_secret_of_any_characters_is_found_in_the_usual_spellings(secret: bytes, before: bytes, after: bytes) -> None:
    scrub = Scrub([secret])
    for name in ("clear", "base64", "hex", "percent", "percent, all reserved", "form", "json", "html"):
        written = WRITTEN[name](secret)
        assert written not in scrub.clean(before + written + after), name


@given(pieces=st.lists(st.binary(max_size=80), max_size=8))
def test_what_holds_no_secret_passes_as_it_is(pieces: list[bytes]) -> None:
    stream = Scrub([SECRET, b"another-secret"]).stream()
    assert b"".join(stream.feed(piece) for piece in pieces) + stream.finish() == b"".join(pieces)


def test_nothing_is_held_back_that_begins_no_secret() -> None:
    stream = Scrub([SECRET]).stream()
    assert stream.feed(b'data: {"a": "b\\n%20c&amp;"}\n\n') == b'data: {"a": "b\\n%20c&amp;"}\n\n'
    assert stream.feed(b"so far sk_li") == b"so far "
    assert stream.feed(b"ke") == b"sk_like"


def test_both_parts_of_a_basic_credential() -> None:
    pair = base64.b64encode(b"user:a-long-password")
    scrub = Scrub([b"a-long-password", pair])
    cleaned = scrub.clean(b"Authorization: Basic " + pair + b"\npassword=a-long-password\n" + base64.b64encode(pair))
    assert b"a-long-password" not in cleaned
    assert pair not in cleaned
    assert cleaned.startswith(b"Authorization: Basic [removed]\npassword=[removed]\n")
    assert base64.b64encode(pair) not in cleaned


def test_header_fields() -> None:
    scrub = Scrub([SECRET])
    fields = Fields((("X-Echo", f"Bearer {SECRET.decode()}"), ("X-Other", "caf\xe9"), ("x-a-long-secret", "1")))
    assert scrub.in_fields(fields).items == (
        ("X-Echo", "Bearer [removed]"),
        ("X-Other", "caf\xe9"),
        ("x-a-long-secret", "1"),
    )
    assert Scrub([b"a-long-secret"]).in_fields(fields).first("x-a-long-secret") is None


def test_a_secret_that_is_learnt_later_is_found_in_a_stream_that_has_begun() -> None:
    scrub = Scrub([SECRET])
    stream = scrub.stream()
    stream.feed(b"begun ")
    scrub.learn([b"the-next-secret"])
    assert stream.feed(b"the-next-secret " + SECRET + b".") + stream.finish() == b"[removed] [removed]."


def test_a_short_secret_is_an_error() -> None:
    with pytest.raises(ConfigError, match="fewer than 8 bytes"):
        Scrub([b"1234567"])


def test_without_secrets_it_is_false_and_changes_nothing() -> None:
    scrub = Scrub([])
    assert not scrub
    assert scrub.clean(SECRET) == SECRET
    assert scrub.stream().feed(SECRET) == SECRET
    assert not scrub.watch().found(SECRET)


@pytest.mark.parametrize("piece", [b"%", b"%25", b"\\", b"&", b"&amp;", b"&#0", b"\\u", b"sk_live_"])
@pytest.mark.untraced
def test_the_work_is_in_proportion_to_the_length(piece: bytes) -> None:
    stream = Scrub([SECRET]).stream()
    begun = time.process_time()
    stream.feed(piece * (262_144 // len(piece)))
    stream.finish()
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    "text", ["\\ud83c\\udf89", "\\u4e2d", "\\n", "&#128512;", "%u4e2d", "\\u{1f600}", "\\ud83c", "&euro;"]
)
def test_an_escape_that_is_no_secret_stays(text: str) -> None:
    whole = f"before {text} after".encode()
    assert Scrub([SECRET]).clean(whole) == whole
    stream = Scrub([SECRET]).stream()
    assert b"".join(stream.feed(whole[at : at + 1]) for at in range(len(whole))) + stream.finish() == whole


def test_a_watch_says_how_much_of_a_secret_may_have_come() -> None:
    watch = Scrub([SECRET]).watch()
    assert not watch.found(b"nothing")
    assert watch.begun == 0
    assert not watch.found(b" " + SECRET[:9])
    assert watch.begun == 9
    assert not watch.found(each(lambda byte: f"\\u{byte:04x}")(SECRET[9:12]) + b"\\u00")
    assert watch.begun == 12
    assert not watch.found(b"7f")
    assert watch.begun == 0
