"""Policies through time and decisions looked back on, with the real OPA: history, rollback, resume, diff, explain."""

import asyncio
import contextlib
import datetime
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from pdp.audit.service_chain import ServiceChain
from pdp.certificates import Authority, client_channel
from pdp.config import load_config
from pdp.decisions.decided import Decided
from pdp.identity.subject import Party
from pdp.identity.tokens import now_utc, open_issuer
from pdp.policies.bundle import Bundle, _pack, is_of, unpacked
from pdp.policies.history import Change, Pin, PolicyEvent
from pdp.server import policy_engine, running
from pdp.service.policy_history import PolicyHistory
from pdp.store import decisions as stored
from pdp.store import policies as stored_policies
from pdp.store import tables
from pdp.store.database import Database
from pdp.v1 import policy_service_pb2 as pb
from pdp.v1 import policy_service_pb2_grpc
from tests.fix_policies import Repository
from tests.pdp.commanding import pdp
from tests.pdp.serving import SELECT, Clock, Proxy, Service, action, folder, status_of

ROOT = Path(__file__).parents[2]
CONFIG = """
version: 1
state: state
pdp:
  opa: {{path: {opa}, timeout: 30s}}
  policies: {{dir: "{policies}"}}
  resources:
    shop: {{type: postgres}}
  identity:
    issuers:
      - {{name: checkrein, self: true}}
proxies:
  - {{name: shop, resource: shop}}
"""
ADMINISTRATOR = Party("user", "root", ("checkrein-admins",))
READS = """package policies.reads

import data.checkrein.postgres as pg

allow contains {"code": "reads"} if {
	pg.only_reads
	_quiet
}

_quiet if not input.subject.id == "loud"
"""
FREEZE = """package policies.freeze

deny contains {"code": "frozen", "message": "Nothing runs today."} if input.action.name == "query"
"""
READ = {
    **SELECT,
    "relations": [{"dataset": "public.t", "schema": "public", "name": "t", "access": "read", "temporary": False}],
}


@dataclass
class Installation:
    """A service with the real engine over files of its own, and callers of it."""

    service: Service
    repository: Repository
    stub: Any

    async def call(self, method: str, request: Any, who: Party = ADMINISTRATOR) -> Any:
        token = self.service.token(who, audience="checkrein")
        return await getattr(self.stub, method)(request, metadata=(("authorization", f"Bearer {token}"),))

    async def in_force(self, condition: Any) -> str:
        """The revision in force, once the condition holds."""
        async with asyncio.timeout(60):
            while await self.service.engine.changing() or not condition():  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.02)
        return self.service.engine.revision

    async def changes(self, count: int) -> list[pb.PolicyChange]:
        """The history, newest first, once it is so long."""
        async with asyncio.timeout(60):
            while True:
                found = list((await self.call("ListPolicyChanges", pb.ListPolicyChangesRequest())).changes)
                if len(found) >= count:
                    return found
                await asyncio.sleep(0.02)

    async def chain(self) -> list[dict[str, Any]]:
        """What the service has put on record."""
        inside = self.service.inside
        from pdp.store import records

        events = await inside.database.bulk.run(lambda connection: records.page(connection, inside.chain.id, 0, 1000))
        return [json.loads(each.event) for each in events]


@contextlib.asynccontextmanager
async def installed(path: Path, opa: Path) -> AsyncIterator[Installation]:
    """Over the folder's files as they are, with whatever an earlier one left in it."""
    (path / "checkrein.yaml").write_text(CONFIG.format(opa=opa, policies=path / "rego"))
    config = load_config(path / "checkrein.yaml")
    engine = policy_engine(config)
    async with running(config, engine) as inside, contextlib.AsyncExitStack() as stack:
        issuer = open_issuer(config, now_utc)
        authority = Authority.open(config.state)
        service = Service(config, inside, engine, Clock(), authority, issuer, stack)
        channel = await stack.enter_async_context(client_channel(config.listen, authority.command_line()))
        repository = object.__new__(Repository)
        repository.root = path / "rego"
        yield Installation(service, repository, policy_service_pb2_grpc.PolicyServiceStub(channel))


