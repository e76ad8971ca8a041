"""The demonstration as a person runs it: eight outcomes, what it leaves behind, a policy that is edited under it."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
RUN = ROOT / "deploy" / "demo" / "run.py"
# Generous: the machine may be busy with other tests.
PATIENCE = 60.0

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def state() -> Iterator[Path]:
    """A state folder with a short path, because sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="cr-demo-", dir="/tmp") as folder:
        yield Path(folder, "state")


@contextlib.contextmanager
def demo(state: Path, *options: str | Path) -> Iterator[subprocess.Popen[str]]:
    environment = {name: value for name, value in os.environ.items() if name != "KEEP"}
    command = [sys.executable, RUN, "--state", state, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as run:
        try:
            yield run
        finally:
            if run.poll() is None:
                run.terminate()  # after a failure; it then ends what it has started


def read_until(run: subprocess.Popen[str], wanted: str) -> str:
    """What it printed up to the line that contains the text."""
    assert run.stdout is not None
    said = ""
    for line in run.stdout:
        said += line
        if wanted in line:
            return said
    pytest.fail(f"it ended without {wanted!r}:\n{said}")


def processes(*named: str) -> list[str]:
    """The command lines that name one of these."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in listed if any(name in line for name in named)]


def postgres_folder(state: Path) -> Path:
    return Path((state / "postgres.folder").read_text())


def row(said: str, node: str) -> str:
    """The part of the table that is about the node, on one line."""
    table = said[said.index("┡") :]
    cells = re.split(r"├─|└─", table)
    (found,) = [each for each in cells if f"│ {node} " in each]
    return re.sub(r"[\s│]+", " ", found)


def test_all_eight_outcomes_are_shown_also_after_a_run_that_was_killed(state: Path) -> None:
    with demo(state) as killed:
        read_until(killed, "node read_customers")
        folder = postgres_folder(state)
        killed.kill()
    end = time.monotonic() + PATIENCE
    while left := processes(str(state), str(folder)):
        assert time.monotonic() < end, left

    with demo(state) as run:
        said, _ = run.communicate()
    assert run.returncode == 0, said

    assert " allowed " in row(said, "read_orders")
    assert "1 paid 17.37" in row(said, "read_orders")
    assert " masked " in row(said, "read_customers")
    assert "1 Bruno Brandt br****@ex****.com NULL" in row(said, "read_customers")
    assert " approved " in row(said, "delete_stale")
    assert "DELETE 40" in row(said, "delete_stale")
    assert " denied " in row(said, "drop_table")
    assert "42501: " in row(said, "drop_table")
    assert " allowed " in row(said, "read_api_orders")
    assert "1 paid 17.37" in row(said, "read_api_orders")
    assert " masked " in row(said, "read_api_customers")
    assert "1 Bruno Brandt br****@ex****.com NULL" in row(said, "read_api_customers")
    assert " approved " in row(said, "refund")
    assert "for petra's yes," in row(said, "refund")
    assert "then 201" in row(said, "refund")
    assert " denied " in row(said, "delete_api_customer")
    assert "403: DELETE /customers/1 is refused by" in row(said, "delete_api_customer")
    assert "policy no_api_deletes: Agents delete nothing" in row(said, "delete_api_customer")
    assert "next request on the same connection: 200" in row(said, "delete_api_customer")
    assert "All eight outcomes are as they should be" in said
    assert "@example.com" not in said

    assert processes(str(state)) == []
    assert not folder.exists()
    assert not (state / "postgres.folder").exists()


def test_the_readme_leads_from_nothing_to_a_policy_in_force(state: Path) -> None:
    here = state.parent
    shutil.copytree(ROOT / "rego", here / "rego")
    (here / ".venv").symlink_to(sys.prefix)
    with demo(here / ".checkrein" / "demo", "--keep", "--policies", here / "rego") as run:
        said = read_until(run, "Ctrl-C ends everything")
        folder = postgres_folder(here / ".checkrein" / "demo")
        port = re.search(r"host=127\.0\.0\.1 port=(\d+)", said)
        assert port is not None

        curl = re.search(r"^TOKEN=.*\ncurl .*$", said, re.MULTILINE)
        assert curl is not None
        config = {"CHECKREIN_CONFIG": str(here / ".checkrein" / "demo" / "demo.yaml")}
        asked = subprocess.run(
            ["bash", "-c", curl[0]], capture_output=True, text=True, check=True, env=os.environ | config
        )

        psql = re.search(r"^PGPASSWORD=.*?^  -c .*?$", said, re.MULTILINE | re.DOTALL)
        rule = re.search(r"^cat >> .*?^END\n.*?$", said, re.MULTILINE | re.DOTALL)
        assert psql is not None
        assert rule is not None
        printed = f"exec 2>&1\n{psql[0]}\n{rule[0]}\necho NEXT BLOCK\n{psql[0]}"
        edited = subprocess.run(
            ["bash", "-c", printed], capture_output=True, text=True, check=False, env=os.environ | config
        )

        blocks = [block.replace("port=6432", f"port={port[1]}") for block in guide()]
        script = "\necho NEXT BLOCK\n".join(blocks)
        done = subprocess.run(
            ["bash", "-c", f"exec 2>&1\n{script}"], cwd=here, capture_output=True, text=True, check=False
        )
        before, policy, tested, bound, mistaken, _ = done.stdout.split("NEXT BLOCK\n")

        run.send_signal(signal.SIGINT)
        said, _ = run.communicate()

    customers = json.loads(asked.stdout)["customers"]
    assert customers[0] == {"id": 1, "name": "Bruno Brandt", "email": "br****@ex****.com", "ssn": None}

    masked, denied = edited.stdout.split("NEXT BLOCK\n")
    assert "br****@ex****.com" in masked
    assert "refused by policy agent_reads" in denied
    assert "@" not in denied

    assert "No policy allows this" in before
    assert policy == ""
    assert re.fullmatch(r"PASS: (\d+)/\1\n", tested)
    assert "by policy payments: Agents read payments in pages of 50; allowed instead: The same statement" in bound
    assert "(2 rows)" in bound
    assert mistaken.count("payments.rego:28: dney is no contribution: did you mean deny?") == 2
    assert "(2 rows)" in mistaken
    assert sorted(path.relative_to(here / "rego") for path in (here / "rego").rglob("*")) == sorted(
        path.relative_to(ROOT / "rego") for path in (ROOT / "rego").rglob("*")
    )
    assert (here / "rego" / "bindings" / "data.yaml").read_text() == (ROOT / "rego/bindings/data.yaml").read_text()

    assert run.returncode == 0, said
    assert processes(str(here), str(folder)) == []
    assert not folder.exists()


def guide() -> list[str]:
    """What the README's guide has to be pasted, block by block."""
    text = (ROOT / "README.md").read_text()
    section = text.split("## Write a policy in ten minutes\n")[1].split("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
