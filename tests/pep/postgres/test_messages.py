import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.core.errors import ClientProtocolError, ProtocolError, UpstreamProtocolError
from pep.postgres import messages as m
from tests import strategies

OPEN_ENDED = (m.CopyData, m.AuthenticationSASLContinue, m.AuthenticationSASLFinal)


def as_frame(encoded: bytes) -> m.Frame:
    assert int.from_bytes(encoded[1:5]) == len(encoded) - 1
    return m.Frame(encoded[0], encoded[5:])


@given(strategies.frontend_messages)
def test_a_frontend_message_survives_encoding(message):
    assert m.decode_frontend(as_frame(message.encode())) == message


@given(strategies.backend_messages)
def test_a_backend_message_survives_encoding(message):
    assert m.decode_backend(as_frame(message.encode())) == message


@given(strategies.startups)
def test_a_startup_packet_survives_encoding(message):
    encoded = message.encode()
    assert int.from_bytes(encoded[:4]) == len(encoded)
    assert m.decode_startup(encoded[4:]) == message


@given(strategies.login_answers)
def test_a_login_answer_survives_encoding(message):
    encoded = message.encode()
    assert encoded[0] == m.FrontendTag.PASSWORD
    assert type(message).decode(encoded[5:]) == message


@given(strategies.frontend_messages)
def test_a_frame_encodes_to_what_was_received(message):
    assert as_frame(message.encode()).encode() == message.encode()


@given(strategies.frontend_messages.filter(lambda message: not isinstance(message, OPEN_ENDED)), strategies.blobs)
def test_bytes_after_the_last_field_of_a_frontend_message_are_refused(message, trailing):
    frame = m.Frame(message.encode()[0], message.encode()[5:] + trailing)
    if trailing:
        with pytest.raises(ClientProtocolError):
            m.decode_frontend(frame)


@given(strategies.backend_messages.filter(lambda message: not isinstance(message, (*OPEN_ENDED, m.BackendKeyData))))
def test_bytes_after_the_last_field_of_a_backend_message_are_refused(message):
    if isinstance(message, m.AuthenticationOther):
        return
    with pytest.raises(UpstreamProtocolError):
        m.decode_backend(m.Frame(message.encode()[0], message.encode()[5:] + b"\0"))


@given(strategies.frontend_messages.filter(lambda message: not isinstance(message, OPEN_ENDED)), st.data())
def test_a_frontend_message_cut_anywhere_is_refused(message, data):
    payload = message.encode()[5:]
    if payload:
        cut = data.draw(st.integers(0, len(payload) - 1))
        with pytest.raises(ClientProtocolError):
            m.decode_frontend(m.Frame(message.encode()[0], payload[:cut]))


@given(st.integers(0, 255), st.binary(max_size=80))
def test_arbitrary_bytes_from_a_client_raise_only_its_protocol_error(tag, payload):
    try:
        message = m.decode_frontend(m.Frame(tag, payload))
    except ClientProtocolError:
        return
    assert m.decode_frontend(as_frame(message.encode())) == message


@given(st.sampled_from(m.BackendTag) | st.integers(0, 255), st.binary(max_size=80))
def test_arbitrary_bytes_from_a_server_raise_only_its_protocol_error(tag, payload):
    try:
        message = m.decode_backend(m.Frame(tag, payload))
    except UpstreamProtocolError:
        return
    assert m.decode_backend(as_frame(message.encode())) == message


@given(st.sampled_from((m.PasswordMessage, m.SASLInitialResponse, m.SASLResponse)), st.binary(max_size=40))
def test_arbitrary_bytes_in_a_login_raise_only_the_clients_protocol_error(kind, payload):
    try:
        message = kind.decode(payload)
    except ClientProtocolError:
        return
    assert message.encode()[5:] == payload


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda rest: (196608).to_bytes(4) + rest))
def test_arbitrary_startup_bytes_raise_only_the_clients_protocol_error(payload):
    try:
        message = m.decode_startup(payload)
    except ClientProtocolError:
        return
    assert m.decode_startup(message.encode()[4:]) == message