def begin(path: Path) -> Repository:
    repository = Repository(path / "rego")
    repository.write("policies/reads/reads.rego", READS)
    bind(repository, "open", "guard", "reads")
    return repository


def bind(repository: Repository, *policies: str) -> None:
    rows = [f'- {{policy: {each}, match: {{id: "*"}}}}' for each in policies]
    repository.write("bindings/data.yaml", "\n".join([*rows, "- {policy: administration, match: {type: checkrein}}\n"]))


def frozen(repository: Repository) -> None:
    repository.write("policies/freeze/freeze.rego", FREEZE)
    bind(repository, "open", "guard", "reads", "freeze")


async def verdict(proxy: Proxy, token: str) -> str:
    (decision,) = await proxy.decide(token, action(READ))
    return f"{decision.WhichOneof('verdict')} {decision.policy_revision}"


def test_going_back_holds_until_the_files_change_or_somebody_resumes(opa_path: Path):
    async def scenario(path: Path) -> None:
        repository = begin(path)
        async with installed(path, opa_path) as it:
            engine: Any = it.service.engine
            assert engine.policy_error == ""
            old = engine.revision
            proxy = await it.service.proxy()
            opened = await proxy.open()
            assert await verdict(proxy, opened.token) == f"allow {old}"
            frozen(repository)
            new = await it.in_force(lambda: engine.revision != old)
            assert await verdict(proxy, opened.token) == f"deny {new}"
            newest, first = await it.changes(2)
            assert (newest.change, newest.revision, newest.kept) == ("activated", new, True)
            assert list(newest.changes) == ["~ bindings/data", "+ policies/freeze/freeze.rego"]
            assert (first.change, first.revision) == ("activated", old)

            lines = (await it.call("DiffPolicies", pb.DiffPoliciesRequest(before=old[:20]))).lines
            assert "+package policies.freeze" in lines
            # Who is not allowed it changes nothing.
            someone = Party("user", "sam", ("order-team",))
            for method, request in (
                ("RollBack", pb.RollBackRequest(revision=old)),
                ("Resume", pb.ResumeRequest()),
                ("ListPolicyChanges", pb.ListPolicyChangesRequest()),
                ("ExplainDecision", pb.ExplainDecisionRequest(decision_id="d-")),
                ("ListDecisions", pb.ListDecisionsRequest()),
            ):
                code, _ = await status_of(it.call(method, request, someone))
                assert code is grpc.StatusCode.PERMISSION_DENIED
            assert engine.revision == new

            await it.call("RollBack", pb.RollBackRequest(revision=old.removeprefix("sha256:")[:12]))
            assert await verdict(proxy, opened.token) == f"allow {old}"
            assert engine.pinned.by == "user:root"
        async with installed(path, opa_path) as it:
            # After a restart as before it; a broken file is named, and changes nothing of what is in force.
            engine = it.service.engine
            assert engine.revision == old
            assert engine.pinned.revision == old
            await it.call("Resume", pb.ResumeRequest())
            assert (engine.revision, engine.pinned) == (new, None)
            code, _ = await status_of(it.call("Resume", pb.ResumeRequest()))
            assert code is grpc.StatusCode.FAILED_PRECONDITION
            await it.call("RollBack", pb.RollBackRequest(revision=old))
            # Files that change end it, also when they are what they were before the last change.
            repository.write("policies/open/more.rego", 'package policies.open\n\nhint contains {"message": "x"}\n')
            await it.in_force(lambda: engine.revision not in (old, new))
            assert engine.pinned is None
            changes = [each.change for each in await it.changes(7)]
            assert changes[:2] == ["activated", "resumed"]
            said = [(each["type"], each["facts"].get("by")) for each in await it.chain()]
            assert ("policy.rolled_back", "user:root") in said
            assert ("policy.resumed", "user:root") in said
        async with installed(path, opa_path) as it:
            assert it.service.engine.pinned is None
            assert it.service.engine.revision not in (old, new)

    with folder() as path:
        asyncio.run(scenario(path))


