from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.core.errors import ClientProtocolError, ProtocolError, UpstreamProtocolError
from pep.postgres import messages as m
from pep.postgres.codec import BackendCodec, FrontendCodec, Oversized, Partial, Run, StartupCodec
from tests import strategies

CAPTURED = sorted((Path(__file__).parents[2] / "data" / "postgres").glob("*.txt"))


def captured(path: Path) -> tuple[bytes, bytes]:
    """What the client and what the server sent, without the single-byte answers to SSLRequest and GSSENCRequest."""
    lines = [line.split() for line in path.read_text().splitlines()]
    client = b"".join(bytes.fromhex(data) for side, data in lines if side == "F")
    server = b"".join(bytes.fromhex(data) for side, data in lines if side == "B")
    return client, server.lstrip(b"N")


def by_side(codec: BackendCodec | FrontendCodec, chunks: Iterable[bytes]) -> list[m.Frame]:
    return list(frames(event for chunk in chunks for event in codec.feed(chunk)))


def frames(events: Iterable[object]) -> Iterator[m.Frame]:
    """Frames out of events: runs taken apart, pieces put together."""
    pieces = b""
    for event in events:
        match event:
            case m.Frame():
                yield event
            case Run():
                found = list(event.frames())
                assert len(found) == event.count > 0
                assert {frame.tag for frame in found} == {event.tag}
                assert b"".join(frame.encode() for frame in found) == event.raw
                yield from found
            case Partial(tag, raw, last, first):
                assert first == (pieces == b"")
                assert raw
                pieces += raw
                if last:
                    yield m.Frame(tag, pieces[5:])
                    pieces = b""
            case _:
                raise AssertionError(event)


def session_part(client: bytes) -> bytes:
    """What follows the start-up packets."""
    codec = StartupCodec()
    packet = codec.feed(client)
    while packet is not None and not isinstance(packet, m.StartupMessage):
        packet = codec.feed(b"")
    return codec.rest


@pytest.mark.parametrize("path", CAPTURED, ids=lambda path: path.stem)
def test_every_split_of_a_captured_conversation_gives_the_same_frames(path):
    client, server = captured(path)
    for stream, codec in ((session_part(client), FrontendCodec), (server, BackendCodec)):
        whole = by_side(codec(), [stream])
        assert b"".join(frame.encode() for frame in whole) == stream
        assert by_side(codec(), [stream[i : i + 1] for i in range(len(stream))]) == whole
        for position in range(0, len(stream), 7):
            assert by_side(codec(), [stream[:position], stream[position:]]) == whole


@pytest.mark.parametrize("path", CAPTURED, ids=lambda path: path.stem)
def test_every_captured_message_is_understood_and_written_as_it_came(path):
    client, server = captured(path)
    for frame in by_side(FrontendCodec(), [session_part(client)]):
        if frame.tag != m.FrontendTag.PASSWORD:
            assert m.decode_frontend(frame).encode() == frame.encode()
    for frame in by_side(BackendCodec(), [server]):
        assert m.decode_backend(frame).encode() == frame.encode()


def test_the_captured_conversations_hold_what_their_description_says():
    server = b"".join(captured(path)[1] for path in CAPTURED)
    seen = {frame.tag for path in CAPTURED for frame in by_side(BackendCodec(), [captured(path)[1]])}
    assert len(CAPTURED) == 4
    assert len(server) > 10_000
    assert seen == set(m.BackendTag) - {m.BackendTag.COPY_BOTH_RESPONSE, m.BackendTag.FUNCTION_CALL_RESPONSE}


@given(st.lists(strategies.frontend_messages, max_size=6), strategies.chunkings())
def test_chunking_does_not_matter_from_a_client(sent, cut):
    received = by_side(FrontendCodec(), cut(b"".join(message.encode() for message in sent)))
    assert [m.decode_frontend(frame) for frame in received] == sent


@given(st.lists(strategies.backend_messages, max_size=8), strategies.chunkings())
def test_chunking_does_not_matter_from_a_server(sent, cut):
    received = by_side(BackendCodec(), cut(b"".join(message.encode() for message in sent)))
    assert [m.decode_backend(frame) for frame in received] == sent


@given(st.lists(strategies.backend_messages, max_size=8), strategies.chunkings())
def test_chunking_does_not_matter_while_large_rows_stream(sent, cut):
    codec = BackendCodec(large=20, stream_large=True)
    received = by_side(codec, cut(b"".join(message.encode() for message in sent)))
    assert [m.decode_backend(frame) for frame in received] == sent
    assert not codec.mid_frame


