"""What the service says of itself holds no statement, no parameter, no credential."""

import asyncio
import io
import json
import logging
import sys

import pytest
import structlog

from pdp.config import Log
from pdp.identity.subject import Party
from pdp.log import configure
from pdp.v1 import access_pb2, admin_service_pb2
from tests.pdp.serving import DELETE, SELECT, action, folder, serving, status_of

MARK = "S3CRET-MARK"


def test_a_day_of_work_leaves_no_secret_in_the_log():
    async def scenario() -> list[str]:
        secrets = [MARK]
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                credential = service.token(Party("agent", "planner"), on_behalf_of=Party("user", "alice"))
                opened = await proxy.open(credential, labels={"application_name": MARK})
                secrets += [credential, opened.token]
                pins = [{"dataset": "d", "field": "f", "value": MARK}]
                acting = action({**DELETE, "pins": pins}, text=f"delete from t where x = '{MARK}'")
                acting.statement.parameters_json = json.dumps([MARK]).encode()
                asked = await proxy.ask(opened, acting)
                owner = await service.person("olivia", "owners")
                secrets.append(owner.metadata[0][1])
                request = admin_service_pb2.ResolveApprovalRequest(approval_id=asked.approval_id)
                request.no.comment = "no"
                await status_of(owner.call("ResolveApproval", request))
                await proxy.open(f"ck_a_{MARK}{MARK}")
                await proxy.open(credential[:-4])
                bad = access_pb2.Action(name="query", protocol="postgres", properties_json=f'["{MARK}'.encode())
                await status_of(proxy.decide(opened.token, bad))
                wrong = action({**SELECT, "class": MARK})
                await status_of(proxy.decide(opened.token, wrong))
                await status_of(proxy.decide(opened.token + "x", wrong))
        return secrets

    with structlog.testing.capture_logs() as entries:
        secrets = asyncio.run(scenario())
    said = json.dumps(entries, default=repr)
    events = {entry["event"] for entry in entries}
    assert {"decision", "session opened", "approval requested", "authentication failed", "call refused"} <= events
    assert [secret for secret in secrets if secret in said] == []


def test_a_decision_is_logged_in_the_shape_of_the_policy_engines_own_log():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                (decision,) = await proxy.decide(opened.token, action(SELECT))
                return opened, decision

    with structlog.testing.capture_logs() as entries:
        opened, decision = asyncio.run(scenario())
    (entry,) = [each for each in entries if each.get("decision_id") == decision.decision_id]
    assert entry["path"] == "checkrein/decision/result"
    assert entry["bundles"] == {"checkrein": {"revision": "r1"}}
    assert entry["result"] == {"verdict": "allow", "reasons": [{"policy": "test", "code": "allow"}]}
    assert entry["input"] == {
        "subject": {"type": "agent", "id": "planner"},
        "resource": {"id": "shop"},
        "action": {"name": "query"},
        "context": {"session": {"id": opened.session_id}},
    }
    assert entry["erased"] == ["/input/action/properties"]


@pytest.mark.parametrize("format", ["json", "console"])
def test_each_line_is_one_event(format: str, monkeypatch: pytest.MonkeyPatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    before = structlog.get_config(), logging.getLogger().handlers[:]
    try:
        configure(Log.model_validate_json(json.dumps({"level": "info", "format": format})))
        log = structlog.get_logger("x")
        log.debug("not shown")
        log.info("one\ntwo", value=1)
    finally:
        structlog.configure(**before[0])
        logging.getLogger().handlers[:] = before[1]
    lines = stream.getvalue().splitlines()
    if format == "json":
        (line,) = lines
        assert json.loads(line).items() >= {"event": "one\ntwo", "value": 1, "level": "info"}.items()
    assert "not shown" not in stream.getvalue()
    assert "value" in stream.getvalue()
