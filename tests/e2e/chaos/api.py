"""A small real API, a process of its own that may be killed: it writes every request that it executes to a file.

Run as `api.py LEDGER SOCKET`: it listens on the unix socket and then says so. (A port would be anybody's while nobody
listens there.) A line of the ledger is written with one write(2) before the answer, so that it is there whatever
becomes of the process.
"""

import json
import os
import socket
import socketserver
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Requests(BaseHTTPRequestHandler):
    """Answers every path; a request is executed by being written down."""

    protocol_version = "HTTP/1.1"
    ledger = -1

    def _execute(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(length)
        if len(body) < length:
            # The client has gone in the middle of its request: that is none.
            self.close_connection = True
            return
        line = {"at": time.time(), "method": self.command, "path": self.path, "body": body.decode("utf-8", "replace")}
        os.write(self.ledger, json.dumps(line).encode() + b"\n")
        answer = json.dumps({"done": self.path, "pad": "x" * (len(self.path) * 997 % 20_000)}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_DELETE = _execute  # noqa: N815 - the library's names

    def log_message(self, format: str, *args: object) -> None:
        """The ledger says it all."""


class Server(ThreadingHTTPServer):
    """One thread for each connection."""

    address_family = socket.AF_UNIX
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self) -> None:
        """Without the name and port that the library looks for in an address."""
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections are cut here on purpose."""


def main() -> None:
    """Serves until it is killed."""
    Requests.ledger = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    server = Server(sys.argv[2], Requests)  # type: ignore[arg-type]  # a path, of which the library's types know nothing
    print("listening", flush=True)  # noqa: T201 - how the test learns it
    server.serve_forever()


if __name__ == "__main__":
    main()
