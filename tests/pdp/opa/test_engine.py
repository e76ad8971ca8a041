"""The engine over a real OPA: what it decides, and that whatever goes wrong is a deny."""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from pdp.opa.engine import UNAVAILABLE, PolicyEngine
from pdp.opa.program import OpaFailed
from pdp.opa.supervisor import OpaChild
from pdp.policies import bundle as bundles
from pdp.policies.bundle import Bundle
from pdp.policies.history import Change
from pdp.policies.reads import on_demand
from pdp.policy_result import PolicyResult, Verdict
from tests.fix_policies import BOTH, GUARD, OPEN, SHOP, Repository, connect

PATIENCE = 20.0


@pytest.fixture
def engine_of(opa_path: Path, state: Path) -> Callable[..., PolicyEngine]:
    def make(repository: Repository, **settings: object) -> PolicyEngine:
        made = {"opa": opa_path, "policies": repository.root, "resources": [SHOP], "state": state, **settings}
        return PolicyEngine(**made)  # type: ignore[arg-type]

    return make


async def until(engine: PolicyEngine, condition: Callable[[PolicyResult], bool], subject: str = "agent-1"):
    """Asks until the answer fits; returns every answer on the way."""
    answers = []
    async with asyncio.timeout(PATIENCE):
        while not answers or not condition(answers[-1]):
            answers.append(await engine.decide(connect(subject)))
            await asyncio.sleep(0.002)  # an answer that needs no waiting would leave the loop no turn
    return answers


async def settled(engine: PolicyEngine) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if not await engine.changing():
                return
            await asyncio.sleep(0.01)


def code(result: PolicyResult) -> str:
    return result.reasons[0].code


def test_what_is_bound_decides_and_names_its_revision(engine_of, repository):
    async def run():
        async with engine_of(repository) as engine:
            allowed, denied = await engine.decide(connect()), await engine.decide(connect("bad"))
            assert (allowed.verdict, code(allowed)) == (Verdict.ALLOW, "connect")
            assert (denied.verdict, code(denied)) == (Verdict.DENY, "guarded")
            assert allowed.revision == denied.revision == engine.revision
            assert engine.revision.startswith("sha256:")
            assert (engine.ready, engine.policy_error, engine.restarts) == (True, "", 0)
            assert engine.activated_at is not None
            assert await engine.input_paths("shop") == ()
            assert await engine.input_paths("unheard of") == on_demand()
        assert not engine.ready
        assert (await engine.decide(connect())).verdict is Verdict.DENY

    asyncio.run(run())


def test_a_question_on_its_way_is_answered_before_opa_ends(engine_of, repository):
    async def run():
        async with asyncio.TaskGroup() as tasks, engine_of(repository) as engine:  # the engine ends first
            asked = [tasks.create_task(engine.decide(connect())) for _ in range(20)]
            await asyncio.sleep(0)
        return [task.result().verdict for task in asked]

    assert set(asyncio.run(run())) == {Verdict.ALLOW}


def test_a_killed_opa_denies_until_it_is_back(engine_of, repository):
    async def run():
        async with engine_of(repository) as engine:
            os.kill(engine.opa_pid, signal.SIGKILL)
            *denied, allowed = await until(engine, lambda answer: answer.verdict is Verdict.ALLOW)
            assert denied
            assert {(each.verdict, code(each), each.retry) for each in denied} == {(Verdict.DENY, UNAVAILABLE, True)}
            assert allowed.revision == engine.revision
            assert engine.restarts == 1

    asyncio.run(run())


@pytest.mark.alone
def test_a_stopped_opa_denies_within_the_time_out(engine_of, repository):
    async def run():
        async with engine_of(repository, timeout=0.2) as engine:
            os.kill(engine.opa_pid, signal.SIGSTOP)
            began = time.monotonic()
            answer = await engine.decide(connect())
            assert time.monotonic() - began < 10
            assert (answer.verdict, code(answer), answer.retry) == (Verdict.DENY, UNAVAILABLE, True)
            os.kill(engine.opa_pid, signal.SIGCONT)
            await until(engine, lambda answer: answer.verdict is Verdict.ALLOW)

    asyncio.run(run())


