"""Real clients through the proxy and straight to the API: they cannot tell which, but for what is listed here."""

import asyncio
import json
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import httpx_sse
import pytest
import requests
import urllib3
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from tests.http_api import FILE, HttpApi
from tests.http_relay import PASSWORD, SECRET, deny, http_relay
from tests.stub_service import allow_everything

# Of one hop (RFC 9110, section 7.6.1), or of the second in which it was sent.
OF_THE_HOP = frozenset({"connection", "date", "keep-alive", "transfer-encoding"})
# Where a credential must not come back the body is looked at, so it is sent decoded, and no part of it by itself.
OF_THE_BYTES = frozenset({"accept-ranges", "content-encoding", "content-length"})


@dataclass(frozen=True)
class Target:
    """Where a client is sent: to the API or to the proxy."""

    base: str
    headers: Mapping[str, str]
    ca: str

    @property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca)

    @property
    def socket(self) -> str:
        return self.base.replace("http", "ws", 1) + "/socket"


@dataclass(frozen=True)
class Sent:
    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True)
class Got:
    """A response as a client's user sees it: the body decoded, the header fields sorted."""

    sent: Sent
    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes

    def without(self, names: frozenset[str]) -> "Got":
        fields = tuple((name, value) for name, value in self.fields if name not in names)
        return Got(self.sent, self.status, fields, self.body)


