"""Hypothesis strategies: every PostgreSQL message, and every way in which a stream can be cut into chunks."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from hypothesis import strategies as st

from pep.postgres import messages as m

T = TypeVar("T")
Chunking = Callable[[bytes], list[bytes]]

strings = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=10)
int16s = st.integers(-(2**15), 2**15 - 1)
int32s = st.integers(-(2**31), 2**31 - 1)
oids = st.integers(0, 2**32 - 1)
blobs = st.binary(max_size=40)
cells = st.none() | blobs
formats = st.sampled_from((0, 1))


def tuples(elements: st.SearchStrategy[T], maximum: int = 4) -> st.SearchStrategy[tuple[T, ...]]:
    return st.lists(elements, max_size=maximum).map(tuple)


@st.composite
def binds(draw: st.DrawFn) -> m.Bind:
    parameters = draw(tuples(cells))
    several = st.just(()) | st.tuples(int16s) | st.tuples(*[int16s] * len(parameters))
    return m.Bind(draw(strings), draw(strings), draw(several), parameters, draw(tuples(int16s)))


@st.composite
def function_calls(draw: st.DrawFn) -> m.FunctionCall:
    arguments = draw(tuples(cells))
    several = st.just(()) | st.tuples(int16s) | st.tuples(*[int16s] * len(arguments))
    return m.FunctionCall(draw(oids), draw(several), arguments, draw(int16s))


kinds = st.sampled_from(m.Kind)
startup_messages = st.builds(
    m.StartupMessage,
    st.integers(0, 0xFFFF).map(lambda minor: m.PROTOCOL_3_0 | minor),
    st.dictionaries(names, strings, max_size=4),
)
startups = (
    startup_messages
    | st.builds(m.CancelRequest, int32s, st.binary(min_size=1, max_size=256))
    | st.sampled_from((m.SSLRequest(), m.GSSENCRequest()))
)
small_frontend_messages = st.one_of(
    st.builds(m.Query, strings),
    st.builds(m.Parse, strings, strings, tuples(oids)),
    binds(),
    st.builds(m.Describe, kinds, strings),
    st.builds(m.Execute, strings, int32s),
    st.builds(m.Close, kinds, strings),
    st.sampled_from((m.Flush(), m.Sync(), m.Terminate(), m.CopyDone())),
    st.builds(m.CopyFail, strings),
    function_calls(),
)
frontend_messages = small_frontend_messages | st.builds(m.CopyData, blobs)
login_answers = st.one_of(
    st.builds(m.PasswordMessage, strings),
    st.builds(m.SASLInitialResponse, strings, cells),
    st.builds(m.SASLResponse, blobs),
)
authentications = st.one_of(
    st.sampled_from((m.AuthenticationOk(), m.AuthenticationCleartextPassword())),
    st.builds(m.AuthenticationMD5Password, st.binary(min_size=4, max_size=4)),
    st.builds(m.AuthenticationSASL, tuples(names)),
    st.builds(m.AuthenticationSASLContinue, blobs),
    st.builds(m.AuthenticationSASLFinal, blobs),
    st.builds(m.AuthenticationOther, int32s.filter(lambda code: code not in (0, 3, 5, 10, 11, 12)), blobs),
)
columns = st.builds(m.Column, strings, oids, int16s, oids, int16s, int32s, int16s)
error_fields = st.dictionaries(st.sampled_from([*map(str, m.ErrorField), "X"]), strings, max_size=8)
bulk_messages = st.builds(m.DataRow, tuples(cells)) | st.builds(m.CopyData, blobs)
backend_messages = st.one_of(
    bulk_messages,
    bulk_messages,
    authentications,
    st.builds(m.ParameterStatus, strings, strings),
    st.builds(m.BackendKeyData, int32s, st.binary(min_size=4, max_size=256)),
    st.builds(m.ReadyForQuery, st.sampled_from(m.TransactionStatus)),
    st.builds(m.RowDescription, tuples(columns)),
    st.builds(m.CommandComplete, strings),
    st.sampled_from(
        (
            m.EmptyQueryResponse(),
            m.ParseComplete(),
            m.BindComplete(),
            m.CloseComplete(),
            m.NoData(),
            m.PortalSuspended(),
            m.CopyDone(),
        )
    ),
    st.builds(m.FunctionCallResponse, st.none() | cells),
    st.builds(m.ParameterDescription, tuples(oids)),
    st.builds(m.ErrorResponse, error_fields),
    st.builds(m.NoticeResponse, error_fields),
    st.builds(m.NotificationResponse, int32s, strings, strings),
    st.builds(m.CopyInResponse, formats, tuples(int16s)),
    st.builds(m.CopyOutResponse, formats, tuples(int16s)),
    st.builds(m.CopyBothResponse, formats, tuples(int16s)),
    st.builds(m.NegotiateProtocolVersion, st.integers(0, 0xFFFF), tuples(strings)),
)


def _cut(sizes: Sequence[int]) -> Chunking:
    def cut(stream: bytes) -> list[bytes]:
        chunks, position = [], 0
        for size in sizes:
            chunks.append(stream[position : position + size])
            position += size
        return [*chunks, stream[position:]]

    return cut


def chunkings() -> st.SearchStrategy[Chunking]:
    """Ways to cut a stream: byte by byte, whole, or anywhere; empty chunks included."""
    by_byte: Chunking = lambda stream: [stream[i : i + 1] for i in range(len(stream))]  # noqa: E731
    return st.just(by_byte) | st.lists(st.integers(0, 60), max_size=30).map(_cut)