@given(st.lists(strategies.frontend_messages, max_size=6), strategies.chunkings())
def test_chunking_does_not_matter_to_what_is_over_a_limit(sent, cut):
    stream = b"".join(message.encode() for message in sent)
    codec = FrontendCodec(max_statement=16, max_copy_frame=12)
    events = [event for chunk in cut(stream) for event in codec.feed(chunk)]
    encoded = [message.encode() for message in sent]
    small = [one for one in encoded if one[0] == ord("d") or len(one) - 5 <= 16]
    large = [Oversized(one[0], len(one) - 1) for one in encoded if one not in small]
    assert [event for event in events if isinstance(event, Oversized)] == large
    rest = [event for event in events if not isinstance(event, Oversized)]
    assert [frame.encode() for frame in frames(rest)] == small
    assert not codec.mid_frame


@given(st.lists(strategies.backend_messages, max_size=8), st.integers(0, 100))
def test_events_that_were_not_taken_come_with_the_next(sent, taken):
    stream = b"".join(message.encode() for message in sent)
    half = len(stream) // 2
    codec = BackendCodec()
    events = list(islice(codec.feed(stream[:half]), taken))
    events += codec.feed(stream[half:])
    assert [m.decode_backend(frame) for frame in frames(events)] == sent


@given(st.binary(max_size=200), strategies.chunkings())
def test_arbitrary_bytes_raise_only_protocol_errors_and_the_same_ones_however_cut(stream, cut):
    for codec, error in ((FrontendCodec, ClientProtocolError), (BackendCodec, UpstreamProtocolError)):
        assert outcome(codec(), cut(stream), error) == outcome(codec(), [stream], error)


def outcome(codec, chunks, error: type[ProtocolError]) -> tuple[bytes, list[Oversized], bool]:
    """What was handed on before the first violation, what was refused for its size, and whether there was one."""
    passed, refused = b"", []
    try:
        for chunk in chunks:
            for event in codec.feed(chunk):
                match event:
                    case Oversized():
                        refused.append(event)
                    case m.Frame():
                        passed += event.encode()
                    case Run(raw=raw) | Partial(raw=raw):
                        passed += raw
    except error:
        return passed, refused, True
    return passed, refused, False


@given(st.binary(max_size=60), strategies.chunkings())
def test_arbitrary_startup_bytes_raise_only_protocol_errors(stream, cut):
    codec = StartupCodec()
    for chunk in cut(stream):
        try:
            codec.feed(chunk)
        except ClientProtocolError:
            return


@given(strategies.startups, strategies.blobs, strategies.chunkings())
def test_a_startup_packet_is_found_however_it_is_cut_and_the_rest_is_kept(message, behind, cut):
    codec, found = StartupCodec(), []
    for chunk in cut(message.encode()):
        found.append(codec.feed(chunk))
        assert found[-1] is None or chunk
    assert [packet for packet in found if packet is not None] == [message]
    whole = StartupCodec()
    assert whole.feed(message.encode() + behind) == message
    assert whole.rest == behind


def test_plaintext_behind_an_ssl_request_is_seen():
    codec = StartupCodec()
    assert codec.feed(m.SSLRequest().encode() + b"injected") == m.SSLRequest()
    assert codec.rest == b"injected"


@pytest.mark.parametrize("length", [0, 4, 7, 10_005, 2**31, 2**32 - 1])
def test_a_startup_packet_of_impossible_length_is_refused_on_sight(length):
    with pytest.raises(ClientProtocolError):
        StartupCodec().feed(length.to_bytes(4))


def test_a_startup_packet_may_be_as_long_as_the_server_allows():
    room = 10_000 - len(m.StartupMessage(m.PROTOCOL_3_0, {"user": ""}).encode()) + 4
    message = m.StartupMessage(m.PROTOCOL_3_0, {"user": "u" * room})
    assert len(message.encode()) == 10_004
    assert StartupCodec().feed(message.encode()) == message


@pytest.mark.parametrize("length", [0, 3, 2**30, 2**31, 2**32 - 1])
@pytest.mark.parametrize("tag", [b"Q", b"d", b"D", b"~"])
def test_an_impossible_length_is_refused_after_all_that_came_before_it(tag, length):
    sync, ready = m.Sync().encode(), m.ReadyForQuery(m.TransactionStatus.IDLE).encode()
    bad = tag + length.to_bytes(4)
    client, server = FrontendCodec().feed(sync + bad), BackendCodec(stream_large=True).feed(ready + bad)
    assert next(client) == m.Frame(ord("S"), b"")
    assert next(server) == m.Frame(ord("Z"), b"I")
    with pytest.raises(ClientProtocolError):
        next(client)
    with pytest.raises(UpstreamProtocolError):
        next(server)


def test_nothing_is_read_after_a_violation():
    codec = FrontendCodec()
    for data in (b"Q\0\0\0\0", m.Sync().encode(), b""):
        with pytest.raises(ClientProtocolError):
            list(codec.feed(data))


