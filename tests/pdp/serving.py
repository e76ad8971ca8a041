"""The decision service in process: a real server on a unix socket with mutual TLS, and policies that a test writes.

The policies are a function of the input document: a seam of the service (`PolicyEngine`). Tests of the real engine
stand in `tests/pdp/opa`, and `test_with_opa.py` has the two together.
"""

import asyncio
import contextlib
import datetime
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import grpc
import grpc.aio

from pdp.certificates import Authority, client_channel
from pdp.config import Config, load_config
from pdp.identity.subject import Party
from pdp.identity.tokens import OwnIssuer, TokenRequest, now_utc, open_issuer
from pdp.policy_result import PolicyResult, parse_result
from pdp.server import Running, running
from pdp.v1 import (
    access_pb2,
    admin_service_pb2_grpc,
    approval_service_pb2,
    approval_service_pb2_grpc,
    audit_service_pb2_grpc,
    decision_service_pb2,
    decision_service_pb2_grpc,
)
from pdp.v1.digests import action_digest

# The URL of the store; empty for the default, a file in the state folder. See `tests/fix_store.py`.
STORE = ""

CONFIG = """
version: 1
state: {state}
pdp:
  policies: {{dir: policies, reload: none}}
  resources:
    shop: {{type: postgres, labels: {{env: test}}}}
    pay: {{type: postgres}}
  identity:
    issuers:
      - {{name: checkrein, self: true, token_ttl: 10m{key}}}
{identity}
  approvals:
    address: "http://127.0.0.1:8088"
{approvals}
{more}
proxies:
  - {{name: shop, resource: shop, protocol: postgres}}
  - {{name: pay, resource: pay, protocol: postgres}}
"""

Document = Mapping[str, Any]
SELECT: Document = {
    "opaque": False,
    "mints_access": [],
    "class": "read",
    "kind": "select",
    "reaches_beyond": [],
    "relations": [],
    "columns": [],
    "pins": [],
    "functions": [],
}
DELETE: Document = {**SELECT, "class": "write", "kind": "delete"}


def result(verdict: str, **more: Any) -> PolicyResult:
    """What the entrypoint would answer, of revision r1."""
    document: dict[str, Any] = {
        "verdict": verdict,
        "reasons": [{"policy": "test", "code": verdict}],
        "masks": [],
        "obligations": {},
        "requirements": [],
        "needs": [],
        "exempted": [],
    }
    return parse_result(document | more, "r1")


def requirement(*approvers: str, count: int = 1, uses: int = 1, code: str = "owners", **more: Any) -> dict[str, Any]:
    return {
        "policy": "test",
        "code": code,
        "approvers": list(approvers),
        "count": count,
        "wait": "15m",
        "grant": {"uses": uses, "for": "10m", "reach": "exact"},
        "separate_people": True,
    } | more


@dataclass
class Script:
    """A policy engine whose policies are a function. By default: deletes need the owners, all else is allowed."""

    requirements: list[dict[str, Any]] = field(default_factory=lambda: [requirement("group:owners")])
    policy: Callable[[Document], PolicyResult] | None = None
    asked: list[Document] = field(default_factory=list)
    paths: tuple[str, ...] = ()
    revision: str = "r1"
    activated_at: datetime.datetime | None = None
    policy_error: str = ""
    policy_error_places: tuple[str, ...] = ()
    ready: bool = True
    restarts: int = 0
    announced: Any = None
    # Answers of `changing`, in order; then no more.
    changes: list[bool] = field(default_factory=list)
    events: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    pinned: Any = None
    opa: Path = Path("opa")

    async def changing(self) -> bool:
        return self.changes.pop(0) if self.changes else False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def decide(self, document: Document) -> PolicyResult:
        self.asked.append(document)
        if self.policy is not None:
            return self.policy(document)
        if document["action"]["properties"].get("postgres", {}).get("kind") != "delete":
            return result("allow")
        approval = document["context"].get("approval", {})
        unmet = [each for each in self.requirements if each not in approval.get("requirements", [])]
        return result("require_approval", requirements=unmet) if unmet else result("allow")

    async def input_paths(self, resource_id: str) -> tuple[str, ...]:
        return self.paths

    def owners(self, resource_id: str) -> Mapping[str, Sequence[str]]:
        return {"public.orders": ["group:order-team"]} if resource_id == "shop" else {}

    def classified(self, resource_id: str, revision: str) -> Mapping[str, Mapping[str, Sequence[str]]]:
        known = {"public.orders": {"note": ["internal"], "id": ["public"]}}
        return known if resource_id == "shop" and revision == self.revision else {}

    async def log_masks(self, event: Document) -> Any:
        return None

    async def revisions(self) -> AsyncIterator[str]:
        yield self.revision
        while self.announced is not None:
            self.revision = await self.announced.get()
            yield self.revision


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.ahead = datetime.timedelta(0)

    def __call__(self) -> datetime.datetime:
        return now_utc() + self.ahead

    def pass_(self, **time: float) -> None:
        self.ahead += datetime.timedelta(**time)


