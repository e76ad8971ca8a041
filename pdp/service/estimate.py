"""An estimate of rows as it is kept and as policies read it; pure."""

from __future__ import annotations

from typing import Any, Final

from pdp.approvals import rules
from pdp.v1 import access_pb2

_MOST_ROWS: Final = 1e18


def estimate_document(estimate: access_pb2.Estimate) -> dict[str, Any] | None:
    """None where nothing is said; a number that is none, or a reason that is not words, is said to be that."""
    match estimate.WhichOneof("outcome"):
        case "rows":
            rows = estimate.rows
            return {"rows": rows} if 0 <= rows < _MOST_ROWS else {"unavailable": "the proxy named no number of rows"}
        case "unavailable":
            return {"unavailable": rules.shown(estimate.unavailable) or "the proxy does not say why"}
        case _:
            return None
