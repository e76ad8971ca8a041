"""The checks at the doors of the proxies, each with the test that misses it where it is taken away."""

from tests.doors.checks import Mutation

LIMITS = "tests/doors/test_proxy_limits.py::"
LISTENER = "pep/core/listener.py"
RUNTIME = "pep/core/runtime.py"
TLS = "tests/pep/postgres/test_wire_tls.py::"
EXCHANGES = "tests/pep/http/test_exchanges.py::"
HTTP2 = "tests/pep/http/test_http2_limits.py::"
SHOWN = "tests/doors/test_listener_certificates.py::"

PROXY_MUTATIONS = (
    Mutation("both: what is shown to clients changes", "pep/core/listener_tls.py", "if state == self._read:",
             "if True:", f"{SHOWN}test_a_renewed_pair_is_shown_and_whatever_is_none_changes_nothing"),
    Mutation("both: also to clients that name no server", "pep/core/listener_tls.py",
             "connection.context = self._current", "connection.context = self._current if _name else _context",
             f"{SHOWN}test_a_renewed_pair_is_shown_and_whatever_is_none_changes_nothing"),
    Mutation("both: whose certificates clients may show", "pep/core/tls.py",
             "context.verify_mode = ssl.CERT_OPTIONAL", "context.verify_mode = ssl.CERT_NONE",
             f"{SHOWN}test_whose_certificates_clients_may_show_changes_too"),
    Mutation("both: a wait goes on with the token of now", "pep/core/grpc_client.py",
             "if session.token == request.token and connections is self._connections:", "if True:",
             "tests/doors/test_streams.py::test_a_proxy_goes_on_waiting_with_the_token_that_it_has_by_then"),
    Mutation("both: bytes before a login", "pep/core/leg.py", "if len(self._buffer) >= self._limit:", "if False:",
             "tests/pep/core/test_leg.py::test_a_login_that_says_too_much_is_read_no_further"),
    Mutation("both: what a client sends ahead", "pep/core/driver.py", "if backlog >= self._client_buffer:", "if False:",
             "tests/pep/core/test_driver.py::test_the_backlog_is_bounded_and_reading_goes_on_when_it_is_used_up"),
    Mutation("both: connections at one proxy", LISTENER, "if len(self._open) >= self._most:", "if False:",
             f"{LIMITS}test_a_listener_has_so_many_connections"),
    Mutation("both: connections of one address", LISTENER,
             "if address and self._of_address[address] >= self._per_address:", "if False:",
             f"{LIMITS}test_of_one_address_so_many_come_that_are_not_known"),
    Mutation("both: sessions at one proxy", RUNTIME,
             "if len(self.sessions) >= self.proxy.limits.sessions:", "if False:",
             f"{LIMITS}test_a_proxy_has_so_many_sessions"),
    Mutation("both: sessions of a subject at one proxy", RUNTIME,
             "if self.sessions.of(handle.subject.root.name) >= self.proxy.limits.sessions_per_subject:", "if False:",
             f"{LIMITS}test_one_person_has_so_many_sessions_at_a_proxy"),
    Mutation("PostgreSQL: connections without a session", LISTENER,
             "if self._strangers is not None and len(self._open) - self._known() >= self._strangers:", "if False:",
             "tests/doors/test_limits.py::test_connections_that_are_no_sessions_are_few"),
    Mutation("PostgreSQL: the time of a login", "pep/postgres/server.py",
             "async with asyncio.timeout(limits.login.total_seconds()):", "async with asyncio.timeout(None):",
             f"{LIMITS}test_a_login_has_a_time"),
    Mutation("PostgreSQL: what a login says", "pep/postgres/login.py", "FrontendCodec(max_statement=limit)",
             "FrontendCodec(max_statement=1 << 30)", f"{LIMITS}test_a_login_says_only_so_much"),
    Mutation("PostgreSQL: idle time", "pep/postgres/session.py", 'elif name == "idle":', 'elif name == "never":',
             f"{LIMITS}test_an_idle_session_ends"),
    Mutation("PostgreSQL: the length of a statement", "pep/postgres/codec.py", "elif length - 4 > self.max_statement:",
             "elif False:",
             "tests/pep/postgres/test_codec.py::test_a_statement_over_the_limit_is_said_once_at_its_header_and_never_held"),
    Mutation("PostgreSQL: nobody logs in in clear where there is TLS", "pep/postgres/login.py",
             "if tls is not None and not leg.encrypted and not plaintext:", "if False:",
             f"{TLS}test_a_client_in_clear_text_is_refused"),
    Mutation("PostgreSQL: nothing in clear counts as encrypted", "pep/postgres/login.py", "if codec.rest:", "if False:",
             f"{TLS}test_plaintext_behind_the_request_for_tls_is_refused"),
    Mutation("HTTP: the time of a head", "pep/http/session.py", 'case "head" if connection.head is None:',
             'case "never" if connection.head is None:',
             f"{EXCHANGES}test_a_head_that_does_not_come_is_not_waited_for"),
    Mutation("HTTP: idle time", "pep/http/session.py", 'case "idle" if connection.head is None:',
             'case "never" if connection.head is None:', f"{EXCHANGES}test_an_idle_connection_is_closed"),
    Mutation("HTTP/2: the time of its beginning", "pep/http/http2/connection.py",
             "if not self._greeted and now - self._began > limits.head:", "if False:",
             f"{HTTP2}test_what_does_not_arrive_is_not_waited_for"),
    Mutation("HTTP/2: idle time", "pep/http/http2/connection.py",
             "elif not self._streams and now - self._active > limits.idle:", "elif False:",
             f"{HTTP2}test_a_connection_without_streams_is_told_to_end"),
)  # fmt: skip