JSON = {"Content-Type": "application/json"}
BYTES = {"Content-Type": "application/octet-stream"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
REQUESTS = (
    Sent("GET", "/orders"),
    Sent("GET", "/orders/3?fields=id,total&sort=-id&q=caf%C3%A9%20au%20lait"),
    Sent("HEAD", "/orders"),
    Sent("OPTIONS", "/orders"),
    Sent("POST", "/orders", JSON, b'{"total": 7}'),
    Sent("PUT", "/orders/1", JSON, b'{"total": 8}'),
    Sent("PATCH", "/orders/1", JSON, b"[]"),
    Sent("DELETE", "/orders/1"),
    Sent("GET", "/customers/2"),
    Sent("GET", "/ndjson"),
    Sent("GET", "/events?count=3"),
    Sent("GET", "/chunked"),
    Sent("GET", "/encoded/gzip", {"Accept-Encoding": "gzip"}),
    Sent("GET", "/redirect/1"),
    Sent("GET", "/cookies", {"Cookie": "session=abc; theme=dark"}),
    Sent("GET", "/large/300000"),
    Sent("GET", "/status/204"),
    Sent("GET", "/status/304"),
    Sent("GET", "/status/404"),
    Sent("GET", "/status/500"),
    Sent("GET", "/nothing/here"),
    Sent("POST", "/echo", BYTES, bytes(range(256)) * 300),
    Sent("POST", "/echo", FORM, b"name=Ada&note=two+words&name=B%26b"),
    Sent("POST", "/echo", BYTES, b""),
    Sent("GET", "/file"),
)

Client = Callable[[Target, Sequence[Sent]], list[Got]]


def got(sent: Sent, status: int, fields: Iterator[tuple[str, str]] | Sequence[tuple[str, str]], body: bytes) -> Got:
    return Got(sent, status, tuple(sorted((name.lower(), value) for name, value in fields)), body)


# --- clients ----------------------------------------------------------------------------------------------------------


def curl(target: Target, *arguments: str, data: bytes | None = None) -> str:
    headers = [part for name, value in target.headers.items() for part in ("-H", f"{name}: {value}")]
    command = ["curl", "-q", "-sS", "--noproxy", "*", "--max-time", "20", "--cacert", target.ca, *headers, *arguments]
    done = subprocess.run(command, input=data, capture_output=True, check=False, timeout=25)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def over_curl(target: Target, sent: Sequence[Sent], folder: Path) -> list[Got]:
    answers = []
    for each in sent:
        arguments = ["-D", f"{folder}/head", "-o", f"{folder}/body", "--compressed", "-H", "Accept-Encoding:"]
        arguments += ["-I"] if each.method == "HEAD" else ["-X", each.method]
        arguments += [part for name, value in each.headers.items() for part in ("-H", f"{name}: {value}")]
        arguments += ["--data-binary", "@-"] if each.body is not None else []
        status = curl(target, *arguments, "-w", "%{http_code}", target.base + each.path, data=each.body)
        # Interim responses have heads of their own.
        head = (folder / "head").read_text("latin-1").strip().split("\r\n\r\n")[-1]
        fields = [line.split(": ", 1) for line in head.split("\r\n")[1:]]
        body = (folder / "body").read_bytes() if each.method != "HEAD" and (folder / "body").exists() else b""
        (folder / "body").unlink(missing_ok=True)
        answers.append(got(each, int(status), [(name, value) for name, value in fields], body))
    return answers


def over_requests(target: Target, sent: Sequence[Sent]) -> list[Got]:
    answers = []
    with requests.Session() as session:
        session.trust_env = False
        session.verify = target.ca
        for each in sent:
            session.cookies.clear()
            headers = {**target.headers, **each.headers}
            answer = session.request(
                each.method, target.base + each.path, headers=headers, data=each.body, timeout=10, allow_redirects=False
            )
            # Of several fields of a name requests makes one.
            answers.append(got(each, answer.status_code, list(answer.headers.items()), answer.content))
    return answers


def over_httpx(target: Target, sent: Sequence[Sent]) -> list[Got]:
    answers = []
    with httpx.Client(base_url=target.base, verify=target.tls, timeout=10, trust_env=False) as client:
        for each in sent:
            client.cookies.clear()
            answer = client.request(
                each.method, each.path, headers={**target.headers, **each.headers}, content=each.body
            )
            answers.append(got(each, answer.status_code, answer.headers.multi_items(), answer.content))
    return answers


def over_aiohttp(target: Target, sent: Sequence[Sent]) -> list[Got]:
    async def run() -> list[Got]:
        answers = []
        jar = aiohttp.DummyCookieJar()
        timeout = aiohttp.ClientTimeout(10)
        async with aiohttp.ClientSession(cookie_jar=jar, timeout=timeout) as session:
            for each in sent:
                async with session.request(
                    each.method,
                    target.base + each.path,
                    headers={**target.headers, **each.headers},
                    data=each.body,
                    ssl=target.tls,
                    allow_redirects=False,
                ) as answer:
                    body = await answer.read()
                    answers.append(got(each, answer.status, list(answer.headers.items()), body))
        return answers

    return asyncio.run(run())


def over_urllib3(target: Target, sent: Sequence[Sent]) -> list[Got]:
    answers = []
    with urllib3.PoolManager(ca_certs=target.ca, timeout=10.0, retries=False) as pool:
        for each in sent:
            headers = {**target.headers, **each.headers}
            answer = pool.request(each.method, target.base + each.path, headers=headers, body=each.body, redirect=False)
            answers.append(got(each, answer.status, list(answer.headers.items()), answer.data))
    return answers


@pytest.fixture(params=["curl", "requests", "httpx", "aiohttp", "urllib3"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Client:
    clients: dict[str, Client] = {
        "curl": lambda target, sent: over_curl(target, sent, tmp_path),
        "requests": over_requests,
        "httpx": over_httpx,
        "aiohttp": over_aiohttp,
        "urllib3": over_urllib3,
    }
    return clients[request.param]


# --- targets ----------------------------------------------------------------------------------------------------------


@contextmanager
def through(api: HttpApi, *, tls: bool = False, injects: bool = True) -> Iterator[Target]:
    """The proxy: with TLS on both sides, or on neither."""
    settings: dict[str, Any] = {} if injects else {"credentials": {"default": {"none": True}}}
    upstream = api.url
    if tls:
        own = api.authority.issue("proxy", dns=["localhost"])
        settings["listen"] = {"address": "127.0.0.1:0", "tls": {"cert": str(own.certificate), "key": str(own.key)}}
        settings["upstream"] = {"addresses": [api.tls_url], "tls": {"ca": api.ca}}
    with http_relay(upstream, **settings) as relay:
        base = f"https://localhost:{relay.port}" if tls else relay.url
        yield Target(base, relay.headers, api.ca)


def direct(api: HttpApi, *, tls: bool = False) -> Target:
    return Target(api.tls_url if tls else api.url, {}, api.ca)


@pytest.fixture
def relayed(api: HttpApi) -> Iterator[Target]:
    with through(api) as target:
        yield target


# --- requests and responses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("injects", [False, True], ids=["no-credential", "credential"])
def test_a_client_sees_what_it_would_see_without_the_proxy(
    api: HttpApi, client: Client, tls: bool, injects: bool
) -> None:
    listed = OF_THE_HOP | OF_THE_BYTES if injects else OF_THE_HOP
    expected = [answer.without(listed) for answer in client(direct(api, tls=tls), REQUESTS)]
    reached = [(seen.method, seen.target, seen.body) for seen in api.seen]
    api.clear()
    with through(api, tls=tls, injects=injects) as target:
        found = [answer.without(listed) for answer in client(target, REQUESTS)]
    assert [answer.status for answer in found] == [answer.status for answer in expected]
    for one, other in zip(found, expected, strict=True):
        assert one == other
    assert [(seen.method, seen.target, seen.body) for seen in api.seen] == reached
    for seen in api.seen:
        assert seen.all("Authorization") == ([f"Bearer {SECRET}"] if injects else [])
    # The client kept its connection, except curl, whose every request is a process; and so did the proxy.
    assert len({seen.peer for seen in api.seen}) <= 2 + sum(seen.target == "/nothing/here" for seen in api.seen)


def test_redirects_are_followed_through_the_proxy(relayed: Target, api: HttpApi) -> None:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(f"{relayed.base}/redirect/3", headers=relayed.headers, timeout=10)
    assert answer.url == f"{relayed.base}/orders"
    assert len(answer.history) == 3
    assert len(answer.json()) == 20
    assert api.targets() == ["GET /redirect/3", "GET /redirect/2", "GET /redirect/1", "GET /orders"]


def test_an_interim_response_is_no_answer(relayed: Target, tmp_path: Path) -> None:
    """Not of requests and urllib3, to which it is one (http.client knows 100 alone)."""
    for client in (over_httpx, over_aiohttp, lambda target, sent: over_curl(target, sent, tmp_path)):
        (answer,) = client(relayed, [Sent("GET", "/hints")])
        assert (answer.status, answer.body) == (200, b'{"hinted": true}')


def test_cookies_are_kept_for_the_target(relayed: Target) -> None:
    with httpx.Client(base_url=relayed.base, headers=relayed.headers, trust_env=False) as session:
        assert session.get("/cookies").json() == {}
        assert session.get("/cookies").json() == {"one": "1", "two": "2"}


def test_files_of_a_form_arrive(relayed: Target, api: HttpApi) -> None:
    files = {"report": ("report.bin", bytes(range(256)), "application/octet-stream")}
    answer = requests.post(
        f"{relayed.base}/echo", headers=relayed.headers, data={"title": "é"}, files=files, timeout=10
    )
    assert answer.content == answer.request.body == api.seen[0].body


def test_basic_credentials_carry_the_token(relayed: Target) -> None:
    answer = requests.get(f"{relayed.base}/orders/1", auth=("anybody", PASSWORD), timeout=10)
    assert answer.json()["id"] == 1


# --- curl -------------------------------------------------------------------------------------------------------------


def test_curl_uploads_after_the_head_was_accepted(relayed: Target, api: HttpApi, tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(bytes(range(256)) * 8000)
    arguments = ["-H", "Expect: 100-continue", "--expect100-timeout", "20", "-T", f"{tmp_path}/upload"]
    out = ["-o", f"{tmp_path}/back", "-w", "%{http_code} %{size_upload}"]
    assert curl(relayed, *arguments, *out, f"{relayed.base}/echo") == "200 2048000"
    assert (tmp_path / "back").read_bytes() == (tmp_path / "upload").read_bytes()
    assert api.seen[0].all("Expect") == []


def test_curl_does_not_upload_what_is_denied(api: HttpApi, tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(bytes(100_000))
    with http_relay(api.url, lambda _: deny()) as relay:
        target = Target(relay.url, relay.headers, api.ca)
        arguments = ["-H", "Expect: 100-continue", "--expect100-timeout", "20", "-T", f"{tmp_path}/upload"]
        out = ["-o", f"{tmp_path}/back", "-w", "%{http_code} %{size_upload}"]
        assert curl(target, *arguments, *out, f"{target.base}/echo") == "403 0"
    assert json.loads((tmp_path / "back").read_bytes())["checkrein"]["verdict"] == "deny"
    assert api.seen == []


def test_curl_keeps_its_connection(relayed: Target) -> None:
    urls = [f"{relayed.base}/orders/{number}" for number in range(1, 6)]
    shown = curl(relayed, "-w", "\n%{num_connects}\n", *urls).splitlines()
    assert shown[1::2] == ["1", "0", "0", "0", "0"]
    assert [json.loads(line)["id"] for line in shown[::2]] == [1, 2, 3, 4, 5]


def test_curl_sends_many_at_once(relayed: Target, api: HttpApi) -> None:
    curl(relayed, "-Z", "--parallel-max", "8", "-o", "/dev/null", f"{relayed.base}/orders/[1-20]")
    assert sorted(api.targets()) == sorted(f"GET /orders/{number}" for number in range(1, 21))


def test_curl_speaks_the_old_version(relayed: Target) -> None:
    assert curl(relayed, "--http1.0", f"{relayed.base}/chunked") == "one two three"


def test_a_range_is_served_where_no_credential_is_injected(api: HttpApi) -> None:
    with through(api, injects=False) as target:
        shown = curl(target, "-r", "16-31", "-D", "-", "-o", "/dev/null", f"{target.base}/file")
    assert "206 Partial Content" in shown
    assert f"Content-Range: bytes 16-31/{len(FILE)}" in shown


def test_a_range_is_the_whole_where_one_is(relayed: Target, api: HttpApi, tmp_path: Path) -> None:
    shown = curl(relayed, "-r", "16-31", "-D", "-", "-o", f"{tmp_path}/back", f"{relayed.base}/file")
    assert "200 OK" in shown
    assert "range" not in shown.lower()
    assert (tmp_path / "back").read_bytes() == FILE
    assert api.seen[0].all("Range") == []


# --- pools ------------------------------------------------------------------------------------------------------------


def test_a_pool_shares_its_connections_between_threads(relayed: Target, api: HttpApi) -> None:
    with urllib3.PoolManager(maxsize=4, block=True, timeout=10.0, retries=False) as pool:

        def ask(number: int) -> int:
            answer = pool.request("GET", f"{relayed.base}/orders/{number % 20 + 1}", headers=relayed.headers)
            return int(answer.json()["id"])

        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(ask, range(100))) == [number % 20 + 1 for number in range(100)]
        connections = pool.connection_from_url(relayed.base).num_connections
    assert connections <= 4
    assert len({seen.peer for seen in api.seen}) <= 4


def test_many_at_once_over_aiohttp(relayed: Target, api: HttpApi) -> None:
    async def run() -> list[int]:
        connector = aiohttp.TCPConnector(limit=16)
        async with aiohttp.ClientSession(connector=connector, headers=relayed.headers) as session:

            async def ask(number: int) -> int:
                async with session.get(f"{relayed.base}/orders/{number % 20 + 1}") as answer:
                    return int((await answer.json())["id"])

            return await asyncio.gather(*map(ask, range(200)))

    assert asyncio.run(run()) == [number % 20 + 1 for number in range(200)]


# --- streams ----------------------------------------------------------------------------------------------------------


def test_events_arrive_one_by_one(relayed: Target) -> None:
    with httpx.Client(headers=relayed.headers, timeout=10, trust_env=False) as session:
        with httpx_sse.connect_sse(session, "GET", f"{relayed.base}/events") as source:
            events = []
            for event in source.iter_sse():
                events.append(event)
                if len(events) == 5:
                    break
        assert session.get(f"{relayed.base}/orders/1").json()["id"] == 1
    assert [event.id for event in events] == ["1", "2", "3", "4", "5"]
    assert {event.event for event in events} == {"tick"}
    assert events[2].json() == {"n": 3, "email": "user3@example.org"}


def test_a_stream_is_decoded_as_it_arrives(relayed: Target) -> None:
    async def run() -> list[str]:
        async with (
            aiohttp.ClientSession(headers=relayed.headers) as session,
            session.get(f"{relayed.base}/events", headers={"Accept-Encoding": "gzip"}) as answer,
        ):
            return [(await answer.content.readline()).decode() for _ in range(8)]

    assert asyncio.run(run())[4] == "id: 2\n"


# --- WebSocket --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("injects", [False, True], ids=["no-credential", "credential"])
def test_messages_of_every_kind_come_back(api: HttpApi, tls: bool, injects: bool) -> None:
    with through(api, tls=tls, injects=injects) as target:
        options: dict[str, Any] = {"ssl": target.tls} if tls else {}
        with connect(
            target.socket,
            additional_headers=target.headers,
            subprotocols=["echo"],  # type: ignore[list-item]
            max_size=1 << 24,
            proxy=None,
            open_timeout=10,
            **options,
        ) as socket:
            assert socket.subprotocol == "echo"
            # What is compressed cannot be watched for the credential.
            assert bool(socket.protocol.extensions) is not injects
            for message in ("text", "", "é" * 200, "x" * 70_000, b"", bytes(range(256)) * 3000):
                socket.send(message)
                assert socket.recv(timeout=10) == message
            socket.send(["in ", "three ", "pieces"])
            assert socket.recv(timeout=10) == "in three pieces"
            assert socket.ping().wait(10)
        assert socket.close_code == 1000
    assert [seen.method for seen in api.seen] == ["GET"]


def test_many_sockets_at_once(relayed: Target) -> None:
    async def one(number: int) -> None:
        async with connect_async(relayed.socket, additional_headers=relayed.headers, proxy=None) as socket:
            for turn in range(20):
                await socket.send(f"{number}/{turn}")
                assert await socket.recv() == f"{number}/{turn}"

    async def run() -> None:
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            for number in range(20):
                tasks.create_task(one(number))

    asyncio.run(run())


def test_a_socket_over_aiohttp(relayed: Target) -> None:
    async def run() -> str:
        async with (
            aiohttp.ClientSession(headers=relayed.headers) as session,
            session.ws_connect(f"{relayed.base}/socket", heartbeat=5) as socket,
        ):
            await socket.send_str("hello")
            return await socket.receive_str(timeout=10)

    assert asyncio.run(run()) == "hello"


def test_an_upgrade_is_an_action_of_its_own_and_can_be_denied(api: HttpApi) -> None:
    with http_relay(api.url, lambda action: deny() if action.name == "upgrade" else allow_everything(action)) as relay:
        target = Target(relay.url, relay.headers, api.ca)
        with pytest.raises(InvalidStatus) as refused:
            connect(target.socket, additional_headers=target.headers, proxy=None)
        assert refused.value.response.status_code == 403
        assert [action.name for action in relay.decisions.asked] == ["upgrade"]
    assert api.seen == []


def test_a_socket_that_shows_the_credential_is_cut(relayed: Target) -> None:
    with connect(relayed.socket, additional_headers=relayed.headers, proxy=None) as socket:
        socket.send("reflect")
        with pytest.raises(ConnectionClosedError):
            socket.recv(timeout=10)