def test_broken_files_are_named_and_do_not_end_it_whole_ones_do_also_if_nothing_ran_meanwhile(opa_path: Path):
    async def scenario(path: Path) -> None:
        repository = begin(path)
        async with installed(path, opa_path) as it:
            old = it.service.engine.revision
            frozen(repository)
            new = await it.in_force(lambda: it.service.engine.revision != old)
            await it.changes(2)
            await it.call("RollBack", pb.RollBackRequest(revision=old))
        repository.write("policies/freeze/freeze.rego", FREEZE + "\ndney contains {}\n")
        async with installed(path, opa_path) as it:
            engine: Any = it.service.engine
            # The files are others and broken: what people went back to stays.
            assert engine.pinned.revision == engine.revision == old
            assert "freeze.rego:5" in engine.policy_error
            refused = next(each for each in await it.changes(4) if each.change == "refused")
            assert "freeze.rego:5: dney is no contribution" in refused.problems
            resumed = await it.call("Resume", pb.ResumeRequest())
            assert (resumed.revision, engine.revision) == (new, new)
            assert "freeze.rego:5" in resumed.policy_error
            await it.call("RollBack", pb.RollBackRequest(revision=old))
        repository.write("policies/freeze/freeze.rego", FREEZE.replace("today", "now"))
        async with installed(path, opa_path) as it:
            assert it.service.engine.pinned is None
            assert it.service.engine.revision not in (old, new)

    with folder() as path:
        asyncio.run(scenario(path))


def test_a_decision_is_explained_by_what_decided_it_whatever_is_in_force_now(opa_path: Path):
    async def scenario(path: Path) -> None:
        repository = begin(path)
        async with installed(path, opa_path) as it:
            engine: Any = it.service.engine
            old = engine.revision
            proxy = await it.service.proxy()
            opened = await proxy.open()
            (allowed,) = await proxy.decide(opened.token, action(READ))
            (denied,) = await proxy.decide(opened.token, action({**READ, "class": "write", "kind": "update"}))
            frozen(repository)
            await it.in_force(lambda: engine.revision != old)

            request = pb.ExplainDecisionRequest(decision_id=allowed.decision_id, trace=True)
            answer = await it.call("ExplainDecision", request)
            assert (answer.decision.verdict, answer.same, answer.not_repeated) == ("allow", True, "")
            assert answer.decision.revision == old
            (rule,) = answer.contributed
            assert (rule.policy, rule.kind, rule.code) == ("reads", "allow", "reads")
            assert (rule.file, rule.line) == ("policies/reads/reads.rego", 5)
            assert "policies/reads/reads.rego:6" in answer.trace
            assert json.loads(answer.input_json)["subject"]["id"] == "planner"

            answer = await it.call("ExplainDecision", pb.ExplainDecisionRequest(decision_id=denied.decision_id))
            assert (answer.decision.verdict, answer.same) == ("deny", True)
            missed = next(each for each in answer.missed if each.policy == "reads")
            assert [(each.file, each.line, each.text) for each in missed.stopped_at][:2] == [
                ("policies/reads/reads.rego", 6, "pg.only_reads"),
                ("checkrein/postgres/postgres.rego", missed.stopped_at[1].line, missed.stopped_at[1].text),
            ]
            assert 'class == "read"' in missed.stopped_at[1].text
            assert answer.trace == ""
            explained = [each["facts"] for each in await it.chain() if each["type"] == "decision.explained"]
            assert [each["decision"] for each in explained] == [allowed.decision_id, denied.decision_id]

            # What was changed in the store is not explained, and what is not kept is said to be so.
            run = it.service.inside.database.bulk.run
            await run(lambda connection: tamper(connection, allowed.decision_id))
            answer = await it.call("ExplainDecision", pb.ExplainDecisionRequest(decision_id=allowed.decision_id))
            assert "the store was changed" in answer.not_repeated
            far = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)
            past = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
            await run(lambda c: stored.forget(c, decisions_before=past, inputs_before=far, most=1000))
            answer = await it.call("ExplainDecision", pb.ExplainDecisionRequest(decision_id=denied.decision_id))
            assert answer.not_repeated == "what was asked is not kept any more"
            code, _ = await status_of(it.call("ExplainDecision", pb.ExplainDecisionRequest(decision_id="d-1none")))
            assert code is grpc.StatusCode.NOT_FOUND

            listed = await it.call(
                "ListDecisions", pb.ListDecisionsRequest(session_id=opened.session_id, verdict="deny")
            )
            assert [each.decision_id for each in listed.decisions] == [denied.decision_id]

    def tamper(connection: Any, id: str) -> None:
        import zlib

        from pdp.store import tables

        content = zlib.compress(b'{"subject":{}}')
        table = tables.decision_inputs
        connection.execute(table.update().where(table.c.decision_id == id).values(content=content))

    with folder() as path:
        asyncio.run(scenario(path))


