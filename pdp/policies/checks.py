"""Everything that must hold of a snapshot before it can be put in force, asked of the `opa` program.

The files are written to a folder of their own, so that what is checked is what was read, whatever happens to the
originals meanwhile. The library's own tests are not run here: it does not change.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from pdp.library import library_dir
from pdp.opa.program import Finished, OpaFailed, capabilities, run_opa
from pdp.policies.contract import Ast, wrong_masks, wrong_package, wrong_rules
from pdp.policies.problems import PolicyError, Problem
from pdp.policies.reads import on_demand, policy_paths
from pdp.policies.snapshot import LOG_FOLDER, Snapshot, Source

_PARSE: Final = "{name: rego.parse_module(name, text) | some name, text in input}"
_PLACE: Final = re.compile(r"(?P<file>[^\s:]+\.rego):(?P<line>\d+): (?P<message>.*)", re.DOTALL)
# OPA gives one test five seconds, which a busy machine may need for one that is in order.
_PATIENT: Final = ("--timeout", "30s")


@dataclass(frozen=True, slots=True)
class Checked:
    """What the checks found out on the way: for each policy, what it can read of what travels on demand."""

    reads: Mapping[str, tuple[str, ...]]


class Checks:
    """The checks with one program; the folder holds the capabilities file and what is being checked."""

    def __init__(self, program: Path, folder: Path, *, granted: Sequence[str] = ()) -> None:
        self._program = program
        self._folder = folder
        self._granted = tuple(granted)
        self._capabilities: bytes | None = None

    async def run(self, snapshot: Snapshot, data: Mapping[str, Any]) -> Checked:
        """Compiles strictly against the input's schema, holds the contract, runs the policies' tests.

        Raises PolicyError with every problem of the first kind that has any, OpaFailed when OPA does not run.
        """
        if self._capabilities is None:
            self._capabilities = await capabilities(self._program, self._folder, granted=self._granted)
        with tempfile.TemporaryDirectory(prefix="check-", dir=self._folder) as folder:
            work = Path(folder)
            await asyncio.to_thread(_write, work, snapshot, data, self._capabilities)
            files = _Files(work, {each.name: each for each in snapshot.rego})
            # The input of a mask is an event of the decision log, which the schema of the policies' input does not fit.
            beside = ["../log"] if snapshot.log else []
            checked, tested, parsed, checked_log = await asyncio.gather(
                self._opa(work, "check", "--strict", "--schema", "../input.json"),
                self._opa(work, "test", *_PATIENT, *beside),
                self._parse(work, files),
                self._opa(work, "check", "--strict", *beside) if beside else _in_order(),
            )
            # In the order of causes: a wrong package makes the compiler complain about whatever it collides with, and
            # a rule of a wrong form about whoever reads it.
            for problems in (
                await self._package_problems(parsed, files),
                [
                    *_check_problems(checked, files),
                    *_check_problems(checked_log, files),
                    *await self._rule_problems(parsed, files),
                ],
                [
                    Problem(files.sources[name].path, 0, "cannot be parsed")
                    for name in files.sources
                    if name not in parsed
                ],
                list(_test_problems(tested, files)),
            ):
                if problems:
                    raise PolicyError(problems)
        return _checked(parsed)

    async def test_output(self, snapshot: Snapshot, data: Mapping[str, Any], *, verbose: bool) -> Finished:
        """One run of `opa test` with its own output, for people."""
        if self._capabilities is None:
            self._capabilities = await capabilities(self._program, self._folder, granted=self._granted)
        with tempfile.TemporaryDirectory(prefix="test-", dir=self._folder) as folder:
            work = Path(folder)
            await asyncio.to_thread(_write, work, snapshot, data, self._capabilities)
            where = [".", *(["../log"] if snapshot.log else [])]
            shown = ["-v"] if verbose else []
            arguments = ["test", *_PATIENT, "--capabilities", "../capabilities.json", *shown, *where]
            return await run_opa(self._program, arguments, folder=work / "files")

    async def _opa(self, work: Path, command: str, *arguments: str) -> Finished:
        shared = ("--capabilities", "../capabilities.json", "--format", "json", "--max-errors", "0", ".")
        return await run_opa(self._program, [command, *arguments, *shared], folder=work / "files")

    async def _parse(self, work: Path, files: _Files) -> dict[str, Ast]:
        texts = {name: source.content.decode("utf-8", "replace") for name, source in files.sources.items()}
        arguments = ["eval", "--stdin-input", "--format", "raw", _PARSE]
        done = await run_opa(self._program, arguments, folder=work, stdin=json.dumps(texts).encode())
        # A file with an error of syntax is missing from the answer, and `opa check` reports it.
        return json.loads(done.out) if done.status == 0 and done.out.strip() else {}

    async def _package_problems(self, parsed: Mapping[str, Ast], files: _Files) -> list[Problem]:
        problems = []
        for name in files.policies:
            if name in parsed and (wrong := wrong_package(name, parsed[name])):
                row = (await self._located(name, files))["package"]["location"]["row"]
                problems.append(Problem(files.sources[name].path, row, wrong))
        return problems

    async def _rule_problems(self, parsed: Mapping[str, Ast], files: _Files) -> list[Problem]:
        problems = []
        for name in files.policies:
            source = files.sources[name]
            if source.is_test:
                continue
            wrong = wrong_masks if name.startswith(LOG_FOLDER) else wrong_rules
            if rules := list(wrong(parsed.get(name, {}))):
                located = (await self._located(name, files))["rules"]
                problems += [Problem(source.path, located[index]["location"]["row"], why) for index, why in rules]
        return problems

    async def _located(self, name: str, files: _Files) -> Any:
        """The same tree with lines, which the builtin that parses many files at once does not give."""
        folder = files.work / _top(name)
        arguments = ["parse", "--format", "json", "--json-include", "locations", name]
        done = await run_opa(self._program, arguments, folder=folder)
        if done.status != 0:
            raise OpaFailed(f"opa parse {name}: {done.err.decode(errors='replace').strip()}")
        return json.loads(done.out)


@dataclass(frozen=True, slots=True)
class _Files:
    work: Path
    sources: Mapping[str, Source]

    @property
    def policies(self) -> list[str]:
        """The names that the contract is about."""
        return [name for name in self.sources if name.startswith(("policies/", LOG_FOLDER))]

    def path(self, name: str) -> Path:
        """Where a file that OPA names came from."""
        for top in ("files", "log"):
            name = name.removeprefix(f"{self.work / top}/").removeprefix(f"../{top}/")
        name = str(PurePosixPath(name))
        return self.sources[name].path if name in self.sources else Path(name)


def _write(work: Path, snapshot: Snapshot, data: Mapping[str, Any], allowed: bytes) -> None:
    files = work / "files"
    for each in snapshot.rego:
        path = work / _top(each.name) / each.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(each.content)
    files.mkdir(exist_ok=True)
    (files / "data.json").write_text(json.dumps(data), "utf-8")
    (work / "capabilities.json").write_bytes(allowed)
    (work / "input.json").write_bytes((library_dir() / "schemas" / "input.json").read_bytes())


def _top(name: str) -> str:
    return "log" if name.startswith(LOG_FOLDER) else "files"


async def _in_order() -> Finished:
    return Finished(0, b"", b"")


def _check_problems(done: Finished, files: _Files) -> Iterator[Problem]:
    if done.status == 0:
        return
    try:
        errors = json.loads(done.out or done.err)["errors"]
    except (KeyError, TypeError, ValueError):
        yield _from_text(done, files)
        return
    for error in errors:
        location = error.get("location") or {}
        details = error.get("details")
        known = details.get("oneOf") if isinstance(details, dict) else None
        message = str(error.get("message", "does not compile"))
        yield Problem(
            files.path(str(location.get("file", "data.json"))),
            int(location.get("row", 0)),
            f"{message} (known here: {', '.join(map(str, known))})" if known else message,
        )


def _test_problems(done: Finished, files: _Files) -> Iterator[Problem]:
    if done.status == 0:
        return
    try:
        results = json.loads(done.out)
    except ValueError:
        yield _from_text(done, files)
        return
    for result in results or ():
        if result.get("fail") or result.get("error"):
            location = result.get("location") or {}
            error = (result.get("error") or {}).get("message")
            message = f"{result.get('name')} fails{f': {error}' if error else ''}"
            yield Problem(files.path(str(location.get("file", ""))), int(location.get("row", 0)), message)


def _from_text(done: Finished, files: _Files) -> Problem:
    text = (done.err or done.out).decode(errors="replace").strip()
    if found := _PLACE.search(text):
        return Problem(files.path(found["file"]), int(found["line"]), found["message"].strip())
    return Problem(files.path("data.json"), 0, text or f"opa ended with status {done.status}")


def _checked(parsed: Mapping[str, Ast]) -> Checked:
    loaded = (
        ast
        for name, ast in parsed.items()
        if not name.endswith("_test.rego") and not name.startswith("checkrein/testing/")
    )
    return Checked(policy_paths(loaded, on_demand()))
