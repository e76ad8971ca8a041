"""The words in which conversations with a PostgreSQL session are written, and a session that is driven by a client."""

import dataclasses
from collections.abc import Callable

from pep.core import wire
from pep.core.model import ConstantMask, FieldMask, MaskFields, Obligation
from pep.core.records import Event
from pep.postgres import messages as m
from pep.postgres.catalog import Catalog
from pep.postgres.conversation import REFUSAL_NAME
from pep.postgres.resolution import BuildCatalog
from pep.postgres.session import PostgresSession
from pep.postgres.stepping import Settings
from tests.fix_session import Setting
from tests.pep.postgres.model_server import ModelServer, Statement, declare, prepare, script, select
from tests.playbook import Match, grant

ORDERS = select("orders", "id", "status")
SSNS = select("customers", "id", "ssn")
DELETE = "delete from orders"
SECRET = b"SSN-"
IDLE, IN_TRANSACTION, FAILED = m.TransactionStatus

BEGIN = Statement("begin", "begin")
FETCH = Statement("fetch all from c", "fetch", name="c")
MOVE = Statement("move absolute 0 in c", "move", name="c")
EXECUTE = Statement("execute p", "execute", name="p")
SCRIPT = script(
    (ORDERS,),
    (SSNS,),
    (BEGIN,),
    (FETCH,),
    (MOVE,),
    (EXECUTE,),
    (declare("c", ORDERS),),
    (declare("c", SSNS, scroll=True),),
    (prepare("p", ORDERS),),
    (prepare("p", SSNS),),
    (Statement("deallocate p", "deallocate", name="p"),),
    (Statement("execute q", "execute", name="q"),),
    (Statement("close c", "close", name="c"),),
)


def client(*messages: m.FrontendMessage) -> wire.ClientData:
    return wire.ClientData(b"".join(message.encode() for message in messages))


def upstream(*messages: m.BackendMessage) -> wire.UpstreamData:
    return wire.UpstreamData(b"".join(message.encode() for message in messages))


def told(*messages: m.BackendMessage) -> wire.SendClient:
    return wire.SendClient(b"".join(message.encode() for message in messages))


def sent(message: m.FrontendMessage, by: wire.By) -> wire.SendUpstream:
    return wire.SendUpstream(message.encode(), by)


def refusal(code: str, text: str = "", *then: m.BackendMessage) -> Match:
    """The client gets an error of this SQLSTATE whose message holds the text, and then these messages."""

    def matches(effect: wire.Effect) -> bool:
        if not isinstance(effect, wire.SendClient):
            return False
        first, _, rest = _cut(effect.data)
        tail = b"".join(message.encode() for message in then)
        fields = m.ErrorResponse.decode(first).fields if effect.data[:1] == b"E" else {"C": "", "M": ""}
        return fields["C"] == code and text in fields["M"] and rest == tail

    return Match(f"error {code} {text!r} {then}", matches)


def _cut(data: bytes) -> tuple[bytes, int, bytes]:
    length = int.from_bytes(data[1:5])
    return data[5 : length + 1], length, data[length + 1 :]


def ready(status: m.TransactionStatus = IDLE) -> m.ReadyForQuery:
    return m.ReadyForQuery(status)


def carried_out() -> Match:
    """The server is sent what it must refuse."""
    own = wire.Own("refusal")
    return Match(
        "a refusal for the server",
        lambda e: isinstance(e, wire.SendUpstream) and e.by == own and REFUSAL_NAME.encode() in e.data,
    )


HOUSEKEEPING = wire.Housekeeping()
ERROR = m.ErrorResponse({"S": "ERROR", "V": "ERROR", "C": "42601", "M": "syntax error"})
FLUSHED = sent(m.Flush(), HOUSEKEEPING)
SYNCED = sent(m.Sync(), HOUSEKEEPING)
NOTICE = Match("a notice", lambda e: isinstance(e, wire.SendClient) and e.data[:1] == b"N")


@dataclasses.dataclass
class Driven:
    """A session with a model server behind it that answers at once; every question is granted as `duties` say."""

    setting: Setting
    session: PostgresSession
    server: ModelServer
    duties: Callable[[wire.Ask], tuple[Obligation, ...]] = lambda asked: ()
    client: bytearray = dataclasses.field(default_factory=bytearray)
    asked: list[wire.Ask] = dataclasses.field(default_factory=list)
    recorded: list[Event] = dataclasses.field(default_factory=list)

    def says(self, *messages: m.FrontendMessage) -> bytes:
        """What the client gets for it."""
        self.client.clear()
        self._happens(client(*messages))
        return bytes(self.client)

    def _happens(self, event: wire.Event) -> None:
        for effect in self.session.receive(event):
            match effect:
                case wire.SendUpstream(data, _):
                    self.server.receive(data)
                case wire.SendClient(data):
                    self.client += data
                case wire.LookUp(exchange, BuildCatalog(rows, builtins, previous)):
                    self._happens(wire.LookedUp(exchange, Catalog.build(rows, builtins, previous)))
                case wire.LookUp(exchange, _):
                    self._happens(wire.LookedUp(exchange, self.setting.shared))
                case wire.Ask(exchange, actions):
                    self.asked.append(effect)
                    duties = self.duties(effect) if effect.execution else ()
                    self._happens(wire.Decided(exchange, grant(*duties, actions=len(actions))))
                case wire.Record(event):
                    self.recorded.append(event)
                case _:
                    pass
        while self.server.output:
            data = bytes(self.server.output)
            self.server.output.clear()
            self._happens(wire.UpstreamData(data))


MASK = MaskFields((FieldMask("public.customers", "ssn", ConstantMask("hidden")),))


def masks(asked: wire.Ask) -> tuple[Obligation, ...]:
    touched = {r["dataset"] for action in asked.actions for r in action.properties["relations"]}
    return (MASK,) if "public.customers" in touched else ()


def described(setting: Setting, *columns: str, table: str = "customers", format: int = 0) -> m.RowDescription:
    found = setting.tables["public", table]
    return m.RowDescription(
        tuple(
            m.Column(name, found.oid, found.columns.index(name) + 1, 23 if name == "id" else 25, -1, -1, format)
            for name in columns
        )
    )


def drive(setting: Setting, **settings: object) -> Driven:
    """A session that is idle and has read its own view and the catalog."""
    chosen = Settings("shop", 180000, **{"hold": 600.0, "hold_in_transaction": 30.0} | settings)  # type: ignore[arg-type]
    found = Driven(setting, PostgresSession(chosen), ModelServer(setting.world(SCRIPT)))
    assert ready().encode() in found.says(m.Query(ORDERS.text))
    found.asked.clear()
    return found


def tags(effect: wire.Effect) -> bytes:
    """The types of the messages for the client."""
    assert isinstance(effect, wire.SendClient)
    data, found = effect.data, b""
    while data:
        found, (_, _, data) = found + data[:1], _cut(data)
    return found
