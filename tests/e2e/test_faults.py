"""What happens when a part of it stops, dies or is full: denials in words, and then it goes on."""

import contextlib
import http.client
import json
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.e2e.clients import OnLock, Refusal, refusal
from tests.fix_postgres import PostgresServer, _account, _run
from tests.fix_stack import OPERATOR, PATIENCE, Done, Stack, installed, seed

ORDERS = "select id, status, total from orders order by id limit 3"


@pytest.fixture(scope="module")
def service(postgres18: PostgresServer, opa_path: Path) -> Iterator[Stack]:
    """One installation of which every test here breaks a part and leaves it mended."""

    def edit(document: dict[str, Any]) -> None:
        # Here it is the point that a decision is late.
        document["decisions"]["timeout"] = {"open": "1s", "decide": "1s"}
        document["decisions"]["spool"] = {"max_bytes": "128KiB", "share": 1.0}
        document["proxies"][0]["shutdown"] = {"drain": "20s"}
        document["proxies"][0]["admin"] = {"listen": f"unix:{document['state']}/pep-admin.sock"}

    seed(postgres18, "faults_shop")
    with installed(postgres18, opa_path, "faults_shop", edit) as stack:
        stack.serve()
        yield stack


def goes_on(connection: psycopg.Connection[Any]) -> Callable[[], bool]:
    """Whether the connection gets its rows again; until then it is denied and told to try again."""

    def asks() -> bool:
        try:
            return len(connection.execute(ORDERS).fetchall()) == 3
        except psycopg.errors.InsufficientPrivilege as error:
            return for_good(error)

    return asks


def status(stack: Stack) -> Done:
    return stack.pdp("status", token=stack.person(OPERATOR))


def lets_in(stack: Stack) -> Callable[[], bool]:
    def logs_in() -> bool:
        try:
            return len(stack.ask(stack.node("read_orders"), ORDERS)) == 3
        except psycopg.OperationalError:
            return False
        except psycopg.errors.InsufficientPrivilege as error:
            return for_good(error)

    return logs_in


def for_good(error: psycopg.Error) -> bool:
    """False for a refusal that may pass."""
    if Refusal.of(error).detail["retry"] is not True:
        raise error
    return False


def denied_for_now(connection: psycopg.Connection[Any]) -> None:
    told = refusal(connection, ORDERS)
    assert told.sqlstate == "42501"
    assert told.detail["retry"] is True
    assert "may be tried again later" in told.message


def not_let_in(stack: Stack) -> None:
    with pytest.raises(psycopg.OperationalError, match="the decision service cannot be asked now"):
        psycopg.connect(stack.dsn(stack.node("read_orders"))).close()


def test_while_the_service_is_stopped_everything_is_denied_for_now_and_then_goes_on(service: Stack):
    with service.connect(service.node("read_orders")) as connection:
        connection.execute(ORDERS)
        position = service.server.log_position()
        os.kill(service.running["service"].pid, signal.SIGSTOP)
        try:
            denied_for_now(connection)
            not_let_in(service)
        finally:
            os.kill(service.running["service"].pid, signal.SIGCONT)
        assert ORDERS not in service.server.log_after(position)
        service.until(goes_on(connection))
        service.until(lets_in(service))


def test_when_the_service_is_killed_everything_is_denied_until_it_runs_again(service: Stack):
    with service.connect(service.node("read_orders")) as connection:
        connection.execute(ORDERS)
        service.kill("service")
        position = service.server.log_position()
        denied_for_now(connection)
        not_let_in(service)
        assert ORDERS not in service.server.log_after(position)
        service.start_service()
        service.until(goes_on(connection))
        service.until(lets_in(service))


def test_a_statement_that_runs_when_the_service_dies_ends_as_it_would_have(service: Stack):
    with service.connect(service.node("read_orders")) as connection:
        running = OnLock(service, connection, ORDERS)
        service.kill("service")
        running.let_go()
        assert running.outcome() == service.truth(ORDERS)
        denied_for_now(connection)
        service.start_service()
        service.until(goes_on(connection))


def test_when_opa_is_killed_it_denies_and_then_goes_on(service: Stack):
    with service.connect(service.node("read_orders")) as connection:
        connection.execute(ORDERS)
        opa = service.opa()
        os.kill(opa, signal.SIGKILL)
        service.until(goes_on(connection))
        assert service.until(service.opa) != opa
        service.until(lets_in(service))
        assert "restarted 1 times" in service.as_(OPERATOR, "status", "--wait")


