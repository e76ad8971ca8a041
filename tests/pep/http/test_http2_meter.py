"""The bounds on frames, with a clock of the test's own."""

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from pep.http.http2.meter import CONTINUATIONS, CONTROL, EMPTY, RESETS, Meter, Violation

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def meter(max_block: int = 64 * 1024) -> Meter:
    found = Meter(max_block)
    assert found.feed(PREFACE, 0.0) == PREFACE
    return found


def many(frame: Frame, count: int, *, now: float = 0.0, into: Meter | None = None) -> None:
    (into or meter()).feed(frame.serialize() * count, now)


FLOODS = [
    (PingFrame(0, opaque_data=b"12345678"), CONTROL),
    (SettingsFrame(0), CONTROL),
    (SettingsFrame(0, flags=["ACK"]), CONTROL),
    (PriorityFrame(5, depends_on=3), CONTROL),
    (WindowUpdateFrame(0, window_increment=1), CONTROL),
    (ExtensionFrame(0xEE, 1, flag_byte=0), CONTROL),
    (GoAwayFrame(0), CONTROL),
    (RstStreamFrame(1), RESETS),
    (DataFrame(1), EMPTY),
]


@pytest.mark.parametrize(("frame", "size"), FLOODS, ids=lambda each: type(each).__name__)
def test_a_burst_passes_and_a_flood_does_not(frame: Frame, size: tuple[int, float]) -> None:
    burst, rate = size
    many(frame, burst)
    with pytest.raises(Violation) as violation:
        many(frame, burst + 1)
    assert violation.value.code is ErrorCodes.ENHANCE_YOUR_CALM
    later = meter()
    many(frame, burst, into=later)
    many(frame, int(rate), now=1.0, into=later)
    with pytest.raises(Violation):
        many(frame, 1, now=1.0, into=later)


def test_the_data_that_moves_pays_for_its_window_updates() -> None:
    busy = meter()
    data, update = DataFrame(1, b"x" * 100).serialize(), WindowUpdateFrame(1, window_increment=100).serialize()
    for _ in range(10 * CONTROL[0]):
        busy.feed(update + update, 0.0)
        busy.sent()
    for _ in range(10 * CONTROL[0]):
        busy.feed(data + update, 0.0)


def test_the_last_frame_of_a_body_may_be_empty() -> None:
    many(DataFrame(1, flags=["END_STREAM"]), 10 * EMPTY[0])


def test_what_this_side_has_to_reset_counts_as_well() -> None:
    counting = meter()
    for _ in range(RESETS[0]):
        counting.reset(0.0)
    with pytest.raises(Violation):
        many(RstStreamFrame(1), 1, into=counting)


def test_padding_alone_is_nothing() -> None:
    counting = meter()
    for _ in range(EMPTY[0]):
        counting.nothing(0.0)
    with pytest.raises(Violation):
        counting.nothing(0.0)


def test_a_field_block_has_an_end() -> None:
    begun, piece = HeadersFrame(1, b"x"), ContinuationFrame(1, b"x")
    patient = meter()
    patient.feed(begun.serialize() + piece.serialize() * CONTINUATIONS, 7.0)
    assert patient.block_since == 7.0
    with pytest.raises(Violation):
        patient.feed(piece.serialize(), 8.0)
    closed = meter()
    closed.feed(begun.serialize() + ContinuationFrame(1, b"x", flags=["END_HEADERS"]).serialize(), 7.0)
    assert closed.block_since is None
    with pytest.raises(Violation):
        meter(1000).feed(HeadersFrame(1, b"x" * 1001, flags=["END_HEADERS"]).serialize(), 0.0)
    with pytest.raises(Violation):
        meter(1000).feed(begun.serialize() + ContinuationFrame(1, b"x" * 1000).serialize(), 0.0)


def test_a_frame_that_is_too_long_is_refused_by_its_header() -> None:
    with pytest.raises(Violation) as violation:
        meter().feed((16 * 1024 + 1).to_bytes(3) + b"\0\0\0\0\0\1", 0.0)
    assert violation.value.code is ErrorCodes.FRAME_SIZE_ERROR


@pytest.mark.parametrize("size", [1, 2, 5, 9, 10, 1000])
def test_what_passes_does_not_depend_on_how_it_arrives(size: int) -> None:
    frames = [
        SettingsFrame(0),
        HeadersFrame(1, b"abc", flags=["END_HEADERS"]),
        GoAwayFrame(0, additional_data=b"bye"),
        DataFrame(1, b"x" * 300),
        PingFrame(0, opaque_data=b"12345678"),
    ]
    data = PREFACE + b"".join(frame.serialize() for frame in frames)
    kept = PREFACE + b"".join(frame.serialize() for frame in frames if not isinstance(frame, GoAwayFrame))
    reading = Meter(1000)
    passed = b"".join(reading.feed(data[at : at + size], 0.0) for at in range(0, len(data), size))
    assert passed == kept
    assert reading.leaving


def test_a_goaway_in_the_middle_of_a_field_block_is_h2_s_to_refuse() -> None:
    reading = meter()
    data = HeadersFrame(1, b"x").serialize() + GoAwayFrame(0).serialize()
    assert reading.feed(data, 0.0) == data
    assert not reading.leaving