def test_a_builtin_that_fails_inside_a_deny_does_not_allow(engine_of, repository):
    repository.write(
        "policies/guard/guard.rego",
        """
        package policies.guard

        deny contains {"code": "big"} if to_number(input.subject.id) > 1
        """,
    )

    async def run():
        async with engine_of(repository) as engine:
            answer = await engine.decide(connect())
            assert (answer.verdict, code(answer)) == (Verdict.DENY, UNAVAILABLE)
            assert answer.revision == engine.revision

    asyncio.run(run())


ALLOW = {
    "verdict": "allow",
    "reasons": [{"code": "x"}],
    "masks": [],
    "obligations": {},
    "requirements": [],
    "needs": [],
    "exempted": [],
}


@pytest.mark.parametrize(
    "result",
    [
        "",
        "result := true",
        f"result := {json.dumps({'verdict': 'allow'})}",
        f"result := {json.dumps(ALLOW | {'verdict': 'perhaps'})}",
        f"result := {json.dumps(ALLOW | {'obligations': {'pray': True}})}",
        f"result := {json.dumps(ALLOW | {'surprise': 1})}",
    ],
)
def test_an_answer_of_another_form_is_a_deny(engine_of, repository, state, result):
    async def run():
        async with engine_of(repository) as engine:
            content = bundles._pack(
                {
                    ".manifest": b'{"roots": ["checkrein"], "rego_version": 1}',
                    "checkrein/decision/decision.rego": f"package checkrein.decision\n\n{result}\n".encode(),
                    bundles._ANSWER.name: bundles._ANSWER.content,
                    "data.json": b'{"checkrein": {"built": {"revision": "r", "version": "%s"}}}'
                    % bundles.library_version().encode(),
                }
            )
            path = state / "nonsense.tar.gz"
            path.write_bytes(content)
            await engine._activate(Bundle(content, "r", bundles.library_version(), {}, {}), path)
            answer = await engine.decide(connect())
            assert (answer.verdict, code(answer), answer.retry) == (Verdict.DENY, UNAVAILABLE, True)

    asyncio.run(run())


def test_a_bundle_of_another_library_never_answers(engine_of, repository, state):
    async def run():
        async with engine_of(repository) as engine:
            before = engine.revision
            content = bundles._pack(
                {
                    ".manifest": b'{"roots": ["checkrein"], "rego_version": 1}',
                    "data.json": b'{"checkrein": {"built": {"revision": "r", "version": "another"}}}',
                }
            )
            path = state / "other.tar.gz"
            path.write_bytes(content)
            with pytest.raises(OpaFailed, match="library"):
                await engine._activate(Bundle(content, "r", "another", {}, {}), path)
            assert engine.revision == before
            assert (await engine.decide(connect())).verdict is Verdict.ALLOW

    asyncio.run(run())


def test_an_edit_comes_into_force_and_is_told(engine_of, repository):
    async def run():
        async with engine_of(repository) as engine:
            revisions = engine.revisions()
            first = await anext(revisions)
            saved = time.monotonic()
            repository.write("policies/guard/guard.rego", GUARD.replace('"bad"', '"agent-1"'))
            async with asyncio.timeout(PATIENCE):
                second = await anext(revisions)
            assert time.monotonic() - saved < PATIENCE
            assert first != second == engine.revision
            assert (await engine.decide(connect())).verdict is Verdict.DENY
            assert (await engine.decide(connect("bad"))).verdict is Verdict.ALLOW

    asyncio.run(run())


def test_files_that_are_not_looked_at_yet_are_known_to_be_other_ones(engine_of, repository):
    async def run():
        async with engine_of(repository) as engine:
            first = engine.revision
            assert not await engine.changing()
            for content in (GUARD + "\n# another\n", GUARD + "\n# a third\n"):
                before = engine.revision
                repository.write("policies/guard/guard.rego", content)
                # From the moment of the change until its revision decides.
                assert await engine.changing()
                await settled(engine)
                assert engine.revision not in (first, before)

    asyncio.run(run())


def test_a_broken_file_keeps_what_is_in_force_and_is_named_with_its_line(engine_of, repository):
    async def run():
        async with engine_of(repository) as engine:
            good = engine.revision
            broken = repository.write("policies/guard/guard.rego", GUARD.replace("contains", "contians"))
            answers = await until(engine, lambda _: engine.policy_error != "")
            assert f"{broken}:3: " in engine.policy_error
            assert engine.policy_error_places == (f"{broken}:3",)
            assert {each.verdict for each in answers} == {Verdict.ALLOW}
            assert (await engine.decide(connect("bad"))).verdict is Verdict.DENY
            assert engine.revision == good
            await settled(engine)
            assert engine.policy_error != ""
            repository.write("policies/guard/guard.rego", GUARD + "\n# mended\n")
            await until(engine, lambda _: engine.policy_error == "")
            assert engine.policy_error_places == ()
            assert engine.revision != good

    asyncio.run(run())