# The bytes as the documentation's "Message Formats" spells them.
WRITTEN_OUT = [
    (m.Query("select 1"), b"Q\0\0\0\x0dselect 1\0"),
    (m.Parse("s", "select $1", (23,)), b"P\0\0\0\x16s\0select $1\0\0\x01\0\0\0\x17"),
    (
        m.Bind("p", "s", (1,), (b"\x07", None), (0, 1)),
        b"B\0\0\0\x1dp\0s\0\0\x01\0\x01\0\x02\0\0\0\x01\x07\xff\xff\xff\xff\0\x02\0\0\0\x01",
    ),
    (m.Describe(m.Kind.PORTAL, "p"), b"D\0\0\0\x07Pp\0"),
    (m.Execute("", 7), b"E\0\0\0\x09\0\0\0\0\x07"),
    (m.Close(m.Kind.STATEMENT, ""), b"C\0\0\0\x06S\0"),
    (m.Sync(), b"S\0\0\0\x04"),
    (m.ReadyForQuery(m.TransactionStatus.IDLE), b"Z\0\0\0\x05I"),
    (m.CommandComplete("SELECT 1"), b"C\0\0\0\x0dSELECT 1\0"),
    (m.DataRow((b"1", None)), b"D\0\0\0\x0f\0\x02\0\0\0\x011\xff\xff\xff\xff"),
    (
        m.RowDescription((m.Column("a", 1, 2, 3, -4, -1, 0),)),
        b"T\0\0\0\x1a\0\x01a\0\0\0\0\x01\0\x02\0\0\0\x03\xff\xfc\xff\xff\xff\xff\0\0",
    ),
    (m.ErrorResponse({"S": "ERROR", "C": "42501"}), b"E\0\0\0\x13SERROR\0C42501\0\0"),
    (m.StartupMessage(m.PROTOCOL_3_0, {"user": "u"}), b"\0\0\0\x10\0\x03\0\0user\0u\0\0"),
    (m.SSLRequest(), b"\0\0\0\x08\x04\xd2\x16\x2f"),
    (m.GSSENCRequest(), b"\0\0\0\x08\x04\xd2\x16\x30"),
    (m.CancelRequest(258, b"\x01\x02\x03\x04"), b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\x01\x02\x01\x02\x03\x04"),
]


@pytest.mark.parametrize(("message", "expected"), WRITTEN_OUT, ids=lambda value: type(value).__name__)
def test_a_message_is_written_as_documented(message, expected):
    assert message.encode() == expected


# What once was, or could be, taken for something else: type, payload, SQLSTATE.
MALFORMED_FROM_CLIENT = [
    (b"Q", b"select 1", "08P01"),
    (b"Q", b"select 1\0; drop table t\0", "08P01"),
    (b"Q", b"select '\xff'\0", "22021"),
    (b"Q", b"select '\xed\xa0\x80'\0", "22021"),
    (b"P", b"\0select 1\0\xff\xff", "08P01"),
    (b"B", b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0", "08P01"),
    (b"B", b"\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0", "08P01"),
    (b"B", b"\0\0\0\x02\0\0\0\0\0\x01\xff\xff\xff\xff\0\0", "08P01"),
    (b"D", b"Xname\0", "08P01"),
    (b"C", b"", "08P01"),
    (b"S", b"\0", "08P01"),
    (b"p", b"secret\0", "08P01"),
    (b"~", b"", "08P01"),
]


@pytest.mark.parametrize(("tag", "payload", "code"), MALFORMED_FROM_CLIENT)
def test_a_malformed_frontend_message_is_refused(tag, payload, code):
    with pytest.raises(ClientProtocolError) as refused:
        m.decode_frontend(m.Frame(tag[0], payload))
    assert refused.value.code == code


MALFORMED_FROM_SERVER = [
    (b"Z", b"X"),
    (b"Z", b""),
    (b"D", b"\0\x01\0\0\0\x02x"),
    (b"D", b"\0\x01\xff\xff\xff\xfe"),
    (b"T", b"\0\x02a\0"),
    (b"E", b"SERROR\0"),
    (b"E", b"SERROR\0SFATAL\0\0"),
    (b"E", b"\xc3ERROR\0\0"),
    (b"K", b"\0\0\0\x01abc"),
    (b"K", b"\0\0\0\x01" + bytes(257)),
    (b"G", b"\x02\0\0"),
    (b"v", b"\0\x04\0\0\0\0\0\0"),
    (b"v", b"\0\x03\0\0\x7f\xff\xff\xff"),
    (b"v", b"\0\x03\0\0\xff\xff\xff\xff"),
    (b"c", b"x"),
    (b"V", b"\xff\xff\xff\xff\0"),
    (b"~", b""),
]


@pytest.mark.parametrize(("tag", "payload"), MALFORMED_FROM_SERVER)
def test_a_malformed_backend_message_is_refused(tag, payload):
    with pytest.raises(UpstreamProtocolError):
        m.decode_backend(m.Frame(tag[0], payload))


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\0\x02\0\0", "0A000"),
        (b"\0\x04\0\0user\0u\0\0", "0A000"),
        (b"\x04\xd2\x16\x2f\0", "08P01"),
        (b"\x04\xd2\x16\x2e\0\0\0\x01", "08P01"),
        (b"\0\x03\0\0user\0u\0", "08P01"),
        (b"\0\x03\0\0user\0u\0\0\0", "08P01"),
        (b"\0\x03\0\0user\0\0", "08P01"),
        (b"\0\x03", "08P01"),
        (b"\0\x03\0\0user\0\xff\0\0", "22021"),
    ],
)
def test_a_malformed_startup_packet_is_refused(payload, code):
    with pytest.raises(ClientProtocolError) as refused:
        m.decode_startup(payload)
    assert refused.value.code == code


