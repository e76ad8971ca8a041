import socket
import ssl
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramMechanism

from pep.core.errors import UpstreamProtocolError
from pep.postgres import messages as m
from pep.postgres.codec import BackendCodec
from pep.postgres.scram import UpstreamLogin
from tests import strategies
from tests.fix_postgres import CLEARTEXT_PASSWORD, CLEARTEXT_ROLE, TRUST_ROLE, PostgresServer

PASSWORD = "päss word"


class Server:
    """The server's side of SCRAM-SHA-256, by scramp."""

    def __init__(self, password: str = PASSWORD, iterations: int = 4096) -> None:
        mechanism = ScramMechanism("SCRAM-SHA-256")
        known = mechanism.make_auth_info(password, iteration_count=iterations)
        self.scram = mechanism.make_server(lambda _user: known)

    def first(self, answer: bytes | None) -> m.AuthenticationSASLContinue:
        assert answer is not None
        initial = m.SASLInitialResponse.decode(answer[5:])
        assert initial.mechanism == "SCRAM-SHA-256"
        self.scram.set_client_first((initial.response or b"").decode())
        return m.AuthenticationSASLContinue(self.scram.get_server_first().encode())

    def final(self, answer: bytes | None) -> m.AuthenticationSASLFinal:
        assert answer is not None
        self.scram.set_client_final(m.SASLResponse.decode(answer[5:]).response.decode())
        return m.AuthenticationSASLFinal(self.scram.get_server_final().encode())


OFFER = m.AuthenticationSASL(("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"))


def login(password: str | None = PASSWORD, *, tls: bool = False) -> UpstreamLogin:
    return UpstreamLogin("proxy", password, tls=tls)


def challenged() -> tuple[UpstreamLogin, Server, bytes | None]:
    """A login that has just proved to the server that it knows the password."""
    begun, server = login(), Server()
    return begun, server, begun.receive(server.first(begun.receive(OFFER)))


def test_scram_goes_all_the_way():
    begun, server, proof = challenged()
    assert begun.receive(server.final(proof)) is None
    assert not begun.done
    assert begun.receive(m.AuthenticationOk()) is None
    assert begun.done


def test_a_server_that_does_not_know_the_password_is_refused():
    begun, _, _ = challenged()
    with pytest.raises(UpstreamProtocolError, match="prove"):
        begun.receive(m.AuthenticationSASLFinal(b"v=" + b"A" * 43 + b"="))
    assert not begun.done


def test_a_server_that_says_ok_before_it_proved_itself_is_refused():
    begun, _, _ = challenged()
    with pytest.raises(UpstreamProtocolError, match="before it proved"):
        begun.receive(m.AuthenticationOk())
    begun = login()
    begun.receive(OFFER)
    with pytest.raises(UpstreamProtocolError, match="before it proved"):
        begun.receive(m.AuthenticationOk())
    assert not begun.done


def test_a_server_may_not_ask_for_the_password_in_the_clear_once_scram_began():
    begun = login(tls=True)
    begun.receive(OFFER)
    with pytest.raises(UpstreamProtocolError, match="out of order"):
        begun.receive(m.AuthenticationCleartextPassword())


def test_trust_needs_no_password():
    trusted = login(None)
    assert trusted.receive(m.AuthenticationOk()) is None
    assert trusted.done


def test_a_password_in_the_clear_travels_over_tls_only():
    over_tls = login(tls=True)
    assert over_tls.receive(m.AuthenticationCleartextPassword()) == m.PasswordMessage(PASSWORD).encode()
    over_tls.receive(m.AuthenticationOk())
    assert over_tls.done
    with pytest.raises(UpstreamProtocolError, match="without TLS"):
        login(tls=False).receive(m.AuthenticationCleartextPassword())


@pytest.mark.parametrize("password", [None, ""])
@pytest.mark.parametrize("asked", [m.AuthenticationCleartextPassword(), OFFER])
def test_a_password_that_is_not_there_is_said_to_be_missing(password: str | None, asked: m.Authentication):
    with pytest.raises(UpstreamProtocolError, match="none is configured") as refused:
        login(password, tls=True).receive(asked)
    assert refused.value.code == "28P01"


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (m.AuthenticationMD5Password(b"salt"), "md5"),
        (m.AuthenticationOther(7, b""), "method 7"),
        (m.AuthenticationSASL(("OAUTHBEARER",)), "mechanism other than SCRAM-SHA-256"),
        (m.AuthenticationSASL(()), "mechanism other than SCRAM-SHA-256"),
    ],
)
def test_every_other_way_of_logging_in_is_refused_by_name(asked: m.Authentication, name: str):
    with pytest.raises(UpstreamProtocolError, match=name):
        login(tls=True).receive(asked)


def test_a_password_that_scram_forbids_is_said_to_be_unusable():
    with pytest.raises(UpstreamProtocolError, match="cannot be used"):
        login("with a bell\a").receive(OFFER)