def test_moving_a_deny_from_file_to_file_never_opens_a_window(engine_of, repository):
    async def run():
        async with engine_of(repository) as engine:
            first = engine.revision
            # Saved one after the other, the hole in the middle.
            repository.write("policies/guard/guard.rego", "package policies.guard\n")
            repository.write("policies/open/open.rego", BOTH)
            moved = await until(engine, lambda _: engine.revision != first, "bad")
            second = engine.revision
            repository.write("policies/open/open.rego", OPEN)
            repository.write("policies/guard/guard.rego", GUARD)
            moved += await until(engine, lambda _: engine.revision != second, "bad")
            assert engine.revision == first
            assert {(each.verdict, code(each)) for each in moved} == {(Verdict.DENY, "guarded")}
            assert {each.revision for each in moved} == {first, second}

    asyncio.run(run())


def test_the_last_good_policies_are_used_when_the_files_are_broken_at_start(engine_of, repository):
    async def run():
        async with engine_of(repository) as engine:
            good = engine.revision
        broken = repository.write("policies/guard/guard.rego", "package policies.guard\n\ndeny if input.subject.id\n")
        async with engine_of(repository) as engine:
            assert engine.revision == good
            assert (await engine.decide(connect("bad"))).verdict is Verdict.DENY
            assert (await engine.decide(connect())).verdict is Verdict.ALLOW
            assert f"{broken}:3: deny must be a set" in engine.policy_error
            assert engine.ready

    asyncio.run(run())


def test_what_cannot_be_kept_is_in_force_and_told_and_is_kept_when_it_can_be(engine_of, repository, state):
    async def run():
        async with engine_of(repository) as engine:
            first = engine.revision
            # Whatever is written first, before it takes the place of the one that is kept.
            in_the_way = state / "opa" / "bundle.tar.new"
            in_the_way.mkdir()
            repository.write("policies/guard/guard.rego", GUARD.replace('"bad"', '"worse"'))
            await until(engine, lambda _: engine.revision != first and engine.policy_error != "")
            second = engine.revision
            in_the_way.rmdir()
            broken = repository.write("policies/guard/guard.rego", "package policies.guard\n\ndeny if {\n")
            await until(engine, lambda _: str(broken) in engine.policy_error)
            await settled(engine)
            told = [engine.events.get_nowait() for _ in range(engine.events.qsize())]
            assert [each.revision for each in told if each.change is Change.ACTIVATED] == [first, second]
        async with engine_of(repository) as engine:
            assert engine.revision == second

    asyncio.run(run())


def test_without_any_good_policies_everything_is_denied(engine_of, repository):
    broken = repository.write("policies/guard/guard.rego", "package policies.guard\n\ndeny if {\n")

    async def run():
        async with engine_of(repository) as engine:
            answer = await engine.decide(connect())
            assert (answer.verdict, code(answer), answer.revision) == (Verdict.DENY, UNAVAILABLE, "")
            assert not engine.ready
            assert str(broken) in engine.policy_error
            assert await engine.input_paths("shop") == on_demand()
            repository.write("policies/guard/guard.rego", GUARD)
            await until(engine, lambda answer: answer.verdict is Verdict.ALLOW)
            assert engine.ready

    asyncio.run(run())


def test_opa_answers_nothing_but_the_decision_and_nobody_but_its_parent(engine_of, repository):
    patch = '[{"op": "add", "path": "/shop", "value": []}]'

    async def run():
        async with engine_of(repository) as engine:
            child = engine._active.child
            connector = aiohttp.UnixConnector(str(child.socket))
            async with aiohttp.ClientSession("http://localhost", connector=connector) as stranger:

                async def status(method: str, path: str, body: str, **headers: str) -> int:
                    async with stranger.request(method, path, data=body, headers=headers) as response:
                        return response.status

                assert await status("PATCH", "/v1/data/bindings", patch) == 401
                assert await status("POST", "/v1/data/checkrein/answer", "{}") == 401
                assert await status("POST", "/v1/data/checkrein/answer", "{}", Authorization="Bearer guess") == 401
                token = child.client.headers["Authorization"]
                assert await status("POST", "/v1/data/checkrein/answer", "{}", Authorization=token) == 200
                assert await status("PATCH", "/v1/data/bindings", patch, Authorization=token) == 401
                assert await status("GET", "/v1/data", "", Authorization=token) == 401
                assert await status("POST", "/v1/query", '{"query": "x = 1"}', Authorization=token) == 401
                assert await status("PUT", "/v1/policies/x", "package x", Authorization=token) == 401
            assert (await engine.decide(connect("bad"))).verdict is Verdict.DENY

    asyncio.run(run())