def test_the_commands(opa_path: Path):
    async def scenario(path: Path) -> None:
        repository = begin(path)
        async with installed(path, opa_path) as it:
            engine: Any = it.service.engine
            old = engine.revision
            proxy = await it.service.proxy()
            opened = await proxy.open()
            (denied,) = await proxy.decide(opened.token, action({**READ, "class": "write", "kind": "update"}))
            frozen(repository)
            await it.in_force(lambda: engine.revision != old)
            await it.changes(2)
            token = it.service.token(ADMINISTRATOR, audience="checkrein")
            settings = {"CHECKREIN_CONFIG": str(path / "checkrein.yaml"), "PDP_TOKEN": token}

            explained, listed, diff = await asyncio.gather(
                pdp("decisions", "explain", denied.decision_id, **settings),
                pdp("decisions", "list", "--session", opened.session_id, **settings),
                pdp("policy", "diff", old, **settings),
            )
            assert explained.status == 0, explained.err
            assert "it is the same" in explained.out
            assert "What was missing" in explained.out
            assert "policies/reads/reads.rego:6  pg.only_reads" in explained.out
            assert denied.decision_id in listed.out
            assert "+package policies.freeze" in diff.out
            back = await pdp("policy", "rollback", old, **settings)
            assert (back.status, back.out) == (0, f"{old} is in force\n")
            await it.changes(3)
            status, history = await asyncio.gather(
                pdp("status", "--wait", "--timeout", "60s", **settings), pdp("policy", "history", **settings)
            )
            assert "rolled back by user:root" in status.out
            assert "rolled back by user:root" in history.out
            assert "+ policies/freeze/freeze.rego" in history.out
            resumed = await pdp("policy", "resume", **settings)
            assert resumed.status == 0

    with folder() as path:
        asyncio.run(scenario(path))