def test_the_last_startup_parameter_of_a_name_counts_as_at_the_server():
    message = m.StartupMessage.decode(b"\0\x03\0\0user\0a\0user\0b\0\0")
    assert message.parameters == {"user": "b"}


def test_protocol_options_and_the_minor_version_are_told_apart_from_settings():
    message = m.StartupMessage(m.PROTOCOL_3_0 | 2, {"user": "u", "_pq_.command": "on"})
    assert (message.minor, message.protocol_options) == (2, ("_pq_.command",))


def test_a_bind_may_carry_as_many_parameters_as_the_server_takes():
    message = m.Bind("", "", (1,), (b"x",) * 65_535, (1,))
    assert m.decode_frontend(as_frame(message.encode())) == message


@pytest.mark.parametrize(
    "message",
    [
        m.Query("select 1\0; drop table t"),
        m.ErrorResponse({"M": "a\0Cb"}),
        m.ErrorResponse({"": "x"}),
        m.Parse("\0", ""),
    ],
)
def test_text_that_would_end_early_on_the_wire_is_not_encoded(message):
    with pytest.raises(ValueError, match=r"NUL"):
        message.encode()


@pytest.mark.parametrize(
    "message",
    [
        m.PasswordMessage("s3cret"),
        m.SASLInitialResponse("SCRAM-SHA-256", b"s3cret"),
        m.SASLResponse(b"s3cret"),
        m.AuthenticationSASLContinue(b"s3cret"),
        m.AuthenticationSASLFinal(b"s3cret"),
        m.BackendKeyData(1, b"s3cret"),
        m.CancelRequest(1, b"s3cret"),
    ],
)
def test_a_secret_is_not_shown(message):
    assert "s3cret" not in repr(message)


def test_a_protocol_error_names_the_side():
    assert issubclass(ClientProtocolError, ProtocolError)
    assert issubclass(UpstreamProtocolError, ProtocolError)
    assert str(ClientProtocolError("08P01", "what")) == "08P01: what"


def test_more_parameters_than_can_be_counted_are_described():
    """As the server does: a client's Parse may name $65536, though nothing can be bound to it."""
    message = m.ParameterDescription((25,) * 65_537)
    assert message.encode()[5:7] == b"\0\1"
    assert m.decode_backend(as_frame(message.encode())) == message
