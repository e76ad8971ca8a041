"""How the nodes of the workflow reach the shop and the API, each with a token of its own, and who answers for them."""

from __future__ import annotations

import json
import re
import secrets
import time
from concurrent.futures import Executor, Future

import psycopg
import requests
import services
import target
import workflow
from services import Identities, Installation
from target import DemoError

from pdp.identity.subject import Party

_ASKED_SECONDS = 30


class Clients:
    """Of one run. `answers` holds, by node, what the approver saw and said yes to."""

    def __init__(self, installation: Installation, identities: Identities, pool: Executor) -> None:
        self.run = secrets.token_hex(4)
        self.answers: dict[str, Future[str]] = {}
        # By node, the client's port of each answer of the API: one and the same, if the connection was kept.
        self.ports: dict[str, list[int]] = {}
        self._installation = installation
        self._identities = identities
        self._pool = pool
        self._people = {who: identities.person(who) for who in (services.APPROVER, services.REFUNDER)}

    def connect(self, node: str) -> psycopg.Connection:
        connection = psycopg.connect(
            host=target.HOST,
            port=self._installation.proxy_port,
            dbname=target.DATABASE,
            user=services.AGENT.id,
            password=self._identities.node(node, self.run, "shop"),
            # On this machine alone the proxy listens in clear; elsewhere a token goes over verify-full, or to anyone.
            sslmode="disable",
            application_name=f"demo/{node}",
            autocommit=True,
            connect_timeout=10,
        )
        connection.add_notice_handler(lambda notice: self._told(connection, node, notice))
        return connection

    def open_api(self, node: str) -> workflow.Api:
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {self._identities.node(node, self.run, 'pay')}"
        ports = self.ports.setdefault(node, [])

        def answered(response: requests.Response, **_: object) -> None:
            sock = response.raw.connection.sock
            ports.append(0 if sock is None else sock.getsockname()[1])

        session.hooks["response"].append(answered)
        if node == "refund":
            self.answers[node] = self._pool.submit(self._approve_request)
        return workflow.Api(f"http://{target.HOST}:{self._installation.api_proxy_port}", session)

    def failure(self) -> BaseException | None:
        """Why an approver's answer failed, if one did."""
        done = (answer for answer in self.answers.values() if answer.done())
        return next((answer.exception() for answer in done if answer.exception() is not None), None)

    def _told(self, connection: psycopg.Connection, node: str, notice: psycopg.errors.Diagnostic) -> None:
        print(f"    {notice.severity}: {notice.message_primary}", flush=True)
        asked = json.loads(notice.message_detail or "{}").get("checkrein", {}).get("approval")
        if asked and node not in self.answers:
            self.answers[node] = self._pool.submit(self._approve_statement, connection, asked)

    def _approve_statement(self, connection: psycopg.Connection, asked: str) -> str:
        try:
            return self._approve(services.APPROVER, asked)
        except DemoError:
            connection.cancel()  # or the workflow would wait for an answer that does not come
            raise

    def _approve_request(self) -> str:
        # A client of HTTP that waits is not told so; petra looks at what waits for her.
        end = time.monotonic() + _ASKED_SECONDS
        while time.monotonic() < end:
            listed = services.pdp(self._installation, self._people[services.REFUNDER], "approvals", "list")
            if waiting := re.search(r"\ba-[a-z0-9]{8,}", listed):
                return self._approve(services.REFUNDER, waiting[0])
        raise DemoError("nobody was asked to approve the refund")

    def _approve(self, who: Party, asked: str) -> str:
        print(f"    {who.id} answers: pdp approvals approve {asked}", flush=True)
        return services.pdp(self._installation, self._people[who], "approvals", "approve", asked, "--yes")
