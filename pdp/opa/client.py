"""Questions to OPA over its unix socket: opa-python-client's own asynchronous client on another connector."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
from opa_client.opa_async import AsyncOpaClient  # type: ignore[import-untyped]

ANSWER: Final = "checkrein.answer"
BUILT: Final = "checkrein.built"
LOG_MASKS: Final = "system.log.mask"

_CONNECTIONS: Final = 64

# A builtin that fails makes its rule undefined unless this is asked for, and an undefined deny denies nothing.
_STRICT: Final = {"strict-builtin-errors": "true"}


class OpaUnavailable(Exception):
    """OPA did not answer, or answered with an error; the text holds nothing of the input."""


class UnixOpaClient(AsyncOpaClient):  # type: ignore[misc]  # the library carries no types
    """The library's client, speaking through a unix socket."""

    def __init__(self, socket: Path, *, token: str, timeout: float) -> None:
        # No retries: they sleep inside the time that the caller has, and a proxy asks again on its own.
        super().__init__(host="localhost", token=token, retries=0, timeout=timeout)
        self._socket = socket

    async def _init_session(self) -> None:
        self._connector = aiohttp.UnixConnector(str(self._socket), limit=_CONNECTIONS)
        self._session = aiohttp.ClientSession(
            headers=self.headers,
            connector=self._connector,
            timeout=aiohttp.ClientTimeout(total=self.timeout),
            json_serialize=lambda document: orjson.dumps(document).decode(),
        )

    async def ask(self, rule: str, document: Mapping[str, Any] | None = None) -> Any:
        """The value of the rule for the input document; None if it is undefined. Raises OpaUnavailable."""
        try:
            body = await self.query_rule(document, rule, query_params=_STRICT)
        except TimeoutError as error:
            raise OpaUnavailable(f"no answer within {self.timeout:g} s") from error
        except aiohttp.ClientResponseError as error:
            raise OpaUnavailable(f"OPA answered with status {error.status}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise OpaUnavailable(f"OPA cannot be reached ({type(error).__name__})") from error
        except (RecursionError, TypeError, ValueError) as error:  # not JSON, or nothing that JSON has a form for
            raise OpaUnavailable("OPA's answer, or the question, is not JSON") from error
        return body.get("result") if isinstance(body, dict) else None
