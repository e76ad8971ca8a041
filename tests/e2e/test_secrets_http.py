"""No secret of an API leaves its place either: not the proxy's, not the client's, not those of the service's own calls.

What is planted is looked for in every file of the installation, in the store as it is and unpacked, in what receivers
were sent, in what commands and operators' pages print, in what clients are told, and in the children's environment.
"""

import base64
import contextlib
import gzip
import hashlib
import http.client
import http.server
import json
import secrets
import socket
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import zstandard
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.e2e.test_http import OWNER
from tests.e2e.test_secrets import files
from tests.fix_stack import HOST, OPERATOR, PATIENCE, Stack, _below
from tests.http_api import HttpApi
from tests.ports import free_port

# How each proxy of the API shows its credential; all serve one resource.
KINDS: dict[str, Callable[[dict[str, str]], dict[str, Any]]] = {
    "bearer": lambda secret: {"bearer": secret},
    "basic": lambda secret: {"basic": {"user": "proxy", "password": secret}},
    "header": lambda secret: {"header": "X-Api-Key", "value": secret},
    "query": lambda secret: {"query": "key", "value": secret},
}


class Receiver:
    """Takes webhooks, decision logs and traces; remembers what came, unpacked, with its fields."""

    def __init__(self) -> None:
        self.came: dict[str, list[bytes]] = {}
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver.came.setdefault(self.path, []).append(body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
        self.url = f"http://{HOST}:{self.server.server_port}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        thread.join()
        receiver.server.server_close()


def page(path: Path, of: str) -> bytes:
    """What an operator's tool is answered on a unix socket."""
    connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection.sock:
        connection.sock.connect(str(path))
        connection.request("GET", of)
        return connection.getresponse().read()


def unpacked(store: Path) -> Iterator[tuple[str, bytes]]:
    """Every value of the store, and what is compressed in it."""
    with contextlib.closing(sqlite3.connect(store, timeout=PATIENCE)) as connection:
        tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        for table in tables:
            for row in connection.execute(f'select * from "{table}"'):
                for value in row:
                    data = value if isinstance(value, bytes) else str(value).encode()
                    yield table, data
                    with contextlib.suppress(zstandard.ZstdError):
                        yield table, zstandard.ZstdDecompressor().decompress(data)
                    with contextlib.suppress(zlib.error):
                        yield table, zlib.decompress(data)


def signing_keys(store: Path) -> dict[str, bytes]:
    """The service's own, as they are kept; they belong into that table and nowhere else."""
    with contextlib.closing(sqlite3.connect(store, timeout=PATIENCE)) as connection:
        keys = connection.execute("select purpose, private from keys").fetchall()
    found = {}
    # Of some the private half is elsewhere, in a file of the state.
    for purpose, private in ((purpose, private) for purpose, private in keys if private):
        found |= {
            f"the {purpose} key": private,
            f"the {purpose} key in hex": private.hex().encode(),
            f"the {purpose} key in base64": base64.b64encode(private).rstrip(b"="),
            f"the {purpose} key in base64url": base64.urlsafe_b64encode(private).rstrip(b"="),
        }
    return found


def test_the_secrets_of_an_api_and_of_the_services_own_calls_stay_where_they_are(
    private_stack: Callable[..., Stack], api: HttpApi, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    ours = {name: f"S3cret-{name}-{secrets.token_hex(12)}" for name in (*KINDS, "hook", "upload", "database")}
    theirs = {name: f"S3cret-{name}-{secrets.token_hex(12)}" for name in ("cookie", "access", "body", "own")}
    monkeypatch.setenv("HEADER_SECRET", ours["header"])
    issuer_key = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True)
    ports = {name: free_port() for name in KINDS}
    sockets: dict[str, Path] = {}

    def edit(document: dict[str, Any]) -> None:
        folder = Path(document["state"]).parent

        def kept(name: str, content: str) -> str:
            file = folder / f"{name}.password"
            file.touch(0o600)
            file.write_text(content)
            return str(file)

        document["log"] = {"level": "debug", "format": "json"}
        document["telemetry"] = {"traces": {"url": f"{receiver.url}/v1/traces"}}
        pdp = document["pdp"]
        pdp["resources"]["pay"] = {"type": "http"}
        sockets["pdp"] = folder / "pdp-admin.sock"
        pdp["admin"] = {"listen": f"unix:{sockets['pdp']}"}
        secret = {"file": kept("hook", ours["hook"])}
        pdp["approvals"] = {
            "notify": {"hook": {"webhook": {"url": f"{receiver.url}/hook", "secret": secret}, "groups": list(OWNER[1])}}
        }
        pdp["records"] = {
            "decision_log": {
                "console": True,
                "file": str(folder / "decisions.jsonl"),
                "url": f"{receiver.url}/logs",
                "batch": "100ms",
                "token": {"file": kept("upload", ours["upload"])},
                "input": "whole",
            }
        }
        # An operator's mistake: the issuer's private key where the public one belongs.
        keys = kept("keys", json.dumps({"keys": [issuer_key | {"kid": "k1", "alg": "ES256"}]}))
        pdp["identity"]["issuers"].append(
            {
                "name": "corp",
                "issuer": "https://corp.example",
                "audience": "pay",
                "algorithms": ["ES256"],
                "jwks": {"file": keys},
                "subject": {"type": "user"},
            }
        )
        for name, credential in KINDS.items():
            reference = {"env": "HEADER_SECRET"} if name == "header" else {"file": kept(name, ours[name])}
            sockets[name] = folder / f"{name}-admin.sock"
            document["proxies"].append(
                {
                    "name": name,
                    "resource": "pay",
                    "protocol": "http",
                    "listen": {"address": f"{HOST}:{ports[name]}", "login": ["bearer", "key", "basic"]},
                    "upstream": {"addresses": [api.url]},
                    "credentials": {"default": credential(reference)},
                    "admin": {"listen": f"unix:{sockets[name]}"},
                    "shutdown": {"drain": "1s"},
                }
            )

    stack = private_stack(edit)
    stack.serve()
    token = stack.token(audience="pay", run="r-secret")
    pair = base64.b64encode(f"me:{token}".encode()).decode()
    shown = {"Authorization": f"Bearer {token}"}
    clients: dict[str, dict[str, str]] = {
        "bearer": shown,
        "basic": {"Authorization": f"Basic {pair}"},
        "header": {"X-Checkrein-Key": token},
        "query": shown,
    }
    told: list[str] = []

    def ask(name: str, method: str, path: str, **more: Any) -> requests.Response:
        url = f"http://{HOST}:{ports[name]}{path}"
        fields = {**clients[name], **more.pop("headers", {})}
        answer = requests.request(method, url, headers=fields, timeout=4 * PATIENCE, **more)
        told.append(f"{answer.headers} {answer.text}")
        return answer

    for name in KINDS:
        own = {"Cookie": f"session={theirs['cookie']}", "X-Api-Key": theirs["own"]}
        assert ask(name, "GET", f"/orders?access_token={theirs['access']}", headers=own).status_code == 200
        # An API that shows everything that it was sent, in several ways.
        for shape in ("json", "base64", "percent", "escaped"):
            ask(name, "GET", f"/reflect?as={shape}")
        ask(name, "DELETE", "/customers/1")
        ask(name, "GET", "/nowhere")
    wrong = {"Authorization": f"Bearer {token[:-4]}AAAA"}
    assert ask("bearer", "GET", "/orders", headers=wrong).status_code == 401
    # What is asked for and never done: this API would show the body again, and what comes back is on record.
    body = {"amount": 200, "password": theirs["body"]}
    wanted = {"Prefer": "respond-async"}
    held = ask("bearer", "POST", "/refunds", json=body, headers=wanted)
    assert held.status_code == 202
    approval = held.json()["checkrein"]["approval"]

    # What people and operators are shown.
    commands = [
        stack.as_(OWNER, "approvals", "show", approval),
        stack.as_(OWNER, "approvals", "approve", approval, "--yes"),
    ]
    with contextlib.closing(sqlite3.connect(stack.state / "pdp.db", timeout=PATIENCE)) as store:
        found = "select id from sessions where resource = 'pay'"
        session = stack.until(lambda: store.execute(found).fetchone(), what="a session")[0]
        asked = "select decision_id from decision_inputs order by at desc limit 1"
        decision = stack.until(lambda: store.execute(asked).fetchone(), what="the input of a decision")[0]
    commands += [
        stack.recorded(session, "came back"),
        stack.as_(OPERATOR, "sessions", "export", session),
        stack.as_(OPERATOR, "decisions", "explain", decision, "--input"),
    ]
    # That it would be found if it were there: the request is in what people are shown, without its secret.
    assert '"amount": 200' in commands[0]
    assert '"password": "***"' in commands[0]
    pages = [page(path, of) for path in sockets.values() for of in ("/healthz", "/readyz", "/metrics")]
    checked = stack.pdp("check", "-c", str(stack.config))
    # A store on a server that cannot be reached: the error is about its address, not about its account.
    elsewhere = stack.folder / "elsewhere.yaml"
    url = stack.folder / "url.password"
    url.write_text(f"postgresql://checkrein:{ours['database']}@{HOST}:9/records")
    settings = stack.config.read_text().replace("pdp:\n", f"pdp:\n  store: {{url: {{file: '{url}'}}}}\n", 1)
    elsewhere.write_text(settings)
    failed = stack.pdp("store", "settle", "-c", str(elsewhere))
    assert failed.status != 0
    copied = stack.pdp("store", "backup", str(stack.folder / "copy.db"), "-c", str(stack.config))
    assert copied.status == 0, copied.err
    stack.until(lambda: receiver.came.keys() >= {"/hook", "/logs", "/v1/traces"}, what="every receiver was sent to")

    planted = {f"our {name}": secret.encode() for name, secret in ours.items()}
    planted |= {
        "our basic in base64": base64.b64encode(f"proxy:{ours['basic']}".encode()).rstrip(b"="),
        "the issuer's key": str(issuer_key["d"]).encode(),
        "the client's token": token.encode(),
        "its signature": token.rsplit(".", 1)[1].encode(),
        "its pair": pair.rstrip("=").encode(),
        "the digest of its token": hashlib.sha256(token.encode()).hexdigest().encode(),
    }
    said_by_clients = {f"the client's {name}": secret.encode() for name, secret in theirs.items()}
    keys = signing_keys(stack.state / "pdp.db")
    assert any("session" in name for name in keys)

    def leaks() -> list[str]:
        places = [(str(path), data) for path, data in files(stack.folder)]
        places += [(f"{table} of the store", data) for table, data in unpacked(stack.state / "pdp.db")]
        places += [(f"POST {path}", data) for path, came in receiver.came.items() for data in came]
        places += [(f"command {number}", said.encode()) for number, said in enumerate(commands)]
        places += [("an operator's page", data) for data in pages]
        places += [
            (f"command {name}", f"{done.out}{done.err}".encode())
            for name, done in {"check": checked, "settle": failed, "backup": copied}.items()
        ]
        everything = planted | said_by_clients
        found = {
            f"{name} in {place}" for place, data in places for name, secret in everything.items() if secret in data
        }
        # The service's own keys have one place, and a copy keeps those that prove records.
        found |= {
            f"{name} in {place}"
            for place, data in places
            for name, secret in keys.items()
            if secret in data and "pdp.db" not in place and "copy.db" not in place and place != "keys of the store"
        }
        return sorted(found)

    assert leaks() == []
    copy = (stack.folder / "copy.db").read_bytes()
    assert [name for name, secret in keys.items() if name.startswith("the session key") and secret in copy] == []
    # A client may be shown its own words again, and nobody else's secret.
    answers = "\n".join(told).encode()
    assert [name for name, secret in planted.items() if name.startswith("our") and secret in answers] == []
    reversed_ = answers.replace(b"\\/", b"/")
    assert [name for name, secret in planted.items() if name.startswith("our") and secret in reversed_] == []
    # Of what a process was given for itself, no other one has anything: OPA, parsers.
    below = {child: pid.pid for pid in stack.running.values() for child in _below(pid.pid)}
    assert below
    for child in below:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            given = Path(f"/proc/{child}/environ").read_bytes() + Path(f"/proc/{child}/cmdline").read_bytes()
            assert [name for name, secret in (planted | said_by_clients).items() if secret in given] == []
    # What the target was shown is the proxy's, each in its own way.
    shown_to_target = "\n".join(f"{seen.target} {seen.fields}" for seen in api.seen)
    for name in ("bearer", "header", "query"):
        assert ours[name] in shown_to_target
    assert base64.b64encode(f"proxy:{ours['basic']}".encode()).decode() in shown_to_target
    assert token not in shown_to_target

    stack.end("proxy")
    stack.end("service")
    assert leaks() == []
