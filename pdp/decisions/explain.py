"""A decision taken again: the bundle and the input that it was taken with, in a throw-away OPA, with the trace.

The program runs with the builtins that checks run with, an empty environment and a folder of its own, which is gone
afterwards. Files have short names there, because OPA cuts long ones in its trace.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from pdp.decisions.trace import Rule, read
from pdp.opa.program import OpaFailed, capabilities, run_opa
from pdp.policies.bundle import unpacked

_QUERY: Final = "data.checkrein.decision.result"
_TIMEOUT: Final = 30.0
_SHORT: Final = re.compile(r"(?m)^b/(\d+)\.rego(?=:\d)")


@dataclass(frozen=True, slots=True)
class Explained:
    """What came out, which rules made it, and how."""

    answer: Mapping[str, Any] | None
    contributed: list[Rule]
    missed: list[Rule]
    trace: str


class Explainer:
    """Explains one decision at a time."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._capabilities: bytes | None = None
        self._one_at_a_time = asyncio.Lock()

    async def explain(self, bundle: bytes, document: Mapping[str, Any]) -> Explained:
        """Raises OpaFailed when OPA does not run, or not to its end."""
        async with self._one_at_a_time:
            await asyncio.to_thread(self._folder.mkdir, mode=0o700, parents=True, exist_ok=True)
            if self._capabilities is None:
                self._capabilities = await capabilities(self._program, self._folder)
            with tempfile.TemporaryDirectory(prefix="explain-", dir=self._folder) as folder:
                names = await asyncio.to_thread(_write, Path(folder), bundle, self._capabilities)
                # Without its index OPA also enters rules that it knows beforehand not to hold: those are asked about.
                done = await run_opa(
                    self._program,
                    [
                        *("eval", "--bundle", "b", "--stdin-input", "--strict-builtin-errors"),
                        *("--capabilities", "capabilities.json", "--disable-indexing", "--disable-early-exit"),
                        *("--explain", "full", "--format", "pretty", _QUERY),
                    ],
                    folder=Path(folder),
                    stdin=orjson.dumps(document),
                    timeout=_TIMEOUT,
                )
        return await asyncio.to_thread(_read, done.out, done.err, done.status, names)


def _write(folder: Path, bundle: bytes, allowed: bytes) -> dict[str, tuple[str, str]]:
    """Unpacks the bundle; the names and texts of its Rego files by the names that they have there."""
    names: dict[str, tuple[str, str]] = {}
    (folder / "b").mkdir()
    for index, (name, content) in enumerate(sorted(unpacked(bundle).items())):
        short = name
        if name.endswith(".rego"):
            short = f"{index}.rego"
            names[f"b/{short}"] = name, content.decode("utf-8", "replace")
        (folder / "b" / short).write_bytes(content)
    (folder / "capabilities.json").write_bytes(allowed)
    return names


def _read(out: bytes, err: bytes, status: int, names: Mapping[str, tuple[str, str]]) -> Explained:
    text = out.decode("utf-8", "replace")
    if status != 0:
        raise OpaFailed(f"opa eval: {(err.decode(errors='replace') or text)[-500:].strip()}")
    # The trace comes first; the result begins on a line of its own.
    at = max(text.rfind("\n{\n"), 0 if text.startswith("{\n") else -1)
    answer: Any = None
    if at >= 0:
        answer = json.loads(text[at:])
        text = text[: at + 1]
    text = _SHORT.sub(lambda found: names.get(found[0], (found[0], ""))[0], text)
    contributed, missed = read(text.splitlines(), dict(names.values()))
    return Explained(answer, contributed, missed, text)
