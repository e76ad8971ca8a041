"""The demonstration as a person runs it: its four outcomes, what it leaves behind, a policy that is edited under it."""

import contextlib
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

import psycopg
import pytest

ROOT = Path(__file__).parent.parent.parent
RUN = ROOT / "deploy" / "demo" / "run.py"
PDP = Path(sys.executable).parent / "pdp"
CUSTOMERS = "select id, name, email, ssn from customers order by id limit 3"
NODE = ("--subject", "agent:support-bot", "--graph", "support", "--node", "read_customers", "--audience", "shop")
RULE = """
deny contains {"code": "closed", "message": "Customers are closed today."} if {
	subject.node == "support/read_customers"
	"public.customers" in pg.touched
}
"""
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
                run.kill()


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


def test_all_four_outcomes_are_shown_also_after_a_run_that_was_killed(state: Path) -> None:
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
    assert "All four outcomes are as they should be" in said
    assert "@example.com" not in said

    assert processes(str(state)) == []
    assert not folder.exists()
    assert not (state / "postgres.folder").exists()


def test_an_edited_policy_changes_the_verdict_of_the_next_statement(state: Path, tmp_path: Path) -> None:
    policies = tmp_path / "rego"
    shutil.copytree(ROOT / "rego", policies)
    with demo(state, "--keep", "--policies", policies) as run:
        said = read_until(run, "Ctrl-C ends everything")
        port = re.search(r"host=127\.0\.0\.1 port=(\d+)", said)
        assert port is not None
        folder = postgres_folder(state)
        command = [PDP, "token", "-c", state / "demo.yaml", *NODE]
        token = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        login = {"host": "127.0.0.1", "port": int(port[1]), "dbname": "shop", "user": "me", "sslmode": "disable"}

        with psycopg.connect(**login, password=token, autocommit=True) as connection:
            assert connection.execute(CUSTOMERS).fetchone() == (1, "Bruno Brandt", "br****@ex****.com", None)
            revision = in_force(state)

            with (policies / "policies" / "agent_reads" / "agent_reads.rego").open("a") as policy:
                policy.write(RULE)
            end = time.monotonic() + PATIENCE
            while in_force(state) == revision:
                assert time.monotonic() < end, "the edited policy does not come into force"
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="agent_reads: Customers are closed today"):
                connection.execute(CUSTOMERS)

        run.send_signal(signal.SIGINT)
        said, _ = run.communicate()
    assert run.returncode == 0, said
    assert processes(str(state), str(folder)) == []
    assert not folder.exists()


def in_force(state: Path) -> str:
    """The revision that `pdp status` names once every proxy has it."""
    command = [PDP, "status", "--wait", "-c", state / "demo.yaml", "--token-file", state / "olga.token"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = re.search(r"sha256:[0-9a-f]{64}", done.stdout)
    assert found is not None, done.stdout
    return found[0]