def test_when_the_target_is_restarted_the_client_is_told_and_may_come_again(service: Stack):
    server = service.server
    with service.connect(service.node("read_orders")) as connection:
        connection.execute(ORDERS)
        options = ["-D", server.data_dir, "-l", server.log_path, "-m", "fast", "-w", "-s"]
        _run([server.bin_dir / "pg_ctl", *options, "restart"], _account())
        with pytest.raises(psycopg.OperationalError) as caught:
            connection.execute(ORDERS)
        assert connection.closed
        assert caught.value.sqlstate == "57P01" or "closed" in str(caught.value)
    service.until(lets_in(service))


def test_a_target_that_cannot_be_reached_is_said_in_words(service: Stack):
    server = service.server
    options = ["-D", server.data_dir, "-w", "-s"]
    _run([server.bin_dir / "pg_ctl", *options, "-m", "fast", "stop"], _account())
    try:
        with pytest.raises(psycopg.OperationalError, match="the target cannot be reached"):
            psycopg.connect(service.dsn(service.node("read_orders"))).close()
    finally:
        start = ["-l", server.log_path, "-o", f"-p {server.port}", "start"]
        _run([server.bin_dir / "pg_ctl", *options, *start], _account())
    service.until(lets_in(service))


def test_a_proxy_that_is_asked_to_stop_lets_what_runs_finish(service: Stack):
    token = service.node("read_orders")
    with service.connect(token) as connection, service.connect(token) as idle:
        running = OnLock(service, connection, ORDERS)
        service.running["proxy"].process.terminate()
        with pytest.raises(psycopg.OperationalError) as caught:
            service.until(lambda: idle.execute("select 1").fetchall() and None)
        assert caught.value.sqlstate == "57P01"
        assert "the proxy is stopping" in str(caught.value)
        running.let_go()
        assert running.outcome() == service.truth(ORDERS)
        assert service.end("proxy") == 0
    service.start_proxy()
    service.until(lets_in(service))


def test_what_does_not_fit_the_spool_is_denied_and_what_fits_goes_on(service: Stack):
    position = service.server.log_position()
    with service.connect(service.node("read_orders")) as connection:
        told = refusal(connection, f"select '{'x' * 150_000}'")
        assert told.sqlstate == "42501"
        assert told.detail["code"] == "record-unavailable"
        assert told.detail["retry"] is True
        # The proxy says so to the service, and the service to whoever asks, until something is written again.
        trouble = "could not write its last record: the spool is full; "
        service.until(lambda: trouble in status(service).out)
        assert status(service).status == 1
        service.until(goes_on(connection))
        service.until(lambda: trouble not in status(service).out)
    assert "xxxxx" not in service.server.log_after(position)


def ready(stack: Stack) -> tuple[int, list[str]]:
    """What `/readyz` of the proxy says, and why."""
    connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection.sock:
        connection.sock.connect(str(stack.state / "pep-admin.sock"))
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())["reasons"]


def test_a_full_disk_is_a_denial_in_words_and_said_so_in_health_and_nothing_is_lost_or_twice(service: Stack):
    """No file of the proxy may grow: what a write then gets is an error, or a part that fits."""
    run = "full-disk"
    numbered = "select id from orders where id = {}".format
    with service.connect(service.node("read_orders", run)) as connection:
        connection.execute(numbered(1))
        position = service.server.log_position()
        proxy = service.running["proxy"].pid
        resource.prlimit(proxy, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        told = refusal(connection, numbered(2))
        assert (told.sqlstate, told.detail["code"], told.detail["retry"]) == ("42501", "record-unavailable", True)
        status, reasons = ready(service)
        assert status == 503
        assert any("nothing can be put on record now: File too large" in reason for reason in reasons), reasons
        assert numbered(2) not in service.server.log_after(position)
        resource.prlimit(proxy, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        # Nobody asks meanwhile: it finds out by itself.
        service.until(lambda: ready(service) == (200, []), what="the proxy is ready again")
        connection.execute(numbered(3))
        service.kill("proxy")
    executed = service.server.log_after(position)
    assert numbered(3) in executed
    service.start_proxy()
    (session,) = service.until(lambda: service.sessions(run))
    replay = service.recorded(session, "session lost")
    forwarded = [each for each in (1, 2, 3) if numbered(each) in replay]
    assert 3 in forwarded
    assert replay.count("forwarded as") == 2
    assert "the chains hold" in service.as_(OPERATOR, "sessions", "verify", session)
