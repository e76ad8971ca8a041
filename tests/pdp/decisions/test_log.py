"""The decision log of a running service: its file, its receiver over real HTTP, its masks by the real OPA."""

import asyncio
import contextlib
import datetime
import gzip
import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import pytest

from pdp.config import Records, load_config
from pdp.decisions.decided import Decided
from pdp.decisions.log import DecisionLog
from pdp.decisions.outlet import Undeliverable
from pdp.decisions.sinks import FileSink, UploadFailed, UploadSink
from pdp.identity.tokens import now_utc
from pdp.opa.client import UnixOpaClient
from pdp.opa.engine import PolicyEngine
from pdp.store import decisions as stored
from pdp.store.database import Database
from pdp.v1.strict_yaml import ConfigError
from tests.fix_policies import SHOP, Repository, connect
from tests.pdp.serving import SELECT, Script, action, folder, serving

MASK = """package system.log

mask contains "/input/subject/id" if input.input.subject.id == "planner"

mask contains {"op": "upsert", "path": "/input/action/name", "value": "something"} if input.input.context.session.id
"""


class Receiver:
    """A small receiver of decision logs, which answers as it is told."""

    def __init__(self) -> None:
        self.events: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.answers.pop(0) if receiver.answers else 200
                if status == 200:
                    receiver.headers.append(dict(self.headers))
                    receiver.events += json.loads(gzip.decompress(body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/logs"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def log_settings(text: str) -> str:
    return f"  records: {{decision_log: {{{text}}}}}\n"


async def a_decision(path: Path, settings: str, engine: Script | None = None) -> str:
    """Runs a service, decides once, and ends the service; the decision's id."""
    async with serving(path, engine, more=log_settings(settings)) as service:
        proxy = await service.proxy()
        opened = await proxy.open()
        (decision,) = await proxy.decide(opened.token, action(SELECT, text="select 'S3CRET'"))
        return str(decision.decision_id)


def test_a_file_has_one_event_a_line_and_no_statement():
    with folder() as path:
        named = asyncio.run(a_decision(path, "file: log/decisions.jsonl"))
        file = path / "log" / "decisions.jsonl"
        events = [json.loads(line) for line in file.read_text().splitlines()]
        assert "S3CRET" not in file.read_text()
        assert file.stat().st_mode & 0o777 == 0o600
    assert [each["decision_id"] for each in events][-1] == named
    assert events[-1]["result"]["verdict"] == "allow"


def test_a_whole_entry_has_the_input_without_the_statement():
    with folder() as path:
        asyncio.run(a_decision(path, "file: d.jsonl, input: whole"))
        text = (path / "d.jsonl").read_text()
    last = json.loads(text.splitlines()[-1])
    assert last["input"]["action"]["properties"]["postgres"] == SELECT
    assert "S3CRET" not in text


def test_a_receiver_gets_gzipped_arrays_with_the_token_and_again_after_it_failed(tmp_path: Path):
    (tmp_path / "token").write_text("t0ken\n")
    with folder() as path, Receiver() as receiver:
        receiver.answers = [503, 401]
        named = asyncio.run(
            a_decision(path, f'url: "{receiver.url}", batch: 1ms, token: {{file: {tmp_path / "token"}}}')
        )
    ids = [each["decision_id"] for each in receiver.events]
    assert named in ids
    assert len(ids) == len(set(ids)) == 2
    assert receiver.headers[0]["Authorization"] == "Bearer t0ken"
    assert receiver.headers[0]["Content-Encoding"] == "gzip"


def test_a_receiver_that_is_not_there_is_tried_again_and_one_that_refuses_is_not():
    async def scenario() -> None:
        gone = UploadSink("http://127.0.0.1:9/logs", token=None, authority=None)
        with pytest.raises(UploadFailed, match="cannot be reached"):
            await gone.deliver([b"{}"])
        with Receiver() as receiver:
            sink = UploadSink(receiver.url, token=None, authority=None)
            receiver.answers = [400, 302]
            with pytest.raises(Undeliverable, match="400"):
                await sink.deliver([b"{}"])
            with pytest.raises(UploadFailed, match="302"):
                await sink.deliver([b"{}"])

    asyncio.run(scenario())


def test_a_full_file_is_set_aside_and_the_oldest_goes(tmp_path: Path):
    sink = FileSink(tmp_path / "d", size=30, files=2)

    async def write() -> None:
        for number in range(12):
            await sink.deliver([b'{"n": %2d}' % number])

    asyncio.run(write())
    kept = [(tmp_path / name).read_text().splitlines() for name in ("d.2", "d.1", "d")]
    assert [json.loads(line)["n"] for part in kept for line in part] == list(range(3, 12))
    assert not (tmp_path / "d.3").exists()


def test_a_line_that_a_crash_cut_off_spoils_no_other(tmp_path: Path):
    (tmp_path / "d").write_bytes(b'{"cut')
    asyncio.run(FileSink(tmp_path / "d", size=1000, files=1).deliver([b"{}"]))
    assert (tmp_path / "d").read_bytes() == b'{"cut\n{}\n'


class Masked(Script):
    masks: object = None

    async def log_masks(self, event):
        if isinstance(self.masks, Exception):
            raise self.masks
        return self.masks


@pytest.mark.parametrize("masks", [RuntimeError("no"), [{"op": "x"}], "nothing"])
def test_where_the_masks_fail_nothing_of_the_decision_is_logged(masks):
    engine = Masked()
    engine.masks = masks
    with folder() as path:
        named = asyncio.run(a_decision(path, "file: d.jsonl, input: whole", engine))
        last = json.loads((path / "d.jsonl").read_text().splitlines()[-1])
    assert last["decision_id"] == named
    assert "input" not in last
    assert "result" not in last
    assert last["erased"] == ["/input", "/result"]


def test_every_decision_is_in_the_store_with_its_input():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                (decision,) = await proxy.decide(opened.token, action(SELECT))
                await service.inside.decisions.stored()
                asked = service.engine.asked[-1]
                run = service.inside.database.bulk.run
                (found,) = await run(lambda connection: stored.find(connection, decision.decision_id))
                (listed, *_) = await run(lambda connection: stored.newest(connection, limit=9, policy="test"))
                none = await run(lambda connection: stored.newest(connection, limit=9, policy="tes_"))
                return decision, asked, found, listed, none

    decision, asked, found, listed, none = asyncio.run(scenario())
    assert (found.id, found.verdict, found.revision, found.policies) == (decision.decision_id, "allow", "r1", ["test"])
    assert found.input == asked
    assert found.intact
    assert listed.id == found.id
    assert listed.input is None
    assert none == []


def test_large_decisions_do_not_fill_the_memory_while_the_store_is_slow(tmp_path: Path):
    async def scenario() -> None:
        async with Database(f"sqlite:///{tmp_path / 'store.db'}") as database:
            # Nothing delivers.
            log = DecisionLog(Records(), Script(), database, now_utc)
            parts = ("r", "query", "allow", [], "agent:a", "shop", "s", "", {}, None, 0)
            for number in range(100):
                log.add(Decided(f"d-{number}", now_utc(), *parts, size=1 << 20))
            assert any("37 decisions were dropped on their way to the store" in each for each in log.notes())

    asyncio.run(scenario())


def test_inputs_are_erased_first_and_decisions_later_or_when_there_are_too_many():
    def decided(number: int) -> Decided:
        at = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(days=number)
        return Decided(f"d-{number}", at, "r", "query", "allow", [], "agent:a", "shop", "s", "", {"n": number}, None, 0)

    def day(number: int) -> datetime.datetime:
        return datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(days=number)

    async def scenario():
        with folder() as path:
            async with Database(f"sqlite:///{path / 'x.db'}") as database:
                run = database.bulk.run
                await run(lambda connection: stored.insert(connection, [decided(number) for number in range(10)]))
                await run(lambda c: stored.forget(c, decisions_before=day(3), inputs_before=day(5), most=100))
                left = await run(lambda connection: stored.newest(connection, limit=100))
                (old,) = await run(lambda c: stored.find(c, "d-4"))
                (new,) = await run(lambda c: stored.find(c, "d-5"))
                await run(lambda c: stored.forget(c, decisions_before=day(0), inputs_before=day(0), most=2))
                last = await run(lambda connection: stored.newest(connection, limit=100))
                return left, old, new, last

    left, old, new, last = asyncio.run(scenario())
    assert [each.id for each in left] == [f"d-{number}" for number in range(9, 2, -1)]
    assert old.input is None
    assert new.input == {"n": 5}
    assert [each.id for each in last] == ["d-9", "d-8"]


@pytest.mark.parametrize(
    "text", ["input: short", "console: false", "token: {env: X}, console: true", 'url: "http://example.com"']
)
def test_settings_that_lead_nowhere_are_refused(tmp_path: Path, text: str):
    file = tmp_path / "c.yaml"
    file.write_text(f"version: 1\nstate: s\npdp:\n  policies: {{dir: p}}\n{log_settings(text)}")
    with pytest.raises(ConfigError, match="decision_log"):
        load_config(file)


def test_the_real_opa_says_what_is_masked(repository: Repository, state: Path, opa_path: Path):
    repository.write("system/log/mask.rego", MASK)
    repository.write(
        "system/log/mask_test.rego",
        """package log_test

import data.system.log

test_names if "/input/subject/id" in log.mask with input as {"input": {"subject": {"id": "planner"}}}
""",
    )

    async def scenario():
        async with PolicyEngine(
            opa=opa_path, policies=repository.root, resources=[SHOP], state=state, timeout=10.0, watch=False
        ) as engine:
            assert engine.policy_error == ""
            decided = await engine.decide(connect("planner"))
            masks = await engine.log_masks({"input": connect("planner"), "result": {}})
            other = await engine.log_masks({"input": {"subject": {"id": "x"}}})
            return decided.verdict.value, masks, other

    verdict, masks, other = asyncio.run(scenario())
    assert verdict == "allow"
    assert sorted(masks, key=str) == [
        "/input/subject/id",
        {"op": "upsert", "path": "/input/action/name", "value": "something"},
    ]
    assert other == []


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("mask.rego", "package system.log\n\ndrop := true\n", "mask.rego:3: drop is not known here"),
        ("mask.rego", "package system.log\n\nmask := []\n", "mask.rego:3: mask must be a set"),
        ("mask.rego", "package system.authz\n\nallow := true\n", "mask.rego:1: defines the package system.authz"),
        ("mask.rego", "package system.log\n\nmask contains x if input.y\n", "mask.rego:3: "),
        ("m_test.rego", "package log_test\n\ntest_it if 1 == 2\n", "m_test.rego:3: "),
    ],
)
def test_a_broken_mask_is_named_with_its_line(repository, state, opa_path, file, text, said):
    repository.write(f"system/log/{file}", text)

    async def scenario() -> str:
        async with PolicyEngine(
            opa=opa_path, policies=repository.root, resources=[SHOP], state=state, timeout=10.0, watch=False
        ) as engine:
            return engine.policy_error

    assert said in asyncio.run(scenario())


