"""The service with the real policy engine and the shipped policies: open, decide, approve, administer."""

import asyncio
import contextlib
import json
from pathlib import Path

import grpc

from pdp.certificates import Authority
from pdp.config import load_config
from pdp.identity.subject import Party
from pdp.identity.tokens import now_utc, open_issuer
from pdp.server import policy_engine, running
from pdp.v1 import admin_service_pb2
from tests.pdp.serving import Clock, Proxy, Service, action, digest_of, folder, status_of

ROOT = Path(__file__).parents[2]
CONFIG = """
version: 1
state: state
pdp:
  opa: {{path: {opa}, timeout: 5s}}
  policies: {{dir: {rego}, reload: none}}
  resources:
    shop: {{type: postgres, labels: {{env: demo}}, database: shop}}
  identity:
    issuers:
      - {{name: checkrein, self: true}}
proxies:
  - {{name: shop, resource: shop}}
"""

AGENT = Party("agent", "support-bot", ("support-agents",))
SAM = Party("user", "sam", ("support",))


def example(name: str) -> dict:
    (found,) = json.loads((ROOT / "rego" / "examples" / f"{name}.json").read_text()).values()
    return found["input"]["action"]["properties"]["postgres"]


def test_the_main_job_of_the_service(opa_path: Path):
    async def scenario(path: Path):
        (path / "checkrein.yaml").write_text(CONFIG.format(opa=opa_path, rego=ROOT / "rego"))
        config = load_config(path / "checkrein.yaml")
        engine = policy_engine(config)
        async with running(config, engine) as inside:
            assert engine.policy_error == ""
            async with asyncio.timeout(30), contextlib.AsyncExitStack() as stack:
                issuer = open_issuer(config, now_utc)
                service = Service(config, inside, engine, Clock(), Authority.open(config.state), issuer, stack)
                await walk(service, await service.proxy())

    async def walk(service: Service, proxy: Proxy):
        workflow = {"graph": "support", "node": "delete_stale", "run": "r-1", "thread": "t-1"}
        opened = await proxy.open(service.token(AGENT, on_behalf_of=SAM, workflow=workflow))
        assert opened.decision.WhichOneof("verdict") == "allow", opened.decision
        delete = action(example("agent-deletes-stale-orders"))
        drop = action(example("agent-drops-table"))
        held, denied = await proxy.decide(opened.token, delete, drop)
        assert held.WhichOneof("verdict") == "require_approval", held
        assert denied.WhichOneof("verdict") == "deny"
        assert {held.policy_revision, denied.policy_revision} == {service.engine.revision}
        asked = await proxy.ask(opened, delete)
        assert list(asked.approvers) == ["group:order-team"]
        request = admin_service_pb2.ResolveApprovalRequest(
            approval_id=asked.approval_id, action_digest=digest_of(delete, opened), yes=admin_service_pb2.Yes()
        )
        for person in (
            await service.person("sam", "support", "order-team"),
            await service.person("kim", "support"),
            await service.person("bot", "order-team", type="agent"),
        ):
            code, _ = await status_of(person.call("ResolveApproval", request))
            assert code is grpc.StatusCode.PERMISSION_DENIED
        dana = await service.person("dana", "order-team")
        await dana.call("ResolveApproval", request)
        decision = await proxy.redeem(opened.token, asked.approval_id, request.action_digest)
        assert decision.WhichOneof("verdict") == "allow", decision
        # The approver may not look into sessions; the administrator may.
        listing = admin_service_pb2.ListSessionsRequest()
        code, _ = await status_of(dana.call("ListSessions", listing))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        admin = await service.person("ada", "checkrein-admins")
        (session,) = (await admin.call("ListSessions", listing)).sessions
        assert session.session_id == opened.session_id
        status = await admin.call("GetStatus", admin_service_pb2.GetStatusRequest())
        assert (status.opa_ready, status.policy_revision) == (True, service.engine.revision)

    with folder() as path:
        asyncio.run(scenario(path))
