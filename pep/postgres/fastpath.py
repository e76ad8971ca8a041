"""The protocol's function calls: those by which libpq and JDBC work on large objects, and no others.

A call is decided as the SELECT that it stands for, with its arguments as parameters; the message itself is forwarded.
The server's own functions have the same object identifiers in every version ("Client Interfaces" of large objects in
the PostgreSQL documentation, `pg_proc.dat` of its source). Any other function has a name only in the catalog, which
may change before the server looks, so it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pep.postgres import denial, parameters, type_oids
from pep.postgres.backend import Column
from pep.postgres.conversation import Conversation
from pep.postgres.effects import Effects
from pep.postgres.frames import Frame
from pep.postgres.frontend import Bind, FunctionCall
from pep.postgres.permits import Permits
from pep.postgres.replies import Expected, Owed
from pep.postgres.resolver import Resolver
from pep.postgres.stepping import Refused, Step

_BYTEA: Final = 17
_OID: Final = 26
_INT4, _INT8 = type_oids.INT4, type_oids.INT8


@dataclass(frozen=True, slots=True)
class _Function:
    name: str
    arguments: tuple[int, ...]
    result: int

    @property
    def text(self) -> str:
        """The statement that a call stands for."""
        placeholders = ", ".join(f"${number}" for number in range(1, len(self.arguments) + 1))
        return f"SELECT pg_catalog.{self.name}({placeholders})"


_FUNCTIONS: Final = {
    715: _Function("lo_create", (_OID,), _OID),
    952: _Function("lo_open", (_OID, _INT4), _INT4),
    953: _Function("lo_close", (_INT4,), _INT4),
    954: _Function("loread", (_INT4, _INT4), _BYTEA),
    955: _Function("lowrite", (_INT4, _BYTEA), _INT4),
    956: _Function("lo_lseek", (_INT4, _INT4, _INT4), _INT4),
    957: _Function("lo_creat", (_INT4,), _OID),
    958: _Function("lo_tell", (_INT4,), _INT4),
    964: _Function("lo_unlink", (_OID,), _INT4),
    1004: _Function("lo_truncate", (_INT4, _INT4), _INT4),
    3170: _Function("lo_lseek64", (_INT4, _INT8, _INT4), _INT8),
    3171: _Function("lo_tell64", (_INT4,), _INT8),
    3172: _Function("lo_truncate64", (_INT4, _INT8), _INT4),
}


class FastPath:
    """The step, for one session."""

    def __init__(self, talk: Conversation, resolver: Resolver, permits: Permits, effects: Effects) -> None:
        self._talk = talk
        self._resolver = resolver
        self._permits = permits
        self._effects = effects

    def call(self, frame: Frame) -> Step:
        message = FunctionCall.decode(frame.payload)
        function = _FUNCTIONS.get(message.oid)
        if function is None:
            raise Refused(
                denial.error(
                    denial.FEATURE_NOT_SUPPORTED,
                    "function call messages are refused, except for large objects; use SELECT",
                )
            )
        if len(message.arguments) != len(function.arguments):
            raise Refused(
                denial.error(
                    denial.PROTOCOL_VIOLATION,
                    f"function call message contains {len(message.arguments)} arguments "
                    f"but function requires {len(function.arguments)}",
                )
            )
        values = parameters.readable(Bind("", "", message.formats, message.arguments), function.arguments)

        def prepare() -> Step:
            return (yield from self._resolver.plan(function.text, function.arguments))

        grant, planned = yield from self._permits.permit(prepare, "query", values)
        execution = self._permits.execution(grant, planned)
        if execution.duties.masking or execution.duties.affected is not None:
            closed = "this call is refused: under a mask or a limit of changed rows large objects are closed"
            raise self._permits.not_executed(grant, denial.error(denial.INSUFFICIENT_PRIVILEGE, closed))
        execution.note((Column(function.name, 0, 0, function.result, -1, -1, message.result_format),))
        expected = Expected(
            Owed.QUERY,
            self._talk.group,
            execution=execution,
            steps=planned.statements,
            barrier=self._effects.barrier(planned.statements),
            function_call=True,
        )
        self._talk.forward(frame.encode(), grant, expected)
        self._talk.end_group()
        self._effects.start_timer(execution)
