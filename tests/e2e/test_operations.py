"""What operators see of the running parts: alive, ready or why not, metrics, traces."""

import http.client
import http.server
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.fix_postgres import PostgresServer
from tests.fix_stack import RESOURCE, ROOT, Stack, installed, seed

ORDERS = "select id, status, total from orders order by id limit 3"
MARK = "ssn-marker-7193"


class Collector:
    """A collector of traces: what it is sent over HTTP, as OpenTelemetry's own messages."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding", "identity") == "identity":
                    collector.raw.append(body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/traces"

    def spans(self) -> dict[str, list[Any]]:
        """By name."""
        found: dict[str, list[Any]] = {}
        for raw in self.raw:
            for resource in ExportTraceServiceRequest.FromString(raw).resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        found.setdefault(span.name, []).append(span)
        return found


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        collector.server.shutdown()
        thread.join()
        collector.server.server_close()


@pytest.fixture(scope="module")
def operated(postgres18: PostgresServer, opa_path: Path, collector: Collector) -> Iterator[Stack]:
    def edit(document: dict[str, Any]) -> None:
        folder = Path(document["state"]).parent
        document["pdp"]["admin"] = {"listen": f"unix:{folder}/pdp-admin.sock"}
        document["proxies"][0]["admin"] = {"listen": f"unix:{folder}/pep-admin.sock"}
        document["telemetry"] = {"traces": {"url": collector.url}}

    seed(postgres18, "operated_shop")
    with installed(postgres18, opa_path, "operated_shop", edit) as stack:
        stack.serve()
        yield stack


def get(stack: Stack, who: str, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(30)
    connection.sock.connect(str(stack.folder / f"{who}-admin.sock"))
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def readiness(stack: Stack, who: str) -> tuple[int, dict[str, Any]]:
    status, body = get(stack, who, "/readyz")
    return status, json.loads(body)


def metric(stack: Stack, who: str, name: str) -> float:
    """The sum of a metric's samples with these labels: `name{label="value"}` as far as they are given."""
    metrics = get(stack, who, "/metrics")[1]
    given, _, labels = name.partition("{")
    wanted = re.findall(r'\w+="[^"]*"', labels)
    total = 0.0
    for line in metrics.splitlines():
        sample, _, value = line.rpartition(" ")
        if re.fullmatch(rf"{given}(\{{.*\}})?", sample) and all(label in sample for label in wanted):
            total += float(value)
    return total


def test_both_are_alive_and_ready(operated: Stack) -> None:
    for who in ("pdp", "pep"):
        assert get(operated, who, "/healthz") == (200, "ok\n")
        assert operated.until(lambda who=who: readiness(operated, who)[0] == 200)
    operated.until(lambda: readiness(operated, "pep")[1] == {"ready": True, "reasons": [], "warnings": []})
    assert get(operated, "pdp", "/secrets")[0] == 404


def test_verdicts_are_counted_by_policy_and_times_by_stage(operated: Stack) -> None:
    denied_before = metric(operated, "pep", 'checkrein_proxy_verdicts_total{verdict="deny"}')
    with operated.connect(operated.node("read_orders")) as connection:
        connection.execute(ORDERS).fetchall()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("drop table orders")
    assert metric(operated, "pep", 'checkrein_proxy_verdicts_total{verdict="deny"}') == denied_before + 1
    assert metric(operated, "pep", 'checkrein_proxy_verdicts_total{verdict="allow"}') >= 1
    assert metric(operated, "pdp", f'checkrein_pdp_decisions_total{{resource="{RESOURCE}",verdict="deny"}}') >= 1
    policies = set(re.findall(r'verdict="deny"} |policy="([a-z_]+)"', get(operated, "pep", "/metrics")[1])) - {""}
    assert policies
    for stage in ("decide", "open", "record"):
        assert metric(operated, "pep", f'checkrein_proxy_stage_seconds_count{{stage="{stage}"}}') >= 1
    for stage in ("opa", "Decide", "OpenSession"):
        assert metric(operated, "pdp", f'checkrein_pdp_stage_seconds_count{{stage="{stage}"}}') >= 1
    assert metric(operated, "pep", "checkrein_proxy_spool_limit_bytes") > 0
    assert metric(operated, "pdp", "checkrein_pdp_proxies") == 1