@contextlib.contextmanager
def opa_with_a_log(opa_path: Path, path: Path) -> Iterator[subprocess.Popen[str]]:
    (path / "p.rego").write_text("package p\n\nallow := input.x == 1\n")
    command = [opa_path, "run", "--server", "--addr", f"unix://{path}/s", "--set", "decision_logs.console=true"]
    with subprocess.Popen(
        [*command, "--log-format", "json", "p.rego"],
        cwd=path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


async def answers(client: UnixOpaClient) -> bool:
    try:
        return bool(await client.check_health())
    except OSError:
        return False


def test_an_entry_has_the_form_of_the_real_opas_own(opa_path: Path):
    async def ask(socket: Path) -> None:
        client = UnixOpaClient(socket, token="t", timeout=30.0)
        async with client:
            async with asyncio.timeout(60):
                while not await answers(client):  # noqa: ASYNC110 - another process announces it nowhere
                    await asyncio.sleep(0.01)
            await client.ask("p.allow", {"x": 1})

    with folder() as path:
        with opa_with_a_log(opa_path, path) as process:
            asyncio.run(ask(path / "s"))
            assert process.stdout is not None
            theirs = next(entry for line in process.stdout if "decision_id" in (entry := json.loads(line)))
        asyncio.run(a_decision(path, "file: d.jsonl, input: whole"))
        ours = json.loads((path / "d.jsonl").read_text().splitlines()[-1])
    # What the console's logger adds to the event, and what only an HTTP query has.
    added = {"level", "msg", "time", "type", "req_id", "nd_builtin_cache", "bundles", "requested_by"}
    assert set(theirs) - added <= set(ours)
    assert set(ours) <= set(theirs) | {"bundles", "erased", "masked"}
    for name in set(ours) & set(theirs) - {"result"}:
        assert type(ours[name]) is type(theirs[name]), name
    assert isinstance(ours["labels"]["version"], str)
    assert all(isinstance(value, int) for value in ours["metrics"].values())
    for entry in (ours, theirs):
        assert datetime.datetime.fromisoformat(entry["timestamp"]).tzinfo is not None
