"""The `opa` program: where it is, one run of it, and the builtins that policies may call.

Not the server: that is `supervisor`. The language's capabilities are those of the program itself, less the builtins
that reach out of an evaluation.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

AT_LEAST: Final = (1, 19)
KEPT: Final = ("1.22.2", "1.21.1")
"""What the set-up builds, and what it downloads."""

# http.send posts the input to anybody, a name can be looked up to the same end, opa.runtime shows the environment
# and the configuration, and what signs can mint credentials.
WITHHELD: Final = (
    "http.send",
    "io.jwt.encode_sign",
    "io.jwt.encode_sign_raw",
    "net.lookup_ip_addr",
    "opa.runtime",
)


class OpaMissing(Exception):
    """There is no usable `opa` program."""


class OpaFailed(Exception):
    """The program did not do what it was run for, and the reason is not in the policies."""


@dataclass(frozen=True, slots=True)
class Finished:
    """One run that came to its end."""

    status: int
    out: bytes
    err: bytes


def find_opa(named: Path | None = None) -> Path:
    """The program: the one named, else `$OPA`, else on the PATH, else where the set-up keeps it.

    Raises OpaMissing, with every place that was tried and why it was not taken.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "checkrein" / "bin"
    kept = [str(cache / f"opa-{version}") for version in KEPT]
    places = [str(named)] if named else [*filter(None, [os.environ.get("OPA")]), "opa", *kept]
    refused = []
    for place in places:
        path = shutil.which(place)
        why = _unusable(path) if path else "not a program"
        if path and not why:
            return Path(path).absolute()
        refused.append(f"{place}: {why}")
    raise OpaMissing(f"OPA {'.'.join(map(str, AT_LEAST))} or later is needed: {'; '.join(refused)}")


def _unusable(path: str) -> str:
    try:
        done = subprocess.run([path, "version"], capture_output=True, text=True, timeout=10, check=True, env={})
    except (OSError, subprocess.SubprocessError) as error:
        return f"does not run ({error})"
    found = re.search(r"Version: (\d+)\.(\d+)", done.stdout)
    if found is None:
        return "does not say its version"
    version = (int(found[1]), int(found[2]))
    return "" if version >= AT_LEAST else f"is {version[0]}.{version[1]}"


async def run_opa(
    program: Path, arguments: Sequence[str], *, folder: Path, stdin: bytes = b"", timeout: float = 60.0
) -> Finished:
    """Runs one command in the folder with an empty environment. Raises OpaFailed when it cannot run or does not end."""
    try:
        child = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            cwd=folder,
            env={},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise OpaFailed(f"{program} does not run: {error}") from error
    try:
        async with asyncio.timeout(timeout):
            out, err = await child.communicate(stdin)
    except TimeoutError as error:
        raise OpaFailed(f"opa {arguments[0]} did not end within {timeout:g} s") from error
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode is not None
    return Finished(child.returncode, out, err)


async def capabilities(program: Path, folder: Path, *, granted: Sequence[str] = ()) -> bytes:
    """What every check runs with, as a capabilities file; `granted` names builtins that are not withheld."""
    done = await run_opa(program, ["capabilities", "--current"], folder=folder)
    if done.status != 0:
        raise OpaFailed(f"opa capabilities: {done.err.decode(errors='replace').strip()}")
    found = json.loads(done.out)
    withheld = set(WITHHELD) - set(granted)
    # io.jwt.encode* by prefix: a later version may have more of them.
    found["builtins"] = [
        builtin
        for builtin in found["builtins"]
        if builtin["name"] not in withheld
        and (not builtin["name"].startswith("io.jwt.encode") or builtin["name"] in granted)
    ]
    found["allow_net"] = []
    return json.dumps(found).encode()
