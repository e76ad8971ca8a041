"""The PostgreSQL proxy in this process, between real clients and a real server; see `stub_service` for what is real."""

import contextlib
import json
from collections.abc import Iterator

import psycopg

from pep.core.model import Action, Decision, FieldMask, NullMask, PartialEmailMask
from pep.postgres.config import PostgresProxy
from pep.postgres.server import serve
from tests.fix_postgres import PostgresServer
from tests.stub_service import (
    PASSWORD,
    REVISION,
    Policy,
    Running,
    StubDecisions,
    allow,
    allow_everything,
    deny,
    mask,
    require_approval,
    running,
)

__all__ = [
    "PASSWORD",
    "REVISION",
    "Policy",
    "StubDecisions",
    "allow",
    "allow_everything",
    "deny",
    "mask",
    "require_approval",
]


def facts(action: Action) -> dict[str, object]:
    """The classification as policies see it."""
    return dict(action.properties)


def touches(action: Action, dataset: str) -> bool:
    return any(relation["dataset"] == dataset for relation in action.properties["relations"])


def masks_customers(action: Action) -> Decision:
    """The shape of the shipped policies: prepare is deny only, opaque is denied, customers are masked."""
    if action.properties["opaque"]:
        return deny(str(action.properties["opaque"]), "not-understood")
    if action.properties["mints_access"]:
        return deny("a way around the proxy", "mints-access")
    if action.properties["reaches_beyond"]:
        return deny(", ".join(action.properties["reaches_beyond"]), "reaches-beyond")
    if action.name == "prepare":
        return allow()
    if not touches(action, "public.customers"):
        return allow()
    masked = {"email", "ssn"}
    for column in action.properties["columns"]:
        if column["dataset"] == "public.customers" and column["field"] in masked and column["usage"] != ["output"]:
            return deny(f"{column['field']} is masked for you", "masked-column-used")
    return mask(
        FieldMask("public.customers", "email", PartialEmailMask()), FieldMask("public.customers", "ssn", NullMask())
    )


class Relay:
    """The running proxy."""

    def __init__(self, running: Running, database: str) -> None:
        self.decisions = running.decisions
        self.port = running.port
        self.database = database
        self.resolve = running.resolve
        self.runtime = running.runtime
        self.loop = running.loop

    @property
    def dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} dbname={self.database} user=anybody password={PASSWORD}"

    @property
    def url(self) -> str:
        return f"postgresql://anybody:{PASSWORD}@127.0.0.1:{self.port}/{self.database}"

    def connect(self, **options: object) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.dsn, **options)  # type: ignore[arg-type]


@contextlib.contextmanager
def relay(server: PostgresServer, database: str, policy: Policy = allow_everything, **proxy: object) -> Iterator[Relay]:
    """A proxy in a thread of its own."""
    stub = StubDecisions(policy)
    stub.obligations = proxy.pop("obligations", ())  # type: ignore[assignment]
    config = PostgresProxy.model_validate_json(json.dumps(_config(server, database) | proxy))
    with running(config, serve, stub) as proxy_running:
        yield Relay(proxy_running, database)


def _config(server: PostgresServer, database: str) -> dict[str, object]:
    return {
        "name": "test",
        "resource": "shop",
        "protocol": "postgres",
        "listen": {"address": "127.0.0.1:0"},
        "upstream": {
            "addresses": [f"{server.host}:{server.port}"],
            "database": database,
            "tls": {"mode": "disable"} if server.ca is None else {"mode": "verify-full", "ca": str(server.ca)},
        },
        "credentials": {"default": {"user": "checkrein_trust"}},
        "shutdown": {"drain": "1s"},
    }