@dataclass
class Service:
    """A running service and callers of it."""

    config: Config
    inside: Running
    engine: Script
    clock: Clock
    authority: Authority
    issuer: OwnIssuer
    stack: contextlib.AsyncExitStack

    async def proxy(self, name: str = "shop") -> "Proxy":
        channel = client_channel(self.config.listen, self.authority.issue(name))
        return Proxy(self, await self.stack.enter_async_context(channel), name)

    async def person(self, id: str, *groups: str, type: str = "user", **more: Any) -> "Person":
        channel = client_channel(self.config.listen, self.authority.command_line())
        channel = await self.stack.enter_async_context(channel)
        token = self.token(Party(type, id, groups), audience="checkrein", **more)
        return Person(admin_service_pb2_grpc.AdminServiceStub(channel), (("authorization", f"Bearer {token}"),))

    def token(self, subject: Party, audience: str = "shop", **more: Any) -> str:
        return self.issuer.mint(TokenRequest(subject, audience, **more)).token


AGENT = Party("agent", "planner", ("agents",))
ALICE = Party("user", "alice", ("staff",))


# What the first event of each session's record has to say, by the session's id; proxies of tests note it on opening.
BEGINNINGS: dict[str, dict[str, Any]] = {}


class Proxy:
    """What an enforcement point would call."""

    def __init__(self, service: Service, channel: grpc.aio.Channel, name: str) -> None:
        self.service = service
        self.name = name
        self.channel = channel
        self.decisions: Any = decision_service_pb2_grpc.DecisionServiceStub(channel)
        self.approvals: Any = approval_service_pb2_grpc.ApprovalServiceStub(channel)
        self.audit: Any = audit_service_pb2_grpc.AuditServiceStub(channel)

    async def open(self, credential: str | None = None, **more: Any) -> decision_service_pb2.OpenSessionResponse:
        if credential is None:
            credential = self.service.token(AGENT, on_behalf_of=ALICE, workflow={"graph": "g", "node": "n", "run": "r"})
        fields: dict[str, Any] = {"bearer": credential, "resource": "shop", "protocol": "postgres"}
        answer = await self.decisions.OpenSession(decision_service_pb2.OpenSessionRequest(**(fields | more)))
        assert isinstance(answer, decision_service_pb2.OpenSessionResponse)
        if answer.session_id:
            BEGINNINGS[answer.session_id] = {
                "decision_id": answer.decision.decision_id,
                "policy_revision": answer.decision.policy_revision,
                "facts": {
                    "subject": f"{answer.subject.type}:{answer.subject.id}",
                    "resource": (fields | more)["resource"],
                    "protocol": (fields | more)["protocol"],
                    "proxy": self.name,
                },
            }
        return answer

    async def decide(self, token: str, *actions: access_pb2.Action) -> Sequence[Any]:
        request = decision_service_pb2.DecideRequest(token=token, actions=actions)
        return list((await self.decisions.Decide(request)).decisions)

    async def ask(
        self, opened: decision_service_pb2.OpenSessionResponse, acting: access_pb2.Action, key: str = "k", **more: Any
    ) -> approval_service_pb2.RequestApprovalResponse:
        """Decides, then asks for the approval that the decision requires."""
        (decision,) = await self.decide(opened.token, acting)
        assert decision.WhichOneof("verdict") == "require_approval"
        request = approval_service_pb2.RequestApprovalRequest(
            token=opened.token,
            decision_id=decision.decision_id,
            idempotency_key=key,
            action=acting,
            action_digest=digest_of(acting, opened),
            **more,
        )
        answer = await self.approvals.RequestApproval(request)
        assert isinstance(answer, approval_service_pb2.RequestApprovalResponse)
        return answer

    async def redeem(self, token: str, approval: str, digest: bytes, execution: str = "e1") -> Any:
        request = approval_service_pb2.RedeemApprovalRequest(
            token=token, approval_id=approval, action_digest=digest, execution_id=execution
        )
        return (await self.approvals.RedeemApproval(request)).decision


