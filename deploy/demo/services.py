"""What the demonstration runs of Checkrein itself: its configuration, `pdp up`, the commands of people, tokens."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import api
import target
import yaml
from target import DemoError

from pdp.config import ADMINISTRATION, load_config
from pdp.identity.subject import Party
from pdp.identity.tokens import OwnIssuer, TokenRequest, open_issuer

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
PREFERRED_PORT = 6432
PREFERRED_API_PORT = 8080
GRAPH = "support"

# Who takes part. The policies in rego/ know the groups, never the names.
AGENT = Party("agent", "support-bot", ("support-agents",))
PERSON = Party("user", "sam", ("support",))  # for whom the agent works
APPROVER = Party("user", "dana", ("order-team",))  # answers for the orders (rego/owners)
REFUNDER = Party("user", "petra", ("payments-owners",))  # answers for the payments of the API
OPERATOR = Party("user", "olga", ("checkrein-admins",))  # looks at sessions

_START_SECONDS = 90.0
_STOP_SECONDS = 15.0
_COMMAND_SECONDS = 60.0
_REFUSED_POLICIES = "the policy files are not in force"
# The sockets of the decision service and of OPA lie in the state folder, and a socket's path has 107 bytes at most.
_LONGEST_STATE = 107 - len("/opa/run-xxxxxxxx/s")


@dataclass(frozen=True)
class Installation:
    """The files of one run: its state folder, the configuration in it, the ports that were free."""

    state: Path
    config: Path
    proxy_port: int
    target_port: int
    api_proxy_port: int
    api_port: int


@contextlib.contextmanager
def state_folder(wanted: Path) -> Iterator[Path]:
    """The state folder, empty but for its lock, for this run alone."""
    if len(os.fsencode(wanted)) > _LONGEST_STATE:
        wanted = Path(tempfile.mkdtemp(prefix="checkrein-"))
        print(f"the path of the checkout is too long for sockets: the state folder is {wanted}", flush=True)
    lock = wanted / "demo.lock"
    if wanted.exists() and not lock.exists() and any(wanted.iterdir()):
        raise DemoError(f"{wanted} is not a state folder of the demonstration; it is emptied, so name another")
    wanted.mkdir(mode=0o700, parents=True, exist_ok=True)
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError(f"a demonstration runs already in {wanted}; end it with Ctrl-C in its terminal") from None
        for entry in wanted.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name not in ("demo.lock", "postgres.folder"):
                entry.unlink()
        yield wanted


def install(state: Path, policies: Path, role_password: str, api_token: str) -> Installation:
    """Write the configuration and the proxies' secrets into the state folder."""
    made = Installation(
        state,
        state / "demo.yaml",
        target.free_port(PREFERRED_PORT),
        target.free_port(target.PREFERRED_PORT),
        target.free_port(PREFERRED_API_PORT),
        target.free_port(api.PREFERRED_PORT),
    )
    secret, token = state / "pg.password", state / "pay.token"
    for file, text in ((secret, role_password), (token, api_token)):
        file.touch(0o600)
        file.write_text(text, "utf-8")
    document = yaml.safe_load((HERE / "demo.yaml").read_text("utf-8"))
    document["state"] = str(state)
    document["pdp"]["policies"]["dir"] = str(policies)
    proxy, http = document["proxies"]
    proxy["listen"]["address"] = f"{target.HOST}:{made.proxy_port}"
    proxy["upstream"]["addresses"] = [f"{target.HOST}:{made.target_port}"]
    proxy["credentials"]["default"]["password"] = {"file": str(secret)}
    http["listen"]["address"] = f"{target.HOST}:{made.api_proxy_port}"
    http["upstream"]["addresses"] = [f"http://{target.HOST}:{made.api_port}"]
    http["credentials"]["default"]["bearer"] = {"file": str(token)}
    text = yaml.safe_dump(document, sort_keys=False)
    made.config.write_text(f"# Written by deploy/demo/run.py from deploy/demo/demo.yaml.\n{text}", "utf-8")
    return made


@contextlib.contextmanager
def up(installation: Installation) -> Iterator[subprocess.Popen[bytes]]:
    """`pdp up`: the decision service, OPA and the proxies. What they log is in up.log of the state folder."""
    with (installation.state / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [command("pdp"), "up", "-c", installation.config],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=target.dies_with_us(signal.SIGTERM),  # noqa: PLW1509 - there are no threads yet
        )
    try:
        yield process
    finally:
        target.stop(process, signal.SIGTERM, _STOP_SECONDS)


def until_ready(installation: Installation, process: subprocess.Popen[bytes]) -> None:
    """Policies are in force and the proxies listen: `pdp up` says "ready" then, on a line of its own."""
    log = installation.state / "up.log"
    end = time.monotonic() + _START_SECONDS
    while "ready" not in (lines := log.read_text("utf-8", "replace").splitlines()):
        said = "\n".join(lines[-20:])
        if process.poll() is not None:
            raise DemoError(f"pdp up ended with status {process.returncode}. The end of {log}:\n{said}")
        # It would wait for the files to be mended; nobody mends them meanwhile.
        if any(_REFUSED_POLICIES in line for line in lines) or time.monotonic() > end:
            raise DemoError(f"pdp up does not become ready. The end of {log}:\n{said}")
        time.sleep(0.05)


class Identities:
    """Tokens of the decision service's own issuer: what `pdp token` prints for whoever owns the state folder."""

    def __init__(self, installation: Installation) -> None:
        issuer = open_issuer(load_config(installation.config))
        assert issuer is not None, "demo.yaml names an issuer with self: true"
        self._issuer: OwnIssuer = issuer
        self._state = installation.state

    def node(self, name: str, run: str, resource: str) -> str:
        """The agent's token for one node of one run, for two minutes and one database or API."""
        workflow = {"graph": GRAPH, "node": name, "run": run, "thread": f"thread-{run}"}
        life = datetime.timedelta(minutes=2)
        request = TokenRequest(AGENT, resource, on_behalf_of=PERSON, workflow=workflow, lifetime=life)
        return self._issuer.mint(request).token

    def person(self, who: Party) -> Path:
        """A file with the person's token for the decision service itself, as `--token-file` wants it."""
        request = TokenRequest(who, ADMINISTRATION, lifetime=datetime.timedelta(hours=8))
        file = self._state / f"{who.id}.token"
        file.touch(0o600)
        file.write_text(self._issuer.mint(request).token, "utf-8")
        return file


def command(name: str) -> str:
    """A program of this virtual environment."""
    return str(Path(sys.executable).parent / name)


def pdp(installation: Installation, token_file: Path, *arguments: str) -> str:
    """What a command of `pdp` prints; DemoError if it fails."""
    words = [command("pdp"), *arguments, "-c", str(installation.config), "--token-file", str(token_file)]
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_COMMAND_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise DemoError(f"`pdp {' '.join(arguments)}` ended with status {done.returncode}:\n{done.stderr}")
    return done.stdout