def test_sessions_and_pending_approvals_are_gauges(operated: Stack) -> None:
    before = metric(operated, "pdp", "checkrein_pdp_sessions")
    with operated.connect(operated.node("read_orders")) as connection:
        connection.execute(ORDERS)
        assert metric(operated, "pdp", "checkrein_pdp_sessions") == before + 1
        assert metric(operated, "pep", "checkrein_proxy_sessions") >= 1
        assert metric(operated, "pdp", "checkrein_pdp_approvals_pending") == 0


def test_a_broken_policy_is_a_warning_and_says_where(operated: Stack) -> None:
    (broken,) = operated.policies.glob("policies/no_ddl/no_ddl.rego")
    text = broken.read_text()
    broken.write_text(text + "\nallow contains {\n")
    try:
        operated.until(lambda: readiness(operated, "pdp")[1]["warnings"], what="the warning")
        status, said = readiness(operated, "pdp")
        assert status == 200
        assert "no_ddl.rego" in said["warnings"][0]
        assert metric(operated, "pdp", "checkrein_pdp_policies_broken") == 1
    finally:
        broken.write_text(text)
    operated.until(lambda: not readiness(operated, "pdp")[1]["warnings"], what="the end of the warning")


def test_without_opa_the_service_is_not_ready_and_says_why(operated: Stack) -> None:
    opa = operated.opa()
    restarts = metric(operated, "pdp", "checkrein_pdp_opa_restarts")
    os.kill(opa, signal.SIGSTOP)
    try:
        operated.until(lambda: readiness(operated, "pdp")[0] == 503, what="not ready")
        assert "OPA does not answer with a loaded policy" in readiness(operated, "pdp")[1]["reasons"]
        assert get(operated, "pdp", "/healthz")[0] == 200
    finally:
        os.kill(opa, signal.SIGKILL)
    operated.until(lambda: readiness(operated, "pdp")[0] == 200, what="ready again")
    assert metric(operated, "pdp", "checkrein_pdp_opa_restarts") > restarts


def test_without_the_service_a_proxy_is_ready_and_warns(operated: Stack) -> None:
    operated.kill("service")
    try:
        heard_of = "the decision service is not heard of, so everything is denied"
        operated.until(lambda: heard_of in readiness(operated, "pep")[1]["warnings"], what="the warning")
        assert readiness(operated, "pep")[0] == 200
        assert metric(operated, "pep", "checkrein_proxy_decision_service_heard") == 0
    finally:
        operated.start_service()
    operated.until(lambda: not readiness(operated, "pep")[1]["warnings"], what="the end of the warning")


def test_every_metric_of_the_dashboard_is_one_that_is_served(operated: Stack) -> None:
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "checkrein.json").read_text("utf-8"))
    asked = {each.removesuffix("_bucket") for each in re.findall(r"checkrein_\w+", " ".join(_expressions(dashboard)))}
    metrics = "".join(get(operated, who, "/metrics")[1] for who in ("pdp", "pep"))
    served = set(re.findall(r"^# TYPE (\w+)", metrics, re.MULTILINE))
    assert asked
    assert asked - served == set()


def _expressions(node: Any) -> Iterator[str]:
    match node:
        case dict():
            for key, value in node.items():
                if key == "expr":
                    yield value
                else:
                    yield from _expressions(value)
        case list():
            for each in node:
                yield from _expressions(each)
        case _:
            pass


def below(parents: list[Any], spans: list[Any]) -> list[Any]:
    ids = {span.span_id for span in parents}
    return [span for span in spans if span.parent_span_id in ids]


def test_a_decision_is_one_trace_over_both_processes(operated: Stack, collector: Collector) -> None:
    with operated.connect(operated.node("read_orders")) as connection:
        connection.execute(f"select id from orders where status = '{MARK}'")
    # Ended, both send what they still have.
    assert operated.end("proxy") == 0
    assert operated.end("service") == 0
    spans = collector.spans()
    (decide, *_) = spans["checkrein.decide"]
    served = below(spans["checkrein.decide"], spans["pdp.Decide"])
    assert served
    assert below(served, spans["opa"])
    assert {attribute.key for attribute in decide.attributes} >= {"checkrein.session", "checkrein.decisions"}
    token = operated.node("read_orders").encode()
    for raw in collector.raw:
        assert MARK.encode() not in raw
        assert token not in raw