def test_a_server_cannot_make_the_proxy_work_for_seconds():
    begun = login()
    answer = begun.receive(OFFER)
    assert answer is not None
    nonce = answer.rpartition(b"r=")[2]
    with pytest.raises(UpstreamProtocolError, match="iterations"):
        begun.receive(m.AuthenticationSASLContinue(b"r=" + nonce + b"x,s=QUJDREVGR0hJSktMTU5P,i=9999999"))


def test_another_servers_nonce_is_refused():
    begun = login()
    begun.receive(OFFER)
    with pytest.raises(UpstreamProtocolError, match="malformed"):
        begun.receive(m.AuthenticationSASLContinue(b"r=other,s=QUJDREVGR0hJSktMTU5P,i=4096"))


def test_a_login_is_over_once_it_is_done():
    begun = login()
    begun.receive(m.AuthenticationOk())
    for message in (m.AuthenticationOk(), OFFER, m.AuthenticationSASLFinal(b"v=")):
        with pytest.raises(UpstreamProtocolError):
            begun.receive(message)


@given(st.lists(strategies.authentications, max_size=6), st.booleans())
def test_whatever_a_server_says_raises_only_its_protocol_error(said, tls):
    begun = login(tls=tls)
    for message in said:
        try:
            begun.receive(message)
        except UpstreamProtocolError:
            return
    assert begun.done or m.AuthenticationOk() not in said


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_whatever_a_server_says_in_scram_raises_only_its_protocol_error(first, final):
    begun = login()
    begun.receive(OFFER)
    with pytest.raises(UpstreamProtocolError):
        begun.receive(m.AuthenticationSASLContinue(first))
    begun, _, _ = challenged()
    with pytest.raises(UpstreamProtocolError):
        begun.receive(m.AuthenticationSASLFinal(final))


# --- real servers -----------------------------------------------------------------------------------------------------


def log_in(connection: socket.socket, user: str, password: str | None, *, tls: bool) -> list[m.BackendMessage]:
    """Runs one login on a connection; returns what the server said until it was ready or refused."""
    connection.settimeout(10)
    startup = m.StartupMessage(m.PROTOCOL_3_0, {"user": user, "database": "postgres"})
    connection.sendall(startup.encode())
    upstream, codec, said = UpstreamLogin(user, password, tls=tls), BackendCodec(), []
    while True:
        data = connection.recv(65536)
        assert data
        for frame in codec.feed(data):
            assert isinstance(frame, m.Frame)
            message = m.decode_backend(frame)
            said.append(message)
            if isinstance(message, m.Authentication) and (answer := upstream.receive(message)):
                connection.sendall(answer)
            if isinstance(message, m.ReadyForQuery):
                assert upstream.done
                return said
            if isinstance(message, m.ErrorResponse):
                assert not upstream.done
                return said


def test_scram_lets_the_proxy_in_at_postgresql_18(postgres18: PostgresServer):
    with socket.create_connection((postgres18.host, postgres18.port)) as connection:
        said = log_in(connection, postgres18.proxy_role, postgres18.proxy_password, tls=False)
    assert [type(message) for message in said[:4]] == [
        m.AuthenticationSASL,
        m.AuthenticationSASLContinue,
        m.AuthenticationSASLFinal,
        m.AuthenticationOk,
    ]
    assert isinstance(said[-1], m.ReadyForQuery)


def test_a_wrong_password_is_the_servers_error_to_report(postgres18: PostgresServer):
    with socket.create_connection((postgres18.host, postgres18.port)) as connection:
        said = log_in(connection, postgres18.proxy_role, "wrong", tls=False)
    assert isinstance(said[-1], m.ErrorResponse)
    assert said[-1].fields["C"] == "28P01"


def test_trust_lets_the_proxy_in_at_postgresql_18(postgres18: PostgresServer):
    with socket.create_connection((postgres18.host, postgres18.port)) as connection:
        said = log_in(connection, TRUST_ROLE, None, tls=False)
    assert said[0] == m.AuthenticationOk()


Login = Callable[[ssl.SSLSocket], list[m.BackendMessage]]


def over_tls(server: PostgresServer, run: Login) -> list[m.BackendMessage]:
    context = ssl.create_default_context(cafile=str(server.ca))
    with socket.create_connection((server.host, server.port)) as plain:
        plain.sendall(m.SSLRequest().encode())
        assert plain.recv(1) == b"S"
        with context.wrap_socket(plain, server_hostname=server.host) as connection:
            return run(connection)


def test_a_password_in_the_clear_over_tls_lets_the_proxy_in(postgres15_tls: PostgresServer):
    said = over_tls(postgres15_tls, lambda wire: log_in(wire, CLEARTEXT_ROLE, CLEARTEXT_PASSWORD, tls=True))
    assert said[:2] == [m.AuthenticationCleartextPassword(), m.AuthenticationOk()]


def test_scram_over_tls_lets_the_proxy_in_where_channel_binding_is_offered(postgres15_tls: PostgresServer):
    role, password = postgres15_tls.proxy_role, postgres15_tls.proxy_password
    said = over_tls(postgres15_tls, lambda wire: log_in(wire, role, password, tls=True))
    assert said[0] == OFFER
    assert isinstance(said[-1], m.ReadyForQuery)
