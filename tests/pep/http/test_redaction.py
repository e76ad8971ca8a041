import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.http.coding import CannotMask
from pep.http.redaction import DETECTORS, WINDOW, Redactor
from tests.strategies import chunkings

KEY = (
    "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,AA\n\n"
    + "MIIEowIBAAKCAQEA7\n" * 40
    + "-----END RSA PRIVATE KEY-----"
)
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"

FOUND = {
    "email": ["alice@example.com", "a.b+c@mail.example.co.uk", "ünal@exämple.de", "o'hara@x-y.io", "<A@B.ORG>"],
    "ssn": ["123-45-6789", "123 45 6789", "123.45.6789"],
    "credit_card": ["4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "378282246310005",
                    "1 4111111111111111"],
    "phone": ["+49 170 1234567", "+1 (212) 555-0123", "212-555-0123", "(212) 555-0123", "+442071838750"],
    "iban": ["DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "gb82 west 1234 5698 7654 32 and more"],
    "ipv4": ["10.0.0.1", "255.255.255.255"],
    "jwt": [JWT],
    "aws_key": ["AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key = wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY12"],
    "private_key": [KEY, "-----BEGIN PRIVATE KEY-----\nMIIcut off"],
}  # fmt: skip
NOT_FOUND = {
    "email": ["alice at example.com", "@alice", "a@b"],
    "ssn": ["1234-45-6789", "123-456-789", "2024-11-24", "123-45-67890"],
    "credit_card": ["4111111111111112", "1234567890123", "1699999999"],
    "phone": ["2024-11-24", "1699999999", "1.2.3"],
    "iban": ["DE00370400440532013000", "ABCD12345678"],
    "ipv4": ["256.1.1.1", "1.2.3", "1.2.3.4444"],
    "jwt": ["eyJ", "a.b.c"],
    "aws_key": ["AKIASHORT", "xAKIAIOSFODNN7EXAMPLE"],
    "private_key": ["-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name in sorted(FOUND) for text in FOUND[name]])
def test_what_a_detector_finds(name, text):
    redactor = Redactor([name], [])
    shown = redactor.text(f"before {text} after")
    assert shown.startswith("before ")
    assert f"[redacted {name}]" in shown
    assert redactor.count == 1
    assert not any(part in shown for part in text.split() if len(part) > 7 and part != "RSA")


@pytest.mark.parametrize(("name", "text"), [(name, text) for name in sorted(NOT_FOUND) for text in NOT_FOUND[name]])
def test_what_a_detector_leaves(name, text):
    assert Redactor([name], []).text(f"before {text} after") == f"before {text} after"


def test_every_detector_is_tried():
    assert set(FOUND) == set(NOT_FOUND) == DETECTORS


def test_what_stands_around_stays():
    shown = Redactor(["email", "ipv4"], []).text("from alice@example.com (10.0.0.1), to bob@example.com.")
    assert shown == "from [redacted email] ([redacted ipv4]), to [redacted email]."


def test_patterns_are_those_of_the_policy():
    assert Redactor([], [r"ACME-\d+", r"(?i)secret \w+"]).text("ACME-12, Secret plan, é") == "[redacted], [redacted], é"


def test_overlapping_matches_are_one():
    redactor = Redactor([], ["abc", "cde"])
    assert redactor.text("xabcdex") == "x[redacted]x"
    assert redactor.count == 1


def test_an_empty_match_replaces_nothing():
    assert Redactor([], ["x*"]).text("axxb") == "a[redacted]b"


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\1", "a{2000}", "[z-a]"])
def test_a_pattern_that_is_not_understood_is_refused(pattern):
    with pytest.raises(CannotMask):
        Redactor([], [pattern])


def test_a_detector_that_is_not_known_is_refused():
    with pytest.raises(CannotMask):
        Redactor(["passport"], [])


def test_a_lone_surrogate_hides_nothing():
    assert "alice" not in Redactor(["email"], []).text("\ud800alice@example.com")
    assert Redactor(["email"], []).text("\ud800 x") == "\ud800 x"


# --- streams ----------------------------------------------------------------------------------------------------------


def streamed(pieces, detectors=("email",), patterns=()):
    stream = Redactor(detectors, patterns).stream()
    return b"".join(stream.feed(piece) for piece in pieces) + stream.finish()


PLANTED = ["alice@example.com", "123-45-6789", JWT, KEY, "ACME-1234"]
words = st.sampled_from([*PLANTED, "word", "é", "日本語", "\n", "x" * 3000, " " * 700, "1", "@", "."])
texts = st.lists(words, max_size=40).map(" ".join)
redacted = st.tuples(texts, chunkings())


@given(redacted)
def test_a_stream_is_the_same_however_it_is_cut(case):
    text, cut = case
    names, patterns = ("email", "ssn", "jwt", "private_key"), (r"ACME-\d+",)
    whole = streamed([text.encode()], names, patterns)
    assert streamed(cut(text.encode()), names, patterns) == whole
    assert not any(planted in whole.decode() for planted in PLANTED)
    kept = Redactor(names, patterns).text(text)
    assert whole.decode() == kept


@pytest.mark.parametrize("before", range(8 * 1024 - 60, 8 * 1024 + 10))
def test_a_match_over_the_border_of_a_step_is_found(before):
    text = "." * before + " alice@example.com " + "." * 20_000
    assert streamed([text.encode()]).decode() == "." * before + " [redacted email] " + "." * 20_000


@pytest.mark.parametrize("before", range(8 * 1024 - 20, 8 * 1024 + 5))
def test_a_border_is_no_end_of_a_word(before):
    text = "x" * before + "123-45-6789" + "y" * 20_000
    assert streamed([text.encode()], ("ssn",)).decode() == text


def test_bytes_are_held_back_only_as_far_as_a_match_may_go():
    stream = Redactor(["email"], []).stream()
    sent = sum(len(stream.feed(b"some text " * 100)) for _ in range(100))
    assert sent >= 100_000 - 2 * WINDOW - 1000
    assert len(stream._buffer) <= 2 * WINDOW + 1000


@pytest.mark.parametrize(
    "body",
    ["alice@example.com".encode("utf-16"), "alice@example.com".encode("utf-16-le"), b"\xff\xfe", b"caf\xe9 x",
     "é".encode()[:1], b"a\0b"],
)  # fmt: skip
def test_other_characters_than_utf8_are_refused(body):
    with pytest.raises(CannotMask):
        streamed([body])


@pytest.mark.untraced
def test_time_is_linear_whatever_the_pattern():
    begin = time.process_time()
    streamed([b"a" * 100_000], (), ("(a*)*(a*)*b",))
    streamed([b"1 " * 50_000], ("credit_card", "phone", "iban"))
    streamed([b"AB12 " * 20_000], ("iban",))
    assert time.process_time() - begin < 5
