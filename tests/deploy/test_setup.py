"""deploy/tools/setup: a program is taken only if it is recent enough and its digest is the pinned one."""

import functools
import hashlib
import http.server
import os
import platform
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

TOOLS = Path(__file__).parent.parent.parent / "deploy" / "tools"

pytestmark = pytest.mark.skipif(platform.system() == "Windows", reason="the set-up script serves Linux and macOS")


def write_program(path: Path, version: str) -> Path:
    """A program that says a version and nothing else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho 'Version: {version}'\n")
    path.chmod(0o755)
    return path


@dataclass
class Machine:
    """A machine with a home of its own, nothing on its PATH, and a copy of the set-up script."""

    root: Path
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shutil.copytree(TOOLS, self.root / "tools")
        (self.root / "bin").mkdir()

    @property
    def cached(self) -> Path:
        return self.root / "cache" / "checkrein" / "bin" / "opa-1.22.2"

    @property
    def downloaded(self) -> Path:
        return self.cached.with_name("opa-1.21.1")

    def setup(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.root / 'bin'}:/bin",
            "XDG_CACHE_HOME": str(self.root / "cache"),
            # A closed port: a test that forgets its own release never leaves the machine.
            "CHECKREIN_OPA_RELEASES": "http://127.0.0.1:9",
            **self.variables,
        }
        script = self.root / "tools" / "setup"
        command = [sys.executable, str(script), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def pin(self, digest: str) -> None:
        names = [f"opa_{system}_{machine}" for system in ("linux", "darwin") for machine in ("amd64", "arm64")]
        lines = [f"{digest}  {name}{suffix}\n" for name in names for suffix in ("", "_static")]
        (self.root / "tools" / "opa" / "release.sha256").write_text("".join(lines))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def release(tmp_path: Path, machine: Machine) -> Iterator[Path]:
    """A server on this machine that has the release files of every platform; they are one and the same program."""
    program = write_program(tmp_path / "releases" / "v1.21.1" / "program", "1.21.1")
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    for system in ("linux", "darwin"):
        for name in ("amd64", "arm64", "amd64_static", "arm64_static"):
            shutil.copy(program, program.with_name(f"opa_{system}_{name}"))
            program.with_name(f"opa_{system}_{name}.sha256").write_text(f"{digest}  opa_{system}_{name}\n")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path / "releases")
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        machine.variables["CHECKREIN_OPA_RELEASES"] = f"http://127.0.0.1:{server.server_port}"
        yield program
        server.shutdown()
        thread.join()


def test_the_environment_comes_first(machine: Machine):
    named = write_program(machine.root / "mine" / "opa", "1.30.0")
    write_program(machine.root / "bin" / "opa", "1.22.2")
    machine.variables["OPA"] = str(named)
    assert machine.setup("get", "opa").stdout == f"{named}\n"


def test_the_path_comes_before_the_cache(machine: Machine):
    on_path = write_program(machine.root / "bin" / "opa", "1.19.0")
    write_program(machine.cached, "1.22.2")
    assert machine.setup("get", "opa").stdout == f"{on_path}\n"


def test_one_that_is_too_old_is_passed_over(machine: Machine):
    write_program(machine.root / "bin" / "opa", "1.18.2")
    write_program(machine.cached, "1.22.2")
    assert machine.setup("get", "opa").stdout == f"{machine.cached}\n"


def test_the_error_names_every_way_and_why_it_failed(machine: Machine):
    write_program(machine.root / "bin" / "opa", "0.70.0")
    machine.variables["OPA"] = "/nowhere/opa"
    done = machine.setup("get", "opa")
    assert (done.returncode, done.stdout) == (1, "")
    assert "the environment: $OPA names /nowhere/opa, which is not a program" in done.stderr
    assert "is 0.70.0, and 1.19 or later is needed" in done.stderr
    assert f"the cache: {machine.cached} does not exist" in done.stderr
    assert "the official release: http://127.0.0.1:9/" in done.stderr
    assert "a build from source: no go on the PATH" in done.stderr


def test_find_obtains_nothing(machine: Machine, release: Path):
    machine.pin(hashlib.sha256(release.read_bytes()).hexdigest())
    done = machine.setup("find", "opa")
    assert (done.returncode, done.stdout) == (3, "")
    assert not machine.downloaded.exists()


def test_the_release_is_used_if_its_digest_is_the_pinned_one(machine: Machine, release: Path):
    machine.pin(hashlib.sha256(release.read_bytes()).hexdigest())
    done = machine.setup("get", "opa")
    assert done.stdout == f"{machine.downloaded}\n", done.stderr
    assert machine.downloaded.read_bytes() == release.read_bytes()
    assert os.access(machine.downloaded, os.X_OK)
    assert machine.setup("find", "opa").stdout == f"{machine.downloaded}\n"


def test_a_release_with_another_digest_is_not_used_and_leaves_nothing(machine: Machine, release: Path):
    machine.pin("0" * 64)
    done = machine.setup("get", "opa")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"pinned is {'0' * 64}: not used" in done.stderr
    assert [path.name for path in machine.cached.parent.iterdir()] == [".opa.lock"]


def test_a_release_that_cannot_be_reached_is_an_answer_not_a_hang(machine: Machine):
    machine.pin("0" * 64)
    done = machine.setup("get", "opa")
    assert "the official release: http://127.0.0.1:9/v1.21.1/opa_" in done.stderr
    assert "Connection refused" in done.stderr


def test_pin_writes_what_the_release_publishes(machine: Machine, release: Path):
    assert machine.setup("pin", "opa").returncode == 0
    assert machine.setup("get", "opa").stdout == f"{machine.downloaded}\n"


def test_a_failed_build_says_so_and_leaves_nothing(machine: Machine):
    go = machine.root / "bin" / "go"
    go.write_text("#!/bin/sh\necho 'no such module' >&2\nexit 7\n")
    go.chmod(0o755)
    done = machine.setup("get", "regal")
    assert done.returncode == 1
    assert "no such module" in done.stderr
    assert "a build from source: go build ended with status 7" in done.stderr
    assert [path.name for path in machine.cached.parent.iterdir()] == [".regal.lock"]


@pytest.mark.parametrize(
    ("tool", "version", "asked"),
    [
        ("opa", "1.22.2", "version"),
        ("buf", "1.75.0", "--version"),
        ("regal", "0.35.1", "version"),
        ("h2spec", "2.2.1", "--version"),
    ],
)
def test_what_was_built_is_kept(machine: Machine, tool: str, version: str, asked: str):
    go = machine.root / "bin" / "go"
    go.write_text(
        '#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\n'
        f'printf \'#!/bin/sh\\n[ "$1" = {asked} ] && echo {version}\\n\' > "$2"\n'
        'echo built >> "$XDG_CACHE_HOME/builds"\n'
    )
    go.chmod(0o755)
    for _ in range(2):
        done = machine.setup("get", tool)
        assert done.stdout == f"{machine.cached.with_name(f'{tool}-{version}')}\n", done.stderr
    assert (machine.root / "cache" / "builds").read_text() == "built\n"
