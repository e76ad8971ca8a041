"""A page of another origin in a real browser: its fetch passes the proxy where the operator has named the origin."""

import http.server
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.http_api import HttpApi
from tests.http_relay import PASSWORD, HttpRelay, deny, http_relay
from tests.stub_service import allow

pytestmark = pytest.mark.timeout(180)
PATIENCE = 90.0
SETUP = Path(__file__).parents[3] / "deploy" / "tools" / "setup"

# What the page does with the proxy's address and the token; what it saw goes to its own origin.
PAGE = """<!doctype html><script>
const proxy = %s, token = %s;
async function seen(path, options) {
  try {
    const got = await fetch(proxy + path, options);
    return {status: got.status, type: got.headers.get("content-type"), body: await got.json()};
  } catch (error) { return {error: error.name}; }
}
const headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"};
(async () => {
  const result = {
    read: await seen("/orders", {headers}),
    wrote: await seen("/orders", {method: "PUT", headers, body: JSON.stringify({paid: true})}),
    deleted: await seen("/orders", {method: "DELETE", headers}),
    without: await seen("/orders", {}),
  };
  await fetch("/result", {method: "POST", body: JSON.stringify(result)});
})();
</script>"""


class Pages:
    """The origin that the page is of."""

    def __init__(self) -> None:
        self.results: queue.Queue[dict[str, Any]] = queue.Queue()
        self.page = b""
        pages = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(pages.page if self.path == "/" else b"")

            def do_POST(self) -> None:
                pages.results.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self._answer(b"")

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def pages() -> Iterator[Pages]:
    pages = Pages()
    thread = threading.Thread(target=pages.server.serve_forever)
    thread.start()
    try:
        yield pages
    finally:
        pages.server.shutdown()
        thread.join()
        pages.server.server_close()


def browser() -> str:
    """Obtained by the project's own set-up, and a failure where it is not to be had."""
    done = subprocess.run([sys.executable, SETUP, "browser"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@contextmanager
def visiting(url: str, profile: Path) -> Iterator[None]:
    """The browser at this page, until the block ends."""
    # Port 0 of the debugger keeps it open; as root there is no sandbox to be had.
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0"]
    command = [browser(), *options, f"--user-data-dir={profile}", url]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, start_new_session=True, **quiet) as running:
        try:
            yield
        finally:
            # It is many processes, and those that the first one began do not end with it.
            os.killpg(running.pid, signal.SIGKILL)


def writes_nothing(action: Any) -> Any:
    return deny("Nobody deletes.") if action.properties["method"] == "DELETE" else allow()


@pytest.fixture
def visit(api: HttpApi, pages: Pages, tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    def seen(origin: str) -> dict[str, Any]:
        with cors_relay(api, origin) as relay:
            pages.page = (PAGE % (json.dumps(relay.url), json.dumps(PASSWORD))).encode()
            with visiting(pages.origin + "/", tmp_path / "profile"):
                return pages.results.get(timeout=PATIENCE)

    return seen


@contextmanager
def cors_relay(api: HttpApi, origin: str) -> Iterator[HttpRelay]:
    listen = {"address": "127.0.0.1:0", "login": ["bearer"], "cors": {"origins": [origin]}}
    with http_relay(api.url, writes_nothing, listen=listen) as relay:
        yield relay


def test_a_page_of_a_named_origin_gets_answers_and_refusals(
    api: HttpApi, pages: Pages, visit: Callable[[str], dict[str, Any]]
) -> None:
    result = visit(pages.origin)
    assert result["read"]["status"] == 200
    assert result["read"]["body"] == requests.get(f"{api.url}/orders", timeout=10).json()
    assert result["wrote"]["status"] == 201
    assert result["deleted"]["status"] == 403
    assert "Nobody deletes" in result["deleted"]["body"]["detail"]
    assert result["without"]["status"] == 401
    # The browser's questions end at the proxy.
    assert {seen.method for seen in api.seen} == {"GET", "PUT"}


def test_a_page_of_another_origin_reads_nothing(api: HttpApi, visit: Callable[[str], dict[str, Any]]) -> None:
    result = visit("https://app.example")
    assert result == {key: {"error": "TypeError"} for key in ("read", "wrote", "deleted", "without")}
    assert api.seen == []


QUESTION = {
    "Origin": "https://app.example",
    "Access-Control-Request-Method": "PUT",
    "Access-Control-Request-Headers": "authorization,content-type",
}


def test_the_question_is_answered_by_the_proxy(api: HttpApi) -> None:
    with cors_relay(api, "https://app.example") as relay:
        answer = requests.options(relay.url + "/orders", headers=QUESTION, timeout=10)
    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert answer.headers["Access-Control-Allow-Methods"] == "PUT"
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization,content-type"
    assert answer.headers["Access-Control-Max-Age"] == "600"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "Origin" in answer.headers["Vary"]
    assert api.seen == []


@pytest.mark.parametrize(
    "changed",
    [
        {"Origin": "https://app.example.evil.test"},
        {"Origin": "http://app.example"},
        {"Origin": "null"},
        {"Origin": "https://APP.example"},
        {"Access-Control-Request-Method": "PUT, DELETE"},
        {"Access-Control-Request-Headers": "a b"},
    ],
    ids=lambda changed: " ".join(f"{name}={value}" for name, value in changed.items()),
)
def test_any_other_question_needs_a_credential_like_every_request(api: HttpApi, changed: dict[str, str]) -> None:
    with cors_relay(api, "https://app.example") as relay:
        answer = requests.options(relay.url + "/orders", headers=QUESTION | changed, timeout=10)
    assert answer.status_code == 401
    assert "Access-Control-Allow-Methods" not in answer.headers
    assert api.seen == []


def test_without_the_setting_the_proxy_says_nothing_of_origins(api: HttpApi) -> None:
    with http_relay(api.url) as relay:
        answer = requests.options(relay.url + "/orders", headers=QUESTION, timeout=10)
    assert answer.status_code == 401
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


def test_where_the_proxy_says_who_may_read_the_target_does_not(api: HttpApi) -> None:
    with cors_relay(api, "https://app.example") as relay:
        for origin, allowed in (("https://app.example", "https://app.example"), ("https://evil.test", None)):
            answer = requests.get(relay.url + "/open", headers=relay.headers | {"Origin": origin}, timeout=10)
            assert answer.status_code == 200
            assert answer.headers.get("Access-Control-Allow-Origin") == allowed
            assert "Access-Control-Allow-Credentials" not in answer.headers