def test_a_statement_over_the_limit_is_said_once_at_its_header_and_never_held():
    codec = FrontendCodec(max_statement=100)
    assert list(codec.feed(b"Q" + (10_000_004).to_bytes(4))) == [Oversized(ord("Q"), 10_000_004)]
    for _ in range(100):
        assert list(codec.feed(b"x" * 99_999)) == []
        assert len(codec._buffer) == 0
    assert codec.mid_frame
    assert list(codec.feed(b"x" * 100 + m.Sync().encode())) == [m.Frame(ord("S"), b"")]
    assert not codec.mid_frame


def test_a_statement_of_exactly_the_limit_is_held():
    query = m.Query("x" * 99)
    assert list(FrontendCodec(max_statement=100).feed(query.encode())) == [m.Frame(ord("Q"), b"x" * 99 + b"\0")]
    assert list(FrontendCodec(max_statement=99).feed(query.encode())) == [Oversized(ord("Q"), 104)]


def test_an_unknown_type_is_a_frame_and_obeys_the_limit():
    codec = FrontendCodec(max_statement=4)
    assert list(codec.feed(b"~\0\0\0\x08abcd~\0\0\0\x09abcde")) == [m.Frame(ord("~"), b"abcd"), Oversized(ord("~"), 9)]


def test_a_large_copy_frame_comes_in_pieces_that_are_handed_on_at_once():
    codec = FrontendCodec(max_copy_frame=10)
    encoded = m.CopyData(b"x" * 20).encode()
    assert list(codec.feed(encoded[:5])) == [Partial(ord("d"), encoded[:5], last=False, first=True)]
    assert list(codec.feed(encoded[5:20])) == [Partial(ord("d"), encoded[5:20], last=False)]
    assert list(codec.feed(encoded[20:] + m.CopyDone().encode())) == [
        Partial(ord("d"), encoded[20:], last=True),
        m.Frame(ord("c"), b""),
    ]


def test_rows_come_as_runs_between_the_messages_around_them():
    described = m.RowDescription(()).encode()
    row, copied = m.DataRow((b"a",)).encode(), m.CopyData(b"a").encode()
    done = m.CommandComplete("SELECT 2").encode()
    events = list(BackendCodec().feed(described + row * 2 + done + copied * 3 + row))
    assert [event for event in events if isinstance(event, Run)] == [
        Run(ord("D"), 2, row * 2),
        Run(ord("d"), 3, copied * 3),
        Run(ord("D"), 1, row),
    ]
    assert [event.tag for event in events] == [ord(tag) for tag in "TDCdD"]


@given(st.lists(strategies.bulk_messages, min_size=1, max_size=30))
def test_a_run_is_as_long_as_it_can_be(sent):
    events = list(BackendCodec().feed(b"".join(message.encode() for message in sent)))
    assert [event.count for event in events] == [len(list(run)) for _, run in groupby(sent, type)]


def test_a_large_row_is_held_whole_unless_streaming_is_asked_for():
    row = m.DataRow((b"x" * 100_000,)).encode()
    assert list(BackendCodec().feed(row)) == [Run(ord("D"), 1, row)]
    assert list(BackendCodec(stream_large=True).feed(row)) == [Partial(ord("D"), row, last=True, first=True)]


def test_streaming_is_chosen_between_two_events_of_one_chunk():
    codec = BackendCodec(large=10)
    row = m.DataRow((b"x" * 20,)).encode()
    events = codec.feed(m.ParseComplete().encode() + row)
    next(events)
    codec.stream_large = True
    assert next(events) == Partial(ord("D"), row, last=True, first=True)


@pytest.mark.parametrize("tag", [b"D", b"d", b"E"])
def test_what_must_be_held_whole_has_a_limit_from_the_server_too(tag):
    codec = BackendCodec(max_row=1000)
    with pytest.raises(UpstreamProtocolError):
        list(codec.feed(tag + (1001).to_bytes(4)))
    assert BackendCodec(max_row=1000).feed(tag + (1000).to_bytes(4) + bytes(996)).__next__().tag == tag[0]


def test_a_row_over_the_limit_behind_good_ones_is_refused_after_them():
    row = m.DataRow((b"a",)).encode()
    events = BackendCodec(max_row=1000).feed(row * 2 + b"D" + (1001).to_bytes(4))
    assert next(events) == Run(ord("D"), 2, row * 2)
    with pytest.raises(UpstreamProtocolError):
        next(events)


@pytest.mark.parametrize("codec", [FrontendCodec(), BackendCodec(), BackendCodec(large=4, stream_large=True)])
def test_a_frame_cut_by_the_end_of_the_stream_is_seen(codec):
    encoded = m.CopyData(b"abcdef").encode()
    for event in codec.feed(encoded * 2 + encoded[:8]):
        assert event.tag == ord("d")
    assert codec.mid_frame
    list(codec.feed(encoded[8:]))
    assert not codec.mid_frame