@dataclass
class Person:
    """Somebody at the command line."""

    admin: Any
    metadata: tuple[tuple[str, str], ...]

    async def call(self, method: str, request: Any) -> Any:
        return await getattr(self.admin, method)(request, metadata=self.metadata)


def action(properties: Document = DELETE, text: str = "delete from orders", **more: Any) -> access_pb2.Action:
    return access_pb2.Action(
        name="query",
        protocol="postgres",
        properties_json=json.dumps(properties).encode(),
        statement=access_pb2.Statement(text=text, parameters_json=b"[]"),
        **more,
    )


def digest_of(
    acting: access_pb2.Action, opened: decision_service_pb2.OpenSessionResponse, resource: str = "shop"
) -> bytes:
    return action_digest(
        subject=f"{opened.subject.type}:{opened.subject.id}",
        resource="shop",
        protocol=acting.protocol,
        name=acting.name,
        properties=json.loads(acting.properties_json),
        text=acting.statement.text,
        parameters=json.loads(acting.statement.parameters_json),
        path=list(acting.binding.path),
        definitions=list(acting.binding.definitions),
    )


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder whose name is short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="cr-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def configure(
    path: Path, *, identity: str = "", more: str = "", approvals: str = "", shared: Path | None = None
) -> Config:
    file = path / "checkrein.yaml"
    key = ""
    if shared is not None:
        server = Authority.open(shared).server()
        more += f"\n  tls: {{cert: {server.certificate}, key: {server.key}, client_ca: {server.authority}}}"
        key = f", key: {{file: {shared / 'issuer.key'}}}"
    more += f"\n  store: {{url: '{STORE}'}}" if STORE else ""
    file.write_text(CONFIG.format(state="state", identity=identity, more=more, approvals=approvals, key=key))
    return load_config(file)


@contextlib.asynccontextmanager
async def serving(
    path: Path,
    engine: Script | None = None,
    *,
    identity: str = "",
    more: str = "",
    approvals: str = "",
    clock: Clock | None = None,
    shared: Path | None = None,
) -> AsyncIterator[Service]:
    """A service whose files are in `path`. Replicas have an authority and an issuer's key in common: `shared`."""
    engine = engine or Script()
    clock = clock or Clock()
    config = configure(path, identity=identity, more=more, approvals=approvals, shared=shared)
    async with contextlib.AsyncExitStack() as stack:
        inside = await stack.enter_async_context(running(config, engine, clock))
        callers = await stack.enter_async_context(contextlib.AsyncExitStack())
        issuer = open_issuer(config, clock)
        assert issuer is not None
        yield Service(config, inside, engine, clock, Authority.open(shared or config.state), issuer, callers)


async def until(true: Callable[[], Awaitable[Any]]) -> Any:
    """What it gives, once that is something; for what nothing announces."""
    async with asyncio.timeout(40):
        while not (found := await true()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return found


async def status_of(call: Any) -> tuple[grpc.StatusCode, str]:
    """How a call that must fail fails."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    raise AssertionError("the call was answered")