def test_a_bundle_that_was_changed_in_the_store_decides_and_explains_nothing(opa_path: Path):
    async def scenario(path: Path) -> None:
        repository = begin(path)
        frozen(repository)
        async with installed(path, opa_path) as it:
            engine: Any = it.service.engine
            old = engine.revision
            proxy = await it.service.proxy()
            opened = await proxy.open()
            (denied,) = await proxy.decide(opened.token, action(READ))
            bind(repository, "open", "guard", "reads")
            new = await it.in_force(lambda: engine.revision != old)
            await it.changes(2)
            run = it.service.inside.database.short.run
            kept = await run(lambda connection: stored_policies.bundle(connection, old))
            assert kept is not None
            assert is_of(kept, old)
            files = unpacked(kept)
            assert files.pop("policies/freeze/freeze.rego")
            for harmed in (_pack(files), _pack({**unpacked(kept), "../x.json": b"{}"}), kept[: len(kept) // 2], b""):
                changed = tables.policy_bundles.update().where(tables.policy_bundles.c.revision == old)
                await run(lambda connection, c=changed, h=harmed: connection.execute(c.values(content=h)))
                code, said = await status_of(it.call("RollBack", pb.RollBackRequest(revision=old)))
                assert (code, said) == (
                    grpc.StatusCode.DATA_LOSS,
                    "what is kept of that revision is not it: the store was changed",
                )
                assert engine.revision == new
                request = pb.ExplainDecisionRequest(decision_id=denied.decision_id)
                answer = await it.call("ExplainDecision", request)
                assert answer.not_repeated == (
                    "the policies that decided are not as they were written: the store was changed"
                )

    with folder() as path:
        asyncio.run(scenario(path))


class Pinning:
    """The part of an engine that its history sees: which pin it has, and what it was told to do."""

    def __init__(self) -> None:
        self.pinned: Pin | None = None
        self.events: asyncio.Queue[PolicyEvent] = asyncio.Queue()

    async def files(self) -> str:
        return "files"

    async def pin(self, pin: Pin) -> None:
        self.pinned = pin

    async def unpin(self, by: str) -> None:
        self.pinned = None
        self.events.put_nowait(PolicyEvent(Change.RESUMED, now_utc(), "r", by))


async def kept(database: Database, revision: str) -> None:
    event = PolicyEvent(Change.ACTIVATED, now_utc(), revision, bundle=Bundle(b"", revision, "v", {}, {}))
    await database.short.run(lambda connection: stored_policies.add(connection, event, []))


def test_a_replica_takes_up_the_newest_of_what_others_went_back_to(tmp_path: Path):
    """Also when it has gone back itself before: the two would enforce different policies for as long as that holds."""

    async def scenario() -> None:
        async with Database(f"sqlite:///{tmp_path / 'store.db'}") as database:
            engine: Any = Pinning()
            history = PolicyHistory(engine, database, ServiceChain(database, now_utc), now_utc)
            for revision in ("loose", "strict"):
                await kept(database, revision)
                pin = Pin(revision, b"", "files", "user:root", now_utc())
                await database.short.run(lambda connection, pin=pin: stored_policies.set_pin(connection, pin))
                await history.follow()
                assert engine.pinned.revision == revision
            # One that was set over other files is not this replica's.
            await kept(database, "elsewhere")
            other = Pin("elsewhere", b"", "other files", "user:root", now_utc())
            await database.short.run(lambda connection: stored_policies.set_pin(connection, other))
            await history.follow()
            assert engine.pinned.revision == "strict"

    asyncio.run(scenario())


def test_a_change_that_cannot_be_kept_ends_neither_the_history_nor_a_later_pin(tmp_path: Path):
    async def scenario() -> None:
        async with Database(f"sqlite:///{tmp_path / 'store.db'}") as database:
            engine: Any = Pinning()
            history = PolicyHistory(engine, database, ServiceChain(database, now_utc), now_utc)
            # What is in force is compared with what was before, and that is no bundle any more.
            await kept(database, "damaged")
            broken = Bundle(b"no bundle", "next", "v", {}, {})
            engine.events.put_nowait(PolicyEvent(Change.ACTIVATED, now_utc(), "next", bundle=broken))
            later = Pin("damaged", b"", "files", "user:root", now_utc())
            await database.short.run(lambda connection: stored_policies.set_pin(connection, later))
            engine.events.put_nowait(PolicyEvent(Change.RESUMED, now_utc(), "next", "another replica"))
            engine.events.put_nowait(PolicyEvent(Change.REFUSED, now_utc(), "next", problems="x.rego:1"))
            running_ = asyncio.create_task(history.run())
            try:
                async with asyncio.timeout(40):
                    while True:
                        found = await database.short.run(lambda connection: stored_policies.newest(connection, 1))
                        if found[0].change == "refused":
                            break
                        assert not running_.done()
                        await asyncio.sleep(0.02)
            finally:
                running_.cancel()
            pin = await database.short.run(stored_policies.pin)
            assert pin is not None
            assert pin.revision == "damaged"

    asyncio.run(scenario())


def test_bundles_go_when_nothing_needs_them():
    async def scenario(path: Path) -> list[str]:
        async with Database(f"sqlite:///{path / 'x.db'}") as database:
            run = database.bulk.run
            at = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)

            def fill(connection: Any) -> None:
                for number in range(6):
                    bundle = Bundle(b"x", f"r{number}", "v", {}, {})
                    when = at + datetime.timedelta(hours=number)
                    event = PolicyEvent(Change.ACTIVATED, when, bundle.revision, bundle=bundle)
                    stored_policies.add(connection, event, [])
                kept = Decided("d-1", at, "r0", "query", "allow", [], "agent:a", "shop", "s", "", {}, None, 0)
                stored.insert(connection, [kept])

            await run(fill)
            await run(lambda connection: stored_policies.forget(connection, newest=2, most=100))
            return [f"r{n}" for n in range(6) if await run(lambda c, n=n: stored_policies.bundle(c, f"r{n}"))]

    with folder() as path:
        assert asyncio.run(scenario(path)) == ["r0", "r4", "r5"]