def test_opa_sees_nothing_of_the_environment_and_its_socket_is_private(engine_of, repository):
    async def run():
        async with engine_of(repository) as engine:
            environment = await asyncio.to_thread(Path(f"/proc/{engine.opa_pid}/environ").read_bytes)
            socket = engine._active.child.socket
            return environment, socket.stat().st_mode & 0o077, socket.parent.stat().st_mode & 0o077

    assert asyncio.run(run()) == (b"GOGC=400\0", 0, 0)


def test_an_opa_that_is_killed_while_it_starts_is_started_again(engine_of, repository, opa_path, tmp_path):
    first = tmp_path / "killed"
    program = tmp_path / "opa"
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = run ] && [ ! -e {first} ]; then : > {first}; kill -9 $$; fi\nexec {opa_path} "$@"\n'
    )
    program.chmod(0o700)

    async def run():
        async with engine_of(repository, opa=program) as engine:
            assert first.exists()
            assert (await engine.decide(connect())).verdict is Verdict.ALLOW

    asyncio.run(run())


@pytest.mark.parametrize(("number", "then"), [(signal.SIGKILL, signal.SIGKILL), (signal.SIGSTOP, signal.SIGCONT)])
def test_an_opa_that_is_killed_or_stopped_before_it_says_what_it_has_loaded_is_asked_again(
    engine_of, repository, monkeypatch, number, then
):
    start = OpaChild.start

    async def disturbed(child: OpaChild, tasks: asyncio.TaskGroup) -> None:
        await start(child, tasks)
        pid = child.pid
        os.kill(pid, number)
        # It does not answer within the 0.5 s that a question of a client's has.
        asyncio.get_running_loop().call_later(1.5, lambda: pid == child.pid and os.kill(pid, then))

    monkeypatch.setattr(OpaChild, "start", disturbed)

    async def run():
        async with engine_of(repository, timeout=0.5) as engine:
            assert (await until(engine, lambda result: result.verdict is Verdict.ALLOW))[-1].revision == engine.revision
            assert not engine.policy_error

    asyncio.run(run())


def test_opa_dies_with_the_process_that_started_it(opa_path, repository, state):
    program = f"""
import asyncio, sys
from pathlib import Path
from pdp.opa.engine import PolicyEngine
async def main():
    async with PolicyEngine(opa=Path({str(opa_path)!r}), policies=Path({str(repository.root)!r}), resources=[],
                            state=Path({str(state)!r})) as engine:
        print(engine.opa_pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    lines = iter(parent.stdout.readline, "")
    orphan = os.pidfd_open(int(next(line for line in lines if line.strip().isdigit())))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    ended, _, _ = select.select([orphan], [], [], PATIENCE)
    os.close(orphan)
    assert ended


def test_nothing_is_left_behind(engine_of, repository, state):
    async def run():
        async with engine_of(repository) as engine:
            pid = os.pidfd_open(engine.opa_pid)
        ended, _, _ = select.select([pid], [], [], 0)
        os.close(pid)
        assert ended

    asyncio.run(run())
    assert {each.name for each in (state / "opa").iterdir()} == {"bundle.tar.gz", "next.tar.gz"}


def test_a_socket_path_that_is_too_long_is_named(engine_of, repository, state):
    async def run():
        deep = state / ("d" * 90)
        async with engine_of(repository, state=deep):
            pass

    with pytest.raises(OpaFailed, match="107: choose a shorter state folder"):
        asyncio.run(run())


def test_a_program_that_is_not_opa_stops_the_start(engine_of, repository):
    async def run():
        async with engine_of(repository, opa=Path("/bin/false")):
            pass

    with pytest.raises(OpaFailed, match="capabilities"):
        asyncio.run(run())


def test_an_error_of_the_caller_comes_out_as_it_is(engine_of, repository):
    async def run():
        async with engine_of(repository):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        asyncio.run(run())
